"""The fast path gives the reference path's results, says what it does, and falls back where it must."""

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import TinyEnv, make_vec_env
from gymnasium import spaces
from hosts import MAY_FALL_BACK, VARIANTS, build, collect_rollout, flat
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import DiagGaussianDistribution, StateDependentNoiseDistribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ppo_variants import (
    MaskablePPOClip,
    MaskablePPOPenalty,
    PPOAdaptiveClip,
    PPOAdaptiveLR,
    PPOClip,
    PPOPenalty,
)
from sb3_ppo_variants.extend import KLPenaltyMixin, Penalty
from sb3_ppo_variants.fast_path import activations
from sb3_ppo_variants.fast_path.compiled_update import minibatches_per_graph
from sb3_ppo_variants.fast_path.lean_rollout import LeanForward, NumpyForward
from sb3_ppo_variants.update import distributions
from sb3_ppo_variants.update.distributions.gaussian import DiagonalGaussian, StateDependentGaussian

ACTIONS = ["discrete", "box", "multi_discrete", "multi_binary"]
ALGORITHMS: list[Any] = [
    pytest.param(
        PPOClip, {"clip_range_vf": 0.2, "ent_coef": 0.01, "clip_range_upper": 0.3, "dual_clip": 3.0}, id="clip"
    ),
    pytest.param(PPOPenalty, {"hinge_coef": 10.0, "max_kl": None, "normalize_advantage": "rollout"}, id="penalty"),
    pytest.param(PPOAdaptiveClip, {"max_kl": 0.5, "value_loss": "huber"}, id="adaptive_clip"),
]


def make_model(cls: type[Any], action: str = "discrete", **kwargs: Any) -> Any:
    defaults: dict[str, Any] = {"n_steps": 32, "batch_size": 24, "n_epochs": 2, "seed": 0, "device": "cpu"}
    observation = kwargs.pop("observation", "vector")
    policy = kwargs.pop("policy", {"vector": "MlpPolicy", "image": "CnnPolicy"}.get(observation, "MultiInputPolicy"))
    return cls(policy, make_vec_env(action, observation), **{**defaults, **kwargs})


def updated(cls: type[Any], acceleration: str, updates: int = 1, **kwargs: Any) -> Any:
    """Collect with the stock forward pass, then update on the given path: both paths see the same rollout."""
    model = make_model(cls, acceleration="off", **kwargs)
    _, callback = model._setup_learn(10_000)
    for update in range(updates):
        model.acceleration = "off"
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        model._update_current_progress_remaining(64 * (update + 1), 10_000)
        model.acceleration = acceleration
        np.random.seed(update)
        model.train()
    return model


def relative_difference(a: OnPolicyAlgorithm, b: OnPolicyAlgorithm) -> float:
    return float((flat(a) - flat(b)).norm() / flat(a).norm())


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("cls", "kwargs"), ALGORITHMS)
def test_eager_equals_the_reference_after_one_update(cls: type[Any], kwargs: dict[str, Any], action: str) -> None:
    reference = updated(cls, "off", action=action, **kwargs)
    fast = updated(cls, "eager", action=action, **kwargs)
    start = make_model(cls, action=action, **kwargs)
    assert relative_difference(reference, fast) < 1e-6
    assert relative_difference(reference, start) > 1e-4  # the comparison would notice a missing step
    names = fast.last_update.minibatches.shape
    assert names == reference.last_update.minibatches.shape
    np.testing.assert_allclose(fast.last_update.minibatches, reference.last_update.minibatches, rtol=1e-3, atol=2e-5)
    assert fast.last_update.kl_divergence == pytest.approx(reference.last_update.kl_divergence, rel=1e-3, abs=1e-7)


class WritesToItsMinibatch(PPOClip):
    extra_metric_names = ("largest",)

    def extra_metrics(self, minibatch: Any, *_: Any) -> dict[str, Any]:
        minibatch.old_log_prob[...] = 0 * minibatch.old_log_prob  # after the ratios have been taken
        return {"largest": minibatch.old_log_prob.max()}


class Thinned(BaseFeaturesExtractor):
    def __init__(self, observation_space: spaces.Box):
        super().__init__(observation_space, 4)
        self.thin = th.nn.Dropout(0.5)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.thin(observations.flatten(1))[:, :4]


@pytest.mark.parametrize("batch_size", [16, 32, 64, 100])
@pytest.mark.parametrize(
    ("cls", "acceleration", "kwargs"),
    [
        (PPOPenalty, "eager", {}),
        pytest.param(WritesToItsMinibatch, "eager", {}, marks=MAY_FALL_BACK),
        (PPOPenalty, "eager", {"policy_kwargs": {"activation_fn": th.nn.ELU}}),
        (PPOClip, "eager", {"policy_kwargs": {"features_extractor_class": Thinned}}),
        pytest.param(PPOClip, "compile", {}, marks=pytest.mark.slow),
        pytest.param(PPOPenalty, "compile", {}, marks=pytest.mark.slow),
    ],
    ids=["numpy", "writing", "autograd", "dropout", "compile", "compiled_penalty"],
)
def test_few_minibatches_of_an_epoch_equal_the_reference_and_draw_as_it_does(
    cls: type[Any], acceleration: str, kwargs: dict[str, Any], batch_size: int
) -> None:
    draws, models = [], []
    for how in ("off", acceleration):
        models.append(updated(cls, how, 2, batch_size=batch_size, n_epochs=4, max_kl=None, **kwargs))
        draws.append(np.random.random())
    assert relative_difference(*models) < 1e-5
    reference, fast = (model.last_update.minibatches for model in models)
    np.testing.assert_allclose(fast, reference, rtol=2e-3, atol=2e-5)
    assert draws[0] == draws[1]


