"""Log-probability and entropy straight from the network's output, without torch.distributions objects.

Building and validating the objects costs several times the arithmetic for small networks. Each form computes the same
formulas for one SB3 distribution class; what has no form here goes through ``evaluate_actions``.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch as th
import torch.nn.functional as F
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from sb3_ppo_variants.update.kl_divergence import BERNOULLI, CATEGORICAL, GAUSSIAN, DistributionFamily, Parameters
from sb3_ppo_variants.update.policy_evaluation import Evaluation

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class ClosedForm(NamedTuple):
    """One distribution class as pure functions of its parameters.

    :param family: for the KL divergence
    :param parameters: from the policy and the output of its ``action_net``, shape (n_batch, n_outputs)
    :param log_prob: of actions of shape (n_batch,) (Discrete) or (n_batch, n_dimensions); shape (n_batch,)
    :param entropy: shape (n_batch,), nats
    """

    family: DistributionFamily
    parameters: Callable[[Any, th.Tensor], Parameters]
    log_prob: Callable[[Parameters, th.Tensor], th.Tensor]
    entropy: Callable[[Parameters], th.Tensor]


def _gaussian_log_prob(parameters: Parameters, actions: th.Tensor) -> th.Tensor:
    mean, log_std = parameters
    standardized = (actions - mean) * th.exp(-log_std)
    return (-0.5 * standardized**2 - log_std - _HALF_LOG_2PI).sum(dim=-1)


def _gaussian_entropy(parameters: Parameters) -> th.Tensor:
    return (parameters[1] + 0.5 + _HALF_LOG_2PI).sum(dim=-1)


def _categorical_log_prob(parameters: Parameters, actions: th.Tensor) -> th.Tensor:
    columns = actions.long().reshape(len(actions), -1)
    parts = [log_p.gather(1, columns[:, i : i + 1]) for i, log_p in enumerate(parameters)]
    return (th.cat(parts, dim=1) if len(parts) > 1 else parts[0]).sum(dim=1)


def _categorical_entropy(parameters: Parameters) -> th.Tensor:
    entropies = [-(log_p.exp() * log_p).sum(dim=-1) for log_p in parameters]
    return th.stack(entropies).sum(dim=0) if len(entropies) > 1 else entropies[0]


def _multi_categorical_parameters(_: Any, output: th.Tensor, sizes: list[int]) -> Parameters:
    return tuple(F.log_softmax(part, dim=-1) for part in output.split(sizes, dim=-1))


def _bernoulli_log_prob(parameters: Parameters, actions: th.Tensor) -> th.Tensor:
    return -F.binary_cross_entropy_with_logits(parameters[0], actions, reduction="none").sum(dim=-1)


def _bernoulli_entropy(parameters: Parameters) -> th.Tensor:
    (logits,) = parameters
    return F.binary_cross_entropy_with_logits(logits, th.sigmoid(logits), reduction="none").sum(dim=-1)


_FORMS: dict[type[Distribution], ClosedForm] = {
    CategoricalDistribution: ClosedForm(
        CATEGORICAL, lambda _, output: (F.log_softmax(output, dim=-1),), _categorical_log_prob, _categorical_entropy
    ),
    MultiCategoricalDistribution: ClosedForm(
        CATEGORICAL,
        _multi_categorical_parameters,  # type: ignore[arg-type]  # closed_form() fills in the sizes
        _categorical_log_prob,
        _categorical_entropy,
    ),
    BernoulliDistribution: ClosedForm(BERNOULLI, lambda _, output: (output,), _bernoulli_log_prob, _bernoulli_entropy),
    DiagGaussianDistribution: ClosedForm(
        GAUSSIAN,
        lambda policy, output: (output, policy.log_std.expand_as(output)),
        _gaussian_log_prob,
        _gaussian_entropy,
    ),
}


def closed_form(policy: BasePolicy) -> ClosedForm | None:
    """Find the closed form of a policy, if using it cannot change any result.

    :param policy: any policy
    :return: None if a subclass overrides a step of the evaluation, or its distribution has no form here
    """
    steps = ("evaluate_actions", "extract_features", "_get_action_dist_from_latent")
    if not isinstance(policy, ActorCriticPolicy) or any(
        getattr(type(policy), step) is not getattr(ActorCriticPolicy, step) for step in steps
    ):
        return None
    form = _FORMS.get(type(policy.action_dist))
    if form is not None and isinstance(policy.action_dist, MultiCategoricalDistribution):
        sizes = [int(size) for size in policy.action_dist.action_dims]  # numpy integers would enter a graph as tensors
        return form._replace(parameters=partial(_multi_categorical_parameters, sizes=sizes))
    return form


def evaluate_closed_form(
    policy: ActorCriticPolicy, form: ClosedForm, observations: Any, actions: th.Tensor
) -> Evaluation:
    """Do what ``policy.evaluate_actions`` does, without distribution objects.

    :param policy: one that :func:`closed_form` accepts
    :param form: its closed form
    :param observations: as in the rollout buffer
    :param actions: shape (n_batch,) for Discrete, else (n_batch, n_dimensions)
    :return: the evaluation
    """
    features = policy.extract_features(observations)
    pi_features, vf_features = (features, features) if policy.share_features_extractor else features
    return evaluate_features(policy, form, pi_features, vf_features, actions)


def evaluate_features(
    policy: Any, form: ClosedForm, pi_features: Any, vf_features: Any, actions: th.Tensor
) -> Evaluation:
    """Evaluate actions from extracted features.

    :param policy: one that :func:`closed_form` accepts
    :param form: its closed form
    :param pi_features: for the actor, shape (n_batch, n_features)
    :param vf_features: for the critic, shape (n_batch, n_features)
    :param actions: shape (n_batch,) for Discrete, else (n_batch, n_dimensions)
    :return: the evaluation
    """
    output = policy.action_net(policy.mlp_extractor.forward_actor(pi_features))
    values = policy.value_net(policy.mlp_extractor.forward_critic(vf_features)).flatten()
    return evaluate_output(policy, form, output, values, actions)


def evaluate_output(
    policy: ActorCriticPolicy, form: ClosedForm, output: th.Tensor, values: th.Tensor, actions: th.Tensor
) -> Evaluation:
    """Evaluate actions from the networks' outputs.

    :param policy: one that :func:`closed_form` accepts
    :param form: its closed form
    :param output: of the action net, shape (n_batch, n_outputs)
    :param values: shape (n_batch,)
    :param actions: shape (n_batch,) for Discrete, else (n_batch, n_dimensions)
    :return: the evaluation
    """
    parameters = form.parameters(policy, output)
    return Evaluation(values, form.log_prob(parameters, actions), form.entropy(parameters), form.family, parameters)


def action_parameters(policy: ActorCriticPolicy, form: ClosedForm, observations: Any) -> Parameters:
    """Compute the action distribution's parameters only, for a measurement of the KL divergence.

    :param policy: one that :func:`closed_form` accepts
    :param form: its closed form
    :param observations: as in the rollout buffer
    :return: tensors whose first dimension is n_batch
    """
    features = BasePolicy.extract_features(policy, observations, policy.pi_features_extractor)
    return form.parameters(policy, policy.action_net(policy.mlp_extractor.forward_actor(features)))
