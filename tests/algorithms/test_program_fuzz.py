"""Programs made at random: unusual policies and optimisers, edited between updates; the fast path agrees or falls back.

After every edit the default acceleration and ``"off"`` update from the same weights and rollout. The fast suite tries
the same 60 programs every time, the slow one 100 others. With the environment variable ``PROGRAM_EXAMPLES``
``pytest -m slow tests/algorithms/test_program_fuzz.py`` tries as many new ones.
"""

import copy
import math
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th
from hosts import MAY_FALL_BACK, VARIANTS, build, host_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

pytestmark = MAY_FALL_BACK  # such programs may make it

SLOW_EXAMPLES = int(os.environ.get("PROGRAM_EXAMPLES", "100"))
NEW = {"derandomize": "PROGRAM_EXAMPLES" not in os.environ, "deadline": None}
UPDATES = 3


class Program(NamedTuple):
    """What a user might write.

    :param name: of the class
    :param action: kind of action space
    :param policy_kwargs: of the policy
    :param change: name of a change of the new policy
    :param optimizer: name of an optimiser
    :param edits: names of edits, one before each update but the first
    :param arguments: of the constructor
    """

    name: str
    action: str
    policy_kwargs: str
    change: str
    optimizer: str
    edits: tuple[str, ...]
    arguments: dict[str, Any]


class Normed(BaseFeaturesExtractor):
    """LayerNorm, dropout and batch normalisation before the networks."""

    def __init__(self, space: Any, kind: type[nn.Module] = nn.LayerNorm):
        super().__init__(space, 4)
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.2) if kind is nn.Dropout else kind(4))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layers(observations)


POLICIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu": {"activation_fn": nn.ReLU},
    "elu": {"activation_fn": nn.ELU},
    "linear": {"net_arch": []},
    "uneven": {"net_arch": {"pi": [5, 4], "vf": [7]}},
    "two extractors": {"share_features_extractor": False},
    "layer norm": {"features_extractor_class": Normed},
    "dropout": {"features_extractor_class": Normed, "features_extractor_kwargs": {"kind": nn.Dropout}},
    "batch norm": {"features_extractor_class": Normed, "features_extractor_kwargs": {"kind": nn.BatchNorm1d}},
    "not orthogonal": {"ortho_init": False},
}


class Masked(nn.Linear):
    def forward(self, features: th.Tensor) -> th.Tensor:
        forbidden = th.arange(self.out_features) == self.out_features - 1
        return super().forward(features).masked_fill(forbidden, -math.inf)


def _masked(policy: Any) -> None:
    th.manual_seed(1)
    old = policy.action_net
    policy.action_net = Masked(old.in_features, old.out_features)


def _no_bias(policy: Any) -> None:
    th.manual_seed(1)
    policy.value_net = nn.Linear(policy.value_net.in_features, 1, bias=False)


def _tied(policy: Any) -> None:
    first, second = policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net
    if len(first) > 0 and len(second) > 0 and first[0].weight.shape == second[0].weight.shape:
        second[0].weight = first[0].weight


def _frozen_part(policy: Any) -> None:
    policy.value_net.weight.requires_grad_(False)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "none": lambda policy: None,
    "no bias": _no_bias,
    "tied": _tied,
    "frozen": _frozen_part,
    "spectral norm": lambda policy: nn.utils.spectral_norm(policy.value_net),
    "weight norm": lambda policy: nn.utils.weight_norm(policy.action_net),
    "parametrized": lambda policy: nn.utils.parametrizations.weight_norm(policy.action_net),
    "-inf mask": _masked,
}
OPTIMIZERS: dict[str, Callable[[Any], th.optim.Optimizer]] = {
    "Adam": lambda policy: th.optim.Adam(policy.parameters(), lr=3e-3, eps=1e-5),
    "AMSGrad": lambda policy: th.optim.Adam(policy.parameters(), lr=3e-3, amsgrad=True),
    "AdamW": lambda policy: th.optim.AdamW(policy.parameters(), lr=3e-3),
    "SGD": lambda policy: th.optim.SGD(policy.parameters(), lr=0.01, momentum=0.9),
    "groups": lambda policy: th.optim.Adam([{"params": [p], "lr": 3e-3} for p in policy.parameters()]),
    "part": lambda policy: th.optim.Adam(list(policy.parameters())[1:], lr=3e-3),
}


