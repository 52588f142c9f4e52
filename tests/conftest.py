"""What every test gets: one thread and the same seeds."""

import random

import numpy as np
import pytest
import torch


def pytest_configure(config):
    """Keep the workers of one machine out of each other's way."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeds():
    """Start every test from the same random numbers, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries under test draw from the global generator)
    torch.manual_seed(0)
