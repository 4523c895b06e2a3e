"""Diagonal Gaussians."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.distributions import Distribution, TanhBijector
from torch.distributions import Normal

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
from sb3_ppo_variants.update.kl_divergence import Parameters, gaussian_kl

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_LEAST_ACTION = -1 + float(np.finfo(np.float32).eps)
_OF_TANH = TanhBijector().epsilon


class Gaussian(ActionDistribution):
    """A diagonal Gaussian, whose KL a bijection such as tanh leaves as it is.

    Parameters: mean and log standard deviation, shape (n_batch, n_dimensions) each. This class reads SB3's squashed and
    state-dependent ones too.
    """

    def parameters(self, distribution: Distribution) -> Parameters:
        held = distribution.distribution
        if not isinstance(held, Normal):
            name = type(distribution).__name__
            raise TypeError(
                f"no exact KL divergence is known for {name}, which holds a {type(held).__name__} and no Normal; "
                f"add yours with sb3_ppo_variants.extend.register_distribution({name}, ...)"
            )
        return held.mean, held.scale.log()

    def kl(self, p: Parameters, q: Parameters) -> Array:
        return gaussian_kl(p, q)


class DiagonalGaussian(Gaussian):
    """A diagonal Gaussian whose standard deviation is the policy's parameter ``log_std``."""

    closed_form = takes_arrays = True

    def __init__(self) -> None:
        self._draws = Draws()
        self._log_std: FloatArray | None = None

    def for_policy(self, policy: Any) -> ActionDistribution:
        return type(self)()

    def from_output(self, policy: Any, output: Array, context: Context) -> Parameters:
        return output, arrays.of_parameter(policy.log_std, output)

    def log_prob(self, parameters: Parameters, actions: Array) -> Array:
        mean, log_std = parameters
        standardized = (actions - mean) * arrays.exp(-log_std)
        return arrays.row_sums(-0.5 * standardized**2 - log_std - _HALF_LOG_2PI)

    def entropy(self, parameters: Parameters) -> Array:
        return arrays.row_sums(parameters[1] + (0.5 + _HALF_LOG_2PI))

    def gradient(self, policy: Any, at: Point, slopes: Slopes) -> OutputGradient:
        new, old, actions, context = at
        mean, log_std = new
        inverse = arrays.exp(-log_std)
        standardized = (actions - mean) * inverse
        weight = slopes.log_prob[:, None]
        weighted = weight * standardized
        by_mean = weighted * inverse
        by_log_std = weighted * standardized - weight + slopes.entropy
        if slopes.kl is not None and old is not None:
            kl, change, expm1 = as_column(slopes.kl), mean - old[0], arrays.library(mean).expm1
            if slopes.kl_direction == "forward":
                distance = change * inverse
                by_mean = by_mean + kl * distance * inverse
                by_log_std = by_log_std - kl * (expm1(2 * (old[1] - log_std)) + distance**2)
            else:
                by_mean = by_mean + kl * change * arrays.exp(-2 * old[1])
                by_log_std = by_log_std + kl * expm1(2 * (log_std - old[1]))
        return by_mean, self._by_parameter(policy, new, by_log_std, context)

    def _by_parameter(self, policy: Any, new: Parameters, by_log_std: Array, context: Context) -> Array:
        """Turn the gradient by the log standard deviation of each sample into that by the policy's parameter."""
        return arrays.column_sums(by_log_std)

    def sample(self, policy: Any, output: FloatArray, context: Context) -> tuple[npt.NDArray[Any], FloatArray]:
        noise, log_std = self._draws.normal(output.shape), self._log_std_of(policy)
        constant = np.add.reduce(log_std) + np.float32(_HALF_LOG_2PI * len(log_std))
        return output + noise * np.exp(log_std), -0.5 * arrays.row_sums(noise * noise) - constant

    def act(self, policy: Any, output: FloatArray, context: Context) -> npt.NDArray[Any]:
        return output + self._draws.normal(output.shape) * np.exp(self._log_std_of(policy))

    def _log_std_of(self, policy: Any) -> FloatArray:
        if self._log_std is None:  # the same memory for life, like the layers'
            self._log_std = policy.log_std.detach().numpy()
        return self._log_std

    def draw(self, policy: Any, parameters: Parameters, context: Context) -> th.Tensor:
        mean, log_std = parameters
        actions: th.Tensor = mean + th.empty_like(mean).normal_() * log_std.exp()
        return actions


