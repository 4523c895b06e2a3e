"""Everything this package knows of an action distribution, one class each: how SB3's object is read, and closed forms.

A class that only reads and compares (``parameters``, ``kl``) is enough for an exact trust region. With ``closed_form``
the fast path also does without SB3's and torch's distribution objects, whose construction costs several times the
arithmetic for small networks. To add a distribution, write a class and :func:`register_distribution` it.
"""

import torch as th
from sb3_contrib.common.maskable.distributions import (
    MaskableBernoulliDistribution,
    MaskableCategoricalDistribution,
    MaskableMultiCategoricalDistribution,
)
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)

from sb3_ppo_variants.update.distributions.base import ActionDistribution, Context, Point, Slopes
from sb3_ppo_variants.update.distributions.categorical import Bernoulli, Categorical, MaskedCategorical
from sb3_ppo_variants.update.distributions.gaussian import DiagonalGaussian, Gaussian, StateDependentGaussian
from sb3_ppo_variants.update.kl_divergence import KLDirection

_known: dict[type[Distribution], ActionDistribution] = {
    CategoricalDistribution: Categorical(),
    MultiCategoricalDistribution: Categorical(),
    BernoulliDistribution: Bernoulli(),
    DiagGaussianDistribution: DiagonalGaussian(),
    StateDependentNoiseDistribution: StateDependentGaussian(),
    MaskableCategoricalDistribution: MaskedCategorical(),
    MaskableMultiCategoricalDistribution: MaskedCategorical(),
    MaskableBernoulliDistribution: MaskedCategorical(),
}


def register_distribution(distribution_class: type[Distribution], form: ActionDistribution) -> None:
    """Make a custom distribution usable with exact KL.

    :param distribution_class: subclasses are covered too
    :param form: how to read and compare its parameters
    :raises TypeError: if it is a class in place of an object of one
    """
    if not isinstance(form, ActionDistribution):
        raise TypeError(f"`form` must be an ActionDistribution, such as MyForm(), got {form!r}")
    _known[distribution_class] = form


def action_distribution(distribution: Distribution) -> ActionDistribution:
    """Look up what is known of an SB3 distribution: of its class, or of the nearest base class.

    :param distribution: of a policy
    :raises TypeError: for a class that nothing is known of
    """
    for cls in type(distribution).__mro__:
        if cls in _known:
            return _known[cls]
    known = ", ".join(sorted(cls.__name__ for cls in _known))
    raise TypeError(
        f"no exact KL divergence is known for {type(distribution).__name__}; supported are {known} and their "
        "subclasses; add yours with sb3_ppo_variants.extend.register_distribution(cls, ...)"
    )


def closed_form(distribution: Distribution) -> ActionDistribution | None:
    """Return the closed form of exactly this class of distribution: a subclass may do other things.

    :param distribution: of a policy
    """
    form = _known.get(type(distribution))
    return form if form is not None and form.closed_form and form.obstacle(distribution) is None else None


def kl_divergence(old: Distribution, new: Distribution, direction: KLDirection = "forward") -> th.Tensor:
    """Exact KL divergence of two evaluated distributions of the same class.

    The two must be different objects: SB3 policies overwrite the one they own at every forward pass.

    :param old: distribution of the policy that collected the data
    :param new: distribution of the policy being optimised
    :param direction: ``"forward"`` for KL(old || new), ``"reverse"`` for KL(new || old)
    :return: shape (n_batch,), nats, of the joint action (summed over action dimensions)
    :raises TypeError: for different classes, or one that nothing is known of
    :raises ValueError: for an unknown direction, or the same object twice
    """
    if direction not in ("forward", "reverse"):
        raise ValueError(f"`direction` must be 'forward' or 'reverse', got {direction!r}")
    if old is new:
        raise ValueError(
            "`old` and `new` are one object: a policy overwrites its own; ask a copy of the policy for one"
        )
    if type(old) is not type(new):
        raise TypeError(f"the distributions must be of one class, got {type(old).__name__} and {type(new).__name__}")
    form = action_distribution(old)
    kl: th.Tensor = form.directed_kl(form.parameters(old), form.parameters(new), direction)
    return kl


__all__ = [
    "ActionDistribution",
    "Bernoulli",
    "Categorical",
    "Context",
    "DiagonalGaussian",
    "Gaussian",
    "MaskedCategorical",
    "Point",
    "Slopes",
    "StateDependentGaussian",
    "action_distribution",
    "closed_form",
    "kl_divergence",
    "register_distribution",
]
