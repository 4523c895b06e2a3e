"""The script that puts the raw scores of several comparisons together: what it takes, and what it leaves out."""

import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

from sb3_ppo_variants.compare.cells import RANDOM_POLICY
from sb3_ppo_variants.compare.report import statistics

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "better_scores.py"

Print = Callable[..., str]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Print:
    """Run the script in this process and give what it prints."""
    monkeypatch.setattr(statistics, "REPETITIONS", 50)

    def run(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return run


def write(file: Path, scores: Mapping[tuple[str, str], Sequence[float | None]], random: float = 0.0) -> Path:
    """Write episodes: by algorithm and environment, the reward of each seed's two evaluations, None for no run."""
    rows = [
        (algo, env, seed, step, 0, reward, 9)
        for (algo, env), rewards in scores.items()
        for seed, reward in enumerate(rewards)
        if reward is not None
        for step in (0, 100)
    ]
    rows += [(RANDOM_POLICY, env, 0, 0, episode, random, 9) for env in {env for _, env in scores} for episode in (0, 1)]
    names = ["algo", "env", "seed", "timesteps", "episode", "reward", "length"]
    pd.DataFrame(rows, columns=names).to_csv(file, index=False)
    return file


def test_files_that_agree_may_overlap(tmp_path: Path, printed: Print) -> None:
    one = write(tmp_path / "one.csv", {("ppo", "A-v0"): [1, 2], ("mine", "A-v0"): [3, 4]})
    other = write(tmp_path / "other.csv", {("ppo", "A-v0"): [1, 2, 3], ("mine", "A-v0"): [3, 4, 5]})
    assert "final score: mine, 3 seeds: P 0.94 [" in printed(one, other)  # of nine pairs 3 and 3 is a tie: 8.5 / 9


def test_results_of_one_run_that_contradict_each_other_are_refused(tmp_path: Path, printed: Print) -> None:
    one = write(tmp_path / "one.csv", {("ppo", "A-v0"): [1, 2], ("mine", "A-v0"): [3, 4]})
    other = write(tmp_path / "other.csv", {("mine", "A-v0"): [3, 8]})
    with pytest.raises(SystemExit, match=r"different results in them \(mine on A-v0, seed 1\); leave one file out"):
        printed(one, other)


def test_only_seeds_count_that_both_have_everywhere(tmp_path: Path, printed: Print) -> None:
    scores: dict[tuple[str, str], Sequence[float | None]] = {
        ("ppo", "A-v0"): [1, 1, 1, 1],
        ("ppo", "B-v0"): [1, None, 1, 1],
        ("mine", "A-v0"): [2, 50, 2, None],
        ("mine", "B-v0"): [2, 50, 2, 2],
    }
    text = printed(write(tmp_path / "scores.csv", scores))
    assert "final score: mine, 2 seeds" in text
    assert "A-v0                      2.0 [2.0, 2.0]               difference 1.0 [1.0, 1.0]" in text
    assert "50" not in text


def test_no_seed_in_common_is_said(tmp_path: Path, printed: Print) -> None:
    file = write(tmp_path / "scores.csv", {("ppo", "A-v0"): [1, None], ("mine", "A-v0"): [None, 2]})
    assert "final score: mine and ppo have no seed in common" in printed(file)


def test_an_environment_on_which_nothing_beats_random_is_left_out_and_named(tmp_path: Path, printed: Print) -> None:
    scores = {(algo, env): [3.0, 4.0] for algo in ("ppo", "mine") for env in ("A-v0", "Hard-v0")}
    scores |= {(algo, "Hard-v0"): [0.0, 0.0] for algo in ("ppo", "mine")}
    text = printed(write(tmp_path / "scores.csv", scores))
    first, _, rest = text.partition("\n")
    assert first.startswith("left out") and first.endswith(": Hard-v0")
    assert "A-v0" in rest and "Hard-v0" not in rest


def test_an_unknown_baseline_is_refused(tmp_path: Path, printed: Print) -> None:
    with pytest.raises(SystemExit, match="no scores of --baseline trpo; there are ppo"):
        printed(write(tmp_path / "scores.csv", {("ppo", "A-v0"): [1, 2]}), "--baseline", "trpo")
