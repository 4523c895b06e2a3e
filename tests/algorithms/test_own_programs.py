"""Programs that change something which the fast path takes for given get what stock PPO gives them."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from environments import TinyEnv, make_vec_env
from hosts import build, flat
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import make_proba_distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.fast_path.acceleration import Acceleration

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
HOW: dict[str, tuple[type[PPO], dict[str, Any]]] = {
    "stock": (PPO, {}),
    "off": (PPOClip, {"acceleration": "off", "value_clipping": "sb3"}),
    "eager": (PPOClip, {"value_clipping": "sb3"}),
}


def compare(program: Callable[[type[PPO], dict[str, Any]], Any]) -> Any:
    """Run a program with each class: bit for bit as stock PPO without the fast path, to rounding with it.

    :return: what it returned with the fast path
    """
    models = {how: program(*what) for how, what in HOW.items()}
    assert th.equal(flat(models["off"]), flat(models["stock"]))
    th.testing.assert_close(flat(models["eager"]), flat(models["stock"]), rtol=1e-4, atol=1e-6)
    return models["eager"]


class Augments(RolloutBuffer):
    def _get_samples(self, *args: Any, **kwargs: Any) -> Any:
        samples = super()._get_samples(*args, **kwargs)
        return samples._replace(observations=samples.observations + 0.1 * th.randn_like(samples.observations))


class ConvertsWithNoise(RolloutBuffer):
    def to_torch(self, array: np.ndarray, copy: bool = True) -> th.Tensor:
        tensor = super().to_torch(array, copy)
        return tensor + 0.1 * th.randn_like(tensor)


@pytest.mark.parametrize("buffer", [Augments, ConvertsWithNoise])
def test_a_buffer_that_draws(buffer: type[RolloutBuffer]) -> None:
    model = compare(lambda cls, how: build(cls, "box", rollout_buffer_class=buffer, **how).learn(150))
    assert "not rows of one rollout" in model.acceleration_report()["minibatches"]


def halved(get: Any, self: Any, batch_size: Any = None) -> Any:
    for number, samples in enumerate(get(self, batch_size)):
        if number % 2 == 0 or batch_size is None:
            yield samples


def noisy(get_samples: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    samples = get_samples(self, *args, **kwargs)
    return samples._replace(advantages=samples.advantages.clamp(-0.1, 0.1))


def clipped_rewards(add: Any, self: Any, obs: Any, action: Any, reward: Any, *rest: Any) -> None:
    add(self, obs, action, np.clip(reward, -0.1, 0.1), *rest)


def clipped_advantages(compute: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    compute(self, *args, **kwargs)
    self.advantages = np.clip(self.advantages, -0.2, 0.2)


def halved_rewards(step_wait: Any, self: Any) -> Any:
    obs, rewards, *rest = step_wait(self)
    return (obs, rewards / 2, *rest)


PATCHES: dict[str, tuple[type[Any], Any]] = {
    "get": (RolloutBuffer, halved),
    "_get_samples": (RolloutBuffer, noisy),
    "add": (RolloutBuffer, clipped_rewards),
    "compute_returns_and_advantage": (RolloutBuffer, clipped_advantages),
    "step_wait": (DummyVecEnv, halved_rewards),
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_method_of_sb3_s_classes_that_is_patched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls, patch = PATCHES[name]
    original = getattr(cls, name)
    monkeypatch.setattr(cls, name, lambda self, *args, **kwargs: patch(original, self, *args, **kwargs))
    compare(lambda cls, how: build(cls, "box", **how).learn(150))


def scaled_moments(model: Any) -> None:
    for state in model.policy.optimizer.state.values():
        state["exp_avg_sq"] = state["exp_avg_sq"] * 0.01


def transposed(model: Any) -> None:
    weight = model.policy.mlp_extractor.policy_net[2].weight
    weight.data = weight.data.t()


def narrow_draws(model: Any) -> None:
    distribution = model.policy.action_dist
    sample = type(distribution).sample
    distribution.sample = lambda: 0.1 * sample(distribution)


def clamped_log_prob(model: Any) -> None:
    distribution = model.policy.action_dist
    log_prob = type(distribution).log_prob
    distribution.log_prob = lambda actions: log_prob(distribution, actions).clamp(max=-2.0)


@pytest.mark.parametrize("edit", [scaled_moments, transposed, narrow_draws, clamped_log_prob])
def test_an_edit_between_two_trainings(edit: Callable[[Any], None]) -> None:
    def program(cls: type[PPO], how: dict[str, Any]) -> Any:
        model = build(cls, "box", policy_kwargs={"net_arch": [8, 8]}, **how).learn(100)
        edit(model)
        return model.learn(100, reset_num_timesteps=False)

    compare(program)


def test_another_noise_of_gsde_between_two_trainings() -> None:
    def program(cls: type[PPO], how: dict[str, Any]) -> Any:
        model = build(cls, "box", use_sde=True, **how).learn(100)
        model.policy.action_dist.use_expln = True
        return model.learn(100, reset_num_timesteps=False)

    compare(program)


class CountsItsCalls:
    def __init__(self, value: float):
        self.value = value

    def __call__(self, progress: float) -> float:
        self.value *= 0.9
        return self.value


@pytest.mark.parametrize("name", ["learning_rate", "clip_range", "clip_range_vf"])
def test_schedules_that_count_their_calls_or_draw(name: str) -> None:
    compare(lambda cls, how: build(cls, "box", **{name: CountsItsCalls(0.003)}, **how).learn(200))
    compare(lambda cls, how: build(cls, "box", **{name: lambda _: 0.003 * np.random.uniform(0.5, 2)}, **how).learn(200))


@pytest.mark.parametrize("threads", [1, 16], ids=["in numpy", "in torch"])
def test_numbers_of_another_type_in_the_buffer(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(th, "get_num_threads", lambda: threads)

    class Widens(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            buffer: Any = self.model.rollout_buffer  # type: ignore[attr-defined]  # of an on-policy algorithm
            if self.num_timesteps > 100:
                buffer.advantages, buffer.returns = buffer.advantages.astype(float), buffer.returns.astype(float)

    sizes: dict[str, Any] = {"policy_kwargs": {"net_arch": [256, 256]}, "n_steps": 64, "batch_size": 64}
    model = compare(lambda cls, how: build(cls, "box", **sizes, **how).learn(256, callback=Widens()))
    assert model.acceleration_report()["arithmetic"].startswith("numpy" if threads == 1 else "torch")


def test_a_head_that_a_callback_trains() -> None:
    class Trains(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            policy: Any = self.model.policy
            if self.num_timesteps != 150:
                return
            for step in range(20):
                loss = (policy.aux(th.full((4, 8), 0.1 * step)) - 1).square().mean()
                policy.optimizer.zero_grad()
                loss.backward()
                policy.optimizer.step()

    def program(cls: type[PPO], how: dict[str, Any]) -> Any:
        model = build(cls, "box", **how)
        model.policy.aux = th.nn.Linear(8, 1)
        model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=3e-3, eps=1e-5)
        return model.learn(200, callback=Trains())

    compare(program)


def test_a_subclass_that_asks_the_policy_at_the_ends_of_episodes() -> None:
    def program(cls: type[PPO], how: dict[str, Any]) -> Any:
        class Asks(cls):  # type: ignore[misc, valid-type]  # a parameter
            def _update_info_buffer(self, infos: Any, dones: Any = None) -> None:
                super()._update_info_buffer(infos, dones)
                for info in infos:
                    if "terminal_observation" in info:
                        self.policy.predict(info["terminal_observation"])

        return build(Asks, "box", env=make_vec_env("box", "vector", 6), batch_size=50, **how).learn(300)

    compare(program)


def test_a_choice_below_the_first_is_refused_as_by_torch() -> None:
    class Below(TinyEnv):
        observation_space = gym.spaces.Discrete(5)

        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gym.spaces.Discrete(5)

        def _observation(self) -> Any:
            return -1 if self.steps == 4 else self.steps % 5

    messages = []
    for cls, how in HOW.values():
        with pytest.raises(RuntimeError) as raised:
            build(cls, env=DummyVecEnv([Below]), **how).learn(100)
        messages.append(str(raised.value))
    assert len(set(messages)) == 1


class MakesDistributions(ActorCriticPolicy):
    """Makes a new distribution for every evaluation."""

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Any:
        self.action_dist = make_proba_distribution(self.action_space)
        return super()._get_action_dist_from_latent(latent_pi)


def test_a_new_distribution_is_no_reason_to_choose_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    init = Acceleration.__init__
    monkeypatch.setattr(Acceleration, "__init__", lambda self, algorithm: made.append(self) or init(self, algorithm))
    env = make_vec_env("box", "vector", 2)
    model = PPOClip(MakesDistributions, env, n_steps=25, batch_size=25, n_epochs=1, device="cpu").learn(200)
    assert len(made) == 1
    assert "overrides its evaluation" in model.acceleration_report()["evaluation"]


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (float("nan"), "`learning_rate` must be finite and >= 0, got nan"),
        (-1.0, "`learning_rate` must be finite and >= 0, got -1"),
        (None, "`learning_rate` must be a number, or a schedule that returns one, got None"),
        ("abc", "`learning_rate` must be a number, or a schedule that returns one, got 'abc'"),
    ],
)
def test_a_schedule_that_ends_in_no_rate_leaves_the_last_one(rate: Any, message: str, acceleration: str) -> None:
    model = build(PPOClip, learning_rate=lambda progress: 0.003 if progress > 0.6 else rate, acceleration=acceleration)
    with pytest.raises((TypeError, ValueError), match=message):
        model.learn(150)
    assert model.policy.optimizer.param_groups[0]["lr"] == 0.003
    assert model._n_updates == 3
