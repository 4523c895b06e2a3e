"""Constructor arguments: one signature out of host and mixins."""

from __future__ import annotations

import inspect
from typing import Any

import stable_baselines3.common.on_policy_algorithm as sb3

from sb3_ppo_variants.arguments.hints import did_you_mean


def host_parameters(cls: type, mixin: type) -> dict[str, inspect.Parameter]:
    """Return the constructor parameters of the host under a variant, in order and without ``self``.

    :param cls: a variant
    :param mixin: base of all our mixins; the first class that is not under it is the host
    """
    for base in cls.__mro__:
        if not issubclass(base, mixin) and issubclass(base, sb3.OnPolicyAlgorithm):
            return {name: p for name, p in inspect.signature(base.__init__).parameters.items() if name != "self"}
    raise TypeError(f"{cls.__name__} has no host under {mixin.__name__}")


def merged_signature(cls: type, mixin: type) -> inspect.Signature:
    """Describe the whole constructor: the host's parameters, then the mixins' keyword-only ones.

    :param cls: a variant, or a mixin that has no host yet
    :param mixin: base of all our mixins
    """
    defaults: dict[str, Any] = {}
    merged = dict(host_parameters(cls, mixin))
    setup = merged.pop("_init_setup_model", None)
    for base in reversed(cls.__mro__):
        if issubclass(base, mixin):
            defaults.update(vars(base).get("host_defaults", {}))
            own = inspect.signature(vars(base)["__init__"]).parameters if "__init__" in vars(base) else {}
            keywords = [p for p in own.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
            merged.update({p.name: p for p in keywords if p.name != "_init_setup_model"})
    for name in defaults.keys() & merged.keys():
        merged[name] = merged[name].replace(default=defaults[name])
    if setup is not None:
        merged["_init_setup_model"] = setup.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    return inspect.Signature(list(merged.values()))


def bind_host_arguments(cls: type, mixin: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name the host's positional arguments and fill in the variant's own defaults for them.

    :param cls: the variant
    :param mixin: base of all our mixins
    :param args: positional arguments, in the host's order
    :param kwargs: keyword arguments that no mixin took
    :return: the host's arguments by name
    :raises TypeError: for an unknown keyword, with the closest known one
    """
    known = {name: p for name, p in host_parameters(cls, mixin).items() if name != "_init_setup_model"}
    if len(args) > len(known):
        raise TypeError(f"{cls.__name__}() takes at most {len(known)} positional arguments, got {len(args)}")
    given = dict(zip(known, args))
    for name, value in kwargs.items():
        if name in given:
            raise TypeError(f"{cls.__name__}() got two values for `{name}`")
        if name not in known:
            hint = did_you_mean(name, inspect.signature(cls).parameters, "`", f"see help({cls.__name__})")
            raise TypeError(f"{cls.__name__}() got an unknown argument `{name}`{hint}")
        given[name] = value
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        defaults.update(vars(base).get("host_defaults", {}))
    return {**defaults, **given}


def values_of(cls: type, given: dict[str, Any], *names: str) -> list[Any]:
    """Return arguments as given, or their defaults.

    :param cls: the variant
    :param given: by name
    :param names: which
    """
    parameters = inspect.signature(cls).parameters
    return [given.get(name, parameters[name].default) for name in names]
