"""Exact KL of every distribution, against torch.distributions in float64, Monte-Carlo and hand-worked numbers."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th
import torch.distributions as td
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sb3_contrib.common.maskable.distributions import (
    MaskableBernoulliDistribution,
    MaskableCategoricalDistribution,
    MaskableDistribution,
    MaskableMultiCategoricalDistribution,
)
from scipy import integrate, stats
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_ppo_variants.update import distributions
from sb3_ppo_variants.update.distributions import (
    ActionDistribution,
    action_distribution,
    kl_divergence,
    register_distribution,
)
from sb3_ppo_variants.update.kl_divergence import KLDirection, Parameters

N_BATCH = 5
N_FEATURES = 3
DIMENSIONS = [2, 3, 4, 5, 6]
Raw = tuple[th.Tensor, ...]


class Case(NamedTuple):
    """One kind of distribution: its raw parameters, SB3's object made of them, and torch's own independent parts."""

    draw: Callable[[int, th.Generator], Raw]
    build: Callable[[Raw], Distribution]
    reference: Callable[[Raw], list[td.Distribution]]


def randn(*shape: int, generator: th.Generator) -> th.Tensor:
    return th.randn(*shape, generator=generator, dtype=th.float64)


def choices_per_part(n_dims: int) -> list[int]:
    return list(range(2, 2 + n_dims))


def draw_multi_logits(n_dims: int, generator: th.Generator) -> Raw:
    return (randn(N_BATCH, sum(choices_per_part(n_dims)), generator=generator),)


def split_logits(logits: th.Tensor) -> list[th.Tensor]:
    n_dims = next(n for n in range(1, 20) if sum(choices_per_part(n)) == logits.shape[1])
    return list(th.split(logits, choices_per_part(n_dims), dim=1))


def build_multi_categorical(raw: Raw) -> Distribution:
    return MultiCategoricalDistribution([part.shape[1] for part in split_logits(raw[0])]).proba_distribution(raw[0])


def draw_gaussian(n_dims: int, generator: th.Generator) -> Raw:
    return 0.7 * randn(N_BATCH, n_dims, generator=generator), 0.4 * randn(n_dims, generator=generator) - 0.5


def joint_normal(raw: Raw) -> td.Distribution:
    mean, log_std = raw
    return td.MultivariateNormal(mean, th.diag_embed(log_std.exp().expand_as(mean) ** 2))


def draw_gsde(n_dims: int, generator: th.Generator) -> Raw:
    mean = 0.7 * randn(N_BATCH, n_dims, generator=generator)
    log_std = 0.4 * randn(N_FEATURES, n_dims, generator=generator) - 1.0
    return mean, log_std, randn(N_BATCH, N_FEATURES, generator=generator)


def build_gsde(raw: Raw, squash: bool = False) -> StateDependentNoiseDistribution:
    n_dims = raw[0].shape[1]
    distribution = StateDependentNoiseDistribution(n_dims, learn_features=True, squash_output=squash)
    return distribution.proba_distribution(*raw)


def gsde_normal(raw: Raw) -> td.Distribution:
    """The action is mean + latent @ weights with independent Gaussian weights: a linear map of Gaussians."""
    mean, log_std, latent = raw
    covariance = [th.diag((latent[i] ** 2) @ (log_std.exp() ** 2)) for i in range(len(mean))]
    return td.MultivariateNormal(mean, th.stack(covariance) + 1e-6 * th.eye(mean.shape[1], dtype=th.float64))


def squashed(normal: td.Distribution) -> td.Distribution:
    return td.TransformedDistribution(normal, td.TanhTransform())


CASES = {
    "categorical": Case(
        lambda n, g: (2 * randn(N_BATCH, n, generator=g),),
        lambda raw: CategoricalDistribution(raw[0].shape[1]).proba_distribution(*raw),
        lambda raw: [td.Categorical(logits=raw[0])],
    ),
    "multi_categorical": Case(
        draw_multi_logits,
        build_multi_categorical,
        lambda raw: [td.Categorical(logits=part) for part in split_logits(raw[0])],
    ),
    "bernoulli": Case(
        lambda n, g: (randn(N_BATCH, n, generator=g),),
        lambda raw: BernoulliDistribution(raw[0].shape[1]).proba_distribution(*raw),
        lambda raw: [td.Independent(td.Bernoulli(logits=raw[0]), 1)],
    ),
    "diag_gaussian": Case(
        draw_gaussian,
        lambda raw: DiagGaussianDistribution(raw[0].shape[1]).proba_distribution(*raw),
        lambda raw: [joint_normal(raw)],
    ),
    "squashed_diag_gaussian": Case(
        draw_gaussian,
        lambda raw: SquashedDiagGaussianDistribution(raw[0].shape[1]).proba_distribution(*raw),
        lambda raw: [squashed(joint_normal(raw))],
    ),
    "gsde": Case(draw_gsde, build_gsde, lambda raw: [gsde_normal(raw)]),
    "gsde_squashed": Case(
        draw_gsde, lambda raw: build_gsde(raw, squash=True), lambda raw: [squashed(gsde_normal(raw))]
    ),
}
DISCRETE = ["categorical", "multi_categorical", "bernoulli"]
GAUSSIAN = ["diag_gaussian", "squashed_diag_gaussian", "gsde", "gsde_squashed"]
every_case = pytest.mark.parametrize("name", CASES)
both_directions = pytest.mark.parametrize("direction", ["forward", "reverse"])


def generator(seed: int) -> th.Generator:
    return th.Generator().manual_seed(seed)


def leaves(raw: Raw) -> Raw:
    return tuple(part.clone().requires_grad_() for part in raw)


# ---------------------------------------------------------------------------------------- against other implementations


@every_case
@both_directions
@pytest.mark.parametrize("n_dims", DIMENSIONS)
def test_kl_and_gradient_equal_torch_distributions(name: str, direction: KLDirection, n_dims: int) -> None:
    case = CASES[name]
    old, new = case.draw(n_dims, generator(n_dims)), leaves(case.draw(n_dims, generator(100 + n_dims)))

    kl = kl_divergence(case.build(old), case.build(new), direction)
    pairs = list(zip(case.reference(old), case.reference(new), strict=True))
    parts = [td.kl_divergence(o, n) if direction == "forward" else td.kl_divergence(n, o) for o, n in pairs]
    expected = th.stack(parts).sum(dim=0)

    assert kl.shape == (N_BATCH,)
    assert kl.dtype == th.float64
    th.testing.assert_close(kl, expected, rtol=1e-9, atol=1e-12)
    gradients, expected_gradients = th.autograd.grad(kl.sum(), new), th.autograd.grad(expected.sum(), new)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        th.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-11)


@every_case
@pytest.mark.parametrize("n_dims", [2, 6])
def test_kl_lies_within_four_standard_errors_of_monte_carlo(name: str, n_dims: int) -> None:
    n_samples = 20_000
    case = CASES[name]
    raws = case.draw(n_dims, generator(7)), case.draw(n_dims, generator(8))
    # One state, many times: every row of the batch is then one independent sample of the same distribution.
    batched = {0, 2} if name.startswith("gsde") else {0}
    old_raw, new_raw = (
        tuple(part[:1].expand(n_samples, -1) if i in batched else part for i, part in enumerate(raw)) for raw in raws
    )
    old, new = case.build(old_raw), case.build(new_raw)
    th.manual_seed(11)
    if isinstance(old, StateDependentNoiseDistribution):
        old.sample_weights(old_raw[1], batch_size=n_samples)
    actions = old.sample()
    for direction, sign, sampled in (("forward", 1, actions), ("reverse", -1, None)):
        if sampled is None:
            if isinstance(new, StateDependentNoiseDistribution):
                new.sample_weights(new_raw[1], batch_size=n_samples)
            sampled = new.sample()
        differences = sign * (old.log_prob(sampled) - new.log_prob(sampled))
        standard_error = differences.std() / math.sqrt(n_samples)
        kl = kl_divergence(old, new, direction)  # type: ignore[arg-type]  # a literal in a tuple
        assert abs(kl[0] - differences.mean()) < 4 * standard_error
        assert kl[0] > 10 * standard_error  # otherwise the line above would accept a wrong number


def test_gaussian_kl_equals_hand_worked_number() -> None:
    # N(0, 1) x N(1, 2^2) against N(1, 1) x N(1, 1): 1/2 + (ln(1/2) + 4/2 - 1/2)
    old = DiagGaussianDistribution(2).proba_distribution(th.tensor([[0.0, 1.0]]), th.tensor([0.0, math.log(2)]))
    new = DiagGaussianDistribution(2).proba_distribution(th.tensor([[1.0, 1.0]]), th.tensor([0.0, 0.0]))
    assert kl_divergence(old, new).item() == pytest.approx(0.5 + 1.5 - 0.693147, abs=1e-5)
    # the other way round: 1/2 + (ln 2 + 1/8 - 1/2)
    assert kl_divergence(old, new, "reverse").item() == pytest.approx(0.5 + 0.693147 - 0.375, abs=1e-5)


def test_categorical_kl_equals_hand_worked_number() -> None:
    # p = (1/2, 1/2, 0+), q = (1/4, 1/2, 1/4): KL(p || q) = ln(2) / 2
    old = CategoricalDistribution(3).proba_distribution(th.tensor([[0.0, 0.0, -80.0]]))
    new = CategoricalDistribution(3).proba_distribution(th.tensor([[0.25, 0.5, 0.25]]).log())
    assert kl_divergence(old, new).item() == pytest.approx(math.log(2) / 2, abs=1e-6)


def test_reverse_direction_swaps_the_roles() -> None:
    for case in CASES.values():
        old, new = (case.build(case.draw(3, generator(seed))) for seed in (1, 2))
        forward, reverse = kl_divergence(old, new, "forward"), kl_divergence(old, new, "reverse")
        assert th.equal(reverse, kl_divergence(new, old, "forward"))
        assert not th.allclose(forward, reverse, rtol=0.01)


# --------------------------------------------------------------------------------------------------- extreme parameters


def all_pairs(values: list[float], n_dims: int) -> tuple[th.Tensor, th.Tensor]:
    """Rows that hold every old value against every new one, in float32, other dimensions rotated."""
    grid = th.cartesian_prod(th.tensor(values), th.tensor(values))
    positions = th.arange(len(grid))
    rotated = [grid[(positions + 5 * dim) % len(grid)] for dim in range(n_dims)]
    stacked = th.stack(rotated, dim=1)
    return stacked[:, :, 0].contiguous(), stacked[:, :, 1].contiguous()


EXTREME_LOGITS = [-1e4, -5e3, -100.0, -1.0, 0.0, 1.0, 100.0, 5e3, 1e4]
EXTREME_STDS = [1e-6, 1e-4, 1e-2, 1.0, 10.0, 1e3]


def check_finite(name: str, old: Raw, new: Raw) -> None:
    for direction in ("forward", "reverse"):
        variable = leaves(new)
        kl = kl_divergence(CASES[name].build(old), CASES[name].build(variable), direction)  # type: ignore[arg-type]
        assert kl.dtype == th.float32
        assert th.isfinite(kl).all()
        assert (kl > -1e-2).all()  # float32 rounding of logits of size 1e4
        for gradient in th.autograd.grad(kl.sum(), variable):
            assert th.isfinite(gradient).all()


@pytest.mark.parametrize("name", DISCRETE)
def test_kl_is_finite_for_logits_up_to_1e4_apart(name: str) -> None:
    n_columns = sum(choices_per_part(3)) if name == "multi_categorical" else 4
    old, new = all_pairs(EXTREME_LOGITS, n_columns)
    check_finite(name, (old,), (new,))


@pytest.mark.parametrize("name", ["diag_gaussian", "squashed_diag_gaussian"])
@pytest.mark.parametrize("old_std", EXTREME_STDS)
@pytest.mark.parametrize("new_std", EXTREME_STDS)
def test_kl_is_finite_for_stds_from_1e_6_to_1e3(name: str, old_std: float, new_std: float) -> None:
    old_mean, new_mean = all_pairs([-100.0, -1.0, 0.0, 1.0, 100.0], 2)
    old = old_mean, th.tensor([old_std, 1.0]).log()
    new = new_mean, th.tensor([new_std, 1e-6]).log()
    check_finite(name, old, new)


@pytest.mark.parametrize("name", ["gsde", "gsde_squashed"])
@pytest.mark.parametrize("old_std", EXTREME_STDS)
@pytest.mark.parametrize("new_std", EXTREME_STDS)
def test_gsde_kl_is_finite_for_stds_from_1e_6_to_1e3(name: str, old_std: float, new_std: float) -> None:
    old_mean, new_mean = all_pairs([-100.0, 0.0, 1.0], 2)
    latent = th.randn(len(old_mean), N_FEATURES, generator=generator(0))
    latent[0] = 0.0  # dead features: only SB3's epsilon keeps the standard deviation above zero
    old = old_mean, th.full((N_FEATURES, 2), old_std).log(), latent
    new = new_mean, th.full((N_FEATURES, 2), new_std).log(), latent.clone()
    check_finite(name, old, new)


def test_kl_of_opposite_deterministic_choices_is_the_difference_of_logits() -> None:
    old = CategoricalDistribution(2).proba_distribution(th.tensor([[1e4, 0.0]]))
    new = CategoricalDistribution(2).proba_distribution(th.tensor([[0.0, 1e4]]))
    assert kl_divergence(old, new).item() == pytest.approx(1e4)
    # torch's own version gives up where a probability underflows (Ray issue #21297): why this module exists
    assert th.isinf(td.kl_divergence(old.distribution, new.distribution)).all()


def test_bernoulli_kl_of_opposite_deterministic_bits_is_the_sum_of_logits() -> None:
    old = BernoulliDistribution(2).proba_distribution(th.tensor([[1e4, -1e4]]))
    new = BernoulliDistribution(2).proba_distribution(th.tensor([[-1e4, 5e3]]))
    assert kl_divergence(old, new).item() == pytest.approx(1.5e4)


@pytest.mark.parametrize("std", EXTREME_STDS)
def test_float32_gaussian_kl_keeps_its_precision(std: float) -> None:
    raw32 = (th.tensor([[0.3, -0.2]]) * std, th.tensor([std, 2 * std]).log())
    new32 = (th.tensor([[0.1, 0.4]]) * std, th.tensor([3 * std, std]).log())
    build, raw64, new64 = CASES["diag_gaussian"].build, *([part.double() for part in raw] for raw in (raw32, new32))
    expected = td.kl_divergence(
        *(td.Independent(td.Normal(mean, log_std.exp()), 1) for mean, log_std in (raw64, new64))
    )
    assert kl_divergence(build(raw32), build(new32)).item() == pytest.approx(expected.item(), rel=1e-4)


# ----------------------------------------------------------------------------------------------------- at old equal new


@pytest.mark.parametrize("name", GAUSSIAN)
@both_directions
@pytest.mark.parametrize("dtype", [th.float32, th.float64])
def test_gaussian_kl_and_gradient_are_exactly_zero_at_old(name: str, direction: KLDirection, dtype: th.dtype) -> None:
    raw = tuple(part.to(dtype) for part in CASES[name].draw(4, generator(3)))
    new = leaves(raw)
    kl = kl_divergence(CASES[name].build(raw), CASES[name].build(new), direction)
    assert th.equal(kl, th.zeros_like(kl))
    for gradient in th.autograd.grad(kl.sum(), new):
        assert th.equal(gradient, th.zeros_like(gradient))


@pytest.mark.parametrize("name", DISCRETE)
@both_directions
@pytest.mark.parametrize(("dtype", "tolerance"), [(th.float32, 1e-6), (th.float64, 1e-15)])
def test_discrete_kl_and_gradient_are_zero_at_old(
    name: str, direction: KLDirection, dtype: th.dtype, tolerance: float
) -> None:
    raw = tuple(part.to(dtype) for part in CASES[name].draw(4, generator(3)))
    new = leaves(raw)
    kl = kl_divergence(CASES[name].build(raw), CASES[name].build(new), direction)
    assert th.equal(kl, th.zeros_like(kl))
    for gradient in th.autograd.grad(kl.sum(), new):
        assert gradient.abs().max() <= tolerance


# ----------------------------------------------------------------------------------------------------------- properties

SETTINGS = settings(max_examples=60, deadline=None, database=None)


def float_rows(n_columns: int, bound: float) -> st.SearchStrategy[th.Tensor]:
    elements = st.floats(-bound, bound, allow_subnormal=False)
    return arrays(np.float64, (2, n_columns), elements=elements).map(th.from_numpy)


def logits_of(name: str, row: th.Tensor) -> Distribution:
    return CASES[name].build((row,))


N_COLUMNS = {"categorical": 4, "multi_categorical": 5, "bernoulli": 4}  # multi: 2 choices, then 3


@SETTINGS
@given(data=st.data(), name=st.sampled_from(DISCRETE))
def test_discrete_kl_is_never_negative(data: st.DataObject, name: str) -> None:
    rows = float_rows(N_COLUMNS[name], 20)
    old, new = data.draw(rows), data.draw(rows)
    assert (kl_divergence(logits_of(name, old), logits_of(name, new)) >= -1e-12).all()
    assert (kl_divergence(logits_of(name, old), logits_of(name, new), "reverse") >= -1e-12).all()


@SETTINGS
@given(old=float_rows(4, 20), new=float_rows(4, 20))
def test_categorical_kl_is_at_least_twice_the_squared_total_variation(old: th.Tensor, new: th.Tensor) -> None:
    """Pinsker's inequality: where the probabilities differ, the KL is above zero, and by how much."""
    distance = (th.softmax(old, dim=1) - th.softmax(new, dim=1)).abs().sum(dim=1) / 2
    kl = kl_divergence(logits_of("categorical", old), logits_of("categorical", new))
    assert (kl >= 2 * distance**2 - 1e-12).all()


