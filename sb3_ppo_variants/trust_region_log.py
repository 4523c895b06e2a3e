"""The table of a run's updates: what ``TrustRegionRecorder`` writes and the figures are drawn from.

A CSV file of one run with the columns ``COLUMNS``. Every update has a number that rises, and one row in which ``epoch``
and ``minibatch`` are empty; before it come, for the classes of this package, one row per epoch and, if asked for, one
per minibatch. A column is named like the logger key without its prefix, and a cell is empty where nothing was logged.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.update.update_metrics import METRICS, UpdateTrace

Row = dict[str, float]
Table = dict[str, npt.NDArray[np.float64]]

_PLACE = ("update", "epoch", "minibatch", "timesteps", "n_updates")
_EPISODES = {"ep_rew_mean": "r", "ep_len_mean": "l"}  # column -> key of Monitor
KL_MEASURES = {
    "kl_divergence": "exact KL",
    "kl_divergence_loss": "TRPO's KL(new || old), mean over dimensions",
    "approx_kl": "estimate of the KL from samples",
}
"""What tells how far an update moved the policy, the best first: column, and logger key without its prefix."""

TRUST_REGION = (*KL_MEASURES, "clip_fraction")
_LOGGED = (
    *TRUST_REGION,
    *("kl_before_projection", "projection"),
    *("target_kl", "beta", "clip_range", "clip_scale", "lr_scale", "saturated", "ratio_max"),
    *("value_clip_fraction", "clip_range_vf"),
    *("policy_gradient_loss", "policy_objective", "value_loss", "entropy_loss", "loss"),
    *("explained_variance", "grad_norm", "std", "learning_rate", "epochs_done"),
    "skipped_minibatches",
)
COLUMNS = (*_PLACE, *_EPISODES, *_LOGGED, "stopped")
"""The layout of the file."""

HEADER = ",".join(COLUMNS) + "\n"

_COEFFICIENTS = ("target_kl", "beta", "clip_range", "clip_range_vf")
_RENAMED = {"policy_loss": "policy_gradient_loss", "skipped": "skipped_minibatches"}
_COLUMN_OF = {name: _RENAMED.get(name, name) for name in METRICS[: METRICS.index("policy_gain")]}


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
        of_update = {name: float(column[at[0]]) for name, column in updates.items()}
        projected = math.isfinite(of_update["projection"])  # else there was no limit
        return UpdateTrace(
            minibatches=np.stack([rows[_COLUMN_OF[name]][inside] for name in _COLUMN_OF], axis=1).astype(np.float32),
            epoch=rows["epoch"][inside].astype(np.int64) - 1,
            kl_divergence=of_update["kl_divergence"],
            epochs_done=of_update["epochs_done"],
            stopped=of_update["stopped"] == 1,
            coefficients=coefficients,
            kl_before_projection=of_update["kl_before_projection" if projected else "kl_divergence"],
            projection=of_update["projection"] if projected else 1.0,
            names=tuple(_COLUMN_OF),
        )


def text_of_update(model: OnPolicyAlgorithm, logged: Mapping[str, Any], number: int, minibatches: bool = False) -> str:
    """Write what is known of the update that a model has just made.

    :param model: after the update and before the next rollout
    :param logged: its logger's values
    :param number: of the update, counted from 1
    :param minibatches: add a row per minibatch
    :return: lines of CSV: of minibatches and epochs, then the one of the whole update
    """
    text = ""
    trace: UpdateTrace | None = getattr(model, "last_update", None)
    if trace is not None:
        unused = set() if model.update_rules().needs_old_distribution else {"kl_divergence"}  # type: ignore[attr-defined]  # has a trace
        unused |= {"value_clip_fraction"} if model.clip_range_vf is None else set()  # type: ignore[attr-defined]
        place = _place(model, logged, number)
        for table in [*([_minibatches_of(trace)] if minibatches else []), _epochs_of(trace)]:
            text += _lines(_cells(place, {name: column for name, column in table.items() if name not in unused}))
    return text + text_of_rows([row_of_update(model, logged, number)])


def text_of_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as lines of CSV.

    :param rows: column name -> value; what is not there gives an empty cell
    """
    return _lines([row.get(name, "") for name in COLUMNS] for row in rows)


def row_of_update(model: OnPolicyAlgorithm, logged: Mapping[str, Any], number: int) -> Row:
    """Collect what is known of the whole of the update that a model has just made.

    :param model: after the update and before the next rollout
    :param logged: its logger's values
    :param number: of the update, counted from 1
    """
    row: Row = {**_place(model, logged, number), **_episode_means(model)}
    row |= {name: float(logged[f"train/{name}"]) for name in _LOGGED if f"train/{name}" in logged}
    trace: UpdateTrace | None = getattr(model, "last_update", None)
    return row if trace is None else {**row, "stopped": float(trace.stopped)}


def _place(model: OnPolicyAlgorithm, logged: Mapping[str, Any], number: int) -> Row:
    return {"update": number, "timesteps": model.num_timesteps, "n_updates": int(logged["train/n_updates"])}


def _episode_means(model: OnPolicyAlgorithm) -> Row:
    """Mean return and length of the latest episodes, as SB3 logs them; nothing before the first one ended."""
    episodes = model.ep_info_buffer
    if not episodes:
        return {}
    return {name: fmean([episode[key] for episode in episodes]) for name, key in _EPISODES.items()}


