"""The zoo commands as a user runs them: in processes of their own, in a temporary folder."""

import re
import sys
import zipfile
from pathlib import Path

import pytest
import torch as th
import yaml
from zoo_commands import CUSTOM_ENVS, ROOT, logged, run_python, train, training, zoo

from sb3_ppo_variants import MaskablePPOPenalty, PPOAdaptiveClip, PPOClip, PPOPenalty, __version__
from sb3_ppo_variants.cli import COMMANDS, main
from sb3_ppo_variants.zoo import ALGORITHMS


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a PPO-Penalty agent after 4 updates on CartPole-v1."""
    folder = tmp_path_factory.mktemp("trained")
    train(folder, "ppo_penalty", "CartPole-v1", steps=1024)
    return folder


@pytest.mark.parametrize(
    "file",
    [
        *("zoo_units.py", "zoo_refusals.py", "zoo_traceback_refusals.py", "zoo_resuming.py", "zoo_termination.py"),
        "zoo_own_algorithms.py",
    ],
)
def test_units_in_a_process_of_their_own(tmp_path: Path, file: str) -> None:
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}"]
    run_python(ROOT, "-m", "pytest", *options, f"tests/zoo/{file}")


def test_train_without_conf_file_leaves_model_and_config(trained: Path) -> None:
    run = trained / "logs" / "ppo_penalty" / "CartPole-v1_1"
    model = PPOPenalty.load(run / "CartPole-v1.zip")
    config = (run / "CartPole-v1" / "config.yml").read_text()
    assert model.num_timesteps == 1024
    assert "target_kl" in config
    assert "clip_range" not in config


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "cls"), [("ppo_adaptive_clip", PPOAdaptiveClip), ("ppo_clip", PPOClip)])
def test_train_on_pendulum_uses_our_yaml(tmp_path: Path, algo: str, cls: type[PPOClip]) -> None:
    output = train(tmp_path, algo, "Pendulum-v1", "-params", "n_steps:128")
    assert f"Loading hyperparameters from: {ROOT / 'hyperparams' / algo}.yml" in output
    run = tmp_path / "logs" / algo / "Pendulum-v1_1"
    model = cls.load(run / "Pendulum-v1.zip")
    assert type(model) is cls
    assert model.use_sde
    assert (run / "Pendulum-v1" / "config.yml").is_file()


def test_unlisted_environment_takes_the_zoos_entry_and_says_so(tmp_path: Path) -> None:
    small = ["-params", "n_envs:2", "n_steps:32", "n_epochs:2"]
    output = train(tmp_path, "ppo_penalty", "BipedalWalker-v3", *small, steps=128)
    message = re.search(r"^No entry for .*\n(?:.*\n)*?^clip_range .*", output, flags=re.MULTILINE)
    assert message is not None
    quoted = (ROOT / "docs/zoo.md").read_text()
    assert message[0].splitlines()[0] in quoted
    assert message[0].splitlines()[-1] in quoted
    config = yaml.unsafe_load(
        (tmp_path / "logs/ppo_penalty/BipedalWalker-v3_1/BipedalWalker-v3/config.yml").read_text()
    )
    assert config["normalize"] is True
    assert config["gamma"] == 0.999
    assert "clip_range" not in config


@pytest.mark.slow
def test_stock_algorithm_is_the_zoos_own(tmp_path: Path) -> None:
    ours = train(tmp_path, "ppo", "CartPole-v1")
    theirs = run_python(tmp_path, "-m", "rl_zoo3.train", *training("ppo", "CartPole-v1")).stdout
    for output in (ours, theirs):
        assert re.search(r"Loading hyperparameters from: .*rl_zoo3/hyperparams/ppo\.yml", output)
    runs = [tmp_path / "logs/ppo" / f"CartPole-v1_{number}/CartPole-v1.zip" for number in (1, 2)]
    parameters = [zipfile.ZipFile(run).read("policy.pth") for run in runs]
    assert parameters[0] == parameters[1]


def test_enjoy_and_evaluate_find_the_agent(trained: Path) -> None:
    agent = ["--algo", "ppo_penalty", "--env", "CartPole-v1", "-f", "logs"]
    assert "Mean reward:" in zoo(trained, "enjoy", *agent, "--no-render", "-n", "200").stdout
    output = zoo(trained, "evaluate", *agent, "--n-episodes", "3").stdout
    assert re.search(r"Evaluation over 3 episodes \(deterministic\): \d+\.\d\d \+/- \d+\.\d\d", output)
    assert "Model: logs/ppo_penalty/CartPole-v1_1/CartPole-v1.zip" in output


def test_beta_continues_when_a_run_is_resumed(trained: Path, tmp_path: Path) -> None:
    agent = trained / "logs" / "ppo_penalty" / "CartPole-v1_1" / "CartPole-v1.zip"
    saved = PPOPenalty.load(agent).beta
    assert saved != PPOPenalty.load(agent).initial_beta, "nothing to see: beta has not moved"
    output = train(tmp_path, "ppo_penalty", "CartPole-v1", "-i", str(agent))
    assert logged(output, "beta")[0] == pytest.approx(saved, rel=1e-2)  # the table shows three digits


@pytest.mark.slow
def test_epsilon_continues_when_a_run_is_resumed(tmp_path: Path) -> None:
    train(tmp_path, "ppo_adaptive_clip", "CartPole-v1", steps=1024)
    agent = "logs/ppo_adaptive_clip/CartPole-v1_1/CartPole-v1.zip"
    saved = PPOAdaptiveClip.load(tmp_path / agent).clip_scale
    assert saved != 1.0, "nothing to see: clip_scale has not moved"
    output = train(tmp_path, "ppo_adaptive_clip", "CartPole-v1", "-i", agent)
    assert logged(output, "clip_scale")[0] == pytest.approx(saved, rel=1e-2)


def test_zoos_own_commands_work_in_a_prepared_folder(tmp_path: Path) -> None:
    assert "custom_envs.py written" in zoo(tmp_path, "init").stdout
    output = run_python(tmp_path, "-m", "rl_zoo3.train", *training("ppo_penalty", "CartPole-v1", steps=256)).stdout
    assert f"Loading hyperparameters from: {ROOT / 'hyperparams' / 'ppo_penalty'}.yml" in output
    agent = ["--algo", "ppo_penalty", "--env", "CartPole-v1", "-f", "logs", "--no-render", "-n", "100"]
    assert "Mean reward:" in run_python(tmp_path, "-m", "rl_zoo3.enjoy", *agent).stdout


def test_init_leaves_a_file_of_ones_own_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    own = tmp_path / "custom_envs.py"
    own.write_text("import my_envs\n")
    monkeypatch.setattr(sys, "argv", ["sb3-ppo-variants", "init"])
    with pytest.raises(SystemExit, match=r"left as it is; add this line to it:\nimport sb3_ppo_variants\.zoo"):
        main()
    assert own.read_text() == "import my_envs\n"
    own.write_text("import my_envs\nimport sb3_ppo_variants.zoo.autoregister\n")
    monkeypatch.setattr(sys, "argv", ["sb3-ppo-variants", "init"])
    main()
    assert "already" in capsys.readouterr().out


@pytest.mark.slow
def test_maskable_agent_never_takes_an_invalid_action(tmp_path: Path) -> None:
    (tmp_path / "custom_envs.py").write_text(CUSTOM_ENVS)  # its environment fails on one
    few = ["-params", "n_steps:64", "--eval-freq", "64"]
    output = train(tmp_path, "ppo_penalty_mask", "OneValidAction-v0", *few, steps=128)
    assert "Eval num_timesteps=64, episode_reward=10.00 +/- 0.00" in output
    agent = ["--algo", "ppo_penalty_mask", "--env", "OneValidAction-v0", "-f", "logs"]
    assert "Mean reward: 10.00" in zoo(tmp_path, "enjoy", *agent, "--no-render", "-n", "40").stdout
    assert "10.00 +/- 0.00" in zoo(tmp_path, "evaluate", *agent, "--stochastic").stdout
    zoos_own = run_python(tmp_path, "-m", "rl_zoo3.enjoy", *agent, "--no-render", "-n", "40")
    assert "Mean reward: 10.00" in zoos_own.stdout
    model = MaskablePPOPenalty.load(tmp_path / "logs/ppo_penalty_mask/OneValidAction-v0_1/OneValidAction-v0.zip")
    assert type(model) is MaskablePPOPenalty
    optimise = ["-optimize", "--n-trials", "2", "--no-optim-plots"]
    assert "Value:  10.0" in train(tmp_path, "ppo_penalty_mask", "OneValidAction-v0", *optimise, steps=64)


def test_register_is_idempotent_and_reaches_every_command(tmp_path: Path) -> None:
    script = """
