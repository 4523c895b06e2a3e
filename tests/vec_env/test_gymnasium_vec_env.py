"""gymnasium's vector environments, and simulators with their interface, behave as SB3's DummyVecEnv does."""

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from environments import make_env
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import (
    DictInfoToList,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    TransformReward,
)
from hosts import VARIANTS, build
from numpy.testing import assert_array_equal
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, ResultsWriter, load_results
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from sb3_ppo_variants import MaskablePPOClip, PPOClip
from sb3_ppo_variants.vec_env import GymnasiumVecEnv
from sb3_ppo_variants.vec_env.vector_infos import LazyInfos

N_ENVS = 3


def sync(mode: AutoresetMode, action: str = "discrete", observation: str = "vector", n_envs: int = N_ENVS) -> Any:
    return SyncVectorEnv([make_env(action, observation)] * n_envs, autoreset_mode=mode)


class NumbersEpisodes(gym.Wrapper[Any, Any, Any, Any]):
    """Tells with each reset how many there have been."""

    count = 0

    def reset(self, **arguments: Any) -> Any:
        observation, _ = self.env.reset(**arguments)
        self.count += 1
        return observation, {"count": self.count}


class CountingSimulator(VectorEnv[Any, Any, Any]):
    """Counts steps in torch tensors that it writes into again; environment i ends after 3 + i steps, in turn by itself
    and by a time limit."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  # as gymnasium has it

    def __init__(self, num_envs: int = 2, in_dict: bool = False, tells: bool = True):
        self.num_envs = num_envs
        self.in_dict, self.tells = in_dict, tells
        box = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.single_observation_space = spaces.Dict({"count": box}) if in_dict else box
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.counts = th.zeros(num_envs, 1)
        self.episodes = th.zeros(num_envs, dtype=th.int64)
        self.difficulty = 1.0
        self.scale = th.tensor(0.5)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.seed, self.options = seed, options
        self.counts.zero_()
        return self._seen(self.counts), {}

    def step(self, actions: Any) -> Any:
        assert isinstance(actions, th.Tensor)
        self.counts += 1
        over = self.counts[:, 0] >= 3 + th.arange(self.num_envs)
        by_itself = over & (self.episodes % 2 == 0)
        infos: dict[str, Any] = {"height": self.counts[:, 0] * 10, "log": {"shared": 1.0, "mean": self.counts.mean()}}
        if self.tells:
            infos["final_obs"] = self._seen(self.counts.clone())
        self.episodes += over
        self.counts[over] = 0.0
        return self._seen(self.counts), th.ones(self.num_envs), by_itself, over & ~by_itself, infos

    def double(self, number: int) -> int:
        return 2 * number

    def rows(self) -> th.Tensor:
        return th.arange(self.num_envs)

    def _seen(self, counts: th.Tensor) -> Any:
        return {"count": counts} if self.in_dict else counts


class ReusingSimulator(VectorEnv[Any, Any, Any]):
    """Has one dictionary of infos, whose arrays it writes into; the first environment ends after two steps."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012  # as gymnasium has it
    num_envs, single_action_space = 2, spaces.Discrete(2)
    single_observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self) -> None:
        nested = {"listed": [0, 0], "tensor": th.zeros(2)}
        self.infos: dict[str, Any] = {
            "t": np.zeros(2),
            "nested": nested,
            "shared": 1,
            "_shared": np.ones(2, dtype=bool),
        }

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._write(self.infos["t"] * ~(options or {}).get("reset_mask", np.ones(2, dtype=bool)))
        return np.zeros((2, 1), dtype=np.float32), self.infos

    def step(self, actions: Any) -> Any:
        self._write(self.infos["t"] + 1)
        over = np.array([self.infos["t"][0] == 2, False])
        return np.zeros((2, 1), dtype=np.float32), np.zeros(2), over, np.zeros(2, dtype=bool), self.infos

    def _write(self, times: Any) -> None:
        self.infos["t"][:] = self.infos["nested"]["listed"][:] = times
        self.infos["nested"]["tensor"][:] = th.as_tensor(times)


