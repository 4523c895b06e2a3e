"""The one update loop of the package, for every host under SB3's OnPolicyAlgorithm.

A variant is a mixin over :class:`PolicyUpdateMixin`. It overrides some of these hooks and calls ``super()``:
``update_coefficients`` (numbers of the next epoch); ``surrogate`` and ``kl_penalty`` (terms of the loss, in
``minibatch_loss.py``); ``after_check``, ``after_epoch`` and ``after_update`` (what to do with a measured KL);
``check_arguments``.
"""

import math
from typing import Any, ClassVar, Literal, TypeVar

import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.algorithms.minibatch_loss import LossMixin
from sb3_ppo_variants.algorithms.update_log import log_update
from sb3_ppo_variants.arguments import checks, masks, schedules, signatures, supported_spaces
from sb3_ppo_variants.distributed.ranks import ends_all_ranks
from sb3_ppo_variants.fast_path.acceleration import Acceleration, Update
from sb3_ppo_variants.saving.loading import LoadingMixin
from sb3_ppo_variants.update import nonfinite, scaled_schedule
from sb3_ppo_variants.update.losses import Number, ValueClipping, ValueLoss
from sb3_ppo_variants.update.projection import Projection
from sb3_ppo_variants.update.rules import UpdateRules
from sb3_ppo_variants.update.update_metrics import TraceRecorder, UpdateTrace
from sb3_ppo_variants.vec_env.acceptance import VectorEnvMixin

Model = TypeVar("Model", bound="PolicyUpdateMixin")

_MADE_ANEW = ("_acceleration", "_trace", "_ranks", "_schedule_values")  # in a loaded model, as functions have no pickle


