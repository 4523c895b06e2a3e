"""``train --resume``: a run of the zoo with checkpoints, which goes on with the run that the same command began.

Without the option the zoo's ``train`` is as it is. Its ``-i`` begins a new run with the networks of an older one.
"""

import glob
from pathlib import Path
from typing import Any

import rl_zoo3.exp_manager
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.checkpoints import run_lock
from sb3_ppo_variants.checkpoints.checkpoint import Checkpoint, read_newest_checkpoint
from sb3_ppo_variants.checkpoints.checkpoint_files import list_checkpoints
from sb3_ppo_variants.checkpoints.resumable import ResumableCheckpointCallback
from sb3_ppo_variants.distributed.ranks import current_ranks
from sb3_ppo_variants.zoo.experiment_manager import VariantExperimentManager
from sb3_ppo_variants.zoo.mistakes import refuse
from sb3_ppo_variants.zoo.replacing import replaced
from sb3_ppo_variants.zoo.run_identity import RunIdentity
from sb3_ppo_variants.zoo.termination import TERMINATION
from sb3_ppo_variants.zoo.trained_runs import RUN_NUMBER


class ResumingExperimentManager(VariantExperimentManager):
    """The experiment manager of a run that is to survive the process."""

    def __init__(self, *args: Any, given_seed: int = -1, **kwargs: Any) -> None:
        """Take the zoo's arguments.

        :param given_seed: of the command line; negative if there was none, and the zoo's ``seed`` was drawn
        """
        super().__init__(*args, **kwargs)
        if self.optimize_hyperparameters or self.continue_training:
            raise SystemExit("--resume goes on with a run of train: leave out -i and -optimize")
        if not issubclass(ALGOS[self.algo], OnPolicyAlgorithm):
            refuse(f"--resume is for on-policy algorithms, got --algo {self.algo}; --save-freq saves what it learned")
        self._freq = self.save_freq
        self._given_seed = given_seed
        self._identity: RunIdentity | None = None
        self._checkpoint: Checkpoint | None = None

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        hyperparams, saved = super().read_hyperparameters()
        settings = {**saved, "env_kwargs": self.env_kwargs} if self.env_kwargs else saved
        self._identity = identity = RunIdentity.of(self.algo, self.env_name.gym_id, self._given_seed, settings)
        self._wanted_steps = self.n_timesteps if self.n_timesteps > 0 else int(hyperparams.get("n_timesteps", 0))
        folder = current_ranks().from_first(lambda: self._find_own_run(identity))
        if folder is not None:
            self._checkpoint = read_newest_checkpoint(folder / "checkpoints")
            self.continue_training = self.continues_files = True
            if current_ranks().first:
                self.save_path, self.params_path = str(folder), str(folder / self.env_name)
        return hyperparams, saved

    def _find_own_run(self, identity: RunIdentity) -> Path | None:
        """Return the folder of the latest run with checkpoints that was begun with the same; say why others are not it.

        :param identity: of the run that is wanted
        """
        begun_with = {run: RunIdentity.read(run / "checkpoints") for run in self._runs()}
        own = [run for run, begun in begun_with.items() if begun == identity]
        in_training = [run for run in own if not run_lock.take(run / "checkpoints")]
        if in_training and identity.seed is not None:
            refuse(
                f"{in_training[0]} is of this command, and another process trains it; end it, or give another --seed"
            )
        for run in in_training:
            print(f"{run} is of this command, and another process trains it")
        free = [run for run in own if run not in in_training]
        found = next((run for run in free if self._can_go_on(run, not in_training)), None)
        for run in free:
            if run != found:
                run_lock.release(run / "checkpoints")
        if found is not None:
            return found
        runs = [run for run in begun_with if list_checkpoints(run / "checkpoints")]
        if runs and not own:
            other = begun_with[runs[0]]
            said = ", ".join(identity.differences(other)) if other else "no file that says what it was begun with"
            print(f"Beginning a new run, as none is of this command: {runs[0]} has {said}")
        return None

    def _can_go_on(self, run: Path, also_if_finished: bool) -> bool:
        """Tell whether a run of this command can be gone on with.

        :param run: its folder
        :param also_if_finished: False if others of the command are in training: then a finished one is not this one
        """
        checkpoints = list_checkpoints(run / "checkpoints")
        if checkpoints and not any(checkpoint.intact() for checkpoint in checkpoints):
            print(f"{run} is of this command, but all of its checkpoints are damaged")
            return False
        return bool(checkpoints) and (also_if_finished or checkpoints[0].timesteps < self._wanted_steps)

    def _runs(self) -> list[Path]:
        """Return the folders of the environment's runs, the latest first."""
        numbered = {}
        for folder in Path(self.log_path).glob(f"{glob.escape(self.env_name)}_*"):
            number = RUN_NUMBER.fullmatch(folder.name.removeprefix(self.env_name))
            if number is not None:  # and not a copy that somebody has made
                numbered[folder] = int(number[1])
        return sorted(numbered, key=lambda folder: numbered[folder], reverse=True)

    def create_log_folder(self) -> None:
        super().create_log_folder()
        if self.tensorboard_log is not None:  # SB3 goes on in the latest folder there, which may be another run's
            self.tensorboard_log = str(Path(self.tensorboard_log, Path(self.save_path).name))
        if self._checkpoint is None and self._identity is not None:
            self._identity.write(Path(self.save_path, "checkpoints"))
            run_lock.take(Path(self.save_path, "checkpoints"))

    def _is_of_a_new_run(self) -> bool:
        return self._checkpoint is None and super()._is_of_a_new_run()

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        """Leave the files of a run that is gone on with: they have the seed that it was begun with."""
        if self._checkpoint is None or not Path(self.params_path, "args.yml").exists():
            super()._save_config(saved_hyperparams)

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """Let monitors go on with their files: the zoo sets their arguments where nothing can be added."""
        if not self.continues_files:
            return super().create_envs(n_envs, eval_env, no_log)
        zoo: Any = rl_zoo3.exp_manager
        make = zoo.make_vec_env

        def going_on(*args: Any, monitor_kwargs: Any = None, **kwargs: Any) -> VecEnv:
            env: VecEnv = make(*args, monitor_kwargs={**(monitor_kwargs or {}), "override_existing": False}, **kwargs)
            return env

        with replaced(rl_zoo3.exp_manager, make_vec_env=going_on):
            return super().create_envs(n_envs, eval_env, no_log)

    def create_callbacks(self) -> None:
        super().create_callbacks()
        self._writer = _StoppingWriter(
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
        TERMINATION.waits_for_update = True
        if self._checkpoint is None:
            super().learn(model)
            return
        self.n_timesteps = max(0, int(self.n_timesteps) - model.num_timesteps)
        super().learn(_Continued(model))  # type: ignore[arg-type]  # which it stands for


class _StoppingWriter(ResumableCheckpointCallback):
    """It writes a checkpoint where one can be written, and then ends the training, if the process is told to stop."""

    def _on_rollout_start(self) -> None:
        super()._on_rollout_start()
        if current_ranks().any(TERMINATION.requested):
            TERMINATION.requested = True  # another rank was told, perhaps
            if self.model.num_timesteps > self._saved_at:
                self._save(at_end=False)
            TERMINATION.interrupt()


class _Continued:
    """Stands for a model whose ``learn`` goes on counting: the zoo has no argument for it."""

    def __init__(self, model: BaseAlgorithm):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def learn(self, total_timesteps: int, **kwargs: Any) -> None:
        self._model.learn(total_timesteps, reset_num_timesteps=False, **kwargs)


__all__ = ["ResumingExperimentManager"]
