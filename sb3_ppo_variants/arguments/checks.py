"""Clear errors for what users pass: rule, value given, way out."""

import math
import numbers
import warnings
from typing import Any

import numpy as np

_CHOICES: dict[str, tuple[Any, ...]] = {
    "value_clipping": ("pessimistic", "sb3"),
    "value_clip_scale": ("absolute", "return_std"),
    "value_loss": ("mse", "huber"),
    "normalize_advantage": (True, False, "rollout"),
    "acceleration": ("off", "eager", "compile"),
    "on_nonfinite": ("raise", "skip"),
    "on_max_kl": ("project", "stop"),
    "kl_direction": ("forward", "reverse"),
    "adaptive_beta": (True, False),
}


class InvalidArgumentError(ValueError, AssertionError):
    """A value outside its range: a ValueError, and what programs written for SB3, which asserts, may catch."""


def require(ok: bool, rule: str, value: Any, way_out: str) -> None:
    """Refuse a value in one form: rule, value given, way out.

    :param ok: whether the rule holds
    :param rule: what must hold, naming the argument
    :param value: what was given
    :param way_out: what to do instead
    :raises InvalidArgumentError: if it does not hold
    """
    if not ok:
        raise InvalidArgumentError(f"{rule}, got {value!r}; {way_out}")


