"""What somebody has hung onto a policy or its optimiser: hooks, patched methods, other options.

The fast path leaves out calls that hooks and patches wait for: each is an obstacle for the pieces that would skip it.
What the fast path was made for may be edited between two updates: the fingerprint shows that.
"""

import copy
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch as th
import torch.optim.optimizer as optimizers
from sb3_contrib import MaskablePPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import nn

from sb3_ppo_variants.update.policy_evaluation import KNOWN_PACKAGES, package_of

MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
GLOBAL_HOOKS = (
    *("_global_forward_hooks", "_global_forward_pre_hooks"),
    *("_global_backward_hooks", "_global_backward_pre_hooks"),
)
GLOBAL_OPTIMIZER_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")
_PATCHABLE = (
    *("forward", "evaluate_actions", "extract_features", "predict_values", "_get_action_dist_from_latent"),
    *("forward_actor", "forward_critic", "_process_sequence"),
)


_COLLECTIONS = (OnPolicyAlgorithm.collect_rollouts, MaskablePPO.collect_rollouts)
_OURS = __name__.partition(".")[0]


class LibraryMethods:
    """Methods of library classes as they are now: a class that is patched later is not the library's any more.

    :param names: of the methods
    :param bases: classes that have them
    """

    def __init__(self, names: Iterable[str], *bases: type[Any]):
        self.of = {base: {name: getattr(base, name) for name in names} for base in bases}

    def knows(self, policy: Any) -> bool:
        """Tell whether a policy is of one of the classes."""
        return isinstance(policy, tuple(self.of))

    def overridden(self, policy: Any) -> list[str]:
        """List the methods that the class of a known policy has of its own."""
        base = next(base for base in self.of if isinstance(policy, base))
        return [name for name, method in self.of[base].items() if getattr(type(policy), name) is not method]


class StandIn:
    """What takes the place of a policy's method for a while.

    A copy or pickle of the policy made meanwhile, by a callback say, gets the ordinary method back.

    :param policy: of SB3 or contrib
    :param method: name of the method
    :param still_fits: asked at the first call: whether the policy is as it was when this was chosen
    """

    def __init__(self, policy: Any, method: str, still_fits: Callable[[], bool] = lambda: True):
        self.policy = policy
        self.method = method
        self.still_fits = still_fits
        self._serves: bool | None = None

    def serves(self) -> bool:
        """Tell whether to do it; where not, the ordinary method does, until it is put in place again."""
        if self._serves is None:
            self._serves = self.still_fits()
        return self._serves

    def put_in_place(self) -> None:
        """Take the method's place."""
        self._serves = None
        setattr(self.policy, self.method, self)

    def ordinary(self) -> Any:
        """Return the method whose place this takes."""
        return _method_of(self.policy, self.method)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _method_of(copy.deepcopy(self.policy, memo), self.method)

    def __reduce__(self) -> Any:
        return getattr, (self.policy, self.method)


class Parts:
    """Modules, parameters and buffers of a policy, and where in memory its parameters are.

    :param policy: that has them
    :param modules: of the policy, whose children and tensors count
    """

    def __init__(self, policy: nn.Module, modules: Iterable[nn.Module]):
        self._parameters = list(policy.parameters())
        self._places = self._memory()
        holders = [held for m in modules for held in (m._modules, m._parameters, m._buffers) if held]
        self._holders, self._names, self._parts = zip(*((held, *item) for held in holders for item in held.items()))

    def in_place(self) -> bool:
        """Tell whether all are the same objects as before, with their parameters in the same memory."""
        found: Any = map(dict.get, self._holders, self._names)
        return self._memory() == self._places and all(map(operator.is_, found, self._parts))

    def _memory(self) -> list[int]:
        return list(map(th.Tensor.data_ptr, self._parameters))


def _method_of(policy: Any, method: str) -> Any:
    return inspect.getattr_static(type(policy), method).__get__(policy, type(policy))  # a static one is not bound


def is_replaced(module: nn.Module, method: str) -> bool:
    """Tell whether somebody has put another method onto a module.

    Not so what the fast path puts there for a while, and what a copy made meanwhile has: its class's own method.

    :param module: a policy, or a part of one
    :param method: its name
    """
    own = vars(module).get(method)
    if own is None or isinstance(own, StandIn) or own is getattr(type(module), method, None):  # the last if static
        return False
    return getattr(own, "__self__", None) is not module or own.__func__ is not getattr(type(module), method, None)


