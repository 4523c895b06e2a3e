"""docs/recipes.md says what works: every block runs as printed, with fewer steps and without a network."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/recipes.md").read_text()
RECIPES = {
    title: re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)[0]
    for title, section in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)
}
FEWER = {"50_000": "4_096", "n_trials=20": "n_trials=2", "gradient_save_freq=100": "gradient_save_freq=1"}


def run(title: str) -> dict[str, Any]:
    """Run the block of a recipe with few steps and return its names."""
    code = RECIPES[title]
    for many, few in FEWER.items():
        code = code.replace(many, few)
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(code, f"docs/recipes.md: {title}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_recipe_is_tested() -> None:
    assert list(RECIPES) == ["TensorBoard", "Weights & Biases", "Optuna", "ONNX", "Notebook"]


def test_tensorboard_has_the_keys_and_the_figure(tmp_path: Path) -> None:
    run("TensorBoard")
    log = EventAccumulator(str(tmp_path / "runs/penalty_1")).Reload()
    assert {"train/kl_divergence", "train/beta"} <= set(log.Tags()["scalars"])
    assert "trust_region/figure" in log.Tags()["images"]


def test_wandb_gets_the_gradients_of_every_parameter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is in the extra `recipes`, not in `test`")
    logged: set[str] = set()
    real = wandb.sdk.wandb_run.Run._log
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(
        wandb.sdk.wandb_run.Run, "_log", lambda self, data, *a, **k: (logged.update(data), real(self, data, *a, **k))[1]
    )
    names = run("Weights & Biases")
    model = names["model"]
    assert {f"gradients/{name}" for name, _ in model.policy.named_parameters()} <= logged
    assert all(parameter.grad is not None for parameter in model.policy.parameters())
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_optuna_finds_the_better_trial() -> None:
    study = run("Optuna")["study"]
    assert len(study.trials) == 2
    assert set(study.best_params) == {"target_kl", "learning_rate"}


def test_the_onnx_policy_acts_as_the_model() -> None:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is in the extra `recipes`, not in `test`")
    import onnxruntime

    model = run("ONNX")["model"]
    observations = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession("policy.onnx")
    (actions,) = session.run(None, {"observation": observations})
    assert actions.tolist() == model.predict(observations, deterministic=True)[0].tolist()


def test_the_notebook_shows_both_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is in the extra `recipes`, not in `test`")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is in the extra `recipes`, not in `test`")
    pytest.importorskip("ipykernel", reason="ipykernel is in the extra `recipes`, not in `test`")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    lines = RECIPES["Notebook"].replace("50_000", "4_096").strip().splitlines()
    cells = ["\n".join(lines[:-2]), *lines[-2:], "print(PPOPenalty.__doc__)"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    for cell in book.cells[1:3]:
        assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.outputs
    assert ":param beta_bounds: smallest and largest beta (default: (0.001, 1000.0))" in str(book.cells[3].outputs)
