"""Returns and lengths of a vector environment's episodes, counted as SB3's ``Monitor`` does."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from stable_baselines3.common.monitor import ResultsWriter

from sb3_ppo_variants.vec_env.vector_infos import Info, info_of

_KEY = "_stats_key"


class Episodes:
    """Counts what is not counted inside.

    An environment in ``Monitor`` counts for itself, also where it ends more often than its episodes do, as in a wrapper
    that ends it with each life. So does a simulator from its first ``episode`` on.

    :param env: whose episodes they are
    :param results_writer: is given each of them; closed by :meth:`close`
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], results_writer: ResultsWriter | None):
        self._n_envs = env.num_envs
        self._is_simulator = not isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv))
        self._inside = _counted_inside(env.unwrapped)
        self._began = time.time()
        self._writer = results_writer
        self.begin()

    def begin(self) -> None:
        """Begin new ones everywhere."""
        self._returns, self._lengths = np.zeros(self._n_envs), np.zeros(self._n_envs, dtype=np.int64)

    def add(self, rewards: npt.NDArray[np.float32], counts: npt.NDArray[np.bool_]) -> None:
        """Count a step.

        :param rewards: shape (n_envs,)
        :param counts: whether it is one of an episode, shape (n_envs,)
        """
        self._returns += rewards
        self._lengths += counts

    def end(self, index: int, is_cut: bool, *told: Mapping[str, Any]) -> Info | None:
        """End what an environment has counted, and begin anew.

        :param index: of the environment
        :param is_cut: whether it ends by a time limit, perhaps one around what counts inside, which does not see it
        :param told: infos of all environments; the first that knows of episodes counts
        :return: with r, l and t as by ``Monitor``; None if this is no end of an episode
        """
        seconds = round(time.time() - self._began, 6)
        own: Info = {"r": round(float(self._returns[index]), 6), "l": int(self._lengths[index]), "t": seconds}
        self._returns[index], self._lengths[index] = 0.0, 0
        found = next((infos for infos in told if _has_episodes(infos)), None)
        if found is not None:
            self._inside |= self._is_simulator
        if found is not None and ("_episode" not in found or found["_episode"][index]):
            own = info_of(found["episode"], index, self._n_envs)
            own |= {name: np.ravel(own[name])[0].item() for name in ("r", "l")}  # some make an array of each number
        elif self._inside[index] and (self._is_simulator or not is_cut):
            return None
        if self._writer is not None:
            self._writer.write_row({"r": own["r"], "l": own["l"], "t": seconds})
        return own

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _has_episodes(infos: Mapping[str, Any]) -> bool:
    counted = infos.get("episode")
    return isinstance(counted, Mapping) and {"r", "l"} <= counted.keys()


def _counted_inside(env: Any) -> npt.NDArray[np.bool_]:
    """Tell which single environments count for themselves, shape (n_envs,)."""
    counted = np.zeros(env.num_envs, dtype=np.bool_)
    if isinstance(env, (SyncVectorEnv, AsyncVectorEnv)):
        counted |= np.array(env.call("has_wrapper_attr", "get_episode_rewards"), dtype=np.bool_)  # of Monitor
        if all(env.call("has_wrapper_attr", _KEY)):  # of gymnasium's RecordEpisodeStatistics
            counted |= np.array(env.call("get_wrapper_attr", _KEY)) == "episode"
    return counted


__all__ = ["Episodes"]
