"""Checkpoints that cannot be torn, and runs that continue from them as if nothing had happened."""

import io
import json
import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.checkpoints.checkpoint_files import (
    CheckpointFile,
    list_checkpoints,
    newest_checkpoint,
    prune,
    tidy,
    write_checkpoint,
)
from sb3_ppo_variants.checkpoints.run_state import RunState, named_callbacks, put_attributes, put_back, take_run_state
from sb3_ppo_variants.version import __version__

_LAYOUT = 1
"""Raised by one whenever a checkpoint's content changes, so that another version's is refused and not misread."""


class Checkpoint(NamedTuple):
    """A checkpoint as read from its file.

    :param algorithm: class of the model
    :param model: content of the model's own zip file
    :param run: everything else
    :param timesteps: environment steps done
    :param total_timesteps: environment steps at which the run ends
    :param learn: ``log_interval`` and ``tb_log_name`` of the run
    :param save_freq: of the callback that wrote it
    :param keep: of the callback that wrote it
    """

    algorithm: type[OnPolicyAlgorithm]
    model: bytes
    run: RunState
    timesteps: int
    total_timesteps: int
    learn: dict[str, Any]
    save_freq: int
    keep: int

    def load_model(self, env: GymEnv, device: th.device | str = "auto", **kwargs: Any) -> OnPolicyAlgorithm:
        """Make the model as it was, with its environments where they were.

        The rest of the run is put back when training begins, by the callback: see
        :meth:`ResumableCheckpointCallback.continue_from`.

        :param env: as many environments, built as in the first run
        :param device: as in SB3's ``load``
        :param kwargs: further arguments of ``load``
        :raises ValueError: for environments that do not fit
        """
        model = self.algorithm.load(io.BytesIO(self.model), env=None, device=device, **kwargs)
        wrapped = model._wrap_env(env, model.verbose)
        checks.require(
            wrapped.num_envs == model.n_envs,
            f"the run has {model.n_envs} environments",
            wrapped.num_envs,
            "make as many as in the first run",
        )
        model.set_env(wrapped, force_reset=False)
        obstacle = put_attributes(self.run, model)
        if obstacle is not None:
            warnings.warn(f"the environments start new episodes, their state is not restored: {obstacle}", stacklevel=3)
        return model


def read_checkpoint(file: CheckpointFile) -> Checkpoint:
    """Read a checkpoint. It holds pickles: read only what you trust.

    :param file: of which :meth:`CheckpointFile.intact` is true
    :raises ValueError: if another version of this package wrote it, whose checkpoints hold something else
    """
    with zipfile.ZipFile(file.path) as archive:
        _check_layout(file.path, archive)
        content = th.load(io.BytesIO(archive.read("run.pt")), map_location="cpu", weights_only=False)
        run = RunState(**content.pop("run"))
        return Checkpoint(model=archive.read("model.zip"), run=run, timesteps=file.timesteps, **content)


