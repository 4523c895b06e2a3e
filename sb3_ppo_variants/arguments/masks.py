"""Action masks that sb3-contrib fails on without a word about masks, or takes although they allow nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecEnv


@contextmanager
def explained_masks(
    env: VecEnv, action_space: spaces.Space[Any], buffer: object, use_masking: bool = True
) -> Iterator[None]:
    """Name the mask where it is the cause of an error while a rollout is collected.

    :param env: which is asked for its masks, after an error only
    :param action_space: of the model
    :param buffer: without masks for a model that does not ask for them
    :param use_masking: as in MaskablePPO's ``collect_rollouts``
    :raises RuntimeError, TypeError, ValueError: the error's own class, with the shapes
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        own_class = type(error) not in (RuntimeError, TypeError, ValueError)  # which a text alone may not make
        asks = use_masking and hasattr(buffer, "action_masks")
        problem = _wrong_shape(env, action_space) if asks and not own_class else None
        if problem is None:
            raise
        raise type(error)(problem) from error


def warn_of_empty_masks(buffer: Any, action_space: spaces.Space[Any]) -> None:
    """Warn of masks that allow no action: sb3-contrib then takes any action, valid or not.

    :param buffer: with the rollout as it was collected; one without masks has none to warn of
    :param action_space: of the model
    """
    masks = getattr(buffer, "action_masks", None)
    choices = choices_of(action_space)
    if masks is None or not choices or masks.ndim != 3:
        return
    starts = np.cumsum([0, *choices[:-1]])
    empty = np.argwhere(np.add.reduceat(masks, starts, axis=-1) == 0)
    if len(empty) > 0:
        step, env, part = (int(index) for index in empty[0])
        of_part = f", part {part} of the action" if len(choices) > 1 else ""
        warnings.warn(
            f"action_masks() of environment {env} allowed no action at step {step} of the rollout{of_part}; "
            "sb3-contrib then takes any, valid or not: let the environment end the episode before it comes to that",
            stacklevel=2,
        )


def choices_of(space: spaces.Space[Any]) -> list[int]:
    """Return the number of values of each part of an action; empty for a space without masks.

    :param space: of the actions
    """
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec]
    if isinstance(space, spaces.MultiBinary):
        return [2] * int(np.prod(space.n))
    return []


def _wrong_shape(env: VecEnv, space: spaces.Space[Any]) -> str | None:
    choices = choices_of(space)
    if not choices or not is_masking_supported(env):
        return None
    wanted = f"`action_masks` must hold one truth value per action, shape ({sum(choices)},) for {space}"
    if len(choices) > 1:
        wanted += " (the parts one after the other)"
    try:
        masks = np.asarray(get_action_masks(env))
    except ValueError:  # of several environments, not of the same shape
        return f"{wanted}, got masks of several shapes; change action_masks() of the environment"
    if masks.dtype == object or masks.ndim < 1 or masks[0].size != sum(choices):
        got = masks[0] if masks.dtype == object else f"shape {masks.shape[1:]}"
        return f"{wanted}, got {got}; change action_masks() of the environment"
    return None


__all__ = ["choices_of", "explained_masks", "warn_of_empty_masks"]
