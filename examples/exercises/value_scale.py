"""Train a value function on small and on large rewards: ``python examples/exercises/value_scale.py``.

Where returns are in the thousands the squared error of the value function is in the millions, and its gradient leaves
nothing of the policy's within ``max_grad_norm``. Three remedies are tried on CartPole-v1, with its rewards times 1 and
times 100. ``clip_range_vf=0.2`` lets a prediction move by 0.2 per update, in the unit of the returns.
``value_clip_scale="return_std"`` makes that 0.2 standard deviations of the rollout's returns. ``VecNormalize`` scales
the rewards themselves.
"""

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TransformReward
from runs import draw, options, train
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants import PPOClip

NORMALISED = "VecNormalize"
SETTINGS: dict[str, dict[str, Any]] = {
    "no value clip": {},
    "0.2 returns": {"clip_range_vf": 0.2},
    "0.2 deviations": {"clip_range_vf": 0.2, "value_clip_scale": "return_std"},
    NORMALISED: {},
}


def cartpole(scale: float) -> gym.Env[Any, Any]:
    """Make CartPole-v1 with other rewards.

    :param scale: factor of every reward
    """
    return TransformReward(gym.make("CartPole-v1"), lambda reward: scale * float(reward))


def main() -> None:
    chosen = options(__doc__, timesteps=60_000)
    runs = {}
    print(f"{'':28}{'steps balanced':>16}{'explained variance':>20}{'value clip fraction':>21}   last 5 updates")
    for scale in (1.0, 100.0):
        for label, arguments in SETTINGS.items():
            env: Any = make_vec_env(cartpole, n_envs=4, seed=chosen.seed, env_kwargs={"scale": scale})
            if label == NORMALISED:
                env = VecNormalize(env, norm_obs=False)
            model = PPOClip("MlpPolicy", env, n_steps=512, seed=chosen.seed, **arguments)
            run = runs[f"rewards x {scale:g}, {label}"] = train(model, chosen.timesteps)
            explained, outside = (
                run.updates[name][-5:].mean() for name in ("explained_variance", "value_clip_fraction")
            )
            clipped = f"{outside:.2f}" if arguments else "-"
            balanced = run.returns.mean() / scale
            print(f"rewards x {scale:<4g}{label:14}{balanced:16.1f}{explained:20.2f}{clipped:>21}")
    if chosen.figure:
        panels = {"ep_len_mean": "steps balanced", "explained_variance": "explained variance"}
        draw(runs, panels, "CartPole-v1: the scale of the rewards", chosen.figure)


if __name__ == "__main__":
    main()
