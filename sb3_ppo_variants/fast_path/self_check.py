"""Before a fast piece serves a model it is compared with the ordinary code, on that model's own first data.

What a policy nobody here has seen does cannot be told from its class alone. Each check returns what differs, or None;
none leaves a trace in parameters, buffers, the optimiser or a random generator.
"""

from itertools import cycle
from typing import Any

import numpy as np
import torch as th
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates

from sb3_ppo_variants.fast_path.cell_steps import CellSteps
from sb3_ppo_variants.fast_path.check_conditions import same_draws, untouched
from sb3_ppo_variants.fast_path.closed_forms import masks_of
from sb3_ppo_variants.fast_path.flat_observations import as_vectors
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam
from sb3_ppo_variants.fast_path.interception import standing_in
from sb3_ppo_variants.fast_path.lean_rollout import LeanForward, NumpyForward
from sb3_ppo_variants.fast_path.numpy_update import NumpyUpdate
from sb3_ppo_variants.fast_path.staged_update import StagedUpdate
from sb3_ppo_variants.fast_path.whole_sequences import whole_sequences
from sb3_ppo_variants.update.arrays import mapped
from sb3_ppo_variants.update.buffers import buffer_places
from sb3_ppo_variants.update.distributions import Context
from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.minibatches import prepared
from sb3_ppo_variants.update.policy_evaluation import Evaluation, evaluate_minibatch, own_observations, snapshot_policy
from sb3_ppo_variants.update.reference_update import OwnOptimizer, Stepper

_TOLERANCE = 1e-4  # of the largest number; rounding of float32 is a hundredth of it
_ROUGHLY = 1e-2  # the same for gradients, which a GPU adds up in another order each time, in bfloat16, too
_LARGEST = 1e30
_OF_FORWARD = ("actions", "values", "log-probabilities")
_SMALLEST = 1e-3  # numbers below it are compared with it: differences of tiny ones are rounding
_OF_LOGITS = ("log-probabilities", "log_prob", "entropy", "the distribution")  # differences of numbers of 1 to 20


def forward_difference(policy: Any, forward: LeanForward, observations: Any) -> str | None:
    """Compare the forward pass of a rollout with ``policy.forward``, with the same draws.

    Networks that may keep statistics are asked as copies.

    :param policy: in evaluation mode
    :param forward: its stand-in
    :param observations: shape (n_envs, *observation shape)
    """
    with th.no_grad(), same_draws() as again:
        if type(forward) is LeanForward:  # the others are for known networks only
            policy = snapshot_policy(policy)
            if getattr(policy, "use_sde", False):
                policy.reset_noise()  # until the first rollout gSDE's noise is where the policy was made, on the CPU
            forward = LeanForward(snapshot_policy(policy))
        masks = _all_valid(policy, observations)
        expected = policy.forward(own_observations(policy, observations), False, *masks)
        again()
        pairs = list(zip(_OF_FORWARD, forward(observations, False, *masks), expected))
        if isinstance(forward, NumpyForward) and forward.acts_alone and not masks:
            again()
            flat = as_vectors(policy.observation_space, mapped(th.Tensor.numpy, observations))
            alone = forward.act(forward.actor.forward(flat))
            pairs.append(("actions without values", alone.reshape(expected[0].shape), expected[0]))
    return _first_difference(pairs, "policy.forward()")


def _all_valid(policy: Any, observations: Any) -> tuple[Any, ...]:
    """Return masks that mask nothing, for a maskable policy: with masks it does more than without."""
    if not isinstance(policy, MaskableActorCriticPolicy):
        return ()
    return (np.ones((_n_envs(observations), policy.action_net.out_features), dtype=np.bool_),)


def _n_envs(observations: Any) -> int:
    return len(next(iter(observations.values())) if isinstance(observations, dict) else observations)


def evaluation_difference(update: StagedUpdate) -> str | None:
    """Compare the closed form with ``policy.evaluate_actions``: values, gradients, and buffers.

    :param update: that uses it, about to begin
    """
    ordinary, fast = (untouched(update.policy) for _ in range(2))
    with same_draws() as again:
        expected = evaluate_minibatch(ordinary, update.first_minibatch())
        again()
        found = update.evaluate(update.first_minibatch(), fast)
    differ = _evaluations_differ(found, expected)
    if differ is None:
        differ = _gradients_differ(_gradients(found, fast), _gradients(expected, ordinary))
    pairs = zip(buffer_places(fast), buffer_places(ordinary))
    if differ is None and not all(place.holds(other.tensor) for place, other in pairs):
        differ = "buffers are not those that the ordinary code leaves"
    return differ


