"""What each update logged, as rows."""

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class UpdateTraceCallback(BaseCallback):
    """Keeps the ``train/...`` values of every update, of any algorithm that logs ``train/n_updates``."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._updates: float | None = None

    def _on_rollout_start(self) -> None:
        self._read(self.logger.name_to_value)

    def _on_training_end(self) -> None:
        self._read(self.logger.name_to_value)

    def _on_step(self) -> bool:
        return True

    def _read(self, logged: Mapping[str, Any]) -> None:
        updates = logged.get("train/n_updates")
        if updates is None or updates == self._updates:
            return
        self._updates = updates
        numbers = {
            key.removeprefix("train/"): float(value) for key, value in logged.items() if key.startswith("train/")
        }
        self.rows.append({"timesteps": self.num_timesteps, **numbers})


__all__ = ["UpdateTraceCallback"]
