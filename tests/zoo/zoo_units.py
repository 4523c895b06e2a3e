"""Parts of the zoo integration, each in the same process: test_zoo.py runs this file in one of its own.

Importing rl_zoo3 replaces Gymnasium's TimeLimit for the whole process, and takes seconds.
"""

import contextlib
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import huggingface_sb3
import numpy as np
import optuna
import pytest
import rl_zoo3.enjoy
import rl_zoo3.load_from_hub
import yaml
from environments import make_vec_env
from gymnasium.envs.classic_control import CartPoleEnv
from hosts import build
from huggingface_hub.errors import LocalEntryNotFoundError
from pickled_names import named_in
from requests.exceptions import HTTPError
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import SimpleLinearSchedule
from sqlalchemy.exc import OperationalError
from stable_baselines3 import PPO
from zoo_in_process import command, refusal, train, working_folder  # noqa: F401  # every test uses it

from sb3_ppo_variants import MaskablePPOPenalty, PPOClip, PPOPenalty
from sb3_ppo_variants.algorithms.ppo_clip import ClipMixin
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, read_checkpoint
from sb3_ppo_variants.checkpoints.checkpoint_files import newest_checkpoint
from sb3_ppo_variants.zoo import ALGORITHMS, hub, register, register_algorithm
from sb3_ppo_variants.zoo.hyperparameters import check_keys, find_source, hyperparams_folder, our_schedules
from sb3_ppo_variants.zoo.studies import create_tables

register()

PLAIN = [name for name in ALGORITHMS if name.count("_lstm") + name.count("_mask") == 0]


class NaNReward(CartPoleEnv):
    """Its rewards are no numbers."""

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float("nan"), *rest


# ------------------------------------------------------------------------------------------------------------ entries


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_entry_of_our_files_has_known_keys(algo: str) -> None:
    entries = yaml.safe_load((hyperparams_folder() / f"{algo}.yml").read_text()) or {}
    assert entries or algo.endswith("_mask")
    assert "default" not in entries  # it would keep environments from the zoo's entries
    for env, entry in entries.items():
        assert env == "atari" or env in gym.registry
        check_keys(algo, entry, env)


@pytest.mark.parametrize("algo", PLAIN)
def test_first_environments_are_listed(algo: str) -> None:
    entries = yaml.safe_load((hyperparams_folder() / f"{algo}.yml").read_text())
    assert {"CartPole-v1", "Pendulum-v1", "HalfCheetah-v5", "atari"} <= set(entries)


@pytest.mark.parametrize(
    ("algo", "env", "atari", "file", "dropped"),
    [
        ("ppo_clip", "CartPole-v1", False, "ppo_clip.yml", set()),
        ("ppo_clip", "MountainCar-v0", False, "ppo.yml", set()),
        ("ppo_penalty", "MountainCar-v0", False, "ppo.yml", {"clip_range"}),
        ("ppo_penalty", "ALE/Pong-v5", True, "ppo_penalty.yml", set()),
        ("ppo_penalty_lstm", "Acrobot-v1", False, "ppo_lstm.yml", {"clip_range"}),
        ("ppo_clip_lstm", "ALE/Pong-v5", True, "ppo_lstm.yml", set()),
        ("ppo_clip_mask", "CartPole-v1", False, "ppo.yml", {"use_sde", "sde_sample_freq"}),
        ("ppo_penalty_mask", "CartPole-v1", False, "ppo.yml", {"clip_range", "use_sde", "sde_sample_freq"}),
    ],
)
def test_source_of_an_environment(algo: str, env: str, atari: bool, file: str, dropped: set[str]) -> None:
    source = find_source(algo, env, atari)
    assert source.path.name == file
    assert source.is_fallback == (file in ("ppo.yml", "ppo_lstm.yml"))
    assert set(source.dropped) == dropped


def test_clip_range_given_on_the_command_line_survives_the_fallback(capsys: pytest.CaptureFixture[str]) -> None:
    train("ppo_penalty", "MountainCar-v0", "-params", "clip_range:0.3", "n_steps:64", "n_envs:1")
    output = capsys.readouterr().out
    assert "left out" not in output
    model: Any = PPOPenalty.load("logs/ppo_penalty/MountainCar-v0_1/MountainCar-v0.zip")
    assert model.clip_range(0.5) == pytest.approx(0.3)