@SETTINGS
@given(old=float_rows(4, 3), new=float_rows(4, 3), log_stds=float_rows(4, 2))
def test_gaussian_kl_is_zero_only_for_equal_parameters(old: th.Tensor, new: th.Tensor, log_stds: th.Tensor) -> None:
    old_dist, new_dist = (CASES["diag_gaussian"].build((m, s)) for m, s in zip((old, new), log_stds, strict=True))
    kl = kl_divergence(old_dist, new_dist)
    assert (kl >= -1e-12).all()
    for row in range(2):
        difference = max((old - new)[row].abs().max().item(), (log_stds[0] - log_stds[1]).abs().max().item())
        if difference > 1e-4:
            assert kl[row] > 0
        elif difference == 0:
            assert kl[row] == 0


@SETTINGS
@given(data=st.data(), name=st.sampled_from(DISCRETE))
def test_discrete_kl_is_zero_only_for_equal_parameters(data: st.DataObject, name: str) -> None:
    rows = float_rows(N_COLUMNS[name], 4)
    old, step, column = data.draw(rows), data.draw(st.floats(0.01, 3)), data.draw(st.integers(0, N_COLUMNS[name] - 1))
    new = old.clone()
    assert th.equal(kl_divergence(logits_of(name, old), logits_of(name, new)), th.zeros(2, dtype=th.float64))
    new[:, column] += step
    assert (kl_divergence(logits_of(name, old), logits_of(name, new)) > 0).all()