@pytest.mark.parametrize("observation", ["image", "dict"])
def test_eager_equals_the_reference_for_images_and_dicts(observation: str) -> None:
    reference = updated(PPOPenalty, "off", observation=observation, max_kl=None, n_epochs=1)
    fast = updated(PPOPenalty, "eager", observation=observation, max_kl=None, n_epochs=1)
    assert relative_difference(reference, fast) < 1e-5
    assert fast.acceleration_report()["evaluation"] == "closed form"


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    ("cls", "action"), [(PPOPenalty, "box"), (PPOAdaptiveClip, "discrete"), (MaskablePPOPenalty, "discrete")]
)
def test_dictionaries_of_vectors_are_run_in_numpy(cls: Any, action: str, share: bool) -> None:
    policy_kwargs = {"share_features_extractor": share}
    kwargs: dict[str, Any] = {"observation": "vectors", "action": action, "policy_kwargs": policy_kwargs}
    reference, fast = (updated(cls, how, 2, **kwargs) for how in ("off", "eager"))
    report = fast.acceleration_report()
    assert (report["arithmetic"], report["rollout"]) == ("numpy", "numpy forward pass")
    assert relative_difference(reference, fast) < 1e-6
    buffers = []
    for acceleration in ("off", "eager"):
        model = make_model(cls, acceleration=acceleration, **kwargs)
        collect_rollout(model)
        buffers.append(model.rollout_buffer)
    for name in ("actions", "values", "log_probs"):
        stock, ours = (getattr(buffer, name) for buffer in buffers)
        np.testing.assert_allclose(ours, stock, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "cls", "kwargs"),
    [
        ("discrete", *ALGORITHMS[0].values),
        ("box", *ALGORITHMS[1].values),
        ("multi_discrete", *ALGORITHMS[2].values),
        ("multi_binary", *ALGORITHMS[1].values),
        ("box", *ALGORITHMS[2].values),
    ],
)
def test_compile_equals_the_reference_after_two_updates(action: str, cls: type[Any], kwargs: dict[str, Any]) -> None:
    reference = updated(cls, "off", 2, action=action, **kwargs)
    fast = updated(cls, "compile", 2, action=action, **kwargs)
    assert fast.acceleration_report()["graph"] == "torch.compile"
    assert relative_difference(reference, fast) < 1e-5
    np.testing.assert_allclose(fast.last_update.minibatches, reference.last_update.minibatches, rtol=2e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["discrete", "box"])
def test_compile_stops_where_the_reference_does(action: str) -> None:
    kwargs = {"action": action, "target_kl": 0.02, "learning_rate": 0.01, "batch_size": 8, "n_epochs": 8}
    models = reference, fast = [make_model(PPOClip, acceleration=how, **kwargs) for how in ("off", "compile")]
    ends = []
    for _ in range(4):
        for model in models:
            np.random.seed(0)
            th.manual_seed(0)
            model.learn(64, reset_num_timesteps=False)
        traces = [model.last_update for model in models]
        assert traces[1].epochs_done == traces[0].epochs_done
        assert traces[1].stopped == traces[0].stopped
        np.testing.assert_allclose(traces[1].minibatches, traces[0].minibatches, rtol=1e-2, atol=1e-3)
        ends.append(traces[1].epochs_done)
    assert fast.acceleration_report()["graph"] == "torch.compile"
    assert minibatches_per_graph(fast) == 4
    assert any(8 * end % 4 for end in ends), f"no update was broken off within a graph: {ends}"
    assert relative_difference(reference, fast) < 1e-4
    steps = [next(iter(model.policy.optimizer.state.values()))["step"].item() for model in models]
    assert steps[0] == steps[1]


@pytest.mark.slow
def test_compile_equals_the_reference_for_images() -> None:
    reference = updated(PPOClip, "off", observation="image", n_epochs=1)
    fast = updated(PPOClip, "compile", observation="image", n_epochs=1)
    assert fast.acceleration_report()["graph"] == "torch.compile"
    assert relative_difference(reference, fast) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "action", "kwargs", "moves"),
    [
        (PPOPenalty, "box", {"max_kl": None}, "beta"),
        (PPOPenalty, "box", {"use_sde": True, "clip_range": lambda p: 0.2 * p}, "beta"),
        (PPOAdaptiveClip, "discrete", {"clip_range_vf": lambda p: 0.2 * p, "target_kl": 1e-6}, "clip_scale"),
        (PPOAdaptiveLR, "multi_discrete", {}, "lr_scale"),
        (PPOClip, "discrete", {"clip_range": lambda p: 0.2 * p, "target_kl": 1e-4}, None),
        (MaskablePPOPenalty, "discrete", {}, "beta"),
    ],
)
def test_compile_compiles_once_for_changing_coefficients(
    cls: type[Any], action: str, kwargs: dict[str, Any], moves: str | None
) -> None:
    from torch._dynamo.utils import counters

    model = make_model(
        cls, action, acceleration="compile", learning_rate=lambda p: 1e-3 * p, ent_coef=lambda p: 0.01 * p, **kwargs
    )
    model.learn(64 * 2)
    graphs = counters["stats"]["unique_graphs"]
    before = moves and getattr(model, moves)
    model.learn(64 * 10)
    assert model.acceleration_report()["graph"] == "torch.compile"
    assert counters["stats"]["unique_graphs"] == graphs
    assert moves is None or getattr(model, moves) != before


