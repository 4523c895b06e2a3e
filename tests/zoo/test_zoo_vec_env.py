"""``train --vec-env gymnasium`` and ``--vec-env envpool``."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gymnasium.vector import AsyncVectorEnv
from stable_baselines3.common.monitor import load_results
from zoo_commands import train

from sb3_ppo_variants.vec_env import GymnasiumVecEnv
from sb3_ppo_variants.zoo.vectorized import maker_of

ATARI = "stable_baselines3.common.atari_wrappers.AtariWrapper"


def manager(env_id: str, *wrappers: str, is_atari: bool = False) -> Any:
    name = SimpleNamespace(gym_id=env_id)
    wrapper = object if wrappers else None
    return SimpleNamespace(
        env_name=name,
        env_kwargs={},
        env_wrapper=wrapper,
        wrappers=list(wrappers),
        _is_atari=is_atari,
        monitor_kwargs={},
    )


def test_gymnasium_takes_the_vector_environment_that_is_registered() -> None:
    maker, replaced = maker_of("gymnasium", manager("CartPole-v1"))
    env = maker([None] * 3)
    assert isinstance(env, GymnasiumVecEnv)
    assert (type(env.env.unwrapped).__name__, env.num_envs, replaced) == ("CartPoleVectorEnv", 3, {})


@pytest.mark.parametrize("of", [manager("Pendulum-v1"), manager("CartPole-v1", "some.Wrapper")])
def test_gymnasium_runs_others_in_processes(of: Any) -> None:
    import gymnasium as gym

    maker, _ = maker_of("gymnasium", of)
    env = maker([lambda: gym.make("Pendulum-v1")] * 2)
    assert isinstance(env, GymnasiumVecEnv)
    assert isinstance(env.env, AsyncVectorEnv)
    env.close()


def test_envpool_does_what_the_zoo_does_with_wrappers_for_atari() -> None:
    maker, replaced = maker_of("envpool", manager("PongNoFrameskip-v4", ATARI, is_atari=True))
    assert replaced == {"env_wrapper": None, "frame_stack": None}
    assert maker.args[:2] == ("Pong-v5", {"episodic_life": True, "reward_clip": True})


def test_envpool_refuses_wrappers_that_it_cannot_have(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        maker_of("envpool", manager("CartPole-v1", "some.Wrapper"))
    assert "cannot put some.Wrapper around an environment; use --vec-env gymnasium" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gymnasium", "envpool"])
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_the_command_trains(env: str, kind: str, tmp_path: Path) -> None:
    if kind == "envpool":
        pytest.importorskip("envpool")
    train(tmp_path, "ppo_clip", env, "--vec-env", kind, "-params", "n_steps:64", steps=1100)
    folder = tmp_path / "logs" / "ppo_clip" / f"{env}_1"
    assert (folder / f"{env}.zip").exists()
    episodes = load_results(str(folder))  # what the zoo's plots read
    assert len(episodes) >= 4
    assert set(episodes["l"]) == {200} or env == "CartPole-v1"
