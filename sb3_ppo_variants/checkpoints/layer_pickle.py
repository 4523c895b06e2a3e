"""Pickles of what the layers of an environment hold.

References to a layer become references to the same layer of another stack. Arrays that share memory go on sharing it:
pickle itself would make copies. Classes of the script that runs stay the script's.
"""

import inspect
import io
import pickle
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import cloudpickle
import numpy as np

_SCRIPT = "__main__"


def pickled(states: Sequence[Any], layers: Sequence[Any]) -> bytes:
    """Pickle states.

    :param states: one of each layer
    :param layers: wrappers and environments
    """
    alone, users = _dumped(states, layers, frozenset())
    shared = frozenset(source for source, count in users.items() if count > 1)
    # A view alone is pickled as its own numbers: the array may be a whole data set
    return _dumped(states, layers, shared)[0] if shared else alone


def unpickled(content: bytes, layers: Sequence[Any]) -> list[Any]:
    """Return the states.

    :param content: from :func:`pickled`
    :param layers: of a stack that was built in the same way
    """
    states: list[Any] = _Unpickler(io.BytesIO(content), layers).load()
    return states


def _dumped(states: Sequence[Any], layers: Sequence[Any], shared: frozenset[int]) -> tuple[bytes, Counter[int]]:
    file = io.BytesIO()
    pickler = _Pickler(file, layers, shared)
    pickler.dump(list(states))
    return file.getvalue(), pickler.users


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # no type information
    def __init__(self, file: io.BytesIO, layers: Sequence[Any], shared: frozenset[int]):
        super().__init__(file)
        self.references: dict[int, Any] = {id(layer): place for place, layer in enumerate(layers)}
        self.shared = shared
        self.users: Counter[int] = Counter()  # arrays that are pickled, by the one whose memory they are
        self._transposed: dict[int, Any] = {}  # those in Fortran order: numpy makes views of arrays in C order

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, type) and obj.__module__ == _SCRIPT and "<locals>" not in obj.__qualname__:
            if id(obj) not in self.references:
                self.references[id(obj)] = (obj.__qualname__, cloudpickle.dumps(obj))
        return self.references.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not np.ndarray or obj.dtype.hasobject or obj.size == 0:
            return super().reducer_override(obj)
        source = _source(obj)
        self.users[id(source)] += 1
        if id(source) not in self.shared:
            return super().reducer_override(obj)
        owner = source if source.flags.c_contiguous else self._transposed.setdefault(id(source), source.T)
        if owner is obj:
            return super().reducer_override(obj)
        if obj.flags.writeable and not owner.flags.writeable:  # numpy makes no such view any more
            raise pickle.PicklingError("an array that cannot be written has a view that can")
        start, end = (array.__array_interface__["data"][0] for array in (owner, obj))
        view = np.ndarray, (obj.shape, obj.dtype, owner, end - start, obj.strides)
        return view if obj.flags.writeable else (*view, False, None, None, np.ndarray.setflags)


def _source(array: Any) -> Any:
    """Find the array whose memory this is: itself, if no other has it, or the other is not plain."""
    source = array
    while True:
        base = source.base
        if hasattr(base, "__array_interface__") and not isinstance(base, np.ndarray):  # of numpy's as_strided
            base = getattr(base, "base", None)
        if type(base) is not np.ndarray:
            return source if source.flags.forc else array
        source = base


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, layers: Sequence[Any]):
        super().__init__(file)
        self.layers = layers

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, int):
            return self.layers[pid]
        name, content = pid
        return _script_class(name, content, self.layers)


def _script_class(name: str, content: bytes, layers: Sequence[Any]) -> Any:
    """Find a class of the script that runs, as the layers know it; in another script make it of the pickle.

    :param name: qualified
    :param content: the class itself, pickled
    :param layers: which, in a process of theirs, are all that is left of the script
    """
    head, *parts = name.split(".")
    for names in (*_names_of_script(layers), vars(sys.modules[_SCRIPT])):
        found = names.get(head)
        for part in parts:
            found = getattr(found, part, None)
        if isinstance(found, type) and (found.__module__, found.__qualname__) == (_SCRIPT, name):
            return found
    return cloudpickle.loads(content)


def _names_of_script(layers: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Yield what the classes of layers that the script defines see of it."""
    for cls in {cls: None for layer in layers for cls in type(layer).__mro__ if cls.__module__ == _SCRIPT}:
        yield {**vars(cls), cls.__name__: cls}  # in another process a class within another has lost that one's name
        yield from (function.__globals__ for function in vars(cls).values() if inspect.isfunction(function))


__all__ = ["pickled", "unpickled"]