@contextmanager
def standing_in(*stand_ins: StandIn) -> Iterator[None]:
    """Put stand-ins onto their policies for a while; what somebody has put in their place meanwhile stays.

    :param stand_ins: of different methods
    """
    for stand_in in stand_ins:
        stand_in.put_in_place()
    try:
        yield
    finally:
        for stand_in in stand_ins:
            if vars(stand_in.policy).get(stand_in.method) is stand_in:
                delattr(stand_in.policy, stand_in.method)


def replaces_collection(algorithm: object) -> bool:
    """Tell whether a model collects rollouts in another way than SB3's or contrib's loop, or does more around it.

    :param algorithm: the model
    """
    name = "collect_rollouts"
    loops = [vars(cls)[name] for cls in type(algorithm).__mro__ if name in vars(cls)]
    return name in vars(algorithm) or any(loop not in _COLLECTIONS and package_of(loop) != _OURS for loop in loops)


def watches_infos(algorithm: object) -> bool:
    """Tell whether somebody's own ``_update_info_buffer`` is called at every step of a rollout.

    :param algorithm: the model
    """
    name = "_update_info_buffer"
    kinds = (kind for kind in type(algorithm).__mro__ if name in vars(kind))
    return name in vars(algorithm) or any(package_of(kind) not in KNOWN_PACKAGES for kind in kinds)


def module_obstacle(policy: nn.Module) -> str | None:
    """Say what on a policy's modules waits for calls that the fast path does not make; None for nothing.

    :param policy: any policy
    """
    if any(getattr(nn.modules.module, name) for name in GLOBAL_HOOKS):
        return "there is a hook on all modules"
    for name, module in policy.named_modules():
        where = name or "the policy"
        if any(getattr(module, hooks) for hooks in MODULE_HOOKS):
            return f"there is a hook on {where}"
        patched = patched_methods(module)
        if patched:
            return f"{patched[0]}() of {where} is replaced"
    return None


def parameter_obstacle(policy: nn.Module) -> str | None:
    """Say which parameter's hook waits for autograd; None for none.

    :param policy: any policy
    """
    for name, parameter in policy.named_parameters():
        if any(getattr(parameter, hooks, None) for hooks in PARAMETER_HOOKS):
            return f"there is a hook on {name}"
    return None


def optimizer_obstacle(optimizer: th.optim.Optimizer) -> str | None:
    """Say what waits for a call of the optimiser; None for nothing.

    :param optimizer: of a policy
    """
    everywhere = any(getattr(optimizers, hooks) for hooks in GLOBAL_OPTIMIZER_HOOKS)
    if everywhere or any(getattr(optimizer, hooks, None) for hooks in OPTIMIZER_HOOKS):
        return "there is a hook on the optimiser"
    return "step() of the optimiser is wrapped, as schedulers do" if "step" in vars(optimizer) else None


def patched_methods(module: nn.Module) -> list[str]:
    """List which methods that the fast path leaves out somebody has replaced on a module.

    :param module: a policy, or a part of one
    """
    own = vars(module)
    return [method for method in _PATCHABLE if method in own and is_replaced(module, method)]


def is_patched_object(one: object) -> bool:
    """Tell whether an object has a method of its own in place of its class's.

    :param one: such as a callback, an environment, a distribution
    """
    return any(callable(getattr(type(one), name, None)) for name in vars(one))


def counts(owner: object, names: Iterable[str]) -> tuple[int, ...]:
    """Count what an object holds under some names, as of hooks.

    :param owner: of them
    :param names: of collections, or of what is not there
    """
    return tuple(len(getattr(owner, name, None) or ()) for name in names)


__all__ = [
    "GLOBAL_HOOKS",
    "GLOBAL_OPTIMIZER_HOOKS",
    "MODULE_HOOKS",
    "OPTIMIZER_HOOKS",
    "PARAMETER_HOOKS",
    "LibraryMethods",
    "Parts",
    "StandIn",
    "counts",
    "is_patched_object",
    "is_replaced",
    "module_obstacle",
    "optimizer_obstacle",
    "parameter_obstacle",
    "patched_methods",
    "replaces_collection",
    "standing_in",
    "watches_infos",
]
