"""A sequence of layers that can be sliced although its class has arguments of its own."""
from collections import OrderedDict
from typing import Any

from torch import nn


class Sliceable(nn.Sequential):
    """nn.Sequential for classes that build their layers themselves: `block[:2]` is a plain nn.Sequential.

    PyTorch makes a slice by calling the class with the layers, which such a class does not take.
    """

    def __new__(cls, *arguments: Any, **options: Any) -> nn.Sequential:
        if len(arguments) == 1 and isinstance(arguments[0], OrderedDict):
            return nn.Sequential(arguments[0])
        return super().__new__(cls)
