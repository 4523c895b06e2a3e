"""Settings of every test session."""

import hypothesis
import pytest
import torch as th

hypothesis.settings.register_profile("same_everywhere", deadline=None, derandomize=True)
hypothesis.settings.load_profile("same_everywhere")


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Keep tiny networks from fighting over the machine's cores."""
    th.set_num_threads(1)
