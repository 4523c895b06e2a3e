"""What is planned, what a folder may be continued with, and what of it is kept."""

import copy
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_results import make_plan, make_result, make_results
from rich.console import Console

from sb3_ppo_variants import compare
from sb3_ppo_variants.compare.arms import Arm, parse_arms, read_literal
from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell, CellTask, Outcome
from sb3_ppo_variants.compare.command import compare as run_compare
from sb3_ppo_variants.compare.plan import Budget, Plan
from sb3_ppo_variants.compare.report import statistics
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.settings_sections import warnings
from sb3_ppo_variants.compare.run.progress import ProgressReport
from sb3_ppo_variants.compare.run.results import ResultsFolder, merge
from sb3_ppo_variants.compare.settings import smallest_budget
from sb3_ppo_variants.compare.sweep import SweptArm

PLAN = make_plan({"ppo": "ppo", "trpo": "trpo"}, ["CartPole-v1"], n_seeds=2)


def fill(folder: ResultsFolder, plan: Plan, **final: Any) -> ResultsFolder:
    folder.make()
    folder.begin(plan)
    for cell, result in make_results(plan, final).items():
        folder.store(Outcome(cell, json.dumps(result), ""))
    return folder


@pytest.fixture
def filled(tmp_path: Path) -> ResultsFolder:
    return fill(ResultsFolder(tmp_path / "out"), PLAN, ppo=[1, 2], trpo=[3, 4])


def test_arms_have_labels_overrides_and_files() -> None:
    arms = parse_arms(
        ["ppo", "small=ppo", "trpo"],
        ["small:n_steps:64", "small:policy_kwargs:dict(net_arch=[8])", "trpo:learning_rate:lin_0.001"],
        ["trpo:mine.yml", "all.yml"],
    )
    assert arms == [
        Arm("ppo", "ppo", {}, "all.yml"),
        Arm("small", "ppo", {"n_steps": 64, "policy_kwargs": "dict(net_arch=[8])"}, "all.yml"),
        Arm("trpo", "trpo", {"learning_rate": "lin_0.001"}, "mine.yml"),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("false", False),
        ("true", True),
        ("null", None),
        ("1e-3", 1e-3),
        ("off", "off"),
        ("lin_3e-4", "lin_3e-4"),
        ("dict(a=1)", "dict(a=1)"),
    ],
)
def test_a_value_is_read_as_yaml_would_give_it(text: str, value: Any) -> None:
    assert read_literal(text) == value
    assert type(read_literal(text)) is type(value)


