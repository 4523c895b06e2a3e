"""Does stock PPO profit from the zoo's numbers because they were tuned for it? Tune all algorithms with equal budgets.

    python benchmarks/equal_tuning.py --trials 20 --jobs 2 --out tuning

For every algorithm and environment one study of rl-zoo3's `train -optimize`: as many trials of as many steps, the same
sampler (TPE), pruner (median) and evaluations; what the zoo samples for PPO, in minibatches of 32 and more
(equal_tuning_zoo.py), and the arguments of our own classes. A trial ends with the rollout in which it reaches the
steps. Then `compare` trains the best trial of each study with new
seeds, from 100 on.

In --out: `studies/*.log` (journals of Optuna), `trials.json` (every trial: state, value, what was suggested, seconds),
`ALGO.yml` (the best trials as entries of the zoo) and `comparison/` (the report). A study goes on where it was stopped,
and so does the comparison. One torch thread per process.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import rl_zoo3
import yaml
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER

from sb3_ppo_variants.zoo import ALGORITHMS
from sb3_ppo_variants.zoo.hyperparameters import find_source
from sb3_ppo_variants.zoo.search_spaces import convert

ALGOS = ["ppo", "ppo_penalty", "ppo_adaptive_clip"]
STEPS = {"CartPole-v1": 20_000, "Pendulum-v1": 40_000, "LunarLander-v3": 70_000}
ZOO_ENTRIES = Path(rl_zoo3.__file__).parent / "hyperparams"
ZOO = [sys.executable, str(Path(__file__).with_name("equal_tuning_zoo.py"))]
EVALUATION = ["--n-evaluations", "5", "--eval-episodes", "10", "--n-eval-envs", "5"]


def call(arguments: Sequence[str]) -> None:
    """Run a command of the zoo with one thread."""
    subprocess.run([*ZOO, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)


def journal(out: Path, algo: str, env: str) -> Path:
    """Return the file of a study."""
    return out / "studies" / f"{env}_{algo}.log"


def tune(out: Path, algo: str, env: str, trials: int) -> None:
    """Do the trials of a study that are missing; one that was killed counts as failed."""
    done = 0
    if journal(out, algo, env).exists():
        found = load(out, algo, env)
        for trial in found.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            found.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        done = len(found.trials)  # and so the seed: the sampler begins anew, and must not repeat itself
    study = ["--study-name", "equal", "--storage", str(journal(out, algo, env)), "--seed", str(done)]
    budget = ["-n", str(STEPS[env]), "--max-total-trials", str(trials), "--sampler", "tpe", "--pruner", "median"]
    logs = ["-f", str(out / "logs"), "-uuid"]
    optimize = ["-optimize", "--n-jobs", "1", "--no-optim-plots"]
    call(["train", "--algo", algo, "--env", env, *optimize, *study, *budget, *EVALUATION, *logs])


def load(out: Path, algo: str, env: str) -> optuna.Study:
    """Open a study."""
    backend = optuna.storages.journal.JournalFileBackend(str(journal(out, algo, env)))
    return optuna.load_study(study_name="equal", storage=optuna.storages.JournalStorage(backend))


def described(study: optuna.Study) -> list[dict[str, Any]]:
    """Return the trials of a study as plain data."""
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            "value": trial.value,
            "suggested": trial.params,
            "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
        }
        for trial in study.get_trials(deepcopy=False)
    ]


def entry(algo: str, env: str, suggested: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a trial: what the study began with, and what it suggested."""
    found = convert(algo, suggested) if algo in ALGORITHMS else HYPERPARAMS_CONVERTER[algo](suggested)
    file = find_source(algo, env, is_atari=False).path if algo in ALGORITHMS else ZOO_ENTRIES / f"{algo}.yml"
    kwargs = found.pop("policy_kwargs")
    written = ", ".join(f"{k}=nn.{v.__name__}" if isinstance(v, type) else f"{k}={v!r}" for k, v in kwargs.items())
    return {**yaml.safe_load(file.read_text())[env], **found, "policy_kwargs": f"dict({written})"}


def rollout(found: dict[str, Any]) -> int:
    """Return the steps of a rollout, of which a run needs one and more."""
    return int(found["n_steps"] * found["n_envs"])


def main() -> None:
    """Tune what is missing, and compare what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--trials", type=int, default=20, help="of each study, those that are pruned included")
    parser.add_argument("--seeds", type=int, default=10, help="of the comparison")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    out, envs = options.out.resolve(), options.envs
    (out / "studies").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda cell: tune(out, *cell, options.trials), [(a, e) for e in envs for a in ALGOS]))
    studies = {(algo, env): load(out, algo, env) for algo, env in itertools.product(ALGOS, envs)}
    trials = [{"algo": a, "env": e, "steps": STEPS[e], "trials": described(s)} for (a, e), s in studies.items()]
    (out / "trials.json").write_text(json.dumps(trials, indent=1) + "\n")
    entries = {a: {e: entry(a, e, studies[a, e].best_trial.params) for e in envs} for a in ALGOS}
    for algo, best in entries.items():
        (out / f"{algo}.yml").write_text(yaml.safe_dump(best, sort_keys=False))
    files = ["--conf-file", *(f"{algo}:{out / f'{algo}.yml'}" for algo in ALGOS)]
    budgets = {env: max(STEPS[env], *(1 + rollout(best[env]) for best in entries.values())) for env in envs}
    steps = ["--n-timesteps", *(f"{env}:{n}" for env, n in budgets.items()), "--jobs", str(options.jobs)]
    what = ["--algos", *ALGOS, "--envs", *envs, "--first-seed", "100", "--seeds", str(options.seeds), *files]
    call(["compare", *what, *steps, "--out", str(out / "comparison")])


if __name__ == "__main__":
    main()