def _gradients(evaluation: Evaluation, policy: Any) -> dict[str, th.Tensor]:
    """Differentiate an evaluation by the parameters that it depends on, by name."""
    named = [(name, parameter) for name, parameter in policy.named_parameters() if parameter.requires_grad]
    parts = [evaluation.values, evaluation.log_prob, evaluation.entropy]
    sums = [part.sum() for part in parts if part.requires_grad]
    if not sums:  # everything is frozen
        return {}
    gradients = th.autograd.grad(sums, [parameter for _, parameter in named], allow_unused=True)
    return {name: gradient for (name, _), gradient in zip(named, gradients) if gradient is not None}


def _gradients_differ(found: dict[str, th.Tensor], expected: dict[str, th.Tensor]) -> str | None:
    if found.keys() != expected.keys():
        return "it does not depend on the same parameters as the ordinary code"
    flat = [th.cat([g.flatten() for g in gradients.values()]) for gradients in (found, expected) if gradients]
    return _first_difference([("the gradient", *flat)], "policy.evaluate_actions()", _ROUGHLY) if flat else None


def layout_difference(policy: Any, observations: Any) -> str | None:
    """Compare what a policy makes of images that lie channels last in memory with the same as they come.

    :param policy: copies of it are asked
    :param observations: shape (n_envs, *observation shape)
    """
    ordinary, fast = (snapshot_policy(policy) for _ in range(2))
    with th.no_grad(), same_draws() as again:
        expected = ordinary.forward(own_observations(policy, observations))
        again()
        found = fast.forward(prepared(observations, channels_last=True))
    return _first_difference(zip(_OF_FORWARD, found, expected), "images as they come")


def gradient_difference(update: StagedUpdate, coefficients: dict[str, Number]) -> str | None:
    """Compare the written gradient with autograd's.

    :param update: that uses it, about to begin
    :param coefficients: of its first epoch
    """
    adam = update.stepper
    assert isinstance(adam, FlatAdam)
    assert update.trunk is not None
    minibatch, old = _moved(update)
    loss, _ = update.algorithm.minibatch_loss(minibatch, update.evaluate(minibatch), old, coefficients)
    by_autograd = th.autograd.grad(loss, adam.parameters, allow_unused=True)
    expected = th.cat([(th.zeros_like(p) if g is None else g).flatten() for g, p in zip(by_autograd, adam.parameters)])
    update.written_step(minibatch, old, coefficients, update.trunk)
    found = th.cat([view.flatten() for view in adam.views(adam.gradient)])
    return _first_difference([("the gradient", found, expected)], "autograd")


def arithmetic_difference(update: NumpyUpdate, coefficients: dict[str, Number]) -> str | None:
    """Compare a minibatch in numpy with the same in torch: its gradient and its metrics.

    :param update: that uses it, about to begin
    :param coefficients: of its first epoch
    """
    adam = update.stepper
    assert isinstance(adam, FlatAdam)
    assert update.trunk is not None
    minibatch, old = _moved(update)
    metrics = update.written_step(minibatch, old, coefficients, update.trunk).row()
    expected = adam.gradient.clone()
    found = update.written_step(*update.in_arrays(minibatch, old), coefficients, update.in_numpy).row()
    pairs = [("the gradient", adam.gradient, expected), ("a minibatch's metrics", found, metrics)]
    return _first_difference(pairs, "torch")


def step_difference(policy: Any, adam: FlatAdam, max_grad_norm: float) -> str | None:
    """Compare one step of Adam on the flat tensor with one of the policy's own optimiser.

    :param policy: whose parameters it has
    :param adam: just made
    :param max_grad_norm: of the model
    """
    state = (adam.flat, adam.exp_avg, adam.exp_avg_sq)
    before = [tensor.clone() for tensor in state]
    steps = adam.optimizer.state[adam.parameters[0]]["step"].item()
    gradients = [p.grad for p in adam.parameters]
    results = []
    steppers: tuple[Stepper, ...] = (adam, OwnOptimizer(policy))
    for stepper in steppers:
        adam.begin(skip_one_by_one=False)
        for view in adam.views(adam.gradient):  # not all of it: the padding between them has no gradient
            view.copy_(th.linspace(-1, 1, view.numel(), device=view.device).view_as(view))
        stepper.step(max_grad_norm, th.zeros((), device=adam.flat.device))
        results.append([p.detach().clone().flatten() for p in adam.parameters])
        for tensor, value in zip(state, before):
            tensor.copy_(value)
        adam.step_count.fill_(steps)
        adam.hand_back()
    adam.gradient.zero_()
    for parameter, gradient in zip(adam.parameters, gradients):
        parameter.grad = gradient
    found, expected = (th.cat(result) for result in results)
    return _first_difference([("a step", found, expected)], f"{type(adam.optimizer).__name__}.step()")


