"""LeanVecEnv is DummyVecEnv: same rollouts, same interface, nothing shared with the environments."""

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from environments import TinyEnv, make_env
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.checkpoints.environment_state import put_state, take_state
from sb3_ppo_variants.vec_env import LeanVecEnv
from sb3_ppo_variants.vec_env.lean_vec_env import innermost

KINDS = ["vector", "image", "dict"]


class TalkativeEnv(TinyEnv):
    """Puts everything into its infos, always the same dict, and returns its own state as the observation."""

    def __init__(self, action: str = "box") -> None:
        super().__init__(action)
        self.info: dict[str, Any] = {}
        self.path: list[float] = []
        self.place = np.zeros(4, dtype=np.float32)

    def step(self, action: Any) -> Any:
        _, reward, terminated, truncated, _ = super().step(action)
        self.path.append(reward)
        self.place[:] = self.state
        self.info |= {
            "number": np.float64(reward),
            "name": "x",
            "path": self.path,
            "place": self.place,
            "deep": {"a": [1]},
        }
        return self.place, np.float32(reward), terminated, truncated, self.info


class SharingEnv(TinyEnv):
    """Returns one info and one array as the observation, which all environments write into."""

    def __init__(self, info: dict[str, Any], place: Any) -> None:
        super().__init__("box")
        self.info, self.place = info, place

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.place[:], info = super().reset(seed=seed, options=options)
        return self.place, info

    def step(self, action: Any) -> Any:
        self.place[:], reward, terminated, truncated, _ = super().step(action)
        return self.place, reward, terminated, truncated, self.info


class TupleObservations(gym.ObservationWrapper[Any, Any, Any]):
    def __init__(self, env: Any) -> None:
        super().__init__(env)
        space = env.observation_space
        self.observation_space = spaces.Tuple([space, space])

    def observation(self, observation: Any) -> Any:
        return observation, -observation


def pair(*env_fns: Any) -> list[DummyVecEnv]:
    return [DummyVecEnv(list(env_fns)), LeanVecEnv(list(env_fns))]


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def assert_same_rollouts(stock: Any, lean: Any, steps: int = 40) -> None:
    for venv in (stock, lean):
        venv.seed(3)
        venv.action_space.seed(0)
    assert_same(stock.reset(), lean.reset())
    assert_same(stock.reset_infos, lean.reset_infos)
    kept = []
    for _ in range(steps):
        actions = np.array([stock.action_space.sample() for _ in range(stock.num_envs)])
        results = [venv.step(actions) for venv in (stock, lean)]
        kept.append(results)
        assert_same(*results)
        assert_same(stock.reset_infos, lean.reset_infos)
    for results in kept:  # none was changed by what the environments did later
        assert_same(*results)


@pytest.mark.parametrize("observation", KINDS)
@pytest.mark.parametrize("action", ["discrete", "box", "multi_discrete", "multi_binary"])
def test_rollouts_are_those_of_dummy_vec_env(action: str, observation: str) -> None:
    assert_same_rollouts(*pair(make_env(action, observation), make_env(action, observation)))


def test_infos_of_a_dict_that_is_used_again_are_those_of_dummy_vec_env() -> None:
    assert_same_rollouts(*pair(TalkativeEnv, TalkativeEnv, make_env("box")))


@pytest.mark.parametrize("one_info", [False, True])
def test_infos_and_observations_that_environments_share_are_those_of_dummy_vec_env(one_info: bool) -> None:
    def sharing() -> list[Any]:
        info, place = {"name": "x"}, np.zeros(4, dtype=np.float32)
        return [lambda: SharingEnv(info if one_info else {}, place)] * 3

    stock, lean = DummyVecEnv(sharing()), LeanVecEnv(sharing())
    assert_same_rollouts(stock, lean)
    for venv in (stock, lean):
        infos = venv.step(np.zeros((3, 2), dtype=np.float32))[3]
        assert (infos[0] is infos[2]) == one_info


def test_tuple_observations_are_those_of_dummy_vec_env() -> None:
    assert_same_rollouts(*pair(*[lambda: TupleObservations(TinyEnv("box"))] * 2))


def test_monitored_episodes_are_those_of_dummy_vec_env() -> None:
    stock, lean = pair(*[lambda: Monitor(TimeLimit(TinyEnv("box"), 4))] * 2)
    for venv in (stock, lean):
        venv.seed(1)
        venv.reset()
    ends = 0
    for _ in range(20):
        results = [venv.step(np.zeros((2, 2), dtype=np.float32))[3] for venv in (stock, lean)]
        for infos in results:
            for info in infos:
                ends += "episode" in info
                info.get("episode", {}).pop("t", None)  # seconds
        assert_same(*results)
    assert ends > 8


def test_what_is_returned_may_be_changed() -> None:
    """VecNormalize and callbacks write into infos and observations."""
    lean = LeanVecEnv([TalkativeEnv, TalkativeEnv])
    lean.reset()
    actions = np.zeros((2, 2), dtype=np.float32)
    obs, rewards, dones, infos = lean.step(actions)
    for array in (obs, rewards):
        array[...] = 7
    dones[:] = True
    for info in infos:
        info["place"][:] = 7
        info["path"].append(7)
        info["new"] = 7
    obs, rewards, dones, infos = lean.step(actions)
    assert (obs != 7).all() and (rewards != 7).all() and not dones.any()
    assert all("new" not in info and 7 not in info["path"] for info in infos)


