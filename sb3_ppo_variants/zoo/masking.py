"""Action masks where the zoo leaves them out: it has no maskable algorithm of its own.

Training takes the masks from the environment by itself. Evaluations do with sb3-contrib's callback, and agents that are
watched, filmed or evaluated with :class:`MaskedPlay`.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from rl_zoo3 import ALGOS
from rl_zoo3.callbacks import TrialEvalCallback
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecEnv


class MaskableTrialEvalCallback(TrialEvalCallback, MaskableEvalCallback):
    """The zoo's evaluation of a trial, with masks."""


class MaskedPlay:
    """A model that asks the environment of :func:`remembering` for the masks it is not given.

    The zoo's scripts make one environment and call ``predict`` without masks.
    """

    env: VecEnv | None = None

    def predict(self, *args: Any, action_masks: np.ndarray | None = None, **kwargs: Any) -> Any:
        """Predict as the model does, but never an invalid action while an agent is watched.

        :param action_masks: shape (n_envs, n_actions), True for valid actions; None for those of the environment
        """
        if action_masks is None and MaskedPlay.env is not None:
            action_masks = get_action_masks(MaskedPlay.env)
        return super().predict(*args, action_masks=action_masks, **kwargs)  # type: ignore[misc]  # of the model


def playing(cls: type) -> type:
    """Return a maskable algorithm that plays with masks in the zoo's scripts, under the same name.

    A checkpoint of it is one of the algorithm: no pickle finds the class that is made here.

    :param cls: of the algorithm
    """
    same = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (MaskedPlay, cls), {**same, "checkpointed_as": cls})


def remembering(create_test_env: Callable[..., VecEnv]) -> Callable[..., VecEnv]:
    """Wrap the zoo's function so that :class:`MaskedPlay` knows the environment, if it has masks.

    :param create_test_env: the zoo's
    """

    @functools.wraps(create_test_env)
    def create(*args: Any, **kwargs: Any) -> VecEnv:
        env = create_test_env(*args, **kwargs)
        MaskedPlay.env = env if is_masking_supported(env) else None
        return env

    return create


def require_masks(env: VecEnv, algo: str, env_id: str) -> None:
    """Refuse an environment without action masks.

    :param env: closed if it is refused
    :param algo: name of the algorithm, for the message
    :param env_id: name of the environment, for the message
    :raises ValueError: if it has no method ``action_masks``
    """
    if not is_masking_supported(env):
        env.close()
        other = algo.removesuffix("_mask")
        other = other if other != algo and other in ALGOS else "an algorithm without masks"
        raise ValueError(
            f"{algo} needs an environment with a method action_masks(), got {env_id} without one; "
            f"use {other}, or name a wrapper with that method as env_wrapper in its entry"
        )


__all__ = ["MaskableTrialEvalCallback", "MaskedPlay", "playing", "remembering", "require_masks"]
