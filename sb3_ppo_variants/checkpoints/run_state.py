"""What a training run consists of besides the model's own file: generators, environments, callbacks, pending logs.

Everything is taken and put back at the same place of SB3's loop: in ``on_rollout_start``. There the last update is
done, the noise of gSDE is drawn, and no step of the next rollout is taken yet.

The state is pickled, and a pickle names the module of every class in it. So that a module of this package may move, our
own classes go into it as dictionaries.
"""

import inspect
import random
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.checkpoints.environment_state import EnvironmentState, put_state, take_state
from sb3_ppo_variants.distributed.callback_tree import callbacks_of
from sb3_ppo_variants.distributed.ranks import ranks_of
from sb3_ppo_variants.update.update_metrics import UpdateTrace

_NOT_IN_THE_MODEL_FILE = ("_last_lstm_states",)
_OF_THE_RANK = ("_last_obs", "_last_episode_starts", "_last_original_obs")  # the model's file has them of rank 0
_PLAIN = (type(None), bool, int, float, str, np.ndarray, np.generic)
_LOGGED = ("name_to_value", "name_to_count", "name_to_excluded")
_APART, _SEEDS = 10**8, 2**31  # between the seeds of training and evaluations; below which seeds are
_NOISE = ("exploration_mat", "exploration_matrices")


class RunState(NamedTuple):
    """State of a run between an update and the next rollout.

    :param environment: the training environments: the fields of their :class:`EnvironmentState`
    :param attributes: of the model, which its own file leaves out
    :param last_update: the fields of its ``last_update``; None if it has none
    :param generators: states of Python's, numpy's and torch's global generators
    :param noise: exploration matrices of gSDE, drawn for the next rollout; None without, or if not drawn yet
    :param callbacks: state of each callback, by class name and its number among those of the class
    :param logged: what was recorded and waits for the next dump
    """

    environment: dict[str, Any]
    attributes: dict[str, Any]
    last_update: dict[str, Any] | None
    generators: dict[str, Any]
    noise: dict[str, th.Tensor] | None
    callbacks: dict[str, Any]
    logged: dict[str, Any]


def take_run_state(
    model: OnPolicyAlgorithm, callback: BaseCallback, at_end: bool, obstacle: str | None = None
) -> RunState:
    """Take the state of a run, which goes on undisturbed.

    :param model: in training
    :param callback: the root of its callbacks
    :param at_end: whether training is over, so that nothing was drawn for a next rollout
    :param obstacle: as of :func:`take_state`, of the training environments
    """
    assert model.env is not None  # it is training
    noise = model.policy.action_dist if model.use_sde and not at_end else None
    last_update: UpdateTrace | None = getattr(model, "last_update", None)
    names = _NOT_IN_THE_MODEL_FILE if ranks_of(model).first else (*_NOT_IN_THE_MODEL_FILE, *_OF_THE_RANK)
    return RunState(
        environment=take_state(model.env, obstacle)._asdict(),
        attributes={name: getattr(model, name) for name in names if hasattr(model, name)},
        last_update=None if last_update is None else vars(last_update),
        generators=_generators(model.device),
        noise=None if noise is None else {name: getattr(noise, name).detach() for name in _NOISE},
        callbacks={name: _callback_state(one) for name, one in named_callbacks(callback)},
        logged={name: _picklable_items(getattr(model.logger, name)) for name in _LOGGED},
    )


def put_attributes(state: RunState, model: OnPolicyAlgorithm) -> str | None:
    """Give a loaded model back what its file left out, and put its environments where they were.

    :param state: of the run
    :param model: just loaded, with its environments; of those that cannot be put back the next ``learn`` resets all
    :return: why the environments will be reset; None if they continue their episodes
    :raises ValueError: if the environments are not as many, or not normalised, as they were
    """
    assert model.env is not None  # the caller's
    obstacle = put_state(EnvironmentState(**state.environment), model.env)
    for name, value in state.attributes.items():
        setattr(model, name, _moved(value, model.device))
    if state.last_update is not None:
        model.last_update = UpdateTrace(**state.last_update)  # type: ignore[attr-defined]  # one of our classes
    if obstacle is not None:
        model._last_obs = None
        _seed_anew(model.env, model)
    return obstacle


def _seed_anew(env: VecEnv, model: OnPolicyAlgorithm, apart: int = 0) -> None:
    """Seed environments that begin again: their first seeds would repeat the first episodes of the run.

    :param env: of the training, or of an evaluation
    :param model: which is about to go on
    :param apart: number of the evaluation, from 1 on, whose episodes are not to be those of the training
    """
    ahead = model.num_timesteps + ranks_of(model).rank * env.num_envs + apart * _APART
    env.seed(None if model.seed is None else (model.seed + ahead) % _SEEDS)


