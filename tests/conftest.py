"""Fixtures that several test files use."""
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same random numbers, whatever ran before it on its worker."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).parents[1]
