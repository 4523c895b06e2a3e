"""Features extractors for ``policy_kwargs``."""

from typing import Any

import torch as th
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN


class BFloat16Mixin(BaseFeaturesExtractor):
    """Lets an extractor compute in bfloat16 (autocast); place it before one: ``class Mine(BFloat16Mixin, MyCNN)``.

    Weights stay float32, and so does all that comes after the features: values, log-probabilities, entropy, KL. It
    works with stock PPO, too. The rollout is computed in the same precision, so that ratios begin at 1.
    """

    def forward(self, observations: Any) -> th.Tensor:
        """Extract features.

        :param observations: as the policy preprocesses them
        :return: float32, shape (n_batch, features_dim)
        """
        first: th.Tensor | None = next(self.parameters(), None)
        with th.autocast("cpu" if first is None else first.device.type, dtype=th.bfloat16):
            features: th.Tensor = super().forward(observations)
        return features.float()


class BFloat16CNN(BFloat16Mixin, NatureCNN):
    """SB3's NatureCNN with its convolutions and its linear layer in bfloat16.

    Give ``net_arch=[]`` with it, as SB3 puts two layers of 64 after any extractor but NatureCNN itself.

    :param observation_space: of images
    :param features_dim: number of features
    :param normalized_image: whether images come as floats in [0, 1], see ``NatureCNN``
    """


__all__ = ["BFloat16CNN", "BFloat16Mixin"]