import rl_zoo3.train  # before: the command already holds the stock manager
from argparse import Namespace
from sb3_ppo_variants.zoo import ALGORITHMS, register

register()
before = dict(rl_zoo3.ALGOS), rl_zoo3.train.ExperimentManager, rl_zoo3.create_test_env
register()
import rl_zoo3.enjoy  # after

assert (dict(rl_zoo3.ALGOS), rl_zoo3.train.ExperimentManager, rl_zoo3.create_test_env) == before
assert rl_zoo3.enjoy.ExperimentManager is rl_zoo3.train.ExperimentManager
assert rl_zoo3.enjoy.create_test_env is rl_zoo3.utils.create_test_env is rl_zoo3.create_test_env
assert rl_zoo3.train.ALGOS is rl_zoo3.ALGOS
assert set(ALGORITHMS) < set(rl_zoo3.ALGOS)


def config(algo, **arguments):
    return rl_zoo3.train.ExperimentManager(Namespace(), algo, "CartPole-v1", "logs", **arguments).config


assert config("ppo_clip").endswith("hyperparams/ppo_clip.yml")
assert config("ppo_clip", config="mine.yml") == "mine.yml"
assert "rl_zoo3" in config("ppo")
"""
    run_python(tmp_path, "-c", script)


def test_package_and_help_do_not_import_rl_zoo3(tmp_path: Path) -> None:
    script = """
