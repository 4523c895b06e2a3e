"""Whether the runs that a command is about are there; else the zoo names nothing close or draws an empty figure."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from sb3_ppo_variants.arguments.hints import did_you_mean
from sb3_ppo_variants.zoo.mistakes import refuse

RUN_NUMBER = re.compile(r"_(\d+)(_[0-9a-f-]{36})?$")
"""What follows the environment in the name of a run's folder: a number, and with -uuid an ID."""
_OF_THE_HUB = "rl-trained-agents"  # a folder that the zoo fills by itself


def check_played(command: str, arguments: Sequence[str]) -> None:
    """Refuse an environment on which an algorithm has no run, with the closest that it has.

    :param command: for one trained agent
    :param arguments: of it
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algo", default="ppo")
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("-f", "--folder", default="logs" if command == "evaluate" else _OF_THE_HUB)
    given = parser.parse_known_args(arguments)[0]
    runs = Path(given.folder) / given.algo
    downloads = command == "enjoy" and _OF_THE_HUB in given.folder
    if downloads or not runs.is_dir() or (runs / given.env).is_dir():  # the last with --exp-id -1
        return
    there = _environments([runs])
    if there and given.env.replace("/", "-") not in there:
        refuse(f"there is no run of {given.env!r} in {runs}{did_you_mean(given.env, there, otherwise=_listed(there))}")


def check_plotted(arguments: Sequence[str]) -> None:
    """Refuse folders, algorithms and environments without runs, and to be given none.

    :param arguments: of a command that draws several runs
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-a", "--algos", nargs="+", default=[])
    parser.add_argument("-e", "--env", nargs="+", default=[])
    parser.add_argument("-f", "--exp-folders", nargs="+", default=[])
    given = parser.parse_known_args(arguments)[0]
    needed = {"-a": given.algos, "-e": given.env, "-f": given.exp_folders}
    missing = [option for option, values in needed.items() if not values]
    if missing:
        refuse(f"{' and '.join(missing)} missing; give -a ALGORITHM -e ENVIRONMENT -f FOLDER, that of trainings")
    for folder in given.exp_folders:
        if not Path(folder).is_dir():
            refuse(f"there is no folder {folder}; -f takes the log folder of trainings")
    folders, in_folders = [Path(folder) for folder in given.exp_folders], ", ".join(given.exp_folders)
    there = sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()})
    for algo in given.algos if folders else ():
        if algo.lower() not in there:
            refuse(f"there is no folder of {algo!r} in {in_folders}{did_you_mean(algo, there)} ({_listed(there)})")
    runs = [path for folder in folders for algo in given.algos if (path := folder / algo.lower()).is_dir()]
    environments = _environments(runs)
    for env in given.env if environments else ():
        if not any(env in name for name in environments):  # as the zoo looks for it
            hint = did_you_mean(env, environments, otherwise=_listed(environments))
            refuse(f"there is no run of {env!r} of {', '.join(given.algos)} in {in_folders}{hint}")


def _environments(runs: Sequence[Path]) -> list[str]:
    """List the environments of the runs in folders of algorithms, as they are written there: with - for /."""
    names = {path.name for folder in runs for path in folder.iterdir() if path.is_dir()}
    return sorted({RUN_NUMBER.sub("", name) for name in names})


def _listed(names: Sequence[str]) -> str:
    return f"there is {', '.join(names) or 'none'}"


__all__ = ["RUN_NUMBER", "check_played", "check_plotted"]
