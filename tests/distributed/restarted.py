"""A training that resumes where it was, and whose processes are killed in turn: restarted.py FOLDER KILLS [STEPS].

Under ``torchrun --max-restarts KILLS`` it ends as if nothing had happened.
"""

import os
import signal
import sys
from pathlib import Path

import torch as th
from environments import make_vec_env
from hosts import build
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, resume
from sb3_ppo_variants.distributed import current_ranks


class Killer(BaseCallback):
    """Kills one process in the middle of a rollout, at another step in every attempt."""

    def _on_step(self) -> bool:
        attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        if attempt < int(sys.argv[2]) and current_ranks().rank == attempt % 2 and self._calls == 30 + 7 * (attempt % 3):
            print(f"attempt {attempt} ends at step {self.num_timesteps}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        self._calls += 1
        return True

    def _on_training_start(self) -> None:
        self._calls = 0  # private: a checkpoint does not restore it, so that every attempt goes on to another rollout


if __name__ == "__main__":
    th.set_num_threads(1)
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 1500
    checkpoints = Path(sys.argv[1], "checkpoints")
    env = VecNormalize(make_vec_env("box", "vector", 2))
    there = current_ranks().from_first(lambda: any(checkpoints.glob("*.zip")))
    if there:
        model = resume(checkpoints, env, [Killer()])
    else:
        model = build(PPOPenalty, env=env)
        model.learn(steps, callback=[Killer(), ResumableCheckpointCallback(1, checkpoints)])
    if current_ranks().first:
        th.save([model.policy.state_dict(), model.beta, model.num_timesteps], Path(sys.argv[1], "end.pt"))
