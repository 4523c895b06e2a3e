"""What the report says of hand-made results: sentences, tables, files."""

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

from sb3_ppo_variants.compare.cells import Cell
from sb3_ppo_variants.compare.command_line import build_parser
from sb3_ppo_variants.compare.plan import Plan
from sb3_ppo_variants.compare.presets import PRESETS
from sb3_ppo_variants.compare.report import statistics
from sb3_ppo_variants.compare.report.blocks import Table
from sb3_ppo_variants.compare.report.claims import improvement_claim, kl_claim, ratio_claim
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.report import make_report, write_report
from sb3_ppo_variants.compare.report.settings_sections import warnings
from sb3_ppo_variants.compare.report.statistics import Estimate
from sb3_ppo_variants.compare.settings import ResolvedSettings

SECTIONS = [
    "What was compared",
    "All environments together",
    "Environment by environment",
    "Sample efficiency",
    "Time and memory",
    "Trust region",
    "Value function",
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
    ("interval", "n_runs", "words"),
    [
        (Estimate(0.8, 0.51, 0.9), 5, "higher final score than ppo more often than not"),
        (Estimate(0.2, 0.1, 0.49), 5, "lower final score than ppo more often than not"),
        (Estimate(0.8, 0.5, 0.9), 5, "No difference in final score between arm and ppo is shown"),
        (Estimate(0.2, 0.1, 0.5), 5, "No difference"),
        (Estimate(1.0, 1.0, 1.0), 4, "4 runs are too few for a conclusion"),
    ],
)
def test_improvement_is_claimed_only_if_the_interval_supports_it(interval: Estimate, n_runs: int, words: str) -> None:
    claim = improvement_claim("arm", "ppo", "final score", interval, n_runs)
    assert words in claim
    assert ("more often than not" in claim) == (interval.excludes(0.5) and n_runs >= 5)


@pytest.mark.parametrize(
    ("interval", "n_runs", "words"),
    [
        (Estimate(0.5, 0.4, 0.6), 9, "arm needs less processor time: 0.50 times that of ppo [0.40, 0.60]"),
        (Estimate(2.0, 1.1, 3.0), 9, "arm needs more processor time"),
        (Estimate(2.0, 1.0, 3.0), 9, "no difference in processor time is shown"),
        (Estimate(2.0, 2.0, 2.0), 4, "4 runs are too few for a conclusion"),
    ],
)
def test_costs_are_claimed_only_if_the_interval_supports_it(interval: Estimate, n_runs: int, words: str) -> None:
    assert words in ratio_claim("arm", "ppo", "processor time", interval, n_runs)


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Estimate(1.0, 0.7, 1.4), "the typical update is within the band"),
        (Estimate(2.0, 1.6, 2.4), "the typical update is above the band"),
        (Estimate(0.3, 0.2, 0.6), "the typical update is below the band"),
        (Estimate(1.2, 0.9, 1.6), "whether the typical update is within the band is not shown"),
    ],
)
def test_kl_is_said_to_be_in_the_band_only_if_the_interval_is(ratio: Estimate, words: str) -> None:
    assert words in kl_claim("arm", "A-v0", ratio, Estimate(0.5, 0.4, 0.6), 1.5, n_runs=5)
    assert "too few" in kl_claim("arm", "A-v0", ratio, Estimate(0.5, 0.4, 0.6), 1.5, n_runs=4)


def test_report_has_all_parts_and_says_what_is_shown(written: Path) -> None:
    text = (written / "report.md").read_text()
    assert re.findall(r"^## (.*)", text, flags=re.MULTILINE) == SECTIONS
    assert "ppo_penalty reaches a higher final score than ppo more often than not: probability of improvement 1" in text
    assert "too few" not in text
    # final: means 12 and 22; the random policy's 0 and the best mean 22 become 0 and 1
    assert "| ppo | 0.55 [" in text
    assert "| ppo_penalty | 5 | 1.00 | 22.0 [" in text
    assert re.search(r"\| 10\.0 \[[89]\.\d, 1[12]\.\d\] \\\* \|", text)  # the difference, marked
    # the median of 0.01 and 0.04 is 2.5 times the target, one of two updates is in the band
    assert "the typical update is above the band: median 2.50 [2.50, 2.50] of the target, 50% [50%, 50%]" in text
    assert "sb3-ppo-variants compare ..." in text


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
    assert all(source.startswith(("data:", "#")) for source in sources if source)
    assert not re.search(r"https?://|url\(|@import|<script", text)
    images = [attributes for tag, attributes in page.found if tag == "img"]
    assert len(images) == 10 and all(image["alt"] for image in images)
    assert "B&lt;v0" in text and "<v0" not in text
    anchors = {attributes["id"] for tag, attributes in page.found if tag == "section"}
    assert {f"#{anchor}" for anchor in anchors} == {a["href"] for tag, a in page.found if tag == "a"}


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
    summary = str(report.sections[0])
    assert "Few seeds: 4 runs" in summary and "4 runs are too few for a conclusion" in summary
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
    with pytest.raises(ValueError, match="no results of the baseline 'ppo'; there are trpo.* --baseline"):
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
    assert table.rows[0] == ["no-clipping", "-0.39", "0.0909 [0.0909, 0.0909]"]  # 1 of 11: the best arm's 11 is 1
    assert table.rows[-1] == ["fixed-kl-10", "0.69", "1.00 [1.00, 1.00]"]


def test_every_option_and_preset_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "compare.md").read_text()
    documented = re.findall(r"^\| `(--?[\w-]+)` \|", page, flags=re.MULTILINE)
    options = [action.option_strings[-1] for action in build_parser()._actions if action.dest != "help"]
    assert documented == options
    assert re.findall(r"^\| `([a-z][\w-]+)` \|", page, flags=re.MULTILINE) == list(PRESETS)


def test_seeds_of_merged_folders_are_listed_as_ranges() -> None:
    plan = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=1, seeds=[0, 1, 2, 5, 10, 11])
    assert "seeds 0 to 2, 5, 10 to 11." in str(make_report(comparison(plan, ppo=list(range(12)))))
