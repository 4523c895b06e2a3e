"""What a rollout buffer does at every step, with fewer calls; the numbers are SB3's, bit for bit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.arguments.provenance import of_libraries

_Array = npt.NDArray[Any]
_METHODS = ("add", "compute_returns_and_advantage")


def methods_of_sb3(buffer: RolloutBuffer) -> list[str]:
    """List which of SB3's own methods a buffer has, of those that are done lean.

    :param buffer: any
    """
    cls = type(buffer)
    own = [name for name in _METHODS if getattr(cls, name) is getattr(RolloutBuffer, name) and name not in vars(buffer)]
    return [name for name in own if of_libraries(cls, name)]


@contextmanager
def lean_buffer(buffer: RolloutBuffer, when_full: Callable[[], None] | None = None) -> Iterator[None]:
    """Let a buffer work lean while SB3 fills it, where its class leaves SB3's own methods as they are.

    :param buffer: to be filled
    :param when_full: called before the advantages are computed, and where the rollout ends early; not for a buffer that
        computes them in its own way
    """
    advantages = partial(lean_advantages, when_full=when_full)
    lean: dict[str, Any] = {"compute_returns_and_advantage": advantages, "add": lean_add}
    replaced = methods_of_sb3(buffer)
    for name in replaced:
        setattr(buffer, name, partial(lean[name], buffer))
    try:
        yield
    finally:
        for name in replaced:
            delattr(buffer, name)
        if when_full is not None:
            when_full()


def lean_add(
    buffer: RolloutBuffer,
    obs: _Array,
    action: _Array,
    reward: _Array,
    episode_start: _Array,
    value: th.Tensor,
    log_prob: th.Tensor,
) -> None:
    """Do what ``RolloutBuffer.add`` does without its intermediate copies.

    :param buffer: one that does not override it
    :param obs: shape (n_envs, *observation shape)
    :param action: shape (n_envs, *action shape)
    :param reward: shape (n_envs,)
    :param episode_start: shape (n_envs,)
    :param value: shape (n_envs, 1), on any device, as the next
    :param log_prob: shape (n_envs,)
    """
    position = buffer.pos
    buffer.observations[position] = obs.reshape(buffer.observations.shape[1:]) if obs.ndim == 1 else obs
    buffer.actions[position] = action.reshape(buffer.n_envs, buffer.action_dim)
    buffer.rewards[position] = reward
    buffer.episode_starts[position] = episode_start
    buffer.values[position] = value.numpy(force=True).reshape(-1)
    buffer.log_probs[position] = log_prob.numpy(force=True).reshape(-1)
    buffer.pos = position + 1
    buffer.full = buffer.pos == buffer.buffer_size


def lean_advantages(
    buffer: RolloutBuffer, last_values: th.Tensor, dones: _Array, when_full: Callable[[], None] | None = None
) -> None:
    """Do what ``compute_returns_and_advantage`` does: GAE (arXiv:1506.02438), of which only the recursion needs a loop.

    :param buffer: full
    :param last_values: of the observations after the last step, shape (n_envs, 1)
    :param dones: whether the last step ended an episode, shape (n_envs,)
    :param when_full: called before
    """
    if when_full is not None:
        when_full()
    next_values = np.concatenate([buffer.values[1:], last_values.cpu().numpy().reshape(1, -1)])
    goes_on = 1.0 - np.concatenate([buffer.episode_starts[1:], dones[None].astype(np.float32)])
    deltas = buffer.rewards + buffer.gamma * next_values * goes_on - buffer.values
    decay = buffer.gamma * buffer.gae_lambda * goes_on
    advantage = 0.0
    for step in range(buffer.buffer_size - 1, -1, -1):
        advantage = deltas[step] + decay[step] * advantage
        buffer.advantages[step] = advantage
    buffer.returns = buffer.advantages + buffer.values
