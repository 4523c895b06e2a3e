"""The CSV file of a run: equal to the logger and to hand-worked values, whole after a kill, without duplicates."""

import csv
import functools
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_env, make_vec_env
from hosts import HOSTS, VARIANTS, all_classes, build
from sb3_contrib import TRPO
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor, VecNormalize
from test_nonfinite import faulty

import sb3_ppo_variants
from sb3_ppo_variants import MaskablePPOPenalty, PPOClip, PPOPenalty
from sb3_ppo_variants.callbacks import StopTrainingOnKL, TrustRegionRecorder
from sb3_ppo_variants.plots import plot_update
from sb3_ppo_variants.trust_region_log import COLUMNS, HEADER, KL_MEASURES, read_trust_region, text_of_rows
from sb3_ppo_variants.update.rules import UpdateRules
from sb3_ppo_variants.update.update_metrics import METRICS

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
    pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped"),
    pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type"),
]
ROLLOUT = 50  # 25 steps of two environments: minibatches of 16, 16, 16 and 2, three epochs
STOCK = {host.stock.__name__: host.stock for host in HOSTS.values()}


def make_trpo(**arguments: Any) -> TRPO:
    return TRPO("MlpPolicy", n_steps=25, batch_size=50, seed=5, device="cpu", **arguments)


def monitored() -> VecMonitor:
    return VecMonitor(make_vec_env())


BUILDERS: dict[str, Callable[..., Any]] = {
    **{name: functools.partial(build, cls) for name, cls in {**VARIANTS, **STOCK}.items()},
    "TRPO": make_trpo,
}


def columns(path: Path) -> dict[str, list[float]]:
    """Return the rows of whole updates, without the columns that are empty."""
    return {name: list(c) for name, c in read_trust_region(path).updates.items() if not np.isnan(c).all()}


@pytest.mark.parametrize("name", BUILDERS)
def test_rows_equal_what_the_logger_wrote(name: str, tmp_path: Path) -> None:
    model = BUILDERS[name](env=monitored())
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(3 * ROLLOUT, callback=TrustRegionRecorder(tmp_path / "run.csv"))
    with (tmp_path / "progress.csv").open() as file:
        logged = list(csv.DictReader(file))
    last = {key: str(value) for key, value in model.logger.name_to_value.items()}
    recorded = columns(tmp_path / "run.csv")

    assert recorded["update"] == [1, 2, 3]
    assert recorded["timesteps"] == [ROLLOUT, 2 * ROLLOUT, 3 * ROLLOUT]
    # what an update logs is dumped after the next rollout
    of_training = {key.removeprefix("train/") for key in last if key.startswith("train/")}
    assert of_training <= set(COLUMNS) | {"n_updates", "is_line_search_success"}
    for key in of_training & set(COLUMNS):
        expected = [float(row[f"train/{key}"]) for row in [*logged[1:], last]]
        assert recorded[key] == pytest.approx(expected, rel=1e-6, nan_ok=True), key
    for key in ("ep_rew_mean", "ep_len_mean"):
        assert recorded[key] == pytest.approx([float(row[f"rollout/{key}"]) for row in logged], rel=1e-6)


def test_rows_equal_values_worked_out_from_the_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratios: list[Any] = []
    surrogate = PPOClip.surrogate

    def keep(self: Any, ratio: th.Tensor, *arguments: Any) -> th.Tensor:
        ratios.append(ratio.detach().numpy().astype(np.float64))
        return surrogate(self, ratio, *arguments)

    monkeypatch.setattr(PPOClip, "surrogate", keep)
    model = build(PPOClip, "box", acceleration="off", learning_rate=0.02, clip_range=0.1)
    model.learn(ROLLOUT, callback=TrustRegionRecorder(tmp_path / "run.csv", minibatches=True))
    log = read_trust_region(tmp_path / "run.csv")

    clipped = [np.mean((r < 0.9) | (r > 1.1)) for r in ratios]
    kl = [np.mean(r - 1 - np.log(r)) for r in ratios]
    largest = [r.max() for r in ratios]
    assert [len(r) for r in ratios] == [16, 16, 16, 2] * 3
    assert 0.2 < np.mean(clipped) < 0.8
    assert log.minibatches["clip_fraction"] == pytest.approx(clipped, abs=1e-6)
    assert log.minibatches["approx_kl"] == pytest.approx(kl, abs=1e-6)
    assert log.minibatches["ratio_max"] == pytest.approx(largest, rel=1e-6)
    assert list(log.minibatches["epoch"]) == [1] * 4 + [2] * 4 + [3] * 4
    assert list(log.minibatches["minibatch"]) == [1, 2, 3, 4] * 3
    assert log.epochs["clip_fraction"] == pytest.approx(np.reshape(clipped, (3, 4)).mean(axis=1), abs=1e-6)
    assert log.epochs["approx_kl"] == pytest.approx(np.reshape(kl, (3, 4)).mean(axis=1), abs=1e-6)
    assert log.epochs["ratio_max"] == pytest.approx(np.reshape(largest, (3, 4)).max(axis=1), rel=1e-6)
    assert log.updates["clip_fraction"] == pytest.approx([np.mean(clipped)], abs=1e-6)
    assert log.updates["approx_kl"] == pytest.approx([np.mean(kl)], abs=1e-6)
    assert log.updates["ratio_max"] == pytest.approx([max(largest)], rel=1e-6)