def sequence_difference(policy: Any, minibatch: Any) -> str | None:
    """Compare whole sequences with contrib's step-by-step loop.

    :param policy: with LSTMs
    :param minibatch: of its recurrent buffer
    """
    ordinary, fast = (untouched(policy) for _ in range(2))
    with th.no_grad(), same_draws() as again:
        observations = own_observations(policy, minibatch.observations)
        expected = evaluate_minibatch(ordinary, minibatch._replace(observations=observations))
        again()
        with whole_sequences([fast]):
            found = evaluate_minibatch(fast, minibatch)
    rounded = _TOLERANCE if policy.device.type == "cpu" else _ROUGHLY  # cuDNN's LSTM may be in TF32
    return _evaluations_differ(found, expected, rounded)


def cell_difference(policy: Any, observations: Any) -> str | None:
    """Compare steps of LSTM cells with ``nn.LSTM``'s, with the same draws.

    :param policy: with LSTMs, in evaluation mode; copies are asked
    :param observations: shape (n_envs, *observation shape)
    """
    ordinary, fast = (snapshot_policy(policy) for _ in range(2))
    with th.no_grad(), same_draws() as again:
        expected = _steps(ordinary, observations)
        again()
        with standing_in(CellSteps(fast)):
            found = _steps(fast, observations)
    names = cycle((*_OF_FORWARD, *4 * ["states"]))
    return _first_difference(zip(names, found, expected), "policy.forward()")


def _steps(policy: Any, observations: Any) -> list[th.Tensor]:
    """Step from states of 0, from those it left, and at the start of an episode in the first environment."""
    lstm, n_envs = policy.lstm_actor, _n_envs(observations)
    zeros = lstm.weight_hh_l0.new_zeros(lstm.num_layers, n_envs, lstm.hidden_size)
    states, starts = RNNStates((zeros, zeros), (zeros, zeros)), zeros.new_zeros(n_envs)
    found = []
    for started in (0, 0, 1):
        starts[:1] = started
        *collected, states = policy.forward(observations, states, starts)
        found += [*collected, *states.pi, *states.vf]
    return found


def _moved(update: StagedUpdate) -> tuple[Any, Parameters | None]:
    """Pretend that the policy has moved since the rollout, so that samples are clipped on both sides.

    :return: a minibatch, and old distributions that are not its own, so that the KL is not 0; None if none is needed
    """
    minibatch = update.first_minibatch()
    # Uneven ends: 0.2 or 0.3 would lie on the edge of a clip range, where rounding decides what the gradient is.
    shift = th.linspace(-0.4973, 0.5119, len(minibatch.advantages)).to(minibatch.advantages)
    moved = minibatch._replace(
        old_log_prob=minibatch.old_log_prob + shift, old_values=minibatch.old_values + shift.flip(0)
    )
    if not update.rules.needs_old_distribution:
        return moved, None
    assert update.form is not None
    assert update.trunk is not None
    with th.no_grad():  # of other states' outputs, but of the masks and features that the minibatch has
        output, latent = update.trunk.action_output(minibatch.observations)
        return moved, update.form.from_output(
            update.policy, output.roll(1, dims=0), Context(latent, masks_of(minibatch))
        )


def _evaluations_differ(found: Evaluation, expected: Evaluation, tolerance: float = _TOLERANCE) -> str | None:
    names = ("values", "log_prob", "entropy")
    pairs: list[Any] = [(name, getattr(found, name), getattr(expected, name)) for name in names]
    pairs += [("the distribution", f, e) for f, e in zip(found.parameters, expected.parameters)]
    return _first_difference(pairs, "policy.evaluate_actions()", tolerance)


def _first_difference(pairs: Any, ordinary: str, tolerance: float = _TOLERANCE) -> str | None:
    for name, found, expected in pairs:
        if found.shape != expected.shape:
            return f"{name} of shape {tuple(found.shape)} where {ordinary} gives {tuple(expected.shape)}"
        found, expected = found.detach().double(), expected.detach().double()
        usual = [x.abs() < _LARGEST for x in (found, expected)]  # not so NaN, infinity, and what stands for them
        unlike, both = usual[0] != usual[1], usual[0] & usual[1]
        smallest = 100 * _SMALLEST if name in _OF_LOGITS else _SMALLEST
        scale = max(float(expected[both].abs().max()) if both.any() else 0.0, smallest)
        worst = float((found - expected)[both].abs().max()) if both.any() else 0.0
        if unlike.any() or worst > tolerance * scale:
            return f"{name} differed from {ordinary} by {worst:.1e} in a check on the first data"
    return None


__all__ = [
    "arithmetic_difference",
    "cell_difference",
    "evaluation_difference",
    "forward_difference",
    "gradient_difference",
    "layout_difference",
    "sequence_difference",
    "step_difference",
]
