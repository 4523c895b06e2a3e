"""examples/tour.ipynb runs from the first cell to the last and shows what it says."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
MINUTES = 3


@pytest.mark.slow
def test_the_tour_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is in the extra `dev`, not in `test`")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is in the extra `dev`, not in `test`")
    pytest.importorskip("ipykernel", reason="ipykernel is in the extra `dev`, not in `test`")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(ROOT / "examples/tour.ipynb", as_version=4)
    start = time.monotonic()
    nbclient.NotebookClient(
        book, timeout=60 * MINUTES, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert time.monotonic() - start < 60 * MINUTES
    text = "".join(text_of(cell) for cell in book.cells)
    assert float(re.findall(r"return (\d+)", text)[0]) > 195  # the tour trains well
    first, second = (float(kl) for kl in re.findall(r"ppo_\w+: largest KL (\S+)", text))
    assert first > 1 > 0.0101 > second  # the clip does not bound the KL, the projection does
    assert "8192" in text
    assert sum(has_picture(cell) for cell in book.cells) == 4


def text_of(cell: Any) -> str:
    outputs = cell.get("outputs", [])
    return "".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs)


def has_picture(cell: Any) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def test_the_tour_is_kept_as_it_was_run() -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is in the extra `dev`, not in `test`")
    book = nbformat.read(ROOT / "examples/tour.ipynb", as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(has_picture(cell) for cell in code) == 4
    text = "".join(text_of(cell) for cell in code)
    assert "return " in text and "/home" not in text and "/tmp" not in text
