"""What an update needs of the algorithm whose policy it updates, so that nothing here knows the algorithms."""

from typing import Any, ClassVar, Protocol

import torch as th

from sb3_ppo_variants.distributed.ranks import Ranks
from sb3_ppo_variants.update.distributions import Slopes
from sb3_ppo_variants.update.kl_divergence import KLDirection, Parameters
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.policy_evaluation import Evaluation
from sb3_ppo_variants.update.rules import UpdateRules
from sb3_ppo_variants.update.update_metrics import MinibatchMetrics


class UpdatedAlgorithm(Protocol):
    """An on-policy algorithm with a full rollout buffer; ``PolicyUpdateMixin`` is one."""

    policy: Any
    rollout_buffer: Any
    action_space: Any
    batch_size: Any
    max_grad_norm: float
    num_timesteps: int
    n_envs: int
    verbose: int
    kl_direction: KLDirection
    extra_metric_names: ClassVar[tuple[str, ...]]
    acceleration: Any
    on_nonfinite: Any
    normalize_advantage: Any
    _last_obs: Any

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""

    def update_rules(self) -> UpdateRules:
        """Declare what the KL is used for and what ends the update."""

    def update_coefficients(self) -> dict[str, Number]:
        """Compute the numbers of the next epoch."""

    def terms_of(self, minibatch: Any, new: Evaluation, old: Parameters | None, c: dict[str, Number]) -> Any:
        """Compute what the next two have in common, to be given to them."""

    def minibatch_loss(
        self,
        minibatch: Any,
        new: Evaluation,
        old: Parameters | None,
        coefficients: dict[str, Number],
        terms: Any = None,
    ) -> tuple[th.Tensor, MinibatchMetrics]:
        """Put the loss of one minibatch together."""

    def loss_slopes(self, minibatch: Any, new: Evaluation, coefficients: dict[str, Number], terms: Any) -> Slopes:
        """Differentiate the loss by what the policy says of each sample."""

    def derivative_obstacle(self) -> str | None:
        """Say why :meth:`loss_slopes` does not know the derivative; None if it does."""

    def array_obstacle(self) -> str | None:
        """Say why loss and slopes cannot be computed with numpy's arrays; None if they can."""
