"""Two processes with two environments each train as one process with four."""

import math
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from hosts import VARIANTS
from launching import HERE, free_port, launched, torchrun
from ranked_runs import CASES, N_ENVS, N_STEPS, UPDATES, trained
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback, EveryNTimesteps
from stable_baselines3.common.running_mean_std import RunningMeanStd

from sb3_ppo_variants.checkpoints import resume
from sb3_ppo_variants.distributed import Ranks, current_ranks
from sb3_ppo_variants.distributed.callbacks import callbacks_of_other_ranks
from sb3_ppo_variants.distributed.data_parallel import _comparable
from sb3_ppo_variants.distributed.moments import Moments, merged_moments, moments_over_ranks


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    """Results of both processes, and the folder of their files."""
    folder = tmp_path_factory.mktemp("ranks")
    for ended in launched("ranked_runs.py", str(folder)):
        assert ended.status == 0, f"{ended.output}\n{ended.errors}"
    return [th.load(folder / f"rank_{rank}.pt", weights_only=False) for rank in range(2)], folder


def assert_equal(first: Any, second: Any) -> None:
    """Compare nested results bit for bit."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, (tuple, list)):
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    elif isinstance(first, th.Tensor):
        assert th.equal(first, second)
    else:
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_to_rounding(case: str, ranks: Any) -> None:
    (first, second), _ = ranks
    ours, others = first[case], second[case]
    for what in ("parameters", "optimizer", "live", "logged"):
        assert_equal(ours[what], others[what])
    assert ours["update"].minibatches.tobytes() == others["update"].minibatches.tobytes()

    alone = trained(*CASES[case], rank=0, size=1)
    assert ours["report"] == alone["report"]
    assert ours["timesteps"] == alone["timesteps"] == UPDATES * N_STEPS * N_ENVS
    assert ours["n_updates"] == alone["n_updates"]
    for name, value in alone["parameters"].items():
        th.testing.assert_close(ours["parameters"][name], value, rtol=1e-3, atol=2e-5)
    assert ours["live"] == pytest.approx(alone["live"], rel=1e-6)
    update, expected = ours["update"], alone["update"]
    assert update.epochs_done == expected.epochs_done
    assert update.kl_divergence == pytest.approx(expected.kl_divergence, rel=1e-2)
    np.testing.assert_allclose(update.minibatches, expected.minibatches, rtol=2e-2, atol=2e-4)
    assert ours["logged"] == pytest.approx(alone["logged"], rel=2e-2, abs=2e-4)


def test_ranks_stay_together_whatever_one_of_them_does() -> None:
    """A hook on one rank only, and layers that each leaves out at random, so that gradients are missing."""
    ended = launched("uneven_ranks.py")
    assert [process.status for process in ended] == [0, 0], ended[0].errors + ended[1].errors
    assert ended[0].output == ended[1].output != ""


def test_one_file_for_the_episodes_of_several_ranks_is_refused(tmp_path: Path) -> None:
    for ended in launched("same_file.py", str(tmp_path)):
        assert ended.status == 0, ended.errors
        within, around, vectorised, *trained = ended.output.splitlines()
        assert "a monitor file of its own" in within and "shared/0.monitor.csv" in within and "rank_" in within
        assert "all.monitor.csv" in around and "0.monitor.csv" not in around
        assert "vector.monitor.csv" in vectorised
        assert trained == ["32"]


def test_the_runs_that_are_compared_moved_and_adapted(ranks: Any) -> None:
    """Without that the comparison would say little."""
    (first, _), _ = ranks
    assert len(VARIANTS) == 12
    for name in VARIANTS:
        assert 1.0 not in first[f"{name}, eager"]["live"].values(), name
    assert first["target_kl, eager"]["update"].epochs_done < 8
    assert first["stop_at_max_kl, eager"]["update"].epochs_done < 3
    assert first["PPOPenalty, eager"]["report"]["backward"] == "written out"
    assert first["one_by_one, eager"]["report"]["optimizer"].startswith("policy.optimizer")


def test_what_ranks_exchange(ranks: Any) -> None:
    for result in (rank["exchanges"] for rank in ranks[0]):
        assert result["mean_"] == [[[0.5, 0.5], [0.5, 0.5]], [1.0, 1.5]]
        assert result["mean"] == (0.1 + 0.2) / 2
        assert result["any"] == [True, False]
        assert result["gather"] == [{"rank": ""}, {"rank": "r"}]
        assert result["from_first"] == "of rank 0"


def test_statistics_of_vec_normalize_are_those_of_all_samples(ranks: Any) -> None:
    first, second = (rank["normalization"] for rank in ranks[0])
    assert first["timesteps"] == 300
    for what, samples in (("observations", 304), ("returns", 300)):
        assert_equal(first[what], second[what])
        assert first[what][2] == pytest.approx(samples + 1e-4)  # the first observations count, too


def test_a_callback_of_one_rank_or_of_both_ends_training_on_all(ranks: Any) -> None:
    for result in (rank["stop"] for rank in ranks[0]):
        assert result["timesteps"] == [200, 200]  # at the end of the rollout
        assert result["n_updates"] == [
            3,
            3,
        ]  # epochs of the first update; there is no second one
        assert result["checkpoints"] == [[], []]  # of a rollout that was not learned from there is none


def test_only_rank_0_writes_files(ranks: Any) -> None:
    (_, second), folder = ranks
    written = {path.name for path in (folder / "files_0").iterdir()}
    assert {"best_model.zip", "model.zip", "PPOPenalty_1", "run.csv"} <= written
    assert any(name.startswith("rl_model_") for name in written)
    assert not (folder / "files_1").exists()
    assert any(key.startswith("train/") for key in second["files"]["values"])  # callbacks read them there, too


def test_episodes_of_all_ranks_are_in_the_window(ranks: Any) -> None:
    first, second = (rank["episodes"] for rank in ranks[0])
    assert first["buffer"] == second["buffer"]
    assert sorted(first["buffer"]) == sorted([*first["own"], *second["own"]])
    assert first["own"]
    assert first["own"] != second["own"]
    assert first["limit"] == 100


def test_the_window_is_one_within_a_rollout_too(ranks: Any) -> None:
    for result in (rank["windows"] for rank in ranks[0]):
        assert result["longest"] == 3
        assert result["saved"] == {(True, 3)}
        assert max(result["left"]) <= 4  # what ended after it was emptied, on both ranks


def test_the_progress_bar_counts_the_steps_of_all_ranks(ranks: Any) -> None:
    first, second = (rank["progress"] for rank in ranks[0])
    assert first["shown"] == first["timesteps"] == 200
    assert second["shown"] == 0


def test_what_would_be_compiled_is_trained_eagerly(ranks: Any) -> None:
    for result in (rank["compiling"] for rank in ranks[0]):
        assert result["updates"] == 1
        assert result["report"]["graph"] == "eager (2 processes average the gradient between backward pass and step)"
        assert result["report"]["backward"] == "written out"


def test_what_stands_in_the_way_on_one_rank_does_so_on_all(ranks: Any) -> None:
    first, second = (rank["hooked"] for rank in ranks[0])
    assert "there is a hook on action_net" in first["report"]["evaluation"]
    assert (
        second["report"]["evaluation"]
        == "policy.evaluate_actions() (not in another process: there is a hook on action_net)"
    )
    assert_equal(first["parameters"], second["parameters"])


@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_a_minibatch_with_nan_on_one_rank_is_left_out_on_all(acceleration: str, ranks: Any) -> None:
    first, second = (rank["skipping"][acceleration] for rank in ranks[0])
    assert_equal(first["parameters"], second["parameters"])
    assert all(value.isfinite().all() for value in first["parameters"].values())
    np.testing.assert_array_equal(first["skipped"], second["skipped"])
    assert 0 < first["skipped"].sum() <= len(first["skipped"]) / 2
    assert first["beta"] == second["beta"]


def test_running_statistics_are_averaged_over_the_ranks(ranks: Any) -> None:
    first, second = (rank["batch_norm"]["parameters"] for rank in ranks[0])
    assert_equal(first, second)
    assert all(value.abs().max() > 0 for name, value in first.items() if name.endswith("running_mean"))


class Plain(BaseCallback):
    def _on_step(self) -> bool:
        return True


class Writes(Plain):
    first_rank_only = True


def test_what_acts_once_is_left_out_on_other_ranks() -> None:
    inner, outer = Plain(), Plain()
    every = EveryNTimesteps(10, outer)
    given = [EveryNTimesteps(10, CheckpointCallback(1, "x")), every, CallbackList([Writes(), inner]), Writes()]
    first, second = callbacks_of_other_ranks(given).callbacks
    assert first is every
    assert isinstance(second, CallbackList)
    assert second.callbacks == [inner]


def test_lists_inside_and_of_one_s_own_are_kept_without_what_acts_once() -> None:
    class OwnList(CallbackList):
        pass

    inner, own = Plain(verbose=1), OwnList([Plain(), Writes()])
    every = EveryNTimesteps(10, CallbackList([CheckpointCallback(1, "x"), inner]))
    assert callbacks_of_other_ranks([every, own]).callbacks == [every, own]
    assert isinstance(every.callback, CallbackList)
    assert every.callback.callbacks == [inner]
    assert len(own.callbacks) == 1
    assert inner.verbose == 0
    assert callbacks_of_other_ranks(own).callbacks == [own]


def test_processes_that_differ_in_what_must_be_equal_are_refused(ranks: Any) -> None:
    for result in (rank["disagreement"] for rank in ranks[0]):
        envs, rate, writer = result["errors"]
        assert "`n_envs` must be the same in every process, got [2, 3]" in envs
        assert "`learning_rate` must be the same in every process, got [0.1, 0.2]" in rate
        assert "`callback` must be the same in every process" in writer
        assert "[['ResumableCheckpointCallback'], []]" in writer


def test_processes_that_draw_the_same_actions_are_warned_of(ranks: Any) -> None:
    for rank in ranks[0]:
        assert rank["same_seeds"] == {"unseeded": True, "seeded": False, "mixed": False}


def test_what_a_rank_s_environments_start_is_no_rank(ranks: Any) -> None:
    for rank in ranks[0]:
        assert rank["of_workers"] == {"spawn": (1, 1), "fork": (1, 1)}


def test_a_run_of_two_processes_resumes_bit_for_bit(ranks: Any) -> None:
    first, second = (rank["resumed"] for rank in ranks[0])
    for rank in (first, second):
        whole, parts = rank["ends"]
        assert whole[2] == 600
        assert_equal(whole, parts)
    assert_equal(first["ends"][0][0], second["ends"][0][0])
    assert not np.array_equal(first["ends"][0][3], second["ends"][0][3])  # each has environments of its own
    assert first["files"] == 3


def test_a_checkpoint_of_two_processes_is_refused_by_one(ranks: Any) -> None:
    with pytest.raises(ValueError, match=r"has 2 processes, got 1; start as many"):
        resume(ranks[1] / "parts", make_vec_env("box"))


def test_coefficients_are_bit_equal_after_fifty_updates(ranks: Any) -> None:
    first, second = (rank["fifty_updates"] for rank in ranks[0])
    assert first == second
    assert first["updates"] == 50
    assert first["beta"] != 1.0
    assert first["clip_scale"] != 1.0


def test_memory_and_sockets_give_the_same(ranks: Any) -> None:
    (first, second), _ = ranks
    assert_equal(first["sockets"], second["sockets"])
    assert_equal(first["sockets"]["memory"], first["sockets"]["sockets"])
    assert first["sockets"]["long"] == [0.5]


def test_a_rank_that_raises_ends_the_others_and_is_named() -> None:
    begun = time.monotonic()
    first, second = launched("failing_rank.py", "raises")
    assert "RankFailedError: rank 1 of 2 failed: ZeroDivisionError: the simulator of rank 1 broke" in first.errors
    assert first.status == second.status == 1
    assert "rank 1 of 2 failed: ZeroDivisionError: the simulator of rank 1 broke" in second.errors
    assert "again: the processes of this run do not train together any more" in second.output
    assert time.monotonic() - begun < 120  # torch.distributed itself would wait for half an hour


def test_a_rank_that_cannot_take_the_model_over_ends_the_others_at_once() -> None:
    first, second = launched("failing_rank.py", "other_network")
    assert "RankFailedError: rank 1 of 2 failed: RuntimeError" in first.errors
    assert "size mismatch" in second.errors
    assert float(first.output.removeprefix("ended after ")) < 6 < float(second.output.removeprefix("ended after "))


def test_ranks_whose_learning_rates_differ_after_a_callback_are_refused() -> None:
    """They would train different models from then on."""
    for ended in launched("failing_rank.py", "other_rate"):
        assert ended.status == 1
        assert "`learning_rate` must be the same in every process, got [[" in ended.errors
        assert ", [0.5]]; a callback that changes it must do so alike on every rank" in ended.errors


@pytest.mark.slow
def test_a_script_may_ask_for_its_rank_before_it_makes_environments_in_processes() -> None:
    """Such a process imports the script, in its rank's environment, before it is known to be a worker."""
    for how in ("spawn", "forkserver"):
        for rank, ended in enumerate(launched("rank_at_import.py", how)):
            assert ended.status == 0, ended.errors
            assert ended.output.split() == [str(rank), "2", "64"]


