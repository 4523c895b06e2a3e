"""Figures of the trust region: of the objectives, of runs, and of one update.

Each function takes data and returns a matplotlib Figure, which needs no display and leaves pyplot alone; a notebook
shows it when it is the value of a cell. matplotlib is an optional dependency, ``pip install ".[plots]"`` in a clone of
the project, and is imported when a figure is drawn.
"""

from sb3_ppo_variants.figures.figure_style import HEALTHY_CLIP_FRACTION
from sb3_ppo_variants.figures.objective_figure import plot_clip_objective
from sb3_ppo_variants.figures.runs import plot_trust_region
from sb3_ppo_variants.figures.update_figure import plot_update

__all__ = ["HEALTHY_CLIP_FRACTION", "plot_clip_objective", "plot_trust_region", "plot_update"]
