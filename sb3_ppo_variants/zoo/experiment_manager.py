"""The zoo's experiment manager, taught what it has no hook for."""

import math
import shutil
import tempfile
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import optuna
import rl_zoo3.exp_manager
from rl_zoo3.exp_manager import ExperimentManager as StockExperimentManager
from rl_zoo3.utils import ALGOS
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_ppo_variants.algorithms.ppo_adaptive_lr import AdaptiveLearningRateMixin
from sb3_ppo_variants.arguments.checks import InvalidArgumentError
from sb3_ppo_variants.distributed.ranks import current_ranks
from sb3_ppo_variants.saving.saved_class import check_saved_class, saved_attributes
from sb3_ppo_variants.update.nonfinite import NonFiniteUpdateError
from sb3_ppo_variants.vec_env.lean_vec_env import LeanVecEnv
from sb3_ppo_variants.zoo import ALGORITHMS, is_maskable, is_recurrent
from sb3_ppo_variants.zoo.hyperparameters import (
    Source,
    check_counts,
    check_keys,
    find_source,
    our_schedules,
    recurrent_policy,
)
from sb3_ppo_variants.zoo.interruptible import InterruptibleSubprocVecEnv
from sb3_ppo_variants.zoo.masking import MaskableTrialEvalCallback, require_masks
from sb3_ppo_variants.zoo.replacing import replaced
from sb3_ppo_variants.zoo.search_spaces import SAMPLED_WITHIN_BOUNDS
from sb3_ppo_variants.zoo.studies import (
    check_storage,
    check_study,
    check_study_to_go_on_with,
    claim_study,
    create_tables,
)
from sb3_ppo_variants.zoo.termination import TERMINATION
from sb3_ppo_variants.zoo.trained_runs import RUN_NUMBER
from sb3_ppo_variants.zoo.vectorized import maker_of

_NO_BEST_TRIAL = ("No trials are completed yet.", "Record does not exist.")
"""What Optuna's storages say, without a class of error for it, where all trials were pruned or interrupted."""


