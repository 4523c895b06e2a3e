"""NaN and infinity: where they came from, said before any parameter is harmed."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th

from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.buffers import buffer_places
from sb3_ppo_variants.update.policy_evaluation import foreign_module
from sb3_ppo_variants.update.update_metrics import TraceRecorder

_ROLLOUT_CAUSES = (
    "the environment returns it (wrap it in stable_baselines3's VecCheckNan to find the step that does); rewards or "
    "observations of extreme scale (normalise them with VecNormalize, whose statistics a NaN ruins, too); a features "
    "extractor of your own"
)
_UPDATE_CAUSES = (
    "the learning rate is too high; rewards or returns of extreme scale (normalise them with VecNormalize); a policy "
    "that became almost deterministic (lower the learning rate, or raise ent_coef); a policy or features extractor of "
    "your own"
)
_MOST_SKIPPED = 0.5
_OF_SEVERAL_STEPS = ("advantages", "returns")
# What torch, numpy and Python raise at NaN. A class of its own, of a callback's say, tells more than this module knows.
_RAISED_AT_NAN = (
    *(ValueError, RuntimeError, AssertionError, IndexError),
    *(FloatingPointError, OverflowError, ZeroDivisionError),
)
_REFUSALS = ("Expected parameter", "probability tensor contains")  # torch.distributions' words, torch.multinomial's


class NonFiniteUpdateError(FloatingPointError):
    """NaN or infinity in the data or the gradients of an update.

    When it is raised the model holds the parameters and the optimiser state of the last good step and can be saved.
    """


class StepGuard:
    """Decides which optimiser steps of an update are not taken, and counts them.

    :param one_by_one: False: after one step that is not finite none is taken until the next update
    """

    def __init__(self, one_by_one: bool = False):
        self.one_by_one = one_by_one
        self.halted = False
        self.count = 0

    def refuses(self, loss_and_norm: float) -> bool:
        """Decide about a step.

        :param loss_and_norm: sum of the loss and the gradient's norm, which is finite if both are
        """
        refused = self.halted or not math.isfinite(loss_and_norm)
        self.halted = refused and not self.one_by_one
        self.count += refused
        return refused


def check_rollout(model: UpdatedAlgorithm) -> None:
    """Refuse a rollout with NaN or infinity in it, before the update begins.

    :param model: whose rollout buffer is full
    :raises NonFiniteUpdateError: naming the quantity, the timestep and the environment
    """
    buffer = model.rollout_buffer
    observations = getattr(buffer, "observations", None)  # a buffer of somebody's own may keep them elsewhere
    quantities: dict[str, Any]
    if isinstance(observations, dict):
        quantities = {f"observations[{key!r}]": value for key, value in observations.items()}
    else:
        quantities = {"observations": observations}
    names = ("actions", "rewards", "values", "log_probs", *_OF_SEVERAL_STEPS)
    quantities |= {name: getattr(buffer, name, None) for name in names}
    found = {name: bad for name, array in quantities.items() if (bad := _first_bad(array)) is not None}
    if not found:
        return
    if all(name.startswith("observations") for name in found) and foreign_module(model.policy) is not None:
        return  # a module of the user's own has made numbers of them, as of the values of sensors that are missing
    places = {name: _step_and_env(model, quantities[name], bad) for name, bad in found.items()}
    # The first step of all; of one step what stands first: each may follow from what stands before it
    name = min(found, key=lambda name: (name in _OF_SEVERAL_STEPS, places[name][0]))
    value, (step, env) = float(quantities[name][found[name]]), places[name]
    timestep = model.num_timesteps - (buffer.buffer_size - 1 - step) * model.n_envs * model.ranks.size
    raise NonFiniteUpdateError(
        f"{value} in the {name} of environment {env} at timestep {timestep} (step {step} of the rollout); "
        f"no update was made. Likely causes, in order: {_ROLLOUT_CAUSES}"
    )


def check_steps(model: UpdatedAlgorithm, trace: TraceRecorder, skipped: int) -> None:
    """Look at the minibatches so far, once per epoch.

    :param model: being updated
    :param trace: of the update
    :param skipped: steps of the update so far that were not taken
    :raises NonFiniteUpdateError: naming minibatch and quantities; with ``on_nonfinite="skip"`` only if more than half
        of the update's minibatches were left out
    """
    one_by_one = model.on_nonfinite == "skip"
    if skipped <= (_MOST_SKIPPED * trace.n_epochs * trace.minibatches_per_epoch if one_by_one else 0):
        return
    index, epoch, row = trace.first_skipped()
    what = ", ".join(f"{name} = {value}" for name, value in zip(trace.names, row) if not np.isfinite(value))
    skipping = f"; {skipped} minibatches of this update were skipped" if one_by_one else ""
    raise NonFiniteUpdateError(
        f"{what or 'a gradient that is not finite'} in minibatch {index} of epoch {epoch} of the update at timestep "
        f"{model.num_timesteps}{skipping}. Its step was not taken: the model holds the parameters and the optimiser "
        f"state from before and can be saved. Likely causes, in order: {_update_causes(model)}"
    )


def _update_causes(model: UpdatedAlgorithm) -> str:
    rate = model.policy.optimizer.param_groups[0]["lr"]
    below = (
        f"the learning rate is {rate:.3g}: a rollout that goes beyond total_timesteps takes a linear schedule below 0; "
    )
    return (below if rate < 0 else "") + _UPDATE_CAUSES


@contextmanager
def finite_buffers(policy: Any) -> Iterator[None]:
    """Take running statistics that an update made NaN or infinite back to what they were before it.

    Batch normalisation takes them in the forward pass, before anything can be refused.

    :param policy: being updated
    """
    kept = [(place, place.tensor.clone()) for place in buffer_places(policy, floating=True)]
    try:
        yield
    finally:
        for place, value in kept:
            if not th.isfinite(place.tensor).all():
                with th.no_grad():
                    place.put(value)


@contextmanager
def guarded_update(model: UpdatedAlgorithm) -> Iterator[None]:
    """Keep running statistics finite, and say what is not finite, while a policy is updated.

    :param model: whose policy it is
    :raises NonFiniteUpdateError: as :func:`explained`
    """
    with explained(model, "updating the policy"), finite_buffers(model.policy):
        yield


@contextmanager
def explained(model: UpdatedAlgorithm, doing: str) -> Iterator[None]:
    """Say what is not finite when something fails because of it: torch's distributions refuse NaN, simulators crash.

    An error of a class of its own passes as it is.

    :param model: collecting or updating
    :param doing: what, for the message
    :raises NonFiniteUpdateError: in place of the error, which becomes its cause
    """
    try:
        yield
    except _RAISED_AT_NAN as error:
        if type(error) not in _RAISED_AT_NAN:
            raise
        what = _bad_state(model)
        if what is None and any(words in str(error) for words in _REFUSALS):
            what = "NaN in the policy's output"
        if what is None:
            raise
        raise NonFiniteUpdateError(
            f"{what} while {doing} at timestep {model.num_timesteps}. Likely causes, in order: "
            f"{_ROLLOUT_CAUSES}; {_update_causes(model)}"
        ) from error


def _bad_state(model: UpdatedAlgorithm) -> str | None:
    observations = model._last_obs if isinstance(model._last_obs, dict) else {"observation": model._last_obs}
    if foreign_module(model.policy) is not None:  # as in check_rollout
        observations = {}
    for name, array in observations.items():
        bad = None if array is None else _first_bad(np.asarray(array))
        if bad is not None:
            return f"{np.asarray(array)[bad]} in the last {name} of environment {bad[0]}"
    for name, parameter in model.policy.named_parameters():
        if not th.isfinite(parameter.detach()).all():
            return f"the parameter {name} is not finite"
    return None


def _first_bad(array: Any) -> tuple[int, ...] | None:
    """Find the first entry that is NaN or infinite; what is neither an array nor a tensor has none."""
    if isinstance(array, th.Tensor):
        finite = th.isfinite(array).cpu().numpy()
    elif isinstance(array, np.ndarray) and array.dtype.kind == "f":
        finite = np.isfinite(array)
    else:
        return None
    return None if finite.all() else tuple(int(i) for i in np.argwhere(~finite)[0])


def _step_and_env(model: UpdatedAlgorithm, array: Any, index: tuple[int, ...]) -> tuple[int, int]:
    n_steps = model.rollout_buffer.buffer_size
    if array.shape[:2] == (n_steps, model.n_envs):
        return index[0], index[1]
    env, step = divmod(index[0], n_steps)  # once minibatches were read, one environment stands after the other
    return step, env
