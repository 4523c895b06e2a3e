"""Environments go on from the middle of an episode exactly as the ones whose state was taken."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
from environments import TinyEnv, make_env, make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from sb3_ppo_variants.checkpoints.environment_state import CheckpointableEnv, put_state, take_state
from sb3_ppo_variants.vec_env import GymnasiumVecEnv


def actions_of(venv: VecEnv, seed: int, steps: int) -> list[Any]:
    venv.action_space.seed(seed)
    return [np.array([venv.action_space.sample() for _ in range(venv.num_envs)]) for _ in range(steps)]


def walk(venv: VecEnv, actions: list[Any]) -> list[Any]:
    """Take steps and return everything they give, but for the seconds in Monitor's episode statistics."""
    seen: list[Any] = []
    for action in actions:
        obs, rewards, dones, infos = venv.step(action)
        episodes = [(i["episode"]["r"], i["episode"]["l"]) for i in infos if "episode" in i]
        seen.append((obs, rewards, dones, episodes, [i["TimeLimit.truncated"] for i in infos]))
    return seen


def assert_goes_on_alike(make: Callable[[], VecEnv], before: int = 13, after: int = 40) -> None:
    """Walk, take the state, walk on; then do the last part again from the state in a new environment."""
    first, second = make(), make()
    first.seed(3)
    first.reset()
    walk(first, actions_of(first, 0, before))
    state = take_state(first)
    expected = walk(first, actions_of(first, 1, after))

    second.seed(8)
    second.reset()
    assert state.obstacle is None
    assert put_state(state, second) is None
    seen = walk(second, actions_of(second, 1, after))
    np.testing.assert_equal(seen, expected)
    assert any(dones.any() for _, _, dones, _, _ in expected)  # a reset, with its random state, was among them
    first.close()
    second.close()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"])
def test_gymnasium_s_own_environments_go_on(env_id: str) -> None:
    def make() -> VecEnv:
        return DummyVecEnv([lambda: Monitor(gym.make(env_id, max_episode_steps=30))] * 2)

    assert_goes_on_alike(make)


def test_a_mujoco_simulation_goes_on() -> None:
    assert_goes_on_alike(lambda: DummyVecEnv([lambda: gym.make("HalfCheetah-v5", max_episode_steps=30)] * 2))


def test_an_atari_emulator_goes_on() -> None:
    gym.register_envs(ale_py)
    assert_goes_on_alike(lambda: DummyVecEnv([lambda: gym.make("ALE/Pong-v5", max_num_frames_per_episode=100)]))


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(VecNormalize, id="normalize"),
        pytest.param(VecMonitor, id="monitor"),
        pytest.param(lambda env: VecFrameStack(VecNormalize(env), 3), id="stack"),
    ],
)
def test_wrappers_of_vectorised_environments_go_on(wrap: Callable[[VecEnv], VecEnv]) -> None:
    assert_goes_on_alike(lambda: wrap(make_vec_env("box")))


def test_stacked_images_go_on() -> None:
    assert_goes_on_alike(lambda: VecTransposeImage(VecFrameStack(make_vec_env(observation="image"), 2)))


def test_checkpointable_environments_go_on_in_processes_of_their_own() -> None:
    def make() -> VecEnv:
        return SubprocVecEnv([lambda: CheckpointableEnv(Monitor(TinyEnv()))] * 2, start_method="fork")

    assert_goes_on_alike(make)


class ForgetsItsClass:
    """Can be pickled, and not be read again, as of a class that has moved."""

    def __reduce__(self) -> Any:
        return _is_gone, ()


def _is_gone() -> Any:
    raise AttributeError("no class of that name")


