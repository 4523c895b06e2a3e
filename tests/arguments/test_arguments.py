"""Constructor arguments: the merged signature, and every line of bad input refused before a network is built."""

import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hosts import build
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_ppo_variants import PPOAdaptiveClip, PPOAdaptiveLR, PPOClip, PPOPenalty
from sb3_ppo_variants.extend import KLPenaltyMixin

Variant = type[PPOClip] | type[PPOPenalty] | type[PPOAdaptiveClip]
CLIP: tuple[Variant, ...] = (PPOClip,)
PENALTY: tuple[Variant, ...] = (PPOPenalty,)
ADAPTIVE_CLIP: tuple[Variant, ...] = (PPOAdaptiveClip,)
ADAPTIVE = PENALTY + ADAPTIVE_CLIP
ALL = CLIP + ADAPTIVE
every_variant = pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)


def make(cls: Variant, env: Any = "CartPole-v1", **kwargs: Any) -> Any:
    """Make a tiny model."""
    tiny = {"n_steps": 8, "batch_size": 4, "n_epochs": 1, "device": "cpu", "policy_kwargs": {"net_arch": [4]}}
    return cls("MlpPolicy", env, **{**tiny, **kwargs})


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> list[ActorCriticPolicy]:
    """Every policy whose construction was begun during the test."""
    begun: list[ActorCriticPolicy] = []
    construct = ActorCriticPolicy.__init__

    def record(self: ActorCriticPolicy, *args: Any, **kwargs: Any) -> None:
        begun.append(self)
        construct(self, *args, **kwargs)

    monkeypatch.setattr(ActorCriticPolicy, "__init__", record)
    return begun


# --------------------------------------------------------------------------------------------------- bad values

NAN = math.nan
BAD_BOUNDS = [(10.0, 0.1), (-1.0, 1.0), (-2.0, -1.0), (NAN, 1.0), (0.1, NAN), (0.1,), (0.1, 1.0, 2.0), 0.5, None]
BAD_VALUES: list[tuple[tuple[Variant, ...], str, list[Any], dict[str, Any]]] = [
    (ADAPTIVE, "target_kl", [0, 0.0, -0.1, NAN, None, "0.01", True], {}),
    (CLIP, "target_kl", [0, 0.0, -0.1, NAN, "0.01"], {}),
    (PENALTY, "initial_beta", [-1.0, NAN, None, "1"], {}),
    (PENALTY, "initial_beta", [-1.0, NAN, math.inf, None], {"adaptive_beta": False}),
    (PENALTY, "initial_beta", [0, 0.0, 0.09, 10.1, math.inf], {"beta_bounds": (0.1, 10.0)}),
    (PENALTY, "hinge_coef", [-1.0, NAN], {}),
    (PENALTY, "ratio_cap", [1, 1.0, 0.5, -3.0, NAN, math.inf, "2"], {}),
    (ADAPTIVE, "kl_tolerance", [1, 1.0, 0.5, 0.0, -2.0, NAN, None, "1.5"], {}),
    (ADAPTIVE, "adaptation_factor", [1, 1.0, 0.5, 0.0, -2.0, NAN, math.inf, None], {}),
    (PENALTY, "beta_bounds", BAD_BOUNDS, {}),
    (ADAPTIVE_CLIP, "clip_range_bounds", BAD_BOUNDS, {}),
    (ALL, "clip_range", [0, 0.0, -0.2, NAN, "0.2"], {}),
    (ADAPTIVE_CLIP, "clip_range", [None], {}),
    (ADAPTIVE_CLIP, "clip_range", [0.09, 0.51], {"clip_range_bounds": (0.1, 0.5)}),
    (ALL, "clip_range_vf", [0, 0.0, -0.2, NAN], {}),
    (CLIP, "clip_range_upper", [0, 0.0, -0.3, NAN], {}),
    (CLIP, "dual_clip", [1, 1.0, 0.5, -3.0, NAN, "3"], {}),
    (ALL, "max_kl", [0, 0.0, -0.01, NAN, "tight"], {}),
    (ALL, "n_epochs", [0, -1, 2.5], {}),
    (ALL, "value_clipping", ["ppo2", "", None, True], {}),
    (ALL, "value_clip_scale", ["relative", None], {}),
    (ALL, "value_loss", ["l1", None], {}),
    (ALL, "normalize_advantage", ["batch", "True", None, 1], {}),
    (ALL, "acceleration", ["warp", None], {}),
    (ADAPTIVE, "adapt_after", ["minibatch", None], {}),
    (PENALTY, "kl_direction", ["backward", None], {}),
    (ALL, "batch_size", [1, 0, -1], {}),
    (ALL, "batch_size", [1], {"normalize_advantage": "rollout"}),
]
BAD_CASES = [
    pytest.param(
        cls,
        name,
        value,
        others,
        id="-".join([cls.__name__, name, repr(value), *others]),
    )
    for classes, name, values, others in BAD_VALUES
    for cls in classes
    for value in values
]


