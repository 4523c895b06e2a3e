"""Reading saved models: errors that name the cause, and a way to read files that nobody vouches for.

A saved model is SB3's zip file: ``data`` holds the attributes as JSON, with a pickle in place of each one that JSON
cannot hold, and the ``.pth`` files hold the tensors. A pickle runs whatever code its author put into it.
"""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.save_util import is_json_serializable, open_path
from stable_baselines3.common.type_aliases import GymEnv

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.arguments.hints import did_you_mean
from sb3_ppo_variants.arguments.signatures import HostMethods
from sb3_ppo_variants.saving.plain_data import from_plain, to_plain
from sb3_ppo_variants.saving.saved_class import check_saved_class
from sb3_ppo_variants.version import __version__

FilePath = str | Path | io.BufferedIOBase
Model = TypeVar("Model", bound="LoadingMixin")

_MEMBERS = ("data", "policy.pth", "policy.optimizer.pth")
_SYSTEM = "system_info.txt"
_SETTINGS = ("policy_class", "observation_space", "action_space")
# Of a run, not of a model: without them a loaded model begins new episodes and new statistics.
_TRANSIENT = (
    *("ep_info_buffer", "ep_success_buffer"),
    *("_last_obs", "_last_episode_starts", "_last_original_obs", "tensorboard_log"),
)


class SavedModel(NamedTuple):
    """A saved model's file, checked but with none of its pickles read.

    :param name: for messages
    :param content: of the whole file
    :param data: attributes by name; for a pickled one a dictionary with the key ``":serialized:"``
    """

    name: str
    content: bytes
    data: dict[str, Any]

    def pickled(self) -> list[str]:
        """Return the names of the attributes that only a pickle holds."""
        return [name for name, value in self.data.items() if isinstance(value, dict) and ":serialized:" in value]

    def bare(self) -> io.BytesIO:
        """Return the file with nothing in it but the data and the tensors of policy and optimiser."""
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.content)) as old, zipfile.ZipFile(file, "w") as new:
            for member in (*_MEMBERS, *({_SYSTEM} & set(old.namelist()))):
                new.writestr(member, old.read(member))
        return file


def read_saved(path: FilePath) -> SavedModel:
    """Read a saved model's file and check that it is whole.

    :param path: as in SB3's ``load``
    :raises FileNotFoundError: if there is none
    :raises ValueError: if it is truncated, damaged or something else
    """
    name = str(path) if isinstance(path, (str, Path)) else "the file"
    file = open_path(path, "r", suffix="zip")
    try:
        file.seek(0)
        content = file.read()
    finally:
        if isinstance(path, (str, Path)):
            file.close()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # The tensors are zip files too: in a truncated model the last whole one of them is found instead.
            if any(archive.infolist()) and min(member.header_offset for member in archive.infolist()) > 0:
                raise zipfile.BadZipFile("it does not begin with its first member")
            damaged = archive.testzip()
            missing = [member for member in _MEMBERS if member not in archive.namelist()]
            data = {} if missing or damaged else json.loads(archive.read("data"))
    except zipfile.BadZipFile as error:
        cause = "is truncated or damaged" if content[:2] == b"PK" else "is not a zip file"
        raise ValueError(f"{name} {cause} ({len(content)} bytes); take another copy of it") from error
    except Exception as error:  # damage inside shows as errors of many kinds: zlib, struct, JSON, text encoding
        raise ValueError(f"{name} is damaged ({type(error).__name__}: {error}); take another copy of it") from error
    if damaged:
        raise ValueError(f"{name} is damaged at its member {damaged}; take another copy of it")
    missing = missing or [setting for setting in _SETTINGS if not isinstance(data, dict) or setting not in data]
    if missing:
        raise ValueError(f"{name} is no saved model of PPO: it lacks {', '.join(missing)}; name a file of save()")
    return SavedModel(name, content, data)


