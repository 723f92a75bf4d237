"""What AdderNet must equal.

Adders give negative sums, so statistics that are not theirs close every ReLU, and nothing of the network is compared
but its end. What counts is training mode, or eval mode with calibrated statistics: see tests/models/test_adder.py.
"""
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.references.builders import Reference, torchvision_model


class Adder(nn.Module):
    """The paper's forward pass in words of PyTorch: unfold, then an L1 distance; takes the place of a convolution."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.settings = nn.Parameter(torch.randn_like(conv.weight)), (conv.padding, conv.stride)
        self.stride = conv.stride

    def forward(self, x):
        padding, stride = self.settings
        patches = F.unfold(x, self.weight.shape[2:], padding=padding, stride=stride)
        distances = torch.cdist(self.weight.flatten(1)[None], patches.transpose(1, 2), p=1)
        return -distances.unflatten(2, [-(-side // step) for side, step in zip(x.shape[2:], stride, strict=True)])


def torchvision_resnet_of_adders(num_classes: int) -> nn.Module:
    """torchvision's ResNet-50 with adders in its four stages, and the classifier of the official AdderNet."""
    network = torchvision_model("resnet50")(1000)
    for name, conv in list(network.named_modules()):
        if isinstance(conv, nn.Conv2d) and name.startswith("layer"):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, Adder(conv))
    network.fc = nn.Sequential(nn.Unflatten(1, (-1, 1, 1)), nn.Conv2d(2048, num_classes, 1),
                               nn.BatchNorm2d(num_classes), nn.Flatten())
    return network


REFERENCES = {
    "adder_resnet50": [
        Reference("torchvision resnet50 of adders", {}, torchvision_resnet_of_adders, (64, 32),
                  note="convolutions of the stages swapped for adders, a 1x1 convolution with BatchNorm as classifier"),
    ],
}

GOLDEN = {
    "adder_resnet20": {"adder_resnet20": {}},
}
