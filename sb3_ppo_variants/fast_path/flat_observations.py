"""Observations as the vectors that a plain MLP gets, in numpy: what SB3's ``preprocess_obs`` and flattening make."""

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space


def is_flat(space: spaces.Space[Any]) -> bool:
    """Tell whether :func:`as_vectors` knows a space: vectors, choices, bits, and dictionaries of them, but not images.

    :param space: of the observations
    """
    if isinstance(space, spaces.Dict):
        return all(map(is_flat, space.spaces.values()))
    known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    return isinstance(space, known) and not is_image_space(space)


def as_vectors(space: spaces.Space[Any], observations: Any) -> npt.NDArray[Any]:
    """Flatten observations; of choices one-hot; of a dictionary one part after the other.

    :param space: one for which :func:`is_flat` is true
    :param observations: shape (n_batch, *observation shape), or a dictionary of such arrays
    :return: shape (n_batch, n_inputs)
    """
    if isinstance(space, spaces.Dict):
        parts = [as_vectors(part, observations[key]) for key, part in space.spaces.items()]
        vectors: npt.NDArray[Any] = np.concatenate(parts, axis=1, dtype=np.float32)
        return vectors
    n_batch = len(observations)
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        vectors = observations.reshape(n_batch, -1)
        return vectors
    choices: Any = space
    sizes = np.array([choices.n] if isinstance(space, spaces.Discrete) else choices.nvec.ravel(), dtype=np.int64)
    chosen = observations.reshape(n_batch, -1).astype(np.int64)
    if (chosen >= sizes).any():
        raise RuntimeError("Class values must be smaller than num_classes.")  # torch's words
    if (chosen < 0).any():
        raise RuntimeError("Class values must be non-negative.")  # as above
    columns = chosen + (np.cumsum(sizes) - sizes)
    vectors = np.zeros((n_batch, int(sizes.sum())), dtype=np.float32)
    vectors[np.arange(n_batch)[:, None], columns] = 1
    return vectors


__all__ = ["as_vectors", "is_flat"]
