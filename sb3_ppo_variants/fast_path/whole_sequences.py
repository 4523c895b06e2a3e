"""The fast path of recurrent policies: sb3-contrib's LSTMs run a sequence at a time instead of a step at a time.

contrib resets the LSTM's state wherever an episode starts, and steps through the whole minibatch as soon as one does.
In its buffers' minibatches a sequence is cut there, so that only first steps need a reset: then one call of the LSTM
does for all steps (proposed for contrib in its pull request 118).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch as th
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_ppo_variants.fast_path.interception import LibraryMethods, is_replaced, module_obstacle
from sb3_ppo_variants.fast_path.remembered_distributions import RememberedDistributions
from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.distributions import ActionDistribution, action_distribution
from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.old_policy import holds_functions
from sb3_ppo_variants.update.policy_evaluation import actions_for
from sb3_ppo_variants.update.reference_update import ReferenceUpdate, Stepper

_BUFFERS = (RecurrentRolloutBuffer, RecurrentDictRolloutBuffer)
_STEPPED = RecurrentActorCriticPolicy._process_sequence
_OF_CONTRIB = LibraryMethods(
    ("get_distribution", "evaluate_actions", "extract_features", "_get_action_dist_from_latent"),
    RecurrentActorCriticPolicy,
)


class SequenceUpdate(ReferenceUpdate):
    """One policy update on a recurrent buffer's own minibatches, in whole sequences.

    Where only the action distribution is asked for, the critic and its LSTM do not run. The old policy is asked once.
    """

    def __init__(self, algorithm: UpdatedAlgorithm, stepper: Stepper):
        super().__init__(algorithm, stepper)
        policy: Any = self.policy
        replaced = policy.share_features_extractor and policy.pi_features_extractor is not policy.features_extractor
        known = not replaced and not _OF_CONTRIB.overridden(policy)
        self._actor_alone = known and module_obstacle(policy) is None
        once = self._actor_alone and (self.rules.needs_old_distribution or self.rules.projection_limit is not None)
        size = int(self.algorithm.batch_size)
        self._old = RememberedDistributions(self.algorithm.rollout_buffer, size, self._asked_old) if once else None

    @contextmanager
    def running(self) -> Iterator[None]:
        with nullcontext() if self._old is None else self._old.following(), np.errstate(all="ignore"):
            yield

    def measured(self, policy: Any, minibatch: Any) -> tuple[ActionDistribution, Parameters]:
        if not self._actor_alone:
            return super().measured(policy, minibatch)
        states, starts = minibatch.lstm_states.pi, minibatch.episode_starts
        distribution, _ = policy.get_distribution(minibatch.observations, states, starts)
        form = action_distribution(distribution)
        return form, form.parameters(distribution)

    def step(self, minibatch: Any, coefficients: dict[str, Number]) -> tuple[th.Tensor, bool]:
        with whole_sequences({self.policy, self.old_policy.policy}):
            return super().step(minibatch, coefficients)

    def kl_divergence(self) -> float:
        with self.running(), whole_sequences({self.policy, self.old_policy.policy}):
            return super().kl_divergence()

    def _old_parameters(self, minibatch: Any) -> Parameters:
        known = None if self._old is None else self._old.of(minibatch)
        return super()._old_parameters(minibatch) if known is None else known

    def _asked_old(self, minibatch: Any) -> tuple[Parameters, th.Tensor]:
        """Ask the old policy for its distributions, and for the log-probabilities of the actions taken."""
        with th.no_grad(), self.old_policy.asked() as policy:
            _, parameters = self.measured(policy, minibatch)
            log_prob = policy.action_dist.log_prob(actions_for(policy, minibatch))
            return tuple(p.clone() for p in parameters), log_prob


def whole_sequences_obstacle(policy: BasePolicy, buffer: RolloutBuffer) -> str | None:
    """Say why the sequences of a model's minibatches cannot be run as wholes.

    :param policy: of the model
    :param buffer: of the model
    :return: the reason, or None if they can
    """
    obstacle = own_steps_obstacle(policy)
    if obstacle is None and not any(type(buffer) is known for known in _BUFFERS):
        return "the buffer may cut sequences in its own way"
    return obstacle or copying_obstacle(policy)


def own_steps_obstacle(policy: Any) -> str | None:
    """Say why a policy does not step through sequences as contrib's do; None if it does.

    :param policy: any policy
    """
    if not isinstance(policy, RecurrentActorCriticPolicy):
        return "the policy has no LSTM"
    if type(policy)._process_sequence is not _STEPPED or is_replaced(policy, "_process_sequence"):
        return "the policy steps through sequences in its own way"
    return None


def copying_obstacle(policy: BasePolicy) -> str | None:
    """Say why a check that asks copies of a policy would say nothing; None if it would.

    :param policy: any policy
    """
    return "a module holds a function of somebody's own" if holds_functions(policy) else None


@contextmanager
def whole_sequences(policies: Collection[Any]) -> Iterator[None]:
    """Let policies run sequences as wholes; nothing else of them changes.

    :param policies: for which :func:`whole_sequences_obstacle` is None
    """
    for policy in policies:
        policy._process_sequence = run_sequences  # taken back below
    try:
        yield
    finally:
        for policy in policies:
            del policy._process_sequence


def run_sequences(
    features: th.Tensor, states: tuple[th.Tensor, th.Tensor], episode_starts: th.Tensor, lstm: nn.LSTM
) -> tuple[th.Tensor, tuple[th.Tensor, th.Tensor]]:
    """Do what contrib's ``_process_sequence`` does for sequences in which an episode starts at the first step only.

    :param features: shape (n_sequences * length, n_features)
    :param states: hidden and cell state before each sequence, shape (n_layers, n_sequences, n_units) each
    :param episode_starts: shape (n_sequences * length,)
    :param lstm: of the actor or the critic
    :return: output of shape (n_sequences * length, n_units), states after the last step
    """
    n_sequences = states[0].shape[1]
    goes_on = 1.0 - episode_starts.reshape(n_sequences, -1)[:, :1]
    hidden, cell = states
    sequences = features.reshape(n_sequences, -1, lstm.input_size).transpose(0, 1)
    output, states = lstm(sequences, (hidden * goes_on, cell * goes_on))
    return output.transpose(0, 1).flatten(end_dim=1), states
