"""The environments in which the zoo's scripts play: with all that a run was trained with."""

import functools
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.vec_env import VecEnv


def as_in_training(create_test_env: Callable[..., VecEnv]) -> Callable[..., VecEnv]:
    """Wrap the zoo's function so that the ``env_kwargs`` of a run's entry hold: only ``enjoy`` takes them.

    It refuses to make no environment, on which the zoo would fail without a name.

    :param create_test_env: the zoo's
    """

    @functools.wraps(create_test_env)
    def create(
        env_id: str, *args: Any, hyperparams: dict[str, Any], env_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> VecEnv:
        if kwargs.get("n_envs", 1) < 1:
            raise ValueError(f"--n-envs must be >= 1, got {kwargs['n_envs']}")
        of_entry = hyperparams.pop("env_kwargs", {})
        given = {**of_entry, **(env_kwargs or {})}  # what the command line says has the last word
        return create_test_env(env_id, *args, hyperparams=hyperparams, env_kwargs=given, **kwargs)

    return create


__all__ = ["as_in_training"]
