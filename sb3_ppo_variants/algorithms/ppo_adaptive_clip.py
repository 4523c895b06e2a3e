"""PPO with adaptive epsilon: the clip range follows the measured KL."""

from typing import Any, ClassVar

from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO

from sb3_ppo_variants.algorithms.adaptation import AdaptiveUpdateMixin
from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.update.controllers import Adjustment, BandController, within
from sb3_ppo_variants.update.losses import Number


class AdaptiveClipMixin(AdaptiveUpdateMixin):
    """Clipped surrogate whose range is ``clip_range(progress) * clip_scale``, with ``clip_scale`` moved by the KL.

    A KL d above ``kl_tolerance * target_kl`` divides ``clip_scale`` by ``adaptation_factor``, one below
    ``target_kl / kl_tolerance`` multiplies it. The live value is ``model.clip_scale``, starting at 1. The rule is the
    PPO paper's for beta (arXiv:1707.06347, section 4), applied to epsilon.

    :param clip_range: starting epsilon, within ``clip_range_bounds``, or schedule; the live epsilon is
        ``clip_range * clip_scale``
    :param adaptation_factor: size of one step of epsilon, > 1; the KL answers about quadratically
    :param clip_range_bounds: smallest and largest clip range in use
    """

    host_defaults: ClassVar[dict[str, Any]] = {"target_kl": 0.02}
    live_state = ("clip_scale",)

    def __init__(
        self,
        *args: Any,
        adaptation_factor: float = 1.3,
        clip_range_bounds: tuple[float, float] = (0.01, 1.0),
        **kwargs: Any,
    ) -> None:
        self.adaptation_factor = adaptation_factor
        self.clip_range_bounds = clip_range_bounds
        self.clip_scale = 1.0
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        checks.check_bounds(self, "clip_range_bounds")
        checks.check_positive(self, "clip_range", "0.2 is usual")
        checks.check_within(self, "clip_range", "clip_range_bounds")

    def update_coefficients(self) -> dict[str, Number]:
        coefficients = super().update_coefficients()
        for side in ("clip_range", "clip_range_upper"):  # which differ where ClipMixin comes after this one
            coefficients[side] = within(float(coefficients[side]) * self.clip_scale, self.clip_range_bounds)
        return coefficients

    def adjust(self, controller: BandController, kl: float, target: float) -> Adjustment:
        base = self.scheduled("clip_range", self.clip_range)
        adjustment = controller.rescale(self.clip_scale, base, kl, target, self.clip_range_bounds, tightens="down")
        self.clip_scale = adjustment.value
        return adjustment

    def limits_kl(self, kl: float) -> bool:
        return self.epoch_mean("clip_fraction") >= 0.01  # else nothing is clipped, and a wider range changes nothing

    def record_state(self) -> None:
        super().record_state()
        self.logger.record("train/clip_scale", self.clip_scale)


class PPOAdaptiveClip(AdaptiveClipMixin, PPO):
    """PPO whose clip range adapts to the measured KL divergence.

    By default no update moves the policy further than ``target_kl``.
    """


class RecurrentPPOAdaptiveClip(AdaptiveClipMixin, RecurrentPPO):
    """:class:`PPOAdaptiveClip` for LSTM policies, on sb3-contrib's RecurrentPPO."""


class MaskablePPOAdaptiveClip(AdaptiveClipMixin, MaskablePPO):
    """:class:`PPOAdaptiveClip` for environments with invalid actions, on sb3-contrib's MaskablePPO."""


__all__ = ["AdaptiveClipMixin", "MaskablePPOAdaptiveClip", "PPOAdaptiveClip", "RecurrentPPOAdaptiveClip"]
