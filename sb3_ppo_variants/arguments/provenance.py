"""Whose code a method runs: what the libraries do may be done otherwise here, what somebody has put there may not."""

from typing import Any

_LIBRARIES = {"stable_baselines3", "sb3_contrib"}


def of_libraries(cls: type[Any], *names: str) -> bool:
    """Tell whether methods of a class are SB3's or contrib's own code.

    A patch is not, also where it keeps the name of what it wraps; when the class was patched does not matter.

    :param cls: any class
    :param names: of its methods
    """
    modules = (getattr(getattr(cls, name), "__globals__", {}).get("__name__", "") for name in names)
    return all(module.partition(".")[0] in _LIBRARIES for module in modules)


__all__ = ["of_libraries"]