@pytest.mark.parametrize("observation", ["vector", "dict"])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_sync_vector_env_behaves_as_dummy_vec_env(mode: AutoresetMode, observation: str) -> None:
    check_like_dummy(GymnasiumVecEnv(sync(mode, "discrete", observation)), observation)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_async_vector_env_behaves_as_dummy_vec_env(mode: AutoresetMode) -> None:
    env = GymnasiumVecEnv(AsyncVectorEnv([make_env()] * N_ENVS, autoreset_mode=mode))
    check_like_dummy(env, "vector")
    assert env.get_attr("reward_scale", indices=[1]) == [1.0]
    env.set_attr("reward_scale", 2.0)
    assert env.get_attr("reward_scale") == [2.0] * N_ENVS
    assert [mask.dtype for mask in env.env_method("action_masks")] == [np.bool_] * N_ENVS
    with pytest.raises(ValueError, match="acts on all environments"):
        env.env_method("action_masks", indices=[0])
    env.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_infos_of_resets_are_those_of_dummy_vec_env(mode: AutoresetMode) -> None:
    env_fns = [lambda: NumbersEpisodes(make_env()())] * N_ENVS
    envs = [GymnasiumVecEnv(SyncVectorEnv(env_fns, autoreset_mode=mode)), DummyVecEnv(env_fns)]
    for env in envs:
        env.seed(5)
        env.reset()
    for _ in range(30):
        for env in envs:
            env.step(np.zeros(N_ENVS, dtype=np.int64))
        assert envs[0].reset_infos == envs[1].reset_infos
    assert min(info["count"] for info in envs[0].reset_infos) > 3


def check_like_dummy(env: GymnasiumVecEnv, observation: str) -> None:
    dummy = DummyVecEnv([lambda: Monitor(make_env("discrete", observation)())] * N_ENVS)
    assert env.observation_space == dummy.observation_space
    assert env.action_space == dummy.action_space
    for one in (env, dummy):
        one.seed(5)
    np.testing.assert_equal(env.reset(), dummy.reset())
    generator, ends = np.random.default_rng(0), 0
    for _ in range(60):
        actions = generator.integers(0, 3, N_ENVS)
        ours, theirs = env.step(actions), dummy.step(actions)
        np.testing.assert_equal(ours[:3], theirs[:3])
        for i, (our_info, their_info) in enumerate(zip(ours[3], theirs[3], strict=True)):
            assert our_info["TimeLimit.truncated"] is their_info["TimeLimit.truncated"]
            assert ("terminal_observation" in our_info) == ours[2][i]
            np.testing.assert_equal(our_info.get("terminal_observation"), their_info.get("terminal_observation"))
            if ours[2][i]:
                ends += 1
                assert our_info["episode"]["l"] == their_info["episode"]["l"]
                assert our_info["episode"]["r"] == pytest.approx(their_info["episode"]["r"], abs=1e-5)
    assert ends > 10


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize(
    ("cls", "mode"),
    [(PPOClip, mode) for mode in AutoresetMode] + [(cls, AutoresetMode.SAME_STEP) for cls in VARIANTS.values()][1:],
)
def test_all_classes_learn_on_a_vector_env_what_they_learn_on_dummy_vec_env(cls: Any, mode: AutoresetMode) -> None:
    ours = build(cls, env=sync(mode, n_envs=2)).learn(100)
    theirs = build(cls).learn(100)
    assert isinstance(ours.env, GymnasiumVecEnv)
    for name, value in theirs.policy.state_dict().items():
        assert th.equal(value, ours.policy.state_dict()[name])


def test_a_simulator_that_resets_in_the_next_step_spends_an_episode_of_one_step_on_it() -> None:
    env = GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=4, vectorization_mode="vector_entry_point"))
    env.seed(0)
    env.reset()
    idle, lengths, steps = np.zeros(4, dtype=bool), [], np.zeros(4, dtype=int)
    for _ in range(200):
        observations, rewards, dones, infos = env.step(np.ones(4, dtype=np.int64))
        steps += ~idle
        for i in range(4):
            if idle[i]:
                assert rewards[i] == 0
                assert dones[i]
                assert "episode" not in infos[i]
                assert np.abs(observations[i]).max() <= 0.05  # where CartPole begins
                assert np.abs(infos[i]["terminal_observation"]).max() > 0.05
                assert not infos[i]["TimeLimit.truncated"]
            elif dones[i]:
                lengths.append(infos[i]["episode"]["l"])
                assert infos[i]["episode"]["r"] == infos[i]["episode"]["l"] == steps[i]
                steps[i] = 0
        idle = dones & ~idle
    assert len(lengths) > 20
    assert max(lengths) < 15  # always to the right