@SETTINGS
@given(old=float_rows(5, 10), new=float_rows(5, 10), shifts=arrays(np.float64, (2, 2, 2), elements=st.floats(-50, 50)))
def test_kl_is_invariant_to_a_shift_of_logits(old: th.Tensor, new: th.Tensor, shifts: np.ndarray) -> None:
    """Each categorical variable has one free constant per row."""
    expected = kl_divergence(logits_of("categorical", old), logits_of("categorical", new))
    shift = th.from_numpy(shifts)[:, :, :1]
    shifted = kl_divergence(logits_of("categorical", old + shift[0]), logits_of("categorical", new + shift[1]))
    th.testing.assert_close(shifted, expected, rtol=1e-9, atol=1e-11)

    expected = kl_divergence(logits_of("multi_categorical", old), logits_of("multi_categorical", new))
    per_part = th.from_numpy(shifts)[:, :, [0, 0, 1, 1, 1]]
    shifted = kl_divergence(
        logits_of("multi_categorical", old + per_part[0]), logits_of("multi_categorical", new + per_part[1])
    )
    th.testing.assert_close(shifted, expected, rtol=1e-9, atol=1e-11)


@SETTINGS
@given(old=float_rows(5, 6), new=float_rows(5, 6))
def test_multi_categorical_kl_is_the_sum_over_its_parts(old: th.Tensor, new: th.Tensor) -> None:
    joint = kl_divergence(logits_of("multi_categorical", old), logits_of("multi_categorical", new))
    parts = [kl_divergence(logits_of("categorical", old[:, s]), logits_of("categorical", new[:, s])) for s in HALVES]
    th.testing.assert_close(joint, parts[0] + parts[1], rtol=1e-12, atol=1e-12)


