"""The update loop on the PPO host: SB3's features, what is measured, when it stops, what adapts."""

import copy
import dataclasses
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from environments import TinyEnv, make_env, make_vec_env
from hosts import build
from stable_baselines3 import PPO
from stable_baselines3.common import utils
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import make_proba_distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecNormalize
from torch import nn

from sb3_ppo_variants import PPOAdaptiveClip, PPOAdaptiveLR, PPOClip, PPOPenalty
from sb3_ppo_variants.algorithms.minibatch_loss import LossMixin, Penalty
from sb3_ppo_variants.update.distributions import Categorical
from sb3_ppo_variants.update.policy_evaluation import Evaluation
from sb3_ppo_variants.update.reference_update import OwnOptimizer, ReferenceUpdate
from sb3_ppo_variants.update.update_metrics import METRICS

CLASSES = [PPOClip, PPOPenalty, PPOAdaptiveClip]
N_STEPS, BATCH_SIZE, N_EPOCHS = 20, 16, 2
ROLLOUT = 2 * N_STEPS  # two environments; minibatches of 16, 16 and 8
MINIBATCHES = 3  # per epoch
# Written out, so that the numbers below do not depend on the defaults: the rule of the paper, all epochs.
RULE: dict[str, Any] = {"target_kl": 0.01, "kl_tolerance": 1.5, "adapt_after": "update"}
PLAIN_RULE: dict[type[PPO], dict[str, Any]] = {
    PPOClip: {},
    PPOPenalty: {**RULE, "initial_beta": 1.0, "adaptation_factor": 2.0, "beta_bounds": (1e-3, 1e3)},
    PPOAdaptiveClip: {**RULE, "clip_range": 0.2, "adaptation_factor": 1.5, "clip_range_bounds": (0.01, 1.0)},
}

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


def make(
    cls: type[PPO],
    action: str = "discrete",
    observation: str = "vector",
    policy: Any = None,
    env: VecEnv | None = None,
    **arguments: Any,
) -> Any:
    """Build a tiny model on the reference path, with the paper's plain rule unless told otherwise."""
    names = {"vector": "MlpPolicy", "image": "CnnPolicy", "dict": "MultiInputPolicy"}
    settings: dict[str, Any] = {"n_steps": N_STEPS, "batch_size": BATCH_SIZE, "n_epochs": N_EPOCHS, "seed": 2}
    settings |= {"learning_rate": 3e-3, "device": "cpu", "acceleration": "off", "max_kl": None, "on_max_kl": "stop"}
    settings |= PLAIN_RULE[cls] | arguments
    settings["policy_kwargs"] = {"net_arch": [8], **arguments.get("policy_kwargs", {})}
    return cls(policy or names[observation], env or make_vec_env(action, observation), **settings)


def update(model: Any) -> dict[str, Any]:
    """Run one more update and return what it logged under train/."""
    model.learn(ROLLOUT, reset_num_timesteps=False)
    return {k.removeprefix("train/"): v for k, v in model.logger.name_to_value.items() if k.startswith("train/")}


def same_networks(first: PPO, second: PPO) -> bool:
    one, two = first.policy.state_dict(), second.policy.state_dict()
    return all(th.equal(one[key], two[key]) for key in one)


def script_kl(
    monkeypatch: pytest.MonkeyPatch, after: Iterable[float] | None = None, during: Iterable[float] | None = None
) -> None:
    """Replace what the updates measure; measuring more often than scripted fails.

    :param after: KL over the rollout at the end of each update
    :param during: KL of each minibatch
    """
    for cls in (PPOPenalty, PPOAdaptiveClip):
        monkeypatch.setattr(cls, "limits_kl", lambda self, kl: True)  # whatever the losses really are
    if after is not None:
        at_the_end = iter(after)
        monkeypatch.setattr(ReferenceUpdate, "kl_divergence", lambda self: next(at_the_end))
    if during is not None:
        minibatches = iter(during)

        def scripted(self: Any, new: Any, old: Any, mask: Any) -> tuple[Any, th.Tensor]:
            return None, th.zeros(()) if old is None else th.tensor(next(minibatches))

        monkeypatch.setattr(LossMixin, "_kl_of", scripted)


def per_epoch(*values: float) -> list[float]:
    """Repeat the value of each epoch for its minibatches."""
    return [value for value in values for _ in range(MINIBATCHES)]


def linear(initial: float) -> Callable[[float], float]:
    return lambda progress_remaining: progress_remaining * initial


# --------------------------------------------------------------------------------------------- the features of SB3


class CustomExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space: gym.Space[Any], width: int = 6):
        super().__init__(observation_space, features_dim=width)
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layers(observations)