@pytest.mark.parametrize(("cls", "name", "value", "others"), BAD_CASES)
def test_bad_value_is_refused_before_networks_are_built(
    cls: Variant, name: str, value: Any, others: dict[str, Any], networks: list[ActorCriticPolicy]
) -> None:
    with pytest.raises(ValueError, match=f"`{name}`") as error:
        make(cls, **{name: value}, **others)
    # rule naming the argument, the value given, a way out
    assert re.fullmatch(rf"`{name}` must .+, got {re.escape(repr(value))}; .+", str(error.value))
    assert networks == []


@every_variant
@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("value_clipping", ["pessimistic", "sb3"]),
        ("value_clip_scale", ["absolute", "return_std"]),
        ("value_loss", ["mse", "huber"]),
        ("normalize_advantage", ["True", "False", "rollout"]),
        ("acceleration", ["off"]),
    ],
)
def test_unknown_choice_is_answered_with_the_known_ones(cls: Variant, name: str, choices: list[str]) -> None:
    with pytest.raises(ValueError, match=f"`{name}`") as error:
        make(cls, **{name: "nonsense"})
    for choice in choices:
        assert choice in str(error.value)


GOOD_CASES: list[tuple[tuple[Variant, ...], dict[str, Any]]] = [
    (ALL, {}),
    (ALL, {"batch_size": 1, "normalize_advantage": False}),
    (ALL, {"normalize_advantage": "rollout", "value_clip_scale": "return_std", "clip_range_vf": 1}),
    (ALL, {"value_clipping": "sb3", "value_loss": "huber", "max_kl": 0.02, "clip_range": 0.3}),
    (ALL, {"clip_range": lambda progress: 0.2 * progress, "ent_coef": lambda progress: 0.01 * progress}),
    (ALL, {"normalize_advantage": np.bool_(True), "gamma": np.float32(0.9)}),
    (CLIP, {"target_kl": None, "clip_range_upper": 0.3, "dual_clip": 3}),
    (ADAPTIVE, {"kl_tolerance": math.inf, "adapt_after": "epoch"}),
    (ADAPTIVE, {"adapt_after": "update", "adaptation_factor": 3}),
    (PENALTY, {"adaptive_beta": False, "initial_beta": 0}),
    (PENALTY, {"adaptive_beta": False, "initial_beta": 1e6, "beta_bounds": (0.1, 10.0)}),
    (
        PENALTY,
        {"initial_beta": 10.0, "beta_bounds": (0.1, 10.0), "kl_direction": "reverse", "hinge_coef": 50, "ratio_cap": 2},
    ),
    (PENALTY, {"clip_range": None}),
    (ADAPTIVE_CLIP, {"clip_range": 0.1, "clip_range_bounds": [0.1, 0.1]}),
]