def test_unlisted_environment_without_entry_in_conf_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yml").write_text("CartPole-v1:\n  n_timesteps: 64\n  policy: MlpPolicy\n")
    message = refusal(capsys, "ppo_clip", "Acrobot-v1", "--conf-file", "mine.yml")
    assert message == "Hyperparameters not found for ppo_clip-Acrobot-v1 in mine.yml"


# ---------------------------------------------------------------------------------------------------------- schedules


def test_our_schedules_become_linear_and_numbers_stay() -> None:
    ours = our_schedules({"ent_coef": "lin_0.01", "vf_coef": 0.5, "target_kl": "lin_2e-2", "clip_range": "lin_0.2"})
    assert set(ours) == {"ent_coef", "target_kl", "clip_range"}
    assert isinstance(ours["ent_coef"], SimpleLinearSchedule)
    assert ours["ent_coef"](0.5) == pytest.approx(0.005)
    assert ours["target_kl"](0.25) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("algo", "param", "message"),
    [
        ("ppo_adaptive_lr", "learning_rate:0.05", "`learning_rate` must lie within learning_rate_bounds = (1e-05, 0."),
        ("ppo_clip", "learning_rate:-0.1", "`learning_rate` must be a finite number >= 0 or a schedule, got -0.1"),
        ("ppo_clip", "clip_range:0", "`clip_range` must be > 0, got 0"),
        ("ppo_clip", "clip_range_vf:0", "`clip_range_vf` must be > 0, got 0; pass None"),
        ("ppo_adaptive_clip", "clip_range:5.0", "`clip_range` must lie within clip_range_bounds = (0.01, 1.0), got 5"),
    ],
)
def test_a_constant_outside_its_range_is_the_class_s_to_refuse(
    algo: str, param: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, algo, "CartPole-v1", "-params", param)
    assert not Path("logs").exists()


def test_a_wide_clip_is_the_class_s_to_warn_of() -> None:
    with pytest.warns(UserWarning, match="from 1 on no ratio is clipped from below"):
        train("ppo_clip", "CartPole-v1", "-params", "clip_range:1.5", "n_envs:1")


@pytest.mark.parametrize(
    ("key", "value"), [("clip_range", "lin_-1"), ("target_kl", "lin_nan"), ("ent_coef", "lin_inf"), ("w", "lin_nan")]
)
def test_a_schedule_that_begins_outside_its_range_is_refused_before_training(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"`{key}` must begin with a finite number .* got '{value}'"):
        our_schedules({key: value})
    assert our_schedules({"ent_coef": "lin_-0.1", "w": "lin_-2"})["w"](1.0) == -2  # an algorithm of one's own


@pytest.mark.parametrize("key", ["ent_coef", "vf_coef", "target_kl", "clip_range_upper", "clip_range", "learning_rate"])
@pytest.mark.parametrize("value", ["lin_x", "lin0.01", "exp_0.01", "1e-3", ""])
def test_malformed_schedule_names_key_and_value(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"`{key}` must be a number or a schedule .* got '{value}'"):
        our_schedules({key: value})


def test_trained_model_has_the_schedules_of_its_entry() -> None:
    Path("mine.yml").write_text(
        "CartPole-v1: {n_timesteps: 64, policy: MlpPolicy, n_steps: 32, batch_size: 32, ent_coef: lin_0.02, "
        "vf_coef: lin_0.4, target_kl: lin_0.1, clip_range: lin_0.2, clip_range_upper: lin_0.3, clip_range_vf: null}"
    )
    train("ppo_clip", "CartPole-v1", "--conf-file", "mine.yml")
    model: Any = PPOClip.load("logs/ppo_clip/CartPole-v1_1/CartPole-v1.zip")
    names = ("ent_coef", "vf_coef", "target_kl", "clip_range", "clip_range_upper")
    assert [getattr(model, name)(0.5) for name in names] == pytest.approx([0.01, 0.2, 0.05, 0.1, 0.15])
    assert model.clip_range_vf is None


