"""A leaner ``policy.forward`` for collecting rollouts: in numpy for small networks on the CPU, else in closed form.

At batch size 1 nearly all of SB3's forward pass is call overhead. SB3's own ``collect_rollouts`` keeps running; only
the policy's forward is replaced while it does, and what the buffer does (``lean_buffer.py``).
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch as th
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_ppo_variants.fast_path.blas_threads import has_one_thread, may_use_threads, one_blas_thread
from sb3_ppo_variants.fast_path.closed_forms import both_latents, closed_form_of, evaluation_obstacle
from sb3_ppo_variants.fast_path.flat_observations import as_vectors
from sb3_ppo_variants.fast_path.image_preprocessing import preprocessed
from sb3_ppo_variants.fast_path.interception import Parts, StandIn
from sb3_ppo_variants.fast_path.late_evaluation import LateEvaluation
from sb3_ppo_variants.fast_path.mlp_trunk import plain_mlp_obstacle
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyMlpOfColumns
from sb3_ppo_variants.update.arrays import mapped
from sb3_ppo_variants.update.distributions import ActionDistribution, Context

_FORWARDS = (ActorCriticPolicy.forward, MaskableActorCriticPolicy.forward)
_MOST_WEIGHTS = 300_000  # numpy's lead is call overhead; above this the matrix products decide


Collected = tuple[th.Tensor, th.Tensor, th.Tensor]
"""Actions, values of shape (n_envs, 1), log-probabilities of shape (n_envs,)."""


class LeanForward(StandIn):
    """Stands in for ``policy.forward`` while a rollout is collected: the policy's networks, a closed form after them.

    SB3 makes distribution objects, checks what it gave them, and on a GPU waits for the answer several times.

    :param policy: one for which :func:`sampling_obstacle` finds nothing
    :param still_fits: as of :class:`StandIn`
    """

    def __init__(self, policy: Any, still_fits: Callable[[], bool] = lambda: True):
        super().__init__(policy, "forward", still_fits)
        self.action_shape: tuple[int, ...] = policy.action_space.shape or ()
        self.form = closed_form_of(policy)

    def __call__(self, obs: Any, deterministic: bool = False, action_masks: Any = None) -> Collected:
        """Sample actions as ``ActorCriticPolicy.forward`` does.

        :param obs: shape (n_envs, *observation shape), or a dictionary
        :param deterministic: handled by the ordinary forward, as is what gradients are wanted of
        :param action_masks: of a maskable policy, shape (n_envs, number of choices); None for none
        """
        drawn: Collected | None = None
        if not (deterministic or th.is_grad_enabled()) and self.serves():  # a callback may differentiate; SB3 does not
            drawn = self.sample(obs, action_masks)
        if drawn is None:
            masks = () if action_masks is None else (action_masks,)
            ordinary: Collected = self.ordinary()(obs, deterministic, *masks)
            return ordinary
        actions, values, log_prob = drawn
        if actions.shape[1:] != self.action_shape:
            actions = actions.reshape((-1, *self.action_shape))
        return actions, values, log_prob

    def sample(self, obs: Any, masks: Any) -> Collected | None:
        """Sample; actions have shape (n_envs, n). None where NaN or infinity is left to torch's distributions."""
        policy = self.policy
        latent, critic_latent = both_latents(policy, preprocessed(policy, obs))
        values = policy.value_net(critic_latent)
        output = policy.action_net(latent)
        if output.device.type == "cpu" and not math.isfinite(output.sum().item()):  # a GPU would be waited for
            return None
        if masks is not None:
            masks = th.as_tensor(masks, dtype=th.bool, device=output.device).reshape(output.shape)
        context = Context(latent, masks)
        parameters = self.form.from_output(policy, output, context)
        actions = self.form.draw(policy, parameters, context)
        return actions, values, self.form.log_prob(parameters, actions)


