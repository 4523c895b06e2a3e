"""The table of a run's updates: what ``TrustRegionRecorder`` writes and the figures are drawn from.

A CSV file of one run with the columns ``COLUMNS``. Every update has one row in which ``epoch`` and ``minibatch`` are
empty; before it come, for the classes of this package, one row per epoch and, if asked for, one per minibatch. A column
is named like the logger key without its prefix, and a cell is empty where nothing was logged.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import safe_mean

from sb3_ppo_variants.arguments import require
from sb3_ppo_variants.update_metrics import MinibatchMetrics, UpdateTrace

Row = dict[str, float]
Table = dict[str, npt.NDArray[np.float64]]

_PLACE = ("update", "epoch", "minibatch", "timesteps", "n_updates")
_EPISODES = {"ep_rew_mean": "r", "ep_len_mean": "l"}  # column -> key of Monitor
TRUST_REGION = ("kl_divergence", "approx_kl", "kl_divergence_loss", "clip_fraction")
_LOGGED = (
    *TRUST_REGION,
    *("target_kl", "beta", "clip_range", "clip_scale", "saturated", "ratio_max"),
    *("value_clip_fraction", "clip_range_vf"),
    *("policy_gradient_loss", "policy_objective", "value_loss", "entropy_loss", "loss"),
    *("explained_variance", "grad_norm", "std", "learning_rate", "epochs_done"),
)
COLUMNS = (*_PLACE, *_EPISODES, *_LOGGED, "stopped")
"""The layout of the file."""

_COEFFICIENTS = ("target_kl", "beta", "clip_range", "clip_range_vf")
_COLUMN_OF = {name: "policy_gradient_loss" if name == "policy_loss" else name for name in MinibatchMetrics._fields}


class TrustRegionLog(NamedTuple):
    """A run as three tables, column name -> values; NaN where a cell is empty.

    :param updates: one row per update
    :param epochs: one row per epoch of each update; empty for stock algorithms
    :param minibatches: one row per minibatch of each update; empty unless they were recorded
    """

    updates: Table
    epochs: Table
    minibatches: Table

    def update_trace(self, number: int | None = None) -> UpdateTrace:
        """Return the course of one update, as ``model.last_update`` was after it.

        :param number: of the update, counted from 1; None for the last one
        :raises ValueError: if the update or its minibatches were not recorded
        """
        updates, rows = self.updates, self.minibatches
        count = len(updates["update"])
        require(count > 0, "the file must hold an update", count, "train for at least one update")
        wanted = float(updates["update"][-1]) if number is None else float(number)
        (at,) = np.nonzero(updates["update"] == wanted)
        require(len(at) > 0, f"the update must be one of 1 to {updates['update'][-1]:.0f}", number, "choose another")
        inside = rows["update"] == wanted
        require(
            bool(inside.any()),
            "the minibatches of the update must have been recorded",
            "none",
            "train with TrustRegionRecorder(path, minibatches=True) and a class of this package",
        )
        epochs = {name: column[self.epochs["update"] == wanted] for name, column in self.epochs.items()}
        coefficients = tuple(
            {name: float(epochs[name][i]) for name in _COEFFICIENTS if math.isfinite(epochs[name][i])}
            for i in range(len(epochs["epoch"]))
        )
        return UpdateTrace(
            minibatches=np.stack([rows[_COLUMN_OF[name]][inside] for name in _COLUMN_OF], axis=1).astype(np.float32),
            epoch=rows["epoch"][inside].astype(np.int64) - 1,
            kl_divergence=float(updates["kl_divergence"][at[0]]),
            epochs_done=float(updates["epochs_done"][at[0]]),
            stopped=bool(updates["stopped"][at[0]] == 1),
            coefficients=coefficients,
        )


def rows_of_update(
    model: OnPolicyAlgorithm, logged: Mapping[str, Any], number: int, minibatches: bool = False
) -> list[Row]:
    """Collect what is known of the update that a model has just made.

    :param model: after the update and before the next rollout
    :param logged: its logger's values
    :param number: of the update, counted from 1
    :param minibatches: add a row per minibatch
    :return: rows of minibatches and epochs, then the one of the whole update
    """
    place = {"update": number, "timesteps": model.num_timesteps, "n_updates": logged["train/n_updates"]}
    whole: Row = {**place, **episode_means(model)}
    whole |= {name: float(logged[f"train/{name}"]) for name in _LOGGED if f"train/{name}" in logged}
    trace: UpdateTrace | None = getattr(model, "last_update", None)
    if trace is None:
        return [whole]
    whole["stopped"] = float(trace.stopped)
    unused = set() if model.needs_old_distribution() else {"kl_divergence"}  # type: ignore[attr-defined]  # has a trace
    unused |= {"value_clip_fraction"} if model.clip_range_vf is None else set()  # type: ignore[attr-defined]
    parts = [*(_minibatch_rows(trace) if minibatches else []), *_epoch_rows(trace)]
    parts = [{name: value for name, value in part.items() if name not in unused} for part in parts]
    return [*({**place, **part} for part in parts), whole]


def episode_means(model: OnPolicyAlgorithm) -> Row:
    """Return mean return and length of the latest episodes, as SB3 logs them; nothing before the first one ended.

    :param model: whose environment has a Monitor
    """
    episodes = model.ep_info_buffer
    if not episodes:
        return {}
    return {name: float(safe_mean([episode[key] for episode in episodes])) for name, key in _EPISODES.items()}


def _minibatch_rows(trace: UpdateTrace) -> Iterator[Row]:
    starts = np.searchsorted(trace.epoch, trace.epoch)
    for i, values in enumerate(trace.minibatches):
        place = {"epoch": int(trace.epoch[i]) + 1, "minibatch": i - int(starts[i]) + 1}
        yield {**place, **dict(zip(_COLUMN_OF.values(), values))}


def _epoch_rows(trace: UpdateTrace) -> Iterator[Row]:
    columns = {column: trace.per_epoch(name) for name, column in _COLUMN_OF.items()}
    columns["ratio_max"] = np.array([trace.column("ratio_max")[trace.epoch == e].max() for e in np.unique(trace.epoch)])
    for i, coefficients in enumerate(trace.coefficients):
        known = {name: float(coefficients[name]) for name in _COEFFICIENTS if name in coefficients}
        row: Row = {"epoch": i + 1, **{name: float(column[i]) for name, column in columns.items()}}
        yield row | {name: value for name, value in known.items() if math.isfinite(value)}


def as_text(rows: Iterable[Row]) -> str:
    """Write rows as lines of CSV; numbers keep all their digits.

    :param rows: column name -> value
    """
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()


HEADER = ",".join(COLUMNS) + "\n"


def complete_rows(path: Path) -> list[list[str]]:
    """Read the cells of all complete updates; what a killed run had half written is left out.

    :param path: of a file that ``TrustRegionRecorder`` wrote
    :raises ValueError: if it is of another layout
    """
    text = path.read_text()
    if HEADER.startswith(text):
        return []
    require(
        text.startswith(HEADER),
        f"`{path}` must have the columns of TrustRegionRecorder",
        text.partition("\n")[0][:100],
        "choose another path, or move the file away",
    )
    rows = list(csv.reader(text[: text.rfind("\n")].split("\n")[1:]))
    epoch = COLUMNS.index("epoch")
    updates = [i for i, row in enumerate(rows) if row[epoch] == ""]
    return rows[: updates[-1] + 1] if updates else []


def read_trust_region(path: str | Path) -> TrustRegionLog:
    """Read a file that ``TrustRegionRecorder`` wrote, also while the run goes on.

    :param path: of the file
    :raises ValueError: if it is of another layout
    """
    rows = complete_rows(Path(path))
    values = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(len(rows), len(COLUMNS))
    epoch, minibatch = (~np.isnan(values[:, COLUMNS.index(name)]) for name in ("epoch", "minibatch"))
    kinds = (~epoch, epoch & ~minibatch, minibatch)
    return TrustRegionLog(*(table_of(values[kind]) for kind in kinds))


def table_of(values: npt.NDArray[np.float64]) -> Table:
    """Name the columns of an array.

    :param values: shape (n_rows, n_columns), in the order of ``COLUMNS``
    """
    return dict(zip(COLUMNS, values.T))


__all__ = ["COLUMNS", "Table", "TrustRegionLog", "read_trust_region"]
