"""The reference path (``acceleration="off"``): stock order and arithmetic, bit-identical to the host's own train()."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_ppo_variants.distributed.shared_memory import Part
from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.distributions import ActionDistribution
from sb3_ppo_variants.update.generators import preserved_generators
from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.minibatches import measurement_batches, normalized_over_ranks
from sb3_ppo_variants.update.nonfinite import StepGuard
from sb3_ppo_variants.update.old_policy import OldPolicy
from sb3_ppo_variants.update.policy_evaluation import evaluate_minibatch, measuring, valid_steps
from sb3_ppo_variants.update.update_metrics import MinibatchMetrics


class Stepper(Protocol):
    """Takes an update's optimiser steps, except from a loss or gradient that is not finite."""

    def begin(self, skip_one_by_one: bool) -> None:
        """Begin an update.

        :param skip_one_by_one: False: after a step that was skipped none is taken until the next update
        """

    def backward(self, loss: th.Tensor) -> None:
        """Compute the gradients of a scalar loss by autograd."""

    def gradients(self) -> Sequence[Part]:
        """Return the gradients of which the next step is made."""

    def step(self, max_grad_norm: float, loss: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Clip the gradients and take one step, if it may be taken.

        :param max_grad_norm: as in ``clip_grad_norm_``
        :param loss: that the gradients belong to, scalar
        :return: norm before clipping, and 1 if the step was not taken, else 0; scalars
        """

    def count_skipped(self) -> int:
        """Count the steps of this update that were not taken; this waits for the device."""

    def hand_back(self) -> None:
        """Leave the policy's own optimiser in the state after the last step."""


class OwnOptimizer:
    """Steps of a policy's own optimiser, as stock PPO takes them.

    :param policy: being updated
    :param guard: of an update that has begun; None to wait for :meth:`begin`
    """

    def __init__(self, policy: BasePolicy, guard: StepGuard | None = None):
        self.policy = policy
        self._shared: list[th.nn.Parameter] = []  # whose gradients were averaged over the ranks,
        self._had = th.zeros(0)  # and the share of the ranks that had one
        self.guard = guard or StepGuard()

    def begin(self, skip_one_by_one: bool) -> None:
        self.guard = StepGuard(skip_one_by_one)

    def backward(self, loss: th.Tensor) -> None:
        self.policy.optimizer.zero_grad()
        loss.backward()

    def gradients(self) -> list[th.Tensor]:
        """Return as many gradients on every rank, zeros where this one has none, and last which it has."""
        self._shared = [p for p in self.policy.parameters() if p.requires_grad]
        self._had = th.tensor([float(p.grad is not None) for p in self._shared], device=self.policy.device)
        gradients = []
        for parameter in self._shared:
            if parameter.grad is None:
                parameter.grad = th.zeros_like(parameter)
            gradients.append(parameter.grad)
        return [*gradients, self._had]

    def step(self, max_grad_norm: float, loss: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        for parameter, had in zip(self._shared, self._had.tolist()):
            if had == 0:  # on no rank: left alone, as by stock PPO
                parameter.grad = None
        self._shared = []
        norm = th.nn.utils.clip_grad_norm_(self.policy.parameters(), max_grad_norm)
        refused = self.guard.refuses((norm + loss).item())  # waits for the device: SB3's optimiser cannot be told
        if not refused:
            self.policy.optimizer.step()
        return norm, norm.new_tensor(float(refused))

    def count_skipped(self) -> int:
        return self.guard.count

    def hand_back(self) -> None:
        """Nothing to do: it was used in place."""


class UpdateSteps:
    """What all paths of an update share: its rules, and the end of a step.

    :param algorithm: whose rollout buffer is full
    :param stepper: takes the steps
    """

    def __init__(self, algorithm: UpdatedAlgorithm, stepper: Stepper):
        self.algorithm = algorithm
        self.policy = algorithm.policy
        self.rules = algorithm.update_rules()
        if self.rules.stop_before_step is not None:
            self.rules.stop_before_step.check(algorithm.extra_metric_names)
        self.stepper = stepper
        stepper.begin(skip_one_by_one=algorithm.on_nonfinite == "skip")

    def running(self) -> AbstractContextManager[None]:
        """Return what the epochs run in."""
        return nullcontext()

    def finish(self, metrics: MinibatchMetrics, loss: th.Tensor | None = None) -> tuple[th.Tensor, bool]:
        """Take the step of a minibatch, unless the rules say that the update ends before it.

        :param metrics: of the minibatch
        :param loss: to be differentiated by autograd; None if the gradient is there
        :return: metrics, shape (n_metrics,), and True if the update must stop (then no step was taken)
        """
        stop, ranks = self.rules.stop_before_step, self.algorithm.ranks
        if stop is not None:
            metrics = metrics.over_ranks(ranks)
            if stop.passed(metrics):
                return metrics.row(), True
        if loss is not None:
            self.stepper.backward(loss)
        metrics = metrics.over_ranks(ranks, self.stepper.gradients)
        norm, skipped = self.stepper.step(self.algorithm.max_grad_norm, metrics.loss)
        return metrics._replace(grad_norm=norm, skipped=skipped).row(), False


class ReferenceUpdate(UpdateSteps):
    """One policy update with the host's buffer, ``evaluate_actions`` and optimiser as they are."""

    def __init__(self, algorithm: UpdatedAlgorithm, stepper: Stepper):
        super().__init__(algorithm, stepper)
        self.old_policy = OldPolicy(self.policy)

    def minibatches(self) -> Iterator[Any]:
        """Yield the minibatches of one epoch in the order stock PPO would draw."""
        for minibatch in self.algorithm.rollout_buffer.get(int(self.algorithm.batch_size)):
            yield normalized_over_ranks(self.algorithm, minibatch)

    def step(self, minibatch: Any, coefficients: dict[str, Number]) -> tuple[th.Tensor, bool]:
        """Take one optimiser step.

        :param minibatch: from :meth:`minibatches`
        :param coefficients: of this epoch
        :return: as :meth:`finish`
        """
        old = self._old_parameters(minibatch) if self.rules.needs_old_distribution else None
        new = evaluate_minibatch(self.policy, minibatch)
        loss, metrics = self.algorithm.minibatch_loss(minibatch, new, old, coefficients)
        return self.finish(metrics, loss)

    def first_minibatch(self) -> Any:
        """Return a minibatch, drawing nothing."""
        with preserved_generators():
            return next(self.algorithm.rollout_buffer.get(int(self.algorithm.batch_size)))

    def kl_divergence(self) -> float:
        """Measure the exact KL between the policy before the update and now, over the whole rollout.

        :return: nats per state
        """
        algorithm = self.algorithm
        total, count = 0.0, 0
        with th.no_grad():
            for minibatch in measurement_batches(algorithm.rollout_buffer, int(algorithm.batch_size)):
                with measuring(self.policy):  # each as the old policy is
                    form, new = self.measured(self.policy, minibatch)
                kl = form.directed_kl(self._old_parameters(minibatch), new, algorithm.kl_direction)
                mask = valid_steps(minibatch)
                kl = kl if mask is None else kl[mask]
                total += kl.double().sum().item()
                count += len(kl)
        return total / count

    def measured(self, policy: Any, minibatch: Any) -> tuple[ActionDistribution, Parameters]:
        """Evaluate the action distribution only, with its parameters.

        :param policy: as it is now, or as it was before the update
        :param minibatch: from :meth:`minibatches`
        """
        evaluation = evaluate_minibatch(policy, minibatch)
        return evaluation.distribution, evaluation.parameters

    def _old_parameters(self, minibatch: Any) -> Parameters:
        with th.no_grad(), self.old_policy.asked() as policy:
            return tuple(p.clone() for p in self.measured(policy, minibatch)[1])  # log_std is a view of the parameter
