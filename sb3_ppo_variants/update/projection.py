"""Back to the trust region: after the last step the policy returns on the straight line to where it came from.

TRPO's line search (arXiv:1502.05477, appendix C) after PPO's epochs. All epochs run, so that the value function keeps
its steps, and the KL divergence of the update is at or below the limit, whatever the loss did.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch as th

from sb3_ppo_variants.update.policy_evaluation import draws_put_back, evaluate_minibatch, measuring

_PRECISION = 0.02  # of the limit, from below
_MOST_TRIALS = 12
_ROUNDING = 1e-6  # nats: of a KL between equal policies


class Projection(NamedTuple):
    """Outcome of a projection.

    :param kl_before: KL divergence of the update without it, nats per state
    :param kl: KL divergence now, at most the limit, nats per state
    :param share: of the policy's step that was kept, in [0, 1]; 1 for no projection
    """

    kl_before: float
    kl: float
    share: float


class PolicyLine:
    """The straight line from a policy as it is now to what it will be.

    :param moving: what the action distribution depends on, see :func:`find_moving`; before the update
    """

    def __init__(self, moving: list[th.Tensor]):
        self.moving = moving
        self.start = [tensor.detach().clone() for tensor in self.moving]

    def project(self, measure: Callable[[], float], limit: float) -> Projection:
        """Go back until the KL divergence is within 2 % of the limit, from below.

        :param measure: exact KL between the policy before the update and now, nats per state
        :param limit: nats per state; 0 or less for no step at all
        """
        kl_before = kl = measure()
        if kl <= limit:
            return Projection(kl_before, kl, 1.0)
        end = [tensor.detach().clone() for tensor in self.moving]
        inside, outside = 0.0, 1.0
        share = 1.0
        for _ in range(_MOST_TRIALS if limit > 0 else 0):
            # The KL grows about with the square of the step; where that leaves the bracket, halve it.
            share *= math.sqrt((1 - _PRECISION / 2) * limit / kl) if math.isfinite(kl) and kl > 0 else 0.0
            if not inside < share < outside:
                share = (inside + outside) / 2
            self._go_to(share, end)
            kl = measure()
            if kl <= limit:
                inside = share
                if kl >= (1 - _PRECISION) * limit:
                    return Projection(kl_before, kl, share)
            else:  # NaN too
                outside = share
        self._go_to(inside, end)
        kl = measure()
        if not kl <= max(limit, _ROUNDING):
            warnings.warn(
                f"the KL divergence is {kl:.3g}, above the limit of {limit:.3g}, although the old parameters were put "
                "back: the policy depends on something that is neither a parameter nor a buffer of it",
                stacklevel=2,
            )
        return Projection(kl_before, kl, inside)

    def _go_to(self, share: float, end: list[th.Tensor]) -> None:
        with th.no_grad():
            for tensor, a, b in zip(self.moving, self.start, end):
                tensor.copy_(a if share == 0 else th.lerp(a, b, share))


def find_moving(policy: Any, minibatch: Any) -> list[th.Tensor]:
    """Find what the action distribution depends on: parameters by what autograd reaches, and what it does not by trial.

    Not by name: shared layers, an LSTM, ``log_std`` and the matrices of gSDE are among them. A value network of its own
    is not, and keeps its steps and its running statistics. Tried are buffers, and the other parameters: an actor may
    read features that are detached.

    :param policy: in training mode
    :param minibatch: a few states of the rollout, the host's NamedTuple
    """
    parameters = [p for p in policy.parameters() if p.requires_grad]
    with measuring(policy):  # so that nothing is drawn, and no running statistics move
        with th.enable_grad(), th.backends.cudnn.flags(enabled=False):  # cuDNN's LSTM has no gradient in that mode
            found = evaluate_minibatch(policy, minibatch).parameters
            outputs = [tensor.sum() for tensor in found if tensor.requires_grad]  # none, if the actor is frozen
            nothing = [None] * len(parameters)
            gradients = th.autograd.grad(outputs, parameters, allow_unused=True) if outputs else nothing
        reached: list[th.Tensor] = [p for p, gradient in zip(parameters, gradients) if gradient is not None]
        others: list[th.Tensor] = [p for p, gradient in zip(parameters, gradients) if gradient is None]
        others += [buffer for buffer in policy.buffers() if buffer.is_floating_point()]
        with th.no_grad():
            return reached + _of_influence(policy, minibatch, others)


def _of_influence(policy: Any, minibatch: Any, tensors: list[th.Tensor]) -> list[th.Tensor]:
    """Select those of a policy's tensors whose change alters the action distribution; all are put back."""

    def evaluated() -> Any:
        with draws_put_back(policy):  # the same draws each time, should a module draw
            return evaluate_minibatch(policy, minibatch).parameters

    before = evaluated()

    def alter(changed: list[th.Tensor]) -> bool:
        kept = [tensor.clone() for tensor in changed]
        try:
            for tensor in changed:
                tensor.add_(_nudge(tensor))
            after = evaluated()
        except (ValueError, RuntimeError, IndexError):  # refused, as NaN is by torch's distributions
            return True
        finally:
            for tensor, value in zip(changed, kept):
                tensor.copy_(value)
        return any(not th.equal(a, b) for a, b in zip(before, after, strict=True))

    return [tensor for tensor in tensors if alter([tensor])] if tensors and alter(tensors) else []


def _nudge(tensor: th.Tensor) -> th.Tensor:
    """Return an amount to add that no normalisation takes out: of each element its own, and > 0, as for a variance."""
    pattern = 1.5 + th.arange(tensor.numel(), device=tensor.device).cos().view(tensor.shape)
    return 0.1 * pattern.to(tensor.dtype) * (1 + tensor.abs())


__all__ = ["PolicyLine", "Projection", "find_moving"]
