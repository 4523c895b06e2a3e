"""EnvPool's environments, which step in threads of C++, as a gymnasium vector environment."""

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

_ATARI = "NoFrameskip-v4"
_NOT_OF_AN_ENVIRONMENT = ("env_id", "players", "ram")


def envpool_task(env_id: str) -> str:
    """Name EnvPool's task of a gymnasium ID: Atari's games have other IDs there.

    :param env_id: such as ``PongNoFrameskip-v4``, ``ALE/Pong-v5`` or ``CartPole-v1``
    """
    game = env_id.removeprefix("ALE/")
    return f"{game.removesuffix(_ATARI)}-v5" if game.endswith(_ATARI) else game


class EnvPoolVectorEnv(VectorEnv[Any, Any, npt.NDArray[Any]]):
    """One pool of environments.

    EnvPool is seeded when it is made: a reset with a seed makes it anew. What has ended is reset when told to, by
    ``reset_mask``. In Atari's games, which EnvPool ends with each life and whose rewards it clips if told to, the
    episodes in the infos are whole games, in points. Observations may be dictionaries, as dm_control's are.

    :param task: EnvPool's name of it, see :func:`envpool_task`
    :param num_envs: how many
    :param settings: further arguments of ``envpool.make_gymnasium``
    :raises ValueError: for a task that EnvPool does not have
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012  # as gymnasium has it

    def __init__(self, task: str, num_envs: int, **settings: Any):
        import envpool

        if task not in envpool.list_all_envs():
            raise ValueError(f"EnvPool has no task {task!r}; envpool.list_all_envs() lists them")
        self._make, self._task, self._settings = envpool.make_gymnasium, task, settings
        spec: Any = envpool.make_spec(task, **settings)
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = (
            spec.gymnasium_observation_space,
            spec.gymnasium_action_space,
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._pool: Any = None
        self._observations: Any = None
        self._points, self._steps = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        mask = (options or {}).get("reset_mask")
        if mask is not None:
            ended = np.flatnonzero(mask).astype(np.int32)
            observations, infos = self._pool.reset(ended)
            self._observations = _with_rows(self._observations, infos["env_id"], observations)
            return self._observations, {}
        if self._pool is None or seed is not None:
            self.close()
            drawn = np.random.randint(2**31 - 1) if seed is None else seed % (2**31 - 1)
            self._pool = self._make(self._task, num_envs=self.num_envs, seed=int(drawn), **self._settings)
        self._points[:], self._steps[:] = 0.0, 0
        self._observations, _ = self._pool.reset()
        return self._observations, {}

    def step(self, actions: npt.NDArray[Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._observations, rewards, terminations, truncations, raw = self._pool.step(actions)
        infos = {key: value for key, value in raw.items() if key not in _NOT_OF_AN_ENVIRONMENT}
        if "lives" in raw:
            self._count_games(infos, truncations)
        return self._observations, rewards, terminations, truncations, infos

    def close(self, **kwargs: Any) -> None:
        if self._pool is not None:
            self._pool.close()
        self._pool = None

    def _count_games(self, infos: dict[str, Any], truncations: npt.NDArray[np.bool_]) -> None:
        self._points += infos["reward"]
        self._steps += 1
        over = infos["terminated"].astype(np.bool_) | truncations
        infos["episode"] = {"r": self._points.copy(), "l": self._steps.copy()}
        infos["_episode"] = over
        self._points[over], self._steps[over] = 0.0, 0


def _with_rows(values: Any, rows: npt.NDArray[np.int_], new: Any) -> Any:
    """Copy an array, or a dictionary of arrays, with other values in some rows."""
    if isinstance(values, dict):
        return {key: _with_rows(value, rows, new[key]) for key, value in values.items()}
    values = values.copy()
    values[rows] = new
    return values


__all__ = ["EnvPoolVectorEnv", "envpool_task"]
