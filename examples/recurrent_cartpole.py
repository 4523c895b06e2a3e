"""Balance a pole without seeing any velocity: an LSTM policy under PPO-Penalty.

``python examples/recurrent_cartpole.py`` trains ``RecurrentPPOPenalty`` on CartPole-v1 with both velocities set to zero
(the zoo's CartPoleNoVel-v1). One observation does not say where the pole is falling to, so that a policy without memory
stays poor; the LSTM infers it from the steps before. Note how an evaluation carries the LSTM's state along and says
where episodes start: ``evaluate_policy`` does both.
"""

import argparse

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ppo_variants import PPOPenalty, RecurrentPPOPenalty

MASK = np.array([1.0, 0.0, 1.0, 0.0], dtype=np.float32)  # position, velocity, angle, angular velocity


def make_env() -> gym.Env:
    env = gym.make("CartPole-v1")
    return gym.wrappers.TransformObservation(env, lambda observation: observation * MASK, env.observation_space)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=100_000, help="environment steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    arguments = parser.parse_args()
    th.set_num_threads(1)

    # Settings of the zoo's ppo_lstm entry for CartPoleNoVel-v1.
    settings = {"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gae_lambda": 0.8, "gamma": 0.98, "target_kl": 0.02}
    settings["learning_rate"] = lambda progress_remaining: 1e-3 * progress_remaining
    runs = {
        "LSTM": (RecurrentPPOPenalty, "MlpLstmPolicy", {"lstm_hidden_size": 64, "enable_critic_lstm": True}),
        "no memory": (PPOPenalty, "MlpPolicy", {}),
    }
    for name, (algorithm, policy, policy_kwargs) in runs.items():
        env = make_vec_env(make_env, n_envs=8, seed=arguments.seed)
        policy_kwargs = {"net_arch": {"pi": [64], "vf": [64]}, "activation_fn": th.nn.ReLU, **policy_kwargs}
        model = algorithm(policy, env, seed=arguments.seed, policy_kwargs=policy_kwargs, **settings)
        model.learn(arguments.timesteps)
        mean, std = evaluate_policy(model, make_vec_env(make_env, seed=1000 + arguments.seed), n_eval_episodes=20)
        print(f"{name}: return over 20 episodes {mean:.1f} +/- {std:.1f}; beta is now {model.beta:.3f}")


if __name__ == "__main__":
    main()
