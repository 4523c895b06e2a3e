"""What the package must know of an action distribution."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.distributions import Distribution

from sb3_ppo_variants.update.arrays import Array
from sb3_ppo_variants.update.kl_divergence import KLDirection, Parameters
from sb3_ppo_variants.update.losses import Number

FloatArray = npt.NDArray[np.float32]
OutputGradient = tuple[Array, Array | None]


class Slopes(NamedTuple):
    """Derivative of a minibatch's loss by what the policy says of each sample.

    :param log_prob: by the log-probability, shape (n_batch,)
    :param entropy: by the entropy, the same for every sample
    :param kl: by the KL divergence, of shape (n_batch,) or the same for every sample; None where it has no part
    :param values: by the value, shape (n_batch,)
    :param kl_direction: of the KL divergence that is meant
    """

    log_prob: Array
    entropy: Number
    kl: Number | None
    values: Array
    kl_direction: KLDirection = "forward"


class Context(NamedTuple):
    """What a distribution may depend on beside the output of the action net.

    :param latent: what the action net was given, shape (n_batch, n_features)
    :param masks: which choices are valid, shape (n_batch, n_outputs), bool or 0 and 1; None if all are
    """

    latent: Array
    masks: Array | None = None


class Point(NamedTuple):
    """Where a minibatch's loss is differentiated.

    :param new: the distribution's parameters now
    :param old: before the update, for the KL divergence
    :param actions: shape (n_batch,) for Discrete, else (n_batch, n_dimensions)
    :param context: that ``new`` was computed in
    """

    new: Parameters
    old: Parameters | None
    actions: Array
    context: Context


class ActionDistribution:
    """One kind of action distribution, as pure functions of its parameters: tensors with n_batch rows.

    Where ``takes_arrays`` is set, the closed forms are functions of numpy's arrays, too.
    """

    closed_form: ClassVar[bool] = False
    """Whether the functions below ``kl`` exist."""
    takes_arrays: ClassVar[bool] = False
    """Whether ``kl`` and the closed forms but ``sample``, which always does, also work on numpy's arrays."""
    compiles: ClassVar[bool] = True
    """Whether the closed forms may be part of a torch.compile graph, whose functions round in their own way."""

    def parameters(self, distribution: Distribution) -> Parameters:
        """Read the parameters of an evaluated SB3 distribution."""
        raise NotImplementedError

    def kl(self, p: Parameters, q: Parameters) -> Array:
        """Compute KL(p || q) of the joint action, shape (n_batch,), nats."""
        raise NotImplementedError

    def directed_kl(self, old: Parameters, new: Parameters, direction: KLDirection) -> Array:
        """Compute KL(old || new), or KL(new || old) for ``"reverse"``, shape (n_batch,), nats."""
        return self.kl(old, new) if direction == "forward" else self.kl(new, old)

    def for_policy(self, policy: Any) -> "ActionDistribution":
        """Return the form with what is fixed for a policy, such as the number of choices."""
        return self

    def obstacle(self, distribution: Distribution) -> str | None:
        """Say why the closed forms are not those of this SB3 distribution, by its options; None if they are."""
        return None

    def from_output(self, policy: Any, output: Array, context: Context) -> Parameters:
        """Compute the parameters from the output of the policy's ``action_net``, shape (n_batch, n_outputs)."""
        raise NotImplementedError

    def log_prob(self, parameters: Parameters, actions: Array) -> Array:
        """Compute log-probabilities, shape (n_batch,), of actions of shape (n_batch,) (Discrete) or (n_batch, n)."""
        raise NotImplementedError

    def entropy(self, parameters: Parameters) -> Array | None:
        """Compute the entropy, shape (n_batch,), nats; None where ``-log_prob`` is its estimate, as in SB3."""
        raise NotImplementedError

    def gradient(self, policy: Any, at: Point, slopes: Slopes) -> OutputGradient:
        """Differentiate the loss by the output of the action net, shape (n_batch, n_outputs), and by ``log_std``.

        Where :meth:`entropy` is None, its slope has to be taken off that of the log-probability here.

        :param policy: whose distribution it is
        :param at: where
        :param slopes: of the loss there
        """
        raise NotImplementedError

    def sample(self, policy: Any, output: FloatArray, context: Context) -> tuple[npt.NDArray[Any], FloatArray]:
        """Draw actions as SB3 does, with the same numbers from torch's generator, in numpy.

        :param policy: whose distribution it is, on the CPU
        :param output: of its ``action_net``, shape (n_envs, n_outputs)
        :param context: arrays
        :return: actions of shape (n_envs, n), log-probabilities of shape (n_envs,)
        """
        raise NotImplementedError

    def act(self, policy: Any, output: FloatArray, context: Context) -> npt.NDArray[Any]:
        """Do what :meth:`sample` does where nobody asks for log-probabilities.

        :param policy: whose distribution it is, on the CPU
        :param output: of its ``action_net``, shape (n_envs, n_outputs)
        :param context: arrays
        :return: actions of shape (n_envs, n)
        """
        return self.sample(policy, output, context)[0]

    def draw(self, policy: Any, parameters: Parameters, context: Context) -> th.Tensor:
        """Draw actions as SB3 does, with the same numbers from the device's generator; shape (n_envs, n).

        :param policy: whose distribution it is
        :param parameters: of each environment's distribution
        :param context: that they were computed in
        """
        raise NotImplementedError


class Draws:
    """Random numbers of torch's global generator as arrays; the memory is used again by the next call."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, ...], tuple[th.Tensor, FloatArray]] = {}

    def exponential(self, shape: tuple[int, ...]) -> FloatArray:
        """Draw what ``torch.multinomial`` draws for one sample of each row."""
        tensor, array = self._of(shape)
        tensor.exponential_()
        return array

    def normal(self, shape: tuple[int, ...]) -> FloatArray:
        """Draw what ``Normal.rsample`` draws."""
        tensor, array = self._of(shape)
        tensor.normal_()
        return array

    def _of(self, shape: tuple[int, ...]) -> tuple[th.Tensor, FloatArray]:
        if shape not in self._made:
            with th.inference_mode(False):  # a callback may ask in that mode; the memory serves outside it, too
                tensor = th.empty(shape, dtype=th.float32)
            self._made[shape] = tensor, tensor.numpy()
        return self._made[shape]


def as_column(slope: Number) -> Number:
    """Shape a slope of each sample for the product with (n_batch, n); one for all samples stays a number."""
    return slope[:, None] if getattr(slope, "ndim", 0) == 1 else slope  # type: ignore[index]  # not a float
