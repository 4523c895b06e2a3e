"""Speed of the recurrent classes against sb3-contrib's RecurrentPPO, in turn, in one process.

    python benchmarks/recurrent_speed.py

CartPole-v1 without velocities, settings of rl-zoo3's `ppo_lstm` entry, all epochs done, one torch thread.
Prints the median of 5 turns in steps per second of processor time, and the ratio to stock.
"""

import time

import numpy as np
import torch as th
from hosts import CARTPOLE, LSTM, MaskVelocityWrapper, RecurrentPPO, RecurrentPPOAdaptiveClip, RecurrentPPOPenalty
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

TURNS, STEPS = 5, 2560
CLASSES = {
    RecurrentPPO: {},
    RecurrentPPOPenalty: {"target_kl": 0.03, "max_kl": None},
    RecurrentPPOAdaptiveClip: {"target_kl": 0.02, "max_kl": None},
}


def main() -> None:
    th.set_num_threads(1)
    models = {}
    for cls, arguments in CLASSES.items():
        env = VecNormalize(make_vec_env("CartPole-v1", 8, seed=0, wrapper_class=MaskVelocityWrapper))
        settings = {"policy_kwargs": LSTM, "learning_rate": 1e-3, "seed": 0, **CARTPOLE, **arguments}
        models[cls.__name__] = cls("MlpLstmPolicy", env, **settings).learn(2 * STEPS)
    speeds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(TURNS):
        for name, model in models.items():
            start = time.process_time()
            model.learn(STEPS, reset_num_timesteps=False)
            speeds[name].append(STEPS / (time.process_time() - start))
    stock = np.median(speeds["RecurrentPPO"])
    for name, values in speeds.items():
        print(f"{name:26}{np.median(values):8.0f} steps per second of processor time, {np.median(values) / stock:.2f}")


if __name__ == "__main__":
    main()