def _set_option(name: str, value: Any) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        for group in model.policy.optimizer.param_groups:
            if name in group:
                group[name] = value

    return edit


def _freeze(model: Any) -> None:
    model.policy.action_net.requires_grad_(False)


def _thaw(model: Any) -> None:
    model.policy.requires_grad_(True)


def _average(model: Any) -> None:
    """Exponential moving average in place, as self-play programs keep."""
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(0.9)


def _replace_storage(model: Any) -> None:
    for parameter in model.policy.parameters():
        parameter.data = parameter.data.clone()


def _halve_gradient(model: Any) -> None:
    for parameter in model.policy.value_net.parameters():
        if parameter.requires_grad:
            parameter.register_hook(lambda gradient: 0.5 * gradient)


def _set(name: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model, name, value)


EDITS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda model: None,
    "freeze": _freeze,
    "thaw": _thaw,
    "weight decay": _set_option("weight_decay", 0.1),
    "betas": _set_option("betas", (0.5, 0.9)),
    "eps": _set_option("eps", 1e-2),
    "set_parameters": lambda model: model.set_parameters(model.get_parameters()),
    "to": lambda model: model.policy.to("cpu"),
    "average": _average,
    "storage": _replace_storage,
    "gamma": _set("gamma", 0.5),
    "gae_lambda": lambda model: setattr(model.rollout_buffer, "gae_lambda", 0.5),
    "batch size": _set("batch_size", np.int64(10)),
    "n_epochs": _set("n_epochs", 1),
    "max_grad_norm": _set("max_grad_norm", 0.01),
    "value_loss": _set("value_loss", "huber"),
    "ent_coef": _set("ent_coef", 0.1),
    "gradient hook": _halve_gradient,
    "forward hook": lambda model: model.policy.action_net.register_forward_hook(lambda m, i, out: 0.5 * out),
    "optimiser hook": lambda model: model.policy.optimizer.register_step_post_hook(lambda *_: _average(model)),
    "scheduler": lambda model: th.optim.lr_scheduler.StepLR(model.policy.optimizer, 1),
    "zero moments": lambda model: model.policy.optimizer.state.clear(),
    "new optimiser": lambda model: setattr(model.policy, "optimizer", OPTIMIZERS["Adam"](model.policy)),
}
ARGUMENTS: dict[str, list[Any]] = {
    "clip_range_vf": [None, 0.2],
    "value_clipping": ["pessimistic", "sb3"],
    "normalize_advantage": [True, False, "rollout"],
    "ent_coef": [0.0, 0.05],
    "max_kl": [None, 1e-4],
    "on_max_kl": ["project", "stop"],
    "on_nonfinite": ["raise", "skip"],
}


@st.composite
def programs(draw: st.DrawFn) -> Program:
    name = draw(st.sampled_from(sorted(VARIANTS)))
    action = draw(st.sampled_from(host_of(VARIANTS[name]).actions))
    chosen = draw(st.lists(st.sampled_from(sorted(ARGUMENTS)), unique=True, max_size=3))
    return Program(
        name=name,
        action=action,
        policy_kwargs=draw(st.sampled_from(sorted(POLICIES))),
        change=draw(st.sampled_from(sorted(CHANGES))),
        optimizer=draw(st.sampled_from(sorted(OPTIMIZERS))),
        edits=tuple(draw(st.lists(st.sampled_from(sorted(EDITS)), min_size=UPDATES - 1, max_size=UPDATES - 1))),
        arguments={argument: draw(st.sampled_from(ARGUMENTS[argument])) for argument in chosen},
    )


