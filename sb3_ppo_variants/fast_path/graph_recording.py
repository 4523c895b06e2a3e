"""What recording a CUDA graph needs around it, so that nothing breaks it off, or lasts where something does."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

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


@contextmanager
def recovery(pool: tuple[int, int], device: th.device) -> Iterator[None]:
    """Let the process go on after a recording that broke off: torch ends what belongs to it only where it succeeds.

    :param pool: of the memory that the graph is about to be recorded in
    :param device: with an index
    """
    try:
        yield
    except RuntimeError:
        with suppress(RuntimeError):  # or the allocator would take itself to be recorded for good
            th._C._cuda_endAllocateToPool(device.index, pool)
        free_generator(device)
        raise


def free_generator(device: th.device) -> None:
    """Let a GPU's generator draw again after a recording that broke off, with the graphs that use it, if need be.

    :param device: with an index
    """
    if _draws(device):
        return
    graph, current = th.cuda.CUDAGraph(), th.cuda.stream(th.cuda.current_stream(device))
    with suppress(RuntimeError), th.cuda.device(device), current, th.cuda.graph(graph, stream=th.cuda.Stream(device)):
        th.zeros(1, device=device)  # a recording that ends well sets the generator free
    if not _draws(device):  # then at least for the graphs to come
        generator = th.cuda.default_generators[device.index]
        generator.graphsafe_set_state(generator.clone_state())


def _draws(device: th.device) -> bool:
    with th.random.fork_rng([device]):
        try:
            th.rand(1, device=device)
        except RuntimeError:
            return False
    return True


__all__ = ["collection_paused", "forget_workspaces", "free_generator", "recovery"]
