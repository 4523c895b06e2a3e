"""The figures of the report: what is too low for a panel is drawn at its edge, and no text is cut off."""

import itertools
import warnings

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from sb3_ppo_variants.compare.report import figures, traces
from sb3_ppo_variants.compare.report.runs import TRUST_REGION_PANELS, VALUE_PANELS
from sb3_ppo_variants.compare.report.statistics import Estimate
from sb3_ppo_variants.figures.figure_style import looks

STYLE = looks({"ppo": "ppo", "ppo_penalty": "ppo_penalty"})


def trace(**columns: list[float]) -> traces.Trace:
    """Make up the updates of a run."""
    length = len(next(iter(columns.values())))
    return {"timesteps": np.arange(1.0, length + 1), **{name: np.array(values) for name, values in columns.items()}}


def panel(name: str, **runs: traces.Trace) -> Axes:
    """Draw the updates of runs and return a panel; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        panels = [one for one in (*TRUST_REGION_PANELS, *VALUE_PANELS) if one[0] == name]
        picture = figures.update_traces("A-v0", panels, {arm: [run] for arm, run in runs.items()}, STYLE)
        assert picture is not None
        assert picture.png()[:4] == b"\x89PNG"
    (axes,) = picture.figure.axes
    return axes


def heights(axes: Axes, line: int = 0) -> list[float]:
    return list(map(float, axes.lines[line].get_ydata()))  # type: ignore[arg-type]  # these are numbers


# --------------------------------------------------------------------------------------------------------- too low


def test_an_explained_variance_below_the_panel_is_drawn_at_its_edge_and_its_title_says_so() -> None:
    axes = panel("explained variance", ppo=trace(explained_variance=[-40.0, -1.0, 0.2, 0.9]))
    assert axes.get_title(loc="left") == "explained variance (lower is drawn at -0.5)"
    assert heights(axes) == [-0.5, -0.5, 0.2, 0.9]
    assert axes.get_ylim()[0] < -0.5
    band = axes.collections[0].get_paths()[0].vertices
    assert np.asarray(band)[:, 1].min() == -0.5


def test_an_explained_variance_within_the_panel_has_no_note() -> None:
    axes = panel("explained variance", ppo=trace(explained_variance=[-0.4, 0.2, 0.9]))
    assert axes.get_title(loc="left") == "explained variance"
    assert heights(axes) == [-0.4, 0.2, 0.9]


@pytest.mark.parametrize(
    ("name", "column"),
    [("beta", "beta"), ("KL divergence, nats per state", "kl_divergence"), ("value loss", "value_loss")],
)
def test_a_panel_of_zeros_is_linear_and_shows_them(name: str, column: str) -> None:
    axes = panel(name, ppo_penalty=trace(**{column: [0.0, 0.0, 0.0]}))
    assert axes.get_yscale() == "linear"
    assert heights(axes) == [0, 0, 0]
    low, high = axes.get_ylim()
    assert low < 0 < high


@pytest.mark.parametrize("highest", [0.0, 0.002, 0.012, 0.03, 0.4])
def test_ticks_of_the_clip_fraction_say_where_they_are_and_its_panel_begins_at_0(highest: float) -> None:
    columns = {"clip_fraction": [0.0, highest / 2, highest], "clip_range": [0.2] * 3}
    axes = panel("clip fraction", ppo=trace(**columns))
    axes.figure.canvas.draw()
    bottom, top = axes.get_ylim()
    assert bottom == 0 and top >= max(highest, 0.01)
    texts = [label.get_text() for label in axes.get_yticklabels()]
    assert [float(text.removesuffix("%")) / 100 for text in texts] == pytest.approx(list(axes.get_yticks()))


def test_zeros_beside_other_values_are_drawn_at_the_lower_end_of_a_logarithmic_panel() -> None:
    axes = panel("beta", ppo=trace(beta=[0.0, 0.0]), ppo_penalty=trace(beta=[1.0, 4.0]))
    assert axes.get_yscale() == "log"
    assert (heights(axes), heights(axes, 1)) == ([0.5, 0.5], [1, 4])
    assert axes.get_ylim()[0] < 0.5
    assert axes.get_title(loc="left") == "beta (lower is drawn at 0.5)"


def test_a_kl_that_is_rounding_leaves_room_for_the_rest() -> None:
    axes = panel("KL divergence, nats per state", ppo=trace(kl_divergence=[0.02, 1e-13, -3e-11, 0.0]))
    assert heights(axes) == [0.02, 1e-8, 1e-8, 1e-8]
    assert axes.get_title(loc="left").endswith("(lower is drawn at 1e-08)")


def test_positive_values_are_drawn_as_they_are() -> None:
    axes = panel("value loss", ppo=trace(value_loss=[1e-12, 3.0]))
    assert heights(axes) == [1e-12, 3.0]
    assert axes.get_title(loc="left") == "value loss"


@pytest.mark.parametrize("kl", [[1e-4, 2e-4], [3.0, 4.0]])
def test_the_target_band_is_within_the_panel(kl: list[float]) -> None:
    run = trace(kl_divergence=kl, target_kl=[0.01] * len(kl))
    axes = panel("exact KL divergence / target", ppo_penalty=run)
    low, high = axes.get_ylim()
    ratios = [value / 0.01 for value in kl]
    assert low < min(*ratios, 1 / traces.KL_TOLERANCE)
    assert max(*ratios, traces.KL_TOLERANCE) < high


# ---------------------------------------------------------------------------------------------------------- cut off

LONG = "ppo_penalty_with_reverse_kl_and_a_label_that_goes_on_and_on"
ESTIMATE = Estimate(0.6, 0.4, 0.8)


def fits(figure: Figure, *more: Text) -> bool:
    """Say whether titles, names of axes and some further texts are whole."""
    FigureCanvasAgg(figure).draw()
    of_axes = [(axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label) for axes in figure.axes]  # type: ignore[attr-defined]
    texts = [text for text in (figure._suptitle, *itertools.chain(*of_axes), *more) if text and text.get_text()]  # type: ignore[attr-defined]
    box, places = figure.bbox, [text.get_window_extent() for text in texts]
    return all(box.x0 <= one.x0 and one.x1 <= box.x1 and box.y0 <= one.y0 and one.y1 <= box.y1 for one in places)


@pytest.mark.parametrize("label", ["ppo", "ppo_adaptive_clip", LONG[:30], LONG, LONG.upper()])
def test_labels_cut_off_neither_titles_nor_axes(label: str) -> None:
    style = looks({label: "ppo", "other": "trpo"})
    aggregates = {arm: dict.fromkeys(("IQM", "optimality gap"), ESTIMATE) for arm in style}
    pictures = [
        figures.improvement({label: ESTIMATE}, label, style),
        figures.aggregate_intervals(aggregates, style, "0 random policy, 1 best algorithm"),
    ]
    for picture in pictures:
        axes = picture.figure.axes[-1]
        assert fits(picture.figure, *axes.get_yticklabels())
        assert axes.bbox.width > 0.4 * picture.figure.bbox.width
        places = [text.get_window_extent() for text in axes.get_yticklabels()]
        assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(places))
    assert pictures[0].figure.axes[0].get_title().replace("\n", "").replace(" ", "").endswith(f"over{label}")


def test_short_labels_leave_titles_on_one_line() -> None:
    style = looks({"ppo": "ppo", "ppo_adaptive_clip": "ppo_adaptive_clip"})
    picture = figures.improvement({"ppo_adaptive_clip": ESTIMATE}, "ppo", style)
    assert picture.figure.axes[0].get_title() == "Probability of improvement over ppo"
    aggregates = {arm: {"optimality gap": ESTIMATE} for arm in style}
    (axes,) = figures.aggregate_intervals(aggregates, style, "0 random policy, 1 best algorithm").figure.axes
    assert axes.get_xlabel() == "normalised score: 0 random policy, 1 best algorithm"


def test_a_long_name_of_an_environment_is_not_cut_off() -> None:
    env = f"my/{LONG}_environment-v0"
    picture = figures.update_traces(env, VALUE_PANELS, {"ppo": [trace(value_loss=[1.0, 2.0])]}, STYLE)
    curve = figures.Learning(np.array([0.0, 1e6]), figures.Curve(*np.zeros((3, 2))), np.zeros((1, 2)))
    assert picture is not None and fits(picture.figure)
    assert fits(figures.learning_curves(env, {"ppo": curve}, 0.0, STYLE).figure)
