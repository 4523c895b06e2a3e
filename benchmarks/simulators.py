"""A vectorised simulator without work per environment, for gymnasium and for rsl_rl; and the same one by one."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces

STEPS = 200
_HIGH = np.array([1, 1, 8], dtype=np.float32)


class TorchPendulum:
    """Pendulum-v1's dynamics, reward and length of an episode for many pendulums at once, as tensors.

    :param n: number of pendulums
    :param device: PyTorch device
    """

    def __init__(self, n: int, device: str = "cpu"):
        self.n, self.device = n, device
        self.generator = th.Generator(device)
        self.angle, self.speed = th.zeros(n, device=device), th.zeros(n, device=device)
        self.clock = th.zeros(n, device=device, dtype=th.long)
        self._restart(th.ones(n, device=device, dtype=th.bool))
        self.clock.random_(STEPS, generator=self.generator)  # else all end in the same step

    def step(self, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor, th.Tensor]:
        """Move all; those whose time is over begin anew.

        :param actions: torques, shape (n, 1)
        :return: observations (n, 3), rewards (n,), whether the time was over (n,), observations before new beginnings
        """
        torque = actions.reshape(-1).clamp(-2, 2)
        error = (self.angle + th.pi) % (2 * th.pi) - th.pi
        reward = -(error**2 + 0.1 * self.speed**2 + 0.001 * torque**2)
        self.speed = (self.speed + (15 * self.angle.sin() + 3 * torque) * 0.05).clamp(-8, 8)
        self.angle = self.angle + self.speed * 0.05
        self.clock = self.clock + 1
        over, last = self.clock >= STEPS, self.observe()
        self._restart(over)
        return self.observe(), reward, over, last

    def observe(self) -> th.Tensor:
        return th.stack((self.angle.cos(), self.angle.sin(), self.speed), dim=1)

    def _restart(self, which: th.Tensor) -> None:
        angle, speed = 2 * th.rand((2, self.n), device=self.device, generator=self.generator) - 1
        self.angle = th.where(which, angle * th.pi, self.angle)
        self.speed = th.where(which, speed, self.speed)
        self.clock = th.where(which, 0, self.clock)


class VectorPendulum(gym.vector.VectorEnv[Any, Any, Any]):
    """:class:`TorchPendulum` with gymnasium's interface; episodes begin in the step that ends others.

    It gives arrays on the CPU, and tensors on a GPU, as simulators there do.

    :param num_envs: number of pendulums
    :param device: PyTorch device
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int, device: str = "cpu"):
        self.num_envs = num_envs
        self.single_observation_space = spaces.Box(-_HIGH, _HIGH)
        self.single_action_space = spaces.Box(-2, 2, (1,))
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.simulator = TorchPendulum(num_envs, device)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self._given(self.simulator.observe()), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, over, last = map(self._given, self.simulator.step(th.as_tensor(actions)))
        infos = {"final_obs": last, "_final_obs": over} if over.any() else {}
        return observations, rewards, np.zeros(self.num_envs, dtype=np.bool_), over, infos

    def _given(self, tensor: th.Tensor) -> Any:
        return tensor.numpy() if self.simulator.device == "cpu" else tensor


def rsl_rl_pendulum(n: int, device: str = "cpu") -> Any:
    """Make the pendulums as rsl_rl's VecEnv.

    :param n: number of pendulums
    :param device: PyTorch device
    """
    from rsl_rl.env import VecEnv
    from tensordict import TensorDict

    class Pendulums(VecEnv):  # type: ignore[misc]  # rsl_rl has no types
        num_envs, num_actions, max_episode_length, cfg = n, 1, STEPS, {}

        def __init__(self) -> None:
            self.device, self.simulator = device, TorchPendulum(n, device)

        @property
        def episode_length_buf(self) -> th.Tensor:
            return self.simulator.clock

        def get_observations(self) -> Any:
            return TensorDict({"policy": self.simulator.observe()}, batch_size=[n])

        def step(self, actions: th.Tensor) -> tuple[Any, th.Tensor, th.Tensor, dict[str, Any]]:
            observations, rewards, over, _ = self.simulator.step(actions)
            seen = TensorDict({"policy": observations}, batch_size=[n])
            return seen, rewards, over.long(), {"time_outs": over}

    return Pendulums()


__all__ = ["STEPS", "TorchPendulum", "VectorPendulum", "rsl_rl_pendulum"]
