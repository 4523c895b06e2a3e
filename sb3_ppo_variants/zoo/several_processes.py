"""The command ``train`` under torchrun: one run, of which rank 0 keeps the folder."""

import argparse
import contextlib
import os
from collections.abc import Iterator

import numpy as np
import rl_zoo3

from sb3_ppo_variants.distributed.data_parallel import DataParallelMixin
from sb3_ppo_variants.distributed.ranks import Ranks
from sb3_ppo_variants.zoo.mistakes import refuse


def arguments_of_rank(arguments: list[str], ranks: Ranks) -> list[str]:
    """Make of a command line that of one process: all have one seed, and the first one tracks.

    :param arguments: of the zoo's ``train``
    :param ranks: the processes
    :raises SystemExit: with status 2 for what one process must do alone
    """
    if ranks.size == 1:
        return arguments
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--algo", default="")
    parser.add_argument("--seed", type=int, default=-1)
    parser.add_argument("-optimize", "--optimize-hyperparameters", action="store_true")
    given = parser.parse_known_args(arguments)[0]
    if given.optimize_hyperparameters:
        refuse(f"{ranks.size} processes train one model: leave -optimize to one, started without torchrun")
    cls = rl_zoo3.ALGOS.get(given.algo)
    if cls is None or not issubclass(cls, DataParallelMixin):
        refuse(f"{given.algo} trains in one process only, got {ranks.size}; choose one of this package's algorithms")
    if given.seed < 0:  # the zoo would draw another one in each process
        drawn = ranks.from_first(lambda: int(np.random.randint(2**31 - 1)))
        arguments = [*arguments, "--seed", str(drawn)]
    return arguments if ranks.first else [argument for argument in arguments if argument != "--track"]


@contextlib.contextmanager
def console_of_first(ranks: Ranks) -> Iterator[None]:
    """Let only rank 0 print; errors are seen of all.

    :param ranks: the processes
    """
    if ranks.first:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


__all__ = ["arguments_of_rank", "console_of_first"]
