"""Each variant at its neutral setting equals stock PPO to the last bit (and differs at any other setting)."""

import math
from typing import Any

import pytest
import torch as th
from environments import make_vec_env
from hosts import ModeSensitiveExtractor, identical
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants import PPOAdaptiveClip, PPOAdaptiveLR, PPOClip, PPOPenalty

ACTIONS = ["discrete", "box", "multi_discrete", "multi_binary"]
NEUTRAL_CLIP: dict[str, Any] = {"acceleration": "off", "value_clipping": "sb3"}
NEUTRAL_PENALTY: dict[str, Any] = {**NEUTRAL_CLIP, "initial_beta": 0, "adaptive_beta": False, "max_kl": None}
NEUTRAL_ADAPTIVE: dict[str, Any] = {**NEUTRAL_CLIP, "kl_tolerance": math.inf, "max_kl": None}
UPDATES = 3
STOCK_KEYS = ["entropy_loss", "policy_gradient_loss", "value_loss", "clip_fraction", "explained_variance", "n_updates"]


class UpdateLog(BaseCallback):
    """Keeps what every update logged under train/."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[dict[str, Any]] = []

    def _on_rollout_start(self) -> None:
        self._copy()

    def _on_training_end(self) -> None:
        self._copy()

    def _on_step(self) -> bool:
        return True

    def _copy(self) -> None:
        values = {k.removeprefix("train/"): v for k, v in self.logger.name_to_value.items() if k.startswith("train/")}
        if values:
            self.updates.append(values)


def trained(
    cls: type[PPO],
    action: str = "discrete",
    observation: str = "vector",
    n_envs: int = 2,
    total_timesteps: int | None = None,
    log: UpdateLog | None = None,
    **arguments: Any,
) -> PPO:
    """Train on three ragged rollouts: 25 steps per environment, minibatches of 16."""
    policy = {"vector": "MlpPolicy", "image": "CnnPolicy", "dict": "MultiInputPolicy"}[observation]
    extractor = {
        "vector": {},
        "image": {"features_extractor_kwargs": {"features_dim": 8}},
        "dict": {"features_extractor_kwargs": {"cnn_output_dim": 8}},
    }[observation]
    settings = {"n_steps": 25, "batch_size": 16, "n_epochs": 3, "learning_rate": 3e-3, "ent_coef": 0.01} | arguments
    settings["policy_kwargs"] = {"net_arch": [8], **extractor, **arguments.get("policy_kwargs", {})}
    model = cls(policy, make_vec_env(action, observation, n_envs), seed=5, device="cpu", **settings)
    return model.learn(total_timesteps or UPDATES * settings["n_steps"] * n_envs, callback=log, log_interval=1000)


def assert_identical(ours: PPO, stock: PPO) -> None:
    assert identical(ours, stock)
    assert ours._n_updates == stock._n_updates
    assert ours.num_timesteps == stock.num_timesteps


CASES: dict[str, dict[str, Any]] = {
    "discrete": {"action": "discrete"},
    "box": {"action": "box"},
    "multi_discrete": {"action": "multi_discrete"},
    "multi_binary": {"action": "multi_binary"},
    "image": {"observation": "image", "n_epochs": 2},
    "dict": {"observation": "dict", "action": "box", "n_epochs": 2},
    "gsde": {"action": "box", "use_sde": True},
    "gsde_sampled_often": {"action": "box", "use_sde": True, "sde_sample_freq": 4},
    "gsde_squashed": {"action": "box", "use_sde": True, "policy_kwargs": {"squash_output": True}},
    "one_environment": {"n_envs": 1},
    "three_environments": {"n_envs": 3, "action": "multi_discrete"},
    "last_minibatch_of_one_sample": {"n_envs": 1, "n_steps": 33},
    "whole_minibatches": {"n_steps": 24},
    "clip_range_vf": {"clip_range_vf": 0.1, "action": "box"},
    "clip_range_vf_schedule": {"clip_range_vf": lambda progress: 0.05 + 0.2 * progress},
    "unnormalized_advantage": {"normalize_advantage": False, "action": "multi_binary"},
    "learning_rate_schedule": {"learning_rate": lambda progress: 0.01 * progress},
    "clip_range_schedule": {"clip_range": lambda progress: 0.1 * progress, "action": "box"},
    "integer_coefficients": {"ent_coef": 0, "vf_coef": 1},
    "another_optimizer": {"policy_kwargs": {"optimizer_class": th.optim.RMSprop}},
    "batch_norm_and_dropout": {"policy_kwargs": {"features_extractor_class": ModeSensitiveExtractor}, "n_steps": 24},
}


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_ppo_clip_equals_stock_and_logs_the_same(case: dict[str, Any]) -> None:
    case = {"clip_range": 0.02, **case}
    our_log, stock_log = UpdateLog(), UpdateLog()
    ours = trained(PPOClip, log=our_log, **case, **NEUTRAL_CLIP)
    stock = trained(PPO, log=stock_log, **case)

    assert_identical(ours, stock)
    assert stock._n_updates == UPDATES * stock.n_epochs
    assert len(our_log.updates) == len(stock_log.updates) == UPDATES
    keys = [*STOCK_KEYS, "clip_range", *(["std"] if case.get("action") == "box" else [])]
    if "clip_range_vf" in case:
        keys.append("clip_range_vf")
    for ours_logged, stock_logged in zip(our_log.updates, stock_log.updates, strict=True):
        assert set(stock_logged) <= set(ours_logged)
        assert [ours_logged[key] for key in keys] == pytest.approx([stock_logged[key] for key in keys], rel=1e-5)
    assert any(logged["clip_fraction"] > 0 for logged in stock_log.updates)  # so that the clip was at work


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("action", ACTIONS)
def test_target_kl_stops_ppo_clip_where_it_stops_stock(action: str) -> None:
    case: dict[str, Any] = {"action": action, "target_kl": 0.003, "learning_rate": 0.01, "n_epochs": 8}
    ours = trained(PPOClip, **case, **NEUTRAL_CLIP)
    stock = trained(PPO, **case)

    assert_identical(ours, stock)
    assert UPDATES <= stock._n_updates < UPDATES * 8  # it really stopped
    assert not identical(ours, trained(PPOClip, **{**case, "target_kl": None}, **NEUTRAL_CLIP))


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_a_schedule_survives_a_last_rollout_that_passes_total_timesteps() -> None:
    """SB3's progress then falls below 0, and so does a linear schedule (rl-zoo3's ``lin_0.2``)."""
    case: dict[str, Any] = {"clip_range": lambda progress: 0.2 * progress, "total_timesteps": 140}
    assert_identical(trained(PPOClip, **case, **NEUTRAL_CLIP), trained(PPO, **case))


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("action", ACTIONS)
def test_penalty_without_beta_equals_stock_without_clipping(action: str) -> None:
    ours = trained(PPOPenalty, action, **NEUTRAL_PENALTY)
    assert_identical(ours, trained(PPO, action, clip_range=1e6))


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_penalty_without_beta_but_with_clip_equals_stock() -> None:
    ours = trained(PPOPenalty, "box", clip_range=0.05, clip_range_vf=0.1, **NEUTRAL_PENALTY)
    assert_identical(ours, trained(PPO, "box", clip_range=0.05, clip_range_vf=0.1))


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_variants_that_do_not_adapt_equal_stock_however_far_the_policy_moves() -> None:
    """The neutral settings without a word on ``max_kl``: what does not adapt does not stop at the target either."""
    case: dict[str, Any] = {"action": "box", "learning_rate": 0.02, "n_epochs": 8}
    clipped = trained(PPO, **case, clip_range=0.5)
    free_log = UpdateLog()
    free = trained(PPO, **case, clip_range=1e6, log=free_log)
    assert all(logged["approx_kl"] > 0.1 for logged in free_log.updates)

    neutral = {**NEUTRAL_CLIP, "initial_beta": 0, "adaptive_beta": False}
    assert_identical(trained(PPOPenalty, **case, **neutral), free)
    neutral = {**NEUTRAL_CLIP, "kl_tolerance": math.inf}
    assert_identical(trained(PPOAdaptiveClip, **case, **neutral, clip_range=0.5), clipped)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("action", ACTIONS)
def test_adaptive_clip_with_infinite_tolerance_equals_ppo_clip_and_stock(action: str) -> None:
    ours = trained(PPOAdaptiveClip, action, clip_range=0.05, **NEUTRAL_ADAPTIVE)
    assert ours.clip_scale == 1.0
    assert_identical(ours, trained(PPOClip, action, clip_range=0.05, **NEUTRAL_CLIP))
    assert_identical(ours, trained(PPO, action, clip_range=0.05))


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_learning_rate_that_never_adapts_is_stock_ppo_s(action: str) -> None:
    assert_identical(trained(PPOAdaptiveLR, action, **NEUTRAL_CLIP, kl_tolerance=math.inf), trained(PPO, action))


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize(
    ("cls", "neutral", "change"),
    [
        (PPOClip, NEUTRAL_CLIP, {"value_clipping": "pessimistic"}),
        (PPOClip, NEUTRAL_CLIP, {"value_clip_scale": "return_std"}),
        (PPOClip, NEUTRAL_CLIP, {"value_loss": "huber"}),
        (PPOClip, NEUTRAL_CLIP, {"normalize_advantage": "rollout"}),
        (PPOClip, NEUTRAL_CLIP, {"clip_range_upper": 0.1}),
        (PPOClip, NEUTRAL_CLIP, {"dual_clip": 1.01}),
        (PPOClip, NEUTRAL_CLIP, {"max_kl": 1e-5}),
        (PPOClip, NEUTRAL_CLIP, {"ent_coef": lambda _: 0.02}),
        (PPOClip, NEUTRAL_CLIP, {"vf_coef": lambda _: 0.2}),
        (PPOPenalty, NEUTRAL_PENALTY, {"initial_beta": 1}),
        (PPOPenalty, NEUTRAL_PENALTY, {"initial_beta": 1, "kl_direction": "reverse"}),
        (PPOPenalty, NEUTRAL_PENALTY, {"hinge_coef": 100.0, "target_kl": 1e-4}),
        (PPOPenalty, NEUTRAL_PENALTY, {"ratio_cap": 1.01}),
        (PPOAdaptiveClip, NEUTRAL_ADAPTIVE, {"kl_tolerance": 1.5, "target_kl": 1e-4}),
        (PPOAdaptiveClip, NEUTRAL_ADAPTIVE, {"clip_range_bounds": (0.05, 1.0), "clip_range": lambda _: 0.03}),
    ],
)
def test_a_setting_that_is_not_neutral_differs_from_stock(
    cls: type[PPO], neutral: dict[str, Any], change: dict[str, Any]
) -> None:
    case: dict[str, Any] = {"action": "box", "clip_range": 0.03, "clip_range_vf": 0.1, "learning_rate": 0.01}
    assert identical(trained(cls, **case, **neutral), trained(PPO, **case))
    assert not identical(trained(cls, **{**case, **neutral, **change}), trained(PPO, **case))
