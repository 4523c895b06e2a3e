"""Hand-made plans and results of comparisons, for tests of what is made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell
from sb3_ppo_variants.compare.plan import Budget, Plan
from sb3_ppo_variants.compare.settings import ResolvedSettings

STEPS = (0, 50, 100)


def make_plan(arms: Mapping[str, str], envs: Sequence[str], n_seeds: int, **changes: Any) -> Plan:
    """Plan 100 steps with an evaluation of 2 episodes every 50."""
    hyperparameters = {"policy": "MlpPolicy", "n_timesteps": 100, "n_steps": 8}
    settings = {
        arm: {env: ResolvedSettings(dict(hyperparameters), f"{algo}.yml", env, "tuned", {}) for env in envs}
        for arm, algo in arms.items()
    }
    fields: dict[str, Any] = {
        "arms": dict(arms),
        "settings": settings,
        "budgets": {env: Budget(100, 50) for env in envs},
        "seeds": list(range(n_seeds)),
        "eval_episodes": 2,
        "device": "cpu",
        "baseline": next(iter(arms)),
        "commands": ("sb3-ppo-variants compare ...",),
    }
    return Plan(**{**fields, **changes})


def make_result(plan: Plan, cell: Cell, curve: Sequence[float], **changes: Any) -> dict[str, Any]:
    """Make the result of a cell from the mean reward of each evaluation; its two episodes are 1 above and below.

    Those of the random policy are nearly equal, so that little is better than chance.
    """
    steps = (0,) if cell.arm == RANDOM_POLICY else STEPS
    trained = cell.arm != RANDOM_POLICY
    spread = 1 if trained else 0.01
    evaluations = [
        {
            "timesteps": step,
            "train_seconds": step / 10,
            "cpu_seconds": step / 20,
            "rewards": [mean - spread, mean + spread],
            "lengths": [7, 9],
        }
        for step, mean in zip(steps, curve, strict=True)
    ]
    trace = {
        "timesteps": [40.0, 80.0],
        "n_updates": [1.0, 2.0],
        "kl_divergence": [0.01, 0.04],
        "target_kl": [0.01, 0.01],
        "explained_variance": [0.5, None],
    }
    return {
        **plan.task(cell).to_json(),
        "evaluations": evaluations,
        "trace": trace if trained else {},
        "cost": {"train_seconds": 10.0, "cpu_seconds": 8.0, "peak_memory_mib": 400.0} if trained else {},
        "deterministic": trained,
        "arguments": {"target_kl": "0.01"} if trained else {},
        "environment": {"torch": "2.13.0", "python": "3.11.7"},
        "finished": "2026-01-02T03:04:05+00:00",
        **changes,
    }


def make_results(plan: Plan, final: Mapping[str, Sequence[float]], random: float = 0.0) -> dict[Cell, dict[str, Any]]:
    """Make results of all cells: by arm, the reward that each seed rises to, on every environment."""
    results = {}
    for cell in plan.cells():
        curve = (
            [random] if cell.arm == RANDOM_POLICY else [0.0, final[cell.arm][cell.seed] / 2, final[cell.arm][cell.seed]]
        )
        results[cell] = make_result(plan, cell, curve)
    return results
