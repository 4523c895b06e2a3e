"""The state of vectorised environments in the middle of their episodes, taken out of one stack and put into another.

An environment's state is the attributes of its layers (wrappers and environment). They are pickled together, so that
what they share stays shared.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize

from sb3_ppo_variants.checkpoints.layer_pickle import pickled, unpickled
from sb3_ppo_variants.vec_env.gymnasium_vec_env import GymnasiumVecEnv
from sb3_ppo_variants.vec_env.lean_vec_env import LeanVecEnv

_OF_THE_PROCESS = {"venv", "class_attributes", "results_writer"}
_OF_A_VEC_ENV = ("reset_infos", "_seeds", "_options")


class CheckpointableEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Makes an environment's state reachable from outside its process.

    Each environment of a ``SubprocVecEnv`` needs one, around all other wrappers:
    ``make_vec_env(..., wrapper_class=CheckpointableEnv)``. What is outside of it would be lost.
    """

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which a :class:`SubprocVecEnv` tells that this is the outermost layer."""
        return CheckpointableEnv.__name__

    def state_dict(self) -> "bytes | _Obstacle":
        """Return the state of the wrapped environment, or what is in the way of it."""
        try:
            return _pickled(list(_layers_of_env(self.env)))
        except Exception as error:  # whatever the environment's own objects raise
            return _Obstacle(_words(error))

    def load_state_dict(self, state: bytes) -> "_Obstacle | None":
        """Continue where :meth:`state_dict` was called.

        :param state: of an environment that was built in the same way
        :return: what is in the way of it, if anything
        """
        try:
            _put(state, list(_layers_of_env(self.env)))
        except Exception as error:  # as above
            return _Obstacle(_words(error))
        return None


class _Obstacle(NamedTuple):
    """What a :class:`CheckpointableEnv` answers in place of an error, which would end its process."""

    reason: str


class _OutOfReachError(Exception):
    """That answer, on this side."""


class EnvironmentState(NamedTuple):
    """State of a vectorised environment.

    :param layers: what it is built of, in the order of ``_layers``
    :param content: pickled; None where it could not be taken
    :param obstacle: why not
    :param normalization: attributes of each VecNormalize, from the outermost; these are kept in any case
    """

    layers: list[str]
    content: bytes | None
    obstacle: str | None
    normalization: list[bytes]


def take_state(venv: VecEnv, obstacle: str | None = None) -> EnvironmentState:
    """Take the state out of an environment, which stays as it is.

    :param venv: between two steps
    :param obstacle: why no run can go on from where it is, if it cannot: then the normalisation is all that is taken
    """
    layers = list(_layers(venv))
    content = None
    if obstacle is None:
        try:
            content = _pickled(layers)
        except Exception as error:  # whatever the environment's own objects raise
            obstacle = _words(error)
    normalization = [_pickled([layer]) for layer in layers if isinstance(layer, VecNormalize)]
    return EnvironmentState(_names(layers), content, obstacle, normalization)


def put_state(state: EnvironmentState, venv: VecEnv) -> str | None:
    """Put a state into an environment that was built in the same way, or the normalisation if that is all there is.

    :param state: from :func:`take_state`
    :param venv: which takes it on
    :return: why the environment has to be reset, or None if it continues its episodes
    :raises ValueError: if there are fewer or more VecNormalize than there were
    """
    layers = list(_layers(venv))
    normalizers = [layer for layer in layers if isinstance(layer, VecNormalize)]
    if len(normalizers) != len(state.normalization):
        raise ValueError(
            f"the checkpoint holds the statistics of {len(state.normalization)} VecNormalize, got an environment with "
            f"{len(normalizers)}; wrap it as in the first run"
        )
    for normalizer, content in zip(normalizers, state.normalization):
        _put(content, [normalizer])
    if state.content is None:
        return state.obstacle
    if _names(layers) != state.layers:
        return f"it is built of {_names(layers)}, not of {state.layers}"
    try:
        _put(state.content, layers)
    except Exception as error:  # a class in it may have moved, or its loading may fail
        return _words(error)
    return None


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, _OutOfReachError) else f"{type(error).__name__}: {error}"


def _layers(venv: VecEnv) -> Iterator[Any]:
    """Yield wrappers from the outermost, the vectorised environment, then wrappers and environment of each part."""
    while isinstance(venv, VecEnvWrapper):
        yield venv
        venv = venv.venv
    yield venv
    if isinstance(venv, DummyVecEnv):
        for env in venv.envs:
            yield from _layers_of_env(env)


def _layers_of_env(env: gym.Env[Any, Any]) -> Iterator[Any]:
    yield env
    while isinstance(env, gym.Wrapper) and not _speaks_for_itself(env):
        env = env.env
        yield env


def _names(layers: list[Any]) -> list[str]:
    # a LeanVecEnv has the state of a DummyVecEnv, which is one for the time of a rollout
    return [(DummyVecEnv if type(layer) is LeanVecEnv else type(layer)).__qualname__ for layer in layers]


def _speaks_for_itself(layer: Any) -> bool:
    if getattr(type(layer), "state_dict", None) is CheckpointableEnv.state_dict:  # in one process a wrapper like others
        return False
    return hasattr(type(layer), "state_dict") and hasattr(type(layer), "load_state_dict")


def _reaches_outermost(venv: VecEnv) -> bool:
    """Tell whether what answers to ``state_dict`` in other processes are the environments as a whole.

    :param venv: that finds methods of inner wrappers, too
    """
    if not venv.has_attr("state_dict"):
        return False
    if not venv.has_attr("class_name"):  # a method of wrappers: there is none
        return True
    return set(venv.env_method("class_name")) == {CheckpointableEnv.__name__}


def _answered(answer: Any) -> Any:
    if isinstance(answer, _Obstacle):
        raise _OutOfReachError(answer.reason)
    return answer


def _state_of(layer: Any) -> Any:
    if _speaks_for_itself(layer):
        return _answered(layer.state_dict())
    if isinstance(layer, VecEnv) and not isinstance(layer, VecEnvWrapper):
        state = {name: getattr(layer, name) for name in _OF_A_VEC_ENV}
        if not isinstance(layer, DummyVecEnv):
            # a GymnasiumVecEnv counts episodes itself, and its environments are restored together or not at all
            if isinstance(layer, GymnasiumVecEnv) or not _reaches_outermost(layer):
                way_out = "put each into a CheckpointableEnv, around all other wrappers, and these into a SubprocVecEnv"
                raise TypeError(f"the environments of a {type(layer).__name__} are out of reach; {way_out}")
            state["envs"] = list(map(_answered, layer.env_method("state_dict")))
        return state
    left_out = _OF_THE_PROCESS if isinstance(layer, (VecEnvWrapper, Monitor)) else ()
    state = {name: value for name, value in _attributes(layer).items() if name not in left_out}
    if hasattr(layer, "clone_state") and "ale" in state:  # the emulator of ale_py.AtariEnv has a pickle of its own
        state["ale"] = layer.clone_state(include_rng=True)
    return state


def _restore(layer: Any, state: Any) -> None:
    if _speaks_for_itself(layer):
        _answered(layer.load_state_dict(state))
        return
    if "ale" in state and hasattr(layer, "restore_state"):
        layer.restore_state(state.pop("ale"))
    if isinstance(layer, VecEnv) and "envs" in state:
        for i, content in enumerate(state.pop("envs")):
            _answered(layer.env_method("load_state_dict", content, indices=i)[0])
    slots = _slots(layer)
    for name in slots & state.keys():
        object.__setattr__(layer, name, state.pop(name))
    vars(layer).update(state)


def _attributes(layer: Any) -> dict[str, Any]:
    return {**{name: getattr(layer, name) for name in _slots(layer) if hasattr(layer, name)}, **vars(layer)}


def _slots(layer: Any) -> set[str]:
    """Name the attributes that a layer's classes keep outside its dictionary."""
    named = [(cls, vars(cls).get("__slots__", ())) for cls in type(layer).__mro__]
    every = {_mangled(cls, name) for cls, slots in named for name in ((slots,) if isinstance(slots, str) else slots)}
    return every - {"__dict__", "__weakref__"}


def _mangled(cls: type, name: str) -> str:
    """Return the name that Python gives a private attribute."""
    private = name.startswith("__") and not name.endswith("__")
    return f"_{cls.__name__.lstrip('_')}{name}" if private else name


def _pickled(layers: list[Any]) -> bytes:
    return pickled(list(map(_state_of, layers)), layers)


def _put(content: bytes, layers: list[Any]) -> None:
    for layer, state in zip(layers, unpickled(content, layers)):
        _restore(layer, state)


__all__ = ["CheckpointableEnv", "EnvironmentState", "put_state", "take_state"]
