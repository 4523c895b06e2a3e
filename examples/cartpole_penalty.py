"""Train PPO-Penalty on CartPole-v1 and evaluate it: ``python examples/cartpole_penalty.py``."""

import argparse

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ppo_variants import PPOPenalty


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timesteps", type=int, default=30_000, help="environment steps (default: %(default)s)")
    env = make_vec_env("CartPole-v1", n_envs=4, seed=1)
    model = PPOPenalty("MlpPolicy", env, learning_rate=1e-3, n_steps=256, target_kl=0.01, seed=1)  # half the default
    model.learn(parser.parse_args().timesteps)
    mean, std = evaluate_policy(model, make_vec_env("CartPole-v1", seed=2), n_eval_episodes=20)
    print(f"Return over 20 episodes: {mean:.1f} +/- {std:.1f}; beta is now {model.beta:.3f}")


if __name__ == "__main__":
    main()
