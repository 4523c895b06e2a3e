"""Constructor arguments: one signature and one docstring out of host and mixins."""

from __future__ import annotations

import abc
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import stable_baselines3.common.on_policy_algorithm as sb3

from sb3_ppo_variants.arguments.hints import did_you_mean

if TYPE_CHECKING:
    HostMethods = sb3.OnPolicyAlgorithm
else:
    HostMethods = object  # host_parameters looks for the first class under OnPolicyAlgorithm that is not ours

_PASSED_ON = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
_BY_KEYWORD = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
_FIELD = re.compile(r"^:(param|raises) (\w+):", flags=re.MULTILINE)
_DEFAULT = re.compile(r"\s*\((?:required|default: (?:[^()]|\([^()]*\))*)\)$")


def host_parameters(cls: type, mixin: type) -> dict[str, inspect.Parameter]:
    """Return the constructor parameters of the host under a variant, in order and without ``self``.

    :param cls: a variant
    :param mixin: base of all our mixins; the first class that is not under it is the host
    """
    return _through_keywords(_host(cls, mixin))


def _through_keywords(host: type) -> dict[str, inspect.Parameter]:
    """Collect the parameters of a constructor that passes ``*args`` and ``**kwargs`` on to its base's."""
    found: list[dict[str, inspect.Parameter]] = []
    for base in host.__mro__:
        if "__init__" not in vars(base):
            continue
        own = dict(inspect.signature(vars(base)["__init__"]).parameters)
        own.pop("self", None)
        kinds = {p.kind for p in own.values()}
        found.append({name: p for name, p in own.items() if p.kind not in _PASSED_ON})
        if not kinds & _PASSED_ON:
            break
    merged: dict[str, inspect.Parameter] = {}
    for own in reversed(found):
        merged.update(own)
    return dict(sorted(merged.items(), key=lambda item: item[1].kind))  # the order is kept within a kind


def merged_signature(cls: type, mixin: type) -> inspect.Signature:
    """Describe the whole constructor: the host's parameters, then the mixins' own, by keyword.

    :param cls: a variant, or a mixin that has no host yet
    :param mixin: base of all our mixins
    """
    merged, has_host = dict(host_parameters(cls, mixin)), _host(cls, mixin) is not sb3.OnPolicyAlgorithm
    setup = merged.pop("_init_setup_model", None)
    for base in reversed(cls.__mro__):
        if issubclass(base, mixin):
            for name, default in vars(base).get("host_defaults", {}).items():  # what is nearer to the class wins
                if name in merged and has_host:  # without, one argument would have a default and the next none
                    merged[name] = merged[name].replace(default=default)
            own = inspect.signature(vars(base)["__init__"]).parameters if "__init__" in vars(base) else {}
            named = [p for p in own.values() if p.kind in _BY_KEYWORD and p.name not in ("self", "_init_setup_model")]
            merged.update({p.name: _redeclared(p, merged) for p in named})
    if setup is not None:
        merged["_init_setup_model"] = setup.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    return inspect.Signature(list(merged.values()))


def _redeclared(own: inspect.Parameter, merged: dict[str, inspect.Parameter]) -> inspect.Parameter:
    """Return a parameter as it is shown: one of the host's stays in its place there, and required if it is."""
    known = merged.get(own.name)
    if known is None:
        return own.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    required = own.empty in (own.default, known.default)
    return own.replace(kind=known.kind, default=known.default if required else own.default)


def merged_docstring(cls: type, mixin: type) -> str | None:
    """Describe the whole constructor for ``help()``, ``?`` and editors, which show a class's own docstring only.

    Each parameter of the merged signature has one entry with its default. The text is that of the first class in the
    method resolution order that has one: the class itself, the mixins, the host.

    :param cls: a variant; the docstring of a mixin that has no host yet stays as it is
    :param mixin: base of all our mixins
    :return: in reST, as Sphinx reads it; None if there are no docstrings, as under ``python -OO``
    """
    if _host(cls, mixin) is sb3.OnPolicyAlgorithm:
        return cls.__doc__
    described_by = [base for base in cls.__mro__ if base not in (object, abc.ABC)]  # these keep theirs under -OO
    texts = [inspect.cleandoc(vars(base).get("__doc__") or "") for base in described_by]
    if not any(texts):
        return None
    summary = next(filter(None, (_FIELD.split(text)[0].strip() for text in texts)), cls.__name__)
    described: dict[str, str] = {}
    raised: dict[str, None] = {}  # a set that keeps its order
    for text in texts:
        for kind, name, entry in _fields(text):
            if kind == "param" and entry:
                described.setdefault(name, entry)
            elif kind == "raises":
                raised[_wrapped(f":raises {name}: {entry}")] = None
    parameters = merged_signature(cls, mixin).parameters.values()
    entries = [_wrapped(f":param {p.name}: {described.get(p.name, '')} ({_default(p)})") for p in parameters]
    return "\n".join([summary, "", *entries, *raised])


