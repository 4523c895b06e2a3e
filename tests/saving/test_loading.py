"""Files that cannot be loaded say why, and files from strangers run no code."""

import base64
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from hosts import VARIANTS, all_classes, build, flat
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from sb3_ppo_variants import MaskablePPOPenalty, PPOAdaptiveClip, PPOClip, PPOPenalty, RecurrentPPOPenalty, __version__
from sb3_ppo_variants.extend import AdaptiveClipMixin, PolicyUpdateMixin
from sb3_ppo_variants.extractors import BFloat16CNN
from sb3_ppo_variants.saving.loading import read_saved

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
ROLLOUT = 50
OBSERVATIONS = np.linspace(-1.0, 1.0, 24, dtype=np.float32).reshape(6, 4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give the file of a PPOPenalty model after two updates."""
    path = tmp_path_factory.mktemp("saved") / "model.zip"
    build(PPOPenalty).learn(2 * ROLLOUT).save(path)
    return path.read_bytes()


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: dict[str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file


def edited(content: bytes, edit: Callable[[dict[str, Any]], Any]) -> io.BytesIO:
    """Change the attributes in a saved model."""
    parts = members(content)
    data = json.loads(parts["data"])
    edit(data)
    return zipped({**parts, "data": json.dumps(data).encode()})


def pickle_entry(value: Any) -> dict[str, str]:
    return {":type:": "any", ":serialized:": base64.b64encode(cloudpickle.dumps(value)).decode()}


# ----------------------------------------------------------------------------------------------------- what went wrong


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_called_truncated(saved: bytes, keep: float, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(saved[: int(keep * len(saved))])
    message = "model.zip is not a zip file" if keep == 0 else r"model.zip is truncated or damaged \(\d+ bytes\)"
    with pytest.raises(ValueError, match=f"{message}.*take another copy"):
        PPOPenalty.load(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="not a zip|truncated|damaged"):
        build(PPOPenalty).set_parameters(tmp_path / "model.zip", device="cpu")


def test_a_changed_byte_is_never_loaded_as_something_else(saved: bytes, tmp_path: Path) -> None:
    """Every 997th byte flipped: an error that names the file, or, in bytes that mean nothing, the same model."""
    expected = PPOPenalty.load(io.BytesIO(saved), device="cpu").policy.state_dict()
    path = tmp_path / "model.zip"
    refusals = []
    for position in range(5, len(saved), 997):
        path.write_bytes(saved[:position] + bytes([saved[position] ^ 0x5A]) + saved[position + 1 :])
        try:
            state = PPOPenalty.load(path, device="cpu").policy.state_dict()
        except ValueError as error:
            refusals.append(str(error))
        else:
            assert all(th.equal(expected[name], state[name]) for name in expected)
    assert len(refusals) > 20
    assert all("model.zip" in message for message in refusals)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"readme.txt": b"hello"}, "no saved model of PPO: it lacks data, policy.pth, policy.optimizer.pth"),
        ({"data": b"{}", "policy.pth": b"", "policy.optimizer.pth": b""}, "no saved model of PPO: it lacks policy_cl"),
        ({"data": b"[1]", "policy.pth": b"", "policy.optimizer.pth": b""}, "no saved model of PPO"),
        ({"data": b"{", "policy.pth": b"", "policy.optimizer.pth": b""}, "damaged .JSONDecodeError"),
    ],
)
def test_a_foreign_zip_is_no_model(parts: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPOPenalty.load(zipped(parts))


def test_a_missing_file_stays_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        PPOPenalty.load(tmp_path / "missing")


@pytest.mark.parametrize("other", [PPOClip, PPOAdaptiveClip, RecurrentPPOPenalty, MaskablePPOPenalty])
def test_another_class_is_named(saved: bytes, other: type[PPO]) -> None:
    message = rf"must hold a model of {other.__name__}, got 'PPOPenalty'; load it with PPOPenalty\.load"
    with pytest.raises(ValueError, match=message):
        other.load(io.BytesIO(saved), device="cpu")


def test_a_file_of_stock_ppo_is_refused_by_load() -> None:
    file = io.BytesIO()
    build(PPO).save(file)
    with pytest.raises(ValueError, match="must hold a model of PPOPenalty, got 'PPO'; .*set_param"):
        PPOPenalty.load(file, device="cpu")


def test_subclasses_and_their_parents_read_each_other_s_files(saved: bytes) -> None:
    class Derived(PPOPenalty):
        pass

    assert Derived.load(io.BytesIO(saved), device="cpu").num_timesteps == 100
    file = io.BytesIO()
    Derived.load(io.BytesIO(saved), device="cpu").save(file)
    assert PPOPenalty.load(file, device="cpu").num_timesteps == 100


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"action": "box"}, r"Action spaces do not match: Discrete\(3\) != Box"),
        ({"observation": "image"}, "Observation spaces do not match"),
    ],
)
def test_another_space_is_named(saved: bytes, env: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPOPenalty.load(io.BytesIO(saved), env=make_vec_env(**env), device="cpu")


# ------------------------------------------------------------------------------------------------------------- versions


def test_the_version_is_stored_as_plain_data(saved: bytes) -> None:
    data = json.loads(members(saved)["data"])
    assert data["saved_as"]["package_version"] == __version__
    assert data["saved_as"]["classes"][0] == "PPOPenalty"


@pytest.mark.parametrize("version", ["99.0.0", "0.99.0rc1", "newest"])
def test_a_newer_version_is_refused(saved: bytes, version: str) -> None:
    file = edited(saved, lambda data: data["saved_as"].update(package_version=version))
    with pytest.raises(ValueError, match=f"reads files up to that, got '{version}'; upgrade it"):
        PPOPenalty.load(file, device="cpu")


def test_the_same_version_s_patches_are_read(saved: bytes) -> None:
    major, minor = __version__.split(".")[:2]
    file = edited(saved, lambda data: data["saved_as"].update(package_version=f"{major}.{minor}.999"))
    assert PPOPenalty.load(file, device="cpu").num_timesteps == 100


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip])
def test_files_from_before_there_were_versions_are_read(cls: type[PPO]) -> None:
    """With the defaults of what the class did not have yet, and without a word."""
    file = io.BytesIO()
    build(cls, max_kl=0.5).save(file)

    def age(data: dict[str, Any]) -> None:
        del data["saved_as"], data["value_clip_scale"]

    old = edited(file.getvalue(), age)
    loaded: Any = cls.load(old, env=make_vec_env(), device="cpu")
    assert (loaded.value_clip_scale, loaded.max_kl) == ("absolute", 0.5)
    loaded.learn(ROLLOUT)
    other = PPOClip if cls is not PPOClip else PPOPenalty
    with pytest.raises(ValueError, match=f"got '{cls.__name__}'; load it with {cls.__name__}.load"):
        other.load(old, device="cpu")


# -------------------------------------------------------------------------------------------------- files of strangers


class Explosive:
    """Writes a file when it is unpickled."""

    def __init__(self, evidence: Path):
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return Path.touch, (self.evidence,)


@all_classes
def test_an_untrusted_file_gives_the_same_model(cls: type[Any]) -> None:
    policy_kwargs = {"activation_fn": nn.ReLU, "net_arch": {"pi": [8], "vf": [6]}}
    schedules = {"learning_rate": LinearSchedule(1e-3, 1e-4, 0.9), "ent_coef": LinearSchedule(0.1, 0.0, 1.0)}
    model = build(cls, env=VecNormalize(make_vec_env()), policy_kwargs=policy_kwargs, **schedules).learn(2 * ROLLOUT)
    file = io.BytesIO()
    model.save(file)
    safe = cls.load(file, env=make_vec_env(), device="cpu", trusted=False)
    full = cls.load(file, env=make_vec_env(), device="cpu")

    for name, value in full.policy.state_dict().items():
        assert th.equal(safe.policy.state_dict()[name], value)
    np.testing.assert_array_equal(*(m.predict(OBSERVATIONS, deterministic=True)[0] for m in (safe, full)))
    for name in (*model.live_state, "num_timesteps", "max_kl", "n_epochs", "policy_class", "policy_kwargs"):
        assert getattr(safe, name) == getattr(full, name)
    assert safe.lr_schedule(0.3) == full.lr_schedule(0.3)
    for loaded in (safe, full):
        loaded.set_random_seed(3)
        loaded.learn(ROLLOUT)
    for name, value in full.policy.state_dict().items():
        assert th.equal(safe.policy.state_dict()[name], value)


@pytest.mark.parametrize("trusted", ["False", None, 0])
def test_only_true_or_false_says_whether_a_file_is_trusted(saved: bytes, trusted: Any) -> None:
    with pytest.raises(ValueError, match="`trusted` must be True or False"):
        PPOPenalty.load(io.BytesIO(saved), device="cpu", trusted=trusted)


def test_an_untrusted_file_tells_of_the_system_it_was_made_on(saved: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    PPOPenalty.load(io.BytesIO(saved), device="cpu", trusted=False, print_system_info=True)
    said = capsys.readouterr().out
    assert "== SAVED MODEL SYSTEM INFO ==" in said
    assert said.count("Stable-Baselines3: ") == 2


@pytest.mark.parametrize("action", ["box", "multi_discrete", "multi_binary"])
@pytest.mark.parametrize("observation", ["image", "dict"])
def test_an_untrusted_file_gives_the_spaces_back(action: str, observation: str) -> None:
    file = io.BytesIO()
    model = build(PPOClip, action, observation, use_sde=action == "box")
    model.save(file)
    loaded = PPOClip.load(file, device="cpu", trusted=False)
    assert loaded.action_space == model.action_space
    assert loaded.observation_space == model.observation_space


@pytest.mark.parametrize(
    "name", ["policy_class", "observation_space", "lr_schedule", "ep_info_buffer", "_last_obs", "n_envs", "verbose"]
)
def test_a_malicious_pickle_in_place_of_an_attribute_is_not_run(saved: bytes, name: str, tmp_path: Path) -> None:
    bomb = pickle_entry(Explosive(tmp_path / "evidence"))
    file = edited(saved, lambda data: data.update({name: bomb}))
    refused = name in ("n_envs", "verbose")  # they are numbers in every file
    with pytest.raises(ValueError, match=f"must not need a pickle, got .'{name}'") if refused else nullcontext():
        PPOPenalty.load(file, device="cpu", trusted=False)
    assert not (tmp_path / "evidence").exists()

    with suppress(Exception):  # what it leaves is none of these attributes
        PPOPenalty.load(file, device="cpu")
    assert (tmp_path / "evidence").exists()  # the bomb was real


def test_a_malicious_pickle_under_a_new_name_is_refused(saved: bytes, tmp_path: Path) -> None:
    bomb = pickle_entry(Explosive(tmp_path / "evidence"))
    with pytest.raises(ValueError, match=r"must not need a pickle, got \['_surprise'\]; pass them as custom_objects"):
        PPOPenalty.load(edited(saved, lambda data: data.update(_surprise=bomb)), device="cpu", trusted=False)
    assert not (tmp_path / "evidence").exists()


@pytest.mark.parametrize("member", ["policy.pth", "policy.optimizer.pth", "pytorch_variables.pth", "extra.pth"])
def test_a_malicious_pickle_in_place_of_tensors_is_not_run(saved: bytes, member: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    th.save(Explosive(tmp_path / "evidence"), file, pickle_module=cloudpickle)
    attack = zipped({**members(saved), member: file.getvalue()})
    if member.startswith("policy"):
        with pytest.raises(Exception, match="[Ww]eights.only|[Uu]nsupported"):
            PPOPenalty.load(attack, device="cpu", trusted=False)
    else:
        assert PPOPenalty.load(attack, device="cpu", trusted=False).num_timesteps == 100  # it is not even read
    assert not (tmp_path / "evidence").exists()


def test_attributes_that_no_model_has_are_refused(saved: bytes) -> None:
    for name in ("env", "_logger", "learn", "__class__"):
        file = edited(saved, lambda data, name=name: data.update({name: "CartPole-v1"}))
        with pytest.raises(ValueError, match=f"must hold attributes of PPOPenalty only, got .'{name}'.; do not use it"):
            PPOPenalty.load(file, device="cpu", trusted=False)


def test_a_stranger_s_file_does_not_choose_where_logs_go(tmp_path: Path) -> None:
    file = io.BytesIO()
    build(PPOPenalty, tensorboard_log=str(tmp_path / "theirs")).save(file)
    assert PPOPenalty.load(file, device="cpu", trusted=False).tensorboard_log is None
    loaded: Any = PPOPenalty.load(file, device="cpu", trusted=False, tensorboard_log="mine")
    assert loaded.tensorboard_log == "mine"


def test_each_of_two_mixins_keeps_its_state() -> None:
    class Scaled(PolicyUpdateMixin):
        live_state = ("scale",)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.scale = 1.0
            super().__init__(*args, **kwargs)

    class Both(Scaled, AdaptiveClipMixin, PPO):
        pass

    model, file = build(Both), io.BytesIO()
    model.scale, model.clip_scale = 3.0, 0.5
    model.save(file)
    other = build(Both)
    other.set_parameters(file, device="cpu")
    assert (other.scale, other.clip_scale) == (3.0, 0.5)


def test_the_package_s_own_extractor_is_trusted() -> None:
    file = io.BytesIO()
    model = build(PPOClip, observation="image", policy_kwargs={"features_extractor_class": BFloat16CNN})
    model.save(file)
    loaded = PPOClip.load(file, device="cpu", trusted=False)
    assert type(loaded.policy.features_extractor) is BFloat16CNN


def test_what_has_no_plain_form_is_named_and_can_be_given() -> None:
    file = io.BytesIO()
    build(PPOPenalty, learning_rate=lambda progress: 1e-3 * progress).save(file)
    with pytest.raises(ValueError, match=r"got \['learning_rate', 'lr_schedule'\]; pass them as custom_objects"):
        PPOPenalty.load(file, device="cpu", trusted=False)
    given = {"learning_rate": 1e-3, "lr_schedule": lambda _: 1e-3}
    assert PPOPenalty.load(file, device="cpu", trusted=False, custom_objects=given).learning_rate == 1e-3


def test_a_file_without_the_plain_form_is_refused_untrusted(saved: bytes) -> None:
    old = edited(saved, lambda data: data.pop("saved_as"))
    with pytest.raises(ValueError, match="must not need a pickle, got .*'action_space'"):
        PPOPenalty.load(old, device="cpu", trusted=False)


# ------------------------------------------------------------------------------------------------------- as before


def test_set_parameters_reads_no_pickle(saved: bytes, tmp_path: Path) -> None:
    file = edited(saved, lambda data: data.update(_surprise=pickle_entry(Explosive(tmp_path / "evidence")), beta=7))
    model = build(PPOPenalty)
    model.set_parameters(file, device="cpu")
    assert model.beta == 7.0
    assert type(model.beta) is float
    assert not (tmp_path / "evidence").exists()


def test_a_file_without_policy_kwargs_is_loaded_as_by_sb3(tmp_path: Path) -> None:
    model = PPOPenalty("MlpPolicy", "CartPole-v1", n_steps=64)
    model.save(tmp_path / "model", exclude=["policy_kwargs"])
    assert th.equal(flat(PPOPenalty.load(tmp_path / "model", device="cpu")), flat(model))


def test_adaptive_state_of_numpy_s_type_is_read(tmp_path: Path) -> None:
    model = PPOPenalty("MlpPolicy", "CartPole-v1", n_steps=64)
    model.beta = np.float32(2.5)
    model.save(tmp_path / "model")
    other = PPOPenalty("MlpPolicy", "CartPole-v1", n_steps=64)
    other.set_parameters(tmp_path / "model")
    assert other.beta == PPOPenalty.load(tmp_path / "model", trusted=False).beta == 2.5


def test_reading_leaves_a_caller_s_file_open_and_usable(saved: bytes) -> None:
    file = io.BytesIO(saved)
    file.seek(17)
    assert read_saved(file).content == saved
    assert PPOPenalty.load(file, device="cpu").num_timesteps == 100
    assert PPOPenalty.load(file, device="cpu").num_timesteps == 100


def test_every_class_is_covered_by_the_checks() -> None:
    for name, cls in VARIANTS.items():
        file = io.BytesIO()
        build(cls).save(file)
        for other_name, other in VARIANTS.items():
            if other_name != name:
                with pytest.raises(ValueError, match=f"got '{name}'"):
                    other.load(file, device="cpu")
