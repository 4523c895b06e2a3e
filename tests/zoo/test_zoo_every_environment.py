"""Every environment that the zoo's files and ours list starts and is trained for two updates with each algorithm."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from zoo_commands import ROOT, run_python

pytestmark = pytest.mark.slow

PLAIN = ("ppo_clip", "ppo_penalty", "ppo_adaptive_clip")
LSTM = tuple(f"{name}_lstm" for name in PLAIN)
SCRIPT = """
import sys
import gymnasium as gym
from sb3_ppo_variants.zoo import register
from sb3_ppo_variants.cli import main

env, algos = sys.argv[1], sys.argv[2:]
register()  # the zoo imports the packages of environments that are installed
try:
    gym.make(env).close()
except (gym.error.Error, ImportError, AttributeError, TypeError) as error:
    print("NOT INSTALLED:", type(error).__name__, error)
    raise SystemExit
import rl_zoo3

for algo in algos:
    small = ["n_envs:2", "n_steps:16", "batch_size:16", "n_epochs:2"]
    options = ["--eval-freq", "-1", "-f", "logs", "--seed", "1", "--verbose", "0", "-params", *small]
    sys.argv = ["sb3-ppo-variants", "train", "--algo", algo, "--env", env, "-n", "64", *options]
    main()
    model = rl_zoo3.ALGOS[algo].load(f"logs/{algo}/{env.replace('/', '-')}_1/{env.replace('/', '-')}.zip")
    assert model.num_timesteps == 64, model.num_timesteps
    assert 2 <= model._n_updates <= 4, model._n_updates  # two epochs each, unless a KL limit ends an update
    print("DONE", algo)
"""


def environments_of(*files: Path) -> list[str]:
    """Return the environments that files of hyperparameters list; a game stands for all of Atari."""
    names = {name for file in files for name in yaml.safe_load(file.read_text()) if name != "default"}
    return sorted("ALE/Pong-v5" if name == "atari" else name for name in names)


def zoo_file(name: str) -> Path:
    """Return a file of the zoo, which is not imported for it."""
    spec = importlib.util.find_spec("rl_zoo3")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "hyperparams" / name


def check(folder: Path, env: str, algos: tuple[str, ...]) -> None:
    output = run_python(folder, "-W", "ignore", "-c", SCRIPT, env, *algos).stdout
    if "NOT INSTALLED:" in output:
        pytest.skip(output.split("NOT INSTALLED:")[1].strip().splitlines()[0])
    assert [line.removeprefix("DONE ") for line in output.splitlines() if line.startswith("DONE")] == list(algos)


@pytest.mark.parametrize("env", environments_of(zoo_file("ppo.yml"), ROOT / "hyperparams" / "ppo_penalty.yml"))
def test_two_updates_with_each_algorithm(env: str, tmp_path: Path) -> None:
    check(tmp_path, env, PLAIN)


@pytest.mark.parametrize(
    "env", environments_of(zoo_file("ppo_lstm.yml"), ROOT / "hyperparams" / "ppo_penalty_lstm.yml")
)
def test_two_updates_with_each_recurrent_algorithm(env: str, tmp_path: Path) -> None:
    check(tmp_path, env, LSTM)