@pytest.mark.parametrize(
    ("algos", "params", "message"),
    [
        (["ppo", "ppo"], [], "'ppo' is given twice; name one of them, as in again=ppo"),
        (["a=ppo", "A=trpo"], [], "'A' is given twice"),
        (["a/b=ppo"], [], "a label must consist of letters, digits"),
        (["..=ppo"], [], "begin with one of the first three; got '..'"),
        (["ppo"], ["trpo:gamma:0.9"], "with a label out of ppo; got 'trpo:gamma:0.9'"),
        (["ppo"], ["ppo:gamma"], "-params takes LABEL:KEY:VALUE"),
        (["ppo"], ["ppo:gamma:0.9", "ppo:gamma:0.9"], "-params ppo:gamma:0.9: gamma of ppo is given twice"),
        (["ppo"], ["ppo:n_timesteps:5000"], "all get the same number of steps"),
        ([f"{RANDOM_POLICY}=ppo"], [], "a label must consist of"),
    ],
)
def test_bad_arms_are_refused(algos: list[str], params: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_arms(algos, params)


@pytest.mark.parametrize(
    ("files", "message"),
    [(["a.yml", "b.yml"], "all arms have a.yml already"), (["ppo:a.yml", "ppo:b.yml"], "ppo have a.yml already")],
)
def test_two_files_for_the_same_arms_are_refused(files: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_arms(["ppo", "trpo"], (), files)


def test_a_folder_without_results_takes_other_settings(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    folder.begin(PLAN)
    folder.begin(replace(PLAN, budgets={env: Budget(9, 3) for env in PLAN.budgets}))
    assert set(folder.read_plan().budgets.values()) == {Budget(9, 3)}


def test_settings_of_cells_without_a_result_may_be_corrected(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    folder.begin(PLAN)
    random = next(PLAN.cells())
    assert random.arm == RANDOM_POLICY
    folder.store(Outcome(random, json.dumps(make_result(PLAN, random, [0.0])), ""))
    label, env = next(iter(PLAN.arms)), next(iter(PLAN.budgets))
    other = copy.deepcopy(PLAN)
    other.settings[label][env].hyperparameters["n_steps"] = 16
    folder.begin(other)
    done = Cell(label, env, 0)
    folder.store(Outcome(done, json.dumps(make_result(other, done, [0.0, 1.0, 2.0])), ""))
    with pytest.raises(ValueError, match="n_steps: 16 there, 8 here"):
        folder.begin(PLAN)


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("Traceback (most recent call last):\n  File x\nValueError: bad\n  or worse\nsecond line\n", "ValueError: bad"),
        ("said something\n(exit status -9)\n", "killed by signal 9, perhaps because memory ran out"),
        ("\n(exit status -11)\n", "killed by signal 11"),
        ("Log path: /tmp/gone\n(exit status 3)\n", "ended with exit status 3"),
        ("\n", "it said nothing"),
    ],
)
def test_a_crash_is_reported_with_the_line_that_names_the_error(log: str, cause: str) -> None:
    task = next(PLAN.task(cell) for cell in PLAN.cells())
    console = Console(file=io.StringIO(), width=300)
    ProgressReport([task], 0, console).end(Outcome(task.cell, None, log), "x.log")
    assert f"CRASHED: {cause}\n" in console.file.getvalue()  # type: ignore[attr-defined]  # of the StringIO


@pytest.mark.parametrize(
    ("algo", "hyperparameters", "least"),
    [
        ("ppo", {"n_steps": 64, "n_envs": 2}, 129),
        ("dqn", {}, 105),  # starts after 100, every 4
        ("dqn", {"learning_starts": 1000, "train_freq": 256, "n_envs": 2}, 1025),
        ("sac", {"learning_starts": 7, "train_freq": [1, "episode"]}, 9),
    ],
)
def test_the_least_budget_has_an_update(algo: str, hyperparameters: dict[str, Any], least: int) -> None:
    assert smallest_budget(algo, hyperparameters) == least


def test_cells_are_all_combinations_and_begin_with_the_random_policy() -> None:
    assert list(PLAN.cells()) == [
        Cell(RANDOM_POLICY, "CartPole-v1", 0),
        Cell("ppo", "CartPole-v1", 0),
        Cell("trpo", "CartPole-v1", 0),
        Cell("ppo", "CartPole-v1", 1),
        Cell("trpo", "CartPole-v1", 1),
    ]


def test_all_arms_are_evaluated_at_the_same_steps_up_to_the_last_one() -> None:
    plan = replace(PLAN, budgets={"CartPole-v1": Budget(100, 30)})
    grids = {arm: plan.task(Cell(arm, "CartPole-v1", 0)).settings.grid() for arm in plan.arms}
    assert grids == {"ppo": [0, 30, 60, 90, 100], "trpo": [0, 30, 60, 90, 100]}


def test_random_policy_depends_on_the_environment_only() -> None:
    cell = Cell(RANDOM_POLICY, "CartPole-v1", 0)
    other = make_plan({"a2c": "a2c"}, ["CartPole-v1"], 5, budgets={"CartPole-v1": Budget(7, 7)}, eval_episodes=3)
    assert PLAN.task(cell) == other.task(cell)


def test_plan_and_task_survive_json() -> None:
    assert Plan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN
    task = PLAN.task(Cell("trpo", "CartPole-v1", 1))
    assert CellTask.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_folder_keeps_results_and_finds_what_is_missing(filled: ResultsFolder) -> None:
    inventory = filled.take_inventory(PLAN)
    assert (len(inventory.results), inventory.missing, inventory.damaged) == (5, [], {})
    filled.cell_file(Cell("trpo", "CartPole-v1", 0)).unlink()
    assert filled.take_inventory(PLAN).missing == [Cell("trpo", "CartPole-v1", 0)]
    assert not list(filled.path.rglob(".unfinished_*"))


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other settings", "binary"])
def test_damaged_cell_is_named_and_missing(filled: ResultsFolder, damage: str) -> None:
    cell = Cell("ppo", "CartPole-v1", 1)
    file = filled.cell_file(cell)
    text = file.read_text()
    files = {
        "cut": text[: len(text) // 2],
        "changed": text.replace('"seed": 1', '"seed": 2'),
        "empty": "",
        "other settings": filled.cell_file(Cell("ppo", "CartPole-v1", 0)).read_text(),
        "binary": "\udcff",
    }
    file.write_text(files[damage], errors="surrogateescape")
    inventory = filled.take_inventory(PLAN)
    assert list(inventory.damaged) == [file]
    assert inventory.missing == [cell]


def test_crashed_cell_leaves_a_log_until_it_succeeds(filled: ResultsFolder) -> None:
    cell = Cell("ppo", "CartPole-v1", 0)
    text = filled.cell_file(cell).read_text()
    filled.cell_file(cell).unlink()
    assert not filled.store(Outcome(cell, None, "Traceback: boom"))
    assert filled.crashed([cell]) == {cell: filled.log_file(cell)}
    assert filled.log_file(cell).read_text() == "Traceback: boom"
    assert filled.store(Outcome(cell, json.dumps(json.loads(text)["result"]), ""))
    assert filled.crashed([cell]) == {}


def test_more_arms_environments_and_seeds_may_be_added(filled: ResultsFolder) -> None:
    more = make_plan(
        {"ppo": "ppo", "trpo": "trpo", "a2c": "a2c"}, ["CartPole-v1", "Acrobot-v1"], 3, commands=("again",)
    )
    plan = filled.begin(more)
    assert plan.commands == ("sb3-ppo-variants compare ...", "again")
    assert len(filled.take_inventory(plan).results) == 5
    assert filled.read_plan() == plan


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"eval_episodes": 3}, "all cells, eval_episodes: 2 there, 3 here"),
        ({"device": "cuda"}, "all cells, device: 'cpu' there, 'cuda' here"),
        ({"budgets": {"CartPole-v1": Budget(200, 50)}}, "CartPole-v1, n_timesteps: 100 there, 200 here"),
        ({"seeds": [0]}, "seed 1: there, but not asked for now"),
        ({"arms": {"ppo": "a2c", "trpo": "trpo"}}, "ppo, algorithm: 'ppo' there, 'a2c' here"),
    ],
)
def test_changed_settings_are_refused_with_what_differs(
    filled: ResultsFolder, changed: dict[str, Any], message: str
) -> None:
    before = (filled.path / "comparison.json").read_text()
    with pytest.raises(ValueError, match=message):
        filled.begin(replace(PLAN, **changed))
    assert (filled.path / "comparison.json").read_text() == before