class Carries(TinyEnv):
    """Holds something of a kind."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.carried = kind()


@pytest.mark.parametrize(
    ("kind", "when", "why"),
    [
        (lambda: (number for number in range(3)), "taken", "generator"),
        (ForgetsItsClass, "put back", "AttributeError: no class of that name"),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_what_cannot_be_taken_or_put_back_is_named_and_ends_nothing(
    kind: Any, when: str, why: str, apart: bool
) -> None:
    def make() -> VecEnv:
        envs = [lambda: CheckpointableEnv(Monitor(Carries(kind)))] * 2
        return SubprocVecEnv(envs, start_method="fork") if apart else DummyVecEnv(envs)

    first, second = make(), make()
    for venv in (first, second):
        venv.reset()
    state = take_state(first)
    assert (state.obstacle is None) == (when == "put back")
    assert why in str(put_state(state, second))
    for venv in (first, second):
        venv.step(np.zeros(2, np.int64))
        venv.close()


def test_other_environments_in_processes_of_their_own_have_to_be_reset() -> None:
    venv = SubprocVecEnv([make_env()], start_method="fork")
    state = take_state(venv)
    assert "CheckpointableEnv" in str(state.obstacle)
    assert put_state(state, venv) == state.obstacle
    venv.close()


def test_gymnasium_s_own_processes_survive_a_checkpoint() -> None:
    venv = GymnasiumVecEnv(gym.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="async"))
    venv.reset()
    assert "SubprocVecEnv" in str(take_state(venv).obstacle)
    venv.step(np.zeros((2, 1)))
    venv.close()


def test_an_environment_that_is_made_of_another_goes_on() -> None:
    class Composed(TinyEnv):
        def __init__(self) -> None:
            super().__init__()
            self.env = gym.make("CartPole-v1")

        def reset(self, **kwargs: Any) -> Any:
            self.env.reset(seed=3)
            return super().reset(**kwargs)

        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            position = self.env.step(0)[0][0]
            return observation, float(position), *rest

    assert_goes_on_alike(lambda: DummyVecEnv([lambda: Monitor(Composed())] * 2))


def test_an_environment_may_speak_for_itself() -> None:
    class Counter(TinyEnv):
        def __init__(self) -> None:
            super().__init__()
            self.connection = open(__file__)  # what no pickle holds

        def state_dict(self) -> dict[str, Any]:
            return {name: value for name, value in vars(self).items() if name != "connection"}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            vars(self).update(state)

    assert_goes_on_alike(lambda: DummyVecEnv([lambda: Monitor(Counter())] * 2))


def test_what_cannot_be_pickled_is_named_and_left_alone() -> None:
    venv = VecNormalize(DummyVecEnv([lambda: gym.make("LunarLander-v3")]))
    venv.reset()
    walk(venv, actions_of(venv, 0, 5))
    state = take_state(venv)
    assert "SwigPyObject" in str(state.obstacle)

    other = VecNormalize(DummyVecEnv([lambda: gym.make("LunarLander-v3")]))
    world = other.unwrapped.envs[0].unwrapped.world  # type: ignore[attr-defined]  # DummyVecEnv
    assert put_state(state, other) == state.obstacle
    assert other.unwrapped.envs[0].unwrapped.world is world  # type: ignore[attr-defined]
    np.testing.assert_array_equal(other.obs_rms.mean, venv.obs_rms.mean)  # normalisation is kept in any case
    assert other.obs_rms.count == venv.obs_rms.count != VecNormalize(make_vec_env()).obs_rms.count


def test_the_monitor_s_file_stays_open_in_its_own_process(tmp_path: Path) -> None:
    first = DummyVecEnv([lambda: Monitor(TinyEnv(), str(tmp_path / "first"))])
    first.seed(0)
    first.reset()
    walk(first, actions_of(first, 0, 5))  # an episode of 3 steps, and 2 of the 11 of the next
    second = DummyVecEnv([lambda: Monitor(TinyEnv(), str(tmp_path / "second"))])
    assert put_state(take_state(first), second) is None
    walk(second, actions_of(second, 0, 9))
    second.close()
    assert (tmp_path / "second.monitor.csv").read_text().splitlines()[-1].split(",")[1] == "11"


def test_references_to_a_layer_and_shared_objects_stay_what_they_are() -> None:
    class Tangled(TinyEnv):
        def __init__(self) -> None:
            super().__init__()
            self.myself = [self]
            self.ask = lambda: self.steps
            self.one = self.other = np.zeros(2)

    first, second = Tangled(), Tangled()
    first.reset(seed=0)
    first.step(0)
    first.one += 5
    assert put_state(take_state(DummyVecEnv([lambda: first])), DummyVecEnv([lambda: second])) is None
    assert second.myself[0] is second
    second.step(0)
    assert second.ask() == 2
    assert second.one is second.other is not first.one
    assert second.one[0] == 5


def test_environments_built_otherwise_have_to_be_reset() -> None:
    first, second = make_vec_env(), DummyVecEnv([lambda: Monitor(TinyEnv())] * 2)
    first.reset()
    reason = put_state(take_state(first), second)
    assert reason == "it is built of ['DummyVecEnv', 'Monitor', 'TinyEnv', 'Monitor', 'TinyEnv'], not of " + str(
        ["DummyVecEnv", "TinyEnv", "TinyEnv"]
    )


def test_a_missing_normalisation_is_refused() -> None:
    state = take_state(VecNormalize(make_vec_env()))
    with pytest.raises(ValueError, match="statistics of 1 VecNormalize, got an environment with 0; wrap it"):
        put_state(state, make_vec_env())


class Views(gym.Env[Any, Any]):
    """Steps in place on views of one array, and keeps numbers in slots, one of them private."""

    __slots__ = ("__all", "count")
    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.state = np.zeros(4)
        self.position, self.velocity = self.state[:2], self.state[:1:-1]
        self.__all = self.count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        self.state[:] = self.np_random.normal(size=4)
        return self.state.copy(), {}

    def step(self, action: int) -> Any:
        self.__all += 1
        self.count += 1
        self.velocity += action + self.np_random.normal(size=2)
        self.position += self.velocity
        return self.state.copy(), float(self.count + 100 * self.__all), self.count > 9, False, {}


class NamesThings(gym.Wrapper[Any, Any, Any, Any]):
    """Has attributes with the names of some of SB3's own."""

    def __init__(self, env: gym.Env[Any, Any]):
        super().__init__(env)
        self.venv = self.class_attributes = self.results_writer = 0

    def step(self, action: Any) -> Any:
        self.venv += 1
        self.class_attributes += 2
        self.results_writer += 3
        observation, reward, *rest = self.env.step(action)
        return (observation, reward + self.venv + 100 * self.class_attributes + 10_000 * self.results_writer, *rest)


