"""Programs that run on stock PPO: what they freeze, edit, patch, mask or catch has the same effect here."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import TinyEnv, make_vec_env
from hosts import build, flat
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from sb3_ppo_variants import PPOAdaptiveClip, PPOClip, PPOPenalty, RecurrentPPOPenalty
from sb3_ppo_variants.algorithms.ppo_penalty import KLPenaltyMixin
from sb3_ppo_variants.fast_path import whole_sequences
from sb3_ppo_variants.fast_path.cell_steps import CellSteps
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyTrunk
from sb3_ppo_variants.update.distributions.gaussian import DiagonalGaussian

STOCK: dict[str, Any] = {"value_clipping": "sb3"}
SETTINGS: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


def make(cls: type[Any], action: str = "discrete", policy: Any = "MlpPolicy", **kwargs: Any) -> Any:
    ours = {} if cls is PPO else STOCK
    return cls(policy, make_vec_env(action), **{**SETTINGS, **ours, **kwargs})


def assert_as_stock(edit: Callable[[Any], None], action: str = "discrete", **kwargs: Any) -> Any:
    """Train, edit, train again: the default acceleration ends where stock PPO does, but for rounding."""
    models = []
    for cls in (PPO, PPOClip):
        model = make(cls, action, **kwargs)
        model.learn(64)
        edit(model)
        model.learn(64, reset_num_timesteps=False)
        models.append(model)
    stock, ours = map(flat, models)
    assert (stock - ours).norm() < 1e-4 * stock.norm()
    return models[1]


# ------------------------------------------------------------------------------------- edits between two trainings


def test_frozen_weights_stay_as_they_are() -> None:
    kept: dict[int, th.Tensor] = {}

    def freeze(model: Any) -> None:
        model.policy.action_net.weight.requires_grad_(False)
        kept[id(model)] = model.policy.action_net.weight.detach().clone()

    model = assert_as_stock(freeze)
    assert th.equal(model.policy.action_net.weight, kept[id(model)])
    assert "frozen" in model.acceleration_report()["optimizer"]


@pytest.mark.parametrize(
    ("option", "value"), [("weight_decay", 0.1), ("betas", (0.5, 0.9)), ("eps", 1e-2), ("maximize", True)]
)
def test_edited_optimiser_options_count(option: str, value: Any) -> None:
    def edit(model: Any) -> None:
        model.policy.optimizer.param_groups[0][option] = value

    assert_as_stock(edit, "box")


def test_a_parameter_group_added_later_counts() -> None:
    def edit(model: Any) -> None:
        group = model.policy.optimizer.param_groups[0]
        bias = group["params"].pop()
        model.policy.optimizer.add_param_group({"params": [bias], "weight_decay": 0.5})

    assert_as_stock(edit)


def test_a_replaced_layer_is_trained() -> None:
    def edit(model: Any) -> None:
        th.manual_seed(3)
        model.policy.value_net = nn.Linear(64, 1)
        model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=3e-4, eps=1e-5)

    assert_as_stock(edit)


class SchedulesGamma(BaseCallback):
    def _on_rollout_start(self) -> None:
        self.model.gamma *= 0.999
        self.model.gae_lambda *= 0.999

    def _on_step(self) -> bool:
        return True


def test_a_scheduled_gamma_keeps_the_fast_path() -> None:
    model = make(PPOClip)
    model.learn(64, callback=SchedulesGamma())
    before = model._acceleration
    model.learn(64 * 3, callback=SchedulesGamma())
    assert model._acceleration is before


# ------------------------------------------------------------------------------------------------- hooks and patches


def test_parameter_hooks_are_called_and_obeyed() -> None:
    def edit(model: Any) -> None:
        model.policy.value_net.weight.register_hook(lambda gradient: gradient * 0)

    model = assert_as_stock(edit)
    assert "hook" in model.acceleration_report()["backward"]


def test_module_hooks_are_called_as_often_as_in_stock() -> None:
    counts = []
    for cls in (PPO, PPOClip):
        model = make(cls)
        calls: list[int] = []
        model.policy.mlp_extractor.policy_net[0].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        model.learn(64)
        counts.append(len(calls))
    # Ours evaluates the rollout twice more, for the exact KL before and after the update.
    assert counts[0] <= counts[1] <= counts[0] + 2 * math.ceil(64 / 16) + 4


def test_optimiser_hooks_are_called() -> None:
    model = make(PPOClip)
    steps: list[int] = []
    model.policy.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    model.learn(64)
    assert len(steps) == 2 * 4


@pytest.mark.parametrize("method", ["forward", "evaluate_actions"])
def test_methods_patched_on_the_instance_are_called(method: str) -> None:
    model = make(PPOClip)
    original, calls = getattr(model.policy, method), []

    def patched(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    setattr(model.policy, method, patched)
    model.learn(64)
    assert len(calls) >= (32 if method == "forward" else 8)
    assert getattr(model.policy, method) is patched


def test_hooks_on_all_optimisers_are_called() -> None:
    steps: list[int] = []
    model = make(PPOClip).learn(64)
    handle = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    try:
        model.learn(64)
    finally:
        handle.remove()
    assert len(steps) == 2 * 4


@pytest.mark.parametrize("method", ["forward_actor", "forward_critic"])
def test_networks_patched_between_two_trainings_count(method: str) -> None:
    def edit(model: Any) -> None:
        ordinary = getattr(model.policy.mlp_extractor, method)
        setattr(model.policy.mlp_extractor, method, lambda features: 0.5 * ordinary(features))

    assert_as_stock(edit)


class ReplacesParameters(BaseCallback):
    """Gives log_std other memory in the middle of a rollout, as programs do that lower it by hand."""

    def _on_step(self) -> bool:
        if self.n_calls == 7:
            self.model.policy.log_std.data = th.full_like(self.model.policy.log_std, -1.0)
        return True


def test_parameter_replaced_during_a_rollout_is_sampled_from() -> None:
    models = [make(cls, "box").learn(64, callback=ReplacesParameters()) for cls in (PPO, PPOClip)]
    np.testing.assert_allclose(*(model.rollout_buffer.actions for model in models), rtol=1e-4, atol=1e-5)
    stock, ours = map(flat, models)
    assert (stock - ours).norm() < 1e-4 * stock.norm()


def test_moments_loaded_of_a_run_with_frozen_weights_count() -> None:
    frozen = make(PPO)
    frozen.policy.action_net.weight.requires_grad_(False)
    frozen.learn(64)
    content = frozen.get_parameters()
    model = assert_as_stock(lambda model: model.set_parameters(copy.deepcopy(content)))
    assert "more steps than others" in model.acceleration_report()["optimizer"]


def test_parameters_have_their_gradient_after_an_update() -> None:
    model = make(PPOClip, "box", max_grad_norm=1e-3)
    assert model.acceleration_report()["backward"] == "written out"
    model.learn(64)
    gradient = th.cat([p.grad.flatten() for p in model.policy.parameters()])
    assert float(gradient.norm()) == pytest.approx(1e-3, rel=1e-3)  # clipped, as after stock PPO's last step


def test_a_trained_model_can_be_pickled() -> None:
    model = make(PPOPenalty)
    model.learn(64)
    model.env = None
    again = pickle.loads(pickle.dumps(model))
    assert th.equal(flat(again), flat(model))


# ------------------------------------------------------------------------------------------------------ policies


class HandMaskedNet(nn.Linear):
    """Forbids the last action, as users without sb3-contrib do."""

    def forward(self, features: th.Tensor) -> th.Tensor:
        forbidden = th.arange(self.out_features) == self.out_features - 1
        return super().forward(features).masked_fill(forbidden, -math.inf)


class HandMaskedPolicy(ActorCriticPolicy):
    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = HandMaskedNet(self.action_net.in_features, self.action_net.out_features)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip])
def test_logits_of_minus_infinity_train(cls: type[Any], acceleration: str) -> None:
    model = make(cls, policy=HandMaskedPolicy, acceleration=acceleration)
    model.learn(64 * 2)
    assert th.isfinite(flat(model)).all()
    assert 0 <= model.last_update.kl_divergence < 1
    assert np.isfinite(model.last_update.minibatches).all()


def without_bias(policy: Any) -> None:
    policy.value_net = nn.Linear(64, 1, bias=False)


def spectral(policy: Any) -> None:
    policy.mlp_extractor.policy_net[0] = nn.utils.spectral_norm(policy.mlp_extractor.policy_net[0])


def weight_normed(policy: Any) -> None:
    policy.action_net = nn.utils.weight_norm(policy.action_net)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("change", [without_bias, spectral, weight_normed])
def test_unusual_layers_train_as_on_stock(change: Callable[[Any], None]) -> None:
    class Changed(ActorCriticPolicy):
        def _build(self, lr_schedule: Any) -> None:
            super()._build(lr_schedule)
            change(self)
            self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    assert_as_stock(lambda _: None, policy=Changed)


def test_a_check_on_first_data_finds_what_no_class_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extractor whose class was changed from outside: no subclass, no hook, no attribute of the instance."""
    from stable_baselines3.common.torch_layers import FlattenExtractor

    ordinary = FlattenExtractor.forward
    monkeypatch.setattr(FlattenExtractor, "forward", lambda self, x: 2 * ordinary(self, x))
    with pytest.warns(UserWarning, match="falls back to the ordinary code"):
        model = assert_as_stock(lambda _: None)
    report = model.acceleration_report()
    assert "differed from policy.forward()" in report["rollout"]
    assert "differed from autograd" in report["backward"]


