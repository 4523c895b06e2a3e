"""What users' networks do beside layers: running statistics of their own, noise, auxiliary losses, a forward()."""

from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import build, collect_rollout, identical
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from torch import nn
from torch.nn.utils import parametrize

from sb3_ppo_variants import NonFiniteUpdateError, PPOClip, PPOPenalty, RecurrentPPOPenalty
from sb3_ppo_variants.update import nonfinite
from sb3_ppo_variants.update.distributions import kl_divergence
from sb3_ppo_variants.update.policy_evaluation import snapshot_policy

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
BOTH = pytest.mark.parametrize("acceleration", ["off", "eager"])
LIMIT = 0.003


class Features(BaseFeaturesExtractor):
    """A layer of four features; the others build on it."""

    def __init__(self, space: Any):
        super().__init__(space, 4)
        self.layer = nn.Linear(4, 4)
        self.register_buffer("mean", th.zeros(4))
        self.register_buffer("seen", th.zeros((), dtype=th.int64))
        self.norm = nn.BatchNorm1d(4, momentum=0.5)
        nn.init.zeros_(self.norm.weight)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations)


class AssignsItsMean(Features):
    """Takes a running mean by assignment, which makes another buffer of it."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * (observations.mean(0).detach() + 10.0)
        return self.layer(observations - self.mean)


class Residual(Features):
    """A normalised branch that has no influence at first, as residual networks are often begun."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations) + 3 * self.norm(observations)


class CountsWhatItSees(Features):
    """Takes statistics while data are collected, in evaluation mode."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        if not self.training:
            self.seen += len(observations)
            self.mean.lerp_(observations.mean(0), 0.1)
        return self.layer(observations - self.mean)


class Draws(Features):
    """Adds noise at every call."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations) + 0.3 * th.randn(len(observations), 4)


