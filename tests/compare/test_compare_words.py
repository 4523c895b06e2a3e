"""What the report says where something is missing, near a limit, or one: its words fit its numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_results import make_plan, make_result, make_results
from matplotlib import pyplot as plt

from sb3_ppo_variants.compare.arms import parse_arms
from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell
from sb3_ppo_variants.compare.command import compare
from sb3_ppo_variants.compare.command_line import build_parser, choose_baseline
from sb3_ppo_variants.compare.report import figures, statistics
from sb3_ppo_variants.compare.report.blocks import Report, estimate
from sb3_ppo_variants.compare.report.claims import few_runs_warning, improvement_claim, kl_claim, ratio_claim
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.report import make_report
from sb3_ppo_variants.compare.report.scores import Reference
from sb3_ppo_variants.compare.report.statistics import Estimate
from sb3_ppo_variants.compare.run.results import ResultsFolder
from sb3_ppo_variants.compare.settings import check_names, smallest_budget
from sb3_ppo_variants.figures.figure_style import looks
from sb3_ppo_variants.trust_region_log import HEADER, read_trust_region


@pytest.fixture(autouse=True)
def few_bootstrap_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save time: intervals are not what is looked at."""
    monkeypatch.setattr(statistics, "REPETITIONS", 100)


def without_random_policy(given: dict[str, Reference] | None = None) -> Comparison:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0"], n_seeds=2)
    results = make_results(plan, {"ppo": [8, 9], "trpo": [10, 11]})
    del results[Cell(RANDOM_POLICY, "A-v0", 0)]
    return Comparison(plan, results, {}, given or {})


def test_a_random_policy_without_a_result_is_not_said_to_be_better() -> None:
    text = str(make_report(without_random_policy()))
    assert "It leaves out A-v0, where the random policy has no result." in text
    assert "ppo is not clearly better" not in text
    assert "because an algorithm or the random policy has no run there" in text


def test_a_given_reference_takes_the_random_policys_place_in_times_too() -> None:
    text = str(make_report(without_random_policy({"A-v0": Reference(0.0, 20.0)})))
    assert "It leaves out" not in text
    assert "A-v0: what it takes to fractions of the final score" in text


def test_without_given_references_0_and_1_are_the_measured_ones() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0"], n_seeds=2)
    report = make_report(Comparison(plan, make_results(plan, {"ppo": [8, 9], "trpo": [10, 11]}), {}, {}))
    assert xlabel(report) == "normalised score: 0 random policy, 1 best algorithm"
    assert str(report).count("of the way from the random policy's score to") == 2


@pytest.mark.parametrize(
    ("envs", "scale", "zero"),
    [
        (["A-v0", "B-v0"], "0 and 1 as given", "the score given as 0"),
        (
            ["B-v0"],
            "0 and 1 as given or measured",
            "the score that counts as 0 (as given for B-v0; elsewhere the random policy's)",
        ),
    ],
)
def test_where_references_are_given_0_is_not_called_the_random_policys(envs: list[str], scale: str, zero: str) -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0"], n_seeds=2)
    results = make_results(plan, {"ppo": [8, 9], "trpo": [10, 11]})
    report = make_report(Comparison(plan, results, {}, {env: Reference(-5.0, 20.0) for env in envs}))
    assert xlabel(report) == f"normalised score: {scale}"
    assert str(report).count(f"of the way from {zero} to") == 2
    assert "from the random policy" not in str(report)


def xlabel(report: Report) -> str:
    return report.pictures()["aggregates"].figure.axes[-1].get_xlabel().replace("\n", " ")


def test_a_baseline_below_the_score_given_as_0_is_not_said_to_be_below_random_actions() -> None:
    text = str(make_report(without_random_policy({"A-v0": Reference(50.0, 60.0), "B-v0": Reference(0.0, 60.0)})))
    assert "It leaves out A-v0, where ppo does not beat the score given as 0." in text
    assert "ppo is not clearly better" not in text