@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        pytest.param(cls, kwargs, id="-".join([cls.__name__, *kwargs]))
        for classes, kwargs in GOOD_CASES
        for cls in classes
    ],
)
def test_good_values_at_the_edge_of_the_rules_build_one_network(
    cls: Variant, kwargs: dict[str, Any], networks: list[ActorCriticPolicy]
) -> None:
    make(cls, **kwargs)
    assert len(networks) == 1


def test_values_of_numpys_become_pythons() -> None:
    assert make(PPOClip, normalize_advantage=np.bool_(False)).normalize_advantage is False
    model = make(PPOClip, learning_rate=np.float32(0.5), clip_range=np.float32(0.25), clip_range_vf=np.int64(2))
    assert (model.lr_schedule(1), model.clip_range(1), model.clip_range_vf(1)) == (0.5, 0.25, 2.0)


@pytest.mark.parametrize("value", ["False", None, 1.5, math.nan, []])
def test_whether_beta_adapts_is_true_or_false(value: Any) -> None:
    with pytest.raises(ValueError, match="`adaptive_beta` must be one of True, False"):
        make(PPOPenalty, adaptive_beta=value)
    assert make(PPOPenalty, adaptive_beta=np.bool_(False)).adaptive_beta is False


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "x", None])
@pytest.mark.parametrize(
    ("cls", "name"), [(PPOPenalty, "beta"), (PPOAdaptiveClip, "clip_scale"), (PPOAdaptiveLR, "lr_scale")]
)
def test_a_coefficient_that_no_update_could_have_made_is_refused(cls: Variant, name: str, value: Any) -> None:
    model = make(cls)
    setattr(model, name, value)
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number >= 0, got "):
        model.learn(10)
    assert model.num_timesteps == 0


@pytest.mark.parametrize("name", ["learning_rate", "clip_range", "clip_range_vf", "ent_coef", "vf_coef", "target_kl"])
def test_a_schedule_of_two_arguments_is_refused(name: str, networks: list[ActorCriticPolicy]) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be a number, or a schedule with one argument"):
        make(PPOAdaptiveClip, **{name: lambda a, b: 0.1})
    assert networks == []
    make(PPOAdaptiveClip, **{name: lambda a, b=1: 0.1})


def test_load_with_a_bad_value_is_refused(tmp_path: Path) -> None:
    make(PPOPenalty).save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"`target_kl` must be > 0, got -0\.1"):
        PPOPenalty.load(tmp_path / "model.zip", target_kl=-0.1, device="cpu")


# ------------------------------------------------------------------------------------------------- action spaces


