"""Which class a saved model is of."""

import io
from pathlib import Path
from typing import Any

import pytest
from environments import make_vec_env
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO

import sb3_ppo_variants
from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.saved_class import saved_class

OURS = [getattr(sb3_ppo_variants, name) for name in sb3_ppo_variants.__all__]


class Renamed(PPOPenalty):
    """A variant of one's own with the arguments of PPOPenalty."""


def save(cls: type[Any], file: Any) -> None:
    policy = "MlpLstmPolicy" if "Recurrent" in cls.__name__ else "MlpPolicy"
    cls(policy, make_vec_env("discrete")).save(file)


@pytest.mark.parametrize("cls", [*OURS, PPO, A2C, DQN, TRPO, RecurrentPPO, MaskablePPO])
def test_class_is_told_from_the_file(cls: type[Any], tmp_path: Path) -> None:
    save(cls, tmp_path / "model")
    assert saved_class(tmp_path / "model.zip", expected=PPOClip) is cls


@pytest.mark.parametrize("held", [PPO, PPOClip, sb3_ppo_variants.RecurrentPPOPenalty, DQN])
def test_load_refuses_another_class_and_names_it(held: type[Any], tmp_path: Path) -> None:
    save(held, tmp_path / "model")
    with pytest.raises(
        ValueError, match=rf"a model of PPOPenalty, got one of {held.__name__} in .*{held.__name__}\.load"
    ):
        PPOPenalty.load(tmp_path / "model")


def test_class_of_ones_own_with_the_same_arguments_loads(tmp_path: Path) -> None:
    save(Renamed, tmp_path / "model")
    assert type(Renamed.load(tmp_path / "model")) is Renamed
    assert type(PPOPenalty.load(tmp_path / "model")) is PPOPenalty


def test_file_of_an_older_version_without_an_argument_is_recognised(tmp_path: Path) -> None:
    model = PPOPenalty("MlpPolicy", make_vec_env())
    model.save(tmp_path / "model", exclude=["hinge_coef", "kl_direction"])
    assert saved_class(tmp_path / "model", expected=PPOClip) is PPOPenalty


def test_open_file_is_read_from_its_start_again() -> None:
    file = io.BytesIO()
    save(PPOPenalty, file)
    assert PPOPenalty.load(file).beta == 1.0
    with pytest.raises(ValueError, match="got one of PPOPenalty"):
        PPOClip.load(file)


def test_what_is_no_model_is_left_to_stable_baselines(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_text("nothing")
    with pytest.raises(ValueError, match="wasn't a zip-file"):
        PPOPenalty.load(tmp_path / "model.zip")
    with pytest.raises(FileNotFoundError):
        PPOPenalty.load(tmp_path / "missing.zip")