def _fields(text: str) -> list[tuple[str, str, str]]:
    """Find what a docstring says of parameters and errors: kind, name and text without a default."""
    parts = _FIELD.split(text)[1:]
    found = zip(parts[0::3], parts[1::3], parts[2::3])
    return [(kind, name, _DEFAULT.sub("", " ".join(entry.split("\n:")[0].split()))) for kind, name, entry in found]


def _wrapped(entry: str) -> str:
    line = " ".join(entry.split())
    return textwrap.fill(line, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _default(parameter: inspect.Parameter) -> str:
    default = parameter.default
    if default is parameter.empty:
        return "required"
    return f"default: {getattr(default, '__qualname__', None) or repr(default)}"


def bind_host_arguments(cls: type, mixin: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name the host's positional arguments and fill in the variant's own defaults for them.

    :param cls: the variant
    :param mixin: base of all our mixins
    :param args: positional arguments, in the host's order
    :param kwargs: keyword arguments that no mixin took
    :return: the host's arguments by name
    :raises TypeError: for an unknown keyword, with the class that has it or the closest known one
    :raises ValueError: for an unknown policy
    """
    known = {name: p for name, p in host_parameters(cls, mixin).items() if name != "_init_setup_model"}
    if len(args) > len(known):
        raise TypeError(f"{cls.__name__}() takes at most {len(known)} positional arguments, got {len(args)}")
    given = dict(zip(known, args))
    for name, value in kwargs.items():
        if name in given:
            raise TypeError(f"{cls.__name__}() got two values for `{name}`")
        if name not in known:
            raise TypeError(
                f"{cls.__name__}() got an unknown argument `{name}`{unknown_argument_hint(cls, mixin, name)}"
            )
        given[name] = value
    _check_policy(cls, given)
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        defaults.update(vars(base).get("host_defaults", {}))
    foreign = ", ".join(f"`{name}`" for name in defaults if name not in known)
    if foreign:
        raise TypeError(
            f"host_defaults of {cls.__name__} may only name arguments of {_host(cls, mixin).__name__}, got {foreign}; "
            "for one of a mixin repeat it in your __init__, with your default"
        )
    return {**defaults, **given}


def unknown_argument_hint(cls: type, mixin: type, name: str) -> str:
    """Say whose argument it is, or which one may have been meant.

    :param cls: a variant that does not have it
    :param mixin: base of all our mixins
    :param name: of the argument
    """
    ours, host = mixin.__module__.partition(".")[0], _host(cls, mixin)
    siblings = [
        one for one in subclasses(mixin) if one.__module__.partition(".")[0] == ours and _host(one, mixin) is host
    ]
    owners = {one.__name__ for one in siblings if name in inspect.signature(one).parameters}
    if owners:
        return f"; it is an argument of {' and '.join(sorted(owners))}"
    return did_you_mean(name, inspect.signature(cls).parameters, "`", f"see help({cls.__name__})")


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    """Yield all classes under one, those nearer to it first within a branch.

    :param base: of any kind
    """
    for one in base.__subclasses__():
        yield one
        yield from subclasses(one)


def _host(cls: type, mixin: type) -> type:
    hosts = (base for base in cls.__mro__ if not issubclass(base, mixin) and issubclass(base, sb3.OnPolicyAlgorithm))
    return next(hosts)  # there is one: the base of all our mixins is an OnPolicyAlgorithm


def _check_policy(cls: Any, given: dict[str, Any]) -> None:
    """Refuse a policy that does not exist and settings that are text; the host's messages name neither.

    :raises ValueError: for an unknown policy, as the host does
    :raises TypeError: for settings that are no dictionary, as the host does
    """
    policy, settings = given.get("policy"), given.get("policy_kwargs")
    usual = cls._get_policy_from_name is sb3.OnPolicyAlgorithm._get_policy_from_name
    if isinstance(policy, str) and usual and policy not in cls.policy_aliases:
        names = ", ".join(map(repr, cls.policy_aliases))
        hint = did_you_mean(policy, cls.policy_aliases)
        raise ValueError(f"`policy` must be one of {names}, or a class, got {policy!r}{hint or '; pick one of them'}")
    if settings is not None and not isinstance(settings, Mapping):
        way_out = "leave the quotes out" if isinstance(settings, str) else "as in dict(net_arch=[64, 64])"
        raise TypeError(f"`policy_kwargs` must be a dictionary, got {settings!r}; {way_out}")


def values_of(cls: type, given: dict[str, Any], *names: str) -> list[Any]:
    """Return arguments as given, or their defaults.

    :param cls: the variant
    :param given: by name
    :param names: which
    """
    parameters = inspect.signature(cls).parameters
    return [given.get(name, parameters[name].default) for name in names]
