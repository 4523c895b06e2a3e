"""Sentences made from intervals: what the interval does not support is not said."""

from collections.abc import Sequence

from sb3_ppo_variants.compare.report.blocks import estimate, number
from sb3_ppo_variants.compare.report.statistics import FEW_RUNS, Estimate

WORTH_NAMING = 1.05
"""A cost that is less than this factor above or below another's is not worth a sentence, however sure it is."""


def improvement_claim(kind: str, found: Estimate) -> str:
    """Say what the probability of improvement shows.

    :param kind: of score, such as ``"final score"``
    :param found: probability that a run of an arm scores higher than one of the baseline
    """
    if found.low > 0.5:
        claim = f"a higher {kind} more often than not"
    elif found.high < 0.5:
        claim = f"a lower {kind} more often than not"
    else:
        claim = f"no difference in {kind} is shown"
    return f"{claim}, P(better) {estimate(found, apart_from=0.5)}"


def ratio_claim(what: str, found: Estimate) -> str:
    """Say what the ratio of two costs shows.

    :param what: the cost, such as ``"processor time"``
    :param found: the arm's divided by the baseline's
    """
    if not found.excludes(1) or 1 / WORTH_NAMING < found.value < WORTH_NAMING:
        return f"no difference in {what} worth naming"
    return f"{'less' if found.high < 1 else 'more'} {what}, {estimate(found, apart_from=1)} times"


def kl_claim(arm: str, env: str, within: Estimate, above: Estimate, ratio: Estimate, tolerance: float) -> str:
    """Say whether the KL divergence stayed near its target: a matter of how many updates did, not of the median one.

    :param arm: label of the arm
    :param env: environment ID
    :param within: share of updates within the band
    :param above: share of updates above it
    :param ratio: median KL divergence of a run's updates over the target, averaged over runs
    :param tolerance: the band reaches from target / tolerance to tolerance * target
    """
    if within.low > 0.5:
        claim = "most updates are within the band"
    elif within.high < 0.5:
        claim = "most updates are outside the band"
    else:
        claim = "it is not shown whether most updates are within the band"
    below = max(0.0, 1 - within.value - above.value)
    return (
        f"{arm} on {env}: {claim}, target / {tolerance:g} to {tolerance:g} × target: "
        f"{estimate(within, percent=True, apart_from=0.5)} within it, {above.value:.0%} above, {below:.0%} below; the "
        f"median one is at {number(ratio.value)} of it."
    )


def few_runs_warning(n_runs: int, n_seeds: int) -> list[str]:
    """Warn of few seeds, or of runs that are missing.

    :param n_runs: the fewest of an arm on an environment
    :param n_seeds: how many were planned
    """
    if n_runs >= FEW_RUNS:
        return []
    what, way_out = f"Too few seeds: {counted(n_runs, 'run')} of each", "Run the same command with more --seeds"
    if n_seeds >= FEW_RUNS:
        what = f"Too few runs: where some have no score, {counted(n_runs, 'run')} of an algorithm"
        way_out = "Run the same command again"
    return [
        f"{what}. Bootstrap intervals of fewer than {FEW_RUNS} runs are too narrow, so no conclusions are drawn. "
        f"{way_out}; what is there is kept."
    ]


def joined(names: Sequence[str]) -> str:
    """Write names as in a sentence.

    :param names: at least one

    >>> joined(["a"]), joined(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def counted(n: int, what: str) -> str:
    """Write a number of things.

    >>> counted(1, "run"), counted(2, "run")
    ('1 run', '2 runs')
    """
    return f"{n} {what}{'' if n == 1 else 's'}"


__all__ = ["WORTH_NAMING", "counted", "few_runs_warning", "improvement_claim", "joined", "kl_claim", "ratio_claim"]
