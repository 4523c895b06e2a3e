"""The classes learn to repeat what they see: at least 90 of 100 at SB3's defaults, as its own tests ask of PPO.

SB3 takes one seed. Here it is the median of three: with other seeds stock PPO misses the mark, too.
"""

import statistics
from typing import Any

import pytest
from stable_baselines3.common import envs
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ppo_variants import PPOAdaptiveClip, PPOAdaptiveLR, PPOPenalty

TASKS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "Discrete": (lambda: envs.IdentityEnv(4), {"gamma": 0.4}, 2500),
    "MultiDiscrete": (lambda: envs.IdentityEnvMultiDiscrete(4), {"gamma": 0.4}, 2500),
    "MultiBinary": (lambda: envs.IdentityEnvMultiBinary(4), {"gamma": 0.4}, 2500),
    "Box": (lambda: envs.IdentityEnvBox(eps=0.5), {"gamma": 0.95, "learning_rate": 1e-3}, 4000),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("cls", [PPOPenalty, PPOAdaptiveClip, PPOAdaptiveLR])
def test_learns_to_repeat_what_it_sees(cls: Any, task: str) -> None:
    make_env, settings, steps = TASKS[task]
    scores = []
    for seed in range(3):
        env = DummyVecEnv([make_env])
        model = cls("MlpPolicy", env, seed=seed, device="cpu", **settings).learn(steps)
        score, _ = evaluate_policy(model, env, n_eval_episodes=20, warn=False)
        scores.append(float(score))
    assert statistics.median(scores) >= 90, scores
