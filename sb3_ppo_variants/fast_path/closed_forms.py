"""Log-probability and entropy straight from the network's output, without torch.distributions objects."""

from typing import Any

from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor

from sb3_ppo_variants.fast_path.image_preprocessing import preprocessed
from sb3_ppo_variants.fast_path.interception import LibraryMethods, is_patched_object, module_obstacle
from sb3_ppo_variants.update.arrays import Array
from sb3_ppo_variants.update.distributions import ActionDistribution, Context, closed_form
from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.policy_evaluation import Evaluation

_STEPS = LibraryMethods(
    ("evaluate_actions", "extract_features", "_get_action_dist_from_latent"),
    *(ActorCriticPolicy, MaskableActorCriticPolicy),
)


def closed_form_of(policy: Any) -> ActionDistribution:
    """Return the closed form of a policy.

    :param policy: one for which :func:`evaluation_obstacle` finds nothing
    """
    form = closed_form(policy.action_dist)
    assert form is not None  # or there is an obstacle
    return form.for_policy(policy)


def evaluation_obstacle(policy: Any) -> str | None:
    """Say why using a closed form could change a result.

    :param policy: any policy
    :return: the reason, or None if it could not
    """
    if not _STEPS.knows(policy):
        return "the policy is none of SB3's and contrib's actor-critic ones"
    own = _STEPS.overridden(policy)
    if own:
        return f"the policy overrides its evaluation: {own[0]}()"
    if not all(hasattr(policy.mlp_extractor, name) for name in ("forward_actor", "forward_critic")):
        return "the network has no forward_actor() and forward_critic()"
    if "log_std" not in policy._parameters and hasattr(policy, "log_std"):
        return "log_std is computed"
    distribution = policy.action_dist
    if isinstance(distribution, DiagGaussianDistribution) and policy.log_std.shape != (distribution.action_dim,):
        return f"log_std has the shape {tuple(policy.log_std.shape)}"
    if is_patched_object(distribution):
        return f"a method of the {type(distribution).__name__} is replaced"
    if closed_form(distribution) is None:
        return f"{type(distribution).__name__}, with the options it has, has no closed form"
    return module_obstacle(policy)


def evaluate_closed_form(policy: Any, form: ActionDistribution, minibatch: Any) -> Evaluation:
    """Do what ``policy.evaluate_actions`` does, without distribution objects.

    :param policy: one that :func:`closed_form_of` accepts
    :param form: its closed form
    :param minibatch: of the host's NamedTuple
    :return: the evaluation
    """
    latent, critic_latent = both_latents(policy, preprocessed(policy, minibatch.observations))
    values, context = policy.value_net(critic_latent).flatten(), Context(latent, masks_of(minibatch))
    return evaluate_output(policy, form, policy.action_net(latent), values, minibatch.actions, context)


def both_latents(policy: Any, inputs: Any) -> tuple[Any, Any]:
    """Run a policy's networks up to the heads of actor and critic, shape (n_batch, n_latent) each.

    As SB3 does, which asks a network of somebody's own for both at once where they share their features.

    :param policy: one that :func:`closed_form_of` accepts
    :param inputs: preprocessed observations
    """
    networks = policy.mlp_extractor
    if policy.share_features_extractor:
        actor, critic = networks(policy.features_extractor(inputs))
        return actor, critic
    actor = networks.forward_actor(policy.pi_features_extractor(inputs))
    return actor, networks.forward_critic(policy.vf_features_extractor(inputs))


def evaluate_output(
    policy: Any, form: ActionDistribution, output: Array, values: Array, actions: Array, context: Context
) -> Evaluation:
    """Evaluate actions from the networks' outputs.

    :param policy: one that :func:`closed_form_of` accepts
    :param form: its closed form
    :param output: of the action net, shape (n_batch, n_outputs)
    :param values: shape (n_batch,)
    :param actions: shape (n_batch,) for Discrete, else (n_batch, n_dimensions)
    :param context: what else the distribution depends on
    :return: the evaluation
    """
    parameters = form.from_output(policy, output, context)
    log_prob, entropy = form.log_prob(parameters, actions), form.entropy(parameters)
    return Evaluation(values, log_prob, -log_prob if entropy is None else entropy, form, parameters)


def action_parameters(policy: Any, form: ActionDistribution, minibatch: Any) -> Parameters:
    """Compute the action distribution's parameters only, for a measurement of the KL divergence.

    :param policy: one that :func:`closed_form_of` accepts
    :param form: its closed form
    :param minibatch: of the host's NamedTuple
    :return: tensors whose first dimension is n_batch
    """
    inputs = preprocessed(policy, minibatch.observations)
    if policy.share_features_extractor and type(policy.mlp_extractor) is MlpExtractor:  # the critic is not asked
        latent = policy.mlp_extractor.forward_actor(policy.features_extractor(inputs))
    else:
        latent, _ = both_latents(policy, inputs)
    return form.from_output(policy, policy.action_net(latent), Context(latent, masks_of(minibatch)))


def masks_of(minibatch: Any) -> Array | None:
    """Return the action masks of a minibatch, shape (n_batch, n_outputs); None if its host has none.

    :param minibatch: of the host's NamedTuple
    """
    return getattr(minibatch, "action_masks", None)
