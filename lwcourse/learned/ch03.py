"""Chapter 03: one network in eight groups, trained with the channel shuffle and without."""
from functools import partial

import torch
from torch import Tensor, nn

from lwcourse.layers import ConvBNAct
from lwcourse.learned import Learned
from lwcourse.models.shufflenet_v1 import ShuffleUnit


class SmallV1(nn.Module):
    """A stem and six units of ShuffleNet V1: images (N, 3, H, W) -> logits (N, 10). Without `shuffle`, groups never
    meet between the 1x1 layers of a stage."""

    def __init__(self, shuffle: bool = True, groups: int = 8):
        super().__init__()
        self.stem = ConvBNAct(3, 16, 3, stride=2)
        self.units = nn.Sequential(
            ShuffleUnit(16, 64, 2, groups, first_groups=1), ShuffleUnit(64, 64, 1, groups),
            ShuffleUnit(64, 64, 1, groups), ShuffleUnit(64, 128, 2, groups), ShuffleUnit(128, 128, 1, groups),
            ShuffleUnit(128, 128, 1, groups))
        self.classifier = nn.Linear(128, 10)
        if not shuffle:
            for unit in self.units:
                unit.shuffle = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.mean(self.units(self.stem(x)), dim=(2, 3)))


RECIPE = {"epochs": 15, "lr": 0.1, "batch_size": 64, "seed": 0, "device": "cpu"}
NETWORKS = [
    Learned(name=f"03.{name}", build=partial(SmallV1, shuffle), data="photo_digits", loading={"copies": 6},
            settings=RECIPE, other_seeds=(1, 2), least=least)
    for name, shuffle, least in (("shuffle", True, 0.8), ("walls", False, 0.5))]
