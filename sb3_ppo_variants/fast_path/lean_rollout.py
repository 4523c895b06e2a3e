"""A leaner ``policy.forward`` for collecting rollouts with small networks on the CPU: numpy on the parameters' memory.

At batch size 1 nearly all of SB3's forward pass is call overhead. SB3's own ``collect_rollouts`` keeps running; only
the policy's forward is replaced while it does, and what the buffer does (``lean_buffer.py``).
"""

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_ppo_variants.fast_path.closed_forms import closed_form
from sb3_ppo_variants.fast_path.mlp_trunk import linear_layers, plain_mlp_obstacle

Array = npt.NDArray[np.float32]
_HALF_LOG_2PI = np.float32(0.5 * np.log(2 * np.pi))
_ACTIVATIONS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.Tanh: np.tanh,
    nn.ReLU: lambda x, out: np.maximum(x, 0, out=out),
}
_MOST_WEIGHTS = 300_000  # numpy's lead is call overhead; above this the matrix products decide


class Layer(NamedTuple):
    """One linear layer: views of the parameters' memory, and what follows it."""

    weight: Array
    bias: Array
    activation: Callable[..., Any] | None


class LeanForward:
    """Stands in for ``policy.forward`` while a rollout is collected.

    A copy or pickle of the policy made by a callback meanwhile gets the ordinary ``forward`` back.

    :param policy: one for which :func:`lean_forward_obstacle` finds nothing
    """

    def __init__(self, policy: ActorCriticPolicy):
        self.policy = policy
        self.actor = _layers(policy.mlp_extractor.policy_net, policy.action_net)
        self.critic = _layers(policy.mlp_extractor.value_net, policy.value_net)
        self.log_std = policy.log_std.detach().numpy() if hasattr(policy, "log_std") else None
        self.action_shape: tuple[int, ...] = policy.action_space.shape or ()
        self.sample = _SAMPLERS[type(policy.action_dist)]

    def __call__(self, obs: th.Tensor, deterministic: bool = False) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Sample actions as ``ActorCriticPolicy.forward`` does.

        :param obs: shape (n_envs, *observation shape)
        :param deterministic: handled by the ordinary forward
        :return: actions, values of shape (n_envs, 1), log-probabilities of shape (n_envs,)
        """
        if deterministic:
            return ActorCriticPolicy.forward(self.policy, obs, deterministic=True)
        inputs = obs.numpy()
        if inputs.ndim != 2:
            inputs = inputs.reshape(len(inputs), -1)
        if inputs.dtype != np.float32:
            inputs = inputs.astype(np.float32)
        actions, log_prob = self.sample(self, _mlp(inputs, self.actor))
        if actions.shape[1:] != self.action_shape:
            actions = actions.reshape((-1, *self.action_shape))
        return th.from_numpy(actions), th.from_numpy(_mlp(inputs, self.critic)), th.from_numpy(log_prob)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return ordinary_forward(memo[id(self.policy)])

    def __reduce__(self) -> Any:
        return ordinary_forward, (self.policy,)


def ordinary_forward(policy: ActorCriticPolicy) -> Any:
    """Return the forward method of a policy's class, bound to it.

    :param policy: any policy
    """
    return types.MethodType(type(policy).forward, policy)


def _sample_gaussian(forward: LeanForward, mean: Array) -> tuple[npt.NDArray[Any], Array]:
    noise = np.random.standard_normal(mean.shape).astype(np.float32)
    log_std = forward.log_std
    assert log_std is not None  # DiagGaussian policies have one
    log_prob = -0.5 * (noise * noise).sum(axis=1) - (log_std.sum() + _HALF_LOG_2PI * len(log_std))
    return mean + noise * np.exp(log_std), log_prob.astype(np.float32, copy=False)


def _sample_categorical(forward: LeanForward, logits: Array) -> tuple[npt.NDArray[Any], Array]:
    sizes = getattr(forward.policy.action_dist, "action_dims", None) or [logits.shape[1]]
    actions = np.empty((len(logits), len(sizes)), dtype=np.int64)
    log_prob = np.zeros(len(logits), dtype=np.float32)
    rows = np.arange(len(logits))
    start = 0
    for column, size in enumerate(sizes):
        part = logits[:, start : start + size]
        start += size
        shifted = part - part.max(axis=1, keepdims=True)
        cumulative = np.exp(shifted).cumsum(axis=1)
        total = cumulative[:, -1]
        thresholds = np.random.random_sample(len(logits)) * total
        chosen = np.minimum((cumulative <= thresholds[:, None]).sum(axis=1), size - 1)
        actions[:, column] = chosen
        log_prob += shifted[rows, chosen] - np.log(total)
    return actions, log_prob


def _sample_bernoulli(_: LeanForward, logits: Array) -> tuple[npt.NDArray[Any], Array]:
    ones = np.random.random_sample(logits.shape) < 1 / (1 + np.exp(-logits))
    signed = np.where(ones, logits, -logits)
    log_prob = -np.logaddexp(np.float32(0), -signed).sum(axis=1)
    return ones.astype(np.float32), log_prob.astype(np.float32, copy=False)


_SAMPLERS: dict[type, Callable[[LeanForward, Array], tuple[npt.NDArray[Any], Array]]] = {
    CategoricalDistribution: _sample_categorical,
    MultiCategoricalDistribution: _sample_categorical,
    BernoulliDistribution: _sample_bernoulli,
    DiagGaussianDistribution: _sample_gaussian,
}


@contextmanager
def lean_forward(forward: LeanForward) -> Iterator[None]:
    """Let a policy work lean while SB3 collects a rollout; nothing else of it changes.

    :param forward: for the policy it was made for
    """
    policy = forward.policy
    policy.forward = forward  # type: ignore[method-assign]  # taken back below
    try:
        yield
    finally:
        del policy.forward


def lean_forward_obstacle(policy: Any) -> str | None:
    """Say why a policy's forward pass cannot be done in numpy.

    :param policy: any policy
    :return: the reason, or None if it can
    """
    if closed_form(policy) is None or type(policy).forward is not ActorCriticPolicy.forward:
        return "the policy overrides its forward pass, or its distribution has no closed form"
    if policy.device.type != "cpu":
        return "the policy is not on the CPU"
    obstacle = plain_mlp_obstacle(policy)
    if obstacle is not None:
        return obstacle
    if any(p.dtype != th.float32 for p in policy.parameters()):
        return "parameters are not float32"
    if sum(p.numel() for p in policy.parameters()) > _MOST_WEIGHTS:
        return f"the network has more than {_MOST_WEIGHTS} weights"
    return None


def _layers(hidden: nn.Sequential, last: nn.Module) -> list[Layer]:
    return [
        Layer(
            linear.weight.detach().numpy().T,
            linear.bias.detach().numpy(),
            None if activation is None else _ACTIVATIONS[activation],
        )
        for linear, activation in linear_layers([*hidden, last])
    ]


def _mlp(inputs: Array, layers: list[Layer]) -> Array:
    for weight, bias, activation in layers:
        inputs = np.dot(inputs, weight)
        inputs += bias
        if activation is not None:
            activation(inputs, out=inputs)
    return inputs
