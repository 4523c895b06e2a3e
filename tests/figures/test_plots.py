"""The figures: what is drawn is what was given, at one update and at ten runs; what is missing is said to be."""

import importlib
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from environments import make_vec_env
from hosts import build
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecMonitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_ppo_variants import PPOAdaptiveClip, PPOClip, PPOPenalty
from sb3_ppo_variants.callbacks import TrustRegionFigure, TrustRegionRecorder
from sb3_ppo_variants.cli import main
from sb3_ppo_variants.figures import command
from sb3_ppo_variants.figures.figure_style import ALGORITHMS, check_ending, looks
from sb3_ppo_variants.plots import plot_clip_objective, plot_trust_region, plot_update
from sb3_ppo_variants.trust_region_log import (
    HEADER,
    Row,
    Table,
    TrustRegionLog,
    read_trust_region,
    table_of,
    text_of_rows,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
    pytest.mark.filterwarnings("ignore:A2C logs no KL"),
]
ROLLOUT = 50


def table(kl: list[float], steps: list[int] | None = None, **columns: float) -> Table:
    """Make up a run with a KL per update."""
    steps = steps or [100 * (i + 1) for i in range(len(kl))]
    rows: list[Row] = [
        {"update": i + 1, "timesteps": steps[i], "kl_divergence": value, "clip_range": 0.2, "clip_fraction": 0.3}
        | {"ep_rew_mean": 10.0 * value, "target_kl": 0.02}
        | columns
        for i, value in enumerate(kl)
    ]
    return table_of(rows)


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    """Return the points of the line with a label."""
    lines = [one for one in axes.lines if one.get_label() == label]
    return list(map(float, lines[-1].get_xdata())), list(map(float, lines[-1].get_ydata()))  # type: ignore[arg-type]


def texts(figure: Figure) -> str:
    parts = [figure.get_suptitle()]
    for axes in figure.axes:
        parts += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), *(text.get_text() for text in axes.texts)]
        parts += axes.get_legend_handles_labels()[1]
    parts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join(parts)


def save(figure: Figure, folder: Path) -> None:
    """Draw it: layout and formatters run only now."""
    figure.savefig(folder / "figure.png")
    assert (folder / "figure.png").stat().st_size > 5000


# ------------------------------------------------------------------------------------------------- the objectives


def at(axes: Axes, advantage: float, ratio: float) -> float:
    order = [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0]
    curves = [one for one in axes.lines if len(one.get_xdata()) > 2]  # type: ignore[arg-type]
    x, y = (np.asarray(values) for values in curves[order.index(advantage)].get_data())
    return float(np.interp(ratio, x, y))


