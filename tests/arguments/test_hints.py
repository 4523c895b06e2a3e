"""Hints about mistyped names: one wording, and one place."""

from pathlib import Path

import pytest

import sb3_ppo_variants
from sb3_ppo_variants.arguments.hints import did_you_mean


@pytest.mark.parametrize(
    ("name", "hint"),
    [("trian", "; did you mean 'train'?"), ("TRAIN", "; did you mean 'train'?"), ("xyz", ""), ("", "")],
)
def test_hint_names_the_closest_whatever_its_case(name: str, hint: str) -> None:
    assert did_you_mean(name, ["train", "enjoy"]) == hint


def test_hint_takes_other_quotes_and_says_something_else_where_nothing_is_close() -> None:
    assert did_you_mean("target_kll", ["target_kl"], "`") == "; did you mean `target_kl`?"
    assert did_you_mean("zzz", ["target_kl"], "`", "see help(PPO)") == "; see help(PPO)"


def test_no_other_module_looks_for_close_names() -> None:
    package = Path(sb3_ppo_variants.__file__).parent
    users = [path.name for path in package.rglob("*.py") if "difflib" in path.read_text()]
    assert users == ["hints.py"]