HALVES = [slice(0, 2), slice(2, 5)]


@SETTINGS
@given(old=float_rows(5, 6), new=float_rows(5, 6), log_stds=float_rows(5, 2))
def test_kl_of_independent_dimensions_is_the_sum_over_groups(
    old: th.Tensor, new: th.Tensor, log_stds: th.Tensor
) -> None:
    joint = kl_divergence(logits_of("bernoulli", old), logits_of("bernoulli", new))
    parts = [kl_divergence(logits_of("bernoulli", old[:, s]), logits_of("bernoulli", new[:, s])) for s in HALVES]
    th.testing.assert_close(joint, parts[0] + parts[1], rtol=1e-12, atol=1e-12)

    gaussian = CASES["diag_gaussian"].build
    joint = kl_divergence(gaussian((old, log_stds[0])), gaussian((new, log_stds[1])))
    parts = [
        kl_divergence(gaussian((old[:, s], log_stds[0, s])), gaussian((new[:, s], log_stds[1, s]))) for s in HALVES
    ]
    th.testing.assert_close(joint, parts[0] + parts[1], rtol=1e-12, atol=1e-12)


@SETTINGS
@given(old=float_rows(2, 5), new=float_rows(2, 5))
def test_bernoulli_kl_equals_that_of_two_choices(old: th.Tensor, new: th.Tensor) -> None:
    """A binary variable of logit x is a categorical one of logits (x, 0)."""
    pairs = [th.stack([logits, th.zeros_like(logits)], dim=2).flatten(1) for logits in (old, new)]
    two_choices = [MultiCategoricalDistribution([2, 2]).proba_distribution(pair) for pair in pairs]
    expected = kl_divergence(*two_choices)
    th.testing.assert_close(kl_divergence(logits_of("bernoulli", old), logits_of("bernoulli", new)), expected)


