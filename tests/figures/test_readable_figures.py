"""The figures can be read: nothing is hidden, cut off, on top of something else, or in the legend only."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hosts import build
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from test_plots import ROLLOUT, table

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.figures.figure_style import DASHES
from sb3_ppo_variants.figures.objective_figure import apart
from sb3_ppo_variants.plots import plot_clip_objective, plot_trust_region, plot_update

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")

# --------------------------------------------------------------------------------------------------------- targets


def listed(figure: Figure) -> list[str]:
    """Return what the legend lists."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def targets(axes: Axes) -> list[Line2D]:
    """Return the lines without a label that are level: the targets of labels with different ones."""
    unnamed = [line for line in axes.lines if str(line.get_label()).startswith("_")]
    return [line for line in unnamed if len(set(np.asarray(line.get_ydata()))) == 1]


def colours_at(figure: Figure, axes: Axes, height: float) -> set[tuple[int, ...]]:
    """Return the colours of the pixels in which a line at that height is drawn."""
    figure.set_dpi(300)  # lines are thicker than their blurred edges
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    y = int(axes.transData.transform((1, height))[1])
    return {tuple(map(int, colour)) for colour in pixels[y - 2 : y + 3].reshape(-1, 3)}


def test_different_targets_are_named_in_the_legend_and_look_like_no_algorithm() -> None:
    figure = plot_trust_region({"tight": [table([0.1] * 2, target_kl=0.005)], "loose": [table([0.1] * 2)]})
    assert listed(figure)[:3] == ["tight", "loose", "target KL of each, in its colour"]
    curves = {str(line.get_label()): line.get_color() for line in figure.axes[0].lines}
    assert {line.get_color() for line in targets(figure.axes[0])} == {curves["tight"], curves["loose"]}
    for line in targets(figure.axes[0]):
        own = line._unscaled_dash_pattern  # type: ignore[attr-defined]
        assert own not in [Line2D([], [], linestyle=dashes)._unscaled_dash_pattern for dashes in DASHES]  # type: ignore[attr-defined]


def test_a_target_that_two_of_three_labels_share_is_seen_in_both_colours() -> None:
    tight, loose = table([0.1] * 3, target_kl=0.005), table([0.1] * 3)
    figure = plot_trust_region({"tight": [tight], "loose": [loose], "also loose": [loose]})
    style = {str(line.get_label()): line.get_color() for line in figure.axes[0].lines}
    seen = colours_at(figure, figure.axes[0], 0.02)
    for label in ("loose", "also loose"):
        assert tuple(round(255 * part) for part in to_rgb(style[label])) in seen


# ---------------------------------------------------------------------------------------------------------- titles

LONG = "A title of a hundred and ten characters or more, which would be cut on both sides if it stood on only one line"


def places(figure: Figure) -> list[Bbox]:
    """Return where the titles are, the figure's first."""
    FigureCanvasAgg(figure).draw()
    return [text.get_window_extent() for text in (figure._suptitle, *(axes.title for axes in figure.axes))]  # type: ignore[attr-defined]


@pytest.mark.parametrize("title", [LONG, LONG.upper(), LONG.replace(" ", "_")])
def test_no_long_title_is_cut(title: str) -> None:
    exact, sampled = table([0.01]), table([np.nan], approx_kl=0.01)
    labels = {f"{kind} with a label that is long, number {i}": kind for i in range(3) for kind in ("exact", "sampled")}
    runs = {label: [exact if kind == "exact" else sampled] for label, kind in labels.items()}
    for figure in (plot_trust_region(runs, title), plot_update(build(PPOPenalty).learn(ROLLOUT).last_update, title)):
        assert all(figure.bbox.x0 <= place.x0 and place.x1 <= figure.bbox.x1 for place in places(figure))
        assert "".join(figure.get_suptitle().split()) == "".join(title.split())
    of_kl = plot_trust_region(runs, title).axes[0].get_title().replace("\n", " ")
    assert all(label in of_kl for label in labels)


def test_a_title_that_fits_stays_on_its_line() -> None:
    assert plot_trust_region([table([0.01])], LONG[:72]).get_suptitle() == LONG[:72]


def test_titles_side_by_side_do_not_meet() -> None:
    figure = plot_clip_objective(clip_range=0.123456, clip_range_upper=1234567.0, dual_clip=1234567.0)
    _, left, middle, right = places(figure)
    assert left.x1 < middle.x0 and middle.x1 < right.x0


# -------------------------------------------------------------------------------------------------- a single point


def labelled(axes: Axes, label: str) -> Bbox:
    """Return where the artist with a label is drawn."""
    (artist,) = (artist for artist in axes.get_children() if artist.get_label() == label)
    return artist.get_window_extent()