class LoadingMixin(HostMethods):
    """Saving with the version and a plain form of all settings; loading with checks."""

    live_state: ClassVar[tuple[str, ...]] = ()
    saved_as: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for attribute in ("live_state", "extra_metric_names"):
            names = vars(cls).get(attribute, ())
            rule, way_out = f"`{attribute}` of {cls.__name__} must be a tuple of names", "a single one needs a comma"
            require(not isinstance(names, str), rule, names, way_out)
        named = [name for base in cls.__mro__ for name in vars(base).get("live_state", ())]
        cls.live_state = tuple(dict.fromkeys(named))  # each of several mixins has its own

    def save(self, path: FilePath, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        """Save as SB3 does, with the package's version and what ``load(..., trusted=False)`` needs.

        :param path: as in SB3
        :param exclude: as in SB3
        :param include: as in SB3
        """
        for name in self.live_state:  # which somebody may have set to a number of numpy's: that would be pickled
            setattr(self, name, float(getattr(self, name)))
        classes = [cls.__name__ for cls in type(self).__mro__ if issubclass(cls, LoadingMixin)]
        self.saved_as = {"package_version": __version__, "classes": classes, "plain": self._plain_settings()}
        super().save(path, exclude, include)

    @classmethod
    def load(
        cls: type[Model],
        path: FilePath,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trusted: bool = True,
        **kwargs: Any,
    ) -> Model:
        """Load a saved model as SB3 does.

        The file holds pickles, which run code: pass ``trusted=False`` for one from a stranger.

        :param path: as in SB3, like the following
        :param env: as in SB3
        :param device: as in SB3
        :param custom_objects: attributes by name, which are not read from the file
        :param print_system_info: as in SB3
        :param force_reset: as in SB3
        :param trusted: False reads numbers, text and tensors only, and refuses a file that needs a pickle for more
        :param kwargs: attributes by name, set after the file's
        :raises FileNotFoundError: if there is no such file
        :raises TypeError: for a keyword that is neither an argument of the class nor an attribute in the file
        :raises ValueError: if it is damaged, of another class, of a newer version, does not fit ``env``, or needs a
            pickle although it is not trusted
        """
        rule = "`trusted` must be True or False"
        require(isinstance(trusted, (bool, np.bool_)), rule, trusted, "False for a file from a stranger")
        saved = read_saved(path)
        check_saved_class(cls, saved.data, saved.name)
        _check_keywords(cls, saved, kwargs)
        _check_version(saved)
        file = io.BytesIO(saved.content)
        if not trusted:
            file = saved.bare()
            custom_objects = _rebuilt_objects(cls, saved, custom_objects or {})
        return super().load(file, env, device, custom_objects, print_system_info, force_reset, **kwargs)

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: th.device | str = "auto"
    ) -> None:
        """Load network and optimiser parameters as SB3 does; from a file, the adaptive state comes along.

        :param load_path_or_dict: a saved model's path, or the dictionary of ``get_parameters``
        :param exact_match: as in SB3
        :param device: as in SB3
        """
        if isinstance(load_path_or_dict, dict):
            super().set_parameters(load_path_or_dict, exact_match, device)
            return
        saved = read_saved(load_path_or_dict)
        super().set_parameters(io.BytesIO(saved.content), exact_match, device)  # type: ignore[arg-type]  # as SB3 takes
        for name in self.live_state:
            if name in saved.data:
                setattr(self, name, float(saved.data[name]))

    def _plain_settings(self) -> dict[str, Any]:
        """Describe in plain data what SB3 is about to pickle, as far as that goes."""
        plain = {}
        for name, value in vars(self).items():
            if name not in (*self._excluded_save_params(), *_TRANSIENT) and not is_json_serializable(value):
                try:
                    plain[name] = to_plain(value)
                except TypeError:
                    continue  # load(..., trusted=False) names it
        return plain


def _check_keywords(cls: type, saved: SavedModel, given: Iterable[str]) -> None:
    known = [*inspect.signature(cls).parameters, *saved.data]
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known, "`", f"see help({cls.__name__})")
            raise TypeError(f"{cls.__name__}.load() got an unknown argument `{name}`{hint}")


def _check_version(saved: SavedModel) -> None:
    """Refuse a file of a newer version; one of an older version takes the defaults of what was not there yet.

    :raises ValueError: naming both
    """
    saved_as = saved.data.get("saved_as")
    version = saved_as.get("package_version") if isinstance(saved_as, dict) else "0.0"  # before there were versions
    try:
        newer = [int(part) for part in str(version).split(".")[:2]] > [int(part) for part in __version__.split(".")[:2]]
    except ValueError:
        newer = True
    require(not newer, f"this is sb3_ppo_variants {__version__}: it reads files up to that", version, "upgrade it")


def _rebuilt_objects(cls: type[LoadingMixin], saved: SavedModel, given: dict[str, Any]) -> dict[str, Any]:
    """Replace every pickle of a file, so that SB3 reads none.

    :param cls: which loads
    :param saved: the file
    :param given: by the caller
    :return: ``custom_objects`` for SB3
    :raises ValueError: naming what has no replacement, or does not belong to a model
    """
    saved_as = saved.data.get("saved_as")
    plain = saved_as.get("plain", {}) if isinstance(saved_as, dict) else {}
    objects: dict[str, Any] = {name: None for name in _TRANSIENT if name in saved.data}
    needed = set(saved.pickled()) - objects.keys() - given.keys()
    refused = sorted(needed - plain.keys())
    require(
        not refused,
        f"{saved.name} is read with trusted=False and must not need a pickle",
        refused,
        "pass them as custom_objects, or trusted=True if you know who made the file",
    )
    objects |= {name: from_plain(plain[name]) for name in needed}
    bare: Any = cls(next(iter(cls.policy_aliases)), None, _init_setup_model=False)  # type: ignore[arg-type,call-arg]
    known = {*vars(bare), "saved_as", "observation_space", "action_space", "n_envs", "lr_schedule", "clip_scale"}
    known -= set(bare._excluded_save_params())
    strange = sorted(saved.data.keys() - known)
    require(not strange, f"{saved.name} must hold attributes of {cls.__name__} only", strange, "do not use it")
    return {**objects, **given}


__all__ = ["LoadingMixin", "SavedModel", "read_saved"]
