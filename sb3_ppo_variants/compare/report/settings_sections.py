"""The parts of the report about what was run: algorithms, their settings, the protocol, versions, the command."""

import re
from collections import defaultdict
from typing import Any

import numpy as np

from sb3_ppo_variants.compare.cells import Cell
from sb3_ppo_variants.compare.plan import ENVIRONMENT_KEYS
from sb3_ppo_variants.compare.report.blocks import Block, Code, Section, Table, Text
from sb3_ppo_variants.compare.report.claims import counted, few_runs_warning, joined
from sb3_ppo_variants.compare.report.comparison import Comparison


def warnings(comparison: Comparison) -> list[str]:
    """List what limits the conclusions.

    :param comparison: all results
    """
    return [
        *few_runs_warning(comparison.fewest_runs(), comparison.fewest_planned()),
        *_incomplete(comparison),
        *_not_finite(comparison),
        *_counted_as_random(comparison),
        *_lost_settings(comparison),
        *_mixed_kinds(comparison),
        *_other_environments(comparison),
        *_mixed_versions(comparison),
        *_mixed_jobs(comparison),
        *_not_normalised(comparison),
    ]


def protocol_section(comparison: Comparison) -> Section:
    """Say what was compared with what, and how.

    :param comparison: all results
    """
    plan = comparison.plan
    stochastic = [env for env in comparison.envs if not _deterministic(comparison, env)]
    how = "the likeliest action is taken" + (f" (sampled actions on {joined(stochastic)})" if stochastic else "")
    who = "On an environment all algorithms get the same seeds and"
    if not comparison.has_every_combination:
        who = "Not all algorithms were meant to run everywhere with every seed. On an environment those that were get"
    text = (
        f"{_compared(comparison)}, {counted(len(plan.budgets), 'environment')}, seeds {_ranges(plan.seeds)}. "
        f"{who} the same number of environment steps, and are evaluated at the same steps, over {plan.eval_episodes} "
        "episodes, in a separate environment whose seeds depend on the training seed and the evaluation only; "
        f"{how}. Rewards are those of the environment itself, not normalised. Training ends with the last evaluation. "
        "The final score of a run is the mean of its evaluations in the last tenth of the training; the mean "
        "over the training is the area under its learning curve divided by its length."
    )
    budgets = [
        [env, f"{b.n_timesteps:,}", f"{b.eval_freq:,}", _updates(comparison, env)] for env, b in plan.budgets.items()
    ]
    sources = [[arm, algo, *_sources(comparison, arm)] for arm, algo in plan.arms.items()]
    kinds = (
        "“Tuned” is an entry for this environment in the algorithm's own file, “general” the file's default or Atari "
        "entry, “of another algorithm” an entry that was tuned for that one, “given” a file from the command line or "
        "of a preset. Steps are those the entry is meant for."
    )
    blocks: list[Block] = [
        Text(text),
        Table(
            ["", "steps of training", "steps between evaluations", "policy updates of a run"],
            budgets,
            "Budget, the same for all algorithms",
        ),
        Table(["", "algorithm", "settings from", "changed"], sources, "Source of the settings", folded=True),
        Text(kinds),
    ]
    return Section("What was compared", blocks)


def settings_section(comparison: Comparison) -> Section:
    """List hyperparameters, versions and commands.

    :param comparison: all results
    """
    blocks: list[Block] = [_hyperparameters(comparison, env) for env in comparison.envs]
    blocks.append(_constructor_arguments(comparison))
    versions = _versions(comparison)
    rows = [[name, "; ".join(sorted(values))] for name, values in versions.items()]
    blocks.append(Table(["", "value"], rows, "Versions and machine", folded=True))
    blocks.append(Text("The command:"))
    blocks.append(Code("\n".join(comparison.plan.commands)))
    return Section("Settings and versions", blocks)


def _compared(comparison: Comparison) -> str:
    """Count what is compared: of a sweep an algorithm has a label for every setting."""
    swept = comparison.plan.swept
    if not swept:
        return counted(len(comparison.plan.arms), "algorithm")
    return f"{counted(len({point.arm for point in swept.values()}), 'algorithm')} at several settings"


def _updates(comparison: Comparison, env: str) -> str:
    counts = {arm: sorted(comparison.updates(arm, env)) for arm in comparison.arms}
    texts = {arm: " or ".join(f"{count:,}" for count in found) for arm, found in counts.items() if found}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{arm} {text}" for arm, text in texts.items()) or "–"


def _sources(comparison: Comparison, arm: str) -> tuple[str, str]:
    """Say from which files and entries the settings of an arm come, and what it changes of them."""
    entries: dict[tuple[str, str], list[str]] = defaultdict(list)
    changes: dict[str, Any] = {}
    for found in comparison.plan.settings[arm].values():
        entries[found.file, found.kind].append(f"{found.key} for {found.hyperparameters['n_timesteps']:,.0f} steps")
        changes |= found.overrides
    files = [f"{file} ({kind}): {', '.join(dict.fromkeys(keys))}" for (file, kind), keys in entries.items()]
    return "; ".join(files), ", ".join(f"{key}={value}" for key, value in changes.items()) or "–"


def _ranges(seeds: list[int]) -> str:
    """Write ascending numbers briefly: 0 to 4, 10, 12 to 13."""
    starts = [seed for seed in seeds if seed - 1 not in seeds]
    ends = [seed for seed in seeds if seed + 1 not in seeds]
    return ", ".join(str(start) if start == end else f"{start} to {end}" for start, end in zip(starts, ends))


