"""The forward pass of a rollout on a GPU as one CUDA graph: its time goes into starting some forty kernels.

The graph is recorded once and replayed at every step, on the same memory: parameters, inputs and results. It draws from
the GPU's generator what the kernels one by one would.
"""

from collections.abc import Callable
from typing import Any

import torch as th

from sb3_ppo_variants.fast_path.compiler import first_line
from sb3_ppo_variants.fast_path.fingerprint import changed_attribute, plain_attributes
from sb3_ppo_variants.fast_path.graph_recording import collection_paused, forget_workspaces, recovery
from sb3_ppo_variants.fast_path.interception import Parts
from sb3_ppo_variants.fast_path.lean_rollout import Collected, LeanForward
from sb3_ppo_variants.update.arrays import mapped
from sb3_ppo_variants.update.policy_evaluation import foreign_module

_WARM_UP = 3  # passes before the recording, as torch's documentation has it: libraries make their workspaces then


class RecordedForward(LeanForward):
    """The forward pass of :class:`LeanForward`, replayed.

    :param policy: one for which :func:`recording_obstacle` finds nothing
    :param still_fits: as of :class:`StandIn`
    """

    def __init__(self, policy: Any, still_fits: Callable[[], bool] = lambda: True):
        super().__init__(policy, still_fits)
        self._parts = Parts(policy, policy.modules())
        self._graph: Any = None
        self._results: Any = None
        self._layout: list[Any] = []
        self._recorded_with: dict[str, Any] = {}
        self.failure: str | None = None  # why it has given recording up

    def put_in_place(self) -> None:
        super().put_in_place()
        if changed_attribute(plain_attributes(self.policy), self._recorded_with):  # such as an annealed slope
            self._graph = None

    def sample(self, obs: Any, masks: Any) -> Collected | None:
        if masks is not None:
            masks = th.as_tensor(masks, dtype=th.bool, device=self.policy.device)
        if self.failure or self.policy.training or not self._parts.in_place():
            return super().sample(obs, masks)  # a callback has given a parameter other memory, or replaced a module
        given = _tensors(obs, masks)
        if self._graph is None or len(given) != len(self._layout):  # with masks now, or without
            try:
                self._record(obs, masks)
            except RuntimeError as error:
                self.failure = f"recording failed: {first_line(error)}"
                return super().sample(obs, masks)
        if _layout(given) != self._layout:  # of other environments
            return super().sample(obs, masks)
        for place, tensor in zip(self._inputs, given):
            place.copy_(tensor)
        self._graph.replay()
        actions, values, log_prob = (result.clone() for result in self._results)  # the next step writes over them
        return actions, values, log_prob

    def _record(self, obs: Any, masks: Any) -> None:
        """Record the pass for inputs of this shape; the generator stays as it is."""
        obs, masks = mapped(th.clone, obs), None if masks is None else masks.clone()
        self._inputs = _tensors(obs, masks)
        self._layout = _layout(self._inputs)
        self._recorded_with = plain_attributes(self.policy)
        device = self.policy.device
        graph, stream = th.cuda.CUDAGraph(), th.cuda.Stream(device)
        current = th.cuda.stream(th.cuda.current_stream(device))
        with collection_paused(), th.cuda.device(device), th.random.fork_rng([device]), current:
            stream.wait_stream(th.cuda.current_stream())
            with th.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    super().sample(obs, masks)
            forget_workspaces()
            pool = th.cuda.graph_pool_handle()
            # Thread-local, so that other threads, as of nccl, go on
            recorded = th.cuda.graph(graph, pool, stream, capture_error_mode="thread_local")
            with recovery(pool, device), recorded:
                self._results = super().sample(obs, masks)
            forget_workspaces()
        self._graph = graph


def recording_obstacle(policy: Any) -> str | None:
    """Say why a policy's forward pass is not recorded.

    :param policy: one whose actions are drawn by a closed form
    :return: the reason, or None if it is
    """
    if policy.device.type != "cuda":
        return "the policy is not on a GPU"
    if getattr(policy, "use_sde", False):  # contrib's maskable one does not know it
        return "gSDE puts its noise into new memory"
    foreign = foreign_module(policy)  # it may do other things at every call
    return foreign and f"{foreign} is a module of somebody's own"


def _tensors(obs: Any, masks: th.Tensor | None) -> list[th.Tensor]:
    found = [obs[key] for key in sorted(obs)] if isinstance(obs, dict) else [obs]
    return found if masks is None else [*found, masks]


def _layout(tensors: list[th.Tensor]) -> list[Any]:
    return [(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors]
