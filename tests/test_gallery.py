"""The gallery of published trust regions: what each computes, on every host and every acceleration."""

import ast
import copy
import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from hosts import HOSTS, build, collect_rollout, host_of

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.update.losses import clipped_surrogate

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "variants"
# Of each file: the name of its classes without the host's prefix; arguments at which it equals PPOClip, with which
GALLERY: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "rollback": ("PPORollback", {"rollback": 0.0}, {}),
    "klip": ("KLipPPO", {}, {}),
    "spo": ("SPO", {"clip_range": None}, {"clip_range": None}),
    "trppo": ("TRPPO", {"state_kl": math.inf}, {"clip_range": None}),
    "espo": ("ESPO", {"max_deviation": math.inf}, {"clip_range": None}),
    "p3o": ("P3O", {"temperature": 0.01, "kl_coef": 0.0}, {"clip_range": None}),
    "reference_kl": ("PPOReferenceKL", {"reference_coef": 0.0}, {}),
}
pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
each_variant = pytest.mark.parametrize("name", GALLERY)


def gallery_module(name: str) -> Any:
    """Import a file as those in its folder import each other; the folder does not stay on the path: see custom_envs."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


def gallery_class(name: str, host: str = "") -> Any:
    return getattr(gallery_module(name), host + GALLERY[name][0])


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Build a model of a class of the gallery, with a reference where it needs one, or of another class."""

    def make(cls: Any, action: str = "multi_discrete", **arguments: Any) -> Any:
        if "reference" in cls.__signature__.parameters:
            arguments["reference"] = str(tmp_path / "reference.zip")
            if not Path(arguments["reference"]).exists():
                build(host_of(cls).stock, action, seed=9).save(arguments["reference"])
        return build(cls, action, **{"learning_rate": 0.01, "n_epochs": 6, **arguments})

    return make


def updated(make: Any, cls: Any, accelerations: list[str], **arguments: Any) -> list[Any]:
    """Collect one rollout on the reference path, then update a model per acceleration from it."""
    models = [make(cls, acceleration=how, **arguments) for how in accelerations]
    first = make(cls, acceleration="off", **arguments)
    collect_rollout(first)
    for model in models:
        model._setup_learn(50)
        model.rollout_buffer = copy.deepcopy(first.rollout_buffer)
        np.random.seed(0)
        model.train()
    return models


def objective(name: str, ratio: th.Tensor, advantages: list[float], kl: list[float] | None, c: Any) -> th.Tensor:
    """Call a surrogate on numbers; the hook needs no model."""
    mixin = next(base for base in gallery_class(name).__mro__ if base.__name__.endswith("Mixin"))
    kl_of = None if kl is None else th.tensor(kl)
    return mixin.surrogate(None, ratio, th.tensor(advantages), kl_of, c)  # type: ignore[no-any-return]


def surrogate(name: str, ratio: list[float], advantages: list[float], kl: Any = None, **c: Any) -> list[float]:
    return objective(name, th.tensor(ratio), advantages, kl, c).tolist()


def slopes(name: str, ratio: list[float], advantages: list[float], kl: Any = None, **c: Any) -> list[float]:
    """Differentiate a surrogate by the ratio."""
    leaf = th.tensor(ratio, requires_grad=True)
    (slope,) = th.autograd.grad(objective(name, leaf, advantages, kl, c).sum(), leaf)
    return slope.tolist()


# --------------------------------------------------------------------------------------------------- form of the files


def test_the_list_is_complete() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} - {"custom_envs"} == set(GALLERY)


@each_variant
def test_mixins_are_short_and_use_the_public_names_only(name: str) -> None:
    source = (FOLDER / f"{name}.py").read_text()
    tree = ast.parse(source)
    mixins = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Mixin")]
    assert mixins
    for mixin in mixins:
        assert mixin.end_lineno is not None and mixin.end_lineno - mixin.lineno < 40
    imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    assert {module for module in imported if module.startswith("sb3_ppo_variants")} == {"sb3_ppo_variants.extend"}
    assert "arXiv:" in source


