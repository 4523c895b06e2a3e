"""What people bring with them, on all paths: networks, wrappers and variants that do what nothing of SB3's does."""

import random
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from hosts import MAY_FALL_BACK, VARIANTS
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from torch import nn

from sb3_ppo_variants import PPOClip, PPOPenalty, RecurrentPPOClip, RecurrentPPOPenalty
from sb3_ppo_variants.extend import PolicyUpdateMixin
from sb3_ppo_variants.fast_path import closed_forms
from sb3_ppo_variants.update.update_metrics import LOGGED_NAMES

SMALL: dict[str, Any] = {"n_steps": 128, "batch_size": 64, "n_epochs": 3, "seed": 0, "device": "cpu"}
BOTH = pytest.mark.parametrize("acceleration", ["off", "eager"])


def distance_to_stock(policy: Any, acceleration: str, env: Any = "CartPole-v1", **policy_kwargs: Any) -> float:
    """Train stock PPO and PPOClip for three updates; return the largest difference of a parameter."""
    states = []
    for cls, own in ((PPO, {}), (PPOClip, {"acceleration": acceleration})):
        made = env() if callable(env) else env
        states.append(cls(policy, made, policy_kwargs=policy_kwargs, **SMALL, **own).learn(384).policy.state_dict())
    return max(float((states[0][key] - states[1][key]).abs().max()) for key in states[0])


