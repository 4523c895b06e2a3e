"""Other attributes for a while: the zoo's functions name much of what they use where nothing can be handed in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: object, **attributes: Any) -> Iterator[None]:
    """Give a module or an object other attributes, and in the end those that it had.

    :param owner: has them already
    :param attributes: by name
    """
    usual = {name: getattr(owner, name) for name in attributes}
    vars(owner).update(attributes)
    try:
        yield
    finally:
        vars(owner).update(usual)


__all__ = ["replaced"]
