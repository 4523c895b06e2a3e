"""Mistakes at which the zoo, SB3 or torch fail without a word for the user: test_zoo.py runs this file in a process."""

from pathlib import Path

import pytest
from zoo_in_process import command, refused, train, working_folder  # noqa: F401  # every test uses it

Capture = pytest.CaptureFixture[str]
SHORT = ["-n", "64", "--env", "CartPole-v1", "--eval-freq", "-1", "-f", "logs", "--verbose", "0"]


@pytest.mark.parametrize("algo", ["ppo", "ppo_penalty"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cdua"], "device type at start of device string: cdua"),
        (["-params", "n_envs:0"], "-params: `n_envs` must be a whole number >= 1, got 0"),
        (["-params", "n_envs:2.5"], "-params: `n_envs` must be a whole number >= 1, got 2.5"),
        (["--n-eval-envs", "0"], "--n-eval-envs must be >= 1, got 0"),
        (["--eval-episodes", "0"], "--eval-episodes must be >= 1, got 0"),
        (["--log-interval", "0"], "--log-interval must be >= 1 or -1 or -2, got 0"),
        (["-optimize", "--n-jobs", "0"], "--n-jobs must be >= 1 or -1, got 0"),
        (["--seed", "5000000000"], "--seed must be below 2**32, got 5000000000"),
        (["-params", "n_timesteps:0"], "-params: `n_timesteps` must be >= 1, got 0"),
        (
            ["-params", "n_timesteps:'1e3'"],
            "-params: `n_timesteps` must be a number, got '1e3'; YAML takes 1e6 for text",
        ),
        (["-params", "frame_stack:0"], "-params: `frame_stack` must be a whole number >= 1, got 0"),
        (["-f", "z[1]"], "-f must not have *, ? or [, which the zoo takes for patterns, got 'z[1]'"),
        (["-f", "empty.yml"], "Not a directory: 'empty.yml"),
        (["-optimize", "--n-evaluations", "0"], "--n-evaluations must be >= 1, got 0"),
        (["-params", "policy_kwargs:dict(activation_fn=nn.Tahn)"], "module 'torch.nn' has no attribute 'Tahn'"),
        (["-params", "policy_kwargs:'dict('"], "'(' was never closed"),
        (["-params", "callback:'sb3_ppo_variants.callbacks.StopTrainingOnK'"], "has no attribute 'StopTrainingOnK'"),
        (["-params", "env_wrapper:'gymnasium.wrappers.Foo'"], "module 'gymnasium.wrappers' has no attribute 'Foo'"),
        (["-conf", "empty.yml"], "-conf takes a file with an entry for each environment, got 'empty.yml', which has"),
        (["-conf", "short.yml"], "short.yml, CartPole-v1: `n_timesteps` is missing"),
    ],
)
def test_mistake_of_train_is_one_line(algo: str, arguments: list[str], message: str, capsys: Capture) -> None:
    Path("empty.yml").write_text("")
    Path("short.yml").write_text("CartPole-v1: {policy: MlpPolicy}")
    assert message in refused(capsys, "train", *SHORT, "--algo", algo, *arguments)
    assert not Path("logs").exists()


@pytest.mark.parametrize("algo", ["ppo", "ppo_penalty"])
def test_no_stack_of_frames_is_one_that_can_be_trained_and_played(algo: str, capsys: Capture) -> None:
    train(algo, "CartPole-v1", "-params", "frame_stack:None", "n_envs:1")
    command("evaluate", "--algo", algo, "--env", "CartPole-v1", "-n", "1")
    assert "Evaluation over 1 episodes" in capsys.readouterr().out


def test_a_rate_that_no_file_could_hold_is_refused(capsys: Capture) -> None:
    entry = "dict(policy='MlpPolicy', n_timesteps=64, learning_rate=lambda left: 1e-3 * left)"
    Path("own.py").write_text(f"hyperparams = {{'CartPole-v1': {entry}}}")
    found = refused(capsys, "train", *SHORT, "--algo", "ppo_penalty", "-conf", "own.py")
    assert "`learning_rate` must be a number or text such as 'lin_0.01' in an entry" in found


def test_an_environment_that_nobody_registered_is_named(capsys: Capture) -> None:
    train("ppo_penalty", "CartPole-v1")
    run = Path("logs/ppo_penalty/CartPole-v1_1").rename("logs/ppo_penalty/My-v0_1")
    for name in ("CartPole-v1.zip", "CartPole-v1"):
        (run / name).rename(run / name.replace("CartPole-v1", "My-v0"))
    played = ["--algo", "ppo_penalty", "--env", "My-v0", "-f", "logs", "--no-render", "-n", "8", "--exp-id", "1"]
    assert "My-v0 is not registered; --gym-packages MODULE imports" in refused(capsys, "enjoy", *played)


def test_a_study_of_something_else_is_refused(capsys: Capture) -> None:
    study = ["--study-name", "s", "--storage", "sqlite:///s.db"]
    tuning = ["-optimize", "--n-trials", "1", "--no-optim-plots", "-params", "n_envs:1"]
    train("ppo_penalty", "CartPole-v1", *study, *tuning)
    other = refused(capsys, "train", *SHORT, "--algo", "ppo_clip", *study, *tuning)
    assert "--study-name s is a study of ppo_penalty on CartPole-v1, not of ppo_clip on CartPole-v1" in other
    assert "is a study of ppo_penalty" in refused(capsys, "train", *SHORT, "--algo", "ppo_clip", *study)
    assert not Path("logs/ppo_clip").exists()
    train("ppo_penalty", "CartPole-v1", *study, *tuning)


def test_watching_no_environment_is_refused(capsys: Capture) -> None:
    train("ppo_penalty", "CartPole-v1")
    common = ["--algo", "ppo_penalty", "--env", "CartPole-v1", "-f", "logs", "--no-render"]
    assert refused(capsys, "enjoy", *common, "--n-envs", "0") == "--n-envs must be >= 1, got 0"


def test_study_leaves_no_run_that_other_commands_would_look_into(capsys: Capture) -> None:
    train("ppo_penalty", "CartPole-v1")
    train("ppo_penalty", "CartPole-v1", "-optimize", "--n-trials", "1", "--no-optim-plots", "-params", "n_envs:1")
    assert [path.name for path in Path("logs/ppo_penalty").iterdir() if path.is_dir()] == ["CartPole-v1_1"]
    command("evaluate", "--algo", "ppo_penalty", "--env", "CartPole-v1", "-f", "logs", "-n", "1")
    assert "Evaluation over 1 episodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("algo", "study", "message"),
    [
        ("ppo", ["--storage", "s.log"], "--storage needs --study-name, too"),
        ("ppo_penalty", ["--storage", "s.log"], "--storage needs --study-name, too"),
        ("ppo_penalty", ["--study-name", "s"], "--study-name needs --storage, too"),
        ("ppo", ["--storage", "s.log", "--study-name", "s"], "--algo ppo is the zoo's own, which loads a trial by"),
        ("ppo", ["--storage", "s.log", "--study-name", "s", "--trial-id", "0"], "by --trial-id 1 or higher only"),
    ],
)
def test_study_that_would_not_be_used_is_refused(algo: str, study: list[str], message: str, capsys: Capture) -> None:
    assert message in refused(capsys, "train", *SHORT, "--algo", algo, *study)
