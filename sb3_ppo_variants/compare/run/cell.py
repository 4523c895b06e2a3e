"""One cell in a process of its own: ``python -m sb3_ppo_variants.compare.run.cell FOLDER``, or forked.

It reads ``task.json`` in the folder, keeps ``progress`` there up to date and leaves ``result.json``. A process of its
own gives each run its own peak memory, one torch thread and a crash that harms no other; and importing rl-zoo3 replaces
Gymnasium's TimeLimit for the whole process.
"""

import argparse
import json
import math
import multiprocessing.connection
import os
import platform
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch as th
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants import __version__
from sb3_ppo_variants.callbacks import TrustRegionRecorder
from sb3_ppo_variants.compare.cells import RANDOM_POLICY, CellTask
from sb3_ppo_variants.compare.run.evaluation import Evaluation, EvaluationProtocol, GridEvaluation, RandomPolicy
from sb3_ppo_variants.saving.atomic_file import write_atomically
from sb3_ppo_variants.trust_region_log import read_trust_region

PACKAGES = ("stable-baselines3", "sb3-contrib", "rl_zoo3", "gymnasium", "torch", "numpy")


def main() -> None:
    """Run the cell of the folder named on the command line; standard input closes when the holder of the cell ends."""
    # without a buffer, whose lock would hinder the end of the interpreter
    run(Path(sys.argv[1]), until=lambda: os.read(0, 1))


def forked(folder: str) -> None:
    """Run a cell in this process, which was forked from one that only imports.

    :param folder: of the cell
    """
    os.setpgid(0, 0)  # environments may start processes: all of the group end together
    try:
        log = os.open(Path(folder) / "log.txt", os.O_WRONLY)
    except FileNotFoundError:  # the command was interrupted before the server could fork
        return
    os.dup2(log, 1)
    os.dup2(log, 2)
    parent = multiprocessing.parent_process()
    assert parent is not None
    run(Path(folder), until=lambda: multiprocessing.connection.wait([parent.sentinel]))


def run(folder: Path, until: Callable[[], Any]) -> None:
    """Run a cell.

    :param folder: with its ``task.json``, for its result
    :param until: returns when the cell is to end because nobody waits for it any more
    """
    # The command is interrupted, not its cells: rl-zoo3 would take an interrupted training for a finished one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, args=(folder, until), daemon=True).start()
    th.set_num_threads(1)
    task = CellTask.from_json(json.loads((folder / "task.json").read_text()))
    measured = measure_random_policy(task, folder) if task.settings.algo == RANDOM_POLICY else train(task, folder)
    finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    result = {**task.to_json(), **measured, "environment": environment(), "finished": finished}
    write_atomically(folder / "result.json", json.dumps(result))


def train(task: CellTask, folder: Path) -> dict[str, Any]:
    """Train and evaluate.

    :param task: what to run
    :param folder: for the zoo's log files and the progress
    :return: what was measured, in plain values
    :raises RuntimeError: if training ended before its last evaluation
    """
    settings = task.settings
    manager = _manager(task, folder)
    memory_at_start = _peak_memory()
    experiment = manager.setup_experiment()
    assert experiment is not None  # that is for hyperparameter optimisation
    model, _ = experiment
    progress = folder / "progress"
    evaluation = GridEvaluation(
        _protocol(manager, task), settings.grid(), lambda steps: progress.write_text(str(steps))
    )
    recorder = TrustRegionRecorder(folder / "updates.csv")
    # Of other algorithms there are no policy updates to record.
    manager.callbacks += [recorder, evaluation] if isinstance(model, OnPolicyAlgorithm) else [evaluation]
    manager.learn(model)
    done = len(evaluation.evaluations)
    if done < len(settings.grid()):
        raise RuntimeError(
            f"training ended after {model.num_timesteps} of {settings.n_timesteps} steps, "
            f"{done} of {len(settings.grid())} evaluations done"
        )
    return {
        "evaluations": [row._asdict() for row in evaluation.evaluations],
        "trace": _read_trace(recorder.path),
        "cost": {
            "train_seconds": evaluation.train_seconds,
            "cpu_seconds": evaluation.cpu_seconds,
            "peak_memory_mib": _peak_memory(),
            "memory_before_mib": memory_at_start,
        },
        "deterministic": manager.deterministic_eval,
        "arguments": _constructor_arguments(model),
    }


def measure_random_policy(task: CellTask, folder: Path) -> dict[str, Any]:
    """Evaluate uniformly random actions in the evaluation environments of the arm whose settings the task has.

    :param task: what to run; its hyperparameters are the baseline's
    :param folder: for the zoo's log files
    :return: what was measured, in plain values
    """
    manager = _manager(task, folder)
    manager._preprocess_hyperparams(manager.read_hyperparameters()[0])
    protocol = _protocol(manager, task)
    rewards, lengths = protocol.run(RandomPolicy(protocol.env, task.cell.seed), 0)
    return {
        "evaluations": [Evaluation(0, 0.0, 0.0, rewards, lengths)._asdict()],
        "trace": {},
        "cost": {},
        "deterministic": False,
        "arguments": {},
    }


def environment() -> dict[str, str]:
    """Return versions and machine, for the record."""
    versions = {"sb3-ppo-variants": __version__, **{name: metadata.version(name) for name in PACKAGES}}
    machine = {"python": platform.python_version(), "machine": platform.platform(), "processor": _processor()}
    return {**versions, **machine, "cores": str(os.cpu_count())}


def _manager(task: CellTask, folder: Path) -> Any:
    from sb3_ppo_variants.zoo import register
    from sb3_ppo_variants.zoo.experiment_manager import VariantExperimentManager

    register()
    settings = task.settings
    config = folder / "hyperparameters.yml"
    config.write_text(yaml.safe_dump({task.cell.env: settings.hyperparameters}))
    return VariantExperimentManager(
        argparse.Namespace(),
        # random actions need the environment only; any algorithm will do
        "ppo" if settings.algo == RANDOM_POLICY else settings.algo,
        task.cell.env,
        str(folder / "zoo"),
        n_timesteps=settings.n_timesteps,
        eval_freq=-1,
        log_interval=-1,
        seed=task.cell.seed,
        verbose=0,
        device=settings.device,
        config=str(config),
    )


def _protocol(manager: Any, task: CellTask) -> EvaluationProtocol:
    episodes = task.settings.eval_episodes
    env = manager.create_envs(min(episodes, 16), eval_env=True)
    return EvaluationProtocol(env, episodes, manager.deterministic_eval, task.cell.seed)


def _read_trace(path: Path) -> dict[str, list[float | None]]:
    """Return what was recorded of the updates, column by column, without the empty columns."""
    updates = read_trust_region(path).updates if path.is_file() else {}
    columns = {name: [v if math.isfinite(v) else None for v in values.tolist()] for name, values in updates.items()}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _constructor_arguments(model: BaseAlgorithm) -> dict[str, str]:
    """Read back the trust region's arguments as the model holds them, defaults included."""
    names = ("target_kl", "kl_tolerance", "adaptation_factor", "adapt_after", "initial_beta", "acceleration", "max_kl")
    return {name: repr(getattr(model, name)) for name in names if hasattr(model, name)}


def _exit_with_parent(folder: Path, until: Callable[[], Any]) -> None:
    """Wait until nobody waits for the cell, then tidy up and end."""
    until()
    shutil.rmtree(folder, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _peak_memory() -> float:
    """Return the largest resident memory of this process so far, MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