class NextStepSimulator(VectorEnv[Any, Any, Any]):
    """Counts; environment i ends at 2 + i, and is reset in the step after that. Only one action is valid at a time."""

    def __init__(self, num_envs: int = 2):
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = spaces.Dict({"count": spaces.Box(-np.inf, np.inf, (1,), np.float32)})
        self.single_action_space = spaces.Discrete(3)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.counts, self.over = np.zeros(num_envs), np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.counts[:] = 0
        return self._seen(), {}

    def step(self, actions: Any) -> Any:
        assert (np.asarray(actions) == self.counts % 3).all()
        infos = {"was": self.counts, "_was": self.over}  # told with resets
        self.counts = np.where(self.over, 0, self.counts + 1)
        self.over = self.counts == 2 + np.arange(self.num_envs)
        return self._seen(), np.ones(self.num_envs), np.zeros(self.num_envs, dtype=bool), self.over.copy(), infos

    def action_masks(self) -> Any:
        return np.arange(3) == self.counts[:, None] % 3

    def _seen(self) -> Any:
        return {"count": self.counts[:, None].astype(np.float32)}


def test_dictionaries_and_masks_of_a_simulator_that_resets_in_the_next_step() -> None:
    model = build(MaskablePPOClip, observation="vectors", env=GymnasiumVecEnv(NextStepSimulator()), gamma=0.5)
    model.learn(50)
    buffer = model.rollout_buffer
    counts = buffer.observations["count"].reshape(2, -1)  # one environment after the other
    np.testing.assert_array_equal(counts[:, :6], [[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 0, 1]])
    rewards = buffer.rewards.T
    starts = buffer.episode_starts.T
    np.testing.assert_array_equal(starts[:, :6], [[1, 0, 1, 1, 0, 1], [1, 0, 0, 1, 1, 0]])
    assert rewards[0, 0] == rewards[1, 0] == rewards[1, 1] == 1
    bootstrapped = rewards[0, 1] - 1  # by the value of where the time limit ended the episode
    assert bootstrapped != 0
    assert rewards[0, 2] == pytest.approx(bootstrapped, rel=1e-4)  # the step that resets has no reward of its own
    masks = buffer.action_masks.reshape(2, -1, 3)
    np.testing.assert_array_equal(masks.argmax(axis=2)[:, :6], counts[:, :6] % 3)
    assert model.ep_info_buffer[0]["l"] == 2


def test_infos_of_the_resets_of_a_simulator_that_resets_in_the_next_step() -> None:
    env = GymnasiumVecEnv(NextStepSimulator())
    env.reset()
    for action, infos in (
        ([0, 0], [{}, {}]),
        ([1, 1], [{}, {}]),
        ([2, 2], [{"was": 2}, {}]),
        ([0, 0], [{"was": 2}, {"was": 3}]),
    ):
        env.step(np.array(action))
        assert env.reset_infos == infos


@pytest.mark.parametrize("in_dict", [False, True])
def test_torch_simulator_with_same_step_autoreset(in_dict: bool) -> None:
    env = GymnasiumVecEnv(CountingSimulator(2, in_dict))
    env.seed(11)
    env.set_options({"level": 2})

    def counts(observation: Any) -> list[float]:
        return [float(x) for x in np.ravel(observation["count"] if in_dict else observation)]

    begin = env.reset()
    assert (env.env.seed, env.env.options) == (11, {"level": 2})
    first, _, dones, infos = env.step(np.zeros(2, dtype=np.int64))
    assert counts(begin) == [0, 0]  # copies: the simulator has written into its own since
    assert counts(first) == [1, 1]
    assert not dones.any()
    assert infos[1] == {"height": 10.0, "TimeLimit.truncated": False}
    env.step(np.zeros(2, dtype=np.int64))
    observations, rewards, dones, infos = env.step(np.zeros(2, dtype=np.int64))
    assert counts(observations) == [0, 3]
    assert rewards.dtype == np.float32
    assert dones.tolist() == [True, False]
    assert counts(infos[0]["terminal_observation"]) == [3]
    assert infos[0]["TimeLimit.truncated"] is False
    assert infos[0]["episode"]["l"] == 3
    for _ in range(3):
        *_, dones, infos = env.step(np.zeros(2, dtype=np.int64))
    assert dones[0]
    assert infos[0]["TimeLimit.truncated"] is True


def test_options_that_differ_are_refused() -> None:
    env = GymnasiumVecEnv(CountingSimulator(2))
    for options in ([{"level": 1}, {"level": 2}], [{"level": 1}, {}], [{"at": np.zeros(2)}, {"at": np.ones(2)}]):
        with pytest.raises(ValueError, match="options of CountingSimulator must be the same for all environments"):
            env.set_options(options)
    env.reset()
    assert env.env.options is None
    env.set_options([{"level": 3, "at": np.zeros(2)}, {"level": 3, "at": np.zeros(2)}])
    env.reset()
    assert env.env.options["level"] == 3
    env.set_options([{}, {}])
    env.reset()
    assert env.env.options is None