@pytest.mark.parametrize(
    ("setting", "comparable"),
    [
        (0.1, 0.1),
        ("lin_0.1", "lin_0.1"),
        (math.nan, "nan"),
        (lambda progress: 3.0 * progress, 3.0),
        (lambda observation, reward: reward, None),
        (float, None),
        ([1], None),
    ],
)
def test_settings_of_ranks_can_be_compared(setting: Any, comparable: Any) -> None:
    """A function is a schedule, or else it is not compared; NaN would not be equal to itself."""
    assert _comparable(setting) == comparable


def test_a_rank_that_finds_nan_before_its_update_ends_the_others_and_is_named() -> None:
    first, second = launched("failing_rank.py", "nan")
    assert "RankFailedError: rank 1 of 2 failed: NonFiniteUpdateError" in first.errors
    assert "nan in the rewards of environment 0 at timestep 4 (step 0 of the rollout)" in second.errors


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_thread_of_gloo_is_left_when_the_interpreter_ends() -> None:
    """One that is ends the process with SIGABRT now and then."""
    for ended in launched("leaving.py"):
        assert ended.status == 0, ended.errors
        assert "gloo" not in ended.output


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_others() -> None:
    first, second = launched("failing_rank.py", "killed")
    assert second.status == -signal.SIGKILL
    assert first.status == 1
    assert "RankFailedError: another process of this run has ended" in first.errors


