"""Choices: categorical and binary variables."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
import torch.nn.functional as F
from stable_baselines3.common.distributions import Distribution

from sb3_ppo_variants.update.distributions.base import (
    ActionDistribution,
    Array,
    Draws,
    OutputGradient,
    Slopes,
    as_column,
)
from sb3_ppo_variants.update.kl_divergence import Parameters, bernoulli_kl, categorical_kl


class Categorical(ActionDistribution):
    """One or several independent categorical variables.

    Parameters: normalised log-probabilities, one tensor of shape (n_batch, n_choices) per variable. A probability of
    zero (a logit of minus infinity) is kept as the lowest finite number, as in torch's entropy: zero times it is zero.

    :param sizes: number of choices of each variable
    """

    closed_form = True

    def __init__(self, sizes: tuple[int, ...] = ()):
        self.sizes = sizes
        self._draws = Draws()

    def parameters(self, distribution: Distribution) -> Parameters:
        held: Any = getattr(distribution, "distributions", None) or distribution.distribution  # contrib's name, SB3's
        return tuple(_finite(part.logits) for part in (held if isinstance(held, list) else [held]))

    def kl(self, p: Parameters, q: Parameters) -> th.Tensor:
        return categorical_kl(p, q)

    def for_policy(self, policy: Any) -> ActionDistribution:
        return Categorical(tuple(int(size) for size in getattr(policy.action_dist, "action_dims", ())))

    def from_output(self, policy: Any, output: th.Tensor) -> Parameters:
        parts = output.split(list(self.sizes), dim=-1) if len(self.sizes) > 1 else (output,)
        return tuple(_finite(F.log_softmax(part, dim=-1)) for part in parts)

    def log_prob(self, parameters: Parameters, actions: th.Tensor) -> th.Tensor:
        columns = actions.long().reshape(len(actions), -1)
        parts = [log_p.gather(1, columns[:, i : i + 1]) for i, log_p in enumerate(parameters)]
        return (th.cat(parts, dim=1) if len(parts) > 1 else parts[0]).sum(dim=1)

    def entropy(self, parameters: Parameters) -> th.Tensor:
        entropies = [-(log_p.exp() * log_p).sum(dim=-1) for log_p in parameters]
        return th.stack(entropies).sum(dim=0) if len(entropies) > 1 else entropies[0]

    def gradient(self, new: Parameters, old: Parameters | None, actions: th.Tensor, slopes: Slopes) -> OutputGradient:
        columns = actions.long().reshape(len(actions), -1)
        weight = slopes.log_prob.unsqueeze(1)
        gradients = []
        for i, log_p in enumerate(new):
            p = log_p.exp()
            gradient = (-weight * p).scatter_add_(1, columns[:, i : i + 1], weight)
            if isinstance(slopes.entropy, th.Tensor) or slopes.entropy != 0:
                terms = p * log_p
                gradient -= slopes.entropy * (terms - p * terms.sum(dim=1, keepdim=True))
            if slopes.kl is not None and old is not None:
                gradient += as_column(slopes.kl) * (p - old[i].exp())
            gradients.append(gradient)
        return (th.cat(gradients, dim=1) if len(gradients) > 1 else gradients[0]), None

    def sample(self, policy: Any, output: Array) -> tuple[npt.NDArray[Any], Array]:
        sizes = self.sizes or (output.shape[1],)
        actions = np.empty((len(output), len(sizes)), dtype=np.int64)
        log_prob = np.zeros(len(output), dtype=np.float32)
        rows, start = np.arange(len(output)), 0
        for column, size in enumerate(sizes):
            part = output[:, start : start + size]
            start += size
            shifted = part - part.max(axis=1, keepdims=True)
            p = np.exp(shifted)
            total = p.sum(axis=1)
            # torch.multinomial's way to draw once: argmax of p over exponential variables.
            race = p / total[:, None] / self._draws.exponential(part.shape)
            chosen = race.argmax(axis=1)
            actions[:, column] = chosen
            log_prob += shifted[rows, chosen] - np.log(total)
        return actions, log_prob


class Bernoulli(ActionDistribution):
    """Independent binary variables. Parameters: their logits, shape (n_batch, n_variables)."""

    closed_form = True

    def parameters(self, distribution: Distribution) -> Parameters:
        held: Any = distribution.distribution
        return (held.logits,)

    def kl(self, p: Parameters, q: Parameters) -> th.Tensor:
        return bernoulli_kl(p, q)

    def from_output(self, policy: Any, output: th.Tensor) -> Parameters:
        return (output,)

    def log_prob(self, parameters: Parameters, actions: th.Tensor) -> th.Tensor:
        return -F.binary_cross_entropy_with_logits(parameters[0], actions, reduction="none").sum(dim=-1)

    def entropy(self, parameters: Parameters) -> th.Tensor:
        (logits,) = parameters
        return F.binary_cross_entropy_with_logits(logits, th.sigmoid(logits), reduction="none").sum(dim=-1)

    def gradient(self, new: Parameters, old: Parameters | None, actions: th.Tensor, slopes: Slopes) -> OutputGradient:
        p = th.sigmoid(new[0])
        gradient = slopes.log_prob.unsqueeze(1) * (actions - p) - slopes.entropy * new[0] * p * (1 - p)
        if slopes.kl is not None and old is not None:
            gradient = gradient + as_column(slopes.kl) * (p - th.sigmoid(old[0]))
        return gradient, None

    def sample(self, policy: Any, output: Array) -> tuple[npt.NDArray[Any], Array]:
        ones = th.bernoulli(th.sigmoid(th.from_numpy(output))).numpy()
        log_prob = -np.logaddexp(np.float32(0), np.where(ones, -output, output)).sum(axis=1)
        return ones, log_prob.astype(np.float32, copy=False)


def _finite(log_p: th.Tensor) -> th.Tensor:
    return log_p.clamp(min=th.finfo(log_p.dtype).min)
