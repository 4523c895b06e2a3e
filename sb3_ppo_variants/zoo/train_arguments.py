"""What rl-zoo3's ``train`` takes without a word, or refuses without naming it, is refused by name."""

import argparse
import ast
import builtins
import glob
import re
from pathlib import Path

import rl_zoo3.utils
import yaml

from sb3_ppo_variants.zoo import ALGORITHMS
from sb3_ppo_variants.zoo.mistakes import refuse


def check_train_arguments(arguments: list[str]) -> None:
    """Look at the arguments before the zoo's parser does.

    :param arguments: of the command line
    :raises SystemExit: with status 2 and one line
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--algo")
    parser.add_argument("--env")  # which is not short for --env-kwargs
    parser.add_argument("-i", "--trained-agent", default="")
    parser.add_argument("-n", "--n-timesteps", default="-1")
    parser.add_argument("-conf", "--conf-file", default="")
    parser.add_argument("-f", "--log-folder", default="")
    parser.add_argument("--seed", default="-1")
    parser.add_argument("--trial-id")
    parser.add_argument("--storage")
    parser.add_argument("--study-name")
    parser.add_argument("-optimize", "--optimize-hyperparameters", action="store_true")
    for count in (*_COUNTS, *_COUNTS_OR_ALL):
        parser.add_argument(count, default="1")
    for option in _EXPRESSIONS:
        parser.add_argument(*option, nargs="+", default=[], dest=option[0])
    given = parser.parse_known_args(arguments)[0]
    if given.algo is None:
        refuse(f"--algo is missing; choose from {', '.join(rl_zoo3.ALGOS)}, where ppo is Stable-Baselines3's own")
    if given.trained_agent:
        _check_agent(Path(given.trained_agent))
    if re.fullmatch(r"-?\d+", given.n_timesteps) and int(given.n_timesteps) < 1 and given.n_timesteps != "-1":
        refuse(f"-n must be >= 1, got {given.n_timesteps}; leave it out for the n_timesteps of the environment's entry")
    _check_counts(vars(given))
    if glob.has_magic(given.log_folder):
        refuse(
            f"-f must not have *, ? or [, which the zoo takes for patterns, got {given.log_folder!r}; choose another"
        )
    if re.fullmatch(r"\d+", given.seed) and int(given.seed) >= 2**32:
        refuse(f"--seed must be below 2**32, got {given.seed}; numpy takes no larger one")
    _check_conf_file(given.conf_file)
    _check_study(given)
    for option in _EXPRESSIONS:
        for text in getattr(given, option[0]):
            _check_value(option[0], text)


_EXPRESSIONS = (("-params", "--hyperparams"), ("--env-kwargs",), ("--eval-env-kwargs",))
"""Options that take KEY:VALUE."""

_COUNTS = ("--n-eval-envs", "--n-evaluations", "--eval-episodes")
_COUNTS_OR_ALL = {"--log-interval": ("-1", "-2"), "--n-jobs": ("-1",)}
"""Which values below 1 have a meaning of their own."""


def _check_counts(given: dict[str, str]) -> None:
    for count in (*_COUNTS, *_COUNTS_OR_ALL):
        value = given[count[2:].replace("-", "_")]
        others = _COUNTS_OR_ALL.get(count, ())
        if re.fullmatch(r"-?\d+", value) and int(value) < 1 and value not in others:
            refuse(f"{count} must be {' or '.join(('>= 1', *others))}, got {value}")


def _check_study(given: argparse.Namespace) -> None:
    """Refuse half a study, and what the zoo would not load of one: training would go on with the untuned entry."""
    if given.trial_id is not None and not (given.storage and given.study_name):
        refuse(f"--trial-id {given.trial_id} needs --storage and --study-name: the study that has this trial")
    if given.optimize_hyperparameters or not (given.storage or given.study_name):
        return
    if not (given.storage and given.study_name):
        there, missing = ("--storage", "--study-name") if given.storage else ("--study-name", "--storage")
        refuse(f"{there} needs {missing}, too, to train with a trial of a study; -optimize makes one")
    if given.algo not in ALGORITHMS and given.trial_id in (None, "0"):
        refuse(f"--algo {given.algo} is the zoo's own, which loads a trial by --trial-id 1 or higher only")


def _check_conf_file(name: str) -> None:
    if not name.endswith((".yml", ".yaml", ".py")):
        return
    if not Path(name).is_file():
        refuse(f"-conf takes a .yml or .py file or a dotted module, got {name!r}; there is no such file")
    if not name.endswith(".py") and not isinstance(yaml.safe_load(Path(name).read_text()), dict):
        refuse(f"-conf takes a file with an entry for each environment, got {name!r}, which has none")


def _check_agent(path: Path) -> None:
    if path.suffix != ".zip" or not path.is_file():
        folder = path if path.is_dir() else path.parent
        models = ", ".join(str(model) for model in sorted(folder.glob("*.zip"))) or "no .zip file"
        refuse(f"-i takes the .zip file of a model, got {str(path)!r}; in {folder} there is {models}")


def _check_value(option: str, text: str) -> None:
    key, colon, value = text.partition(":")
    value = value.strip()  # as eval() does, by which the zoo reads it
    if re.match(r"\w+=", key):
        refuse(f"{option} takes KEY:VALUE, got {text!r}; write {text.replace('=', ':', 1)!r}")
    if not colon:
        refuse(f"{option} takes KEY:VALUE, got {text!r}; give a value, as in target_kl:0.01")
    try:
        if not _unknown_names(ast.parse(value, mode="eval")):
            return
    except SyntaxError:
        pass
    refuse(
        f"{option} takes KEY:VALUE with a Python expression as value, got {text!r}; text needs quotes of its own: "
        f'"{key}:{value!r}"'
    )


def _unknown_names(expression: ast.Expression) -> set[str]:
    """Return the names in an expression that the zoo, which evaluates it in its own module, does not have."""
    names = [node for node in ast.walk(expression) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(expression) if isinstance(node, ast.arg)}
    return {node.id for node in names} - bound - vars(rl_zoo3.utils).keys() - set(dir(builtins))


__all__ = ["check_train_arguments"]
