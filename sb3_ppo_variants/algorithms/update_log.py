"""What an update writes to the logger, beside what the variants add."""

import math
from collections.abc import Mapping
from typing import Any

import torch as th

from sb3_ppo_variants.distributed.moments import explained_variance_over_ranks
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.update_metrics import UpdateTrace


def log_update(model: Any, update: UpdateTrace, coefficients: Mapping[str, Number]) -> None:
    """Record an update under ``train/``: stock PPO's keys, and ours.

    :param model: whose update it was
    :param update: its course
    :param coefficients: of its last epoch
    """
    record = model.logger.record
    record("train/policy_gradient_loss", update.mean("policy_loss"))
    for name in ("entropy_loss", "value_loss", "approx_kl", "loss"):
        record(f"train/{name}", update.mean(name))
    record("train/grad_norm", update.mean("grad_norm"))
    record("train/explained_variance", explained_variance_over_ranks(model.ranks, model.rollout_buffer))
    if hasattr(model.policy, "log_std"):
        record("train/std", th.exp(model.policy.log_std).mean().item())
    record("train/n_updates", model._n_updates, exclude="tensorboard")
    record("train/kl_divergence", update.kl_divergence)
    record("train/ratio_max", float(update.column("ratio_max").max()))
    record("train/epochs_done", update.epochs_done)
    if model.on_nonfinite == "skip":
        record("train/skipped_minibatches", int((~update.taken).sum()))
    if coefficients["clip_range"] != math.inf:
        record("train/clip_range", coefficients["clip_range"])
    if min(coefficients["clip_range"], coefficients.get("clip_range_upper", math.inf)) < math.inf:
        record("train/clip_fraction", update.mean("clip_fraction"))
    for name in model.extra_metric_names:
        record(f"train/{name}", update.mean(name))
    if model.clip_range_vf is not None:
        record("train/clip_range_vf", coefficients["clip_range_vf"])
        record("train/value_clip_fraction", update.mean("value_clip_fraction"))


__all__ = ["log_update"]