def test_a_baseline_without_a_run_is_not_said_to_be_beaten() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0", "C-v0"], n_seeds=2)
    results = make_results(plan, {"ppo": [8, 9], "trpo": [10, 11]})
    for seed in range(2):
        del results[Cell("ppo", "B-v0", seed)]
        results[Cell("ppo", "C-v0", seed)]["evaluations"][-1]["rewards"][0] = float("nan")
    text = str(make_report(Comparison(plan, results, {}, {})))
    assert "It leaves out B-v0, where ppo has no run. It leaves out C-v0, where ppo has no run with a score." in text
    assert "ppo is not clearly better" not in text


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_random_policy_with_a_reward_that_is_not_finite_has_no_score(reward: float) -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0"], n_seeds=2)
    results = make_results(plan, {"ppo": [8, 9], "trpo": [10, 11]})
    results[Cell(RANDOM_POLICY, "A-v0", 0)]["evaluations"][0]["rewards"][0] = reward
    report = make_report(Comparison(plan, results, {}, {}))
    assert "It leaves out A-v0, where the random policy has no score." in str(report)
    assert "ppo is not clearly better" not in str(report)
    assert "random policy" not in [text.get_text() for text in report.pictures()["learning_A-v0"].figure.axes[0].texts]


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        (improvement_claim("final score", Estimate(0.6, 0.504, 0.7)), "0.600 [0.504, 0.700]"),
        (improvement_claim("final score", Estimate(0.4, 0.3, 0.49996)), "0.40000 [0.30000, 0.49996]"),
        (improvement_claim("final score", Estimate(0.6, 0.52, 0.7)), "0.60 [0.52, 0.70]"),
        (ratio_claim("processor time", Estimate(1.06, 1.004, 1.1)), "1.060 [1.004, 1.100]"),
        (
            kl_claim("a", "E", Estimate(0.7, 0.503, 0.9), Estimate(0.1, 0.1, 0.1), Estimate(0.9, 0.8, 1), 1.5),
            "70.0% [50.3%, 90.0%]",
        ),
    ],
)
def test_an_interval_does_not_look_as_if_it_touched_what_it_excludes(claim: str, text: str) -> None:
    assert text in claim


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Estimate(-0.3, -120, 130), "0 [-120, 130]"),
        (Estimate(-0.001, -0.2, 0.3), "0.00 [-0.20, 0.30]"),
        (Estimate(-0.02, -0.2, -0.001), "-0.02 [-0.20, 0.00]"),
    ],
)
def test_zero_has_no_sign(found: Estimate, text: str) -> None:
    assert estimate(found) == text


def test_missing_runs_are_not_too_few_seeds() -> None:
    (missing,), (few,) = few_runs_warning(4, n_seeds=10), few_runs_warning(1, n_seeds=1)
    assert "--seeds" not in missing
    assert "Run the same command again" in missing
    assert "1 run of each" in few
    assert "--seeds" in few


@pytest.mark.parametrize("arm", ["ppo", "trpo"])
def test_an_algorithm_without_a_seed_that_has_all_environments_is_named_and_not_said_to_lack_runs(arm: str) -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0"], n_seeds=2)
    results = make_results(plan, {"ppo": [8, 9], "trpo": [10, 11]})
    del results[Cell(arm, "A-v0", 0)], results[Cell(arm, "B-v0", 1)]
    report = make_report(Comparison(plan, results, {}, {}))
    section = next(one for one in report.sections if one.title == "All environments together")
    assert f"Left out, as no seed has a score on each of A-v0 and B-v0: {arm}." in str(section.blocks[0])
    assert "There is no environment" not in str(section)
    assert ("There is nothing to compare with." in str(section)) == (arm == "ppo")
    assert len(section.blocks) == (1 if arm == "ppo" else 5)


def test_one_is_not_several() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=2)
    results = make_results(plan, {"ppo": [8, 9]})
    del results[Cell("ppo", "A-v0", 1)]
    text = str(make_report(Comparison(plan, results, {}, {})))
    assert "1 algorithm, 1 environment, seeds" in text
    assert "1 of 3 cells has no result: ppo · A-v0 · seed 1." in text


