"""The policy goes back on the line to the old one until the exact KL is within the limit; the value function stays."""

import math
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from hosts import VARIANTS, ModeSensitiveExtractor, all_classes, build, collect_rollout, identical
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from torch import nn

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.extend import AdaptiveLearningRateMixin, KLPenaltyMixin
from sb3_ppo_variants.fast_path.compiled_update import minibatches_per_graph
from sb3_ppo_variants.update import minibatches
from sb3_ppo_variants.update.distributions import kl_divergence
from sb3_ppo_variants.update.policy_evaluation import snapshot_policy
from sb3_ppo_variants.update.projection import PolicyLine, find_moving

LIMIT = 0.003
FAR: dict[str, Any] = {"learning_rate": 0.02, "max_kl": LIMIT, "on_max_kl": "project"}


def test_the_share_kept_is_the_largest_within_the_limit() -> None:
    """KL = (step / 2)^2 of a step of 1: at the limit 0.04 the share is 0.4."""
    parameter = nn.Parameter(th.zeros(1))
    line = PolicyLine([parameter])
    with th.no_grad():
        parameter.fill_(1.0)
    found = line.project(lambda: float(parameter.item() / 2) ** 2, 0.04)
    assert found.kl_before == 0.25
    assert 0.98 * 0.04 <= found.kl <= 0.04
    assert parameter.item() == pytest.approx(found.share) == pytest.approx(0.4, rel=0.01)


def test_a_step_within_the_limit_is_kept_whole() -> None:
    parameter = nn.Parameter(th.zeros(1))
    line = PolicyLine([parameter])
    with th.no_grad():
        parameter.fill_(1.0)
    assert line.project(lambda: 0.01, 0.01) == (0.01, 0.01, 1.0)
    assert parameter.item() == 1.0


@pytest.mark.parametrize("limit", [0.0, -0.01])
def test_a_limit_of_0_leaves_nothing_of_the_step(limit: float) -> None:
    parameter = nn.Parameter(th.zeros(1))
    line = PolicyLine([parameter])
    with th.no_grad():
        parameter.fill_(1.0)
    assert line.project(lambda: float(parameter.item()) ** 2, limit) == (1.0, 0.0, 0.0)
    assert parameter.item() == 0.0


@given(st.floats(0.2, 8.0), st.floats(1e-6, 10.0), st.floats(0.01, 1e6))
def test_the_limit_holds_for_any_growth_of_the_kl(power: float, limit: float, kl_at_the_end: float) -> None:
    parameter = nn.Parameter(th.zeros(1, dtype=th.float64))
    line = PolicyLine([parameter])
    with th.no_grad():
        parameter.fill_(1.0)
    measure = lambda: kl_at_the_end * parameter.item() ** power  # noqa: E731
    found = line.project(measure, limit)
    assert found.kl <= limit
    assert measure() <= limit
    assert 0 <= found.share <= 1