class VariantExperimentManager(StockExperimentManager):
    """rl-zoo3's experiment manager for our algorithms; stock ones go through it unchanged.

    Hyperparameters come from our files, or, for an environment that they do not list, from the zoo's file of the host.
    An explicit ``--conf-file`` is used as it is.
    """

    def __init__(self, *args: Any, vectorized: str | None = None, config: str | None = None, **kwargs: Any) -> None:
        """Take the zoo's arguments.

        :param config: of the zoo
        :param vectorized: one of ``vectorized.KINDS``, for training environments that SB3 has no VecEnv for
        """
        super().__init__(*args, config=config, **kwargs)  # type: ignore[misc]  # by position it never comes
        self._vectorized = vectorized
        self.wrappers: list[str] = []
        if self.vec_env_class is DummyVecEnv:
            self.vec_env_class = LeanVecEnv  # the same rollouts
        elif self.vec_env_class is SubprocVecEnv:
            self.vec_env_class = InterruptibleSubprocVecEnv
        self._is_ours = self.algo in ALGORITHMS
        self._source: Source | None = None
        self._new_folders: list[Path] = []
        self.continues_files = False  # of a run that is gone on with
        if not current_ranks().first:
            self._keep_nothing()
        if self._is_ours and not config:
            self._source = find_source(self.algo, self.env_name.gym_id, self._is_atari)
            self.config = str(self._source.path)

    def _keep_nothing(self) -> None:
        """Write into a folder that goes with the process: files and evaluations are rank 0's."""
        self._temporary = tempfile.TemporaryDirectory(prefix="sb3_ppo_variants_rank_")
        self.save_path = self._temporary.name
        self.params_path = f"{self.save_path}/{self.env_name}"
        self.eval_freq, self.show_progress = -1, False

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        try:
            return super().setup_experiment()
        except BaseException:  # ctrl-c too
            self._remove_folder()
            raise

    def create_log_folder(self) -> None:
        self._new_folders = [folder for folder in Path(self.save_path).parents if not folder.exists()]
        if self._is_of_a_new_run():
            self._claim_folder()
            self._new_folders.insert(0, Path(self.save_path))
        super().create_log_folder()  # type: ignore[no-untyped-call]

    def _is_of_a_new_run(self) -> bool:
        return current_ranks().first

    def _claim_folder(self) -> None:
        """Make the run's folder, with the next number if another process has made it since that was chosen."""
        while True:
            try:
                Path(self.save_path).mkdir(parents=True)
                return
            except FileExistsError:
                chosen = Path(self.save_path)
                found = RUN_NUMBER.search(chosen.name)
                assert found is not None  # the zoo names it so
                following = f"_{int(found[1]) + 1}{found[2] or ''}"
                self.save_path = str(chosen.with_name(chosen.name[: found.start()] + following))
                self.params_path = f"{self.save_path}/{self.env_name}"

    def learn(self, model: BaseAlgorithm) -> None:
        if self._vectorized is not None:  # evaluations go on with SB3's own environments, by design
            warnings.filterwarnings("ignore", message="Training and eval env are not of the same type")
        try:
            super().learn(model)
        except BaseException as error:
            # environments in processes of their own may end first when all are told to stop
            is_interruption = isinstance(error, (KeyboardInterrupt, EOFError, ConnectionError))
            if not (is_interruption and TERMINATION.arrives()):
                if model.num_timesteps == 0:
                    self._remove_folder()
                raise
        TERMINATION.saves = True

    def _remove_folder(self) -> None:
        """Leave no folder of a run in which nothing was trained, as the next one would be numbered after it."""
        for folder in self._new_folders:
            if folder == Path(self.save_path):
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._is_ours:
            self._announce_source()
            self._override_by_trial()
        hyperparams, saved = super().read_hyperparameters()
        check_counts(hyperparams, self.custom_hyperparams or {}, f"{self.config}, {self.env_name.gym_id}")
        self.wrappers = _names_of_wrappers(hyperparams.get("env_wrapper"))
        if not self._is_ours:
            return hyperparams, saved
        self._drop(hyperparams, saved)
        if is_recurrent(self.algo) and "policy" in hyperparams:
            hyperparams["policy"] = saved["policy"] = recurrent_policy(self.algo, hyperparams["policy"])
        of_trial = f" or a trial of {self.study_name}" if self.study_name and not self.optimize_hyperparameters else ""
        check_keys(self.algo, self.custom_hyperparams or {}, f"-params{of_trial}")
        check_keys(self.algo, hyperparams, f"{self.config}, {self.env_name.gym_id}")
        return hyperparams, saved

    def _announce_source(self) -> None:
        if self._source is not None and self._source.is_fallback:
            print(
                f"No entry for {self.env_name.gym_id} in {self.algo}.yml: taking the zoo's from "
                f"{self._source.path.name}; what it does not set has the defaults of {ALGORITHMS[self.algo].__name__}"
            )

    def _override_by_trial(self) -> None:
        """Load the trial that the zoo leaves out: number 0, or the best one if a study but no number is given."""
        if self.optimize_hyperparameters or not (self.storage and self.study_name) or self.trial_id:
            return
        print(f"Loading {'the best trial' if self.trial_id is None else 'trial 0'} of the study {self.study_name}")
        trial = self.load_trial(self.storage, self.study_name, self.trial_id)
        self.custom_hyperparams = {**trial, **(self.custom_hyperparams or {})}

    def _drop(self, hyperparams: dict[str, Any], saved: dict[str, Any]) -> None:
        dropped = {} if self._source is None else dict(self._source.dropped)
        of_study = self.optimize_hyperparameters or (self.storage and self.study_name)
        if of_study and issubclass(ALGORITHMS[self.algo], AdaptiveLearningRateMixin):
            dropped["learning_rate_bounds"] = "a study samples learning rates beyond them"
        for key, reason in dropped.items():
            if key in hyperparams and key not in (self.custom_hyperparams or {}):
                del hyperparams[key]
                print(f"{key} {saved.pop(key)} of that entry is left out: {reason}")

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> tuple[Any, ...]:
        preprocessed = super()._preprocess_hyperparams(hyperparams)
        if self._eval_env_kwargs_args is None:
            self.eval_env_kwargs = self.env_kwargs  # the zoo forgets those of an entry and of -params
        return preprocessed

    def _preprocess_schedules(self, hyperparams: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        # a static method in the zoo, which needs to know nothing
        if not self._is_ours:
            return super()._preprocess_schedules(hyperparams)
        return {**hyperparams, **our_schedules(hyperparams)}

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        with self._vectorized_envs(eval_env, no_log):
            env = super().create_envs(n_envs, eval_env, no_log)
        if is_maskable(self.algo):
            require_masks(env, self.algo, self.env_name.gym_id)
        return env

    def _vectorized_envs(self, eval_env: bool, no_log: bool) -> AbstractContextManager[None]:
        """Let the zoo make environments of another make for training: its class of VecEnv is for evaluation, too."""
        if self._vectorized is None or eval_env:
            return nullcontext()
        maker, others = maker_of(self._vectorized, self, None if no_log else self.save_path)
        return replaced(self, vec_env_class=maker, **others)

    def create_callbacks(self) -> None:
        size = current_ranks().size  # the zoo's callbacks count the steps of this process
        self.eval_freq, self.save_freq = (f if f <= 0 else max(1, f // size) for f in (self.eval_freq, self.save_freq))
        with self._masked_evaluations():
            super().create_callbacks()  # type: ignore[no-untyped-call]

    def load_trial(
        self, storage: str, study_name: str, trial_id: int | None = None, convert: bool = True
    ) -> dict[str, Any]:
        check_study(storage, study_name, trial_id, self.algo)
        return super().load_trial(storage, study_name, trial_id, convert)

    def hyperparameters_optimization(self) -> None:
        try:
            if self._is_ours:
                self._check_what_trials_share()
            if self.storage is not None:
                check_storage(self.storage)
                if "://" in self.storage:
                    create_tables(self.storage)
                check_study_to_go_on_with(self.storage, self.study_name, self._study_of)
            with self._masked_evaluations():
                super().hyperparameters_optimization()
        except ValueError as error:
            if str(error) not in _NO_BEST_TRIAL:
                raise
            raise SystemExit("No trial was completed, so that none is the best") from None
        finally:
            self._remove_folder()  # it has no model, for which the zoo's commands would look in it

    def _check_what_trials_share(self) -> None:
        """Refuse a value of the entry or of -params that would prune every trial, unless trials sample another one."""
        cls: Any = ALGOS[self.algo]
        env = self.create_envs(self.n_envs, no_log=True)
        try:
            cls(env=env, device=self.device, _init_setup_model=False, **self._hyperparams).check_arguments()
        except InvalidArgumentError as error:
            if not str(error).startswith(SAMPLED_WITHIN_BOUNDS):
                raise
        finally:
            env.close()

    @property
    def _study_of(self) -> str:
        """What a study is of: it must not be gone on with for anything else."""
        return f"{self.algo} on {self.env_name.gym_id}"

    def objective(self, trial: optuna.Trial) -> float:
        claim_study(trial.study, self._study_of)
        try:
            return super().objective(trial)
        # The zoo prunes a trial with NaN too, but knows other exceptions; and what is sampled may not fit to the entry.
        except (NonFiniteUpdateError, InvalidArgumentError) as error:
            print(error)
            raise optuna.TrialPruned from error
        except KeyboardInterrupt:
            trial.study.stop()
            return math.nan  # a failed trial; Optuna would log the interruption with its traceback

    def _masked_evaluations(self) -> AbstractContextManager[None]:
        """Evaluate a maskable algorithm with masks: the zoo names its callbacks in the middle of its methods."""
        if not is_maskable(self.algo):
            return nullcontext()
        masked = {"EvalCallback": MaskableEvalCallback, "TrialEvalCallback": MaskableTrialEvalCallback}
        return replaced(rl_zoo3.exp_manager, **masked)

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        # Our classes refuse a model of another class by themselves; stock ones are kept from loading ours.
        data = {} if self._is_ours else saved_attributes(self.trained_agent)
        if "saved_as" in data:
            check_saved_class(ALGOS[self.algo], data, self.trained_agent)
        return super()._load_pretrained_agent(hyperparams, env)


def _names_of_wrappers(entry: Any) -> list[str]:
    """List the wrappers of an entry, which may be one, several, or have arguments."""
    entries = entry if isinstance(entry, list) else [] if entry is None else [entry]
    return [next(iter(one)) if isinstance(one, dict) else str(one) for one in entries]


__all__ = ["StockExperimentManager", "VariantExperimentManager"]
