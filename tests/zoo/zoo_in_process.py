"""The command line in this process, for tests that test_zoo.py runs in processes of their own."""

import sys
from pathlib import Path

import pytest

from sb3_ppo_variants.cli import main


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test of a file that imports this a working folder of its own."""
    monkeypatch.chdir(tmp_path)


def command(*arguments: str) -> None:
    """Run the command line in this process and in the working folder."""
    sys.argv = ["sb3-ppo-variants", *arguments]
    main()


def train(algo: str, env: str, *arguments: str, steps: int = 64) -> None:
    """Train in this process and in the working folder."""
    common = ["--algo", algo, "--env", env, "-n", str(steps), "--eval-freq", "-1", "-f", "logs", "--verbose", "0"]
    command("train", *common, *arguments)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must end with one line and status 2; return the line without its beginning."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        command(*arguments)
    assert error.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0].removeprefix("error: ")


def refusal(capsys: pytest.CaptureFixture[str], algo: str, env: str, *arguments: str) -> str:
    """Train, which must be refused; return the line."""
    common = ["--algo", algo, "--env", env, "-n", "64", "--eval-freq", "-1", "-f", "logs", "--verbose", "0"]
    return refused(capsys, "train", *common, *arguments)
