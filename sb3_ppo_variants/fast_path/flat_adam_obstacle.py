"""What speaks against Adam on one flat tensor: other optimisers, and parameters that somebody else has a say in."""

from itertools import pairwise

import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_ppo_variants.fast_path.interception import optimizer_obstacle


def flat_adam_obstacle(policy: BasePolicy) -> str | None:
    """Say why a policy's optimiser cannot be replaced by :class:`FlatAdam`.

    :param policy: any policy
    :return: the reason, or None if it can
    """
    optimizer = policy.optimizer
    if type(optimizer) is not th.optim.Adam:
        return f"the optimiser is {type(optimizer).__name__}, not Adam"
    intercepted = optimizer_obstacle(optimizer)
    if intercepted is not None:
        return intercepted
    if len(optimizer.param_groups) != 1:
        return "the optimiser has several parameter groups"
    group = optimizer.param_groups[0]
    unusual = [
        key
        for key in ("weight_decay", "amsgrad", "maximize", "differentiable", "capturable", "fused")
        if group.get(key)
    ]
    if unusual:
        return f"the optimiser uses {', '.join(unusual)}"
    parameters = list(policy.parameters())
    if {id(p) for p in parameters} != {id(p) for p in group["params"]}:
        return "the optimiser does not hold exactly the policy's parameters"
    on_cpu = parameters[0].device.type == "cpu"
    if (on_cpu and any(p.is_shared() for p in parameters)) or _overlap(parameters):  # on a GPU all are "shared"
        return "somebody else shares the parameters' memory"
    steps = {int(optimizer.state.get(p, {}).get("step", 0)) for p in parameters}
    if len(steps) > 1:
        return "some parameters have taken more steps than others"
    if any(p.dtype != th.float32 or p.device != parameters[0].device or not p.requires_grad for p in parameters):
        return "parameters differ in type or device, or are frozen"
    return None


def _overlap(parameters: list[th.nn.Parameter]) -> bool:
    """Tell whether two parameters have memory in common, as those that were tied by their ``data`` have."""
    places = sorted((p.data_ptr(), p.data_ptr() + p.nbytes) for p in parameters)
    return any(end > start for (_, end), (start, _) in pairwise(places))


__all__ = ["flat_adam_obstacle"]
