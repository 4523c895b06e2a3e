"""Log-probability and entropy straight from the network's output, without torch.distributions objects."""

from typing import Any

import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from sb3_ppo_variants.fast_path.interception import module_obstacle
from sb3_ppo_variants.update.distributions import ActionDistribution, closed_form
from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.policy_evaluation import Evaluation

# As SB3 has them when this module is imported: a class patched later is not SB3's any more.
_STEPS = {
    name: getattr(ActorCriticPolicy, name)
    for name in ("evaluate_actions", "extract_features", "_get_action_dist_from_latent")
}


def closed_form_of(policy: BasePolicy) -> ActionDistribution | None:
    """Find the closed form of a policy.

    :param policy: any policy
    :return: None if :func:`evaluation_obstacle` finds something
    """
    if evaluation_obstacle(policy) is not None:
        return None
    form = closed_form(policy.action_dist)  # type: ignore[arg-type]  # a policy with a distribution
    return None if form is None else form.for_policy(policy)


def evaluation_obstacle(policy: BasePolicy) -> str | None:
    """Say why using a closed form could change a result.

    :param policy: any policy
    :return: the reason, or None if it could not
    """
    if not isinstance(policy, ActorCriticPolicy):
        return "the policy is none of SB3's actor-critic ones"
    own = [name for name, step in _STEPS.items() if getattr(type(policy), name) is not step]
    if own:
        return f"the policy overrides its evaluation: {own[0]}()"
    if closed_form(policy.action_dist) is None:
        return f"{type(policy.action_dist).__name__} has no closed form"
    return module_obstacle(policy)


def evaluate_closed_form(
    policy: ActorCriticPolicy, form: ActionDistribution, observations: Any, actions: th.Tensor
) -> Evaluation:
    """Do what ``policy.evaluate_actions`` does, without distribution objects.

    :param policy: one that :func:`closed_form_of` accepts
    :param form: its closed form
    :param observations: as in the rollout buffer
    :param actions: shape (n_batch,) for Discrete, else (n_batch, n_dimensions)
    :return: the evaluation
    """
    features = policy.extract_features(observations)
    pi_features, vf_features = (features, features) if policy.share_features_extractor else features
    return evaluate_features(policy, form, pi_features, vf_features, actions)


def evaluate_features(
    policy: Any, form: ActionDistribution, pi_features: Any, vf_features: Any, actions: th.Tensor
) -> Evaluation:
    """Evaluate actions from extracted features.

    :param policy: one that :func:`closed_form_of` accepts
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
    policy: ActorCriticPolicy, form: ActionDistribution, output: th.Tensor, values: th.Tensor, actions: th.Tensor
) -> Evaluation:
    """Evaluate actions from the networks' outputs.

    :param policy: one that :func:`closed_form_of` accepts
    :param form: its closed form
    :param output: of the action net, shape (n_batch, n_outputs)
    :param values: shape (n_batch,)
    :param actions: shape (n_batch,) for Discrete, else (n_batch, n_dimensions)
    :return: the evaluation
    """
    parameters = form.from_output(policy, output)
    return Evaluation(values, form.log_prob(parameters, actions), form.entropy(parameters), form, parameters)


def action_parameters(policy: ActorCriticPolicy, form: ActionDistribution, observations: Any) -> Parameters:
    """Compute the action distribution's parameters only, for a measurement of the KL divergence.

    :param policy: one that :func:`closed_form_of` accepts
    :param form: its closed form
    :param observations: as in the rollout buffer
    :return: tensors whose first dimension is n_batch
    """
    features = BasePolicy.extract_features(policy, observations, policy.pi_features_extractor)
    return form.from_output(policy, policy.action_net(policy.mlp_extractor.forward_actor(features)))