# -------------------------------------------------------------------------------------------------------- conf files


@pytest.mark.parametrize(
    ("algo", "name"),
    [
        *((name, "ppo.yml") for name in ALGORITHMS if not name.endswith("_mask")),
        ("ppo_penalty", "python file"),
        ("ppo_penalty", "module"),
    ],
)
def test_explicit_conf_file_is_used_as_it_is(
    algo: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = str(Path(rl_zoo3.__file__).parent / "hyperparams" / "ppo.yml")
    entry = {"n_timesteps": 64, "policy": "MlpPolicy", "clip_range": "lin_0.2"}
    if name != "ppo.yml":
        conf = "own_settings" + (".py" if name == "python file" else "")
        Path("own_settings.py").write_text(f"hyperparams = {{'CartPole-v1': {entry}}}\n")
        monkeypatch.syspath_prepend(str(Path.cwd()))
        monkeypatch.delitem(sys.modules, "own_settings", raising=False)
    shrink = ["-params", "n_steps:16", "batch_size:16", "n_epochs:1", "n_envs:1"]
    train(algo, "CartPole-v1", "--conf-file", conf, *shrink)
    output = capsys.readouterr().out
    assert f"Loading hyperparameters from: {conf}" in output
    assert "No entry" not in output
    model: Any = rl_zoo3.ALGOS[algo].load(f"logs/{algo}/CartPole-v1_1/CartPole-v1.zip")
    assert model.clip_range(0.5) == pytest.approx(0.1)  # kept: a file that is named is not changed


class Bonus(CartPoleEnv):
    """Its reward is an argument."""

    def __init__(self, bonus: float = 1.0, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.bonus = bonus

    def step(self, action: Any) -> Any:
        observation, _, _, *rest = super().step(action)
        return observation, self.bonus, False, *rest


@pytest.mark.parametrize("algo", ["ppo", "ppo_penalty"])
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], 50.0),
        (["--eval-env-kwargs", "bonus:2.0"], 20.0),
        (["--env-kwargs", "bonus:3.0"], 30.0),
        (["-params", "env_kwargs:dict(bonus=4.0)"], 40.0),
    ],
)
def test_evaluations_have_the_env_kwargs_of_training(algo: str, more: list[str], expected: float) -> None:
    gym.register("Bonus-v0", entry_point=Bonus, max_episode_steps=10)
    Path("mine.yml").write_text(
        "Bonus-v0: {n_timesteps: 64, policy: MlpPolicy, n_steps: 32, batch_size: 32, env_kwargs: {bonus: 5.0}}"
    )
    train(algo, "Bonus-v0", "--conf-file", "mine.yml", "--eval-freq", "32", *more)
    evaluations = np.load(f"logs/{algo}/Bonus-v0_1/evaluations.npz")
    assert np.unique(evaluations["results"]).tolist() == [expected]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["enjoy", "-n", "10", "--no-render"], 5.0),
        (["enjoy", "-n", "10", "--no-render", "--env-kwargs", "bonus:3.0"], 3.0),
        (["evaluate", "--n-episodes", "1"], 5.0),
        (["record_video", "-n", "10"], 5.0),
        (["record_video", "-n", "10", "--env-kwargs", "bonus:3.0"], 3.0),
    ],
)
def test_agents_play_with_the_env_kwargs_of_their_entry(
    arguments: list[str], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if arguments[0] == "record_video":
        pytest.importorskip("moviepy")
    gym.register("Bonus-v0", entry_point=Bonus, max_episode_steps=10)
    entry = "Bonus-v0: {n_timesteps: 64, policy: MlpPolicy, n_steps: 32, batch_size: 32, env_kwargs: {bonus: 5.0}}"
    Path("mine.yml").write_text(entry)
    train("ppo_penalty", "Bonus-v0", "--conf-file", "mine.yml")
    played: list[float] = []
    step = Bonus.step
    monkeypatch.setattr(Bonus, "step", lambda self, action: played.append(self.bonus) or step(self, action))
    command(*arguments, "--algo", "ppo_penalty", "--env", "Bonus-v0", "-f", "logs")
    assert set(played) == {expected}


def test_the_zoo_s_function_is_called_as_ever_and_leaves_its_arguments() -> None:
    gym.register("Bonus-v0", entry_point=Bonus, max_episode_steps=10)
    hyperparams = {"env_kwargs": {"bonus": 5.0}, "env_wrapper": None}
    env = rl_zoo3.create_test_env("Bonus-v0", 1, None, 0, None, False, hyperparams)
    assert env.get_attr("bonus") == [5.0]
    assert hyperparams == {"env_kwargs": {"bonus": 5.0}, "env_wrapper": None}
    assert rl_zoo3.create_test_env("CartPole-v1", should_render=False, hyperparams={}).num_envs == 1


# ------------------------------------------------------------------------------------------------------ search spaces


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_sampled_arguments_make_a_model_and_come_back_from_the_trial(algo: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    for _ in range(5):
        trial = study.ask()
        sampled = HYPERPARAMS_SAMPLER[algo](trial, 2, 2, {})
        assert HYPERPARAMS_CONVERTER[algo](trial.params) == sampled
        policy = "MlpLstmPolicy" if algo.endswith("_lstm") else "MlpPolicy"
        model = ALGORITHMS[algo](policy, make_vec_env(), **{**sampled, "n_steps": 4})  # type: ignore[arg-type]
        assert model.get_parameters()


def test_search_spaces_hold_what_each_algorithm_adds() -> None:
    def names(algo: str) -> set[str]:
        trial = optuna.create_study().ask()
        HYPERPARAMS_SAMPLER[algo](trial, 2, 2, {})
        return set(trial.params)

    shared = names("ppo") | {"clip_range_vf", "value_loss"}
    assert names("ppo_clip") == shared | {"clip_range_upper_factor", "dual_clip"}
    assert names("ppo_penalty") == (shared | {"target_kl", "initial_beta", "adaptation_factor"}) - {"clip_range"}
    assert names("ppo_adaptive_clip") == shared | {"target_kl", "adaptation_factor"}
    assert names("ppo_adaptive_lr") == names("ppo_adaptive_clip")
    for algo in PLAIN:
        assert names(algo) == names(f"{algo}_lstm") == names(f"{algo}_mask")


def test_study_starts_although_another_worker_creates_its_tables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []
    create = optuna.storages.RDBStorage

    def create_second(storage: str) -> Any:
        attempts.append(storage)
        if len(attempts) == 1:
            raise OperationalError("CREATE TABLE studies", None, Exception("table studies already exists"))
        return create(storage)

    storage = "sqlite:///study.db"
    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages, "RDBStorage", create_second)
        create_tables(storage)
    assert attempts == [storage] * 2
    assert optuna.create_study(storage=storage).trials == []
    with pytest.raises(ValueError, match="unable to open"):
        create_tables("sqlite:///no/such/folder/study.db")


def test_trial_with_nan_is_pruned_and_leaves_the_study_going(capsys: pytest.CaptureFixture[str]) -> None:
    gym.register("NaNReward-v0", entry_point=NaNReward, max_episode_steps=20)
    storage = "sqlite:///study.db"
    study = ["-optimize", "--n-trials", "2", "--study-name", "study", "--storage", storage, "--no-optim-plots"]
    with pytest.raises(SystemExit, match="No trial was completed"):
        train("ppo_penalty", "NaNReward-v0", *study)
    states = [trial.state for trial in optuna.load_study(study_name="study", storage=storage).trials]
    assert states == [optuna.trial.TrialState.PRUNED] * 2
    assert "reward" in capsys.readouterr().out


def test_a_trial_whose_sample_does_not_fit_to_the_entry_is_pruned(capsys: pytest.CaptureFixture[str]) -> None:
    storage = "sqlite:///study.db"
    study = ["-optimize", "--n-trials", "2", "--study-name", "study", "--storage", storage, "--no-optim-plots"]
    narrow = ["-params", "learning_rate_bounds:[0.5,0.6]", "learning_rate:0.5"]
    with pytest.raises(SystemExit, match="No trial was completed"):
        train("ppo_adaptive_lr", "CartPole-v1", *study, *narrow)
    states = [trial.state for trial in optuna.load_study(study_name="study", storage=storage).trials]
    assert states == [optuna.trial.TrialState.PRUNED] * 2
    assert "`learning_rate` must" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("on_max_kl:'stopp'", "`on_max_kl` must be one of 'project', 'stop', got 'stopp'"),
        ("n_steps:0", "`n_steps` must be an integer >= 1, got 0"),
    ],
)
def test_a_study_with_a_mistyped_value_begins_no_trial(
    param: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["-optimize", "--n-trials", "2", "--study-name", "study", "--storage", "sqlite:///study.db"]
    assert message in refusal(capsys, "ppo_penalty", "CartPole-v1", *study, "-params", param)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("algo", "bounds"), [("ppo_adaptive_lr", "learning_rate_bounds:(1e-5,2e-4)"), ("ppo_penalty", "beta_bounds:(3,9)")]
)
def test_a_study_begins_where_only_what_it_samples_is_out_of_bounds(algo: str, bounds: str) -> None:
    study = ["--study-name", "study", "--storage", "sqlite:///study.db", "-optimize", "--n-trials", "1", "--seed", "3"]
    with contextlib.suppress(SystemExit):  # its only trial may be pruned
        train(algo, "CartPole-v1", *study, "--no-optim-plots", "-params", bounds)
    assert len(optuna.load_study(study_name="study", storage="sqlite:///study.db").trials) == 1


