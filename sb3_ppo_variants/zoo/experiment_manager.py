"""The zoo's experiment manager with hyperparameter files of our own."""

import inspect
from pathlib import Path
from typing import Any

from rl_zoo3.exp_manager import ExperimentManager as StockExperimentManager

from sb3_ppo_variants.zoo import ALGORITHMS


def hyperparams_folder() -> Path:
    """Return the folder with one YAML file per algorithm: in the installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "hyperparams"
    return installed if installed.is_dir() else package.parent / "hyperparams"


class VariantExperimentManager(StockExperimentManager):
    """rl-zoo3's experiment manager that takes the hyperparameters of our algorithms from our own files.

    An explicit ``--conf-file`` is used as it is, and stock algorithms keep the zoo's files.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given = inspect.signature(StockExperimentManager).bind(*args, **kwargs).arguments
        if not given.get("config") and self.algo in ALGORITHMS:
            self.config = str(hyperparams_folder() / f"{self.algo}.yml")


__all__ = ["StockExperimentManager", "VariantExperimentManager", "hyperparams_folder"]