# ---------------------------------------------------------------------------------------------------------------- masks


def masked_case(name: str) -> tuple[Callable[[], MaskableDistribution], list[int]]:
    cases: dict[str, tuple[Callable[[], MaskableDistribution], list[int]]] = {
        "categorical": (lambda: MaskableCategoricalDistribution(5), [5]),
        "multi_categorical": (lambda: MaskableMultiCategoricalDistribution([3, 2, 4]), [3, 2, 4]),
        "bernoulli": (lambda: MaskableBernoulliDistribution(3), [2, 2, 2]),
    }
    return cases[name]


def random_mask(sizes: list[int], rng: th.Generator) -> th.Tensor:
    """Shape (N_BATCH, sum of sizes), at least one choice allowed in every part."""
    parts = []
    for size in sizes:
        allowed = th.rand(N_BATCH, size, generator=rng) < 0.5
        allowed[th.arange(N_BATCH), th.randint(size, (N_BATCH,), generator=rng)] = True
        parts.append(allowed)
    return th.cat(parts, dim=1)


def masked(make: Callable[[], MaskableDistribution], logits: th.Tensor, mask: th.Tensor | None) -> MaskableDistribution:
    distribution = make()
    distribution.proba_distribution(logits)  # type: ignore[attr-defined]  # of every concrete class
    distribution.apply_masking(mask)
    return distribution


