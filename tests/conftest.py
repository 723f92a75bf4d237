"""Fixtures that several test files use."""
from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items):
    """Tests that run for every network: all of one network, then all of the next, so that it is built once."""
    def network(item):
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        case = parameters.get("case")
        return parameters.get("name") or (case[0] if isinstance(case, tuple) else "")

    places = [place for place, item in enumerate(items) if item.path.name == "test_models.py"]
    for place, item in zip(places, sorted((items[place] for place in places), key=network), strict=True):
        items[place] = item


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same random numbers, whatever ran before it on its worker."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).parents[1]
