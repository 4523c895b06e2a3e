"""What the report says of hand-made results: sentences, tables, files."""

import base64
import html.parser
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from compare_results import make_plan, make_result, make_results
from matplotlib.image import imread

from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell
from sb3_ppo_variants.compare.command_line import build_parser
from sb3_ppo_variants.compare.plan import Plan
from sb3_ppo_variants.compare.presets import PRESETS
from sb3_ppo_variants.compare.report import statistics
from sb3_ppo_variants.compare.report.blocks import Report, Table
from sb3_ppo_variants.compare.report.claims import improvement_claim, kl_claim, ratio_claim
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.report import make_report, write_report
from sb3_ppo_variants.compare.report.score_sections import scales
from sb3_ppo_variants.compare.report.scores import Reference
from sb3_ppo_variants.compare.report.settings_sections import warnings
from sb3_ppo_variants.compare.report.statistics import Estimate
from sb3_ppo_variants.compare.report.time_to_score import time_table
from sb3_ppo_variants.compare.settings import ResolvedSettings
from sb3_ppo_variants.figures.figure_style import ALGORITHMS, looks

SECTIONS = [
    "Learning curves",
    "All environments together",
    "Environment by environment",
    "Time to a score",
    "Time and memory",
    "Trust region",
    "Value function",
    "What was compared",
    "Settings and versions",
]