def test_clip_objective_has_the_values_of_the_papers(tmp_path: Path) -> None:
    figure = plot_clip_objective(clip_range=0.2, clip_range_upper=0.5, dual_clip=3.0, beta=2.0)
    clip, asymmetric, penalty = figure.axes
    # min(r A, clip(r, 0.8, 1.2) A)
    assert at(clip, 2.0, 1.1) == pytest.approx(2.2)
    assert at(clip, 2.0, 1.5) == pytest.approx(2.4)
    assert at(clip, -1.0, 0.5) == pytest.approx(-0.8)
    assert at(clip, -1.0, 1.5) == pytest.approx(-1.5)
    # upper end 1.5, and -3 at most for A = -1
    assert at(asymmetric, 1.0, 2.0) == pytest.approx(1.5, abs=1e-2)
    assert at(asymmetric, -1.0, 2.0) == pytest.approx(-2.0)
    assert at(asymmetric, -1.0, 3.5) == pytest.approx(-3.0)
    # r A - 2 (r - 1 - ln r): A at r = 1, and 2 - 2 (1 - ln 2) for A = 1 at r = 2
    assert at(penalty, -0.5, 1.0) == pytest.approx(-0.5, abs=1e-4)
    assert at(penalty, 1.0, 2.0) == pytest.approx(2 * np.log(2), abs=1e-4)
    dots = {tuple(np.ravel(one.get_data()).tolist()) for one in penalty.lines if one.get_marker() == "o"}
    assert (2.0, pytest.approx(2 * np.log(2))) == max(dots)

    boundaries = [float(one.get_xdata()[0]) for one in asymmetric.lines if one.get_linestyle() == "--"][-3:]  # type: ignore[index]
    assert boundaries == [0.8, 1.5, 3.0]
    for text in ("A = −2", "1 − ε", "1 + ε'", "[0.8, 1.5]", "c = 3", "β = 2", "ratio r"):
        assert text in texts(figure)
    save(figure, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"advantages": ()}, "`advantages`"),
        ({"advantages": (0.0, 1.0)}, "`advantages`"),
        ({"clip_range": 1.0}, "`clip_range`"),
        ({"clip_range_upper": 0.0}, "`clip_range_upper`"),
        ({"dual_clip": 1.0}, "`dual_clip`"),
        ({"beta": 0.0}, "`beta`"),
    ],
)
def test_clip_objective_refuses_what_is_no_objective(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_clip_objective(**arguments)


# ---------------------------------------------------------------------------------------------------------- a run


def test_one_run_is_drawn_as_it_is(tmp_path: Path) -> None:
    figure = plot_trust_region([table([0.01, 0.03, 0.02], beta=2.0)])
    kl, beta, clip_range, clip, learned = figure.axes
    assert line(kl, "ppo_penalty") == ([100, 200, 300], [0.01, 0.03, 0.02])
    assert line(kl, "target KL") == ([100, 200, 300], [0.02] * 3)
    (band,) = kl.collections
    heights = band.get_paths()[0].vertices[:, 1]  # type: ignore[index]
    assert (heights.min(), heights.max()) == pytest.approx((0.02 / 1.5, 0.03))
    assert line(beta, "ppo_penalty") == ([100, 200, 300], [2.0] * 3)
    assert line(clip_range, "ppo_penalty") == ([100, 200, 300], [0.2] * 3)
    assert line(clip, "ppo_penalty") == ([100, 200, 300], [0.3] * 3)
    assert line(learned, "ppo_penalty") == ([100, 200, 300], [0.1, 0.3, 0.2])
    for text in ("exact KL", "nats per state", "β", "clip fraction", "environment steps"):
        assert text in texts(figure)
    assert "range of" not in texts(figure)
    save(figure, tmp_path)


def test_ten_runs_are_drawn_as_mean_and_range(tmp_path: Path) -> None:
    runs = [table([0.01 * i, 0.02]) for i in range(1, 11)]
    figure = plot_trust_region(runs)
    kl = figure.axes[0]
    steps, mean = line(kl, "ppo")
    assert steps == [100, 200]
    assert mean == pytest.approx([0.055, 0.02])
    assert corners(kl) == {(100, 0.01), (100, 0.1), (200, 0.02)}
    assert thin_lines(kl) == []
    assert "one run" not in texts(figure)
    assert "mean and range of 10 runs" in texts(figure)
    save(figure, tmp_path)


def corners(axes: Axes) -> set[tuple[float, float]]:
    """Return the corners of the band that was drawn last."""
    (path,) = axes.collections[-1].get_paths()
    return {(round(float(x), 6), round(float(y), 6)) for x, y in path.vertices}  # type: ignore[union-attr]


def thin_lines(axes: Axes) -> list[list[tuple[float, float]]]:
    """Return the points of the lines that are those of single runs."""
    thin = [one for one in axes.lines if one.get_linewidth() < 1 and len(one.get_xdata())]  # type: ignore[arg-type]
    return [[(float(x), pytest.approx(float(y))) for x, y in zip(*one.get_data())] for one in thin]


def test_the_mean_ends_with_the_shortest_run_and_the_others_go_on_as_thin_lines(tmp_path: Path) -> None:
    """A mean that goes on would fall from 0.03 to 0.01 where the second run ends, although no run falls."""
    steps = [100, 200, 300, 400]
    figure = plot_trust_region([table([0.01] * 4, steps), table([0.05] * 2, steps[:2]), table([0.03] * 3, steps[:3])])
    kl = figure.axes[0]
    assert line(kl, "ppo") == ([100, 200], pytest.approx([0.03, 0.03]))
    assert corners(kl) == {(100, 0.01), (200, 0.01), (100, 0.05), (200, 0.05)}
    assert thin_lines(kl) == [[(200, 0.01), (300, 0.01), (400, 0.01)], [(200, 0.03), (300, 0.03)]]
    assert line(kl, "target KL")[0] == steps
    assert texts(figure).count("one run, where not all have a value") > 0
    assert [text.get_text() for text in figure.legends[0].get_texts()].count("one run, where not all have a value") == 1
    save(figure, tmp_path)


def test_runs_without_a_time_step_in_common_are_thin_lines_only(tmp_path: Path) -> None:
    figure = plot_trust_region([table([0.01, 0.02], [100, 200]), table([0.03], [300])])
    assert line(figure.axes[0], "ppo") == ([], [])
    assert thin_lines(figure.axes[0]) == [[(100, 0.01), (200, 0.02)], [(300, 0.03)]]
    assert figure.axes[0].get_yscale() == "log"
    save(figure, tmp_path)


def test_runs_with_other_time_steps_are_interpolated() -> None:
    figure = plot_trust_region([table([0.01, 0.03], [100, 300]), table([0.05, 0.05], [200, 400])])
    steps, mean = line(figure.axes[0], "ppo")
    assert steps == [200, 300]
    assert mean == pytest.approx([(0.02 + 0.05) / 2, (0.03 + 0.05) / 2])
    assert thin_lines(figure.axes[0]) == [[(100, 0.01), (200, 0.02)], [(300, 0.05), (400, 0.05)]]


@pytest.mark.parametrize("label", [None, "mine"])
def test_runs_of_different_targets_are_not_drawn_as_one(label: str | None) -> None:
    runs = [table([0.01, 0.02], target_kl=0.005), table([0.01, 0.02])]
    message = r"must have the same target_kl, got \[0.005, 0.02\]; give each setting a label: `--runs LABEL FILE"
    with pytest.raises(ValueError, match=message):
        plot_trust_region(runs if label is None else {label: runs})
    assert "target KL of each" in texts(plot_trust_region({"tight": runs[:1], "loose": runs[1:]}))


@pytest.mark.parametrize(
    ("columns", "algorithm"),
    [
        ({"clip_scale": 1.2}, "ppo_adaptive_clip"),
        ({"lr_scale": 0.5}, "ppo_adaptive_lr"),
        ({"lr_scale": 0.5, "clip_scale": 1.2}, "ppo_adaptive_lr"),  # with ClipRangeFromClipFraction
        ({"beta": 1.0, "clip_scale": 1.2}, "ppo_penalty"),  # likewise
        ({"clip_scale": 1.2, "target_kl": np.nan, "grad_norm": 0.5}, "ppo_clip"),  # likewise
    ],
)
def test_an_algorithm_is_told_by_what_its_updates_hold(columns: dict[str, float], algorithm: str) -> None:
    figure = plot_trust_region([table([0.01, 0.02], **columns)])
    assert line(figure.axes[0], algorithm)[1] == [0.01, 0.02]


def test_runs_of_one_scheduled_target_are_drawn_as_one() -> None:
    steps = {"all": [100, 200, 300, 400], "odd": [150, 300]}
    runs = []
    for of_run in steps.values():
        run = table([0.01] * len(of_run), of_run)
        run["target_kl"] = 0.05 - 1e-4 * run["timesteps"]
        runs.append(run)
    drawn = line(plot_trust_region(runs).axes[0], "target KL")
    assert drawn == ([100, 150, 200, 300, 400], pytest.approx([0.04, 0.035, 0.03, 0.02, 0.01]))
    runs[1]["target_kl"][-1] = 0.03
    with pytest.raises(ValueError, match="must have the same target_kl"):
        plot_trust_region(runs)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda env: PPO("MlpPolicy", env, n_steps=25, batch_size=50),
            ["estimate of the KL from samples", "ε, the clip"],
        ),
        (
            lambda env: TRPO("MlpPolicy", env, n_steps=25, batch_size=50),
            ["TRPO's KL(new || old)"],
        ),
        (lambda env: A2C("MlpPolicy", env, n_steps=25), ["no KL divergence was logged"]),
        (lambda env: build(PPOPenalty, env=env), ["β, of the penalty"]),
        (lambda env: build(PPOAdaptiveClip, env=env), ["target KL /1.5 to ×1.5", "usually healthy"]),
    ],
)
def test_one_update_is_drawn_and_what_was_not_logged_is_said(
    make: Callable[[Any], Any], said: list[str], tmp_path: Path
) -> None:
    model = make(VecMonitor(make_vec_env()))
    model.learn(ROLLOUT, callback=TrustRegionRecorder(tmp_path / "run.csv"))
    figure = plot_trust_region([read_trust_region(tmp_path / "run.csv").updates])
    for text in said:
        assert text in texts(figure)
    save(figure, tmp_path)


