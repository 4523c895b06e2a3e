"""What the callbacks on policy updates share: when an update can be seen, and what of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.distributed.ranks import ranks_of


class UpdateCallback(BaseCallback):
    """Calls ``_on_update`` once after every policy update.

    SB3 calls no callback between an update and the next rollout, so this is at the start of that rollout, or at the end
    of training. The values of the update are in the logger then, whatever ``log_interval`` is: nothing has dumped them
    yet, not ``EvalCallback`` either. What ``_on_update`` records is dumped together with them.

    :param verbose: as in SB3
    """

    needs: ClassVar[str | None] = None
    """Attribute that a model must have to log what the callback looks at; None for any on-policy algorithm."""

    model: OnPolicyAlgorithm
    _n_updates: float = math.inf  # no update counts before training starts
    _seen: object = None  # the model of the last training
    _told_of_missing_keys = False

    def _on_update(self, logged: Mapping[str, Any]) -> None:
        """React to an update.

        :param logged: the logger's values, key -> value
        """
        raise NotImplementedError

    def read(self, logged: Mapping[str, Any], *keys: str) -> float | None:
        """Return the first of the keys that was logged; if there is none, warn once.

        :param logged: as in ``_on_update``
        :param keys: of the logger
        """
        for key in keys:
            if key in logged:
                return float(logged[key])
        if not self._told_of_missing_keys:
            self._told_of_missing_keys = True
            names = " or ".join(keys)
            message = f"{type(self.model).__name__} logs no {names}: {type(self).__name__} has nothing to go by"
            self.warn(message)
        return None

    def warn(self, message: str) -> None:
        """Warn, where several processes train one model in the first of them.

        :param message: of the warning
        """
        if ranks_of(self.model).first:
            warnings.warn(message, stacklevel=3)

    def _init_callback(self) -> None:
        name, model = type(self).__name__, type(self.model).__name__
        self._refuse_parent()
        require(
            isinstance(self.model, OnPolicyAlgorithm),
            f"{name} needs an on-policy algorithm, which has policy updates",
            model,
            "use it with PPO or one of its relatives",
        )
        require(
            self.needs is None or hasattr(self.model, self.needs),
            f"{name} needs an algorithm with a `{self.needs}`",
            model,
            "leave the callback out, or train with PPO or one of its relatives",
        )

    def _on_training_start(self) -> None:
        self._refuse_parent()  # again: a CallbackList hands its own parent on late, through one list only
        self._n_updates = self.model._n_updates
        if self.model is not self._seen or self.model.num_timesteps == 0:
            self._seen = self.model
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget what earlier updates showed: they were those of another run."""

    def _on_rollout_start(self) -> None:
        self._look()

    def _on_step(self) -> bool:
        if self._n_updates == math.inf:  # EvalCallback begins no training of what it calls on a new best
            self._refuse_parent()
        return True

    def _refuse_parent(self) -> None:
        require(
            not isinstance(self.parent, EventCallback),
            f"{type(self).__name__} must not be the child of another callback, which passes no updates on",
            type(self.parent).__name__,
            "put it into the list itself",
        )

    def _on_training_end(self) -> None:  # the zoo calls it twice, or without a training before it
        self._look()

    def _look(self) -> None:
        if self._n_updates == math.inf:
            return
        # The logger may still hold an update of an earlier training or of another model, or none if one was broken off.
        n_updates = self.logger.name_to_value.get("train/n_updates", -1)
        if n_updates == self.model._n_updates > self._n_updates:
            self._n_updates = n_updates
            self._on_update(self.logger.name_to_value)


__all__ = ["UpdateCallback"]
