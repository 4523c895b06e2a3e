"""The pieces of the fast path, and what of a model speaks against each."""

import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gymnasium import spaces

from sb3_ppo_variants.fast_path.cell_steps import cell_steps_obstacle
from sb3_ppo_variants.fast_path.closed_forms import closed_form_of, evaluation_obstacle
from sb3_ppo_variants.fast_path.fingerprint import fingerprint
from sb3_ppo_variants.fast_path.flat_adam_obstacle import flat_adam_obstacle
from sb3_ppo_variants.fast_path.interception import parameter_obstacle
from sb3_ppo_variants.fast_path.lean_rollout import numpy_forward_obstacle, sampling_obstacle
from sb3_ppo_variants.fast_path.mlp_trunk import plain_mlp_obstacle
from sb3_ppo_variants.fast_path.numpy_update import numpy_obstacle
from sb3_ppo_variants.fast_path.onednn_products import onednn_obstacle
from sb3_ppo_variants.fast_path.recorded_forward import recording_obstacle
from sb3_ppo_variants.fast_path.whole_sequences import whole_sequences_obstacle
from sb3_ppo_variants.update.algorithm import UpdatedAlgorithm
from sb3_ppo_variants.update.minibatches import staging_obstacle
from sb3_ppo_variants.update.policy_evaluation import foreign_module

NO_IMAGES = "there are none"


class Piece(NamedTuple):
    """A part of the fast path.

    :param name: key of the report
    :param active: what it does
    :param ordinary: what is done without it
    :param needs: pieces that it builds upon
    :param obstacle: what of the model speaks against it, or None
    """

    name: str
    active: str
    ordinary: str
    needs: tuple[str, ...]
    obstacle: Callable[[UpdatedAlgorithm], str | None]


def _optimizer_obstacle(algorithm: UpdatedAlgorithm) -> str | None:
    sequences = whole_sequences_obstacle(algorithm.policy, algorithm.rollout_buffer)
    rows = None if sequences is None else staging_obstacle(algorithm.rollout_buffer)
    foreign = None if algorithm.ranks.size == 1 else foreign_module(algorithm.policy)
    missing = foreign and f"{foreign} may leave a parameter without a gradient in one process only"
    return rows or missing or flat_adam_obstacle(algorithm.policy)


def images_obstacle(algorithm: UpdatedAlgorithm) -> str | None:
    """Say why the memory of images is left as it is; ``NO_IMAGES`` if there are none.

    :param algorithm: the model
    """
    space = algorithm.policy.observation_space
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    if not any(len(part.shape or ()) == 3 for part in parts):
        return NO_IMAGES
    return None if algorithm.policy.device.type == "cpu" else "the policy is not on the CPU"


def _backward_obstacle(algorithm: UpdatedAlgorithm) -> str | None:
    policy = algorithm.policy
    return plain_mlp_obstacle(policy) or parameter_obstacle(policy) or algorithm.derivative_obstacle()


def _graph_obstacle(algorithm: UpdatedAlgorithm) -> str | None:
    policy, buffer = algorithm.policy, algorithm.rollout_buffer
    if algorithm.acceleration != "compile":
        return "not asked for"
    if os.environ.get("TORCHDYNAMO_DISABLE") == "1":  # torch.compile then returns what it was given, and says nothing
        return "TORCHDYNAMO_DISABLE=1 switches torch.compile off"
    if algorithm.ranks.size > 1:
        return f"{algorithm.ranks.size} processes average the gradient between backward pass and step"
    if not closed_form_of(policy).compiles:
        return f"{type(policy.action_dist).__name__}, with the options it has, is not compiled"
    own_parameters = [p for module in policy.modules() for p in module.parameters(recurse=False)]
    if len(own_parameters) > len(list(policy.parameters())):
        return "layers share parameters"
    if algorithm.batch_size > buffer.buffer_size * algorithm.n_envs:
        return "the rollout is smaller than one minibatch"
    if onednn_obstacle(policy, int(algorithm.batch_size)) is None:
        return "a graph has torch's products, and with layers that wide oneDNN's gain more on this processor"
    return parameter_obstacle(policy)


PIECES = (
    Piece(
        "minibatches",
        "staged on the device",
        "rollout_buffer.get()",
        (),
        lambda algorithm: staging_obstacle(algorithm.rollout_buffer),
    ),
    Piece(
        "sequences",
        "run as wholes",
        "step by step",
        (),
        lambda algorithm: whole_sequences_obstacle(algorithm.policy, algorithm.rollout_buffer),
    ),
    Piece(
        "evaluation",
        "closed form",
        "policy.evaluate_actions()",
        ("minibatches",),
        lambda algorithm: evaluation_obstacle(algorithm.policy),
    ),
    Piece("images", "channels last in memory", "as in the buffer", ("minibatches",), images_obstacle),
    Piece(
        "products",
        "oneDNN's, of wide layers",
        "torch's and numpy's",
        ("evaluation",),
        lambda algorithm: onednn_obstacle(algorithm.policy, int(algorithm.batch_size)),
    ),
    Piece("optimizer", "Adam on one flat tensor", "policy.optimizer", (), _optimizer_obstacle),
    Piece("backward", "written out", "autograd", ("evaluation", "optimizer"), _backward_obstacle),
    Piece("arithmetic", "numpy", "torch", ("backward",), numpy_obstacle),
    Piece("graph", "torch.compile", "eager", ("evaluation", "optimizer"), _graph_obstacle),
    Piece("sampling", "closed form", "policy.forward()", (), lambda algorithm: sampling_obstacle(algorithm.policy)),
    Piece("steps", "LSTM cells", "nn.LSTM", (), lambda algorithm: cell_steps_obstacle(algorithm.policy)),
    Piece(
        "rollout",
        "numpy forward pass",
        "the policy's networks",
        ("sampling",),
        lambda algorithm: numpy_forward_obstacle(algorithm.policy),
    ),
    Piece(
        "recording",
        "forward pass as a CUDA graph",
        "kernel by kernel",
        ("sampling", "optimizer"),
        lambda algorithm: recording_obstacle(algorithm.policy),
    ),
)

# Constructor arguments that enter an update as numbers, or not at all: a new value needs no new fast path.
_FREE_TO_CHANGE = {
    *("learning_rate", "ent_coef", "vf_coef", "target_kl", "clip_range", "clip_range_upper", "initial_beta"),
    *("gamma", "gae_lambda", "kl_tolerance", "adaptation_factor", "beta_bounds", "clip_range_bounds", "max_kl"),
    *("n_epochs", "verbose", "seed", "tensorboard_log", "stats_window_size"),
}


def identity(algorithm: UpdatedAlgorithm) -> list[Any]:
    """Everything that the choice of pieces, or a compiled graph, depends on: graphs themselves check nothing."""
    parameters: Iterable[str] = type(algorithm).__signature__.parameters  # type: ignore[attr-defined]  # set per class
    values = [getattr(algorithm, name, None) for name in parameters if name not in _FREE_TO_CHANGE]
    settings = [value for value in values if value is None or isinstance(value, (str, bool, int, float, tuple))]
    rules = algorithm.update_rules()
    watched = (rules.watches_kl, algorithm.ranks.size)
    return [algorithm.policy, algorithm.rollout_buffer, watched, *settings, *fingerprint(algorithm.policy)]


__all__ = ["NO_IMAGES", "PIECES", "Piece", "identity", "images_obstacle"]
