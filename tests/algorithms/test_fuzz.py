"""Any configuration is either refused with a message that says why, or trains with finite parameters.

The fast suite tries the same 100 configurations every time, the slow one 500 others. With the environment variable
``FUZZ_EXAMPLES`` ``pytest -m slow tests/algorithms/test_fuzz.py`` tries as many new ones.
"""

import math
import os
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hosts import MAY_FALL_BACK, VARIANTS, host_of
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

pytestmark = MAY_FALL_BACK  # such programs may make it

SLOW_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "500"))
LINE = LinearSchedule(0.3, 0.05, 1.0)
INFINITY, NAN = math.inf, math.nan


class Values(NamedTuple):
    """Values of an argument: most of the time one that works, sometimes one that must be refused."""

    good: tuple[Any, ...]
    bad: tuple[Any, ...]


HOST: dict[str, Values] = {
    "learning_rate": Values((3e-4, 0.05, 0, LINE), (-1e-3, NAN, INFINITY, "fast", None)),
    "n_steps": Values((2, 5, 16), (0, -3, 2.5, None)),
    "batch_size": Values((2, 3, 8, 64, 1000), (0, -1, 1, 2.5, None)),
    "n_epochs": Values((1, 2, 3), (0, -1, 1.5)),
    "gamma": Values((0.99, 1.0, 0.0), (1.5, -0.1, NAN, INFINITY)),
    "gae_lambda": Values((0.95, 1.0, 0), (1.5, -0.1, NAN)),
    "clip_range": Values((0.2, 1e-3, 0.9, LINE), (0, -0.1, NAN, "wide")),
    "clip_range_vf": Values((None, 0.2, 1e-3, 1e6, LINE), (0, -0.1, NAN)),
    "normalize_advantage": Values((True, False, "rollout"), ("minibatch",)),
    "ent_coef": Values((0.0, 0.01, -0.01, LINE), (NAN, INFINITY, "none")),
    "vf_coef": Values((0.5, 0.0, LINE), (-0.5, NAN, INFINITY)),
    "max_grad_norm": Values((0.5, 1e-6, 1e6, INFINITY), (0.0, -0.5, NAN, None)),
    "stats_window_size": Values((100, 1), ()),
}
OURS: dict[str, Values] = {
    "value_clipping": Values(("pessimistic", "sb3"), ("max",)),
    "value_clip_scale": Values(("absolute", "return_std"), (None,)),
    "value_loss": Values(("mse", "huber"), ("l1",)),
    "max_kl": Values((None, 1e-9, 0.01, 10.0), (0, -1, NAN, "goal")),
    "acceleration": Values(("off", "eager"), ("fast", True)),
    "on_nonfinite": Values(("raise", "skip"), ("ignore", False)),
    "colour": Values((), ("red",)),  # no class has it
}
ADAPTIVE: dict[str, Values] = {
    "target_kl": Values((0.01, 1e-12, 1e3, LINE), (0, -0.01, NAN, None)),
    "kl_tolerance": Values((1.5, 1.0001, 100.0, INFINITY), (1, 0.5, NAN)),
    "adaptation_factor": Values((1.3, 1.0001, 100.0), (1, 0.5, NAN, INFINITY)),
    "adapt_after": Values(("update", "epoch"), ("minibatch",)),
    "max_kl": Values((*OURS["max_kl"].good, "target"), OURS["max_kl"].bad),
}
OF_VARIANT: dict[str, dict[str, Values]] = {
    "PPOClip": {
        "clip_range_upper": Values((None, 0.3, 5.0, LINE), (0, -1, NAN)),
        "dual_clip": Values((None, 1.5, 100.0), (1, 0, NAN, INFINITY)),
        "target_kl": Values((None, 1e-9, 0.01, LINE), (0, -0.01, NAN)),
    },
    "PPOPenalty": {
        **ADAPTIVE,
        "initial_beta": Values((1.0, 1, 1e-3, 1e3), (0, -1, NAN, INFINITY, 1e4, "big")),
        "adaptive_beta": Values((True, False), ()),
        "beta_bounds": Values(((1e-3, 1e3), (1e-6, 1e6), [0.5, 2e3]), ((1, 0.1), (0, 1), (1,), (1, INFINITY), None)),
        "kl_direction": Values(("forward", "reverse"), ("both",)),
        "hinge_coef": Values((0.0, 50.0, 1e6), (-1, NAN, INFINITY)),
        "clip_range": Values((None, *HOST["clip_range"].good), HOST["clip_range"].bad),
    },
    "PPOAdaptiveClip": {
        **ADAPTIVE,
        "clip_range_bounds": Values(((0.001, 1.0), (1e-6, 1e6)), ((0.5, 0.1), (0, 1), (0.1, INFINITY), 3)),
        "clip_range": Values((0.2, 1e-2, 0.9, LINE), HOST["clip_range"].bad),
    },
    "PPOAdaptiveLR": {
        **ADAPTIVE,
        "adapt_after": Values(("minibatch", "update", "epoch"), ("step",)),
        "learning_rate_bounds": Values(((1e-5, 1e-2), [1e-9, 1e-2]), ((0.5, 0.1), (0, 1), (1e-5, INFINITY), 3)),
        "learning_rate": Values((1e-3, 1e-5, LINE), (0.5, -1e-3, NAN)),
    },
}
ACTIONS: dict[str, st.SearchStrategy[spaces.Space[Any]]] = {
    "Box": st.builds(
        lambda shape, low: spaces.Box(low, 1.0, shape, np.float32),
        st.sampled_from([(1,), (2,), (2, 3)] * 4 + [(0,)]),
        st.sampled_from([-1.0, -1e-3, -1e6] * 4 + [-np.inf]),
    ),
    "Discrete": st.builds(
        lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 5), st.sampled_from([0, 0, 3])
    ),
    "MultiDiscrete": st.builds(
        spaces.MultiDiscrete,
        st.lists(st.integers(1, 4), min_size=1, max_size=3).flatmap(
            lambda sizes: st.sampled_from([sizes] * 9 + [[[2, 3], [3, 2]]])
        ),
    ),
    "MultiBinary": st.builds(spaces.MultiBinary, st.sampled_from([1, 2, 4] * 4 + [[2, 2]])),
}
VECTORS = st.builds(
    lambda shape, bound, dtype: spaces.Box(-bound, bound, shape, dtype),
    st.sampled_from([(1,), (3,), (2, 2)] * 4 + [()]),
    st.sampled_from([1.0, 1e3, np.inf]),
    st.sampled_from([np.float32, np.float64]),
)
IMAGES = st.builds(
    lambda height, width, channels, first: spaces.Box(
        0, 255, (channels, height, width) if first else (height, width, channels), np.uint8
    ),
    st.sampled_from([36, 37] * 4 + [20]),
    st.sampled_from([36, 40]),
    st.sampled_from([1, 3, 4]),
    st.booleans(),
)
FLAT = st.one_of(
    VECTORS,
    IMAGES,
    st.builds(spaces.Discrete, st.integers(1, 4)),
    st.builds(spaces.MultiDiscrete, st.lists(st.integers(1, 3), min_size=1, max_size=3)),
    st.builds(spaces.MultiBinary, st.integers(1, 3)),
)
DICTS = st.dictionaries(st.sampled_from("abc"), FLAT, min_size=1, max_size=2).map(spaces.Dict)
NESTED = DICTS.map(lambda inner: spaces.Dict({"inner": inner, "flag": spaces.Discrete(2)}))
REWARDS: dict[str, Callable[[np.random.Generator], float]] = {
    "normal": lambda rng: float(rng.normal()),
    "skewed": lambda rng: float(rng.exponential()) ** 3,
    "constant": lambda _: 1.0,
    "zero": lambda _: 0.0,
    "rare": lambda rng: float(rng.random() < 0.05),
}