def test_a_simulator_that_does_not_tell_the_last_observation_is_not_bootstrapped() -> None:
    env = GymnasiumVecEnv(CountingSimulator(2, tells=False))
    env.reset()
    for _ in range(3):
        *_, infos = env.step(np.zeros(2, dtype=np.int64))
    assert "terminal_observation" not in infos[0]
    PPOClip("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1).learn(32)


def test_attributes_and_methods_of_a_simulator() -> None:
    env = GymnasiumVecEnv(CountingSimulator(3))
    assert env.get_attr("difficulty") == [1.0] * 3
    env.set_attr("difficulty", 2.0)
    assert env.get_attr("difficulty", indices=1) == [2.0]
    assert env.env_method("double", 4) == [8, 8, 8]
    assert [int(row) for row in env.env_method("rows")] == [0, 1, 2]
    assert [float(value) for value in env.get_attr("scale")] == [0.5] * 3
    assert not env.has_attr("nothing")
    with pytest.raises(ValueError, match="acts on all environments"):
        env.set_attr("difficulty", 3.0, indices=[0])


def test_a_question_for_what_is_not_there_leaves_the_processes_alive() -> None:
    env = GymnasiumVecEnv(gym.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="async"))
    env.reset()
    assert env.has_attr("render_mode")
    assert not env.has_attr("action_masks")
    for ask in (env.get_attr, env.env_method):
        with pytest.raises(AttributeError, match="the environments have no attribute 'action_masks'"):
            ask("action_masks")
    env.step(np.zeros((2, 1)))
    env.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_gymnasium_s_wrapper_counts_episodes_as_in_gymnasium_s_own_loop(mode: AutoresetMode) -> None:
    def counted() -> RecordEpisodeStatistics:
        tens = [lambda: gym.wrappers.TransformReward(gym.make("CartPole-v1"), lambda _: 10.0)] * N_ENVS
        return RecordEpisodeStatistics(SyncVectorEnv(tens, autoreset_mode=mode))

    ours, theirs = GymnasiumVecEnv(TransformReward(counted(), lambda reward: reward / 10)), counted()
    ours.seed(4)
    ours.reset()
    theirs.reset(seed=4)
    found: list[Any] = []
    expected: list[Any] = []
    for step in range(200):
        actions = np.full(N_ENVS, step % 2)
        infos = ours.step(actions)[3]
        episodes = [(i, info["episode"]) for i, info in enumerate(infos) if "episode" in info]
        found += [(step, i, episode["l"], episode["r"]) for i, episode in episodes]
        *_, infos = theirs.step(actions)
        if "episode" in infos:
            told = infos["episode"]
            expected += [(step, i, told["l"][i], 10 * told["l"][i]) for i in np.flatnonzero(infos["_episode"])]
    assert found == expected
    assert len(found) > 9


class Lives(gym.Wrapper[Any, Any, Any, Any]):
    """Ends the environment after every two steps, as a wrapper that ends a game with each life does."""

    steps, over = 0, True

    def reset(self, **arguments: Any) -> Any:
        if self.over:
            self.over = False
            return self.env.reset(**arguments)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        observation, _, terminated, truncated, info = self.env.step(action)
        self.steps, self.over = self.steps + 1, terminated or truncated
        return observation, 1.0, self.over or self.steps % 2 == 0, False, info


class Game(gym.Env[Any, Any]):
    """Brings 5 points in each of its six steps."""

    observation_space, action_space = spaces.Box(-9, 9, (1,)), spaces.Discrete(2)

    def reset(self, **arguments: Any) -> Any:
        super().reset(**arguments)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.full(1, self.steps, np.float32), 5.0, self.steps == 6, False, {}


@pytest.mark.parametrize("counter", [Monitor, gym.wrappers.RecordEpisodeStatistics])
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_episodes_are_those_of_the_monitor_inside(kind: Any, mode: AutoresetMode, counter: Any) -> None:
    env = GymnasiumVecEnv(kind([lambda: Lives(counter(Game()))] * 2, autoreset_mode=mode))
    env.reset()
    found = []
    for _ in range(14):
        _, _, dones, infos = env.step(np.zeros(2, np.int64))
        found += [(float(info["episode"]["r"]), int(info["episode"]["l"])) for info in infos if "episode" in info]
        assert all("terminal_observation" in info for info, done in zip(infos, dones) if done)
    env.close()
    assert found == [(30.0, 6)] * 4


