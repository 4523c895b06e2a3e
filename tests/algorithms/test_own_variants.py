"""Variants that people write: every acceleration gives the training of ``"off"``, or says why not."""

from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import MAY_FALL_BACK, build, flat
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import DiagGaussianDistribution

from sb3_ppo_variants import PPOAdaptiveLR, PPOPenalty
from sb3_ppo_variants.algorithms.ppo_adaptive_lr import AdaptiveLearningRateMixin
from sb3_ppo_variants.extend import (
    ActionDistribution,
    AdaptiveClipMixin,
    ClipMixin,
    KLPenaltyMixin,
    Number,
    Penalty,
    PolicyUpdateMixin,
    StopRule,
    kl_divergence,
    register_distribution,
)


class OwnRange(PolicyUpdateMixin):
    """A clip range that is a number of numpy's from the second update on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.epsilon = 0.2
        super().__init__(*args, **kwargs)

    def update_coefficients(self) -> dict[str, Number]:
        return {**super().update_coefficients(), "clip_range": self.epsilon, "clip_range_upper": self.epsilon}

    def after_update(self, kl: float, progress: float) -> None:
        self.epsilon = np.clip(self.epsilon * 0.9, 0.05, 0.3)


class OwnTemperature(PolicyUpdateMixin):
    """An entropy coefficient that is a tensor from the second update on, as SAC's is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.alpha: Number = 0.01
        super().__init__(*args, **kwargs)

    def update_coefficients(self) -> dict[str, Number]:
        return {**super().update_coefficients(), "ent_coef": self.alpha}

    def after_update(self, kl: float, progress: float) -> None:
        self.alpha = th.tensor(0.02).log().exp()


class DeadZone(PolicyUpdateMixin):
    """A penalty that begins at a KL which the first minibatch does not have."""

    kl_in_loss = True

    def kl_penalty(self, kl: th.Tensor, coefficients: dict[str, Number]) -> Penalty:
        return Penalty(th.zeros(())) if kl <= 1e-6 else Penalty(5 * (kl - 1e-6))


class StopsAtKL(PolicyUpdateMixin):
    """Ends an update by the exact KL of the minibatch."""

    metric = "kl_divergence"

    def update_rules(self) -> Any:
        return super().update_rules()._replace(stop_before_step=StopRule(self.metric, 1e-4))


class FallingLimit(PolicyUpdateMixin):
    """A limit that is below 0 once the training has gone beyond ``total_timesteps``."""

    def kl_limit(self) -> float | None:
        return 0.01 * self._current_progress_remaining


def trained(mixin: type[Any], host: type[Any], acceleration: str, action: str = "discrete", **arguments: Any) -> Any:
    model = build(type("Own", (mixin, host), {}), action, acceleration=acceleration, seed=1, **arguments)
    return model.learn(120)


@pytest.mark.parametrize("action", ["discrete", "box", "multi_discrete"])
@pytest.mark.parametrize("mixin", [OwnRange, OwnTemperature])
def test_coefficients_may_become_numbers_of_numpy_s_or_tensors(mixin: type[Any], action: str) -> None:
    off, eager = (trained(mixin, PPO, acceleration, action) for acceleration in ("off", "eager"))
    assert eager.acceleration_report()["arithmetic"] == "numpy"
    assert th.allclose(flat(off), flat(eager), atol=1e-5)


@pytest.mark.parametrize("host", [PPO, MaskablePPO])
def test_a_penalty_may_be_constant_for_some_kl(host: type[Any]) -> None:
    off, eager = (trained(DeadZone, host, acceleration) for acceleration in ("off", "eager"))
    assert eager.acceleration_report()["backward"] == "written out"
    assert th.allclose(flat(off), flat(eager), atol=1e-5)


@pytest.mark.parametrize("acceleration", ["off", "eager", "compile"])
def test_a_stop_rule_sees_the_exact_kl(acceleration: str) -> None:
    update = trained(StopsAtKL, PPO, acceleration, learning_rate=0.01, n_epochs=4).last_update
    assert update.stopped
    kl = update.column("kl_divergence")
    assert kl[-1] > 1e-4 >= kl[:-1].max(initial=0)