def is_number(value: Any) -> bool:
    """True for a real number, numpy's included, that is not NaN; bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)


def check_choices(model: Any) -> None:
    """Refuse an unknown string in any argument that names an alternative.

    :param model: whose attributes are checked; numpy's truth values become Python's
    :raises ValueError: listing the alternatives
    """
    for name, choices in _CHOICES.items():
        if hasattr(model, name):
            value = getattr(model, name)
            if isinstance(value, np.bool_):
                value = bool(value)
                setattr(model, name, value)
            require(
                isinstance(value, (str, bool)) and value in choices,
                f"`{name}` must be one of {', '.join(map(repr, choices))}",
                value,
                "pick one of them",
            )


def check_positive(model: object, name: str, way_out: str, *, optional: bool = False) -> None:
    """Refuse a number that is not > 0; schedules are checked when they are first used.

    :param model: whose attribute is checked
    :param name: of the argument
    :param way_out: what to do instead
    :param optional: whether None is allowed
    :raises ValueError: if it is not a number > 0
    """
    value = getattr(model, name)
    if callable(value) or (optional and value is None):
        return
    require(is_number(value) and value > 0, f"`{name}` must be > 0", value, way_out)


def check_bounds(model: object, name: str) -> None:
    """Refuse bounds that are not (low, high) with 0 < low <= high.

    :param model: whose attribute is checked
    :param name: of the argument
    :raises ValueError: if they are reversed, not positive or not numbers
    """
    value = getattr(model, name)
    ok = isinstance(value, (tuple, list)) and len(value) == 2 and all(is_number(v) for v in value)
    ok = ok and 0 < value[0] <= value[1] < math.inf
    require(ok, f"`{name}` must be (low, high) with 0 < low <= high, both finite", value, "swap or fix them")


def check_within(model: object, name: str, bounds: str, way_out: str = "widen the bounds") -> None:
    """Refuse a number outside other arguments; schedules are kept within them when they are used.

    :param model: whose attributes are checked
    :param name: of the argument
    :param bounds: name of the argument that holds the smallest and the largest value
    :param way_out: what to do instead
    :raises ValueError: if it is a number outside
    """
    value, limits = getattr(model, name), getattr(model, bounds)
    ok = callable(value) or limits[0] <= value <= limits[1]
    require(ok, f"`{name}` must lie within {bounds} = {limits}", value, way_out)


def check_above_one(name: str, value: Any, way_out: str) -> None:
    """Refuse what is not a finite number > 1.

    :param name: of the argument
    :param value: given
    :param way_out: what to do instead
    :raises ValueError: naming the argument
    """
    require(is_number(value) and 1 < value < math.inf, f"`{name}` must be > 1 and finite", value, way_out)


def check_controller(model: Any) -> None:
    """Check the arguments that all adaptive variants share.

    :param model: with ``target_kl``, ``kl_tolerance`` and ``adaptation_factor``
    :raises ValueError: for a value outside its range
    """
    check_positive(model, "target_kl", "it is the KL divergence per update to aim for; 0.02 is usual")
    tolerance, moments, chosen = model.kl_tolerance, model.adaptation_moments, model.adapt_after
    ok = is_number(tolerance) and tolerance > 1
    require(ok, "`kl_tolerance` must be > 1", tolerance, "math.inf switches adaptation off")
    rule = f"`adapt_after` must be one of {moments}"
    require(chosen in moments, rule, chosen, "the coefficient is set once per epoch")
    check_above_one("adaptation_factor", model.adaptation_factor, "1.3 is the default, 2 the PPO paper's")


def check_hooks(model: Any) -> None:
    """Refuse a hook of a variant that nobody would call.

    :param model: of a class whose base has all hooks
    :raises ValueError: naming the hook and the class attribute that it needs
    """
    for hook, attribute, value in (
        ("kl_penalty", "kl_in_loss", "True"),
        ("extra_metrics", "extra_metric_names", "the names of what it returns"),
    ):
        owners = [cls.__name__ for cls in type(model).__mro__ if hook in vars(cls)]  # the last one is the base
        used = len(owners) == 1 or getattr(model, attribute)
        rule = f"`{attribute}` must be set where {owners[0]} has a {hook}(), which is not called without it"
        require(used, rule, getattr(model, attribute), f"set the class attribute to {value}")


def check_shared(model: Any) -> None:
    """Check the arguments that all classes share.

    :param model: whose attributes are checked
    :raises ValueError: for a value outside its range
    """
    check_spaces_are_known(model)
    check_choices(model)
    check_hooks(model)
    taken = sorted(model.logged_names.intersection(model.extra_metric_names))
    require(not taken, "`extra_metric_names` must not name what is logged anyway", taken, "give it another name")
    for name in ("learning_rate", "clip_range", "clip_range_vf"):
        if isinstance(getattr(model, name), (np.floating, np.integer)):  # which SB3 takes for no number
            setattr(model, name, float(getattr(model, name)))
    check_positive(model, "clip_range", "0.2 is usual", optional=True)
    warn_of_wide_clip_range(model.clip_range)
    check_positive(model, "clip_range_vf", "pass None for no value clipping", optional=True)
    if model.max_kl is not None and model.max_kl not in model.named_max_kl:
        named = "".join(f"{name!r} or " for name in model.named_max_kl)
        require(
            is_number(model.max_kl) and float(model.max_kl) > 0,
            "`max_kl` must be > 0",
            model.max_kl,
            f"pass {named}None for no limit",
        )
    for name, lowest in (("ent_coef", -math.inf), ("vf_coef", 0.0)):
        value = getattr(model, name)
        ok = callable(value) or (is_number(value) and lowest <= value and abs(value) < math.inf)
        rule = f"`{name}` must be a finite number{'' if lowest else ' >= 0'} or a schedule"
        require(ok, rule, value, "0 switches the term off")
    check_count("n_epochs", model.n_epochs, "10 is usual")
    check_sizes(model.n_steps, model.batch_size, model.normalize_advantage)
    check_host_numbers(model)


def check_spaces_are_known(model: object) -> None:
    """Refuse to build networks for a model that was given no environment.

    :param model: whose spaces come from its environment, or out of the file that it is loaded from
    :raises ValueError: if it has none
    """
    known = getattr(model, "observation_space", None) is not None and getattr(model, "action_space", None) is not None
    require(known, "`env` must be an environment or the ID of one", None, "load() alone makes a model without any")


def check_can_learn(model: Any) -> None:
    """Refuse to train without an environment.

    :param model: about to learn
    :raises MissingEnvironmentError: saying how to give it one
    """
    if model.env is None:
        name = type(model).__name__
        raise MissingEnvironmentError(
            f"learn() needs an environment, got none; pass it to {name}.load(path, env=env), or call set_env(env)"
        )


class MissingEnvironmentError(InvalidArgumentError):
    """A model is to train without an environment; the hosts raise an AssertionError without a text."""


def warn_of_wide_clip_range(clip_range: Any) -> None:
    """Warn of a clip range that keeps no ratio from falling to 0; the hosts train with it.

    :param clip_range: as given; infinity is what None becomes
    """
    if is_number(clip_range) and 1 <= clip_range < math.inf:
        warnings.warn(
            f"`clip_range` is half the width of [1 - clip_range, 1 + clip_range], got {clip_range!r}: from 1 on no "
            "ratio is clipped from below; 0.1 to 0.3 is usual",
            stacklevel=2,
        )


def check_count(name: str, value: Any, way_out: str) -> None:
    """Refuse what is not a whole number from 1.

    :param name: of the argument
    :param value: given
    :param way_out: what to do instead
    :raises ValueError: naming the argument
    """
    is_count = isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1
    require(is_count, f"`{name}` must be an integer >= 1", value, way_out)


def check_host_numbers(model: Any) -> None:
    """Check numbers of the host's own arguments that it would train with, whatever they are.

    :param model: whose attributes are checked
    :raises ValueError: for a value outside its range
    """
    rate, norm = model.learning_rate, model.max_grad_norm
    ok = callable(rate) or (is_number(rate) and 0 <= rate < math.inf)
    require(ok, "`learning_rate` must be a finite number >= 0 or a schedule", rate, "3e-4 is usual")
    ok = is_number(norm) and norm > 0
    require(ok, "`max_grad_norm` must be > 0", norm, "math.inf switches the clipping of gradients off")
    for name, way_out in (("gamma", "0.99 is usual"), ("gae_lambda", "0.95 is usual")):
        value = getattr(model, name)
        require(is_number(value) and 0 <= value <= 1, f"`{name}` must be in [0, 1]", value, way_out)
    check_count("stats_window_size", model._stats_window_size, "100 is usual")
    every = model.sde_sample_freq
    require(is_number(every), "`sde_sample_freq` must be a number of steps", every, "-1 draws once per rollout")


def check_live_state(model: Any) -> None:
    """Refuse to train with an adapted coefficient that somebody has set to what no update could have made of it.

    :param model: with ``live_state``, the names of its coefficients
    :raises ValueError: for a value outside its range
    """
    for name in model.live_state:
        value = getattr(model, name)
        ok = is_number(value) and 0 <= value < math.inf
        require(ok, f"`{name}` must be a finite number >= 0", value, "leave it to the class, which adapts it")


def check_sizes(n_steps: Any, batch_size: Any, normalize_advantage: Any) -> None:
    """Refuse rollouts and minibatches that are empty, or whose standard deviation is not defined.

    :param n_steps: of a rollout in each environment
    :param batch_size: samples per minibatch
    :param normalize_advantage: as given to the constructor
    :raises ValueError: if it is too small
    """
    check_count("n_steps", n_steps, "2048 is usual")
    check_count("batch_size", batch_size, "64 is usual, and n_steps * n_envs makes one minibatch of the whole rollout")
    rule, way_out = (
        "`batch_size` must be > 1 to normalise advantages",
        "pass normalize_advantage=False or a larger batch",
    )
    require(batch_size > 1 or not normalize_advantage, rule, batch_size, way_out)