def counted(envs: VectorEnv[Any, Any, Any]) -> list[Any]:
    env = GymnasiumVecEnv(envs)
    env.reset()
    infos = [info for _ in range(13) for info in env.step(np.zeros(1, np.int64))[3]]
    env.close()
    return [(float(info["episode"]["r"]), int(info["episode"]["l"])) for info in infos if "episode" in info]


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_what_a_counter_inside_does_not_tell_is_counted(kind: Any) -> None:
    record = gym.wrappers.RecordEpisodeStatistics
    assert counted(kind([lambda: record(Game(), stats_key="stats")])) == [(30.0, 6)] * 2
    assert counted(kind([lambda: gym.wrappers.TimeLimit(record(Game()), 4)])) == [(20.0, 4)] * 3
    assert counted(kind([lambda: gym.wrappers.TimeLimit(record(Game()), 6)])) == [(30.0, 6)] * 2


def test_what_has_a_monitor_counts_for_itself_and_the_rest_is_counted() -> None:
    env = GymnasiumVecEnv(SyncVectorEnv([lambda: Lives(Monitor(Game())), lambda: Lives(Game())]))
    env.reset()
    found: list[list[Any]] = [[], []]
    for _ in range(6):
        for place, info in enumerate(env.step(np.zeros(2, np.int64))[3]):
            found[place] += [info["episode"]["r"]] if "episode" in info else []
    assert found == [[30.0], [2.0, 2.0, 2.0]]


@pytest.mark.parametrize("name", ["final_obs", "final_observation"])
def test_a_simulator_that_only_shows_that_it_resets_in_the_same_step(name: str) -> None:
    class Silent(CountingSimulator):
        metadata: dict[str, Any] = {}  # noqa: RUF012  # as gymnasium has it

        def step(self, actions: Any) -> Any:
            *rest, infos = super().step(actions)
            return *rest, {name if key == "final_obs" else key: value for key, value in infos.items()}

    env, expected = GymnasiumVecEnv(Silent()), GymnasiumVecEnv(CountingSimulator())
    env.reset()
    expected.reset()
    for _ in range(9):
        ours, theirs = env.step(np.zeros(2, np.int64)), expected.step(np.zeros(2, np.int64))
        for one, other in zip(ours[:3], theirs[:3]):
            assert_array_equal(one, other)
        assert [info.get("terminal_observation") for info in ours[3]] == [
            info.get("terminal_observation") for info in theirs[3]
        ]


def test_metadata_are_the_environment_s() -> None:
    env = GymnasiumVecEnv(SyncVectorEnv([lambda: gym.make("CartPole-v1")]))
    assert env.metadata["render_fps"] == 50


def test_normalized_observations_are_learned_on() -> None:
    env = NormalizeObservation(sync(AutoresetMode.NEXT_STEP))
    PPOClip("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1).learn(200)


def test_normalized_rewards_are_gymnasium_s() -> None:
    def normalized() -> NormalizeReward:
        return NormalizeReward(SyncVectorEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=7)] * N_ENVS))

    ours, theirs = GymnasiumVecEnv(normalized()), normalized()
    ours.seed(3)
    ours.reset()
    theirs.reset(seed=3)
    for _ in range(40):
        actions = np.ones((N_ENVS, 1), np.float32)
        rewards, expected = ours.step(actions)[1], theirs.step(actions)[1]
        assert_array_equal(rewards[rewards != 0], expected[rewards != 0].astype(np.float32))
    assert ours.env.return_rms.var == theirs.return_rms.var  # type: ignore[attr-defined]  # NormalizeReward


def test_processes_without_shared_memory_take_every_action() -> None:
    def pendulums(**how: Any) -> GymnasiumVecEnv:
        return GymnasiumVecEnv(AsyncVectorEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=5)] * 2, **how))

    env = pendulums(shared_memory=False)
    env.seed(3)
    env.reset()
    steps = [env.step(np.ones((2, 1), np.float32)) for _ in range(13)]
    assert [bool(dones[0]) for _, _, dones, _ in steps] == [i % 6 in (4, 5) for i in range(13)]  # five steps, one reset
    assert all((rewards != 0).all() for i, (_, rewards, _, _) in enumerate(steps) if i % 6 != 5)
    env.close()


def test_a_wrapper_that_would_not_see_the_resets_is_refused() -> None:
    env = RecordEpisodeStatistics(sync(AutoresetMode.DISABLED))
    with pytest.raises(ValueError, match="must reset by itself.*inside RecordEpisodeStatistics.*SAME_STEP"):
        GymnasiumVecEnv(env)


class NamesMasks(VectorWrapper):
    """Answers for all environments what they do not know."""

    limits = (84, 84)

    def bonus(self) -> Any:
        return np.arange(self.num_envs)


