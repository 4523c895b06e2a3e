"""``train --resume``: a run of the zoo with checkpoints, which goes on from the newest one if there is any.

Without the option the zoo's ``train`` is as it is. Its ``-i`` begins a new run with the networks of an older one.
"""

from pathlib import Path
from typing import Any

from rl_zoo3.utils import ALGOS, get_latest_run_id
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.checkpoints.checkpoint_files import list_checkpoints, newest_checkpoint
from sb3_ppo_variants.checkpoints.resumable import Checkpoint, ResumableCheckpointCallback, read_checkpoint
from sb3_ppo_variants.zoo.experiment_manager import VariantExperimentManager


class ResumingExperimentManager(VariantExperimentManager):
    """The experiment manager of a run that is to survive the process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.optimize_hyperparameters or self.continue_training:
            raise SystemExit("--resume goes on with a run of train: leave out -i and -optimize")
        self._freq = self.save_freq
        self._checkpoint: Checkpoint | None = None
        latest = Path(self.log_path, f"{self.env_name}_{get_latest_run_id(self.log_path, self.env_name)}")
        if list_checkpoints(latest / "checkpoints"):
            self._checkpoint = read_checkpoint(newest_checkpoint(latest / "checkpoints"))
            self.save_path, self.params_path = str(latest), str(latest / self.env_name)
            self.monitor_kwargs["override_existing"] = False  # the episodes before the break stay
            self.continue_training = True

    def create_callbacks(self) -> None:
        super().create_callbacks()
        self._writer = ResumableCheckpointCallback(
            self._freq if self._freq > 0 else max(1, int(self.n_timesteps) // 100), Path(self.save_path, "checkpoints")
        )
        self.callbacks.append(self._writer)

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        assert self._checkpoint is not None  # nothing else sets continue_training
        print(f"Resuming {self.save_path} at step {self._checkpoint.timesteps}")
        cls: Any = ALGOS[self.algo]
        model = self._checkpoint._replace(algorithm=cls).load_model(env, self.device)
        model.tensorboard_log, model.verbose = self.tensorboard_log, self.verbose
        self._writer.continue_from(self._checkpoint)
        return model

    def learn(self, model: BaseAlgorithm) -> None:
        if self._checkpoint is None:
            super().learn(model)
            return
        self.n_timesteps = max(0, int(self.n_timesteps) - model.num_timesteps)
        super().learn(_Continued(model))  # type: ignore[arg-type]  # which it stands for


class _Continued:
    """Stands for a model whose ``learn`` goes on counting: the zoo has no argument for it."""

    def __init__(self, model: BaseAlgorithm):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def learn(self, total_timesteps: int, **kwargs: Any) -> None:
        self._model.learn(total_timesteps, reset_num_timesteps=False, **kwargs)


__all__ = ["ResumingExperimentManager"]