def test_a_run_without_episodes_or_updates_is_told_apart(tmp_path: Path) -> None:
    build(PPOClip).learn(ROLLOUT, callback=TrustRegionRecorder(tmp_path / "run.csv"))  # no Monitor
    assert "no episode ended in a Monitor" in texts(
        plot_trust_region([read_trust_region(tmp_path / "run.csv").updates])
    )
    with pytest.raises(ValueError, match="every run must hold an update, got 0"):
        plot_trust_region([table([0.1]), table([])])
    with pytest.raises(ValueError, match="`runs` must hold at least one run"):
        plot_trust_region([])


@pytest.mark.parametrize(
    ("columns", "panels"),
    [
        ({"beta": 2.0, "clip_range": np.nan, "clip_fraction": 0.0}, ["KL", "β", "return"]),  # a pure penalty
        ({"beta": 2.0, "clip_range": 0.5, "clip_fraction": 0.01}, ["KL", "β", "ε", "clip fraction", "return"]),  # both
        ({"clip_scale": 2.0}, ["KL", "ε", "clip fraction", "return"]),
        ({"clip_range": 1.0, "clip_fraction": 0.1}, ["KL", "ε", "clip fraction", "return"]),  # with a clip above
        ({"clip_range": np.nan, "clip_fraction": np.nan}, ["KL", "return"]),
    ],
)
def test_there_is_a_panel_only_for_what_a_run_has(columns: dict[str, float], panels: list[str]) -> None:
    figure = plot_trust_region([table([0.01, 0.02], **columns)])
    assert [axes.get_ylabel().split("  ")[0] for axes in figure.axes] == panels