import sys, sb3_ppo_variants.zoo.__main__ as command_line

sys.argv = ["sb3-ppo-variants", "--help"]
command_line.main()
assert not [name for name in sys.modules if name.split(".")[0] in ("rl_zoo3", "optuna", "matplotlib")]
"""
    output = run_python(tmp_path, "-c", script).stdout
    for name in ("ppo_penalty_lstm", *COMMANDS):
        assert name in output


@pytest.mark.parametrize("module", ["sb3_ppo_variants", "sb3_ppo_variants.zoo"])
def test_package_is_the_command_line(tmp_path: Path, module: str) -> None:
    done = run_python(tmp_path, "-m", module, "--help")
    assert done.stdout.startswith("usage: sb3-ppo-variants COMMAND")
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert run_python(tmp_path, "-m", module, "--version").stdout == f"sb3_ppo_variants {__version__}\n"
    done = run_python(tmp_path, "-m", module, "trian", status=2)
    assert "error: unknown command 'trian'; did you mean 'train'?" in done.stderr


def test_page_lists_every_command_and_algorithm() -> None:
    page = (ROOT / "docs/zoo.md").read_text()
    table = page.split("## Commands")[1].split("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)))) == set(
        COMMANDS
    )
    assert set(re.findall(r"`(ppo_\w+)`", page.split("```")[0])) == set(ALGORITHMS)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'? (choose from train, enjoy"),
        (["xyz"], "unknown command 'xyz' (choose from train, enjoy"),
        ([], "a command is missing (choose from train"),
    ],
)
def test_unknown_command_lists_the_commands(
    arguments: list[str], problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sb3-ppo-variants", *arguments])
    with pytest.raises(SystemExit) as error:
        main()
    assert error.value.code == 2
    assert problem in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device")
def test_train_on_the_gpu_leaves_a_model_from_there(tmp_path: Path) -> None:
    output = train(tmp_path, "ppo_penalty", "CartPole-v1", "--device", "cuda")
    assert "Using cuda device" in output
    assert PPOPenalty.load(tmp_path / "logs/ppo_penalty/CartPole-v1_1/CartPole-v1.zip").num_timesteps == 512
