"""The command ``train``: rl-zoo3's own, with ``--resume``."""

import argparse
import functools
import sys

import rl_zoo3.train

from sb3_ppo_variants.zoo.resuming import ResumingExperimentManager
from sb3_ppo_variants.zoo.train_arguments import check_train_arguments

_HELP = """\
write checkpoints into the run's folder and, if an earlier run has the same algorithm, environment, seed and settings,
go on with that run from its newest intact one instead of beginning another; every --save-freq steps, by default a
hundredth of the training"""


def train() -> None:
    """Run the zoo's command; ``--resume`` is taken out of its arguments.

    :raises SystemExit: with status 2 for arguments that it would misread
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=_HELP)
    own, others = parser.parse_known_args()
    if {"-h", "--help"} & set(others):
        print(f"{parser.format_help()}\nand the zoo's:\n")
    else:
        check_train_arguments(others)
    sys.argv[1:] = others
    if own.resume:
        seed = argparse.ArgumentParser(add_help=False)
        seed.add_argument(
            "--seed", type=int, default=-1
        )  # the zoo draws one in place of -1 before it makes its manager
        given = seed.parse_known_args(others)[0].seed
        vars(rl_zoo3.train)["ExperimentManager"] = functools.partial(ResumingExperimentManager, given_seed=given)
    rl_zoo3.train.train()


__all__ = ["train"]
