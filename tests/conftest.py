"""What every test gets: one thread, the same seeds, and the folder of published data where there is one."""

import os
import random
from pathlib import Path

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


@pytest.fixture
def published_data() -> Path:
    """The folder named by GEONORM_DATA."""
    folder = os.environ.get("GEONORM_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GEONORM_DATA names no folder: published data sets are not here")
    return Path(folder)
