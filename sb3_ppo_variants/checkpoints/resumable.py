"""Checkpoints that cannot be torn, and runs that continue from them as if nothing had happened."""

import io
import os
import warnings
from pathlib import Path
from typing import Any

import cloudpickle
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback

from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.checkpoints import run_lock
from sb3_ppo_variants.checkpoints.checkpoint import Checkpoint, packed, read_newest_checkpoint
from sb3_ppo_variants.checkpoints.checkpoint_files import list_checkpoints, prune, tidy, write_checkpoint
from sb3_ppo_variants.checkpoints.run_state import RunState, named_callbacks, put_back, take_run_state
from sb3_ppo_variants.distributed.ranks import ranks_of


class _LastDump(KVWriter):
    """Notes the last update whose values the logger has dumped: an empty logger does not tell whether one is over."""

    n_updates: float = -1

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self.n_updates = key_values.get("train/n_updates", self.n_updates)

    def close(self) -> None:
        pass


class ResumableCheckpointCallback(BaseCallback):
    """Writes checkpoints from which :func:`resume` continues the run; only whole ones, however the run ends.

    A checkpoint is written between an update and the next rollout, and when training ends. Where another callback ends
    it within a rollout, that is after the last step, unless there is a checkpoint of the last update: then it stays the
    newest. This callback must be the last in the list, so that what the others do after an update is done then.

    :param save_freq: environment steps, over all environments, between two checkpoints; 1: one after every update
    :param path: folder of this run's checkpoints, made if missing
    :param keep: how many of the newest stay
    :param verbose: 1: say where each checkpoint is
    :raises ValueError: for a value outside its range; before training, for another place than the last one, an
        algorithm without rollouts, or a folder with another run's checkpoints
    """

    every_rank = True  # of a run in several processes: a checkpoint holds the state of each

    def __init__(self, save_freq: int, path: str | os.PathLike[str], keep: int = 3, verbose: int = 0):
        super().__init__(verbose)
        checks.check_count("save_freq", save_freq, "1 is the least")
        checks.check_count("keep", keep, "1 is the least")
        self.save_freq = save_freq
        self.path = Path(path)
        self.keep = keep
        self._saved_at = 0
        self._n_updates = 0
        self._rollout_began_at: int | None = None  # environment steps; None while there is no rollout
        self._steps_of_rollout = 0
        self._dumped = _LastDump()
        self._to_restore: RunState | None = None
        self._learn: dict[str, Any] = {}

    def continue_from(self, checkpoint: Checkpoint) -> None:
        """Let the next training begin where a checkpoint was written.

        :param checkpoint: whose model is about to learn
        """
        self._to_restore = checkpoint.run

    def _init_callback(self) -> None:
        checks.require(
            isinstance(self.model, OnPolicyAlgorithm),
            f"{type(self).__name__} needs an on-policy algorithm, which has rollouts to write between",
            type(self.model).__name__,
            "use SB3's CheckpointCallback, which saves the replay buffer too",
        )

    def _on_training_start(self) -> None:
        self._root: BaseCallback = self.locals["callback"]
        self._check_place()
        newest, done = ranks_of(self.model).from_first(self._prepare_folder), self.model.num_timesteps
        checks.require(
            newest <= done,
            f"a run of {done} steps must not write among checkpoints of {newest} steps",
            str(self.path),
            "continue that run with resume(), or choose an empty folder",
        )
        self._saved_at = max(newest, done)
        self._rollout_began_at, self._dumped.n_updates = None, -1
        names = ("log_interval", "tb_log_name", "use_masking")  # of which the last is MaskablePPO's
        self._learn = {name: self.locals[name] for name in names if name in self.locals}

    def _prepare_folder(self) -> int:
        self.path.mkdir(parents=True, exist_ok=True)
        rule, way_out = "another process must not write checkpoints there", "end it, or choose another folder"
        checks.require(run_lock.take(self.path), rule, str(self.path), way_out)
        tidy(self.path)
        existing = list_checkpoints(self.path)
        return existing[0].timesteps if existing else 0

    def _on_rollout_start(self) -> None:
        if self._to_restore is not None:
            put_back(self._to_restore, self._algorithm, self._root)
            self._to_restore = None
        if self.model.num_timesteps // self.save_freq > self._saved_at // self.save_freq:
            self._save(at_end=False)
        self._n_updates = self.model._n_updates
        self._rollout_began_at, self._steps_of_rollout = self.model.num_timesteps, 0

    def _on_rollout_end(self) -> None:
        self._rollout_began_at = None
        if self._dumped not in self.logger.output_formats:
            self.logger.output_formats.append(self._dumped)

    def _on_training_end(self) -> None:
        try:
            if hasattr(self, "model"):  # rl-zoo3 calls this after any failure, one before the training too
                self._save_at_end()
        finally:
            run_lock.release(self.path)

    def _save_at_end(self) -> None:
        if ranks_of(self.model).failed or self.model.num_timesteps <= self._saved_at:
            return
        if self._update_is_complete():
            self._save(at_end=True)
        elif self._was_ended_within_rollout():
            self._save(at_end=True, obstacle="a callback ended training within a rollout")

    def _on_step(self) -> bool:
        self._steps_of_rollout += 1
        if not hasattr(self, "_root"):  # EvalCallback begins no training of what it calls on a new best
            self._require_in_list(False)
        return True

    def _check_place(self) -> None:
        tree = [callback for _, callback in named_callbacks(self._root)]
        after = [type(callback).__name__ for callback in tree[tree.index(self) + 1 :]]
        way_out = "put it at the end of the list: what comes later would act twice on an update, or never"
        later = [name for name in after if name != "ProgressBarCallback"]
        checks.require(not later, f"no callback must come after {type(self).__name__}", later, way_out)
        self._require_in_list(self.parent is None)

    def _require_in_list(self, is_there: bool) -> None:
        checks.require(
            is_there,
            f"{type(self).__name__} must not be the child of another callback",
            type(self.parent).__name__,
            "put it into the list itself; it has a save_freq of its own",
        )

    def _update_is_complete(self) -> bool:
        """Tell whether the last rollout was collected and learned from to the end.

        Not so if a callback ended training within a rollout, or if an exception did within an update: rl-zoo3 calls
        ``on_training_end`` after ctrl-c, too. All hosts log ``train/n_updates`` at the end of an update.
        """
        updated = self.model._n_updates
        logged = self.logger.name_to_value.get("train/n_updates", self._dumped.n_updates)
        return self._algorithm.rollout_buffer.full and logged == updated > self._n_updates

    def _was_ended_within_rollout(self) -> bool:
        """Tell whether a callback ended training within a rollout, and there is no checkpoint from before it.

        SB3 leaves a rollout then before the last step is in the buffer. After an exception elsewhere all steps are.
        """
        if self._rollout_began_at is None or ranks_of(self.model).size > 1:  # where ranks end at different steps
            return False
        ended = self._algorithm.rollout_buffer.pos == self._steps_of_rollout - 1
        return ended and self._saved_at < self._rollout_began_at

    @property
    def _algorithm(self) -> OnPolicyAlgorithm:
        assert isinstance(self.model, OnPolicyAlgorithm)  # see _init_callback
        return self.model

    def _save(self, at_end: bool, obstacle: str | None = None) -> None:
        model, run_file = self._algorithm, io.BytesIO()
        run = {
            "algorithm": vars(type(model)).get("checkpointed_as", type(model)),
            "run": take_run_state(model, self._root, at_end, obstacle)._asdict(),
            "total_timesteps": model._total_timesteps,
            "learn": self._learn,
            "save_freq": self.save_freq,
            "keep": self.keep,
            "own_logger": model._custom_logger,
        }
        th.save(run, run_file, pickle_module=cloudpickle)
        runs = ranks_of(self.model).gather(run_file.getvalue())
        self._saved_at = model.num_timesteps
        if ranks_of(self.model).first:
            self._write(runs)

    def _write(self, runs: list[bytes]) -> None:
        model_file = io.BytesIO()
        self._algorithm.save(model_file)
        written = write_checkpoint(self.path, self.model.num_timesteps, packed(model_file.getvalue(), runs))
        prune(self.path, self.keep)
        if self.verbose >= 1:
            print(f"Checkpoint: {written.path}")


