"""Compare one environment with four on CartPole-v1: ``python examples/exercises/vectorised.py``.

With the same ``n_steps`` four environments give a rollout four times as large, and a quarter of the updates. With a
quarter of ``n_steps`` rollout and number of updates stay, and only the samples are more varied. With several seeds:
``sb3-ppo-variants compare --preset vectorised --out vectorised``.
"""

from runs import draw, options, train
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOClip


def main() -> None:
    chosen = options(__doc__, timesteps=100_000)
    runs = {}
    print(f"{'':16}{'rollout':>9}{'updates':>9}{'return':>9}{'seconds':>9}")
    for n_envs, n_steps in ((1, 2048), (4, 2048), (4, 512)):
        env = make_vec_env("CartPole-v1", n_envs=n_envs, seed=chosen.seed)
        run = train(PPOClip("MlpPolicy", env, n_steps=n_steps, seed=chosen.seed), chosen.timesteps)
        label = f"{n_envs} x {n_steps} steps"
        runs[label] = run
        updates = len(run.updates["update"])
        print(f"{label:16}{n_envs * n_steps:9}{updates:9}{run.returns.mean():9.1f}{run.seconds:9.1f}")
    if chosen.figure:
        panels = {"ep_rew_mean": "return", "kl_divergence": "KL of the update"}
        draw(runs, panels, "CartPole-v1: one environment against four", chosen.figure)


if __name__ == "__main__":
    main()
