"""Settings of every test session."""

import pytest
import torch as th


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Keep tiny networks from fighting over the machine's cores."""
    th.set_num_threads(1)