def test_every_sampled_learning_rate_reaches_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yml").write_text(
        "CartPole-v1: {n_timesteps: 64, policy: MlpPolicy, learning_rate: 5.0e-4, "
        "learning_rate_bounds: [4.0e-4, 6.0e-4]}"
    )
    study = ["--conf-file", "mine.yml", "--study-name", "study", "--storage", "sqlite:///study.db"]
    train("ppo_adaptive_lr", "CartPole-v1", *study, "-optimize", "--n-trials", "3", "--no-optim-plots", "--seed", "1")
    trials = optuna.load_study(study_name="study", storage="sqlite:///study.db").trials
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 3
    assert not all(4e-4 <= trial.params["learning_rate"] <= 6e-4 for trial in trials)
    train("ppo_adaptive_lr", "CartPole-v1", *study, "--trial-id", "1")
    left_out = "learning_rate_bounds [0.0004, 0.0006] of that entry is left out: a study samples learning rates beyond"
    assert capsys.readouterr().out.count(left_out) == 2


def test_an_agent_without_normalisation_is_played_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_file(repo_id: str, filename: str) -> str:
        raise LocalEntryNotFoundError(filename)

    def enjoy() -> None:
        with pytest.raises(HTTPError):  # as rl_zoo3 expects it
            rl_zoo3.load_from_hub.load_from_hub("sb3/agent", "vec_normalize.pkl")
        called.append(True)

    called: list[bool] = []
    monkeypatch.setattr(huggingface_sb3, "load_from_hub", no_such_file)
    monkeypatch.setattr(rl_zoo3.enjoy, "enjoy", enjoy)
    hub.enjoy()
    assert called


