"""A variant of one's own in the zoo's commands and in ``compare``, as a user runs them."""

import json
import zipfile
from pathlib import Path

import pytest
from zoo_commands import ROOT, run_python, train, zoo

OWN = (ROOT / "examples" / "own_variant.py").read_text()
CUSTOM_ENVS = """
from own_variant import PPORollback
from sb3_ppo_variants.zoo import register_algorithm

entry = {"n_timesteps": 512, "policy": "MlpPolicy", "n_steps": 64, "batch_size": 32, "rollback": 0.7}
register_algorithm("rollback", PPORollback, {"CartPole-v1": entry})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a working folder with a variant and the module that registers it."""
    (tmp_path / "own_variant.py").write_text(OWN)
    (tmp_path / "custom_envs.py").write_text(CUSTOM_ENVS)
    return tmp_path


def test_own_variant_trains_and_is_evaluated(folder: Path) -> None:
    train(folder, "rollback", "CartPole-v1", steps=256)
    with zipfile.ZipFile(folder / "logs" / "rollback" / "CartPole-v1_1" / "CartPole-v1.zip") as archive:
        assert json.loads(archive.read("data"))["rollback"] == 0.7
    evaluated = zoo(folder, "evaluate", "--algo", "rollback", "--env", "CartPole-v1", "-f", "logs", "-n", "2")
    assert "Evaluation over 2 episodes (deterministic): " in evaluated.stdout


@pytest.mark.slow
def test_own_variant_trains_through_the_zoo_s_own_command(folder: Path) -> None:
    arguments = ["--algo", "rollback", "--env", "CartPole-v1", "-n", "64", "--eval-freq", "-1", "-f", "logs"]
    run_python(folder, "-m", "rl_zoo3.train", *arguments)
    assert (folder / "logs" / "rollback" / "CartPole-v1_1" / "CartPole-v1.zip").is_file()


def test_own_variant_is_compared(folder: Path) -> None:
    pytest.importorskip("rliable", reason="the compare extra has it")
    small = ["--seeds", "1", "--n-timesteps", "200", "--eval-freq", "100", "--eval-episodes", "2", "--jobs", "1"]
    arms = ["--algos", "ppo", "rollback", "-params", "ppo:n_steps:8"]
    zoo(folder, "compare", *arms, "--envs", "CartPole-v1", *small, "--out", "out")
    result = json.loads((folder / "out" / "cells" / "rollback" / "CartPole-v1" / "seed_0.json").read_text())["result"]
    assert result["settings"]["hyperparameters"]["rollback"] == 0.7
    assert "rollback" in (folder / "out" / "report.md").read_text()
