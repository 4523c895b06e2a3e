"""Values and log-probabilities of a rollout, computed together once it is full: no action depends on them.

SB3's ``collect_rollouts`` asks for both at every step, where for a few environments they take as long as the actions.
Callbacks, environments, policies and subclasses that are not SB3's, contrib's, rl-zoo3's or ours may want them there.
Beside such an onlooker they are computed at every step, too. The buffer gets the later ones all the same, so that
training does not depend on who looks on, unless somebody has altered something. A model's first rollout computes them
at every step as well, and decides by the comparison whether later ones do without.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from sb3_ppo_variants.distributed.callback_tree import callbacks_of
from sb3_ppo_variants.fast_path.blas_threads import one_blas_thread
from sb3_ppo_variants.fast_path.flat_observations import as_vectors
from sb3_ppo_variants.fast_path.interception import is_patched_object, replaces_collection, watches_infos
from sb3_ppo_variants.fast_path.lean_buffer import methods_of_sb3
from sb3_ppo_variants.update.distributions import Context
from sb3_ppo_variants.update.policy_evaluation import KNOWN_PACKAGES, package_of

_ROWS_AT_ONCE = 256
_TOLERANCE = 1e-3  # of the largest number, or of 1: much above rounding
_OF_OUTPUT = 1e-5  # a log-probability is a difference of numbers as large as the action net's output
_KNOWN = {*KNOWN_PACKAGES, "rl_zoo3", "abc", "builtins"}
_CALLED_IN_A_ROLLOUT = (
    *("update_locals", "on_step", "_on_step"),
    *("on_rollout_start", "_on_rollout_start", "on_rollout_end", "_on_rollout_end"),
)
_Array = npt.NDArray[Any]


class _Step(NamedTuple):
    """What a step was evaluated from, and what came out."""

    inputs: _Array
    actions: _Array
    values: _Array
    log_probs: _Array


class LateEvaluation:
    """Fills in a buffer's values and log-probabilities when it is called; copies of it are None.

    :param forward: of the rollout, in numpy, of a model for which :func:`late_obstacle` finds nothing
    :param buffer: that is being filled
    :param watched: whether there is an onlooker
    """

    def __init__(self, forward: Any, buffer: RolloutBuffer, watched: bool):
        self.forward, self.buffer = forward, buffer
        self.watched = watched
        self.shown = watched or forward.agrees_late is None
        self.nothing = th.full((buffer.n_envs, 1), th.nan), th.full((buffer.n_envs,), th.nan)
        self._steps: dict[int, _Step | None] = {}
        self._before = [p.detach().clone() for p in forward.policy.parameters()] if self.shown else []
        self._version_before = self._version()

    def __reduce__(self) -> Any:
        return type(None), ()

    def takes(self, n_rows: int) -> bool:
        """Tell whether it is the host that asks: once for each step. That step then is evaluated later.

        :param n_rows: how many observations there are
        """
        if n_rows != self.buffer.n_envs or self.buffer.pos in self._steps:
            return False
        self._steps[self.buffer.pos] = None
        return True

    def record(self, inputs: _Array, actions: _Array, values: _Array, log_probs: _Array) -> None:
        """Keep what a step was evaluated from, and what came out, to see later whether somebody has altered it."""
        self._steps[self.buffer.pos] = _Step(inputs.copy(), actions.copy(), values.copy(), log_probs.copy())

    def __call__(self) -> None:
        """Evaluate the steps in the buffer that were left to the end."""
        buffer, at_once = self.buffer, max(1, _ROWS_AT_ONCE // self.buffer.n_envs)
        steps = sorted(step for step in self._steps if step < buffer.pos)
        if steps and not (self.shown and self._is_altered(steps)):
            with one_blas_thread(), np.errstate(all="ignore"):
                parts = [self._evaluate(steps[first : first + at_once]) for first in range(0, len(steps), at_once)]
                values, log_probs, outputs = map(np.concatenate, zip(*parts))
                if self.forward.agrees_late is None:
                    self._decide(steps, values, log_probs, outputs)
            if self.forward.agrees_late:
                buffer.values[steps], buffer.log_probs[steps] = values, log_probs
        self._steps = {}

    def _evaluate(self, steps: list[int]) -> tuple[_Array, _Array, _Array]:
        """Return values and log-probabilities, shape (n_steps, n_envs), and the largest output of the action net."""
        buffer, forward = self.buffer, self.forward
        actions = np.concatenate(buffer.actions[steps])
        inputs = self._inputs(steps)
        values, output = forward.critic.forward(inputs), forward.actor.forward(inputs)
        parameters = forward.form.from_output(forward.policy, output, Context(forward.actor.latent))
        log_probs = forward.form.log_prob(parameters, actions)
        shape = (-1, buffer.n_envs)
        return values.reshape(shape).copy(), log_probs.reshape(shape), np.abs(output).max(keepdims=True)[0]

    def _inputs(self, steps: list[int]) -> _Array:
        observations = np.concatenate(self.buffer.observations[steps])
        inputs: _Array = as_vectors(self.forward.policy.observation_space, observations)
        return inputs

    def _decide(self, steps: list[int], values: _Array, log_probs: _Array, outputs: _Array) -> None:
        """Compare with what the steps' own evaluations say: in the model's first rollout, for all later ones."""
        largest = np.nanmax(outputs, initial=0.0)
        differ = _differ(values, self.buffer.values[steps], 0.0)
        differ |= _differ(log_probs, self.buffer.log_probs[steps], _OF_OUTPUT * largest)
        self.forward.agrees_late = not differ
        if differ:
            warnings.warn(
                "values and log-probabilities are computed at every step of a rollout: at the end of the first one "
                "they differed",
                stacklevel=2,
            )

    def _is_altered(self, steps: list[int]) -> bool:
        """Tell whether parameters, or what the buffer holds of the steps, are not what they were there, bit for bit."""
        buffer, made = self.buffer, [step for step in map(self._steps.get, steps) if step is not None]
        unaltered = all(map(th.equal, self._before, self.forward.policy.parameters()))
        if not unaltered or self._version() != self._version_before or len(made) < len(steps):
            return True
        found = self._inputs(steps), *(part[steps] for part in (buffer.actions, buffer.values, buffer.log_probs))
        pairs = ((np.concatenate(arrays).reshape(other.shape), other) for arrays, other in zip(zip(*made), found))
        return not all(np.array_equal(*pair, equal_nan=True) for pair in pairs)

    def _version(self) -> int:
        """Return a number that each of torch's operations in place on a parameter raises."""
        return sum(p._version for p in self.forward.policy.parameters())


