"""The networks of a rollout in numpy, one column per environment."""

import numpy as np
import pytest
import torch as th
from torch import nn

from sb3_ppo_variants.fast_path.numpy_trunk import NumpyMlpOfColumns


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_columns_give_what_the_modules_give_for_any_number_of_rows(activation: type[nn.Module]) -> None:
    th.manual_seed(0)
    modules: list[nn.Module] = [nn.Linear(5, 200), activation(), nn.Linear(200, 30), activation(), nn.Linear(30, 3)]
    network, columns = nn.Sequential(*modules), NumpyMlpOfColumns(modules)
    for n_rows in (1, 4, 64, 1, 16):  # the memory of an earlier call is used again
        inputs = th.randn(n_rows, 5)
        output = columns.forward(inputs.double().numpy())
        with th.no_grad():
            expected, latent = network(inputs), network[:-1](inputs)
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
        assert columns.latent is not None
        np.testing.assert_allclose(columns.latent, latent, rtol=1e-5, atol=1e-6)
        assert output.flags.c_contiguous, "environments are given rows of it"


def test_columns_follow_the_parameters_when_they_change_in_place() -> None:
    last = nn.Linear(3, 1)
    columns, inputs = NumpyMlpOfColumns([nn.Linear(2, 3), nn.Tanh(), last]), np.ones((4, 2), dtype=np.float32)
    before = columns.forward(inputs).copy()
    with th.no_grad():
        last.bias += 1.0
    np.testing.assert_allclose(columns.forward(inputs), before + 1, rtol=1e-5)