def test_eager_update_draws_the_same_minibatches_as_stock() -> None:
    """Both paths leave numpy's generator in the same state, so that later draws agree too."""
    updated(PPOClip, "off")
    after_reference = np.random.random_sample()
    updated(PPOClip, "eager")
    assert np.random.random_sample() == after_reference


@pytest.mark.parametrize("action", ACTIONS)
def test_numpy_forward_samples_from_the_policy(action: str) -> None:
    """Log-probabilities and values are the policy's own, and actions follow its distribution."""
    model = make_model(PPOClip, action, acceleration="eager")
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.3 * th.randn_like(parameter))
    forward = NumpyForward(model.policy)
    observation = th.randn(1, 4).repeat(4000, 1)
    np.random.seed(0)
    with th.no_grad():
        actions, values, log_prob = forward(observation)
        expected_values, expected_log_prob, _ = model.policy.evaluate_actions(observation, actions)
        th.manual_seed(0)
        stock_actions, _, _ = model.policy(observation)
    assert actions.shape == stock_actions.shape
    assert actions.dtype == stock_actions.dtype
    th.testing.assert_close(values, expected_values, rtol=1e-5, atol=1e-5)
    th.testing.assert_close(log_prob, expected_log_prob, rtol=1e-4, atol=1e-5)
    ours, stock = actions.double().reshape(4000, -1), stock_actions.double().reshape(4000, -1)
    error = (ours.var(0) / 4000 + stock.var(0) / 4000).sqrt()
    assert ((ours.mean(0) - stock.mean(0)).abs() <= 4.5 * error).all()
    assert (((ours.var(0) / stock.var(0)) - 1).abs() < 0.15).all()


class CopiesPolicy(BaseCallback):
    """Copies and pickles the policy in the middle of a rollout, as self-play and checkpoint callbacks do."""

    copied: ActorCriticPolicy
    unpickled: ActorCriticPolicy

    def _on_step(self) -> bool:
        if self.n_calls == 3:
            self.copied = copy.deepcopy(self.model.policy)
            self.unpickled = pickle.loads(pickle.dumps(self.model.policy))
            self.model.save(io.BytesIO())
        return True


def test_policy_copied_in_a_callback_is_independent() -> None:
    model = make_model(PPOClip, "box", acceleration="eager")
    callback = CopiesPolicy()
    model.learn(64, callback=callback)
    observation = th.ones(1, 4)
    for policy in (callback.copied, callback.unpickled):
        with th.no_grad():
            before = policy(observation, deterministic=True)[0].clone()
            policy.action_net.bias.add_(1.0)
            assert th.allclose(policy(observation, deterministic=True)[0], before + 1.0)
    assert "forward" not in vars(model.policy)


class SeesLocals(BaseCallback):
    def _on_step(self) -> bool:
        self.names = set(self.locals)
        self.types = {name: type(self.locals[name]) for name in ("actions", "values", "log_probs", "clipped_actions")}
        self.shapes = {name: self.locals[name].shape for name in ("actions", "values", "log_probs")}
        return True


@pytest.mark.parametrize("action", ACTIONS)
def test_callbacks_see_the_same_locals_as_in_stock_ppo(action: str) -> None:
    stock, fast = SeesLocals(), SeesLocals()
    make_model(PPO, action).learn(64, callback=stock)
    make_model(PPOClip, action, acceleration="eager").learn(64, callback=fast)
    assert fast.names == stock.names
    assert fast.types == stock.types
    assert fast.shapes == stock.shapes


def test_optimizer_state_is_exchangeable_with_stock_ppo() -> None:
    """Saved by the fast path, it continues in stock PPO, and the other way round, as if nothing had happened."""
    fast = make_model(PPOClip, "box", acceleration="eager")
    fast.learn(64 * 3)
    stock = make_model(PPO, "box")
    stock.set_parameters(copy.deepcopy(fast.get_parameters()))
    back = make_model(PPOClip, "box", acceleration="eager")
    back.set_parameters(copy.deepcopy(stock.get_parameters()))
    for parameter, ours in zip(stock.policy.parameters(), fast.policy.parameters()):
        state, own = stock.policy.optimizer.state[parameter], fast.policy.optimizer.state[ours]
        assert state["step"] == own["step"] == 3 * 2 * 3  # 3 updates of 2 epochs of 3 minibatches
        assert th.equal(state["exp_avg_sq"], own["exp_avg_sq"])
    models = [stock, back, fast]
    for model in models:
        gradient = [th.ones_like(p) for p in model.policy.parameters()]
        assert model is not back or not model.rollout_buffer.full  # nothing flat was made of it yet
        for parameter, g in zip(model.policy.parameters(), gradient):
            parameter.grad = g
        model.policy.optimizer.step()
    assert th.equal(flat(stock), flat(back))
    assert th.equal(flat(stock), flat(fast))


