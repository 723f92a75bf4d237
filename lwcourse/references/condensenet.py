"""What CondenseNet must equal."""
from collections.abc import Callable

import torch
from torch import nn

from lwcourse.references.builders import Reference, pytorchcv_model

NOTE = "its index layers, all zero while untrained, name every G-th channel, and every second for the classifier"


def pytorchcv_condensenet(name: str) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        network = pytorchcv_model(name)(num_classes)
        for module in network.modules():
            if hasattr(module, "c_shuffle"):
                groups, channels = module.conv.groups, len(module.index)
                module.index.copy_(torch.cat([torch.arange(start, channels, groups) for start in range(groups)]))
        network.output.index.copy_(torch.arange(0, 2 * len(network.output.index), 2))
        return network
    return build


REFERENCES = {
    "condensenet": [
        Reference("pytorchcv condensenet74_c4_g4", {}, pytorchcv_condensenet("condensenet74_c4_g4"), note=NOTE),
        Reference("pytorchcv condensenet74_c8_g8", {"groups": 8}, pytorchcv_condensenet("condensenet74_c8_g8"),
                  note=NOTE),
    ],
}

GOLDEN = {}  # condensenet_lgc and condensenet_cifar_small hold training steps: tests/models/test_condensenet.py
