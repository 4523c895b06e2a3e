"""The whole minibatch step, forward to Adam, as one torch.compile graph over several minibatches."""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch as th
from torch import nn

from sb3_ppo_variants.fast_path.closed_forms import evaluate_closed_form
from sb3_ppo_variants.fast_path.compiler import Graph, easy_to_differentiate, first_line, most_apart
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam, clipping_factor
from sb3_ppo_variants.fast_path.graph_recording import collection_paused, free_generator
from sb3_ppo_variants.fast_path.mlp_trunk import MlpTrunk
from sb3_ppo_variants.fast_path.staged_update import StagedUpdate
from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.distributions import ActionDistribution
from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.minibatches import part_of
from sb3_ppo_variants.update.update_metrics import METRICS, TraceRecorder

_MOST_MINIBATCHES_PER_GRAPH = 4
_CALLS_OF_A_RECORDING = 3  # on a GPU torch's first call is a warm-up, the second one records, the third one replays


class _Loss(nn.Module):
    """A module for ``functional_call``: closed-form evaluation and loss, whose terms may ask the policy, too."""

    def __init__(self, algorithm: UpdatedAlgorithm, form: ActionDistribution):
        super().__init__()
        self.policy: Any = algorithm.policy
        self.algorithm = algorithm
        self.form = form

    def forward(self, minibatch: Any, old: Parameters | None, c: dict[str, Number]) -> Any:
        evaluation = evaluate_closed_form(self.policy, self.form, minibatch)
        return self.algorithm.minibatch_loss(minibatch, evaluation, old, c)


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
        on_failure: Callable[[str], None],
    ):
        self.adam = adam
        adam.prepare_for_graphs()
        self._on_gpu = adam.flat.is_cuda
        self.usable = True
        self._on_failure = on_failure
        self.minibatches_per_graph = minibatches_per_graph
        self._most_apart = most_apart(algorithm.policy)
        self._agreements, self._agreements_needed = 0, _CALLS_OF_A_RECORDING if self._on_gpu else 1
        self._attributes: dict[str, str] = {}
        self._numbers: list[float] = []
        self._sent: th.Tensor  # the same, where the graph reads them
        loss = _Loss(algorithm, form)
        names = [name for name, _ in loss.named_parameters()]
        coefficient_names: list[str] = []
        self._coefficient_names = coefficient_names

        def loss_of(flat: th.Tensor, minibatch: Any, old: Parameters | None, c: dict[str, Number]) -> Any:
            parameters = dict(zip(names, map(easy_to_differentiate, adam.views(flat))))
            # No layers share parameters (Acceleration sees to it); SB3's two names for one extractor confuse the tracer
            # unless tie_weights is off.
            return th.func.functional_call(loss, parameters, (minibatch, old, c), tie_weights=False)

        gradient_of = th.func.grad(loss_of, has_aux=True)

        def steps_of(rows: Any, old: Parameters | None, vector: th.Tensor) -> th.Tensor:
            values = vector.unbind()
            c: dict[str, Number] = dict(zip(coefficient_names, values[:-1]))
            metrics = []
            for i in range(minibatches_per_graph):
                minibatch = part_of(rows, i, minibatches_per_graph)
                gradient, row = gradient_of(adam.flat, minibatch, part_of(old, i, minibatches_per_graph), c)
                with th.no_grad():
                    norm = _adam_step(adam, gradient, algorithm.max_grad_norm, values[-1], row.loss)
                    metrics.append(row._replace(grad_norm=norm, skipped=adam.skipped).row())
            return th.stack(metrics)

        self._graph = Graph(steps_of, self._on_gpu)

    def __call__(self, rows: Any, old: Parameters | None, coefficients: dict[str, Number]) -> th.Tensor | None:
        """Take the steps.

        :param rows: as many minibatches of the host's NamedTuple as the graph takes, one after the other
        :param old: parameters of the distribution before the update, if the loss needs them
        :param coefficients: of this epoch
        :return: metrics, shape (minibatches_per_graph, n_metrics); None if it failed, maybe after some of the steps
        """
        try:
            vector = self._vector(coefficients)
        except (TypeError, ValueError) as error:
            self.give_up(str(error))
            return None
        try:
            with collection_paused() if self._on_gpu else nullcontext():
                metrics: th.Tensor = self._graph(rows, old, vector)
        except Exception as error:  # no common base class: torch's tracer, its code generator, the C++ compiler
            if self.is_checked:
                raise
            if self._on_gpu:
                free_generator(self.adam.flat.device)
            self.give_up(f"compiling failed: {first_line(error)}")
            return None
        return metrics.clone() if self._on_gpu else metrics  # the next replay of a CUDA graph writes there again

    @property
    def is_checked(self) -> bool:
        """Whether the graph's steps have agreed with the ordinary ones, as often as a call does something new."""
        return self._agreements >= self._agreements_needed

    def _vector(self, coefficients: dict[str, Number]) -> th.Tensor:
        """Return what changes from call to call as one tensor, in the order that was traced."""
        names = self._coefficient_names
        if not names:
            names[:] = list(coefficients)
        if coefficients.keys() != set(names):
            raise ValueError(f"the coefficients are {sorted(coefficients)}, and were {sorted(names)} at first")
        given = [*(coefficients[name] for name in names), self.adam.optimizer.param_groups[0]["lr"]]
        numbers = [float(number) for number in given]
        if numbers != self._numbers:  # once per epoch: to bring them to a GPU is to wait for it
            self._numbers, self._sent = numbers, th.tensor(numbers, dtype=th.float32, device=self.adam.flat.device)
        return self._sent

    def give_up(self, reason: str) -> None:
        """Use the graph no more.

        :param reason: for the report
        """
        self.usable = False
        self._on_failure(reason)

    def check_again_if_changed(self, attributes: dict[str, str]) -> None:
        """Have the next steps compared again if the graph may hold a number that has changed since.

        :param attributes: of the model, by name
        """
        if attributes != self._attributes:
            self._agreements = 0
        self._attributes = attributes

    def agrees(self, momentum: th.Tensor) -> bool:
        """Compare the graph's steps with the same ones, taken again by the ordinary code; give it up if they differ.

        :param momentum: Adam's first moment after the graph's steps; a step from a gradient near 0 is mostly rounding
        """
        apart, size = float((momentum - self.adam.exp_avg).norm()), float(self.adam.exp_avg.norm())
        if not (math.isfinite(apart) and math.isfinite(size)):  # nothing was learned about the graph
            return False
        self._agreements += 1
        if apart > self._most_apart * size:
            self.give_up(f"its gradients differ by {apart / size:.1e} from those without a graph")
        return self.usable


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

        Steps of a graph that failed, or went beyond a rule that ends the update before a step, are taken back, and
        those that count taken again one by one. So are those of a graph's first calls, to be compared.

        :param rows: from :meth:`minibatches`
        :param coefficients: of this epoch
        :return: metrics, shape (n, n_metrics), and True if the update must stop (then the last step was not taken)
        """
        stop = self.rules.stop_before_step
        compiled, unproven = self.compiled, None
        if compiled.usable and len(rows) == self.batch_size * compiled.minibatches_per_graph:
            before = None if stop is None and compiled.is_checked else compiled.adam.snapshot()
            metrics = compiled(self.rollout.select(rows), self.old_parameters(rows), coefficients)
            stops = metrics is not None and stop is not None and stop.passed_in(metrics, self.metric_names)
            if metrics is not None and not stops:
                if compiled.is_checked:
                    return metrics, False
                unproven = metrics, compiled.adam.snapshot()
            if before is not None:
                compiled.adam.restore(before)
        steps = []
        for part in rows.split(self.batch_size):
            row, stopped = super().step(part, coefficients)
            steps.append(row)
            if stopped:
                break
        if compiled.usable and compiled.adam.own is not None:
            compiled.give_up("a parameter has no gradient: torch's Adam leaves it alone, a graph does not")
        elif unproven is not None and not stopped and compiled.agrees(unproven[1][1]):
            compiled.adam.restore(unproven[1])  # so that a resumed run, which checks anew, equals one that went on
            return unproven[0], False
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
    bias1, bias2 = state.bias_corrections()
    change = exp_avg / (exp_avg_sq.sqrt() / bias2.sqrt() + state.eps) * (learning_rate / bias1)
    state.flat.sub_(th.where(skipped, 0.0, change))
    state.exp_avg.copy_(exp_avg)
    state.exp_avg_sq.copy_(exp_avg_sq)
    return norm


def minibatches_per_graph(algorithm: UpdatedAlgorithm) -> int:
    """Choose how many minibatches one graph takes: a divisor of an epoch's full minibatches, at most four.

    Where the KL is watched during the update, no graph goes beyond a minibatch after which it is checked.

    :param algorithm: the model
    """
    rows, size = algorithm.rollout_buffer.buffer_size * algorithm.n_envs, int(algorithm.batch_size)
    whole = rows // size
    ends = [whole]
    if algorithm.update_rules().watches_kl:
        ends += TraceRecorder.checked_after(-(-rows // size))
    return max(k for k in range(1, _MOST_MINIBATCHES_PER_GRAPH + 1) if not any(end % k for end in ends if end <= whole))
