"""The whole minibatch step, forward to Adam, as one torch.compile graph over several minibatches."""

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn

from sb3_ppo_variants.fast_path.closed_forms import evaluate_closed_form, evaluate_inputs
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam, clipping_factor
from sb3_ppo_variants.fast_path.mlp_trunk import MlpTrunk
from sb3_ppo_variants.fast_path.staged_update import StagedUpdate
from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.distributions import ActionDistribution
from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.policy_evaluation import Evaluation
from sb3_ppo_variants.update.update_metrics import METRICS, TraceRecorder

_MOST_MINIBATCHES_PER_GRAPH = 4


class _Evaluator(nn.Module):
    """Gives ``functional_call`` a module whose forward is the closed-form evaluation.

    SB3's preprocessing asks at every call whether the space is one of images, which cannot be traced: for arrays it is
    done here, by the answer found once.
    """

    def __init__(self, policy: Any, form: ActionDistribution):
        super().__init__()
        self.policy = policy
        self.form = form
        space = policy.observation_space
        self.is_array = isinstance(space, spaces.Box)
        self.divisor = 255.0 if self.is_array and policy.normalize_images and is_image_space(space) else 1.0

    def forward(self, minibatch: Any) -> tuple[th.Tensor, th.Tensor, th.Tensor, Parameters]:
        policy, form = self.policy, self.form
        if not self.is_array:
            evaluation = evaluate_closed_form(policy, form, minibatch)
        else:
            inputs = minibatch.observations.float() / self.divisor
            evaluation = evaluate_inputs(policy, form, inputs, minibatch)
        return evaluation.values, evaluation.log_prob, evaluation.entropy, evaluation.parameters


class CompiledStep:
    """Compiled function of a model, kept over its updates.

    Everything that changes from update to update (coefficients, learning rate, step count) enters as a tensor, so that
    nothing is compiled again.

    :param algorithm: the model
    :param form: closed form of its policy
    :param adam: flat optimiser of its policy
    :param minibatches_per_graph: how many optimiser steps one call takes
    :param on_failure: told why, if compiling fails
    """

    def __init__(
        self,
        algorithm: UpdatedAlgorithm,
        form: ActionDistribution,
        adam: FlatAdam,
        minibatches_per_graph: int,
        on_failure: Callable[[Exception], None],
    ):
        self.adam = adam
        adam.prepare_for_graphs()
        self._on_gpu = adam.flat.is_cuda
        self.usable = True
        self._on_failure = on_failure
        self._has_run = False
        self.minibatches_per_graph = minibatches_per_graph
        evaluator = _Evaluator(algorithm.policy, form)
        names = [name for name, _ in evaluator.named_parameters()]
        coefficient_names: list[str] = []
        self._coefficient_names = coefficient_names

        def loss_of(flat: th.Tensor, minibatch: Any, old: Parameters | None, c: dict[str, Number]) -> Any:
            parameters = dict(zip(names, adam.views(flat)))
            # No layers share parameters (Acceleration sees to it); SB3's two names for one extractor confuse the tracer
            # unless tie_weights is off.
            values, log_prob, entropy, new = th.func.functional_call(
                evaluator, parameters, (minibatch,), tie_weights=False
            )
            return algorithm.minibatch_loss(minibatch, Evaluation(values, log_prob, entropy, form, new), old, c)

        gradient_of = th.func.grad(loss_of, has_aux=True)

        def steps_of(rows: Any, old: Parameters | None, vector: th.Tensor) -> th.Tensor:
            values = vector.unbind()
            c: dict[str, Number] = dict(zip(coefficient_names, values[:-1]))
            metrics = []
            for i in range(minibatches_per_graph):
                minibatch = _part(rows, i, minibatches_per_graph)
                gradient, row = gradient_of(adam.flat, minibatch, _part(old, i, minibatches_per_graph), c)
                with th.no_grad():
                    norm = _adam_step(adam, gradient, algorithm.max_grad_norm, values[-1], row.loss)
                    metrics.append(row._replace(grad_norm=norm, skipped=adam.skipped).row())
            return th.stack(metrics)

        # A code object of its own: dynamo counts recompilations per code object, and every model compiles once.
        own = types.FunctionType(steps_of.__code__.replace(), globals(), "steps_of", None, steps_of.__closure__)
        options = _compiler_options(self._on_gpu)
        with _validation_kept():
            self._compiled: Callable[..., th.Tensor] = th.compile(own, fullgraph=True, dynamic=False, options=options)

    def __call__(self, rows: Any, old: Parameters | None, coefficients: dict[str, Number]) -> th.Tensor | None:
        """Take the steps.

        :param rows: as many minibatches of the host's NamedTuple as the graph takes, one after the other
        :param old: parameters of the distribution before the update, if the loss needs them
        :param coefficients: of this epoch
        :return: metrics, shape (minibatches_per_graph, n_metrics); None if compiling failed, then no step was taken
        """
        self._coefficient_names[:] = list(coefficients)
        learning_rate = self.adam.optimizer.param_groups[0]["lr"]
        vector = th.tensor([*coefficients.values(), learning_rate], dtype=th.float32, device=self.adam.flat.device)
        try:
            with nullcontext() if self._has_run else _validation_kept():
                metrics = self._compiled(rows, old, vector)
        except Exception as error:  # no common base class: torch's tracer, its code generator, the C++ compiler
            if self._has_run:
                raise
            self.usable = False
            self._on_failure(error)
            return None
        self._has_run = True
        return metrics.clone() if self._on_gpu else metrics  # the next replay of a CUDA graph writes there again


