"""A leaner ``policy.forward`` for collecting rollouts with small networks on the CPU: numpy on the parameters' memory.

At batch size 1 nearly all of SB3's forward pass is call overhead. SB3's own ``collect_rollouts`` keeps running; only
the policy's forward is replaced while it does, and what the buffer does (``lean_buffer.py``).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch as th
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_ppo_variants.fast_path.blas_threads import OneBlasThread
from sb3_ppo_variants.fast_path.closed_forms import closed_form_of, evaluation_obstacle
from sb3_ppo_variants.fast_path.flat_observations import as_vectors
from sb3_ppo_variants.fast_path.interception import StandIn
from sb3_ppo_variants.fast_path.mlp_trunk import plain_mlp_obstacle
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyMlp
from sb3_ppo_variants.update.distributions import Context

_FORWARDS = (ActorCriticPolicy.forward, MaskableActorCriticPolicy.forward)
_FEW_PRODUCTS = 8192  # for these no BLAS starts a second thread
_MOST_WEIGHTS = 300_000  # numpy's lead is call overhead; above this the matrix products decide


class LeanForward(StandIn):
    """Stands in for ``policy.forward`` while a rollout is collected.

    :param policy: one for which :func:`lean_forward_obstacle` finds nothing
    """

    def __init__(self, policy: Any):
        super().__init__(policy, "forward")
        self.actor = NumpyMlp([*policy.mlp_extractor.policy_net, policy.action_net])
        self.critic = NumpyMlp([*policy.mlp_extractor.value_net, policy.value_net])
        self._products = max(layer.weight.size for net in (self.actor, self.critic) for layer in net.layers)
        self.action_shape: tuple[int, ...] = policy.action_space.shape or ()
        form = closed_form_of(policy)
        assert form is not None  # or there is an obstacle
        self.form = form

    def __call__(
        self, obs: th.Tensor, deterministic: bool = False, **masks: Any
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Sample actions as ``ActorCriticPolicy.forward`` does.

        :param obs: shape (n_envs, *observation shape)
        :param deterministic: handled by the ordinary forward
        :param masks: ``action_masks`` of a maskable policy, shape (n_envs, number of choices); None for none
        :return: actions, values of shape (n_envs, 1), log-probabilities of shape (n_envs,)
        """
        if deterministic:
            ordinary: tuple[th.Tensor, th.Tensor, th.Tensor] = self.ordinary()(obs, True, **masks)
            return ordinary
        flat = as_vectors(self.policy.observation_space, obs.numpy())
        with OneBlasThread() if len(flat) * self._products > _FEW_PRODUCTS else nullcontext():
            output, values = self.actor.forward(flat), self.critic.forward(flat)
        valid = masks.get("action_masks")
        if valid is not None:
            valid = np.asarray(valid, dtype=bool).reshape(output.shape)
        actions, log_prob = self.form.sample(self.policy, output, Context(self.actor.activations[-2], valid))
        if actions.shape[1:] != self.action_shape:
            actions = actions.reshape((-1, *self.action_shape))
        return th.from_numpy(actions), th.from_numpy(values.copy()), th.from_numpy(log_prob)


@contextmanager
def lean_forward(forward: LeanForward) -> Iterator[None]:
    """Let a policy work lean while SB3 collects a rollout; nothing else of it changes.

    :param forward: for the policy it was made for
    """
    policy = forward.policy
    policy.forward = forward  # taken back below
    try:
        yield
    finally:
        del policy.forward


def lean_forward_obstacle(policy: Any) -> str | None:
    """Say why a policy's forward pass cannot be done in numpy.

    :param policy: any policy
    :return: the reason, or None if it can
    """
    obstacle = evaluation_obstacle(policy)
    if obstacle is not None:
        return obstacle
    if type(policy).forward not in _FORWARDS:
        return "the policy overrides its forward pass"
    if policy.device.type != "cpu":
        return "the policy is not on the CPU"
    obstacle = plain_mlp_obstacle(policy)
    if obstacle is not None:
        return obstacle
    if any(p.dtype != th.float32 for p in policy.parameters()):
        return "parameters are not float32"
    if sum(p.numel() for p in policy.parameters()) > _MOST_WEIGHTS:
        return f"the network has more than {_MOST_WEIGHTS} weights"
    return None