class CustomPolicy(ActorCriticPolicy):
    """With a head of its own and a method of the base class replaced."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(th.ones(()))

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        return super().extract_features(obs, features_extractor) * self.scale


class PlainPolicy(ActorCriticPolicy):
    """Evaluates on a distribution of its own instead of ``action_dist``."""

    def evaluate_actions(self, obs: Any, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        latent_pi, latent_vf = self.mlp_extractor(self.extract_features(obs))
        distribution = make_proba_distribution(self.action_space)
        distribution.proba_distribution(self.action_net(latent_pi))
        return self.value_net(latent_vf), distribution.log_prob(actions), distribution.entropy()


class ScaledRolloutBuffer(RolloutBuffer):
    def __init__(self, *args: Any, factor: float = 1.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.factor = factor

    def compute_returns_and_advantage(self, last_values: th.Tensor, dones: np.ndarray) -> None:
        super().compute_returns_and_advantage(last_values, dones)
        self.advantages = self.factor * self.advantages


def _normalized_env() -> VecEnv:
    return VecNormalize(make_vec_env("box"))


FEATURES: dict[str, Callable[[], dict[str, Any]]] = {
    "mlp": lambda: {"action": "multi_discrete"},
    "cnn": lambda: {"observation": "image", "policy_kwargs": {"features_extractor_kwargs": {"features_dim": 8}}},
    "multi_input": lambda: {
        "observation": "dict",
        "policy_kwargs": {"features_extractor_kwargs": {"cnn_output_dim": 8}},
    },
    "custom_extractor": lambda: {
        "action": "multi_binary",
        "policy_kwargs": {"features_extractor_class": CustomExtractor, "features_extractor_kwargs": {"width": 5}},
    },
    "separate_extractors": lambda: {
        "policy_kwargs": {"features_extractor_class": CustomExtractor, "share_features_extractor": False},
    },
    "custom_policy": lambda: {"policy": CustomPolicy, "action": "box"},
    "squashed_gsde": lambda: {
        "action": "box",
        "use_sde": True,
        "sde_sample_freq": 4,
        "policy_kwargs": {"squash_output": True, "full_std": False},
    },
    "vec_normalize": lambda: {"env": _normalized_env()},
    "rollout_buffer": lambda: {
        "rollout_buffer_class": ScaledRolloutBuffer,
        "rollout_buffer_kwargs": {"factor": 3.0},
        "normalize_advantage": False,
    },
}


def assert_sensible_update(model: Any, before: dict[str, th.Tensor]) -> None:
    after = model.policy.state_dict()
    assert all(bool(th.isfinite(value).all()) for value in after.values())
    assert all(
        not th.equal(after[name], before[name]) for name in before if name.startswith(("action_net", "value_net"))
    )
    logged = model.logger.name_to_value
    finite = ["policy_gradient_loss", "entropy_loss", "loss", "approx_kl", "explained_variance"]
    assert all(math.isfinite(logged[f"train/{key}"]) for key in finite)
    assert logged["train/kl_divergence"] > 0
    assert logged["train/value_loss"] > 0
    assert logged["train/grad_norm"] > 0
    assert logged["train/ratio_max"] > 1
    assert 0 <= logged["train/clip_fraction"] <= 1
    assert logged["train/epochs_done"] == N_EPOCHS
    assert logged["train/n_updates"] == 2 * N_EPOCHS
    assert ("train/beta" in logged) == isinstance(model, PPOPenalty)
    assert ("train/clip_scale" in logged) == isinstance(model, PPOAdaptiveClip)
    assert ("train/clip_range" in logged) == (not isinstance(model, PPOPenalty))
    assert ("train/target_kl" in logged) == (not isinstance(model, PPOClip))
    assert "train/value_clip_fraction" not in logged


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES.keys())
def test_every_feature_of_sb3_trains(cls: type[PPO], feature: Callable[[], dict[str, Any]]) -> None:
    model = make(cls, **feature())
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(2 * ROLLOUT)
    assert_sensible_update(model, before)
    assert model.device == th.device("cpu")


def test_rollout_buffer_class_and_its_arguments_are_used() -> None:
    model = make(PPOPenalty, **FEATURES["rollout_buffer"]()).learn(ROLLOUT)
    assert type(model.rollout_buffer) is ScaledRolloutBuffer
    plain = make(PPOPenalty, normalize_advantage=False).learn(ROLLOUT)
    np.testing.assert_allclose(model.rollout_buffer.advantages, 3 * plain.rollout_buffer.advantages, rtol=1e-5)
    assert not same_networks(model, plain)


def test_environments_in_processes_of_their_own_train_as_in_one_process() -> None:
    envs = SubprocVecEnv([make_env("box"), make_env("box")], start_method="fork")
    try:
        model = make(PPOPenalty, env=envs).learn(2 * ROLLOUT)
    finally:
        envs.close()
    assert same_networks(model, make(PPOPenalty, "box").learn(2 * ROLLOUT))


@pytest.mark.parametrize("cls", CLASSES)
def test_a_single_environment_is_wrapped_as_by_sb3(cls: type[PPO]) -> None:
    model = cls("MlpPolicy", TinyEnv(), n_steps=ROLLOUT, batch_size=20, acceleration="off", seed=1, device="cpu")
    model.learn(ROLLOUT)
    assert model.ep_info_buffer
    assert len(model.ep_info_buffer) >= 4


@pytest.mark.parametrize("cls", CLASSES)
def test_a_policy_that_does_not_use_action_dist_is_refused_before_any_step(cls: type[PPO]) -> None:
    model = make(cls, policy=PlainPolicy)
    before = copy.deepcopy(model.policy.state_dict())
    with pytest.raises(TypeError, match=r"PlainPolicy.*action_dist"):
        model.learn(ROLLOUT)
    assert all(th.equal(value, before[name]) for name, value in model.policy.state_dict().items())


@pytest.mark.parametrize("cls", CLASSES)
def test_runs_have_the_name_of_their_class_unless_told_otherwise(
    cls: type[PPO], monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    configure = utils.configure_logger

    def spy(verbose: int, folder: str | None, name: str, reset: bool = True) -> Any:
        names.append(name)
        return configure(verbose, folder, name, reset)

    monkeypatch.setattr(utils, "configure_logger", spy)
    model = make(cls).learn(ROLLOUT)
    assert model.learn(ROLLOUT, tb_log_name="PPO") is model
    assert names == [cls.__name__, "PPO"]


def test_a_run_that_goes_on_keeps_its_own_curve_beside_stock_ppo_s(tmp_path: Path) -> None:
    folder = str(tmp_path)
    ours = make(PPOPenalty, tensorboard_log=folder).learn(ROLLOUT)
    build(PPO, tensorboard_log=folder).learn(ROLLOUT)
    ours.learn(ROLLOUT, reset_num_timesteps=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["PPOPenalty_1", "PPO_1"]
    assert ours.logger.dir == str(tmp_path / "PPOPenalty_1")


# --------------------------------------------------------------------------------------------- the measured KL


class PolicyBeforeUpdate(BaseCallback):
    """Keeps an independent copy of the policy that collected the last rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.policy: Any = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        policy: Any = self.model.policy
        self.policy = type(policy)(
            policy.observation_space, policy.action_space, lambda _: 0.0, **self.model.policy_kwargs
        )
        self.policy.load_state_dict(policy.state_dict())


