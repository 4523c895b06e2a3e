"""Search spaces for the zoo's ``-optimize``: its own for PPO, and the arguments of our classes.

A sampler lets the zoo suggest first, adds our suggestions and returns what the converter makes of the trial: a trial
that is loaded back later has the same values.
"""

from typing import Any

import optuna
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

from sb3_ppo_variants.algorithms.adaptation import AdaptiveUpdateMixin
from sb3_ppo_variants.algorithms.ppo_clip import ClipMixin
from sb3_ppo_variants.algorithms.ppo_penalty import KLPenaltyMixin
from sb3_ppo_variants.zoo import ALGORITHMS, has_clip_range, host_name

SAMPLED_WITHIN_BOUNDS = ("`learning_rate`", "`clip_range`", "`initial_beta`")
"""How messages name what classes check against bounds and every trial samples, so that no entry's value is used."""


class _WithoutClipRange:
    """A trial in which the zoo's suggestion of ``clip_range`` leaves no trace: the algorithm has none."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return choices[0] if name == "clip_range" else self._trial.suggest_categorical(name, choices)


def _suggest(algo: str, trial: optuna.Trial) -> None:
    """Suggest our own arguments.

    :param algo: key of ``ALGORITHMS``
    :param trial: gets the suggestions
    """
    cls = ALGORITHMS[algo]
    trial.suggest_categorical("clip_range_vf", [None, 0.1, 0.2, 0.5])  # in standard deviations of the returns
    trial.suggest_categorical("value_loss", ["mse", "huber"])
    if issubclass(cls, ClipMixin) and has_clip_range(algo):
        trial.suggest_categorical("clip_range_upper_factor", [1.0, 1.5, 2.0])
        trial.suggest_categorical("dual_clip", [None, 2.0, 3.0, 5.0])
    if issubclass(cls, KLPenaltyMixin):
        trial.suggest_float("initial_beta", 0.1, 10.0, log=True)
    if issubclass(cls, AdaptiveUpdateMixin):
        trial.suggest_float("target_kl", 0.003, 0.1, log=True)
        trial.suggest_float("adaptation_factor", 1.1, 2.0, log=True)


def sample(
    algo: str, trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """Suggest hyperparameters, as an entry of the zoo's HYPERPARAMS_SAMPLER does.

    :param algo: one of ours
    :param trial: gets the suggestions
    :param n_actions: as in the zoo, like the rest
    """
    for_zoo = trial if has_clip_range(algo) else _WithoutClipRange(trial)
    HYPERPARAMS_SAMPLER[host_name(algo)](for_zoo, n_actions, n_envs, additional_args)  # type: ignore[arg-type]
    _suggest(algo, trial)
    return convert(algo, trial.params)


def convert(algo: str, suggested: dict[str, Any]) -> dict[str, Any]:
    """Make arguments of what was suggested, as an entry of the zoo's HYPERPARAMS_CONVERTER does.

    :param algo: one of ours
    :param suggested: parameters of a trial
    """
    arguments = HYPERPARAMS_CONVERTER[host_name(algo)](suggested)
    arguments["value_clip_scale"] = "return_std"
    if "clip_range_upper_factor" in arguments:
        factor = arguments.pop("clip_range_upper_factor")
        arguments["clip_range_upper"] = None if factor == 1.0 else factor * arguments["clip_range"]
    return arguments


__all__ = ["SAMPLED_WITHIN_BOUNDS", "convert", "sample"]
