"""Forward and backward pass of a plain actor-critic MLP without an autograd graph.

For small networks most of a backward pass is autograd's bookkeeping. A stack of Linear, Tanh and ReLU layers needs two
matrix products per layer, written out here; what comes after the networks' outputs is in ``update/distributions``.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, MlpExtractor
from torch import nn

from sb3_ppo_variants.fast_path.activations import ACTIVATIONS, Activation
from sb3_ppo_variants.fast_path.flat_observations import is_flat
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam
from sb3_ppo_variants.fast_path.onednn_products import pays, product

_ALIGNMENT, _SMALL = 64, 32_768  # bytes


class _Layer(NamedTuple):
    linear: nn.Linear
    activation: Activation | None
    weight_gradient: th.Tensor
    bias_gradient: th.Tensor


class MlpTrunk:
    """Actor and critic of a policy, from observations to action-net output and value.

    :param policy: one for which :func:`plain_mlp_obstacle` finds nothing
    :param adam: whose flat gradient :meth:`backward` fills
    :param onednn: whether oneDNN computes large products
    """

    def __init__(self, policy: ActorCriticPolicy, adam: FlatAdam, onednn: bool = False):
        self.onednn = onednn
        gradients = dict(zip(map(id, adam.parameters), adam.views(adam.gradient)))
        self.actor = _stack([*policy.mlp_extractor.policy_net, policy.action_net], gradients)
        self.critic = _stack([*policy.mlp_extractor.value_net, policy.value_net], gradients)
        self.log_std_gradient = gradients.get(id(getattr(policy, "log_std", None)))
        self.space = policy.observation_space
        self._activations: list[list[th.Tensor]] = []

    def forward(self, observations: Any) -> tuple[th.Tensor, th.Tensor]:
        """Run both networks and remember what :meth:`backward` needs.

        :param observations: shape (n_batch, *observation shape), or a dictionary of such tensors
        :return: output of the action net, shape (n_batch, n_outputs), and values, shape (n_batch,); without gradient
        """
        inputs = _vectors(self.space, observations)
        with th.no_grad():
            self._activations = [_forward(inputs, net, self.onednn) for net in (self.actor, self.critic)]
        return self._activations[0][-1], self._activations[1][-1].flatten()

    @property
    def latent(self) -> th.Tensor:
        """What the action net was given, shape (n_batch, n_features)."""
        return self._activations[0][-2]

    def action_output(self, observations: Any) -> tuple[th.Tensor, th.Tensor]:
        """Run the actor only, and remember nothing.

        :param observations: shape (n_batch, *observation shape), or a dictionary of such tensors
        :return: output of the action net, shape (n_batch, n_outputs), and what it was given, without gradient
        """
        with th.no_grad():
            activations = _forward(_vectors(self.space, observations), self.actor, self.onednn)
        return activations[-1], activations[-2]

    def backward(self, output: th.Tensor, values: th.Tensor, log_std: th.Tensor | None) -> None:
        """Fill the flat gradient.

        :param output: gradient with respect to the output of the action net, shape (n_batch, n_outputs)
        :param values: gradient with respect to the values, shape (n_batch,)
        :param log_std: gradient with respect to the policy's ``log_std``, if it has one
        """
        with th.no_grad():
            _backward(output.float(), self.actor, self._activations[0], self.onednn)
            _backward(values.float().unsqueeze(1), self.critic, self._activations[1], self.onednn)
            if self.log_std_gradient is not None and log_std is not None:
                self.log_std_gradient.copy_(log_std)


def plain_mlp_obstacle(policy: Any) -> str | None:
    """Say why a policy's network is not a plain pair of MLPs.

    :param policy: one whose evaluation has a closed form
    :return: the reason, or None if it is
    """
    space = policy.observation_space
    shared, separate = [policy.features_extractor], [policy.pi_features_extractor, policy.vf_features_extractor]
    extractors = shared if policy.share_features_extractor else separate
    if not is_flat(space) or not all(map(_only_flattens, extractors)):
        return "observations are not plain vectors"
    if type(policy.mlp_extractor) is not MlpExtractor:
        return "the network is not an MlpExtractor"
    heads = [policy.action_net, policy.value_net]
    modules = [*policy.mlp_extractor.policy_net, *policy.mlp_extractor.value_net, *heads]
    if not all(type(module) is nn.Linear or type(module) in ACTIVATIONS for module in modules):
        return "the network uses other layers than Linear, Tanh and ReLU"
    if any(isinstance(module, nn.Linear) and module.bias is None for module in modules):
        return "a layer has no bias"
    before = [None, *policy.mlp_extractor.policy_net, None, *policy.mlp_extractor.value_net]
    if any(type(b) in ACTIVATIONS and type(a) is not nn.Linear for a, b in pairwise(before)):
        return "an activation does not follow a layer"
    known = sum(p.numel() for module in modules for p in module.parameters())
    known += policy.log_std.numel() if hasattr(policy, "log_std") else 0
    if known != sum(p.numel() for p in policy.parameters()):
        return "the policy has parameters outside its MLPs"
    return None


def _only_flattens(extractor: Any) -> bool:
    if type(extractor) is CombinedExtractor:
        return all(type(part) is nn.Flatten for part in extractor.extractors.values())
    return type(extractor) is FlattenExtractor


def linear_layers(modules: Iterable[nn.Module]) -> list[tuple[nn.Linear, Activation | None]]:
    """Pair every linear layer with the activation that follows it.

    :param modules: of a network for which :func:`plain_mlp_obstacle` finds nothing, from input to output
    """
    layers: list[tuple[nn.Linear, Activation | None]] = []
    for module in modules:
        if isinstance(module, nn.Linear):
            layers.append((module, None))
        else:
            layers[-1] = (layers[-1][0], ACTIVATIONS[type(module)])
    return layers


def _vectors(space: spaces.Space[Any], observations: Any) -> th.Tensor:
    if isinstance(space, spaces.Dict):
        return th.cat([_vectors(part, observations[key]) for key, part in space.spaces.items()], dim=1)
    if not isinstance(space, spaces.Box):
        observations = preprocess_obs(observations, space)
    vectors: th.Tensor = observations.reshape(len(observations), -1).float()
    return vectors


def _stack(modules: list[nn.Module], gradients: dict[int, th.Tensor]) -> list[_Layer]:
    return [
        _Layer(linear, activation, gradients[id(linear.weight)], gradients[id(linear.bias)])
        for linear, activation in linear_layers(modules)
    ]


def _forward(inputs: th.Tensor, layers: list[_Layer], onednn: bool) -> list[th.Tensor]:
    activations = [inputs]
    for linear, activation, _, _ in layers:
        out = _memory(len(inputs), len(linear.weight), like=inputs)
        if onednn and pays(len(inputs), linear.weight):
            inputs = out.copy_(product(inputs, linear.weight, linear.bias))
        else:
            inputs = th.addmm(linear.bias, inputs, linear.weight.t(), out=out)
        if activation is not None:
            inputs = activation.forward(inputs)
        activations.append(inputs)
    return activations


def _backward(gradient: th.Tensor, layers: list[_Layer], activations: list[th.Tensor], onednn: bool) -> None:
    for index in range(len(layers) - 1, -1, -1):
        linear, activation, weight_gradient, bias_gradient = layers[index]
        if activation is not None:
            gradient = activation.backward(gradient, activations[index + 1])
        _times(gradient.t(), activations[index], weight_gradient, onednn)
        th.sum(gradient, dim=0, out=bias_gradient)
        if index > 0:
            out = _memory(len(gradient), linear.weight.shape[1], like=gradient)
            gradient = _times(gradient, linear.weight, out, onednn)


def _times(a: th.Tensor, b: th.Tensor, out: th.Tensor, onednn: bool) -> th.Tensor:
    return out.copy_(product(a, b.t())) if onednn and pays(len(a), b) else th.mm(a, b, out=out)


def _memory(n_rows: int, n_columns: int, like: th.Tensor) -> th.Tensor:
    """Make a matrix whose memory is used again after it.

    What torch takes on the CPU, by posix_memalign, glibc before 2.38 does not find again once small objects lie beside
    it (its bug 14581): on LunarLander-v3 the process grew by 1 MB in 1,000 steps. So numpy takes it, and this aligns it
    as torch would, as results may depend on that.
    """
    n_bytes = n_rows * n_columns * like.element_size()
    if like.device.type != "cpu" or n_bytes < _SMALL:
        return like.new_empty(n_rows, n_columns)
    taken = np.empty(n_bytes + _ALIGNMENT, dtype=np.uint8)
    start = -taken.ctypes.data % _ALIGNMENT
    return th.from_numpy(taken[start : start + n_bytes]).view(like.dtype).view(n_rows, n_columns)
