"""Algorithms that a user registers, in one process: test_zoo.py runs this file in one of its own."""

import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
import rl_zoo3
import torch as th
import yaml
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from zoo_in_process import train, working_folder  # noqa: F401  # every test uses it

from sb3_ppo_variants.compare.arms import Arm
from sb3_ppo_variants.compare.settings import check_names, resolve
from sb3_ppo_variants.extend import Number, PolicyUpdateMixin
from sb3_ppo_variants.zoo import ADDED, ALGORITHMS, host_name, is_maskable, is_recurrent, register, register_algorithm
from sb3_ppo_variants.zoo.hyperparameters import check_keys, find_source

register()

ENTRY: dict[str, Any] = {"n_timesteps": 64, "policy": "MlpPolicy", "n_steps": 32, "batch_size": 32, "weight": "lin_0.5"}


class WeightedMixin(PolicyUpdateMixin):
    """The plain objective times a weight."""

    host_defaults: ClassVar[dict[str, Any]] = {"clip_range": None}

    def __init__(self, *args: Any, weight: Any = 1.0, **kwargs: Any) -> None:
        self.weight = weight
        super().__init__(*args, **kwargs)

    def update_coefficients(self) -> dict[str, Number]:
        return {**super().update_coefficients(), "weight": self.scheduled("weight", self.weight)}

    def surrogate(self, ratio: th.Tensor, advantages: th.Tensor, kl: Any, coefficients: dict[str, Number]) -> th.Tensor:
        return coefficients["weight"] * ratio * advantages


class Weighted(WeightedMixin, PPO):
    pass


class RecurrentWeighted(WeightedMixin, RecurrentPPO):
    pass


class MaskableWeighted(WeightedMixin, MaskablePPO):
    pass


class ClippedWeighted(Weighted):
    host_defaults: ClassVar[dict[str, Any]] = {"clip_range": 0.3}


@pytest.fixture(autouse=True)
def _clean_slate() -> Iterator[None]:
    yield
    for name in list(ADDED):
        del ADDED[name], ALGORITHMS[name], rl_zoo3.ALGOS[name], HYPERPARAMS_SAMPLER[name], HYPERPARAMS_CONVERTER[name]


def test_host_follows_from_the_class_and_not_from_the_name() -> None:
    register_algorithm("weighted_lstm", Weighted)
    register_algorithm("weighted_mask", RecurrentWeighted)
    register_algorithm("weighted", MaskableWeighted)
    assert [is_recurrent(name) for name in ADDED] == [False, True, False]
    assert [is_maskable(name) for name in ADDED] == [False, False, True]
    assert [host_name(name) for name in ADDED] == ["ppo", "ppo_lstm", "ppo"]
    assert rl_zoo3.ALGOS["weighted_lstm"] is Weighted
    assert issubclass(rl_zoo3.ALGOS["weighted"], MaskableWeighted)


def test_entries_come_from_a_dictionary_and_else_from_the_zoo() -> None:
    register_algorithm("weighted", Weighted, {"CartPole-v1": ENTRY})
    own = find_source("weighted", "CartPole-v1", is_atari=False)
    assert yaml.safe_load(own.path.read_text())["CartPole-v1"] == ENTRY and not own.is_fallback
    other = find_source("weighted", "Acrobot-v1", is_atari=False)
    assert other.path.name == "ppo.yml" and other.is_fallback
    assert other.dropped == {"clip_range": "weighted does not clip by default"}


