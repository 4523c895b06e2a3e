"""What a user mistypes is answered in one line: test_zoo.py runs this file in a process of its own."""

import logging
import re
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import optuna
import pytest
import rl_zoo3
import torch as th
from gymnasium.envs.classic_control import CartPoleEnv
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from zoo_in_process import command, refusal, refused, train, working_folder  # noqa: F401  # every test uses it

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.extend import AdaptiveClipMixin
from sb3_ppo_variants.zoo import register, register_algorithm
from sb3_ppo_variants.zoo.experiment_manager import StockExperimentManager
from sb3_ppo_variants.zoo.mistakes import SHOW_TRACEBACK, one_line_errors
from sb3_ppo_variants.zoo.studies import check_storage

register()

SHORT = ["-n", "64", "--eval-freq", "-1", "-f", "logs", "--verbose", "0"]
Capture = pytest.CaptureFixture[str]


# ------------------------------------------------------------------------------------------------- arguments of train


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("target_kll:0.01", "-params: `target_kll` is not an argument of ppo_penalty; did you mean `target_kl`?"),
        ("target_kl:-1", "`target_kl` must be > 0, got -1; it is the KL divergence per update to aim for"),
        ("target_kl:abc", "got 'target_kl:abc'; text needs quotes of its own: \"target_kl:'abc'\""),
        ("target_kl=0.01", "-params takes KEY:VALUE, got 'target_kl=0.01'; write 'target_kl:0.01'"),
        ("policy_kwargs=dict(net_arch={'pi':[8]})", "write \"policy_kwargs:dict(net_arch={'pi':[8]})\""),
        ("target_kl", "-params takes KEY:VALUE, got 'target_kl'; give a value"),
        ("policy:'MlpPolicyy'", "MlpPolicyy"),
        ("clip_rnage:1", "did you mean `clip_range`?"),
        ("seed:1", "-params: `seed` is not an argument of ppo_penalty; the command line sets it: --seed"),
        ("_init_setup_model:False", "`_init_setup_model` is not an argument of ppo_penalty; a model is always set up"),
        ("cg_max_steps:1", "-params: `cg_max_steps` is not an argument of ppo_penalty; it is an argument of trpo"),
        ("zzz:1", "-params: `zzz` is not an argument of ppo_penalty; known are acceleration, adapt_after"),
    ],
)
def test_mistake_in_a_hyperparameter_is_named_and_leaves_no_folder(params: str, message: str, capsys: Capture) -> None:
    assert message in refusal(capsys, "ppo_penalty", "CartPole-v1", "-params", "n_epochs:2", params)
    assert not Path("logs").exists()


@pytest.mark.parametrize("algo", ["ppo", "ppo_penalty"])
def test_envpool_with_a_wrapper_is_refused_for_stock_algorithms_too(algo: str, capsys: Capture) -> None:
    wrapper = "env_wrapper:'rl_zoo3.wrappers.FrameSkip'"
    message = refusal(capsys, algo, "CartPole-v1", "--vec-env", "envpool", "-params", wrapper)
    assert message.startswith("--vec-env envpool cannot put rl_zoo3.wrappers.FrameSkip around an environment")


@pytest.mark.parametrize("value", ["lin_0.01", "lin_1", "", "[1", "[one for one in two]"])
def test_value_that_is_no_expression_is_refused_by_name(value: str, capsys: Capture) -> None:
    message = refusal(capsys, "ppo_penalty", "CartPole-v1", "-params", "n_epochs:2", f"target_kl:{value}")
    assert f"got 'target_kl:{value}'; text needs quotes of its own: \"target_kl:'{value}'\"" in message


