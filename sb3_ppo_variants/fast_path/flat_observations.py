"""Observations as the vectors that a plain MLP gets, in numpy: what SB3's ``preprocess_obs`` and flattening make."""

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space


def is_flat(space: spaces.Space[Any]) -> bool:
    """Tell whether :func:`as_vectors` knows a space: vectors, choices, and bits, but not images, dicts and tuples.

    :param space: of the observations
    """
    known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    return isinstance(space, known) and not is_image_space(space)


def as_vectors(space: spaces.Space[Any], observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Flatten observations; of choices one-hot.

    :param space: one for which :func:`is_flat` is true
    :param observations: shape (n_batch, *observation shape)
    :return: shape (n_batch, n_inputs)
    """
    n_batch = len(observations)
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        return observations.reshape(n_batch, -1)
    choices: Any = space
    sizes = np.array([choices.n] if isinstance(space, spaces.Discrete) else choices.nvec.ravel(), dtype=np.int64)
    columns = observations.reshape(n_batch, -1).astype(np.int64) + (np.cumsum(sizes) - sizes)
    vectors = np.zeros((n_batch, int(sizes.sum())), dtype=np.float32)
    vectors[np.arange(n_batch)[:, None], columns] = 1
    return vectors


__all__ = ["as_vectors", "is_flat"]