def test_runs_of_different_algorithms_are_in_one_figure_with_one_legend(tmp_path: Path) -> None:
    penalty = [table([0.01, 0.02], beta=2.0, clip_range=np.nan), table([0.03, 0.04], beta=4.0, clip_range=np.nan)]
    stock = table([np.nan, np.nan], approx_kl=0.005, target_kl=np.nan)
    figure = plot_trust_region([*penalty, stock])
    kl = figure.axes[0]
    assert line(kl, "ppo")[1] == [0.005, 0.005]
    assert line(kl, "ppo_penalty")[1] == pytest.approx([0.02, 0.03])
    assert "exact KL: ppo_penalty\nestimate of the KL from samples: ppo" in figure.axes[0].get_title()
    assert [axes for axes in figure.axes if axes.get_legend() is not None] == []
    (legend,) = figure.legends
    listed = [text.get_text() for text in legend.get_texts()]
    assert listed[:2] == ["ppo", "ppo_penalty: mean and range of 2 runs"]  # in the order of all figures
    colours = {str(one.get_label()): one.get_color() for one in kl.lines}
    assert (colours["ppo"], colours["ppo_penalty"]) == ("#000000", "#D55E00")
    save(figure, tmp_path)


def test_labelled_runs_of_one_algorithm_are_told_apart() -> None:
    figure = plot_trust_region({"tight": [table([0.01])], "ppo": [table([0.02])], "loose": [table([0.03])]})
    assert [one.get_label() for one in figure.axes[-1].lines] == ["ppo", "tight", "loose"]
    assert len({one.get_color() for one in figure.axes[-1].lines}) == 3