def test_a_policy_that_is_not_finite_goes_back_to_the_old_one() -> None:
    parameter = nn.Parameter(th.ones(2))
    line = PolicyLine([parameter])
    with th.no_grad():
        parameter.fill_(math.nan)
    found = line.project(lambda: 0.0 if th.isfinite(parameter).all() else math.nan, 0.01)
    assert (found.kl, found.share) == (0.0, 0.0)
    assert th.equal(parameter.detach(), th.ones(2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["PPOClip", "PPOPenalty", "PPOAdaptiveClip", "PPOAdaptiveLR", "MaskablePPOPenalty", "MaskablePPOAdaptiveLR"]
)
def test_a_compiled_update_is_within_the_limit(name: str) -> None:
    lax: dict[str, Any] = {"learning_rate_bounds": (1e-5, 1.0)} if name.endswith("LR") else {}
    model = build(VARIANTS[name], acceleration="compile", **lax, **FAR).learn(100)
    assert model.acceleration_report()["graph"] == "torch.compile"
    assert 0.9 * LIMIT < model.last_update.kl_divergence <= LIMIT < model.last_update.kl_before_projection


def test_graphs_are_short_where_the_kl_is_watched() -> None:
    settings: dict[str, Any] = {"n_steps": 160, "batch_size": 16}  # 20 minibatches, 16 checks per epoch
    assert minibatches_per_graph(build(PPOClip, **settings)) == 4
    assert minibatches_per_graph(build(PPOClip, max_kl=0.01, on_max_kl="stop", **settings)) == 1


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@all_classes
def test_every_update_of_every_class_is_within_the_limit(cls: type[Any], acceleration: str) -> None:
    lax: dict[str, Any] = {}
    if issubclass(cls, KLPenaltyMixin):
        lax = {"adaptive_beta": False, "initial_beta": 0.0}
    if issubclass(cls, AdaptiveLearningRateMixin):
        lax = {"kl_tolerance": math.inf, "learning_rate_bounds": (1e-5, 1.0)}
    model = build(cls, acceleration=acceleration, **lax, **FAR)
    for _ in range(3):
        model.learn(50, reset_num_timesteps=False)
        trace = model.last_update
        assert trace.epochs_done == model.n_epochs
        assert trace.kl_before_projection > LIMIT
        assert 0 < trace.kl_divergence <= LIMIT
        assert trace.kl_divergence > 0.9 * LIMIT
        assert 0 < trace.projection < 1
        logged = model.logger.name_to_value
        assert logged["train/kl_divergence"] == trace.kl_divergence
        assert logged["train/kl_before_projection"] == trace.kl_before_projection
        assert logged["train/projection"] == trace.projection


@pytest.mark.parametrize(
    ("action", "kwargs"),
    [
        ("box", {}),
        ("box", {"use_sde": True}),
        ("multi_discrete", {}),
        ("multi_binary", {"policy_kwargs": {"share_features_extractor": False}}),
    ],
)
def test_the_bound_holds_for_every_distribution(action: str, kwargs: dict[str, Any]) -> None:
    arguments = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "seed": 0, "device": "cpu", **FAR, **kwargs}
    model = PPOClip("MlpPolicy", make_vec_env(action), **arguments).learn(64 * 2)
    assert 0.9 * LIMIT < model.last_update.kl_divergence <= LIMIT < model.last_update.kl_before_projection


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize(
    ("name", "observation", "policy_kwargs"),
    [
        ("PPOClip", "image", {}),
        ("PPOClip", "dict", {}),
        ("MaskablePPOPenalty", "dict", {}),
        ("RecurrentPPOClip", "image", {}),
        ("RecurrentPPOClip", "vector", {"shared_lstm": True, "enable_critic_lstm": False}),
        ("RecurrentPPOPenalty", "vector", {"enable_critic_lstm": False, "n_lstm_layers": 2}),
    ],
)
def test_the_bound_holds_for_every_network(
    name: str, observation: str, policy_kwargs: dict[str, Any], acceleration: str
) -> None:
    lax = {"adaptive_beta": False, "initial_beta": 0.0} if name.endswith("Penalty") else {}
    arguments: dict[str, Any] = {"acceleration": acceleration, "policy_kwargs": policy_kwargs, **lax, **FAR}
    arguments["learning_rate"] = 0.1
    model = build(VARIANTS[name], observation=observation, **arguments).learn(100)
    assert 0 < model.last_update.kl_divergence <= LIMIT < model.last_update.kl_before_projection


def test_a_limit_is_measured_over_the_whole_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minibatches, "states_of_size", lambda buffer, numbers: 0)  # as of huge images: 128 states

    def kl(acceleration: str, limit: float | None) -> float:
        model = build(PPOClip, "box", acceleration="off", n_steps=100, n_epochs=2, learning_rate=0.02, max_kl=limit)
        collect_rollout(model)
        model.acceleration = acceleration
        np.random.seed(0)
        model.train()
        found: float = model.last_update.kl_before_projection
        return found

    assert kl("eager", LIMIT) == pytest.approx(kl("off", LIMIT), rel=1e-4)
    assert kl("eager", None) != pytest.approx(kl("off", None), rel=1e-2)  # where nothing is decided a sample will do


def test_the_value_function_keeps_its_steps() -> None:
    """With and without a limit the value networks are equal; the policies are not."""
    held, free = (
        build(PPOClip, learning_rate=0.02, max_kl=limit, on_max_kl="project").learn(50) for limit in (LIMIT, None)
    )
    for name, value in held.policy.state_dict().items():
        of_value = "value" in name
        assert th.equal(value, free.policy.state_dict()[name]) == of_value, name
    assert free.last_update.kl_divergence == held.last_update.kl_before_projection


def test_the_value_function_keeps_the_running_statistics_of_its_steps() -> None:
    settings = {"features_extractor_class": ModeSensitiveExtractor, "share_features_extractor": False}
    model = build(PPOClip, "box", policy_kwargs=settings, **{**FAR, "max_kl": 0.0001, "n_steps": 24})
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(48)
    assert model.last_update.projection < 0.2
    for side, least, most in (("pi", 0.0, 0.02), ("vf", 0.05, math.inf)):
        name = f"{side}_features_extractor.layers.1.running_mean"
        assert least < th.dist(model.policy.get_buffer(name), before[name]) < most


def test_the_controller_sees_the_kl_before_the_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(PPOPenalty, "after_update", lambda self, kl, progress: seen.append(kl))
    model = build(PPOPenalty, **FAR).learn(50)
    assert seen == [model.last_update.kl_before_projection]


class NoisyFeatures(BaseFeaturesExtractor):
    """Adds noise at every call, in evaluation mode too."""

    def __init__(self, space: Any):
        super().__init__(space, 4)
        self.layer = nn.Linear(4, 4)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations) + 0.1 * th.randn(4)


