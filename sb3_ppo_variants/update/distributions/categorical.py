"""Choices: categorical and binary variables."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.distributions import Distribution

from sb3_ppo_variants.update import arrays
from sb3_ppo_variants.update.arrays import Array
from sb3_ppo_variants.update.distributions.base import (
    ActionDistribution,
    Context,
    Draws,
    FloatArray,
    OutputGradient,
    Point,
    Slopes,
    as_column,
)
from sb3_ppo_variants.update.kl_divergence import KLDirection, Parameters, bernoulli_kl, categorical_kl


class Categorical(ActionDistribution):
    """One or several independent categorical variables.

    Parameters: normalised log-probabilities, one tensor of shape (n_batch, n_choices) per variable. A probability of
    zero (a logit of minus infinity) is kept as the lowest finite number, as in torch's entropy: zero times it is zero.

    :param sizes: number of choices of each variable
    """

    closed_form = takes_arrays = True
    _normalized = staticmethod(arrays.log_softmax)

    def __init__(self, sizes: tuple[int, ...] = ()):
        self.sizes = sizes
        self._draws = Draws()

    def parameters(self, distribution: Distribution) -> Parameters:
        held: Any = getattr(distribution, "distributions", None) or distribution.distribution  # contrib's name, SB3's
        return tuple(arrays.finite(part.logits) for part in (held if isinstance(held, list) else [held]))

    def kl(self, p: Parameters, q: Parameters) -> Array:
        return categorical_kl(p, q)

    def for_policy(self, policy: Any) -> ActionDistribution:
        return type(self)(tuple(int(size) for size in getattr(policy.action_dist, "action_dims", ())))

    def from_output(self, policy: Any, output: Array, context: Context) -> Parameters:
        return tuple(arrays.finite(self._normalized(part)) for part in self._parts(output))

    def _parts(self, output: Array) -> list[Array]:
        ends = list(itertools.accumulate(self.sizes)) or [output.shape[1]]
        return [output[:, start:end] for start, end in zip([0, *ends], ends)]

    def log_prob(self, parameters: Parameters, actions: Array) -> Array:
        columns = arrays.as_indices(actions)
        first, *others = [arrays.chosen(log_p, columns[:, i]) for i, log_p in enumerate(parameters)]
        return sum(others, first)

    def entropy(self, parameters: Parameters) -> Array:
        first, *others = [-arrays.row_sums(arrays.exp(log_p) * log_p) for log_p in parameters]
        return sum(others, first)

    def gradient(self, policy: Any, at: Point, slopes: Slopes) -> OutputGradient:
        new, old, actions, _ = at
        columns = arrays.as_indices(actions)
        weight = slopes.log_prob
        gradients = []
        for i, log_p in enumerate(new):
            p = arrays.exp(log_p)
            gradient = -weight[:, None] * p
            arrays.add_to_chosen(gradient, columns[:, i], weight)
            if isinstance(slopes.entropy, th.Tensor) or slopes.entropy != 0:
                terms = p * log_p
                gradient -= slopes.entropy * (terms - p * arrays.row_sums(terms)[:, None])
            if slopes.kl is not None and old is not None:
                gradient += as_column(slopes.kl) * _kl_gradient(p, log_p, old[i], slopes.kl_direction)
            gradients.append(gradient)
        return (arrays.library(p).concatenate(gradients, 1) if len(gradients) > 1 else gradients[0]), None

    def sample(self, policy: Any, output: FloatArray, context: Context) -> tuple[npt.NDArray[Any], FloatArray]:
        parts = self._parts(output)
        actions = np.empty((len(output), len(parts)), dtype=np.int64)
        log_prob, rows = np.zeros(len(output), dtype=np.float32), np.arange(len(output))
        for column, part in enumerate(parts):
            top = part.max(axis=1)
            p = np.exp(part - top[:, None])
            total = p.sum(axis=1)
            actions[:, column] = chosen = self._chosen(p, total)
            log_prob += part[rows, chosen] - (top + np.log(total))
        return actions, log_prob

    def act(self, policy: Any, output: FloatArray, context: Context) -> npt.NDArray[Any]:
        actions = []
        for part in self._parts(output):
            p = np.exp(part - part.max(axis=1)[:, None])
            actions.append(self._chosen(p, p.sum(axis=1)))
        return np.stack(actions, axis=1) if len(actions) > 1 else actions[0][:, None]

    def _chosen(self, p: FloatArray, total: FloatArray) -> npt.NDArray[Any]:
        # torch.multinomial's way to draw once: argmax of p over exponential variables.
        chosen: npt.NDArray[Any] = (p / total[:, None] / self._draws.exponential(p.shape)).argmax(axis=1)
        return chosen

    def draw(self, policy: Any, parameters: Parameters, context: Context) -> th.Tensor:
        # As above, without the checks of torch.multinomial, for which a GPU would be waited for.
        races = [log_p.exp() / th.empty_like(log_p).exponential_() for log_p in parameters]
        return th.stack([race.argmax(dim=1) for race in races], dim=1)


class MaskedCategorical(Categorical):
    """Categorical variables of which some choices are not valid: contrib's maskable distributions, MultiBinary too."""

    _normalized = staticmethod(arrays.normalized)

    def from_output(self, policy: Any, output: Array, context: Context) -> Parameters:
        return super().from_output(policy, self._masked(output, context.masks), context)

    def gradient(self, policy: Any, at: Point, slopes: Slopes) -> OutputGradient:
        gradient, masks = super().gradient(policy, at, slopes)[0], at.context.masks
        # Only where no choice is valid does this change anything: elsewhere the others' probability is 0.
        return (gradient if masks is None else gradient * arrays.as_floats(masks > 0)), None

    def sample(self, policy: Any, output: FloatArray, context: Context) -> tuple[npt.NDArray[Any], FloatArray]:
        return super().sample(policy, self._masked(output, context.masks), context)

    act = ActionDistribution.act

    def _masked(self, output: Array, masks: Array | None) -> Array:
        """Give the logits of choices that are not valid the value that contrib gives them.

        They are normalised before, as there: then NaN in one of them is NaN in all.
        """
        if masks is None:
            return output
        xp = arrays.library(output)
        logits = xp.concatenate([arrays.normalized(part) for part in self._parts(output)], 1)
        return xp.where(masks > 0, logits, xp.full_like(logits, -1e8))


