"""``train --resume`` as a user runs it: killed, and run again with the same command."""

import io
import zipfile
from pathlib import Path

import pytest
import torch as th
from zoo_commands import start, train, training, wait_for_updates, zoo

from sb3_ppo_variants.checkpoints.checkpoint_files import list_checkpoints

pytestmark = pytest.mark.slow

SHORT = ["--hyperparams", "n_envs:2", "n_steps:64", "batch_size:64", "n_epochs:2"]


def kill_after_updates(folder: Path, updates: int, arguments: list[str]) -> None:
    """Train until so many updates are logged, then SIGKILL."""
    process = start(folder, "train", *arguments)
    wait_for_updates(process, updates)
    process.kill()
    process.communicate(timeout=60)


def policy_of(model: Path) -> dict[str, th.Tensor]:
    with zipfile.ZipFile(model) as archive:
        state: dict[str, th.Tensor] = th.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    return state


def test_a_killed_run_goes_on_with_the_same_command(tmp_path: Path) -> None:
    steps, name = 128 * 8, "logs/ppo_penalty/CartPole-v1_1"
    options = ["--resume", "--save-freq", "1", *SHORT]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    train(whole, "ppo_penalty", "CartPole-v1", *options, steps=steps)
    kill_after_updates(broken, 4, training("ppo_penalty", "CartPole-v1", *options, steps=steps))
    saved = list_checkpoints(broken / name / "checkpoints")[0].timesteps
    assert saved >= 3 * 128
    output = train(broken, "ppo_penalty", "CartPole-v1", *options, steps=steps)

    assert f"Resuming {name} at step {saved}" in output
    assert [path.name for path in (broken / "logs/ppo_penalty").iterdir()] == ["CartPole-v1_1"]
    expected, resumed = policy_of(whole / name / "CartPole-v1.zip"), policy_of(broken / name / "CartPole-v1.zip")
    assert all(th.equal(expected[key], resumed[key]) for key in expected)
    monitored = (broken / name / "0.monitor.csv").read_text().splitlines()
    assert monitored[0].startswith("#") and len(monitored) > 10  # the episodes before the kill are still there


def test_a_finished_run_is_left_as_it_is_and_made_longer_by_n(tmp_path: Path) -> None:
    train(tmp_path, "ppo_clip", "CartPole-v1", "--resume", *SHORT, steps=256)
    folder = tmp_path / "logs/ppo_clip/CartPole-v1_1"
    output = train(tmp_path, "ppo_clip", "CartPole-v1", "--resume", *SHORT, steps=256)
    assert "at step 256" in output
    assert list_checkpoints(folder / "checkpoints")[0].timesteps == 256
    train(tmp_path, "ppo_clip", "CartPole-v1", "--resume", *SHORT, steps=512)
    assert list_checkpoints(folder / "checkpoints")[0].timesteps == 512
    assert not (tmp_path / "logs/ppo_clip/CartPole-v1_2").exists()
    train(tmp_path, "ppo_clip", "CartPole-v1", *SHORT, steps=128)
    assert not (tmp_path / "logs/ppo_clip/CartPole-v1_2/checkpoints").exists()  # without the option as ever


@pytest.mark.parametrize("algo", ["ppo", "ppo_clip_lstm"])
def test_stock_and_recurrent_algorithms_resume(tmp_path: Path, algo: str) -> None:
    for steps in (128, 256):
        output = train(tmp_path, algo, "CartPole-v1", "--resume", *SHORT, steps=steps)
    assert "at step 128" in output
    assert list_checkpoints(tmp_path / f"logs/{algo}/CartPole-v1_1/checkpoints")[0].timesteps == 256


def test_what_is_no_run_of_train_is_refused(tmp_path: Path) -> None:
    output = train(tmp_path, "ppo_clip", "CartPole-v1", "--resume", "-optimize", "--n-trials", "1", status=1)
    assert "--resume goes on with a run of train: leave out -i and -optimize" in output


def test_help_says_what_it_does(tmp_path: Path) -> None:
    output = zoo(tmp_path, "train", "--help").stdout
    assert "--resume" in output
    assert "--trained-agent" in output
