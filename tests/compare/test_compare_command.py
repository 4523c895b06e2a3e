"""The command ``compare`` as a user runs it: real training runs in processes of their own."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from zoo_commands import run_python, start, zoo

import sb3_ppo_variants

SMALL = ["--envs", "CartPole-v1", "--n-timesteps", "520", "--eval-freq", "260", "--eval-episodes", "2", "--jobs", "2"]


def compare(folder: Path, *arguments: str, status: int = 0) -> str:
    done = zoo(folder, "compare", *arguments, status=status)
    return done.stdout + done.stderr


def cell_files(folder: Path) -> set[str]:
    cells = folder / "cells"
    return {str(path.relative_to(cells).with_suffix("")) for path in cells.rglob("*.json")}


def evaluations(folder: Path, cell: str) -> list[tuple[int, list[float], list[int]]]:
    result = json.loads((folder / "cells" / f"{cell}.json").read_text())["result"]
    return [(row["timesteps"], row["rewards"], row["lengths"]) for row in result["evaluations"]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Give the folder and the output of a comparison in which one arm crashes."""
    folder = tmp_path_factory.mktemp("compare")
    arms = ["ppo", "ppo_penalty", "broken=ppo"]
    output = compare(
        folder,
        "--algos",
        *arms,
        "-params",
        "broken:learning_rate:fast",
        "--seeds",
        "2",
        *SMALL,
        "--out",
        "out",
        status=1,
    )
    return folder / "out", output


