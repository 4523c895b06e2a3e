"""A policy's parameters, and Adam's moments, as views of a few flat tensors.

Clipping and Adam then work on one tensor instead of a list: for small networks most of their cost is per call. The
policy's Parameter objects stay the same and its own optimiser keeps seeing the moments (they are views too), so that
saving, loading and continuing with stock code work at any time between two updates.

Each parameter begins at a multiple of 64 bytes, as in a tensor of its own. The last bit of a matrix product may depend
on that, and a resumed run must not depend on where memory was free.
"""

import math
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_ppo_variants.update.arrays import Array
from sb3_ppo_variants.update.nonfinite import StepGuard
from sb3_ppo_variants.update.policy_evaluation import foreign_module
from sb3_ppo_variants.update.reference_update import OwnOptimizer

_PARTS = {
    *("features_extractor", "pi_features_extractor", "vf_features_extractor", "mlp_extractor", "action_net"),
    *("value_net", "log_std", "lstm_actor", "lstm_critic", "critic"),
}
"""Of SB3's and contrib's policies; each has a gradient in every minibatch."""
_ALIGNMENT = 16  # float32 numbers, 64 bytes


class FlatAdam:
    """Adam on one flat tensor, standing in for a policy's ``th.optim.Adam`` during an update.

    Formulas as in torch.optim.Adam (arXiv:1412.6980, algorithm 1), without weight decay and AMSGrad.

    The parameters' ``grad`` are views of the flat gradient: after a step they hold what the step was taken with.

    A parameter without a gradient, as a layer that is left out at random has none, is left alone by torch's Adam. With
    modules that somebody has made or added all are looked for, and where one is missing the policy's optimiser goes on.

    :param policy: whose optimiser :func:`flat_adam_obstacle` accepts; its parameters' storage is replaced
    """

    def __init__(self, policy: BasePolicy):
        self.own: OwnOptimizer | None = None  # has taken over
        self._policy = policy
        added = {name.partition(".")[0] for name, _ in policy.named_parameters()} - _PARTS
        self._has_all_gradients = foreign_module(policy) is None and not added
        self.parameters = list(policy.parameters())
        self.optimizer = policy.optimizer
        group = self.optimizer.param_groups[0]
        self.beta1, self.beta2 = group["betas"]
        self.eps: float = group["eps"]
        self.shapes = [p.shape for p in self.parameters]
        self.padded_sizes = [-(-p.numel() // _ALIGNMENT) * _ALIGNMENT for p in self.parameters]
        state = [self.optimizer.state.get(p, {}) for p in self.parameters]
        self.steps = max((int(s["step"]) for s in state if "step" in s), default=0)
        device = self.parameters[0].device
        self.flat, self.gradient, self.exp_avg, self.exp_avg_sq = (
            th.zeros(sum(self.padded_sizes), dtype=th.float32, device=device) for _ in range(4)
        )
        self.step_count = self.flat.new_tensor(float(self.steps))
        log_betas = [math.log(beta) if beta > 0 else -math.inf for beta in (self.beta1, self.beta2)]
        self._log_betas = self.flat.new_tensor(log_betas, dtype=th.float64)
        self.guard = StepGuard()
        self._buffer_holders: list[dict[str, th.Tensor | None]] = []  # looked for once per update
        self.checks_on_device = self.flat.is_cuda  # on the CPU reading a number costs less than computing with it
        self.norm = self.flat.new_zeros(())  # of the last gradient, before clipping
        self.skipped = self.flat.new_zeros(())  # 1 if the last step was not taken
        self.skip_count = self.flat.new_zeros(())  # steps of this update that were not taken
        self.poison = self.flat.new_zeros(())  # NaN from the first step of an update that is not finite
        self._gradients = self.views(self.gradient)
        in_numpy: list[Any] = [None if t.is_cuda else t.numpy() for t in (self.gradient, self.step_count)]
        self._gradient_array, self._count = in_numpy
        self._places: list[list[Any]] = []
        tensors = (self.flat, self.exp_avg, self.exp_avg_sq)
        pieces = zip(self.parameters, state, *(self._pieces_of_memory(tensor) for tensor in tensors))
        for parameter, moments, data, exp_avg, exp_avg_sq in pieces:
            data.copy_(parameter.detach())
            parameter.data = data
            if "exp_avg" in moments:
                exp_avg.copy_(moments["exp_avg"])
                exp_avg_sq.copy_(moments["exp_avg_sq"])
            self.optimizer.state[parameter] = {
                "step": th.tensor(float(self.steps), dtype=th.float32),
                "exp_avg": exp_avg,
                "exp_avg_sq": exp_avg_sq,
            }
            self._places.append(_places_of(parameter, self.optimizer.state[parameter]))

    def views(self, flat: th.Tensor) -> list[th.Tensor]:
        """Cut a flat tensor into pieces of the parameters' shapes, sharing its memory.

        :param flat: as long as ``self.flat``
        """
        pieces = zip(flat.split(self.padded_sizes), self.shapes)
        return [piece[: shape.numel()].view(shape) for piece, shape in pieces]

    def _pieces_of_memory(self, flat: th.Tensor) -> list[th.Tensor]:
        """Cut a flat tensor as :meth:`views`; on the CPU each piece has a storage of its own over its part of memory.

        pickle writes the whole storage of a tensor: each parameter would carry all others with it.
        """
        pieces = self.views(flat)
        return pieces if flat.is_cuda else [th.from_numpy(piece.numpy()) for piece in pieces]

    def prepare_for_graphs(self) -> None:
        """Let compiled graphs change the tensors in place, and the steps in between agree with theirs."""
        self.checks_on_device = True
        if self.flat.is_cuda:  # torch makes a CUDA graph only if it is told that they stay where they are
            for tensor in [self.gradient, *self._changing()]:
                th._dynamo.mark_static_address(tensor)

    def snapshot(self) -> list[th.Tensor]:
        """Copy all that a step changes, the policy's buffers and the CPU's generator too, for :meth:`restore`."""
        return [th.get_rng_state(), *(tensor.clone() for tensor in [*self._changing(), *self._buffers()])]

    def restore(self, snapshot: list[th.Tensor]) -> None:
        """Take back the steps since a snapshot.

        :param snapshot: of this object
        """
        generator, *copies = snapshot
        th.set_rng_state(generator)
        with th.no_grad():
            for tensor, before in zip([*self._changing(), *self._buffers()], copies):
                tensor.copy_(before)

    def _buffers(self) -> list[th.Tensor]:
        return [buffer for held in self._buffer_holders for buffer in held.values() if buffer is not None]

    def _changing(self) -> list[th.Tensor]:
        moments = [self.exp_avg, self.flat, self.exp_avg_sq]
        return [*moments, self.step_count, self.norm, self.skipped, self.skip_count, self.poison]

    def intact(self) -> bool:
        """Tell whether parameters and moments are still ours: loading or moving a model replaces them."""
        for parameter, places in zip(self.parameters, self._places):
            state = self.optimizer.state.get(parameter, {})
            if _places_of(parameter, state) != places or int(state["step"]) != self.steps:
                return False
        return True

    def backward(self, loss: th.Tensor) -> None:
        """Fill the flat gradient by autograd.

        :param loss: scalar
        """
        if self.own is not None:
            self.own.backward(loss)
        elif self._has_all_gradients:
            self.gradient.zero_()
            loss.backward()  # it adds to the parameters' grad in place
        else:
            for parameter in self.parameters:
                parameter.grad = None
            loss.backward()
            self._collect_gradients()

    def _collect_gradients(self) -> None:
        found = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if len(found) < len(self.parameters):
            self.hand_back()
            self.own = OwnOptimizer(self._policy, self.guard)
            return
        for parameter, gradient, view in zip(self.parameters, found, self._gradients):
            parameter.grad = view.copy_(gradient)

    def gradients(self) -> list[Array]:
        """Return the flat gradient, of which the next step is made."""
        return [self.gradient if self._gradient_array is None else self._gradient_array]

    def step(self, max_grad_norm: float, loss: Array) -> tuple[Array, Array]:
        """Clip the norm of the flat gradient and take one Adam step in place, if loss and gradient are finite.

        A step that is not leaves parameters and moments alone, on a GPU without asking the device.

        :param max_grad_norm: as in ``clip_grad_norm_``
        :param loss: that the gradient belongs to, scalar
        :return: norm before clipping, and 1 if the step was not taken, else 0; scalars
        """
        if self.own is not None:
            return self.own.step(max_grad_norm, loss)
        if self.checks_on_device:
            norm: th.Tensor = th.linalg.vector_norm(self.gradient)
            self.note_skip(norm, loss)
            self.gradient.mul_(clipping_factor(norm, max_grad_norm))
            self._adam_step(found_inf=self.skipped)
            self.step_count.sub_(self.skipped)
            return norm, self.skipped
        gradient = self._gradient_array
        length = math.sqrt(np.dot(gradient, gradient))
        refused = self.guard.refuses(length + loss.item())
        if not refused:
            if length + 1e-6 > max_grad_norm:
                gradient *= max_grad_norm / (length + 1e-6)
            self._adam_step()
        if not isinstance(loss, th.Tensor):  # of a minibatch in numpy: a call of torch takes longer than the number
            return length, float(refused)
        return self.norm.fill_(length), self.skipped.fill_(float(refused))

    def _adam_step(self, found_inf: th.Tensor | None = None) -> None:
        """Call what torch.optim.Adam(fused=True) calls; its own preparations for it take three times as long."""
        if self._count is None:
            self.step_count.add_(1)
        else:
            self._count += 1
        th._fused_adam_(
            [self.flat],
            [self.gradient],
            [self.exp_avg],
            [self.exp_avg_sq],
            [],
            [self.step_count],
            amsgrad=False,
            beta1=self.beta1,
            beta2=self.beta2,
            lr=self.optimizer.param_groups[0]["lr"],
            weight_decay=0.0,
            eps=self.eps,
            maximize=False,
            found_inf=found_inf,
        )

    def begin(self, skip_one_by_one: bool) -> None:
        """Begin an update.

        :param skip_one_by_one: False: after a step that was skipped none is taken until the next update
        """
        self.guard = StepGuard(skip_one_by_one)
        self._buffer_holders = [module._buffers for module in self._policy.modules() if module._buffers]
        for parameter, gradient in zip(self.parameters, self._gradients):
            parameter.grad = gradient
        self.skipped.zero_()
        self.skip_count.zero_()
        self.poison.zero_()

    def count_skipped(self) -> int:
        """Count the steps of this update that were not taken; this waits for the device."""
        return self.guard.count + int(self.skip_count.item())

    def note_skip(self, norm: th.Tensor, loss: th.Tensor) -> None:
        """Do what ``StepGuard.refuses`` does on the device: set ``skipped`` to 1 for a step not to be taken, else to 0.

        :param norm: of the gradient, scalar
        :param loss: scalar
        """
        both = norm + loss
        poison = both - both  # 0, or NaN where one of them is not finite; fewer operations than isfinite
        if not self.guard.one_by_one:
            poison = self.poison.add_(poison)
        th.ne(poison, 0, out=self.skipped)
        self.skip_count.add_(self.skipped)

    def bias_corrections(self) -> tuple[th.Tensor, th.Tensor]:
        """Return what Adam's moments are divided by after ``step_count`` steps, scalars, for a compiled graph."""
        if self.flat.is_cuda:
            return 1 - self.beta1**self.step_count, 1 - self.beta2**self.step_count
        # For the CPU the compiler computes an exp with two users once, but a power again for every few parameters.
        first, second = (1 - th.exp(self.step_count * self._log_betas)).float().unbind()
        return first, second

    def hand_back(self) -> None:
        """Bring the step counters up to date; the moments are shared already."""
        if self.own is not None:
            return
        self.steps = int(self.step_count.item())
        for parameter in self.parameters:
            self.optimizer.state[parameter]["step"].fill_(float(self.steps))


def clipping_factor(norm: th.Tensor, max_grad_norm: float) -> th.Tensor:
    """Return what a gradient is multiplied by; for a norm of NaN 0, so that the gaps between the parameters stay 0."""
    return th.clamp(max_grad_norm / (norm + 1e-6), max=1.0).nan_to_num(nan=0.0)


def _places_of(parameter: th.Tensor, state: dict[str, Any]) -> list[Any]:
    """Tell where a parameter and its moments are in memory, and how they lie there."""
    tensors = [parameter, *(state[name] for name in ("exp_avg", "exp_avg_sq") if name in state)]
    return [(tensor.data_ptr(), tensor.shape, tensor.stride()) for tensor in tensors]
