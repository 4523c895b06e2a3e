"""The environments in which the zoo's scripts play: with all that a run was trained with."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.vec_env import VecEnv


def as_in_training(create_test_env: Callable[..., VecEnv]) -> Callable[..., VecEnv]:
    """Wrap the zoo's function so that the ``env_kwargs`` of a run's entry hold: only ``enjoy`` takes them.

    It refuses to make no environment, on which the zoo would fail without a name.

    :param create_test_env: the zoo's
    """
    signature = inspect.signature(create_test_env)

    @functools.wraps(create_test_env)
    def create(*args: Any, **kwargs: Any) -> VecEnv:
        given = signature.bind(*args, **kwargs).arguments
        if given.get("n_envs", 1) < 1:
            raise ValueError(f"--n-envs must be >= 1, got {given['n_envs']}")
        hyperparams = dict(given.get("hyperparams") or {})  # the caller's stays as it is
        of_entry = hyperparams.pop("env_kwargs", {})
        if hyperparams.get("frame_stack", 0) is None:
            del hyperparams["frame_stack"]  # the zoo, which trains with None, asks here whether it is > 0
        env_kwargs = {**of_entry, **(given.get("env_kwargs") or {})}  # what the command line says has the last word
        return create_test_env(**{**given, "hyperparams": hyperparams, "env_kwargs": env_kwargs})

    return create


__all__ = ["as_in_training"]
