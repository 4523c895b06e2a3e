"""Hyperparameter files and what they hold: which file serves an environment, which keys it may have, schedules."""

import inspect
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import rl_zoo3
import yaml
from rl_zoo3.utils import ALGOS, SimpleLinearSchedule

from sb3_ppo_variants.algorithms.ppo_penalty import KLPenaltyMixin
from sb3_ppo_variants.arguments.hints import did_you_mean
from sb3_ppo_variants.zoo import ADDED, ALGORITHMS, has_clip_range, host_name, is_maskable

SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf", "ent_coef", "vf_coef", "target_kl", "clip_range_upper")
"""What may be a schedule in our classes."""

_ZOO_KEYS = (
    "callback",
    "env_kwargs",
    "env_wrapper",
    "frame_stack",
    "monitor_kwargs",
    "n_envs",
    "n_timesteps",
    "normalize",
    "vec_env_wrapper",
)
_FROM_COMMAND_LINE = ("env", "device", "seed", "tensorboard_log", "verbose", "_init_setup_model")


class Source(NamedTuple):
    """The file that serves an environment, and the keys of its entry that the algorithm does not take, with reasons."""

    path: Path
    is_fallback: bool
    dropped: dict[str, str]


def hyperparams_folder() -> Path:
    """Return the folder with one YAML file per algorithm: in the installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "hyperparams"
    return installed if installed.is_dir() else package.parent / "hyperparams"


def find_source(algo: str, env_id: str, is_atari: bool) -> Source:
    """Choose our file for an environment that it lists, and the zoo's file of the host for any other.

    :param algo: one of ours
    :param env_id: of the environment
    :param is_atari: whether an entry ``atari`` serves it
    """
    ours = ADDED[algo] if algo in ADDED else hyperparams_folder() / f"{algo}.yml"
    entries = (yaml.safe_load(ours.read_text()) if ours is not None else None) or {}
    serving = {env_id, "atari" if is_atari else "default"}  # as the zoo reads a file; none of ours has a default
    if ours is not None and serving & entries.keys():
        return Source(ours, is_fallback=False, dropped={})
    zoo = Path(rl_zoo3.__file__).parent / "hyperparams" / f"{host_name(algo)}.yml"
    dropped = {}
    if not has_clip_range(algo):
        by_penalty = issubclass(ALGORITHMS[algo], KLPenaltyMixin)
        reason = "the KL penalty holds the policy back" if by_penalty else f"{algo} does not clip by default"
        dropped["clip_range"] = reason
    if is_maskable(algo):
        dropped |= dict.fromkeys(("use_sde", "sde_sample_freq"), "MaskablePPO has discrete actions only")
    return Source(zoo, is_fallback=True, dropped=dropped)


def check_keys(algo: str, keys: Iterable[str], where: str) -> None:
    """Refuse a key that is neither an argument of the algorithm nor one of the zoo's.

    :param algo: any that the zoo knows
    :param keys: of an entry
    :param where: file and environment, for the message
    :raises ValueError: naming where, the key, and the algorithms that have it or the closest known key
    """
    known = {*_arguments(ALGOS[algo]), *_ZOO_KEYS}
    known |= {"noise_type", "noise_std"} if "action_noise" in known else set()  # of which the zoo makes it
    for key in keys:
        if key in known:
            continue
        if key == "_init_setup_model":
            hint = "; a model is always set up"
        elif key in _FROM_COMMAND_LINE:
            hint = f"; the command line sets it: --{key.replace('_', '-')}"
        elif owners := [name for name, cls in ALGOS.items() if key in _arguments(cls)]:
            hint = f"; it is an argument of {', '.join(owners)}"
        else:
            hint = did_you_mean(key, known, "`", f"known are {', '.join(sorted(known))}")
        raise ValueError(f"{where}: `{key}` is not an argument of {algo}{hint}")


def check_counts(hyperparams: Mapping[str, Any], given: Iterable[str], where: str) -> None:
    """Refuse an entry of any algorithm on whose counts the zoo would fail without naming them.

    :param hyperparams: of the entry, with those of the command line
    :param given: names of the latter
    :param where: file and environment, for the message
    :raises ValueError: if `n_timesteps` is missing or no number, or a count is less than 1
    """
    if "n_timesteps" not in hyperparams:
        raise ValueError(f"{where}: `n_timesteps` is missing; the entry must have it, although -n goes before it")
    places = dict.fromkeys(given, "-params")
    steps = hyperparams["n_timesteps"]
    place = places.get("n_timesteps", where)
    try:
        whole = int(steps)  # as the zoo does
    except (TypeError, ValueError, OverflowError):
        ways_out = "YAML takes 1e6 for text: write 1000000 or !!float 1e6"
        raise ValueError(f"{place}: `n_timesteps` must be a number, got {steps!r}; {ways_out}") from None
    if whole < 1:
        raise ValueError(f"{place}: `n_timesteps` must be >= 1, got {steps!r}")
    for key in ("n_envs", "frame_stack"):
        count = hyperparams.get(key, 1)
        if key == "frame_stack" and count is None:  # none are stacked
            continue
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{places.get(key, where)}: `{key}` must be a whole number >= 1, got {count!r}")


def recurrent_policy(algo: str, policy: Any) -> Any:
    """Return the LSTM policy where an entry for another host names the one without, and say so.

    :param algo: one of ours on the recurrent host
    :param policy: name of the policy, or what an entry has in its place
    """
    aliases = ALGORITHMS[algo].policy_aliases
    lstm = str(policy).replace("Policy", "LstmPolicy")
    if policy in aliases or lstm not in aliases:
        return policy
    print(f"{algo} takes {lstm} for the entry's {policy}")
    return lstm


def our_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """Return schedules, as the zoo makes them of text.

    The zoo knows three keys, takes any word for ``lin``, and fails without a name otherwise. It makes schedules of
    numbers, too, which stay numbers here: our classes refuse one outside its range, and cannot look into a schedule.

    :param hyperparams: of an entry
    :raises ValueError: for a malformed schedule, naming key and value
    """
    ours: dict[str, Any] = {}
    # Any argument of an added algorithm may be a schedule, which is its own affair
    added = [key for key, value in hyperparams.items() if isinstance(value, str) and value.startswith("lin_")]
    for key in dict.fromkeys((*SCHEDULES, *added)):
        value = hyperparams.get(key, 0.0)
        if isinstance(value, str):
            ours[key] = _schedule(key, value)
        elif callable(value):  # config.yml could not hold it
            raise ValueError(f"`{key}` must be a number or text such as 'lin_0.01' in an entry, got {value!r}")
    return ours


def _schedule(key: str, value: str) -> SimpleLinearSchedule:
    match = re.fullmatch(r"lin_(.+)", value)
    try:
        schedule = SimpleLinearSchedule(match[1] if match else "")
    except ValueError:
        raise ValueError(
            f"`{key}` must be a number or a schedule such as 'lin_0.01' (linear, from 0.01 to 0), got {value!r}; "
            "YAML takes 1e-3 for text: write 0.001 or !!float 1e-3"
        ) from None
    start = schedule(1.0)
    if not math.isfinite(start) or (start < 0 and key in SCHEDULES and key != "ent_coef"):
        raise ValueError(f"`{key}` must begin with a finite number that is not negative, got {value!r}")
    return schedule


def _arguments(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name not in _FROM_COMMAND_LINE]


__all__ = [
    "Source",
    "check_counts",
    "check_keys",
    "find_source",
    "hyperparams_folder",
    "our_schedules",
    "recurrent_policy",
]