@pytest.mark.parametrize(("cls", "column"), [(PPOPenalty, "beta"), (MaskablePPOPenalty, "beta")])
def test_epochs_have_the_coefficients_they_went_by(cls: type[Any], column: str, tmp_path: Path) -> None:
    model = build(cls, target_kl=1e-9, max_kl=None, adaptation_factor=2.0)  # every epoch ends above its target
    model.learn(2 * ROLLOUT, callback=TrustRegionRecorder(tmp_path / "run.csv"))
    log = read_trust_region(tmp_path / "run.csv")
    assert list(log.epochs[column]) == [1, 2, 4, 8, 16, 32]
    assert list(log.updates[column]) == [1, 8]  # as an update began
    assert list(log.epochs["target_kl"]) == [1e-9] * 6
    assert (log.epochs["kl_divergence"] > 0).all()
    assert np.isnan(log.epochs["clip_range"]).all()  # there is no clip


@pytest.mark.parametrize("limit", [{"max_kl": 1e-4, "on_max_kl": "stop"}, {"max_kl": 1e-4}, {"max_kl": None}])
@all_classes
def test_the_course_of_an_update_can_be_read_back(cls: type[Any], limit: dict[str, Any], tmp_path: Path) -> None:
    model = build(cls, clip_range_vf=0.2, learning_rate=0.01, **limit)
    model.learn(2 * ROLLOUT, callback=TrustRegionRecorder(tmp_path / "run.csv", minibatches=True))
    trace, kept = read_trust_region(tmp_path / "run.csv").update_trace(), model.last_update
    assert trace.names == tuple(name for name in METRICS if name != "policy_gain")  # which no file has
    for name in trace.names:
        found = np.nan_to_num(trace.column(name))  # NaN: a KL that is not needed
        np.testing.assert_array_equal(found, kept.column(name), err_msg=name)
    np.testing.assert_array_equal(trace.epoch, kept.epoch)
    for name in ("kl_divergence", "epochs_done", "stopped", "kl_before_projection", "projection"):
        assert getattr(trace, name) == getattr(kept, name), name
    assert trace.stopped == ("on_max_kl" in limit)
    assert (trace.projection < 1) == ("on_max_kl" not in limit and limit["max_kl"] is not None)
    assert len(trace.coefficients) == len(kept.coefficients)
    assert trace.coefficients[0]["clip_range_vf"] == kept.coefficients[0]["clip_range_vf"]
    assert read_trust_region(tmp_path / "run.csv").update_trace(1).kl_divergence != kept.kl_divergence


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty])
def test_skipped_minibatches_count_in_no_mean(cls: type[Any], tmp_path: Path) -> None:
    model = build(cls, env=faulty("reward", at=1), on_nonfinite="skip", max_kl=None)  # one in each epoch
    model.learn(ROLLOUT, callback=TrustRegionRecorder(tmp_path / "run.csv", minibatches=True))
    log, kept = read_trust_region(tmp_path / "run.csv"), model.last_update
    assert list(log.epochs["skipped_minibatches"]) == [1, 1, 1]
    assert list(log.updates["skipped_minibatches"]) == [3]
    assert np.isnan(log.minibatches["value_loss"]).sum() == 3
    for column in ("value_loss", "grad_norm", "clip_fraction"):
        assert log.epochs[column] == pytest.approx(kept.per_epoch(column), rel=1e-5)
    for name in ("value_loss", "grad_norm", "skipped"):
        np.testing.assert_array_equal(log.update_trace().column(name), kept.column(name))
    texts = [axes.get_title() for axes in plot_update(log.update_trace()).axes]
    assert ("(exact)" in texts[0]) == (cls is PPOPenalty)


