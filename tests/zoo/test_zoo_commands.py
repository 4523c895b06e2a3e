"""The zoo's other commands, as a user runs them, on one pair of trained agents."""

import json
import os
import pickle
import signal
import time
import zipfile
from pathlib import Path

import fake_hub
import imageio_ffmpeg
import pytest
from zoo_commands import start, train, training, wait_for_updates, zoo

from sb3_ppo_variants import PPOClip, PPOPenalty

pytestmark = pytest.mark.slow

AGENT = ["--algo", "ppo_penalty", "--env", "CartPole-v1", "-f", "logs"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with two runs of PPO-Penalty, with evaluations and checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    for _ in range(2):
        train(folder, "ppo_penalty", "CartPole-v1", "--eval-freq", "512", "--save-freq", "1024", steps=1024)
    return folder


def is_mp4(path: Path) -> bool:
    return path.read_bytes()[4:8] == b"ftyp"


def test_record_video_leaves_an_mp4(trained: Path) -> None:
    zoo(trained, "record_video", *AGENT, "-n", "30", "-o", "videos", "--load-best")
    (video,) = (trained / "videos").glob("*.mp4")
    assert is_mp4(video)


def test_record_training_films_every_checkpoint(trained: Path) -> None:
    refused = zoo(trained, "record_training", *AGENT, status=1, PATH="")
    assert "ffmpeg, which is not on the PATH" in refused.stderr
    programs = trained / "programs"
    programs.mkdir()
    (programs / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    (trained / "notes").mkdir()
    (trained / "notes" / "mine.txt").write_text("not a film")
    for folder, problem in (("notes", "holds more than films"), ("two words", "whose path has a space")):
        refused = zoo(trained, "record_training", *AGENT, "-n", "20", "-o", folder, status=2, PATH=path)
        assert problem in refused.stderr
    assert (trained / "notes" / "mine.txt").exists()
    zoo(trained, "record_training", *AGENT, "-n", "20", "-o", "training", PATH=path)
    films = {film.name.split("-step")[0] for film in (trained / "training").glob("*.mp4")}
    assert films >= {"checkpoint-1024-ppo_penalty-CartPole-v1", "final-model-ppo_penalty-CartPole-v1", "training.mp4"}
    assert is_mp4(trained / "training" / "training.mp4")


def test_plots_leave_files(trained: Path) -> None:
    zoo(
        trained, "plot_train", "-a", "ppo_penalty", "-e", "CartPole-v1", "-f", "logs", "-w", "5", "--figures", "figures"
    )
    algos = ["-a", "ppo_penalty", "-e", "CartPole-v1", "-f", "logs"]
    table = zoo(trained, "all_plots", *algos, "-o", "results", "--figures", "figures").stdout
    assert "PPO_PENALTY" in table
    results = pickle.loads((trained / "results.pkl").read_bytes())
    assert len(results["CartPole-v1"]["PPO_PENALTY-logs"]["last_evals"]) == 2
    zoo(trained, "plot_from_file", "-i", "results.pkl", "-b", "--figures", "from_file")
    for path in ("figures/Training_Episodic_Reward.png", "figures/Results_CartPole-v1.png"):
        assert (trained / path).read_bytes().startswith(b"\x89PNG")
    assert list((trained / "from_file").glob("*.png"))


def test_benchmark_lists_our_algorithms(trained: Path) -> None:
    arguments = ["--log-dir", "logs", "--benchmark-dir", "benchmark", "--no-hub", "-n", "300", "--num-threads", "1"]
    zoo(trained, "benchmark", *arguments)
    table = (trained / "benchmark.md").read_text()
    assert "|ppo_penalty|CartPole-v1|" in table.replace(" ", "")


@pytest.mark.parametrize("algo", ["ppo_penalty", "ppo_clip_lstm"])
def test_interrupted_training_saves_the_model(tmp_path: Path, algo: str) -> None:
    process = start(tmp_path, "train", *training(algo, "CartPole-v1", steps=10_000_000))
    wait_for_updates(process, 3)
    time.sleep(0.2)  # somewhere in the next rollout or update
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "Saving to" in output
    saved = tmp_path / "logs" / algo / "CartPole-v1_1" / "CartPole-v1.zip"
    with zipfile.ZipFile(saved) as archive:
        assert json.loads(archive.read("data"))["num_timesteps"] >= 3 * 128
    output = train(tmp_path, algo, "CartPole-v1", "-i", str(saved), steps=300)
    assert "Saving to" in output


def test_termination_of_the_environments_too_saves_the_model(tmp_path: Path) -> None:
    arguments = training("ppo_penalty", "CartPole-v1", "-params", "n_envs:2", steps=10_000_000)
    process = start(tmp_path, "train", "--vec-env", "subproc", *arguments, start_new_session=True)
    wait_for_updates(process, 1)
    os.killpg(process.pid, signal.SIGTERM)  # as clusters do
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert zipfile.is_zipfile(tmp_path / "logs/ppo_penalty/CartPole-v1_1/CartPole-v1.zip")


def test_callback_of_the_entry_gets_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(
        "CartPole-v1:\n  n_timesteps: 128\n  policy: MlpPolicy\n  n_steps: 64\n  batch_size: 64\n  callback:\n"
        "    - stable_baselines3.common.callbacks.CheckpointCallback:\n"
        "        save_freq: 100\n        save_path: checkpoints\n        name_prefix: mine\n"
    )
    train(tmp_path, "ppo_clip", "CartPole-v1", "--conf-file", "mine.yml", steps=128)
    assert PPOClip.load(tmp_path / "checkpoints" / "mine_100_steps.zip").num_timesteps == 100


def test_our_callback_of_the_entry_stops_training(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(
        "CartPole-v1:\n  n_timesteps: 4096\n  policy: MlpPolicy\n  n_steps: 256\n  callback:\n"
        "    - sb3_ppo_variants.callbacks.StopTrainingOnKL:\n        max_kl: 1.0e-6\n        patience: 2\n"
    )
    train(tmp_path, "ppo_clip", "CartPole-v1", "--conf-file", "mine.yml", steps=4096)
    model = PPOClip.load(tmp_path / "logs/ppo_clip/CartPole-v1_1/CartPole-v1.zip")
    assert model.num_timesteps == 2 * 256 + 1


def test_agent_goes_to_the_hub_and_comes_back(trained: Path, tmp_path: Path) -> None:
    files = {".gitattributes": b""}  # of a new repository
    agent = ["--algo", "ppo_penalty", "--env", "CartPole-v1", "-orga", "someone"]
    with fake_hub.serve(files) as address:
        variables = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        source = [*agent, "-f", "logs", "--no-render", "--exp-id", "1"]
        zoo(trained, "push_to_hub", *source, HF_TOKEN="none", **variables)
        assert b"**PPOPenalty** Agent playing **CartPole-v1**" in files["README.md"]
        assert b"sb3-ppo-variants enjoy --algo ppo_penalty" in files["README.md"]
        assert b"target_kl" in files["config.yml"]
        zoo(tmp_path, "load_from_hub", *agent, "-f", "downloaded", TRUST_REMOTE_CODE="True", **variables)
    model = PPOPenalty.load(tmp_path / "downloaded/ppo_penalty/CartPole-v1_1/CartPole-v1.zip")
    assert model.num_timesteps == 1024
