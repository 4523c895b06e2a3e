"""Means and standard deviations over what all ranks have, from what each has."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from sb3_ppo_variants.distributed.ranks import Ranks


def moments_over_ranks(ranks: Ranks, samples: th.Tensor, ddof: int = 1) -> tuple[th.Tensor, th.Tensor]:
    """Compute mean and standard deviation of samples of which every rank has equally many, in one exchange.

    :param ranks: of the run
    :param samples: of this rank, shape (n_groups, n_samples)
    :param ddof: what is taken off the number of samples in the standard deviation
    :return: for each group, two tensors of shape (n_groups, 1), of the type and on the device of the samples
    """
    own = samples.detach().double()
    mean = own.mean(dim=1)
    squares = ((own - mean.unsqueeze(1)) ** 2).sum(dim=1)
    means, all_squares = ranks.stack(th.stack((mean, squares))).unbind(dim=1)
    n, mean = own.shape[1], means.mean(dim=0)
    squares = all_squares.sum(dim=0) + n * ((means - mean) ** 2).sum(dim=0)
    std = (squares / (n * ranks.size - ddof)).sqrt()
    return mean.unsqueeze(1).to(samples), std.unsqueeze(1).to(samples)


def std_over_ranks(ranks: Ranks, values: npt.NDArray[Any]) -> float:
    """Compute the standard deviation of an array over all ranks, as ``numpy.std`` does in a single process.

    :param ranks: of the run
    :param values: of this rank
    """
    return float(np.std(values)) if ranks.size == 1 else _of_array(ranks, values, ddof=0)[1]


def explained_variance_over_ranks(ranks: Ranks, buffer: RolloutBuffer) -> Any:
    """Compute the share of the variance of the returns that the values explain, over all ranks.

    :param ranks: of the run
    :param buffer: of this rank, full
    :return: at most 1; NaN where the returns do not vary
    """
    values, returns = buffer.values.flatten(), buffer.returns.flatten()
    if ranks.size == 1:
        return explained_variance(values, returns)
    std = std_over_ranks(ranks, returns)
    return math.nan if std == 0 else 1 - (std_over_ranks(ranks, returns - values) / std) ** 2


def sample_moments_over_ranks(ranks: Ranks, values: npt.NDArray[Any]) -> tuple[float, float]:
    """Compute the mean of an array over all ranks, and the standard deviation with n - 1.

    :param ranks: of the run
    :param values: of this rank
    """
    if ranks.size == 1:
        return float(values.mean(dtype=np.float64)), float(values.std(ddof=1, dtype=np.float64))
    return _of_array(ranks, values, ddof=1)


def _of_array(ranks: Ranks, values: npt.NDArray[Any], ddof: int) -> tuple[float, float]:
    mean, std = moments_over_ranks(ranks, th.from_numpy(values.astype(np.float64).reshape(1, -1)), ddof)
    return float(mean), float(std)


class Moments(NamedTuple):
    """State of a ``RunningMeanStd``."""

    mean: npt.NDArray[np.float64]
    var: npt.NDArray[np.float64]
    n: float

    @classmethod
    def of(cls, statistics: RunningMeanStd) -> "Moments":
        """Copy the state.

        :param statistics: which go on
        """
        return cls(np.array(statistics.mean), np.array(statistics.var), float(statistics.count))

    def put_into(self, statistics: RunningMeanStd) -> None:
        """Give statistics this state.

        :param statistics: of the same shape
        """
        statistics.mean, statistics.var, statistics.count = self.mean.copy(), self.var.copy(), self.n


def merged_moments(common: Moments, of_ranks: Sequence[Moments]) -> Moments:
    """Merge statistics that began as the same and then saw different samples.

    The sums of the samples, of their squares and their numbers add up; what all began with counts once. Everything is
    taken about the common mean, so that nothing large cancels.

    :param common: what every rank began with
    :param of_ranks: what each has now
    """
    again = len(of_ranks) - 1
    count = sum(one.n for one in of_ranks) - again * common.n
    shifts = [one.mean - common.mean for one in of_ranks]
    shift = sum(one.n * delta for one, delta in zip(of_ranks, shifts)) / count
    squares = sum(one.n * (one.var + delta**2) for one, delta in zip(of_ranks, shifts))
    var = np.maximum((squares - again * common.n * common.var) / count - shift**2, 0.0)
    return Moments(common.mean + shift, var, count)


def running_statistics(venv: VecEnv) -> list[RunningMeanStd]:
    """Return the statistics of every ``VecNormalize`` around an environment, of observations and of returns.

    :param venv: the outermost wrapper
    """
    found: list[RunningMeanStd] = []
    while isinstance(venv, VecEnvWrapper):
        if isinstance(venv, VecNormalize):
            of_observations: Any = getattr(venv, "obs_rms", None)  # not there with norm_obs=False
            if isinstance(of_observations, dict):
                found += [of_observations[key] for key in sorted(of_observations)]
            elif of_observations is not None:
                found.append(of_observations)
            found.append(venv.ret_rms)
        venv = venv.venv
    return found


__all__ = [
    "Moments",
    "explained_variance_over_ranks",
    "merged_moments",
    "moments_over_ranks",
    "running_statistics",
    "sample_moments_over_ranks",
    "std_over_ranks",
]
