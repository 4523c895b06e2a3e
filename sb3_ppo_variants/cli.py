"""The command line: ``sb3-ppo-variants`` or ``python -m sb3_ppo_variants``."""

import argparse
import contextlib
import importlib
import os
import sys
import textwrap
from typing import NamedTuple

from sb3_ppo_variants.arguments.hints import did_you_mean
from sb3_ppo_variants.version import __version__
from sb3_ppo_variants.zoo import ALGORITHMS, register
from sb3_ppo_variants.zoo.mistakes import one_line_errors, refuse
from sb3_ppo_variants.zoo.trained_runs import check_played


class Command(NamedTuple):
    """A sub-command: the module and function that run it, and a line of help.

    ``registers`` says whether the zoo must know our algorithms first, ``needs`` what to install for it beyond what the
    package requires. The modules are imported when the command is run, so that ``--help`` does not wait for the zoo.
    """

    module: str
    function: str
    help: str
    registers: bool = True
    needs: str = ""

    @property
    def is_zoos(self) -> bool:
        """Say whether it runs code of rl-zoo3, which knows no errors but tracebacks."""
        return self.module.startswith(("rl_zoo3.", f"{__package__}.zoo."))


_SCRIPTS = "sb3_ppo_variants.zoo.scripts"
_HUB = "sb3_ppo_variants.zoo.hub"
_PLOTS = "rl_zoo3[plots]"
_OF_EXTRAS = {
    "moviepy": ("moviepy",),
    _PLOTS: ("matplotlib", "pandas", "pytablewriter", "rliable", "scipy", "seaborn"),
}
_PLAYING = ("enjoy", "evaluate", "record_video", "record_training", "push_to_hub")

COMMANDS = {
    "train": Command("sb3_ppo_variants.zoo.training", "train", "train an agent, resume a run or tune hyperparameters"),
    "enjoy": Command(_HUB, "enjoy", "watch a trained agent"),
    "evaluate": Command("sb3_ppo_variants.zoo.evaluate", "evaluate", "mean return of a trained agent over n episodes"),
    "compare": Command("sb3_ppo_variants.compare.command", "compare", "compare algorithms over environments and seeds"),
    "record_video": Command(_SCRIPTS, "record_video", "film a trained agent", needs="moviepy"),
    "record_training": Command(_SCRIPTS, "record_training", "film an agent at its checkpoints", needs="moviepy"),
    "plot_train": Command(_SCRIPTS, "plot_train", "learning curves of runs of one algorithm", False, _PLOTS),
    "all_plots": Command(_SCRIPTS, "all_plots", "evaluations of several algorithms: plots, table", False, _PLOTS),
    "plot_from_file": Command(_SCRIPTS, "plot_from_file", "plots of what all_plots has saved", False, _PLOTS),
    "benchmark": Command(_SCRIPTS, "benchmark", "table of all trained agents in a folder", False, _PLOTS),
    "push_to_hub": Command(_HUB, "push_to_hub", "put a trained agent on the Hugging Face hub"),
    "load_from_hub": Command(_HUB, "load_from_hub", "get a trained agent from the Hugging Face hub"),
    "init": Command(
        "sb3_ppo_variants.zoo.working_folder", "init", "make rl_zoo3's own train and enjoy know our algorithms", False
    ),
    "plot": Command("sb3_ppo_variants.figures.command", "plot", "draw the objectives, a run or an update", False),
}


def usage() -> str:
    """Return what the program prints for ``--help``."""
    commands = "\n".join(f"  {name:16} {command.help}" for name, command in COMMANDS.items())
    algorithms = textwrap.fill(f"rl-zoo3 with the algorithms {', '.join(ALGORITHMS)}.", 80)
    return f"""\
usage: sb3-ppo-variants COMMAND [ARGUMENTS]
       python -m sb3_ppo_variants COMMAND [ARGUMENTS]

{algorithms}

commands:
{commands}

`sb3-ppo-variants COMMAND --help` lists the arguments of a command; those of the
zoo's commands are its own. `sb3-ppo-variants --version` prints the version."""


def main() -> None:
    """Run the sub-command that ``sys.argv`` names.

    :raises SystemExit: with status 2 and one line for a mistake of the user; with status 1 if something must be
        installed first
    """
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("-h", "--help"):
        print(usage())
        return
    if name == "--version":
        print(f"sb3_ppo_variants {__version__}")
        return
    if name not in COMMANDS:
        problem = f"unknown command {name!r}{did_you_mean(name, COMMANDS)}" if name else "a command is missing"
        print(f"{usage()}\n", file=sys.stderr)
        refuse(f"{problem} (choose from {', '.join(COMMANDS)})")
    command = COMMANDS[name]
    # As with `python -m`, so that the zoo finds custom_envs.py, packages of environments and --conf-file modules there.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    # The zoo's functions parse sys.argv themselves.
    sys.argv = [f"sb3-ppo-variants {name}", *sys.argv[2:]]
    if command.registers:
        register()
        _check_algorithm(sys.argv[1:])
    if name in _PLAYING and not {"-h", "--help"} & set(sys.argv):
        check_played(name, sys.argv[1:])
    with one_line_errors(name) if command.is_zoos else contextlib.nullcontext():
        _run(name, command)


def _run(name: str, command: Command) -> None:
    try:
        getattr(importlib.import_module(command.module), command.function)()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_EXTRAS.get(command.needs, ()):  # as of an environment's own
            raise
        raise SystemExit(f"{name} needs the module {error.name}; pip install {command.needs!r}") from error


def _check_algorithm(arguments: list[str]) -> None:
    """Refuse an unknown ``--algo`` with the closest name; the zoo's parsers only list all of them."""
    from rl_zoo3 import ALGOS

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--algo")
    algo = parser.parse_known_args(arguments)[0].algo
    if algo is not None and algo not in ALGOS:
        refuse(f"unknown algorithm {algo!r}{did_you_mean(algo, ALGOS)} (choose from {', '.join(ALGOS)})")


if __name__ == "__main__":
    main()