def _deterministic(comparison: Comparison, env: str) -> bool:
    flags = [
        r["deterministic"] for cell, r in comparison.results.items() if cell.env == env and cell.arm in comparison.arms
    ]
    return all(flags)


def _incomplete(comparison: Comparison) -> list[str]:
    missing = comparison.missing
    if not missing:
        return []
    listed = [f"{cell} (crashed)" if cell in comparison.crashed else str(cell) for cell in missing[:8]]
    listed += [f"{len(missing) - 8} more"] if len(missing) > 8 else []
    n_cells = len(comparison.cells)
    if len(missing) == 1:
        return [f"1 of {n_cells} cells has no result: {listed[0]}."]
    crashed = sum(cell in comparison.crashed for cell in missing)
    return [f"{len(missing)} of {n_cells} cells have no result, {crashed} of them crashed: {joined(listed)}."]


def _not_finite(comparison: Comparison) -> list[str]:
    episodes = comparison.episodes
    bad = episodes[~np.isfinite(episodes["reward"].to_numpy(float))]
    cells = list(dict.fromkeys(map(Cell, bad["algo"], bad["env"], bad["seed"])))
    if not cells:
        return []
    return [f"Rewards that are not finite, so that there is no score: {joined(list(map(str, cells)))}."]


def _counted_as_random(comparison: Comparison) -> list[str]:
    if not comparison.plan.swept or not comparison.lost:
        return []
    low = "the score that counts as 0" if comparison.given else "the mean score of random actions"
    runs = counted(len(comparison.lost), "run")
    return [f"Counted as {low}, in all numbers and figures: {runs} that crashed or had rewards that are not finite."]


def _lost_settings(comparison: Comparison) -> list[str]:
    if not comparison.plan.swept:
        return []
    lost = [label for label in comparison.plan.swept if label not in comparison.arms]
    sentences = [
        f"{label} has no run on {env}, which is left out of the numbers of all environments."
        for label, env in comparison.without_runs
        if label not in lost
    ]
    if lost:
        consequence = "no result at all, so that the numbers of the algorithm are those of its other settings."
        sentences.append(f"{joined(lost)}: {consequence}")
    return sentences


def _mixed_kinds(comparison: Comparison) -> list[str]:
    sentences = []
    for env in comparison.envs:
        kinds = defaultdict(list)
        for arm in comparison.arms:
            if found := comparison.plan.settings[arm].get(env):
                kinds[found.kind].append(arm)
        if len(kinds) > 1:
            listed = "; ".join(f"{kind}: {joined(arms)}" for kind, arms in kinds.items())
            sentences.append(f"On {env} the settings are not equally tuned ({listed}).")
    return sentences


def _other_environments(comparison: Comparison) -> list[str]:
    sentences = []
    for env in comparison.envs:
        arms = {comparison.baseline, *comparison.arms}  # a sweep's first point may have no result yet
        used = {arm: _hyperparameters_of(comparison, arm, env) for arm in arms}
        kept = {arm: [values.get(key) for key in ENVIRONMENT_KEYS] for arm, values in used.items()}
        differing = [arm for arm in comparison.others if kept[arm] != kept[comparison.baseline]]
        if differing:
            sentences.append(
                f"On {env}, {joined(differing)} and {comparison.baseline} have different environment wrappers or "
                "arguments."
            )
    return sentences


def _mixed_versions(comparison: Comparison) -> list[str]:
    differing = [name for name, values in _versions(comparison).items() if len(values) > 1]
    return [f"The runs differ in {joined(differing)}; see the versions at the end."] if differing else []


def _mixed_jobs(comparison: Comparison) -> list[str]:
    """Tell of commands with different numbers of cells at a time, which slow each other down."""
    jobs = {re.findall(r"--jobs[ =](\S+)|$", command)[0] for command in comparison.plan.commands}
    if len(jobs) < 2:
        return []
    return ["The commands have different --jobs: seconds of the wall clock compare less well than those of processors."]


def _not_normalised(comparison: Comparison) -> list[str]:
    left_out = [env for env in comparison.envs if env not in comparison.scores.common_envs()]
    if not left_out:
        return []
    return [
        f"{joined(left_out)}: not part of what is said of all environments together, because an algorithm or "
        "the random policy has no run there, or none is clearly better than random actions."
    ]


def _versions(comparison: Comparison) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for result in comparison.results.values():
        for name, value in result["environment"].items():
            found[name].add(value)
    return dict(found)


def _hyperparameters(comparison: Comparison, env: str) -> Table:
    of_arms = {arm: _hyperparameters_of(comparison, arm, env) for arm in comparison.arms}
    return _side_by_side(of_arms, f"{env}: hyperparameters; what is not given has the class's default")


def _hyperparameters_of(comparison: Comparison, arm: str, env: str) -> dict[str, Any]:
    found = comparison.plan.settings[arm].get(env)  # none if the arm was never meant to run there
    return found.hyperparameters if found else {}


def _constructor_arguments(comparison: Comparison) -> Table:
    first: dict[str, dict[str, Any]] = {
        arm: next((result["arguments"] for cell, result in comparison.results.items() if cell.arm == arm), {})
        for arm in comparison.arms
    }
    return _side_by_side(first, "Arguments of the trust region as the model held them (first run of each)")


def _side_by_side(of_arms: dict[str, dict[str, Any]], caption: str) -> Table:
    names = sorted({name for values in of_arms.values() for name in values})
    rows = [[name, *(str(values.get(name, "–")) for values in of_arms.values())] for name in names]
    return Table(["", *of_arms], rows, caption, folded=True)


__all__ = ["protocol_section", "settings_section", "warnings"]
