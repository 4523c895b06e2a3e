"""What the fast path replaces for a given model, and why not where it does not.

Every piece falls back on its own, down to the reference path. It does so where something about the model speaks
against it (its obstacle), or where a check on the model's own first data found a difference from the ordinary code. An
update gives the reference path's result to rounding, and a rollout takes the same random draws.
"""

import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch as th
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.fast_path import self_check
from sb3_ppo_variants.fast_path.cell_steps import CellSteps
from sb3_ppo_variants.fast_path.check_conditions import failure_or
from sb3_ppo_variants.fast_path.closed_forms import closed_form_of
from sb3_ppo_variants.fast_path.compiled_update import CompiledStep, CompiledUpdate, minibatches_per_graph
from sb3_ppo_variants.fast_path.fingerprint import changed_attribute, own_attributes, plain_attributes, same_fingerprint
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam
from sb3_ppo_variants.fast_path.interception import standing_in
from sb3_ppo_variants.fast_path.late_evaluation import evaluating_late
from sb3_ppo_variants.fast_path.lean_bootstrap import LeanBootstrap, bootstrap_obstacle, lean_bootstrap
from sb3_ppo_variants.fast_path.lean_buffer import lean_buffer
from sb3_ppo_variants.fast_path.lean_rollout import LeanForward, NumpyForward
from sb3_ppo_variants.fast_path.mlp_trunk import MlpTrunk
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyTrunk
from sb3_ppo_variants.fast_path.numpy_update import NumpyUpdate
from sb3_ppo_variants.fast_path.pieces import NO_IMAGES, PIECES, identity, images_obstacle
from sb3_ppo_variants.fast_path.recorded_forward import RecordedForward
from sb3_ppo_variants.fast_path.staged_update import StagedUpdate
from sb3_ppo_variants.fast_path.whole_sequences import SequenceUpdate
from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.policy_evaluation import measuring, own_observations
from sb3_ppo_variants.update.projection import PolicyLine, find_moving
from sb3_ppo_variants.update.reference_update import OwnOptimizer, ReferenceUpdate
from sb3_ppo_variants.vec_env.lean_vec_env import lean_steps

Update: TypeAlias = ReferenceUpdate | StagedUpdate
"""A path of the update loop."""


