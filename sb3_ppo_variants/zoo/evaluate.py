"""Evaluate a trained agent over a number of episodes.

The zoo's ``enjoy`` counts time steps, so that the number of episodes behind its mean is not known beforehand, and
prints one line for each; this is for scripts and tables.
"""

import argparse
import importlib
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
import yaml
from huggingface_sb3 import EnvironmentName
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS, create_test_env, get_model_path, get_saved_hyperparams
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed

from sb3_ppo_variants.zoo.mistakes import refuse


def evaluate() -> None:
    """Run the command: parse its arguments, evaluate, print mean and standard deviation of the return."""
    arguments = _parser().parse_args()
    if arguments.n_episodes < 1:
        refuse(f"--n-episodes must be >= 1, got {arguments.n_episodes}; 20 is the default")
    for package in arguments.gym_packages:
        importlib.import_module(package)
    if arguments.num_threads > 0:
        th.set_num_threads(arguments.num_threads)
    set_random_seed(arguments.seed)
    model_path, log_path = _find(arguments)
    samples = arguments.stochastic or (_is_sampled(arguments.env.gym_id) and not arguments.deterministic)
    returns = _episode_returns(model_path, log_path, arguments, not samples)
    kind = "stochastic" if samples else "deterministic"
    print(f"Evaluation over {len(returns)} episodes ({kind}): {np.mean(returns):.2f} +/- {np.std(returns):.2f}")
    print(f"Model: {model_path}")
    print(f"Logs: {log_path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Evaluate a trained agent over a number of episodes.")
    parser.add_argument("--algo", default="ppo", choices=list(ALGOS), help="algorithm")
    parser.add_argument("--env", default="CartPole-v1", type=EnvironmentName, help="environment ID")
    parser.add_argument("-f", "--folder", default="logs", help="log folder of the training")
    parser.add_argument("--exp-id", default=0, type=int, help="experiment ID (0: the latest, -1: no such folder)")
    parser.add_argument("-n", "--n-episodes", default=20, type=int, help="number of episodes")
    parser.add_argument("--load-best", action="store_true", help="the best model seen in training, not the last")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--stochastic", action="store_true", help="sample actions (default on Atari and MiniGrid)")
    kind.add_argument("--deterministic", action="store_true", help="take the likeliest actions (default elsewhere)")
    parser.add_argument("--seed", default=0, type=int, help="random seed")
    parser.add_argument("--device", default="auto", help="PyTorch device")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="modules to import that register environments")
    parser.add_argument("--num-threads", default=-1, type=int, help="threads of PyTorch (-1: its default)")
    return parser


def _find(given: argparse.Namespace) -> tuple[str, str]:
    """Return the agent's zip file and the folder of its run."""
    try:
        return get_model_path(given.exp_id, given.folder, given.algo, given.env, given.load_best)[1:]
    except (AssertionError, ValueError) as error:  # the zoo's two ways to say that there is none
        way_out = "train one first, or name its log folder with -f"
        if given.load_best and isinstance(error, ValueError):  # the run is there
            way_out = "a training saves its best model with --eval-freq; leave --load-best out for the last one"
        refuse(f"{error}; {way_out}")


def _is_sampled(env_id: str) -> bool:
    """Tell whether the zoo samples actions there unless told otherwise, in training's evaluations and in ``enjoy``."""
    known = env_id in gym.registry  # else making it will say so
    return known and (ExperimentManager.is_atari(env_id) or ExperimentManager.is_minigrid(env_id))


def _episode_returns(model_path: str, log_path: str, arguments: argparse.Namespace, deterministic: bool) -> list[float]:
    settings = Path(log_path) / arguments.env
    hyperparams, stats_path = get_saved_hyperparams(str(settings))
    env_kwargs: dict[str, Any] = hyperparams.pop("env_kwargs", {})
    arguments_file = settings / "args.yml"
    if arguments_file.is_file():
        # As in the zoo: written by its own train, with Python objects in it.
        env_kwargs = yaml.unsafe_load(arguments_file.read_text())["env_kwargs"] or env_kwargs
    env = create_test_env(
        arguments.env.gym_id,
        stats_path=stats_path,
        seed=arguments.seed,
        should_render=False,
        hyperparams=hyperparams,
        env_kwargs=env_kwargs,
    )
    needs_env = "HerReplayBuffer" in str(hyperparams.get("replay_buffer_class"))
    model = ALGOS[arguments.algo].load(model_path, env=env if needs_env else None, device=arguments.device)
    returns, _ = evaluate_policy(
        model,
        env,
        arguments.n_episodes,
        deterministic=deterministic,
        return_episode_rewards=True,
    )
    env.close()
    assert isinstance(returns, list)  # one number per episode, as asked for
    return returns


__all__ = ["evaluate"]
