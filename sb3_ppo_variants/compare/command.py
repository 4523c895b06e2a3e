"""The command line: ``sb3-ppo-variants compare``."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sb3_ppo_variants.compare.arms import Arm, parse_arms
from sb3_ppo_variants.compare.plan import Budget, Plan
from sb3_ppo_variants.compare.progress import ProgressReport
from sb3_ppo_variants.compare.results import ResultsFolder
from sb3_ppo_variants.compare.settings import check_names, resolve

if TYPE_CHECKING:
    from sb3_ppo_variants.compare.local_engine import LocalEngine


def compare() -> None:
    """Run the command: train what is missing, then write the report.

    :raises SystemExit: with status 2 for bad arguments, 1 if a cell crashed
    """
    parser = build_parser()
    arguments = parser.parse_args()
    try:
        crashed = run(arguments)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\ninterrupted; the same command goes on with the cells that are missing\n")
    if crashed:
        raise SystemExit(1)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        description="Compare algorithms over environments and seeds. Started again, it does the missing cells only."
    )
    add = parser.add_argument
    add("--algos", nargs="+", metavar="[LABEL=]ALGO", help="algorithms of rl-zoo3 or ours, under a label if wanted")
    add("--envs", nargs="+", metavar="ENV", help="environment IDs")
    add("--seeds", type=int, default=5, metavar="N", help="training runs of each (default: 5), with seeds 0 to N - 1")
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder of the results and the report")
    add("--baseline", metavar="LABEL", help="what the others are compared with (default: ppo, else the first)")
    add(
        "--n-timesteps",
        nargs="+",
        default=[],
        metavar="[ENV:]N",
        help="steps of training, the same for all algorithms (default: n_timesteps of the baseline's YAML entry)",
    )
    add("--eval-freq", type=int, metavar="N", help="steps between evaluations (default: a twentieth of the training)")
    add("--eval-episodes", type=int, default=10, metavar="N", help="episodes of an evaluation (default: 10)")
    add("-params", nargs="+", default=[], metavar="LABEL:KEY:VALUE", help="hyperparameters that replace the YAML's")
    add("--conf-file", nargs="+", default=[], metavar="[LABEL:]FILE", help="YAML files in place of the usual ones")
    add("--device", default="cpu", help="PyTorch device (default: cpu)")
    add("--engine", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster")
    add(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="cells at a time, local (default: all cores)"
    )
    add("--address", help="of the Ray cluster (default: a local one)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say.

    :param arguments: as the parser gives them
    :return: how many cells crashed
    :raises ValueError: for arguments that cannot be done
    """
    plan = make_plan(arguments)
    folder = ResultsFolder(arguments.out)
    with folder.lock():
        plan = folder.begin(plan)
        crashed = run_missing(plan, folder, make_engine(arguments))
    return crashed


def run_missing(plan: Plan, folder: ResultsFolder, engine: "LocalEngine") -> int:
    """Run the cells that have no usable result.

    :param plan: all cells
    :param folder: where they are kept
    :param engine: what runs them
    :return: how many crashed
    """
    console = Console()
    inventory = folder.take_inventory(plan)
    for file, reason in inventory.damaged.items():
        console.print(f"damaged, will be done again: {file} ({reason})", markup=False, highlight=False, soft_wrap=True)
    tasks = [plan.task(cell) for cell in inventory.missing]
    crashed = 0
    with ProgressReport(tasks, len(inventory.results), console) as report:
        for outcome in engine.run(tasks, report.update):
            crashed += not folder.store(outcome)
            report.end(outcome, str(folder.log_file(outcome.cell)))
    return crashed


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Turn arguments into a plan.

    :param arguments: as the parser gives them
    :raises ValueError: for what does not exist or makes no sense
    """
    for name, value in (("--algos", arguments.algos), ("--envs", arguments.envs)):
        if not value:
            raise ValueError(f"{name} is missing")
    for name in ("seeds", "eval_freq", "eval_episodes", "jobs"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be >= 1, got {value}")
    arms = parse_arms(arguments.algos, arguments.params, arguments.conf_file)
    envs = list(dict.fromkeys(arguments.envs))
    check_names(arms, envs)
    baseline = choose_baseline(arguments.baseline, arms)
    settings = {arm.label: {env: resolve(arm, env) for env in envs} for arm in arms}
    steps = _read_budgets(arguments.n_timesteps, envs)
    budgets = {}
    for env in envs:
        n = steps.get(env) or int(settings[baseline][env].hyperparameters["n_timesteps"])
        budgets[env] = Budget(n, arguments.eval_freq or max(n // 20, 1))
    return Plan(
        arms={arm.label: arm.algo for arm in arms},
        settings=settings,
        budgets=budgets,
        seeds=list(range(arguments.seeds)),
        eval_episodes=arguments.eval_episodes,
        device=arguments.device,
        baseline=baseline,
        commands=(shlex.join(["sb3-ppo-variants", "compare", *sys.argv[1:]]),),
    )


def choose_baseline(wanted: str | None, arms: Sequence[Arm]) -> str:
    """Return the baseline's label: the one wanted, else ppo, else the first.

    :raises ValueError: if the one wanted is not among the arms
    """
    labels = [arm.label for arm in arms]
    if wanted is None:
        return "ppo" if "ppo" in labels else labels[0]
    if wanted not in labels:
        raise ValueError(f"--baseline {wanted} is not compared; choose from {', '.join(labels)}, or add it to --algos")
    return wanted


def make_engine(arguments: argparse.Namespace) -> "LocalEngine":
    """Return what runs the cells."""
    from sb3_ppo_variants.compare.local_engine import LocalEngine

    return LocalEngine(arguments.jobs)


def _read_budgets(texts: Sequence[str], envs: Sequence[str]) -> dict[str, int]:
    steps: dict[str, int] = {}
    for text in texts:
        env, _, number = text.rpartition(":")
        if not re.fullmatch(r"\d+(\.\d*)?(e\d+)?", number) or float(number) < 1 or (env and env not in envs):
            raise ValueError(f"--n-timesteps takes a number >= 1, or ENV:NUMBER with one of --envs; got {text!r}")
        named = {env} if env else set(envs) - set(steps)
        steps.update(dict.fromkeys(named, int(float(number))))
    return steps


__all__ = ["build_parser", "compare", "make_plan", "run"]
