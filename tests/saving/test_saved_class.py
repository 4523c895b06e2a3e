"""Which class a saved model is of."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from environments import make_vec_env
from hosts import VARIANTS
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.saving.saved_class import check_saved_class, saved_attributes, saved_classes

OURS = list(VARIANTS.values())


class Renamed(PPOPenalty):
    """A variant of one's own with the arguments of PPOPenalty."""


def save(cls: type[Any], file: Any, **how: Any) -> None:
    policy = "MlpLstmPolicy" if "Recurrent" in cls.__name__ else "MlpPolicy"
    cls(policy, make_vec_env("discrete")).save(file, **how)


@pytest.mark.parametrize("cls", [*OURS, PPO, A2C, DQN, TRPO, RecurrentPPO, MaskablePPO])
def test_class_is_told_from_the_file(cls: type[Any], tmp_path: Path) -> None:
    save(cls, tmp_path / "model")
    data = saved_attributes(str(tmp_path / "model.zip"))
    assert saved_classes(data, expected=PPOClip)[0] == cls.__name__
    data.pop("saved_as", None)  # as in a file of before 0.1.0
    assert saved_classes(data, expected=PPOClip)[0] == cls.__name__


@pytest.mark.parametrize(
    ("held", "loader"),
    [
        (PPO, "stable_baselines3.PPO.load"),  # a script may have ours as PPO
        (MaskablePPO, "sb3_contrib.MaskablePPO.load"),
        (PPOClip, "PPOClip.load"),
        (VARIANTS["RecurrentPPOPenalty"], "RecurrentPPOPenalty.load"),
    ],
)
def test_load_refuses_another_class_and_names_it(held: type[Any], loader: str, tmp_path: Path) -> None:
    save(held, tmp_path / "model")
    message = rf"model must hold a model of PPOPenalty, got '{held.__name__}'; load it with {re.escape(loader)}, or"
    with pytest.raises(ValueError, match=message):
        PPOPenalty.load(tmp_path / "model")


def test_a_stock_class_can_be_kept_from_ours(tmp_path: Path) -> None:
    save(PPOPenalty, tmp_path / "model")
    with pytest.raises(ValueError, match="must hold a model of PPO, got 'PPOPenalty'"):
        check_saved_class(PPO, saved_attributes(str(tmp_path / "model")), "model")


def test_class_of_ones_own_with_the_same_arguments_loads(tmp_path: Path) -> None:
    save(Renamed, tmp_path / "model")
    assert type(Renamed.load(tmp_path / "model")) is Renamed
    assert type(PPOPenalty.load(tmp_path / "model")) is PPOPenalty


def test_file_of_an_older_version_without_an_argument_is_recognised(tmp_path: Path) -> None:
    save(PPOPenalty, tmp_path / "model", exclude=["hinge_coef", "kl_direction", "saved_as"])
    data = saved_attributes(str(tmp_path / "model"))
    assert "saved_as" not in data
    assert saved_classes(data, expected=PPOClip) == ["PPOPenalty"]


def test_open_file_is_read_from_its_start_again() -> None:
    file = io.BytesIO()
    save(PPOPenalty, file)
    assert PPOPenalty.load(file).beta == 1.0
    with pytest.raises(ValueError, match="got 'PPOPenalty'"):
        PPOClip.load(file)


def test_what_is_no_model_has_no_attributes(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_text("nothing")
    assert saved_attributes(str(tmp_path / "model.zip")) == {}
    with pytest.raises(FileNotFoundError):
        saved_attributes(str(tmp_path / "missing.zip"))