def test_an_update_that_is_not_in_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(HEADER)
    with pytest.raises(ValueError, match="must hold an update, got 0"):
        read_trust_region(path).update_trace()
    build(PPOClip).learn(2 * ROLLOUT, callback=TrustRegionRecorder(path))
    with pytest.raises(ValueError, match="must be one of 1 to 2, got 3"):
        read_trust_region(path).update_trace(3)
    with pytest.raises(ValueError, match="train with TrustRegionRecorder.path, minibatches=True"):
        read_trust_region(path).update_trace(2)


def test_callbacks_add_no_read_back_from_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()
    for name in ("item", "cpu", "numpy", "tolist"):
        original = getattr(th.Tensor, name)

        def counted(self: th.Tensor, *args: Any, original: Any = original, **kwargs: Any) -> Any:
            next(calls)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(th.Tensor, name, counted)
    counts = []
    for callback in (None, TrustRegionRecorder(tmp_path / "run.csv", minibatches=True)):
        model = build(PPOPenalty)
        before = next(calls)
        model.learn(3 * ROLLOUT, callback=callback)
        counts.append(next(calls) - before)
    assert counts[0] == counts[1] > 3


@pytest.mark.parametrize("log_interval", [1, 2, None])
def test_other_callbacks_and_log_intervals_change_nothing(log_interval: Any, tmp_path: Path) -> None:
    alone, among = tmp_path / "alone.csv", tmp_path / "among.csv"
    build(PPOPenalty, env=monitored()).learn(4 * ROLLOUT, callback=TrustRegionRecorder(alone))
    evaluation = EvalCallback(make_vec_env(n_envs=1), eval_freq=7, n_eval_episodes=1, verbose=0)  # dumps the logger
    checkpoints = CheckpointCallback(10, str(tmp_path / "checkpoints"))
    callbacks = CallbackList([evaluation, TrustRegionRecorder(among), checkpoints])
    model = build(PPOPenalty, env=monitored())
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))
    model.learn(4 * ROLLOUT, callback=callbacks, log_interval=log_interval)
    assert evaluation.last_mean_reward != -np.inf
    assert evaluation.n_calls == 100
    assert alone.read_text() == among.read_text()
    # a logger that is kept still holds the last update: it must not be taken for a new one
    model.learn(ROLLOUT, callback=callbacks, log_interval=log_interval, reset_num_timesteps=False)
    assert columns(among)["timesteps"] == [ROLLOUT * i for i in range(1, 6)]


@pytest.mark.parametrize("kind", ["subprocesses", "normalized", "one"])
def test_every_vectorised_environment_gives_rows(kind: str, tmp_path: Path) -> None:
    env: Any = {
        "subprocesses": lambda: SubprocVecEnv([make_env()] * 2, start_method="fork"),
        "normalized": lambda: VecNormalize(make_vec_env()),
        "one": lambda: make_vec_env(n_envs=1),
    }[kind]()
    path = tmp_path / "run.csv"
    try:
        build(PPOClip, env=VecMonitor(env)).learn(100, callback=TrustRegionRecorder(path))
    finally:
        env.close()
    recorded = columns(path)
    steps = 25 * env.num_envs
    assert recorded["timesteps"] == list(range(steps, 101, steps))
    assert np.isfinite(recorded["ep_rew_mean"]).all()


# ------------------------------------------------------------------------------------------ runs that end and go on


@pytest.mark.parametrize("checkpoint_at", ["between updates", "before the update of a full rollout"])
def test_a_resumed_run_has_no_row_twice(checkpoint_at: str, tmp_path: Path) -> None:
    path, freq = tmp_path / "run.csv", 30 if checkpoint_at == "between updates" else 25
    checkpoints = CheckpointCallback(freq, str(tmp_path))
    build(PPOPenalty).learn(3 * ROLLOUT, callback=[TrustRegionRecorder(path), checkpoints])
    first = read_trust_region(path)
    loaded = PPOPenalty.load(tmp_path / f"rl_model_{2 * freq}_steps", env=make_vec_env(), device="cpu")
    made = 1 if freq == 30 else 0  # updates of the model in the checkpoint
    assert loaded._n_updates == 3 * made

    loaded.learn(2 * ROLLOUT, callback=TrustRegionRecorder(path), reset_num_timesteps=False)
    log = read_trust_region(path)
    assert list(log.updates["update"]) == list(range(1, made + 3))
    assert list(log.updates["timesteps"]) == [*[50] * made, 2 * freq + 50, 2 * freq + 100]
    assert len(set(log.updates["n_updates"])) == made + 2
    assert list(log.epochs["update"]) == [update for update in range(1, made + 3) for _ in range(3)]
    assert list(log.updates["kl_divergence"][:made]) == list(first.updates["kl_divergence"][:made])
    assert log.updates["kl_divergence"][-1] == loaded.last_update.kl_divergence