class World(NamedTuple):
    """What an environment is made of."""

    observation: spaces.Space[Any]
    action: spaces.Space[Any]
    reward: str
    scale: float
    episode: int | None
    n_envs: int
    normalized: bool


class RandomEnv(gym.Env[Any, Any]):
    """Random observations, rewards and masks of valid actions."""

    def __init__(self, world: World):
        self.observation_space, self.action_space = world.observation, world.action
        self.world = world
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = self.world.scale * REWARDS[self.world.reward](self.np_random)
        over = self.world.episode is not None and self.steps >= self.world.episode
        return self.observation_space.sample(), reward, over and self.steps % 2 == 1, over and self.steps % 2 == 0, {}

    def action_masks(self) -> np.ndarray[Any, Any]:
        space = self.action_space
        sizes = [2] * int(np.prod(space.shape)) if isinstance(space, spaces.MultiBinary) else None
        sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else sizes or space.nvec.flatten().tolist()
        masks = [self.np_random.random(size) < 0.5 for size in sizes]
        for mask in masks:
            mask[self.np_random.integers(len(mask))] = True
        return np.concatenate(masks)


class Case(NamedTuple):
    """One configuration: which class, in which world, with which arguments."""

    name: str
    policy: str
    world: World
    arguments: dict[str, Any]


