"""What recording a CUDA graph needs around it, so that nothing breaks it off, or lasts where something does."""

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch as th

from sb3_ppo_variants.fast_path.process_setting import ProcessSetting


def collection_paused() -> AbstractContextManager[None]:
    """Keep Python's garbage collector from running: to destroy another graph, of a model before, ends a recording.

    ``torch.cuda.graph`` collected before it began up to torch 2.8 (https://github.com/pytorch/pytorch/pull/161037).
    """
    return _PAUSED.held()


def _pause() -> Callable[[], None]:
    if not gc.isenabled():
        return lambda: None
    gc.disable()
    return gc.enable


_PAUSED = ProcessSetting(_pause)


def forget_workspaces() -> None:
    """Let matrix products take new memory to work in.

    Before a recording, so that the graph has it of its own: torch frees what all products share when it makes graphs
    itself, and the graph would go on writing there. After it, so that nothing else works in the graph's memory.
    """
    th._C._cuda_clearCublasWorkspaces()


def renew_generator(device: th.device) -> None:
    """Give a GPU's generator another state with the same seed and offset.

    After a recording that broke off the old one takes itself to be recorded still: every draw in the process fails.

    :param device: whose generator it is
    """
    generator = th.cuda.default_generators[th.cuda.current_device() if device.index is None else device.index]
    generator.graphsafe_set_state(generator.clone_state())


__all__ = ["collection_paused", "forget_workspaces", "renew_generator"]
