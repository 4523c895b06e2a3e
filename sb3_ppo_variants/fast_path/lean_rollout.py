"""A leaner ``policy.forward`` for collecting rollouts with small networks on the CPU: numpy on the parameters' memory.

At batch size 1 nearly all of SB3's forward pass is call overhead. SB3's own ``collect_rollouts`` keeps running; only
the policy's forward is replaced while it does, and what the buffer does (``lean_buffer.py``).
"""

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_ppo_variants.fast_path.activations import Activation
from sb3_ppo_variants.fast_path.closed_forms import closed_form_of, evaluation_obstacle
from sb3_ppo_variants.fast_path.mlp_trunk import linear_layers, plain_mlp_obstacle

Array = npt.NDArray[np.float32]
_FORWARD = ActorCriticPolicy.forward
_MOST_WEIGHTS = 300_000  # numpy's lead is call overhead; above this the matrix products decide


class Layer(NamedTuple):
    """One linear layer: views of the parameters' memory, and what follows it."""

    weight: Array
    bias: Array
    activation: Activation | None


class LeanForward:
    """Stands in for ``policy.forward`` while a rollout is collected.

    A copy or pickle of the policy made by a callback meanwhile gets the ordinary ``forward`` back.

    :param policy: one for which :func:`lean_forward_obstacle` finds nothing
    """

    def __init__(self, policy: ActorCriticPolicy):
        self.policy = policy
        self.actor = _layers(policy.mlp_extractor.policy_net, policy.action_net)
        self.critic = _layers(policy.mlp_extractor.value_net, policy.value_net)
        self.action_shape: tuple[int, ...] = policy.action_space.shape or ()
        form = closed_form_of(policy)
        assert form is not None  # or there is an obstacle
        self.form = form
        self._scratch: list[list[Array]] = []

    def __call__(self, obs: th.Tensor, deterministic: bool = False) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Sample actions as ``ActorCriticPolicy.forward`` does.

        :param obs: shape (n_envs, *observation shape)
        :param deterministic: handled by the ordinary forward
        :return: actions, values of shape (n_envs, 1), log-probabilities of shape (n_envs,)
        """
        if deterministic:
            return ActorCriticPolicy.forward(self.policy, obs, deterministic=True)
        if not self._scratch or len(self._scratch[0][0]) != len(obs):
            self._scratch = [_arrays(len(obs), layers) for layers in (self.actor, self.critic)]
        flat = obs.numpy().reshape(len(obs), -1)
        output, values = (_mlp(flat, layers, out) for layers, out in zip((self.actor, self.critic), self._scratch))
        actions, log_prob = self.form.sample(self.policy, output)
        if actions.shape[1:] != self.action_shape:
            actions = actions.reshape((-1, *self.action_shape))
        return th.from_numpy(actions), th.from_numpy(values.copy()), th.from_numpy(log_prob)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return ordinary_forward(memo[id(self.policy)])

    def __reduce__(self) -> Any:
        return ordinary_forward, (self.policy,)


def ordinary_forward(policy: ActorCriticPolicy) -> Any:
    """Return the forward method of a policy's class, bound to it.

    :param policy: any policy
    """
    return types.MethodType(type(policy).forward, policy)


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
    obstacle = evaluation_obstacle(policy)
    if obstacle is not None:
        return obstacle
    if type(policy).forward is not _FORWARD:
        return "the policy overrides its forward pass"
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
            activation,
        )
        for linear, activation in linear_layers([*hidden, last])
    ]


def _arrays(n_rows: int, layers: list[Layer]) -> list[Array]:
    """Make the arrays that a forward pass writes to: torch's memory, which always begins at the same alignment."""
    sizes = [layers[0].weight.shape[0], *(layer.weight.shape[1] for layer in layers)]
    return [th.empty(n_rows, size).numpy() for size in sizes]


def _mlp(inputs: npt.NDArray[Any], layers: list[Layer], out: list[Array]) -> Array:
    out[0][...] = inputs
    for i, (weight, bias, activation) in enumerate(layers):
        np.dot(out[i], weight, out=out[i + 1])
        out[i + 1] += bias
        if activation is not None:
            activation.in_numpy(out[i + 1], out=out[i + 1])
    return out[-1]
