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
