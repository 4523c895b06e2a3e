"""Plain data gives the same settings back, and nothing but settings."""

import json
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn, optim

from sb3_ppo_variants.saving.plain_data import from_plain, to_plain

OF_OTHER_TYPE = spaces.Discrete(3)
OF_OTHER_TYPE.dtype = np.dtype(np.int32)
OF_OTHER_TYPE.n, OF_OTHER_TYPE.start = np.int32(3), np.int32(0)
SPACES = [
    spaces.Box(-1.0, 2.0, (3,), np.float32),
    spaces.Box(np.array([-1.0, -np.inf]), np.array([0.1, np.inf]), dtype=np.float64),
    spaces.Box(0, 255, (210, 160, 3), np.uint8),
    spaces.Box(0.0, 1.0, ()),
    spaces.Discrete(5),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[1, 0], [0, 1]])),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(-1.0, 1.0, (2,))}),
    spaces.Dict([("b", spaces.Discrete(2)), ("a", spaces.Box(-1.0, 1.0, (2,)))]),  # a list keeps its order
    OF_OTHER_TYPE,
]
CLASSES = [
    *(ActorCriticPolicy, RecurrentActorCriticPolicy, MaskableActorCriticPolicy, NatureCNN),
    *(nn.Tanh, nn.ReLU, nn.SiLU, optim.Adam, optim.RMSprop),
]


def through_json(value: Any) -> Any:
    return from_plain(json.loads(json.dumps(to_plain(value))))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_come_back(space: spaces.Space[Any]) -> None:
    back = through_json(space)
    assert back == space
    assert type(back) is type(space)
    assert getattr(back, "dtype", None) == getattr(space, "dtype", None)
    if isinstance(space, spaces.Dict):  # the order is that of the features, and does not count for equality
        assert list(back.spaces) == list(space.spaces)
    if isinstance(space, spaces.Discrete):
        assert type(back.sample()) is type(space.sample())


def test_the_bounds_of_an_image_are_two_numbers() -> None:
    assert to_plain(SPACES[2]) == {"Box": [0, 255, [210, 160, 3], "uint8"]}


@given(
    bounds=st.lists(
        st.tuples(st.floats(-(2.0**90), 2.0**90, width=32), st.floats(0, 2.0**90, width=32)), min_size=1, max_size=4
    )
)
def test_bounds_come_back_to_the_last_bit(bounds: list[tuple[float, float]]) -> None:
    low = np.array([low for low, _ in bounds], np.float32)
    high = low + np.array([width for _, width in bounds], np.float32)
    back = through_json(spaces.Box(low, high, dtype=np.float32))
    np.testing.assert_array_equal(back.low, low)
    np.testing.assert_array_equal(back.high, high)


@pytest.mark.parametrize("cls", CLASSES)
def test_known_classes_come_back(cls: type) -> None:
    assert through_json(cls) is cls


@pytest.mark.parametrize("progress", [1.0, 0.7, 0.0])
def test_schedules_come_back(progress: float) -> None:
    line = LinearSchedule(3e-4, 1e-5, 0.5)
    for schedule in (FloatSchedule(0.2), ConstantSchedule(0.1), line, FloatSchedule(line)):
        assert through_json(schedule)(progress) == schedule(progress)


def test_the_zoo_s_linear_schedule_comes_back_as_a_line_to_zero() -> None:
    class SimpleLinearSchedule:  # rl_zoo3.utils has it; importing that would patch Gymnasium
        initial_value = 0.4

    SimpleLinearSchedule.__qualname__ = "SimpleLinearSchedule"
    schedule = FloatSchedule(lambda_or(SimpleLinearSchedule()))
    with pytest.raises(TypeError, match=r"SimpleLinearSchedule has no plain form"):  # one of somebody's own
        to_plain(schedule)
    SimpleLinearSchedule.__module__ = "rl_zoo3.utils"
    assert through_json(schedule)(0.25) == pytest.approx(0.1)


def lambda_or(schedule: Any) -> Any:
    """Make an instance callable, as FloatSchedule asks."""
    type(schedule).__call__ = lambda self, progress: progress * self.initial_value
    return schedule


def test_nested_settings_come_back() -> None:
    settings = {"net_arch": {"pi": [8], "vf": []}, "activation_fn": nn.ReLU, "betas": (0.9, 0.999), "none": None}
    assert through_json(settings) == settings


@pytest.mark.parametrize(
    "value", [object(), print, lambda x: x, Exception, type("Linear", (), {}), {1: 2}, np.zeros(2), spaces.Text(3)]
)
def test_anything_else_has_no_plain_form(value: Any) -> None:
    with pytest.raises(TypeError):
        to_plain(value)


def test_a_class_that_borrows_a_known_name_has_no_plain_form() -> None:
    class Discrete(spaces.Discrete):
        pass

    with pytest.raises(TypeError, match="no plain form"):
        to_plain(Discrete(2))


@pytest.mark.parametrize(
    "plain",
    [
        {"class": "os.system"},
        {"class": "builtins.eval"},
        {"class": ["torch.nn.modules.activation.ReLU"]},
        {"Discrete": "many"},
        {"Discrete": [0, 0]},
        {"Box": [0, 1]},
        {"Box": [0, 1, [2], "no such type"]},
        {"MultiBinary": None},
        {"Dict": [["a", {"Unknown": 1}]]},
        {"FloatSchedule": {"class": "torch.nn.modules.activation.ReLU"}},
        {"Discrete": [2, 0], "Box": [0, 1, [1], "float32"]},
        {},
    ],
    ids=str,
)
def test_what_describes_nothing_known_is_refused(plain: Any) -> None:
    with pytest.raises(ValueError, match="not "):
        from_plain(plain)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["Box", "Discrete", "class", "dict", "tuple", "Dict", "x"]), inner, max_size=2
            )
        ),
        max_leaves=6,
    )
)
def test_no_plain_data_does_more_than_be_refused(plain: Any) -> None:
    try:
        from_plain(plain)
    except ValueError:
        pass
