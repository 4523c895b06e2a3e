"""ESPO: early stopping instead of clipping, from "You May Not Need Ratio Clipping in PPO" (Sun et al. 2022)."""

from typing import Any, ClassVar

import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO

from sb3_ppo_variants.extend import (
    Evaluation,
    Number,
    PolicyUpdateMixin,
    StopRule,
    UpdateRules,
    check_positive,
    masked_mean,
    valid_steps,
)


class ESPOMixin(PolicyUpdateMixin):
    """The plain objective ``r A``; the update ends once the mean of ``|r - 1|`` passes delta (arXiv:2202.00079).

    :param max_deviation: delta > 0; infinity runs all epochs; two third-party ports of the paper have 0.25
    """

    host_defaults: ClassVar[dict[str, Any]] = {"clip_range": None}  # the default surrogate then is r A
    extra_metric_names = ("ratio_deviation",)

    def __init__(self, *args: Any, max_deviation: float = 0.25, **kwargs: Any) -> None:
        self.max_deviation = max_deviation
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        check_positive(self, "max_deviation", "0.25 is usual")

    def extra_metrics(self, minibatch: Any, new: Evaluation, coefficients: dict[str, Number]) -> dict[str, th.Tensor]:
        ratio = th.exp(new.log_prob - minibatch.old_log_prob)
        return {"ratio_deviation": masked_mean((ratio - 1).abs(), valid_steps(minibatch))}

    def update_rules(self) -> UpdateRules:
        # The ports measure it over the whole batch or on one minibatch; here it is each minibatch, before its step. The
        # value function's training ends with the policy's, as in one of them; the other trains it apart
        stop = StopRule("ratio_deviation", self.scheduled("max_deviation", self.max_deviation))
        return super().update_rules()._replace(stop_before_step=stop)


class ESPO(ESPOMixin, PPO):
    """ESPO on SB3's PPO."""


class RecurrentESPO(ESPOMixin, RecurrentPPO):
    """ESPO for LSTM policies."""


class MaskableESPO(ESPOMixin, MaskablePPO):
    """ESPO for invalid actions."""
