"""The arguments of ``compare``, and the plan that they describe."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb3_ppo_variants.compare.arms import Arm, parse_arms
from sb3_ppo_variants.compare.plan import Budget, Plan
from sb3_ppo_variants.compare.presets import PRESETS
from sb3_ppo_variants.compare.settings import check_names, resolve, smallest_budget
from sb3_ppo_variants.compare.sweep import Axes, SweptArm, expand, read_axes

DEFAULT_SEEDS = 5


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        description="Compare algorithms over environments and seeds. Started again, it does the missing cells only.",
        allow_abbrev=False,
    )
    add = parser.add_argument_group("what is compared").add_argument
    add("--preset", choices=list(PRESETS), help="a ready-made comparison; --envs, --seeds, --n-timesteps scale it")
    add("--algos", nargs="+", metavar="[LABEL=]ALGO", help="algorithms of rl-zoo3 or ours, under a label if wanted")
    add("--envs", nargs="+", metavar="ENV", help="environment IDs")
    add("--seeds", type=int, metavar="N", help=f"runs of each, with seeds that follow (default: {DEFAULT_SEEDS})")
    add("--first-seed", type=int, default=0, metavar="N", help="seed of the first run (default: 0)")
    add("--baseline", metavar="LABEL", help="what the others are compared with (default: ppo, else the first)")
    add("-params", nargs="+", default=[], metavar="LABEL:KEY:VALUE", help="hyperparameters that replace the YAML's")
    sweep = "every algorithm at every value of a hyperparameter; may be given several times, for all combinations"
    add("--sweep", nargs="+", action="append", default=[], metavar=("KEY", "VALUE"), help=sweep)
    add("--conf-file", nargs="+", default=[], metavar="[LABEL:]FILE", help="YAML files in place of the usual ones")
    add = parser.add_argument_group("how it is run").add_argument
    steps = "steps of training, the same for all algorithms (default: n_timesteps of the baseline's YAML entry)"
    add("--n-timesteps", nargs="+", default=[], metavar="[ENV:]N", help=steps)
    add("--eval-freq", type=int, metavar="N", help="steps between evaluations (default: a twentieth of the training)")
    add("--eval-episodes", type=int, default=10, metavar="N", help="episodes of an evaluation (default: 10)")
    add("--device", default="cpu", help="PyTorch device (default: cpu)")
    add("--engine", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster")
    add("--jobs", type=int, default=_cores(), metavar="N", help="cells at a time, local (default: all cores)")
    add("--address", help="of the Ray cluster (default: one on this machine)")
    add = parser.add_argument_group("results").add_argument
    add("--out", type=Path, metavar="FOLDER", help="folder of the results and the report")
    add("--report-only", action="store_true", help="run nothing, write the report anew")
    source = "folders of results for --report-only, which are merged (default: --out)"
    add("--from", nargs="+", type=Path, dest="sources", metavar="FOLDER", help=source)
    scores = "scores that become 0 and 1 (default: random policy and best algorithm)"
    add("--reference-scores", nargs="+", default=[], metavar="ENV:LOW:HIGH", help=scores)
    return parser


def _cores() -> int:
    """Count the cores that this process may use, which a scheduler or container may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Turn arguments into a plan.

    :param arguments: as the parser gives them
    :raises ValueError: for what does not exist or makes no sense
    """
    _check(arguments)
    arms, envs, seeds, steps_of_preset = _what(arguments)
    check_names(arms, envs)
    baseline = choose_baseline(arguments, [arm.label for arm in arms])
    swept: dict[str, SweptArm] = {}
    if axes := _axes(arguments):
        arms, swept = expand(arms, axes)
        baseline = first_label(baseline, swept)
    settings = {arm.label: {env: resolve(arm, env) for env in envs} for arm in arms}
    steps = _read_steps(arguments.n_timesteps, envs)
    budgets = {}
    for env in envs:
        of_yaml = int(settings[baseline][env].hyperparameters["n_timesteps"])
        n = steps.get(env) or steps_of_preset or of_yaml
        for arm in arms:
            _require_an_update(arm, env, n, settings[arm.label][env].hyperparameters)
        budgets[env] = Budget(n, arguments.eval_freq or max(n // 20, 1))
    return Plan(
        arms={arm.label: arm.algo for arm in arms},
        settings=settings,
        budgets=budgets,
        seeds=list(range(arguments.first_seed, arguments.first_seed + seeds)),
        eval_episodes=arguments.eval_episodes,
        device=arguments.device,
        baseline=baseline,
        preset=arguments.preset or "",
        commands=(shlex.join(["sb3-ppo-variants", "compare", *sys.argv[1:]]),),
        swept=swept,
    )


def first_label(arm: str, swept: dict[str, SweptArm]) -> str:
    """Return the first label of an arm's points in a sweep.

    :param arm: its label as it was given
    :param swept: what each label stands for
    """
    return next(label for label, point in swept.items() if point.arm == arm)


def _axes(arguments: argparse.Namespace) -> Axes:
    if arguments.sweep or not arguments.preset:
        return read_axes(arguments.sweep)
    return PRESETS[arguments.preset].axes


def _require_an_update(arm: Arm, env: str, n_timesteps: int, hyperparameters: dict[str, Any]) -> None:
    least = smallest_budget(arm.algo, hyperparameters)
    if n_timesteps < least:
        raise ValueError(
            f"{n_timesteps} steps on {env} end before the first update of {arm.label}; --n-timesteps must be >= {least}"
        )


def choose_baseline(arguments: argparse.Namespace, labels: Sequence[str]) -> str:
    """Return the baseline's label: the one wanted, else the preset's, else ppo, else the first.

    :param arguments: as the parser gives them
    :param labels: of the arms
    :raises ValueError: if the one wanted is not among the arms
    """
    wanted = arguments.baseline
    if wanted is None:
        preset = PRESETS[arguments.preset].baseline if arguments.preset else "ppo"
        return preset if preset in labels else labels[0]
    if wanted not in labels:
        add = "" if arguments.report_only else ", or add it to --algos"
        raise ValueError(f"--baseline {wanted} is not compared; choose from {', '.join(labels)}{add}")
    return str(wanted)


def read_reference_scores(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Read ``ENV:LOW:HIGH``.

    :param texts: from the command line
    :raises ValueError: for anything else, or an environment that is given twice
    """
    scores: dict[str, tuple[float, float]] = {}
    for text in texts:
        try:
            env, low, high = text.rsplit(":", 2)
            ends = (float(low), float(high))
        except ValueError as error:
            raise ValueError(f"--reference-scores takes ENV:LOW:HIGH with two numbers; got {text!r}") from error
        if not ends[0] < ends[1]:
            raise ValueError(f"--reference-scores takes ENV:LOW:HIGH with LOW < HIGH; got {text!r}")
        if env in scores:
            raise ValueError(f"--reference-scores {text}: {env} is given twice; leave out one of the two")
        scores[env] = ends
    return scores


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out is None:
        raise ValueError("--out is missing: the folder of the results and the report")
    if arguments.sources:
        raise ValueError("--from goes with --report-only; to continue a comparison, give its folder as --out")
    if arguments.preset and (arguments.algos or arguments.params or arguments.conf_file):
        raise ValueError("--preset brings its own algorithms and settings; leave out --algos, -params and --conf-file")
    if arguments.address and arguments.engine != "ray":
        raise ValueError("--address is that of a Ray cluster; add --engine ray")
    for name, least in (("seeds", 1), ("first_seed", 0), ("eval_freq", 1), ("eval_episodes", 1), ("jobs", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be >= {least}, got {value}")


def _what(arguments: argparse.Namespace) -> tuple[list[Arm], list[str], int, int | None]:
    """Return arms, environments, number of seeds, and the preset's steps if there is one."""
    if arguments.preset:
        preset = PRESETS[arguments.preset]
        envs = list(dict.fromkeys(arguments.envs or preset.envs))
        return list(preset.arms), envs, arguments.seeds or preset.n_seeds, preset.n_timesteps
    for name in ("algos", "envs"):
        if not getattr(arguments, name):
            raise ValueError(f"--{name} is missing: what to compare; or give a --preset")
    arms = parse_arms(arguments.algos, arguments.params, arguments.conf_file)
    return arms, list(dict.fromkeys(arguments.envs)), arguments.seeds or DEFAULT_SEEDS, None


def _read_steps(texts: Sequence[str], envs: Sequence[str]) -> dict[str, int]:
    steps: dict[str, int] = {}  # "" is the number of those without one of their own
    for text in texts:
        env, _, number = text.rpartition(":")
        if not re.fullmatch(r"\d+(\.\d*)?(e\d+)?", number) or float(number) < 1 or (env and env not in envs):
            raise ValueError(f"--n-timesteps takes a number >= 1, or ENV:NUMBER with one of --envs; got {text!r}")
        if env in steps:
            whose = f"that of {env}" if env else "the number of all environments"
            raise ValueError(f"--n-timesteps {text}: {whose} is given twice; leave out one of the two")
        steps[env] = int(float(number))
    of_all = steps.pop("", None)
    return steps if of_all is None else {**dict.fromkeys(envs, of_all), **steps}


__all__ = ["build_parser", "choose_baseline", "first_label", "make_plan", "read_reference_scores"]