def test_parameters_loaded_during_training_are_used() -> None:
    """``set_parameters`` replaces what the flat tensors point to; the next update must notice."""
    model = make_model(PPOClip, "box", acceleration="eager")
    model.learn(64)
    saved = copy.deepcopy(model.get_parameters())
    model.learn(64 * 2, reset_num_timesteps=False)
    model.set_parameters(saved)
    other = updated(PPOClip, "eager", action="box")
    other.set_parameters(saved)
    for m in (model, other):
        np.random.seed(5)
        th.manual_seed(5)
        m.env.seed(5)
        m.learn(64)
    assert int(model.policy.optimizer.state[model.policy.log_std]["step"]) == 6 + 6
    assert relative_difference(model, other) < 1e-6


def test_saved_eager_model_continues_with_acceleration_off(tmp_path: Any) -> None:
    model = make_model(PPOPenalty, "box", acceleration="eager")
    model.learn(64 * 2)
    model.save(tmp_path / "model")
    loaded = PPOPenalty.load(tmp_path / "model", env=model.get_env(), acceleration="off", device="cpu")
    assert th.equal(flat(loaded), flat(model))
    loaded.learn(64)
    assert th.isfinite(flat(loaded)).all()


class OwnEvaluation(ActorCriticPolicy):
    def evaluate_actions(self, obs: Any, actions: th.Tensor) -> Any:
        values, log_prob, entropy = super().evaluate_actions(obs, actions)
        return values, log_prob, 2 * entropy


class OwnSamples(RolloutBuffer):
    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        return super()._get_samples(batch_inds, env)


def test_loaded_model_keeps_every_piece(tmp_path: Any) -> None:
    """Its moments are not 0, so that a step depends on the length of the gradient, which padding must not change."""
    model = make_model(PPOClip, "multi_discrete", learning_rate=0.01, policy_kwargs={"net_arch": [5]}).learn(64)
    before = model.acceleration_report()
    model.save(tmp_path / "model")
    loaded = PPOClip.load(tmp_path / "model", env=model.env, device="cpu").learn(64)
    assert loaded.acceleration_report() == before
    assert before["optimizer"] == "Adam on one flat tensor"


@pytest.mark.parametrize(
    ("piece", "reason", "kwargs"),
    [
        ("evaluation", "overrides its evaluation", {"policy": OwnEvaluation}),
        ("optimizer", "RMSprop", {"policy_kwargs": {"optimizer_class": th.optim.RMSprop}}),
        ("optimizer", "weight_decay", {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1}}}),
        ("optimizer", "fused", {"policy_kwargs": {"optimizer_kwargs": {"fused": True}}}),
        ("minibatches", "not rows", {"rollout_buffer_class": OwnSamples}),
        ("rollout", "other layers", {"policy_kwargs": {"activation_fn": th.nn.ELU}}),
        ("rollout", "plain vectors", {"observation": "image"}),
        ("rollout", "weights", {"policy_kwargs": {"net_arch": [400, 400]}}),
        ("evaluation", "no closed form", {"use_sde": True, "policy_kwargs": {"use_expln": True}}),
        ("arithmetic", "products", {"policy_kwargs": {"net_arch": [1300, 1300]}, "batch_size": 64}),
    ],
)
def test_unsupported_pieces_fall_back_with_a_reason(piece: str, reason: str, kwargs: dict[str, Any]) -> None:
    kwargs = {"acceleration": "eager", **kwargs}
    cls = PPOClip
    model = make_model(cls, "box", **kwargs)
    assert reason in model.acceleration_report()[piece]
    kwargs.pop("acceleration")
    if piece not in ("rollout", "graph"):
        assert (
            relative_difference(
                updated(cls, "off", action="box", **kwargs), updated(cls, "eager", action="box", **kwargs)
            )
            < 1e-5
        )
    model.learn(64)
    assert th.isfinite(flat(model)).all()


def test_off_uses_nothing_of_the_fast_path() -> None:
    report = make_model(PPOClip, acceleration="off").acceleration_report()
    assert all("acceleration='off'" in what for what in report.values())