def test_changed_hyperparameters_are_refused_one_by_one(filled: ResultsFolder) -> None:
    resolved = PLAN.settings["ppo"]["CartPole-v1"]
    other = replace(resolved, hyperparameters={"policy": "MlpPolicy", "n_timesteps": 100, "gamma": 0.9})
    plan = replace(PLAN, settings={**PLAN.settings, "ppo": {"CartPole-v1": other}})
    with pytest.raises(ValueError, match="differs:") as caught:
        filled.begin(plan)
    assert "ppo on CartPole-v1, n_steps: 8 there, 'not given' here" in str(caught.value)
    assert "ppo on CartPole-v1, gamma: 'not given' there, 0.9 here" in str(caught.value)


def test_folder_is_for_one_process_at_a_time(filled: ResultsFolder) -> None:
    with filled.lock(), pytest.raises(ValueError, match="another comparison is running"):
        ResultsFolder(filled.path).lock()
    with ResultsFolder(filled.path).lock():
        pass


def test_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="out is not a folder; give --out another name"):
        ResultsFolder(tmp_path / "out").make()
    with pytest.raises(ValueError, match="out/deeper is not a folder"):
        ResultsFolder(tmp_path / "out" / "deeper").make()


def test_folder_without_a_comparison_or_with_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no comparison in"):
        ResultsFolder(tmp_path).read_plan()
    (tmp_path / "comparison.json").write_text('{"format": 1')
    with pytest.raises(ValueError, match="is damaged .*; remove it and run the same command: cells are kept"):
        ResultsFolder(tmp_path).read_plan()