def test_of_a_network_that_draws_only_what_moves_the_policy_moves() -> None:
    kwargs = {"features_extractor_class": NoisyFeatures, "share_features_extractor": False}
    model = build(PPOClip, policy_kwargs=kwargs)
    collect_rollout(model)
    minibatch = next(model.rollout_buffer.get(8))
    state = th.get_rng_state()
    moving = {id(tensor) for tensor in find_moving(model.policy, minibatch)}
    assert th.equal(th.get_rng_state(), state)
    names = {name for name, parameter in model.policy.named_parameters() if id(parameter) in moving}
    assert {name.split(".")[0] for name in names} == {
        "features_extractor",
        "mlp_extractor",
        "action_net",
    }  # the first is the actor's
    assert not any("value" in name for name in names)


def test_a_frozen_layer_and_running_statistics_are_left_where_they_belong() -> None:
    class Features(BaseFeaturesExtractor):
        def __init__(self, space: Any):
            super().__init__(space, 4)
            self.norm = nn.BatchNorm1d(4)

        def forward(self, observations: th.Tensor) -> th.Tensor:
            return self.norm(observations)

    model = build(PPOClip, policy_kwargs={"features_extractor_class": Features}, **FAR)
    model.policy.action_net.weight.requires_grad_(False)
    frozen = model.policy.action_net.weight.clone()
    model.learn(100)
    assert th.equal(model.policy.action_net.weight, frozen)
    assert model.last_update.kl_divergence <= LIMIT


def test_a_frozen_actor_has_nothing_to_project() -> None:
    model = build(PPOClip, policy_kwargs={"net_arch": []}, **FAR)
    model.policy.action_net.requires_grad_(False)
    model.learn(50)
    assert (model.last_update.kl_divergence, model.last_update.projection) == (0.0, 1.0)


@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_a_limit_that_is_not_reached_changes_nothing(acceleration: str) -> None:
    """Neither the generators, nor running statistics, nor the mode in which the steps are taken."""
    limited, free = (
        build(
            PPOClip,
            "box",
            acceleration=acceleration,
            max_kl=limit,
            policy_kwargs={"features_extractor_class": ModeSensitiveExtractor},
            n_steps=24,
        ).learn(96)
        for limit in (1e6, None)
    )
    assert identical(limited, free)


class DetachedActor(MlpExtractor):
    """Only the value function trains the features that the actor reads."""

    def forward(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return super().forward_actor(features.detach())


class DetachedPolicy(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = DetachedActor(self.features_dim, self.net_arch, self.activation_fn, self.device)


class LinearFeatures(BaseFeaturesExtractor):
    def __init__(self, space: Any):
        super().__init__(space, 8)
        self.layer = nn.Linear(4, 8)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations)


@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_parameters_that_move_the_policy_without_gradient_go_back_too(acceleration: str) -> None:
    """The features alone take the policy too far: the actor's own parameters would go back in vain."""
    settings: dict[str, Any] = {"features_extractor_class": LinearFeatures, "log_std_init": -3.0, "net_arch": [8]}
    model = PPOClip(
        DetachedPolicy,
        make_vec_env("box"),
        n_steps=32,
        batch_size=16,
        seed=0,
        device="cpu",
        acceleration=acceleration,
        policy_kwargs=settings,
        **FAR,
    )
    collect_rollout(model)
    old, observations = snapshot_policy(model.policy), th.as_tensor(model.rollout_buffer.observations.reshape(-1, 4))
    value_net = model.policy.value_net.weight.clone()
    model.train()
    model.policy.set_training_mode(False)
    with th.no_grad():
        distributions = [policy.get_distribution(observations) for policy in (old, model.policy)]
    kl = kl_divergence(*distributions).mean().item()
    assert model.last_update.kl_divergence == pytest.approx(kl, rel=1e-3)
    assert 0.9 * LIMIT < kl <= LIMIT
    assert th.dist(model.policy.value_net.weight, value_net) > 0.05  # keeps its steps


def test_a_policy_that_depends_on_something_else_is_measured_and_warned_of() -> None:
    parameter = nn.Parameter(th.zeros(1))
    line = PolicyLine([parameter])
    with th.no_grad():
        parameter.fill_(1.0)
    with pytest.warns(UserWarning, match=r"the KL divergence is 0\.2, above the limit of 0\.01, although the old"):
        assert line.project(lambda: 0.2 + parameter.item(), 0.01) == (1.2, 0.2, 0.0)
    assert parameter.item() == 0.0


@pytest.mark.parametrize("power", [4, 8, 20])
def test_a_kl_that_grows_steeply_is_within_2_percent_of_the_limit(power: int) -> None:
    parameter = nn.Parameter(th.zeros(1))
    line = PolicyLine([parameter])
    with th.no_grad():
        parameter.fill_(1.0)
    found = line.project(lambda: 5 * float(parameter.item()) ** power, 0.02)
    assert 0.98 * 0.02 <= found.kl <= 0.02
