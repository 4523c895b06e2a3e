"""The KL-adaptive learning rate against its rule, written out by hand."""

from typing import Any

import pytest
from environments import make_vec_env
from hosts import build
from stable_baselines3.common.logger import configure

from sb3_ppo_variants import PPOAdaptiveLR, PPOPenalty

BOUNDS = (1e-5, 1e-2)


def expected_scales(trace: Any, learning_rate: float, target: float, scale: float) -> float:
    """Apply rsl_rl's rule to the KL of every minibatch but the first, before whose step nothing has moved."""
    for kl in trace.column("kl_divergence")[1:]:
        rate = min(max(learning_rate * scale, BOUNDS[0]), BOUNDS[1])
        if kl > 2 * target:
            rate = max(BOUNDS[0], rate / 1.5)
        elif kl < target / 2:
            rate = min(BOUNDS[1], rate * 1.5)
        scale = rate / learning_rate
    return scale


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize("target", [1e-5, 2e-3, 1.0])
def test_the_learning_rate_moves_after_every_minibatch(target: float, acceleration: str) -> None:
    model = build(PPOAdaptiveLR, acceleration=acceleration, target_kl=target, learning_rate=1e-3)
    scale = 1.0
    for _ in range(3):
        model.learn(50, reset_num_timesteps=False, log_interval=1000)
        trace = model.last_update
        assert len(trace.epoch) == 12  # 3 epochs of 4 minibatches: each is a check
        scale = expected_scales(trace, 1e-3, target, scale)
        assert model.lr_scale == pytest.approx(scale, rel=1e-6)
        rate = min(max(1e-3 * scale, BOUNDS[0]), BOUNDS[1])
        assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-6)
        assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(rate, rel=1e-6)


def test_after_an_epoch_the_next_one_has_the_new_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(PPOAdaptiveLR, target_kl=1e-9, learning_rate=1e-3, adapt_after="epoch", adaptation_factor=2.0)
    rates: list[float] = []
    coefficients = model.update_coefficients
    monkeypatch.setattr(
        model,
        "update_coefficients",
        lambda: rates.append(model.policy.optimizer.param_groups[0]["lr"]) or coefficients(),
    )
    model.learn(50)
    assert rates[-3:] == pytest.approx([1e-3, 5e-4, 2.5e-4])


def test_the_rate_after_the_update_is_logged_and_in_use() -> None:
    model = build(PPOAdaptiveLR, target_kl=1e-9, learning_rate=1e-3, adapt_after="update", adaptation_factor=2.0)
    model.learn(50)
    assert model.lr_scale == 0.5
    assert model.logger.name_to_value["train/learning_rate"] == model.policy.optimizer.param_groups[0]["lr"] == 5e-4


def test_a_schedule_multiplies_the_scale() -> None:
    model = build(PPOAdaptiveLR, learning_rate=lambda remaining: 1e-3 * remaining, target_kl=1e-9)
    model.lr_scale = 0.5
    model.set_logger(configure())
    model._current_progress_remaining = 0.5
    model._update_learning_rate(model.policy.optimizer)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(2.5e-4)


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize(("target", "scale"), [(1e-9, 1 / 1.5), (1.0, 1.5)])
def test_updates_of_one_step_adapt_after_it(target: float, scale: float, acceleration: str) -> None:
    model = build(PPOAdaptiveLR, target_kl=target, n_epochs=1, batch_size=50, acceleration=acceleration)
    for n_updates in (1, 2):
        model.learn(50, reset_num_timesteps=False)
        assert model.lr_scale == pytest.approx(scale**n_updates)
    assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(3e-3 * scale**2)


def test_steps_per_minibatch_are_refused_where_the_coefficient_is_set_once_per_epoch() -> None:
    with pytest.raises(ValueError, match="`adapt_after` must be one of \\('epoch', 'update'\\), got 'minibatch'"):
        PPOPenalty("MlpPolicy", make_vec_env(), adapt_after="minibatch")


def test_a_learning_rate_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="`learning_rate` must lie within learning_rate_bounds"):
        PPOAdaptiveLR("MlpPolicy", make_vec_env(), learning_rate=0.5)
    with pytest.raises(ValueError, match="`learning_rate` must be > 0, got 0.0"):
        build(PPOAdaptiveLR, learning_rate=0.0).learn(50)  # rl-zoo3's enjoy makes models of it, and does not train them


@pytest.mark.parametrize("cls", [PPOAdaptiveLR, PPOPenalty])
def test_the_first_of_two_minibatches_moves_nothing_as_the_policy_has_not_moved(cls: type[Any]) -> None:
    arguments: dict[str, Any] = {"adapt_after": "epoch", "n_epochs": 2, "batch_size": 50, "target_kl": 1e-9}
    model = build(cls, max_kl=None, **arguments).learn(50)  # one minibatch an epoch, and a KL far above the target
    factor = model.adaptation_factor
    assert (model.beta if cls is PPOPenalty else 1 / model.lr_scale) == pytest.approx(factor)