class StopsTheCriticsGradient(nn.Module):
    """SB3's recipe of a network of one's own; only its ``forward`` keeps the critic from training the trunk."""

    latent_dim_pi = latent_dim_vf = 16

    def __init__(self, n_features: int):
        super().__init__()
        self.trunk, self.actor, self.critic = nn.Linear(n_features, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.latent: th.Tensor | None = None

    def forward(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        self.latent = th.tanh(self.trunk(features))
        return th.tanh(self.actor(self.latent)), th.tanh(self.critic(self.latent.detach()))

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return th.tanh(self.actor(th.tanh(self.trunk(features))))

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        return th.tanh(self.critic(th.tanh(self.trunk(features))))


class OwnNetwork(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = StopsTheCriticsGradient(self.features_dim)


@pytest.mark.parametrize("acceleration", ["off", "eager", pytest.param("compile", marks=pytest.mark.slow)])
def test_a_network_of_ones_own_is_asked_for_both_latents_at_once(acceleration: str) -> None:
    assert distance_to_stock(OwnNetwork, acceleration) <= (0 if acceleration == "off" else 1e-5)


class AuxiliaryLossMixin(PolicyUpdateMixin):
    def extra_loss(self, minibatch: Any, new: Any, coefficients: Any) -> th.Tensor:
        return 0.01 * self.policy.mlp_extractor.latent.pow(2).mean()


class AuxiliaryPPO(AuxiliaryLossMixin, PPO):
    pass


@BOTH
def test_an_extra_loss_finds_what_the_networks_forward_left(acceleration: str) -> None:
    AuxiliaryPPO(OwnNetwork, "CartPole-v1", acceleration=acceleration, **SMALL).learn(128)


class Encoder(BaseFeaturesExtractor):
    def __init__(self, space: gym.spaces.Box):
        super().__init__(space, 16)
        self.layer = nn.Linear(space.shape[0], 16)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return th.tanh(self.layer(observations))


def test_the_kl_is_that_of_a_features_extractor_put_in_later() -> None:
    found = {}
    for acceleration in ("off", "eager"):
        kwargs = {"features_extractor_class": Encoder, "net_arch": []}
        model = PPOPenalty("MlpPolicy", "CartPole-v1", acceleration=acceleration, policy_kwargs=kwargs, **SMALL)
        th.manual_seed(1)
        policy: Any = model.policy
        policy.features_extractor = Encoder(model.observation_space)
        with th.no_grad():
            policy.features_extractor.layer.weight.mul_(10)
            policy.action_net.weight.mul_(100)
        policy.optimizer = th.optim.Adam(policy.parameters(), lr=3e-4, eps=1e-5)
        model.learn(256)
        found[acceleration] = model.beta, model.last_update.kl_divergence
    assert found["eager"] == pytest.approx(found["off"], rel=1e-3)


class Halves(FlattenExtractor):
    def forward(self, observations: th.Tensor) -> th.Tensor:
        return super().forward(observations) / 2


def test_an_extractor_put_in_later_is_no_plain_vector() -> None:
    model = PPOClip("MlpPolicy", "CartPole-v1", **SMALL)
    model.policy.features_extractor = Halves(model.observation_space)
    model.learn(128)
    assert "not plain vectors" in model.acceleration_report()["backward"]


class WorksInPlace(Encoder):
    def forward(self, observations: th.Tensor) -> th.Tensor:
        observations /= 10.0
        return super().forward(observations)


class Float64CartPole(gym.ObservationWrapper):  # type: ignore[type-arg]
    observation_space = gym.spaces.Box(-10, 10, (4,), np.float64)

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))

    def observation(self, observation: Any) -> Any:
        return observation.astype(np.float64)


@BOTH
@pytest.mark.parametrize("env", ["CartPole-v1", Float64CartPole], ids=["float32", "float64"])
def test_an_extractor_may_work_in_place(acceleration: str, env: Any) -> None:
    found = distance_to_stock("MlpPolicy", acceleration, env, features_extractor_class=WorksInPlace)
    assert found <= (0 if acceleration == "off" else 1e-5)


class FrozenMean(Encoder):
    def __init__(self, space: gym.spaces.Box):
        super().__init__(space)
        self.mean = nn.Parameter(th.zeros(4), requires_grad=False)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        with th.no_grad():
            self.mean.lerp_(observations.mean(0), 0.01)
        return super().forward(observations - self.mean)


class PlainMean(Encoder):
    def __init__(self, space: gym.spaces.Box):
        super().__init__(space)
        self.mean, self.largest = th.zeros(4), np.zeros(4, dtype=np.float32)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.mean.lerp_(observations.mean(0), 0.01)
        np.maximum(self.largest, observations.abs().amax(0).numpy(), out=self.largest)
        return super().forward((observations - self.mean) / (1 + th.from_numpy(self.largest)))


class Counts(Encoder):
    calls = 0

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.calls += 1
        return super().forward(observations) + 10.0 / self.calls


class Noise(Encoder):
    kind = "torch"

    def __init__(self, space: gym.spaces.Box):
        super().__init__(space)
        self.of_torch, self.of_numpy = th.Generator().manual_seed(0), np.random.default_rng(0)
        self.of_python = random.Random(0)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        random.random()
        draws = {
            "torch": lambda: th.randn(1, 16, generator=self.of_torch),
            "numpy": lambda: float(self.of_numpy.normal()),
            "python": lambda: self.of_python.gauss(0, 1),
            "numpy's global": lambda: float(np.random.normal()),
        }
        return super().forward(observations) + 0.1 * draws[self.kind]()


NOISES = [type(f"Noise of {kind}", (Noise,), {"kind": kind}) for kind in ("torch", "numpy", "python", "numpy's global")]


@BOTH
@pytest.mark.parametrize("extractor", [FrozenMean, PlainMean, Counts, *NOISES], ids=lambda cls: cls.__name__)
def test_a_measurement_leaves_no_trace_in_what_a_module_holds(extractor: type, acceleration: str) -> None:
    found = distance_to_stock("MlpPolicy", acceleration, features_extractor_class=extractor)
    assert found <= (0 if acceleration == "off" else 1e-5)


def wrapped(module: Any, method: str) -> None:
    """Wrap a method as timers and loggers do."""
    original = getattr(module, method)
    setattr(module, method, lambda *args, **kwargs: original(*args, **kwargs))


@BOTH
@pytest.mark.parametrize("cls", [PPOPenalty, RecurrentPPOPenalty])
def test_the_bound_holds_with_a_wrapper_around_a_module(cls: Any, acceleration: str) -> None:
    name = "MlpPolicy" if cls is PPOPenalty else "MlpLstmPolicy"
    small = {**SMALL, "n_epochs": 8, "learning_rate": 3e-2, "target_kl": 0.0005}
    found = []
    for wrap in (False, True):
        model = cls(name, "CartPole-v1", acceleration=acceleration, **small)
        if wrap:
            wrapped(model.policy.action_net, "forward")
        found.append(model.learn(128))
    plain, other = found
    assert plain.last_update.projection < 1  # it had to go back
    assert other.last_update.kl_divergence == pytest.approx(plain.last_update.kl_divergence, rel=1e-2)
    assert other.last_update.projection == pytest.approx(plain.last_update.projection, rel=1e-2)


@BOTH
@pytest.mark.parametrize("method", ["evaluate_actions", "_get_action_dist_from_latent"])
@pytest.mark.parametrize(("cls", "stock", "name"), [(PPOClip, PPO, "Mlp"), (RecurrentPPOClip, RecurrentPPO, "MlpLstm")])
def test_a_wrapped_method_of_the_policy_trains(cls: Any, stock: Any, name: str, method: str, acceleration: str) -> None:
    states = []
    for made, own in ((stock, {}), (cls, {"acceleration": acceleration})):
        model = made(f"{name}Policy", "CartPole-v1", **SMALL, **own)
        wrapped(model.policy, method)
        states.append(model.learn(128).policy.state_dict())
    of_stock, ours = states
    for key, value in of_stock.items():
        th.testing.assert_close(ours[key], value, rtol=0, atol=0 if acceleration == "off" else 1e-5)


class OwnNames(RecurrentActorCriticPolicy):
    def evaluate_actions(self, obs: Any, actions: Any, states: Any, starts: Any) -> Any:  # type: ignore[override]
        return super().evaluate_actions(obs, actions, states, starts)


def test_a_recurrent_policy_may_name_its_arguments_as_it_likes() -> None:
    RecurrentPPOClip(OwnNames, "CartPole-v1", **SMALL).learn(128)


def test_a_mixin_may_have_defaults_for_any_argument_of_the_host() -> None:
    class Mixin(PolicyUpdateMixin):
        host_defaults: ClassVar[dict[str, Any]] = {"n_steps": 64, "learning_rate": 1e-3, "gamma": 0.9, "use_sde": False}

    class Variant(Mixin, PPO):
        pass

    model = Variant("MlpPolicy", "CartPole-v1")
    assert (model.n_steps, model.learning_rate, model.gamma) == (64, 1e-3, 0.9)


def test_a_metric_is_not_named_like_one_that_is_logged_anyway() -> None:
    class Variant(PolicyUpdateMixin, PPO):
        extra_metric_names = ("mine", "kl_divergence")

    with pytest.raises(ValueError, match="kl_divergence"):
        Variant("MlpPolicy", "CartPole-v1")


@pytest.mark.parametrize(("hook", "attribute"), [("kl_penalty", "kl_in_loss"), ("extra_metrics", "extra_metric_names")])
def test_a_hook_that_nobody_would_call_is_refused(hook: str, attribute: str) -> None:
    cls: Any = type("Own", (PPOClip,), {hook: lambda self, *given: None})
    with pytest.raises(ValueError, match=f"`{attribute}` must be set where Own has a {hook}\\(\\)"):
        cls("MlpPolicy", "CartPole-v1")


@MAY_FALL_BACK
@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize(("returned", "said"), [({"one": 1.0, "more": 2.0}, "one, more"), ({}, "nothing")])
def test_metrics_are_those_that_are_named(returned: dict[str, float], said: str, acceleration: str) -> None:
    class Own(PolicyUpdateMixin, PPO):
        extra_metric_names = ("one",)

        def extra_metrics(self, *given: Any) -> dict[str, float]:
            return returned

    model: Any = Own("MlpPolicy", "CartPole-v1", acceleration=acceleration, **SMALL)
    with pytest.raises(ValueError, match=rf"extra_metrics\(\) returned {said}, and .* names one"):
        model.learn(128)


@pytest.mark.parametrize("name", ["PPOClip", "PPOPenalty", "PPOAdaptiveClip", "PPOAdaptiveLR"])
def test_all_that_is_logged_is_known(name: str) -> None:
    limit = {"max_kl": 0.02} if name == "PPOClip" else {}
    model = VARIANTS[name]("MlpPolicy", "Pendulum-v1", clip_range_vf=0.2, on_nonfinite="skip", **limit, **SMALL)
    model.learn(128, log_interval=None)
    logged = {key.removeprefix("train/") for key in model.logger.name_to_value if key.startswith("train/")}
    assert logged
    assert logged <= LOGGED_NAMES


def test_a_limit_of_nan_is_refused() -> None:
    class Variant(PolicyUpdateMixin, PPO):
        def kl_limit(self) -> float:
            return float("nan")

    with pytest.raises(ValueError, match=r"kl_limit\(\) must return"):
        Variant("MlpPolicy", "CartPole-v1", **SMALL).learn(128)


def test_a_gradient_that_differs_is_found_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = closed_forms.both_latents

    def half_the_critics_gradient(policy: Any, inputs: Any) -> Any:
        actor, critic = ordinary(policy, inputs)
        return actor, critic / 2 + (critic / 2).detach()

    monkeypatch.setattr(closed_forms, "both_latents", half_the_critics_gradient)
    model = PPOClip("MlpPolicy", "CartPole-v1", **SMALL)
    with pytest.warns(UserWarning, match=r"the gradient differed from policy\.evaluate_actions\(\)"):
        model.learn(128)
