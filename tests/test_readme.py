"""README says what works: its Python blocks run as printed, and what it tells to install can be installed."""

import re
from pathlib import Path

import pytest

import sb3_ppo_variants

ROOT = Path(__file__).resolve().parents[1]
FEWER = {"20_000": "1_024", "50_000": "4_096", "10_000": "2_048"}
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs_as_printed(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = BLOCKS[number]
    for steps, fewer in FEWER.items():
        code = code.replace(steps, fewer)
    exec(code, {"__name__": "__main__"})
    assert list(tmp_path.iterdir())


def test_extras_are_installed_from_a_clone_as_the_project_is_on_no_index() -> None:
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *Path(sb3_ppo_variants.__file__).parent.rglob("*.py")]
    assert [file.name for file in files if "sb3-ppo-variants[" in file.read_text()] == []
