"""The fast path of one update with small networks on the CPU: whole minibatches in numpy, without a compiler.

The loss, its derivative and the distributions' closed forms are the same code as elsewhere (``update/arrays.py``); the
networks are ``numpy_trunk.py``'s, and the step is the flat Adam's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th

from sb3_ppo_variants.fast_path.blas_threads import one_blas_thread
from sb3_ppo_variants.fast_path.closed_forms import closed_form_of, masks_of
from sb3_ppo_variants.fast_path.flat_observations import as_vectors
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam
from sb3_ppo_variants.fast_path.mlp_trunk import MlpTrunk
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyTrunk
from sb3_ppo_variants.fast_path.staged_update import StagedUpdate
from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.arrays import as_number, mapped
from sb3_ppo_variants.update.distributions import ActionDistribution, Context
from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.update_metrics import MinibatchMetrics

_ROWS_AT_ONCE = 2048
_MEASURED_AT_ONCE = 256  # as fit the cache nearest to the core, with what the layers make of them
_MOST_PRODUCTS = 200_000_000  # on one torch thread: up to there numpy leads, in the end by the passes between products
_MOST_BESIDE_THREADS = 50_000_000  # shared by the threads, if there are more: torch's products use them all
_Minibatch = tuple[Any, Parameters | None]


class NumpyUpdate(StagedUpdate):
    """A staged update that gives the loss numpy's arrays instead of tensors.

    :param algorithm: whose rollout buffer is full
    :param form: closed form of the policy
    :param adam: flat optimiser
    :param trunk: the policy's network in torch
    :param in_numpy: and in numpy
    """

    def __init__(
        self,
        algorithm: UpdatedAlgorithm,
        form: ActionDistribution,
        adam: FlatAdam,
        trunk: MlpTrunk,
        in_numpy: NumpyTrunk,
    ):
        self.in_numpy = in_numpy  # the first measurement needs it
        super().__init__(algorithm, form, adam, trunk)
        self._rollout: Any = mapped(th.Tensor.numpy, self.rollout.rollout)
        self._old = tuple(p.detach().numpy() for p in self.old) if self.rules.needs_old_distribution else ()

    def in_arrays(self, minibatch: Any, old: Parameters | None) -> _Minibatch:
        """Return a minibatch as arrays, observations as vectors.

        :param minibatch: of the host's NamedTuple
        :param old: parameters of the distribution before the update
        """
        arrays = mapped(th.Tensor.numpy, minibatch)
        vectors = as_vectors(self.policy.observation_space, arrays.observations)
        return arrays._replace(observations=vectors), old and tuple(p.detach().numpy() for p in old)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the epochs: numpy's products on one thread; NaN and infinity are looked for where all paths do."""
        with one_blas_thread(), np.errstate(all="ignore"):
            yield

    def minibatches(self) -> Iterator[_Minibatch]:  # type: ignore[override]  # opaque to the update loop
        """Yield the minibatches of one epoch, in the order stock PPO would draw, with the old distributions there."""
        rows, size = self.rows_of_epoch().numpy(), self.batch_size
        rollout = self._rollout._replace(advantages=self.rollout.rollout.advantages.numpy())
        together = max(1, _ROWS_AT_ONCE // size) * size
        for start in range(0, len(rows), together):
            some = rows[start : start + together]
            # an index takes several times as long as take()
            observations, *others = mapped(lambda field: field.take(some, axis=0), rollout)  # noqa: B023  # called at once
            fields = [as_vectors(self.policy.observation_space, observations), *others]
            old = [p.take(some, axis=0) for p in self._old]
            for first in range(0, len(some), size):
                part = slice(first, first + size)
                minibatch = type(self._rollout)(*[field[part] for field in fields])
                yield minibatch, tuple([p[part] for p in old]) or None

    def step(self, minibatch: _Minibatch, coefficients: dict[str, Number]) -> tuple[th.Tensor, bool]:  # type: ignore[override]  # as above
        samples, old = minibatch
        return self.finish(self.written_step(samples, old, coefficients, self.in_numpy))

    def written_step(self, minibatch: Any, old: Any, c: dict[str, Number], trunk: Any) -> MinibatchMetrics:
        if trunk is self.in_numpy:
            c = {name: as_number(number) for name, number in c.items()}
        return super().written_step(minibatch, old, c, trunk)

    def _action_parameters(self, piece: Any) -> tuple[ActionDistribution, Parameters]:
        assert self.form is not None
        rows = mapped(th.Tensor.numpy, piece)
        vectors, masks = as_vectors(self.policy.observation_space, rows.observations), masks_of(rows)
        found = []
        with self.running():
            for first in range(0, len(vectors), _MEASURED_AT_ONCE):
                part = slice(first, first + _MEASURED_AT_ONCE)
                output = self.in_numpy.actor.forward(vectors[part]).copy()
                context = Context(self.in_numpy.latent, None if masks is None else masks[part])
                found.append(self.form.from_output(self.policy, output, context))
        return self.form, tuple(th.from_numpy(np.concatenate(some)) for some in zip(*found))


def numpy_obstacle(algorithm: UpdatedAlgorithm) -> str | None:
    """Say why an update that is written out is not done in numpy.

    :param algorithm: whose networks are plain MLPs
    :return: the reason, or None if it is
    """
    policy = algorithm.policy
    if policy.device.type != "cpu":
        return "the policy is not on the CPU"
    if not closed_form_of(policy).takes_arrays:
        return f"the closed form of {type(policy.action_dist).__name__} takes tensors only"
    threads = th.get_num_threads()
    most = _MOST_PRODUCTS if threads == 1 else _MOST_BESIDE_THREADS // threads
    weights = sum(p.numel() for p in policy.parameters())
    if weights * int(algorithm.batch_size) > most:
        return f"a minibatch has more than {most} products of weight and sample"
    return algorithm.array_obstacle()
