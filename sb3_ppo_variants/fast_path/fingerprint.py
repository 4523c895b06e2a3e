"""What the fast path was made for, as it may be edited between two updates; and what a graph keeps of it."""

from typing import Any

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
    found.append(counts(nn.modules.module, GLOBAL_HOOKS))
    found.append(counts(optimizers, GLOBAL_OPTIMIZER_HOOKS))
    return found


def plain_attributes(policy: nn.Module) -> dict[str, Any]:
    """Collect the numbers, words and tuples that modules keep, such as the rate of a dropout.

    :param policy: any policy
    :return: by the names of module and attribute
    """
    found: dict[str, Any] = {}
    for name, module in policy.named_modules():
        own = vars(module).items()
        found |= {f"{name}.{key}".lstrip("."): v for key, v in own if isinstance(v, _PLAIN) and key != "training"}
    return found


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
    return len(a) == len(b) and all(x is y or _equal(x, y) for x, y in zip(a, b))


def _equal(x: Any, y: Any) -> bool:
    return not isinstance(x, (th.Tensor, nn.Module)) and type(x) is type(y) and bool(x == y)


__all__ = ["fingerprint", "own_attributes", "plain_attributes", "same_fingerprint"]
