"""Values and log-probabilities of a rollout, computed together once it is full: no action depends on them.

SB3's ``collect_rollouts`` asks for both at every step, where for a few environments they take as long as the actions.
Only a callback that reads ``locals`` could see them there. Beside one that might, they are computed at every step for
it, and once more at the end: what is learned from must not depend on who looks on.
"""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback

from sb3_ppo_variants.fast_path.blas_threads import one_blas_thread
from sb3_ppo_variants.fast_path.flat_observations import as_vectors
from sb3_ppo_variants.fast_path.interception import replaces_collection
from sb3_ppo_variants.fast_path.lean_buffer import methods_of_sb3
from sb3_ppo_variants.update.callback_tree import callbacks_of
from sb3_ppo_variants.update.distributions import ActionDistribution, Context
from sb3_ppo_variants.update.policy_evaluation import KNOWN_PACKAGES, package_of

_ROWS_AT_ONCE = 256
_READ_NO_VALUES = {*KNOWN_PACKAGES, "rl_zoo3"}


class LateEvaluation:
    """Fills in a buffer's values and log-probabilities.

    :param forward: of the rollout, of a model for which :func:`late_obstacle` finds nothing
    :param buffer: that is being filled
    :param shown: whether somebody might read them at every step
    """

    def __init__(self, forward: Any, buffer: RolloutBuffer, shown: bool):
        self.policy, self.form = forward.policy, forward.form
        self.actor, self.critic = forward.actor, forward.critic
        self.buffer = buffer
        self.shown = shown
        self.nothing = th.full((buffer.n_envs, 1), th.nan), th.full((buffer.n_envs,), th.nan)
        self._steps: set[int] = set()
        self._before = [p.detach().clone() for p in self.policy.parameters()] if shown else []

    def put_off(self) -> None:
        """Note that the step being made is to be evaluated."""
        self._steps.add(self.buffer.pos)

    def fill(self) -> None:
        """Evaluate the steps in the buffer that were put off, unless a callback has altered the policy since."""
        buffer, at_once = self.buffer, max(1, _ROWS_AT_ONCE // self.buffer.n_envs)
        steps = sorted(step for step in self._steps if step < buffer.pos)
        self._steps = set()
        if not all(map(th.equal, self._before, self.policy.parameters())):
            return  # what was computed at each step stays
        with one_blas_thread():
            for first in range(0, len(steps), at_once):
                self._evaluate(steps[first : first + at_once])

    def _evaluate(self, steps: list[int]) -> None:
        buffer, policy = self.buffer, self.policy
        observations, actions = (np.concatenate(part[steps]) for part in (buffer.observations, buffer.actions))
        inputs = as_vectors(policy.observation_space, observations)
        values, output = self.critic.forward(inputs), self.actor.forward(inputs)
        parameters = self.form.from_output(policy, output, Context(self.actor.latent))
        buffer.values[steps] = values.reshape(-1, buffer.n_envs)
        buffer.log_probs[steps] = self.form.log_prob(parameters, actions).reshape(-1, buffer.n_envs)


def late_obstacle(algorithm: Any, form: ActionDistribution) -> str | None:
    """Say why values and log-probabilities stay what they were at their step.

    :param algorithm: whose rollouts are collected with a forward pass in numpy
    :param form: closed form of its policy
    :return: the reason, or None if they do not
    """
    if len(methods_of_sb3(algorithm.rollout_buffer)) < 2:
        return "the rollout buffer does something of its own at every step"
    if not form.takes_arrays:
        return "the closed form takes tensors only"
    return "the algorithm collects rollouts in its own way" if replaces_collection(algorithm) else None


def may_read_values(callback: BaseCallback) -> bool:
    """Tell whether a callback could read values or log-probabilities within a rollout: one that is nobody's we know.

    :param callback: the root of the training's callbacks
    """
    return any(map(_is_foreign, callbacks_of(callback)))


def _is_foreign(callback: BaseCallback) -> bool:
    if isinstance(callback, ConvertCallback):  # SB3 makes one of a function, and of None
        return callback.callback is not None
    patched = {"_on_step", "on_step", "update_locals"} & vars(callback).keys()
    return bool(patched) or any(package_of(kind) not in _READ_NO_VALUES for kind in type(callback).__mro__[:-2])


__all__ = ["LateEvaluation", "late_obstacle", "may_read_values"]
