"""On the recurrent and the maskable host, too, a variant at its neutral setting equals stock to the last bit."""

from typing import Any

import pytest
from hosts import HOSTS, VARIANTS, build
from test_equivalence import (
    NEUTRAL_ADAPTIVE,
    NEUTRAL_CLIP,
    NEUTRAL_PENALTY,
    STOCK_KEYS,
    UpdateLog,
    assert_identical,
    identical,
)

UPDATES = 3
RECURRENT, MASKABLE = HOSTS["Recurrent"], HOSTS["Maskable"]
LSTM: dict[str, dict[str, Any]] = {
    "shared_critic_lstm": {"policy_kwargs": {"shared_lstm": True, "enable_critic_lstm": False}},
    "no_critic_lstm": {"policy_kwargs": {"shared_lstm": False, "enable_critic_lstm": False}},
    "two_layers": {"policy_kwargs": {"n_lstm_layers": 2}, "action": "box"},
    "dict": {"observation": "dict", "action": "box", "n_epochs": 2},
    "image": {"observation": "image", "n_epochs": 2},
    "gsde": {"action": "box", "use_sde": True, "sde_sample_freq": 4},
    "one_environment": {"n_envs": 1},
    "one_minibatch": {"batch_size": 50},
    "unnormalized_advantage": {"normalize_advantage": False},
}
MASKED: dict[str, dict[str, Any]] = {
    "dict": {"observation": "dict", "action": "multi_discrete", "n_epochs": 2},
    "image": {"observation": "image", "n_epochs": 2},
    "one_environment": {"n_envs": 1},
    "unnormalized_advantage": {"normalize_advantage": False},
}
SHARED: dict[str, dict[str, Any]] = {
    "clip_range_vf": {"clip_range_vf": 0.1},
    "schedules": {"clip_range": lambda left: 0.01 + 0.1 * left, "learning_rate": lambda left: 0.002 + 0.01 * left},
    "entropy": {"ent_coef": 0.01, "vf_coef": 1},
    "early_stop": {"target_kl": 1e-3, "learning_rate": 0.01, "n_epochs": 8},
}


def trained(cls: type[Any], log: UpdateLog | None = None, use_masking: bool | None = None, **case: Any) -> Any:
    model = build(cls, **{"clip_range": 0.02, **case})
    how = {} if use_masking is None else {"use_masking": use_masking}
    return model.learn(UPDATES * 25 * model.n_envs, callback=log, log_interval=1000, **how)


def assert_equals_stock(prefix: str, case: dict[str, Any]) -> None:
    our_log, stock_log = UpdateLog(), UpdateLog()
    ours = trained(VARIANTS[f"{prefix}PPOClip"], our_log, **case, **NEUTRAL_CLIP)
    stock = trained(HOSTS[prefix].stock, stock_log, **case)

    assert_identical(ours, stock)
    assert len(our_log.updates) == len(stock_log.updates) == UPDATES
    for ours_logged, stock_logged in zip(our_log.updates, stock_log.updates, strict=True):
        assert set(stock_logged) <= set(ours_logged)
        expected = [stock_logged[key] for key in STOCK_KEYS]
        assert [ours_logged[key] for key in STOCK_KEYS] == pytest.approx(expected, rel=1e-5)
        assert ours_logged["kl_divergence"] > 0


@pytest.mark.parametrize("n_envs", [2, 3])
@pytest.mark.parametrize("action", RECURRENT.actions)
def test_recurrent_ppo_clip_equals_stock(action: str, n_envs: int) -> None:
    assert_equals_stock("Recurrent", {"action": action, "n_envs": n_envs})


@pytest.mark.parametrize("case", [*LSTM.values(), *SHARED.values()], ids=[*LSTM, *SHARED])
def test_recurrent_ppo_clip_equals_stock_with_every_feature(case: dict[str, Any]) -> None:
    assert_equals_stock("Recurrent", case)


@pytest.mark.parametrize("n_envs", [2, 3])
@pytest.mark.parametrize("use_masking", [True, False])
@pytest.mark.parametrize("action", MASKABLE.actions)
def test_maskable_ppo_clip_equals_stock(action: str, use_masking: bool, n_envs: int) -> None:
    assert_equals_stock("Maskable", {"action": action, "n_envs": n_envs, "use_masking": use_masking})


@pytest.mark.parametrize("case", [*MASKED.values(), *SHARED.values()], ids=[*MASKED, *SHARED])
def test_maskable_ppo_clip_equals_stock_with_every_feature(case: dict[str, Any]) -> None:
    assert_equals_stock("Maskable", case)


@pytest.mark.parametrize("prefix", ["Recurrent", "Maskable"])
@pytest.mark.parametrize(("name", "neutral"), [("PPOPenalty", NEUTRAL_PENALTY), ("PPOAdaptiveClip", NEUTRAL_ADAPTIVE)])
def test_the_adaptive_variants_equal_stock_where_nothing_adapts(
    prefix: str, name: str, neutral: dict[str, Any]
) -> None:
    case: dict[str, Any] = {"action": "multi_discrete", "n_envs": 3}
    stock = trained(HOSTS[prefix].stock, **case)
    cls = VARIANTS[f"{prefix}{name}"]
    change = {"initial_beta": 1.0} if name == "PPOPenalty" else {"kl_tolerance": 1.5, "target_kl": 1e-5}

    assert_identical(trained(cls, **case, **neutral), stock)
    assert not identical(trained(cls, **{**case, **neutral, **change}), stock)


def test_masks_matter() -> None:
    case: dict[str, Any] = {"action": "multi_discrete"}
    ours = VARIANTS["MaskablePPOClip"]
    masked, free = (trained(ours, use_masking=use, **case, **NEUTRAL_CLIP) for use in (True, False))
    assert not identical(masked, free)
    assert not masked.rollout_buffer.action_masks.all()
    assert free.rollout_buffer.action_masks.all()
