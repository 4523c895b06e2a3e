"""Ready-made comparisons: the exercises of PPO courses, and table 1 of the PPO paper."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sb3_ppo_variants.compare.arms import Arm
from sb3_ppo_variants.compare.settings import PRESET_FILES
from sb3_ppo_variants.compare.sweep import Axes

_DEFAULTS, _PAPER = str(PRESET_FILES / "defaults.yml"), str(PRESET_FILES / "paper.yml")

_FORWARD = {"kl_direction": "forward"}
# The rule of the PPO paper (arXiv:1707.06347), section 4, as it stands there.
_PAPER_RULE: dict[str, Any] = {"adapt_after": "update", "adaptation_factor": 2.0, "max_kl": None, **_FORWARD}


@dataclass(frozen=True)
class Preset:
    """A comparison that is there to answer a question.

    :param question: what it is about, and where in the report the answer stands
    :param arms: what is compared
    :param baseline: label of the one the others are compared with
    :param envs: environment IDs
    :param n_timesteps: of training
    :param n_seeds: training runs of each
    :param paper_scores: average normalised scores of a paper, by label
    :param axes: hyperparameters that are swept, with their values
    """

    question: str
    arms: Sequence[Arm]
    baseline: str
    envs: Sequence[str]
    n_timesteps: int
    n_seeds: int
    paper_scores: dict[str, float] = field(default_factory=dict)
    axes: Axes = field(default_factory=dict)


def _fixed(beta: float) -> dict[str, Any]:
    return {"initial_beta": beta, "adaptive_beta": False, "max_kl": None, **_FORWARD}


_TABLE_1: dict[str, tuple[str, dict[str, Any], float]] = {
    "no-clipping": ("ppo_penalty", _fixed(0.0), -0.39),
    **{f"clip-{e}": ("ppo_clip", {"clip_range": e}, score) for e, score in ((0.1, 0.76), (0.2, 0.82), (0.3, 0.70))},
    **{
        f"adaptive-kl-{target}": ("ppo_penalty", {"target_kl": target, **_PAPER_RULE}, score)
        for target, score in ((0.003, 0.68), (0.01, 0.74), (0.03, 0.71))
    },
    **{
        f"fixed-kl-{beta:g}": ("ppo_penalty", _fixed(beta), score)
        for beta, score in ((0.3, 0.62), (1.0, 0.71), (3.0, 0.72), (10.0, 0.69))
    },
}

PRESETS = {
    "defaults": Preset(
        "What does a user get who changes the class and nothing else? All settings are the classes' defaults. Do the "
        "adaptive classes learn at least as well as stock PPO, and do they hold the KL near their target? ppo_clip is "
        "limited to a KL divergence of 0.02 per update. The answers are in the first table and under “Trust region”.",
        [
            Arm("ppo", "ppo", {}, _DEFAULTS),
            Arm("ppo_penalty", "ppo_penalty", {}, _DEFAULTS),
            Arm("ppo_adaptive_clip", "ppo_adaptive_clip", {}, _DEFAULTS),
            Arm("ppo_clip", "ppo_clip", {"max_kl": 0.02}, _DEFAULTS),
        ],
        baseline="ppo",
        envs=[
            "CartPole-v1",
            "Acrobot-v1",
            "Pendulum-v1",
            "MountainCarContinuous-v0",
            "LunarLander-v3",
            "HalfCheetah-v5",
            "Hopper-v5",
            "Walker2d-v5",
        ],
        n_timesteps=100_000,
        n_seeds=10,
    ),
    "penalty-vs-clip": Preset(
        "Does PPO-Penalty learn as well as PPO with clipping, and does the adaptive beta hold the KL divergence near "
        "its target of 0.01? All have the classes' default settings; paper-rule moves beta by a factor of 2 once per "
        "update and never ends an update early, as in the PPO paper. The answer is under “Trust region”.",
        [
            Arm("ppo", "ppo", {}, _DEFAULTS),
            Arm("ppo_penalty", "ppo_penalty", {"target_kl": 0.01}, _DEFAULTS),
            Arm("paper-rule", "ppo_penalty", {"target_kl": 0.01, **_PAPER_RULE}, _DEFAULTS),
        ],
        baseline="ppo",
        envs=["CartPole-v1"],
        n_timesteps=100_000,
        n_seeds=5,
    ),
    "gae-lambda": Preset(
        "Which lambda of generalised advantage estimation works best, between one-step advantages (0: biased, little "
        "variance) and Monte Carlo returns (1: unbiased, much variance)? The class is PPOClip, everything else has its "
        "default: stock PPO, faster.",
        [Arm(f"lambda-{value}", "ppo_clip", {"gae_lambda": value}, _DEFAULTS) for value in (0.95, 0.0, 0.5, 0.9, 1.0)],
        baseline="lambda-0.95",
        envs=["LunarLander-v3"],
        n_timesteps=200_000,
        n_seeds=5,
    ),
    "vectorised": Preset(
        "Do 4 environments instead of 1 change how well is learned at equal steps, or only how fast? With the same "
        "n_steps the rollout is 4 times as long, so that there are a quarter as many updates. The time is under “Time "
        "and memory”.",
        [Arm(f"envs-{n}", "ppo", {"n_envs": n, "n_steps": 2048}, _DEFAULTS) for n in (1, 4)],
        baseline="envs-1",
        envs=["CartPole-v1"],
        n_timesteps=100_000,
        n_seeds=5,
    ),
    "trpo": Preset(
        "What does TRPO's second-order step cost and gain against PPO's clipping: reward, time, peak memory? Both have "
        "rl-zoo3's tuned settings.",
        [Arm("ppo", "ppo"), Arm("trpo", "trpo")],
        baseline="ppo",
        envs=["CartPole-v1", "Pendulum-v1"],
        n_timesteps=100_000,
        n_seeds=5,
    ),
    "robustness": Preset(
        "How much does each algorithm depend on settings that nobody tuned? All that is not swept is at the classes' "
        "defaults. ppo_clip is limited to a KL divergence of 0.02 per update, as the "
        "adaptive classes are by default; the learning rate of ppo_adaptive_lr may rise to 3e-2.",
        [
            Arm("ppo", "ppo", {}, _DEFAULTS),
            Arm("ppo_clip", "ppo_clip", {"max_kl": 0.02}, _DEFAULTS),
            Arm("ppo_penalty", "ppo_penalty", {}, _DEFAULTS),
            Arm("ppo_adaptive_clip", "ppo_adaptive_clip", {}, _DEFAULTS),
            Arm("ppo_adaptive_lr", "ppo_adaptive_lr", {"learning_rate_bounds": [1e-5, 3e-2]}, _DEFAULTS),
            Arm("trpo", "trpo", {}, _DEFAULTS),
        ],
        baseline="ppo",
        envs=["CartPole-v1", "Acrobot-v1", "Pendulum-v1", "LunarLander-v3", "HalfCheetah-v5", "Hopper-v5"],
        n_timesteps=100_000,
        n_seeds=5,
        axes={"learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2], "n_epochs": [3, 10, 30]},
    ),
    "paper-table-1": Preset(
        "Table 1 of the PPO paper (arXiv:1707.06347): eleven surrogates on seven MuJoCo tasks, here in their v5 form. "
        "The paper's score is the mean reward of the last 100 training episodes, with sampled actions; here it is that "
        "of evaluations with the likeliest action. Settings are those of the paper's table 3.",
        [Arm(label, algo, overrides, _PAPER) for label, (algo, overrides, _) in _TABLE_1.items()],
        baseline="clip-0.2",
        envs=[
            f"{task}-v5"
            for task in (
                "HalfCheetah",
                "Hopper",
                "InvertedDoublePendulum",
                "InvertedPendulum",
                "Reacher",
                "Swimmer",
                "Walker2d",
            )
        ],
        n_timesteps=1_000_000,
        n_seeds=3,
        paper_scores={label: score for label, (_, _, score) in _TABLE_1.items()},
    ),
}

__all__ = ["PRESETS", "Preset"]