def test_values_are_read_as_the_zoo_reads_them() -> None:
    train(
        "ppo_penalty",
        "CartPole-v1",
        *("-params", "n_epochs: 2", "target_kl:'lin_0.02'"),
        "policy_kwargs:dict(net_arch=[width for width in [8]], activation_fn=nn.ReLU)",
    )
    model: Any = PPOPenalty.load("logs/ppo_penalty/CartPole-v1_1/CartPole-v1.zip")
    assert model.n_epochs == 2 and model.policy_kwargs["net_arch"] == [8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--algo", "ppo_penalty", "-n", "0"], "-n must be >= 1, got 0; leave it out for the n_timesteps of the"),
        (["--algo", "ppo_penalty", "-n", "-5"], "-n must be >= 1, got -5"),
        (
            ["--algo", "ppo_penalty", "--env", "CartPole"],
            "CartPole not found in gym registry, you maybe meant CartPole-",
        ),
        (["--algo", "ppo_penalty", "-conf", "nothere.yml"], "got 'nothere.yml'; there is no such file"),
        (["--algo", "ppo_penalty", "-conf", "not.here"], "No module named 'not'"),
        (["--algo", "ppo_penalty", "--gym-packages", "nothere"], "No module named 'nothere'"),
        (["--algo", "ppo_penalty", "--trial-id", "77"], "--trial-id 77 needs --storage and --study-name"),
        (["--algo", "ppo_penalty", "--env-kwargs", "gravity:low"], "--env-kwargs takes KEY:VALUE"),
        (["--algo", "ppo", "-params", "target_kll:0.01"], "unexpected keyword argument 'target_kll'"),
        (
            ["--algo", "ppo_penalty", "--vec-env", "envpol"],
            "--vec-env must be one of dummy, subproc, gymnasium, envpool, got 'envpol'; did you mean 'envpool'?",
        ),
        ([], "--algo is missing; choose from a2c, "),
    ],
)
def test_mistake_on_the_command_line_of_train_is_named(arguments: list[str], message: str, capsys: Capture) -> None:
    assert message in refused(capsys, "train", *SHORT, *arguments)
    assert not Path("logs").exists()


@pytest.mark.parametrize("algo", ["ppo_penalyt", "pop"])
def test_unknown_algorithm_gets_the_closest_one(algo: str, capsys: Capture) -> None:
    closest = {"ppo_penalyt": "ppo_penalty", "pop": "ppo"}[algo]
    message = refusal(capsys, algo, "CartPole-v1")
    assert message.startswith(f"unknown algorithm {algo!r}; did you mean {closest!r}? (choose from a2c, ")


def test_argument_of_another_algorithm_names_file_environment_and_key(capsys: Capture) -> None:
    Path("mine.yml").write_text("CartPole-v1:\n  n_timesteps: 64\n  policy: MlpPolicy\n  initial_beta: 2.0\n")
    message = "mine.yml, CartPole-v1: `initial_beta` is not an argument of ppo_clip; it is an argument of ppo_penalty,"
    assert refusal(capsys, "ppo_clip", "CartPole-v1", "--conf-file", "mine.yml").startswith(message)
    assert not Path("logs").exists()


def test_missing_agent_is_refused_with_the_models_that_are_there(tmp_path: Path, capsys: Capture) -> None:
    def problem(path: Path) -> str:
        message = refusal(capsys, "ppo_penalty", "CartPole-v1", "-i", str(path))
        return message.removeprefix("-i takes the .zip file of a model, got ")

    assert problem(tmp_path / "missing.zip") == f"'{tmp_path / 'missing.zip'}'; in {tmp_path} there is no .zip file"
    PPOClip("MlpPolicy", "CartPole-v1").save(tmp_path / "there.zip")
    for path in (tmp_path / "missing.zip", tmp_path / "there", tmp_path):
        assert problem(path) == f"'{path}'; in {tmp_path} there is {tmp_path / 'there.zip'}"


@pytest.mark.parametrize(
    ("saved", "resumed", "names"),
    [("ppo_clip", "ppo_penalty", "PPOClip"), ("ppo", "ppo_penalty", "PPO"), ("ppo_penalty", "ppo", "PPOPenalty")],
)
def test_agent_of_another_class_is_refused(saved: str, resumed: str, names: str, capsys: Capture) -> None:
    rl_zoo3.ALGOS[saved]("MlpPolicy", "CartPole-v1").save("agent.zip")
    message = refusal(capsys, resumed, "CartPole-v1", "-i", "agent.zip")
    assert re.match(rf"agent\.zip must hold a model of .*, got '{names}'", message)


