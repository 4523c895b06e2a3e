"""``train --vec-env gymnasium`` and ``--vec-env envpool``: training environments of other makes than SB3's."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.vec_env import GymnasiumVecEnv
from sb3_ppo_variants.vec_env.envpool_vector_env import EnvPoolVectorEnv, envpool_task
from sb3_ppo_variants.zoo.mistakes import refuse

KINDS = ("gymnasium", "envpool")
_AS_THE_ZOO_WRAPS_ATARI = {"episodic_life": True, "reward_clip": True}  # it also stacks 4 frames, as the zoo does
_ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"

Maker = Callable[..., VecEnv]
Writer = Callable[[], ResultsWriter | None]


def maker_of(kind: str, manager: Any, folder: str | None = None) -> tuple[Maker, dict[str, Any]]:
    """Choose what makes the training environments of an experiment.

    :param kind: one of ``KINDS``
    :param manager: the zoo's, with its hyperparameters read
    :param folder: for ``0.monitor.csv`` of what is not made of environments with a monitor each; None for none
    :return: it is called as SB3's VecEnv classes are; and attributes of the manager that hold while it is
    :raises SystemExit: with status 2 for what EnvPool cannot do
    """
    env_id, env_kwargs = manager.env_name.gym_id, dict(manager.env_kwargs)
    writer = functools.partial(_results_writer, manager, folder)
    if kind == "gymnasium":
        own = gym.spec(env_id).vector_entry_point is not None and manager.env_wrapper is None
        maker = functools.partial(_make_registered, env_id, env_kwargs, writer) if own else _make_in_processes
        return maker, {}
    done_inside = [_ATARI_WRAPPER] if manager._is_atari else []
    others = [name for name in manager.wrappers if name not in done_inside]
    if others:
        refuse(f"--vec-env envpool cannot put {others[0]} around an environment; use --vec-env gymnasium")
    settings = {**(_AS_THE_ZOO_WRAPS_ATARI if manager._is_atari else {}), **env_kwargs}
    replaced = {"env_wrapper": None, **({"frame_stack": None} if manager._is_atari else {})}
    return functools.partial(_make_pool, envpool_task(env_id), settings, writer), replaced


def _results_writer(manager: Any, folder: str | None) -> ResultsWriter | None:
    """Open the file that SB3's Monitor of the first environment would write; a resumed run goes on in it."""
    if folder is None:
        return None
    header: dict[str, float | str] = {"t_start": time.time(), "env_id": manager.env_name.gym_id}
    begins_anew = not manager.continues_files and bool(manager.monitor_kwargs.get("override_existing", True))
    return ResultsWriter(str(Path(folder, "0")), header, override_existing=begins_anew)


def _make_registered(
    env_id: str, settings: dict[str, Any], writer: Writer, functions: list[Any], **kwargs: Any
) -> VecEnv:
    env = gym.make_vec(env_id, len(functions), vectorization_mode="vector_entry_point", **settings)
    return GymnasiumVecEnv(env, writer())


def _make_in_processes(functions: list[Any], **kwargs: Any) -> VecEnv:
    return GymnasiumVecEnv(AsyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs))


def _make_pool(task: str, settings: dict[str, Any], writer: Writer, functions: list[Any], **kwargs: Any) -> VecEnv:
    return GymnasiumVecEnv(EnvPoolVectorEnv(task, len(functions), **settings), writer())


__all__ = ["KINDS", "maker_of"]
