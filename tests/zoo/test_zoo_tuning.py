"""Tuning through the zoo: studies on disk, several workers, and the way back into training."""

from pathlib import Path

import optuna
import pytest
import yaml
from zoo_commands import start, train, training

from sb3_ppo_variants import PPOPenalty

pytestmark = pytest.mark.slow

STUDY = ["--study-name", "study"]
FEW = ["--pruner", "none", "--no-optim-plots", "-params", "n_envs:2"]


def optimise(*arguments: str) -> list[str]:
    """Return the arguments of a study with trials of 64 steps."""
    return [*STUDY, "-optimize", *FEW, *arguments]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a study of 3 trials of PPO-Penalty in an SQLite file."""
    folder = tmp_path_factory.mktemp("studied")
    train(
        folder, "ppo_penalty", "CartPole-v1", *optimise("--storage", "sqlite:///study.db", "--n-trials", "3"), steps=64
    )
    return folder


def load_study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="study", storage=f"sqlite:///{folder / 'study.db'}")


def trained_config(folder: Path, *arguments: str) -> dict[str, object]:
    """Train from the study and return the hyperparameters of the run."""
    storage = ["--storage", "sqlite:///study.db", *STUDY]
    output = train(folder, "ppo_penalty", "CartPole-v1", *storage, *arguments, "-params", "n_envs:1", steps=64)
    run = Path(output.split("Log path: ")[1].splitlines()[0])
    assert PPOPenalty.load(folder / run / "CartPole-v1.zip").num_timesteps >= 64
    config: dict[str, object] = dict(yaml.unsafe_load((folder / run / "CartPole-v1" / "config.yml").read_text()))
    return config


def test_study_samples_our_arguments(studied: Path) -> None:
    trials = load_study(studied).trials
    assert len(trials) == 3
    for trial in trials:
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert {"target_kl", "initial_beta", "adaptation_factor", "clip_range_vf", "learning_rate"} <= set(trial.params)
        assert "clip_range" not in trial.params


@pytest.mark.parametrize("number", [0, 2])
def test_trial_comes_back_into_training_by_its_number(studied: Path, number: int) -> None:
    params = load_study(studied).trials[number].params
    config = trained_config(studied, "--trial-id", str(number))
    assert config["target_kl"] == params["target_kl"]
    assert config["initial_beta"] == params["initial_beta"]
    assert config["n_steps"] == 2 ** params["n_steps_pow"]
    assert config["clip_range_vf"] == params["clip_range_vf"]
    assert config["n_envs"] == 1  # the command line has the last word


def test_best_trial_comes_back_into_training_without_a_number(studied: Path) -> None:
    params = load_study(studied).best_trial.params
    config = trained_config(studied)
    assert config["target_kl"] == params["target_kl"]
    assert config["learning_rate"] == params["learning_rate"]


@pytest.mark.parametrize("storage", ["sqlite:///shared.db", "logs/shared.log"], ids=["sqlite", "journal"])
def test_two_workers_share_a_study(tmp_path: Path, storage: str) -> None:
    arguments = optimise("--storage", storage, "--max-total-trials", "4")
    command = ["train", *training("ppo_adaptive_clip", "CartPole-v1", *arguments, steps=64), "-uuid"]
    # One after the other would not show a clash of the files: both at once.
    workers = [start(tmp_path, *command) for _ in range(2)]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    if storage.endswith(".log"):
        journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / storage))
        study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(journal))
    else:
        study = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path / 'shared.db'}")
    assert len(study.trials) >= 4
    assert all("target_kl" in trial.params for trial in study.trials)
    assert all("Trial" in output for output in outputs), "one of the workers had nothing to do"
