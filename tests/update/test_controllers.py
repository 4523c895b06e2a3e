"""The rule that moves beta and epsilon: hand-worked numbers and properties."""

import dataclasses
import math
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_ppo_variants.update.controllers import Adjustment, BandController, Verdict

SETTINGS = settings(max_examples=200, deadline=None, database=None)
TARGET = 0.25  # with tolerance 2 the band is [0.125, 0.5]: exact in binary, so that the edges are the edges
WIDE = (1e-3, 1e3)
CONTROLLER = BandController(tolerance=2.0, factor=4.0)
Tightens = Literal["up", "down"]


@pytest.mark.parametrize(
    ("measured", "verdict", "beta", "epsilon"),
    [
        pytest.param(0.75, "above", 32.0, 2.0, id="above"),
        pytest.param(math.nextafter(0.5, 1), "above", 32.0, 2.0, id="just_above_the_upper_edge"),
        pytest.param(0.5, "inside", 8.0, 8.0, id="on_the_upper_edge"),
        pytest.param(0.25, "inside", 8.0, 8.0, id="on_target"),
        pytest.param(0.125, "inside", 8.0, 8.0, id="on_the_lower_edge"),
        pytest.param(math.nextafter(0.125, 0), "below", 2.0, 32.0, id="just_below_the_lower_edge"),
        pytest.param(0.0, "below", 2.0, 32.0, id="zero"),
        pytest.param(-1e-9, "below", 2.0, 32.0, id="negative_by_rounding"),
        pytest.param(math.nan, "above", 32.0, 2.0, id="nan_counts_as_too_high"),
        pytest.param(math.inf, "above", 32.0, 2.0, id="infinity_counts_as_too_high"),
    ],
)
def test_controller_takes_one_step_by_the_place_of_the_measurement(
    measured: float, verdict: Verdict, beta: float, epsilon: float
) -> None:
    assert CONTROLLER.verdict(measured, TARGET) == verdict
    assert CONTROLLER(8.0, measured, TARGET, WIDE, tightens="up") == Adjustment(beta, verdict, saturated=False)
    assert CONTROLLER(8.0, measured, TARGET, WIDE, tightens="down") == Adjustment(epsilon, verdict, saturated=False)


def test_controller_with_paper_constants_doubles_and_halves_beta() -> None:
    paper = BandController(tolerance=1.5, factor=2.0)
    values = [paper(1.0, kl, 0.01, WIDE, tightens="up").value for kl in (0.016, 0.0149, 0.01, 0.0067, 0.0066)]
    assert values == [2.0, 1.0, 1.0, 1.0, 0.5]


@pytest.mark.parametrize(("tightens", "measured"), [("up", 10.0), ("down", 0.01)])
def test_larger_value_stops_at_the_upper_bound_and_is_saturated(tightens: Tightens, measured: float) -> None:
    assert CONTROLLER(3.0, measured, TARGET, (1.0, 10.0), tightens).value == 10.0
    assert CONTROLLER(3.0, measured, TARGET, (1.0, 10.0), tightens).saturated
    assert not CONTROLLER(2.5, measured, TARGET, (1.0, 10.0), tightens).saturated  # a full step, just onto the bound


@pytest.mark.parametrize(("tightens", "measured"), [("up", 0.01), ("down", 10.0), ("down", math.nan)])
def test_smaller_value_stops_at_the_lower_bound_and_is_saturated(tightens: Tightens, measured: float) -> None:
    assert CONTROLLER(3.0, measured, TARGET, (1.0, 10.0), tightens).value == 1.0
    assert CONTROLLER(3.0, measured, TARGET, (1.0, 10.0), tightens).saturated
    assert not CONTROLLER(4.0, measured, TARGET, (1.0, 10.0), tightens).saturated


def test_value_outside_the_bounds_is_brought_back_even_inside_the_band() -> None:
    assert CONTROLLER(100.0, TARGET, TARGET, (1.0, 10.0), "up") == Adjustment(10.0, "inside", saturated=True)


@pytest.mark.parametrize("measured", [0.0, 1e-30, 0.01, 1e30])
def test_infinite_tolerance_never_moves(measured: float) -> None:
    never = BandController(tolerance=math.inf, factor=2.0)
    for tightens in ("up", "down"):
        adjustment = never(3.0, measured, 0.01, WIDE, tightens)  # type: ignore[arg-type]  # a literal in a tuple
        assert adjustment == Adjustment(3.0, "inside", saturated=False)


def test_infinite_tolerance_never_moves_for_a_kl_that_rounding_made_negative() -> None:
    assert BandController(tolerance=math.inf, factor=2.0).verdict(-1e-9, 0.01) == "inside"