def steps_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    step = FlatAdam._adam_step
    monkeypatch.setattr(FlatAdam, "_adam_step", lambda self, **kwargs: (step(self, **kwargs), step(self, **kwargs)))


def wrong_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    entropy = DiagonalGaussian.entropy
    monkeypatch.setattr(DiagonalGaussian, "entropy", lambda self, parameters: entropy(self, parameters) + 1)


def wrong_values(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = NumpyTrunk.forward

    def wrong(self: NumpyTrunk, observations: Any) -> Any:
        output, values = forward(self, observations)
        return output, 1.01 * values + 0.01

    monkeypatch.setattr(NumpyTrunk, "forward", wrong)


def wrong_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    run = whole_sequences.run_sequences

    def wrong(*args: Any) -> Any:
        outputs, states = run(*args)
        return 1.01 * outputs, states

    monkeypatch.setattr(whole_sequences, "run_sequences", wrong)


def wrong_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    step = CellSteps.__call__

    def wrong(*args: Any) -> Any:
        outputs, states = step(*args)
        return outputs, (states[0], 1.01 * states[1])

    monkeypatch.setattr(CellSteps, "__call__", wrong)


@pytest.mark.parametrize(
    ("piece", "cls", "spoil"),
    [
        ("optimizer", PPOClip, steps_twice),
        ("evaluation", PPOClip, wrong_entropy),
        ("arithmetic", PPOClip, wrong_values),
        ("sequences", RecurrentPPOPenalty, wrong_sequences),
        ("steps", RecurrentPPOPenalty, wrong_cells),
    ],
)
def test_every_check_on_first_data_notices_a_difference(
    piece: str, cls: type[Any], spoil: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    model = build(cls, "box")
    with pytest.warns(UserWarning, match=f"{piece} of the fast path falls back"):
        model.learn(50)
    assert "differed" in model.acceleration_report()[piece]


# ----------------------------------------------------------------------------------------------- random numbers


@pytest.mark.parametrize("action", ["discrete", "box", "multi_discrete", "multi_binary"])
def test_a_run_takes_the_same_draws_as_stock(action: str) -> None:
    stock, ours = (make(cls, action).learn(64) for cls in (PPO, PPOClip))
    assert ours.acceleration_report()["rollout"] == "numpy forward pass"
    np.testing.assert_allclose(stock.rollout_buffer.actions, ours.rollout_buffer.actions, rtol=1e-4, atol=1e-5)
    assert (flat(stock) - flat(ours)).norm() < 1e-5 * flat(stock).norm()


class SeedsNumpy(TinyEnv):
    def reset(self, **kwargs: Any) -> Any:
        np.random.seed(0)
        return super().reset(**kwargs)


def test_an_environment_that_seeds_numpy_does_not_repeat_the_noise() -> None:
    model = PPOClip("MlpPolicy", DummyVecEnv([lambda: SeedsNumpy("box")]), **SETTINGS)
    model.learn(32)
    starts = np.flatnonzero(model.rollout_buffer.episode_starts.reshape(-1))
    actions = model.rollout_buffer.actions.reshape(32, -1)
    assert len(starts) > 2
    assert len({tuple(row) for row in actions[starts]}) == len(starts)


# ------------------------------------------------------------------------------------------------ arguments, errors


class MyPPO(PPO):
    def __init__(self, *args: Any, mine: int = 1, **kwargs: Any) -> None:
        self.mine = mine
        super().__init__(*args, **kwargs)


class Mine(KLPenaltyMixin, MyPPO):
    """A mixin over a user's own subclass."""


def test_a_mixin_goes_over_a_user_s_own_subclass() -> None:
    model = Mine("MlpPolicy", make_vec_env(), 1e-3, mine=2, target_kl=0.02, **SETTINGS)
    model.learn(64)
    assert (model.mine, model.target_kl, model.learning_rate) == (2, 0.02, 1e-3)
    with pytest.raises(TypeError, match="did you mean `mine`"):
        Mine("MlpPolicy", make_vec_env(), mne=2)


@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_numpy_integers_are_batch_sizes(acceleration: str) -> None:
    make(PPOClip, batch_size=np.int64(16), acceleration=acceleration).learn(64)


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"n_steps": 1, "env": 1}, AssertionError),
        ({"clip_range_vf": -0.2}, AssertionError),
        ({"policy": "CnnPolicy"}, AssertionError),
        ({"policy_kwargs": {"squash_output": True}}, AssertionError),
    ],
)
def test_errors_are_of_the_host_s_class_too(kwargs: dict[str, Any], error: type[Exception]) -> None:
    kwargs = dict(kwargs)
    env = DummyVecEnv([lambda: TinyEnv("box")] * kwargs.pop("env", 2))
    for cls in (PPO, PPOClip):
        arguments: dict[str, Any] = {"policy": "MlpPolicy", "env": env, **SETTINGS, **kwargs}
        with pytest.raises(error):
            cls(**arguments)
