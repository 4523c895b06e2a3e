"""Rank 1 fails in a rollout: ``raises``, after which it lives on for a while, is ``killed``, or gets a ``nan``.

Or before it, with an ``other_network``; or after it, with an ``other_rate``.
"""

import os
import signal
import sys
import time

import torch as th
from hosts import build
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants import PPOPenalty


class Failing(BaseCallback):
    def _on_step(self) -> bool:
        if self.model.ranks.rank == 1 and self.n_calls == 30 and sys.argv[1] not in ("nan", "other_rate"):
            if sys.argv[1] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError("the simulator of rank 1 broke")
        return True

    def _on_rollout_end(self) -> None:
        if self.model.ranks.rank == 1 and sys.argv[1] == "nan":
            self.model.rollout_buffer.rewards[0, 0] = float("nan")
        if self.model.ranks.rank == 1 and sys.argv[1] == "other_rate":
            self.model.learning_rate = 0.5
            self.model._setup_lr_schedule()


if __name__ == "__main__":
    th.set_num_threads(1)
    if sys.argv[1] == "other_network":
        second = int(os.environ["RANK"]) == 1
        model, begun = build(PPOPenalty, policy_kwargs={"net_arch": [9 if second else 8]}), time.monotonic()
        try:
            model.learn(100)
        finally:
            time.sleep(8 if second else 0)
            print(f"ended after {time.monotonic() - begun}")
    model = build(PPOPenalty)
    try:
        model.learn(10_000, callback=Failing())
    except ZeroDivisionError:
        begun = time.monotonic()
        try:
            model.learn(100)
        except RuntimeError as error:
            print(f"again: {error}")
        time.sleep(max(0.0, 8 - (time.monotonic() - begun)))
        print("rank 1 ends")
        raise
