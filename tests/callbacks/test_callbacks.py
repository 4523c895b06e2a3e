"""Callbacks on the clip fraction and the KL: when they warn, stop and steer, on our classes and on stock ones."""

import base64
import json
import math
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from environments import make_vec_env
from hosts import HOSTS, VARIANTS, all_classes, build, host_of
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
)
from stable_baselines3.common.logger import configure

from sb3_ppo_variants import PPOAdaptiveClip, PPOClip, PPOPenalty, callbacks
from sb3_ppo_variants.callbacks import (
    ClipFractionCallback,
    ClipRangeFromClipFraction,
    StopTrainingOnClipFraction,
    StopTrainingOnKL,
    TrustRegionFigure,
    TrustRegionRecorder,
)
from sb3_ppo_variants.callbacks.clip_range_steering import ScaledSchedule
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, resume
from sb3_ppo_variants.trust_region_log import read_trust_region

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
    pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped"),
    pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type"),
]
ROLLOUT = 50  # 25 steps of two environments
CLIPPED = [
    pytest.param(cls, id=name)
    for name, cls in {**VARIANTS, **{host.stock.__name__: host.stock for host in HOSTS.values()}}.items()
]


Script = Callable[[type[Any], str, Sequence[float]], None]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Give a function that lets the real updates of a class log these values under a key, one after the other."""

    def replace(cls: type[Any], key: str, values: Sequence[float]) -> None:
        train, scripted = cls.train, iter(values)

        def train_and_say(model: Any) -> None:
            train(model)
            value = next(scripted, None)
            if value is not None:
                model.logger.record(key, value)

        monkeypatch.setattr(cls, "train", train_and_say)

    return replace


class Logged(BaseCallback):
    """Keeps what each update has logged when the next rollout begins, in the order of a CallbackList."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[Mapping[str, Any]] = []

    def _on_rollout_start(self) -> None:
        values = dict(self.logger.name_to_value)
        if "train/n_updates" in values:
            self.updates.append(values)

    def _on_training_end(self) -> None:
        self._on_rollout_start()

    def _on_step(self) -> bool:
        return True

    def column(self, key: str) -> list[float]:
        return [values[key] for values in self.updates]


# ------------------------------------------------------------------------------------------------- watch and warn


