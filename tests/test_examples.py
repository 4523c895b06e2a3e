"""The examples run as a user runs them, and the documents say of the code what it is."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import sb3_contrib
import stable_baselines3

import sb3_ppo_variants
from sb3_ppo_variants import PPOAdaptiveClip, PPOAdaptiveLR, PPOClip, PPOPenalty, callbacks
from sb3_ppo_variants.extend import PolicyUpdateMixin
from sb3_ppo_variants.trust_region_log import COLUMNS, read_trust_region

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = {
    "cartpole_penalty.py": ["Return over 20 episodes: ", "beta is now "],
    "compare_clip_and_penalty.py": ["PPO-Clip  ", "PPO-Penalty  ", "PPO-Penalty, paper's rule", "of the updates"],
    "job_shop.py": ["most work remaining", "learned by MaskablePPOPenalty"],
    "masked_invalid_actions.py": ["MaskablePPO: ", "MaskablePPOPenalty: "],
    "recurrent_cartpole.py": ["LSTM: return", "no memory: return"],
    "own_variant.py": ["PPORollback: return", "PPOAdaptiveRollback: return"],
    "exercises/entropy_decay.py": ["no bonus  ", "from 0.05 to 0  "],
    "exercises/gae_lambda.py": ["     0.0", "    0.95", "     1.0"],
    "exercises/trpo_against_ppo.py": ["TRPO  ", "PPOPenalty  "],
    "exercises/value_scale.py": ["rewards x 1   no value clip", "rewards x 100 VecNormalize"],
    "exercises/vectorised.py": ["1 x 2048 steps", "4 x 512 steps"],
}


def run_example(name: str, folder: Path, *more: str) -> str:
    """Run one example with very few steps, in an empty folder and with the package under test."""
    package = Path(sb3_ppo_variants.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), "--timesteps", "512", *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    folder = ROOT / "examples"
    exercises = {f"exercises/{path.name}" for path in (folder / "exercises").glob("*.py")} - {"exercises/runs.py"}
    assert {path.name for path in folder.glob("*.py")} | exercises == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs_and_leaves_no_files(name: str, tmp_path: Path) -> None:
    output = run_example(name, tmp_path)
    for text in EXAMPLES[name]:
        assert text in output
    assert "nan" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["compare_clip_and_penalty.py", "exercises/vectorised.py"])
def test_example_draws_its_figure(name: str, tmp_path: Path) -> None:
    run_example(name, tmp_path, "--figure", "runs.png")
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_a_page_names_files_that_are_there(page: str) -> None:
    folders = "sb3_ppo_variants|tests|examples|benchmarks|docs|hyperparams"
    named = re.findall(rf"\b(?:{folders})/[\w/]+\.\w+", (ROOT / page).read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_page_on_variants_quotes_the_example() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/writing_a_variant.md").read_text(), flags=re.DOTALL)
    assert blocks[1] in (ROOT / "examples/own_variant.py").read_text()


def test_the_page_on_variants_lists_every_hook_and_the_gallery() -> None:
    page = (ROOT / "docs/writing_a_variant.md").read_text()
    hooks = ["check_arguments", "update_coefficients", "surrogate", "kl_penalty", "extra_loss", "extra_metrics"]
    hooks += ["update_rules", "kl_limit", "record_state", "after_epoch", "after_update"]
    for hook in hooks:
        arguments = [name for name in inspect.signature(getattr(PolicyUpdateMixin, hook)).parameters if name != "self"]
        assert f"| `{hook}({', '.join(arguments)})` |" in page
    files = {path.name for path in (ROOT / "examples/variants").glob("*.py")} - {"custom_envs.py"}
    assert set(re.findall(r"\| `(\w+\.py)` \|", page)) == files


@pytest.mark.parametrize(
    ("page", "cls"),
    [
        ("ppo_clip.md", PPOClip),
        ("ppo_penalty.md", PPOPenalty),
        ("ppo_adaptive_clip.md", PPOAdaptiveClip),
        ("ppo_adaptive_lr.md", PPOAdaptiveLR),
    ],
)
def test_parameter_table_is_the_signature(page: str, cls: Any) -> None:
    section = (ROOT / "docs" / page).read_text().split("## Parameters")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \| (required|`[^`]*`) \| \S", section, flags=re.MULTILINE)
    parameters = [p for p in inspect.signature(cls).parameters.values() if not p.name.startswith("_")]
    expected = [(p.name, "required" if p.default is p.empty else f"`{p.default!r}`") for p in parameters]
    assert sorted(documented) == sorted(expected)  # a page begins with the class's own


def recorded_keys(files: Iterable[Path]) -> set[str]:
    found = (re.findall(r'(?:record|add_figure)\(\s*"(\w+/\w+)"', path.read_text()) for path in files)
    return {key for keys in found for key in keys}


def test_every_logged_key_is_documented() -> None:
    sb3, contrib = (Path(module.__file__).parent for module in (stable_baselines3, sb3_contrib))
    common = [sb3 / "common" / f"{name}.py" for name in ("on_policy_algorithm", "base_class", "callbacks")]
    algorithms = [sb3 / "ppo", sb3 / "a2c", contrib / "trpo", contrib / "ppo_recurrent", contrib / "ppo_mask"]
    theirs = recorded_keys([*common, *(path for folder in algorithms for path in folder.glob("*.py"))])
    ours = recorded_keys((ROOT / "sb3_ppo_variants").rglob("*.py"))
    assert {"train/loss", "rollout/ep_rew_mean"} < theirs and {"train/beta", "trust_region/figure"} < ours
    tables = (ROOT / "docs/metrics.md").read_text().split("## When they appear")[0]
    documented = re.findall(r"^\| `(\w+/\w+)` \|", tables, flags=re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert set(documented) == ours | theirs


def test_every_column_of_the_recorder_is_documented() -> None:
    section = (ROOT / "docs/callbacks.md").read_text().split("## The file of TrustRegionRecorder")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, flags=re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", " ".join(rows))) == COLUMNS


def test_callbacks_page_has_the_signatures() -> None:
    page = (ROOT / "docs/callbacks.md").read_text()
    named = [name for name in callbacks.__all__ if name not in ("UpdateCallback", "ClipFractionRecord")]
    for name in named:
        parameters = [p for p in inspect.signature(getattr(callbacks, name)).parameters.values() if p.name != "verbose"]
        arguments = (p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)
        assert f"### `{name}({', '.join(arguments)})`" in page


def test_callbacks_page_shows_code_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/callbacks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(code.replace("100_000", "3_000"), "docs/callbacks.md", "exec"), {})
    assert len(read_trust_region("run.csv").updates["update"]) == 2
