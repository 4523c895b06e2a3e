"""Arithmetic written once, for torch's tensors and for numpy's arrays.

A call of torch costs several times what it computes where tensors are small, a call of numpy a third of that. The loss
and the distributions' closed forms are functions of either; most names are the same in both libraries, and what differs
is here. All operands of one operation are of one library.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
import torch.nn.functional as F

Array: TypeAlias = Any
"""A tensor, or an array of the same shape and type."""


def mapped(function: Callable[[Any], Any], fields: Any) -> Any:
    """Apply a function to everything in a NamedTuple, tuple or dictionary, and in those in it."""
    if isinstance(fields, dict):
        return {key: mapped(function, value) for key, value in fields.items()}
    if isinstance(fields, tuple):
        found = [mapped(function, field) for field in fields]
        return type(fields)(*found) if hasattr(fields, "_fields") else tuple(found)
    return function(fields)


def library(x: Array) -> Any:
    """Return the library that ``x`` is of: for ``exp``, ``where``, ``minimum`` and what else both name alike."""
    return th if isinstance(x, th.Tensor) else np


def exp(x: Array) -> Array:
    """Compute the exponential."""
    return x.exp() if isinstance(x, th.Tensor) else np.exp(x)


def clip(x: Array, low: Any, high: Any) -> Array:
    """Keep ``x`` between two bounds, each a number or a 0-dim tensor."""
    if isinstance(x, th.Tensor):
        return th.clamp(x, low, high)
    return np.minimum(np.maximum(x, low), high)  # np.clip takes twice as long


def mean(x: Array) -> Array:
    """Average all elements of shape (n,)."""
    return x.mean() if isinstance(x, th.Tensor) else np.dot(x, _ones(len(x))) / np.float32(len(x))


def mean_and_std(x: Array) -> tuple[Array, Array]:
    """Compute mean and standard deviation of shape (n,), the latter with n - 1 in the denominator."""
    if isinstance(x, th.Tensor):
        return x.mean(), x.std()
    average = mean(x)
    centred = x - average
    std = np.sqrt(np.dot(centred, centred) / np.float32(len(x) - 1))
    if std < 1e-5 * abs(average):  # all but equal: the result is torch's rounding, and is divided by itself
        tensor = th.from_numpy(x)
        return np.float32(tensor.mean().item()), np.float32(tensor.std().item())
    return average, std


def row_sums(x: Array) -> Array:
    """Add up the columns of shape (n_batch, n); on arrays numpy's own sum takes three times as long."""
    return x.sum(-1) if isinstance(x, th.Tensor) else np.dot(x, _ones(x.shape[1]))


def column_sums(x: Array) -> Array:
    """Add up the rows of shape (n_batch, n)."""
    return x.sum(0) if isinstance(x, th.Tensor) else np.dot(_ones(len(x)), x)


@functools.lru_cache(maxsize=64)
def _ones(n: int) -> npt.NDArray[np.float32]:
    return np.ones(n, dtype=np.float32)


def detached(x: Array) -> Array:
    """Return ``x`` without gradient."""
    return x.detach() if isinstance(x, th.Tensor) else x


def zero(like: Array) -> Array:
    """Return a 0 on the device of ``like``."""
    return th.zeros((), device=like.device) if isinstance(like, th.Tensor) else np.float32(0)


def as_metric(value: Any, like: Array) -> Array:
    """Return a measured number as a 0-dim tensor beside other metrics, if these are tensors."""
    if not isinstance(like, th.Tensor):
        return value
    return th.as_tensor(value, dtype=th.float32, device=like.device).detach()


def as_number(x: Any) -> Any:
    """Turn a 0-dim tensor, or a number of numpy's, into Python's: beside these an array of float32 keeps its type."""
    if type(x) is float:
        return x
    return x.item() if isinstance(x, (th.Tensor, np.generic, np.ndarray)) and x.ndim == 0 else x