class CompiledUpdate(StagedUpdate):
    """A staged update whose full minibatches go through a compiled graph; a remainder takes the eager step.

    :param algorithm: whose rollout buffer is full
    :param form: closed form of the policy
    :param adam: flat optimiser
    :param trunk: for the remainder
    :param compiled: the model's compiled function
    :param channels_last: whether images lie so in memory
    """

    def __init__(
        self,
        algorithm: UpdatedAlgorithm,
        form: ActionDistribution,
        adam: FlatAdam,
        trunk: MlpTrunk | None,
        compiled: CompiledStep,
        channels_last: bool,
    ):
        super().__init__(algorithm, form, adam, trunk, channels_last)
        self.compiled = compiled
        self.metric_names = (*METRICS, *algorithm.extra_metric_names)

    def minibatches(self) -> Iterator[th.Tensor]:
        """Yield the rows of several full minibatches at a time, then of the remaining ones one by one."""
        batch_size = self.batch_size
        rows = self.rollout.shuffled_rows()
        together = batch_size * self.compiled.minibatches_per_graph
        whole = len(rows) // together * together
        yield from rows[:whole].split(together)
        if whole < len(rows):
            yield from rows[whole:].split(batch_size)

    def step(self, rows: th.Tensor, coefficients: dict[str, Number]) -> tuple[th.Tensor, bool]:
        """Take the steps of one graph, or of one minibatch.

        A rule that ends the update before a step is looked at after the graph: if it did apply, the graph's steps are
        taken back, and those before the stop are taken again one by one.

        :param rows: from :meth:`minibatches`
        :param coefficients: of this epoch
        :return: metrics, shape (n, n_metrics), and True if the update must stop (then the last step was not taken)
        """
        stop = self.rules.stop_before_step
        if self.compiled.usable and len(rows) == self.batch_size * self.compiled.minibatches_per_graph:
            before = None if stop is None else self.compiled.adam.snapshot()
            metrics = self.compiled(self.rollout.select(rows), self.old_parameters(rows), coefficients)
            if metrics is not None and (stop is None or not stop.passed_in(metrics, self.metric_names)):
                return metrics, False
            if before is not None:
                self.compiled.adam.restore(before)
        steps = []
        for part in rows.split(self.batch_size):
            row, stopped = super().step(part, coefficients)
            steps.append(row)
            if stopped:
                break
        return th.stack(steps), stopped


