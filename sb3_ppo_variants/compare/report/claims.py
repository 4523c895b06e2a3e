"""Sentences made from intervals: what the interval does not support is not said."""

from collections.abc import Sequence

from sb3_ppo_variants.compare.report.blocks import estimate, number
from sb3_ppo_variants.compare.report.statistics import FEW_RUNS, Estimate


def improvement_claim(arm: str, baseline: str, kind: str, found: Estimate, n_runs: int) -> str:
    """Say what the probability of improvement shows.

    :param arm: label of the arm
    :param baseline: label of the baseline
    :param kind: of score, such as ``"final score"``
    :param found: probability that a run of the arm scores higher than one of the baseline
    :param n_runs: on each environment, of the one that has fewer
    """
    numbers = f"probability of improvement {estimate(found)}"
    if n_runs < FEW_RUNS:
        return f"{arm} against {baseline}, {kind}: {numbers}; {_runs(n_runs)} are too few for a conclusion."
    if found.low > 0.5:
        return f"{arm} reaches a higher {kind} than {baseline} more often than not: {numbers}."
    if found.high < 0.5:
        return f"{arm} reaches a lower {kind} than {baseline} more often than not: {numbers}."
    return f"No difference in {kind} between {arm} and {baseline} is shown: {numbers}, an interval that contains 0.5."


def ratio_claim(arm: str, baseline: str, what: str, found: Estimate, n_runs: int) -> str:
    """Say what the ratio of two costs shows.

    :param arm: label of the arm
    :param baseline: label of the baseline
    :param what: the cost, such as ``"processor time"``
    :param found: the arm's divided by the baseline's
    :param n_runs: of the one that has fewer
    """
    numbers = f"{number(found.value)} times that of {baseline} [{number(found.low)}, {number(found.high)}]"
    if n_runs < FEW_RUNS:
        return f"{arm}: {what} {numbers}; {_runs(n_runs)} are too few for a conclusion."
    if not found.excludes(1):
        return f"{arm}: no difference in {what} is shown, {numbers}."
    return f"{arm} needs {'less' if found.high < 1 else 'more'} {what}: {numbers}."


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
        f"{arm} on {env}: {claim}, target / {tolerance:g} to {tolerance:g} × target: {estimate(within, percent=True)} "
        f"within it, {above.value:.0%} above, {below:.0%} below; the median one is at {number(ratio.value)} of it."
    )


def few_runs_warning(n_runs: int) -> list[str]:
    """Warn of few seeds.

    :param n_runs: the fewest of an arm on an environment
    """
    if n_runs >= FEW_RUNS:
        return []
    return [
        f"Few seeds: {_runs(n_runs)}. Bootstrap intervals of fewer than {FEW_RUNS} runs are too narrow, so no "
        f"conclusions are drawn. Run the same command with more --seeds; what is there is kept."
    ]


def joined(names: Sequence[str]) -> str:
    """Write names as in a sentence.

    :param names: at least one

    >>> joined(["a"]), joined(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _runs(n_runs: int) -> str:
    return "1 run" if n_runs == 1 else f"{n_runs} runs"


__all__ = ["few_runs_warning", "improvement_claim", "joined", "kl_claim", "ratio_claim"]