@pytest.mark.parametrize("action", ["box", "discrete"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_measured_kl_is_exact(action: str, direction: str) -> None:
    before = PolicyBeforeUpdate()
    model = make(PPOPenalty, action, kl_direction=direction, learning_rate=0.03, initial_beta=0.01)
    model.learn(2 * ROLLOUT, callback=before)

    observations = th.as_tensor(model.rollout_buffer.observations)
    assert observations.shape == (ROLLOUT, 4)
    with th.no_grad():
        pair = [before.policy.get_distribution(observations), model.policy.get_distribution(observations)]
        old, new = (one.distribution for one in (pair if direction == "forward" else reversed(pair)))
        by_dimension = th.distributions.kl_divergence(old, new)
    expected = by_dimension.reshape(ROLLOUT, -1).sum(dim=1).mean().item()
    assert expected > 1e-3
    assert model.logger.name_to_value["train/kl_divergence"] == pytest.approx(expected, rel=1e-4)
    assert model.last_update.kl_divergence == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("action", ["box", "multi_discrete"])
def test_measuring_leaves_random_streams_and_training_mode_alone(action: str) -> None:
    model = make(PPOPenalty, action).learn(ROLLOUT)
    measured = ReferenceUpdate(model, OwnOptimizer(model.policy))
    model.policy.set_training_mode(True)
    numpy_before, torch_before = np.random.get_state(), th.get_rng_state()
    assert measured.kl_divergence() == 0.0
    numpy_after = np.random.get_state()
    assert numpy_before[0] == numpy_after[0]
    assert numpy_before[2:] == numpy_after[2:]
    np.testing.assert_array_equal(numpy_before[1], numpy_after[1])
    assert th.equal(torch_before, th.get_rng_state())
    assert model.policy.training


def test_the_measured_kl_does_not_depend_on_how_the_rollout_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(PPOPenalty, "box").learn(ROLLOUT)
    measured = ReferenceUpdate(model, OwnOptimizer(model.policy))
    with th.no_grad():
        model.policy.log_std.add_(0.1)
        model.policy.action_net.weight.mul_(3.0)
    whole = measured.kl_divergence()
    get, pieces = model.rollout_buffer.get, []

    def get_ragged_pieces(batch_size: int | None = None) -> Iterator[Any]:
        for piece in get(BATCH_SIZE):
            pieces.append(len(piece.advantages))
            yield piece

    monkeypatch.setattr(model.rollout_buffer, "get", get_ragged_pieces)
    assert whole > 1e-3
    assert measured.kl_divergence() == pytest.approx(whole, rel=1e-6)
    assert pieces == [16, 16, 8]


def test_the_penalised_kl_starts_at_zero_and_grows() -> None:
    model = make(PPOPenalty, "box", learning_rate=0.01, initial_beta=0.01).learn(ROLLOUT)
    kl = model.last_update.column("kl_divergence")
    assert kl[0] == 0.0
    assert (kl[1:] > 0).all()


# --------------------------------------------------------------------------------------------- the trace and the stops


@pytest.mark.parametrize("cls", CLASSES)
def test_last_update_has_one_row_per_minibatch_and_agrees_with_the_logger(cls: type[PPO]) -> None:
    model = make(cls, "box", n_epochs=3, clip_range_vf=0.05)
    assert model.last_update is None
    logged = update(model)
    trace = model.last_update

    assert trace.minibatches.shape == (3 * MINIBATCHES, len(METRICS))
    assert trace.epoch.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (trace.epochs_done, trace.stopped) == (3, False)
    assert trace.kl_divergence == logged["kl_divergence"] > 0
    assert bool(trace.column("kl_divergence").any()) == isinstance(model, PPOPenalty)  # nothing else asks for it
    names = {
        "policy_loss": "policy_gradient_loss",
        "value_loss": "value_loss",
        "entropy_loss": "entropy_loss",
        "loss": "loss",
        "approx_kl": "approx_kl",
        "clip_fraction": "clip_fraction",
        "value_clip_fraction": "value_clip_fraction",
        "grad_norm": "grad_norm",
    }
    if isinstance(model, PPOPenalty):
        del names["clip_fraction"]  # it has no clip
    assert [trace.mean(field) for field in names] == pytest.approx([logged[key] for key in names.values()])
    assert logged["ratio_max"] == trace.column("ratio_max").max()
    assert logged["value_clip_fraction"] > 0
    for field in METRICS:
        assert trace.per_epoch(field).shape == (3,)
        assert trace.per_epoch(field).mean() == pytest.approx(trace.mean(field), rel=1e-4, abs=1e-7)
    assert trace.per_epoch("value_loss")[1] == pytest.approx(trace.column("value_loss")[3:6].mean())
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.stopped = True


def test_target_kl_stops_ppo_clip_inside_an_epoch() -> None:
    target_kl = 0.004
    model = make(PPOClip, "box", target_kl=target_kl, n_epochs=10, learning_rate=0.005)
    logged = update(model)
    trace = model.last_update

    assert trace.stopped
    assert 1 <= trace.epochs_done < 10
    completed = int(trace.epochs_done)
    assert trace.epoch[-1] == completed
    assert len(trace.epoch) - 1 == round(trace.epochs_done * MINIBATCHES)  # the last row was no step
    approx_kl, grad_norm = trace.column("approx_kl"), trace.column("grad_norm")
    assert approx_kl[-1] > 1.5 * target_kl
    assert (approx_kl[:-1] <= 1.5 * target_kl).all()
    assert grad_norm[-1] == 0.0  # no step was taken
    assert (grad_norm[:-1] > 0).all()
    assert trace.per_epoch("approx_kl").shape == (completed + 1,)
    assert trace.kl_divergence == logged["kl_divergence"] > 0
    assert logged["epochs_done"] == trace.epochs_done
    assert logged["n_updates"] == completed + 1  # stock counts the epoch in which it stops


def test_a_clip_on_one_side_only_is_logged() -> None:
    logged = update(make(PPOClip, clip_range=None, clip_range_upper=0.01, learning_rate=0.01))
    assert 0 < logged["clip_fraction"] < 1
    assert "clip_range" not in logged


def test_target_kl_says_that_it_stopped_when_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    arguments: dict[str, Any] = {"target_kl": 1e-5, "n_epochs": 4}
    make(PPOClip, **arguments).learn(ROLLOUT)
    assert "Early stopping" not in capsys.readouterr().out
    make(PPOClip, **arguments, verbose=1).learn(ROLLOUT)
    assert "Early stopping" in capsys.readouterr().out


@pytest.mark.parametrize("cls", CLASSES)
def test_max_kl_ends_the_update_and_leaves_the_steps_before_alone(cls: type[PPO]) -> None:
    arguments: dict[str, Any] = {"action": "box", "n_epochs": 10, "learning_rate": 0.003}
    model = make(cls, **arguments, max_kl=0.005)
    logged = update(model)
    trace = model.last_update

    # With three minibatches per epoch each is checked: the KL before its step ends the update after it.
    assert trace.stopped
    assert 2 <= trace.epochs_done < 10
    kl = trace.column("kl_divergence")
    assert (kl[:-1] <= 0.005).all()
    assert kl[-1] > 0.005
    assert trace.epoch[-1] + 1 == logged["n_updates"]
    assert len(trace.minibatches) == round(MINIBATCHES * trace.epochs_done)
    assert (trace.column("grad_norm") > 0).all()
    assert logged["epochs_done"] == trace.epochs_done

    free = make(cls, **arguments)
    update(free)
    assert not free.last_update.stopped
    for field in set(METRICS) - {"kl_divergence"}:
        np.testing.assert_array_equal(trace.column(field), free.last_update.column(field)[: len(kl)])


@pytest.mark.parametrize("cls", CLASSES)
def test_max_kl_that_is_not_reached_changes_nothing(cls: type[PPO]) -> None:
    assert same_networks(make(cls, max_kl=1e3).learn(3 * ROLLOUT), make(cls).learn(3 * ROLLOUT))


def test_max_kl_is_checked_16_times_per_epoch_on_the_minibatches_since(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 minibatches per epoch, and a check after each but 1, 6, 11 and 16: these are averaged with the one that
    # follows. On the edge of 1/32 nothing stops, nor at the sixth of the second epoch, large as it is; 11 and 12 do.
    edge = 1 / 32
    second = [edge] * 5 + [0.04, 0.022] + [edge] * 3 + [0.03, 0.033]
    script_kl(monkeypatch, during=[edge] * 20 + second, after=[0.5])
    model = make(PPOClip, batch_size=2, n_epochs=6, max_kl=edge)
    logged = update(model)
    assert model.last_update.epochs_done == pytest.approx(1.6)
    assert model.last_update.stopped
    assert (logged["n_updates"], logged["kl_divergence"]) == (2, 0.5)


def test_max_kl_may_stop_after_a_whole_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    script_kl(monkeypatch, during=[0.01, 0.01, 0.03])
    model = make(PPOClip, n_epochs=6, max_kl=0.02)
    logged = update(model)
    assert (model.last_update.epochs_done, model.last_update.stopped) == (1, True)
    assert logged["n_updates"] == 1


@pytest.mark.parametrize("cls", [PPOPenalty, PPOAdaptiveClip])
def test_max_kl_may_be_the_target(cls: type[PPO], monkeypatch: pytest.MonkeyPatch) -> None:
    script_kl(monkeypatch, during=[0.03, 0.03, 0.03, 0.031])
    model = make(cls, n_epochs=6, max_kl="target", target_kl=0.03)
    update(model)
    assert model.last_update.epochs_done == pytest.approx(4 / 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_kl_that_is_not_finite_counts_as_beyond_max_kl(monkeypatch: pytest.MonkeyPatch, bad: float) -> None:
    script_kl(monkeypatch, during=[0.01, bad], after=[bad])
    model = make(PPOClip, n_epochs=6, max_kl=0.02)
    logged = update(model)
    assert model.last_update.epochs_done == pytest.approx(2 / 3)
    assert model.last_update.stopped
    assert not math.isfinite(logged["kl_divergence"])


# --------------------------------------------------------------------------------------------- adaptive beta


def test_beta_follows_the_measured_kl_once_per_update(monkeypatch: pytest.MonkeyPatch) -> None:
    # Band around 0.02 with tolerance 2: [0.01, 0.04]. Exactly one measurement per update.
    script_kl(monkeypatch, [0.041, 0.5, 0.04, 0.01, 0.009, 0.0])
    model = make(PPOPenalty, target_kl=0.02, kl_tolerance=2.0, adaptation_factor=3.0, initial_beta=0.5)
    logged = [update(model) for _ in range(6)]
    assert [one["beta"] for one in logged] == pytest.approx([0.5, 1.5, 4.5, 4.5, 4.5, 1.5])
    assert model.beta == pytest.approx(0.5)
    assert {one["target_kl"] for one in logged} == {0.02}
    assert {one["saturated"] for one in logged} == {0.0}


def test_beta_stops_at_its_bounds_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    script_kl(monkeypatch, [1.0, 1.0, 0.01, 0.0, 0.0, 0.0])
    model = make(PPOPenalty, beta_bounds=(0.7, 3.0))
    outcomes = [(update(model)["saturated"], model.beta) for _ in range(6)]
    assert outcomes == [(0.0, 2.0), (1.0, 3.0), (0.0, 3.0), (0.0, 1.5), (0.0, 0.75), (1.0, 0.7)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_beta_rises_with_a_warning_when_the_kl_is_not_finite(monkeypatch: pytest.MonkeyPatch, bad: float) -> None:
    script_kl(monkeypatch, [bad, 0.01])
    model = make(PPOPenalty, n_epochs=1)
    with pytest.warns(UserWarning, match=f"KL divergence is {bad}"):
        update(model)
    assert model.beta == 2.0
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*KL divergence")
        update(model)
    assert model.beta == 2.0


def test_fixed_beta_never_moves_but_the_kl_is_still_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    script_kl(monkeypatch, [1.0, 0.0])
    model = make(PPOPenalty, adaptive_beta=False, initial_beta=0.3)
    logged = [update(model) for _ in range(2)]
    assert [one["beta"] for one in logged] == [0.3, 0.3]
    assert [one["kl_divergence"] for one in logged] == [1.0, 0.0]
    assert model.beta == 0.3
    assert "saturated" not in logged[0]


def betas_in_use(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the beta of every minibatch, and keep the scripted KL out of its loss."""
    used: list[float] = []

    def spy(self: Any, kl: th.Tensor, coefficients: dict[str, Any]) -> Penalty:
        used.append(coefficients["beta"])
        return Penalty(th.zeros(()))

    monkeypatch.setattr(type(model), "kl_penalty", spy)
    return used


def test_beta_moves_after_every_epoch_against_the_ramped_target(monkeypatch: pytest.MonkeyPatch) -> None:
    # Targets 0.005, 0.01, 0.015, 0.02; bands [0.0033, 0.0075], [0.0067, 0.015], [0.01, 0.0225], [0.0133, 0.03].
    during = per_epoch(0.008, 0.014, 0.009, 0.0) + per_epoch(0.003, 0.007, 0.022, 9.0)
    script_kl(monkeypatch, during=during, after=[0.031, 0.02])
    model = make(PPOPenalty, target_kl=0.02, adapt_after="epoch", n_epochs=4)
    used = betas_in_use(model, monkeypatch)
    first = update(model)
    assert used == per_epoch(1.0, 2.0, 2.0, 1.0)
    assert first["beta"] == 1.0  # what the update started from
    assert model.beta == 2.0

    used.clear()
    second = update(model)
    assert used == per_epoch(2.0, 1.0, 1.0, 1.0)
    assert second["beta"] == 2.0
    assert model.beta == 1.0


def test_beta_rises_within_the_update_after_an_epoch_with_a_nan_kl(monkeypatch: pytest.MonkeyPatch) -> None:
    script_kl(monkeypatch, during=per_epoch(math.nan, 0.01, 0.015, 0.02), after=[0.02])
    model = make(PPOPenalty, target_kl=0.02, adapt_after="epoch", n_epochs=4)
    used = betas_in_use(model, monkeypatch)
    with pytest.warns(UserWarning, match="KL divergence is nan"):
        update(model)
    assert used == per_epoch(1.0, 2.0, 2.0, 2.0)
    assert model.beta == 2.0


def test_last_update_keeps_what_each_epoch_went_by(monkeypatch: pytest.MonkeyPatch) -> None:
    # targets of the epochs: 0.005, 0.01, 0.015; above, inside, below
    script_kl(monkeypatch, during=per_epoch(0.02, 0.01, 0.0, 0.02), after=[0.02])
    model = make(PPOPenalty, target_kl=0.02, n_epochs=4, adapt_after="epoch", clip_range=0.3)
    update(model)
    assert [epoch["beta"] for epoch in model.last_update.coefficients] == [1.0, 2.0, 2.0, 1.0]
    assert [epoch["clip_range"] for epoch in model.last_update.coefficients] == [0.3] * 4


def test_adapt_after_update_looks_at_the_last_measurement_only(monkeypatch: pytest.MonkeyPatch) -> None:
    script_kl(monkeypatch, during=[0.0001] * 4 * MINIBATCHES, after=[0.02])
    model = make(PPOPenalty, target_kl=0.02, max_kl=0.05, n_epochs=4)
    used = betas_in_use(model, monkeypatch)
    update(model)
    assert used == per_epoch(1.0, 1.0, 1.0, 1.0)
    assert model.beta == 1.0


@pytest.mark.parametrize(("adapt_after", "beta"), [("update", 1.0), ("epoch", 2.0)])
def test_only_adapt_after_epoch_judges_a_short_update_by_its_share_of_the_target(
    adapt_after: str, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stopped after 4 of 12 steps: 0.016 is far above 0.02 / 3, but inside the band around 0.02.
    script_kl(monkeypatch, during=[0.001, 0.002, 0.005, 0.016], after=[0.016])
    model = make(PPOPenalty, target_kl=0.02, max_kl=0.0155, n_epochs=4, adapt_after=adapt_after)
    betas_in_use(model, monkeypatch)
    update(model)
    assert model.last_update.epochs_done == pytest.approx(4 / 3)
    assert model.beta == beta


@pytest.mark.parametrize(
    ("kl", "penalty", "slope"),
    [(0.015, 0.03, 2.0), (0.02, 0.04, 2.0), (0.05, 0.145, 5.0)],  # below, on and above 2 x target_kl
)
def test_hinge_is_added_beyond_twice_the_target(kl: float, penalty: float, slope: float) -> None:
    model = make(PPOPenalty, hinge_coef=50.0, target_kl=0.01)
    measured = th.tensor(kl, requires_grad=True)
    value = model.kl_penalty(measured, {"beta": 2.0, "target_kl": 0.01})
    value.value.backward()
    assert value.value.item() == pytest.approx(penalty)
    assert measured.grad is not None
    assert measured.grad.item() == float(value.slope) == pytest.approx(slope, abs=1e-5)


def test_a_larger_fixed_beta_keeps_the_policy_closer() -> None:
    arguments: dict[str, Any] = {"action": "box", "adaptive_beta": False, "n_epochs": 6, "learning_rate": 0.01}
    kl = [update(make(PPOPenalty, **arguments, initial_beta=beta))["kl_divergence"] for beta in (0.0, 3.0, 100.0)]
    assert kl[0] > 1.2 * kl[1] > 1.2**2 * kl[2]


# --------------------------------------------------------------------------------------------- adaptive clip range


def test_clip_range_follows_the_measured_kl_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    script_kl(monkeypatch, [0.016, 0.016, 0.016, 0.005, 0.01, 0.005, 0.005, 0.005])
    model = make(PPOAdaptiveClip, clip_range=0.2, clip_range_bounds=(0.1, 0.3))
    logged = [update(model) for _ in range(8)]
    # 0.2 / 1.5 / 1.5 is below 0.1 and 0.225 x 1.5 above 0.3: there the bound holds.
    assert [one["clip_range"] for one in logged] == pytest.approx([0.2, 0.2 / 1.5, 0.1, 0.1, 0.15, 0.15, 0.225, 0.3])
    assert [one["clip_scale"] for one in logged] == pytest.approx([1, 1 / 1.5, 0.5, 0.5, 0.75, 0.75, 1.125, 1.5])
    assert [one["saturated"] for one in logged] == [0, 1, 1, 0, 0, 0, 1, 1]
    assert type(model.clip_scale) is float


def test_clip_scale_shrinks_with_a_warning_when_the_kl_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    script_kl(monkeypatch, [math.nan])
    model = make(PPOAdaptiveClip, adaptation_factor=2.0)
    with pytest.warns(UserWarning, match="KL divergence is nan"):
        update(model)
    assert model.clip_scale == 0.5


def test_clip_range_moves_after_every_epoch_against_the_ramped_target(monkeypatch: pytest.MonkeyPatch) -> None:
    # Targets 0.01 and 0.02: 0.016 is above [0.0067, 0.015], then 0.012 is below [0.0133, 0.03].
    script_kl(monkeypatch, during=per_epoch(0.016, 0.0, 0.016, 9.0), after=[0.012, 0.02])
    model = make(PPOAdaptiveClip, target_kl=0.02, adapt_after="epoch", n_epochs=2, adaptation_factor=2.0)
    used: list[float] = []
    surrogate = PPOAdaptiveClip.surrogate

    def spy(self: Any, ratio: th.Tensor, advantages: th.Tensor, kl: Any, coefficients: dict[str, Any]) -> th.Tensor:
        used.append(coefficients["clip_range"])
        assert coefficients["clip_range_upper"] == coefficients["clip_range"]
        return surrogate(self, ratio, advantages, kl, coefficients)

    monkeypatch.setattr(PPOAdaptiveClip, "surrogate", spy)
    update(model)
    assert used == per_epoch(0.2, 0.1)
    assert model.clip_scale == 1.0
    update(model)
    assert used == per_epoch(0.2, 0.1, 0.2, 0.1)
    assert model.clip_scale == 0.5


def test_a_schedule_of_the_clip_range_may_end_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    script_kl(monkeypatch, [1.0] * 4)
    ranges: list[float] = []
    coefficients = PPOAdaptiveClip.update_coefficients

    def spy(self: Any) -> dict[str, Any]:
        ranges.append(coefficients(self)["clip_range"])
        return coefficients(self)

    monkeypatch.setattr(PPOAdaptiveClip, "update_coefficients", spy)
    model = make(PPOAdaptiveClip, clip_range=linear(0.2), clip_range_bounds=(0.01, 1.0), n_epochs=1)
    model.learn(4 * ROLLOUT)
    # Schedule 0.15, 0.1, 0.05, 0; scale 1, 2/3, 4/9, 8/27. At 0 no scale would help: it is kept, the bound holds.
    assert ranges == pytest.approx([0.15, 0.2 / 3, 0.2 / 9, 0.01])
    assert model.clip_scale == pytest.approx(8 / 27)


@pytest.mark.parametrize(("kl", "largest"), [(0.01, 1.0), (1.0, 0.7)])
def test_a_schedule_below_the_lower_bound_does_not_blow_up_the_scale(
    monkeypatch: pytest.MonkeyPatch, kl: float, largest: float
) -> None:
    """The scale outlives the schedule: a run continued with a fresh one would start far too wide."""
    script_kl(monkeypatch, itertools.repeat(kl))
    model = make(PPOAdaptiveClip, clip_range=linear(0.2), clip_range_bounds=(0.1, 1.0), n_epochs=1)
    model.learn(10 * ROLLOUT)
    assert model.clip_scale <= largest
    if kl == 0.01:  # inside the band at every update
        assert model.clip_scale == 1.0


def test_a_kl_above_the_band_tightens_the_range_in_use_even_if_the_scale_is_far_beyond_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a run continued with a fresh schedule, after the scale rose against one that fell."""
    script_kl(monkeypatch, [1.0, 1.0])
    model = make(PPOAdaptiveClip, clip_range=0.2, clip_range_bounds=(0.01, 0.8), adaptation_factor=2.0)
    model.clip_scale = 20.0
    assert [update(model)["clip_range"] for _ in range(2)] == pytest.approx([0.8, 0.4])


# --------------------------------------------------------------------------------------------- coefficients of the loss


def test_the_loss_of_one_minibatch_by_hand() -> None:
    model = make(PPOClip, clip_range_vf=0.1, ent_coef=0.1, vf_coef=0.5, normalize_advantage=False)
    ratio, zeros = th.tensor([1.0, 1.5, 0.5, 1.1]), th.zeros(4)
    minibatch = RolloutBufferSamples(
        observations=th.zeros(4, 4),
        actions=zeros,
        old_values=zeros,
        old_log_prob=zeros,
        advantages=th.tensor([1.0, 1.0, -1.0, -2.0]),
        returns=th.full((4,), 0.3),
    )
    new = Evaluation(
        values=th.tensor([0.05, 0.15, -0.25, 0.35]),
        log_prob=ratio.log(),
        entropy=th.tensor([1.0, 2.0, 3.0, 4.0]),
        distribution=Categorical(),
        parameters=(),
    )
    loss, metrics = model.minibatch_loss(minibatch, new, None, model.update_coefficients())
    assert metrics.policy_loss.item() == pytest.approx(0.2)  # objectives 1, 1.2, -0.8, -2.2
    assert metrics.value_loss.item() == pytest.approx(0.11125)  # errors 0.0625, 0.04, 0.3025, 0.04
    assert metrics.entropy_loss.item() == pytest.approx(-2.5)
    assert loss.item() == metrics.loss.item() == pytest.approx(0.2 - 0.25 + 0.055625)
    assert metrics.clip_fraction.item() == 0.5
    assert metrics.value_clip_fraction.item() == 0.75
    assert metrics.ratio_max.item() == pytest.approx(1.5)


def test_return_std_makes_the_value_clip_range_relative_to_the_returns() -> None:
    model = make(PPOClip, clip_range_vf=0.2, value_clip_scale="return_std").learn(ROLLOUT)
    model.rollout_buffer.returns = np.tile(np.array([4.0, 10.0], dtype=np.float32), (N_STEPS, 1))
    assert model.update_coefficients()["clip_range_vf"] == pytest.approx(0.6)  # the two values are 3 from their mean
    model.value_clip_scale = "absolute"
    assert model.update_coefficients()["clip_range_vf"] == pytest.approx(0.2)


def test_return_std_is_that_of_the_rollout_just_collected() -> None:
    logged: dict[str, dict[float, float]] = {"absolute": {}, "return_std": {}}
    for scale, rewards in itertools.product(logged, (1.0, 1000.0)):
        model = make(
            PPOClip,
            env=make_vec_env(reward_scale=rewards),
            clip_range_vf=0.2,
            value_clip_scale=scale,
            gae_lambda=1.0,
        )
        logged[scale][rewards] = update(model)["clip_range_vf"]
        if scale == "return_std":
            assert logged[scale][rewards] == pytest.approx(0.2 * np.std(model.rollout_buffer.returns))
    assert logged["absolute"][1.0] == logged["absolute"][1000.0] == pytest.approx(0.2)
    assert 500 < logged["return_std"][1000.0] / logged["return_std"][1.0] < 2000


def test_normalising_over_the_rollout_equals_normalising_one_minibatch_that_is_the_rollout() -> None:
    whole = [make(PPOClip, batch_size=ROLLOUT, normalize_advantage=mode).learn(ROLLOUT) for mode in (True, "rollout")]
    for first, second in zip(whole[0].policy.parameters(), whole[1].policy.parameters()):
        th.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)
    unnormalized = make(PPOClip, batch_size=ROLLOUT, normalize_advantage=False).learn(ROLLOUT)
    assert whole[0].last_update.column("policy_loss")[0] == pytest.approx(0, abs=1e-5)
    assert whole[1].last_update.column("policy_loss")[0] == pytest.approx(0, abs=1e-5)
    assert abs(unnormalized.last_update.column("policy_loss")[0]) > 1e-2


def test_normalising_over_the_rollout_leaves_the_minibatches_their_own_means() -> None:
    # At the first minibatch the ratio is 1, so that minus the policy loss is the mean of its advantages.
    first = [make(PPOClip, normalize_advantage=mode, learning_rate=0.0).learn(ROLLOUT) for mode in (True, "rollout")]
    per_minibatch, per_rollout = (model.last_update.column("policy_loss")[:MINIBATCHES] for model in first)
    assert per_minibatch == pytest.approx(np.zeros(MINIBATCHES), abs=1e-5)
    assert (np.abs(per_rollout) > 1e-3).all()
    assert np.average(per_rollout, weights=[16, 16, 8]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("cls", CLASSES)
def test_constant_schedules_of_the_coefficients_equal_the_constants(cls: type[PPO]) -> None:
    scheduled = make(cls, "box", ent_coef=lambda _: 0.02, vf_coef=lambda _: 0.7).learn(3 * ROLLOUT)
    assert same_networks(scheduled, make(cls, "box", ent_coef=0.02, vf_coef=0.7).learn(3 * ROLLOUT))
    assert not same_networks(scheduled, make(cls, "box", ent_coef=0.0, vf_coef=0.7).learn(3 * ROLLOUT))
    assert not same_networks(scheduled, make(cls, "box", ent_coef=0.02, vf_coef=0.5).learn(3 * ROLLOUT))


def test_schedules_of_the_coefficients_see_the_progress() -> None:
    seen: dict[str, set[float]] = {"ent_coef": set(), "vf_coef": set()}

    def recording(name: str) -> Callable[[float], float]:
        return lambda progress: seen[name].add(progress) or 0.01  # type: ignore[func-returns-value]

    make(PPOClip, ent_coef=recording("ent_coef"), vf_coef=recording("vf_coef")).learn(4 * ROLLOUT)
    assert seen == {"ent_coef": {0.75, 0.5, 0.25, 0.0}, "vf_coef": {0.75, 0.5, 0.25, 0.0}}


@pytest.mark.parametrize("name", ["clip_range", "clip_range_vf", "vf_coef"])
@pytest.mark.parametrize("value", [-0.1, math.nan])
def test_a_bad_value_of_a_schedule_is_refused_when_it_is_first_used(name: str, value: float) -> None:
    model = make(PPOClip, **{name: lambda _: value})
    with pytest.raises(ValueError, match=rf"`{name}` must be .*>= 0.*{value}"):
        model.learn(ROLLOUT)


def test_a_negative_entropy_coefficient_is_allowed_as_in_stock() -> None:
    runs = [make(PPOClip, "box", ent_coef=value, learning_rate=0.01) for value in (lambda _: -0.5, 0.0)]
    narrower, usual = (run.learn(3 * ROLLOUT).logger.name_to_value["train/std"] for run in runs)
    assert narrower < usual


# --------------------------------------------------------------------------------------------------- no wind-up


@pytest.mark.parametrize(("cls", "state"), [(PPOPenalty, "beta"), (PPOAdaptiveClip, "clip_scale")])
def test_a_learning_rate_that_decays_to_zero_does_not_wind_the_coefficient_up(cls: type[PPO], state: str) -> None:
    """Without the rule beta ends at its lower bound and clip_scale at its upper one, and the next run begins there."""
    arguments: dict[str, Any] = {"adapt_after": "epoch", "target_kl": 0.01, "learning_rate": lambda left: 1e-5 * left}
    model = make(cls, **arguments, adaptation_factor=1.3, max_kl="target", n_epochs=4)
    model.learn(20 * ROLLOUT)
    assert model.last_update.kl_before_projection < 0.001  # far below the band
    assert getattr(model, state) == pytest.approx(1.0, rel=0.5)
    assert model.logger.name_to_value["train/saturated"] == 1


@pytest.mark.parametrize(
    "advantages",
    [{}, {"normalize_advantage": False}, {"normalize_advantage": "rollout"}, {"batch_size": 13}],  # the last: 1 sample
)
def test_a_penalty_that_holds_the_policy_back_is_loosened(advantages: dict[str, Any]) -> None:
    """Whatever the mean advantage of a minibatch is: it is no gain of the policy."""
    arguments: dict[str, Any] = {"adapt_after": "epoch", "learning_rate": 1e-3, "target_kl": 0.05, **advantages}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You have specified a mini-batch size")
        model = make(PPOPenalty, initial_beta=100.0, n_epochs=4, **arguments)
    model.learn(10 * ROLLOUT)
    assert model.beta < 50


def test_a_clip_that_holds_the_policy_back_is_widened() -> None:
    """Though it clips but few of the samples."""
    arguments: dict[str, Any] = {"adapt_after": "epoch", "learning_rate": 1e-3, "target_kl": 0.05, "n_epochs": 4}
    model = make(PPOAdaptiveClip, clip_range=0.03, **arguments)
    seen = [update(model)["clip_fraction"] for _ in range(3)]
    assert 0.01 < max(seen) < 0.4
    assert model.clip_scale > 1.2


def test_what_the_policy_has_gained_is_0_before_it_has_moved() -> None:
    for acceleration in ("off", "eager"):
        model = make(PPOPenalty, normalize_advantage=False, acceleration=acceleration, learning_rate=1e-2)
        model.learn(ROLLOUT)
        gain = model.last_update.column("policy_gain")
        assert gain[0] == pytest.approx(0, abs=1e-6) and gain[-3:].mean() > 1e-3
        assert model.last_update.column("policy_loss")[0] != pytest.approx(0, abs=1e-2)  # the mean advantage is not 0
    assert not make(PPOClip).learn(ROLLOUT).last_update.column("policy_gain").any()


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize("cls", [PPOPenalty, PPOAdaptiveClip])
def test_a_learning_rate_below_0_counts_as_0_where_the_kl_is_held(cls: type[Any], acceleration: str) -> None:
    """A smoke run: ten steps in all, rollouts of fifty, and rl-zoo3's linear schedule, which is at -4 x 0.05 then."""
    model = build(cls, learning_rate=lambda progress: 0.05 * progress, acceleration=acceleration)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(10)
    assert model._current_progress_remaining == -4
    assert model.logger.name_to_value["train/learning_rate"] == 0
    for name, value in model.policy.state_dict().items():
        assert th.equal(value, before[name])


def test_without_adaptation_a_learning_rate_below_0_is_as_in_stock_ppo() -> None:
    schedule = {"learning_rate": lambda progress: 0.001 * progress}
    neutral = {"adaptive_beta": False, "initial_beta": 0.0, "max_kl": None, "clip_range": 0.2, "acceleration": "off"}
    models = [build(PPOPenalty, **schedule, **neutral).learn(10), build(PPO, **schedule).learn(10)]
    ours, stock = (model.policy.state_dict() for model in models)
    assert models[0].logger.name_to_value["train/learning_rate"] < 0
    for name, value in stock.items():
        assert th.equal(value, ours[name])


@pytest.mark.parametrize("cls", [PPOPenalty, PPOAdaptiveClip, PPOAdaptiveLR])
@pytest.mark.parametrize("max_kl", ["target", None])
def test_a_target_that_decays_past_0_moves_no_coefficient(cls: type[Any], max_kl: Any) -> None:
    """Ten steps in all and rollouts of fifty: the schedule is at -4 x 0.01 then."""
    model = build(cls, target_kl=lambda progress: 0.01 * progress, max_kl=max_kl)
    (name,) = cls.live_state
    before = getattr(model, name)
    model.learn(10)
    assert model.logger.name_to_value["train/target_kl"] == 0
    assert getattr(model, name) == before
    if max_kl == "target":
        assert (model.last_update.kl_divergence, model.last_update.projection) == (0.0, 0.0)


@pytest.mark.parametrize("attribute", ["live_state", "extra_metric_names"])
def test_a_name_that_should_be_a_tuple_of_names_is_refused(attribute: str) -> None:
    with pytest.raises(ValueError, match=f"`{attribute}` of Own must be a tuple of names, got 'mine'; .* a comma"):
        type("Own", (PPOClip,), {attribute: "mine"})


def test_a_limit_of_the_kl_that_is_no_number_is_refused() -> None:
    cls: Any = type("Own", (PPOClip,), {"kl_limit": lambda self: math.nan})
    with pytest.raises(ValueError, match=r"kl_limit\(\) must return nats per state, or None for no limit, got nan"):
        cls("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=16, device="cpu").learn(32)
