"""EnvPool as a vector environment; what needs EnvPool itself is skipped without it."""

import sys
import types
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.vec_env import GymnasiumVecEnv
from sb3_ppo_variants.vec_env.envpool_vector_env import EnvPoolVectorEnv, envpool_task


@pytest.mark.parametrize(
    ("env_id", "task"),
    [
        ("PongNoFrameskip-v4", "Pong-v5"),
        ("ALE/SpaceInvaders-v5", "SpaceInvaders-v5"),
        ("CartPole-v1", "CartPole-v1"),
    ],
)
def test_tasks_have_their_names_in_envpool(env_id: str, task: str) -> None:
    assert envpool_task(env_id) == task


class GameOfTwoLives:
    """A pool of games as EnvPool's: a life lasts two steps, a game two lives; a step brings 5 points, clipped to 1."""

    def __init__(self, num_envs: int, seed: int):
        self.seed, self.steps = seed, np.zeros(num_envs, dtype=np.int64)

    def reset(self, ids: Any = None) -> Any:
        ids = np.arange(len(self.steps)) if ids is None else ids
        self.steps[ids[self.steps[ids] >= 4]] = 0
        return np.full((len(ids), 1), -1.0, dtype=np.float32), {"env_id": ids}

    def step(self, actions: Any) -> Any:
        self.steps += 1
        n = len(actions)
        over = self.steps == 4
        infos = {"env_id": np.arange(n), "lives": 2 - self.steps // 2, "reward": np.full(n, 5.0), "terminated": over}
        observations = self.steps[:, None].astype(np.float32)
        return observations, np.ones(n), self.steps % 2 == 0, np.zeros(n, dtype=bool), infos

    def close(self) -> None:
        pass


@pytest.fixture
def games(monkeypatch: pytest.MonkeyPatch) -> list[GameOfTwoLives]:
    made: list[GameOfTwoLives] = []

    def make(task: str, num_envs: int, seed: int) -> GameOfTwoLives:
        made.append(GameOfTwoLives(num_envs, seed))
        return made[-1]

    spec = types.SimpleNamespace(
        gymnasium_observation_space=spaces.Box(-1, 9, (1,), np.float32), gymnasium_action_space=spaces.Discrete(2)
    )
    stand_in: Any = types.ModuleType("envpool")
    stand_in.list_all_envs, stand_in.make_spec, stand_in.make_gymnasium = lambda: ["G-v5"], lambda task: spec, make
    monkeypatch.setitem(sys.modules, "envpool", stand_in)
    return made


def test_episodes_are_whole_games_in_points(games: list[GameOfTwoLives]) -> None:
    env = GymnasiumVecEnv(EnvPoolVectorEnv("G-v5", 2))
    env.seed(3)
    env.reset()
    assert [game.seed for game in games] == [3]
    episodes = []
    for step in range(1, 9):
        observations, rewards, dones, infos = env.step(np.zeros(2, dtype=np.int64))
        assert rewards.tolist() == [1.0, 1.0]
        assert dones.tolist() == [step % 2 == 0] * 2
        assert observations[0, 0] == (-1 if dones[0] else step % 4)
        if dones[0]:
            assert infos[0]["terminal_observation"] == [2 if step % 4 else 4]
            episodes.append(infos[0].get("episode"))
    assert episodes == [None, {"r": 20.0, "l": 4}] * 2

    env.seed(4)
    env.reset()
    env.reset()
    assert [game.seed for game in games] == [3, 4]  # made anew for a seed only


def test_what_ended_is_reset_where_observations_are_dictionaries() -> None:
    pytest.importorskip("envpool")
    env = GymnasiumVecEnv(EnvPoolVectorEnv("CheetahRun-v1", 2, max_episode_steps=3))
    assert isinstance(env.observation_space, spaces.Dict)
    env.seed(1)
    before = env.reset()
    for step in range(1, 8):
        observations, _, dones, infos = env.step(np.ones((2, 6), dtype=np.float32))
        assert dones.tolist() == [step % 3 == 0] * 2
        if dones[0]:
            assert infos[0]["episode"]["l"] == 3
            ended = infos[0]["terminal_observation"]
            assert all(not np.array_equal(ended[key], observations[key][0]) for key in observations)
    assert before.keys() == observations.keys() == ended.keys()


def test_unknown_tasks_are_refused(games: list[GameOfTwoLives]) -> None:
    with pytest.raises(ValueError, match="EnvPool has no task 'Pong-v4'"):
        EnvPoolVectorEnv("Pong-v4", 2)


def test_a_class_trains_on_envpool_and_a_seed_repeats_it() -> None:
    pytest.importorskip("envpool")
    runs = []
    for seed in (1, 1, 2):
        model = PPOPenalty("MlpPolicy", EnvPoolVectorEnv("CartPole-v1", 4), n_steps=64, n_epochs=2, seed=seed)
        model.learn(512)
        runs.append(np.array(model.rollout_buffer.observations))
        assert all(info["r"] == info["l"] for info in model.ep_info_buffer)
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