class KeepsALoss(Features):
    """Leaves a tensor of the graph for a loss of its own."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        found = self.layer(observations)
        if self.training:
            self.penalty = found.pow(2).mean()
        return found


def with_features(features: type[Features], cls: type[Any] = PPOClip, **arguments: Any) -> Any:
    """Build a model on the features, with full minibatches only."""
    return build(cls, n_steps=24, policy_kwargs={"features_extractor_class": features}, **arguments)


@BOTH
@pytest.mark.parametrize("features", [AssignsItsMean, Residual])
def test_the_bound_holds_with_statistics_that_are_replaced_or_gain_influence(
    features: type[Features], acceleration: str
) -> None:
    model = with_features(features, learning_rate=0.05, max_kl=LIMIT, acceleration=acceleration)
    with th.no_grad():
        model.policy.action_net.weight.mul_(100)  # SB3 begins with actions that hardly depend on the features
    projected = 0
    for _ in range(8):
        collect_rollout(model)
        old = snapshot_policy(model.policy)
        model.train()
        now = snapshot_policy(model.policy)
        observations = th.as_tensor(model.rollout_buffer.observations.reshape(-1, 4))
        with th.no_grad():
            kl = kl_divergence(old.get_distribution(observations), now.get_distribution(observations)).mean().item()
        assert kl == pytest.approx(model.last_update.kl_divergence, rel=1e-2, abs=1e-6)
        assert kl <= LIMIT
        with th.no_grad():
            model.policy.features_extractor.norm.weight.fill_(1.0)  # which a long training would bring about
        projected += model.last_update.projection < 1
        assert model.last_update.projection == 1 or model.last_update.kl_divergence >= 0.98 * LIMIT
    assert projected


@BOTH
def test_measurements_leave_no_trace_in_statistics_of_data(acceleration: str) -> None:
    ours = with_features(CountsWhatItSees, acceleration=acceleration, max_kl=1e-5).learn(144)
    free = with_features(CountsWhatItSees, acceleration=acceleration).learn(144)
    assert ours.policy.features_extractor.seen == free.policy.features_extractor.seen
    if acceleration == "off":
        stock = with_features(CountsWhatItSees, PPO).learn(144)
        plain = with_features(CountsWhatItSees, acceleration="off", value_clipping="sb3").learn(144)
        assert identical(stock, plain)


@BOTH
def test_a_network_that_draws_is_measured_with_the_same_draws(acceleration: str) -> None:
    """Nothing moves, and so the KL is 0."""
    model = with_features(Draws, PPOPenalty, learning_rate=1e-30, acceleration=acceleration).learn(48)
    assert model.last_update.kl_divergence == pytest.approx(0.0, abs=1e-6)
    assert model.last_update.projection == 1.0


@BOTH
def test_a_frozen_policy_keeps_every_piece(acceleration: str) -> None:
    model = build(PPOClip, acceleration=acceleration)
    before = model.acceleration_report()
    for parameter in model.policy.parameters():
        parameter.requires_grad_(False)
    model.policy.value_net.bias.requires_grad_(True)  # without any, neither SB3 nor torch could take a step
    model.learn(50)
    assert model.acceleration_report()["evaluation"] == before["evaluation"]


@pytest.mark.parametrize("cls", [PPOPenalty, RecurrentPPOPenalty])
def test_tensors_of_a_graph_that_a_network_keeps_are_no_obstacle(cls: type[Any]) -> None:
    model = with_features(KeepsALoss, cls, acceleration="off").learn(144)
    assert model._n_updates == 9


def test_replaced_statistics_are_taken_back_where_they_are_not_finite() -> None:
    class AssignsNan(Features):
        def forward(self, observations: th.Tensor) -> th.Tensor:
            if self.training:
                self.mean = th.full((4,), th.nan)
            return self.layer(observations - self.mean)

    model = with_features(AssignsNan, acceleration="off")
    with pytest.raises(NonFiniteUpdateError):
        model.learn(48)
    assert th.equal(model.policy.features_extractor.mean, th.zeros(4))


def test_statistics_of_another_shape_are_taken_back_too() -> None:
    policy = build(PPOClip, policy_kwargs={"features_extractor_class": Features}).policy
    with nonfinite.finite_buffers(policy):
        policy.features_extractor.mean = th.full((5,), th.inf)
    assert th.equal(policy.features_extractor.mean, th.zeros(4))


class GatedNetwork(MlpExtractor):
    """Opens a gate, shut at first, in a forward() of its own."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.gate = nn.Parameter(th.zeros(()))

    def forward(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return self.forward_actor(features) * (1 + self.gate), self.forward_critic(features)


class GatedPolicy(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = GatedNetwork(self.features_dim, self.net_arch, self.activation_fn, self.device)


def test_parameters_of_a_forward_of_one_s_own_are_trained() -> None:
    env = build(PPOClip).env
    arguments: dict[str, Any] = {"n_steps": 24, "batch_size": 16, "seed": 1, "device": "cpu"}
    model = PPOClip(GatedPolicy, env, policy_kwargs={"net_arch": [8]}, **arguments)
    model.learn(48)
    assert model.acceleration_report()["evaluation"] == "closed form"
    reference = PPOClip(GatedPolicy, env, policy_kwargs={"net_arch": [8]}, acceleration="off", **arguments).learn(48)
    gates = [one.policy.mlp_extractor.gate.item() for one in (model, reference)]
    assert gates[0] != 0
    assert gates == pytest.approx(gates[::-1], rel=1e-3)


class Bounded(nn.Module):
    def forward(self, log_std: th.Tensor) -> th.Tensor:
        return log_std.clamp(-2.0, 0.5)


def test_a_log_std_that_is_computed_is_sampled_as_it_is_now() -> None:
    model = build(PPOClip, "box", learning_rate=0.05)
    parametrize.register_parametrization(model.policy, "log_std", Bounded())
    model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=0.05)
    model.learn(150)
    assert model.acceleration_report()["evaluation"].endswith("(log_std is computed)")
    collect_rollout(model)
    rollout = model.rollout_buffer
    actions, observations = (th.as_tensor(a.reshape(50, -1)) for a in (rollout.actions, rollout.observations))
    with th.no_grad():
        log_prob = model.policy.get_distribution(observations).log_prob(actions)
    np.testing.assert_allclose(rollout.log_probs.flatten(), log_prob.numpy(), atol=1e-5)