class StateDependentGaussian(DiagonalGaussian):
    """The Gaussian of gSDE (arXiv:2005.05719): its variance is ``latent^2 @ exp(log_std)^2``, of each state its own.

    With ``full_std=False`` ``log_std`` has one column, for all dimensions of the action.
    """

    def obstacle(self, distribution: Any) -> str | None:
        bijector, own = distribution.bijector, type(self) not in (StateDependentGaussian, SquashedGaussian)
        options = {
            "squash_output": bijector is not None and own,
            "a bijector of one's own": bijector is not None
            and (type(bijector) is not TanhBijector or bijector.epsilon != _OF_TANH),
            "use_expln": distribution.use_expln,
            "learn_features": distribution.learn_features,
        }
        return next((option for option, given in options.items() if given), None)

    def for_policy(self, policy: Any) -> ActionDistribution:
        squashed = type(self) is StateDependentGaussian and policy.action_dist.bijector is not None
        return SquashedGaussian() if squashed else type(self)()

    def from_output(self, policy: Any, output: Array, context: Context) -> Parameters:
        latent, log_std = arrays.detached(context.latent), arrays.as_library(policy.log_std, output)
        variance, library = latent**2 @ arrays.exp(log_std) ** 2, arrays.library(output)
        if variance.shape != output.shape:
            variance = variance + library.zeros_like(output)  # a column for each dimension
        return output, 0.5 * library.log(variance + policy.action_dist.epsilon)

    def _by_parameter(self, policy: Any, new: Parameters, by_log_std: Array, context: Context) -> Array:
        log_std = arrays.as_library(policy.log_std, by_log_std)
        by_variance = (context.latent**2).T @ (by_log_std * arrays.exp(-2 * new[1]))
        if log_std.shape != by_variance.shape:
            by_variance = arrays.row_sums(by_variance)[:, None]
        return arrays.exp(2 * log_std) * by_variance

    def sample(self, policy: Any, output: FloatArray, context: Context) -> tuple[npt.NDArray[Any], FloatArray]:
        actions = self.act(policy, output, context)
        return actions, self.log_prob(self.from_output(policy, output, context), actions)

    def act(self, policy: Any, output: FloatArray, context: Context) -> npt.NDArray[Any]:
        matrices, latent = policy.action_dist.exploration_matrices, context.latent
        if len(latent) == 1 or len(latent) != len(matrices):  # as in SB3's get_noise
            noise = latent @ policy.action_dist.exploration_mat.detach().numpy()
        else:
            noise = (latent[:, None, :] @ matrices.detach().numpy())[:, 0]
        actions: FloatArray = output + noise
        return actions

    def draw(self, policy: Any, parameters: Parameters, context: Context) -> th.Tensor:
        actions: th.Tensor = parameters[0] + policy.action_dist.get_noise(context.latent)
        return actions


class SquashedGaussian(StateDependentGaussian):
    """gSDE with ``squash_output=True``: an action is the tanh of a Gaussian one. Its entropy has no closed form.

    Close to 1 the next float32 is another Gaussian action, and the correction for tanh is the logarithm of a
    difference: a tanh that rounds otherwise than torch's would change ratios. So it is torch's everywhere: rollouts
    draw in torch, and nothing is compiled.
    """

    compiles = False
    sample = ActionDistribution.sample

    def log_prob(self, parameters: Parameters, actions: Array) -> Array:
        gaussian = _before_tanh(actions)
        squashed = gaussian.tanh() if isinstance(gaussian, th.Tensor) else th.from_numpy(gaussian).tanh().numpy()
        correction = arrays.row_sums(arrays.library(actions).log(1 - squashed**2 + _OF_TANH))
        return super().log_prob(parameters, gaussian) - correction

    def entropy(self, parameters: Parameters) -> None:
        return None

    def gradient(self, policy: Any, at: Point, slopes: Slopes) -> OutputGradient:
        slopes = slopes._replace(log_prob=slopes.log_prob - slopes.entropy, entropy=0.0)  # -log_prob is its estimate
        return super().gradient(policy, at._replace(actions=_before_tanh(at.actions)), slopes)

    def draw(self, policy: Any, parameters: Parameters, context: Context) -> th.Tensor:
        return super().draw(policy, parameters, context).tanh()


def _before_tanh(actions: Array) -> Array:
    """Return the Gaussian actions, kept finite as SB3's TanhBijector keeps them."""
    kept = arrays.clip(actions, _LEAST_ACTION, -_LEAST_ACTION)
    log1p = arrays.library(actions).log1p
    return 0.5 * (log1p(kept) - log1p(-kept))