def test_report_is_printed_once_when_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    make_model(PPOClip, acceleration="eager", verbose=1).learn(64 * 3)
    assert capsys.readouterr().out.count("Acceleration: minibatches: staged on the device") == 1


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        (PPOClip, {"ent_coef": 0.05, "clip_range": 0.02, "clip_range_upper": 0.05, "dual_clip": 1.05}),
        (PPOPenalty, {"initial_beta": 2.0, "hinge_coef": 1e4, "target_kl": 1e-5, "max_kl": None, "ent_coef": 0.05}),
        (PPOAdaptiveClip, {"clip_range": 0.2, "max_kl": None, "normalize_advantage": False}),
    ],
)
def test_written_gradient_equals_autograd(cls: type[Any], kwargs: dict[str, Any], action: str) -> None:
    """On a policy that has moved, so that samples are clipped, the KL is not 0 and the hinge is active."""
    model = updated(cls, "eager", action=action, learning_rate=0.02, **kwargs)
    assert model.acceleration_report()["backward"] == "written out"
    update = model._current_acceleration().new_update()
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.05 * th.randn_like(parameter))
    rows = update.rollout.shuffled_rows()[: update.batch_size]
    minibatch, old, c = update.rollout.select(rows), update.old_parameters(rows), model.update_coefficients()
    loss, metrics = model.minibatch_loss(minibatch, update.evaluate(minibatch), old, c)
    if cls is not PPOPenalty:
        assert 0 < metrics.clip_fraction < 1
    expected = th.cat([g.flatten() for g in th.autograd.grad(loss, list(model.policy.parameters()))])
    arrays = update.in_arrays(minibatch, old)
    for samples, before, trunk in ((minibatch, old, update.trunk), (*arrays, update.in_numpy)):
        row = update.written_step(samples, before, c, trunk).row()
        th.testing.assert_close(row, metrics.row(), rtol=1e-4, atol=1e-5)
        found = th.cat([p.grad.flatten() for p in model.policy.parameters()])
        th.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6 * float(expected.abs().max()))
        update.stepper.gradient.zero_()


class OwnTerms(KLPenaltyMixin, PPO):
    """Its terms take tensors only; the penalty leaves its derivative to autograd."""

    extra_metric_names = ("largest_entropy",)

    def surrogate(self, ratio: Any, advantages: Any, kl: Any, coefficients: Any) -> th.Tensor:
        return th.log(ratio) * advantages - 0.1 * th.relu(kl)

    def kl_penalty(self, kl: Any, coefficients: Any) -> Penalty:
        return Penalty(th.logsumexp(th.stack([kl, 2 * kl]), dim=0) * coefficients["beta"])

    def extra_metrics(self, minibatch: Any, new: Any, coefficients: Any) -> dict[str, th.Tensor]:
        return {"largest_entropy": th.max(new.entropy)}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_variant_s_own_terms_see_tensors(action: str) -> None:
    reference, fast = (
        updated(OwnTerms, how, 2, action=action, learning_rate=0.01, max_kl=None) for how in ("off", "eager")
    )
    assert fast.acceleration_report()["arithmetic"] == "numpy"
    assert relative_difference(reference, fast) < 1e-5
    np.testing.assert_allclose(fast.last_update.minibatches, reference.last_update.minibatches, rtol=2e-3, atol=1e-4)


class PlainNumbers(PPOClip):
    extra_metric_names = ("one", "two")

    def extra_metrics(self, minibatch: Any, new: Any, coefficients: Any) -> dict[str, Any]:
        return {"one": 1.0, "two": np.float64(2.0)}


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize("dtype", ["discrete", "image"])
def test_metrics_of_one_s_own_may_be_plain_numbers(acceleration: str, dtype: str) -> None:
    how = {"observation": "image"} if dtype == "image" else {}
    model = updated(PlainNumbers, acceleration, 1, **how)
    assert [model.last_update.column(name).mean() for name in ("one", "two")] == [1.0, 2.0]


class OwnAdvantages(PPOClip):
    def advantages_of(self, minibatch: Any, mask: Any, coefficients: Any) -> th.Tensor:
        return th.tanh(super().advantages_of(minibatch, mask, coefficients))


def test_advantages_of_one_s_own_keep_the_step_in_torch() -> None:
    reference, fast = (updated(OwnAdvantages, how, action="box") for how in ("off", "eager"))
    assert "advantages_of" in fast.acceleration_report()["arithmetic"]
    assert fast.acceleration_report()["backward"] == "written out"
    assert relative_difference(reference, fast) < 1e-6


GSDE: dict[str, Any] = {"use_sde": True, "sde_sample_freq": 4, "action": "box"}


@pytest.mark.parametrize(("cls", "kwargs"), [*ALGORITHMS, (PPOPenalty, {"kl_direction": "reverse", "max_kl": None})])
def test_state_dependent_noise_equals_the_reference(cls: type[Any], kwargs: dict[str, Any]) -> None:
    reference, fast = (updated(cls, how, 2, learning_rate=0.01, **GSDE, **kwargs) for how in ("off", "eager"))
    assert fast.acceleration_report()["arithmetic"] == "numpy"
    assert relative_difference(reference, fast) < 1e-5
    np.testing.assert_allclose(fast.last_update.minibatches, reference.last_update.minibatches, rtol=2e-3, atol=1e-4)


GSDE_OPTIONS: dict[str, dict[str, Any]] = {
    "squashed": {"squash_output": True},
    "one_std": {"full_std": False},
    "squashed_one_std": {"squash_output": True, "full_std": False},
}
gsde_options = pytest.mark.parametrize("options", GSDE_OPTIONS.values(), ids=GSDE_OPTIONS.keys())


@gsde_options
@pytest.mark.parametrize(("cls", "kwargs"), [*ALGORITHMS, (PPOPenalty, {"kl_direction": "reverse", "max_kl": None})])
def test_options_of_state_dependent_noise_equal_the_reference(
    cls: type[Any], kwargs: dict[str, Any], options: dict[str, Any]
) -> None:
    kwargs = {"ent_coef": 0.1, "learning_rate": 0.01, "policy_kwargs": options, **GSDE, **kwargs}
    reference, fast = (updated(cls, how, 2, **kwargs) for how in ("off", "eager"))
    assert fast.acceleration_report()["arithmetic"] == "numpy"
    assert relative_difference(reference, fast) < 1e-5
    np.testing.assert_allclose(fast.last_update.minibatches, reference.last_update.minibatches, rtol=2e-3, atol=1e-4)