def test_log_axes_have_plain_numbers() -> None:
    figure = plot_trust_region([table([20.0, 150.0], target_kl=np.nan)])
    figure.canvas.draw()
    low, high = figure.axes[0].get_ylim()
    ticks = zip(figure.axes[0].get_yticks(), figure.axes[0].get_yticklabels())
    assert [label.get_text() for tick, label in ticks if low <= tick <= high] == ["20", "50", "100"]


def test_a_notebook_shows_a_figure_that_is_the_value_of_a_cell() -> None:
    figures = [plot_trust_region([table([0.1])]), plot_clip_objective()]
    for figure in figures:
        assert figure._repr_png_().startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


# ------------------------------------------------------------------------------------------------ how they look


def test_every_algorithm_has_one_look_of_its_own() -> None:
    every = looks({name: name for name in ALGORITHMS})
    assert len({look.color for look in every.values()}) == len({look.marker for look in every.values()}) == len(every)
    assert looks({"again": "ppo_penalty_lstm"}) == {"again": every["ppo_penalty"]}
    assert looks({"sac": "sac", "trpo": "trpo"})["trpo"] == every["trpo"]
    several = looks({str(i): "ppo_penalty" for i in range(11)})
    assert len(set(several.values())) == 11 and several["0"] == every["ppo_penalty"]


# ------------------------------------------------------------------------------------------------------ one update


@pytest.mark.parametrize(
    ("cls", "kind"),
    [(PPOPenalty, "exact"), (PPOAdaptiveClip, "exact"), (PPOClip, "sampled estimate")],
)
def test_an_update_is_drawn_by_minibatch_and_epoch(cls: type[Any], kind: str, tmp_path: Path) -> None:
    model = build(cls, max_kl=None).learn(ROLLOUT)
    trace = model.last_update
    figure = plot_update(trace)
    kl = figure.axes[0]
    field = "kl_divergence" if kind == "exact" else "approx_kl"
    assert line(kl, "minibatch") == (list(range(1, 13)), trace.column(field).tolist())
    assert line(kl, "epoch mean") == ([2.5, 6.5, 10.5], pytest.approx(trace.per_epoch(field).tolist()))
    assert f"KL of each minibatch ({kind})" in texts(figure)
    assert "Inside one update of 3 epochs" in texts(figure)
    assert ("target KL 0.02" in texts(figure)) == (cls is not PPOClip)
    if cls is PPOPenalty:
        assert len(figure.axes) == 1  # there is no clip
    else:
        assert line(figure.axes[1], "minibatch")[1] == trace.column("clip_fraction").tolist()
    save(figure, tmp_path)


def test_what_is_no_update_or_run_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold a minibatch, got 0; pass model.last_update after an update"):
        plot_update(build(PPOClip).last_update)
    with pytest.raises(ValueError, match="a run must be an update table, got 'str'"):
        plot_trust_region(["run.csv"])  # type: ignore[list-item]  # which is wrong


def test_an_update_that_stopped_in_its_first_minibatches_is_drawn(tmp_path: Path) -> None:
    figure = plot_update(build(PPOClip, max_kl=1e-9, on_max_kl="stop").learn(ROLLOUT).last_update)
    assert "Inside one update stopped early after 0.5 epochs" in texts(figure)
    assert "before the projection" not in texts(figure)
    save(figure, tmp_path)


def test_an_update_that_was_projected_shows_the_kl_before_and_after(tmp_path: Path) -> None:
    trace = build(PPOPenalty, learning_rate=0.02, max_kl=1e-3).learn(ROLLOUT).last_update
    assert trace.projection < 1
    figure = plot_update(trace)
    after = f"after the update: {trace.kl_divergence:.2g} (whole rollout)"
    before = f"before the projection: {trace.kl_before_projection:.2g}; {trace.projection:.0%} of the step is kept"
    assert before in texts(figure)
    assert line(figure.axes[0], before) == ([13.0], [trace.kl_before_projection])
    assert line(figure.axes[0], after) == ([13.0], [trace.kl_divergence])
    save(figure, tmp_path)


# -------------------------------------------------------------------------------------------- callback and command


