"""Compare TRPO with PPO on CartPole-v1: ``python examples/exercises/trpo_against_ppo.py``.

TRPO takes one step per update and searches along a line until its KL is within a limit; it needs second derivatives.
PPO-Clip bounds the ratios of single actions. PPO-Penalty runs PPO's epochs, then searches along a line, as TRPO does.
Seconds are processor time. With several seeds, intervals and peak memory:
``sb3-ppo-variants compare --preset trpo --out trpo``.
"""

from typing import Any

from runs import draw, options, train
from sb3_contrib import TRPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOClip, PPOPenalty


def main() -> None:
    chosen = options(__doc__, timesteps=100_000)
    classes: dict[str, Any] = {"TRPO": TRPO, "PPOClip": PPOClip, "PPOPenalty": PPOPenalty}
    runs = {}
    print(f"{'':14}{'return':>9}{'seconds':>9}{'largest KL of an update':>26}")
    for label, cls in classes.items():
        env = make_vec_env("CartPole-v1", n_envs=4, seed=chosen.seed)
        run = runs[label] = train(cls("MlpPolicy", env, n_steps=512, seed=chosen.seed), chosen.timesteps)
        kl = run.updates["kl_divergence_loss" if cls is TRPO else "kl_divergence"]
        print(f"{label:14}{run.returns.mean():9.1f}{run.seconds:9.1f}{kl.max():26.4f}")
    if chosen.figure:
        draw(runs, {"ep_rew_mean": "return"}, "CartPole-v1: TRPO and PPO", chosen.figure)


if __name__ == "__main__":
    main()