def test_wrappers_of_a_vector_env_are_asked_first() -> None:
    env = GymnasiumVecEnv(NamesMasks(sync(AutoresetMode.SAME_STEP, n_envs=2)))
    assert env.has_attr("limits")
    assert env.get_attr("limits") == [(84, 84), (84, 84)]  # one value, not a value for each
    assert env.env_method("bonus") == [0, 1]
    assert env.env_method("bonus", indices=1) == [1]
    assert env.get_attr("reward_scale") == [1.0, 1.0]  # of each environment, as without the wrapper


def test_frames_may_be_one_array() -> None:
    env = CountingSimulator()
    env.render = lambda: th.zeros(2, 4, 5, 3, dtype=th.uint8)  # type: ignore[method-assign]
    images = GymnasiumVecEnv(env).get_images()
    assert [image.shape for image in images if image is not None] == [(4, 5, 3)] * 2


@pytest.mark.parametrize("given", [{"return": np.ones(2), "episode_len": np.ones(2)}, np.ones(2)])
def test_statistics_in_other_words_are_not_taken_for_monitor_s(given: Any) -> None:
    class Tells(CountingSimulator):
        def step(self, actions: Any) -> Any:
            *rest, infos = super().step(actions)
            return *rest, {**infos, "episode": given, "final_info": {**infos.get("final_info", {}), "episode": given}}

    env = GymnasiumVecEnv(Tells())
    env.reset()
    ended = [info["episode"] for _ in range(9) for info in env.step(np.zeros(2, np.int64))[3] if "episode" in info]
    assert {one["l"] for one in ended} == {3, 4}


def test_attributes_and_methods_of_each_environment() -> None:
    env = GymnasiumVecEnv(sync(AutoresetMode.SAME_STEP))
    env.set_attr("reward_scale", 5.0, indices=[1])
    assert env.get_attr("reward_scale") == [1.0, 5.0, 1.0]
    assert len(env.env_method("action_masks", indices=[0, 2])) == 2
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit) == [False] * 3


def test_infos_are_made_where_somebody_reads_them() -> None:
    made: list[int] = []

    def make(index: int) -> dict[str, Any]:
        made.append(index)
        return {"index": index}

    infos = LazyInfos(4, make)
    assert infos[-1] == infos[3] == {"index": 3}
    assert made == [3]
    infos[0] = {"own": 1}
    assert list(infos) == infos[:] == [{"own": 1}, {"index": 1}, {"index": 2}, {"index": 3}]
    assert made == [3, 1, 2]
    with pytest.raises(IndexError):
        infos[4]
    assert LazyInfos(2, make).copy() == list(reversed(LazyInfos(2, make)))[::-1] == [{"index": 0}, {"index": 1}]


def test_infos_that_nobody_has_read_are_compared_joined_pickled_and_shown_as_lists_are() -> None:
    def infos() -> LazyInfos:
        return LazyInfos(2, lambda index: {"index": index})

    plain, more = [{"index": 0}, {"index": 1}], [{"index": 2}]
    assert infos() == plain
    assert plain == infos()
    assert infos() == infos()
    assert not infos() != plain
    assert infos() + more == plain + more
    assert more + infos() == more + plain
    assert infos() + infos() == plain * 2
    assert repr(infos()) == repr(plain)
    for copied in (pickle.loads(pickle.dumps(infos())), copy.copy(infos()), copy.deepcopy(infos())):
        assert type(copied) is list
        assert copied == plain