def test_controller_holds_no_state() -> None:
    before = dataclasses.astuple(CONTROLLER)
    results = {CONTROLLER(8.0, 0.75, TARGET, WIDE, "up") for _ in range(3)}
    assert len(results) == 1
    assert dataclasses.astuple(CONTROLLER) == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONTROLLER.factor = 3.0  # type: ignore[misc]  # what is tested


# -------------------------------------------------------------------------------------------------------- properties

controllers = st.builds(BandController, tolerance=st.floats(1.001, 1e3), factor=st.floats(1.001, 100))
targets = st.floats(1e-6, 10)
measurements = st.one_of(st.floats(-1e-6, 100), st.floats())
directions = st.sampled_from(["up", "down"])
bounds = st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)).map(lambda pair: (min(pair), max(pair)))


@SETTINGS
@given(
    controller=controllers,
    start=st.floats(1e-6, 1e3),
    kls=st.lists(measurements, max_size=20),
    target=targets,
    limits=bounds,
    tightens=directions,
)
def test_value_always_stays_finite_and_within_bounds(
    controller: BandController,
    start: float,
    kls: list[float],
    target: float,
    limits: tuple[float, float],
    tightens: Tightens,
) -> None:
    value = start
    for kl in [*kls, math.nan]:
        value = controller(value, kl, target, limits, tightens).value
        assert limits[0] <= value <= limits[1]


@SETTINGS
@given(
    controller=controllers,
    value=st.floats(1e-3, 1e3),
    kls=st.tuples(st.floats(0), st.floats(0)),
    target=targets,
    limits=bounds,
)
def test_value_is_monotone_in_the_measurement(
    controller: BandController, value: float, kls: tuple[float, float], target: float, limits: tuple[float, float]
) -> None:
    lower, higher = min(kls), max(kls)
    beta = [controller(value, kl, target, limits, "up").value for kl in (lower, higher, math.nan)]
    epsilon = [controller(value, kl, target, limits, "down").value for kl in (lower, higher, math.nan)]
    assert beta == sorted(beta)
    assert epsilon == sorted(epsilon, reverse=True)


@SETTINGS
@given(controller=controllers, value=st.floats(1e-3, 1e3), target=targets, tightens=directions)
def test_up_and_down_steps_are_inverse(
    controller: BandController, value: float, target: float, tightens: Tightens
) -> None:
    limits = (1e-9, 1e9)
    too_high, too_low = 1.1 * controller.tolerance * target, 0.9 * target / controller.tolerance
    up = controller(value, too_high, target, limits, tightens).value
    down = controller(value, too_low, target, limits, tightens).value
    assert controller(up, too_low, target, limits, tightens).value == pytest.approx(value, rel=1e-12)
    assert controller(down, too_high, target, limits, tightens).value == pytest.approx(value, rel=1e-12)
    assert up != value != down


@SETTINGS
@given(controller=controllers, value=st.floats(1e-3, 1e3), kl=measurements, target=targets)
def test_beta_and_epsilon_move_oppositely(controller: BandController, value: float, kl: float, target: float) -> None:
    beta, epsilon = (controller(value, kl, target, (1e-9, 1e9), tightens) for tightens in ("up", "down"))
    assert beta.verdict == epsilon.verdict
    assert beta.value * epsilon.value == pytest.approx(value**2, rel=1e-12)
    assert (beta.value > value) == (beta.verdict == "above")
    assert (epsilon.value > value) == (beta.verdict == "below")


@pytest.mark.parametrize(
    ("scale", "base", "measured", "tightens", "moved", "saturated"),
    [
        pytest.param(1.0, 0.5, 0.75, "down", 0.25, False, id="above"),
        pytest.param(1.0, 0.5, 0.0, "up", 0.25, False, id="below_the_other_way_round"),
        pytest.param(0.5, 0.5, 0.25, "down", 0.5, False, id="inside"),
        pytest.param(0.5, 0.5, 0.0, "down", 2.0, False, id="below"),
        pytest.param(1.0, 0.5, 0.0, "down", 2.0, True, id="the_bound_on_the_product_holds_it"),
        pytest.param(8.0, 0.5, 0.75, "down", 0.5, False, id="comes_down_from_the_bound"),
        pytest.param(2.0, 0.01, 0.0, "down", 2.0, True, id="no_say_where_the_base_is_below_the_bound"),
        pytest.param(0.0625, 0.5, 0.0, "down", 0.5, False, id="up_from_the_lower_bound_that_held_the_product"),
        pytest.param(0.0625, 0.5, 1.0, "down", 0.0625, True, id="no_further_down_from_the_lower_bound"),
    ],
)
def test_rescale_moves_the_factor_so_that_the_product_takes_the_step(
    scale: float, base: float, measured: float, tightens: Tightens, moved: float, saturated: bool
) -> None:
    adjustment = CONTROLLER.rescale(scale, base, measured, TARGET, (0.0625, 1.0), tightens)
    assert (adjustment.value, adjustment.saturated) == (moved, saturated)
