"""The arms of a comparison: an algorithm under a label, with changed hyperparameters if wanted."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sb3_ppo_variants.compare.cells import RANDOM_POLICY

_YAML_WORDS = {"true": True, "false": False, "null": None}
"""Without on and off, which YAML takes for the same: "off" is a value of ``acceleration``."""


@dataclass(frozen=True)
class Arm:
    """An algorithm as it is compared.

    :param label: its name in the report and in file names
    :param algo: its name in rl-zoo3
    :param overrides: hyperparameters that replace those of the YAML file
    :param conf_file: YAML file in place of rl-zoo3's or ours; None for those
    """

    label: str
    algo: str
    overrides: dict[str, Any] = field(default_factory=dict)
    conf_file: str | None = None


def parse_arms(algos: Sequence[str], params: Sequence[str] = (), conf_files: Sequence[str] = ()) -> list[Arm]:
    """Read the arms from the command line.

    :param algos: ``ALGO`` or ``LABEL=ALGO`` each
    :param params: ``LABEL:KEY:VALUE`` each, with a Python literal or a string as value
    :param conf_files: ``LABEL:FILE``, or ``FILE`` for all arms
    :raises ValueError: for a label that is no file name or unknown, ``n_timesteps`` of one arm, or what is given twice
    """
    labels: dict[str, str] = {}
    for text in algos:
        label, _, algo = text.rpartition("=")
        label = label or algo
        if not re.fullmatch(r"\w[\w.+-]*", label) or label == RANDOM_POLICY:
            raise ValueError(
                f"a label must consist of letters, digits and _ . + -, and begin with one of the first three; "
                f"got {label!r} in {text!r}; write LABEL=ALGO with another label"
            )
        if label.casefold() in map(str.casefold, labels):  # a disk may not tell them apart
            raise ValueError(f"{label!r} is given twice; name one of them, as in again={algo}")
        labels[label] = algo
    overrides = _read_params(params, labels)
    files = _read_conf_files(conf_files, labels)
    return [Arm(label, algo, overrides[label], files.get(label)) for label, algo in labels.items()]


def _read_params(params: Sequence[str], labels: dict[str, str]) -> dict[str, dict[str, Any]]:
    overrides: dict[str, dict[str, Any]] = {label: {} for label in labels}
    for text in params:
        label, key, value = [*text.split(":", 2), "", ""][:3]
        if label not in labels or not key or not value:
            raise ValueError(f"-params takes LABEL:KEY:VALUE with a label out of {', '.join(labels)}; got {text!r}")
        if key == "n_timesteps":
            raise ValueError(f"-params {text}: all get the same number of steps; give it as --n-timesteps")
        if key in overrides[label]:
            raise ValueError(f"-params {text}: {key} of {label} is given twice; leave out one of the two")
        overrides[label][key] = read_literal(value)
    return overrides


def read_literal(text: str) -> Any:
    """Read a hyperparameter as YAML would give it: a Python literal, one of YAML's words, or else a string.

    :param text: from the command line
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return _YAML_WORDS.get(text.lower(), text)  # text such as lin_0.001, or dict(...) for rl-zoo3
    return list(value) if isinstance(value, tuple) else value  # as YAML would give it


def _read_conf_files(conf_files: Sequence[str], labels: dict[str, str]) -> dict[str, str]:
    files: dict[str, str] = {}
    of_all: dict[str, str] = {}
    for text in conf_files:
        label, _, path = text.partition(":")
        of_one = label in labels and bool(path)
        target, key = (files, label) if of_one else (of_all, "")
        if key in target:
            raise ValueError(f"--conf-file {text}: {label if of_one else 'all arms'} have {target[key]} already")
        target[key] = path if of_one else text
    return {**(dict.fromkeys(labels, of_all[""]) if of_all else {}), **files}


__all__ = ["Arm", "parse_arms", "read_literal"]
