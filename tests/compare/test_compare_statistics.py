"""Scores and intervals: against numbers worked out by hand, and against rliable called directly."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from compare_results import make_plan, make_results
from rliable import library, metrics

from sb3_ppo_variants.compare.cells import Cell
from sb3_ppo_variants.compare.report import statistics
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.score_sections import WRONGLY_MARKED
from sb3_ppo_variants.compare.report.scores import Reference, area_score, episode_table, final_score, make_scores

RNG = np.random.default_rng(0)
TWO_ARMS = {"ppo": RNG.normal(0.5, 0.3, (6, 3)), "other": RNG.normal(0.7, 0.3, (5, 3))}
SAMPLES = 200


@pytest.fixture(autouse=True)
def few_bootstrap_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", SAMPLES)


def test_aggregates_of_a_tiny_table() -> None:
    table = np.array([[0.0, 1.0], [0.5, 1.0], [1.0, 1.0], [0.5, 1.2]])
    found = statistics.aggregate({"a": table})["a"]
    assert found["IQM"].value == pytest.approx((0.5 + 1 + 1 + 1) / 4)  # sorted: 0 .5 | .5 1 1 1 | 1 1.2
    assert found["mean"].value == pytest.approx((0.5 + 1.05) / 2)
    assert found["median"].value == pytest.approx((0.5 + 1.05) / 2)  # of the means of two environments
    assert found["optimality gap"].value == pytest.approx(1 - (0.5 + 1) / 2)  # 1.2 counts as 1


def test_probability_of_improvement_of_a_tiny_table() -> None:
    scores = {"base": np.array([[2.0], [1.0]]), "arm": np.array([[3.0], [1.0]])}
    found = statistics.probability_of_improvement(scores, "base")
    assert list(found) == ["arm"]
    assert found["arm"].value == (1 + 1 + 0 + 0.5) / 4  # 3>2, 3>1, 1<2, 1=1


def test_scores_that_differ_by_nothing_worth_naming_are_ties() -> None:
    scores = {"base": np.array([[0.5], [0.5004]]), "arm": np.array([[0.5009], [0.4999]])}
    assert statistics.probability_of_improvement(scores, "base")["arm"] == (0.5, 0.5, 0.5)
    scores["arm"] += 0.002
    assert statistics.probability_of_improvement(scores, "base")["arm"].value == 1.0


def test_aggregates_equal_a_direct_rliable_call() -> None:
    found = statistics.aggregate(TWO_ARMS)
    names = (metrics.aggregate_iqm, metrics.aggregate_median, metrics.aggregate_mean, metrics.aggregate_optimality_gap)
    np.random.seed(0)
    values, intervals = library.get_interval_estimates(
        TWO_ARMS, lambda x: np.array([function(x) for function in names]), reps=SAMPLES
    )
    for arm in TWO_ARMS:
        ours = np.array([tuple(estimate) for estimate in found[arm].values()])
        np.testing.assert_allclose(ours[:, 0], values[arm])
        np.testing.assert_allclose(ours[:, 1:].T, intervals[arm])


def test_probability_of_improvement_equals_a_direct_rliable_call() -> None:
    ties = {"ppo": np.round(TWO_ARMS["ppo"], 1), "other": np.round(TWO_ARMS["other"], 1)}
    found = statistics.probability_of_improvement(ties, "ppo")["other"]
    np.random.seed(0)
    values, intervals = library.get_interval_estimates(
        {"x,y": (ties["other"], ties["ppo"])}, metrics.probability_of_improvement, reps=SAMPLES
    )
    assert found.value == pytest.approx(float(values["x,y"]))
    np.testing.assert_allclose([found.low, found.high], np.ravel(intervals["x,y"]))


def test_profile_and_iqm_curve_equal_direct_rliable_calls() -> None:
    thresholds = np.linspace(0, 1, 5)
    found = statistics.performance_profile(TWO_ARMS, thresholds)
    np.random.seed(0)
    values, intervals = library.create_performance_profile(TWO_ARMS, thresholds, reps=SAMPLES)
    np.testing.assert_allclose(found["other"].value, values["other"])
    np.testing.assert_allclose([found["other"].low, found["other"].high], intervals["other"])
    curves = {"a": RNG.normal(size=(4, 2, 3))}
    iqm = statistics.iqm_curve(curves)["a"].value
    np.testing.assert_allclose(iqm, [metrics.aggregate_iqm(curves["a"][..., i]) for i in range(3)])


def test_intervals_are_the_same_each_time_and_leave_numpys_generator_alone() -> None:
    np.random.seed(3)
    first = statistics.mean(TWO_ARMS["ppo"][:, 0])
    drawn = np.random.random()
    np.random.seed(3)
    assert np.random.random() == drawn
    assert statistics.mean(TWO_ARMS["ppo"][:, 0]) == first
    assert first.low < first.value < first.high


def test_difference_and_ratio_of_single_runs_have_no_width() -> None:
    assert statistics.mean_difference(np.array([5.0]), np.array([3.0])) == (2, 2, 2)
    assert statistics.mean_ratio(np.array([6.0]), np.array([3.0])) == (2, 2, 2)


def test_final_and_area_scores_by_hand() -> None:
    curves = pd.DataFrame({0: [0.0, 10.0, 30.0, 20.0], 1: [4.0, 4.0, 4.0, 8.0]}, index=[0, 50, 95, 100])
    assert final_score(curves).tolist() == [25.0, 6.0]  # steps 95 and 100 are in the last tenth
    areas = [(10 / 2) * 50 + 20 * 45 + 25 * 5, 4 * 95 + 6 * 5]
    assert area_score(curves).tolist() == pytest.approx([area / 100 for area in areas])


def test_scores_are_normalised_by_random_policy_and_best_arm() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0"], n_seeds=2)
    episodes = episode_table(make_results(plan, {"ppo": [10, 20], "trpo": [20, 40]}, random=-10))
    assert list(episodes.columns) == ["algo", "env", "seed", "timesteps", "episode", "reward", "length"]
    scores = make_scores(episodes, ["ppo", "trpo"], ["A-v0", "B-v0"])
    assert scores.references == {"A-v0": (-10, 30), "B-v0": (-10, 30)}
    np.testing.assert_allclose(scores.matrix("final", "ppo", scores.common_envs()), [[0.5, 0.5], [0.75, 0.75]])
    np.testing.assert_allclose(scores.matrix("area", "ppo", ["A-v0"]), [[(5 + 10) / 40], [(10 + 10) / 40]])


def test_given_references_replace_the_measured_ones() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=1)
    episodes = episode_table(make_results(plan, {"ppo": [10]}))
    scores = make_scores(episodes, ["ppo"], ["A-v0"], {"A-v0": Reference(0, 20)})
    np.testing.assert_allclose(scores.matrix("final", "ppo", ["A-v0"]), [[0.5]])


def test_environment_where_nothing_beats_random_actions_is_left_out() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=1)
    scores = make_scores(episode_table(make_results(plan, {"ppo": [10]}, random=10)), ["ppo"], ["A-v0"])
    assert scores.common_envs() == []


def test_incomplete_seeds_and_environments_are_left_out_of_aggregates() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0", "C-v0"], n_seeds=3)
    results = make_results(plan, {"ppo": [10, 20, 30], "trpo": [10, 20, 30]})
    del results[Cell("trpo", "A-v0", 1)]
    for seed in range(3):
        del results[Cell("trpo", "C-v0", seed)]
    comparison = Comparison(plan, results, {}, {})
    assert comparison.scores.common_envs() == ["A-v0", "B-v0"]
    shapes = {arm: matrix.shape for arm, matrix in comparison.matrices("final").items()}
    assert shapes == {"ppo": (3, 2), "trpo": (2, 2)}
    assert len(comparison.missing) == 4


def test_one_algorithm_under_two_names_is_not_told_apart() -> None:
    runs = {name: np.random.default_rng(seed).normal(1, 0.2, (10, 4)) for seed, name in enumerate(("ppo", "again"))}
    found = statistics.probability_of_improvement(runs, "ppo")["again"]
    assert not found.excludes(0.5)
    same = statistics.probability_of_improvement({"ppo": runs["ppo"], "again": runs["ppo"]}, "ppo")["again"]
    assert same.value == 0.5
    assert not same.excludes(0.5)


@pytest.mark.parametrize(("n_runs", "percent"), [(5, 12), (10, 8), (20, 6)])
def test_the_report_says_how_often_a_difference_of_equal_algorithms_is_marked(n_runs: int, percent: int) -> None:
    """The bootstrap takes the variance without Bessel's correction, and the quantile of a normal distribution."""
    quantile = scipy.stats.norm.ppf(0.975) * np.sqrt((n_runs - 1) / n_runs)
    assert round(200 * scipy.stats.t.sf(quantile, 2 * n_runs - 2)) == percent
    assert f"{percent} % with {n_runs}" in WRONGLY_MARKED


@pytest.mark.slow
@pytest.mark.parametrize(("n_runs", "percent"), [(5, 12), (10, 8)])
def test_differences_of_equal_algorithms_are_marked_as_often_as_the_report_says(n_runs: int, percent: int) -> None:
    random = np.random.default_rng(1)
    wrong = sum(statistics.mean_difference(*random.normal(size=(2, n_runs))).excludes(0) for _ in range(1000))
    assert wrong / 1000 == pytest.approx(percent / 100, abs=0.025)


@pytest.mark.slow
@pytest.mark.parametrize(("n_runs", "n_envs", "most"), [(5, 1, 0.15), (5, 4, 0.12), (10, 4, 0.1)])
def test_equal_algorithms_are_seldom_told_apart(n_runs: int, n_envs: int, most: float) -> None:
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        runs = {name: random.normal(size=(n_runs, n_envs)) for name in ("ppo", "again")}
        wrong += statistics.probability_of_improvement(runs, "ppo")["again"].excludes(0.5)
    assert wrong / 300 <= most  # 0.05 if the intervals were exact
