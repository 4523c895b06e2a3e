"""What the fast path was made for, as it may be edited between two updates; and what a graph keeps of it."""

import types
from typing import Any

import numpy as np
import torch as th
import torch.optim.optimizer as optimizers
from torch import nn

from sb3_ppo_variants.fast_path.interception import (
    GLOBAL_HOOKS,
    GLOBAL_OPTIMIZER_HOOKS,
    MODULE_HOOKS,
    OPTIMIZER_HOOKS,
    PARAMETER_HOOKS,
    counts,
    is_patched_object,
    patched_methods,
)
from sb3_ppo_variants.update.policy_evaluation import KNOWN_PACKAGES, package_of

_PLAIN = (bool, int, float, str, tuple)
_OF_EVERY_MODULE = frozenset({*vars(nn.Module()), "training"})
_BY_VALUE = (bool, int, float, complex, str, bytes, frozenset, th.dtype, np.generic)
_DEEPEST = 4  # containers and objects in one another
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining", "start_time", "n_epochs")


def fingerprint(policy: Any) -> list[Any]:
    """List everything whose change makes the pieces be chosen and checked anew.

    Objects stand for themselves: as long as the list is kept, no new object can have the place of one in it.

    :param policy: any policy
    """
    optimizer = policy.optimizer
    found: list[Any] = [optimizer, type(optimizer), "step" in vars(optimizer), counts(optimizer, OPTIMIZER_HOOKS)]
    distribution = getattr(policy, "action_dist", None)
    if distribution is not None:
        options = [(k, v) for k, v in vars(distribution).items() if isinstance(v, _PLAIN)]  # such as to use expln
        bijector = type(getattr(distribution, "bijector", None))  # of gSDE, which squashes with one
        found += [type(distribution), bijector, is_patched_object(distribution), *options]
    for group in optimizer.param_groups:
        found += [len(group["params"]), *((k, v) for k, v in group.items() if k not in ("params", "lr", "initial_lr"))]
    for module in policy.modules():
        own = vars(module)
        hooks = [len(own[name]) for name in MODULE_HOOKS]
        found += [module, type(module), patched_methods(module), hooks]
    for parameter in policy.parameters():
        found += [parameter, parameter.requires_grad, parameter.dtype, counts(parameter, PARAMETER_HOOKS)]
    found += [getattr(policy, "_compiled_call_impl", None), counts(nn.modules.module, GLOBAL_HOOKS)]
    found.append(counts(optimizers, GLOBAL_OPTIMIZER_HOOKS))
    return found


def plain_attributes(policy: nn.Module) -> dict[str, Any]:
    """Collect what modules keep and a graph takes for constant, such as the rate of a dropout.

    Of modules that somebody has written that may be in lists, dictionaries and objects, in their classes, or in global
    variables that their methods name, too.

    :param policy: any policy
    :return: by the names of module and attribute, for :func:`changed_attribute`
    """
    found: dict[str, Any] = {}
    for name, module in policy.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}
        if package_of(type(module)) in KNOWN_PACKAGES:
            own = {key: value for key, value in own.items() if isinstance(value, _PLAIN)}
        else:
            foreign = [kind for kind in type(module).__mro__ if package_of(kind) not in (*KNOWN_PACKAGES, "builtins")]
            of_classes = [item for kind in foreign for item in vars(kind).items()]
            own = {key: value for key, value in of_classes if isinstance(value, _PLAIN) and key[:2] != "__"} | own
            own = {key: value for _, method in of_classes for key, value in _globals_of(method)} | own
        found |= {f"{name}.{key}".lstrip("."): _frozen(value) for key, value in own.items()}
    return found


def _globals_of(method: Any) -> list[tuple[str, Any]]:
    """List the variables of its file that a function names, if they may be numbers: no modules, functions, classes."""
    if not isinstance(method, types.FunctionType):
        return []
    known = [(name, method.__globals__.get(name)) for name in method.__code__.co_names]
    return [(name, value) for name, value in known if isinstance(value, (*_PLAIN, list, dict, set))]


def _frozen(value: Any, depth: int = 0) -> Any:
    """Copy containers, and what objects of somebody's own hold, as tuples; all else stands for itself."""
    if depth == _DEEPEST or isinstance(value, (str, type, nn.Module)):
        return value
    if isinstance(value, dict):
        return tuple((key, _frozen(one, depth + 1)) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(one, depth + 1) for one in value)
    if isinstance(value, (set, frozenset)):
        return frozenset(value)
    foreign = package_of(type(value)) not in (*KNOWN_PACKAGES, "builtins", "numpy")
    return (value, _frozen(vars(value), depth + 1)) if foreign and hasattr(value, "__dict__") else value


def same_value(x: Any, y: Any) -> bool:
    """Compare numbers and words by value, lists and tuples part by part, all else by identity; NaN equals NaN.

    :param x: of an attribute
    :param y: of it at another time
    """
    if x is y:
        return True
    if type(x) is not type(y):
        return False
    if isinstance(x, (list, tuple)):
        return len(x) == len(y) and all(map(same_value, x, y))
    return isinstance(x, _BY_VALUE) and bool(x == y or (x != x and y != y))


def changed_attribute(now: dict[str, Any], then: dict[str, Any]) -> str | None:
    """Name the first attribute that is not what it was.

    :param now: from :func:`plain_attributes`
    :param then: from an earlier call
    """
    return next((name for name in {**now, **then} if not same_value(now.get(name), then.get(name))), None)


def own_attributes(algorithm: object) -> dict[str, str]:
    """Write out the plain attributes of a model whose class somebody else has written: a graph keeps their values.

    :param algorithm: the model
    :return: by name; nothing of a class of this package or of SB3, whose numbers enter a graph as coefficients
    """
    if all(package_of(kind) in (*KNOWN_PACKAGES, "abc", "builtins") for kind in type(algorithm).__mro__):
        return {}
    return {k: repr(v) for k, v in vars(algorithm).items() if isinstance(v, (*_PLAIN, list)) and k not in _COUNTERS}


def same_fingerprint(a: list[Any], b: list[Any]) -> bool:
    """Compare two fingerprints: parameters and modules by identity, everything else by value.

    :param a: of a policy
    :param b: of a policy
    """
    return len(a) == len(b) and all(map(same_value, a, b))


__all__ = ["changed_attribute", "fingerprint", "own_attributes", "plain_attributes", "same_fingerprint"]