class PolicyUpdateMixin(LoadingMixin, VectorEnvMixin, LossMixin):
    """PPO's policy update with exchangeable terms; place it before a host: ``class New(Mixin, PPO)``.

    :param value_clipping: form of the value loss when ``clip_range_vf`` is given: ``"pessimistic"`` = mean of the
        larger of clipped and unclipped squared error (PPO2), ``"sb3"`` = the clipped error only (stock PPO)
    :param value_clip_scale: ``"absolute"``: ``clip_range_vf`` is in return units; ``"return_std"``: in standard
        deviations of the rollout's returns, so that it does not depend on the reward's scale
    :param value_loss: ``"mse"`` or ``"huber"`` (torch's, delta = 1)
    :param max_kl: largest exact KL of an update, > 0, nats per state; None for no limit
    :param on_max_kl: ``"project"``: run all epochs, then take the policy back on the straight line to the old one until
        the KL over the rollout is within ``max_kl``, exactly; ``"stop"``: end the update once the KL, checked up to 16
        times per epoch on the minibatches since the last check, is larger: the value function loses steps, too
    :param acceleration: ``"off"``: stock order and arithmetic, bit-identical to the host; ``"eager"``: the fast path;
        ``"compile"``: the fast path as torch.compile graphs. ``model.acceleration_report()`` says what is active
    :param on_nonfinite: ``"raise"``: NaN or infinity in the rollout, a loss or a gradient ends the update before a
        parameter is harmed; ``"skip"``: such minibatches are left out, up to half of an update's. NaN in the policy's
        output always raises where torch's distributions are made of it, as with ``acceleration="off"``
    :raises ValueError: for a value outside its range
    :raises TypeError: for an unknown keyword
    """

    host_defaults: ClassVar[dict[str, Any]] = {}
    named_max_kl: ClassVar[tuple[str, ...]] = ()

    n_epochs: int
    batch_size: Any  # int: two hosts declare int | None, but None is refused
    last_update: UpdateTrace | None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__signature__ = signatures.merged_signature(cls, LossMixin)  # type: ignore[attr-defined]  # for help()
        cls.__doc__ = signatures.merged_docstring(cls, LossMixin)

    def __init__(
        self,
        *args: Any,
        value_clipping: ValueClipping = "pessimistic",
        value_clip_scale: Literal["absolute", "return_std"] = "absolute",
        value_loss: ValueLoss = "mse",
        max_kl: float | str | None = None,
        on_max_kl: Literal["project", "stop"] = "project",
        acceleration: Literal["off", "eager", "compile"] = "eager",
        on_nonfinite: Literal["raise", "skip"] = "raise",
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        given = signatures.bind_host_arguments(type(self), LossMixin, args, kwargs)
        if not self.ranks.first:
            given |= {"verbose": 0, "tensorboard_log": None}
        self.value_clipping = value_clipping
        self.value_clip_scale = value_clip_scale
        self.value_loss = value_loss
        self.max_kl = max_kl
        self.on_max_kl = on_max_kl
        self.acceleration = acceleration
        self.on_nonfinite = on_nonfinite
        checks.check_sizes(*signatures.values_of(type(self), given, "n_steps", "batch_size", "normalize_advantage"))
        self.last_update = None
        self._trace: TraceRecorder | None = None  # of the update being made
        self._acceleration: Acceleration | None = None
        super().__init__(**given, _init_setup_model=False)  # the host's own arguments
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self.check_arguments()  # here, so that load() with changed arguments is checked too
        if self.clip_range is None:
            self.clip_range = math.inf  # no clipping; the attribute stays a schedule for life
        super()._setup_model()

    def check_arguments(self) -> None:
        """Refuse bad input before any network is built, and before each training, when a clip range is a schedule.

        :raises ValueError: naming the rule, the value and a way out
        """
        checks.check_shared(self)
        schedules.check_schedules(self)
        supported_spaces.check_action_space(self.action_space)
        supported_spaces.check_observation_space(self)

    def learn(
        self: Model,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Model:
        """Train as the host does, with its further arguments; in TensorBoard the run has the name of the class.

        :param total_timesteps: as in SB3, like the next two
        :param callback: as in SB3
        :param log_interval: as in SB3
        :param tb_log_name: of the run in TensorBoard; None for the name of the class
        """
        super().learn(total_timesteps, callback, log_interval, tb_log_name or type(self).__name__, *args, **kwargs)
        return self

    # ------------------------------------------------------------------------------------------------ the update loop

    @ends_all_ranks
    def train(self) -> None:
        """Update the policy from the rollout buffer: epochs of minibatch steps, then one measured KL.

        :raises NonFiniteUpdateError: for NaN or infinity; the model then is as after the last good step
        """
        self.policy.set_training_mode(True)
        self._schedule_values = {}
        self._update_learning_rate(self.policy.optimizer)
        self.record_state()
        if self.on_nonfinite == "raise":
            nonfinite.check_rollout(self)
        rules = self.update_rules()
        acceleration = self._current_acceleration()
        update = acceleration.new_update()
        limit = rules.projection_limit
        line = None if limit is None else acceleration.policy_line(update)
        self._trace = trace = TraceRecorder(self.n_epochs, self._minibatches_per_epoch(), self.extra_metric_names)
        try:
            with nonfinite.guarded_update(self), update.running():
                coefficients = self._run_epochs(update, rules, trace)
        finally:
            update.stepper.hand_back()
        self.average_buffers()

        def measured_kl() -> float:
            return self.ranks.mean(update.kl_divergence())

        if line is None or limit is None:
            projection = Projection.none(measured_kl())
        else:
            projection = line.project(measured_kl, limit)
            self.logger.record("train/kl_before_projection", projection.kl_before)
            self.logger.record("train/projection", projection.share)
        self.last_update = trace.freeze(projection)
        log_update(self, self.last_update, coefficients)
        self.after_update(projection.kl_before, trace.progress)
        self._trace = None

    def _run_epochs(self, update: Update, rules: UpdateRules, trace: TraceRecorder) -> dict[str, Number]:
        """Take the steps; return the coefficients of the last epoch."""
        for _ in range(self.n_epochs):
            coefficients = self.update_coefficients()
            for minibatch in update.minibatches():
                metrics, trace.stopped = update.step(minibatch, coefficients)
                if trace.stopped and self.verbose >= 1:
                    print(f"Early stopping in epoch {trace.epoch}: {rules.stop_before_step}")
                if trace.add_minibatches(metrics) and rules.watches_kl:
                    kl = trace.read_kl()
                    trace.stopped = rules.stops_at(kl)
                    if rules.kl_every_check and kl is not None and trace.steps > 1:  # before step 1 nothing has moved
                        self.after_check(kl, trace.progress)
                if trace.stopped:
                    break
            self._n_updates += 1
            trace.end_epoch(coefficients)
            nonfinite.check_steps(self, trace, update.stepper.count_skipped())
            if trace.stopped or trace.epoch == self.n_epochs:
                break
            if rules.watches_kl and trace.last_kl is not None and trace.steps > 1:  # as above
                self.after_epoch(trace.last_kl, trace.progress)
        return coefficients

    # -------------------------------------------------------------------------------------------- hooks of the variants

    def update_rules(self) -> UpdateRules:
        """Declare what this update uses the KL for, and what ends it; a variant replaces fields of ``super()``'s."""
        return UpdateRules(kl_in_loss=self.kl_in_loss, kl_limit=self.kl_limit(), on_max_kl=self.on_max_kl)

    def kl_limit(self) -> float | None:
        """Return the exact KL beyond which the update must not go, nats per state; None for no limit."""
        assert not isinstance(self.max_kl, str)  # refused by check_arguments
        return self.max_kl

    def record_state(self) -> None:
        """Log what this update starts from; called before the first epoch."""

    def after_check(self, kl: float, progress: float) -> None:
        """React to the exact KL within an epoch; called only if the rules ask for it.

        :param kl: over the minibatches since the last check, up to 16 checks per epoch, nats per state
        :param progress: share of the update's optimiser steps that were taken, in (0, 1]
        """

    def after_epoch(self, kl: float, progress: float) -> None:
        """React to the exact KL after an epoch that another one follows; called only if the rules ask for it.

        :param kl: over the last minibatches of the epoch, nats per state
        :param progress: share of the update's epochs that are done, in (0, 1)
        """

    def after_update(self, kl: float, progress: float) -> None:
        """React to the exact KL after the last step of the update, before any projection.

        :param kl: over the whole rollout, nats per state
        :param progress: share of the epochs that were done, less than 1 after an early stop
        """

    # ---------------------------------------------------------------------------------------------------------- helpers

    def acceleration_report(self) -> dict[str, str]:
        """Tell which pieces of the fast path are active, and for the others why not.

        :return: for minibatches, evaluation, products, optimizer, backward, arithmetic, graph, sampling and rollout;
            where there are images also for these, of LSTM policies for sequences and steps
        """
        return dict(self._current_acceleration().report)

    @ends_all_ranks
    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
        *args: Any,
        **kwargs: Any,
    ) -> bool:
        """Collect as the host does, with leaner passes of the policy, buffer and environments where they apply."""
        with (
            nonfinite.explained(self, "collecting the rollout"),
            masks.explained_masks(env, self.action_space, rollout_buffer, *args, **kwargs),
            self._current_acceleration().lean_collection(env, callback, rollout_buffer),
        ):
            collected = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps, *args, **kwargs)
        masks.warn_of_empty_masks(rollout_buffer, self.action_space)
        return collected

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: Any = None) -> None:
        super()._update_info_buffer(infos, dones)
        if self._acceleration is not None:  # the host is about to ask for the values of episodes that were cut off
            self._acceleration.foresee_values(infos, dones)

    def _current_acceleration(self) -> Acceleration:
        if self._acceleration is None or not self._acceleration.fits(self):
            self._acceleration = Acceleration(self)
            if self.verbose >= 1 and self.acceleration != "off":
                print(f"Acceleration: {self._acceleration}")
        return self._acceleration

    def _update_learning_rate(self, optimizers: list[th.optim.Optimizer] | th.optim.Optimizer) -> None:
        with schedules.checked_rate(self, optimizers):
            super()._update_learning_rate(optimizers)

    def _minibatches_per_epoch(self) -> int:
        return -(-self.rollout_buffer.buffer_size * self.n_envs // int(self.batch_size))

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        checks.check_can_learn(self)
        scaled_schedule.unscale(self)
        self.check_arguments()  # attributes may have been set since the model was made
        if self.clip_range is None:
            self.clip_range = FloatSchedule(math.inf)
        return super()._setup_learn(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), **dict.fromkeys(_MADE_ANEW)}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "last_update", *_MADE_ANEW]
