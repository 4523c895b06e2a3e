"""Running the zoo's commands as a user does: in processes of their own, in a temporary folder."""

import functools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import sb3_ppo_variants

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(sb3_ppo_variants.__file__).parents[1]
CUSTOM_ENVS = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces

import sb3_ppo_variants.zoo.autoregister


class OneValidAction(gym.Env):
    metadata = {"render_modes": ["rgb_array"]}
    action_space = spaces.Discrete(4)
    observation_space = spaces.Box(0, 1, (2,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def observe(self):
        self.valid = int(self.np_random.integers(4))
        return self.np_random.random(2, dtype=np.float32)

    def step(self, action):
        if action != self.valid:
            raise RuntimeError(f"action {action} is invalid")
        self.steps += 1
        return self.observe(), 1.0, self.steps >= 10, False, {}

    def action_masks(self):
        return np.arange(4) == self.valid

    def render(self):
        return np.zeros((64, 64, 3), np.uint8)


gym.register("OneValidAction-v0", entry_point=OneValidAction)
"""
"""A custom_envs.py as the zoo looks for: an environment that fails on every action but the one its mask allows."""


def environment(path: Path | None = None, **more: str) -> dict[str, str]:
    """Return the variables of a process that finds the package under `path`, by default the one under test."""
    return {**os.environ, "PYTHONPATH": str(path or PACKAGE), "OMP_NUM_THREADS": "1", **more}


def run_python(
    folder: Path, *arguments: str, status: int = 0, path: Path | None = None, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run Python in `folder` and check how it ends; `more` are variables of its environment."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(path, **more),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def zoo(folder: Path, *arguments: str, status: int = 0, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run our command line in `folder`."""
    return run_python(folder, "-m", "sb3_ppo_variants.zoo", *arguments, status=status, **more)


def start(folder: Path, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    """Start our command line in `folder` and leave it running; `options` are more arguments of Popen."""
    command = [sys.executable, "-u", "-m", "sb3_ppo_variants.zoo", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # where the tests run in the background ctrl-c is ignored, and processes inherit that
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=folder, env=environment(), preexec_fn=heed, **pipes, **options)


def wait_for_updates(process: "subprocess.Popen[str]", updates: int) -> None:
    """Read what a training prints until it has logged so many updates."""
    assert process.stdout is not None
    for line in process.stdout:
        updates -= "total_timesteps" in line
        if updates == 0:
            return
    raise AssertionError("the training ended before")


def training(algo: str, env: str, *arguments: str, steps: int = 512) -> list[str]:
    """Return the arguments of a short training in the folder where it is run."""
    run = ["--algo", algo, "--env", env, "-n", str(steps), "--seed", "1"]
    return [*run, "--eval-freq", "-1", "-f", "logs", *arguments]


def train(folder: Path, algo: str, env: str, *arguments: str, steps: int = 512, status: int = 0) -> str:
    """Train in `folder` through our command line and return what it prints."""
    done = zoo(folder, "train", *training(algo, env, *arguments, steps=steps), status=status)
    return done.stdout + done.stderr


def logged(output: str, key: str) -> list[float]:
    """Return the values of a key in the tables that the logger prints, in order."""
    return [float(value) for value in re.findall(rf"^\|\s+{key}\s+\|\s+(\S+)\s+\|$", output, flags=re.MULTILINE)]