def resume(
    path: str | os.PathLike[str],
    env: GymEnv | str,
    callback: MaybeCallback = None,
    *,
    total_timesteps: int | None = None,
    device: th.device | str = "auto",
    logger: Logger | None = None,
    **learn_arguments: Any,
) -> OnPolicyAlgorithm:
    """Continue a run from its newest intact checkpoint to its end, and go on writing checkpoints.

    The files hold pickles: resume only from a folder that you trust.

    :param path: folder given to :class:`ResumableCheckpointCallback`
    :param env: environments built as in the first run, ``VecNormalize`` and other wrappers included, or a name
    :param callback: as in the first run and in that order, in any form that ``learn`` takes; without a
        :class:`ResumableCheckpointCallback` among them one with the first run's settings is put after them
    :param total_timesteps: environment steps at which the run ends, those done included; None for the first run's
    :param device: as in SB3's ``load``
    :param logger: for ``set_logger``, as a checkpoint has none: SB3's ``configure`` begins its files anew, so give it
        another folder than the first run's; None for the one that SB3 makes
    :param learn_arguments: further arguments of ``learn``
    :return: the trained model
    :raises FileNotFoundError: if there is no intact checkpoint
    :raises ValueError: for a wrong argument, environments that do not fit the checkpoint, a checkpoint of another
        layout, or one of more or fewer processes
    """
    if total_timesteps is not None:
        checks.check_count("total_timesteps", total_timesteps, "None ends where the first run was to end")
    rule, way_out = "`reset_num_timesteps` must be left out", "a resumed run goes on at its checkpoint's step"
    checks.require("reset_num_timesteps" not in learn_arguments, rule, learn_arguments, way_out)
    checkpoint = read_newest_checkpoint(Path(path))
    model = checkpoint.load_model(env, device)
    listed = callback if isinstance(callback, list) else [] if callback is None else [callback]
    given = [one if isinstance(one, BaseCallback) else ConvertCallback(one) for one in listed]
    writers = [c for _, c in named_callbacks(CallbackList(given)) if isinstance(c, ResumableCheckpointCallback)]
    if not writers:
        writers = [ResumableCheckpointCallback(checkpoint.save_freq, path, checkpoint.keep)]
        given = [*given, *writers]
    writers[0].continue_from(checkpoint)
    if logger is not None:
        model.set_logger(logger)
    elif checkpoint.own_logger:
        warnings.warn("the run had a logger of its own, set by set_logger(): pass it as `logger`", stacklevel=2)
    total = checkpoint.total_timesteps if total_timesteps is None else total_timesteps
    if total > model.num_timesteps:
        settings = {**checkpoint.learn, **learn_arguments}
        model.learn(total - model.num_timesteps, CallbackList(given), reset_num_timesteps=False, **settings)
    return model


__all__ = ["ResumableCheckpointCallback", "resume"]