masked_names = pytest.mark.parametrize("name", ["categorical", "multi_categorical", "bernoulli"])


@masked_names
@both_directions
def test_masked_kl_equals_that_of_the_allowed_choices_alone(name: str, direction: KLDirection) -> None:
    make, sizes = masked_case(name)
    rng = generator(5)
    old_logits, new_logits = (2 * randn(N_BATCH, sum(sizes), generator=rng) for _ in range(2))
    mask = random_mask(sizes, rng)
    assert not mask.all()
    assert mask.sum(dim=1).min() < mask.sum(dim=1).max()

    kl = kl_divergence(masked(make, old_logits, mask), masked(make, new_logits, mask), direction)

    columns = th.split(th.arange(sum(sizes)), sizes)
    for row in range(N_BATCH):
        expected = th.zeros((), dtype=th.float64)
        for column in columns:
            allowed = column[mask[row, column]]
            old, new = (td.Categorical(logits=logits[row, allowed]) for logits in (old_logits, new_logits))
            expected += td.kl_divergence(old, new) if direction == "forward" else td.kl_divergence(new, old)
        assert kl[row].item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)


@masked_names
def test_masked_out_choices_have_no_influence_and_no_gradient(name: str) -> None:
    make, sizes = masked_case(name)
    rng = generator(6)
    old, new, noise = (randn(N_BATCH, sum(sizes), generator=rng) for _ in range(3))
    mask = random_mask(sizes, rng)
    (new_logits,) = leaves((new,))
    kl = kl_divergence(masked(make, old, mask), masked(make, new_logits, mask))
    other = kl_divergence(masked(make, old + 100 * noise * ~mask, mask), masked(make, new, mask))
    th.testing.assert_close(other, kl.detach(), rtol=1e-9, atol=1e-12)
    (gradient,) = th.autograd.grad(kl.sum(), new_logits)
    assert gradient[~mask].abs().max() < 1e-14
    assert gradient[mask].abs().max() > 0.01