def test_environment_without_masks_is_refused_before_training(capsys: Capture) -> None:
    message = refusal(capsys, "ppo_clip_mask", "CartPole-v1")
    assert re.match(r"ppo_clip_mask needs .* action_masks\(\), got CartPole-v1 .* use ppo_clip,", message)


@pytest.mark.parametrize(
    ("algo", "callback", "message"),
    [
        ("ppo_penalty", "'{}.ClipRangeFromClipFraction'", "ClipRangeFromClipFraction needs a clip, got 'PPO"),
        (
            "ppo_clip",
            "{{'{}.TrustRegionRecorder':dict(path='/proc/x.csv')}}",
            "`path` must be a file that can be written",
        ),
        ("dqn", "{{'{}.TrustRegionRecorder':dict(path='x.csv')}}", "TrustRegionRecorder needs an on-policy algorithm"),
    ],
)
def test_what_a_callback_refuses_before_training_is_one_line(
    algo: str, callback: str, message: str, capsys: Capture
) -> None:
    callback = callback.format("sb3_ppo_variants.callbacks")
    assert message in refusal(capsys, algo, "CartPole-v1", "-params", f"callback:[{callback}]")
    assert not list(Path().iterdir())


# ------------------------------------------------------------------------------------------ what leaves a folder behind


class FailingEnv(CartPoleEnv):
    """It fails at a step of one's choice, in its own code."""

    def __init__(self, fails_at: int = 0, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.left = fails_at

    def reset(self, **kwargs: Any) -> Any:
        if self.left == 0:
            raise ValueError("out of order")
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise ValueError("out of order")
        return super().step(action)


@pytest.mark.parametrize(("fails_at", "stays"), [(0, False), (20, True)])
def test_folder_of_a_failed_run_goes_if_nothing_was_trained(fails_at: int, stays: bool) -> None:
    gym.register("Failing-v0", entry_point=FailingEnv, max_episode_steps=20)
    with pytest.raises(ValueError, match="out of order"):  # with its traceback: it is the environment's own
        train("ppo_penalty", "Failing-v0", "-params", "n_steps:8", "--env-kwargs", f"fails_at:{fails_at}")
    assert Path("logs").exists() == stays


class WithoutActions(CartPoleEnv):
    """It is wrong in its own code, and gymnasium says so."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.action_space = gym.spaces.Discrete(-1)


class Narrow(BaseFeaturesExtractor):
    """Its layer does not fit to the observations."""

    def __init__(self, observation_space: gym.Space[Any]) -> None:
        super().__init__(observation_space, 8)
        self.width = th.nn.Linear(3, 8)(th.zeros(1, 4)).shape[1]


class Careful(AdaptiveClipMixin, PPO):
    """A variant whose own constructor passes arguments on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize("algo", ["ppo", "ppo_penalty"])
def test_users_code_in_which_a_library_fails_keeps_its_traceback(algo: str) -> None:
    gym.register("WithoutActions-v0", entry_point=WithoutActions)
    Path("own.py").write_text("hyperparams = {'WithoutActions-v0': dict(n_timesteps=64, policy='MlpPolicy')}")
    with pytest.raises(ValueError, match="have to be positive"):
        train(algo, "WithoutActions-v0", "-conf", "own.py")


@pytest.mark.parametrize("algo", ["ppo", "ppo_penalty"])
def test_a_layer_of_the_user_s_that_does_not_fit_keeps_its_traceback(algo: str) -> None:
    gym.register("Narrow-v0", entry_point=CartPoleEnv)
    Path("own.py").write_text(
        f"from {__name__} import Narrow\n"
        "kwargs = dict(features_extractor_class=Narrow)\n"
        "hyperparams = {'Narrow-v0': dict(n_timesteps=64, policy='MlpPolicy', policy_kwargs=kwargs)}\n"
    )
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(algo, "Narrow-v0", "-conf", "own.py")


def test_what_a_variant_of_one_s_own_is_given_is_refused_in_one_line(capsys: Capture) -> None:
    register_algorithm("careful", Careful)
    assert "`target_kl` must be > 0, got -1" in refusal(capsys, "careful", "CartPole-v1", "-params", "target_kl:-1")


def test_folder_of_another_run_stays_when_one_fails(capsys: Capture) -> None:
    train("ppo_penalty", "CartPole-v1")
    refusal(capsys, "ppo_penalty", "CartPole-v1", "-params", "target_kl:-1")
    assert [path.name for path in Path("logs/ppo_penalty").iterdir()] == ["CartPole-v1_1"]


def test_traceback_is_kept_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHOW_TRACEBACK, "1")
    with pytest.raises(ValueError, match="`target_kl` must be > 0"):
        train("ppo_penalty", "CartPole-v1", "-params", "target_kl:-1")