CHANGES: dict[str, Any] = {
    "append": lambda infos: infos.append({"index": 9}),
    "extend": lambda infos: infos.extend([{"index": 9}] * 2),
    "insert": lambda infos: infos.insert(1, {"index": 9}),
    "pop": lambda infos: infos.pop(),
    "remove": lambda infos: infos.remove({"index": 1}),
    "clear": lambda infos: infos.clear(),
    "reverse": lambda infos: infos.reverse(),
    "sort": lambda infos: infos.sort(key=lambda info: -info["index"]),
    "delete": lambda infos: infos.__delitem__(0),
    "replace all": lambda infos: infos.__setitem__(slice(None), [{"own": 1}] * 4),
    "replace one": lambda infos: infos.__setitem__(-1, {"own": 1}),
    "add": lambda infos: infos.__iadd__([{"index": 9}]),
    "multiply": lambda infos: infos * 2 + 2 * infos,
    "multiply in place": lambda infos: infos.__imul__(2),
    "count": lambda infos: infos.count({"index": 2}),
    "remove while reading": lambda infos: [infos.remove(info) for info in infos if info["index"] == 1],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_infos_are_changed_as_lists_are(change: Any) -> None:
    infos, plain = LazyInfos(3, lambda index: {"index": index}), [{"index": index} for index in range(3)]
    found, expected = change(infos), change(plain)
    assert list(infos) == plain
    assert [infos[place] for place in range(len(plain))] == plain
    assert found == expected


def test_what_an_environment_goes_on_filling_is_copied() -> None:
    class Walks(Game):
        lock = threading.Lock()

        def reset(self, **arguments: Any) -> Any:
            self.path: list[int] = []
            return super().reset(**arguments)

        def step(self, action: Any) -> Any:
            self.path.append(len(self.path))
            return *super().step(action)[:4], {"path": self.path, "lock": self.lock}

    env = GymnasiumVecEnv(SyncVectorEnv([Walks]))
    env.reset()
    kept = [env.step(np.zeros(1, np.int64))[3] for _ in range(3)]
    assert [infos[0]["path"] for infos in kept] == [[0], [0, 1], [0, 1, 2]]
    assert all(infos[0]["lock"] is env.get_attr("lock")[0] for infos in kept)  # it has no copy


def test_infos_stay_those_of_their_step() -> None:
    """The simulator writes into its arrays again, at the next step and when it is told to reset what has ended."""
    env = GymnasiumVecEnv(ReusingSimulator())
    env.reset()
    kept = [env.step(np.zeros(2, dtype=np.int64))[3] for _ in range(4)]
    assert [infos[1]["t"] for infos in kept] == [1, 2, 3, 4]
    assert [infos[1]["nested"] for infos in kept] == [{"listed": t, "tensor": t} for t in (1, 2, 3, 4)]
    assert [infos[0]["t"] for infos in kept] == [1, 2, 1, 2]
    assert all(set(infos[1]) == {"t", "nested", "TimeLimit.truncated"} for infos in kept)


def test_learning_reads_the_infos_of_ended_episodes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bool] = []
    ordinary = LazyInfos.__getitem__

    def spied(self: LazyInfos, index: Any) -> Any:
        info = ordinary(self, index)
        read.append("terminal_observation" in info)
        return info

    monkeypatch.setattr(LazyInfos, "__getitem__", spied)
    model = PPOClip("MlpPolicy", CountingSimulator(8), n_steps=16, batch_size=64, n_epochs=1).learn(256)
    assert read
    assert all(read)
    assert len(model.ep_info_buffer) > 20


def cartpoles(**arguments: Any) -> PPOClip:
    env = gym.make_vec("CartPole-v1", num_envs=8, vectorization_mode="vector_entry_point")
    return PPOClip("MlpPolicy", env, n_steps=64, batch_size=256, n_epochs=10, gamma=0.98, seed=0, **arguments)


def test_a_vector_env_is_wrapped_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    cartpoles(verbose=1).learn(512)
    assert "Wrapping the vector env in a GymnasiumVecEnv." in capsys.readouterr().out


@pytest.mark.slow
def test_a_vector_env_is_learned_on() -> None:
    model = cartpoles().learn(20_000)
    lengths = [info["l"] for info in model.ep_info_buffer]
    assert np.mean(lengths[-20:]) > 100
    mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=8)
    assert mean > 100


def test_stock_ppo_and_wrappers_work_on_it() -> None:
    env = VecNormalize(VecMonitor(GymnasiumVecEnv(sync(AutoresetMode.SAME_STEP, "box"))))
    model = PPO("MlpPolicy", env, n_steps=20, batch_size=30, n_epochs=1).learn(120)
    assert len(model.ep_info_buffer) > 5


def test_masks_come_through() -> None:
    model = build(MaskablePPOClip, env=sync(AutoresetMode.SAME_STEP, n_envs=2)).learn(50)
    assert not model.rollout_buffer.action_masks.all()


@pytest.mark.parametrize("name", ["phys2d/CartPole-v1", "phys2d/Pendulum-v0"])
def test_simulators_in_jax_are_learned_on(name: str) -> None:
    pytest.importorskip("flax", reason="pip install jax flax")
    env = GymnasiumVecEnv(gym.make_vec(name, 3))
    env.seed(0)
    observations = env.reset()
    assert observations.dtype == np.float32
    assert observations.flags.writeable
    observations[:] = np.nan
    assert np.isfinite(env.step(np.array([env.action_space.sample() for _ in range(3)]))[0]).all()
    model = PPOClip("MlpPolicy", env, n_steps=250, batch_size=50, n_epochs=1).learn(1500)
    assert len(model.ep_info_buffer) >= 3
    assert all(episode["l"] <= 200 for episode in model.ep_info_buffer) or name == "phys2d/CartPole-v1"