def _check_layout(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse another layout before its pickle is read, which may name modules that are not there."""
    written = json.loads(archive.read("layout.json")) if "layout.json" in archive.namelist() else {}
    layout, version = written.get("layout", 0), written.get("package_version", "0.1.0 or older")
    checks.require(
        layout == _LAYOUT,
        f"{path} must be a checkpoint of layout {_LAYOUT}, which sb3_ppo_variants {__version__} writes",
        f"layout {layout} of version {version}",
        "finish the run with that version, or begin it anew in an empty folder",
    )


class ResumableCheckpointCallback(BaseCallback):
    """Writes checkpoints from which :func:`resume` continues the run; only whole ones, however the run ends.

    A checkpoint is written between an update and the next rollout, and when training ends. This callback must be the
    last in the list, so that what the others do after an update is done then.

    :param save_freq: environment steps, over all environments, between two checkpoints; 1: one after every update
    :param path: folder of this run's checkpoints, made if missing
    :param keep: how many of the newest stay
    :param verbose: 1: say where each checkpoint is
    :raises ValueError: for a value outside its range; before training, for another place than the last one, an
        algorithm without rollouts, or a folder with another run's checkpoints
    """

    def __init__(self, save_freq: int, path: str | os.PathLike[str], keep: int = 3, verbose: int = 0):
        super().__init__(verbose)
        for name, value in (("save_freq", save_freq), ("keep", keep)):
            is_count = isinstance(value, int) and value >= 1
            checks.require(is_count, f"`{name}` must be an integer >= 1", value, "1 is the least")
        self.save_freq = save_freq
        self.path = Path(path)
        self.keep = keep
        self._saved_at = 0
        self._n_updates = 0
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
        self.path.mkdir(parents=True, exist_ok=True)
        tidy(self.path)
        existing = list_checkpoints(self.path)
        newest, done = existing[0].timesteps if existing else 0, self.model.num_timesteps
        checks.require(
            newest <= done,
            f"a run of {done} steps must not write among checkpoints of {newest} steps",
            str(self.path),
            "continue that run with resume(), or choose an empty folder",
        )
        self._saved_at = max(newest, done)
        self._learn = {name: self.locals[name] for name in ("log_interval", "tb_log_name")}

    def _on_rollout_start(self) -> None:
        if self._to_restore is not None:
            put_back(self._to_restore, self._algorithm, self._root)
            self._to_restore = None
        if self.model.num_timesteps // self.save_freq > self._saved_at // self.save_freq:
            self._save(at_end=False)

    def _on_rollout_end(self) -> None:
        self._n_updates = self.model._n_updates

    def _on_training_end(self) -> None:
        if self._update_is_complete() and self.model.num_timesteps > self._saved_at:
            self._save(at_end=True)

    def _on_step(self) -> bool:
        return True

    def _check_place(self) -> None:
        tree = [callback for _, callback in named_callbacks(self._root)]
        after = [type(callback).__name__ for callback in tree[tree.index(self) + 1 :]]
        way_out = "put it at the end of the list: what comes later would act twice on an update, or never"
        later = [name for name in after if name != "ProgressBarCallback"]
        checks.require(not later, f"no callback must come after {type(self).__name__}", later, way_out)
        checks.require(
            self.parent is None,
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
        logged = self.logger.name_to_value.get("train/n_updates")
        return self._algorithm.rollout_buffer.full and logged == updated > self._n_updates

    @property
    def _algorithm(self) -> OnPolicyAlgorithm:
        assert isinstance(self.model, OnPolicyAlgorithm)  # see _init_callback
        return self.model

    def _save(self, at_end: bool) -> None:
        model = self._algorithm
        model_file, run_file, whole = io.BytesIO(), io.BytesIO(), io.BytesIO()
        model.save(model_file)
        run = {
            "algorithm": vars(type(model)).get("checkpointed_as", type(model)),
            "run": take_run_state(model, self._root, at_end)._asdict(),
            "total_timesteps": model._total_timesteps,
            "learn": self._learn,
            "save_freq": self.save_freq,
            "keep": self.keep,
        }
        th.save(run, run_file, pickle_module=cloudpickle)
        with zipfile.ZipFile(whole, "w") as archive:
            archive.writestr("layout.json", json.dumps({"layout": _LAYOUT, "package_version": __version__}))
            archive.writestr("model.zip", model_file.getvalue())
            archive.writestr("run.pt", run_file.getvalue())
        written = write_checkpoint(self.path, model.num_timesteps, whole.getvalue())
        prune(self.path, self.keep)
        self._saved_at = model.num_timesteps
        if self.verbose >= 1:
            print(f"Checkpoint: {written.path}")


def resume(
    path: str | os.PathLike[str],
    env: GymEnv,
    callback: BaseCallback | Sequence[BaseCallback] | None = None,
    *,
    total_timesteps: int | None = None,
    device: th.device | str = "auto",
    **learn_arguments: Any,
) -> OnPolicyAlgorithm:
    """Continue a run from its newest intact checkpoint to its end, and go on writing checkpoints.

    The files hold pickles: resume only from a folder that you trust.

    :param path: folder given to :class:`ResumableCheckpointCallback`
    :param env: environments built as in the first run, ``VecNormalize`` and other wrappers included
    :param callback: callbacks as in the first run; without a :class:`ResumableCheckpointCallback` among them one with
        the first run's settings is put after them
    :param total_timesteps: environment steps at which the run ends, those done included; None for the first run's
    :param device: as in SB3's ``load``
    :param learn_arguments: further arguments of ``learn``
    :return: the trained model
    :raises FileNotFoundError: if there is no intact checkpoint
    :raises ValueError: for environments that do not fit the checkpoint, or a checkpoint of another layout
    """
    checkpoint = read_checkpoint(newest_checkpoint(Path(path)))
    model = checkpoint.load_model(env, device)
    given = [] if callback is None else [callback] if isinstance(callback, BaseCallback) else list(callback)
    writers = [c for _, c in named_callbacks(CallbackList(given)) if isinstance(c, ResumableCheckpointCallback)]
    if not writers:
        writers = [ResumableCheckpointCallback(checkpoint.save_freq, path, checkpoint.keep)]
        given = [*given, *writers]
    writers[0].continue_from(checkpoint)
    total = checkpoint.total_timesteps if total_timesteps is None else total_timesteps
    if total > model.num_timesteps:
        settings = {**checkpoint.learn, **learn_arguments}
        model.learn(total - model.num_timesteps, CallbackList(given), reset_num_timesteps=False, **settings)
    return model


__all__ = ["Checkpoint", "ResumableCheckpointCallback", "read_checkpoint", "resume"]
