"""One forward pass of any host's policy: values, log-probabilities, entropy and the distribution itself."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from sb3_ppo_variants.update.arrays import mapped
from sb3_ppo_variants.update.distributions import ActionDistribution, action_distribution
from sb3_ppo_variants.update.held_state import held_put_back
from sb3_ppo_variants.update.kl_divergence import Parameters

_SEED_OF_MEASUREMENTS = 0
KNOWN_PACKAGES = {"torch", "stable_baselines3", "sb3_contrib", __name__.partition(".")[0]}


class Evaluation(NamedTuple):
    """What one forward pass says about a minibatch.

    :param values: predicted returns, shape (n_batch,)
    :param log_prob: log-probability of the actions taken, shape (n_batch,)
    :param entropy: of the action distribution, nats, shape (n_batch,); ``-log_prob`` where no closed form exists
    :param distribution: how its parameters are compared
    :param parameters: of the action distribution
    """

    values: th.Tensor
    log_prob: th.Tensor
    entropy: th.Tensor
    distribution: ActionDistribution
    parameters: Parameters


def evaluate_minibatch(policy: ActorCriticPolicy, minibatch: Any) -> Evaluation:
    """Evaluate the actions of a minibatch with the host's own ``evaluate_actions``.

    The minibatch's field names say what the host needs: ``action_masks`` (MaskablePPO), or ``lstm_states`` and
    ``episode_starts`` (RecurrentPPO). Afterwards ``policy.action_dist`` *is* the distribution just evaluated, masked
    and with the LSTM run, so that no second forward pass is needed.

    :param policy: of any of the three hosts
    :param minibatch: the host's NamedTuple
    :return: the evaluation, with gradient unless disabled outside
    :raises TypeError: if ``evaluate_actions`` did not leave its distribution in ``policy.action_dist``
    """
    actions = actions_for(policy, minibatch)
    fields = minibatch._fields  # passed on as the hosts do: by position, but for the masks
    states = [getattr(minibatch, name) for name in ("lstm_states", "episode_starts") if name in fields]
    masks = {"action_masks": minibatch.action_masks} if "action_masks" in fields else {}
    before = _held_distribution(getattr(policy, "action_dist", None))
    values, log_prob, entropy = policy.evaluate_actions(minibatch.observations, actions, *states, **masks)
    distribution = getattr(policy, "action_dist", None)
    if not isinstance(distribution, Distribution) or _held_distribution(distribution) is before:
        raise TypeError(
            f"{type(policy).__name__}.evaluate_actions() must leave the distribution it evaluated in `action_dist`, as "
            "SB3's policies do: the trust region is measured on it"
        )
    form = action_distribution(distribution)
    entropy = -log_prob if entropy is None else entropy
    return Evaluation(values.flatten(), log_prob, entropy, form, form.parameters(distribution))


def actions_for(policy: BasePolicy, minibatch: Any) -> th.Tensor:
    """Return a minibatch's actions as the policy's distribution takes them.

    :param policy: of any of the three hosts
    :param minibatch: the host's NamedTuple
    """
    actions: th.Tensor = minibatch.actions
    if isinstance(policy.action_space, spaces.Discrete):
        return actions.long().flatten()
    if isinstance(policy.action_space, spaces.MultiBinary):
        return actions.float()  # contrib's recurrent buffer keeps them as int8, which torch's Bernoulli cannot take
    return actions


def valid_steps(minibatch: Any) -> th.Tensor | None:
    """Tell which steps of a minibatch count: recurrent minibatches are padded.

    :param minibatch: the host's NamedTuple
    :return: bool, shape (n_batch,), True where the step is real; None if all are
    """
    return minibatch.mask > 1e-8 if "mask" in minibatch._fields else None


def snapshot_policy(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    """Copy a policy as it is now, for evaluation only: in evaluation mode and without optimiser.

    ``copy.deepcopy`` alone fails once a distribution was evaluated, because it holds tensors of an autograd graph; so
    may a module of somebody's own.

    :param policy: of any host
    :return: an independent copy of all parameters and buffers
    """
    memo: dict[int, Any] = {id(policy.action_dist): copy.copy(policy.action_dist), id(policy.optimizer): None}
    held = [value for module in policy.modules() for value in vars(module).values() if isinstance(value, th.Tensor)]
    memo |= {id(value): value.detach().clone() for value in held if not value.is_leaf}  # such as an auxiliary loss
    snapshot = copy.deepcopy(policy, memo)
    snapshot.set_training_mode(False)
    return snapshot


def package_of(defined: Any) -> str:
    """Return the name of the package in which a class or function is defined.

    :param defined: the class or function
    """
    return str(defined.__module__).partition(".")[0]


def foreign_module(policy: BasePolicy) -> str | None:
    """Name a module of a class that is not torch's, SB3's, contrib's or ours: of what it does nothing is known.

    :param policy: any policy
    :return: the name of the first such class; None if there is none
    """
    kinds = (type(module) for module in policy.modules())
    return next((kind.__name__ for kind in kinds if package_of(kind) not in KNOWN_PACKAGES), None)


def own_observations(policy: BasePolicy, observations: Any) -> Any:
    """Return observations that a policy may write to: a module of somebody's own may work in place.

    :param policy: that is about to be asked
    :param observations: tensor, or dictionary of tensors, which others are asked of, too
    """
    return observations if foreign_module(policy) is None else mapped(th.clone, observations)


def draws_put_back(policy: BasePolicy) -> AbstractContextManager[None]:
    """Put torch's generators, of the CPU and of the policy's device, back to where they were.

    :param policy: that may draw meanwhile
    """
    return th.random.fork_rng(devices=[] if policy.device.type == "cpu" else [policy.device])


@contextmanager
def measuring(policy: BasePolicy) -> Iterator[None]:
    """Let a policy be asked what stock PPO does not ask it: in evaluation mode, and without a trace.

    A module of somebody's own may draw whenever it is called, and so gets the same draws each time; or remember what it
    sees, and so gets back what it holds.

    :param policy: of any host
    """
    training = policy.training
    policy.set_training_mode(False)
    try:
        if foreign_module(policy) is None:
            yield
        else:
            with draws_put_back(policy), held_put_back(policy):
                th.default_generator.manual_seed(_SEED_OF_MEASUREMENTS)
                if policy.device.type == "cuda":
                    with th.cuda.device(policy.device):
                        th.cuda.manual_seed(_SEED_OF_MEASUREMENTS)
                yield
    finally:
        policy.set_training_mode(training)


def _held_distribution(distribution: Distribution | None) -> object:
    """The torch distribution(s) inside: SB3 makes a new one at every evaluation."""
    return getattr(distribution, "distributions", None) or getattr(distribution, "distribution", None)
