"""The fast path of one update: the rollout staged on the device, closed forms, one flat tensor of parameters.

Same minibatches in the same order and the same loss as the reference path; only the arithmetic is arranged differently,
so that results agree to rounding. What an algorithm or policy does not support falls back piece by piece.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch as th

from sb3_ppo_variants.fast_path.closed_forms import (
    action_parameters,
    evaluate_closed_form,
    evaluate_output,
    masks_of,
)
from sb3_ppo_variants.fast_path.kept_memory import kept_memory
from sb3_ppo_variants.fast_path.mlp_trunk import MlpTrunk
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyTrunk
from sb3_ppo_variants.fast_path.onednn_products import wide_layers_in_onednn
from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.distributions import ActionDistribution, Context, Point
from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.minibatches import StagedRollout, shares_advantages
from sb3_ppo_variants.update.policy_evaluation import Evaluation, evaluate_minibatch, measuring, own_observations
from sb3_ppo_variants.update.reference_update import Stepper, UpdateSteps
from sb3_ppo_variants.update.update_metrics import MinibatchMetrics


class StagedUpdate(UpdateSteps):
    """One policy update on a staged rollout.

    :param algorithm: whose rollout buffer is full
    :param form: closed form of the policy; None to go through ``evaluate_actions``
    :param stepper: takes the steps
    :param trunk: the policy's network without autograd, where it is a plain MLP; needs ``form`` and FlatAdam
    :param channels_last: whether images lie so in memory
    :param onednn: whether oneDNN computes large products; needs ``form``
    """

    def __init__(
        self,
        algorithm: UpdatedAlgorithm,
        form: ActionDistribution | None,
        stepper: Stepper,
        trunk: MlpTrunk | None = None,
        channels_last: bool = False,
        onednn: bool = False,
    ):
        super().__init__(algorithm, stepper)
        self.onednn = onednn
        self.form = form
        self.trunk = trunk
        self.batch_size = int(algorithm.batch_size)
        self.rollout = StagedRollout(algorithm.rollout_buffer, algorithm.action_space, self.batch_size, channels_last)
        # A decision needs the whole rollout. Where the KL is only logged a sample will do: this matters for images.
        self.measured_rows = self.rollout.size if self.rules.measures_everything else self.rollout.sample_size
        self.distribution, old = self._measure()
        self.old = tuple(p.clone() for p in old)  # a Gaussian's log_std is a view of the live parameter

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the epochs with the memory that minibatches take from one another, and numpy as quiet as torch."""
        with kept_memory() if self.policy.device.type == "cpu" else nullcontext(), np.errstate(all="ignore"):
            yield

    def minibatches(self) -> Iterator[th.Tensor]:
        """Yield the rows of each minibatch of one epoch, in the order stock PPO would draw."""
        yield from self.rows_of_epoch().split(self.batch_size)

    def rows_of_epoch(self) -> th.Tensor:
        """Draw the order of the rows of one epoch; their advantages then are as the minibatches need them."""
        rows = self.rollout.shuffled_rows()
        if shares_advantages(self.algorithm):
            self.rollout.normalize_over_ranks(self.algorithm.ranks, rows, self.batch_size)
        return rows

    def step(self, rows: th.Tensor, coefficients: dict[str, Number]) -> tuple[th.Tensor, bool]:
        """Take one optimiser step.

        :param rows: of the staged rollout, shape (n_batch,)
        :param coefficients: of this epoch
        :return: as :meth:`finish`
        """
        minibatch, old = self.rollout.select(rows), self.old_parameters(rows)
        if self.trunk is not None:
            return self.finish(self.written_step(minibatch, old, coefficients, self.trunk))
        loss, metrics = self.algorithm.minibatch_loss(minibatch, self.evaluate(minibatch), old, coefficients)
        return self.finish(metrics, loss)

    def kl_divergence(self) -> float:
        """Measure the exact KL between the policy before the update and now.

        :return: nats per state, over the whole rollout where anything is decided on it
        """
        _, new = self._measure()
        kl: th.Tensor = self.distribution.directed_kl(self.old, new, self.algorithm.kl_direction)
        return kl.double().mean().item()

    def old_parameters(self, rows: th.Tensor) -> Parameters | None:
        """Return the old policy's distributions at some rows, if the rules need them."""
        return tuple(p.index_select(0, rows) for p in self.old) if self.rules.needs_old_distribution else None

    def first_minibatch(self) -> Any:
        """Return a minibatch for a check, drawing nothing."""
        return self.rollout.select(th.arange(min(self.batch_size, self.rollout.size), device=self.policy.device))

    def evaluate(self, minibatch: Any, policy: Any = None) -> Evaluation:
        """Evaluate a minibatch with gradient.

        :param minibatch: of the host's NamedTuple
        :param policy: None for the model's own
        """
        policy = self.policy if policy is None else policy
        if self.form is None:
            return evaluate_minibatch(policy, minibatch)
        with wide_layers_in_onednn(policy) if self.onednn else nullcontext():
            return evaluate_closed_form(policy, self.form, minibatch)

    def written_step(
        self, minibatch: Any, old: Parameters | None, c: dict[str, Number], trunk: MlpTrunk | NumpyTrunk
    ) -> MinibatchMetrics:
        """Fill the flat gradient without autograd; the loss's value still comes from the one place that defines it.

        :param minibatch: of the host's NamedTuple: tensors, or arrays
        :param old: parameters of the distribution before the update, of the same kind
        :param c: coefficients of this epoch
        :param trunk: the policy's networks for tensors, or for arrays
        """
        assert self.form is not None
        with th.no_grad():
            output, values = trunk.forward(minibatch.observations)
            context = Context(trunk.latent, masks_of(minibatch))
            new = evaluate_output(self.policy, self.form, output, values, minibatch.actions, context)
            terms = self.algorithm.terms_of(minibatch, new, old, c)
            _, metrics = self.algorithm.minibatch_loss(minibatch, new, old, c, terms)
            slopes = self.algorithm.loss_slopes(minibatch, new, c, terms)
            at = Point(new.parameters, old, minibatch.actions, context)
            by_output, by_log_std = self.form.gradient(self.policy, at, slopes)
        trunk.backward(by_output, slopes.values, by_log_std)
        return metrics

    def _measure(self) -> tuple[ActionDistribution, Parameters]:
        """Compute the action distributions of the measured rows under the current policy, without gradient."""
        pieces: list[Parameters] = []
        plain = self.trunk is not None  # a plain MLP has no modes, and writes to nothing
        with th.no_grad(), nullcontext() if plain else measuring(self.policy):
            for piece in self.rollout.pieces(self.measured_rows):
                if not plain:
                    piece = piece._replace(observations=own_observations(self.policy, piece.observations))
                form, parameters = self._action_parameters(piece)
                pieces.append(parameters)
        return form, pieces[0] if len(pieces) == 1 else tuple(map(th.cat, zip(*pieces)))

    def _action_parameters(self, piece: Any) -> tuple[ActionDistribution, Parameters]:
        if self.form is None:
            evaluation = evaluate_minibatch(self.policy, piece)
            return evaluation.distribution, evaluation.parameters
        if self.trunk is not None:
            output, latent = self.trunk.action_output(piece.observations)
            return self.form, self.form.from_output(self.policy, output, Context(latent, masks_of(piece)))
        with wide_layers_in_onednn(self.policy) if self.onednn else nullcontext():
            return self.form, action_parameters(self.policy, self.form, piece)
