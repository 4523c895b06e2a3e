"""Steps per second of this package and of what else a user might take, against stock SB3 PPO, in one run, interleaved.

    pip install . -r benchmarks/peers.txt -c constraints.txt
    OMP_NUM_THREADS=1 python benchmarks/peers.py --out docs/results/peers.json
    python benchmarks/peers.py --table docs/results/peers.json      # of an earlier run, as Markdown; runs nothing

All train on the settings S1 to S3 of speed.py: the same environments one after the other in one process, networks of
64 and 64 tanh units, rollouts, minibatches, epochs and clip range, and steps are counted alike. SBX is SB3's own
reimplementation in JAX; skrl runs with its trainer and gymnasium's SyncVectorEnv, without value clipping and with SB3's
weight of the value loss. Contenders take turns; the median ratio to stock PPO of the same turn is reported. The first
update, in which JAX and torch.compile compile, is in a column of its own. JAX takes the threads that it wants.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from sbx import PPO as SBXPPO
from skrl.agents.torch.ppo import PPO as SkrlPPO
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import StepTrainer
from speed import Train, machine, ours, take_turns
from speed_settings import SETTINGS, Setting
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

OURS = ["PPOClip eager", "PPOClip compile", "PPOPenalty eager"]
PACKAGES = ["stable_baselines3", "sbx-rl", "jax", "skrl", "torch", "gymnasium"]


class Network(Model):  # type: ignore[misc]  # skrl has no types
    """What skrl's models share: two layers of 64 tanh units."""

    def __init__(self, env: Any, n_outputs: int):
        Model.__init__(self, observation_space=env.observation_space, action_space=env.action_space, device="cpu")
        hidden = nn.Linear(self.num_observations, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()
        self.net = nn.Sequential(*hidden, nn.Linear(64, n_outputs))

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[th.Tensor, dict[str, Any]]:
        """Return the network's output, as skrl calls for it."""
        return self.net(inputs["observations"]), {}


class Choice(CategoricalMixin, Network):  # type: ignore[misc]
    """Policy for Discrete actions."""

    def __init__(self, env: Any):
        Network.__init__(self, env, env.action_space.n)
        CategoricalMixin.__init__(self)


class Gaussian(GaussianMixin, Network):  # type: ignore[misc]
    """Policy for Box actions, whose log standard deviation is one parameter per dimension."""

    def __init__(self, env: Any):
        Network.__init__(self, env, env.action_space.shape[0])
        GaussianMixin.__init__(self)
        self.log_std = nn.Parameter(th.zeros(self.num_actions))

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[th.Tensor, dict[str, Any]]:
        return self.net(inputs["observations"]), {"log_std": self.log_std}


class Value(DeterministicMixin, Network):  # type: ignore[misc]
    """Value function."""

    def __init__(self, env: Any):
        Network.__init__(self, env, 1)
        DeterministicMixin.__init__(self)


def timed(train: Callable[[int], Any]) -> Train:
    """Measure the seconds of a training."""

    def measured(updates: int) -> float:
        start = time.perf_counter()
        train(updates)
        return time.perf_counter() - start

    return measured


def of_sbx(setting: Setting, seed: int) -> Train:
    env = make_vec_env(setting.env, setting.n_envs, seed=seed)
    sizes = {"n_steps": setting.n_steps, "batch_size": setting.batch_size, "n_epochs": setting.n_epochs}
    model, steps = SBXPPO(setting.policy, env, seed=seed, **sizes), setting.n_steps * setting.n_envs
    return timed(lambda updates: model.learn(updates * steps, reset_num_timesteps=False))


def of_skrl(setting: Setting) -> Train:
    env = wrap_env(gym.make_vec(str(setting.env), setting.n_envs, vectorization_mode="sync"), verbose=False)
    policy = Choice(env) if isinstance(env.action_space, gym.spaces.Discrete) else Gaussian(env)
    samples = setting.n_steps * setting.n_envs
    agent = SkrlPPO(
        models={"policy": policy, "value": Value(env)},
        memory=RandomMemory(memory_size=setting.n_steps, num_envs=setting.n_envs, device="cpu"),
        observation_space=env.observation_space,
        action_space=env.action_space,
        device="cpu",
        cfg={
            "rollouts": setting.n_steps,
            "learning_epochs": setting.n_epochs,
            "mini_batches": samples // setting.batch_size,
            "learning_rate": 3e-4,
            "value_clip": 0.0,
            "value_loss_scale": 0.5,
            "experiment": {"write_interval": 0, "checkpoint_interval": 0},
        },
    )
    trainer = StepTrainer(env=env, agents=agent, cfg={"headless": True, "disable_progressbar": True})

    def train(updates: int) -> None:
        for _ in range(updates * setting.n_steps):
            trainer.train()

    return timed(train)


def table(report: dict[str, Any]) -> str:
    """Write a report as a Markdown table: median ratio to stock PPO (lowest to highest turn)."""
    settings = report["settings"]
    lines = [["", *settings, "first update, s"], ["---"] * (len(settings) + 2)]
    for name in next(iter(settings.values())):
        rows = [settings[key][name] for key in settings]
        ratios = [f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})" for row in rows]
        lines.append([name, *ratios, ", ".join(f"{row['first_update_seconds']:.1f}" for row in rows)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=["S1", "S2", "S3"], default=["S1", "S2", "S3"])
    parser.add_argument("--repeats", type=int, default=5, help="turns per contender; the median is reported")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--table", type=Path, help="print the table of a JSON file")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(json.loads(arguments.table.read_text())))
        return
    th.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("skrl").setLevel(logging.ERROR)
    versions = {name: version(name) for name in PACKAGES}
    report: dict[str, Any] = {"machine": machine("cpu"), "versions": versions, "threads": 1, "seed": arguments.seed}
    report |= {"repeats": arguments.repeats, "settings": {}}
    for key in arguments.settings:
        setting = SETTINGS[key]
        contenders = ours(OURS, setting, "cpu", arguments.seed)
        contenders |= {"SBX": of_sbx(setting, arguments.seed), "skrl": of_skrl(setting)}
        report["settings"][key] = take_turns(contenders, setting, arguments.repeats)
        print(f"{table({'settings': {key: report['settings'][key]}})}\n", flush=True)
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
