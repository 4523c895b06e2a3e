"""Callbacks of a run in several processes: which of them act where, and one end of a rollout for all."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    ConvertCallback,
    EvalCallback,
    EventCallback,
    ProgressBarCallback,
)
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_ppo_variants.distributed.callback_tree import callbacks_of
from sb3_ppo_variants.distributed.moments import Moments, merged_moments, running_statistics
from sb3_ppo_variants.distributed.ranks import Ranks

_ON_FIRST_RANK = (EvalCallback, CheckpointCallback, ProgressBarCallback)
_EPISODES = ("ep_info_buffer", "ep_success_buffer")


def callbacks_of_other_ranks(callback: MaybeCallback) -> CallbackList:
    """Leave out what must act once per run: what evaluates, saves or shows progress.

    A callback of one's own is left out too if it has an attribute ``first_rank_only`` that is true. What stays prints
    nothing: the lists and callbacks are changed themselves, as each process has its own.

    :param callback: as given to ``learn``
    :return: the callbacks of every rank but the first
    """
    given = callback if isinstance(callback, list) else [] if callback is None else [callback]
    kept = [one if isinstance(one, BaseCallback) else ConvertCallback(one) for one in given]
    return CallbackList([one for one in kept if _without_what_acts_once(one)])


def callbacks_of_every_rank(callback: MaybeCallback) -> list[str]:
    """Name the callbacks that exchange something, so that one rank alone would wait for ever.

    They have an attribute ``every_rank`` that is true.

    :param callback: as given to ``learn``
    """
    given = callback.callbacks if isinstance(callback, CallbackList) else callback
    if isinstance(given, list):
        return [name for one in given for name in callbacks_of_every_rank(one)]
    return [type(given).__name__] if getattr(given, "every_rank", False) else []


def _without_what_acts_once(callback: BaseCallback) -> bool:
    """Leave out what acts once of what a callback calls; False if nothing is left of it."""
    if isinstance(callback, _ON_FIRST_RANK) or getattr(callback, "first_rank_only", False):
        return False
    callback.verbose = 0
    if isinstance(callback, CallbackList):
        callback.callbacks = [one for one in callback.callbacks if _without_what_acts_once(one)]
    child = callback.callback if isinstance(callback, EventCallback) else None
    return child is None or _without_what_acts_once(child)  # as in EveryNTimesteps(n, CheckpointCallback(...))


class _Contribution(NamedTuple):
    """What one rank brings to the end of a rollout."""

    stops: bool
    episodes: list[list[Any]]
    statistics: list[Moments]


class _Episodes(deque[Any]):
    """The last episodes of a model, which also keeps all that are added to it.

    :param episodes: so far
    :param window: how many are the last
    """

    def __init__(self, episodes: Iterable[Any], window: int | None):
        super().__init__(episodes, window)
        self.before, self.added = list(self), list[Any]()

    def clear(self) -> None:
        self.before, self.added = [], []
        super().clear()

    def append(self, episode: Any) -> None:
        self.extend([episode])

    def extend(self, episodes: Iterable[Any]) -> None:
        new = list(episodes)
        self.added += new
        super().extend(new)

    def __reduce__(self) -> Any:
        """Save and copy as SB3's own."""
        return deque(self, self.maxlen).__reduce__()


def _recorded(episodes: Any) -> _Episodes:
    """Return the episodes of a rollout; a callback may have put others in their place, which then are the new ones."""
    if isinstance(episodes, _Episodes):
        return episodes
    recorded = _Episodes((), None)
    recorded.extend(episodes)
    return recorded


class SharedRollouts(CallbackList):
    """The root of a rank's callbacks: makes the rollouts of all ranks one.

    Timesteps count over all ranks. A callback that ends training does so on all ranks, when the rollout is complete.

    :param callbacks: of this rank, initialised
    :param model: which is about to learn
    :param ranks: of the run
    :param common: statistics of ``VecNormalize`` that all ranks begin with, see :func:`running_statistics`
    """

    def __init__(self, callbacks: Sequence[BaseCallback], model: Any, ranks: Ranks, common: list[Moments]):
        super().__init__(list(callbacks))
        self.model = model
        self._ranks = ranks
        self._common = common
        self._stops = False
        self._bars = [one for one in callbacks_of(self) if isinstance(one, ProgressBarCallback)]

    def _on_training_start(self) -> None:
        with self._ranks.failing_together():
            super()._on_training_start()

    def _on_training_end(self) -> None:
        with self._ranks.failing_together():
            super()._on_training_end()

    def _on_rollout_start(self) -> None:
        super()._on_rollout_start()
        model: Any = self.model
        for name in _EPISODES:
            setattr(model, name, _Episodes(getattr(model, name), model._stats_window_size))

    def on_step(self) -> bool:
        of_others = (self._ranks.size - 1) * self.model.n_envs
        self.model.num_timesteps += of_others
        self._stops = self._stops or not super().on_step()
        for bar in self._bars:
            bar.pbar.update(of_others)
        return True  # the others would wait for a rollout that is broken off

    def _on_rollout_end(self) -> None:
        if not self._stops:
            super()._on_rollout_end()

    def exchange(self) -> bool:
        """Share what the rollout brought: episodes, statistics, the wish to end.

        :return: False if training ends
        """
        model: Any = self.model
        statistics = running_statistics(model.env)
        held = [_recorded(getattr(model, name)) for name in _EPISODES]
        added = [episodes.added for episodes in held]
        of_ranks = self._ranks.gather(_Contribution(self._stops, added, [Moments.of(one) for one in statistics]))
        for place, name in enumerate(_EPISODES):
            episodes = held[place].before
            for one in of_ranks:
                episodes += one.episodes[place]
            setattr(model, name, deque(episodes, maxlen=model._stats_window_size))
        for place, shared in enumerate(statistics):
            self._common[place] = merged_moments(self._common[place], [one.statistics[place] for one in of_ranks])
            self._common[place].put_into(shared)
        return not any(one.stops for one in of_ranks)


__all__ = ["SharedRollouts", "callbacks_of_every_rank", "callbacks_of_other_ranks"]
