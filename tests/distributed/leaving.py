"""Trains, ends, and then says which threads are left."""

import atexit
from pathlib import Path

import torch as th


@atexit.register  # before the package's own, so that it comes after it
def name_threads() -> None:
    print(*sorted(thread.read_text().strip() for thread in Path("/proc/self/task").glob("*/comm")))


from hosts import build  # noqa: E402  (see above)

from sb3_ppo_variants import PPOPenalty  # noqa: E402
from sb3_ppo_variants.distributed import current_ranks  # noqa: E402

if __name__ == "__main__":
    th.set_num_threads(1)
    assert current_ranks().size == 2
    build(PPOPenalty).learn(50)
