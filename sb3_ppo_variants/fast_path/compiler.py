"""How torch.compile is called, and how far its gradients may be from those without it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th

from sb3_ppo_variants.extractors import BFloat16Mixin
from sb3_ppo_variants.update.policy_evaluation import foreign_module

_MOST_APART = 1e-3  # of the length of the gradients; on the CPU rounding of float32 is a hundredth of it
_ROUGHLY = 1e-2  # the same on a GPU, and in modules of which nothing is known
_IN_SHORT_NUMBERS = 1e-1  # in bfloat16, and in TF32, a GPU's convolutions: 0.014 and 0.027 were seen on an H200
_FEW_INPUTS = 16
_CONVOLUTIONS = (th.nn.Conv1d, th.nn.Conv2d, th.nn.Conv3d)


def compiler_options(on_gpu: bool) -> dict[str, Any]:
    """Return the options of torch.compile for the graph of an update.

    :param on_gpu: whether it runs there
    """
    # No guards: checking at every call that nothing changed costs as much as a minibatch. Shapes are fixed by
    # CompiledUpdate, and Acceleration makes a new CompiledStep when a setting or an object of the model changes.
    options: dict[str, Any] = {"guard_filter_fn": lambda guards: [False] * len(guards)}
    options["triton.cudagraphs" if on_gpu else "cpp_wrapper"] = True
    tanh_from_exp = "cpp.use_decompose_tanh"  # accurate to 1e-7; the compiler's own tanh takes six times as long
    if tanh_from_exp in th._inductor.list_options():
        options[tanh_from_exp] = True
    return options


def most_apart(policy: Any) -> float:
    """Return how far a graph's gradients may be from those without a graph, as a share of their length.

    :param policy: of the model
    """
    on_cpu = policy.device.type == "cpu"
    short = BFloat16Mixin if on_cpu else (BFloat16Mixin, *_CONVOLUTIONS)
    if any(isinstance(module, short) for module in policy.modules()):
        return _IN_SHORT_NUMBERS
    return _MOST_APART if on_cpu and foreign_module(policy) is None else _ROUGHLY


def first_line(error: Exception) -> str:
    """Say in one line what an exception of the compiler, whose messages have many, is about.

    :param error: that it raised
    """
    said = str(error).strip()
    return f"{type(error).__name__}: {said.splitlines()[0]}" if said else type(error).__name__


def easy_to_differentiate(parameter: th.Tensor) -> th.Tensor:
    """Lay a weight with few inputs out in columns: torch then computes its gradient as inputs.T @ gradient.

    What it computes otherwise, gradient.T @ inputs, takes MKL two to five times as long where a layer has few inputs.

    :param parameter: of a network that a graph differentiates
    """
    if parameter.is_cuda or parameter.dim() != 2 or parameter.shape[1] > min(_FEW_INPUTS, len(parameter)):
        return parameter
    return parameter.t().contiguous().t()


@contextmanager
def validation_kept() -> Iterator[None]:
    """Keep the argument checks of torch.distributions, which torch.compile switches off for the whole process."""
    distribution: Any = th.distributions.Distribution
    validates = distribution._validate_args
    try:
        yield
    finally:
        distribution.set_default_validate_args(validates)


__all__ = ["compiler_options", "easy_to_differentiate", "first_line", "most_apart", "validation_kept"]