def test_the_target_of_a_single_update_is_seen() -> None:
    figure = plot_trust_region([table([0.01])])
    kl = figure.axes[0]
    FigureCanvasAgg(figure).draw()
    assert labelled(kl, "target KL").width > 0.9 * kl.bbox.width
    band = labelled(kl, "target KL /1.5 to ×1.5")
    assert band.width > 0.9 * kl.bbox.width
    ends = kl.transData.inverted().transform(band.get_points())[:, 1]
    assert ends == pytest.approx([0.02 / 1.5, 0.03])


def test_different_targets_of_single_updates_are_seen() -> None:
    figure = plot_trust_region({"tight": [table([0.01], target_kl=0.005)], "loose": [table([0.01])]})
    FigureCanvasAgg(figure).draw()
    widths = [line.get_window_extent().width for line in targets(figure.axes[0])]
    assert len(widths) == 2 and min(widths) > 0.9 * figure.axes[0].bbox.width


def test_the_range_of_several_runs_with_a_single_update_is_seen() -> None:
    runs = [table([kl], target_kl=np.nan) for kl in (0.01, 0.02, 0.06)]
    figure = plot_trust_region({"ppo_penalty": runs})  # which is red
    for height, is_red in ((0.008, False), (0.015, True), (0.05, True), (0.07, False)):
        assert any(max(colour) - min(colour) > 50 for colour in colours_at(figure, figure.axes[0], height)) is is_red
    assert "mean and range of 3 runs" in "\n".join(listed(figure))


@pytest.mark.parametrize(("n_epochs", "per_epoch", "named"), [(1, 1, False), (3, 1, False), (1, 2, True), (2, 2, True)])
def test_minibatches_that_are_their_epochs_mean_are_named_once(n_epochs: int, per_epoch: int, named: bool) -> None:
    model = build(PPOPenalty, n_epochs=n_epochs, batch_size=ROLLOUT // per_epoch).learn(ROLLOUT)
    assert ("minibatch" in listed(plot_update(model.last_update))) is named


# ------------------------------------------------------------------------------------------------------ minibatches


@pytest.mark.parametrize("n_epochs", [1, 3, 10])
def test_minibatches_are_counted_in_whole_numbers(n_epochs: int) -> None:
    figure = plot_update(build(PPOPenalty, n_epochs=n_epochs, batch_size=ROLLOUT).learn(ROLLOUT).last_update)
    low, high = figure.axes[-1].get_xlim()
    ticks = [tick for tick in figure.axes[-1].get_xticks() if low <= tick <= high]
    assert 1 < len(ticks) and all(tick == int(tick) for tick in ticks)


# ------------------------------------------------------------------------------------------------------ objectives


@pytest.mark.parametrize("name", ["clip_range_upper", "dual_clip"])
def test_an_infinite_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be > . and finite, got inf"):
        plot_clip_objective(**{name: np.inf})


@pytest.mark.parametrize(("upper", "dual"), [(5.0, 1.01), (0.28, 3.0)])
def test_objectives_reach_past_the_ends_of_their_range(upper: float, dual: float) -> None:
    middle = plot_clip_objective(clip_range_upper=upper, dual_clip=dual).axes[1]
    curves = [np.asarray(line.get_xdata()) for line in middle.lines if len(np.asarray(line.get_xdata())) > 2]
    assert len(curves) == 6 and all(curve.max() > max(1 + upper, dual) for curve in curves)


@pytest.mark.parametrize(
    "advantages", [(1.0, -1.0, 100.0), (0.1, 0.2, 0.3, -0.1, -3.0, -100.0), (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)]
)
def test_the_names_of_the_lines_do_not_overlap_and_keep_their_order(advantages: tuple[float, ...]) -> None:
    figure = plot_clip_objective(advantages, clip_range_upper=5.0)
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        names = [text for text in axes.texts if text.get_text().startswith("A = ")]
        names.sort(key=lambda text: text.get_window_extent().y0)
        assert [text.get_text() for text in names] == [f"A = {a:g}".replace("-", "−") for a in sorted(advantages)]
        extents = [text.get_window_extent() for text in names]
        assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(extents))
        assert extents[-1].y1 < axes.title.get_window_extent().y0


def test_names_are_moved_no_further_than_needed() -> None:
    assert apart([0.9, 0.1, 0.5], gap=0.25, highest=1) == [0.9, 0.1, 0.5]
    assert apart([0.5, 0.0, 0.5, 0.5], gap=0.25, highest=1) == [0.25, 0.0, 0.5, 0.75]
    assert apart([1.0, 1.0, 0.75], gap=0.25, highest=1) == [0.75, 1.0, 0.5]


def test_the_kl_of_a_policy_that_has_collapsed_leaves_room_for_the_rest() -> None:
    figure = plot_trust_region({"ppo_clip": [table([0.02, 9.5, 1e-12, -3e-11, 0.0])]})
    (drawn,) = (one for one in figure.axes[0].lines if one.get_label() == "ppo_clip")
    assert list(map(float, drawn.get_ydata())) == [0.02, 9.5, 1e-8, 1e-8, 1e-8]  # type: ignore[arg-type]
    assert figure.axes[0].get_ylim()[0] > 1e-10
