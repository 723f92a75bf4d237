"""What PP-LCNet and PeleeNet must equal."""
from collections.abc import Callable

import torch
from torch import nn

from lwcourse.references.builders import Reference, pytorchcv_model, timm_model

NO_BIAS = "its last 1x1 convolution without bias, as in PaddleClas"


def timm_lcnet(width: float) -> Callable[[int], nn.Module]:
    """timm's network at a width for which it has no name."""
    def build(num_classes: int) -> nn.Module:
        from timm.models.mobilenetv3 import _gen_lcnet
        return _gen_lcnet("lcnet_100", width, num_classes=num_classes, head_bias=False)
    return build


def pytorchcv_peleenet(num_classes: int) -> nn.Module:
    network = pytorchcv_model("peleenet")(num_classes)
    first, second = network.features.init_block.branches.children()
    network.features.init_block.branches = _PoolFirst(first, second)
    return network


class _PoolFirst(nn.Module):
    """pytorchcv's two ways of the stem, run in its order, joined in the official one."""

    def __init__(self, way: nn.Module, pool: nn.Module):
        super().__init__()
        self.way, self.pool = way, pool

    def forward(self, x):
        way = self.way(x)
        return torch.cat([self.pool(x), way], dim=1)


REFERENCES = {
    "pp_lcnet": [
        *(Reference(f"timm lcnet_{label}", {} if width == 1.0 else {"width": width},
                    timm_model(f"lcnet_{label}", head_bias=False), note=NO_BIAS)
          for label, width in (("100", 1.0), ("035", 0.35), ("050", 0.5), ("075", 0.75), ("150", 1.5))),
        *(Reference("timm lcnet", {"width": width}, timm_lcnet(width), note=NO_BIAS)
          for width in (0.25, 2.0, 2.5)),
    ],
    "peleenet": [
        Reference("pytorchcv peleenet", {}, pytorchcv_peleenet,
                  note="in its stem the pooled maps come first, as in the official code"),
    ],
}

GOLDEN = {
    "peleenet": {"peleenet": {}},
}
