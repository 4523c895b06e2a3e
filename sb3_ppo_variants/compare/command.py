"""The command: ``sb3-ppo-variants compare``."""

import argparse
import importlib.util
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sb3_ppo_variants.compare.command_line import (
    build_parser,
    choose_baseline,
    first_label,
    make_plan,
    read_reference_scores,
)
from sb3_ppo_variants.compare.plan import Plan
from sb3_ppo_variants.compare.run.local_engine import LocalEngine
from sb3_ppo_variants.compare.run.progress import ProgressReport
from sb3_ppo_variants.compare.run.ray_engine import RayEngine
from sb3_ppo_variants.compare.run.results import Merged, ResultsFolder, merge

REPORT_PACKAGES = ("jinja2", "matplotlib", "pandas", "rliable", "scipy")

_OF_RUNS = (
    *("preset", "algos", "envs", "seeds", "first_seed", "params", "sweep", "conf_file", "n_timesteps"),
    *("eval_freq", "eval_episodes", "device", "engine", "jobs", "address"),
)


def compare() -> None:
    """Run the command: train what is missing, then write the report.

    :raises SystemExit: with status 2 for bad arguments, 1 if a cell crashed
    """
    parser = build_parser()
    arguments = parser.parse_args()
    console = Console(markup=False, highlight=False, soft_wrap=True)
    try:
        _check_packages()
        crashed = report_only(arguments, console) if arguments.report_only else run(arguments, console)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    except OSError as error:  # of the results and the report: what fails in a cell is in its log
        parser.exit(2, f"error: {error}; make room there, or give --out another name\n")
    except KeyboardInterrupt:
        parser.exit(130, "\ninterrupted; the same command goes on with the cells that are missing\n")
    if crashed:
        raise SystemExit(1)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Run the cells that have no usable result, and write the report.

    :param arguments: as the parser gives them
    :param console: where to say what happens
    :return: how many cells crashed
    :raises ValueError: for arguments that cannot be done
    """
    plan = make_plan(arguments)
    _references(arguments, plan)  # complain now, not after the runs
    folder = ResultsFolder(arguments.out)
    folder.make()
    with folder.lock():
        plan = folder.begin(plan)
        crashed = _run_missing(plan, folder, arguments, console)
        if crashed:
            logs = folder.path / "logs"
            what = "1 cell crashed; its log is" if crashed == 1 else f"{crashed} cells crashed; their logs are"
            console.print(f"{what} in {logs}. The same command tries again.")
        inventory = folder.take_inventory(plan)
        try:
            crashed_cells = folder.crashed(inventory.missing)
            write(Merged(plan, list(plan.cells()), inventory.results, {}, crashed_cells), arguments, console)
        except ValueError as error:
            console.print(f"no report: {error}")
    return crashed


def report_only(arguments: argparse.Namespace, console: Console) -> int:
    """Write the report of one or several folders of results.

    :param arguments: as the parser gives them
    :param console: where to say what happens
    :return: 0
    :raises ValueError: if there are no results, or they do not fit together
    """
    sources = arguments.sources or [arguments.out]
    if sources == [None]:
        raise ValueError("--report-only needs --out, or --from: the folder of the results")
    if arguments.out is None and len(sources) > 1:
        raise ValueError("--out is missing: where to write the report of several folders")
    usual = build_parser().parse_args([])
    given = [name for name in _OF_RUNS if getattr(arguments, name) != getattr(usual, name)]
    if unheeded := [f"--{name.replace('_', '-')}" for name in given]:
        console.print(f"the report is of everything in the folder; not heeded: {', '.join(unheeded)}")
    arguments.out = arguments.out or sources[0]
    merged = merge([ResultsFolder(path) for path in sources])
    _tell_damaged(merged.damaged, console)
    plan = merged.plan
    arguments.preset = None  # not heeded; of a preset's folder the plan has its baseline
    own = [ResultsFolder(path).read_plan() for path in sources]
    if arguments.baseline is not None or len({_baseline_arm(of_folder) for of_folder in own}) > 1:
        names = list(dict.fromkeys(point.arm for point in plan.swept.values())) or list(plan.arms)
        baseline = choose_baseline(arguments, names)
        plan = replace(plan, baseline=first_label(baseline, plan.swept) if plan.swept else baseline)
    write(merged._replace(plan=plan), arguments, console)
    return 0


def _baseline_arm(plan: Plan) -> str:
    """Return the baseline's label as it was given, of a sweep without its setting."""
    return plan.swept[plan.baseline].arm if plan.swept else plan.baseline


def write(found: Merged, arguments: argparse.Namespace, console: Console) -> None:
    """Write the report.

    :param found: plan and results
    :param arguments: as the parser gives them
    :param console: where to say where it is
    """
    from sb3_ppo_variants.compare.report.comparison import Comparison
    from sb3_ppo_variants.compare.report.report import write_report
    from sb3_ppo_variants.compare.report.scores import Reference

    given = {env: Reference(*scores) for env, scores in _references(arguments, found.plan).items()}
    comparison = Comparison(found.plan, found.results, found.crashed, given, found.planned)
    path = write_report(comparison, arguments.out)
    console.print(f"report: {path}")


def _references(arguments: argparse.Namespace, plan: Plan) -> dict[str, tuple[float, float]]:
    scores = read_reference_scores(arguments.reference_scores)
    for env in scores:
        if env not in plan.budgets:
            raise ValueError(f"--reference-scores {env} is not compared; choose from {', '.join(plan.budgets)}")
    return scores


def _run_missing(plan: Plan, folder: ResultsFolder, arguments: argparse.Namespace, console: Console) -> int:
    inventory = folder.take_inventory(plan)
    _tell_damaged(inventory.damaged, console)
    tasks = [plan.task(cell) for cell in inventory.missing]
    if not tasks:
        return 0
    engine = RayEngine(arguments.address) if arguments.engine == "ray" else LocalEngine(arguments.jobs)
    crashed = 0
    with ProgressReport(tasks, len(inventory.results), console) as report:
        # Closed, as the interpreter would wait at its end for cells that run.
        with closing(engine.run(tasks, report.update)) as outcomes:
            for outcome in outcomes:
                crashed += not folder.store(outcome)
                report.end(outcome, str(folder.log_file(outcome.cell)))
    return crashed


def _tell_damaged(damaged: Mapping[Path, str], console: Console) -> None:
    for file, reason in damaged.items():
        console.print(f"damaged, not used: {file} ({reason})")


def _check_packages() -> None:
    missing = [name for name in REPORT_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f'compare needs {", ".join(missing)}: pip install ".[compare]" in a clone of the project')


__all__ = ["compare", "report_only", "run", "write"]