@pytest.mark.slow
def test_state_dependent_noise_of_one_std_compiles() -> None:
    kwargs = {"ent_coef": 0.1, "policy_kwargs": GSDE_OPTIONS["one_std"], **GSDE}
    reference, fast = (updated(PPOPenalty, how, 2, **kwargs) for how in ("off", "compile"))
    assert fast.acceleration_report()["graph"] == "torch.compile"
    assert relative_difference(reference, fast) < 1e-5


@pytest.mark.parametrize("acceleration", ["eager", "compile"])
def test_ratios_of_squashed_actions_at_their_bounds_are_those_of_the_reference(acceleration: str) -> None:
    """The correction for tanh cancels there: compiled, an unmoved policy had ratios of 1.5."""
    policy_kwargs = {"squash_output": True, "log_std_init": 2.0}
    model = make_model(PPOClip, "box", acceleration=acceleration, policy_kwargs=policy_kwargs, use_sde=True)
    model.learning_rate, model.lr_schedule = 1e-9, lambda _: 1e-9
    model.learn(64)
    assert np.abs(model.rollout_buffer.actions).max() > 0.999999
    assert model.acceleration_report()["evaluation"] == "closed form"
    assert "is not compiled" in model.acceleration_report()["graph"] or acceleration == "eager"
    np.testing.assert_allclose(model.last_update.column("ratio_max"), 1, atol=1e-4)
    assert model.last_update.column("approx_kl").max() < 1e-6


class SharperNoise(StateDependentNoiseDistribution):
    pass


class Sharper(StateDependentGaussian):
    """Somebody's own form: another measure of the KL."""

    def kl(self, p: Any, q: Any) -> Any:
        return 1000 * super().kl(p, q)


class SharperPolicy(ActorCriticPolicy):
    def _build(self, lr_schedule: Any) -> None:
        kind: type[Any] = SharperNoise
        self.action_dist = kind(2, squash_output=self.squash_output)
        super()._build(lr_schedule)


@MAY_FALL_BACK  # its gradient is not that of such a KL
@pytest.mark.parametrize("squash", [False, True])
def test_a_form_of_one_s_own_stays_what_it_is_on_the_fast_path(squash: bool) -> None:
    distributions.register_distribution(SharperNoise, Sharper())
    kwargs = {
        "policy": SharperPolicy,
        "policy_kwargs": {"squash_output": squash},
        "use_sde": True,
        "max_kl": None,
        "learning_rate": 0.01,
    }
    models = [updated(PPOPenalty, how, action="box", **kwargs) for how in ("off", "eager")]
    expected = "policy.evaluate_actions()" if squash else "closed form"
    assert models[1].acceleration_report()["evaluation"].startswith(expected)
    kls = [model.last_update.column("kl_divergence") for model in models]
    np.testing.assert_allclose(*kls, rtol=2e-3, atol=1e-3)
    assert kls[0].max() > 0.05  # without the factor: a thousandth


@pytest.mark.parametrize("options", [{}, *GSDE_OPTIONS.values()], ids=["plain", *GSDE_OPTIONS.keys()])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_state_dependent_noise_is_drawn_as_in_stock_ppo(n_envs: int, options: dict[str, Any]) -> None:
    actions = []
    for cls in (PPO, PPOClip):
        env = make_vec_env("box", n_envs=n_envs)
        model = cls("MlpPolicy", env, n_steps=32, use_sde=True, policy_kwargs=options, seed=0, device="cpu")
        collect_rollout(model)
        actions.append([model.rollout_buffer.actions, model.rollout_buffer.log_probs, model.rollout_buffer.values])
    report = model.acceleration_report()
    assert report["sampling"] == "closed form"
    assert ("drawn in torch" if "squash_output" in options else "numpy forward pass") in report["rollout"]
    for ours, stock in zip(*actions):
        np.testing.assert_allclose(ours, stock, rtol=1e-4, atol=1e-5)


class ChoicesEnv(TinyEnv):
    """Observes what it did: one choice, several, or bits."""

    def __init__(self, space: spaces.Space[Any]):
        super().__init__("discrete")
        self.observation_space = space

    def _observation(self) -> Any:
        large = np.abs(1000 * np.resize(self.state, 3)).astype(np.int64)
        if isinstance(self.observation_space, spaces.Discrete):
            return int(large[0] % self.observation_space.n)
        if isinstance(self.observation_space, spaces.MultiDiscrete):
            return large[:2] % self.observation_space.nvec
        return (large % 2).astype(np.int8)


