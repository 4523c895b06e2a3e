"""Values and log-probabilities of a rollout, computed together once it is full: no action depends on them.

SB3's ``collect_rollouts`` asks for both at every step, where for a few environments they take as long as the actions.
Callbacks, environments and subclasses that are not SB3's, contrib's, rl-zoo3's or ours may want them there. Beside
such an onlooker they are computed at every step, too. The buffer then gets the later ones where both agree to
rounding, so that training does not depend on who looks on, and keeps those of the steps where somebody altered
something. A model's first rollout is compared in the same way, and decides whether later ones do without.
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

from sb3_ppo_variants.fast_path.blas_threads import one_blas_thread
from sb3_ppo_variants.fast_path.flat_observations import as_vectors
from sb3_ppo_variants.fast_path.interception import replaces_collection
from sb3_ppo_variants.fast_path.lean_buffer import methods_of_sb3
from sb3_ppo_variants.update.callback_tree import callbacks_of
from sb3_ppo_variants.update.distributions import Context
from sb3_ppo_variants.update.policy_evaluation import KNOWN_PACKAGES, package_of

_ROWS_AT_ONCE = 256
_TOLERANCE = 1e-4  # of the largest number, as of the other checks
_KNOWN = {*KNOWN_PACKAGES, "rl_zoo3", "abc", "builtins"}
_CALLED_IN_A_ROLLOUT = (
    *("update_locals", "on_step", "_on_step"),
    *("on_rollout_start", "_on_rollout_start", "on_rollout_end", "_on_rollout_end"),
)


class _Evaluated(NamedTuple):
    values: npt.NDArray[np.float32]
    log_probs: npt.NDArray[np.float32]

    def agrees_with(self, others: "_Evaluated") -> bool:
        pairs = zip(self, others)
        return all(bool(np.abs(a - b).max() <= _TOLERANCE * max(1e-3, np.abs(b).max())) for a, b in pairs)

    def is_finite(self) -> bool:
        return all(bool(np.isfinite(part).all()) for part in self)


class LateEvaluation:
    """Fills in a buffer's values and log-probabilities when it is called; copies of it are None.

    :param forward: of the rollout, in numpy, of a model for which :func:`late_obstacle` finds nothing
    :param buffer: that is being filled
    :param watched: whether there is an onlooker
    """

    def __init__(self, forward: Any, buffer: RolloutBuffer, watched: bool):
        self.forward, self.buffer = forward, buffer
        self.watched = watched
        self.nothing = th.full((buffer.n_envs, 1), th.nan), th.full((buffer.n_envs,), th.nan)
        self._shown = watched or forward.agrees_late is None
        self._steps: set[int] = set()

    def __reduce__(self) -> Any:
        return type(None), ()

    def puts_off(self, n_rows: int) -> bool:
        """Note that a step is to be evaluated, and say whether it need not be now.

        :param n_rows: how many observations there are
        """
        if n_rows != self.buffer.n_envs or self.buffer.pos in self._steps:
            return False  # somebody else than the host asks
        self._steps.add(self.buffer.pos)
        return not self._shown

    def __call__(self) -> None:
        """Evaluate the steps in the buffer that were put off."""
        buffer, at_once = self.buffer, max(1, _ROWS_AT_ONCE // self.buffer.n_envs)
        steps = sorted(step for step in self._steps if step < buffer.pos)
        self._steps = set()
        if not steps:
            return
        with one_blas_thread(), np.errstate(all="ignore"):
            parts = [self._evaluate(steps[first : first + at_once]) for first in range(0, len(steps), at_once)]
            late = _Evaluated(*map(np.concatenate, zip(*parts)))
            if not self._shown or self._agrees(late, _Evaluated(buffer.values[steps], buffer.log_probs[steps])):
                buffer.values[steps], buffer.log_probs[steps] = late

    def _agrees(self, late: _Evaluated, at_the_steps: _Evaluated) -> bool:
        """Compare, and let the model's first rollout decide for the later ones."""
        agree = late.agrees_with(at_the_steps)
        if not self.watched and (agree or at_the_steps.is_finite()):
            self.forward.agrees_late = agree
            if not agree:
                warnings.warn(
                    "values and log-probabilities are computed at every step of a rollout: at the end of the first one "
                    "they differed",
                    stacklevel=2,
                )
        return agree

    def _evaluate(self, steps: list[int]) -> _Evaluated:
        buffer, forward = self.buffer, self.forward
        observations, actions = (np.concatenate(part[steps]) for part in (buffer.observations, buffer.actions))
        inputs = as_vectors(forward.policy.observation_space, observations)
        values, output = forward.critic.forward(inputs), forward.actor.forward(inputs)
        parameters = forward.form.from_output(forward.policy, output, Context(forward.actor.latent))
        log_probs = forward.form.log_prob(parameters, actions)
        return _Evaluated(values.reshape(-1, buffer.n_envs).copy(), log_probs.reshape(-1, buffer.n_envs))


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
    while isinstance(env, VecEnvWrapper):
        if package_of(type(env)) not in _KNOWN:
            return True
        env = env.venv
    own = [kind for kind in type(algorithm).__mro__ if "_update_info_buffer" in vars(kind)]
    known = all(package_of(kind) in _KNOWN for kind in (type(env), *own))
    return not known or any(map(_is_onlooker, callbacks_of(callback)))


def _is_onlooker(callback: BaseCallback) -> bool:
    kind, own = type(callback), vars(callback)
    if kind is ConvertCallback:  # SB3 makes one of a function, and of None
        return own["callback"] is not None
    methods = [getattr(kind, name) for name in _CALLED_IN_A_ROLLOUT]
    known = all(package_of(one) in _KNOWN for one in (*kind.__mro__, *methods))
    return not known or any(callable(getattr(kind, name, None)) for name in own)


__all__ = ["LateEvaluation", "evaluating_late", "has_onlooker", "late_obstacle"]
