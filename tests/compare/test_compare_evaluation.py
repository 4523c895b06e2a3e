"""How a run is evaluated: with the statistics of the moment, off the clock, from seeds that run and moment give."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from environments import make_vec_env
from hosts import build
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_ppo_variants import MaskablePPOClip, PPOClip
from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell, CellSettings, CellTask
from sb3_ppo_variants.compare.run import cell, evaluation
from sb3_ppo_variants.compare.run.evaluation import EvaluationProtocol, GridEvaluation, RandomPolicy

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


def test_statistics_are_those_of_the_moment_and_evaluations_cost_no_training_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    means: list[tuple[Any, Any]] = []
    clock = 0.0

    class Recorded(EvaluationProtocol):
        def run(self, model: Any, index: int) -> tuple[list[float], list[int]]:
            nonlocal clock
            clock += 100.0
            means.append((self.env.obs_rms.mean.copy(), model.env.obs_rms.mean.copy()))  # type: ignore[attr-defined]
            return [0.0], [1]

    for name in ("perf_counter", "process_time"):
        monkeypatch.setattr(evaluation.time, name, lambda: clock)
    own = VecNormalize(make_vec_env(), training=False, norm_reward=False)
    grid = GridEvaluation(Recorded(own, 1, True, 0), [0, 50, 100], lambda _: None)
    build(PPOClip, env=VecNormalize(make_vec_env())).learn(200, callback=grid)
    assert len(means) == 3
    assert all((here == there).all() for here, there in means)
    assert (means[0][0] != means[2][0]).any()
    assert clock == 300.0
    assert (grid.train_seconds, grid.cpu_seconds) == (0.0, 0.0)


def test_seeds_depend_on_run_and_evaluation_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "evaluate_policy", lambda *_, **__: ([0.0], [1]))

    def seeds(run: int) -> list[int]:
        said: list[int] = []
        env: Any = SimpleNamespace(seed=said.append)
        for index in range(3):
            EvaluationProtocol(env, 1, True, run).run(object(), index)
        return said

    assert seeds(0) == seeds(0)
    assert len({*seeds(0), *seeds(1)}) == 6
    assert all(0 <= seed < np.iinfo(np.uint32).max for seed in seeds(0))


@pytest.mark.parametrize("action", ["discrete", "multi_discrete", "multi_binary"])
def test_random_actions_are_valid_where_an_environment_masks_some(action: str) -> None:
    env = make_vec_env(action)
    maskable = build(MaskablePPOClip, action).policy
    n_choices = int(maskable.action_net.out_features)
    policy = RandomPolicy(env, 0)
    rng = np.random.default_rng(0)
    drawn = set()
    for _ in range(50):
        masks = rng.random((env.num_envs, n_choices)) < 0.5
        counts = maskable.action_dist.action_dims if action != "discrete" else [n_choices]
        for part in np.split(masks, np.cumsum(counts)[:-1], axis=1):
            part[:, 0] |= ~part.any(axis=1)
        actions, _ = policy.predict(None, action_masks=masks)
        assert actions.shape == (env.num_envs, *env.action_space.shape)
        for mask, chosen in zip(masks, actions.reshape(env.num_envs, -1)):
            for part, choice in zip(np.split(mask, np.cumsum(counts)[:-1]), chosen):
                assert part[choice]
        drawn |= set(map(tuple, actions.reshape(env.num_envs, -1).tolist()))
    assert len(drawn) > 2


def test_the_random_policy_heeds_the_masks_of_its_environments() -> None:
    env = DummyVecEnv([lambda: InvalidActionEnvDiscrete(dim=20, n_invalid_actions=15)])
    rewards, _ = EvaluationProtocol(env, 5, True, 0).run(RandomPolicy(env, 0), 0)
    free = DummyVecEnv([lambda: InvalidActionEnvDiscrete(dim=20, n_invalid_actions=0)])
    assert np.mean(rewards) > 2 * np.mean(EvaluationProtocol(free, 5, True, 0).run(RandomPolicy(free, 0), 0)[0])


class Bonus(gym.Env[Any, Any]):
    """Episodes of one step, with a reward from an argument."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, bonus: float = 1.0, render_mode: str | None = None):
        self.bonus, self.render_mode = bonus, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, _: Any) -> Any:
        return np.zeros(2, np.float32), self.bonus, True, False, {}


@pytest.mark.parametrize("algo", ["ppo", "ppo_penalty", RANDOM_POLICY])
def test_evaluation_has_the_environment_arguments_of_the_entry(tmp_path: Path, algo: str) -> None:
    if "Bonus-v0" not in gym.registry:
        gym.register("Bonus-v0", Bonus)
    entry = {"policy": "MlpPolicy", "n_timesteps": 64, "n_steps": 64, "env_kwargs": {"bonus": 5.0}}
    task = CellTask(Cell(algo, "Bonus-v0", 0), CellSettings(algo, entry, 65, 65, 2, "cpu"))
    measure = cell.measure_random_policy if algo == RANDOM_POLICY else cell.train
    assert [row["rewards"][0] for row in measure(task, tmp_path)["evaluations"]][-1] == 5.0
