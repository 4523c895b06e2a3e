"""Actor and critic in numpy, on the memory of the parameters and of their flat gradient.

For networks of a few thousand weights most of a call of torch is not arithmetic: numpy's calls cost a third. The matrix
products are BLAS's in either library. Above some size torch's are faster: :func:`numpy_obstacle`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_ppo_variants.fast_path.activations import Activation
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam
from sb3_ppo_variants.fast_path.mlp_trunk import linear_layers
from sb3_ppo_variants.fast_path.onednn_products import pays, product

Array = npt.NDArray[np.float32]


class _Layer(NamedTuple):
    weight: Array
    transposed: Array
    bias: Array
    activation: Activation | None
    weight_gradient: Array
    bias_gradient: Array


class _LayerOfColumns(NamedTuple):
    weight: Array
    bias: Array
    activation: Activation | None


class _Memory(NamedTuple):
    activations: list[Array]
    gradients: list[Array]
    ones: Array


class NumpyMlp:
    """A stack of linear layers with their activations.

    What it returns lies in memory that the next call with as many rows uses again: torch's memory, which always begins
    at the same alignment.

    :param modules: of a network for which ``plain_mlp_obstacle`` finds nothing, from input to output
    :param gradients: where the gradient of a parameter goes, by its id
    :param onednn: whether oneDNN computes large products
    """

    def __init__(self, modules: Iterable[nn.Module], gradients: Mapping[int, th.Tensor], onednn: bool = False):
        self.onednn = onednn
        self.layers = [_layer(linear, activation, gradients) for linear, activation in linear_layers(modules)]
        self.activations: list[Array] = []
        self._made: dict[int, _Memory] = {}

    def forward(self, inputs: npt.NDArray[Any]) -> Array:
        """Run the network and remember what :meth:`backward` needs.

        :param inputs: shape (n_batch, n_inputs), of any type
        :return: shape (n_batch, n_outputs)
        """
        self.activations = arrays = self._memory(len(inputs)).activations
        arrays[0][...] = inputs
        for layer, before, after in zip(self.layers, arrays, arrays[1:]):
            self._times(before, layer.transposed, after)
            after += layer.bias
            if layer.activation is not None:
                layer.activation.in_numpy(after, out=after)
        return arrays[-1]

    def backward(self, by_output: Array) -> None:
        """Fill the gradients of the parameters; what :meth:`forward` remembered is used up.

        :param by_output: gradient with respect to the output, shape (n_batch, n_outputs)
        """
        arrays, gradients, ones = self._memory(len(by_output))
        gradients[-1][...] = by_output
        for index in range(len(self.layers) - 1, -1, -1):
            layer, gradient = self.layers[index], gradients[index]
            if layer.activation is not None:
                layer.activation.backward_in_numpy(gradient, arrays[index + 1])
            self._times(gradient.T, arrays[index], layer.weight_gradient)
            np.dot(ones, gradient, out=layer.bias_gradient)  # np.sum takes twice as long
            if index > 0:
                self._times(gradient, layer.weight, gradients[index - 1])

    def _times(self, a: Array, b: Array, out: Array) -> None:
        if self.onednn and pays(len(a), b):
            with th.no_grad():
                out[...] = product(th.from_numpy(a), th.from_numpy(b.T)).numpy()
        else:
            np.dot(a, b, out=out)

    def _memory(self, n_rows: int) -> _Memory:
        if n_rows not in self._made:
            sizes = _sizes(self.layers)
            activations, gradients = ([_empty(n_rows, size) for size in some] for some in (sizes, sizes[1:]))
            self._made[n_rows] = _Memory(activations, gradients, np.ones(n_rows, dtype=np.float32))
        return self._made[n_rows]


class NumpyMlpOfColumns:
    """The forward pass alone, with one column per sample: for the few samples of a step of a rollout.

    OpenBLAS takes a quarter of the time for ``weight @ columns`` that it takes for ``rows @ weight.T`` where the layers
    are wide and the samples few (256 x 256 and 8, with AVX-512). Memory is as in :class:`NumpyMlp`.

    :param modules: as there
    """

    def __init__(self, modules: Iterable[nn.Module]):
        self.layers = [
            _LayerOfColumns(linear.weight.detach().numpy(), linear.bias.detach().numpy()[:, None], activation)
            for linear, activation in linear_layers(modules)
        ]
        self.latent: Array | None = None
        self._made: dict[int, tuple[list[Array], Array]] = {}

    def forward(self, inputs: npt.NDArray[Any]) -> Array:
        """Run the network and remember what the last layer was given, as ``latent``: shape (n_batch, n_features).

        :param inputs: shape (n_batch, n_inputs), of any type
        :return: shape (n_batch, n_outputs)
        """
        n_columns = len(inputs)
        if n_columns not in self._made:
            sizes = _sizes(self.layers)
            columns = [_empty(size, n_columns) for size in sizes]
            self._made[n_columns] = columns, _empty(n_columns, sizes[-1])
        arrays, output = self._made[n_columns]
        arrays[0][...] = inputs.T
        for layer, before, after in zip(self.layers, arrays, arrays[1:]):
            np.dot(layer.weight, before, out=after)
            after += layer.bias
            if layer.activation is not None:
                layer.activation.in_numpy(after, out=after)
        self.latent = arrays[-2].T
        output[...] = arrays[-1].T
        return output


class NumpyTrunk:
    """Actor and critic of a policy, as ``MlpTrunk``, of arrays.

    :param policy: one for which ``plain_mlp_obstacle`` finds nothing
    :param adam: whose flat gradient :meth:`backward` fills
    :param onednn: whether oneDNN computes large products
    """

    def __init__(self, policy: ActorCriticPolicy, adam: FlatAdam, onednn: bool = False):
        gradients = dict(zip(map(id, adam.parameters), adam.views(adam.gradient)))
        self.actor = NumpyMlp([*policy.mlp_extractor.policy_net, policy.action_net], gradients, onednn)
        self.critic = NumpyMlp([*policy.mlp_extractor.value_net, policy.value_net], gradients, onednn)
        log_std = gradients.get(id(getattr(policy, "log_std", None)))
        self.log_std_gradient = None if log_std is None else log_std.numpy()

    @property
    def latent(self) -> Array:
        """What the action net was given, shape (n_batch, n_features)."""
        return self.actor.activations[-2]

    def forward(self, observations: npt.NDArray[Any]) -> tuple[Array, Array]:
        """Run both networks and remember what :meth:`backward` needs.

        :param observations: shape (n_batch, n_inputs)
        :return: output of the action net, shape (n_batch, n_outputs), and values, shape (n_batch,)
        """
        return self.actor.forward(observations), self.critic.forward(observations)[:, 0]

    def backward(self, output: Array, values: Array, log_std: Array | None) -> None:
        """Fill the flat gradient.

        :param output: gradient with respect to the output of the action net, shape (n_batch, n_outputs)
        :param values: gradient with respect to the values, shape (n_batch,)
        :param log_std: gradient with respect to the policy's ``log_std``, if it has one
        """
        self.actor.backward(output)
        self.critic.backward(values[:, None])
        if self.log_std_gradient is not None and log_std is not None:
            self.log_std_gradient[:] = log_std


def _empty(*shape: int) -> Array:
    return th.empty(shape, dtype=th.float32).numpy()


def _sizes(layers: Sequence[_Layer | _LayerOfColumns]) -> list[int]:
    """Return how many numbers a sample has before the first layer and after each."""
    return [layers[0].weight.shape[1], *(len(layer.weight) for layer in layers)]


def _layer(linear: nn.Linear, activation: Activation | None, gradients: Mapping[int, th.Tensor]) -> _Layer:
    weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    by_weight, by_bias = (gradients[id(p)].numpy() for p in (linear.weight, linear.bias))
    return _Layer(weight, weight.T, bias, activation, by_weight, by_bias)


__all__ = ["Array", "NumpyMlp", "NumpyMlpOfColumns", "NumpyTrunk"]
