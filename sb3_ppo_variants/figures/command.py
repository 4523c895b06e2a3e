"""The command ``sb3-ppo-variants plot``: a figure from the command line."""

import argparse
import inspect
from typing import Any

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.figures.figure_style import check_ending
from sb3_ppo_variants.figures.objective_figure import plot_clip_objective
from sb3_ppo_variants.figures.runs import plot_trust_region
from sb3_ppo_variants.figures.update_figure import plot_update
from sb3_ppo_variants.trust_region_log import Table, read_trust_region


def plot() -> None:
    """Run the command: parse its arguments, draw, save.

    :raises SystemExit: with a message, if there is nothing to draw or no place to save it
    """
    arguments = _parser().parse_args()
    try:
        path = check_ending(arguments.out)
        figure = arguments.draw(arguments)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=arguments.dpi)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"Saved {path}")


def _trust_region(arguments: argparse.Namespace) -> Any:
    if bool(arguments.runs) == bool(arguments.files) or any(len(words) < 2 for words in arguments.runs):
        raise ValueError("trust-region takes either FILE ... or, once for each label, --runs LABEL FILE ...")
    labelled: dict[str, list[Table]] = {}
    for label, *files in arguments.runs:
        labelled.setdefault(label, []).extend(map(_updates, files))
    runs = labelled or [_updates(path) for path in arguments.files]
    return plot_trust_region(runs, arguments.title, arguments.kl_tolerance)


def _updates(path: str) -> Table:
    updates = read_trust_region(path).updates
    require(len(updates["update"]) > 0, f"`{path}` must hold an update", 0, "train for at least one update")
    return updates


def _update(arguments: argparse.Namespace) -> Any:
    log = read_trust_region(arguments.file)
    require(len(log.updates["update"]) > 0, f"{arguments.file} must hold an update", 0, "train for at least one update")
    return plot_update(log.update_trace(arguments.update), arguments.title)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Draw a figure of the trust region.")
    figures = parser.add_subparsers(required=True, metavar="FIGURE")
    defaults = {name: p.default for name, p in inspect.signature(plot_clip_objective).parameters.items()}

    objective = figures.add_parser("clip-objective", help="the clipped and the penalised objective against the ratio")
    objective.set_defaults(draw=lambda given: plot_clip_objective(**{name: getattr(given, name) for name in defaults}))
    objective.add_argument("--advantages", nargs="+", type=float, default=defaults["advantages"], help="one line each")
    for name, what in (
        ("clip_range", "epsilon"),
        ("clip_range_upper", "upper half-width of the asymmetric range"),
        ("dual_clip", "bound for negative advantages"),
        ("beta", "coefficient of the KL penalty"),
    ):
        option = f"--{name.replace('_', '-')}"
        objective.add_argument(option, type=float, default=defaults[name], help=f"{what} ({defaults[name]:g})")

    region = figures.add_parser("trust-region", help="KL, beta or epsilon, clip fraction and return over time")
    region.set_defaults(draw=_trust_region)
    several = "of TrustRegionRecorder; several: seeds of each algorithm, which is known by what it recorded"
    region.add_argument("files", nargs="*", metavar="FILE", help=several)
    labelled = "runs of one setting under a label; may be given several times, in place of FILE"
    region.add_argument("--runs", nargs="+", action="append", default=[], metavar=("LABEL", "FILE"), help=labelled)
    region.add_argument("--kl-tolerance", type=float, default=1.5, help="half-width of the band as a factor (1.5)")

    update = figures.add_parser("update", help="KL and clip fraction of the minibatches of one update")
    update.set_defaults(draw=_update)
    update.add_argument("file", metavar="FILE", help="of TrustRegionRecorder(path, minibatches=True)")
    update.add_argument("--update", type=int, help="number of the update, from 1 (default: the last)")

    for figure in (region, update):
        figure.add_argument("--title", help="title of the figure")
    for figure in (objective, region, update):
        figure.add_argument("--out", required=True, metavar="FILE", help="ending in .png, .svg or .pdf")
        figure.add_argument("--dpi", type=int, default=120, help="dots per inch of a PNG (120)")
    return parser


__all__ = ["plot"]