def test_folders_are_merged(filled: ResultsFolder, tmp_path: Path) -> None:
    plan = make_plan({"ppo": "ppo", "a2c": "a2c"}, ["CartPole-v1"], n_seeds=3)
    other = fill(ResultsFolder(tmp_path / "other"), plan, ppo=[1, 2, 5], a2c=[6, 7, 8])
    merged = merge([filled, other])
    assert list(merged.plan.arms) == ["ppo", "trpo", "a2c"]
    assert merged.plan.seeds == [0, 1, 2]
    assert len(merged.results) == 1 + 3 + 2 + 3
    assert Cell("trpo", "CartPole-v1", 2) not in merged.results


def test_only_what_a_folder_planned_is_missing_from_the_report_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 50)
    plans = {
        "a": make_plan({"ppo": "ppo", "trpo": "trpo"}, ["A-v0"], n_seeds=6),
        "b": make_plan({"ppo": "ppo", "trpo": "trpo"}, ["B-v0"], n_seeds=7),
    }
    final = {arm: range(1, 8) for arm in ("ppo", "trpo")}
    folders = [fill(ResultsFolder(tmp_path / name), plan, **final) for name, plan in plans.items()]
    merged = merge(folders)
    assert set(merged.planned) == {cell for plan in plans.values() for cell in plan.cells()} == set(merged.results)
    assert len(merged.planned) == 13 + 15
    argv = ["compare", "--report-only", "--from", *(folder.path for folder in folders), "--out", tmp_path / "both"]
    monkeypatch.setattr("sys.argv", list(map(str, argv)))
    run_compare()
    text = (tmp_path / "both" / "report.md").read_text()
    assert "trpo against ppo: " in text
    assert "no result" not in text
    assert "runs that have a score" not in text
    assert "Too few" not in text
    assert "Not all algorithms were meant to run everywhere with every seed. On an environment those that" in text
    assert "all algorithms get the same seeds" not in text

    folders[0].cell_file(Cell("trpo", "A-v0", 0)).unlink()
    run_compare()
    text = (tmp_path / "both" / "report.md").read_text()
    assert "1 of 28 cells has no result: trpo · A-v0 · seed 0." in text
    assert "(of the runs that have a score: 12 of 13 runs of trpo)" in text