@pytest.fixture(scope="module", autouse=True)
def few_bootstrap_samples() -> Iterator[None]:
    """Save time where intervals are not what is looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "REPETITIONS", 100)
        yield


def comparison(plan: Plan, results: dict[Cell, Any] | None = None, **final: Any) -> Comparison:
    return Comparison(plan, make_results(plan, final) if results is None else results, {}, {})


def tables(report: Report, title: str) -> list[Table]:
    """Return the tables of a section; of the summary if the title is empty."""
    sections = [one for one in report.sections if one.title == (title or report.sections[0].title)]
    return [block for one in sections for block in one.blocks if isinstance(block, Table)]


class Elements(html.parser.HTMLParser):
    """Collects the tags of a page with their attributes, and checks that they are closed in order."""

    void = ("meta", "link", "img")

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    plan = make_plan({"ppo": "ppo", "ppo_penalty": "ppo_penalty"}, ["A-v0", "B<v0"], n_seeds=5)
    write_report(comparison(plan, ppo=[10, 11, 12, 13, 14], ppo_penalty=[20, 21, 22, 23, 24]), folder)
    return folder


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Estimate(0.8, 0.51, 0.9), "a higher final score more often than not, P(better) 0.80 [0.51, 0.90]"),
        (Estimate(0.2, 0.1, 0.49), "a lower final score more often than not, P(better) 0.20 [0.10, 0.49]"),
        (Estimate(0.8, 0.5, 0.9), "no difference in final score is shown, P(better) 0.80 [0.50, 0.90]"),
        (Estimate(0.2, 0.1, 0.5), "no difference in final score is shown, P(better) 0.20 [0.10, 0.50]"),
    ],
)
def test_improvement_is_claimed_only_if_the_interval_supports_it(interval: Estimate, words: str) -> None:
    assert improvement_claim("final score", interval) == words


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Estimate(0.5, 0.4, 0.6), "less processor time, 0.50 [0.40, 0.60] times"),
        (Estimate(2.0, 1.1, 3.0), "more processor time, 2.00 [1.10, 3.00] times"),
        (Estimate(2.0, 1.0, 3.0), "no difference in processor time worth naming"),
        (Estimate(1.01, 1.005, 1.02), "no difference in processor time worth naming"),  # sure, but who cares
    ],
)
def test_costs_are_claimed_only_if_they_are_sure_and_matter(interval: Estimate, words: str) -> None:
    assert ratio_claim("processor time", interval) == words


@pytest.mark.parametrize(
    ("within", "words"),
    [
        (Estimate(0.8, 0.7, 0.9), "most updates are within the band"),
        (Estimate(0.22, 0.2, 0.24), "most updates are outside the band"),  # although the median one is within it
        (Estimate(0.5, 0.4, 0.6), "it is not shown whether most updates are within the band"),
    ],
)
def test_kl_is_said_to_be_in_the_band_only_if_most_updates_are(within: Estimate, words: str) -> None:
    claim = kl_claim("arm", "A-v0", within, Estimate(0.15, 0.1, 0.2), Estimate(1.08, 1.0, 1.1), 1.5)
    assert claim.startswith(f"arm on A-v0: {words}, target / 1.5 to 1.5 × target: {within.value:.0%} [")
    assert claim.endswith(f"15% above, {0.85 - within.value:.0%} below; the median one is at 1.08 of it.")


def test_report_has_all_parts_and_says_what_is_shown(written: Path) -> None:
    text = (written / "report.md").read_text()
    assert re.findall(r"^## (.*)", text, flags=re.MULTILINE) == SECTIONS
    assert "ppo_penalty against ppo: a higher final score more often than not, P(better) 1.00; " in text
    assert "too few" not in text
    # final: means 12 and 22; the random policy's 0 and the best mean 22 become 0 and 1
    assert "| ppo | 0.55 [" in text
    assert "| ppo_penalty | 5 | 1.00 | 22.0 [" in text
    assert re.search(r"\| 10\.0 \[[89]\.\d, 1[12]\.\d\] \\\* \|", text)  # the difference, marked
    assert (
        "Of equal algorithms with normal scores 12 % with 5 runs each, 8 % with 10 and 6 % with 20 are marked" in text
    )
    # the median of 0.01 and 0.04 is 2.5 times the target, one of two updates is in the band
    assert "it is not shown whether most updates are within the band, target / 1.5 to 1.5 × target: 50%" in text
    assert "50% above, 0% below; the median one is at 2.50 of it." in text
    assert "sb3-ppo-variants compare ..." in text


def test_report_begins_with_one_table_that_answers(written: Path) -> None:
    text = (written / "report.md").read_text().partition("## Learning curves")[0]
    header, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert header == [
        *(
            "final score, A-v0",
            "final score, B\\<v0",
            "P(better than ppo)",
            "time to 90% of ppo's score",
            "processor time",
        )
    ]
    # 90 % of the way from 0 to ppo's mean of 12 is 10.8: ppo's runs end, after 10 s, at 10, 11 ... 14, one too low;
    # the others' are half-way, after 5 s, at 10, 10.5, 11, 11.5, 12
    assert rows[0][3:] == ["–", "20.0 s [8 of 10 runs]", "16.0 s"]
    assert rows[1][3:] == ["1.00", "10.0 s [10 of 10 runs]", "16.0 s [1.00 × ppo]"]
    assert rows[1][1].startswith("22.0 [")
    assert "Run on 2026-01-02 with torch 2.13.0. 2 policy updates a run. Every episode of" in text
    assert "| B\\<v0 | 100 | 50 | 2 |" in (written / "report.md").read_text()


def test_more_than_two_environments_are_put_together() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0", "C-v0"], n_seeds=5)
    report = make_report(comparison(plan, ppo=[1, 2, 3, 4, 5], trpo=[2, 3, 4, 5, 6]))
    assert "final score, normalised (IQM)" in tables(report, "")[0].header
    assert {"IQM", "median", "mean", "optimality gap"} <= set(tables(report, "All environments together")[0].header)


def test_normalised_scores_of_some_environments_are_not_said_to_be_of_all() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0", "C-v0"], n_seeds=5)
    results = make_results(plan, {"ppo": [1, 2, 3, 4, 5], "trpo": [2, 3, 4, 5, 6]})
    results[Cell(RANDOM_POLICY, "C-v0", 0)]["evaluations"][0]["rewards"] = [80.0, 120.0]
    report = make_report(comparison(plan, results))
    assert "final score, normalised (IQM, 2 of 3 environments)" in tables(report, "")[0].header
    assert tables(report, "2 of 3 environments together")
    (axes,) = report.pictures()["sample_efficiency"].figure.axes
    assert axes.get_title() == "2 of 3 environments"
    assert "All environments" not in str(report)


def test_one_or_two_environments_have_no_mean_and_median_beside_the_iqm() -> None:
    for envs in (["A-v0"], ["A-v0", "B-v0"]):
        plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, envs, n_seeds=5)
        report = make_report(comparison(plan, ppo=[1, 2, 3, 4, 5], trpo=[2, 3, 4, 5, 6]))
        found = [table.header for table in tables(report, "All environments together")]
        assert found == [] if len(envs) == 1 else {"median", "mean"}.isdisjoint(found[0])
        assert len(report.pictures()) == (3 if len(envs) == 1 else 10)


def test_given_reference_scores_take_the_place_of_the_measured_ones() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0", "B-v0"], n_seeds=1)
    report = make_report(Comparison(plan, make_results(plan, {"ppo": [10]}), {}, {"A-v0": Reference(0, 500)}))
    assert "A-v0: 0 to 500; B-v0: 0 to 10.0" in str(report)


def test_what_the_words_mean_is_said_once(written: Path) -> None:
    text = (written / "report.md").read_text()
    for word in ("interquartile mean, is", "optimality gap is", "the probability of improvement, is"):
        assert text.count(word) == 1


def test_constants_have_no_interval(written: Path) -> None:
    text = (written / "report.md").read_text()
    assert not [found[0] for found in re.finditer(r"(\S+) \[(\S+), (\S+)\]", text) if found[1] == found[2] == found[3]]


def test_arms_have_the_order_and_the_looks_of_all_figures() -> None:
    arms = {"mine": "ppo_adaptive_clip", "tight": "ppo_penalty", "trpo": "trpo", "ppo": "ppo"}
    found = comparison(make_plan(arms, ["A-v0"], n_seeds=1, baseline="ppo"), **{arm: [1] for arm in arms})
    assert found.arms == ["ppo", "trpo", "tight", "mine"]
    assert found.style == dict(zip(found.arms, looks({name: name for name in ALGORITHMS}).values()))


def test_tables_of_a_pure_penalty_have_no_clip_fraction() -> None:
    plan = make_plan({"ppo_penalty": "ppo_penalty"}, ["A-v0"], n_seeds=1)
    results = make_results(plan, {"ppo_penalty": [1]})
    results[Cell("ppo_penalty", "A-v0", 0)]["trace"] |= {"clip_fraction": [0.0, 0.0], "beta": [1.0, 2.0]}
    header = tables(make_report(comparison(plan, results)), "Trust region")[0].header
    assert "beta at the end" in header and not {"clip fraction", "epsilon at the end"} & {*header}


def test_a_learning_rate_is_reported_where_the_kl_moves_it() -> None:
    plan = make_plan({"ppo": "ppo", "ppo_adaptive_lr": "ppo_adaptive_lr"}, ["A-v0"], n_seeds=1)
    results = make_results(plan, {"ppo": [1], "ppo_adaptive_lr": [1]})
    for arm, more in (("ppo", {}), ("ppo_adaptive_lr", {"lr_scale": [1.0, 0.5]})):
        results[Cell(arm, "A-v0", 0)]["trace"] |= {"learning_rate": [4e-3, 2e-3], **more}
    table = tables(make_report(comparison(plan, results)), "Trust region")[0]
    at = table.header.index("learning rate at the end")
    assert {row[0]: row[at] for row in table.rows} == {"ppo": "–", "ppo_adaptive_lr": "0.00200"}


def test_figures_are_there_as_png_and_svg(written: Path) -> None:
    names = {path.stem for path in (written / "figures").glob("*.png")}
    assert names == {path.stem for path in (written / "figures").glob("*.svg")}
    of_all = {"aggregates", "profiles", "sample_efficiency", "improvement"}
    assert names == of_all | {
        f"{kind}_{env}" for kind in ("learning", "trust_region", "value") for env in ("A-v0", "B-v0")
    }
    for name in re.findall(r"\]\((figures/.*?)\)", (written / "report.md").read_text()):
        assert (written / name).read_bytes().startswith(b"\x89PNG")


def test_html_is_well_formed_and_needs_nothing_from_elsewhere(written: Path) -> None:
    text = (written / "report.html").read_text()
    page = Elements(text)
    assert page.open == []
    sources = [attributes.get("src") or attributes.get("href") or "" for _, attributes in page.found]
    assert all(source.startswith(("data:", "#")) for source in sources if source not in ("", "scores.csv"))
    assert not re.search(r"https?://|url\(|@import|<script", text)
    images = [attributes for tag, attributes in page.found if tag == "img"]
    assert len(images) == 10 and all(image["alt"] for image in images)
    assert "B&lt;v0" in text and "<v0" not in text
    anchors = {attributes["id"] for tag, attributes in page.found if tag == "section"}
    assert {f"#{anchor}" for anchor in anchors} == {a["href"] for tag, a in page.found if tag == "a"} - {"scores.csv"}


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_page_opens_in_a_browser_without_complaints(written: Path, tmp_path: Path, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("Chromium is a program of the system, which no package of Python brings")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars"]
    page, picture = (written / "report.html").as_uri(), tmp_path / "page.png"
    done = subprocess.run(
        [browser, *options, f"--window-size={width},3000", f"--screenshot={picture}", page],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    seen = imread(picture)
    assert seen.shape[:2] == (3000, width)
    white = (seen[..., :3] == 1).all(axis=2)
    assert not white[:, : width // 2].all(axis=1)[-800:].all()  # there is something all the way down
    assert white[:, -6:].all()  # nothing reaches over the edge


def test_scores_file_gives_the_numbers_back(written: Path) -> None:
    scores = pd.read_csv(written / "scores.csv")
    assert list(scores.columns) == ["algo", "env", "seed", "timesteps", "episode", "reward", "length"]
    last = scores[(scores["timesteps"] == 100) & (scores["env"] == "A-v0")].groupby("algo")["reward"].mean()
    assert last.to_dict() == {"ppo": 12, "ppo_penalty": 22}
    assert (scores["algo"] == "random-policy").sum() == 4


def test_report_is_the_same_each_time(written: Path, tmp_path: Path) -> None:
    plan = make_plan({"ppo": "ppo", "ppo_penalty": "ppo_penalty"}, ["A-v0", "B<v0"], n_seeds=5)
    write_report(comparison(plan, ppo=[10, 11, 12, 13, 14], ppo_penalty=[20, 21, 22, 23, 24]), tmp_path)
    for name in ("report.md", "report.html", "scores.csv"):
        assert (tmp_path / name).read_text() == (written / name).read_text()


def test_few_seeds_are_said_to_be_few() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0"], n_seeds=4)
    report = make_report(comparison(plan, ppo=[1, 2, 3, 4], trpo=[11, 12, 13, 14]))
    assert str(report).count("Too few seeds: 4 runs of each") == str(report).lower().count("too few") == 1
    assert "more often than not" not in str(report) and "] *" not in str(report)


def test_report_of_a_single_run_and_of_the_baseline_alone() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=1)
    report = make_report(comparison(plan, ppo=[5]))
    assert report.title == "Runs of ppo"
    assert "improvement" not in report.pictures()


def test_missing_baseline_is_an_error_that_names_the_way_out() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0"], n_seeds=1)
    results = {
        cell: result for cell, result in make_results(plan, {"ppo": [1], "trpo": [2]}).items() if cell[0] != "ppo"
    }
    with pytest.raises(ValueError, match="no results of the baseline 'ppo', but of trpo.* --baseline"):
        make_report(comparison(plan, results))


def test_incomplete_results_are_reported_and_named() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0"], n_seeds=2)
    results = make_results(plan, {"ppo": [1, 2], "trpo": [3, 4]})
    del results[Cell("trpo", "B-v0", 0)], results[Cell("trpo", "B-v0", 1)], results[Cell("ppo", "A-v0", 1)]
    crashed = {Cell("trpo", "B-v0", 1): Path("seed_1.log")}
    report = make_report(Comparison(plan, results, crashed, {}))
    summary = str(report.sections[0])
    assert "3 of 10 cells have no result, 1 of them crashed" in summary
    assert "trpo · B-v0 · seed 1 (crashed)" in summary
    assert "B-v0: not part of what is said of all environments together" in summary


def test_conclusions_from_survivors_say_so() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0"], n_seeds=10)
    results = make_results(plan, {"ppo": range(10), "trpo": range(100, 110)})
    for seed in range(5):
        del results[Cell("trpo", "A-v0", seed)]
    claim = next(
        line for line in str(make_report(comparison(plan, results)).sections[0]).split("'") if "trpo against" in line
    )
    assert "a higher final score" in claim
    assert claim.endswith("(of the runs that have a score: 5 of 10 runs of trpo).")


def test_an_environment_on_which_nobody_is_clearly_above_chance_is_not_normalised() -> None:
    """Divided by next to nothing, a little below the random policy would outweigh all other environments."""
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "B-v0", "C-v0"], n_seeds=5)
    results = make_results(plan, {"ppo": [99.0] * 5, "trpo": [101.0] * 5})
    results[Cell(RANDOM_POLICY, "C-v0", 0)]["evaluations"][0]["rewards"] = [80.0, 120.0]
    found = comparison(plan, results)
    assert list(found.scores.references) == ["A-v0", "B-v0"]
    summary = str(make_report(found).sections[0])
    assert "C-v0: not part of what is said of all environments together" in summary
    assert "It leaves out C-v0, where ppo is not clearly better" in summary


@pytest.mark.parametrize("n_seeds", [1, 5])
def test_one_lucky_episode_is_not_above_a_random_policy_that_always_has_the_floor(n_seeds: int) -> None:
    """As on Acrobot-v1 or MountainCar-v0: the error of the random policy is 0 there."""
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0", "Floor-v0"], n_seeds=n_seeds)
    results = make_results(plan, {"ppo": [99.0] * 5, "trpo": [101.0] * 5})
    for cell, result in results.items():
        if cell.env == "Floor-v0":
            for evaluation in result["evaluations"]:
                evaluation["rewards"] = [-200.0, -200.0]
    results[Cell("ppo", "Floor-v0", 0)]["evaluations"][-1]["rewards"][0] = -199.0
    found = comparison(plan, results)
    assert list(found.scores.references) == ["A-v0"]
    assert time_table(found, "Floor-v0") is None
    assert "It leaves out Floor-v0, where ppo is not clearly better" in str(make_report(found).sections[0])


def test_an_environment_counts_where_any_algorithm_is_clearly_above_random_and_its_scale_is_told_apart() -> None:
    """The best mean may be that of few lucky runs; what others earn is there all the same."""
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0"], n_seeds=5)
    finals = {"ppo": [-200.0, -200.0, -200.0, -200.0, -197.5], "trpo": [-199.7, -199.6, -199.7, -199.6, -199.7]}
    results = make_results(plan, finals, random=-200.0)
    found = comparison(plan, results)
    assert found.scores.references == {"A-v0": (-200.0, pytest.approx(-199.5))}
    assert not found.beats_zero("ppo", "A-v0") and found.beats_zero("trpo", "A-v0")
    assert "(A-v0: -200.0 to -199.5)" in scales(found, "the best algorithm")


def test_different_numbers_of_cells_at_a_time_are_told() -> None:
    of_jobs = ("compare --jobs 1", "compare --jobs 2")
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=5, commands=of_jobs)
    (found,) = warnings(comparison(plan, ppo=[1] * 5))
    assert found.startswith("The commands have different --jobs")


def test_settings_that_are_not_equally_tuned_are_told() -> None:
    plan = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0"], n_seeds=5)
    general = ResolvedSettings({"n_timesteps": 9, "env_wrapper": "x.Y"}, "trpo.yml", "default", "general", {})
    plan.settings["trpo"]["A-v0"] = general
    found = warnings(comparison(plan, ppo=[1] * 5, trpo=[2] * 5))
    assert found == [
        "On A-v0 the settings are not equally tuned (tuned: ppo; general: trpo).",
        "On A-v0, trpo and ppo have different environment wrappers or arguments.",
    ]


def test_runs_of_different_versions_are_told() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=5)
    results = make_results(plan, {"ppo": [1] * 5})
    cell = Cell("ppo", "A-v0", 0)
    results[cell] = make_result(plan, cell, [0, 1, 1], environment={"torch": "2.12.0", "python": "3.11.7"})
    assert warnings(comparison(plan, results)) == ["The runs differ in torch; see the versions at the end."]


def test_runs_without_a_trace_are_reported() -> None:
    plan = make_plan({"ppo": "ppo", "dqn": "dqn"}, ["A-v0"], n_seeds=2)
    results = make_results(plan, {"ppo": [1, 2], "dqn": [3, 4]})
    for seed in range(2):
        results[Cell("dqn", "A-v0", seed)]["trace"] = {}
    report = make_report(comparison(plan, results))
    trust_region = next(section for section in report.sections if section.title == "Trust region")
    assert "dqn" not in str([block for block in trust_region.blocks if "Table" in type(block).__name__])


def test_paper_preset_puts_the_papers_column_beside_ours() -> None:
    preset = PRESETS["paper-table-1"]
    arms = {arm.label: arm.algo for arm in preset.arms}
    assert list(preset.paper_scores.values()) == [-0.39, 0.76, 0.82, 0.70, 0.68, 0.74, 0.71, 0.62, 0.71, 0.72, 0.69]
    assert list(preset.paper_scores) == list(arms)
    plan = make_plan(arms, ["A-v0"], n_seeds=1, preset="paper-table-1", baseline="clip-0.2")
    report = make_report(comparison(plan, **{label: [i + 1] for i, label in enumerate(arms)}))
    assert report.title == "10 algorithms against clip-0.2"
    assert preset.question in str(report.sections[0])
    section = next(section for section in report.sections if section.title == "Beside the paper's table")
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert table.rows[0] == ["no-clipping", "-0.39", "0.0909"]  # 1 of 11: the best arm's 11 is 1
    assert table.rows[-1] == ["fixed-kl-10", "0.69", "1.00"]


def test_every_option_and_preset_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "compare.md").read_text()
    documented = re.findall(r"^\| `(--?[\w-]+)` \|", page, flags=re.MULTILINE)
    options = [action.option_strings[-1] for action in build_parser()._actions if action.dest != "help"]
    assert documented == options
    assert re.findall(r"^\| `([a-z][\w-]+)` \|", page, flags=re.MULTILINE) == list(PRESETS)


def test_seeds_of_merged_folders_are_listed_as_ranges() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=1, seeds=[0, 1, 2, 5, 10, 11])
    assert "seeds 0 to 2, 5, 10 to 11." in str(make_report(comparison(plan, ppo=list(range(12)))))


def test_page_stacks_intervals_folds_settings_and_knows_the_dark(written: Path) -> None:
    text = (written / "report.html").read_text()
    assert re.search(r'<td>22\.0 <span class="interval">\[[^<]*\]</span></td>', text)
    assert re.search(r'<div class="scroll wide"[^>]*aria-label="A-v0, 100 steps', text)
    assert text.count("<details>") == len(re.findall(r"<summary", text)) >= 5
    for rule in ("prefers-color-scheme: dark", "position: sticky; top", "max-width: 600px", "no-repeat local"):
        assert rule in text
    shown = [attributes for tag, attributes in Elements(text).found if tag == "img"]
    figure = base64.b64decode((shown[0]["src"] or "").partition("base64,")[2]).decode()
    assert "fill: #ffffff" not in figure.partition("axes_1")[0]  # on the page's own ground


def test_time_to_a_score_counts_steps_and_seconds() -> None:
    """Every run rises to its final score by way of half of it: 50 % is reached at step 50, all of it at step 100."""
    plan = make_plan({"ppo": "ppo", "slow": "trpo"}, ["A-v0"], 5)
    found = time_table(comparison(plan, ppo=[100.0] * 5, slow=[40.0] * 5), "A-v0")
    assert found is not None
    assert found.header[2:] == ["50% (50.0)", "75% (75.0)", "90% (90.0)", "100% (100)"]
    assert found.rows[0] == ["ppo", "steps", *(f"{n} [5 of 5]" for n in ("50.0", "100", "100", "100"))]
    assert found.rows[1] == ["ppo", "wall-clock s", *(f"{n} [5 of 5]" for n in ("5.00", "10.0", "10.0", "10.0"))]
    assert found.rows[2] == ["ppo", "processor s", *(f"{n} [5 of 5]" for n in ("2.50", "5.00", "5.00", "5.00"))]
    assert found.rows[3] == ["slow", "steps", *["not reached [0 of 5]"] * 4]


def test_results_without_a_clock_leave_its_row_out() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], 5)
    results = make_results(plan, {"ppo": [100.0] * 5})
    for result in results.values():
        for row in result["evaluations"]:
            del row["cpu_seconds"]
    found = time_table(comparison(plan, results), "A-v0")
    assert found is not None
    assert [row[1] for row in found.rows] == ["steps", "wall-clock s"]


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_run_with_a_reward_that_is_not_finite_has_no_score_and_is_named(reward: float) -> None:
    plan = make_plan({"ppo": "ppo", "mine": "ppo_penalty"}, ["A-v0"], 3)
    results = make_results(plan, {"ppo": [1, 2, 3], "mine": [4, 5, 6]})
    results[Cell("mine", "A-v0", 1)]["evaluations"][-1]["rewards"][0] = reward
    found = comparison(plan, results)
    assert found.raw("final", "mine", "A-v0").tolist() == [4, 6]
    assert found.raw("final", "ppo", "A-v0").tolist() == [1, 2, 3]
    assert "Rewards that are not finite, so that there is no score: mine · A-v0 · seed 1." in warnings(found)
