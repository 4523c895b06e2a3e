"""Callbacks that keep what every update did: in a CSV file, and as a figure."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from stable_baselines3.common.logger import TensorBoardOutputFormat

from sb3_ppo_variants.arguments.checks import check_count, require
from sb3_ppo_variants.callbacks.update_callback import UpdateCallback
from sb3_ppo_variants.figures.figure_style import check_ending, require_matplotlib
from sb3_ppo_variants.figures.runs import plot_trust_region
from sb3_ppo_variants.saving.atomic_file import write_atomically
from sb3_ppo_variants.trust_region_log import (
    HEADER,
    TRUST_REGION,
    Row,
    check_one_run,
    complete_rows,
    row_of_update,
    table_of,
    text_of_rows,
    text_of_update,
)


class TrustRegionRecorder(UpdateCallback):
    """Writes a CSV file with one row per update and, for the classes of this package, one per epoch.

    The rows are in the file as soon as the next rollout begins, so that a killed run keeps them. A run that goes on
    (``load``, then ``learn(reset_num_timesteps=False)``) with the same path appends; rows of updates that the loaded
    model has not made are dropped first. A run that begins at step 0 never continues a file: one that is there is kept
    under the first free name of ``NAME.1.csv``, ``NAME.2.csv`` ... Read it with
    :func:`~sb3_ppo_variants.trust_region_log.read_trust_region` or any CSV reader.

    :param path: of the file; missing folders are made
    :param minibatches: also write a row per minibatch, which the figure of one update is drawn from
    :param verbose: 1 says what happens to an older file
    :raises ValueError: before training, if the file cannot be written or has other columns
    """

    first_rank_only = True  # where several processes train: the file is one

    def __init__(self, path: str | os.PathLike[str], minibatches: bool = False, verbose: int = 0):
        super().__init__(verbose)
        rule, way_out = "`minibatches` must be True or False", "True for a row per minibatch, too"
        require(isinstance(minibatches, bool), rule, minibatches, way_out)
        self.path = Path(path)
        self.minibatches = minibatches
        self.n_recorded = 0
        self._file: TextIO | None = None

    def _on_training_start(self) -> None:
        super()._on_training_start()
        try:
            kept = self._earlier_rows() if self.path.exists() else []
            write_atomically(self.path, HEADER + text_of_rows(kept))
            self._file = self.path.open("a", newline="\n")
        except OSError as error:
            raise ValueError(f"`path` must be a file that can be written, got {self.path} ({error})") from error
        self.n_recorded = int(kept[-1]["update"]) if kept else 0

    def _earlier_rows(self) -> list[dict[str, str]]:
        """Return the cells of the updates that the model has made, and put the file of another run aside."""
        rows = complete_rows(self.path)
        if rows and self.model.num_timesteps == 0:
            names = (self.path.with_suffix(f".{i}{self.path.suffix}") for i in itertools.count(1))
            aside = next(name for name in names if not name.exists())
            self.path.rename(aside)
            self._say(f"{self.path} holds another run, which is kept as {aside}")
            return []
        check_one_run(self.path, rows)
        made = {"timesteps": self.model.num_timesteps, "n_updates": self.model._n_updates}
        kept = [row for row in rows if all(float(row[name]) <= most for name, most in made.items())]
        self._say(f"{self.path}: {len(kept)} of {len(rows)} rows kept, training goes on at step {made['timesteps']}")
        return kept

    def _on_update(self, logged: Mapping[str, Any]) -> None:
        if not any(f"train/{name}" in logged for name in TRUST_REGION) and self.n_recorded == 0:
            self.warn(
                f"{type(self.model).__name__} logs no KL divergence and no clip fraction: these columns of {self.path} "
                "stay empty"
            )
        self.n_recorded += 1
        assert self._file is not None  # training has started
        self._file.write(text_of_update(self.model, logged, self.n_recorded, self.minibatches))
        self._file.flush()

    def _on_training_end(self) -> None:
        super()._on_training_end()
        if self._file is not None:
            self._file.close()

    def _say(self, message: str) -> None:
        if self.verbose >= 1:
            print(message)


class TrustRegionFigure(UpdateCallback):
    """Draws KL, beta or epsilon, clip fraction and return over the training so far.

    The figure is in a PNG file, which is replaced every time, and in TensorBoard as ``trust_region/figure`` if that is
    among the logger's outputs. It is drawn every ``every`` updates and at the end of training; each drawing takes about
    a second. It needs matplotlib: ``pip install ".[plots]"`` in a clone of the project.

    :param every: updates from one drawing to the next, >= 1
    :param path: of the file, ending in .png, .svg or .pdf; None for ``trust_region.png`` in the folder of the
        TensorBoard run or of the logger that ``set_logger`` was given, without either in the working folder
    :param verbose: 1 says where the figure is
    :raises ValueError: for a value outside its range; before training, if the file cannot be written
    :raises ImportError: before training, if matplotlib is not installed
    """

    first_rank_only = True

    def __init__(self, every: int = 10, path: str | os.PathLike[str] | None = None, verbose: int = 0):
        super().__init__(verbose)
        check_count("every", every, "pass 1 to draw after every update")
        self.every = every
        self.path = None if path is None else check_ending(path)
        self.rows: list[Row] = []
        self.n_drawn = 0

    def _on_training_start(self) -> None:
        super()._on_training_start()
        require_matplotlib()
        self._file = self.path or self._usual_folder() / "trust_region.png"
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self._file.exists()
            self._file.open("ab").close()
            if is_new:
                self._file.unlink()
        except OSError as error:
            raise ValueError(f"`path` must be a file that can be written, got {self._file} ({error})") from error

    def _usual_folder(self) -> Path:
        """Return the logger's folder, unless SB3 has made one up where nobody looks."""
        has_tensorboard = any(isinstance(output, TensorBoardOutputFormat) for output in self.logger.output_formats)
        is_known = has_tensorboard or self.model._custom_logger
        return Path(self.logger.dir) if is_known and self.logger.dir else Path()

    def _begin_anew(self) -> None:
        self.rows, self.n_drawn = [], 0

    def _on_update(self, logged: Mapping[str, Any]) -> None:
        self.rows.append(row_of_update(self.model, logged, len(self.rows) + 1))
        if len(self.rows) % self.every == 0:
            self._draw()

    def _on_training_end(self) -> None:
        super()._on_training_end()
        if len(self.rows) > self.n_drawn:
            self._draw()

    def _draw(self) -> None:
        self.n_drawn = len(self.rows)
        figure = plot_trust_region([table_of(self.rows)])
        write_atomically(self._file, figure.drawn(self._file.suffix[1:], dpi=120))
        for output in self.logger.output_formats:
            # Not by logger.record: the next dump comes after a further rollout, and after the last update there is none
            if isinstance(output, TensorBoardOutputFormat):
                output.writer.add_figure("trust_region/figure", figure, self.model.num_timesteps)
                output.writer.flush()
        if self.verbose >= 1:
            print(f"Trust region of {self.n_drawn} updates: {self._file}")


__all__ = ["TrustRegionFigure", "TrustRegionRecorder"]
