"""TR-PPO: clipping by the KL divergence of the state instead of the ratio (Wang et al. 2019)."""

from typing import Any, ClassVar

import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO

from sb3_ppo_variants.extend import Number, PolicyUpdateMixin, check_positive


class TRPPOMixin(PolicyUpdateMixin):
    """A sample has no gradient once KL(old || new) of its state is delta or more and its objective has grown.

    arXiv:1903.07940v1, eq. 13 to 15: the trust region is of states, whatever action was drawn there.

    :param state_kl: delta > 0, nats; infinity leaves ``r A``; the authors' code has 0.035 on MuJoCo, 0.001 on Atari
    """

    host_defaults: ClassVar[dict[str, Any]] = {"clip_range": None}
    kl_in_loss = True

    def __init__(self, *args: Any, state_kl: float = 0.035, **kwargs: Any) -> None:
        self.state_kl = state_kl
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        check_positive(self, "state_kl", "0.035 is the authors'")

    def update_coefficients(self) -> dict[str, Number]:
        return {**super().update_coefficients(), "state_kl": self.scheduled("state_kl", self.state_kl)}

    def surrogate(
        self, ratio: th.Tensor, advantages: th.Tensor, kl: th.Tensor | None, coefficients: dict[str, Number]
    ) -> th.Tensor:
        assert kl is not None  # kl_in_loss
        objective = ratio * advantages
        outside = (kl >= coefficients["state_kl"]) & (objective > advantages)
        # The paper's value there is A (its ratio is the old one); the authors' code keeps r A; neither has a gradient
        return th.where(outside, objective.detach(), objective)


class TRPPO(TRPPOMixin, PPO):
    """TR-PPO on SB3's PPO."""


class RecurrentTRPPO(TRPPOMixin, RecurrentPPO):
    """TR-PPO for LSTM policies."""


class MaskableTRPPO(TRPPOMixin, MaskablePPO):
    """TR-PPO for invalid actions."""