def _differ(late: _Array, at_the_steps: _Array, floor: float) -> bool:
    finite = np.isfinite(late) & np.isfinite(at_the_steps)
    late, at_the_steps = late[finite], at_the_steps[finite]
    if not late.size:
        return False
    scale = max(1.0, float(np.abs(at_the_steps).max()))
    return not float(np.abs(late - at_the_steps).max()) <= _TOLERANCE * scale + floor


@contextmanager
def evaluating_late(
    forward: Any, algorithm: Any, env: VecEnv, callback: BaseCallback, buffer: RolloutBuffer
) -> Iterator[LateEvaluation | None]:
    """Let a forward pass in numpy leave values and log-probabilities to the end of a rollout, where that is safe.

    :param forward: of the rollout
    :param algorithm: whose policy it is of
    :param env: that is stepped
    :param callback: the root of the training's callbacks
    :param buffer: that is being filled
    """
    if forward.agrees_late is not False and late_obstacle(forward, algorithm, buffer) is None:
        forward.late = LateEvaluation(forward, buffer, has_onlooker(algorithm, env, callback))
    try:
        yield forward.late
    finally:
        forward.late = None


def late_obstacle(forward: Any, algorithm: Any, buffer: RolloutBuffer) -> str | None:
    """Say why values and log-probabilities stay what they are at their step.

    :param forward: of the rollout, in numpy
    :param algorithm: whose policy it is of
    :param buffer: to be filled
    :return: the reason, or None if they do not
    """
    if len(methods_of_sb3(buffer)) < 2 or type(buffer).reset is not RolloutBuffer.reset:
        return "the rollout buffer does something of its own"
    if replaces_collection(algorithm):
        return "the algorithm collects rollouts in its own way"
    if not (forward.acts_alone and forward.form.takes_arrays):
        return "the closed form has a sample() of its own and no act(), or takes tensors only"
    if algorithm._last_obs is None or algorithm._last_obs.dtype != buffer.observations.dtype:
        return "the buffer keeps observations in another type"
    if isinstance(algorithm.action_space, spaces.Box) and buffer.actions.dtype != np.float32:
        return "the buffer keeps actions in another type"
    return None


def has_onlooker(algorithm: Any, env: VecEnv, callback: BaseCallback) -> bool:
    """Tell whether somebody whom we do not know may read values within a rollout, or alter what they depend on.

    :param algorithm: that collects it
    :param env: that is stepped
    :param callback: the root of the training's callbacks
    """
    kinds = [type(algorithm.policy)]
    patched = watches_infos(algorithm) or is_patched_object(env)
    while isinstance(env, VecEnvWrapper):
        kinds.append(type(env))
        env = env.venv
        patched = patched or is_patched_object(env)
    known = all(package_of(kind) in _KNOWN for kind in (*kinds, type(env)))
    return patched or not known or any(map(_is_onlooker, callbacks_of(callback)))


def _is_onlooker(callback: BaseCallback) -> bool:
    kind, own = type(callback), vars(callback)
    if kind is ConvertCallback:  # SB3 makes one of a function, and of None
        return own["callback"] is not None
    methods = [getattr(kind, name) for name in _CALLED_IN_A_ROLLOUT]
    known = all(package_of(one) in _KNOWN for one in (*kind.__mro__, *methods))
    return not known or is_patched_object(callback)


__all__ = ["LateEvaluation", "evaluating_late", "has_onlooker", "late_obstacle"]
