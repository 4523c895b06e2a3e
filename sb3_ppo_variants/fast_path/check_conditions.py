"""What a check of a fast piece is made under, so that it leaves no trace and is not misled."""

import copy
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th

from sb3_ppo_variants.update.generators import preserved_numpy_and_python_generators
from sb3_ppo_variants.update.policy_evaluation import foreign_module, snapshot_policy

_TRIES = 5  # where another of Python's threads may draw from the same generators meanwhile


def failure_or(check: Callable[[], str | None]) -> str | None:
    """Return what a check found; an error in it, too, sends the model to the ordinary code.

    :param check: says what differs, or None
    """
    found = None
    for _ in range(_TRIES if threading.active_count() > 1 else 1):
        try:
            found = check()
        except Exception as error:
            found = f"a check on the first data failed: {type(error).__name__}: {error}"
        if found is None:
            break
    return found


def untouched(policy: Any) -> Any:
    """Return a copy that may be evaluated as in training; of parameters, too, if more than them is, or may be, kept."""
    if not any(True for _ in policy.buffers()) and foreign_module(policy) is None:
        same = copy.copy(policy)
        same.action_dist = copy.copy(policy.action_dist)  # it would keep a graph, and nobody could copy the policy
        return same
    copied = snapshot_policy(policy)
    copied.set_training_mode(policy.training)
    return copied


@contextmanager
def same_draws() -> Iterator[Callable[[], None]]:
    """Leave all global generators as they were; the function given sets them back to where they began."""
    devices = list(range(th.cuda.device_count())) if th.cuda.is_available() and th.cuda.is_initialized() else []
    with preserved_numpy_and_python_generators(), th.random.fork_rng(devices=devices):
        of_numpy, of_python = np.random.get_state(), random.getstate()
        cpu, gpus = th.get_rng_state(), [th.cuda.get_rng_state(device) for device in devices]

        def again() -> None:
            np.random.set_state(of_numpy)
            random.setstate(of_python)
            th.set_rng_state(cpu)
            for device, state in zip(devices, gpus):
                th.cuda.set_rng_state(state, device)

        yield again


__all__ = ["failure_or", "same_draws", "untouched"]