def test_tensorboard_shows_the_figure(tmp_path: Path) -> None:
    model = build(PPOPenalty, tensorboard_log=str(tmp_path))
    model.learn(5 * ROLLOUT, callback=TrustRegionFigure(every=2), tb_log_name="run")
    events = EventAccumulator(str(tmp_path / "run_1")).Reload()
    images = events.Images("trust_region/figure")
    assert [image.step for image in images] == [100, 200, 250]  # every second update, and the end
    assert images[0].encoded_image_string.startswith(b"\x89PNG")
    assert (images[0].width, images[0].height) > (500, 500)
    assert "train/kl_divergence" in events.Tags()["scalars"]
    assert (tmp_path / "run_1" / "trust_region.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_needs_no_tensorboard(tmp_path: Path) -> None:
    model = build(PPOClip)
    model.set_logger(configure(str(tmp_path / "log"), ["csv", "json"]))
    callback = TrustRegionFigure(every=10, path=tmp_path / "figures" / "run.svg")
    model.learn(ROLLOUT, callback=callback)
    assert "<svg" in (tmp_path / "figures" / "run.svg").read_text()
    written = (tmp_path / "figures" / "run.svg").stat().st_mtime_ns
    callback.on_training_end()  # rl-zoo3 calls it once more
    assert (tmp_path / "figures" / "run.svg").stat().st_mtime_ns == written


@pytest.mark.parametrize(("logger", "folder"), [(None, "."), ("log", "log")])
def test_a_figure_without_a_path_lies_where_it_is_found(
    logger: str | None, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = build(PPOClip)
    if logger is not None:
        model.set_logger(configure(logger, ["csv"]))
    model.learn(ROLLOUT, callback=TrustRegionFigure())
    assert Path(folder, "trust_region.png").exists()


def test_bad_figure_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`every` must be an integer >= 1, got 0"):
        TrustRegionFigure(every=0)
    with pytest.raises(ValueError, match="must end in .png, .svg, .pdf, got '.*run.jpg'"):
        TrustRegionFigure(path=tmp_path / "run.jpg")
    assert check_ending("A.PDF") == Path("A.PDF")
    (tmp_path / "folder.png").mkdir()
    model = build(PPOClip)
    with pytest.raises(ValueError, match="`path` must be a file that can be written"):
        model.learn(ROLLOUT, callback=TrustRegionFigure(path=tmp_path / "folder.png"))
    assert model.num_timesteps == 0


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (plot_clip_objective, lambda: plot_trust_region([table([0.1])])):
        with pytest.raises(ImportError, match=r'pip install "\.\[plots\]"'):
            draw()
    model = build(PPOClip)
    with pytest.raises(ImportError, match="figures need matplotlib"):
        model.learn(ROLLOUT, callback=TrustRegionFigure(path=tmp_path / "run.png"))
    assert model.num_timesteps == 0


def test_importing_the_package_imports_no_plotting() -> None:
    modules = [
        "sb3_ppo_variants",
        "sb3_ppo_variants.callbacks",
        "sb3_ppo_variants.plots",
        "sb3_ppo_variants.figures.command",
    ]
    script = f"""
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
assert not [name for name in sys.modules if name.split(".")[0] in ("matplotlib", "rl_zoo3")]
"""
    assert all(importlib.util.find_spec(name) for name in modules)
    subprocess.run([sys.executable, "-c", script], check=True)


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["sb3-ppo-variants", "plot", *map(str, arguments)])
    main()


def test_the_command_draws_every_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = set(sys.modules)
    runs = [tmp_path / f"{seed}.csv" for seed in range(2)]
    for seed, path in enumerate(runs):
        build(PPOPenalty, seed=seed).learn(2 * ROLLOUT, callback=TrustRegionRecorder(path, minibatches=True))
    run_command(monkeypatch, "clip-objective", "--out", tmp_path / "a.svg", "--beta", 3)
    run_command(monkeypatch, "trust-region", *runs, "--out", tmp_path / "new" / "b.pdf", "--title", "Two seeds")
    run_command(
        monkeypatch, "trust-region", "--runs", "tight", runs[0], "--runs", "loose", runs[1], "--out", tmp_path / "d.png"
    )
    drawn: list[Any] = []
    monkeypatch.setattr(command, "plot_trust_region", lambda given, *rest: drawn.append(given) or Figure())
    files = ["--runs", "both", runs[0], "--runs", "both", runs[1]]
    run_command(monkeypatch, "trust-region", *files, "--out", tmp_path / "e.png")
    assert [len(of_label) for of_label in drawn[0].values()] == [2]
    run_command(monkeypatch, "update", runs[0], "--out", tmp_path / "c.png", "--update", 1)
    assert "<svg" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "new" / "b.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    imported = sys.modules.keys() - before
    assert not [name for name in imported if name.startswith("rl_zoo3")]  # it would patch Gymnasium


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trust-region", "none.csv", "--out", "x.png"], "No such file"),
        (["trust-region", "other.csv", "--out", "x.png"], "must have the columns of TrustRegionRecorder"),
        (["trust-region", "empty.csv", "--out", "x.png"], "`empty.csv` must hold an update"),
        (
            ["trust-region", "0.005.csv", "0.02.csv", "--out", "x.png"],
            "must have the same target_kl, .*--runs LABEL FILE",
        ),
        (["trust-region", "--out", "x.png"], "takes either FILE ... or, once for each label, --runs LABEL FILE"),
        (["trust-region", "a.csv", "--runs", "b", "b.csv", "--out", "x.png"], "takes either FILE"),
        (["update", "empty.csv", "--out", "x.png"], "must hold an update"),
        (["clip-objective", "--out", "x.gif"], "must end in .png, .svg, .pdf"),
        (["clip-objective", "--out", "x.png", "--dual-clip", "0.5"], "`dual_clip` must be > 1"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("a,b\n1,2\n")
    Path("empty.csv").write_text("")
    for target in ("0.005", "0.02"):
        row = {"update": 1, "timesteps": 100, "kl_divergence": 0.01, "target_kl": target}
        Path(f"{target}.csv").write_text(HEADER + text_of_rows([row]))
    with pytest.raises(SystemExit, match=message):
        run_command(monkeypatch, *arguments)
    assert not Path("x.png").exists()


def test_the_kl_stays_on_a_log_axis_where_the_last_learning_rate_is_0() -> None:
    figure = plot_trust_region([table([0.01, 0.002, 0.0])])
    assert figure.axes[0].get_yscale() == "log"


def test_a_beta_of_0_beside_others_is_drawn_at_the_lower_end_which_the_title_names() -> None:
    figure = plot_trust_region({"none": [table([0.01] * 2, beta=0.0)], "some": [table([0.01] * 2, beta=3.0)]})
    beta = figure.axes[1]
    assert (line(beta, "none")[1], line(beta, "some")[1]) == ([1.5] * 2, [3.0] * 2)
    assert beta.get_yscale() == "log" and beta.get_ylim()[0] < 1.5
    assert beta.get_title().endswith("(lower is drawn at 1.5)")


@pytest.mark.filterwarnings("error::UserWarning")
def test_panels_of_zeros_are_linear() -> None:
    figure = plot_trust_region([table([0.0, 0.0], beta=0.0, target_kl=np.nan)])
    assert [axes.get_yscale() for axes in figure.axes[:2]] == ["linear"] * 2
    assert [line(axes, "ppo_penalty")[1] for axes in figure.axes[:2]] == [[0.0, 0.0]] * 2
    assert "lower is drawn" not in texts(figure)


def test_what_is_no_list_of_tables_is_refused() -> None:
    log = TrustRegionLog(table([0.01, 0.02]), table([0.01]), table([0.01]))
    for given in (log, table([0.01]), {"mine": table([0.01])}, {"mine": log}):
        with pytest.raises(ValueError, match=r"pass \[read_trust_region\(path\).updates\]"):
            plot_trust_region(given)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 0.5, math.nan, math.inf])
def test_a_band_without_a_width_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="`kl_tolerance` must be > 1"):
        plot_trust_region([table([0.01])], kl_tolerance=tolerance)


@pytest.mark.parametrize("wrong", [{"beta": math.inf}, {"advantages": [math.nan]}])
def test_objectives_of_numbers_that_are_not_finite_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        plot_clip_objective(**wrong)