@pytest.mark.slow
def test_torchrun_ends_and_names_the_rank_that_raised() -> None:
    ended = torchrun("--standalone", "--nproc-per-node=2", str(HERE / "failing_rank.py"), "raises")
    assert ended.status == 1
    assert "rank 1 of 2 failed: ZeroDivisionError: the simulator of rank 1 broke" in ended.errors


@pytest.mark.slow
def test_torchrun_restarts_a_run_whose_processes_are_killed(tmp_path: Path) -> None:
    ends = []
    for kills in (0, 3):
        folder = tmp_path / str(kills)
        arguments = ["--standalone", "--nproc-per-node=2", f"--max-restarts={kills}"]
        ended = torchrun(*arguments, str(HERE / "restarted.py"), str(folder), str(kills))
        assert ended.status == 0, f"{ended.output}\n{ended.errors}"
        assert ended.output.count("ends at step") == kills, f"{ended.output}\n{ended.errors}"
        ends.append(th.load(folder / "end.pt", weights_only=False))
    assert_equal(*ends)
    assert ends[0][2] == 1500


@pytest.mark.slow
def test_two_machines_train_as_one(tmp_path: Path) -> None:
    """Two torchrun agents that find each other at an address, as on two machines."""
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=1"]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    with ThreadPoolExecutor() as pool:
        script = [str(HERE / "restarted.py"), str(tmp_path / "two"), "0"]
        arguments = ["--nnodes=2", "--nproc-per-node=1", *rendezvous, *script]
        nodes = [pool.submit(torchrun, *arguments) for _ in range(2)]
        for node in nodes:
            assert node.result().status == 0, node.result().errors
    one = torchrun("--standalone", "--nproc-per-node=2", str(HERE / "restarted.py"), str(tmp_path / "one"), "0")
    assert one.status == 0, one.errors
    assert_equal(*(th.load(tmp_path / folder / "end.pt", weights_only=False) for folder in ("one", "two")))