def test_ctrl_c_before_training_ends_with_a_word(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StockExperimentManager, "create_envs", interrupt)
    with pytest.raises(SystemExit) as error:
        train("ppo", "CartPole-v1")
    assert error.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not Path("logs").exists()


def test_error_without_a_text_keeps_its_traceback() -> None:
    with pytest.raises(AssertionError), one_line_errors():
        assert not gym.registry


# -------------------------------------------------------------------------------------------------------------- studies


@pytest.mark.parametrize(
    ("storage", "file"), [("sqlite:///nothere.db", "nothere.db"), ("nothere/study.log", "nothere/study.log")]
)
def test_missing_storage_is_refused_and_not_made(storage: str, file: str, capsys: Capture) -> None:
    message = refusal(capsys, "ppo_penalty", "CartPole-v1", "--storage", storage, "--study-name", "study")
    assert message == f"--storage {storage}: there is no file {file}; a study is made with -optimize"
    assert not list(Path().iterdir())


@pytest.mark.parametrize("more", [[], ["-optimize", "--n-trials", "1"]])
def test_storage_that_is_no_address_is_refused(more: list[str], capsys: Capture) -> None:
    study = ["--storage", "study.db", "--study-name", "study"]
    message = refusal(capsys, "ppo_penalty", "CartPole-v1", *study, *more)
    assert "got 'study.db'; for a new study write 'sqlite:///study.db'" in message
    assert check_storage("mysql://user@server/studies") is None


@pytest.mark.parametrize("storage", ["sqlite:///study.db", "study.log"])
def test_unknown_study_or_trial_is_refused_with_what_there_is(storage: str, capsys: Capture) -> None:
    journal = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("study.log"))
    study = optuna.create_study(storage=journal if storage == "study.log" else storage, study_name="cartpole")

    def problem(name: str, *more: str) -> str:
        return refusal(capsys, "ppo_penalty", "CartPole-v1", "--storage", storage, "--study-name", name, *more)

    assert problem("cartpol") == f"there is no study 'cartpol' in {storage}; did you mean 'cartpole'?"
    assert problem("zzz") == f"there is no study 'zzz' in {storage}; it has cartpole"
    assert problem("cartpole").startswith("no trial of the study cartpole was completed")
    assert problem("cartpole", "--trial-id", "0").endswith("got 0; there are none")
    study.ask()
    assert problem("cartpole", "--trial-id", "77").endswith("of cartpole, got 77; there are 0 to 0")
    assert problem("cartpole", "--trial-id", "-1").endswith("got -1; there are 0 to 0")
    assert problem("cartpole", "--trial-id", "0").endswith("has no hyperparameters, its state is running")


