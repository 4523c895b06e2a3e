"""Terms that a variant writes for tensors: their derivatives, and their use where the loss is computed with arrays."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch as th

from sb3_ppo_variants.update.arrays import Array, as_tensor, mapped
from sb3_ppo_variants.update.losses import Number

Term = TypeVar("Term", bound=Callable[..., Any])
Surrogate = Callable[[th.Tensor, th.Tensor, th.Tensor | None, dict[str, Number]], th.Tensor]


class Penalty(NamedTuple):
    """What is added to a loss for the KL divergence of its minibatch.

    :param value: scalar
    :param slope: derivative of the value by the KL; None to have it differentiated
    """

    value: th.Tensor
    slope: Number | None = None


class Terms(NamedTuple):
    """What the loss of a minibatch and its derivative have in common.

    :param mask: bool, shape (n_batch,), True where the step counts; None if all do
    :param advantages: as ``normalize_advantage`` says, shape (n_batch,)
    :param log_ratio: logarithm of the ratio, shape (n_batch,)
    :param ratio: new over old action probability, shape (n_batch,)
    :param kl: exact KL of each state, shape (n_batch,); None where neither loss nor limit needs it
    :param mean_kl: its mean, scalar
    :param kl_of_penalty: what the penalty is computed at, scalar
    :param objective: of each sample, to be maximised, shape (n_batch,)
    """

    mask: Any
    advantages: Array
    log_ratio: Array
    ratio: Array
    kl: Array | None
    mean_kl: Array
    kl_of_penalty: Array
    objective: Array


def in_tensors(fields: Any) -> Any:
    """Turn the arrays in a NamedTuple into tensors on their memory.

    :param fields: a minibatch, or an evaluation of one
    """
    return mapped(lambda x: th.from_numpy(x) if isinstance(x, np.ndarray) else x, fields)


def in_arrays(result: Any) -> Any:
    """Turn the tensors of a term's result into arrays.

    :param result: a tensor, or a tuple of some
    """
    return mapped(lambda x: x.detach().numpy() if isinstance(x, th.Tensor) else x, result)


def takes_arrays(term: Term) -> Term:
    """Mark a term that is a function of numpy's arrays as well as of tensors, so that it need not be given tensors.

    :param term: a method of a variant
    """
    term.takes_arrays = True  # type: ignore[attr-defined]  # read below
    return term


def on_tensors(term: Callable[..., Any]) -> Callable[..., Any]:
    """Let a term take arrays, too: it sees tensors on their memory, and its result is an array again.

    :param term: a method of a variant, of tensors
    """
    if getattr(term, "takes_arrays", False):
        return term

    def taking_arrays(*arguments: Any) -> Any:
        if isinstance(arguments[0], th.Tensor):
            return term(*arguments)
        given = [x if x is None or isinstance(x, dict) else as_tensor(x) for x in arguments]
        return in_arrays(term(*given))

    return taking_arrays


def named_metrics(measured: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return a variant's metrics by the names that it has declared.

    :param measured: what its ``extra_metrics`` returned
    :param names: its ``extra_metric_names``
    :raises ValueError: if the two name different metrics, or one is no single number
    """
    if measured.keys() != set(names):
        raise ValueError(
            f"extra_metrics() returned {', '.join(map(str, measured)) or 'nothing'}, and `extra_metric_names` names "
            f"{', '.join(names)}; make both the same"
        )
    for name, value in measured.items():
        if getattr(value, "ndim", 0) != 0:
            raise ValueError(
                f"extra_metrics() must return numbers or 0-dim tensors, got shape {tuple(value.shape)} for {name!r}"
            )
    return {name: measured[name] for name in names}


def slopes_of(
    surrogate: Surrogate, log_ratio: Array, advantages: Array, kl: Array | None, coefficients: dict[str, Number]
) -> tuple[Array, Array | None]:
    """Differentiate a surrogate by the log-ratio and the KL of each sample; autograd records nothing but the surrogate.

    :param surrogate: a variant's own, of tensors
    :param log_ratio: shape (n_batch,)
    :param advantages: shape (n_batch,)
    :param kl: shape (n_batch,), or None
    :param coefficients: of this epoch
    :return: both of shape (n_batch,); None where the KL has no part in it
    """
    with th.enable_grad():
        leaves = [as_tensor(x).detach().requires_grad_() for x in (log_ratio, kl) if x is not None]
        distance = leaves[1] if kl is not None else None
        total = surrogate(th.exp(leaves[0]), as_tensor(advantages), distance, coefficients).sum()
        slopes: list[Any] = [None] * len(leaves)
        if total.requires_grad:
            slopes = list(th.autograd.grad(total, leaves, allow_unused=True))
    if slopes[0] is None:
        slopes[0] = th.zeros_like(leaves[0])
    if isinstance(log_ratio, np.ndarray):
        slopes = [None if slope is None else slope.numpy() for slope in slopes]
    return slopes[0], None if kl is None else slopes[1]


def penalty_slope(
    kl_penalty: Callable[[th.Tensor, dict[str, Number]], Penalty | None],
    mean_kl: Array,
    coefficients: dict[str, Number],
) -> Number | None:
    """Differentiate a penalty by the KL: its own ``slope``, or autograd's.

    :param kl_penalty: of the variant
    :param mean_kl: scalar
    :param coefficients: of this epoch
    :return: a float unless the KL is a tensor; None where there is no penalty
    """
    penalty = on_tensors(kl_penalty)(mean_kl, coefficients)
    if penalty is None or penalty.slope is not None:
        return None if penalty is None else penalty.slope
    with th.enable_grad():
        leaf = as_tensor(mean_kl).detach().requires_grad_()
        again = kl_penalty(leaf, coefficients)
        assert again is not None  # it was a moment ago
        if not (isinstance(again.value, th.Tensor) and again.value.requires_grad):
            return 0.0  # constant at this KL
        (slope,) = th.autograd.grad(again.value, leaf)
    return slope if isinstance(mean_kl, th.Tensor) else float(slope)


__all__ = [
    "Penalty",
    "Terms",
    "in_tensors",
    "named_metrics",
    "on_tensors",
    "penalty_slope",
    "slopes_of",
    "takes_arrays",
]
