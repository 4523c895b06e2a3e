"""Spaces that the hosts cannot train on are refused while a model is made, not by an error in its first rollout."""

import inspect
import numbers
from typing import Any

from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN

from sb3_ppo_variants.arguments.checks import require


def check_action_space(space: spaces.Space[Any] | None) -> None:
    """Refuse action spaces that SB3's policies would fail on.

    :param space: of the model; None if it has no environment yet
    :raises ValueError: if it is empty or must be flattened first
    """
    several = isinstance(space, spaces.MultiBinary) and not isinstance(space.n, numbers.Integral)
    several = several or (isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim != 1)
    require(not several, "the `action_space` must be flat", space, "flatten it with a wrapper")
    empty = isinstance(space, spaces.Box) and 0 in space.shape
    require(not empty, "the `action_space` must not be empty", space, "give it a dimension, which may have no effect")


def check_observation_space(model: Any) -> None:
    """Refuse observations on which SB3's networks fail while they are built or, worse, in the first rollout.

    :param model: whose space and policy are checked; without an environment there is nothing to check
    :raises ValueError: naming the space
    """
    space = getattr(model, "observation_space", None)
    extractor = _features_extractor(model)
    is_dict = isinstance(space, spaces.Dict)
    fits = extractor is not CombinedExtractor or space is None or is_dict
    require(fits, "the `observation_space` must be a Dict for a MultiInput policy", space, "use an Mlp or Cnn policy")
    fits = extractor not in (FlattenExtractor, NatureCNN) or not is_dict
    require(fits, "the `observation_space` must be no Dict for an Mlp or Cnn policy", space, "use a MultiInput policy")
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else [space]:
        scalar = isinstance(part, spaces.Box) and part.shape == ()
        require(not scalar, "the `observation_space` must have a dimension", part, "give it the shape (1,)")
        several = isinstance(part, spaces.MultiDiscrete) and part.nvec.ndim != 1
        require(not several, "a MultiDiscrete `observation_space` must be flat", part, "flatten it with a wrapper")
        normalized = _takes_normalized_images(model)
        for_cnn = extractor in (NatureCNN, CombinedExtractor)
        if for_cnn and isinstance(part, spaces.Box) and is_image_space(part, normalized_image=normalized):
            rule = "images in the `observation_space` must be 36 x 36 or larger for SB3's NatureCNN"
            way_out = f"enlarge them, {'put channels first, ' * normalized}or pass a features_extractor_class"
            require(min(part.shape[1:]) >= 36, rule, part, way_out)
        if extractor in (FlattenExtractor, CombinedExtractor) and isinstance(part, spaces.MultiDiscrete):
            # torch's LSTM refuses their size of it, a numpy integer
            recurrent = issubclass(model.policy_class, RecurrentActorCriticPolicy)
            rule = "the `observation_space` of a recurrent policy must not be MultiDiscrete"
            require(not recurrent, rule, part, "encode it as a Box with a wrapper, or pass a features_extractor_class")


def _features_extractor(model: Any) -> Any:
    """Return the class that the policy is about to make, as asked for or by default; None if it makes its own."""
    if model.policy_class.make_features_extractor is not BaseModel.make_features_extractor:
        return None
    parameter = inspect.signature(model.policy_class).parameters.get("features_extractor_class")
    default = None if parameter is None else parameter.default
    return model.policy_kwargs.get("features_extractor_class", default)


def _takes_normalized_images(model: Any) -> bool:
    """Tell whether SB3's extractors take any Box of three dimensions for an image."""
    kwargs = model.policy_kwargs.get("features_extractor_kwargs") or {}
    return not model.policy_kwargs.get("normalize_images", True) or bool(kwargs.get("normalized_image"))


__all__ = ["check_action_space", "check_observation_space"]
