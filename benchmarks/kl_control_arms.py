"""The ways to hold the KL that kl_control.py compares: those of the package, and two that are tried here only."""

from typing import Any

import torch as th
from stable_baselines3 import PPO

from sb3_ppo_variants import PPOAdaptiveClip, PPOAdaptiveLR, PPOClip, PPOPenalty
from sb3_ppo_variants.extend import AdaptiveUpdateMixin, Number, UpdateRules


class GateMixin(AdaptiveUpdateMixin):
    """While the KL is above the target the surrogate's weight is 0: penalty and value loss go on."""

    gate_is_open = True

    def update_rules(self) -> UpdateRules:
        return super().update_rules()._replace(kl_every_check=True)

    def record_state(self) -> None:
        super().record_state()
        self.gate_is_open = True

    def after_check(self, kl: float, progress: float) -> None:
        super().after_check(kl, progress)
        self.gate_is_open = kl <= self.current_target_kl()

    def surrogate(
        self, ratio: th.Tensor, advantages: th.Tensor, kl: th.Tensor | None, coefficients: dict[str, Number]
    ) -> th.Tensor:
        return super().surrogate(ratio, advantages, kl, coefficients) * float(self.gate_is_open)


class GatedPenalty(GateMixin, PPOPenalty):
    """PPOPenalty behind the gate."""


class ValueEpochs(PPOPenalty):
    """PPOPenalty that, after each update, trains the value function for as many epochs again; PPG's idea."""

    def train(self) -> None:
        super().train()
        optimizer = self.policy.optimizer
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                optimizer.zero_grad()  # to None: the policy's parameters stay
                values = self.policy.predict_values(batch.observations).flatten()
                (self.vf_coef * th.nn.functional.mse_loss(values, batch.returns)).backward()
                th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                optimizer.step()


T01: dict[str, Any] = {"target_kl": 0.01}
STOP: dict[str, Any] = {"on_max_kl": "stop"}
PROJECT: dict[str, Any] = {"on_max_kl": "project"}
T02: dict[str, Any] = {"target_kl": 0.02, **PROJECT}
PER_UPDATE: dict[str, Any] = {"adapt_after": "update", "adaptation_factor": 1.5}
ARMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": (PPO, {}),
    "clip_none": (PPOClip, {}),
    "clip_project": (PPOClip, {"max_kl": 0.01, **PROJECT}),
    "clip_project_t02": (PPOClip, {"max_kl": 0.02, **PROJECT}),
    "penalty_stop": (PPOPenalty, {**T01, **STOP}),
    "penalty_none": (PPOPenalty, {**T01, "max_kl": None}),
    "penalty_project": (PPOPenalty, {**T01, **PROJECT}),
    "penalty_project_1.5": (PPOPenalty, {**T01, "max_kl": 0.015, **PROJECT}),
    "penalty_project_t02": (PPOPenalty, T02),
    "penalty_project_update": (PPOPenalty, {**T01, **PROJECT, **PER_UPDATE}),
    "penalty_project_update_t02": (PPOPenalty, {**T02, **PER_UPDATE}),
    "penalty_stop_t02": (PPOPenalty, {**T02, **STOP}),
    "penalty_none_t02": (PPOPenalty, {**T02, "max_kl": None}),
    "penalty_gate_t02": (GatedPenalty, {**T02, "max_kl": None}),
    "penalty_value_t02": (ValueEpochs, T02),
    "penalty_beta_0.1_t02": (PPOPenalty, {**T02, "initial_beta": 0.1}),
    "penalty_clip_t02": (PPOPenalty, {**T02, "clip_range": 0.2}),
    "penalty_clip_project": (PPOPenalty, {**T01, "clip_range": 0.2, **PROJECT}),
    "adaptive_stop": (PPOAdaptiveClip, {**T01, **STOP}),
    "adaptive_none": (PPOAdaptiveClip, {**T01, "max_kl": None}),
    "adaptive_project": (PPOAdaptiveClip, {**T01, **PROJECT}),
    "adaptive_project_1.5": (PPOAdaptiveClip, {**T01, "max_kl": 0.015, **PROJECT}),
    "adaptive_project_t02": (PPOAdaptiveClip, T02),
    "adaptive_project_update": (PPOAdaptiveClip, {**T01, **PROJECT, **PER_UPDATE}),
    "adaptive_project_update_t02": (PPOAdaptiveClip, {**T02, **PER_UPDATE}),
    "lr_none": (PPOAdaptiveLR, {}),
    "lr_project": (PPOAdaptiveLR, {"max_kl": "target", **PROJECT}),
    "lr_project_1.5": (PPOAdaptiveLR, {"max_kl": 0.015, "kl_tolerance": 1.5, **PROJECT}),
}
_FORWARD = {"kl_direction": "forward"}  # the default when these were measured
ARMS = {name: (cls, {**own, **_FORWARD} if issubclass(cls, PPOPenalty) else own) for name, (cls, own) in ARMS.items()}

__all__ = ["ARMS"]
