"""SB3's DummyVecEnv without the deep copies: where a simulator is small, they are a good part of a rollout."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from stable_baselines3.common.vec_env.util import dict_to_obs

from sb3_ppo_variants.arguments.provenance import of_libraries

_UNCHANGEABLE = frozenset({type(None), bool, int, float, complex, str, bytes, *np.sctypeDict.values()}) - {
    np.object_,
    np.void,
}
_METHODS = ("step_wait", "_obs_from_buf", "_save_obs")  # somebody may have patched one


class LeanVecEnv(DummyVecEnv):
    """A drop-in for SB3's ``DummyVecEnv`` with the same rollouts, bit for bit, at less cost per step.

    For ``make_vec_env(..., vec_env_cls=LeanVecEnv)``. ``DummyVecEnv`` makes deep copies of the observations and of
    every info at every step. Here arrays are copied as arrays, and an info of numbers and strings, which cannot be
    changed, as a dict. What is returned shares no memory with the environments, as there.

    :param env_fns: functions that each make a new environment
    :raises ValueError: if two of them return the same environment
    """

    def step_wait(self) -> VecEnvStepReturn:
        """Step every environment in turn, and reset those whose episode is over.

        :return: observations, rewards of shape (n_envs,), dones of shape (n_envs,), and one info per environment
        """
        for index, env in enumerate(self.envs):
            obs, reward, terminated, truncated, info = env.step(self.actions[index])
            done = terminated or truncated
            self.buf_rews[index] = reward
            self.buf_dones[index] = done
            self.buf_infos[index] = info
            info["TimeLimit.truncated"] = truncated and not terminated
            if done:
                info["terminal_observation"] = obs
                obs, self.reset_infos[index] = env.reset()
            self._save_obs(index, obs)
        return self._obs_from_buf(), self.buf_rews.copy(), self.buf_dones.copy(), _independent(self.buf_infos)

    def _obs_from_buf(self) -> VecEnvObs:
        if len(self.keys) == 1 and self.keys[0] is None:
            return self.buf_obs[None].copy()
        copies = OrderedDict((key, value.copy()) for key, value in self.buf_obs.items())
        return dict_to_obs(self.observation_space, copies)


@contextmanager
def lean_steps(env: VecEnv) -> Iterator[None]:
    """Let a plain ``DummyVecEnv`` be a :class:`LeanVecEnv` for a while; any other one stays what it is.

    Its class is exchanged, not its methods: what a callback pickles or copies meanwhile works.

    :param env: it, or wrappers around it
    """
    inner = innermost(env)
    plain = type(inner) is DummyVecEnv and of_libraries(DummyVecEnv, *_METHODS)
    if plain:
        inner.__class__ = LeanVecEnv
    try:
        yield
    finally:
        if plain:
            inner.__class__ = DummyVecEnv


def innermost(env: VecEnv) -> VecEnv:
    """Return the vectorised environment inside its wrappers.

    :param env: with or without wrappers
    """
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env


def _independent(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copy infos so that neither side sees what the other does to them; what they share, the copies share."""
    copies: dict[int, Any] = {}  # deepcopy's memo
    for info in infos:
        if type(info) is dict and _UNCHANGEABLE.issuperset(map(type, info.values())):
            copies[id(info)] = info.copy()
    if len(copies) == len(infos):
        return list(copies.values())
    return deepcopy(infos, copies)


__all__ = ["LeanVecEnv", "innermost", "lean_steps"]
