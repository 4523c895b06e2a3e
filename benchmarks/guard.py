"""What the guard against non-finite numbers costs: updates with it and without it, in turn, in one process.

    python benchmarks/guard.py --repeats 15

HalfCheetah-v5 with SB3's default settings, one rollout, one torch thread. "Without" replaces the guard's functions by
ones that do nothing. Prints the median processor time of an update
and the ratio per acceleration.
"""

import argparse
import time
from contextlib import ExitStack
from unittest import mock

import numpy as np
import torch as th

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.update import nonfinite
from sb3_ppo_variants.update.reference_update import OwnOptimizer


def step_without_guard(self: OwnOptimizer, max_grad_norm: float, loss: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    norm = th.nn.utils.clip_grad_norm_(self.policy.parameters(), max_grad_norm)
    self.policy.optimizer.step()
    return norm, th.zeros(())


def nothing(*_: object) -> None:
    """Stand in for a check."""


def without_guard() -> ExitStack:
    stack = ExitStack()
    for owner, name in ((nonfinite, "check_rollout"), (nonfinite, "check_steps"), (nonfinite.StepGuard, "refuses")):
        stack.enter_context(mock.patch.object(owner, name, nothing))
    stack.enter_context(mock.patch.object(OwnOptimizer, "step", step_without_guard))
    return stack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="updates of each kind (default: %(default)s)")
    parser.add_argument("--env", default="HalfCheetah-v5")
    args = parser.parse_args()
    th.set_num_threads(1)
    for cls in (PPOClip, PPOPenalty):
        for acceleration in ("eager", "off"):
            model = cls("MlpPolicy", args.env, acceleration=acceleration, max_kl=None, seed=0, device="cpu")
            model.learn(model.n_steps)  # a first rollout and update, to warm up
            times: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(args.repeats):
                for guarded in (True, False):
                    with ExitStack() if guarded else without_guard():
                        start = time.process_time()
                        model.train()
                        times[guarded].append(time.process_time() - start)
            guarded_time, plain = (float(np.median(times[kind])) for kind in (True, False))
            pairs = np.array(times[True]) / np.array(times[False])
            print(
                f"{cls.__name__:12}{acceleration:8}with {1e3 * guarded_time:7.1f} ms  without {1e3 * plain:7.1f} ms  "
                f"ratio {guarded_time / plain:.3f}  median of paired ratios {np.median(pairs):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
