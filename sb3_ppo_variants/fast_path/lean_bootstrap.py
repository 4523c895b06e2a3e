"""The values at which time limits cut episodes off, of all environments at once.

SB3's ``collect_rollouts`` asks for them one environment after the other. With thousands of environments some episodes
end at every step, and these single forward passes then take longer than that of all actions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_ppo_variants.fast_path.interception import (
    LibraryMethods,
    StandIn,
    is_replaced,
    module_obstacle,
    replaces_collection,
    standing_in,
    watches_infos,
)
from sb3_ppo_variants.update.policy_evaluation import foreign_module

_METHODS = ("obs_to_tensor", "predict_values")
_OF_SB3 = LibraryMethods(_METHODS, ActorCriticPolicy, MaskableActorCriticPolicy)


class _Foreseen(NamedTuple):
    """Takes the place of an observation whose value is known, shape (1, 1)."""

    value: th.Tensor


class LeanBootstrap:
    """Computes the values of a step's cut-off episodes together, and gives SB3 each of them when it asks.

    :param policy: of a model for which :func:`bootstrap_obstacle` finds nothing
    """

    def __init__(self, policy: Any):
        self.policy = policy
        self.foreseen: dict[int, tuple[Any, _Foreseen]] = {}  # by the observation's id, with the observation

    def foresee(self, infos: Any, dones: Any) -> None:
        """Compute what SB3 is about to ask for, unless it is a single value.

        :param infos: one for each environment
        :param dones: whether each environment's episode is over, shape (n_envs,)
        """
        self.foreseen = {}
        if np.count_nonzero(dones) < 2:
            return
        stand_ins = (isinstance(vars(self.policy).get(name), StandIn) for name in _METHODS)
        if not all(stand_ins):  # a callback has replaced one
            return
        ended = [infos[i] for i in np.flatnonzero(dones)]
        cut = [info["terminal_observation"] for info in ended if _is_cut_off(info)]
        if len(cut) < 2 or not all(_has_shape_of(self.policy.observation_space, one) for one in cut):
            return
        parts = (
            {key: np.stack([one[key] for one in cut]) for key in cut[0]} if isinstance(cut[0], dict) else np.stack(cut)
        )
        cls = type(self.policy)
        with th.no_grad():
            observations, _ = cls.obs_to_tensor(self.policy, parts)
            values = cls.predict_values(self.policy, observations).cpu()
        self.foreseen = {id(one): (one, _Foreseen(values[i : i + 1])) for i, one in enumerate(cut)}


class _ObsToTensor(StandIn):
    def __init__(self, bootstrap: LeanBootstrap):
        super().__init__(bootstrap.policy, "obs_to_tensor")
        self.bootstrap = bootstrap

    def __call__(self, observation: Any) -> Any:
        _, foreseen = self.bootstrap.foreseen.pop(id(observation), (None, None))
        return self.ordinary()(observation) if foreseen is None else (foreseen, False)


class _PredictValues(StandIn):
    def __call__(self, obs: Any) -> Any:
        return obs.value if isinstance(obs, _Foreseen) else self.ordinary()(obs)


@contextmanager
def lean_bootstrap(policy: Any) -> Iterator[LeanBootstrap]:
    """Let a policy give what was foreseen while SB3 collects a rollout.

    :param policy: of a model for which :func:`bootstrap_obstacle` finds nothing
    """
    bootstrap = LeanBootstrap(policy)
    with standing_in(_ObsToTensor(bootstrap), _PredictValues(policy, "predict_values")):
        yield bootstrap


def bootstrap_obstacle(algorithm: Any) -> str | None:
    """Say why values are not computed together: somebody else than SB3's loop could be given what was foreseen.

    :param algorithm: the model
    :return: the reason, or None if they are
    """
    policy = algorithm.policy
    if not _OF_SB3.knows(policy):
        return "the policy is none of SB3's and contrib's actor-critic ones"
    own = [*_OF_SB3.overridden(policy), *(name for name in _METHODS if is_replaced(policy, name))]
    if own:
        return f"the policy overrides {own[0]}()"
    if replaces_collection(algorithm) or watches_infos(algorithm):
        return "the algorithm collects rollouts in its own way"
    foreign = foreign_module(policy)
    return module_obstacle(policy) if foreign is None else f"{foreign} may remember what it was asked"


def _has_shape_of(space: spaces.Space[Any], observation: Any) -> bool:
    """Tell whether an observation can be stacked with others: environments may give more or fewer axes."""
    if isinstance(space, spaces.Dict):
        known = isinstance(observation, dict) and observation.keys() == space.spaces.keys()
        return known and all(_has_shape_of(part, observation[key]) for key, part in space.spaces.items())
    return bool(np.shape(observation) == space.shape)


def _is_cut_off(info: dict[str, Any]) -> bool:
    return info.get("terminal_observation") is not None and info.get("TimeLimit.truncated", False)


__all__ = ["LeanBootstrap", "bootstrap_obstacle", "lean_bootstrap"]
