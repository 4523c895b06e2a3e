"""What the fast path replaces for a given model, and why not where it does not.

Every piece falls back on its own, down to the reference path. An update gives the reference path's result to rounding;
a rollout draws its actions from numpy's generator instead of torch's, so that a whole run is another sample of the same
training, not the same numbers.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch as th

from sb3_ppo_variants.fast_path.closed_forms import closed_form
from sb3_ppo_variants.fast_path.compiled_update import CompiledStep, CompiledUpdate, minibatches_per_graph
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam, supports_flat_adam
from sb3_ppo_variants.fast_path.lean_buffer import lean_buffer
from sb3_ppo_variants.fast_path.lean_rollout import LeanForward, lean_forward, lean_forward_obstacle
from sb3_ppo_variants.fast_path.mlp_trunk import MlpTrunk, plain_mlp_obstacle
from sb3_ppo_variants.fast_path.staged_update import StagedUpdate
from sb3_ppo_variants.fast_path.whole_sequences import SequenceUpdate, whole_sequences_obstacle
from sb3_ppo_variants.fast_path.written_gradient import written_gradient_obstacle
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.minibatches import can_be_staged
from sb3_ppo_variants.update.reference_update import OwnOptimizer, ReferenceUpdate, Stepper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from sb3_ppo_variants.algorithms.policy_update import PolicyUpdateMixin


class Update(Protocol):
    """What the update loop needs of a path: reference, staged or compiled."""

    def minibatches(self) -> Iterator[Any]: ...

    def step(self, minibatch: Any, coefficients: dict[str, Number]) -> tuple[th.Tensor, bool]: ...

    def kl_divergence(self) -> float: ...

    @property
    def stepper(self) -> Stepper: ...


@dataclass
class Acceleration:
    """The fast path of one model: what is active, and what is kept between updates.

    :param algorithm: the model
    :param report: piece -> what is active, with the reason where it is the ordinary code
    """

    algorithm: PolicyUpdateMixin
    report: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        algorithm, policy = self.algorithm, self.algorithm.policy
        self.policy = policy
        self.made_for = _identity(algorithm)
        wanted = algorithm.acceleration != "off"
        self.staged = wanted and can_be_staged(algorithm.rollout_buffer)
        self.sequences = wanted and whole_sequences_obstacle(policy, algorithm.rollout_buffer) is None
        self.form = closed_form(policy) if self.staged else None
        self.flat_obstacle = supports_flat_adam(policy)
        self.flat = (self.staged or self.sequences) and self.flat_obstacle is None
        self.rollout_obstacle = lean_forward_obstacle(policy)
        self.lean = wanted and self.rollout_obstacle is None
        self.compile_obstacle = self._find_compile_obstacle()
        self.trunk_obstacle = self._find_trunk_obstacle()
        self._adam: FlatAdam | None = None
        self._trunk: MlpTrunk | None = None
        self._compiled: CompiledStep | None = None
        self._describe()

    def __str__(self) -> str:
        return "; ".join(f"{piece}: {what}" for piece, what in self.report.items())

    def fits(self, algorithm: PolicyUpdateMixin) -> bool:
        """Tell whether this was made for the model as it is now.

        :param algorithm: whose policy, buffer or settings may have been replaced
        """
        return self.made_for == _identity(algorithm)

    def new_update(self) -> Update:
        """Begin an update on the fastest path that applies."""
        algorithm = self.algorithm
        if self.flat and (self._adam is None or not self._adam.intact()):
            self._adam = FlatAdam(self.policy)
            self._trunk = MlpTrunk(self.policy, self._adam) if self.trunk_obstacle is None else None
            self._compiled = None
        stepper = OwnOptimizer(self.policy) if self._adam is None else self._adam
        if not self.staged:
            return SequenceUpdate(algorithm, stepper) if self.sequences else ReferenceUpdate(algorithm, stepper)
        if self.compile_obstacle is not None or self.form is None or self._adam is None:
            return StagedUpdate(algorithm, self.form, stepper, self._trunk)
        if self._compiled is None:
            count = minibatches_per_graph(algorithm)
            self._compiled = CompiledStep(algorithm, self.form, self._adam, count, self._give_up_compiling)
        return CompiledUpdate(algorithm, self.form, self._adam, self._trunk, self._compiled)

    @contextmanager
    def lean_collection(self) -> Iterator[None]:
        """Let policy and buffer work lean, as far as they can, while the host collects the next rollout."""
        with ExitStack() as stack:
            if self.algorithm.acceleration != "off":
                stack.enter_context(lean_buffer(self.algorithm.rollout_buffer, plain=self.lean))
            if self.lean:
                stack.enter_context(lean_forward(LeanForward(self.policy)))
            yield

    def _give_up_compiling(self, error: Exception) -> None:
        """Go on without torch.compile: there is no C++ compiler, or the policy does something it cannot trace."""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        self.compile_obstacle = f"compiling failed: {type(error).__name__}: {reason}"
        self._describe()
        if self.algorithm.verbose >= 1:
            print(f"Acceleration: {self}")

    def _find_trunk_obstacle(self) -> str | None:
        if self.form is None:
            return "the policy has no closed form"
        if not self.flat:
            return "it goes with Adam on one flat tensor"
        return plain_mlp_obstacle(self.policy) or written_gradient_obstacle(self.algorithm)

    def _find_compile_obstacle(self) -> str | None:
        algorithm = self.algorithm
        if algorithm.acceleration != "compile":
            return "not asked for"
        if self.form is None:
            return "the policy has no closed form"
        if not self.flat:
            return self.flat_obstacle
        own_parameters = [p for module in self.policy.modules() for p in module.parameters(recurse=False)]
        if len(own_parameters) > len(list(self.policy.parameters())):
            return "layers share parameters"
        if algorithm.may_stop_within_epoch():
            return "early stopping on each minibatch reads one number back per step"
        if algorithm.batch_size > algorithm.rollout_buffer.buffer_size * algorithm.n_envs:
            return "the rollout is smaller than one minibatch"
        return None

    def _describe(self) -> None:
        off = "acceleration='off'" if self.algorithm.acceleration == "off" else None

        def entry(active: str, ordinary: str, obstacle: str | None) -> str:
            return active if obstacle is None else f"{ordinary} ({obstacle})"

        staging = None if self.staged else "the buffer's minibatches are not rows of one rollout"
        sequences = "policy.evaluate_actions() in whole sequences" if self.sequences else None
        one_by_one = None if self.sequences else staging
        form = None if self.form is not None else "the policy overrides its evaluation or has no closed form"
        self.report.update(
            minibatches=entry("staged on the device", "rollout_buffer.get()", off or staging),
            evaluation=sequences or entry("closed form", "policy.evaluate_actions()", off or staging or form),
            backward=entry("written out", "autograd", off or staging or self.trunk_obstacle),
            optimizer=entry("Adam on one flat tensor", "policy.optimizer", off or one_by_one or self.flat_obstacle),
            graph=entry("torch.compile", "eager", off or self.compile_obstacle),
            rollout=entry("numpy forward pass", "policy.forward()", off or self.rollout_obstacle),
        )


# Constructor arguments that enter an update as numbers, or not at all: a new value needs no new fast path.
_FREE_TO_CHANGE = {
    *("learning_rate", "ent_coef", "vf_coef", "target_kl", "clip_range", "clip_range_upper", "initial_beta"),
    *("n_epochs", "verbose", "seed", "tensorboard_log", "stats_window_size"),
}


def _identity(algorithm: PolicyUpdateMixin) -> tuple[object, ...]:
    """Everything that the choice of pieces, or a compiled graph, depends on: graphs themselves check nothing."""
    parameters: Iterable[str] = type(algorithm).__signature__.parameters  # type: ignore[attr-defined]  # set per class
    values = [getattr(algorithm, name, None) for name in parameters if name not in _FREE_TO_CHANGE]
    settings = [value for value in values if value is None or isinstance(value, (str, bool, int, float, tuple))]
    objects = (algorithm.policy, algorithm.policy.optimizer, algorithm.rollout_buffer)
    return (*map(id, objects), algorithm.may_stop_within_epoch(), algorithm.watches_kl(), *settings)
