"""What tells one run of ``train`` from another, kept beside its checkpoints."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sb3_ppo_variants.saving.atomic_file import write_atomically

FILE = "run.json"
_NOT_OF_THE_RUN = ("n_timesteps",)  # a finished run may be made longer


@dataclass(frozen=True)
class RunIdentity:
    """What a run was begun with.

    :param algo: the zoo's name of the algorithm
    :param env: ID of the environment
    :param seed: as given; None if none was, and then one was drawn
    :param settings: hyperparameters of entry and command line, and arguments of the environment, in plain values
    """

    algo: str
    env: str
    seed: int | None
    settings: dict[str, Any]

    @classmethod
    def of(cls, algo: str, env: str, seed: int | None, settings: Mapping[str, Any]) -> "RunIdentity":
        """Describe a run.

        :param algo: the zoo's name of the algorithm
        :param env: ID of the environment
        :param seed: as given; None or negative if none was
        :param settings: whatever is set, in values of any kind
        """
        kept = {key: value for key, value in settings.items() if key not in _NOT_OF_THE_RUN}
        plain = json.loads(json.dumps(_with_names(kept), default=_named))
        return cls(algo, env, None if seed is None or seed < 0 else seed, plain)

    def write(self, folder: Path) -> None:
        """Write it into a folder of checkpoints, which is made if missing.

        :param folder: of the checkpoints
        """
        write_atomically(folder / FILE, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> "RunIdentity | None":
        """Read it from a folder of checkpoints.

        :param folder: of the checkpoints
        :return: None if it is not there, or not readable
        """
        try:
            return cls(**json.loads((folder / FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def differences(self, other: "RunIdentity") -> list[str]:
        """List what another run was begun with and this one is not.

        :param other: the earlier run
        :return: such as ``"seed 4, not 5"``, the other's value first
        """
        ours, theirs = self._facts(), other._facts()
        return [
            f"{name} {theirs.get(name, 'not given')}, not {ours.get(name, 'not given')}"
            for name in dict.fromkeys((*ours, *theirs))
            if ours.get(name, ...) != theirs.get(name, ...)
        ]

    def _facts(self) -> dict[str, Any]:
        seed = "none given" if self.seed is None else self.seed
        return {"algorithm": self.algo, "environment": self.env, "seed": seed, **self.settings}


def _with_names(value: Any) -> Any:
    """Name the keys that JSON has no form for, in dictionaries at any depth."""
    if isinstance(value, dict):
        plain = (str, int, float, type(None))
        return {key if isinstance(key, plain) else _named(key): _with_names(each) for key, each in value.items()}
    return [_with_names(each) for each in value] if isinstance(value, (list, tuple)) else value


def _named(value: Any) -> str:
    """Return a text that is the same in every process, for a value that JSON has no form for."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


__all__ = ["FILE", "RunIdentity"]
