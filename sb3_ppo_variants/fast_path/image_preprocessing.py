"""What SB3 does with observations before a network sees them, with images in one pass over memory."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs

_NUMBERS_AT_ONCE = 1 << 18  # 1 MiB of float32, which stays in a processor's cache


def preprocessed(policy: Any, observations: Any) -> Any:
    """Return what ``preprocess_obs`` returns, to the last bit.

    :param policy: whose observation space it is, and whether it normalises images
    :param observations: as the buffer has them
    """
    return _of_space(observations, policy.observation_space, policy.normalize_images)


def _of_space(observations: Any, space: spaces.Space[Any], normalize: bool) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _of_space(part, space[key], normalize) for key, part in observations.items()}
    if _pays(observations) and normalize and is_image_space(space):
        return normalized_images(observations)
    if th.compiler.is_compiling():  # what SB3 asks of the space, and of the numbers, cannot be traced
        if isinstance(space, spaces.Box):
            return observations.float() / _divisor(space, normalize)
        if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            return _one_hot(observations.long(), space)
    return preprocess_obs(observations, space, normalize_images=normalize)


def _pays(observations: th.Tensor) -> bool:
    """On a GPU, and in a compiled graph, a pass over memory is not what takes the time."""
    large = observations.dtype == th.uint8 and observations.numel() > _NUMBERS_AT_ONCE
    return large and observations.device.type == "cpu" and not th.compiler.is_compiling()


def _one_hot(choices: th.Tensor, space: spaces.Discrete | spaces.MultiDiscrete) -> th.Tensor:
    """Do what SB3 does by torch's ``one_hot``, which looks at the numbers."""
    sizes = _sizes(space)
    if isinstance(space, spaces.Discrete):
        return (choices[..., None] == th.arange(sizes[0], device=choices.device)).float()
    parts = [choices[:, i, None] == th.arange(size, device=choices.device) for i, size in enumerate(sizes)]
    return th.cat(parts, dim=-1).float()


@th.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # a space has numpy's numbers, which would be traced
def _sizes(space: spaces.Discrete | spaces.MultiDiscrete) -> list[int]:
    return [int(space.n)] if isinstance(space, spaces.Discrete) else [int(size) for size in space.nvec]


@th.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _divisor(space: spaces.Box, normalize: bool) -> float:
    return 255.0 if normalize and is_image_space(space) else 1.0


def normalized_images(images: th.Tensor) -> th.Tensor:
    """Compute ``images.float() / 255.0`` a few images at a time, so that what is divided still is in the cache.

    :param images: uint8, shape (n_batch, channels, height, width)
    :return: float32, of the same shape and order in memory
    """
    result = th.empty_like(images, dtype=th.float32)
    count = max(1, _NUMBERS_AT_ONCE // images[0].numel())
    for some, out in zip(images.split(count), result.split(count)):
        out.copy_(some).div_(255.0)
    return result


__all__ = ["normalized_images", "preprocessed"]