def test_the_interface_is_that_of_dummy_vec_env() -> None:
    stock, lean = pair(*[lambda: Monitor(TinyEnv("discrete", reward_scale=2.0))] * 3)
    assert isinstance(lean, DummyVecEnv)
    for venv in (stock, lean):
        venv.seed(4)
        venv.set_options([{"a": 1}, {}, {}])
        venv.reset()
    assert lean.get_attr("reward_scale") == stock.get_attr("reward_scale") == [2.0, 2.0, 2.0]
    lean.env_method("set_wrapper_attr", "reward_scale", 3.0, indices=[1])
    assert lean.get_attr("reward_scale") == [2.0, 3.0, 2.0]
    lean.set_attr("colour", "red", indices=0)
    assert lean.envs[0].colour == "red"
    assert_same(lean.env_method("action_masks"), stock.env_method("action_masks"))
    assert lean.env_is_wrapped(Monitor) == [True, True, True]
    assert lean.env_is_wrapped(TimeLimit, indices=[0]) == [False]
    lean.close()


def test_the_same_environment_twice_is_refused() -> None:
    env = TinyEnv()
    with pytest.raises(ValueError, match="same instance"):
        LeanVecEnv([lambda: env, lambda: env])


def test_pictures_are_tiled() -> None:
    venv = make_vec_env("CartPole-v1", 4, vec_env_cls=LeanVecEnv, env_kwargs={"render_mode": "rgb_array"})
    venv.reset()
    picture = venv.render()
    assert picture is not None and picture.shape == (2 * 400, 2 * 600, 3)
    venv.close()


@pytest.mark.parametrize("cls", [PPO, PPOClip])
def test_training_ends_where_it_does_with_dummy_vec_env(cls: Any) -> None:
    ends = []
    for vec_env_cls in (DummyVecEnv, LeanVecEnv):
        venv = make_vec_env(make_env("box"), 2, seed=0, vec_env_cls=vec_env_cls)
        venv = VecFrameStack(VecNormalize(venv), 2)
        model = cls("MlpPolicy", venv, n_steps=16, batch_size=8, n_epochs=2, seed=0, device="cpu").learn(96)
        ends.append(np.concatenate([p.detach().numpy().ravel() for p in model.policy.parameters()]))
    np.testing.assert_array_equal(*ends)


class LooksAtTheEnvironments(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.classes: set[type] = set()

    def _on_step(self) -> bool:
        inner = innermost(self.training_env)
        self.classes.add(type(inner))
        pickle.loads(pickle.dumps(inner))
        return self.n_calls < 30


@pytest.mark.parametrize(("acceleration", "stepped"), [("off", DummyVecEnv), ("eager", LeanVecEnv)])
def test_a_dummy_vec_env_is_stepped_lean_while_a_rollout_is_collected(acceleration: Any, stepped: type) -> None:
    """Ended in the middle of a rollout, it is the user's own again."""
    venv, callback = make_vec_env(TinyEnv, 2, seed=0), LooksAtTheEnvironments()
    model = PPOClip("MlpPolicy", VecNormalize(venv), n_steps=16, acceleration=acceleration, device="cpu")
    model.learn(96, callback=callback)
    assert callback.n_calls == 30
    assert callback.classes == {stepped}
    assert type(venv) is DummyVecEnv


class OwnVecEnv(DummyVecEnv):
    pass


def test_a_subclass_of_dummy_vec_env_is_stepped_as_it_is() -> None:
    venv, callback = OwnVecEnv([TinyEnv]), LooksAtTheEnvironments()
    PPOClip("MlpPolicy", venv, n_steps=16, device="cpu").learn(16, callback=callback)
    assert callback.classes == {OwnVecEnv}


def test_a_dummy_vec_env_whose_class_was_patched_is_stepped_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary, calls = DummyVecEnv.step_wait, []
    monkeypatch.setattr(DummyVecEnv, "step_wait", lambda env: calls.append(1) or ordinary(env))
    PPOClip("MlpPolicy", make_vec_env(TinyEnv, 2), n_steps=16, batch_size=16, device="cpu").learn(32)
    assert len(calls) == 16


@pytest.mark.parametrize("classes", [(DummyVecEnv, LeanVecEnv), (LeanVecEnv, DummyVecEnv)])
def test_a_checkpoint_of_one_goes_on_in_the_other(classes: tuple[type[DummyVecEnv], type[DummyVecEnv]]) -> None:
    """The state that a checkpoint holds is the same: one written by an earlier version goes on."""
    first, second = (cls([make_env("box"), make_env("box")]) for cls in classes)
    actions = np.linspace(-1, 1, 60, dtype=np.float32).reshape(15, 2, 2)
    first.seed(3)
    first.reset()
    for action in actions[:5]:
        first.step(action)
    state = take_state(first)
    second.reset()
    assert put_state(state, second) is None
    for action in actions[5:]:
        assert_same(first.step(action), second.step(action))
