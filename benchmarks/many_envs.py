"""Steps per second with many environments in one vectorised simulator: this package, stock PPO and rsl_rl, in one run.

    python benchmarks/many_envs.py                                   # the table of docs/scale.md
    python benchmarks/many_envs.py --envs 4096 --device cuda --out many_envs.json

rsl_rl takes part if it can be imported (pip install rsl-rl-lib). All train Pendulum-v1's task with two hidden layers of
64 tanh units, 24 steps per environment and rollout, 4 minibatches, 5 epochs, one torch thread. "stock, DummyVecEnv" is
what SB3 has for it: one environment after the other. Contenders take turns; medians are reported. "limit" is what
simulator and matrix products alone would reach. With ``--device cuda`` the simulator of all is on the GPU, but that of
"stock, DummyVecEnv".
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch as th
from simulators import TorchPendulum, VectorPendulum, rsl_rl_pendulum
from speed import machine
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOAdaptiveLR, PPOClip, PPOPenalty
from sb3_ppo_variants.vec_env import GymnasiumVecEnv

N_STEPS, N_MINIBATCHES, N_EPOCHS = 24, 4, 5
Updates = Callable[[int], None]
"""Trains for so many updates."""


def of_sb3(cls: Any, env: Any, device: str) -> Updates:
    batch = env.num_envs * N_STEPS // N_MINIBATCHES
    model = cls("MlpPolicy", env, n_steps=N_STEPS, batch_size=batch, n_epochs=N_EPOCHS, seed=0, device=device)
    steps = env.num_envs * N_STEPS
    return lambda updates: model.learn(steps * updates, reset_num_timesteps=False) and None


def of_rsl_rl(n: int, device: str, schedule: str) -> Updates:
    from rsl_rl.runners import OnPolicyRunner

    net = {"class_name": "MLPModel", "hidden_dims": [64, 64], "activation": "tanh"}
    config = {
        "num_steps_per_env": N_STEPS,
        "save_interval": 10**9,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {**net, "distribution_cfg": {"class_name": "GaussianDistribution"}},
        "critic": net,
        "algorithm": {
            **{"class_name": "PPO", "num_learning_epochs": N_EPOCHS, "num_mini_batches": N_MINIBATCHES},
            **{"schedule": schedule, "learning_rate": 3e-4, "entropy_coef": 0.0, "use_clipped_value_loss": False},
        },
    }
    runner = OnPolicyRunner(rsl_rl_pendulum(n, device), config, device=device)
    return runner.learn


def contenders(n: int, device: str, most_one_by_one: int) -> dict[str, Updates]:
    def vector() -> GymnasiumVecEnv:
        return GymnasiumVecEnv(VectorPendulum(n, device))

    found = {
        "stock, GymnasiumVecEnv": of_sb3(PPO, vector(), device),
        "PPOClip": of_sb3(PPOClip, vector(), device),
        "PPOPenalty": of_sb3(PPOPenalty, vector(), device),
        "PPOAdaptiveLR": of_sb3(PPOAdaptiveLR, vector(), device),
    }
    if n <= most_one_by_one:
        found = {"stock, DummyVecEnv": of_sb3(PPO, make_vec_env("Pendulum-v1", n, seed=0), device), **found}
    if importlib.util.find_spec("rsl_rl"):
        for schedule in ("fixed", "adaptive"):
            found[f"rsl_rl, {schedule} rate"] = of_rsl_rl(n, device, schedule)
    return found


def limit(n: int, device: str) -> float:
    """Measure steps per second of the simulator and the matrix products of one update alone."""
    simulator, actions = TorchPendulum(n, device), th.zeros((n, 1), device=device)
    nets = [th.nn.Sequential(*_layers(out)).to(device) for out in (1, 1)]
    batch = th.zeros((n * N_STEPS // N_MINIBATCHES, 3), device=device)
    start = time.perf_counter()
    with th.no_grad():
        for _ in range(N_STEPS):
            observations = simulator.step(actions)[0]
            for net in nets:
                net(observations)
    for _ in range(N_EPOCHS * N_MINIBATCHES):
        for net in nets:
            net(batch).sum().backward()
    if device != "cpu":
        th.cuda.synchronize()
    return n * N_STEPS / (time.perf_counter() - start)


def _layers(out: int) -> list[th.nn.Module]:
    return [th.nn.Linear(3, 64), th.nn.Tanh(), th.nn.Linear(64, 64), th.nn.Tanh(), th.nn.Linear(64, out)]


def measure(n: int, arguments: argparse.Namespace) -> dict[str, list[float]]:
    updates = max(1, arguments.steps // (n * N_STEPS))
    with redirect_stdout(StringIO()):  # rsl_rl prints its networks, and a table after each update
        found = contenders(n, arguments.device, arguments.most_one_by_one)
        speeds: dict[str, list[float]] = {name: [] for name in [*found, "limit"]}
        for train in found.values():
            train(1)
        limit(n, arguments.device)
        for _ in range(arguments.repeats):
            for name, train in found.items():
                start = time.perf_counter()
                train(updates)
                speeds[name].append(updates * n * N_STEPS / (time.perf_counter() - start))
            speeds["limit"].append(limit(n, arguments.device))
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", type=int, default=[64, 1024, 4096])
    parser.add_argument("--steps", type=int, default=100_000, help="of each contender in each turn, about")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most-one-by-one", type=int, default=1024, help="environments that DummyVecEnv is given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    report: dict[str, Any] = {"machine": machine(arguments.device), "torch": th.__version__}
    for n in arguments.envs:
        speeds = measure(n, arguments)
        stock = speeds["stock, GymnasiumVecEnv"]
        print(f"\n{n} environments\n{'':28}{'steps/s':>10}{'ratio to stock on GymnasiumVecEnv':>36}")
        for name, own in speeds.items():
            ratio = statistics.median(mine / base for mine, base in zip(own, stock))  # of the same turn
            print(f"{name:28}{statistics.median(own):10.0f}{ratio:36.2f}", flush=True)
        report[str(n)] = speeds
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