def test_the_card_of_an_agent_names_commands_that_know_its_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    library = importlib.import_module("huggingface_sb3.push_to_hub")
    monkeypatch.setattr(library, "generate_metadata", lambda *args: {}, raising=False)
    zoo: Any = importlib.import_module("rl_zoo3.push_to_hub")

    def card(algo: str) -> str:
        text: str = zoo.generate_model_card(algo, "PPO", "me", "CartPole-v1", 1.0, 0.0, {"n_steps": 8}, {})[0]
        return text

    assert hub.own_card(card("ppo")) == card("ppo")
    own = hub.own_card(card("ppo_clip"))
    assert "rl_zoo3" not in own
    assert own.count("```\n") == 5 and own.count("Install sb3_ppo_variants, which brings the RL Zoo.\n\n```\n") == 1
    assert own.count("TRUST_REMOTE_CODE=True sb3-ppo-variants load_from_hub ") == 1
    own = own.replace("TRUST_REMOTE_CODE=True ", "")
    for name in ("load_from_hub", "enjoy", "train", "push_to_hub"):
        assert own.count(f"\nsb3-ppo-variants {name} --algo ppo_clip --env CartPole-v1 ") == 1
    assert "{'n_steps': 8}" in own
    register_algorithm("carded", rl_zoo3.ALGOS["ppo_clip"])
    assert "put the custom_envs.py that registers carded into the working folder" in hub.own_card(card("carded"))


