"""Evaluation at fixed steps, on environments whose seeds do not depend on the algorithm."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_maskable_policy
from sb3_contrib.common.maskable.utils import is_masking_supported
from sb3_contrib.ppo_mask import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization, unwrap_vec_normalize

from sb3_ppo_variants.arguments.masks import choices_of


class Evaluation(NamedTuple):
    """The episodes of one evaluation.

    :param timesteps: environment steps of training before it, as planned (training stands at most ``n_envs - 1`` later)
    :param train_seconds: wall-clock time of training before it, evaluations not counted
    :param cpu_seconds: processor time likewise
    :param rewards: undiscounted sum of raw rewards of each episode
    :param lengths: steps of each episode
    """

    timesteps: int
    train_seconds: float
    cpu_seconds: float
    rewards: list[float]
    lengths: list[int]


class EvaluationProtocol(NamedTuple):
    """How every algorithm is evaluated.

    The episodes start from seeds drawn from the training seed and the number of the evaluation: the same for all
    algorithms, others for each training seed.

    :param env: the evaluation environments
    :param n_episodes: of one evaluation
    :param deterministic: whether the likeliest action is taken
    :param seed: of the training run
    """

    env: VecEnv
    n_episodes: int
    deterministic: bool
    seed: int

    def run(self, model: Any, index: int) -> tuple[list[float], list[int]]:
        """Play the episodes.

        :param model: anything with SB3's ``predict``
        :param index: number of the evaluation within the run
        :return: their rewards and lengths
        """
        self.env.seed(int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0] >> 1))
        takes_masks = isinstance(model, (MaskablePPO, RandomPolicy)) and is_masking_supported(self.env)
        evaluate = evaluate_maskable_policy if takes_masks else evaluate_policy
        rewards, lengths = evaluate(
            model, self.env, self.n_episodes, deterministic=self.deterministic, return_episode_rewards=True
        )
        assert isinstance(rewards, list)  # one number per episode, as asked for
        assert isinstance(lengths, list)
        return [float(reward) for reward in rewards], [int(length) for length in lengths]


class GridEvaluation(BaseCallback):
    """Evaluates at given steps and ends the training at the last of them.

    On-policy algorithms train in whole rollouts, so that those with long ones would otherwise take more steps.

    :param protocol: how to evaluate
    :param grid: at which steps, rising
    :param on_progress: is told the steps done about twice a second
    """

    report_every = 0.5

    def __init__(self, protocol: EvaluationProtocol, grid: Sequence[int], on_progress: Callable[[int], Any]):
        super().__init__()
        self.protocol = protocol
        self.grid = grid
        self.on_progress = on_progress
        self.evaluations: list[Evaluation] = []
        self.train_seconds = 0.0
        self.cpu_seconds = 0.0
        self._wall_mark = 0.0
        self._cpu_mark = 0.0
        self._next_report = 0.0

    def _on_training_start(self) -> None:
        self._start_clock()
        self._evaluate_when_due()

    def _on_step(self) -> bool:
        self._evaluate_when_due()
        now = time.perf_counter()
        if now >= self._next_report:
            self._next_report = now + self.report_every
            self.on_progress(self.num_timesteps)
        return len(self.evaluations) < len(self.grid)

    def _evaluate_when_due(self) -> None:
        while len(self.evaluations) < len(self.grid) and self.num_timesteps >= self.grid[len(self.evaluations)]:
            self._stop_clock()
            self._synchronise_normalisation()
            index = len(self.evaluations)
            rewards, lengths = self.protocol.run(self.model, index)
            self.evaluations.append(
                Evaluation(self.grid[index], self.train_seconds, self.cpu_seconds, rewards, lengths)
            )
            self._start_clock()

    def _synchronise_normalisation(self) -> None:
        if isinstance(unwrap_vec_normalize(self.training_env), VecNormalize):
            sync_envs_normalization(self.training_env, self.protocol.env)

    def _start_clock(self) -> None:
        self._wall_mark, self._cpu_mark = time.perf_counter(), time.process_time()

    def _stop_clock(self) -> None:
        self.train_seconds += time.perf_counter() - self._wall_mark
        self.cpu_seconds += time.process_time() - self._cpu_mark


class RandomPolicy:
    """Uniformly random actions, of the valid ones where an environment masks some.

    :param env: whose actions
    :param seed: of the generator
    """

    def __init__(self, env: VecEnv, seed: int):
        self._space: gym.Space[Any] = env.action_space
        self._space.seed(seed)
        self._n_envs = env.num_envs

    def predict(self, *_: Any, action_masks: Any = None, **__: Any) -> tuple[np.ndarray[Any, Any], None]:
        """Draw an action for each environment, whatever is observed.

        :param action_masks: as contrib's, shape (n_envs, number of choices); None for none
        """
        if action_masks is None:
            return np.array([self._space.sample() for _ in range(self._n_envs)]), None
        return np.array([self._valid(mask) for mask in np.reshape(action_masks, (self._n_envs, -1))]), None

    def _valid(self, mask: np.ndarray[Any, Any]) -> Any:
        parts = np.split(mask, np.cumsum(choices_of(self._space))[:-1])
        drawn = [self._space.np_random.choice(np.flatnonzero(part)) for part in parts]
        return np.reshape(drawn, self._space.shape)


__all__ = ["Evaluation", "EvaluationProtocol", "GridEvaluation", "RandomPolicy"]