def test_every_cell_is_kept_but_those_that_crash(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    arms = {f"{arm}/CartPole-v1/seed_{seed}" for arm in ("ppo", "ppo_penalty") for seed in range(2)}
    assert cell_files(folder) == arms | {"random-policy/CartPole-v1/seed_0"}
    there = {path.name for path in folder.iterdir()} - {".lock"}
    assert there == {"cells", "comparison.json", "figures", "logs", "report.html", "report.md", "scores.csv"}


def test_crash_is_reported_with_its_log_and_stops_no_other(finished: tuple[Path, str]) -> None:
    folder, output = finished
    log = folder / "logs" / "broken" / "CartPole-v1" / "seed_1.log"
    assert "broken · CartPole-v1 · seed 1: CRASHED: ValueError: not enough values to unpack" in output
    assert str(log.relative_to(folder.parent)) in output
    assert "Traceback" in log.read_text()
    assert "2 cells crashed; their logs are in" in output
    assert "2 of 7 cells have no result, 2 of them crashed" in (folder / "report.md").read_text()


def test_plain_lines_tell_score_rate_and_remaining_time(finished: tuple[Path, str]) -> None:
    line = r"\[\d/7\] ppo_penalty · CartPole-v1 · seed 0: score \d+\.\d after 520 steps in \d+ s \([\d,]+/s\)"
    assert re.search(line, finished[1])
    assert re.search(r"about \d+ (s|min) left", finished[1])
    assert "\x1b[" not in finished[1]


def test_scores_have_all_episodes_at_the_same_steps(finished: tuple[Path, str]) -> None:
    scores = pd.read_csv(finished[0] / "scores.csv")
    trained = scores[scores["algo"] != "random-policy"]
    steps = trained.groupby(["algo", "seed"])["timesteps"].apply(lambda column: sorted(set(column)))
    assert len(steps) == 4 and all(found == [0, 260, 520] for found in steps)
    assert (trained.groupby(["algo", "seed", "timesteps"]).size() == 2).all()
    assert (trained["reward"] == trained["length"]).all()  # CartPole gives 1 per step, not normalised
    assert (scores["algo"] == "random-policy").sum() == 100


def test_cells_record_trace_cost_and_settings(finished: tuple[Path, str]) -> None:
    file = finished[0] / "cells" / "ppo_penalty" / "CartPole-v1" / "seed_0.json"
    result = json.loads(file.read_text())["result"]
    assert result["trace"]["timesteps"] == [256, 512]
    entry = yaml.safe_load((Path(__file__).parents[2] / "hyperparams" / "ppo_penalty.yml").read_text())["CartPole-v1"]
    assert result["trace"]["target_kl"] == [entry["target_kl"]] * 2
    assert all(kl > 0 for kl in result["trace"]["kl_divergence"])
    assert result["cost"]["train_seconds"] > 0 and 100 < result["cost"]["peak_memory_mib"] < 5000
    assert result["settings"]["hyperparameters"]["n_envs"] == 8
    assert result["environment"]["sb3-ppo-variants"] == sb3_ppo_variants.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*", result["finished"])


def test_report_names_sources_of_settings(finished: tuple[Path, str]) -> None:
    text = (finished[0] / "report.md").read_text()
    assert "| ppo_penalty | ppo_penalty | sb3_ppo_variants/hyperparams/ppo_penalty.yml (tuned): CartPole-v1" in text
    assert "| ppo | ppo | rl_zoo3/hyperparams/ppo.yml (tuned): CartPole-v1 for 100,000 steps | – |" in text
    assert "learning_rate=fast" in text


def test_report_is_rebuilt_from_the_folder(finished: tuple[Path, str], tmp_path: Path) -> None:
    arguments = ["--from", str(finished[0]), "--report-only", "--out", "new", "--baseline", "ppo_penalty"]
    output = compare(tmp_path, *arguments, "--reference-scores", "CartPole-v1:0:500")
    assert "report: new/report.html" in output
    text = (tmp_path / "new" / "report.md").read_text()
    assert text.startswith("# ppo against ppo_penalty")
    assert "P(better than ppo_penalty)" in text
    assert (tmp_path / "new" / "scores.csv").read_text() == (finished[0] / "scores.csv").read_text()


BAD_INPUT = {
    "--algos ppo_penaly --envs CartPole-v1 --out o": "unknown algorithm 'ppo_penaly'; did you mean 'ppo_penalty'?",
    "--algos ppo --envs CartPole-v2 --out o": "custom_envs.py); did you mean 'CartPole-v1'?",
    "--algos ppo --envs CartPole-v1 --seeds 0 --out o": "--seeds must be >= 1, got 0",
    "--algos ppo --envs CartPole-v1 --first-seed -1 --out o": "--first-seed must be >= 0, got -1",
    "--algos ppo --envs CartPole-v1 --eval-episodes 0 --out o": "--eval-episodes must be >= 1, got 0",
    "--algos ppo --envs CartPole-v1 --n-timesteps many --out o": "--n-timesteps takes a number >= 1",
    "--algos ppo --envs CartPole-v1 --n-timesteps Acrobot-v1:9 --out o": "ENV:NUMBER with one of --envs",
    "--algos ppo trpo --envs CartPole-v1 --n-timesteps 1024 --out o": (
        "1024 steps on CartPole-v1 end before the first update of trpo; --n-timesteps must be >= 1025"
    ),
    "--algos dqn --envs CartPole-v1 --n-timesteps 1000 --out o": "--n-timesteps must be >= 1025",
    "--algos a=ppo_clip --envs CartPole-v1 -params a:n_steps:64 --n-timesteps 512 --out o": (
        "512 steps on CartPole-v1 end before the first update of a; --n-timesteps must be >= 513"
    ),
    "--algos ppo --envs CartPole-v1 -params ppo:lerning_rate:1 --out o": (
        "-params or --sweep: `lerning_rate` is not an argument of ppo; did you mean `learning_rate`?"
    ),
    "--algos trpo --envs CartPole-v1 --sweep clip_rnge 0.1 0.2 --out o": "`clip_rnge` is not an argument of trpo",
    "--algos ppo --envs CartPole-v1 --conf-file file --out o": "file must have an entry of hyperparameters for each",
    "--algos ppo_lstm --envs CartPole-v1 --out o": (
        "ppo_lstm has no policy 'MlpPolicy'; choose from CnnLstmPolicy, MlpLstmPolicy, MultiInputLstmPolicy, as with "
        "-params ppo_lstm:policy:MlpLstmPolicy"
    ),
    "--algos ppo mine=ppo_lstm --envs CartPole-v1 --sweep gamma 0.9 1.0 --out o": "-params mine:policy:MlpLstmPolicy",
    "--algos ppo --envs CartPole-v1 -params ppo:policy:MlpPolcy --out o": "as with -params ppo:policy:MlpPolicy",
    "--algos ppo --envs CartPole-v1 --address auto --out o": "--address is that of a Ray cluster; add --engine ray",
    "--algos ppo --envs CartPole-v1 --out file": "file is not a folder; give --out another name",
    "--algos ppo --envs CartPole-v1": "--out is missing",
    "--algos ppo --out o": "--envs is missing",
    "--envs CartPole-v1 --out o": "--algos is missing",
    "--algos ppo --envs CartPole-v1 --baseline trpo --out o": "--baseline trpo is not compared; choose from ppo",
    "--algos ppo --envs CartPole-v1 --conf-file no.yml --out o": "no such file: no.yml",
    "--algos ppo --envs CartPole-v1 --reference-scores CartPole-v1:5:5 --out o": "LOW < HIGH",
    "--algos ppo --envs CartPole-v1 --reference-scores Acrobot-v1:0:5 --out o": "Acrobot-v1 is not compared",
    "--algos ppo --envs CartPole-v1 --reference-scores CartPole-v1:0:5 CartPole-v1:0:9 --out o": (
        "--reference-scores CartPole-v1:0:9: CartPole-v1 is given twice; leave out one of the two"
    ),
    "--algos ppo --envs CartPole-v1 --n-timesteps 9000 CartPole-v1:8000 7000 --out o": (
        "--n-timesteps 7000: the number of all environments is given twice; leave out one of the two"
    ),
    "--algos ppo --envs CartPole-v1 --n-timesteps CartPole-v1:9000 CartPole-v1:8000 --out o": (
        "--n-timesteps CartPole-v1:8000: that of CartPole-v1 is given twice"
    ),
    "--algos ppo --envs CartPole-v1 -params ppo:n_steps:64 ppo:n_steps:128 --out o": (
        "-params ppo:n_steps:128: n_steps of ppo is given twice; leave out one of the two"
    ),
    "--algos trpo --envs ALE/Pong-v5 --out o": "trpo.yml has no 'atari' for ALE/Pong-v5; give another file",
    "--algos ppo --envs CartPole-v1 --from o --out o": "--from goes with --report-only",
    "--preset trpo --algos ppo --out o": "--preset brings its own algorithms",
    "--report-only --out nowhere": "no comparison in nowhere",
    "--report-only --out file": "no comparison in file",
    "--report-only": "--report-only needs --out, or --from",
    "--report-only --from a b": "--out is missing: where to write the report of several folders",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Give what the command says to bad input; in one process, since rl-zoo3 takes long to import."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "file").write_text("mine")
    script = """
import contextlib, io, json, sys
from sb3_ppo_variants.compare.command import compare
from sb3_ppo_variants.zoo import register

assert not {"ray", "rliable", "matplotlib"} & set(sys.modules), "imported before they are needed"
register()
answers = {}
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["compare", *arguments.split()]
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.suppress(SystemExit):
        compare()
    answers[arguments] = said.getvalue()
print(json.dumps(answers))
"""
    return folder, json.loads(run_python(folder, "-c", script, json.dumps(list(BAD_INPUT))).stdout)


@pytest.mark.parametrize("arguments", BAD_INPUT)
def test_bad_input_is_refused_with_a_way_out(answers: tuple[Path, dict[str, str]], arguments: str) -> None:
    folder, said = answers
    assert BAD_INPUT[arguments] in said[arguments]
    assert said[arguments].startswith("error: ")
    assert [path.name for path in folder.iterdir()] == ["file"]


def descendants_of(pid: int) -> list[int]:
    """Find the processes below one: the server that forks cells, and the cells."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [process for child in map(int, found) for process in (child, *descendants_of(child))]


def wait_for(condition: "object", seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_command_goes_on_with_the_missing_cells_only(tmp_path: Path) -> None:
    arguments = ["--algos", "ppo", "ppo_penalty", "--seeds", "4", *SMALL, "--out", "out"]
    out = tmp_path / "out"
    command = start(tmp_path, "compare", *arguments)
    wait_for(lambda: len(cell_files(out)) >= 2)
    running = descendants_of(command.pid)
    assert len(running) >= 2  # the server that forks cells, and a cell at least
    command.send_signal(signal.SIGKILL)
    command.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in running))
    done = cell_files(out)
    before = {cell: (out / "cells" / f"{cell}.json").stat().st_mtime_ns for cell in done}
    assert 2 <= len(done) < 9

    output = compare(tmp_path, *arguments)
    assert output.count("· seed") == 9 - len(done)
    assert len(cell_files(out)) == 9
    assert before == {cell: (out / "cells" / f"{cell}.json").stat().st_mtime_ns for cell in done}

    damaged = out / "cells" / "ppo_penalty" / "CartPole-v1" / "seed_1.json"
    expected = evaluations(out, "ppo_penalty/CartPole-v1/seed_1")
    damaged.write_text(damaged.read_text()[:-400])
    output = compare(tmp_path, *arguments)
    assert f"damaged, not used: {damaged.relative_to(tmp_path)}" in output
    assert re.findall(r"\] (.*?):", output) == ["ppo_penalty · CartPole-v1 · seed 1"]
    assert evaluations(out, "ppo_penalty/CartPole-v1/seed_1") == expected

    changed = [text if text != "520" else "600" for text in arguments]
    assert "CartPole-v1, n_timesteps: 520 there, 600 here" in compare(tmp_path, *changed, status=2)
    assert compare(tmp_path, *arguments).count("· seed") == 0
    more = compare(tmp_path, "--algos", "ppo", "ppo_penalty", "--seeds", "5", *SMALL, "--out", "out")
    assert re.findall(r"\] (.*?):", more) in (
        ["ppo · CartPole-v1 · seed 4", "ppo_penalty · CartPole-v1 · seed 4"],
        ["ppo_penalty · CartPole-v1 · seed 4", "ppo · CartPole-v1 · seed 4"],
    )


ENVIRONMENT_WITH_A_PROCESS = """
import multiprocessing

import gymnasium as gym


class WithProcess(gym.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        self.process = multiprocessing.Process(target=print, daemon=True)
        self.process.start()
        with open("started", "a") as file:
            print(self.process.pid, file=file)


gym.register("WithProcess-v0", lambda **_: WithProcess(gym.make("CartPole-v1")))
"""


def test_an_environment_may_start_a_process(tmp_path: Path) -> None:
    (tmp_path / "custom_envs.py").write_text(ENVIRONMENT_WITH_A_PROCESS)
    small = [text if text != "CartPole-v1" else "WithProcess-v0" for text in SMALL]
    compare(tmp_path, "--algos", "ppo", *small, "-params", "ppo:n_steps:256", "--seeds", "1", "--out", "out")
    assert len(cell_files(tmp_path / "out")) == 2


@pytest.mark.slow
def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    steps = ["--envs", "CartPole-v1", "--n-timesteps", "1e7", "--eval-freq", "5000000"]
    command = start(tmp_path, "compare", "--algos", "ppo", *steps, "--jobs", "2", "--out", "out")
    wait_for(lambda: cell_files(tmp_path / "out"))  # the random policy's
    running = descendants_of(command.pid)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 130
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in running), 60)


def is_up(program: str, below: int) -> bool:
    commands = (Path(f"/proc/{pid}/cmdline") for pid in descendants_of(below))
    return any(program in command.read_text() for command in commands if command.exists())


@pytest.mark.slow
def test_an_interrupt_in_the_first_seconds_shows_no_traceback(tmp_path: Path) -> None:
    command = start(tmp_path, "compare", "--algos", "ppo", *SMALL, "--out", "out", start_new_session=True)
    wait_for(lambda: is_up("multiprocessing.forkserver", command.pid))  # which now imports for seconds
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does: all of the group get it
    output = command.communicate(timeout=60)[0]
    assert command.returncode == 130
    assert "the same command goes on" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_killed_cell_takes_the_processes_of_its_environment_along(tmp_path: Path) -> None:
    own = ENVIRONMENT_WITH_A_PROCESS.replace("target=print, daemon=True", "target=time.sleep, args=(600,)")
    (tmp_path / "custom_envs.py").write_text(f"import time\n{own}")
    steps = ["--envs", "WithProcess-v0", "--n-timesteps", "1e7", "--eval-freq", "5000000", "-params", "ppo:n_steps:256"]
    command = start(tmp_path, "compare", "--algos", "ppo", *steps, "--jobs", "2", "--out", "out")
    marks = tmp_path / "started"
    wait_for(lambda: marks.exists() and len(marks.read_text().splitlines()) >= 3)  # of training and evaluation
    started = [int(pid) for pid in marks.read_text().split()]
    command.kill()
    wait_for(lambda: not any(is_running(pid) for pid in started), 20)


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
def test_one_algorithm_under_two_names_gives_the_same_runs_and_no_difference(tmp_path: Path) -> None:
    names = ["--algos", "ppo", "again=ppo", "--reference-scores", "CartPole-v1:0:500"]
    compare(tmp_path, *names, "--seeds", "2", *SMALL, "--out", "out")
    for seed in range(2):
        first, again = (evaluations(tmp_path / "out", f"{arm}/CartPole-v1/seed_{seed}") for arm in ("ppo", "again"))
        assert first == again
    text = (tmp_path / "out" / "report.md").read_text()
    assert re.search(r"\| again \| [^|]* \| 0\.50 \[", text)


@pytest.mark.slow
def test_one_algorithm_against_itself_with_other_seeds_shows_no_difference(tmp_path: Path) -> None:
    from sb3_ppo_variants.compare.report.scores import episode_table, make_scores
    from sb3_ppo_variants.compare.report.statistics import probability_of_improvement
    from sb3_ppo_variants.compare.run.results import ResultsFolder

    budget = ["--n-timesteps", "4000", "--eval-freq", "1000", "--jobs", "2"]
    compare(tmp_path, "--algos", "ppo", "--envs", "CartPole-v1", "--seeds", "16", *budget, "--out", "out")
    folder = ResultsFolder(tmp_path / "out")
    plan = folder.read_plan()
    episodes = episode_table(folder.take_inventory(plan).results)
    episodes.loc[(episodes["seed"] >= 8) & (episodes["algo"] == "ppo"), "algo"] = "again"
    scores = make_scores(episodes, ["ppo", "again"], ["CartPole-v1"])
    matrices = {arm: scores.matrix("final", arm, ["CartPole-v1"]) for arm in ("ppo", "again")}
    assert [len(matrix) for matrix in matrices.values()] == [8, 8]
    assert not probability_of_improvement(matrices, "ppo")["again"].excludes(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["defaults", "penalty-vs-clip", "gae-lambda", "vectorised", "trpo", "paper-table-1"])
def test_presets_run(tmp_path: Path, preset: str) -> None:
    steps = "8300" if preset in ("vectorised", "trpo") else "2100"  # their rollouts are longer
    scaled = ["--seeds", "1", "--n-timesteps", steps, "--eval-freq", steps, "--eval-episodes", "2", "--jobs", "2"]
    if preset == "paper-table-1":
        scaled += ["--envs", "InvertedPendulum-v5"]
    compare(tmp_path, "--preset", preset, *scaled, "--out", "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Too few seeds: 1 run of each." in text
    assert ("## Beside the paper's table" in text) == (preset == "paper-table-1")
    assert not (tmp_path / "out" / "logs").exists()
