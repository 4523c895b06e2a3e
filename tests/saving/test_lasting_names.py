"""What is pickled names our classes by their public place only, so that a file outlives a move of our modules."""

import base64
import copy
import inspect
import io
import json
import pickle
import pydoc
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from environments import make_vec_env
from hosts import all_classes, build
from pickled_names import named_in
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import VecNormalize

import sb3_ppo_variants as package
from sb3_ppo_variants import PPOClip, extend
from sb3_ppo_variants.callbacks import (
    ClipFractionCallback,
    ClipRangeFromClipFraction,
    StopTrainingOnKL,
    TrustRegionFigure,
    TrustRegionRecorder,
)
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback
from sb3_ppo_variants.checkpoints.checkpoint_files import newest_checkpoint


def test_the_search_finds_our_modules_at_any_depth() -> None:
    internal, file = package.update.projection.Projection(0.1, 0.1, 1.0), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.pkl", pickle.dumps([pickle.dumps(internal)]))
    assert named_in(file.getvalue()) == {"sb3_ppo_variants.update.projection"}
    assert named_in(pickle.dumps(internal, protocol=2)) == {"sb3_ppo_variants.update.projection"}
    held = {"a": {":serialized:": base64.b64encode(pickle.dumps(internal)).decode()}}
    assert named_in(json.dumps(held).encode()) == {"sb3_ppo_variants.update.projection"}


@all_classes
def test_a_saved_model_names_no_module_of_ours(cls: type[Any]) -> None:
    model, file = build(cls).learn(50), io.BytesIO()
    model.save(file)
    assert named_in(file.getvalue()) == set()


@all_classes
def test_a_checkpoint_names_the_public_place_of_the_algorithm(cls: type[Any], tmp_path: Path) -> None:
    callbacks = [
        EvalCallback(VecNormalize(make_vec_env(), training=False), eval_freq=20, verbose=0),
        TrustRegionRecorder(tmp_path / "run.csv"),
        StopTrainingOnKL(1e9),
        ResumableCheckpointCallback(1, tmp_path),
    ]
    build(cls, env=VecNormalize(make_vec_env())).learn(100, callbacks)
    assert named_in(newest_checkpoint(tmp_path).path.read_bytes()) == {"sb3_ppo_variants"}


def test_a_model_saved_after_an_update_that_failed_names_nothing_of_a_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = build(PPOClip), io.BytesIO()

    def fail() -> None:
        raise FloatingPointError

    monkeypatch.setattr(model, "train", fail)
    with pytest.raises(FloatingPointError):
        model.learn(50, ClipRangeFromClipFraction())
    monkeypatch.undo()
    model.save(file)
    assert named_in(file.getvalue()) == set()  # it holds the clip range that it was made with
    file.seek(0)
    assert PPOClip.load(file).clip_range(1.0) == 0.2


def test_callbacks_with_a_history_name_their_public_place(tmp_path: Path) -> None:
    callbacks = [
        ClipFractionCallback(),
        ClipRangeFromClipFraction(),
        TrustRegionFigure(100, tmp_path / "run.png"),
        ResumableCheckpointCallback(1, tmp_path),
    ]
    build(PPOClip).learn(100, callbacks)
    found = named_in(newest_checkpoint(tmp_path).path.read_bytes())
    assert found == {"sb3_ppo_variants", "sb3_ppo_variants.callbacks"}


@all_classes
def test_a_class_is_found_under_its_public_name(cls: type[Any]) -> None:
    assert f"{cls.__module__}.{cls.__qualname__}" == f"sb3_ppo_variants.{cls.__name__}"
    for pickled in (pickle.dumps(cls), cloudpickle.dumps(cls)):
        assert pickle.loads(pickled) is cls
    assert copy.copy(cls) is cls
    assert inspect.getmodule(cls) is package
    assert "kl_divergence" in inspect.getsource(cls.train)
    page = pydoc.plain(pydoc.render_doc(cls))
    assert f"class {cls.__name__} in module sb3_ppo_variants" in page
    assert "acceleration" in page
    assert f"class {cls.__name__}(" in pydoc.plain(pydoc.render_doc(package))


def test_a_variant_of_ones_own_names_its_mixins_by_their_public_place() -> None:
    """Cloudpickle writes out the classes of a script or notebook, and names their bases."""
    source = "from stable_baselines3 import PPO\nfrom sb3_ppo_variants.extend import *\n"
    source += "class Mine(AdaptiveClipMixin, ClipMixin, PPO):\n    pass\n"
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(source, scope)
    assert named_in(cloudpickle.dumps(scope["Mine"])) == {"sb3_ppo_variants.extend"}


def test_what_extend_offers_is_found_there() -> None:
    classes = [value for name in extend.__all__ if isinstance(value := getattr(extend, name), type)]
    assert len(classes) > 10
    assert all(pickle.loads(pickle.dumps(cls)) is cls for cls in classes)
    assert {cls.__module__ for cls in classes} == {"sb3_ppo_variants.extend"}