@pytest.mark.parametrize(
    "space", [spaces.Discrete(7), spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(3)], ids=["one", "several", "bits"]
)
def test_observed_choices_are_flattened_as_in_stock_ppo(space: spaces.Space[Any]) -> None:
    """Two rollouts and an update between them, with the draws of stock."""
    found = []
    for cls in (PPO, PPOClip):
        venv = DummyVecEnv([lambda: ChoicesEnv(space)] * 3)
        ours = {} if cls is PPO else {"value_clipping": "sb3"}
        model = cls("MlpPolicy", venv, n_steps=16, batch_size=16, n_epochs=2, seed=0, device="cpu", **ours)
        model.learn(96)
        found.append([flat(model), model.rollout_buffer.log_probs, model.rollout_buffer.observations])
    report = model.acceleration_report()
    assert (report["arithmetic"], report["rollout"]) == ("numpy", "numpy forward pass")
    for stock, own in zip(*found):
        np.testing.assert_allclose(own, stock, rtol=1e-4, atol=1e-5)


def maskable_update(cls: type[Any], acceleration: str, action: str, **kwargs: Any) -> Any:
    return updated(cls, acceleration, 2, action=action, learning_rate=0.01, **kwargs)


@pytest.mark.parametrize("action", ["discrete", "multi_discrete", "multi_binary"])
@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        (MaskablePPOClip, {"ent_coef": 0.05}),
        (MaskablePPOPenalty, {"max_kl": None, "ent_coef": 0.05}),
        (MaskablePPOPenalty, {"max_kl": None, "kl_direction": "reverse"}),
    ],
)
def test_masked_choices_equal_the_reference(cls: type[Any], kwargs: dict[str, Any], action: str) -> None:
    reference, fast = (maskable_update(cls, how, action, **kwargs) for how in ("off", "eager"))
    assert fast.acceleration_report()["arithmetic"] == "numpy"
    assert relative_difference(reference, fast) < 1e-5
    np.testing.assert_allclose(fast.last_update.minibatches, reference.last_update.minibatches, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("action", ["discrete", "multi_discrete", "multi_binary"])
def test_masked_choices_are_drawn_as_in_stock_ppo(action: str) -> None:
    found = []
    for cls in (MaskablePPO, MaskablePPOClip):
        model = make_model(cls, action)
        collect_rollout(model)
        buffer = model.rollout_buffer
        found.append([buffer.actions, buffer.action_masks, buffer.log_probs, buffer.values])
    assert model.acceleration_report()["rollout"] == "numpy forward pass"
    assert (found[0][1] == 0).any()
    for ours, stock in zip(*found):
        np.testing.assert_allclose(ours, stock, rtol=1e-4, atol=1e-5)


def test_states_without_a_valid_choice_equal_the_reference() -> None:
    """Every choice then has the same logit: no gradient, and stock's rounding of -1e8 in the log-probability."""
    models = []
    for how in ("off", "eager"):
        model = make_model(MaskablePPOClip, acceleration="off", ent_coef=0.1)
        collect_rollout(model)
        model.rollout_buffer.action_masks[5:9] = 0
        model.acceleration = how
        np.random.seed(0)
        model.train()
        models.append(model)
    assert models[1].acceleration_report()["arithmetic"] == "numpy"
    assert relative_difference(*models) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "action"), [(PPOClip, "box"), (MaskablePPOPenalty, "multi_discrete")])
def test_compile_equals_the_reference_for_the_hosts_own_distributions(cls: type[Any], action: str) -> None:
    kwargs: dict[str, Any] = {"use_sde": True} if action == "box" else {"max_kl": None}
    reference, fast = (updated(cls, how, 2, action=action, **kwargs) for how in ("off", "compile"))
    assert fast.acceleration_report()["graph"] == "torch.compile"
    assert relative_difference(reference, fast) < 1e-5


def test_setting_changed_during_a_run_changes_the_update() -> None:
    """The written gradient is that of the direction that is set."""
    models = []
    for how in ("off", "eager"):
        model = updated(PPOPenalty, how, action="box", learning_rate=0.01, max_kl=None)
        model.kl_direction = "reverse"
        np.random.seed(1)
        model.train()
        models.append(model)
    assert models[1].acceleration_report()["backward"] == "written out"
    assert relative_difference(*models) < 1e-6
    models[0].kl_direction = "forward"
    np.random.seed(1)
    models[0].train()
    assert relative_difference(*models) > 1e-4


class TiedFeatures(BaseFeaturesExtractor):
    """Two layers with one weight."""

    def __init__(self, observation_space: Any):
        super().__init__(observation_space, 4)
        self.first, self.second = th.nn.Linear(4, 4), th.nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.second(th.tanh(self.first(observations)))


def test_shared_parameters_are_not_compiled() -> None:
    kwargs: dict[str, Any] = {"policy_kwargs": {"features_extractor_class": TiedFeatures}, "action": "box"}
    model = updated(PPOClip, "compile", **kwargs)
    assert "share parameters" in model.acceleration_report()["graph"]
    assert relative_difference(model, updated(PPOClip, "off", **kwargs)) < 1e-5


class NormalizedFeatures(BaseFeaturesExtractor):
    """Its running statistics are changed in place, which torch.func cannot differentiate through."""

    def __init__(self, observation_space: Any):
        super().__init__(observation_space, 4)
        self.norm = th.nn.BatchNorm1d(4)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.norm(observations)