@pytest.mark.parametrize("metric", ["grad_norm", "skipped", "approxkl"])
def test_a_stop_rule_s_metric_must_be_known_before_the_step(metric: str) -> None:
    mixin = type("Mistaken", (StopsAtKL,), {"metric": metric})
    with pytest.raises(ValueError, match=f"got '{metric}': policy_loss, .*kl_divergence"):
        trained(mixin, PPO, "eager")


def test_a_limit_may_fall_below_zero_beyond_the_end() -> None:
    model = trained(FallingLimit, PPO, "eager")
    assert model._current_progress_remaining < 0
    assert model.last_update.kl_divergence == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("batch_size", [5, 7, 16])
def test_compiled_updates_look_at_the_kl_where_others_do(batch_size: int) -> None:
    arguments = {"n_steps": 100, "batch_size": batch_size, "n_epochs": 2, "learning_rate": 3e-3, "seed": 1}
    eager, compiled = (
        build(PPOAdaptiveLR, acceleration=acceleration, **arguments).learn(400) for acceleration in ("eager", "compile")
    )
    assert compiled.acceleration_report()["graph"] == "torch.compile"
    assert compiled.lr_scale == pytest.approx(eager.lr_scale)
    assert eager.lr_scale != 1


def test_an_asymmetric_clip_range_adapts_as_a_whole() -> None:
    both = type("Both", (AdaptiveClipMixin, ClipMixin, PPO), {})
    model = build(both, clip_range=0.2, clip_range_upper=0.28, target_kl=0.02)
    model.clip_scale = 2.0
    coefficients = model.update_coefficients()
    assert coefficients["clip_range"] == pytest.approx(0.4)
    assert coefficients["clip_range_upper"] == pytest.approx(0.56)


@pytest.mark.parametrize("second", [AdaptiveClipMixin, KLPenaltyMixin])
def test_two_mixins_that_adapt_to_the_kl_are_refused(second: type[Any]) -> None:
    with pytest.raises(TypeError, match="keep the others from adapting"):
        type("Twice", (AdaptiveLearningRateMixin, second, PPO), {})


def test_a_fixed_penalty_logs_no_target() -> None:
    fixed = {"adaptive_beta": False}
    for arguments, logged in (({}, True), (fixed, False), ({**fixed, "hinge_coef": 10.0}, True)):
        model = build(PPOPenalty, **arguments).learn(50)
        assert ("train/target_kl" in model.logger.name_to_value) == logged


def test_defaults_of_a_mixin_s_own_arguments_are_refused_among_the_host_s() -> None:
    cls = type("Wide", (AdaptiveClipMixin, PPO), {"host_defaults": {"kl_tolerance": 2.0}})
    with pytest.raises(TypeError, match=r"arguments of PPO, got `kl_tolerance`; for one of a mixin repeat it"):
        build(cls)


@MAY_FALL_BACK
@pytest.mark.parametrize("shape", [(1,), (16,)])
def test_a_metric_that_is_no_single_number_is_named(shape: tuple[int, ...]) -> None:
    def extra_metrics(self: Any, minibatch: Any, new: Any, coefficients: Any) -> dict[str, th.Tensor]:
        return {"mine": th.zeros(shape)}

    mixin = type("Mine", (PolicyUpdateMixin,), {"extra_metrics": extra_metrics, "extra_metric_names": ("mine",)})
    with pytest.raises(ValueError, match=r"0-dim tensors, got shape \(\d+,\) for 'mine'"):
        trained(mixin, PPO, "eager")


def test_one_distribution_is_not_compared_with_itself() -> None:
    distribution = DiagGaussianDistribution(2).proba_distribution(th.zeros(3, 2), th.zeros(2))
    with pytest.raises(ValueError, match="are one object"):
        kl_divergence(distribution, distribution)


def test_a_form_of_a_distribution_is_an_object() -> None:
    with pytest.raises(TypeError, match="must be an ActionDistribution, such as MyForm"):
        register_distribution(DiagGaussianDistribution, ActionDistribution)  # type: ignore[arg-type]
