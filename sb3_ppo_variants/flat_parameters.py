"""A policy's parameters, and Adam's moments, as views of a few flat tensors.

Clipping and Adam then work on one tensor instead of a list: for small networks most of their cost is per call. The
policy's Parameter objects stay the same and its own optimiser keeps seeing the moments (they are views too), so that
saving, loading and continuing with stock code work at any time between two updates.
"""

from collections.abc import Sequence

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch.optim.adam import adam


class FlatAdam:
    """Adam on one flat tensor, standing in for a policy's ``th.optim.Adam`` during an update.

    Formulas as in torch.optim.Adam (arXiv:1412.6980, algorithm 1), without weight decay and AMSGrad.

    :param policy: whose optimiser :func:`supports_flat_adam` accepts; its parameters' storage is replaced
    """

    def __init__(self, policy: BasePolicy):
        self.parameters = list(policy.parameters())
        self.optimizer = policy.optimizer
        group = self.optimizer.param_groups[0]
        self.beta1, self.beta2 = group["betas"]
        self.eps: float = group["eps"]
        self.shapes = [p.shape for p in self.parameters]
        self.sizes = [p.numel() for p in self.parameters]
        state = [self.optimizer.state.get(p, {}) for p in self.parameters]
        self.steps = max((int(s["step"]) for s in state if "step" in s), default=0)
        self.flat = th.cat([p.detach().flatten() for p in self.parameters])
        self.gradient = th.zeros_like(self.flat)
        self.step_count = th.tensor(float(self.steps), device=self.flat.device)
        self.exp_avg = th.cat(self._flattened([s.get("exp_avg") for s in state]))
        self.exp_avg_sq = th.cat(self._flattened([s.get("exp_avg_sq") for s in state]))
        pieces = zip(self.parameters, *(self.views(t) for t in (self.flat, self.exp_avg, self.exp_avg_sq)))
        for parameter, data, exp_avg, exp_avg_sq in pieces:
            parameter.data = data
            self.optimizer.state[parameter] = {
                "step": th.tensor(float(self.steps)),
                "exp_avg": exp_avg,
                "exp_avg_sq": exp_avg_sq,
            }

    def views(self, flat: th.Tensor) -> list[th.Tensor]:
        """Cut a flat tensor into pieces of the parameters' shapes, sharing its memory.

        :param flat: shape (n_parameters,)
        """
        return [piece.view(shape) for piece, shape in zip(flat.split(self.sizes), self.shapes)]

    def intact(self) -> bool:
        """Tell whether parameters and moments are still ours: loading or moving a model replaces them."""
        for parameter, data, exp_avg in zip(self.parameters, self.views(self.flat), self.views(self.exp_avg)):
            state = self.optimizer.state.get(parameter, {})
            if parameter.data_ptr() != data.data_ptr() or "exp_avg" not in state:
                return False
            if state["exp_avg"].data_ptr() != exp_avg.data_ptr() or int(state["step"]) != self.steps:
                return False
        return True

    def backward(self, loss: th.Tensor) -> None:
        """Fill the flat gradient by autograd.

        :param loss: scalar
        """
        gradients = th.autograd.grad(loss, self.parameters, allow_unused=True)
        th.cat(self._flattened(gradients), out=self.gradient)

    def step(self, max_grad_norm: float) -> th.Tensor:
        """Clip the norm of the flat gradient and take one Adam step in place.

        :param max_grad_norm: as in ``clip_grad_norm_``
        :return: norm before clipping, scalar
        """
        norm: th.Tensor = th.linalg.vector_norm(self.gradient)
        self.gradient.mul_(th.clamp(max_grad_norm / (norm + 1e-6), max=1.0))
        self.step_count.fill_(float(self.steps))
        adam(
            [self.flat],
            [self.gradient],
            [self.exp_avg],
            [self.exp_avg_sq],
            [],
            [self.step_count],
            fused=True,
            amsgrad=False,
            beta1=self.beta1,
            beta2=self.beta2,
            lr=self.optimizer.param_groups[0]["lr"],
            weight_decay=0.0,
            eps=self.eps,
            maximize=False,
        )
        self.steps += 1
        return norm

    def hand_back(self) -> None:
        """Bring the optimiser's step counters up to date; the moments are shared already."""
        for parameter in self.parameters:
            self.optimizer.state[parameter]["step"].fill_(float(self.steps))

    def _flattened(self, pieces: Sequence[th.Tensor | None]) -> list[th.Tensor]:
        """Flatten one tensor per parameter, zeros for a missing one."""
        return [(th.zeros_like(p) if t is None else t).reshape(-1) for t, p in zip(pieces, self.parameters)]


def traceable_adam_step(
    state: FlatAdam, gradient: th.Tensor, max_grad_norm: float, learning_rate: th.Tensor, step: th.Tensor
) -> th.Tensor:
    """Clip a flat gradient and apply Adam in place, in plain operations that torch.compile fuses.

    :param state: parameters, moments and constants
    :param gradient: shape (n_parameters,)
    :param max_grad_norm: as in ``clip_grad_norm_``
    :param learning_rate: scalar
    :param step: number of this step, from 1, scalar
    :return: norm before clipping, scalar
    """
    norm: th.Tensor = th.linalg.vector_norm(gradient)
    gradient = gradient * th.clamp(max_grad_norm / (norm + 1e-6), max=1.0)
    state.exp_avg.lerp_(gradient, 1 - state.beta1)
    state.exp_avg_sq.mul_(state.beta2).addcmul_(gradient, gradient, value=1 - state.beta2)
    bias1, bias2 = 1 - state.beta1**step, 1 - state.beta2**step
    denominator = state.exp_avg_sq.sqrt() / bias2.sqrt() + state.eps
    state.flat.sub_(state.exp_avg / denominator * (learning_rate / bias1))
    return norm


def supports_flat_adam(policy: BasePolicy) -> str | None:
    """Say why a policy's optimiser cannot be replaced by :class:`FlatAdam`.

    :param policy: any policy
    :return: the reason, or None if it can
    """
    optimizer = policy.optimizer
    if type(optimizer) is not th.optim.Adam:
        return f"the optimiser is {type(optimizer).__name__}, not Adam"
    if len(optimizer.param_groups) != 1:
        return "the optimiser has several parameter groups"
    group = optimizer.param_groups[0]
    unusual = [
        key
        for key in ("weight_decay", "amsgrad", "maximize", "differentiable", "capturable", "fused")
        if group.get(key)
    ]
    if unusual:
        return f"the optimiser uses {', '.join(unusual)}"
    parameters = list(policy.parameters())
    if {id(p) for p in parameters} != {id(p) for p in group["params"]}:
        return "the optimiser does not hold exactly the policy's parameters"
    if any(p.dtype != th.float32 or p.device != parameters[0].device or not p.requires_grad for p in parameters):
        return "parameters differ in type or device, or are frozen"
    return None