def test_episodes_are_written_as_monitor_writes_them(tmp_path: Path) -> None:
    simulator = gym.make_vec("CartPole-v1", 3, vectorization_mode="vector_entry_point")
    env = GymnasiumVecEnv(simulator, ResultsWriter(str(tmp_path), {"t_start": 0.0, "env_id": "CartPole-v1"}))
    env.seed(0)
    env.reset()
    told = []
    for _ in range(100):
        _, _, dones, infos = env.step(np.zeros(3, dtype=np.int64))
        told += [infos[i]["episode"] for i in np.flatnonzero(dones) if "episode" in infos[i]]  # not of mere resets
    env.close()
    written = load_results(str(tmp_path))
    assert len(told) > 10
    assert [(e["r"], e["l"]) for e in told] == list(zip(written["r"], written["l"]))
    assert (np.diff(written["t"]) >= 0).all()


def test_a_wrapper_s_attribute_is_set_where_it_is_read() -> None:
    env = GymnasiumVecEnv(NormalizeObservation(sync(AutoresetMode.NEXT_STEP)))
    env.set_attr("update_running_mean", False)
    assert env.get_attr("update_running_mean") == [False] * N_ENVS
    assert not env.env.update_running_mean  # type: ignore[attr-defined]  # of the wrapper
    with pytest.raises(ValueError, match="acts on all environments"):
        env.set_attr("update_running_mean", True, indices=[0])


def test_infos_as_a_list_are_refused() -> None:
    with pytest.raises(TypeError, match="one dictionary for all, got list; leave out the wrapper"):
        GymnasiumVecEnv(DictInfoToList(sync(AutoresetMode.NEXT_STEP))).reset()


def test_a_seed_may_be_numpy_s() -> None:
    first, second = (GymnasiumVecEnv(sync(AutoresetMode.SAME_STEP)) for _ in range(2))
    first.seed(3)
    second.seed(np.int64(3))  # type: ignore[arg-type]  # as taken out of an array
    assert_array_equal(first.reset(), second.reset())


@pytest.mark.parametrize("method", ["reset", "step", "close"])
def test_processes_survive_methods_that_they_keep_to_themselves(method: str) -> None:
    env = GymnasiumVecEnv(AsyncVectorEnv([make_env()] * 2))
    env.reset()
    for ask in (env.env_method, env.get_attr):
        with pytest.raises(ValueError, match="keeps some methods to itself, got .*; call it on the vectorised"):
            ask(method)
    env.step(np.zeros(2, np.int64))
    env.close()


def test_a_simulator_may_change_its_actions_in_place() -> None:
    class Clips(CountingSimulator):
        def step(self, actions: Any) -> Any:
            actions.clamp_(max=0)
            return super().step(actions)

    class ClipsArrays(ReusingSimulator):
        def step(self, actions: Any) -> Any:
            actions[:] = 0
            return super().step(actions)

    for env in (GymnasiumVecEnv(Clips()), GymnasiumVecEnv(ClipsArrays())):
        env.reset()
        actions = np.ones(env.num_envs, np.int64)
        env.step(actions)
        assert_array_equal(actions, 1)


@pytest.mark.parametrize("kind", [list, lambda rows: np.array([*rows, None], dtype=object)[:-1], lambda rows: None])
def test_last_infos_may_be_one_for_each_environment(kind: Any) -> None:
    """As in gymnasium before 1.0."""

    class Earlier(CountingSimulator):
        def step(self, actions: Any) -> Any:
            observations, rewards, terminated, truncated, infos = super().step(actions)
            infos.pop("final_info", None)
            over = np.asarray(terminated | truncated)
            if over.any():
                last = {"cause": "fell", "episode": {"r": np.array([7.0]), "l": np.array([3])}}
                infos["final_info"] = kind([last if ended else None for ended in over])
            return observations, rewards, terminated, truncated, infos

    env = GymnasiumVecEnv(Earlier())
    env.reset()
    told = [info for _ in range(4) for info in env.step(np.zeros(2, np.int64))[3] if "episode" in info]
    known = kind([None]) is not None
    assert len(told) == 2  # environments 0 and 1, after 3 and 4 steps
    assert {(info.get("cause"), info["episode"]["r"] == 7.0) for info in told} == {("fell" if known else None, known)}
    assert all(type(info["episode"]["l"]) is int and "terminal_observation" in info for info in told)


def test_what_is_no_vector_env_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a gymnasium.vector.VectorEnv, got TinyEnv; make one with"):
        GymnasiumVecEnv(make_env()())  # type: ignore[arg-type]
