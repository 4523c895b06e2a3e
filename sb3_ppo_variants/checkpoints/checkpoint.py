"""What a checkpoint file holds, and reading it.

The file is a zip: the model's own, and the rest of the run as a pickle, one for each process that trained.
"""

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.checkpoints.checkpoint_files import CheckpointFile, newest_checkpoint
from sb3_ppo_variants.checkpoints.run_state import RunState, put_attributes
from sb3_ppo_variants.distributed.ranks import current_ranks
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
    :param learn: ``log_interval``, ``tb_log_name`` and, with MaskablePPO, ``use_masking`` of the run
    :param save_freq: of the callback that wrote it
    :param keep: of the callback that wrote it
    :param own_logger: whether the model had a logger that ``set_logger`` had given it
    """

    algorithm: type[OnPolicyAlgorithm]
    model: bytes
    run: RunState
    timesteps: int
    total_timesteps: int
    learn: dict[str, Any]
    save_freq: int
    keep: int
    own_logger: bool = False

    def load_model(self, env: GymEnv | str, device: th.device | str = "auto", **kwargs: Any) -> OnPolicyAlgorithm:
        """Make the model as it was, with its environments where they were.

        The rest of the run is put back when training begins, by the callback: see
        :meth:`ResumableCheckpointCallback.continue_from`.

        :param env: as many environments, built as in the first run, or the name of one
        :param device: as in SB3's ``load``
        :param kwargs: further arguments of ``load``
        :raises ValueError: for environments that do not fit
        """
        model = self.algorithm.load(io.BytesIO(self.model), env=None, device=device, **kwargs)
        made: Any = maybe_make_env(env, model.verbose)
        wrapped = model._wrap_env(made, model.verbose)
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
    return _parsed(file, file.path.read_bytes())


def read_newest_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest intact checkpoint of a run; with several processes rank 0 does, for all.

    :param folder: of the run's checkpoints
    :raises FileNotFoundError: if there is none
    :raises ValueError: if another version wrote it, or a run of more or fewer processes
    """

    def found() -> tuple[CheckpointFile, bytes]:
        file = newest_checkpoint(folder)
        return file, file.path.read_bytes()

    return _parsed(*current_ranks().from_first(found))


def packed(model: bytes, runs: list[bytes]) -> bytes:
    """Put a checkpoint's file together.

    :param model: content of the model's own zip file
    :param runs: the pickled rest, of every process
    """
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("layout.json", json.dumps({"layout": _LAYOUT, "package_version": __version__}))
        archive.writestr("model.zip", model)
        for rank, run in enumerate(runs):
            archive.writestr(_member(rank), run)
    return whole.getvalue()


def _parsed(file: CheckpointFile, content: bytes) -> Checkpoint:
    ranks = current_ranks()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        _check_layout(file.path, archive)
        written_by = sum(name.startswith("rank_") for name in archive.namelist()) + 1
        checks.require(
            written_by == ranks.size,
            f"the run of {file.path} has {written_by} process{'es' if written_by > 1 else ''}",
            ranks.size,
            "start as many",
        )
        of_rank = th.load(io.BytesIO(archive.read(_member(ranks.rank))), map_location="cpu", weights_only=False)
        run = RunState(**of_rank.pop("run"))
        return Checkpoint(model=archive.read("model.zip"), run=run, timesteps=file.timesteps, **of_rank)


def _member(rank: int) -> str:
    """Name the part of a checkpoint that holds the run of one process, which has environments of its own."""
    return f"rank_{rank}.pt" if rank else "run.pt"


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


__all__ = ["Checkpoint", "packed", "read_checkpoint", "read_newest_checkpoint"]
