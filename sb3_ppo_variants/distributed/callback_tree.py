"""The callbacks of a training, nested as Stable-Baselines3 nests them."""

from collections.abc import Iterator

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback, EventCallback


def callbacks_of(root: BaseCallback) -> Iterator[BaseCallback]:
    """Yield a callback and all that it calls, in the order in which SB3 calls them.

    :param root: of the tree
    """
    yield root
    children: list[BaseCallback | None] = []
    children += root.callbacks if isinstance(root, CallbackList) else []
    children += [root.callback] if isinstance(root, EventCallback) else []
    children += [root.callback_on_new_best] if isinstance(root, EvalCallback) else []
    for child in children:
        if child is not None:
            yield from callbacks_of(child)


__all__ = ["callbacks_of"]
