"""Where the time of training goes: simulator, policy and bookkeeping of the rollout; forward, backward, optimiser.

    python benchmarks/time_profile.py --setting S3 --acceleration eager
    python benchmarks/time_profile.py --setting S1 --acceleration compile --variant PPOPenalty
    python benchmarks/time_profile.py --setting S4 --acceleration compile --device cuda

Timers are put around the functions of each part, so the parts add up to the whole; a timer costs about 0.3 us per call.
(Not called profile.py: Python's own cProfile imports a module of that name.)
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from recorded_runs import one_quiet_thread
from speed import ALL_SETTINGS, Contender
from speed_settings import VARIANTS

from sb3_ppo_variants.fast_path import staged_update
from sb3_ppo_variants.fast_path.compiled_update import CompiledStep
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam
from sb3_ppo_variants.fast_path.late_evaluation import LateEvaluation
from sb3_ppo_variants.fast_path.lean_rollout import LeanForward
from sb3_ppo_variants.fast_path.mlp_trunk import MlpTrunk
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyTrunk
from sb3_ppo_variants.fast_path.staged_update import StagedUpdate
from sb3_ppo_variants.update.minibatches import StagedRollout
from sb3_ppo_variants.vec_env import LeanVecEnv


class Stopwatch:
    """Adds up the time spent in wrapped functions, without what wrapped functions inside them take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inner: list[float] = []

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time ``owner.name`` as ``part``."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.seconds[part] += spent - self._inner.pop()
                self.calls[part] += 1
                if self._inner:
                    self._inner[-1] += spent

        setattr(owner, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=list(ALL_SETTINGS), default="S3")
    parser.add_argument("--variant", choices=VARIANTS, default="PPOClip")
    parser.add_argument("--acceleration", choices=["off", "eager", "compile"], default="eager")
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="on a GPU: the time of the CPU, with its waits")
    args = parser.parse_args()
    one_quiet_thread()
    setting = ALL_SETTINGS[args.setting]
    contender = Contender(f"{args.variant} {args.acceleration}", setting, args.device, seed=0)
    contender.train(2)

    watch = Stopwatch()
    model = contender.model
    cls = type(model)
    # Nothing that the fast path would take for somebody's patch: beside one values are computed at every step
    stepped = (model.env, "step") if args.acceleration == "off" else (LeanVecEnv, "step_wait")
    watch.wrap(*stepped, "rollout: simulator (VecEnv.step)")
    watch.wrap(LeanForward, "__call__", "rollout: policy")
    watch.wrap(LateEvaluation, "__call__", "rollout: values, at its end")
    watch.wrap(type(model.policy), "forward", "rollout: policy")
    watch.wrap(cls, "train", "update: loop, logging")
    watch.wrap(StagedRollout, "__init__", "update: staging")
    watch.wrap(StagedRollout, "select", "update: minibatch rows")
    watch.wrap(StagedUpdate, "_measure", "update: exact KL, old and new")
    watch.wrap(StagedUpdate, "evaluate", "update: network forward")
    watch.wrap(cls, "minibatch_loss", "update: loss and metrics")
    watch.wrap(cls, "terms_of", "update: loss and metrics")
    watch.wrap(cls, "loss_slopes", "update: loss and metrics")
    for trunk in (MlpTrunk, NumpyTrunk):
        watch.wrap(trunk, "forward", "update: network forward")
        watch.wrap(trunk, "backward", "update: backward")
    watch.wrap(FlatAdam, "backward", "update: backward")
    watch.wrap(StagedUpdate, "step", "update: step, stacking metrics")
    watch.wrap(staged_update, "evaluate_output", "update: log-prob, entropy")
    watch.wrap(FlatAdam, "step", "update: clip and Adam")
    watch.wrap(CompiledStep, "__call__", "update: compiled steps")
    total = contender.train(args.updates)

    steps = args.updates * contender.steps_per_update
    print(f"{args.setting} {contender.name}: {steps / total:.0f} steps/s, {1e6 * total / steps:.1f} us/step")
    watch.seconds["learn(): rollout's bookkeeping, logger"] = total - sum(watch.seconds.values())
    print(f"{'':38}{'us/step':>9}{'share':>8}{'us/call':>10}")
    for part, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        calls = watch.calls[part]
        per_call = f"{1e6 * seconds / calls:10.1f}" if calls else ""
        print(f"{part:38}{1e6 * seconds / steps:9.2f}{seconds / total:8.1%}{per_call}")


if __name__ == "__main__":
    main()