class EnvOf(gym.Env[Any, Any]):
    """An environment with any action space; it is never stepped."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))

    def __init__(self, action_space: spaces.Space[Any]):
        self.action_space = action_space


@every_variant
@pytest.mark.parametrize(
    "space",
    [
        spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))),
        spaces.Dict(first=spaces.Discrete(2), second=spaces.Box(-1, 1, (2,))),
        spaces.Text(4),
        spaces.MultiBinary([2, 3]),
        spaces.MultiDiscrete([[2, 3], [4, 2]]),
    ],
    ids=lambda space: re.sub(r"\s+", " ", str(space)),
)
def test_unsupported_action_space_is_refused_before_networks_are_built(
    cls: Variant, space: spaces.Space[Any], networks: list[ActorCriticPolicy]
) -> None:
    with pytest.raises(AssertionError, match=r"action.space") as error:  # the host's own, or ours, which is both
        make(cls, EnvOf(space))
    assert str(space) in str(error.value)
    assert networks == []


@every_variant
def test_unbounded_action_space_is_refused_before_networks_are_built(
    cls: Variant, networks: list[ActorCriticPolicy]
) -> None:
    with pytest.raises(AssertionError, match="finite lower and upper bound"):
        make(cls, EnvOf(spaces.Box(-np.inf, np.inf, (2,))))
    assert networks == []


# ------------------------------------------------------------------------------------------------------ keywords


@pytest.mark.parametrize(
    ("cls", "name", "meant"),
    [
        (PPOClip, "clip_rnge", "clip_range"),  # the host's
        (PPOClip, "dual_clipping", "dual_clip"),  # the variant's
        (PPOPenalty, "initial_bta", "initial_beta"),
        (PPOPenalty, "target_KL", "target_kl"),
        (PPOPenalty, "kl_tol", "kl_tolerance"),  # of a mixin further up
        (PPOAdaptiveClip, "clip_range_bound", "clip_range_bounds"),
        (PPOAdaptiveClip, "n_step", "n_steps"),
    ],
)
def test_unknown_keyword_is_refused_with_the_closest_match(
    cls: Variant, name: str, meant: str, networks: list[ActorCriticPolicy]
) -> None:
    with pytest.raises(TypeError, match=f"{cls.__name__}.*`{name}`.*did you mean `{meant}`"):
        make(cls, **{name: 0.1})
    assert networks == []


@every_variant
def test_unknown_keyword_without_a_match_points_to_help(cls: Variant, networks: list[ActorCriticPolicy]) -> None:
    with pytest.raises(TypeError, match=rf"`xyzzy`.*help\({cls.__name__}\)"):
        make(cls, xyzzy=1)
    assert networks == []


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (PPOClip, "initial_beta"),
        (PPOClip, "kl_tolerance"),
        (PPOClip, "kl_direction"),
        (PPOPenalty, "dual_clip"),
        (PPOPenalty, "clip_range_bounds"),
        (PPOAdaptiveClip, "beta_bounds"),
        (PPOAdaptiveClip, "clip_range_upper"),
    ],
)
def test_argument_of_another_variant_is_refused(cls: Variant, name: str, networks: list[ActorCriticPolicy]) -> None:
    with pytest.raises(TypeError, match=f"unknown argument `{name}`"):
        make(cls, **{name: 2.0})
    assert networks == []


def test_argument_given_twice_is_refused() -> None:
    with pytest.raises(TypeError, match="two values for `learning_rate`"):
        PPOClip("MlpPolicy", "CartPole-v1", 1e-3, learning_rate=1e-4)


def test_too_many_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"at most \d+ positional arguments, got 60"):
        PPOPenalty(*["MlpPolicy", "CartPole-v1", *[None] * 58])


# ----------------------------------------------------------------------------------------------------- signature


@every_variant
def test_positional_host_arguments_keep_their_order(cls: Variant) -> None:
    model = cls("MlpPolicy", "Pendulum-v1", 1e-3, 32, 16, 3, 0.9, 0.8, 0.3, 5.0, False, 0.01, 0.25, 0.7, device="cpu")
    assert model.learning_rate == 1e-3
    assert (model.n_steps, model.batch_size, model.n_epochs) == (32, 16, 3)
    assert (model.gamma, model.gae_lambda) == (0.9, 0.8)
    assert (model.clip_range(1.0), model.clip_range_vf(1.0)) == (0.3, 5.0)
    assert model.normalize_advantage is False
    assert (model.ent_coef, model.vf_coef, model.max_grad_norm) == (0.01, 0.25, 0.7)


DEFAULTS_CHANGED: dict[Variant, dict[str, Any]] = {
    PPOClip: {},
    PPOPenalty: {"target_kl": 0.02, "clip_range": None},
    PPOAdaptiveClip: {"target_kl": 0.02},
}


@every_variant
def test_signature_begins_with_the_hosts_in_order(cls: Variant) -> None:
    host = {name: p for name, p in inspect.signature(PPO).parameters.items() if name != "_init_setup_model"}
    own = inspect.signature(cls).parameters
    assert list(own)[: len(host)] == list(host)
    for name, parameter in host.items():
        assert own[name].kind is parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert own[name].default == DEFAULTS_CHANGED[cls].get(name, parameter.default)


SHARED = {"value_clipping": "pessimistic", "value_clip_scale": "absolute", "value_loss": "mse"}
ADAPTIVE_EXTRAS = {"kl_tolerance": 1.5}
EXTRAS: dict[Variant, dict[str, Any]] = {
    PPOClip: {**SHARED, "clip_range_upper": None, "dual_clip": None},
    PPOPenalty: {
        **SHARED,
        **ADAPTIVE_EXTRAS,
        "initial_beta": 1.0,
        "adaptive_beta": True,
        "adaptation_factor": 1.3,
        "kl_direction": "reverse",
        "hinge_coef": 0.0,
        "ratio_cap": None,
    },
    PPOAdaptiveClip: {**SHARED, **ADAPTIVE_EXTRAS, "adaptation_factor": 1.3},
}
WITH_OPEN_DEFAULT: dict[Variant, set[str]] = {
    PPOClip: {"max_kl", "acceleration"},
    PPOPenalty: {"max_kl", "acceleration", "adapt_after", "beta_bounds"},
    PPOAdaptiveClip: {"max_kl", "acceleration", "adapt_after", "clip_range_bounds"},
}


def test_signature_shows_the_default_that_is_nearest_to_the_class() -> None:
    class Mine(KLPenaltyMixin):
        def __init__(self, *args: Any, target_kl: float = 0.5, **kwargs: Any) -> None:
            super().__init__(*args, target_kl=target_kl, **kwargs)

    class MyPPO(Mine, PPO):
        pass

    assert inspect.signature(MyPPO).parameters["target_kl"].default == build(MyPPO).target_kl == 0.5


def test_signature_of_a_subclass_in_sb3_s_own_style_has_its_parameters_and_defaults() -> None:
    class MyPPO(PPOPenalty):
        def __init__(self, policy: Any, env: Any, n_steps: int = 128, my_coef: float = 0.1, **kwargs: Any) -> None:
            self.my_coef = my_coef
            super().__init__(policy, env, n_steps=n_steps, **kwargs)

    found = inspect.signature(MyPPO).parameters
    assert [*found][:8] == [*inspect.signature(PPO).parameters][:8]
    assert found["n_steps"].default == MyPPO("MlpPolicy", "CartPole-v1", device="cpu").n_steps == 128
    assert (found["my_coef"].kind, found["my_coef"].default) == (inspect.Parameter.KEYWORD_ONLY, 0.1)
    assert "my_coef" in (MyPPO.__doc__ or "")


@every_variant
def test_signature_ends_with_keyword_only_extras(cls: Variant) -> None:
    host = inspect.signature(PPO).parameters
    extras = {name: p for name, p in inspect.signature(cls).parameters.items() if name not in host}
    assert extras.keys() >= EXTRAS[cls].keys() | WITH_OPEN_DEFAULT[cls]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in extras.values())
    for name, default in EXTRAS[cls].items():
        assert extras[name].default == default


@every_variant
def test_signature_is_what_the_constructor_takes(cls: Variant, networks: list[ActorCriticPolicy]) -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in inspect.signature(cls).parameters.values())
    model = cls("MlpPolicy", "CartPole-v1", **{**defaults, "device": "cpu"})
    assert len(networks) == 1
    untouched = {"value_clipping", "value_loss", "n_epochs", "target_kl", "max_kl", *EXTRAS[cls]}
    assert {name: getattr(model, name) for name in untouched} == {name: defaults[name] for name in untouched}


def test_a_subclass_may_redeclare_arguments_of_the_host() -> None:
    class Mixin(KLPenaltyMixin):
        def __init__(self, *args: Any, gamma: float = 0.9, **kwargs: Any) -> None:
            super().__init__(*args, gamma=gamma, **kwargs)

    class Mine(Mixin, PPO):
        def __init__(self, *args: Any, policy: Any = "MlpPolicy", n_steps: int, beta_0: float = 2, **kwargs: Any):
            super().__init__(policy, *args, n_steps=n_steps, initial_beta=beta_0, **kwargs)

    found = inspect.signature(Mine).parameters
    assert [*found][:8] == [*inspect.signature(PPO).parameters][:8]
    assert (found["gamma"].default, found["n_steps"].default) == (0.9, 2048)  # an order without gaps needs the host's
    assert found["policy"].default is inspect.Parameter.empty
    assert (found["beta_0"].kind, found["beta_0"].default) == (inspect.Parameter.KEYWORD_ONLY, 2)
    model = Mine(env="CartPole-v1", n_steps=128, device="cpu")
    assert (model.n_steps, model.gamma, model.beta) == (128, 0.9, 2.0)


def test_defaults_of_the_variant_yield_to_what_is_given() -> None:
    assert make(PPOPenalty).target_kl == 0.02
    assert make(PPOPenalty).clip_range(1.0) == math.inf
    model = make(PPOPenalty, target_kl=0.05, clip_range=0.3)
    assert model.target_kl == 0.05
    assert model.clip_range(1.0) == 0.3


# ----------------------------------------------------------------------------------------------------- schedules

NEGATIVE_SCHEDULES = [
    *((cls, name) for cls in ALL for name in ("clip_range", "clip_range_vf", "vf_coef")),
    (PPOClip, "clip_range_upper"),
    (PPOPenalty, "target_kl"),
    (PPOAdaptiveClip, "target_kl"),
]


@pytest.mark.parametrize(("cls", "name"), NEGATIVE_SCHEDULES)
@pytest.mark.parametrize("bad", [-0.25, NAN])
def test_negative_schedule_value_is_refused_when_first_used(cls: Variant, name: str, bad: float) -> None:
    model = make(cls, **{name: lambda progress: bad})
    with pytest.raises(ValueError, match=rf"`{name}` must be .*>= 0.*{bad}.*change its schedule"):
        model.learn(8)


def test_schedule_that_turns_negative_is_refused_at_that_update() -> None:
    falling: Callable[[float], float] = lambda progress: progress - 0.5  # noqa: E731  # 0.25, 0, then -0.25
    model = make(PPOClip, clip_range=falling)
    with pytest.raises(ValueError, match=r"-0\.25 at progress_remaining = 0\.250"):
        model.learn(32)
    assert model.num_timesteps == 24


@every_variant
def test_schedule_of_the_entropy_coefficient_may_be_negative(cls: Variant) -> None:
    model = make(cls, ent_coef=lambda progress: -0.01)
    model.learn(8)
    assert model.last_update is not None
    assert np.isfinite(model.last_update.column("loss")).all()


# ------------------------------------------------------------------------------------------ changed between trainings


@pytest.mark.parametrize(
    ("cls", "name", "value", "rule"),
    [
        (PPOPenalty, "target_kl", None, "`target_kl` must be > 0, got None; it is the KL"),
        (PPOClip, "max_kl", "target", "`max_kl` must be > 0, got 'target'; pass None"),
        (PPOPenalty, "max_kl", -1, "`max_kl` must be > 0, got -1; pass 'target' or None"),
        (PPOClip, "batch_size", None, "`batch_size` must be an integer >= 1, got None"),
        (PPOClip, "clip_range", -0.1, "`clip_range` must be > 0, got -0.1"),
        (PPOAdaptiveClip, "clip_range", None, "`clip_range` must be > 0, got None"),
    ],
)
def test_what_the_constructor_refuses_is_refused_by_learn(cls: Variant, name: str, value: Any, rule: str) -> None:
    model = make(cls).learn(8)
    setattr(model, name, value)
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}"):
        model.learn(8, reset_num_timesteps=False)
    assert model.num_timesteps == 8


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty])
def test_the_clip_may_be_taken_away_and_put_back(cls: Variant, tmp_path: Path) -> None:
    model = make(cls, clip_range=0.1).learn(8)
    for value in (None, 0.3):
        model.clip_range = value
        model.learn(8, reset_num_timesteps=False)
        (coefficients,) = model.last_update.coefficients
        assert coefficients["clip_range"] == (value or math.inf)
        model.save(tmp_path / "model")
        model = cls.load(tmp_path / "model", env=model.env, device="cpu")