def fits(program: Program) -> bool:
    """Leave out what stock itself cannot run."""
    recurrent = issubclass(VARIANTS[program.name], RecurrentPPO)
    logits_may_be_infinite = program.action in ("discrete", "multi_discrete") and not program.name.startswith("Mask")
    if program.change == "-inf mask" and not logits_may_be_infinite:
        return False
    if recurrent and program.policy_kwargs == "batch norm":
        return False  # padded steps enter its statistics
    return not (program.change == "frozen" and "thaw" in program.edits and program.optimizer == "part")


def make(program: Program) -> Any:
    model = build(
        VARIANTS[program.name],
        program.action,
        acceleration="off",
        policy_kwargs=POLICIES[program.policy_kwargs],
        **program.arguments,
    )
    th.manual_seed(0)
    CHANGES[program.change](model.policy)
    model.policy.optimizer = OPTIMIZERS[program.optimizer](model.policy)
    return model


def trained(
    program: Program, acceleration: str, begin_from: list[dict[str, th.Tensor]] | None = None
) -> tuple[list[dict[str, th.Tensor]], dict[str, str]]:
    """Make the updates from rollouts collected with ``"off"``; all draws depend on the update only.

    :param begin_from: weights after each update, to begin the next one from in place of one's own
    :return: weights after each update, and the report
    """
    model = make(program)
    _, callback = model._setup_learn(10_000)
    after: list[dict[str, th.Tensor]] = []
    for update in range(UPDATES):
        if update > 0:
            if begin_from is not None:
                model.policy.load_state_dict(begin_from[update - 1])
            EDITS[program.edits[update - 1]](model)
        th.manual_seed(update)
        np.random.seed(update)
        model.acceleration = "off"
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        model.acceleration = acceleration
        th.manual_seed(100 + update)
        model.train()
        after.append(copy.deepcopy(model.policy.state_dict()))
    return after, model.acceleration_report()


def check(program: Program, acceleration: str) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, _ = trained(program, "off")
        found, report = trained(program, acceleration, expected)
    for ours, stock in zip(found, expected):
        a, b = (th.cat([value.double().flatten() for value in state.values()]) for state in (stock, ours))
        assert a.shape == b.shape, program
        assert th.equal(th.isnan(a), th.isnan(b)), (program, report)
        difference = float((a - b).nan_to_num().norm()) / float(a.nan_to_num().norm())
        assert difference <= 1e-4, (program, report)
    return report


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs().filter(fits))
def test_a_program_runs_as_with_acceleration_off(program: Program) -> None:
    check(program, "eager")


@pytest.mark.slow
@settings(max_examples=SLOW_EXAMPLES, **NEW, suppress_health_check=list(HealthCheck))
@given(programs().filter(fits))
def test_new_programs_run_as_with_acceleration_off(program: Program) -> None:
    check(program, "eager")


@pytest.mark.slow
@pytest.mark.parametrize("edit", ["max_grad_norm", "value_loss", "betas", "eps", "batch size"])
def test_a_compiled_model_heeds_an_edit(edit: str) -> None:
    """What a graph has taken as a constant: it checks nothing by itself."""
    program = Program("PPOClip", "box", "plain", "none", "Adam", (edit, "nothing"), {})
    assert check(program, "compile")["graph"] == "torch.compile"


def test_every_edit_and_every_change_is_made() -> None:
    """The tables themselves: no entry fails on the plain model."""
    plain = Program("PPOClip", "discrete", "plain", "none", "Adam", ("nothing", "nothing"), {})
    for edit in EDITS:
        check(plain._replace(edits=(edit, "nothing")), "eager")
    for change in CHANGES:
        check(plain._replace(change=change), "eager")
    for optimizer in OPTIMIZERS:
        check(plain._replace(optimizer=optimizer), "eager")
