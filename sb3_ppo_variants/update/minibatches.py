"""From the rollout buffer to minibatches, without disturbing the random stream that orders them."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer

from sb3_ppo_variants.arguments.provenance import of_libraries
from sb3_ppo_variants.distributed.moments import moments_over_ranks
from sb3_ppo_variants.distributed.ranks import Ranks
from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.arrays import mapped
from sb3_ppo_variants.update.generators import preserved_generators, preserved_numpy_generator
from sb3_ppo_variants.update.policy_evaluation import valid_steps

_MOST_ROWS = 2048  # of one forward pass: larger temporaries do not fit the cache, and fragment the C library's heap
_STAGEABLE = (RolloutBuffer, DictRolloutBuffer, MaskableRolloutBuffer, MaskableDictRolloutBuffer)


def states_of_size(buffer: RolloutBuffer, numbers: int) -> int:
    """Count the states that have so many numbers together: many vectors, few images.

    :param buffer: a rollout buffer of any host
    :param numbers: in their observations
    """
    shapes = buffer.obs_shape.values() if isinstance(buffer.obs_shape, dict) else [buffer.obs_shape]
    return numbers // max(1, sum(int(np.prod(shape)) for shape in shapes))


def measurement_size(buffer: RolloutBuffer, batch_size: int) -> int:
    """Choose how many states one forward pass without gradient takes.

    :param buffer: a rollout buffer of any host
    :param batch_size: the training batch size, which is taken in any case
    """
    return max(batch_size, min(_MOST_ROWS, states_of_size(buffer, 4_000_000)))


def measurement_batches(buffer: RolloutBuffer, batch_size: int) -> Iterator[Any]:
    """Read the whole rollout once, in large minibatches, for a measurement without gradient.

    :param buffer: a full rollout buffer of any host
    :param batch_size: the training batch size
    :return: minibatches of the host's own NamedTuple
    """
    with preserved_generators():
        yield from buffer.get(measurement_size(buffer, batch_size))


def shares_advantages(algorithm: UpdatedAlgorithm) -> bool:
    """Tell whether the minibatches of all ranks are normalised together, by whoever reads them.

    :param algorithm: which is trained
    """
    normalize = algorithm.normalize_advantage
    return bool(normalize) and normalize != "rollout" and algorithm.ranks.size > 1


def normalized_over_ranks(algorithm: UpdatedAlgorithm, minibatch: Any) -> Any:
    """Normalise a minibatch's advantages by those of all ranks' minibatches together, where there are several ranks.

    :param algorithm: which is trained
    :param minibatch: the host's NamedTuple
    """
    if not shares_advantages(algorithm):
        return minibatch
    advantages, mask = minibatch.advantages, valid_steps(minibatch)
    counted = advantages if mask is None else advantages[mask]
    mean, std = moments_over_ranks(algorithm.ranks, counted.unsqueeze(0))
    return minibatch._replace(advantages=(advantages - mean[0]) / (std[0] + 1e-8))


def staging_obstacle(buffer: RolloutBuffer) -> str | None:
    """Say why minibatches may not be taken as rows of the whole rollout.

    Not so for recurrent buffers, whose padding differs from minibatch to minibatch, and for one that changes how
    samples are read, nor where the rollout would not fit well on a GPU.

    :param buffer: of the model
    :return: the reason, or None if they may
    """
    steps = ("get", "_get_samples", "to_torch", "swap_and_flatten")
    plain = any(
        isinstance(buffer, known) and all(getattr(type(buffer), step) is getattr(known, step) for step in steps)
        for known in _STAGEABLE
    )
    patched = any(step in vars(buffer) for step in steps) or not of_libraries(type(buffer), *steps)
    if not plain or patched:
        return "the buffer's minibatches are not rows of one rollout"
    return "the rollout takes more than half of the GPU's memory" if _takes_half_of_a_gpu(buffer) else None


def _takes_half_of_a_gpu(buffer: RolloutBuffer) -> bool:
    """Tell whether the whole rollout is large for its device, where stock PPO has a minibatch at a time."""
    if buffer.device.type != "cuda":
        return False
    parts = [value.values() if isinstance(value, dict) else [value] for value in vars(buffer).values()]
    size = sum(array.nbytes for array in chain.from_iterable(parts) if isinstance(array, np.ndarray))
    return bool(size > th.cuda.get_device_properties(buffer.device).total_memory / 2)


class StagedRollout:
    """A whole rollout as tensors on the device, read once through the buffer's own code.

    :param buffer: a full buffer for which :func:`staging_obstacle` finds nothing
    :param action_space: Discrete actions are turned into indices here, once
    :param batch_size: the training batch size
    :param channels_last: whether images lie so in memory, shape unchanged: on a CPU convolutions' backward passes are
        half as long again otherwise (``docs/speed.md``)
    """

    def __init__(
        self, buffer: RolloutBuffer, action_space: spaces.Space[Any], batch_size: int, channels_last: bool = False
    ):
        self.size = buffer.buffer_size * buffer.n_envs
        self.piece_size = measurement_size(buffer, batch_size)
        self.sample_size = min(self.size, max(128, states_of_size(buffer, 1_000_000)))
        with preserved_numpy_generator():
            order = np.random.permutation(self.size)  # what get() is about to draw: the order of the rows
        with preserved_numpy_generator():
            rollout = next(buffer.get(batch_size=None))
        self._row_of_step = np.argsort(order)
        actions = rollout.actions.long().flatten() if isinstance(action_space, spaces.Discrete) else rollout.actions
        self.rollout = rollout._replace(actions=actions, observations=prepared(rollout.observations, channels_last))
        self._device = rollout.advantages.device
        self._advantages = rollout.advantages

    def shuffled_rows(self) -> th.Tensor:
        """Draw the order of one epoch from numpy's global generator, as the buffer itself would.

        :return: rows of the staged rollout, shape (n_steps * n_envs,)
        """
        return th.from_numpy(self._row_of_step[np.random.permutation(self.size)]).to(self._device)

    def normalize_over_ranks(self, ranks: Ranks, rows: th.Tensor, batch_size: int) -> None:
        """Normalise the advantages of an epoch's minibatches by those of all ranks' minibatches together.

        :param ranks: of the run
        :param rows: in the order of the epoch
        :param batch_size: of the minibatches; the last may be smaller
        """
        whole = len(rows) // batch_size * batch_size
        normalized = th.empty_like(self._advantages)
        for part in (rows[:whole].reshape(-1, batch_size), rows[whole:].reshape(1, -1)):
            if part.numel():
                advantages = self._advantages[part]
                mean, std = moments_over_ranks(ranks, advantages)
                normalized[part] = (advantages - mean) / (std + 1e-8)
        self.rollout = self.rollout._replace(advantages=normalized)

    def select(self, rows: th.Tensor) -> Any:
        """Return a minibatch of the host's own NamedTuple.

        :param rows: shape (n_batch,)
        """
        return mapped(lambda tensor: _take(tensor, rows), self.rollout)

    def pieces(self, n_rows: int) -> Iterator[Any]:
        """Yield the first rows in pieces for a forward pass without gradient; the staged order is random.

        :param n_rows: how many rows in all
        """
        for start in range(0, n_rows, self.piece_size):
            stop = min(start + self.piece_size, n_rows)
            yield mapped(lambda tensor: tensor[start:stop], self.rollout)  # noqa: B023  # used before the next turn


def prepared(observations: Any, channels_last: bool) -> Any:
    """Do once what every minibatch would need: float64 becomes the float32 that every policy turns it into, too.

    :param observations: shape (n_batch, *observation shape), or a dictionary of such tensors
    :param channels_last: where images lie in memory
    """
    if isinstance(observations, dict):
        return {key: prepared(value, channels_last) for key, value in observations.items()}
    if observations.dim() == 4 and channels_last:
        observations = observations.contiguous(memory_format=th.channels_last)
    return observations.float() if observations.dtype == th.float64 else observations


def _take(tensor: th.Tensor, rows: th.Tensor) -> th.Tensor:
    """Select rows as ``index_select`` does, but leave images channels last."""
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=th.channels_last):
        return tensor.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return tensor.index_select(0, rows)


def part_of(fields: Any, index: int, parts: int) -> Any:
    """Cut one minibatch out of several that lie one after the other.

    :param fields: tensors in NamedTuples, tuples and dictionaries; None for none
    :param index: of the minibatch
    :param parts: how many there are
    """
    if fields is None:
        return None
    if isinstance(fields, dict):
        return {key: part_of(value, index, parts) for key, value in fields.items()}
    if isinstance(fields, th.Tensor):
        size = len(fields) // parts
        return fields[index * size : (index + 1) * size]
    pieces = [part_of(field, index, parts) for field in fields]
    return type(fields)(*pieces) if hasattr(fields, "_fields") else tuple(pieces)
