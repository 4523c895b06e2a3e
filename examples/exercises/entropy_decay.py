"""Let the entropy bonus decay on Acrobot-v1: ``python examples/exercises/entropy_decay.py``.

A bonus keeps the policy exploring, and keeps it from becoming certain. A schedule has both: it explores at first and
ends without a bonus. ``ent_coef`` takes a schedule here, as ``learning_rate`` does in Stable-Baselines3.
"""

from typing import Any

from runs import draw, options, train
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOClip


def decaying(progress_remaining: float) -> float:
    """Fall from 0.05 to 0 over the training.

    :param progress_remaining: from 1 to 0
    """
    return 0.05 * max(progress_remaining, 0.0)


def main() -> None:
    chosen = options(__doc__, timesteps=100_000)
    settings: dict[str, Any] = {"no bonus": 0.0, "constant 0.05": 0.05, "from 0.05 to 0": decaying}
    runs = {}
    print(f"{'':18}{'return':>9}{'entropy at the end, nats':>27}")
    for label, ent_coef in settings.items():
        env = make_vec_env("Acrobot-v1", n_envs=8, seed=chosen.seed)
        model = PPOClip("MlpPolicy", env, ent_coef=ent_coef, n_steps=256, seed=chosen.seed)
        run = runs[label] = train(model, chosen.timesteps)
        mean = f"{run.returns.mean():.1f}" if len(run.returns) else "-"
        print(f"{label:18}{mean:>9}{-run.updates['entropy_loss'][-1]:27.3f}")
    if chosen.figure:
        panels = {"ep_rew_mean": "return", "entropy_loss": "minus entropy, nats"}
        draw(runs, panels, "Acrobot-v1: an entropy bonus that decays", chosen.figure)


if __name__ == "__main__":
    main()
