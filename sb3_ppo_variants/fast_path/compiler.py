"""How torch.compile is called."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th


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


def first_line(error: Exception) -> str:
    """Say in one line what an exception of the compiler, whose messages have many, is about.

    :param error: that it raised
    """
    said = str(error).strip()
    return f"{type(error).__name__}: {said.splitlines()[0]}" if said else type(error).__name__


@contextmanager
def validation_kept() -> Iterator[None]:
    """Keep the argument checks of torch.distributions, which torch.compile switches off for the whole process."""
    distribution: Any = th.distributions.Distribution
    validates = distribution._validate_args
    try:
        yield
    finally:
        distribution.set_default_validate_args(validates)


__all__ = ["compiler_options", "first_line", "validation_kept"]
