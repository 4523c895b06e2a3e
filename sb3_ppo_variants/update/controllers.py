"""The one rule that moves an adaptive coefficient after a measurement.

A controller is constants plus a pure call: it holds no state. The value it moves is a plain float on the model
(``model.beta``, ``model.clip_scale``), so that it is saved and restored with the model's other attributes.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

Verdict = Literal["above", "inside", "below"]


class Adjustment(NamedTuple):
    """Outcome of one controller call.

    :param value: the coefficient from now on, within the bounds
    :param verdict: where the measurement lay relative to the band
    :param saturated: True if a bound kept the value from making its full step
    """

    value: float
    verdict: Verdict
    saturated: bool


@dataclass(frozen=True)
class BandController:
    """Multiplicative controller with a dead band around the target.

    ``[target / tolerance, tolerance * target]`` is the band. A measurement above it tightens the trust region by one
    ``factor``, one below it loosens it by the same factor (the steps are inverse), and inside nothing changes.
    Source: PPO paper (arXiv:1707.06347), section 4, where tolerance = 1.5 and factor = 2 move the penalty beta.

    :param tolerance: half-width of the band as a factor, > 1; infinity leaves only a NaN or infinity outside
    :param factor: size of one step, > 1; larger reacts faster and oscillates more
    """

    tolerance: float
    factor: float

    def verdict(self, measured: float, target: float) -> Verdict:
        """Place a measurement relative to the band; NaN and infinity count as too high, whatever the tolerance.

        :param measured: the measured quantity, in the unit of ``target``
        :param target: set point, > 0
        :return: ``"above"``, ``"inside"`` (edges included) or ``"below"``
        """
        if not math.isfinite(measured) or measured > self.tolerance * target:
            return "above"
        # rounding can make a KL of zero slightly negative, which must not count as below an infinitely wide band
        return "below" if max(measured, 0.0) < target / self.tolerance else "inside"

    def __call__(
        self, value: float, measured: float, target: float, bounds: tuple[float, float], tightens: Literal["up", "down"]
    ) -> Adjustment:
        """Move ``value`` by at most one step and keep it within ``bounds``.

        :param value: the coefficient so far, > 0
        :param measured: the measured quantity, in the unit of ``target``
        :param target: set point, > 0
        :param bounds: smallest and largest value allowed
        :param tightens: ``"up"`` if a larger value means a tighter trust region (beta), ``"down"`` if a smaller one
            does (epsilon)
        :return: the new value, the verdict and whether a bound was hit
        """
        verdict = self.verdict(measured, target)
        wanted = value
        if verdict != "inside":
            wanted = value * self.factor if (verdict == "above") == (tightens == "up") else value / self.factor
        bounded = within(wanted, bounds)
        return Adjustment(bounded, verdict, saturated=bounded != wanted)

    def rescale(
        self,
        scale: float,
        base: float,
        measured: float,
        target: float,
        bounds: tuple[float, float],
        tightens: Literal["up", "down"],
    ) -> Adjustment:
        """Move a factor so that ``base * scale``, kept within ``bounds``, takes at most one step.

        :param scale: the factor so far, > 0
        :param base: what it multiplies: the current value of a schedule
        :param measured: the measured quantity, in the unit of ``target``
        :param target: set point, > 0
        :param bounds: smallest and largest product in use
        :param tightens: as in a call
        :return: the new factor, the verdict and whether a bound was hit
        """
        product = within(base * scale, bounds)
        adjustment = self(product, measured, target, bounds, tightens)
        if base < bounds[0] and base * scale < 0.999 * bounds[0]:
            # A schedule near its end, not the factor, is below the bound: the factor has no say.
            return Adjustment(scale, adjustment.verdict, saturated=adjustment.verdict != "inside")
        if base * scale < bounds[0] and adjustment.value > product:  # the lower bound had set it: come up from there
            moved = adjustment.value / base
        elif adjustment.value < product:  # where the upper bound had set the product, come down from it
            moved = min(scale * adjustment.value / product, adjustment.value / base)
        else:
            moved = scale * adjustment.value / product
        return adjustment._replace(value=moved)


def within(value: float, bounds: tuple[float, float]) -> float:
    """Return the number nearest to ``value`` that lies within ``bounds``.

    :param value: any number
    :param bounds: smallest and largest result
    """
    return float(min(max(value, bounds[0]), bounds[1]))
