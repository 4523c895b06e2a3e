"""Vary lambda of generalised advantage estimation on LunarLander-v3: ``python examples/exercises/gae_lambda.py``.

Lambda 0 is the one-step advantage, with little variance and much bias. Lambda 1 is the Monte Carlo return, the other
way round. Five trainings of 200,000 steps; needs ``gymnasium[box2d]``. With several seeds and intervals:
``sb3-ppo-variants compare --preset gae-lambda --out gae-lambda``.
"""

from runs import draw, options, train
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOClip


def main() -> None:
    chosen = options(__doc__, timesteps=200_000)
    runs = {}
    print(f"{'lambda':>8}{'mean return':>14}{'deviation':>12}   last 20 episodes")
    for gae_lambda in (0.0, 0.5, 0.9, 0.95, 1.0):
        env = make_vec_env("LunarLander-v3", n_envs=4, seed=chosen.seed)
        model = PPOClip("MlpPolicy", env, gae_lambda=gae_lambda, n_steps=512, seed=chosen.seed)
        run = runs[f"lambda {gae_lambda}"] = train(model, chosen.timesteps)
        print(f"{gae_lambda:8}{run.returns.mean():14.1f}{run.returns.std():12.1f}")
    if chosen.figure:
        panels = {"ep_rew_mean": "return", "explained_variance": "explained variance"}
        draw(runs, panels, "GAE on LunarLander-v3: lambda from 0 to 1", chosen.figure)


if __name__ == "__main__":
    main()
