"""What the benchmarks of whole runs share: the file of their rows."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def recorded_runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("recorded_runs")


def run(env: str, seed: int) -> dict[str, Any]:
    return {"x": 2}


@pytest.mark.parametrize("half", ["", '{"env": "A", "se', '{"env": "A", "seed": 1, "x": 9}'])
def test_a_line_that_a_killed_process_did_not_end_is_no_run_and_is_written_anew(
    half: str, recorded_runs: Any, tmp_path: Path
) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"env": "A", "seed": 0, "x": 1}\n' + half)
    first = {"env": "A", "seed": 0, "x": 1}
    assert recorded_runs.read_rows(path) == [first]
    found = recorded_runs.run_missing(path, [{"env": "A", "seed": seed} for seed in (0, 1)], run)
    assert found == [first, {"env": "A", "seed": 1, "x": 2}]
    assert [json.loads(line) for line in path.read_text().splitlines()] == found


def test_the_table_of_rates_has_runs_of_one_length_only(
    recorded_runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("mean", "mean_first_epoch", "mean_last_epoch", "at_lower_bound", "at_upper_bound")
    path = tmp_path / "rates.jsonl"
    for steps, rate in ((100_000, 1e-3), (5000, 1e-2)):
        row = {"env": "A", "seed": 5, "steps": steps, "percentiles_5_50_95": [rate] * 3, **dict.fromkeys(names, rate)}
        path.write_text((path.read_text() if path.exists() else "") + json.dumps(row) + "\n")
    script = importlib.import_module("adaptive_rates")
    for arguments, rate in (([], "1.0e-03"), (["--steps", "5000"], "1.0e-02")):
        monkeypatch.setattr("sys.argv", ["adaptive_rates.py", "--table", "--out", str(path), *arguments])
        script.main()
        assert f"| A | {rate} | {rate} to {rate} |" in capsys.readouterr().out