@pytest.mark.parametrize("kind", [str, Path])
def test_entries_come_from_a_file_whose_path_is_kept(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.yml").write_text(yaml.safe_dump({"CartPole-v1": ENTRY}))
    register_algorithm("weighted", Weighted, kind("mine.yml"))
    monkeypatch.chdir(tmp_path.parent)
    assert find_source("weighted", "CartPole-v1", is_atari=False).path == tmp_path / "mine.yml"


def test_without_entries_the_host_s_serve(capsys: pytest.CaptureFixture[str]) -> None:
    register_algorithm("weighted", Weighted)
    train("weighted", "CartPole-v1", "-params", "n_envs:1", "weight:0.25")
    output = capsys.readouterr().out
    assert "No entry for CartPole-v1 in weighted.yml: taking the zoo's from ppo.yml" in output
    assert "clip_range lin_0.2 of that entry is left out: weighted does not clip by default" in output
    model: Any = Weighted.load("logs/weighted/CartPole-v1_1/CartPole-v1.zip")
    assert model.weight == 0.25 and model.batch_size == 256 and model.clip_range(1.0) == float("inf")


def test_an_argument_of_one_s_own_may_be_a_schedule() -> None:
    register_algorithm("weighted", Weighted, {"CartPole-v1": ENTRY})
    train("weighted", "CartPole-v1")
    model: Any = Weighted.load("logs/weighted/CartPole-v1_1/CartPole-v1.zip")
    assert model.weight(0.5) == 0.25


def test_keys_are_checked_against_the_class() -> None:
    register_algorithm("weighted", Weighted)
    check_keys("weighted", ENTRY, "here")
    with pytest.raises(ValueError, match=r"here: `wieght` is not an argument of weighted; did you mean `weight`\?"):
        check_keys("weighted", ["wieght"], "here")


def test_a_trial_samples_what_the_class_takes() -> None:
    register_algorithm("weighted", Weighted)
    register_algorithm("clipped", ClippedWeighted)
    study = optuna.create_study()
    for name, clips in (("weighted", False), ("clipped", True)):
        trial = study.ask()
        sampled = HYPERPARAMS_SAMPLER[name](trial, 2, 2, {})
        assert HYPERPARAMS_CONVERTER[name](trial.params) == sampled
        assert ("clip_range" in sampled) == clips
        assert ALGORITHMS[name]("MlpPolicy", "CartPole-v1", **{**sampled, "n_steps": 4})  # type: ignore[arg-type]


def test_compare_says_where_the_hyperparameters_come_from() -> None:
    register_algorithm("weighted", Weighted, {"CartPole-v1": ENTRY})
    arm = Arm("mine", "weighted", {"n_steps": 16})
    check_names([arm], ["CartPole-v1"])
    own, other = resolve(arm, "CartPole-v1"), resolve(arm, "MountainCar-v0")
    assert (own.file, own.kind, own.hyperparameters["n_steps"]) == ("weighted.yml", "tuned", 16)
    assert (other.file, other.kind) == ("rl_zoo3/hyperparams/ppo.yml", "of another algorithm")


def test_registering_again_replaces_class_and_entries() -> None:
    register_algorithm("weighted", Weighted, {"CartPole-v1": ENTRY})
    register_algorithm("weighted", ClippedWeighted)
    assert rl_zoo3.ALGOS["weighted"] is ALGORITHMS["weighted"] is ClippedWeighted
    assert find_source("weighted", "CartPole-v1", is_atari=False).dropped == {}


@pytest.mark.parametrize(
    ("name", "cls", "hyperparams", "message"),
    [
        ("ppo", Weighted, None, "`name` must not be an algorithm of the zoo, got 'ppo'; pick another"),
        ("ppo_clip", Weighted, None, "`name` must not be an algorithm of the zoo"),
        ("a/b", Weighted, None, "`name` must consist of small letters, digits and _ . + -, got 'a/b'"),
        ("-f", Weighted, None, "`name` must consist of"),
        ("mine", PPO, None, "`cls` must be a variant on a host"),
        ("mine", WeightedMixin, None, "`cls` must be a variant on a host"),
        ("mine", "Weighted", None, "`cls` must be a variant on a host"),
        ("mine", Weighted, "missing.yml", "`hyperparams` must be a YAML file or a dictionary, got 'missing.yml'"),
    ],
)
def test_mistakes_are_refused_and_leave_nothing(name: str, cls: Any, hyperparams: Any, message: str) -> None:
    known = set(ALGORITHMS)
    with pytest.raises(ValueError, match=re.escape(message)):
        register_algorithm(name, cls, hyperparams)
    assert set(ALGORITHMS) == known and ADDED == {}


def test_environment_without_masks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    register_algorithm("weighted", MaskableWeighted)
    with pytest.raises(SystemExit):
        train("weighted", "CartPole-v1")
    message = capsys.readouterr().err
    assert "error: weighted needs" in message
    assert "got CartPole-v1 without one; use an algorithm without masks, or" in message


def test_a_custom_envs_with_an_import_error_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "custom_envs", raising=False)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register()
    Path("custom_envs.py").write_text("import not_there\n")
    with pytest.warns(UserWarning, match=r"custom_envs\.py is left out: rl-zoo3 met an ImportError in it; python -c"):
        register()
