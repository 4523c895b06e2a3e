"""The command ``train``: rl-zoo3's own, with ``--resume``, and an end in good order if the process is told to stop."""

import argparse
import functools
import sys
from contextlib import AbstractContextManager
from typing import Any

import rl_zoo3.train

from sb3_ppo_variants.arguments.hints import did_you_mean
from sb3_ppo_variants.distributed.ranks import current_ranks
from sb3_ppo_variants.zoo.mistakes import refuse
from sb3_ppo_variants.zoo.replacing import replaced
from sb3_ppo_variants.zoo.resuming import ResumingExperimentManager
from sb3_ppo_variants.zoo.several_processes import arguments_of_rank, console_of_first
from sb3_ppo_variants.zoo.termination import TERMINATION
from sb3_ppo_variants.zoo.train_arguments import check_train_arguments
from sb3_ppo_variants.zoo.vectorized import KINDS

_HELP = """\
write checkpoints into the run's folder and, if an earlier run has the same algorithm, environment, seed and settings,
go on with that run from its newest intact one instead of beginning another; every --save-freq steps, by default a
hundredth of the training"""

_OF_SB3 = ("dummy", "subproc")
_VEC_ENV_HELP = """\
dummy, subproc: SB3's; gymnasium: a vector environment of gymnasium, the environment's own if it has one; envpool: of
EnvPool, for Atari, classic control and what else it has, by pip install envpool"""


def train() -> None:
    """Run the zoo's command; ``--resume`` and our kinds of ``--vec-env`` are taken out of its arguments.

    :raises SystemExit: with status 2 for arguments that it would misread, 143 after SIGTERM
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=_HELP)
    parser.add_argument("--vec-env", help=_VEC_ENV_HELP)
    own, others = parser.parse_known_args()
    kinds = (*_OF_SB3, *KINDS)
    if own.vec_env is not None and own.vec_env not in kinds:
        refuse(f"--vec-env must be one of {', '.join(kinds)}, got {own.vec_env!r}{did_you_mean(own.vec_env, kinds)}")
    if own.vec_env in _OF_SB3:
        others += ["--vec-env", own.vec_env]
        own.vec_env = None
    if {"-h", "--help"} & set(others):
        print(f"{parser.format_help()}\nand the zoo's:\n")
    else:
        check_train_arguments(others)
    ranks = current_ranks()
    sys.argv[1:] = arguments_of_rank(others, ranks)
    with TERMINATION.in_good_order(), _own_manager(others, own.resume, own.vec_env), console_of_first(ranks):
        rl_zoo3.train.train()


def _own_manager(arguments: list[str], resume: bool, vectorized: str | None) -> AbstractContextManager[None]:
    """Let the zoo's function make our manager, with what the zoo does not know of: it offers no hook."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--seed", type=int, default=-1)  # the zoo draws one in place of -1 before it makes the manager
    given = parser.parse_known_args(arguments)[0].seed
    zoo: Any = rl_zoo3.train
    manager = functools.partial(ResumingExperimentManager, given_seed=given) if resume else zoo.ExperimentManager
    manager = functools.partial(manager, vectorized=vectorized) if vectorized else manager
    return replaced(zoo, ExperimentManager=manager)


__all__ = ["train"]
