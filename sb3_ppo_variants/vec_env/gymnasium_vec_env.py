"""Vector environments of gymnasium, and simulators with its interface, as SB3's VecEnv."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.vec_env.attributes_of_parts import AttributesOfParts
from sb3_ppo_variants.vec_env.episodes import Episodes
from sb3_ppo_variants.vec_env.vector_infos import Info, LazyInfos, as_array, by_name, info_of, on_host, row_of, rows_of

_LAST = ("final_obs", "final_observation")  # observations of an episode, of gymnasium's present and of its earlier name


class GymnasiumVecEnv(AttributesOfParts):
    """A ``gymnasium.vector.VectorEnv`` for SB3, without a loop over its environments.

    Arrays may be numpy's, torch's (then actions are tensors too, on the device of the observations) or JAX's. Episodes
    are counted here as ``Monitor`` does, unless they are counted in there. An info is made when somebody reads it.

    SB3 wants the first observation of the next episode with the last step of an episode. With same-step autoreset it
    is there; a simulator that does not say how it resets is taken for one such once its infos hold a last observation.
    gymnasium's SyncVectorEnv and AsyncVectorEnv, and environments without autoreset, are told to reset what has ended,
    by ``reset(options={"reset_mask": ...})``, of which a single environment sees ``options={}``. Any other environment
    with next-step autoreset, and these two inside a wrapper, which would not see the mask, spends a step on each reset,
    in which it takes no action: that step becomes an episode of its own, without reward, at the observation where the
    last one ended.

    :param env: to be wrapped
    :param results_writer: is given each episode's return, length and time, as by ``Monitor``; ``ResultsWriter(folder)``
        writes ``folder/monitor.csv``. It is closed with the environment
    :raises TypeError: for anything else than a vector environment
    :raises ValueError: for a wrapped SyncVectorEnv or AsyncVectorEnv without autoreset
    """

    _idle: npt.NDArray[np.bool_]  # these step to reset next
    _idle_infos: dict[int, Info]

    def __init__(self, env: VectorEnv[Any, Any, Any], results_writer: ResultsWriter | None = None):
        if not isinstance(env, VectorEnv):
            rule = f"`env` must be a gymnasium.vector.VectorEnv, got {type(env).__name__}"
            raise TypeError(f"{rule}; make one with gymnasium.make_vec()")
        super().__init__(env)
        known, mode = self._known, AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._same_step, self._says = mode is AutoresetMode.SAME_STEP, "autoreset_mode" in env.metadata
        self._resets_by_mask = mode is AutoresetMode.DISABLED or (known and not self._same_step and _sees_masks(env))
        require(
            mode is not AutoresetMode.DISABLED or not known or env is env.unwrapped,
            "a wrapped vector environment of gymnasium must reset by itself: its wrappers do not see what is reset",
            f"autoreset_mode={mode.value!r} inside {type(env).__name__}",
            "pass autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP to it",
        )
        self._actions: Any = None
        self._device: th.device | None = None
        self.results_writer = results_writer  # as in SB3's VecMonitor
        self._episodes = Episodes(env, results_writer)
        self._begin_episodes()

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Set the options of the next reset.

        :param options: for all environments, or a list with the same for each of them: a vector environment takes one
        :raises ValueError: if they differ
        """
        if isinstance(options, (list, tuple)):
            rule = f"the options of {type(self.env.unwrapped).__name__} must be the same for all environments"
            alike = all(data_equivalence(one, options[0], exact=True) for one in options)
            require(alike, rule, options, "pass one dictionary, or use a DummyVecEnv")
        super().set_options(options)

    def reset(self) -> VecEnvObs:
        options = self._options[0] or None
        seed = self._seeds[0]
        observations, infos = self.env.reset(seed=None if seed is None else int(seed), options=options)
        if not isinstance(infos, Mapping):
            way_out = (
                "leave out the wrapper that gives a list, such as DictInfoToList: SB3's list of infos is made here"
            )
            raise TypeError(f"the infos of `env` must be one dictionary for all, got {type(infos).__name__}; {way_out}")
        self._reset_seeds()
        self._reset_options()
        self._begin_episodes()
        first = next(iter(observations.values())) if isinstance(observations, Mapping) else observations
        self._device = first.device if isinstance(first, th.Tensor) else None
        self.reset_infos = [info_of(infos, i, self.num_envs) for i in range(self.num_envs)]
        return as_array(observations)  # type: ignore[no-any-return]  # an array, or a dictionary of them

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        # copies: SB3 keeps the actions, and a simulator may clip them in place
        copied = np.array(actions)
        self._actions = copied if self._device is None else th.as_tensor(copied, device=self._device)

    def step_wait(self) -> VecEnvStepReturn:
        observations, raw_rewards, terminations, truncations, infos = self.env.step(self._actions)
        rewards, idle = as_array(raw_rewards, np.float32), self._idle
        terminated, truncated = as_array(terminations, np.bool_), as_array(truncations, np.bool_)
        rewards[idle] = 0.0
        ended: npt.NDArray[np.bool_] = (terminated | truncated) & ~idle
        self._episodes.add(rewards, ~idle)
        special = self._idle_infos
        self._idle_infos = {}
        kept_infos = rows_of(infos, self.num_envs, own_objects=not self._pipes)
        begun, first_infos = idle, kept_infos
        if ended.any():
            self._same_step |= not self._says and any(name in infos for name in _LAST)
            last = self._last_infos(ended, truncated & ~terminated, observations, infos)
            if self._resets_by_mask:
                observations, told = self.env.reset(options={"reset_mask": ended.copy()})
                first_infos = rows_of(told, self.num_envs, own_objects=not self._pipes)
            if self._resets_by_mask or self._same_step:
                begun = ended
            else:
                kept = ("terminal_observation", "TimeLimit.truncated")
                self._idle_infos = {i: {key: info[key] for key in kept} for i, info in last.items()}
            special = {**special, **last}
        if begun.any():
            first_infos = on_host(first_infos)
            for place in np.flatnonzero(begun):
                self.reset_infos[place] = info_of(first_infos, int(place), self.num_envs)
        dones = ended | idle
        self._idle = ended if self._idle_infos else np.zeros_like(ended)

        def made(index: int) -> Info:
            if index in special:
                return special[index]
            return {**info_of(kept_infos, index, self.num_envs), "TimeLimit.truncated": False}

        return as_array(observations), rewards, dones, LazyInfos(self.num_envs, made)

    def _begin_episodes(self) -> None:
        self._episodes.begin()
        self._idle, self._idle_infos = np.zeros(self.num_envs, dtype=np.bool_), {}

    def _final_observations(self, observations: Any, infos: Mapping[str, Any]) -> Any:
        """Find where episodes ended; None if the simulator does not tell."""
        told = (infos[name] for name in _LAST if name in infos)
        return next(told, None) if self._same_step else observations

    def _last_infos(
        self, ended: npt.NDArray[np.bool_], cut: npt.NDArray[np.bool_], observations: Any, infos: Mapping[str, Any]
    ) -> dict[int, Info]:
        """Tell of the last steps of episodes in SB3's words; tensors come to the host once, for all environments."""
        final = on_host(self._final_observations(observations, infos))
        source = infos.get("final_info", infos) if self._same_step else infos
        if not isinstance(source, Mapping):  # None, or one info for each as in gymnasium's earlier format
            source = infos if source is None else by_name(source)
        rows = on_host(rows_of(source, self.num_envs))
        last: dict[int, Info] = {}
        for index in map(int, np.flatnonzero(ended)):
            info = last[index] = info_of(rows, index, self.num_envs)
            if final is not None:  # or a simulator does not tell: then nothing is bootstrapped from it
                info["terminal_observation"] = row_of(final, index)
            is_cut = bool(cut[index])
            episode = self._episodes.end(index, is_cut, source, infos)
            if episode is not None:
                info["episode"] = episode
            info["TimeLimit.truncated"] = is_cut
        return last

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        frames: Any = on_host(self.env.render())
        if getattr(frames, "ndim", 0) == 4:  # one array of all, as simulators in torch give it
            return list(frames)
        return list(frames) if isinstance(frames, (tuple, list)) else [frames]

    def close(self) -> None:
        self.env.close()
        self._episodes.close()


def _sees_masks(env: VectorEnv[Any, Any, Any]) -> bool:
    """Tell whether a mask of resets reaches all that has a say: no wrapper, and not only half of a worker's state."""
    if isinstance(env, AsyncVectorEnv):
        return bool(env.shared_memory)  # without it a worker resets again in the next step
    return isinstance(env, SyncVectorEnv)


__all__ = ["GymnasiumVecEnv"]
