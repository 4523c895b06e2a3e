"""Sweeps: which points there are, what is said of them, and the command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from compare_results import make_plan, make_result, make_results
from test_compare_command import SMALL, compare

from sb3_ppo_variants.compare.arms import Arm
from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell
from sb3_ppo_variants.compare.command_line import build_parser
from sb3_ppo_variants.compare.command_line import make_plan as plan_of
from sb3_ppo_variants.compare.plan import Plan
from sb3_ppo_variants.compare.presets import PRESETS
from sb3_ppo_variants.compare.report.blocks import Figures, Table
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.report import make_report
from sb3_ppo_variants.compare.report.sweep_scores import SweepScores
from sb3_ppo_variants.compare.sweep import SweptArm, expand, read_axes
from sb3_ppo_variants.zoo import register

ENVS = ("A-v0", "B-v0")
# Mean final score by arm and learning rate, on the two environments; random actions have 0 and the best 100.
MEANS = {
    ("ppo", 1e-3): (100.0, 10.0),
    ("ppo", 1e-2): (20.0, 80.0),
    ("mine", 1e-3): (90.0, 90.0),
    ("mine", 1e-2): (70.0, 100.0),
}


@pytest.fixture(scope="module", autouse=True)
def _zoo() -> None:
    register()


def arguments(*texts: str) -> Any:
    return build_parser().parse_args([*texts, "--out", "out"])


def swept_comparison(
    n_seeds: int = 6,
    without: tuple[str, ...] = (),
    at_random: float = 0.0,
    lost: Callable[[Cell], bool] = lambda _: False,
    means: dict[tuple[str, float], tuple[float, float]] = MEANS,
    crashed: Callable[[Cell], bool] = lambda _: False,
) -> Comparison:
    labels = {f"{arm}@learning_rate={rate}": SweptArm(arm, {"learning_rate": rate}) for arm, rate in MEANS}
    algos = {label: {"ppo": "ppo", "mine": "ppo_penalty"}[point.arm] for label, point in labels.items()}
    plan = make_plan(algos, ENVS, n_seeds, swept=labels)
    results = {}
    for cell in plan.cells():
        if cell.arm == RANDOM_POLICY:
            results[cell] = make_result(plan, cell, [at_random])
        elif cell.arm not in without and not lost(cell) and not crashed(cell):
            point = labels[cell.arm]
            mean = means[point.arm, point.values["learning_rate"]][ENVS.index(cell.env)]
            end = mean + 0.1 * (cell.seed - (n_seeds - 1) / 2)
            results[cell] = make_result(plan, cell, [0.0, end / 2, end])
    return Comparison(plan, results, {cell: Path("log") for cell in plan.cells() if crashed(cell)}, {})


# -------------------------------------------------------------------------------------------------------------- points


def test_every_arm_is_multiplied_by_every_point_that_its_algorithm_has() -> None:
    arms = [Arm("ppo", "ppo"), Arm("mine", "ppo_penalty", {"target_kl": 0.02}), Arm("trpo", "trpo")]
    expanded, swept = expand(arms, read_axes([["learning_rate", "1e-3", "lin_3e-4"], ["n_epochs", "3", "10"]]))
    assert [arm.label for arm in expanded if arm.algo == "trpo"] == [
        "trpo@learning_rate=0.001",
        "trpo@learning_rate=lin_3e-4",
    ]
    assert len([arm for arm in expanded if arm.algo == "ppo"]) == 4
    mine = next(arm for arm in expanded if arm.label == "mine@learning_rate=0.001,n_epochs=10")
    assert mine.overrides == {"target_kl": 0.02, "learning_rate": 0.001, "n_epochs": 10}
    assert swept[mine.label] == SweptArm("mine", {"learning_rate": 0.001, "n_epochs": 10})


def test_hyperparameters_of_the_zoo_itself_are_swept_for_all() -> None:
    _, swept = expand([Arm("ppo", "ppo"), Arm("trpo", "trpo")], {"n_envs": [1, 4]})
    assert list(swept) == ["ppo@n_envs=1", "ppo@n_envs=4", "trpo@n_envs=1", "trpo@n_envs=4"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([["gamma", "0.9"]], "takes KEY and at least two different values; got 'gamma 0.9'"),
        ([["gamma", "0.9", "0.9"]], "at least two different values"),
        ([["gamma", "1e-3", "0.001"]], "at least two different values"),
        ([["n_timesteps", "10", "20"]], "give it as --n-timesteps"),
        ([["gamma", "0.9", "1"], ["gamma", "1", "2"]], "--sweep gamma is given twice"),
        ([["net", "dict(a=1)", "2"]], r"takes numbers or names, such as 1e-3, None or lin_3e-4; got 'dict\(a=1\)'"),
    ],
)
def test_bad_axes_are_refused(texts: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_axes(texts)


def test_a_hyperparameter_that_an_arm_sets_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="--sweep gamma: mine sets it already"):
        expand([Arm("ppo", "ppo"), Arm("mine", "ppo", {"gamma": 0.9})], {"gamma": [0.9, 1.0]})


def test_a_hyperparameter_that_no_algorithm_has_is_refused() -> None:
    with pytest.raises(ValueError, match="--sweep buffer_size: none of the algorithms has this hyperparameter"):
        expand([Arm("ppo", "ppo"), Arm("mine", "ppo_penalty")], {"buffer_size": [100, 200]})


def test_first_seed_and_steps_of_single_environments_are_heeded() -> None:
    envs = ("--envs", "CartPole-v1", "Pendulum-v1", "--n-timesteps", "9e3", "Pendulum-v1:12000")
    plan = plan_of(arguments("--algos", "ppo", *envs, "--first-seed", "10", "--seeds", "2"))
    assert plan.seeds == [10, 11]
    assert {env: budget.n_timesteps for env, budget in plan.budgets.items()} == {
        "CartPole-v1": 9000,
        "Pendulum-v1": 12_000,
    }


def test_a_plan_of_a_sweep_is_read_back_as_it_was() -> None:
    given = arguments("--algos", "ppo", "ppo_clip", "--envs", "CartPole-v1", "--sweep", "gamma", "0.9", "0.99")
    plan = plan_of(given)
    assert plan.baseline == "ppo@gamma=0.9"
    assert Plan.from_json(plan.to_json() | {"commands": list(plan.commands)}).arms == plan.arms
    import json

    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_the_robustness_preset_has_every_point() -> None:
    plan = plan_of(arguments("--preset", "robustness", "--envs", "CartPole-v1", "--seeds", "1"))
    axes = PRESETS["robustness"].axes
    assert [len(values) for values in axes.values()] == [6, 3]
    assert len(plan.arms) == 5 * 18 + 6  # TRPO has no epochs
    assert {point.values["learning_rate"] for point in plan.swept.values()} == set(axes["learning_rate"])


# -------------------------------------------------------------------------------------------------------------- report


def test_sensitivity_is_what_tuning_for_each_environment_is_worth() -> None:
    found = SweepScores(swept_comparison()).sensitivities("final")
    # ppo: best on each 100 and 80, mean 90; best single setting (100 + 10) / 2 = 55
    assert found["ppo"].tuned_per_env.value == pytest.approx(0.90, abs=2e-3)
    assert found["ppo"].best_setting.value == pytest.approx(0.55, abs=2e-3)
    assert found["ppo"].sensitivity.value == pytest.approx(0.35, abs=2e-3)
    assert found["ppo"].sensitivity.low < 0.35 < found["ppo"].sensitivity.high
    assert found["ppo"].mean.value == pytest.approx(0.525, abs=2e-3)
    # mine: best on each 90 and 100; best single setting (90 + 90) / 2
    assert found["mine"].sensitivity.value == pytest.approx(0.05, abs=2e-3)
    # below half of ppo's best, 50 on A and 40 on B: ppo's 10 and 20
    assert found["ppo"].failed.value == pytest.approx(0.5)
    assert found["mine"].failed.value == 0


class TwoSettings(SweepScores):
    """Two settings on one environment with four seeds, of which one in four goes well."""

    labels: ClassVar = {"ppo": ["first", "second"]}
    baseline = "ppo"

    def cube(self, kind: str, arm: str) -> Any:
        return np.array([[[0.0], [0.0]], [[0.0], [0.0]], [[0.0], [0.0]], [[10.0], [10.0]]])


def test_the_best_setting_of_the_baseline_never_fails_beside_itself() -> None:
    assert TwoSettings(swept_comparison()).sensitivities("final")["ppo"].failed.high <= 0.5


def test_the_report_answers_first_and_draws_every_environment() -> None:
    report = make_report(swept_comparison())
    assert report.title == "ppo and mine over learning_rate"
    summary = report.sections[0].blocks
    table = next(block for block in summary if isinstance(block, Table))
    assert [row[0] for row in table.rows] == ["ppo", "mine"]
    assert table.rows[0][2] == "learning_rate=0.001"
    text = str(summary)
    assert "mine against ppo: depends less on its setting, fails less often, has a higher mean score" in text
    pictures = [block.pictures for section in report.sections for block in section.blocks if isinstance(block, Figures)]
    assert list(pictures[0]) == ["sweep", "sweep_A-v0", "sweep_B-v0"]
    assert all(picture.png()[:4] == b"\x89PNG" for picture in pictures[0].values())
    every = next(section for section in report.sections if section.title == "Every setting")
    assert [row[0] for row in every.blocks[0].rows] == ["learning_rate=0.001", "learning_rate=0.01"]


@pytest.mark.parametrize(("without", "words"), [(0, "all environments"), (1, "2 of 3 environments")])
def test_numbers_of_some_environments_are_not_said_to_be_of_all(without: int, words: str) -> None:
    swept = {f"ppo@n_steps={n}": SweptArm("ppo", {"n_steps": n}) for n in (64, 128)}
    plan = make_plan(dict.fromkeys(swept, "ppo"), ["A-v0", "B-v0", "C-v0"], n_seeds=2, swept=swept)
    results = make_results(plan, {label: [5.0, 6.0] for label in swept})
    if without:
        results[Cell(RANDOM_POLICY, "C-v0", 0)]["evaluations"][0]["rewards"] = [80.0, 120.0]
    report = make_report(Comparison(plan, results, {}, {}))
    assert report.pictures()["sweep"].figure.get_suptitle() == words.capitalize()
    assert f"Normalised final score, {words}: estimate" in str(report.sections[0])


def test_few_seeds_and_missing_points_make_no_claims() -> None:
    few = make_report(swept_comparison(n_seeds=3))
    assert "against ppo" not in str(few.sections[0].blocks)
    part = swept_comparison(without=("ppo@learning_rate=0.001",))
    assert "cells have no result" in str(make_report(part).sections[0].blocks)
    assert "its other settings" in str(make_report(part).sections[0].blocks)
    assert "against ppo" not in str(make_report(part).sections[0].blocks)
    with pytest.raises(ValueError, match="no results of the baseline"):
        make_report(swept_comparison(without=("ppo@learning_rate=0.001", "ppo@learning_rate=0.01")))


def test_where_the_baseline_is_not_above_random_nothing_can_fail() -> None:
    """Half of a negative score would be above it."""
    means = {point: (a, -b if point[0] == "ppo" else b) for point, (a, b) in MEANS.items()}
    comparison = swept_comparison(means=means)
    found = SweepScores(comparison).sensitivities("final")
    assert found["ppo"].failed.value == 0.5  # of its two settings on A, 100 and 20
    text = str(make_report(comparison).sections[0].blocks)
    assert "without those where that is not above random: B-v0 (final score)" in text


def test_a_setting_without_a_run_on_an_environment_is_named_and_nothing_concluded() -> None:
    comparison = swept_comparison(lost=lambda cell: (cell.arm, cell.env) == ("ppo@learning_rate=0.01", "B-v0"))
    text = str(make_report(comparison).sections[0].blocks)
    assert "against ppo" not in text
    assert "ppo@learning_rate=0.01 has no run on B-v0, which is left out of the numbers of all environments" in text


def test_crashed_runs_of_a_setting_count_as_random_actions_and_the_sentence_says_so() -> None:
    bad = "mine@learning_rate=0.01"
    comparison = swept_comparison(crashed=lambda cell: cell.arm == bad and cell.env == "A-v0" and cell.seed < 4)
    found = SweepScores(comparison).sensitivities("final")["mine"]
    # on A 70 twice and 0 four times, 23 on average, which is less than half of ppo's best, 100
    assert found.mean.value == pytest.approx((0.9 + 0.9 + 0.7 * 2 / 6 + 1) / 4, abs=2e-3)
    assert found.failed is not None and found.failed.value == 0.25
    assert comparison.fewest_runs() == 6
    text = str(make_report(comparison).sections[0].blocks)
    assert "(without a score, so counted as random actions: 4 of 24 runs of mine)." in text
    assert "Counted as the mean score of random actions, in all numbers and figures: 4 runs that crashed" in text


def test_a_setting_of_which_every_run_crashed_does_not_vanish() -> None:
    comparison = swept_comparison(crashed=lambda cell: cell.arm == "mine@learning_rate=0.01")
    sweep = SweepScores(comparison)
    assert sweep.labels["mine"] == ["mine@learning_rate=0.001", "mine@learning_rate=0.01"]
    assert comparison.scores.common_envs() == list(ENVS)
    found = sweep.sensitivities("final")["mine"]
    assert found.mean.value == pytest.approx((0.9 + 1) / 4, abs=2e-3)  # on B its 90 is the best that is left
    assert found.failed is not None and found.failed.value == 0.5
    report = make_report(comparison)
    text = str(report.sections[0].blocks)
    assert "mine against ppo: depends less on its setting, has a lower mean score" in text
    assert "its other settings" not in text
    assert len(report.pictures()) == 3


def test_a_run_with_a_reward_that_is_not_finite_counts_as_random_actions_too() -> None:
    comparison = swept_comparison()
    comparison.results[Cell("mine@learning_rate=0.01", "A-v0", 1)]["evaluations"][-1]["rewards"][0] = float("nan")
    assert comparison.lost == {("mine@learning_rate=0.01", "A-v0", 1): 0.0}
    assert SweepScores(comparison).cube("final", "mine").shape == (6, 2, 2)


def test_scattered_runs_that_are_missing_leave_out_their_algorithm_only() -> None:
    gone = {"ppo@learning_rate=0.001": range(3), "ppo@learning_rate=0.01": range(3, 6)}
    comparison = swept_comparison(lost=lambda cell: cell.seed in gone.get(cell.arm, ()))
    summary = make_report(comparison).sections[0].blocks
    table = next(block for block in summary if isinstance(block, Table))
    assert [row[0] for row in table.rows] == ["mine"]
    assert "No seed has a result at every setting of ppo, which the table leaves out" in str(summary)


def test_numbers_are_drawn_in_their_order_and_names_as_they_were_given() -> None:
    swept = {
        f"ppo@n_steps={n},gamma={gamma}": SweptArm("ppo", {"n_steps": n, "gamma": gamma})
        for n in (512, 64, 128)
        for gamma in ("lin_0.9", None)
    }
    plan = make_plan(dict.fromkeys(swept, "ppo"), ["A-v0"], n_seeds=2, swept=swept)
    final = {label: [float(point.values["n_steps"])] * 2 for label, point in swept.items()}
    comparison = Comparison(plan, make_results(plan, final), {}, {})
    assert SweepScores(comparison).axes == {"n_steps": [64, 128, 512], "gamma": ["lin_0.9", None]}
    axes = make_report(comparison).pictures()["sweep_A-v0"].figure.axes[-1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "128", "512"]
    (line,) = axes.lines
    assert np.asarray(line.get_ydata()).tolist() == [64, 128, 512]


def test_line_and_band_break_where_a_setting_has_no_run() -> None:
    swept = {f"ppo@n_steps={n}": SweptArm("ppo", {"n_steps": n}) for n in (64, 72, 80, 96, 112)}
    plan = make_plan(dict.fromkeys(swept, "ppo"), ["A-v0"], n_seeds=2, swept=swept)
    final = {label: [point.values["n_steps"] - 1.0, point.values["n_steps"] + 1.0] for label, point in swept.items()}
    results = {cell: result for cell, result in make_results(plan, final).items() if cell.arm != "ppo@n_steps=80"}
    axes = make_report(Comparison(plan, results, {}, {})).pictures()["sweep_A-v0"].figure.axes[-1]
    (line,), (band, bars) = axes.lines, axes.collections
    assert np.array_equal(line.get_ydata(), [64, 72, np.nan, 96, 112], equal_nan=True)
    assert len(band.get_paths()) == 2
    assert len(bars.get_paths()) == 0

    del swept["ppo@n_steps=64"], swept["ppo@n_steps=72"]
    plan = make_plan(dict.fromkeys(swept, "ppo"), ["A-v0"], n_seeds=2, swept=swept)
    results = {cell: result for cell, result in make_results(plan, final).items() if cell.arm != "ppo@n_steps=96"}
    axes = make_report(Comparison(plan, results, {}, {})).pictures()["sweep_A-v0"].figure.axes[-1]
    bars = axes.collections[1]
    assert [path.vertices[:, 1].tolist() for path in bars.get_paths()] == [[79, 81], [111, 113]]


def test_true_and_one_are_two_values() -> None:
    swept = {f"ppo@normalize={value}": SweptArm("ppo", {"normalize": value}) for value in (True, 1)}
    plan = make_plan(dict.fromkeys(swept, "ppo"), ["A-v0"], n_seeds=1, swept=swept)
    sweep = SweepScores(Comparison(plan, make_results(plan, {key: [1.0] for key in swept}), {}, {}))
    assert str(sweep.axes) == "{'normalize': [True, 1]}"
    assert [sweep.label_at("ppo", {"normalize": value}) for value in (True, 1)] == list(swept)


def test_a_report_is_written_where_nobody_is_better_than_random() -> None:
    """No score can be normalised then."""
    comparison = swept_comparison(at_random=1000.0)
    assert SweepScores(comparison).sensitivities("final") == {}
    text = str(make_report(comparison))
    assert "There is no environment on which all algorithms have a run and one is clearly better" in text
    assert "as given" not in text
    assert "Adkins" not in text


def test_an_algorithm_without_the_hyperparameter_is_the_same_everywhere() -> None:
    comparison = swept_comparison()
    sweep = SweepScores(comparison)
    comparison.plan.swept["mine@learning_rate=0.001"].values.clear()
    assert sweep.label_at("mine", {"learning_rate": 0.01}) == "mine@learning_rate=0.001"
    assert sweep.label_at("ppo", {"learning_rate": 0.01}) == "ppo@learning_rate=0.01"
    assert np.isfinite(sweep.cube("final", "mine")).all()


# ------------------------------------------------------------------------------------------------------------- command


@pytest.mark.slow
def test_the_command_runs_what_is_missing_of_a_sweep(tmp_path: Path) -> None:
    small = ["--algos", "ppo", "ppo_penalty", *SMALL, "--seeds", "1", "--out", "out"]
    for more in (["1e-2"], ["1e-2", "3e-2"]):
        compare(tmp_path, *small, "--sweep", "learning_rate", "1e-3", *more)
    cells = {path.parts[-3] for path in (tmp_path / "out" / "cells").rglob("seed_0.json")} - {RANDOM_POLICY}
    assert cells == {f"{arm}@learning_rate={rate}" for arm in ("ppo", "ppo_penalty") for rate in (0.001, 0.01, 0.03)}
    assert (tmp_path / "out" / "report.html").read_text().count("learning_rate=0.03") > 1