KILLED = """
import sys
from hosts import build
from stable_baselines3.common.callbacks import CheckpointCallback
from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.callbacks import TrustRegionRecorder

recorder, checkpoints = TrustRegionRecorder("run.csv", minibatches=True), CheckpointCallback(20, "checkpoints")
build(PPOPenalty).learn(10**9, callback=[recorder, checkpoints])
"""


def test_a_killed_run_keeps_its_rows_and_goes_on(tmp_path: Path) -> None:
    folders = os.pathsep.join([str(Path(sb3_ppo_variants.__file__).parents[1]), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    path = tmp_path / "run.csv"
    with subprocess.Popen([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment) as process:
        try:
            deadline = time.monotonic() + 120
            while not path.exists() or len(read_trust_region(path).updates["update"]) < 5:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
    killed = read_trust_region(path)
    updates = len(killed.updates["update"])
    assert list(killed.updates["update"]) == list(range(1, updates + 1))
    assert list(killed.updates["timesteps"]) == [ROLLOUT * i for i in range(1, updates + 1)]

    loaded = PPOPenalty.load(tmp_path / "checkpoints" / "rl_model_120_steps", env=make_vec_env(), device="cpu")
    loaded.learn(ROLLOUT, callback=TrustRegionRecorder(path, minibatches=True), reset_num_timesteps=False)
    log = read_trust_region(path)
    assert list(log.updates["timesteps"]) == [50, 100, 170]
    assert list(log.updates["kl_divergence"][:2]) == list(killed.updates["kl_divergence"][:2])
    assert set(log.minibatches["update"]) == {1, 2, 3}


@pytest.mark.parametrize("half", [HEADER[:40], "3,1,,150,9,,,0.0", "3,1,,150,9" + "," * (len(COLUMNS) - 5) + "\n"])
def test_what_was_half_written_is_left_out(half: str, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    model = build(PPOClip).learn(2 * ROLLOUT, callback=TrustRegionRecorder(path))
    whole = path.read_text()
    path.write_text(half if HEADER.startswith(half) else whole + half)
    kept = [] if HEADER.startswith(half) else [1.0, 2.0]
    assert list(read_trust_region(path).updates["update"]) == kept
    model.learn(ROLLOUT, callback=TrustRegionRecorder(path), reset_num_timesteps=False)
    assert list(read_trust_region(path).updates["update"]) == [*kept, len(kept) + 1]


def updates_as_text(*numbers: int) -> str:
    return text_of_rows([{"update": number, "timesteps": 50 * number} for number in numbers])


@pytest.mark.parametrize("between", ["", HEADER])
def test_several_runs_in_one_file_are_refused(between: str, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(HEADER + updates_as_text(1, 2, 3) + between + updates_as_text(1, 2))
    message = r"the updates in `.*run.csv` must be those of one run, .* got '1 after 3'; keep a file for each run"
    with pytest.raises(ValueError, match=message):
        read_trust_region(path)
    refused_to_go_on_in(path, "must be those of one run")
    path.write_text(HEADER + updates_as_text(1, 2, 2))
    with pytest.raises(ValueError, match="got '2 after 2'"):
        read_trust_region(path)


@pytest.mark.parametrize("cut", ["2,,,1", "2,,,100\n", "2,1,,100,9\n"])
def test_a_row_that_is_cut_within_is_damage(cut: str, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(HEADER + updates_as_text(1) + cut + updates_as_text(3))
    with pytest.raises(ValueError, match=rf"`.*run.csv` is damaged: row 2 has not {len(COLUMNS)} cells"):
        read_trust_region(path)
    refused_to_go_on_in(path, "is damaged")


def refused_to_go_on_in(path: Path, message: str) -> None:
    """Check that a run that goes on refuses a file, and one from the beginning puts it aside."""
    text = path.read_text()
    model = build(PPOClip).learn(ROLLOUT)
    with pytest.raises(ValueError, match=message):
        model.learn(ROLLOUT, callback=TrustRegionRecorder(path), reset_num_timesteps=False)
    build(PPOClip).learn(ROLLOUT, callback=TrustRegionRecorder(path))
    assert path.with_suffix(".1.csv").read_text() == text
    assert list(read_trust_region(path).updates["update"]) == [1]


def test_a_run_from_the_beginning_keeps_the_file_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.csv"
    texts = []
    for seed in (1, 2, 3):
        build(PPOClip, seed=seed).learn(ROLLOUT, callback=TrustRegionRecorder(path, verbose=1))
        texts.append(path.read_text())
    assert [(tmp_path / name).read_text() for name in ("run.1.csv", "run.2.csv")] == texts[:2]
    assert "holds another run, which is kept as" in capsys.readouterr().out


class StopAt(BaseCallback):
    """Ends training at a time step, or by an interrupt in the middle of an update."""

    def __init__(self, timestep: int):
        super().__init__()
        self.timestep = timestep

    def _on_step(self) -> bool:
        return self.model.num_timesteps < self.timestep


@pytest.mark.parametrize(("stop_at", "updates"), [(30, 0), (70, 1), (10_000, 2)])
def test_a_run_that_is_stopped_has_the_updates_it_made(stop_at: int, updates: int, tmp_path: Path) -> None:
    recorder = TrustRegionRecorder(tmp_path / "run.csv")
    build(PPOClip).learn(2 * ROLLOUT, callback=[recorder, StopAt(stop_at)])
    recorder.on_training_end()  # rl-zoo3 calls it once more
    log = read_trust_region(tmp_path / "run.csv")
    assert list(log.updates["update"]) == list(range(1, updates + 1))


def test_an_update_that_was_broken_off_gives_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = TrustRegionRecorder(tmp_path / "run.csv")
    recorder.on_training_end()  # rl-zoo3 calls it even if training could not start
    model = build(PPOClip)
    model.learn(ROLLOUT, callback=recorder, log_interval=None)

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "after_epoch", interrupt)
    monkeypatch.setattr(model, "update_rules", lambda: UpdateRules(kl_every_epoch=True))
    with pytest.raises(KeyboardInterrupt):
        model.learn(ROLLOUT, callback=recorder, log_interval=None, reset_num_timesteps=False)
    recorder.on_training_end()
    assert model._n_updates == 4
    assert columns(tmp_path / "run.csv")["timesteps"] == [ROLLOUT]


# --------------------------------------------------------------------------------------------------------- bad input


def test_a_file_of_another_layout_is_refused_before_training(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("time/iterations,rollout/ep_rew_mean\n1,2\n")
    model = build(PPOClip)
    with pytest.raises(ValueError, match="must have the columns of TrustRegionRecorder, got 'time/iterations"):
        model.learn(ROLLOUT, callback=TrustRegionRecorder(path))
    assert model.num_timesteps == 0
    assert path.read_text() == "time/iterations,rollout/ep_rew_mean\n1,2\n"


def test_a_path_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "run.csv"):
        model = build(PPOClip)
        with pytest.raises(ValueError, match="`path` must be a file that can be written"):
            model.learn(ROLLOUT, callback=TrustRegionRecorder(path))
        assert model.num_timesteps == 0


def test_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "run.csv"
    build(PPOClip).learn(ROLLOUT, callback=TrustRegionRecorder(path))
    assert columns(path)["update"] == [1]


def test_an_algorithm_without_trust_region_is_named_and_still_recorded(tmp_path: Path) -> None:
    model = A2C("MlpPolicy", monitored(), device="cpu")
    with pytest.warns(UserWarning, match="A2C logs no KL divergence and no clip fraction") as warned:
        model.learn(50, callback=TrustRegionRecorder(tmp_path / "run.csv"))
    assert len([w for w in warned if "A2C" in str(w.message)]) == 1
    recorded = columns(tmp_path / "run.csv")
    assert len(recorded["value_loss"]) == 5
    assert "approx_kl" not in recorded


def test_an_off_policy_algorithm_is_refused(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", make_vec_env(n_envs=1), device="cpu", buffer_size=10)
    with pytest.raises(ValueError, match="TrustRegionRecorder needs an on-policy algorithm"):
        model.learn(10, callback=TrustRegionRecorder(tmp_path / "run.csv"))


def test_the_measures_of_the_kl_have_one_order_everywhere() -> None:
    names = list(KL_MEASURES)
    assert names == ["kl_divergence", "kl_divergence_loss", "approx_kl"]  # the exact one first, the sampled one last
    assert [f"train/{name}" for name in names] == list(StopTrainingOnKL.keys)
    assert [name for name in COLUMNS if name in names] == names


def test_the_file_is_csv_as_the_standard_library_writes_and_reads_it(tmp_path: Path) -> None:
    build(PPOPenalty).learn(ROLLOUT, callback=TrustRegionRecorder(tmp_path / "run.csv", minibatches=True))
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {tuple(row) for row in rows} == {COLUMNS}
    whole = [row for row in rows if not row["epoch"]]
    assert [float(row["kl_divergence"]) for row in whole] == columns(tmp_path / "run.csv")["kl_divergence"]
