"""The classes and their three hosts, as parameters of the tests that hold for all of them."""

from typing import Any, NamedTuple

import gymnasium as gym
import pytest
import torch as th
from environments import make_vec_env
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

import sb3_ppo_variants as package

MAY_FALL_BACK = pytest.mark.filterwarnings("ignore:.*of the fast path falls back")  # else it fails: see pyproject.toml
DISCRETE = ["discrete", "multi_discrete", "multi_binary"]


class Host(NamedTuple):
    """What differs between the hosts' users.

    :param stock: the class without our mixins
    :param policies: name of the policy by kind of observation
    :param actions: kinds of action space that stock can train on
    :param policy_kwargs: for tiny networks
    """

    stock: type[OnPolicyAlgorithm]
    policies: dict[str, str]
    actions: list[str]
    policy_kwargs: dict[str, Any]


def _policies(infix: str) -> dict[str, str]:
    dictionaries = f"MultiInput{infix}Policy"
    policies = {"vector": f"Mlp{infix}Policy", "image": f"Cnn{infix}Policy"}
    return {**policies, "dict": dictionaries, "vectors": dictionaries}


HOSTS = {
    "": Host(PPO, _policies(""), ["box", *DISCRETE], {}),
    # Stock RecurrentPPO cannot train on MultiBinary actions: its buffer hands them on as integers.
    "Recurrent": Host(RecurrentPPO, _policies("Lstm"), ["box", "discrete", "multi_discrete"], {"lstm_hidden_size": 6}),
    "Maskable": Host(MaskablePPO, _policies(""), DISCRETE, {}),
}
VARIANTS = {
    f"{prefix}{name}": getattr(package, f"{prefix}{name}")
    for prefix in HOSTS
    for name in ("PPOClip", "PPOPenalty", "PPOAdaptiveClip", "PPOAdaptiveLR")
}
EXTRACTORS: dict[str, dict[str, Any]] = {
    "vector": {},
    "image": {"features_extractor_kwargs": {"features_dim": 8}},
    "dict": {"features_extractor_kwargs": {"cnn_output_dim": 8}},
    "vectors": {},
}

all_classes = pytest.mark.parametrize("cls", VARIANTS.values(), ids=VARIANTS.keys())


def host_of(cls: type[OnPolicyAlgorithm]) -> Host:
    """Find the host that a variant, or stock itself, stands on.

    :param cls: one of the classes or of the three hosts
    """
    return next(host for host in HOSTS.values() if issubclass(cls, host.stock))


def build(
    cls: type[OnPolicyAlgorithm],
    action: str = "discrete",
    observation: str = "vector",
    n_envs: int = 2,
    env: VecEnv | None = None,
    **arguments: Any,
) -> Any:
    """Build a tiny model of a variant or of stock: 25 ragged steps per environment, minibatches of 16.

    :param cls: one of the classes or of the three hosts
    :param action: kind of action space
    :param observation: kind of observation space
    :param n_envs: number of environments
    :param env: instead of tiny environments
    :param arguments: further constructor arguments
    """
    host = host_of(cls)
    settings = {"n_steps": 25, "batch_size": 16, "n_epochs": 3, "learning_rate": 3e-3, "seed": 5, "device": "cpu"}
    kwargs = {"net_arch": [8], **host.policy_kwargs, **EXTRACTORS[observation], **arguments.pop("policy_kwargs", {})}
    env = env or make_vec_env(action, observation, n_envs)
    return cls(host.policies[observation], env, policy_kwargs=kwargs, **{**settings, **arguments})


def collect_rollout(model: Any) -> None:
    """Fill a model's rollout buffer as ``learn`` would, and leave the update to the test.

    :param model: of a variant or of stock
    """
    _, callback = model._setup_learn(10_000)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def flat(model: Any) -> th.Tensor:
    """Return all weights of a model's policy as one vector, on the CPU.

    :param model: of a variant or of stock
    """
    return th.cat([p.detach().flatten() for p in model.policy.parameters()]).cpu()


def identical(first: PPO, second: PPO) -> bool:
    """True if every parameter, buffer and optimiser state is equal to the last bit."""
    networks = first.policy.state_dict(), second.policy.state_dict()
    optimisers = first.policy.optimizer.state_dict(), second.policy.optimizer.state_dict()
    assert networks[0].keys() == networks[1].keys()
    if optimisers[0]["param_groups"] != optimisers[1]["param_groups"]:
        return False
    assert optimisers[0]["state"].keys() == optimisers[1]["state"].keys()
    assert optimisers[0]["state"]
    pairs = [(networks[0][key], networks[1][key]) for key in networks[0]]
    for index, state in optimisers[0]["state"].items():
        assert state.keys() == optimisers[1]["state"][index].keys()
        pairs += [(state[key], optimisers[1]["state"][index][key]) for key in state]
    return all(th.equal(a, b) for a, b in pairs)


class ModeSensitiveExtractor(BaseFeaturesExtractor):
    """Batch normalisation and dropout: a forward pass in the wrong mode, or one too many, shows."""

    def __init__(self, observation_space: gym.Space[Any]):
        super().__init__(observation_space, features_dim=8)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Tanh())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layers(observations)
