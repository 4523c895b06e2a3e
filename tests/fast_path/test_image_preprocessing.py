"""Images are normalised a few at a time, to the last bit as Stable-Baselines3 does it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from gymnasium import spaces
from hosts import flat
from stable_baselines3.common.preprocessing import preprocess_obs

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.fast_path import image_preprocessing
from sb3_ppo_variants.fast_path.image_preprocessing import preprocessed

IMAGES = spaces.Box(0, 255, (4, 84, 84), np.uint8)
SPACES = {
    "images": IMAGES,
    "dict": spaces.Dict({"image": IMAGES, "vector": spaces.Box(-1, 1, (3,)), "choice": spaces.Discrete(5)}),
    "bytes_that_are_no_image": spaces.Box(0, 255, (30_000,), np.uint8),
}


def sample(space: spaces.Space[Any], count: int) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: sample(part, count) for key, part in space.items()}
    return th.as_tensor(np.stack([np.asarray(space.sample()) for _ in range(count)]))


def spied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the images that are normalised here; any number of them is a large one."""
    counts: list[int] = []
    original = image_preprocessing.normalized_images
    monkeypatch.setattr(image_preprocessing, "normalized_images", lambda x: counts.append(len(x)) or original(x))
    monkeypatch.setattr(image_preprocessing, "_NUMBERS_AT_ONCE", 4 * 84 * 84 * 3)
    return counts


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("name", SPACES)
def test_it_is_stable_baselines3_s_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, name: str, count: int, normalize: bool
) -> None:
    counts, space = spied(monkeypatch), SPACES[name]
    observations = sample(space, count)
    policy = SimpleNamespace(observation_space=space, normalize_images=normalize)
    found, expected = preprocessed(policy, observations), preprocess_obs(observations, space, normalize)
    if not isinstance(space, spaces.Dict):
        found, expected = {"": found}, {"": expected}
    assert found.keys() == expected.keys()
    assert all(th.equal(found[key], expected[key]) for key in expected)
    assert counts == ([count] if normalize and count > 3 and "image" in found | {name[:5]: 0} else [])


def test_images_stay_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    images = sample(IMAGES, 7).contiguous(memory_format=th.channels_last)
    found = image_preprocessing.normalized_images(images)
    assert th.equal(found, images.float() / 255.0)
    assert found.is_contiguous(memory_format=th.channels_last)


@pytest.mark.parametrize("shared", [True, False])
def test_an_update_normalises_each_minibatch_once(monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    kwargs: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}
    kwargs["policy_kwargs"] = {"share_features_extractor": shared, "features_extractor_kwargs": {"features_dim": 32}}
    before = PPOClip("CnnPolicy", make_vec_env("discrete", "image"), **kwargs)
    expected = PPOClip("CnnPolicy", make_vec_env("discrete", "image"), acceleration="off", **kwargs).learn(32)
    counts = spied(monkeypatch)
    monkeypatch.setattr(image_preprocessing, "_NUMBERS_AT_ONCE", 36 * 36 * 3)
    model = PPOClip("CnnPolicy", make_vec_env("discrete", "image"), **kwargs).learn(32)
    moved = (flat(expected) - flat(before)).abs().max()
    assert (flat(model) - flat(expected)).abs().max() < 1e-2 * moved
    assert counts.count(16) >= 2 * 2  # the first update's self-check takes a few more
