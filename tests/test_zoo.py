"""The zoo commands as a user runs them: in processes of their own, in a temporary folder."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from stable_baselines3 import PPO

import sb3_ppo_variants
from sb3_ppo_variants import PPOAdaptiveClip, PPOClip, PPOPenalty

ROOT = Path(__file__).resolve().parents[1]


def run_python(
    folder: Path, *arguments: str, status: int = 0, path: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run Python in `folder` with the package found under `path`, by default the one under test."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(path or Path(sb3_ppo_variants.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def zoo(folder: Path, *arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    return run_python(folder, "-m", "sb3_ppo_variants.zoo", *arguments, status=status)


def train(folder: Path, algo: str, env: str, *arguments: str, steps: int = 512) -> str:
    options = ["-n", str(steps), "--seed", "1", "--eval-freq", "-1", "-f", str(folder / "logs"), *arguments]
    return zoo(folder, "train", "--algo", algo, "--env", env, *options).stdout


def logged(output: str, key: str) -> list[float]:
    """Return the values of a key in the tables that the logger prints, in order."""
    return [float(value) for value in re.findall(rf"^\|\s+{key}\s+\|\s+(\S+)\s+\|$", output, flags=re.MULTILINE)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a PPO-Penalty agent after 4 updates on CartPole-v1."""
    folder = tmp_path_factory.mktemp("trained")
    train(folder, "ppo_penalty", "CartPole-v1", steps=1024)
    return folder


def test_train_without_conf_file_leaves_model_and_config(trained: Path) -> None:
    run = trained / "logs" / "ppo_penalty" / "CartPole-v1_1"
    model = PPOPenalty.load(run / "CartPole-v1.zip")
    config = (run / "CartPole-v1" / "config.yml").read_text()
    assert model.num_timesteps == 1024
    assert "target_kl" in config
    assert "clip_range" not in config


@pytest.mark.parametrize(("algo", "cls"), [("ppo_adaptive_clip", PPOAdaptiveClip), ("ppo_clip", PPOClip)])
def test_train_on_pendulum_uses_our_yaml(tmp_path: Path, algo: str, cls: type[PPO]) -> None:
    output = train(tmp_path, algo, "Pendulum-v1", "-params", "n_steps:128")
    assert f"Loading hyperparameters from: {ROOT / 'hyperparams' / algo}.yml" in output
    run = tmp_path / "logs" / algo / "Pendulum-v1_1"
    model = cls.load(run / "Pendulum-v1.zip")
    assert type(model) is cls
    assert model.use_sde
    assert (run / "Pendulum-v1" / "config.yml").is_file()


def test_stock_algorithm_keeps_the_zoos_yaml(tmp_path: Path) -> None:
    output = train(tmp_path, "ppo", "CartPole-v1")
    assert re.search(r"Loading hyperparameters from: .*rl_zoo3/hyperparams/ppo\.yml", output)
    assert (tmp_path / "logs" / "ppo" / "CartPole-v1_1" / "CartPole-v1.zip").is_file()


def test_enjoy_and_evaluate_find_the_agent(trained: Path) -> None:
    agent = ["--algo", "ppo_penalty", "--env", "CartPole-v1", "-f", "logs"]
    assert "Mean reward:" in zoo(trained, "enjoy", *agent, "--no-render", "-n", "200").stdout
    output = zoo(trained, "evaluate", *agent, "--n-episodes", "3").stdout
    assert re.search(r"Evaluation over 3 episodes \(deterministic\): \d+\.\d\d \+/- \d+\.\d\d", output)
    assert "Model: logs/ppo_penalty/CartPole-v1_1/CartPole-v1.zip" in output


def test_evaluate_without_agent_says_what_to_do(tmp_path: Path) -> None:
    done = zoo(tmp_path, "evaluate", "--algo", "ppo_clip", status=1)
    assert "train one first" in done.stderr


def test_beta_continues_when_a_run_is_resumed(trained: Path, tmp_path: Path) -> None:
    agent = trained / "logs" / "ppo_penalty" / "CartPole-v1_1" / "CartPole-v1.zip"
    saved = PPOPenalty.load(agent).beta
    assert saved != PPOPenalty.load(agent).initial_beta, "nothing to see: beta has not moved"
    output = train(tmp_path, "ppo_penalty", "CartPole-v1", "-i", str(agent))
    assert logged(output, "beta")[0] == pytest.approx(saved, rel=1e-2)  # the table shows three digits


def test_register_is_idempotent_and_reaches_every_command(tmp_path: Path) -> None:
    script = """
import rl_zoo3.train  # before: the command already holds the stock manager
from argparse import Namespace
from sb3_ppo_variants.zoo import ALGORITHMS, register

register()
before = dict(rl_zoo3.ALGOS), rl_zoo3.train.ExperimentManager
register()
import rl_zoo3.enjoy  # after

assert (dict(rl_zoo3.ALGOS), rl_zoo3.train.ExperimentManager) == before
assert rl_zoo3.enjoy.ExperimentManager is rl_zoo3.train.ExperimentManager
assert rl_zoo3.train.ALGOS is rl_zoo3.ALGOS
assert set(ALGORITHMS) < set(rl_zoo3.ALGOS)


def config(algo, **arguments):
    return rl_zoo3.train.ExperimentManager(Namespace(), algo, "CartPole-v1", "logs", **arguments).config


assert config("ppo_clip").endswith("hyperparams/ppo_clip.yml")
assert config("ppo_clip", config="mine.yml") == "mine.yml"
assert "rl_zoo3" in config("ppo")
"""
    run_python(tmp_path, "-c", script)


def test_package_does_not_import_rl_zoo3(tmp_path: Path) -> None:
    script = "import sys, sb3_ppo_variants.zoo; assert not [name for name in sys.modules if name.startswith('rl_zoo3')]"
    run_python(tmp_path, "-c", script)


def test_unknown_command_lists_the_commands(tmp_path: Path) -> None:
    done = zoo(tmp_path, "trian", status=2)
    assert "unknown command 'trian', did you mean 'train'?; choose from train, enjoy" in done.stderr
    assert "usage:" in zoo(tmp_path, "--help").stdout


@pytest.mark.parametrize("name", ["ppo_clip", "ppo_penalty", "ppo_adaptive_clip"])
def test_every_algorithm_has_the_first_environments(name: str) -> None:
    entries = yaml.safe_load((ROOT / "hyperparams" / f"{name}.yml").read_text())
    assert {"CartPole-v1", "Pendulum-v1"} <= set(entries)


def test_installed_wheel_finds_its_hyperparams(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="builds the wheel; the test extra has it")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert (site / "sb3_ppo_variants" / "py.typed").is_file()
    assert not (site / "tests").exists()
    script = "from sb3_ppo_variants.zoo.hyperparameters import hyperparams_folder as f; print(f())"
    folder = Path(run_python(tmp_path, "-c", script, path=site).stdout.strip())
    assert folder == site / "sb3_ppo_variants" / "hyperparams"
    in_tree, in_wheel = (
        {path.name: path.read_text() for path in place.glob("*.yml")} for place in (ROOT / "hyperparams", folder)
    )
    assert in_wheel == in_tree
