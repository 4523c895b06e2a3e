"""The Ray engine on a real cluster of two nodes on this machine."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_compare_command import SMALL, cell_files, compare, evaluations
from zoo_commands import PACKAGE, start

MEMORY = 80_000_000  # the least that Ray's object store takes
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUIET, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}.items():
            patch.setenv(name, value)
        node = {"num_cpus": 1, "object_store_memory": MEMORY}
        found = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        found.add_node(**node)
        yield found
        found.shutdown()


def workers() -> dict[int, list[int]]:
    """Find the Ray workers that run a cell, with the processes of their cells."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            children = (folder / "task" / folder.name / "children").read_text().split()
        except OSError:  # it has ended meanwhile
            continue
        if command.startswith(b"ray::run_cell") and children:
            found[int(folder.name)] = [int(child) for child in children]
    return found


@pytest.mark.slow
def test_worker_killed_in_a_run_costs_no_cell_and_doubles_none(cluster: Any, tmp_path: Path) -> None:
    arms = ["--algos", "ppo", "ppo_penalty", "--seeds", "2", *SMALL]
    command = start(tmp_path, "compare", *arms, "--engine", "ray", "--address", cluster.address, "--out", "out")
    end = time.monotonic() + 200
    while not (running := workers()):
        assert time.monotonic() < end and command.poll() is None
        time.sleep(0.2)
    worker, (cell, *_) = next(iter(running.items()))
    os.kill(worker, signal.SIGKILL)
    output, _ = command.communicate(timeout=400)
    assert command.returncode == 0, output
    assert not Path(f"/proc/{cell}").exists()  # the cell ends with its worker

    done = re.findall(r"^\[\d/5\] (.*?):", output, flags=re.MULTILINE)
    assert len(done) == len(set(done)) == len(cell_files(tmp_path / "out")) == 5
    assert "CRASHED" not in output
    compare(tmp_path, *arms, "--out", "local")
    assert cell_files(tmp_path / "local") == cell_files(tmp_path / "out")
    for name in cell_files(tmp_path / "local"):
        assert evaluations(tmp_path / "out", name) == evaluations(tmp_path / "local", name)


@pytest.mark.slow
def test_unreachable_cluster_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    arms = ["--algos", "ppo", "--seeds", "1", *SMALL, "--out", "out"]
    said = compare(tmp_path, *arms, "--engine", "ray", "--address", "127.0.0.1:1", status=2)
    assert "error: no Ray cluster at 127.0.0.1:1" in said
    assert (tmp_path / "out" / "comparison.json").is_file()


@pytest.mark.slow
def test_missing_ray_is_an_error_with_the_command_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('no ray here')")
    arms = ["--algos", "ppo", "--seeds", "1", *SMALL, "--out", "out"]
    said = compare(tmp_path, *arms, "--engine", "ray", status=2)
    assert 'error: --engine ray needs Ray: pip install ".[ray]" in a clone' in said
