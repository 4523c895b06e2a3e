"""Attributes and methods of the environments inside a gymnasium vector environment, asked for as SB3 asks for them."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.vec_env.vector_infos import has_rows, row_of

_OF_ASYNC = ("reset", "step", "close", "_setattr", "_check_spaces")  # names at which its processes end


class AttributesOfParts(VecEnv):
    """What concerns the single environments, or the simulator if there are none.

    :param env: the vector environment
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]):
        self.env = env
        self._known = isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv))
        self._envs: Sequence[gym.Env[Any, Any]] | None = getattr(env.unwrapped, "envs", None) if self._known else None
        self._pipes = isinstance(env.unwrapped, AsyncVectorEnv)
        self._there: set[str] = set()  # attributes of the processes' environments
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def has_attr(self, attr_name: str) -> bool:
        """Tell whether all environments have it; gymnasium's processes end at a question for what is not there."""
        if self._pipes and self._wrapper_with(attr_name) is None:
            return all(self.env.unwrapped.call("has_wrapper_attr", attr_name))  # type: ignore[attr-defined]  # has it
        return super().has_attr(attr_name)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        wrapper = self._wrapper_with(attr_name)
        if wrapper is not None:
            return self._of_all(getattr(wrapper, attr_name), indices)
        if self._pipes:
            self._require_in_processes(attr_name)
            of_each = self.env.unwrapped.get_attr(attr_name)  # type: ignore[attr-defined]  # has it
            return [of_each[i] for i in self._get_indices(indices)]
        if self._envs is not None:
            return [self._envs[i].get_wrapper_attr(attr_name) for i in self._get_indices(indices)]
        return self._of_all(getattr(self._owner(attr_name), attr_name), indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        wrapper = self._wrapper_with(attr_name)
        if self._envs is not None and wrapper is None:
            for i in self._get_indices(indices):
                self._envs[i].set_wrapper_attr(attr_name, value)
            return
        self._require_all("set_attr", indices)
        if wrapper is not None:
            setattr(wrapper, attr_name, value)
            return
        if self._pipes:
            self.env.unwrapped.set_attr(attr_name, [value] * self.num_envs)  # type: ignore[attr-defined]  # has it
            return
        try:
            owner = self._owner(attr_name)
        except AttributeError:
            owner = self.env.unwrapped
        setattr(owner, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        wrapper = self._wrapper_with(method_name)
        if wrapper is not None:
            return self._of_all(getattr(wrapper, method_name)(*args, **kwargs), indices)
        if self._envs is not None:
            chosen = [self._envs[i] for i in self._get_indices(indices)]
            return [env.get_wrapper_attr(method_name)(*args, **kwargs) for env in chosen]
        if self._pipes:
            self._require_all("env_method", indices)
            self._require_in_processes(method_name)
            return list(self.env.unwrapped.call(method_name, *args, **kwargs))  # type: ignore[attr-defined]  # has it
        return self._of_all(getattr(self._owner(method_name), method_name)(*args, **kwargs), indices)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Tell which are wrapped; all in ``Monitor``, as episodes are counted here. Processes are not asked: False."""
        chosen = list(self._get_indices(indices))
        if issubclass(wrapper_class, Monitor):
            return [True] * len(chosen)
        return [self._envs is not None and is_wrapped(self._envs[i], wrapper_class) for i in chosen]

    def _owner(self, name: str) -> Any:
        """Find the layer of a simulator that has an attribute."""
        layer: Any = self.env
        while not hasattr(layer, name):
            if not isinstance(layer, VectorWrapper):
                raise AttributeError(f"{type(self.env.unwrapped).__name__} has no attribute {name!r}")
            layer = layer.env
        return layer

    def _wrapper_with(self, name: str) -> Any:
        """Find a wrapper of gymnasium's vector environments that has an attribute of its own."""
        layer: Any = self.env
        while self._known and isinstance(layer, VectorWrapper):
            if hasattr(layer, name) and not hasattr(VectorWrapper, name) and name not in ("env", "num_envs"):
                return layer
            layer = layer.env
        return None

    def _require_in_processes(self, name: str) -> None:
        """Refuse what ends gymnasium's processes: what is not there, and what they keep to themselves."""
        rule, way_out = "AsyncVectorEnv keeps some methods to itself", "call it on the vectorised environment"
        require(name not in _OF_ASYNC, rule, name, way_out)
        if name not in self._there and not self.has_attr(name):
            raise AttributeError(f"the environments have no attribute {name!r}")
        self._there.add(name)

    def _of_all(self, values: Any, indices: VecEnvIndices) -> list[Any]:
        """Give each environment its part of an array of all, or what is the same for all."""
        of_each = hasattr(values, "ndim") and has_rows(values, self.num_envs)
        return [row_of(values, i) if of_each else values for i in self._get_indices(indices)]

    def _require_all(self, method: str, indices: VecEnvIndices) -> None:
        chosen = list(self._get_indices(indices))
        everything = chosen == list(range(self.num_envs))
        way_out = "leave `indices` out"
        require(
            everything, f"{method} of {type(self.env.unwrapped).__name__} acts on all environments", chosen, way_out
        )


__all__ = ["AttributesOfParts"]