def test_entries_of_an_added_algorithm_may_have_a_default() -> None:
    register_algorithm(
        "with_default", rl_zoo3.ALGOS["ppo_clip"], {"default": {"n_timesteps": 9, "policy": "MlpPolicy"}}
    )
    found = find_source("with_default", "MountainCar-v0", is_atari=False)
    assert not found.is_fallback
    assert find_source("ppo_clip", "MountainCar-v0", is_atari=False).is_fallback


def test_upper_clip_range_follows_the_lower_one() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"clip_range": 0.2, "clip_range_upper_factor": 1.5})
    sampled = HYPERPARAMS_SAMPLER["ppo_clip"](study.ask(), 2, 2, {})
    assert sampled["clip_range_upper"] == pytest.approx(0.3)
    assert "clip_range_upper_factor" not in sampled


def test_a_variant_that_does_not_clip_is_tuned_without_a_clip_range() -> None:
    register_algorithm("no_clip", type("NoClip", (ClipMixin, PPO), {"host_defaults": {"clip_range": None}}))
    study = optuna.create_study()
    for _ in range(5):
        assert "clip_range_upper" not in HYPERPARAMS_SAMPLER["no_clip"](study.ask(), 2, 2, {})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"learning_rate": np.float64(1e-3)},
            "`learning_rate` of CartPole-v1 in `hyperparams` must be what a YAML",
        ),
        ({"clip_range": abs}, "text as in rl-zoo3's YAML: 'lin_0.2'"),
        (64, "must map environments to dictionaries"),
    ],
)
def test_an_entry_that_no_yaml_file_can_hold_is_named(entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        register_algorithm("unwritable", rl_zoo3.ALGOS["ppo_clip"], {"CartPole-v1": entry})


# -------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_of_the_zoo_s_maskable_class_is_one_of_the_algorithm(tmp_path: Path) -> None:
    cls = rl_zoo3.ALGOS["ppo_penalty_mask"]
    assert cls is not MaskablePPOPenalty
    build(cls).learn(50, ResumableCheckpointCallback(1, tmp_path))
    file = newest_checkpoint(tmp_path)
    assert named_in(file.path.read_bytes()) == {"sb3_ppo_variants"}
    assert read_checkpoint(file).algorithm is MaskablePPOPenalty


@pytest.mark.parametrize(
    ("entry_point", "option", "said"),
    [
        ("environments:make_env", None, "deterministic"),
        ("environments:make_env", "--stochastic", "stochastic"),
        ("minigrid.envs:EmptyEnv", None, "stochastic"),  # as in the zoo
        ("minigrid.envs:EmptyEnv", "--deterministic", "deterministic"),
    ],
)
def test_an_agent_is_evaluated_with_the_actions_that_the_zoo_s_enjoy_takes(
    entry_point: str, option: str | None, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = importlib.import_module("sb3_ppo_variants.zoo.evaluate")
    gym.register("Evaluated-v0", entry_point=entry_point)
    asked: list[bool] = []

    def returns(*arguments: Any) -> list[float]:
        asked.append(arguments[-1])
        return [1.0]

    monkeypatch.setattr(sys, "argv", ["evaluate", "--env", "Evaluated-v0", *([option] if option else [])])
    monkeypatch.setattr(evaluation, "_find", lambda arguments: ("model.zip", "logs"))
    monkeypatch.setattr(evaluation, "_episode_returns", returns)
    try:
        evaluation.evaluate()
    finally:
        del gym.registry["Evaluated-v0"]
    assert asked == [said == "deterministic"]
    assert f"over 1 episodes ({said}): 1.00" in capsys.readouterr().out
