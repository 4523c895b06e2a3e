"""An update's large tensors take their memory from one another, not from the system."""

import os
import subprocess
import sys

import pytest

from sb3_ppo_variants.fast_path.kept_memory import _SETTINGS, _mallopt

PROGRAM = """
import resource, threading
import torch as th
from sb3_ppo_variants.fast_path.kept_memory import kept_memory

def tensors_worth_of_pages(others=0):  # that the system hands out for five tensors of 100 MB, one after the other
    held = [th.zeros(25_000_000) for _ in range(others)]  # so that no free piece of the heap is left for the five
    for turn in range(6):
        if turn == 1:  # the first may take what the others then share
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        th.zeros(25_000_000).add_(1)
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return pages * resource.getpagesize() / 100_000_000

def hold():
    with kept_memory():
        entered.set()
        leave.wait()

entered, leave = threading.Event(), threading.Event()
found = [tensors_worth_of_pages()]
with kept_memory():
    found.append(tensors_worth_of_pages())
other = threading.Thread(target=hold)
other.start()
entered.wait()
with kept_memory():
    pass
found.append(tensors_worth_of_pages())  # the other thread is not done
leave.set()
other.join()
found.append(tensors_worth_of_pages(others=4))
print(*found)
"""


def measured(**settings: str) -> list[float]:
    """Measure in a fresh process: before, inside, with another thread inside, and after."""
    if _mallopt() is None:
        pytest.skip("not glibc's allocator, or its settings are the user's")
    environment = {**os.environ, **settings}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    return [float(number) for number in done.stdout.split()]


def test_memory_is_kept_until_the_last_thread_is_done() -> None:
    before, inside, beside, after = measured()
    assert before > 2
    assert inside < before - 1
    assert beside < before - 1
    assert after > 2


@pytest.mark.parametrize("name", _SETTINGS)
def test_settings_of_the_user_stay(name: str) -> None:
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert min(measured(**{name: value})) > 2