def test_failed_compilation_falls_back_to_eager() -> None:
    kwargs: dict[str, Any] = {"policy_kwargs": {"features_extractor_class": NormalizedFeatures}, "action": "box"}
    model = updated(PPOClip, "compile", **kwargs)
    assert "compiling failed" in model.acceleration_report()["graph"]
    assert relative_difference(model, updated(PPOClip, "off", **kwargs)) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("acceleration", ["eager", "compile"])
@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip])
def test_fast_path_equals_the_reference_on_a_gpu(cls: type[Any], acceleration: str) -> None:
    reference = updated(cls, "off", action="box", device="cuda", **({} if cls is PPOClip else {"max_kl": None}))
    fast = updated(cls, acceleration, action="box", device="cuda", **({} if cls is PPOClip else {"max_kl": None}))
    assert relative_difference(reference, fast) < 1e-4


@pytest.mark.slow
def test_compiling_leaves_torch_s_argument_checks_as_they_were() -> None:
    assert th.distributions.Distribution._validate_args
    model = PPOClip("MlpPolicy", make_vec_env(), n_steps=32, batch_size=16, acceleration="compile", device="cpu")
    model.learn(64)
    assert model.acceleration_report()["graph"] == "torch.compile"
    assert th.distributions.Distribution._validate_args


@pytest.mark.parametrize("tanh_is_fast", [False, True])  # whatever this processor has
@pytest.mark.parametrize("activation", [th.nn.Tanh, th.nn.ReLU])
@pytest.mark.parametrize("width", [8, 300])
def test_activations_in_numpy_are_torch_s(
    activation: Any, width: int, tanh_is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below and above the size from which a call of torch computes them."""
    monkeypatch.setattr(activations, "_TANH_IS_FAST", tanh_is_fast)
    kwargs: dict[str, Any] = {"policy_kwargs": {"net_arch": [width], "activation_fn": activation}, "action": "box"}
    reference, fast = (updated(PPOClip, how, 2, **kwargs) for how in ("off", "eager"))
    assert fast.acceleration_report()["arithmetic"] == "numpy"
    assert relative_difference(reference, fast) < 1e-6


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", ["vector", "image", "dict"])
@pytest.mark.parametrize("prefix", ["", "Maskable"])
def test_closed_form_sampling_takes_stock_s_draws(prefix: str, observation: str, action: str) -> None:
    """With networks that numpy does not run: wide ones, images, dictionaries."""
    if prefix and action == "box":
        pytest.skip("contrib masks choices")
    cls = VARIANTS[f"{prefix}PPOClip"]
    rollouts = []
    for acceleration in ("off", "eager"):
        kwargs = {"net_arch": [512, 512]}
        model = build(cls, action, observation, acceleration=acceleration, policy_kwargs=kwargs)
        collect_rollout(model)
        rollouts.append(model.rollout_buffer)
        report = model.acceleration_report()
    assert report["sampling"] == "closed form"
    assert report["rollout"].startswith("the policy's networks (")
    stock, ours = rollouts
    for name in ("actions", "values", "log_probs", "rewards"):
        np.testing.assert_allclose(getattr(ours, name), getattr(stock, name), rtol=1e-4, atol=1e-5)


def test_state_dependent_noise_is_drawn_in_closed_form() -> None:
    rollouts = []
    for acceleration in ("off", "eager"):
        kwargs = {"net_arch": [512, 512]}
        model = build(PPOClip, "box", acceleration=acceleration, policy_kwargs=kwargs, use_sde=True, sde_sample_freq=4)
        collect_rollout(model)
        rollouts.append(model.rollout_buffer)
    assert model.acceleration_report()["sampling"] == "closed form"
    np.testing.assert_allclose(rollouts[1].actions, rollouts[0].actions, rtol=1e-4, atol=1e-5)


def test_masks_may_be_given_by_place_and_in_any_type() -> None:
    model = build(MaskablePPOClip, policy_kwargs={"net_arch": [600, 600]})
    observation, _ = model.policy.obs_to_tensor(model.env.reset())
    forward = LeanForward(model.policy)
    for deterministic in (False, True):
        with th.no_grad():
            actions, _, _ = forward(observation, deterministic, np.array([[0, 0, 1]] * 2, dtype=np.uint16))
        assert actions.tolist() == [2, 2]


class Differentiates(BaseCallback):
    def _on_step(self) -> bool:
        with th.enable_grad():
            observations = th.ones(2, 4, requires_grad=True)
            self.model.policy(observations)[1].sum().backward()
        self.found = observations.grad
        return True


def test_callback_may_differentiate_the_policy() -> None:
    callback = Differentiates()
    make_model(PPOClip, "box").learn(64, callback=callback)
    assert callback.found is not None and callback.found.abs().sum() > 0


class ForTensorsOnly(DiagonalGaussian):
    """A closed form that somebody has registered."""

    takes_arrays = False

    def entropy(self, parameters: Any) -> Any:
        return super().entropy(tuple(p.clone() for p in parameters))


def test_closed_form_for_tensors_only_is_given_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributions, "_known", dict(distributions._known))
    distributions.register_distribution(DiagGaussianDistribution, ForTensorsOnly())
    model = make_model(PPOClip, "box").learn(64)
    assert "takes tensors only" in model.acceleration_report()["arithmetic"]
    assert model.acceleration_report()["backward"] == "written out"
