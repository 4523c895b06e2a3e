"""The command ``train`` under torchrun."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo_commands import run_python

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.distributed import Ranks

REFUSALS = {
    "-optimize": (["--algo", "ppo_penalty", "-optimize"], "leave -optimize to one"),
    "stock": (["--algo", "ppo"], "ppo trains in one process only, got 2"),
}


class OfTwo(Ranks):
    """Rank 0 or 1 of 2, without the other."""

    size = 2

    def __init__(self, rank: int):
        self.rank = rank

    def from_first(self, make: Any) -> Any:
        return 123  # what the first one drew


def test_all_processes_have_one_seed_and_the_first_one_tracks() -> None:
    code = """
from sb3_ppo_variants.zoo import register; register()
from sb3_ppo_variants.zoo.several_processes import arguments_of_rank
from test_zoo_several_processes import OfTwo, REFUSALS, Ranks

given = ["--algo", "ppo_penalty", "--track"]
assert arguments_of_rank(given, Ranks()) is given
assert arguments_of_rank(given, OfTwo(0)) == [*given, "--seed", "123"]
assert arguments_of_rank(given, OfTwo(1)) == ["--algo", "ppo_penalty", "--seed", "123"]
assert arguments_of_rank([*given, "--seed", "7"], OfTwo(0)) == [*given, "--seed", "7"]
for arguments, said in REFUSALS.values():
    try:
        arguments_of_rank(arguments, OfTwo(0))
    except SystemExit as error:
        assert error.code == 2
    else:
        raise AssertionError(said)
"""
    # rl_zoo3 changes Gymnasium for the whole process when it is imported: this is one of its own.
    done = run_python(Path(__file__).parent, "-c", code)
    for _, said in REFUSALS.values():
        assert said in done.stderr


@pytest.mark.slow
def test_two_processes_make_one_run(tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "sb3_ppo_variants.zoo"]
    arguments = ["train", "--algo", "ppo_penalty", "--env", "Pendulum-v1", "-f", str(tmp_path), "--eval-freq", "4096"]
    steps = ["-n", "16384", "--resume", "-params", "n_epochs:2"]
    done = run_python(tmp_path, *command, *arguments, *steps)
    assert done.stdout.count("Saving to") == 1
    runs = list((tmp_path / "ppo_penalty").iterdir())
    assert [run.name for run in runs] == ["Pendulum-v1_1"]
    names = {path.name for path in runs[0].iterdir()}
    assert {"0.monitor.csv", "best_model.zip", "checkpoints", "evaluations.npz", "Pendulum-v1.zip"} <= names
    assert PPOPenalty.load(runs[0] / "Pendulum-v1.zip").num_timesteps == 16384
    assert np.load(runs[0] / "evaluations.npz")["timesteps"].tolist() == [4096, 8192, 12_288, 16_384]