def test_clip_fraction_callback_warns_once_per_excursion(tmp_path: Path, script: Script) -> None:
    fractions = [0.3, 0.7, 0.7, 0.9, 0.8, 0.3, 0.01, 0.01, 0.01, 0.7, 0.7, 0.7]
    script(PPO, "train/clip_fraction", fractions)
    model = build(PPO, n_epochs=1)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    callback = ClipFractionCallback(low=0.05, high=0.6, patience=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(len(fractions) * ROLLOUT, callback=callback)
    messages = [str(w.message) for w in caught if "clipped" in str(w.message)]

    assert len(messages) == 3
    assert messages[0].startswith("77% of the samples were clipped in the last 3 updates, at step 200: more than 60%")
    assert "a larger clip_range, a smaller learning_rate or fewer n_epochs" in messages[0]
    assert messages[1].startswith("1% of the samples were clipped in the last 3 updates, at step 450: less than 5%")
    assert "smaller clip_range" in messages[1] and "more n_epochs" in messages[1]
    assert "at step 600" in messages[2]

    assert [record.timesteps for record in callback.history] == [ROLLOUT * i for i in range(1, 13)]
    assert [record.clip_fraction for record in callback.history] == fractions
    assert [record.side for record in callback.history] == [0, 1, 1, 1, 1, 0, -1, -1, -1, 1, 1, 1]
    means = [0.3, 0.5, 1.7 / 3, 2.3 / 3, 0.8, 2 / 3, 1.11 / 3, 0.32 / 3, 0.01, 0.72 / 3, 1.41 / 3, 0.7]
    assert [record.mean for record in callback.history] == pytest.approx(means)

    # in the same dump as the update's own values
    rows = (tmp_path / "progress.csv").read_text().splitlines()
    columns = dict(zip(rows[0].split(","), zip(*(row.split(",") for row in rows[2:]))))
    assert [float(x) for x in columns["trust_region/clip_fraction_mean"]] == pytest.approx(means[:-1])
    assert [float(x) for x in columns["trust_region/clip_fraction_side"]] == [0, 1, 1, 1, 1, 0, -1, -1, -1, 1, 1]
    assert [float(x) for x in columns["train/clip_fraction"]] == fractions[:-1]


def test_the_edges_belong_to_the_band(script: Script) -> None:
    script(PPO, "train/clip_fraction", [0.05, 0.6])
    callback = ClipFractionCallback(low=0.05, high=0.6, patience=1)
    build(PPO).learn(2 * ROLLOUT, callback=callback)
    assert [record.side for record in callback.history] == [0, 0]


@pytest.mark.parametrize("cls", CLIPPED)
def test_clip_fraction_callback_sees_what_the_logger_has(cls: type[Any]) -> None:
    clip = {} if "AdaptiveClip" in cls.__name__ else {"clip_range": 0.01}
    logged, callback = Logged(), ClipFractionCallback()
    build(cls, n_epochs=2, **clip).learn(3 * ROLLOUT, callback=[callback, logged], log_interval=2)
    assert [record.clip_fraction for record in callback.history] == logged.column("train/clip_fraction")
    assert [record.mean for record in callback.history] == logged.column("trust_region/clip_fraction_mean")
    assert len(callback.history) == 3


def test_a_penalty_without_clip_is_told_that_nothing_is_clipped() -> None:
    callback = ClipFractionCallback(patience=1)
    with pytest.warns(UserWarning, match=r"this PPOPenalty has no clip \(clip_range=None\)") as caught:
        build(PPOPenalty).learn(3 * ROLLOUT, callback=callback)
    assert len([w for w in caught if "clip" in str(w.message)]) == 1
    assert callback.history == []


# --------------------------------------------------------------------------------------------------------------- stop


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: StopTrainingOnClipFraction(0.8, patience=2), "train/clip_fraction"),
        (lambda: StopTrainingOnKL(0.8, patience=2), "train/kl_divergence"),
    ],
)
@pytest.mark.parametrize("high", [0.9, math.nan])
def test_training_stops_after_patience_updates_in_a_row(
    make: Callable[[], Any], key: str, high: float, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script(PPOClip, key, [0.9, 0.8, 0.9, high, 0.9, 0.9, 0.8])
    model = build(PPOClip)
    evaluation = EvalCallback(make_vec_env(n_envs=1), eval_freq=10, n_eval_episodes=1, verbose=0)
    stop = make()
    model.learn(20 * ROLLOUT, callback=CallbackList([evaluation, stop, ClipFractionCallback()]))
    assert model.num_timesteps == 4 * ROLLOUT + 2  # the first step of the rollout after the fourth update
    output = capsys.readouterr().out
    name = {"train/clip_fraction": "clip fraction", "train/kl_divergence": "KL divergence"}[key]
    assert f"Stopping training: the {name} was above 0.8 in 2 updates in a row (the last: {high:.4g})" in output
    assert stop.reason is not None and "at step 200" in stop.reason

    # patience counts anew when training goes on
    model.learn(3 * ROLLOUT, callback=stop, reset_num_timesteps=False)
    assert model.num_timesteps == 4 * ROLLOUT + 2 + 2 * ROLLOUT + 2


def test_a_stop_can_be_silent_and_need_not_come(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script(PPO, "train/clip_fraction", [0.9, 0.9, 0.9])
    model = build(PPO)
    model.learn(2 * ROLLOUT, callback=StopTrainingOnClipFraction(0.8, patience=1, verbose=0))
    assert model.num_timesteps == ROLLOUT + 2
    calm = StopTrainingOnClipFraction(0.95, patience=1)
    model.learn(2 * ROLLOUT, callback=calm)
    assert model.num_timesteps == 2 * ROLLOUT
    assert calm.reason is None
    assert capsys.readouterr().out == ""


def test_what_the_callbacks_have_counted_survives_a_resume(script: Script, tmp_path: Path) -> None:
    def make() -> list[Any]:
        return [
            StopTrainingOnClipFraction(0.8, patience=3),
            ClipFractionCallback(high=0.8, patience=3),
            TrustRegionFigure(every=100, path=tmp_path / "run.png"),
        ]

    script(PPOClip, "train/clip_fraction", [0.1, 0.9, 0.9, 0.9])
    writer = ResumableCheckpointCallback(ROLLOUT, tmp_path / "checkpoints")
    build(PPOClip).learn(3 * ROLLOUT, callback=[*make(), writer])
    stop, watch, figure = again = make()
    with pytest.warns(UserWarning, match="90% of the samples were clipped in the last 3 updates, at step 200"):
        model = resume(tmp_path / "checkpoints", make_vec_env(), again, total_timesteps=10 * ROLLOUT)
    assert model.num_timesteps == 4 * ROLLOUT + 2
    assert "at step 200" in str(stop.reason)
    assert [record.clip_fraction for record in watch.history] == [0.1, 0.9, 0.9, 0.9]
    assert [row["timesteps"] for row in figure.rows] == [50, 100, 150, 200]


def make_trpo() -> TRPO:
    return TRPO("MlpPolicy", make_vec_env(), n_steps=25, batch_size=50, seed=5, device="cpu")


@pytest.mark.parametrize(
    ("make", "key"),
    [
        *(pytest.param(lambda cls=cls: build(cls), "train/kl_divergence", id=name) for name, cls in VARIANTS.items()),
        *(pytest.param(lambda h=h: build(h.stock), "train/approx_kl", id=h.stock.__name__) for h in HOSTS.values()),
        pytest.param(make_trpo, "train/kl_divergence_loss", id="TRPO"),
    ],
)
def test_stop_on_kl_takes_the_best_kl_there_is(make: Callable[[], Any], key: str) -> None:
    stop, logged = StopTrainingOnKL(1e-12, patience=1), Logged()
    model = make().learn(3 * ROLLOUT, callback=[stop, logged])
    assert model.num_timesteps == ROLLOUT + 2
    assert f"(the last: {logged.updates[0][key]:.4g})" in str(stop.reason)


# -------------------------------------------------------------------------------------------------------------- steer

STEER: dict[str, Any] = {"target": 0.2, "tolerance": 1.5, "factor": 2.0}
FRACTIONS = [0.31, 0.5, 0.3, 0.2, 0.1, 0.0]  # the band is [0.133, 0.3]
CLIP_RANGES = [0.2, 0.4, 0.8, 0.8, 0.8, 0.4]  # in use in each update


@pytest.mark.parametrize("cls", CLIPPED)
def test_clip_range_follows_the_clip_fraction(cls: type[Any], script: Script) -> None:
    script(cls, "train/clip_fraction", FRACTIONS)
    model = build(cls, clip_range=0.2, n_epochs=1)
    logged = Logged()
    model.learn(6 * ROLLOUT, callback=[ClipRangeFromClipFraction(**STEER), logged])
    assert logged.column("train/clip_range") == pytest.approx(CLIP_RANGES)
    assert logged.column("train/clip_scale") == pytest.approx([1, 2, 4, 4, 4, 2])
    assert logged.column("train/saturated") == [0] * 6
    assert model.clip_scale == 1
    assert model.clip_range(0.5) == 0.2


@pytest.mark.parametrize("cls", [PPO, PPOAdaptiveClip])
def test_a_second_controller_of_the_clip_range_is_refused(cls: type[Any]) -> None:
    model = build(cls)
    with pytest.raises(ValueError, match="must have one ClipRangeFromClipFraction, got 2"):
        model.learn(ROLLOUT, callback=[ClipRangeFromClipFraction(), ClipRangeFromClipFraction()])
    assert model.num_timesteps == 0
    steer = ClipRangeFromClipFraction()
    model.learn(ROLLOUT, callback=steer)
    model.learn(ROLLOUT, callback=[steer], reset_num_timesteps=False)


def test_the_bounds_hold_and_are_logged(script: Script) -> None:
    script(PPO, "train/clip_fraction", [0.9, 0.9, 0.9, 0.0, 0.0, 0.0])
    logged = Logged()
    steer = ClipRangeFromClipFraction(**STEER, clip_range_bounds=(0.15, 0.5))
    build(PPO).learn(6 * ROLLOUT, callback=[steer, logged])
    assert logged.column("train/clip_range") == pytest.approx([0.2, 0.4, 0.5, 0.5, 0.25, 0.15])
    assert logged.column("train/saturated") == [0, 1, 1, 0, 1, 1]


def test_a_schedule_and_an_upper_range_keep_their_shape(script: Script) -> None:
    script(PPOClip, "train/clip_fraction", [0.9, 0.0, 0.0, 0.2])
    model = build(PPOClip, clip_range=lambda left: 0.4 * (0.5 + left), clip_range_upper=0.3)
    used: list[dict[str, Any]] = []
    coefficients = model.update_coefficients
    model.update_coefficients = lambda: used.append(coefficients()) or used[-1]
    model.learn(4 * ROLLOUT, callback=ClipRangeFromClipFraction(**STEER))
    base = [0.4 * (0.5 + left) for left in (0.75, 0.5, 0.25, 0.0)]
    scales = [1, 2, 1, 0.5]
    firsts = used[-12::3]  # of three epochs each; those before are for the checks of the fast path
    assert [c["clip_range"] for c in firsts] == pytest.approx([b * s for b, s in zip(base, scales)])
    assert [c["clip_range_upper"] for c in firsts] == pytest.approx([0.3 * s for s in scales])
    assert model.clip_range_upper == 0.3


def test_the_kl_has_no_say_while_the_clip_fraction_steers(script: Script) -> None:
    script(PPOAdaptiveClip, "train/clip_fraction", [0.2, 0.2, 0.2])
    model = build(PPOAdaptiveClip, target_kl=1e-9)  # the KL would take every update back and shrink the clip range
    model.learn(2 * ROLLOUT, callback=ClipRangeFromClipFraction(**STEER))
    assert model.clip_scale == 1
    assert model.last_update.projection == 1
    model.learn(ROLLOUT, reset_num_timesteps=False)
    assert model.clip_scale < 1
    assert model.last_update.projection < 1


@pytest.mark.parametrize(
    "cls", [PPO, MaskablePPO, pytest.param(RecurrentPPO, marks=pytest.mark.slow), PPOClip, PPOAdaptiveClip]
)
def test_a_saved_model_needs_no_callback_and_goes_on_with_one(cls: type[Any], script: Script, tmp_path: Path) -> None:
    script(cls, "train/clip_fraction", [0.9] * 3)
    model = build(cls, clip_range=0.2, n_epochs=1)
    checkpoints = CheckpointCallback(10, str(tmp_path))
    model.learn(3 * ROLLOUT, callback=[ClipRangeFromClipFraction(**STEER), checkpoints])
    model.save(tmp_path / "end")
    for name, scale in (("rl_model_140_steps", 4), ("end", 5)):
        with zipfile.ZipFile(tmp_path / f"{name}.zip") as archive:
            data = json.loads(archive.read("data"))
        if cls is host_of(cls).stock:  # it can be loaded where this package is not installed
            pickles = [base64.b64decode(v[":serialized:"]) for v in data.values() if ":serialized:" in str(v)]
            assert any(b"FloatSchedule" in pickled for pickled in pickles)
            assert not any(b"sb3_ppo_variants" in pickled for pickled in pickles)
        for clip_range in ({}, {"clip_range": 0.2}):  # the zoo passes hyperparameters once more
            alone, steered = (
                cls.load(tmp_path / name, env=make_vec_env(), device="cpu", **clip_range) for _ in range(2)
            )
            logged = Logged()
            alone.learn(ROLLOUT, callback=logged)
            assert alone.clip_range(1) == 0.2
            if cls is PPOAdaptiveClip:
                assert logged.column("train/clip_scale") == [scale]
            else:
                assert logged.column("train/clip_range") == [0.2]
            logged = Logged()
            steered.learn(ROLLOUT, callback=[ClipRangeFromClipFraction(**STEER), logged])
            assert logged.column("train/clip_range") == pytest.approx([0.2 * scale])


@pytest.mark.parametrize("cls", [PPO, PPOClip])
def test_a_model_saved_between_rollout_and_update_holds_its_own_clip_range(cls: type[Any], tmp_path: Path) -> None:
    class Saving(BaseCallback):
        def _on_rollout_end(self) -> None:
            assert self.model.clip_range(1) == 0.4
            self.model.save(tmp_path / "model")

        def _on_step(self) -> bool:
            return True

    upper = {} if cls is PPO else {"clip_range_upper": 0.3}
    model = build(cls, clip_range=0.2, **upper)
    model.clip_scale = 2.0
    model.learn(ROLLOUT, callback=[ClipRangeFromClipFraction(), Saving()])
    loaded = cls.load(tmp_path / "model", device="cpu")
    assert loaded.clip_range(1) == 0.2
    assert getattr(loaded, "clip_range_upper", 0.3) == 0.3
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        pickled = json.loads(archive.read("data"))["clip_range"][":serialized:"]
    assert b"sb3_ppo_variants" not in base64.b64decode(pickled)  # stock SB3 reads it


def test_a_scaling_that_an_interrupted_update_left_behind_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(model: Any) -> None:
        assert isinstance(model.clip_range, ScaledSchedule)
        raise KeyboardInterrupt

    model = build(PPO, clip_range=0.2)
    model.clip_scale = 2.0
    with monkeypatch.context() as context:
        context.setattr(PPO, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.learn(ROLLOUT, callback=ClipRangeFromClipFraction())
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=make_vec_env(), device="cpu")
    for left_behind, clip_range in ((model, 0.4), (loaded, 0.2)):
        assert left_behind.clip_range(1) == clip_range
        logged = Logged()
        left_behind.learn(ROLLOUT, callback=[ClipRangeFromClipFraction(), logged])
        assert logged.column("train/clip_range") == [0.4]
        assert left_behind.clip_range(1) == 0.2


def test_a_training_without_the_callback_does_not_go_by_what_it_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(model: Any) -> None:
        raise KeyboardInterrupt

    model = build(PPOClip, clip_range=0.2, clip_range_upper=0.3)
    model.clip_scale = 2.0
    with monkeypatch.context() as context:
        context.setattr(PPOClip, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.learn(ROLLOUT, callback=ClipRangeFromClipFraction())
    logged = Logged()
    model.learn(ROLLOUT, callback=logged)
    assert logged.column("train/clip_range") == [0.2]
    assert model.clip_range_upper == 0.3


def test_models_that_share_a_logger_have_updates_of_their_own(tmp_path: Path) -> None:
    logger = configure(None, [])
    for number in range(2):
        model = build(PPOPenalty, target_kl=0.01 * (number + 1))
        model.set_logger(logger)
        model.learn((3 - number) * ROLLOUT, callback=TrustRegionRecorder(tmp_path / f"{number}.csv"), log_interval=100)
    updates = read_trust_region(tmp_path / "1.csv").updates
    assert updates["timesteps"].tolist() == [ROLLOUT, 2 * ROLLOUT]
    assert set(updates["target_kl"]) == {0.02}


@pytest.mark.parametrize("acceleration", ["off", "eager", pytest.param("compile", marks=pytest.mark.slow)])
@pytest.mark.parametrize("cls", [PPOClip, PPOAdaptiveClip])
def test_a_moved_clip_range_reaches_every_path_without_building_it_anew(cls: type[Any], acceleration: str) -> None:
    model = build(cls, "box", clip_range=0.2, acceleration=acceleration, learning_rate=0.02, n_epochs=6)
    built: list[Any] = []
    original = model._current_acceleration

    def current() -> Any:
        built.append(original())
        return built[-1]

    model._current_acceleration = current
    logged = Logged()
    model.learn(2 * ROLLOUT, callback=[ClipRangeFromClipFraction(target=0.9, factor=10.0), logged])
    assert logged.column("train/clip_range") == pytest.approx([0.2, 0.02])
    fractions = logged.column("train/clip_fraction")
    assert fractions[0] < 0.6 and fractions[1] > fractions[0] + 0.1
    assert len({id(path) for path in built}) == 1


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClipFractionCallback(low=0.6, high=0.6), r"`low` must be < `high`, got \(0.6, 0.6\)"),
        (lambda: ClipFractionCallback(low=-0.1), r"`low` must be in \[0, 1\], got -0.1"),
        (lambda: ClipFractionCallback(high=1.1), r"`high` must be in \[0, 1\], got 1.1"),
        (lambda: ClipFractionCallback(high=math.nan), r"`high` must be in \[0, 1\], got nan"),
        (lambda: ClipFractionCallback(patience=0), "`patience` must be an integer >= 1, got 0"),
        (lambda: ClipFractionCallback(patience=2.5), "`patience` must be an integer >= 1, got 2.5"),  # type: ignore[arg-type]
        (lambda: ClipFractionCallback(patience=True), "`patience` must be an integer >= 1, got True"),
        (lambda: StopTrainingOnClipFraction(1.5), r"`threshold` must be in \[0, 1\], got 1.5"),
        (lambda: StopTrainingOnClipFraction(patience=0), "`patience` must be an integer >= 1"),
        (lambda: StopTrainingOnKL(0.0), "`max_kl` must be a finite number > 0, got 0.0"),
        (lambda: StopTrainingOnKL("1e-2"), "`max_kl` must be a finite number > 0, got '1e-2'"),  # type: ignore[arg-type]
        (lambda: StopTrainingOnKL(0.1, patience=-1), "`patience` must be an integer >= 1"),
        (lambda: ClipRangeFromClipFraction(target=1.0), r"`target` must be in \(0, 1\), got 1.0"),
        (lambda: ClipRangeFromClipFraction(tolerance=1.0), "`tolerance` must be > 1 and finite, got 1.0"),
        (lambda: ClipRangeFromClipFraction(factor=math.inf), "`factor` must be > 1 and finite, got inf"),
        (lambda: ClipRangeFromClipFraction(clip_range_bounds=(0.5, 0.1)), "`clip_range_bounds` must be"),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("callback", [ClipFractionCallback, StopTrainingOnClipFraction, ClipRangeFromClipFraction])
@pytest.mark.parametrize("make", [make_trpo, lambda: A2C("MlpPolicy", make_vec_env(), device="cpu")])
def test_algorithms_without_clip_are_refused_before_training(callback: type[Any], make: Callable[[], Any]) -> None:
    model = make()
    with pytest.raises(
        ValueError, match=rf"{callback.__name__} needs an algorithm with a `clip_range`, got '(TRPO|A2C)'"
    ):
        model.learn(ROLLOUT, callback=callback())
    assert model.num_timesteps == 0


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "parent_of",
    [
        lambda child: EveryNTimesteps(10, child),
        lambda child: EvalCallback(make_vec_env(), eval_freq=5, callback_after_eval=child),
        lambda child: EvalCallback(make_vec_env(), eval_freq=5, callback_on_new_best=child),
    ],
    ids=["EveryNTimesteps", "after_eval", "on_new_best"],
)
def test_a_child_of_an_event_callback_is_refused(parent_of: Callable[[Any], BaseCallback], nested: bool) -> None:
    child = ClipFractionCallback()
    model, parent = build(PPOClip), parent_of(CallbackList([child]) if nested else child)
    message = f"ClipFractionCallback must not be the child of another callback, .*, got '{type(parent).__name__}'"
    with pytest.raises(ValueError, match=message):
        model.learn(ROLLOUT, callback=parent)
    assert model.num_timesteps <= 10


def test_other_mismatches_are_refused_before_training() -> None:
    cases = [
        (
            A2C("MlpPolicy", make_vec_env(), device="cpu"),
            StopTrainingOnKL(0.1),
            "needs an algorithm with a `target_kl`",
        ),
        (build(PPOPenalty), ClipRangeFromClipFraction(), "needs a clip, got 'PPOPenalty with clip_range=None'"),
        (build(PPO, clip_range=0.005), ClipRangeFromClipFraction(), r"must lie within .* = \(0.01, 1.0\), got 0.005"),
        (
            build(PPOAdaptiveClip),
            ClipRangeFromClipFraction(clip_range_bounds=(0.1, 0.5)),
            "must be left to the model, which has its own",
        ),
    ]
    for model, callback, message in cases:
        with pytest.raises(ValueError, match=message):
            model.learn(ROLLOUT, callback=callback)
        assert model.num_timesteps == 0


def test_an_algorithm_that_does_not_log_the_key_is_named_once() -> None:
    class Quiet(PPO):
        def train(self) -> None:
            super().train()
            del self.logger.name_to_value["train/clip_fraction"]

    with pytest.warns(UserWarning, match="Quiet logs no train/clip_fraction: ClipFractionCallback has") as caught:
        build(Quiet).learn(3 * ROLLOUT, callback=ClipFractionCallback())
    assert len([w for w in caught if "Quiet" in str(w.message)]) == 1


@all_classes
def test_all_callbacks_together(cls: type[Any], tmp_path: Path) -> None:
    clip = {} if "AdaptiveClip" in cls.__name__ else {"clip_range": 0.1}
    every = [
        ClipFractionCallback(),
        StopTrainingOnClipFraction(),
        StopTrainingOnKL(1.0),
        ClipRangeFromClipFraction(),
        callbacks.TrustRegionRecorder(tmp_path / "run.csv"),
        EvalCallback(make_vec_env(n_envs=1), eval_freq=20, n_eval_episodes=1, verbose=0),
    ]
    model = build(cls, n_epochs=1, **clip).learn(3 * ROLLOUT, callback=every)
    assert model.num_timesteps == 3 * ROLLOUT
    assert len(every[0].history) == 3  # type: ignore[attr-defined]
    assert np.isfinite(model.clip_scale)


def test_updates_are_counted_over_several_short_trainings_of_a_model(script: Script) -> None:
    script(PPOClip, "train/clip_fraction", [0.9] * 9)
    model, stop = build(PPOClip), StopTrainingOnClipFraction(0.8, patience=3)
    for _ in range(5):
        model.learn(ROLLOUT, callback=stop, reset_num_timesteps=False)
        if stop.reason is not None and model.num_timesteps % ROLLOUT:
            break
    assert model.num_timesteps == 3 * ROLLOUT + 2


def test_another_model_is_counted_anew(script: Script) -> None:
    script(PPOClip, "train/clip_fraction", [0.9] * 9)
    watch, stop = ClipFractionCallback(high=0.8, patience=3), StopTrainingOnClipFraction(0.8, patience=3)
    for _ in range(2):
        build(PPOClip).learn(2 * ROLLOUT, callback=[watch, stop])
        assert len(watch.history) == watch.in_a_row == stop.in_a_row == 2


def test_a_stopped_run_goes_on_with_a_higher_limit(tmp_path: Path) -> None:
    writer = ResumableCheckpointCallback(ROLLOUT, tmp_path)
    build(PPOClip).learn(9 * ROLLOUT, callback=[StopTrainingOnKL(1e-12, patience=1), writer])
    again = StopTrainingOnKL(1e9, patience=1)
    assert resume(tmp_path, make_vec_env(), again, total_timesteps=4 * ROLLOUT).num_timesteps == 4 * ROLLOUT


@pytest.mark.filterwarnings("error:this PPOClip has no clip")
def test_a_clip_on_one_side_is_a_clip() -> None:
    watch = ClipFractionCallback()
    build(PPOClip, clip_range=None, clip_range_upper=1e-6).learn(2 * ROLLOUT, callback=watch)
    assert [record.clip_fraction > 0 for record in watch.history] == [True, True]


def test_a_figure_that_is_never_drawn_leaves_no_file(tmp_path: Path) -> None:
    build(PPOClip).learn(0, callback=TrustRegionFigure(path=tmp_path / "run.png"))
    assert not (tmp_path / "run.png").exists()