@masked_names
@both_directions
def test_masked_kl_is_finite_for_logits_up_to_1e4_apart(name: str, direction: KLDirection) -> None:
    make, sizes = masked_case(name)
    old, new = all_pairs(EXTREME_LOGITS, sum(sizes))
    mask = random_mask(sizes, generator(4))[th.arange(len(old)) % N_BATCH]
    (new_logits,) = leaves((new,))
    kl = kl_divergence(masked(make, old, mask), masked(make, new_logits, mask), direction)
    assert th.isfinite(kl).all()
    assert (kl > -1e-2).all()  # float32 rounding of logits of size 1e4
    assert kl.max() > 1e3
    assert th.isfinite(th.autograd.grad(kl.sum(), new_logits)[0]).all()


@masked_names
def test_unmasked_maskable_kl_equals_that_of_the_plain_distribution(name: str) -> None:
    make, sizes = masked_case(name)
    rng = generator(9)
    old, new = (randn(N_BATCH, sum(sizes), generator=rng) for _ in range(2))
    plain = [MultiCategoricalDistribution(sizes).proba_distribution(logits) for logits in (old, new)]
    th.testing.assert_close(kl_divergence(masked(make, old, None), masked(make, new, None)), kl_divergence(*plain))


# ------------------------------------------------------------------------------------- unknown and custom distributions


class BetaDistribution(Distribution):
    """Independent Beta variables: a distribution that SB3 does not have."""

    def proba_distribution_net(self, *args: Any, **kwargs: Any) -> th.nn.Module:
        return th.nn.Identity()

    def proba_distribution(self, first: th.Tensor, second: th.Tensor) -> "BetaDistribution":
        self.distribution = td.Beta(first, second)
        return self

    def log_prob(self, actions: th.Tensor) -> th.Tensor:
        return self.distribution.log_prob(actions).sum(dim=1)  # type: ignore[union-attr]  # one torch distribution

    def entropy(self) -> th.Tensor:
        return self.distribution.entropy().sum(dim=1)  # type: ignore[union-attr]  # one torch distribution

    def sample(self) -> th.Tensor:
        return self.distribution.rsample()  # type: ignore[union-attr]  # one torch distribution

    def mode(self) -> th.Tensor:
        return self.distribution.mean  # type: ignore[union-attr]  # near enough here

    def actions_from_params(self, *args: Any, **kwargs: Any) -> th.Tensor:
        return self.proba_distribution(*args).sample()

    def log_prob_from_params(self, *args: Any, **kwargs: Any) -> tuple[th.Tensor, th.Tensor]:
        actions = self.actions_from_params(*args)
        return actions, self.log_prob(actions)


class ChildOfBeta(BetaDistribution):
    """Covered by what is registered for its parent."""


class Beta(ActionDistribution):
    def parameters(self, distribution: Any) -> Parameters:
        return distribution.distribution.concentration1, distribution.distribution.concentration0

    def kl(self, p: Parameters, q: Parameters) -> th.Tensor:
        return td.kl_divergence(td.Beta(*p), td.Beta(*q)).sum(dim=-1)


