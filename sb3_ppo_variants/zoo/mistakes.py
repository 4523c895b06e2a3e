"""A user's mistake as one line: rl-zoo3's commands would end with a traceback."""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn

import gymnasium as gym
import yaml

from sb3_ppo_variants.arguments.checks import InvalidArgumentError

SHOW_TRACEBACK = "SB3_PPO_VARIANTS_TRACEBACK"
"""Variable of the environment that keeps the traceback, to look for a mistake of the program."""

_MISTAKES = (
    *(ValueError, TypeError, AssertionError, NotImplementedError, NameError, KeyError, OSError, ImportError),
    *(AttributeError, SyntaxError, ZeroDivisionError, IndexError, RuntimeError),
    *(gym.error.Error, yaml.YAMLError),
)
_REFUSING = {
    *("gymnasium", "huggingface_sb3", "optuna", "rl_zoo3", "sb3_contrib", "stable_baselines3", "yaml"),
    *("importlib", "_frozen_importlib", "torch"),
}

_LOOKS_BEFORE_TRAINING = ("_init_callback", "_on_training_start")
"""Methods in which our callbacks refuse a model or a file: called by ``learn``, but before the first step."""

_WITH_GYM_PACKAGES = ("train", "enjoy", "evaluate")


def refuse(problem: str) -> NoReturn:
    """End the command with one line and status 2.

    :param problem: rule, value given, way out
    """
    print(f"error: {problem}", file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def one_line_errors(command: str = "") -> Iterator[None]:
    """End the command with one line where a package refuses what the user gave it, and with 130 after ctrl-c.

    An error keeps its traceback if it comes from the user's own code, such as an environment, or out of the middle of a
    training.

    :param command: its name, for the way out
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except _MISTAKES as error:
        if os.environ.get(SHOW_TRACEBACK) or not _is_refusal(error):
            raise
        refuse(" ".join(_with_way_out(error, command).split()))


def _text(error: BaseException) -> str:
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)  # a KeyError's is quoted


def _with_way_out(error: BaseException, command: str) -> str:
    """Return the library's text, with what to do where it does not say it."""
    text = _text(error)
    is_id = isinstance(error, KeyError) and re.fullmatch(r"\S+-v\d+", text) is not None
    if is_id or isinstance(error, (gym.error.NameNotFound, gym.error.NamespaceNotFound)):
        problem = f"{text} is not registered" if is_id else text.rstrip(".")
        if command in _WITH_GYM_PACKAGES:
            return f"{problem}; --gym-packages MODULE imports the module that registers it"
        return f"{problem}; a custom_envs.py in the working folder must register it"
    is_window = command == "enjoy" and isinstance(error, gym.error.DependencyNotInstalled) and "pygame" in text
    return f"{text}; enjoy does without a window with --no-render" if is_window else text


def _is_refusal(error: BaseException) -> bool:
    frames = list(_frames(error.__traceback__))
    ours = __package__.partition(".")[0]
    begun = any(package != "rl_zoo3" and function == "learn" for package, function in frames)
    in_training = begun and not any((ours, function) in frames for function in _LOOKS_BEFORE_TRAINING)
    while isinstance(error, OSError) and len(frames) > 1 and frames[-1][0] in {"os", "pathlib"}:
        frames.pop()  # it is the caller's file
    known = {ours, *_REFUSING}
    passed_through_others = {package for package, _ in frames} - known - sys.stdlib_module_names
    is_ours = isinstance(error, InvalidArgumentError)  # which a variant of the user's own passes on
    return bool(_text(error)) and not in_training and frames[-1][0] in known and (is_ours or not passed_through_others)


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, str]]:
    """Yield package and function of each frame, the innermost last."""
    for frame, _ in traceback.walk_tb(trace):
        spec = frame.f_globals.get("__spec__")  # of a script that is run as __main__ it knows the name
        name = spec.name if spec is not None else frame.f_globals.get("__name__", "")
        yield name.partition(".")[0], frame.f_code.co_name


__all__ = ["SHOW_TRACEBACK", "one_line_errors", "refuse"]
