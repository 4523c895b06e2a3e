"""Learn with invalid actions: contrib's test environment, 80 actions of which 60 are invalid at every step.

``python examples/masked_invalid_actions.py`` compares ``MaskablePPOPenalty`` with contrib's ``MaskablePPO``. Evaluation
passes the masks on as well: contrib's ``evaluate_policy`` and ``MaskableEvalCallback`` do it, SB3's own do not.
"""

import argparse

import torch as th
from sb3_contrib import MaskablePPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import MaskablePPOPenalty


def make_env() -> InvalidActionEnvDiscrete:
    return InvalidActionEnvDiscrete(dim=80, n_invalid_actions=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=8192, help="environment steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    arguments = parser.parse_args()
    th.set_num_threads(1)

    # The clip stays on beside the penalty: of 20 valid actions, a rare one would otherwise swing far before the KL,
    # which is a mean, shows it.
    for algorithm in (MaskablePPO, MaskablePPOPenalty):
        env = make_vec_env(make_env, seed=arguments.seed)
        watch = MaskableEvalCallback(make_vec_env(make_env, seed=500), eval_freq=2048, n_eval_episodes=5, verbose=0)
        model = algorithm("MlpPolicy", env, n_steps=256, gamma=0.4, clip_range=0.2, seed=arguments.seed)
        model.learn(arguments.timesteps, callback=watch)
        mean, std = evaluate_policy(model, make_vec_env(make_env, seed=1000), n_eval_episodes=20)
        best = max(watch.best_mean_reward, mean)
        print(f"{algorithm.__name__}: {mean:.1f} +/- {std:.1f} of 100 steps right over 20 episodes (best {best:.1f})")


if __name__ == "__main__":
    main()