class NumpyForward(LeanForward):
    """The same in numpy, the networks too, on the parameters' memory.

    :param policy: one for which :func:`numpy_forward_obstacle` finds nothing, either
    :param still_fits: as of :class:`StandIn`
    """

    def __init__(self, policy: Any, still_fits: Callable[[], bool] = lambda: True):
        super().__init__(policy, still_fits)
        self.actor = NumpyMlpOfColumns([*policy.mlp_extractor.policy_net, policy.action_net])
        self.critic = NumpyMlpOfColumns([*policy.mlp_extractor.value_net, policy.value_net])
        modules = [module for module in policy.modules() if not isinstance(module, BaseFeaturesExtractor)]
        self._parts = Parts(policy, modules)
        self.late: LateEvaluation | None = None  # of the rollout being collected
        kinds = type(self.form).__mro__
        act, sample = (next(i for i, kind in enumerate(kinds) if name in vars(kind)) for name in ("act", "sample"))
        self.acts_alone = act <= sample  # or a subclass draws otherwise than what its act() was written for
        self.agrees_late: bool | None = None  # not known before the first rollout
        self._most_weights = max(layer.weight.size for net in (self.actor, self.critic) for layer in net.layers)
        self._has_one_thread = False

    def put_in_place(self) -> None:
        super().put_in_place()
        self._has_one_thread = has_one_thread()

    def sample(self, obs: Any, masks: Any) -> Collected | None:
        late = self.late if masks is None else None
        if (late is None or late.watched) and not self._parts.in_place():
            return super().sample(obs, masks)  # somebody has given a parameter other memory, or replaced a module
        with np.errstate(all="ignore"):  # as in torch, whatever numpy is told to raise
            return self._sample(obs, masks, late)

    def _sample(self, obs: Any, masks: Any, late: LateEvaluation | None) -> Collected | None:
        flat = as_vectors(self.policy.observation_space, mapped(th.Tensor.numpy, obs))
        asked = late is not None and late.takes(len(flat))
        threads = not self._has_one_thread and may_use_threads(len(flat), self._most_weights)
        with one_blas_thread() if threads else nullcontext():
            output = self.actor.forward(flat)
            if not math.isfinite(np.vdot(output, output)):  # half of the time of a sum
                return None
            if late is not None and asked and not late.shown:
                return self.act(output), *late.nothing
            values = self.critic.forward(flat)
        if masks is not None:
            masks = np.asarray(masks, dtype=bool).reshape(output.shape)
        actions, log_prob = self.form.sample(self.policy, output, Context(self.actor.latent, masks))
        if late is not None and asked:
            late.record(flat, actions, values, log_prob)
        return th.from_numpy(actions), th.from_numpy(values.copy()), th.from_numpy(log_prob)

    def act(self, output: Any) -> th.Tensor:
        """Draw the actions that :meth:`sample` draws, and nothing else.

        :param output: of the action net, shape (n_envs, n_outputs)
        """
        return th.from_numpy(self.form.act(self.policy, output, Context(self.actor.latent)))


def sampling_obstacle(policy: Any) -> str | None:
    """Say why actions cannot be drawn by a closed form.

    :param policy: any policy
    :return: the reason, or None if they can
    """
    obstacle = evaluation_obstacle(policy)
    if obstacle is not None:
        return obstacle
    if policy.device.type not in ("cpu", "cuda"):  # of others the check on the first data cannot repeat the draws
        return f"the policy is on {policy.device.type}"
    if type(policy).forward not in _FORWARDS:
        return "the policy overrides its forward pass"
    if getattr(policy, "_compiled_call_impl", None) is not None:
        return "the policy is compiled"
    if type(closed_form_of(policy)).draw is ActionDistribution.draw:
        return f"{type(policy.action_dist).__name__} has no closed form to draw by"
    return None


def numpy_forward_obstacle(policy: Any) -> str | None:
    """Say why a policy's networks are not run in numpy.

    :param policy: one whose actions are drawn by a closed form
    :return: the reason, or None if they are
    """
    if policy.device.type != "cpu":
        return "the policy is not on the CPU"
    obstacle = plain_mlp_obstacle(policy)
    if obstacle is not None:
        return obstacle
    if type(closed_form_of(policy)).sample is ActionDistribution.sample:
        return "its actions are drawn in torch"
    if any(p.dtype != th.float32 for p in policy.parameters()):
        return "parameters are not float32"
    if sum(p.numel() for p in policy.parameters()) > _MOST_WEIGHTS:
        return f"the network has more than {_MOST_WEIGHTS} weights"
    return None