def as_floats(x: Array) -> Array:
    """Turn truth values into 0.0 and 1.0."""
    return x.float() if isinstance(x, th.Tensor) else x.astype(np.float32)


def as_indices(x: Array) -> Array:
    """Turn whole numbers of any type into indices of shape (n, number per row)."""
    x = x.long() if isinstance(x, th.Tensor) else x.astype(np.int64, copy=False)
    return x.reshape(len(x), -1)


def as_tensor(x: Array) -> th.Tensor:
    """Return an array, sharing its memory, or a number as a tensor: for code that knows tensors only."""
    if isinstance(x, np.ndarray):
        return th.from_numpy(x)
    return x if isinstance(x, th.Tensor) else th.tensor(float(x))


def as_library(parameter: th.Tensor, like: Array) -> Array:
    """Return a parameter as it is, or as an array on its memory where ``like`` is one."""
    return parameter if isinstance(like, th.Tensor) else parameter.detach().numpy()


def of_parameter(parameter: th.Tensor, rows: Array) -> Array:
    """Repeat a parameter of shape (n,) as the rows of an array like ``rows``, of shape (n_batch, n)."""
    if isinstance(rows, th.Tensor):
        return parameter.expand_as(rows)
    repeated = np.empty_like(rows)
    repeated[:] = parameter.detach().numpy()
    return repeated


def log_softmax(x: Array) -> Array:
    """Normalise rows of logits."""
    if isinstance(x, th.Tensor):
        return F.log_softmax(x, dim=-1)
    columns = np.array(x.T, order="C")  # a sample per column: along short rows numpy takes twice to six times as long
    columns -= np.maximum.reduce(columns)
    columns -= np.log(np.add.reduce(np.exp(columns)))
    return columns.T


def normalized(x: Array) -> Array:
    """Normalise rows of logits as torch's ``Categorical`` does, with its rounding where all of a row are huge."""
    if isinstance(x, th.Tensor):
        return x - x.logsumexp(dim=-1, keepdim=True)
    columns = np.array(x.T, order="C")  # as above
    top = np.maximum.reduce(columns)
    columns -= top + np.log(np.add.reduce(np.exp(columns - top)))
    return columns.T


def finite(log_p: Array) -> Array:
    """Replace minus infinity by the lowest finite number."""
    if isinstance(log_p, th.Tensor):
        return log_p.clamp(min=th.finfo(log_p.dtype).min)
    return np.maximum(log_p, np.finfo(np.float32).min)


def sigmoid(x: Array) -> Array:
    """Compute the logistic function."""
    return th.sigmoid(x) if isinstance(x, th.Tensor) else 1 / (1 + np.exp(-x))


def log_sigmoid(x: Array) -> Array:
    """Compute the logarithm of the logistic function without loss of precision."""
    return F.logsigmoid(x) if isinstance(x, th.Tensor) else -np.logaddexp(np.float32(0), -x)


def chosen(x: Array, columns: Array) -> Array:
    """Take one element of every row, by columns of shape (n_batch,)."""
    if isinstance(x, th.Tensor):
        return x.gather(1, columns[:, None])[:, 0]
    return x[np.arange(len(x)), columns]


def add_to_chosen(x: Array, columns: Array, change: Array) -> None:
    """Add to one element of every row in place, by columns of shape (n_batch,)."""
    if isinstance(x, th.Tensor):
        x.scatter_add_(1, columns[:, None], change[:, None])
    else:
        x[np.arange(len(x)), columns] += change


__all__ = [
    "Array",
    "add_to_chosen",
    "as_floats",
    "as_indices",
    "as_library",
    "as_metric",
    "as_tensor",
    "chosen",
    "clip",
    "column_sums",
    "detached",
    "exp",
    "finite",
    "library",
    "log_sigmoid",
    "log_softmax",
    "mapped",
    "mean",
    "mean_and_std",
    "normalized",
    "of_parameter",
    "row_sums",
    "sigmoid",
    "zero",
]