def _minibatches_of(trace: UpdateTrace) -> Table:
    within_epoch = np.arange(len(trace.epoch)) - np.searchsorted(trace.epoch, trace.epoch)
    place = {"epoch": trace.epoch + 1.0, "minibatch": within_epoch + 1.0}
    return {**place, **dict(zip(_COLUMN_OF.values(), trace.minibatches.T.astype(np.float64)))}


def _epochs_of(trace: UpdateTrace) -> Table:
    starts = np.flatnonzero(np.diff(trace.epoch, prepend=-1))
    rows, ratios = trace.minibatches, trace.column("ratio_max")
    skipped = np.add.reduceat(trace.column("skipped"), starts, dtype=np.float64)
    taken = np.diff(starts, append=len(trace.epoch)) - skipped
    if skipped.any():  # these count in no mean, which is NaN where every step was skipped
        rows, ratios = np.where(trace.taken[:, None], rows, 0), np.where(trace.taken, ratios, np.nan)
        taken = np.where(taken > 0, taken, np.nan)
    means = np.add.reduceat(rows, starts, axis=0, dtype=np.float64).T / taken
    table: Table = {"epoch": np.arange(1.0, len(starts) + 1), **dict(zip(_COLUMN_OF.values(), means))}
    table["skipped_minibatches"] = skipped
    table["ratio_max"] = np.fmax.reduceat(ratios, starts)
    coefficients = np.array([[epoch.get(name, math.inf) for name in _COEFFICIENTS] for epoch in trace.coefficients])
    known = zip(_COEFFICIENTS, coefficients.T, np.isfinite(coefficients).all(axis=0))
    return table | {name: values for name, values, finite in known if finite}


def _cells(place: Row, table: Table) -> Iterable[Sequence[Any]]:
    """Give the rows of a table with what they share; nine digits keep a float32 as it is."""
    length = len(next(iter(table.values())))
    shared = {name: [place.get(name, "")] * length for name in COLUMNS if name not in table}
    varying = {name: [f"{value:.9g}" for value in column.tolist()] for name, column in table.items()}
    return zip(*[{**shared, **varying}[name] for name in COLUMNS])


def _lines(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def complete_rows(path: Path) -> list[dict[str, str]]:
    """Read the cells of all complete updates; what a killed run had half written is left out.

    :param path: of a file that ``TrustRegionRecorder`` wrote
    :raises ValueError: if it is of another layout
    """
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"`{path}` is no file of TrustRegionRecorder: {error}") from error
    if HEADER.startswith(text):
        return []
    header = text.partition("\n")[0]
    require(
        set(header.split(",")) == set(COLUMNS),
        f"`{path}` must have the columns of TrustRegionRecorder",
        header[:100],
        "choose another path, or move the file away",
    )
    rows = list(csv.DictReader(text[: text.rfind("\n")].splitlines()))
    updates = [i for i, row in enumerate(rows) if row["epoch"] == ""]
    return rows[: updates[-1] + 1] if updates else []


def check_one_run(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Refuse rows that were cut, or are of several runs that somebody has joined.

    :param path: of the file
    :param rows: of :func:`complete_rows`
    :raises ValueError: naming the row, or the updates
    """
    cut = next((i for i, row in enumerate(rows) if len(row) != len(COLUMNS) or None in row.values()), None)
    if cut is not None:  # the cells that are too many are under None, and None stands for those that are missing
        raise ValueError(f"`{path}` is damaged: row {cut + 1} has not {len(COLUMNS)} cells; move the file away")
    numbers = [row["update"] for row in rows if row["epoch"] == ""]
    try:
        fall = next((pair for pair in itertools.pairwise(map(float, numbers)) if not pair[0] < pair[1]), None)
    except ValueError as error:
        raise ValueError(f"`{path}` is damaged: {error}") from error
    require(
        fall is None,
        f"the updates in `{path}` must be those of one run, with numbers that rise",
        "" if fall is None else f"{fall[1]:g} after {fall[0]:g}",
        "keep a file for each run; figures take several",
    )


def read_trust_region(path: str | Path) -> TrustRegionLog:
    """Read a file that ``TrustRegionRecorder`` wrote, also while the run goes on.

    :param path: of the file
    :raises ValueError: if it is of another layout, damaged, or holds several runs
    """
    rows = complete_rows(Path(path))
    check_one_run(Path(path), rows)
    try:
        table = table_of([{name: float(cell or "nan") for name, cell in row.items()} for row in rows])
    except ValueError as error:
        raise ValueError(f"`{path}` is damaged: {error}") from error
    epoch, minibatch = (~np.isnan(table[name]) for name in ("epoch", "minibatch"))
    kinds = (~epoch, epoch & ~minibatch, minibatch)
    return TrustRegionLog(*({name: column[kind] for name, column in table.items()} for kind in kinds))


def table_of(rows: Sequence[Row]) -> Table:
    """Turn rows into columns, with NaN where nothing was logged.

    :param rows: column name -> value
    """
    return {name: np.array([row.get(name, math.nan) for row in rows], dtype=np.float64) for name in COLUMNS}


__all__ = ["COLUMNS", "KL_MEASURES", "Table", "TrustRegionLog", "read_trust_region"]
