"""Back to the trust region: after the last step the policy returns on the straight line to where it came from.

The idea is that of TRPO's line search (arXiv:1502.05477, appendix C), after PPO's epochs; only the KL is looked at, not
the surrogate. All epochs run, so that the value function keeps its steps, and the KL divergence of the update is at or
below the limit, whatever the loss did.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch as th

from sb3_ppo_variants.update.buffers import buffer_places
from sb3_ppo_variants.update.policy_evaluation import draws_put_back, evaluate_minibatch, measuring

_PRECISION = 0.02  # of the limit, from below
_MOST_TRIALS = 16
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

    @classmethod
    def none(cls, kl: float) -> "Projection":
        """Make the outcome of no projection.

        :param kl: of the update
        """
        return cls(kl, kl, 1.0)


class _Move(NamedTuple):
    """What of a policy can be elsewhere: how it gets there, from where, and where it is."""

    put: Callable[[th.Tensor], Any]
    start: th.Tensor
    end: th.Tensor


class PolicyLine:
    """The straight line from a policy as it is now to what it will be.

    :param moving: the parameters that the action distribution depends on, see :func:`find_moving`; before the update
    :param policy: whose buffers go back too, those which the action distribution depends on after the update
    :param states: makes a minibatch, with which these are found
    """

    def __init__(self, moving: list[th.Tensor], policy: Any = None, states: Callable[[], Any] | None = None):
        self._policy, self._states = policy, states
        places = buffer_places(policy, floating=True) if policy is not None else []
        self._parameters = [(tensor, tensor.detach().clone()) for tensor in moving]
        self._buffers = [(place, place.tensor.detach().clone()) for place in places]

    def project(self, measure: Callable[[], float], limit: float) -> Projection:
        """Go back until the KL divergence is within 2 % of the limit, from below.

        :param measure: exact KL between the policy before the update and now, nats per state
        :param limit: nats per state; 0 or less for no step at all
        """
        kl_before = kl = measure()
        if kl <= limit:
            return Projection.none(kl)
        moves = self._moves()
        inside, outside = 0.0, 1.0
        widths = [2.0, 2.0]  # of the bracket, one and two trials ago
        share = 1.0
        for _ in range(_MOST_TRIALS if limit > 0 else 0):
            # The KL grows about with the square of the step; where that leaves the bracket or is slow, halve it.
            share *= math.sqrt((1 - _PRECISION / 2) * limit / kl) if math.isfinite(kl) and kl > 0 else 0.0
            if not inside < share < outside or outside - inside > widths[1] / 2:
                share = (inside + outside) / 2
            widths = [outside - inside, widths[0]]
            _go_to(share, moves)
            kl = measure()
            if kl <= limit:
                inside = share
                if kl >= (1 - _PRECISION) * limit:
                    return Projection(kl_before, kl, share)
            else:  # NaN too
                outside = share
        _go_to(inside, moves)
        kl = measure()
        if not kl <= max(limit, _ROUNDING):
            warnings.warn(
                f"the KL divergence is {kl:.3g}, above the limit of {limit:.3g}, although the old parameters were put "
                "back: the policy depends on something that is neither a parameter nor a buffer of it, or on one that "
                "it does not use in the first minibatch",
                stacklevel=2,
            )
        return Projection(kl_before, kl, inside)

    def _moves(self) -> list[_Move]:
        """List what goes back, from where it is now."""
        moves = [_Move(tensor.copy_, start, tensor.detach().clone()) for tensor, start in self._parameters]
        changed = [
            _Move(place.put, start, place.tensor.detach().clone())
            for place, start in self._buffers
            if not place.holds(start)
        ]
        if changed and self._states is not None:
            states = self._states()
            with th.no_grad(), measuring(self._policy):
                moves += _of_influence(self._policy, states, changed)
        return moves


def _go_to(share: float, moves: list[_Move]) -> None:
    with th.no_grad():
        for put, start, end in moves:
            put(start if share == 0 or start.shape != end.shape else th.lerp(start, end, share))


@contextmanager
def _cudnn_off() -> Iterator[None]:
    """Leave cuDNN out; ``cudnn.flags`` sets all options, and fails where ``fp32_precision`` has been set."""
    was = th._C._get_cudnn_enabled()
    th._C._set_cudnn_enabled(False)
    try:
        yield
    finally:
        th._C._set_cudnn_enabled(was)


def find_moving(policy: Any, minibatch: Any) -> list[th.Tensor]:
    """Find the parameters that the action distribution depends on: those that autograd reaches, and others by trial.

    Not by name: shared layers, an LSTM, ``log_std`` and the matrices of gSDE are among them. A value network of its own
    is not, and keeps its steps. Tried are the other parameters: an actor may read features that are detached.

    :param policy: in training mode
    :param minibatch: a few states of the rollout, the host's NamedTuple
    """
    parameters = [p for p in policy.parameters() if p.requires_grad]
    with measuring(policy):  # so that nothing is drawn, and no running statistics move
        with th.enable_grad(), _cudnn_off():  # its LSTM has no gradient in that mode
            found = evaluate_minibatch(policy, minibatch).parameters
            outputs = [tensor.sum() for tensor in found if tensor.requires_grad]  # none, if the actor is frozen
            nothing = [None] * len(parameters)
            gradients = th.autograd.grad(outputs, parameters, allow_unused=True) if outputs else nothing
        reached: list[th.Tensor] = [p for p, gradient in zip(parameters, gradients) if gradient is not None]
        others = [p for p, gradient in zip(parameters, gradients) if gradient is None]
        with th.no_grad():
            trials = {id(p): _Move(p.copy_, p + _nudge(p), p.clone()) for p in others}
            found_moves = _of_influence(policy, minibatch, list(trials.values()))
        return reached + [p for p in others if any(move is trials[id(p)] for move in found_moves)]


def _of_influence(policy: Any, minibatch: Any, moves: list[_Move]) -> list[_Move]:
    """Select those whose going to the start alters the action distribution; all are put back to the end."""

    def evaluated() -> Any:
        with draws_put_back(policy):  # the same draws each time, should a module draw
            return evaluate_minibatch(policy, minibatch).parameters

    before = evaluated()

    def alter(some: list[_Move]) -> bool:
        try:
            for put, start, _ in some:
                put(start)
            after = evaluated()
        except (ValueError, RuntimeError, IndexError):  # refused, as NaN is by torch's distributions
            return True
        finally:
            for put, _, end in some:
                put(end)
        return any(not th.equal(a, b) for a, b in zip(before, after, strict=True))

    return [move for move in moves if alter([move])] if moves and alter(moves) else []


def _nudge(tensor: th.Tensor) -> th.Tensor:
    """Return an amount to add that no normalisation takes out: of each element its own, and > 0, as for a variance."""
    pattern = 1.5 + th.arange(tensor.numel(), device=tensor.device).cos().view(tensor.shape)
    return 0.1 * pattern.to(tensor.dtype) * (1 + tensor.abs())


__all__ = ["PolicyLine", "Projection", "find_moving"]