def _adam_step(
    state: FlatAdam, gradient: th.Tensor, max_grad_norm: float, learning_rate: th.Tensor, loss: th.Tensor
) -> th.Tensor:
    """Do what :meth:`FlatAdam.step` does in plain operations that torch.compile fuses.

    :param state: parameters, moments and constants
    :param gradient: as long as ``state.flat``
    :param max_grad_norm: as in ``clip_grad_norm_``
    :param learning_rate: scalar
    :param loss: that the gradient belongs to, scalar
    :return: norm before clipping, scalar
    """
    norm: th.Tensor = th.linalg.vector_norm(gradient)
    state.note_skip(norm, loss)
    skipped = state.skipped.bool()
    state.step_count.add_(1 - state.skipped)
    gradient = gradient * clipping_factor(norm, max_grad_norm)
    state.gradient.copy_(gradient)
    exp_avg = th.where(skipped, state.exp_avg, state.exp_avg.lerp(gradient, 1 - state.beta1))
    exp_avg_sq = (state.exp_avg_sq * state.beta2).addcmul(gradient, gradient, value=1 - state.beta2)
    exp_avg_sq = th.where(skipped, state.exp_avg_sq, exp_avg_sq)
    bias1, bias2 = 1 - state.beta1**state.step_count, 1 - state.beta2**state.step_count
    change = exp_avg / (exp_avg_sq.sqrt() / bias2.sqrt() + state.eps) * (learning_rate / bias1)
    state.flat.sub_(th.where(skipped, 0.0, change))
    state.exp_avg.copy_(exp_avg)
    state.exp_avg_sq.copy_(exp_avg_sq)
    return norm


def _compiler_options(on_gpu: bool) -> dict[str, Any]:
    # No guards: checking at every call that nothing changed costs as much as a minibatch. Shapes are fixed by
    # CompiledUpdate, and Acceleration makes a new CompiledStep when a setting or an object of the model changes.
    options: dict[str, Any] = {"guard_filter_fn": lambda guards: [False] * len(guards)}
    options["triton.cudagraphs" if on_gpu else "cpp_wrapper"] = True
    tanh_from_exp = "cpp.use_decompose_tanh"  # accurate to 1e-7; the compiler's own tanh takes six times as long
    if tanh_from_exp in th._inductor.list_options():
        options[tanh_from_exp] = True
    return options


@contextmanager
def _validation_kept() -> Iterator[None]:
    """Keep the argument checks of torch.distributions, which torch.compile switches off for the whole process."""
    distribution: Any = th.distributions.Distribution
    validates = distribution._validate_args
    try:
        yield
    finally:
        distribution.set_default_validate_args(validates)


def minibatches_per_graph(algorithm: UpdatedAlgorithm) -> int:
    """Choose how many minibatches one graph takes: a divisor of an epoch's full minibatches, at most four.

    Where the KL is watched during the update, graphs are short enough for it to be checked about as often as elsewhere.

    :param algorithm: the model
    """
    whole = algorithm.rollout_buffer.buffer_size * algorithm.n_envs // int(algorithm.batch_size)
    most = _MOST_MINIBATCHES_PER_GRAPH
    if algorithm.update_rules().watches_kl:
        most = max(1, min(most, whole // TraceRecorder.checks_per_epoch))
    return max(k for k in range(1, most + 1) if whole % k == 0)


def _part(fields: Any, index: int, parts: int) -> Any:
    """Cut one minibatch out of several that lie one after the other; works on NamedTuples, tuples and dicts."""
    if fields is None:
        return None
    if isinstance(fields, dict):
        return {key: _part(value, index, parts) for key, value in fields.items()}
    if isinstance(fields, th.Tensor):
        size = len(fields) // parts
        return fields[index * size : (index + 1) * size]
    pieces = [_part(field, index, parts) for field in fields]
    return type(fields)(*pieces) if hasattr(fields, "_fields") else tuple(pieces)