class Constant(ActionDistribution):
    def parameters(self, distribution: Any) -> Parameters:
        return ()

    def kl(self, p: Parameters, q: Parameters) -> th.Tensor:
        return th.tensor([42.0])


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the registry that is thrown away after the test."""
    monkeypatch.setattr(distributions, "_known", dict(distributions._known))


def two_betas(cls: type[BetaDistribution] = BetaDistribution) -> tuple[BetaDistribution, BetaDistribution]:
    old = cls().proba_distribution(th.tensor([[2.0, 3.0]]), th.tensor([[4.0, 2.5]]))
    new = cls().proba_distribution(th.tensor([[2.5, 2.0]]), th.tensor([[3.0, 3.5]]))
    return old, new


def test_unknown_distribution_raises_and_names_the_supported_ones() -> None:
    with pytest.raises(TypeError, match="BetaDistribution") as error:
        kl_divergence(*two_betas())
    message = str(error.value)
    assert "register_distribution" in message
    for supported in (
        CategoricalDistribution,
        MultiCategoricalDistribution,
        BernoulliDistribution,
        DiagGaussianDistribution,
        StateDependentNoiseDistribution,
        MaskableCategoricalDistribution,
        MaskableMultiCategoricalDistribution,
    ):
        assert supported.__name__ in message


def test_a_subclass_that_holds_another_distribution_is_unknown() -> None:
    class Laplacian(DiagGaussianDistribution):
        """As wide as a Gaussian, and with the same attributes."""

        def proba_distribution(self, mean_actions: th.Tensor, log_std: th.Tensor) -> Any:
            self.distribution: Any = td.Laplace(mean_actions, log_std.exp())
            return self

    old, new = (Laplacian(2).proba_distribution(th.zeros(1, 2), th.full((2,), log_std)) for log_std in (0.0, 1.0))
    with pytest.raises(TypeError, match=r"Laplacian, which holds a Laplace .*register_distribution\(Laplacian, "):
        kl_divergence(old, new)


@pytest.mark.parametrize("cls", [BetaDistribution, ChildOfBeta])
@pytest.mark.usefixtures("registry")
def test_registered_custom_distribution_has_a_kl(cls: type[BetaDistribution]) -> None:
    register_distribution(BetaDistribution, Beta())
    old, new = two_betas(cls)
    # scipy integrates p log(p / q) over each of the two dimensions
    pairs = [(stats.beta(2.0, 4.0), stats.beta(2.5, 3.0)), (stats.beta(3.0, 2.5), stats.beta(2.0, 3.5))]
    kls = {"forward": 0.0, "reverse": 0.0}
    for p, q in pairs:
        kls["forward"] += integrate.quad(lambda x, p=p, q=q: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), 0, 1)[0]
        kls["reverse"] += integrate.quad(lambda x, p=p, q=q: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), 0, 1)[0]
    assert kl_divergence(old, new).item() == pytest.approx(kls["forward"], rel=1e-4)
    assert kl_divergence(old, new, "reverse").item() == pytest.approx(kls["reverse"], rel=1e-4)
    assert kls["forward"] != pytest.approx(kls["reverse"], rel=1e-2)


@pytest.mark.usefixtures("registry")
def test_registering_a_subclass_takes_precedence_over_its_base() -> None:
    register_distribution(SquashedDiagGaussianDistribution, Constant())
    raws = [CASES["diag_gaussian"].draw(2, generator(seed)) for seed in (1, 2)]
    assert kl_divergence(*(CASES["squashed_diag_gaussian"].build(raw) for raw in raws)).item() == 42
    assert (kl_divergence(*(CASES["diag_gaussian"].build(raw) for raw in raws)) != 42).all()


def test_distributions_of_different_classes_raise() -> None:
    raw = CASES["diag_gaussian"].draw(2, generator(0))
    with pytest.raises(TypeError, match=r"DiagGaussianDistribution.*SquashedDiagGaussianDistribution"):
        kl_divergence(CASES["diag_gaussian"].build(raw), CASES["squashed_diag_gaussian"].build(raw))


# ------------------------------------------------------------------------------------------------- shared distributions


@pytest.mark.parametrize(
    "action_space", [spaces.Box(-1, 1, (2,)), spaces.Discrete(3), spaces.MultiDiscrete([2, 3])], ids=type
)
def test_policy_shares_its_distribution_so_that_only_parameters_survive_an_update(
    action_space: spaces.Space[Any],
) -> None:
    """Why the package keeps parameters and not distributions (TorchRL #1920, tensorforce #105): comparing two calls of
    ``get_distribution`` would compare one object with itself and give 0, whatever happened in between."""
    th.manual_seed(0)
    policy = ActorCriticPolicy(spaces.Box(-1, 1, (4,)), action_space, lambda _: 1e-3, net_arch=[8])
    observations = th.randn(N_BATCH, 4)

    before = policy.get_distribution(observations)
    form = action_distribution(before)
    kept = form.parameters(before)
    with th.no_grad():
        for parameter in policy.action_net.parameters():
            parameter += 0.5 * th.randn_like(parameter)
    after = policy.get_distribution(observations)

    assert before is after
    with pytest.raises(ValueError, match="are one object"):
        kl_divergence(before, after)
    assert (form.directed_kl(kept, form.parameters(after), "forward") > 1e-3).all()
