"""The policy as it was before an update, to be asked for its distributions.

It is a copy. Where somebody has hung a function onto a module, as a wrapper around ``forward()`` or a compiled method,
the copy would call the module that is being trained: then the policy itself is asked, with its old parameters. So is
one that cannot be copied, as with a lock or an open file in a module.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType

from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from sb3_ppo_variants.update.buffers import KeptTensors
from sb3_ppo_variants.update.policy_evaluation import KNOWN_PACKAGES, measuring, package_of, snapshot_policy


class OldPolicy:
    """A policy as it is when this is made.

    :param policy: of any host, about to be updated
    """

    def __init__(self, policy: ActorCriticPolicy):
        self._policy = policy
        self._copy = None if holds_functions(policy) else _copy_of(policy)
        self._old = KeptTensors(policy) if self._copy is None else None

    @property
    def policy(self) -> ActorCriticPolicy:
        """Who is asked."""
        return self._policy if self._copy is None else self._copy

    @contextmanager
    def asked(self) -> Iterator[ActorCriticPolicy]:
        """Let it be asked, for a measurement without gradient; no graph of the policy may be waiting for its backward.

        :return: the policy with the old parameters
        """
        with self._with_old_parameters(), measuring(self.policy):
            yield self.policy

    @contextmanager
    def _with_old_parameters(self) -> Iterator[None]:
        if self._old is None:  # the copy has them
            yield
            return
        now = KeptTensors(self._policy)
        try:
            self._old.put_back()
            yield
        finally:
            now.put_back()


def _copy_of(policy: ActorCriticPolicy) -> ActorCriticPolicy | None:
    try:
        return snapshot_policy(policy)
    except Exception:  # whatever somebody's own object raises at being copied
        return None


def holds_functions(policy: BasePolicy) -> bool:
    """Tell whether a module holds a function that may know the module: in a copy it would be the same function.

    :param policy: of any host
    """
    for module in policy.modules():
        for value in vars(module).values():
            for one in value.values() if isinstance(value, dict) else (value,):  # hooks are in dictionaries
                if isinstance(one, FunctionType) and (one.__closure__ or package_of(one) not in KNOWN_PACKAGES):
                    return True
    return False


__all__ = ["OldPolicy", "holds_functions"]