# --------------------------------------------------------------------------------------------- hosts and accelerations


@pytest.mark.parametrize("host", HOSTS)
@each_variant
def test_eager_equals_the_reference_path_on_every_host(name: str, host: str, make: Any) -> None:
    cls = gallery_class(name, host)
    assert issubclass(cls, HOSTS[host].stock)
    reference, eager = updated(make, cls, ["off", "eager"])
    start = make(cls)
    for key, value in reference.policy.state_dict().items():
        th.testing.assert_close(eager.policy.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    assert not th.equal(reference.policy.action_net.weight, start.policy.action_net.weight)
    assert eager.last_update.minibatches.shape == reference.last_update.minibatches.shape
    assert eager.last_update.kl_divergence == pytest.approx(reference.last_update.kl_divergence, rel=1e-3)


@pytest.mark.parametrize("action", ["box", "discrete"])
@each_variant
def test_a_surrogate_of_one_s_own_keeps_the_written_gradient(name: str, action: str, make: Any) -> None:
    (eager,) = updated(make, gallery_class(name), ["eager"], action=action)
    expected = "autograd (the variant has its own extra_loss())" if name == "reference_kl" else "written out"
    assert eager.acceleration_report()["backward"] == expected


@pytest.mark.slow
@each_variant
def test_compile_equals_the_reference_path(name: str, make: Any) -> None:
    reference, compiled = updated(make, gallery_class(name), ["off", "compile"])
    for key, value in reference.policy.state_dict().items():
        th.testing.assert_close(compiled.policy.state_dict()[key], value, rtol=1e-4, atol=1e-5)
    if name != "reference_kl":
        assert compiled.acceleration_report()["graph"] == "torch.compile"


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@each_variant
def test_a_neutral_setting_is_ppo(name: str, acceleration: str, make: Any) -> None:
    _, neutral, of_clip = GALLERY[name]
    model = make(gallery_class(name), acceleration=acceleration, **neutral)
    plain = make(PPOClip, acceleration=acceleration, **of_clip)
    plain.policy.load_state_dict(model.policy.state_dict())
    for each in (model, plain):
        each.set_random_seed(3)
        each.learn(100)
    for key, value in plain.policy.state_dict().items():
        th.testing.assert_close(model.policy.state_dict()[key], value, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- each surrogate


def test_rollback_falls_outside_the_range() -> None:
    c = {"clip_range": 0.2, "clip_range_upper": 0.2, "rollback": 0.5}
    # Above, inside and below the range; 1.2 - 0.5 * 0.3 = 1.05 and 0.8 + 0.5 * 0.4 = 1.0
    assert surrogate("rollback", [1.5, 1.1, 0.4], [2.0, 2.0, 2.0], **c) == pytest.approx([2.1, 2.2, 0.8])
    assert surrogate("rollback", [1.5, 0.9, 0.4], [-2.0, -2.0, -2.0], **c) == pytest.approx([-3.0, -1.8, -2.0])
    assert slopes("rollback", [1.5, 1.1, 0.4], [2.0, 2.0, 2.0], **c) == pytest.approx([-1.0, 2.0, 2.0])
    assert slopes("rollback", [1.5, 0.9, 0.4], [-2.0, -2.0, -2.0], **c) == pytest.approx([-2.0, -2.0, 1.0])


def test_klip_has_the_clip_s_gradient() -> None:
    c = {"clip_range": 0.2, "clip_range_upper": 0.3}
    ratio = th.linspace(0.3, 2.0, 86).repeat(3)
    advantages = th.tensor([1.7, -0.6, 0.0]).repeat_interleave(86)
    leaf = ratio.clone().requires_grad_()
    clipped_surrogate(leaf, advantages, 0.2, 0.3).sum().backward()
    assert leaf.grad is not None
    assert slopes("klip", ratio.tolist(), advantages.tolist(), **c) == pytest.approx(leaf.grad.tolist(), abs=1e-6)
    # beta = -3, log 1.5 = 0.405465; inside the range and on the side that the clip lets pass: r A
    assert surrogate("klip", [1.5, 1.1, 0.4], [2.0, 2.0, 2.0], **c) == pytest.approx([3.0 - 3 * 0.405465, 2.2, 0.8])


def test_klip_leaves_alone_what_the_clip_lets_pass_however_small_the_ratio() -> None:
    c = {"clip_range": 0.2, "clip_range_upper": 0.2}
    assert surrogate("klip", [0.0, 0.0], [1.0, -1.0], **c) == pytest.approx([0.0, 0.0])


def test_spo_leads_back_from_outside_the_range() -> None:
    # At 1.5: 3 - 2 * 0.25 / 0.4 = 1.75; its top, at 1.2: 2.4 - 2 * 0.04 / 0.4 = 2.2
    assert surrogate("spo", [1.5, 1.2, 0.5], [2.0, 2.0, 2.0], clip_range=0.2) == pytest.approx([1.75, 2.2, -0.25])
    assert slopes("spo", [1.5, 1.2, 1.1, 0.5], [2.0] * 4, clip_range=0.2) == pytest.approx([-3, 0, 1, 7], abs=1e-5)
    assert slopes("spo", [1.5, 0.8, 0.5], [-2.0] * 3, clip_range=0.2) == pytest.approx([-7, 0, 3], abs=1e-5)


def test_spo_outlives_a_schedule_that_ends_at_zero(make: Any) -> None:
    model = make(gallery_class("spo"), clip_range=lambda progress: 0.2 * progress).learn(120)  # the last one beyond it
    assert model._current_progress_remaining < 0
    assert model.last_update.coefficients[-1]["clip_range"] == 1e-3
    assert math.isfinite(model.last_update.kl_divergence)


def test_trppo_stops_at_the_kl_of_the_state() -> None:
    ratio, advantages = [1.5, 1.5, 0.5, 0.5, 1.5], [2.0, 2.0, -2.0, 2.0, -2.0]
    kl = [0.1, 0.03, 0.1, 0.1, 0.1]  # outside, inside, outside; and two whose objective has not grown
    values = surrogate("trppo", ratio, advantages, kl=kl, state_kl=0.05)
    assert values == pytest.approx([3.0, 3.0, -1.0, 1.0, -3.0])
    assert slopes("trppo", ratio, advantages, kl=kl, state_kl=0.05) == pytest.approx([0.0, 2.0, 0.0, 2.0, -2.0])
    assert slopes("trppo", [1.5], [2.0], kl=[0.05], state_kl=0.05) == [0.0]  # the edge is outside


def test_p3o_fades_on_both_sides_and_penalises_the_kl() -> None:
    # 4 / 4 sigmoid(0) = 0.5, sigmoid(2) = 0.880797; slope 4 s (1 - s) A
    assert surrogate("p3o", [1.0, 1.5, 0.5], [2.0] * 3, temperature=4.0) == pytest.approx([1.0, 1.761594, 0.238406])
    expected = [2.0, 0.839949, 0.839949]
    assert slopes("p3o", [1.0, 1.5, 0.5], [2.0] * 3, temperature=4.0) == pytest.approx(expected, abs=1e-5)
    penalty = gallery_class("p3o").kl_penalty(None, th.tensor(0.25), {"kl_coef": 0.1})
    assert penalty.value.item() == pytest.approx(0.025) and penalty.slope == 0.1


def test_espo_ends_the_update_before_the_step_that_would_go_on(make: Any) -> None:
    model = make(gallery_class("espo"), max_deviation=0.05).learn(50, log_interval=1000)
    deviations = model.last_update.column("ratio_deviation")
    assert model.last_update.stopped and (deviations[:-1] <= 0.05).all() and deviations[-1] > 0.05
    assert deviations[0] == pytest.approx(0.0, abs=1e-6)  # before the first step the ratios are 1
    assert model.logger.name_to_value["train/ratio_deviation"] == pytest.approx(deviations.mean())
    assert not make(gallery_class("espo"), max_deviation=math.inf).learn(50).last_update.stopped


# --------------------------------------------------------------------------------------------------- the reference KL


@pytest.mark.parametrize("host", HOSTS)
def test_training_starts_from_the_reference(host: str, make: Any) -> None:
    cls = gallery_class("reference_kl", host)
    model = make(cls)
    reference = host_of(cls).stock.load(model.reference, device="cpu")
    for key, value in reference.policy.state_dict().items():
        assert th.equal(model.policy.state_dict()[key], value)
    model.learn(50)
    assert model.last_update.column("reference_kl")[0] == pytest.approx(0.0, abs=1e-6)
    assert model.last_update.column("reference_kl")[-1] > 0
    for key, value in reference.policy.state_dict().items():
        assert th.equal(model.reference_policy.state_dict()[key], value)


def test_a_large_coefficient_holds_the_policy_at_the_reference(make: Any) -> None:
    held, free = (make(gallery_class("reference_kl"), reference_coef=coef).learn(150) for coef in (100.0, 0.0))
    assert held.last_update.mean("reference_kl") < 0.1 * free.last_update.mean("reference_kl")


def test_the_scale_moves_by_a_tenth_of_the_error_and_at_most_two_percent(make: Any) -> None:
    free = make(gallery_class("reference_kl")).learn(50)
    measured = free.last_update.mean("reference_kl")
    for target, scale in ((measured / 1.1, 1.01), (1e-9, 1.02), (1e9, 0.98)):
        model = make(gallery_class("reference_kl"), target_reference_kl=target).learn(50)
        assert model.reference_scale == pytest.approx(scale)


@pytest.mark.parametrize("host", HOSTS)
def test_the_scale_survives_save_load_and_resume(host: str, make: Any, tmp_path: Path) -> None:
    cls = gallery_class("reference_kl", host)
    model = make(cls, target_reference_kl=1e-9).learn(100)
    assert model.reference_scale == pytest.approx(1.02**2)
    model.save(tmp_path / "model")
    fresh = make(cls)
    fresh.set_parameters(tmp_path / "model", device="cpu")
    loaded = cls.load(tmp_path / "model", env=make_vec_env("multi_discrete"), device="cpu", reference_coef=0.2)
    stranger = cls.load(tmp_path / "model", env=make_vec_env("multi_discrete"), device="cpu", trusted=False)
    for other in (fresh, loaded, stranger):
        assert other.reference_scale == model.reference_scale
        assert th.equal(other.policy.action_net.weight, model.policy.action_net.weight)
        assert th.equal(other.reference_policy.action_net.weight, model.reference_policy.action_net.weight)
    loaded.learn(50, reset_num_timesteps=False)
    assert loaded.reference_scale == pytest.approx(1.02**3)


# ----------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("rollback", {"rollback": -0.1}, "`rollback` must be a number >= 0, got -0.1; pass 0"),
        ("trppo", {"state_kl": 0.0}, "`state_kl` must be > 0, got 0.0"),
        ("espo", {"max_deviation": 0}, "`max_deviation` must be > 0, got 0"),
        ("p3o", {"temperature": 0.0}, "`temperature` must be a number > 0, got 0.0"),
        ("p3o", {"kl_coef": None}, "`kl_coef` must be a number >= 0, got None"),
        ("reference_kl", {"target_reference_kl": 0.0}, "`target_reference_kl` must be > 0"),
    ],
)
def test_bad_arguments_are_refused(name: str, arguments: dict[str, Any], message: str, make: Any) -> None:
    with pytest.raises(ValueError, match=message):
        make(gallery_class(name), **arguments)


def test_a_missing_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="`reference` must be a path, got None; name a saved model"):
        build(gallery_class("reference_kl"))
