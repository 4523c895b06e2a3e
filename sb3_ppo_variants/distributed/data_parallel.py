"""Data-parallel training: the same model in several processes, each with environments of its own.

A mixin under the update loop. In a single process it does nothing.
"""

import hashlib
import inspect
import io
import math
import platform
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.arguments.signatures import HostMethods
from sb3_ppo_variants.distributed.callbacks import SharedRollouts, callbacks_of_every_rank, callbacks_of_other_ranks
from sb3_ppo_variants.distributed.moments import Moments, running_statistics
from sb3_ppo_variants.distributed.ranks import Ranks, current_ranks, ends_all_ranks

_OF_A_RANK = {"policy", "env", "policy_kwargs", "seed", "device", "verbose", "tensorboard_log", "stats_window_size"}
"""Constructor arguments that may differ from rank to rank, or whose effect is rank 0's in any case."""
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")


class DataParallelMixin(HostMethods):
    """What is done differently where several processes train one model."""

    _ranks: Ranks | None = None  # of the training that has begun: looking for them takes longer than using them

    @property
    def ranks(self) -> Ranks:
        """The processes that train this model together; one, unless torchrun or the like started several."""
        return current_ranks() if self._ranks is None else self._ranks

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed generators and environments so that no two of a run, on whatever rank, draw the same.

        :param seed: of the run; on rank r the generators get seed + r, and environment i gets seed + r * n_envs + i
        """
        rank = self.ranks.rank
        super().set_random_seed(None if seed is None else seed + rank)
        if seed is not None and rank > 0 and self.env is not None:
            self.env.seed(seed + rank * self.env.num_envs)

    def save(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Save on rank 0; on the others a path is not written to.

        :param path: as in SB3, like the rest
        """
        if self.ranks.first or not isinstance(path, (str, Path)):
            super().save(path, *args, **kwargs)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
        *args: Any,
        **kwargs: Any,
    ) -> bool:
        collected = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps, *args, **kwargs)
        return callback.exchange() if isinstance(callback, SharedRollouts) else collected

    def mean_over_ranks(self, mean: th.Tensor) -> th.Tensor:
        """Give the mean of a minibatch the value of that of all ranks' minibatches; its gradient stays this rank's.

        :param mean: scalar, the same quantity on every rank
        """
        if self.ranks.size == 1:
            return mean
        own = mean.item()
        shared: th.Tensor = mean + (self.ranks.mean(own) - own)
        return shared

    def average_buffers(self) -> None:
        """Average what the policy keeps beside its parameters, such as the statistics of batch normalisation."""
        if self.ranks.size > 1:
            self.ranks.mean_(*(buffer for buffer in self.policy.buffers() if buffer.is_floating_point()))

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        ranks = self._ranks = current_ranks()
        if ranks.size == 1:
            return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        self._check_agreement(total_timesteps, callback)
        self._check_monitor_files()
        self._warn_of_same_draws()
        with ranks.failing_together():
            common = self._take_over_from_first()
            if not ranks.first:
                self.verbose, self.tensorboard_log = 0, None
                callback, progress_bar = callbacks_of_other_ranks(callback), False
            given = (total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
            total, root = super()._setup_learn(*given)
        if not ranks.first:
            self.logger.output_formats.clear()  # also of a logger that the script has set
        parts = root.callbacks if type(root) is CallbackList else [root]
        return total, SharedRollouts(parts, self, ranks, common)

    @ends_all_ranks
    def dump_logs(self, *args: Any, **kwargs: Any) -> None:
        """Write what was logged, as the host does; an error of it ends the other ranks, too."""
        super().dump_logs(*args, **kwargs)

    def _check_agreement(self, total_timesteps: int, callback: MaybeCallback) -> None:
        """Refuse what would make the ranks wait for each other, or train different models."""
        names = {"n_envs", *inspect.signature(type(self)).parameters} - _OF_A_RANK
        mine = {name: _comparable(getattr(self, name, None)) for name in sorted(names)}
        mine |= {"total_timesteps": total_timesteps, "callback": callbacks_of_every_rank(callback)}
        of_ranks = self.ranks.gather(mine)
        for name in mine:
            values = [one.get(name) for one in of_ranks]
            _require_same(name, values, "build the same model with as many environments in each")

    def _update_learning_rate(self, optimizers: list[th.optim.Optimizer] | th.optim.Optimizer) -> None:
        super()._update_learning_rate(optimizers)
        if self.ranks.size == 1:
            return
        given = optimizers if isinstance(optimizers, list) else [optimizers]
        own = th.tensor([float(group["lr"]) for one in given for group in one.param_groups], dtype=th.float64)
        way_out = (
            "a callback that changes it must do so alike on every rank; those within an EvalCallback run on rank 0 only"
        )
        _require_same("learning_rate", self.ranks.stack(own).tolist(), way_out)

    def _check_monitor_files(self) -> None:
        """Refuse environments of several processes that write their episodes into one file, which would spoil it."""
        assert self.env is not None  # it is about to learn
        written = [file for files in self.ranks.gather(monitor_files(self.env)) for file in files]
        twice = sorted({path for file, path in written if written.count((file, path)) > 1})
        way_out = (
            'give each its own folder: monitor_dir=f"log/rank_{sb3_ppo_variants.distributed.current_ranks().rank}"'
        )
        require(not twice, "each environment of a run must have a monitor file of its own", twice, way_out)

    def _warn_of_same_draws(self) -> None:
        """Warn if ranks are about to draw the same actions, and so learn from the same steps."""
        digest = hashlib.sha256(th.get_rng_state().numpy().tobytes()).hexdigest()
        digests = self.ranks.gather(digest)  # on every rank, whatever its seed
        if self.seed is None and len(set(digests)) < self.ranks.size:
            same = "Processes of this run draw the same random numbers, so that each learns from the same steps"
            warnings.warn(f"{same}. Give the model a `seed`: every process makes its own of it.", stacklevel=4)

    def _take_over_from_first(self) -> list[Moments]:
        """Make this rank's model that of rank 0; return the statistics of ``VecNormalize`` that all have now."""
        content = self.ranks.from_first(self._state_of_first)
        state = th.load(io.BytesIO(content), map_location=self.device, weights_only=False)  # of our own run
        if not self.ranks.first:
            self.set_parameters(state["parameters"], device=self.device)
            for name, value in state["attributes"].items():
                setattr(self, name, value)
        assert self.env is not None  # it is about to learn
        statistics = running_statistics(self.env)
        require(
            len(statistics) == len(state["statistics"]),
            "every process must wrap its environments in the same VecNormalize",
            f"{len(statistics)} statistics where rank 0 has {len(state['statistics'])}",
            "build the environments with the same code",
        )
        for one, moments in zip(statistics, state["statistics"]):
            Moments(*moments).put_into(one)
        return [Moments.of(one) for one in statistics]

    def _state_of_first(self) -> bytes:
        assert self.env is not None  # it is about to learn
        names = [*_COUNTERS, *getattr(self, "live_state", ())]
        state = {
            "parameters": self.get_parameters(),
            "attributes": {name: getattr(self, name) for name in names},
            "statistics": [tuple(Moments.of(one)) for one in running_statistics(self.env)],
        }
        file = io.BytesIO()
        th.save(state, file)
        return file.getvalue()


def monitor_files(env: VecEnv) -> list[tuple[str, str]]:
    """List the files that ``Monitor`` and ``VecMonitor`` write episodes into, each with the computer's name.

    :param env: with its wrappers; what is in a ``SubprocVecEnv`` is out of reach
    """
    layers: list[Any] = [env]
    while isinstance(layers[-1], VecEnvWrapper):
        layers.append(layers[-1].venv)
    for single in getattr(layers[-1], "envs", ()):
        layers.append(single)
        while isinstance(layers[-1], gym.Wrapper):
            layers.append(layers[-1].env)
    writers = filter(None, (vars(layer).get("results_writer") for layer in layers))
    return [(platform.node(), writer.file_handler.name) for writer in writers]


def _require_same(name: str, of_ranks: list[Any], way_out: str) -> None:
    same = all(value == of_ranks[0] for value in of_ranks)
    require(same, f"`{name}` must be the same in every process", of_ranks, way_out)


def _comparable(setting: Any) -> Any:
    """Give what two ranks can compare: a number or text; of a schedule its first value; None for anything else."""
    if callable(setting) and not isinstance(setting, type):
        try:
            setting = setting(1.0)
        except Exception:  # a function of a variant's own, which is no schedule
            return None
    if isinstance(setting, float) and math.isnan(setting):  # not equal to itself
        return "nan"
    return setting if isinstance(setting, (bool, int, float, str)) else None


__all__ = ["DataParallelMixin"]