class Acceleration:
    """The fast path of one model: what is active, and what is kept between updates.

    :param algorithm: the model
    """

    def __init__(self, algorithm: UpdatedAlgorithm):
        self.algorithm = algorithm
        self.policy = algorithm.policy
        self.made_for = identity(algorithm)
        self.obstacles: dict[str, str | None] = {}
        self._refused: dict[str, str] = {}
        self._checked: set[str] = set()
        self._moving: list[th.Tensor] | None = None
        self._adam: FlatAdam | None = None
        self._trunk: MlpTrunk | None = None
        self._in_numpy: NumpyTrunk | None = None
        self._forward: LeanForward | None = None
        self._compiled: CompiledStep | None = None
        self._compiled_with: dict[str, Any] = {}
        self._bootstrap: LeanBootstrap | None = None
        self._choose()

    def __str__(self) -> str:
        return "; ".join(f"{piece}: {what}" for piece, what in self.report.items())

    @property
    def report(self) -> dict[str, str]:
        """Piece -> what is active, with the reason where it is the ordinary code."""
        found = {
            piece.name: piece.active if self.uses(piece.name) else f"{piece.ordinary} ({self.obstacles[piece.name]})"
            for piece in PIECES
        }
        if not isinstance(self.policy, RecurrentActorCriticPolicy):
            del found["sequences"], found["steps"]
        if images_obstacle(self.algorithm) == NO_IMAGES:
            del found["images"]
        del found["recording" if self.policy.device.type == "cpu" else "rollout"]
        return found

    def uses(self, name: str) -> bool:
        """Tell whether a piece is active.

        :param name: of the piece
        """
        return self.obstacles[name] is None

    def fits(self, algorithm: UpdatedAlgorithm) -> bool:
        """Tell whether this was made for the model as it is now.

        :param algorithm: whose policy, buffer or settings may have been replaced or edited
        """
        return same_fingerprint(self.made_for, identity(algorithm))

    def _still_fits(self) -> bool:
        return self.fits(self.algorithm)

    def adopt(self) -> None:
        """Take the parameters over, before anything is computed with them: their place in memory is for life."""
        intact = self._adam is not None and self._adam.intact()
        if not intact:
            self._choose()  # what was loaded may speak against a piece
        self._agree()
        if not self.uses("optimizer"):
            return
        if not intact:
            self._adam = FlatAdam(self.policy)
            self._trunk = self._in_numpy = self._forward = self._compiled = None  # for parameters in another place
        if "optimizer" not in self._checked:  # on all ranks, or on none
            assert self._adam is not None
            self._checked.add("optimizer")
            max_grad_norm = float(self.algorithm.max_grad_norm)
            self._refuse("optimizer", self_check.step_difference(self.policy, self._adam, max_grad_norm))

    def _distrust_graph(self) -> None:
        """Leave a graph whose constants change, as an annealed dropout: it would be compiled anew at every update."""
        if self._compiled is None or not self.uses("graph"):
            return
        self._compiled.check_again_if_changed(own_attributes(self.algorithm))
        changed = changed_attribute(plain_attributes(self.policy), self._compiled_with)
        if changed is not None:
            self._refused["graph"] = f"{changed} has changed, and a graph keeps what it was compiled with"
            self._choose()

    def _agree(self) -> None:
        """Use, and check, the same pieces on all ranks: how often they talk to each other depends on it."""
        ranks, mine = self.algorithm.ranks, (self.obstacles, sorted(self._checked))
        if ranks.size == 1:
            return
        digests = ranks.stack(th.tensor(zlib.crc32(repr(mine).encode())))
        if (digests == digests[0]).all():
            return
        for obstacles, checked in ranks.gather(mine):
            found = {name: why for name, why in obstacles.items() if why is not None and self.uses(name)}
            self._refused |= {name: f"not in another process: {why}" for name, why in found.items()}
            self._checked &= set(checked)  # what one has to check all check
        self._choose()

    def new_update(self) -> Update:
        """Begin an update on the fastest path that applies."""
        with np.errstate(all="ignore"):  # in checks, too
            self.adopt()
            self._distrust_graph()
            if self.uses("images"):
                self._agrees("images", partial(self_check.layout_difference, self.policy))
            while True:
                update = self._make_update()
                if not self._finds_difference(update):
                    return update

    def policy_line(self, update: Update) -> PolicyLine:
        """Remember where the policy is, to take it back towards there after the update.

        :param update: about to begin
        """
        if self._moving is None:
            self._moving = find_moving(self.policy, update.first_minibatch())
        return PolicyLine(self._moving, self.policy, update.first_minibatch)

    @contextmanager
    def lean_collection(self, env: VecEnv, callback: BaseCallback, buffer: RolloutBuffer) -> Iterator[None]:
        """Let policy, buffer and environments work lean, as far as they can, while the host collects a rollout.

        :param env: that it steps
        :param callback: the root of the training's callbacks
        :param buffer: that it fills
        """
        self.adopt()
        with ExitStack() as stack:
            forward, late = self._checked_forward() if self.uses("sampling") else None, None
            if isinstance(forward, NumpyForward):
                late = stack.enter_context(evaluating_late(forward, self.algorithm, env, callback, buffer))
            if self.algorithm.acceleration != "off":
                stack.enter_context(lean_steps(env))
                stack.enter_context(lean_buffer(buffer, late))
                if env.num_envs > 1 and bootstrap_obstacle(self.algorithm) is None:
                    self._bootstrap = stack.enter_context(lean_bootstrap(self.policy))
                    stack.callback(setattr, self, "_bootstrap", None)
            if forward is not None:
                stack.enter_context(standing_in(forward))
            if self.uses("steps") and self._agrees("steps", partial(self_check.cell_difference, self.policy)):
                stack.enter_context(standing_in(CellSteps(self.policy, self._still_fits)))
            yield
        if isinstance(forward, RecordedForward) and forward.failure is not None:
            self._fall_back("recording", forward.failure)

    def foresee_values(self, infos: list[dict[str, Any]], dones: Any) -> None:
        """Compute the values of a step's cut-off episodes together.

        :param infos: one for each environment
        :param dones: whether each environment's episode is over, shape (n_envs,)
        """
        if self._bootstrap is not None:
            self._bootstrap.foresee(infos, dones)

    def _choose(self) -> None:
        """Find what each piece has against it: it is switched off, was refused, lacks another piece, or the model."""
        off = "acceleration='off'" if self.algorithm.acceleration == "off" else None
        for piece in PIECES:
            missing = next((self.obstacles[name] for name in piece.needs if not self.uses(name)), None)
            known = off or self._refused.get(piece.name) or missing
            self.obstacles[piece.name] = known or piece.obstacle(self.algorithm)

    def _make_update(self) -> Update:
        algorithm, adam = self.algorithm, self._adam if self.uses("optimizer") else None
        stepper = OwnOptimizer(self.policy) if adam is None else adam
        if not self.uses("minibatches"):
            update = SequenceUpdate if self.uses("sequences") else ReferenceUpdate
            return update(algorithm, stepper)
        form = closed_form_of(self.policy) if self.uses("evaluation") else None
        if form is None or adam is None:
            return StagedUpdate(algorithm, form, stepper, None, self.uses("images"), self.uses("products"))
        if self.uses("backward") and self._trunk is None:
            self._trunk = MlpTrunk(self.policy, adam, self.uses("products"))
        trunk = self._trunk if self.uses("backward") else None
        if self.uses("graph"):
            if self._compiled is None:
                count = minibatches_per_graph(algorithm)
                self._compiled = CompiledStep(algorithm, form, adam, count, self._give_up_compiling)
                self._compiled_with = plain_attributes(self.policy)
            return CompiledUpdate(algorithm, form, adam, trunk, self._compiled, self.uses("images"))
        if self.uses("arithmetic") and trunk is not None:
            if self._in_numpy is None:
                self._in_numpy = NumpyTrunk(self.policy, adam, self.uses("products"))
            return NumpyUpdate(algorithm, form, adam, trunk, self._in_numpy)
        return StagedUpdate(algorithm, form, adam, trunk, self.uses("images"), self.uses("products"))

    def _finds_difference(self, update: Update) -> bool:
        """Check what the update uses for the first time; True if a piece was refused."""
        checks: dict[str, Callable[[], str | None]] = {}
        if isinstance(update, SequenceUpdate):
            checks["sequences"] = lambda: self_check.sequence_difference(self.policy, update.first_minibatch())
        if isinstance(update, StagedUpdate) and update.form is not None:
            checks["evaluation"] = lambda: self_check.evaluation_difference(update)
        if isinstance(update, StagedUpdate) and update.trunk is not None:
            checks["backward"] = lambda: self_check.gradient_difference(update, coefficients)
        if isinstance(update, NumpyUpdate):
            checks["arithmetic"] = lambda: self_check.arithmetic_difference(update, coefficients)
        if not checks.keys() <= self._checked:
            coefficients = self.algorithm.update_coefficients()  # a bad schedule's error is no failure of a check
        for name in [name for name in checks if name not in self._checked]:
            self._checked.add(name)
            if self._refuse(name, failure_or(checks[name])):
                return True
        return False

    def _checked_forward(self) -> LeanForward | None:
        """Return the leanest forward pass that does what the policy's does."""
        for name, kind in (("rollout", NumpyForward), ("recording", RecordedForward), ("sampling", LeanForward)):
            if not self.uses(name):
                continue
            if type(self._forward) is not kind or not self.uses("optimizer"):  # others may have moved in memory
                self._forward = kind(self.policy, self._still_fits)
            if self._agrees(name, partial(self_check.forward_difference, self.policy, self._forward)):
                return self._forward
        return None

    def _agrees(self, name: str, difference: Callable[[Any], str | None]) -> bool:
        """Check a piece on the last observations, once, in evaluation mode; True if it serves.

        :param name: of an active piece
        :param difference: says what differs, given observations
        """
        last_obs = self.algorithm._last_obs
        if name not in self._checked and last_obs is not None:
            self._checked.add(name)
            with measuring(self.policy), np.errstate(all="ignore"):
                observations = obs_as_tensor(last_obs, self.policy.device)  # the algorithm's own memory
                self._refuse(name, failure_or(lambda: difference(own_observations(self.policy, observations))))
        return self.uses(name)

    def _refuse(self, name: str, difference: str | None) -> bool:
        if not self.algorithm.ranks.any(difference is not None):  # all ranks take the same path
            return False
        self._fall_back(name, difference or "it differed from it in another process")
        return True

    def _fall_back(self, name: str, reason: str) -> None:
        self._refused[name] = reason
        self._choose()
        warnings.warn(f"{name} of the fast path falls back to the ordinary code: {reason}", stacklevel=2)

    def _give_up_compiling(self, reason: str) -> None:
        """Go on without torch.compile: there is no C++ compiler, or the policy does something it cannot trace."""
        self._refused["graph"] = reason
        self._choose()
        if self.algorithm.verbose >= 1:
            print(f"Acceleration: {self}")
