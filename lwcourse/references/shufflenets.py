"""What the ShuffleNets must equal."""
from collections.abc import Callable
from types import MethodType

import torch
from torch import Tensor, nn

from lwcourse.references.builders import Reference, pytorchcv_model, torchvision_model


def official_order(name: str, forward: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[int], nn.Module]:
    """pytorchcv's network `name`, whose units run their own layers as `forward` does, and without a last bias."""
    plain = pytorchcv_model(f"shufflenet{name}")

    def build(num_classes: int) -> nn.Module:
        network = plain(num_classes)
        for unit in network.modules():
            if type(unit).__name__ == "ShuffleUnit":
                unit.forward = MethodType(forward, unit)
        network.output = nn.Linear(network.output.in_features, num_classes, bias=False)
        return network
    return build


def unit_v1(unit: nn.Module, x: Tensor) -> Tensor:
    """pytorchcv's ShuffleNet unit in the order of the official code."""
    y = unit.dw_bn2(unit.dw_conv2(unit.activ(unit.compress_bn1(unit.compress_conv1(x)))))
    if unit.c_shuffle.groups > 1:
        y = y.unflatten(1, (-1, unit.c_shuffle.groups)).transpose(1, 2).flatten(1, 2)
    y = unit.expand_bn3(unit.expand_conv3(y))
    return torch.cat((unit.avgpool(x), unit.activ(y)), dim=1) if unit.downsample else unit.activ(x + y)


def unit_v2(unit: nn.Module, x: Tensor) -> Tensor:
    """pytorchcv's ShuffleNet V2 unit in the order of the official code."""
    if unit.downsample:
        return torch.cat((unit.shortcut_conv(unit.shortcut_dconv(x)), unit.conv2(unit.dconv(unit.conv1(x)))), dim=1)
    return torch.cat((x[:, ::2], unit.conv2(unit.dconv(unit.conv1(x[:, 1::2])))), dim=1)


V1_NOTE = "shuffle after the depthwise convolution and the other way round, pooled channels first, no last bias"
V2_NOTE = "shuffle and split first, even channels kept, no last bias"

REFERENCES = {
    "shufflenet_v1": [
        Reference(f"pytorchcv shufflenet_{name}", arguments, official_order(f"_{name}", unit_v1), note=V1_NOTE)
        for name, arguments in (
            ("g3_w1", {}), ("g1_w1", {"groups": 1}), ("g2_w1", {"groups": 2}), ("g4_w1", {"groups": 4}),
            ("g8_w1", {"groups": 8}), ("g3_w3d4", {"width": 0.75}), ("g3_wd2", {"width": 0.5}),
            ("g3_wd4", {"width": 0.25}), ("g1_w3d4", {"groups": 1, "width": 0.75}),
            ("g1_wd2", {"groups": 1, "width": 0.5}), ("g1_wd4", {"groups": 1, "width": 0.25}))
    ],
    "shufflenet_v2": [
        *(Reference(f"torchvision shufflenet_v2_{name}", arguments, torchvision_model(f"shufflenet_v2_{name}"))
          for name, arguments in (("x1_0", {}), ("x0_5", {"width": 0.5}), ("x1_5", {"width": 1.5}),
                                  ("x2_0", {"width": 2.0}))),
        *(Reference(f"pytorchcv shufflenetv2b_{name}", arguments, official_order(f"v2b_{name}", unit_v2), note=V2_NOTE)
          for name, arguments in (("w1", {"released": True}), ("wd2", {"width": 0.5, "released": True}))),
    ],
}

GOLDEN = {
    "shufflenet_v1": {"shufflenet_v1_g3_1.0x": {}, "shufflenet_v1_g3_2.0x": {"width": 2.0}},
    "shufflenet_v2": {f"shufflenet_v2_{width}x": {"width": width, "released": True} for width in (0.5, 1.0, 1.5)},
    "shufflenet_v2_oneshot": {"spos_oneshot": {}},
}