@pytest.mark.parametrize(
    ("labels", "baseline"),
    [(["trpo", "ppo"], "ppo"), (["trpo", "a2c"], "trpo"), (["trpo ppo", "trpo a2c"], "trpo")],
)
@pytest.mark.parametrize("swept", [False, True])
def test_merged_folders_have_the_baseline_that_all_have_or_that_of_one_command(
    labels: list[str], baseline: str, swept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 50)
    for number, own in enumerate(labels):
        points = {
            f"{arm}@n_epochs={n}" if swept else arm: SweptArm(arm, {"n_epochs": n})
            for arm in own.split()
            for n in (3, 9)
        }
        plan = make_plan(
            {label: point.arm for label, point in points.items()}, ["A-v0"], 1, swept=points if swept else {}
        )
        fill(ResultsFolder(tmp_path / str(number)), plan, **{label: [5.0] for label in points})
    argv = ["compare", "--report-only", "--from", tmp_path / "0", tmp_path / "1", "--out", tmp_path / "both"]
    monkeypatch.setattr("sys.argv", list(map(str, argv)))
    run_compare()
    first_row = re.findall(r"^\| (\w+) \|", (tmp_path / "both" / "report.md").read_text(), flags=re.MULTILINE)[0]
    assert first_row == baseline


def test_the_fewest_runs_that_a_folder_planned_are_named_as_too_few(tmp_path: Path) -> None:
    early = make_plan({"ppo": "ppo"}, ["A-v0"], n_seeds=3)
    late = make_plan({"trpo": "trpo"}, ["A-v0"], n_seeds=3, seeds=[3, 4, 5])
    final = {arm: range(6) for arm in ("ppo", "trpo")}
    merged = merge(
        [fill(ResultsFolder(tmp_path / "a"), early, **final), fill(ResultsFolder(tmp_path / "b"), late, **final)]
    )
    (warning, *_) = warnings(Comparison(merged.plan, merged.results, {}, {}, merged.planned))
    assert warning.startswith("Too few seeds: 3 runs of each. ")


def test_two_runs_of_a_cell_may_have_taken_different_times(filled: ResultsFolder, tmp_path: Path) -> None:
    other = ResultsFolder(tmp_path / "other")
    other.make()
    other.begin(PLAN)
    for cell, result in make_results(PLAN, {"ppo": [1, 2], "trpo": [3, 4]}).items():
        for evaluation in result["evaluations"]:
            evaluation["cpu_seconds"] += 1.0
        other.store(Outcome(cell, json.dumps(result), ""))
    assert len(merge([filled, other]).results) == len(merge([filled]).results)


def test_sweeps_of_different_hyperparameters_are_not_merged(tmp_path: Path) -> None:
    folders = []
    for key in ("learning_rate", "n_epochs"):
        swept = {f"ppo@{key}={value}": SweptArm("ppo", {key: value}) for value in (1, 2)}
        plan = make_plan(dict.fromkeys(swept, "ppo"), ["CartPole-v1"], n_seeds=1, swept=swept)
        folders.append(fill(ResultsFolder(tmp_path / key), plan, **{key_0: [1] for key_0 in swept}))
    with pytest.raises(ValueError, match="do not fit together: they sweep learning_rate and n_epochs"):
        merge(folders)


def test_folders_that_do_not_fit_are_not_merged(filled: ResultsFolder, tmp_path: Path) -> None:
    other = fill(ResultsFolder(tmp_path / "other"), PLAN, ppo=[1, 9], trpo=[3, 4])
    with pytest.raises(ValueError, match="different results of ppo · CartPole-v1 · seed 1; leave one out"):
        merge([filled, other])
    longer = replace(PLAN, budgets={"CartPole-v1": Budget(200, 50)})
    folder = ResultsFolder(tmp_path / "longer")
    folder.make()
    folder.begin(longer)
    with pytest.raises(ValueError, match="do not fit together. What differs:\n  CartPole-v1, n_timesteps: 200 there"):
        merge([filled, folder])
    swept = ResultsFolder(tmp_path / "swept")
    swept.make()
    swept.begin(replace(PLAN, swept={arm: SweptArm(arm, {"gamma": 0.9}) for arm in PLAN.arms}))
    with pytest.raises(ValueError, match="only one of them is a sweep"):
        merge([filled, swept])


def test_the_package_lists_its_modules() -> None:
    folder = Path(compare.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    rooms = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert set(re.findall(r"^    ([\w/]+)  ", compare.__doc__ or "", flags=re.MULTILINE)) == modules | rooms
