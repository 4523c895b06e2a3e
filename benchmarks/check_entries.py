"""Check the entries of hyperparams/: final evaluation of each with several seeds, beside stock PPO.

    python benchmarks/check_entries.py --envs HalfCheetah-v5 Hopper-v5 --steps 300000 --seeds 3 --out entries

Every run is one file in --out, named after what was run; a run whose file is there is not repeated, so that an
interrupted check goes on where it was, and several may share a folder. --steps 0 takes the entry's own n_timesteps.

Stock PPO gets the same settings: those of ppo_clip.yml, which are the zoo's, where the zoo has no entry of that name
(it lists the v4 environments of MuJoCo); its own entry otherwise.
"""

import argparse
import functools
import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml
from learning import header, line, run

HYPERPARAMS = Path(__file__).resolve().parents[1] / "hyperparams"
ALGOS = ["ppo", "ppo_clip", "ppo_penalty", "ppo_adaptive_clip"]


class Cell(NamedTuple):
    """What one file holds the result of; `steps` 0 stands for the entry's own number, `params` are overridden."""

    env: str
    algo: str
    steps: int
    params: tuple[str, ...]
    seed: int

    def path(self, folder: Path) -> Path:
        """Return the file of the result."""
        parts = [self.env, self.algo, str(self.steps or "full"), *self.params, f"seed{self.seed}"]
        return folder / ("_".join(parts).replace("/", "-").replace(":", "=") + ".json")

    def arguments(self) -> list[str]:
        """Return what `train` gets beside algorithm, environment and seed."""
        steps = ["-n", str(self.steps)] if self.steps else []
        ours = ["--conf-file", str(HYPERPARAMS / "ppo_clip.yml")]
        params = ["-params", *self.params] if self.params else []
        return [*steps, *(ours if self.algo == "ppo" and self.env not in zoo_entries() else []), *params]


@functools.cache
def zoo_entries() -> set[str]:
    """Return the environments that the zoo's ppo.yml lists; the zoo is not imported for it."""
    spec = importlib.util.find_spec("rl_zoo3")
    assert spec is not None
    assert spec.origin is not None
    return set(yaml.safe_load((Path(spec.origin).parent / "hyperparams" / "ppo.yml").read_text()))


def check(cell: Cell, folder: Path) -> dict[str, float]:
    """Return the result of a cell, from its file if it is there."""
    path = cell.path(folder)
    if not path.is_file():
        result = run(cell.algo, cell.env, cell.seed, cell.arguments())
        written = path.with_suffix(".part")
        written.write_text(json.dumps(result) + "\n")
        written.replace(path)  # at once, so that no half-written file counts as done
        print(f"{path.stem}: {result['mean']:.1f} +/- {result['std']:.1f}, {result['seconds']:.0f} s", flush=True)
    result: dict[str, float] = json.loads(path.read_text())
    return result


def main() -> None:
    listed = list(yaml.safe_load((HYPERPARAMS / "ppo_clip.yml").read_text()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algos", nargs="+", default=ALGOS)
    parser.add_argument("--envs", nargs="+", default=[env for env in listed if env != "atari"])
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="e.g. 10, to choose values with other seeds")
    parser.add_argument("--steps", type=int, default=0, help="steps of training; 0: those of the entry")
    parser.add_argument("--params", nargs="+", default=[], help="hyperparameters to try, as train's -params")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file per run")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def cells(env: str, algo: str) -> list[Cell]:
        return [Cell(env, algo, args.steps, tuple(args.params), args.first_seed + i) for i in range(args.seeds)]

    # Seed by seed over all cells: what an interrupted check has is comparable.
    order = [cells(env, algo)[seed] for seed in range(args.seeds) for env in args.envs for algo in args.algos]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda cell: check(cell, args.out), order))
    print(header())
    for env in args.envs:
        for algo in args.algos:
            print(line(env, algo, [check(cell, args.out) for cell in cells(env, algo)]))


if __name__ == "__main__":
    main()