def put_back(state: RunState, model: OnPolicyAlgorithm, callback: BaseCallback) -> None:
    """Put the rest back, at the place where the state was taken.

    :param state: of the run
    :param model: whose training has just begun
    :param callback: the root of its callbacks
    """
    for number, (name, one) in enumerate(named_callbacks(callback), start=1):
        if name in state.callbacks:
            _restore_callback(one, state.callbacks[name], model, number)
    for name, items in state.logged.items():
        getattr(model.logger, name).update(items)
    _restore_generators(state.generators, model.device)
    if model.use_sde and state.noise is None:
        model.policy.reset_noise(model.n_envs)
    elif state.noise is not None:
        for name, value in state.noise.items():
            setattr(model.policy.action_dist, name, value.to(model.device))


def named_callbacks(root: BaseCallback) -> Iterator[tuple[str, BaseCallback]]:
    """Name every callback of a tree, ``EvalCallback 0`` for the first of that class.

    :param root: of the tree
    """
    count: dict[str, int] = {}
    for callback in callbacks_of(root):
        kind = type(callback).__qualname__
        count[kind] = count.get(kind, -1) + 1
        yield f"{kind} {count[kind]}", callback


def _callback_state(callback: BaseCallback) -> Any:
    """Return what a callback offers by ``state_dict``, or its public attributes of plain data that nobody passed in."""
    if _speaks_for_itself(callback):
        return callback.state_dict()  # type: ignore[attr-defined]  # it has one
    makers = [vars(cls)["__init__"] for cls in type(callback).__mro__ if inspect.isfunction(vars(cls).get("__init__"))]
    passed_in = {name for maker in makers for name in inspect.signature(maker).parameters}
    skipped = {*passed_in, "locals", "globals", "parent", "model"}
    plain = {
        name: value
        for name, value in vars(callback).items()
        if name not in skipped and not name.startswith("_") and _is_plain(value)
    }
    evaluation = {"eval_env": take_state(callback.eval_env)._asdict()} if isinstance(callback, EvalCallback) else {}
    return {**plain, **evaluation}


def _restore_callback(callback: BaseCallback, state: Any, model: OnPolicyAlgorithm, number: int) -> None:
    if _speaks_for_itself(callback):
        callback.load_state_dict(state)  # type: ignore[attr-defined]  # it has one
        return
    evaluation = state.pop("eval_env", None)
    if evaluation is not None and isinstance(callback, EvalCallback):
        # It resets before each evaluation: this is for its generator.
        obstacle = put_state(EnvironmentState(**evaluation), callback.eval_env)
        if obstacle is not None:
            _seed_anew(callback.eval_env, model, apart=number)
            begins = "the environments of an EvalCallback begin with new seeds, their state is not restored"
            warnings.warn(f"{begins}: {obstacle}", stacklevel=2)
    vars(callback).update(state)


def _speaks_for_itself(callback: BaseCallback) -> bool:
    return hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict")


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple, set)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _picklable_items(logged: dict[str, Any]) -> dict[str, Any]:
    """Leave out figures and videos: only numbers and text wait for a dump longer than a step."""
    return {name: value for name, value in logged.items() if _is_plain(value)}


def _generators(device: th.device) -> dict[str, Any]:
    cuda = th.cuda.get_rng_state_all() if th.cuda.is_available() and th.cuda.is_initialized() else []
    own = th.cuda.get_rng_state(device) if device.type == "cuda" else None
    general = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": th.get_rng_state()}
    return {**general, "cuda": cuda, "own_cuda": own}


def _restore_generators(states: dict[str, Any], device: th.device) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    th.set_rng_state(states["torch"])
    if th.cuda.is_available():
        for number, state in enumerate(states["cuda"][: th.cuda.device_count()]):
            th.cuda.set_rng_state(state, number)
    if device.type == "cuda" and states.get("own_cuda") is not None:  # it may have had another number then
        th.cuda.set_rng_state(states["own_cuda"], device)


def _moved(value: Any, device: th.device) -> Any:
    """Move the tensors in nested tuples, such as the states of an LSTM."""
    if isinstance(value, th.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        parts = [_moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


__all__ = ["RunState", "named_callbacks", "put_attributes", "put_back", "take_run_state"]
