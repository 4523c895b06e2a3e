"""One training run of a comparison: which, and with what settings."""

import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

RANDOM_POLICY = "random-policy"
"""Label of the cells that measure uniformly random actions, the zero of normalised scores."""


class Cell(NamedTuple):
    """Identity of one training run.

    :param arm: label of the arm: an algorithm with its settings
    :param env: environment ID
    :param seed: of the training run
    """

    arm: str
    env: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm} · {self.env} · seed {self.seed}"

    @property
    def file_stem(self) -> str:
        """Return where its files are, relative to their folder and without ending."""
        return f"{self.arm}/{file_name(self.env)}/seed_{self.seed}"


def file_name(text: str) -> str:
    """Replace what does not belong into a file's name.

    :param text: such as ``ALE/Pong-v5``
    """
    return re.sub(r"[^\w.+-]", "-", text)


@dataclass(frozen=True)
class CellSettings:
    """All that decides what a cell learns and how it is measured, in plain values.

    :param algo: name of the algorithm in rl-zoo3, or ``RANDOM_POLICY``
    :param hyperparameters: resolved, as in an rl-zoo3 YAML
    :param n_timesteps: environment steps of training
    :param eval_freq: steps between evaluations
    :param eval_episodes: episodes of each evaluation
    :param device: PyTorch device
    """

    algo: str
    hyperparameters: dict[str, Any]
    n_timesteps: int
    eval_freq: int
    eval_episodes: int
    device: str

    def grid(self) -> list[int]:
        """Return the steps at which the policy is evaluated: 0, every ``eval_freq`` steps, and the end."""
        return [*range(0, self.n_timesteps, self.eval_freq), self.n_timesteps]


@dataclass(frozen=True)
class CellTask:
    """A cell together with its settings: what a worker is given."""

    cell: Cell
    settings: CellSettings

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {"cell": self.cell._asdict(), "settings": asdict(self.settings)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "CellTask":
        """Restore what ``to_json`` gave.

        :param data: read from a JSON file
        """
        return cls(Cell(**data["cell"]), CellSettings(**data["settings"]))


class Outcome(NamedTuple):
    """How a cell ended.

    :param cell: which
    :param result: JSON text of its result, None if it crashed
    :param log: what it printed
    """

    cell: Cell
    result: str | None
    log: str


__all__ = ["RANDOM_POLICY", "Cell", "CellSettings", "CellTask", "Outcome", "file_name"]