class Bernoulli(ActionDistribution):
    """Independent binary variables. Parameters: their logits, shape (n_batch, n_variables)."""

    closed_form = takes_arrays = True

    def parameters(self, distribution: Distribution) -> Parameters:
        held: Any = distribution.distribution
        return (held.logits,)

    def kl(self, p: Parameters, q: Parameters) -> Array:
        return bernoulli_kl(p, q)

    def from_output(self, policy: Any, output: Array, context: Context) -> Parameters:
        return (output,)

    def log_prob(self, parameters: Parameters, actions: Array) -> Array:
        (logits,) = parameters
        return arrays.row_sums(arrays.log_sigmoid(logits) - (1 - actions) * logits)

    def entropy(self, parameters: Parameters) -> Array:
        (logits,) = parameters
        return arrays.row_sums(arrays.sigmoid(-logits) * logits - arrays.log_sigmoid(logits))

    def gradient(self, policy: Any, at: Point, slopes: Slopes) -> OutputGradient:
        new, old, actions, _ = at
        p = arrays.sigmoid(new[0])
        gradient = slopes.log_prob[:, None] * (actions - p) - slopes.entropy * new[0] * p * (1 - p)
        if slopes.kl is not None and old is not None:
            forward = slopes.kl_direction == "forward"
            by_logit = p - arrays.sigmoid(old[0]) if forward else p * (1 - p) * (new[0] - old[0])
            gradient = gradient + as_column(slopes.kl) * by_logit
        return gradient, None

    def sample(self, policy: Any, output: FloatArray, context: Context) -> tuple[npt.NDArray[Any], FloatArray]:
        ones = th.bernoulli(th.sigmoid(th.from_numpy(output))).numpy()
        log_prob = -np.logaddexp(np.float32(0), np.where(ones, -output, output)).sum(axis=1)
        return ones, log_prob.astype(np.float32, copy=False)

    def draw(self, policy: Any, parameters: Parameters, context: Context) -> th.Tensor:
        p = th.sigmoid(parameters[0])
        return th.bernoulli(p.nan_to_num(nan=0.0) if p.is_cuda else p)  # NaN would end all work on the GPU


def _kl_gradient(p: Array, log_p: Array, log_old: Array, direction: KLDirection) -> Array:
    """Differentiate the KL divergence of one variable by its logits."""
    if direction == "forward":
        return p - arrays.exp(log_old)
    terms = p * (log_p - log_old)
    return terms - p * arrays.row_sums(terms)[:, None]
