"""The fast path of one update: the rollout staged on the device, closed forms, one flat tensor of parameters.

Same minibatches in the same order and the same loss as the reference path; only the arithmetic is arranged differently,
so that results agree to rounding. What an algorithm or policy does not support falls back piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch as th

from sb3_ppo_variants.fast_path.closed_forms import ClosedForm, action_parameters, evaluate_closed_form, evaluate_output
from sb3_ppo_variants.fast_path.mlp_trunk import MlpTrunk
from sb3_ppo_variants.fast_path.written_gradient import written_gradient
from sb3_ppo_variants.update.kl_divergence import DistributionFamily, Parameters, directed_kl
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.minibatches import StagedRollout
from sb3_ppo_variants.update.policy_evaluation import Evaluation, evaluate_minibatch
from sb3_ppo_variants.update.reference_update import Stepper
from sb3_ppo_variants.update.update_metrics import MinibatchMetrics

if TYPE_CHECKING:
    from sb3_ppo_variants.algorithms.policy_update import PolicyUpdateMixin


class StagedUpdate:
    """One policy update on a staged rollout.

    :param algorithm: whose rollout buffer is full
    :param form: closed form of the policy; None to go through ``evaluate_actions``
    :param stepper: takes the steps
    :param trunk: the policy's network without autograd, where it is a plain MLP; needs ``form`` and FlatAdam
    """

    def __init__(
        self,
        algorithm: PolicyUpdateMixin,
        form: ClosedForm | None,
        stepper: Stepper,
        trunk: MlpTrunk | None = None,
    ):
        self.algorithm = algorithm
        self.policy = algorithm.policy
        self.form = form
        self.stepper = stepper
        self.trunk = trunk
        stepper.begin(skip_one_by_one=algorithm.on_nonfinite == "skip")
        self.rollout = StagedRollout(algorithm.rollout_buffer, algorithm.action_space, algorithm.batch_size)
        # A decision needs the whole rollout. Where the KL is only logged a sample will do: this matters for images.
        self.needs_old = algorithm.needs_old_distribution()
        whole = self.needs_old or algorithm.decides_on_kl()
        self.measured_rows = self.rollout.size if whole else self.rollout.sample_size
        self.family, old = self._measure()
        self.old = tuple(p.clone() for p in old)  # a Gaussian's log_std is a view of the live parameter

    def minibatches(self) -> Iterator[th.Tensor]:
        """Yield the rows of each minibatch of one epoch, in the order stock PPO would draw."""
        yield from self.rollout.shuffled_rows().split(self.algorithm.batch_size)

    def step(self, rows: th.Tensor, coefficients: dict[str, Number]) -> tuple[th.Tensor, bool]:
        """Take one optimiser step.

        :param rows: of the staged rollout, shape (n_batch,)
        :param coefficients: of this epoch
        :return: metrics, shape (n_metrics,), and True if the update must stop (then no step was taken)
        """
        algorithm = self.algorithm
        minibatch = self.rollout.select(rows)
        old = self._old_parameters(rows)
        if self.trunk is not None and self.form is not None:
            loss, metrics = None, self._written_step(minibatch, old, coefficients)
        else:
            loss, metrics = algorithm.minibatch_loss(minibatch, self._evaluate(minibatch), old, coefficients)
        if algorithm.passes_target_kl(metrics.approx_kl):
            return th.stack(metrics), True
        if loss is not None:
            self.stepper.backward(loss)
        norm, skipped = self.stepper.step(algorithm.max_grad_norm, metrics.loss)
        return th.stack(metrics._replace(grad_norm=norm, skipped=skipped)), False

    def kl_divergence(self) -> float:
        """Measure the exact KL between the policy before the update and now.

        :return: nats per state, over the whole rollout where anything is decided on it
        """
        _, new = self._measure()
        kl = directed_kl(self.family, self.old, new, self.algorithm.kl_direction)
        return kl.double().mean().item()

    def _old_parameters(self, rows: th.Tensor) -> Parameters | None:
        return tuple(p.index_select(0, rows) for p in self.old) if self.needs_old else None

    def _evaluate(self, minibatch: Any) -> Evaluation:
        if self.form is None:
            return evaluate_minibatch(self.policy, minibatch)
        return evaluate_closed_form(self.policy, self.form, minibatch.observations, minibatch.actions)

    def _written_step(self, minibatch: Any, old: Parameters | None, c: dict[str, Number]) -> MinibatchMetrics:
        """Fill the flat gradient without autograd."""
        assert self.trunk is not None
        assert self.form is not None
        with th.no_grad():
            output, values = self.trunk.forward(minibatch.observations)
            new = evaluate_output(self.policy, self.form, output, values, minibatch.actions)
            _, metrics = self.algorithm.minibatch_loss(minibatch, new, old, c)
            gradient = written_gradient(self.algorithm, minibatch, new, old, c, metrics.kl_divergence)
        self.trunk.backward(*gradient)
        return metrics

    def _measure(self) -> tuple[DistributionFamily, Parameters]:
        """Compute the action distributions of the measured rows under the current policy, without gradient."""
        pieces: list[Parameters] = []
        if self.trunk is None:  # a plain MLP does the same in both modes
            self.policy.set_training_mode(False)
        with th.no_grad():
            for piece in self.rollout.pieces(self.measured_rows):
                family, parameters = self._action_parameters(piece)
                pieces.append(parameters)
        if self.trunk is None:
            self.policy.set_training_mode(True)
        return family, pieces[0] if len(pieces) == 1 else tuple(map(th.cat, zip(*pieces)))

    def _action_parameters(self, piece: Any) -> tuple[DistributionFamily, Parameters]:
        if self.form is None:
            evaluation = evaluate_minibatch(self.policy, piece)
            return evaluation.family, evaluation.parameters
        if self.trunk is not None:
            output = self.trunk.action_output(piece.observations)
            return self.form.family, self.form.parameters(self.policy, output)
        return self.form.family, action_parameters(self.policy, self.form, piece.observations)
