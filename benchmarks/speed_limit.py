"""What no training loop can be faster than: the simulator alone, and the matrix products alone.

Both are measured on the machine and with the shapes of the setting. The simulator: the environments of
``make_vec_env``, stepped with random actions, reset, and asked for action masks if they have any, without a VecEnv. The
products: of every linear, convolutional and recurrent layer, one forward per step of the rollout, forward and two
backward per sample and epoch, in torch, numpy or oneDNN, whichever is fastest; nothing for biases, activations, the
loss or the optimiser.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from speed_settings import Setting, make_model
from torch import nn

from sb3_ppo_variants.fast_path.onednn_products import product


def limit(setting: Setting, device: str, seed: int) -> dict[str, float]:
    """Measure a setting's limit.

    :param setting: to train on
    :param device: of the policy
    :param seed: of environments and networks
    :return: seconds per environment step, of each part
    """
    model = make_model("stock", setting, device, seed)
    simulator = _simulator_seconds(model.env.envs)
    at_rollout = sum(sum(_products(layer, setting.n_envs)[:1]) for layer in _layers(model.policy)) / setting.n_envs
    in_update = sum(sum(_products(layer, setting.batch_size)) for layer in _layers(model.policy)) / setting.batch_size
    return {"simulator": simulator, "products": at_rollout + setting.n_epochs * in_update}


def _simulator_seconds(envs: list[Any], steps: int = 2000) -> float:
    for env in envs:
        env.reset()
    actions = [envs[0].action_space.sample() for _ in range(100)]
    masks = envs[0].has_wrapper_attr("action_masks")
    start = time.perf_counter()
    for i in range(steps):
        env = envs[i % len(envs)]
        if masks:
            env.get_wrapper_attr("action_masks")()
        _, _, terminated, truncated, _ = env.step(actions[i % 100])
        if terminated or truncated:
            env.reset()
    return (time.perf_counter() - start) / steps


def _layers(policy: Any) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Find every layer with weights, and the shape of one sample of its input."""
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def remember(module: nn.Module, inputs: Any, _: Any) -> None:
        shapes[module] = tuple(inputs[0].shape[1:])

    hooks = [module.register_forward_hook(remember) for module in policy.modules() if isinstance(module, nn.Conv2d)]
    observation, _ = policy.obs_to_tensor(policy.observation_space.sample())
    with th.no_grad():
        features = policy.extract_features(observation)
    for hook in hooks:
        hook.remove()
    assert features is not None
    known = (nn.Linear, nn.Conv2d, nn.LSTM)
    return [(module, shapes.get(module, ())) for module in policy.modules() if isinstance(module, known)]


def _products(layer: tuple[nn.Module, tuple[int, ...]], rows: int) -> list[float]:
    """Time the products of a layer: forward, by the weight, and by the input."""
    module, shape = layer
    if isinstance(module, nn.Conv2d):
        inputs, weight = th.randn(rows, *shape, device=module.weight.device), module.weight.detach()
        inputs = inputs.contiguous(memory_format=th.channels_last)
        output = th.nn.functional.conv2d(inputs, weight, stride=module.stride)
        return [
            _seconds(lambda: th.nn.functional.conv2d(inputs, weight, stride=module.stride)),
            _seconds(lambda: th.nn.grad.conv2d_weight(inputs, weight.shape, output, stride=module.stride)),
            _seconds(lambda: th.nn.grad.conv2d_input(inputs.shape, weight, output, stride=module.stride)),
        ]
    weights = [module.weight] if isinstance(module, nn.Linear) else [module.weight_ih_l0, module.weight_hh_l0]  # type: ignore[union-attr]
    times = [_matrix_products(weight.detach(), rows) for weight in weights]
    return [sum(part) for part in zip(*times)]


def _matrix_products(weight: th.Tensor, rows: int) -> list[float]:
    x, g = (th.randn(rows, size, device=weight.device) for size in (weight.shape[1], weight.shape[0]))
    pairs = [(x, weight.t()), (g.t(), x), (g, weight)]
    in_torch = [_seconds(lambda: th.mm(a, b)) for a, b in pairs]  # noqa: B023  # called at once
    if weight.is_cuda:
        return in_torch
    arrays = [(a.numpy(), b.numpy()) for a, b in pairs]
    in_numpy = [_seconds(lambda: np.dot(a, b)) for a, b in arrays]  # noqa: B023  # as above
    in_onednn = [_seconds(lambda: product(a, b.t())) for a, b in pairs]  # noqa: B023  # as above
    return [min(three) for three in zip(in_torch, in_numpy, in_onednn)]


def _seconds(function: Callable[[], Any]) -> float:
    """Time a call: the fastest of five rounds of several."""
    function()
    start = time.perf_counter()
    function()
    calls = max(1, int(2e-3 / max(time.perf_counter() - start, 1e-7)))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        if th.cuda.is_available():
            th.cuda.synchronize()
        best = min(best, (time.perf_counter() - start) / calls)
    return best
