"""The command line: ``sb3-ppo-variants`` or ``python -m sb3_ppo_variants.zoo``."""

import importlib
import sys
from typing import NamedTuple

from sb3_ppo_variants.zoo import ALGORITHMS, register


class Command(NamedTuple):
    """A sub-command: the module and function that run it, and a line of help."""

    module: str
    function: str
    help: str


COMMANDS = {
    "train": Command("rl_zoo3.train", "train", "train an agent, resume its training or tune its hyperparameters"),
    "enjoy": Command("rl_zoo3.enjoy", "enjoy", "watch a trained agent"),
    "evaluate": Command("sb3_ppo_variants.zoo.evaluate", "evaluate", "mean return of a trained agent over n episodes"),
    "compare": Command("sb3_ppo_variants.compare.command", "compare", "compare algorithms over environments and seeds"),
}


def usage() -> str:
    """Return what the program prints for ``--help``."""
    commands = "\n".join(f"  {name:10} {command.help}" for name, command in COMMANDS.items())
    return f"""\
usage: sb3-ppo-variants COMMAND [ARGUMENTS]

rl-zoo3 with the algorithms {", ".join(ALGORITHMS)}.

commands:
{commands}

`sb3-ppo-variants COMMAND --help` lists the arguments of a command; those of train and enjoy are rl-zoo3's."""


def main() -> None:
    """Run the sub-command that ``sys.argv`` names.

    :raises SystemExit: with status 2 if there is none or it is unknown
    """
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("-h", "--help"):
        print(usage())
        return
    if name not in COMMANDS:
        problem = f"unknown command {name!r}" if name else "a command is missing"
        print(f"{usage()}\n\nerror: {problem}; choose from {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    command = COMMANDS[name]
    # The zoo's functions parse sys.argv themselves.
    sys.argv = [f"sb3-ppo-variants {name}", *sys.argv[2:]]
    register()
    getattr(importlib.import_module(command.module), command.function)()


if __name__ == "__main__":
    main()
