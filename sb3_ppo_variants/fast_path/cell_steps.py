"""A rollout of an LSTM policy: one call of torch's LSTM cell per step, in place of its LSTM for sequences.

``nn.LSTM`` on a CPU prepares its weights for a long sequence at every call; for a single step that takes most of the
time. contrib's ``forward`` and ``predict_values`` keep running; only ``policy._process_sequence`` is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch as th
from torch import nn

from sb3_ppo_variants.fast_path.interception import StandIn, module_obstacle
from sb3_ppo_variants.fast_path.whole_sequences import copying_obstacle, own_steps_obstacle

States: TypeAlias = tuple[th.Tensor, th.Tensor]
"""Hidden and cell state, shape (n_layers, n_envs, n_units) each."""


class CellSteps(StandIn):
    """Stands in for ``policy._process_sequence`` while a rollout is collected.

    :param policy: one for which :func:`cell_steps_obstacle` finds nothing
    :param still_fits: as of :class:`StandIn`
    """

    def __init__(self, policy: Any, still_fits: Callable[[], bool] = lambda: True):
        super().__init__(policy, "_process_sequence", still_fits)

    def __call__(
        self, features: th.Tensor, states: States, episode_starts: th.Tensor, lstm: nn.LSTM
    ) -> tuple[th.Tensor, States]:
        """Step once; longer sequences, other shapes, and what gradients are wanted of, are contrib's.

        :param features: shape (n_envs, n_features)
        :param states: before the step
        :param episode_starts: shape (n_envs,); the states of those that are not 0 are reset
        :param lstm: of the actor or the critic
        :return: output of shape (n_envs, n_units), states after the step
        """
        n_envs = states[0].shape[1]
        usual = features.shape == (n_envs, lstm.input_size) and episode_starts.shape == (n_envs,)
        if not usual or th.is_grad_enabled() or not self.serves() or (lstm.dropout and lstm.training):
            ordinary: tuple[th.Tensor, States] = self.ordinary()(features, states, episode_starts, lstm)
            return ordinary
        goes_on = (1.0 - episode_starts).unsqueeze(1)
        after = []
        for hidden, cell, weights in zip(*states, lstm.all_weights):
            features, cell = th.lstm_cell(features, (hidden * goes_on, cell * goes_on), *weights)
            after.append((features, cell))
        hiddens, cells = zip(*after)
        return features, (th.stack(hiddens), th.stack(cells))


def cell_steps_obstacle(policy: Any) -> str | None:
    """Say why the steps of a rollout are left to ``nn.LSTM``.

    :param policy: any policy
    :return: the reason, or None if they are not
    """
    obstacle = own_steps_obstacle(policy)
    if obstacle is not None:
        return obstacle
    if policy.device.type != "cpu":
        return "the policy is not on the CPU"
    if not all(map(_is_stack_of_cells, (policy.lstm_actor, policy.lstm_critic or policy.lstm_actor))):
        return "an LSTM is no plain stack of cells"
    return module_obstacle(policy) or copying_obstacle(policy)


def _is_stack_of_cells(lstm: nn.Module) -> bool:
    if type(lstm) is not nn.LSTM or lstm.batch_first or lstm.bidirectional or lstm.proj_size:
        return False
    return bool(lstm.bias)
