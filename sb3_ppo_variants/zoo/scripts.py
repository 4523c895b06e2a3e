"""The zoo's commands that are scripts without a function to call, and its plots with a way to save them."""

import argparse
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sb3_ppo_variants.zoo.mistakes import refuse
from sb3_ppo_variants.zoo.replacing import replaced
from sb3_ppo_variants.zoo.trained_runs import check_plotted

_OURS = [sys.executable, "-m", "sb3_ppo_variants.zoo"]
_CHILDREN = {
    ("python", "enjoy.py"): [*_OURS, "enjoy"],  # a file of the zoo's repository that is not in its package
    ("python", "-m", "rl_zoo3.record_video"): [*_OURS, "record_video"],
}


def record_video() -> None:
    """Run the zoo's script."""
    run_script("record_video")


def record_training() -> None:
    """Run the zoo's script.

    :raises SystemExit: if ffmpeg is missing, or the zoo would fail after all videos are recorded, or delete other files
    """
    if not {"-h", "--help"} & set(sys.argv):
        if shutil.which("ffmpeg") is None:
            raise SystemExit("record_training joins its videos with ffmpeg, which is not on the PATH; install it first")
        _check_films()
    with _own_children():
        run_script("record_training")


def _check_films() -> None:
    """Make the folder of the films absolute, as ffmpeg needs it, and refuse one that holds anything else."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-o", "--output-folder", type=Path)
    parser.add_argument("-f", "--folder", type=Path, default=Path())
    given, _ = parser.parse_known_args()
    folder = (given.output_folder or given.folder).absolute()
    if any(map(str.isspace, str(folder))):
        refuse(f"record_training cannot write into a folder whose path has a space, got {str(folder)!r}")
    if given.output_folder is None:
        return
    if folder.exists() and not all(film.suffix in (".mp4", ".gif") for film in folder.iterdir()):
        refuse(f"record_training empties its folder first, and {folder} holds more than films; give it another with -o")
    sys.argv += ["-o", str(folder)]


def benchmark() -> None:
    """Run the zoo's script."""
    from rl_zoo3 import utils

    list_models = utils.get_hf_trained_models

    def listed_models(*args: Any, **kwargs: Any) -> Any:
        try:
            return list_models(*args, **kwargs)
        except Exception as error:  # of the network, in whatever library
            refuse(f"no list of the hub's models ({type(error).__name__}); --no-hub takes the agents in --log-dir only")

    with _own_children(), replaced(utils, get_hf_trained_models=listed_models):
        run_script("benchmark")


def plot_train() -> None:
    """Run the zoo's function; ``--figures FOLDER`` saves what it draws."""
    _plot("plot_train")


def all_plots() -> None:
    """Run the zoo's function; ``--figures FOLDER`` saves what it draws."""
    _plot("all_plots")


def plot_from_file() -> None:
    """Run the zoo's function; ``--figures FOLDER`` saves what it draws."""
    _plot("plot_from_file")


def run_script(script: str) -> None:
    """Run a module of the zoo as `python -m` does.

    :param script: its name within rl_zoo3
    """
    runpy.run_module(f"rl_zoo3.{script}", run_name="__main__")


def _own_children() -> AbstractContextManager[None]:
    """Let the zoo's scripts start our commands where they start the zoo's, which do not know our algorithms.

    The command lines are fixed in the scripts, so that there is no other place to change them.
    """
    call = subprocess.call

    def own_call(command: Any, *args: Any, **kwargs: Any) -> int:
        for start, ours in _CHILDREN.items():
            if isinstance(command, list) and tuple(command[: len(start)]) == start:
                command = [*ours, *command[len(start) :]]
        return call(command, *args, **kwargs)

    return replaced(subprocess, call=own_call)


def _plot(name: str) -> None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--figures", type=Path)
    if {"-h", "--help"} & set(sys.argv):
        print(
            "--figures FOLDER saves every figure as PNG there and opens no window; the other arguments are rl-zoo3's:\n"
        )
    ours, sys.argv[1:] = parser.parse_known_args(sys.argv[1:])
    if ours.figures is not None:
        import matplotlib

        matplotlib.use("Agg")  # so that the zoo's plt.show() opens no window and leaves the figures to us
    from rl_zoo3 import plots

    if not {"-h", "--help"} & set(sys.argv):
        check = _check_input if name == "plot_from_file" else check_plotted
        check(sys.argv[1:])
    function: Callable[[], None] = getattr(plots, name)
    function()
    if ours.figures is not None:
        _save_figures(ours.figures)


def _check_input(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-i", "--input")
    if parser.parse_known_args(arguments)[0].input is None:
        refuse("-i missing; give the file that all_plots saves with -o FILE")


def _save_figures(folder: Path) -> None:
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for number in plt.get_fignums():
        figure = plt.figure(number)
        path = folder / f"{figure.get_label() or number}.png".replace(" ", "_").replace("/", "-")
        figure.savefig(path)
        print(f"Figure saved to {path}")