def test_attributes_that_sb3_has_elsewhere_go_on() -> None:
    assert_goes_on_alike(lambda: DummyVecEnv([lambda: NamesThings(Monitor(Views()))]))


def test_views_of_one_array_and_slots_go_on() -> None:
    assert_goes_on_alike(lambda: DummyVecEnv([Views, Views]))


def columns() -> Any:
    matrix = np.zeros((2, 2), order="F")
    return matrix, matrix[:, 0], matrix.T[1]


def windows() -> Any:
    series = np.zeros(4)
    overlapping: Any = np.lib.stride_tricks.as_strided(series, (3, 2), (8, 8))
    return series, overlapping[0], overlapping[2]


def two_parts() -> Any:
    whole = np.zeros(4)
    return whole[:2], whole[:2], whole[2:]


class SharesMemory(Views):
    """Steps on arrays that share memory otherwise."""

    def __init__(self, arrays: Callable[[], Any]) -> None:
        super().__init__()
        self.state, self.position, self.velocity = arrays()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super(Views, self).reset(seed=seed)
        self.count = 0
        self.state[...] = self.np_random.normal(size=self.state.shape)
        return np.resize(self.state, 4), {}

    def step(self, action: int) -> Any:
        return np.resize(self.state, 4), *super().step(action)[1:]


@pytest.mark.parametrize("arrays", [columns, windows, two_parts])
def test_arrays_that_share_memory_go_on_sharing_it(arrays: Callable[[], Any]) -> None:
    assert_goes_on_alike(lambda: DummyVecEnv([lambda: SharesMemory(arrays)] * 2))


DATA = np.zeros(1_000_000)


def test_a_window_on_a_data_set_is_kept_without_the_data_set() -> None:
    def looking_at(window: Any) -> DummyVecEnv:
        env = TinyEnv()
        env.window = window  # type: ignore[attr-defined]
        return DummyVecEnv([lambda: env])

    first, second = looking_at(DATA[10:20]), looking_at(np.ones(10))
    state = take_state(first)
    assert len(state.content or b"") < 10_000
    assert put_state(state, second) is None
    assert not second.envs[0].window.any()  # type: ignore[attr-defined]


def test_a_view_that_cannot_be_written_stays_so() -> None:
    first, second = Views(), Views()
    first.position.flags.writeable = False
    assert put_state(take_state(DummyVecEnv([lambda: first])), DummyVecEnv([lambda: second])) is None
    assert not second.position.flags.writeable
    second.state[0] = 7
    assert second.position[0] == 7


def test_a_view_that_only_it_can_write_through_is_named() -> None:
    env = Views()
    env.state.flags.writeable = False
    assert "cannot be written has a view that can" in str(take_state(DummyVecEnv([lambda: env])).obstacle)


class LooksInside(gym.Wrapper[Any, Any, Any, Any]):
    """Rewards what it sees of the innermost environment."""

    def __init__(self, env: gym.Env[Any, Any]):
        super().__init__(env)
        self.inner: Any = env.unwrapped

    def step(self, action: Any) -> Any:
        observation, _, *rest = self.env.step(action)
        return (observation, float(self.inner.count), *rest)


def test_a_checkpointable_environment_is_a_wrapper_like_others_within_one_process() -> None:
    assert_goes_on_alike(lambda: DummyVecEnv([lambda: LooksInside(CheckpointableEnv(Views()))]))


def test_a_checkpointable_environment_may_be_a_subclass() -> None:
    class Own(CheckpointableEnv):
        pass

    def make() -> VecEnv:
        return SubprocVecEnv([lambda: Own(Monitor(TinyEnv()))] * 2, start_method="fork")

    assert_goes_on_alike(make)
    assert_goes_on_alike(lambda: DummyVecEnv([lambda: LooksInside(Own(Views()))]))


def test_what_is_around_a_checkpointable_environment_in_another_process_is_not_lost_unnoticed() -> None:
    first, second = (
        SubprocVecEnv([lambda: Monitor(CheckpointableEnv(TinyEnv()))] * 2, start_method="fork") for _ in range(2)
    )
    for venv in (first, second):
        venv.reset()
    assert "around all other wrappers" in str(put_state(take_state(first), second))
    for venv in (first, second):
        venv.step(np.zeros(2, np.int64))
        venv.close()


@pytest.mark.parametrize("kind", ["one process", "processes"])
def test_classes_of_the_script_stay_the_script_s(tmp_path: Path, kind: str) -> None:
    """Else ``self.phase is Phase.UP`` is false after a resume."""
    script = Path(__file__).parent / "script_with_classes.py"
    for what, steps in (("start", 32), ("resume", 64)):
        command = [sys.executable, "-W", "error::UserWarning", str(script), what, kind, str(tmp_path / "run")]
        ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths()})
        assert ended.stdout == f"{steps} 1.0\n", ended.stderr


def paths() -> str:
    return os.pathsep.join(filter(None, sys.path))