def test_ctrl_c_in_the_first_trial_says_that_none_was_completed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)

    def interrupt(*args: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(StockExperimentManager, "objective", interrupt)
    with pytest.raises(SystemExit, match="No trial was completed, so that none is the best"):
        train("ppo_penalty", "CartPole-v1", "-optimize", "--no-optim-plots")
    assert [record for record in caplog.records if "Trial" in record.message]
    assert [record for record in caplog.records if record.exc_info] == []


# ------------------------------------------------------------------------------------------------------- other commands


def test_enjoy_without_pygame_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    train("ppo_penalty", "CartPole-v1")
    for name in [name for name in sys.modules if name.split(".")[0] == "pygame"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pygame", None)
    message = refused(capsys, "enjoy", "--algo", "ppo_penalty", "--env", "CartPole-v1", "-f", "logs")
    assert re.match(r"pygame is not installed, run `pip install .*`; enjoy does .* with --no-render$", message)


def test_a_missing_simulator_is_not_called_a_window(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    message = refusal(capsys, "ppo_penalty", "LunarLander-v3")
    assert message.startswith("Box2D is not installed") and "--no-render" not in message


@pytest.mark.parametrize(
    ("arguments", "way_out"),
    [
        (["enjoy", "--no-render"], "--gym-packages MODULE imports the module that registers it"),
        (["evaluate"], "--gym-packages MODULE imports the module that registers it"),
        (["record_video"], "a custom_envs.py in the working folder must register it"),
        (["push_to_hub", "-orga", "me"], "a custom_envs.py in the working folder must register it"),
    ],
)
def test_an_environment_that_nobody_registered_has_the_way_out_of_the_command(
    arguments: list[str], way_out: str, capsys: Capture
) -> None:
    if arguments[0] == "record_video":
        pytest.importorskip("moviepy")
    train("ppo_penalty", "CartPole-v1")
    run = Path("logs/ppo_penalty/CartPole-v1_1").rename("logs/ppo_penalty/My-v0_1")
    for name in ("CartPole-v1.zip", "CartPole-v1"):
        (run / name).rename(run / name.replace("CartPole-v1", "My-v0"))
    message = refused(capsys, *arguments, "--algo", "ppo_penalty", "--env", "My-v0", "-f", "logs")
    assert message.endswith(f"; {way_out}"), message


@pytest.mark.parametrize("name", ["enjoy", "evaluate"])
def test_missing_run_is_named(name: str, capsys: Capture) -> None:
    message = refused(capsys, name, "--algo", "ppo_penalty", "--env", "CartPole-v1", "-f", "logs")
    assert "The logs/ppo_penalty folder was not found" in message


def test_evaluate_names_the_closest_run_in_its_own_folder_and_what_a_best_model_needs(capsys: Capture) -> None:
    train("ppo_penalty", "CartPole-v1")
    message = refused(capsys, "evaluate", "--algo", "ppo_penalty", "--env", "CartPol-v1")
    assert message == "there is no run of 'CartPol-v1' in logs/ppo_penalty; did you mean 'CartPole-v1'?"
    message = refused(capsys, "evaluate", "--algo", "ppo_penalty", "--env", "CartPole-v1", "--load-best")
    assert "best_model.zip; a training saves its best model with --eval-freq; leave --load-best out" in message


def test_evaluation_over_no_episode_is_refused(capsys: Capture) -> None:
    arguments = ["--algo", "ppo_penalty", "--env", "CartPole-v1", "-f", "logs", "--n-episodes", "0"]
    assert refused(capsys, "evaluate", *arguments) == "--n-episodes must be >= 1, got 0; 20 is the default"


@pytest.mark.parametrize(("name", "option"), [("plot_train", "-a"), ("all_plots", "-a")])
def test_plots_of_an_algorithm_without_runs_are_refused(name: str, option: str, capsys: Capture) -> None:
    pytest.importorskip("seaborn", reason="the zoo's plots extra has it")
    Path("logs/ppo_penalty").mkdir(parents=True)
    arguments = ["-e", "CartPole-v1", "-f", "logs"]
    message = "there is no folder of 'ppo_penalyt' in logs; did you mean 'ppo_penalty'? (there is ppo_penalty)"
    assert refused(capsys, name, option, "ppo_penalyt", *arguments) == message
    assert "there is no folder nothere" in refused(capsys, name, option, "ppo", "-e", "CartPole-v1", "-f", "nothere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["all_plots", "-e", "CartPole-v1"], "-a and -f missing; give -a ALGORITHM -e ENVIRONMENT -f FOLDER"),
        (["plot_train", "-a", "ppo", "-f", "logs"], "-e missing; give -a ALGORITHM -e ENVIRONMENT -f FOLDER"),
        (["plot_from_file"], "-i missing; give the file that all_plots saves with -o FILE"),
    ],
)
def test_plots_name_the_arguments_that_are_missing(arguments: list[str], message: str, capsys: Capture) -> None:
    pytest.importorskip("seaborn", reason="the zoo's plots extra has it")
    assert refused(capsys, *arguments).startswith(message)


@pytest.mark.parametrize("name", ["plot_train", "all_plots"])
def test_plots_of_an_environment_without_runs_are_refused(name: str, capsys: Capture) -> None:
    pytest.importorskip("seaborn", reason="the zoo's plots extra has it")
    Path("logs/ppo_penalty/CartPole-v1_1").mkdir(parents=True)
    message = "there is no run of 'CartPol-v1' of ppo_penalty in logs; did you mean 'CartPole-v1'?"
    assert refused(capsys, name, "-a", "ppo_penalty", "-e", "CartPol-v1", "-f", "logs") == message


@pytest.mark.parametrize("name", ["enjoy", "evaluate", "record_video"])
def test_the_closest_environment_with_a_run_is_named(name: str, capsys: Capture) -> None:
    for run in ("CartPole-v1_1", "ALE-Pong-v5_2_0f8fad5b-d9cb-469f-a165-70867728950e"):
        Path("logs/ppo_penalty", run).mkdir(parents=True)
    common = ["--algo", "ppo_penalty", "-f", "logs", "--env"]
    said = "there is no run of {} in logs/ppo_penalty; did you mean {}?"
    assert refused(capsys, name, *common, "CartPol-v1") == said.format("'CartPol-v1'", "'CartPole-v1'")
    assert refused(capsys, name, *common, "ALE/Pog-v5") == said.format("'ALE/Pog-v5'", "'ALE-Pong-v5'")


def test_only_enjoy_downloads_an_agent(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("rl-trained-agents/ppo/CartPole-v1_1").mkdir(parents=True)
    message = "there is no run of 'CartPol-v1' in rl-trained-agents/ppo; did you mean 'CartPole-v1'?"
    arguments = ["--algo", "ppo", "--env", "CartPol-v1", "-f", "rl-trained-agents"]
    assert refused(capsys, "record_video", *arguments) == message
    played: list[bool] = []
    monkeypatch.setattr("sb3_ppo_variants.zoo.hub.enjoy", lambda: played.append(True))
    command("enjoy", *arguments)
    assert played


def test_a_benchmark_without_a_network_names_the_option(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("seaborn", reason="the zoo's plots extra has it")

    def unreachable() -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("rl_zoo3.utils.get_hf_trained_models", unreachable)
    Path("logs").mkdir()
    message = "no list of the hub's models (ConnectionError); --no-hub takes the agents in --log-dir only"
    assert refused(capsys, "benchmark", "--log-dir", "logs") == message


@pytest.mark.parametrize(("missing", "is_the_command_s"), [("moviepy.editor", True), ("physics", False)])
def test_only_a_module_of_the_extra_is_told_to_be_installed(
    missing: str, is_the_command_s: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("sb3_ppo_variants.zoo.scripts.record_video", fail)
    with pytest.raises(SystemExit if is_the_command_s else ModuleNotFoundError, match=missing):
        command("record_video")


def test_help_of_init_says_which_commands_know_the_algorithms_then(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        command("init", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "`python -m rl_zoo3.train`, `rl_zoo3.enjoy` and `rl_zoo3.record_video` know the algorithms" in said
    assert "The others do not read it" in said and "needs PYTHONPATH=." in said


def test_interruption_of_any_command_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sb3_ppo_variants.zoo.evaluate.evaluate", interrupt)
    with pytest.raises(SystemExit) as error:
        command("evaluate")
    assert error.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