def test_merged_statistics_equal_those_of_one_stream() -> None:
    generator = np.random.default_rng(0)
    common = RunningMeanStd(shape=(3,))
    common.update(generator.normal(50, 2, (1000, 3)))
    everything, parts = common.copy(), [common.copy() for _ in range(3)]
    for part, size in zip(parts, (5, 40, 200)):
        samples = generator.normal(51, 3, (size, 3))
        part.update(samples)
        everything.update(samples)

    merged = merged_moments(Moments.of(common), [Moments.of(part) for part in parts])
    np.testing.assert_allclose(merged.mean, everything.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.var, everything.var, rtol=1e-12)
    assert merged.n == pytest.approx(everything.count)


def test_moments_over_ranks_are_those_of_the_union() -> None:
    own, other = th.randn(2, 5) + 100, 3 * th.randn(2, 5) + 90

    class Two(Ranks):
        size = 2

        def stack(self, numbers: th.Tensor) -> th.Tensor:
            mean = other.double().mean(dim=1)
            return th.stack([numbers, th.stack([mean, ((other.double() - mean[:, None]) ** 2).sum(dim=1)])])

    mean, std = moments_over_ranks(Two(), own)
    union = th.cat([own, other], dim=1)
    th.testing.assert_close(mean, union.mean(dim=1, keepdim=True))
    th.testing.assert_close(std, union.std(dim=1, keepdim=True))


def test_a_process_of_its_own_is_rank_0_of_1_and_changes_nothing() -> None:
    here = current_ranks()
    tensor = th.tensor([3.0])
    here.mean_(tensor)
    assert (here.rank, here.size, here.first) == (0, 1, True)
    assert (here.mean(0.3), here.any(False), here.gather(1), here.from_first(lambda: 2)) == (0.3, False, [1], 2)
    assert tensor.item() == 3.0
