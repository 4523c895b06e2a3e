"""Every environment that the zoo's files and ours list starts and is trained for two updates with each algorithm."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from zoo_commands import ROOT, environment

pytestmark = pytest.mark.slow

PLAIN = ("ppo_clip", "ppo_penalty", "ppo_adaptive_clip")
LSTM = tuple(f"{name}_lstm" for name in PLAIN)
MOVED = "MuJoCo environments of version 2 are not in Gymnasium 1 any more"
OLD_GYM = "is in no package for Gymnasium, only in pybullet's for the old gym"
RENUMBERED = "the zoo registers it as version 3, which its own file does not list"
GONE = {
    **dict.fromkeys(("HumanoidStandup-v2", "InvertedDoublePendulum-v2", "InvertedPendulum-v2", "Reacher-v2"), MOVED),
    **dict.fromkeys(("MinitaurBulletEnv-v0", "MinitaurBulletDuckEnv-v0"), OLD_GYM),
    **dict.fromkeys(("LunarLanderNoVel-v2", "LunarLanderContinuousNoVel-v2"), RENUMBERED),
}
"""Environments that nobody can have with the versions the zoo needs; whatever else is missing is a failure."""

SERVER = """
import os
import signal
import sys
import traceback

import torch._dynamo  # the optimiser imports it when it is made
from sb3_ppo_variants.cli import main
from sb3_ppo_variants.zoo import register

register()
import rl_zoo3
import rl_zoo3.train


def train(env, algos):
    for algo in algos:
        small = ["n_envs:2", "n_steps:16", "batch_size:16", "n_epochs:2"]
        options = ["--eval-freq", "-1", "-f", "logs", "--seed", "1", "--verbose", "0", "-params", *small]
        sys.argv = ["sb3-ppo-variants", "train", "--algo", algo, "--env", env, "-n", "64", *options]
        main()
        model = rl_zoo3.ALGOS[algo].load(f"logs/{algo}/{env.replace('/', '-')}_1/{env.replace('/', '-')}.zip")
        assert model.num_timesteps == 64, model.num_timesteps
        assert 2 <= model._n_updates <= 4, model._n_updates  # two epochs each, unless a KL limit ends an update
        print("DONE", algo)


for line in sys.stdin:
    folder, env, *algos = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        signal.alarm(300)
        status = 1
        try:
            os.chdir(folder)
            for stream in (1, 2):
                os.dup2(os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            train(env, algos)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print("STATUS", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports once, which takes far longer than 64 steps, then trains each line of its input in a process of its own."""


@pytest.fixture(scope="module")
def server() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-u", "-W", "ignore", "-c", SERVER]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


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


def check(server: "subprocess.Popen[str]", folder: Path, env: str, algos: tuple[str, ...]) -> None:
    if env in GONE:
        pytest.skip(f"{env}: {GONE[env]}")
    if "Bullet" in env and sys.version_info >= (3, 12):
        pytest.skip(f"{env}: pybullet has no wheel for Python 3.12 or later")
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write("\t".join([str(folder), env, *algos]) + "\n")
    server.stdin.flush()
    status = next((line for line in server.stdout if line.startswith("STATUS")), "the server ended")  # pybullet talks
    output = (folder / "output.txt").read_text(errors="replace") if (folder / "output.txt").exists() else ""
    assert status == "STATUS 0\n", output
    assert [line.removeprefix("DONE ") for line in output.splitlines() if line.startswith("DONE")] == list(algos)


@pytest.mark.parametrize("env", environments_of(zoo_file("ppo.yml"), ROOT / "hyperparams" / "ppo_penalty.yml"))
def test_two_updates_with_each_algorithm(env: str, server: "subprocess.Popen[str]", tmp_path: Path) -> None:
    check(server, tmp_path, env, PLAIN)


@pytest.mark.parametrize(
    "env", environments_of(zoo_file("ppo_lstm.yml"), ROOT / "hyperparams" / "ppo_penalty_lstm.yml")
)
def test_two_updates_with_each_recurrent_algorithm(env: str, server: "subprocess.Popen[str]", tmp_path: Path) -> None:
    check(server, tmp_path, env, LSTM)
