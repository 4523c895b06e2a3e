"""What ends an update, and the means that decide whether a coefficient is loosened."""

import numpy as np
import pytest
import torch as th

from sb3_ppo_variants.arguments.schedules import schedule_value
from sb3_ppo_variants.update.rules import StopRule
from sb3_ppo_variants.update.update_metrics import METRICS, MinibatchMetrics, TraceRecorder


def metrics(**given: float) -> MinibatchMetrics:
    return MinibatchMetrics(**{name: th.tensor(given.get(name, 0.0)) for name in METRICS})


def test_a_metric_at_the_limit_does_not_stop_the_update() -> None:
    """Compared as stock PPO does, whose estimate is float32."""
    limit = 1.5 * 0.01
    at, above = np.float32(limit), np.nextafter(np.float32(limit), np.float32(1))
    rule = StopRule("approx_kl", limit)
    for value, passed in ((at, bool(at > limit)), (above, True), (np.float32(0.0149), False), (np.nan, False)):
        found = metrics(approx_kl=float(value))
        assert rule.passed(found) == passed
        assert rule.passed_in(found.row()[None], METRICS) == passed
    assert not StopRule("approx_kl", 0.25).passed(metrics(approx_kl=0.25))


def test_the_mean_of_an_epoch_is_of_that_epoch_and_of_the_steps_that_were_taken() -> None:
    trace = TraceRecorder(n_epochs=2, minibatches_per_epoch=2)
    for epoch in ((1.0, 3.0), (10.0, 20.0)):
        for value in epoch:
            trace.add_minibatches(metrics(policy_gain=value).row())
        assert trace.mean_of_last_epoch("policy_gain") == np.mean(epoch)
        trace.end_epoch({})
    trace.add_minibatches(metrics(policy_gain=5.0).row())
    trace.add_minibatches(metrics(policy_gain=7.0, skipped=1.0).row())
    assert trace.mean_of_last_epoch("policy_gain") == 5.0


def test_a_schedule_is_asked_once_per_progress() -> None:
    asked: list[float] = []

    def schedule(progress: float) -> float:
        asked.append(progress)
        return progress

    known: dict[str, tuple[object, float, object]] = {}
    found = [schedule_value("vf_coef", schedule, progress, known) for progress in (1.0, 1.0, 0.5, 0.5)]
    assert found == pytest.approx([1.0, 1.0, 0.5, 0.5])
    assert asked == [1.0, 0.5]
