"""help(), Jupyter's ? and editors show every argument of every class, with its default."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from hosts import all_classes

import sb3_ppo_variants
from sb3_ppo_variants import PPOPenalty, RecurrentPPOClip
from sb3_ppo_variants.extend import KLPenaltyMixin

ENTRY = re.compile(r"^:param (\w+): (.+?) \((required|default: .*)\)$")


def entries(cls: type[Any]) -> list[tuple[str, str, str]]:
    """Return name, text and default of every parameter that a class's docstring describes."""
    lines = re.sub(r"\n {4}", " ", inspect.getdoc(cls) or "").splitlines()
    found = [ENTRY.match(line) for line in lines if line.startswith(":param")]
    return [match.groups() for match in found if match]  # type: ignore[misc]  # three groups


@all_classes
def test_every_parameter_is_described_once_with_its_default(cls: type[Any]) -> None:
    parameters = list(inspect.signature(cls).parameters.values())
    expected = [(p.name, "required" if p.default is p.empty else f"default: {p.default!r}") for p in parameters]
    assert [(name, default) for name, _, default in entries(cls)] == expected
    assert (inspect.getdoc(cls) or "").count(":param ") == len(parameters)


@all_classes
def test_the_docstring_is_a_summary_and_a_list_of_fields(cls: type[Any]) -> None:
    """As Sphinx wants it: a blank line before the fields, their further lines indented, and no default said twice."""
    summary, fields = (inspect.getdoc(cls) or "").rsplit("\n\n", 1)
    assert summary and ":param" not in summary
    for line in fields.splitlines():
        assert re.match(r":param \w+: \S|:raises \w+: \S| {4}\S", line), line
        assert len(line) <= 100
    assert not re.search(r"\(default: [^()]*\)\s+\(default", fields)
    assert fields.count(":raises ValueError:") == fields.count(":raises TypeError:") == 1


def test_the_text_is_that_of_the_nearest_class_that_has_one() -> None:
    texts = {name: text for name, text, _ in entries(PPOPenalty)}
    assert texts["max_kl"].startswith('largest exact KL of an update, nats per state; ``"target"``')  # adaptive mixin's
    assert texts["target_kl"].startswith("set point")  # not the host's early stop
    assert texts["gamma"] == "Discount factor"  # the host's
    assert "use_sde" in {name for name, _, _ in entries(RecurrentPPOClip)}  # its base's


def test_a_subclass_has_its_own_summary_and_defaults() -> None:
    class Mine(PPOPenalty):
        """A penalty of mine.

        :param strength: of it, > 0
        :param gamma: of mine
        """

        def __init__(self, *args: Any, strength: float = 2.0, kl_tolerance: float = 2.5, **kwargs: Any) -> None:
            super().__init__(*args, kl_tolerance=kl_tolerance, **kwargs)

    class Heir(Mine):
        pass

    for cls in (Mine, Heir):
        assert (cls.__doc__ or "").startswith("A penalty of mine.\n\n:param policy: ")
        found = {name: (text, default) for name, text, default in entries(cls)}
        assert list(found) == list(inspect.signature(cls).parameters)
        assert found["strength"] == ("of it, > 0", "default: 2.0")
        assert found["gamma"] == ("of mine", "default: 0.99")
        assert found["kl_tolerance"][1] == "default: 2.5"
        assert (cls.__doc__ or "").count(":raises ValueError:") == 1


def test_a_mixin_keeps_the_docstring_that_was_written() -> None:
    assert (KLPenaltyMixin.__doc__ or "").count(":param ") == 8


def test_without_docstrings_nothing_is_generated() -> None:
    code = "from sb3_ppo_variants import PPOPenalty; print(PPOPenalty.__doc__, PPOPenalty.__name__)"
    package = Path(sb3_ppo_variants.__file__).parents[1]
    command = [sys.executable, "-OO", "-c", code]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None PPOPenalty\n"