def seldom(draw: st.DrawFn, n: int) -> bool:
    """True once in n times; Hypothesis likes the ends of a range."""
    return draw(st.integers(1, n)) == (n + 1) // 2


@st.composite
def worlds(draw: st.DrawFn, actions: tuple[str, ...]) -> World:
    """Draw an environment for a host, now and then with an action space that it does not support."""
    kind = draw(st.sampled_from([*actions * 9, *ACTIONS]))
    exponent = draw(st.floats(-8, 8))
    nested = seldom(draw, 20)
    return World(
        observation=draw(NESTED if nested else st.one_of(VECTORS, FLAT, DICTS)),
        action=draw(ACTIONS[kind]),
        reward=draw(st.sampled_from(sorted(REWARDS))),
        scale=draw(st.sampled_from([1.0, -1.0])) * 10.0**exponent,
        episode=draw(st.sampled_from([1, 2, 7, None])),
        n_envs=1 if nested else draw(st.integers(1, 3)),
        normalized=not nested and seldom(draw, 5),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a configuration: a few arguments, one time in five with one that must be refused."""
    name = draw(st.sampled_from(sorted(VARIANTS)))
    host = host_of(VARIANTS[name])
    actions = tuple(
        {"box": "Box", "multi_binary": "MultiBinary"}.get(a, a.title().replace("_", "")) for a in host.actions
    )
    world = draw(worlds(actions))
    kind = "dict" if isinstance(world.observation, spaces.Dict) else "vector"
    if isinstance(world.observation, spaces.Box) and world.observation.dtype == np.uint8 and draw(st.booleans()):
        kind = "image"
    policies = [*host.policies.values(), "Cnn"] if seldom(draw, 20) else [host.policies[kind]]
    policy = draw(st.sampled_from(policies))

    variant = name.removeprefix("Recurrent").removeprefix("Maskable")
    table = {**HOST, **OURS, **OF_VARIANT[variant]}
    chosen = draw(st.sets(st.sampled_from(sorted(table)), max_size=8))
    arguments = {n: draw(st.sampled_from(table[n].good)) for n in sorted(chosen) if table[n].good}
    if seldom(draw, 5):
        bad = draw(st.sampled_from(sorted(n for n in table if table[n].bad)))
        arguments[bad] = draw(st.sampled_from(table[bad].bad))
    if seldom(draw, 5) and isinstance(world.action, spaces.Box) and "Maskable" not in name:
        arguments["use_sde"] = True
    return Case(name, policy, world, arguments)


def build(case: Case) -> Any:
    env: Any = RandomEnv(case.world)  # SB3's own DummyVecEnv refuses nested spaces: the class is to do so
    if case.world.n_envs > 1 or case.world.normalized:
        env = DummyVecEnv([lambda: RandomEnv(case.world)] * case.world.n_envs)
    if case.world.normalized and isinstance(case.world.observation, spaces.Box):
        env = VecNormalize(env)
    cls = VARIANTS[case.name]
    small = {"n_steps": 4, "batch_size": 8, "n_epochs": 2, "seed": 0, "device": "cpu"}
    policy_kwargs = {"net_arch": [4], **host_of(cls).policy_kwargs}
    return cls(case.policy, env, policy_kwargs=policy_kwargs, **{**small, **case.arguments})


def is_clear(error: Exception) -> bool:
    """Tell whether a message names what is wrong: an argument in backticks, or a kind of space or policy."""
    return bool(re.search(r"`\w+`|\bspaces?\b|[Pp]olicy|environment", str(error)))


def check(case: Case) -> str:
    """Train two updates.

    :return: what became of the configuration
    """
    note(repr(case))
    refusal: Exception | None = None
    try:
        model = build(case)
    except (ValueError, TypeError, AssertionError, NotImplementedError) as error:
        refusal = error
    if refusal is not None:
        assert is_clear(refusal), repr(refusal)
        return "refused"
    before = [value.clone() for value in model.policy.parameters()]
    try:
        model.learn(2 * model.n_steps * model.n_envs)
    except FloatingPointError:
        assert all(bool(th.isfinite(value).all()) for value in model.policy.parameters())
        return "stopped by the guard"
    for value in model.policy.state_dict().values():
        assert bool(th.isfinite(value.float()).all())
    for state in model.policy.optimizer.state_dict()["state"].values():
        assert all(bool(th.isfinite(value.float()).all()) for value in state.values())
    low, high = getattr(model, "beta_bounds", (0, INFINITY))
    assert not getattr(model, "adaptive_beta", False) or low <= model.beta <= high
    assert 0 < getattr(model, "clip_scale", 1.0) < INFINITY
    observation = model.observation_space.sample()
    action, _ = model.predict(observation, deterministic=True)
    assert np.isfinite(np.asarray(action, dtype=float)).all()
    if (
        case.world.reward == "normal"
        and abs(case.world.scale) > 0.01
        and not {"learning_rate", "vf_coef"} & set(case.arguments)
    ):
        assert not all(th.equal(old, new) for old, new in zip(before, model.policy.parameters()))
    return "trained"


OUTCOMES: dict[str, int] = {}


def run(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = check(case)
    OUTCOMES[outcome] = OUTCOMES.get(outcome, 0) + 1


FUZZ: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


@given(cases())
@settings(max_examples=100, derandomize=True, **FUZZ)
def test_a_configuration_is_refused_or_trains(case: Case) -> None:
    run(case)


@pytest.mark.slow
def test_thousands_of_configurations_are_refused_or_train() -> None:
    same = "FUZZ_EXAMPLES" not in os.environ  # in CI a failure is to be of the change, not of the draw
    given(cases())(settings(max_examples=SLOW_EXAMPLES, derandomize=same, **FUZZ)(run))()
    print(f"{sum(OUTCOMES.values())} configurations: {OUTCOMES}")
    assert OUTCOMES["trained"] > SLOW_EXAMPLES / 3
    assert OUTCOMES["refused"] > SLOW_EXAMPLES / 10


ORDINARY = World(spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(3), "normal", 1.0, 5, 2, False)
SCHEDULED = ["learning_rate", "clip_range", "clip_range_vf", "ent_coef", "vf_coef"]


@pytest.mark.parametrize("value", [NAN, -0.5, INFINITY])
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        *(("PPOClip", argument) for argument in [*SCHEDULED, "target_kl", "clip_range_upper"]),
        *(("PPOPenalty", argument) for argument in [*SCHEDULED, "target_kl"]),
        *(("PPOAdaptiveClip", argument) for argument in [*SCHEDULED, "target_kl"]),
    ],
)
def test_a_schedule_is_refused_when_its_value_is_bad(name: str, argument: str, value: float) -> None:
    """At the second update, after a first one with a value that works; an infinite range or target is none."""

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            self.parameters = [parameter.clone() for parameter in self.model.policy.parameters()]
            return True

    schedule, watch = lambda progress: 0.5 if progress > 0.4 else value, Watch()
    model = build(Case(name, "MlpPolicy", ORDINARY, {argument: schedule}))
    allowed = value == -0.5 and argument == "ent_coef"
    allowed |= value == INFINITY and argument not in ("learning_rate", "ent_coef", "vf_coef")
    if allowed:
        model.learn(16)
    else:
        with pytest.raises(
            ValueError, match=rf"`{argument}` must be .*, got .* at progress.*= 0.000; change its schedule"
        ):
            model.learn(16, watch)
        assert all(th.equal(old, new) for old, new in zip(watch.parameters, model.policy.parameters()))
    assert all(bool(th.isfinite(value).all()) for value in model.policy.parameters())


def test_every_bad_value_alone_is_refused() -> None:
    """The table itself: nothing in it is bad by mistake, and nothing slips through because another error came first."""
    for name, cls in VARIANTS.items():
        variant = name.removeprefix("Recurrent").removeprefix("Maskable")
        for argument, values in {**HOST, **OURS, **OF_VARIANT[variant]}.items():
            for value in values.bad:
                with pytest.raises((ValueError, TypeError, AssertionError, NotImplementedError)) as refusal:
                    build(Case(name, host_of(cls).policies["vector"], ORDINARY, {argument: value}))
                assert f"`{argument}`" in str(refusal.value), f"{name}({argument}={value!r}): {refusal.value}"
