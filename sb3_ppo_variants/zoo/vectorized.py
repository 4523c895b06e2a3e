"""``train --vec-env gymnasium`` and ``--vec-env envpool``: training environments of other makes than SB3's."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.vec_env import GymnasiumVecEnv
from sb3_ppo_variants.vec_env.envpool_vector_env import EnvPoolVectorEnv, envpool_task
from sb3_ppo_variants.zoo.mistakes import refuse

KINDS = ("gymnasium", "envpool")
_AS_THE_ZOO_WRAPS_ATARI = {"episodic_life": True, "reward_clip": True}  # it also stacks 4 frames, as the zoo does
_ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"

Maker = Callable[..., VecEnv]


def maker_of(kind: str, manager: Any) -> tuple[Maker, dict[str, Any]]:
    """Choose what makes the training environments of an experiment.

    :param kind: one of ``KINDS``
    :param manager: the zoo's, with its hyperparameters read
    :return: it is called as SB3's VecEnv classes are; and attributes of the manager that hold while it is
    :raises SystemExit: with status 2 for what EnvPool cannot do
    """
    env_id, env_kwargs = manager.env_name.gym_id, dict(manager.env_kwargs)
    if kind == "gymnasium":
        own = gym.spec(env_id).vector_entry_point is not None and manager.env_wrapper is None
        maker = functools.partial(_make_registered, env_id, env_kwargs) if own else _make_in_processes
        return maker, {}
    done_inside = [_ATARI_WRAPPER] if manager._is_atari else []
    others = [name for name in manager.wrappers if name not in done_inside]
    if others:
        refuse(f"--vec-env envpool cannot put {others[0]} around an environment; use --vec-env gymnasium")
    settings = {**(_AS_THE_ZOO_WRAPS_ATARI if manager._is_atari else {}), **env_kwargs}
    replaced = {"env_wrapper": None, **({"frame_stack": None} if manager._is_atari else {})}
    return functools.partial(_make_pool, envpool_task(env_id), settings), replaced


def _make_registered(env_id: str, settings: dict[str, Any], functions: list[Any], **kwargs: Any) -> VecEnv:
    return GymnasiumVecEnv(gym.make_vec(env_id, len(functions), vectorization_mode="vector_entry_point", **settings))


def _make_in_processes(functions: list[Any], **kwargs: Any) -> VecEnv:
    return GymnasiumVecEnv(AsyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs))


def _make_pool(task: str, settings: dict[str, Any], functions: list[Any], **kwargs: Any) -> VecEnv:
    return GymnasiumVecEnv(EnvPoolVectorEnv(task, len(functions), **settings))


__all__ = ["KINDS", "maker_of"]