def test_a_run_that_is_at_its_score_before_it_trains_has_spent_no_time() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=1)
    results = make_results(plan, {"ppo": [8]})
    result = results[Cell("ppo", "A-v0", 0)] = make_result(plan, Cell("ppo", "A-v0", 0), [8, 8, 8])
    result["evaluations"][0] |= {"train_seconds": 1e-5, "cpu_seconds": 8.7e-6}
    text = str(make_report(Comparison(plan, results, {}, {})))
    assert "'0 s [1 of 1 runs]'" in text
    assert "e-0" not in text


def test_no_environment_with_a_target_is_no_section_of_times() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=1)
    report = make_report(Comparison(plan, make_results(plan, {"ppo": [0]}), {}, {}))
    assert "Time to a score" not in [section.title for section in report.sections]


def run_command(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[Any]) -> Any:
    monkeypatch.setattr("sys.argv", ["compare", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        compare()
    return ended.value.code


@pytest.fixture
def results_folder(tmp_path: Path) -> Path:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=1)
    folder = ResultsFolder(tmp_path / "results")
    folder.make()
    folder.begin(plan)
    return folder.path


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_report_that_cannot_be_written_is_one_line(
    out: str, results_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=1)
    merged = Comparison(plan, make_results(plan, {"ppo": [8]}), {}, {})
    monkeypatch.setattr(ResultsFolder, "take_inventory", lambda *_: _Inventory(merged.results))
    assert run_command(monkeypatch, ["--report-only", "--from", results_folder, "--out", tmp_path / out]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "--out" in said


class _Inventory:
    def __init__(self, results: dict[Cell, Any]):
        self.results, self.damaged, self.missing = results, dict[Path, str](), list[Cell]()


def test_a_plan_that_is_no_text_is_named(results_folder: Path) -> None:
    (results_folder / "comparison.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"comparison\.json is damaged"):
        ResultsFolder(results_folder).read_plan()


@pytest.mark.parametrize("content", [b"\xff\xfe", f"{HEADER}\n".encode() + b"xx" + b"," * HEADER.count(",") + b"\n"])
def test_a_log_that_cannot_be_read_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"log\.csv"):
        read_trust_region(tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("algo", "name", "value"),
    [("ppo", "n_steps", "abc"), ("ppo", "n_envs", "two"), ("dqn", "train_freq", "x"), ("dqn", "train_freq", [1, 2, 3])],
)
def test_a_count_that_is_no_number_is_named(algo: str, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{algo}: `{name}` must be a whole number"):
        smallest_budget(algo, {name: value})


def test_hints_apply() -> None:
    parser = build_parser()
    wanted = parser.parse_args(["--report-only", "--baseline", "x"])
    with pytest.raises(ValueError, match=r"choose from ppo$"):
        choose_baseline(wanted, ["ppo"])
    with pytest.raises(ValueError, match=r"got 'a=b' in 'a=b=ppo'"):
        parse_arms(["a=b=ppo"])
    with pytest.raises(ValueError, match=r"custom_envs\.py"):
        check_names([], ["my/Const-v0"])


def test_a_bar_ends_where_its_interval_ends() -> None:
    picture = figures.improvement({"a": Estimate(0.5, 0.25, 0.75)}, "ppo", looks({"a": "ppo_penalty"}))
    bar = next(line for line in picture.figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 3)
    assert bar.get_solid_capstyle() == "butt"
    plt.close("all")


def test_the_band_of_updates_holds_the_largest_of_them() -> None:
    steps = np.arange(1.0, 401.0)
    kl = np.full(400, 0.01)
    kl[7] = 3.0
    binned = figures._binned([{"timesteps": steps, "kl": kl}, {"timesteps": steps, "kl": 0 * kl + 0.02}], _kl)
    assert binned is not None
    shown, curve = binned
    assert curve.high.max() == 3.0
    assert curve.low.min() == 0.01
    assert np.median(curve.value) == pytest.approx(0.015)
    assert len(shown) == figures.N_BINS
    assert shown[0] == steps[:10].mean()


def _kl(trace: Any) -> Any:
    return trace["kl"]
