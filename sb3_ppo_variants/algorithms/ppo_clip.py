"""PPO with the clipped surrogate and the options that stock PPO lacks."""

from typing import Any

from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO

from sb3_ppo_variants.algorithms.policy_update import PolicyUpdateMixin
from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.rules import StopRule, UpdateRules


class ClipMixin(PolicyUpdateMixin):
    """Clipped surrogate with an asymmetric range and a bound for negative advantages.

    ``target_kl`` is stock PPO's: the update stops before a step whose minibatch has ``approx_kl > 1.5 * target_kl``.

    :param clip_range: half-width epsilon of the range [1 - epsilon, 1 + epsilon]: float > 0 or schedule; None for no
        clip
    :param target_kl: stop before a step whose minibatch has ``approx_kl > 1.5 * target_kl``, as stock PPO: number > 0
        or schedule; None for no stop
    :param clip_range_upper: upper half-width of the range [1 - clip_range, 1 + clip_range_upper], float > 0 or
        schedule; larger lets rare good actions grow faster (DAPO, arXiv:2503.14476); None for ``clip_range``
    :param dual_clip: bound c > 1 on the loss of samples with negative advantage (arXiv:1912.09729); None for no bound
    """

    def __init__(
        self, *args: Any, clip_range_upper: float | None = None, dual_clip: float | None = None, **kwargs: Any
    ) -> None:
        self.clip_range_upper = clip_range_upper
        self.dual_clip = dual_clip
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        checks.check_positive(self, "clip_range_upper", "pass None for a symmetric range", optional=True)
        checks.check_positive(self, "target_kl", "pass None to run all epochs", optional=True)
        if self.dual_clip is not None:
            checks.check_above_one("dual_clip", self.dual_clip, "pass None for no bound")

    def update_coefficients(self) -> dict[str, Number]:
        coefficients = super().update_coefficients()
        if self.clip_range_upper is not None:
            coefficients["clip_range_upper"] = self.scheduled("clip_range_upper", self.clip_range_upper)
        if self.dual_clip is not None:
            coefficients["dual_clip"] = float(self.dual_clip)
        return coefficients

    def update_rules(self) -> UpdateRules:
        if self.target_kl is None:
            return super().update_rules()
        stop = StopRule("approx_kl", 1.5 * self.scheduled("target_kl", self.target_kl))
        return super().update_rules()._replace(stop_before_step=stop)


class PPOClip(ClipMixin, PPO):
    """Stock PPO plus value-loss, clipping and scheduling options.

    With ``acceleration="off"`` and ``value_clipping="sb3"`` it is stock PPO to the last bit.
    """


class RecurrentPPOClip(ClipMixin, RecurrentPPO):
    """:class:`PPOClip` for LSTM policies, on sb3-contrib's RecurrentPPO."""


class MaskablePPOClip(ClipMixin, MaskablePPO):
    """:class:`PPOClip` for environments with invalid actions, on sb3-contrib's MaskablePPO."""


__all__ = ["ClipMixin", "MaskablePPOClip", "PPOClip", "RecurrentPPOClip"]
