"""What the light segmentation networks other than the ESPNets must equal."""
from torch import Tensor, nn

from lwcourse.references.builders import Reference


class Logits(nn.Module):
    """A network of torchvision's that returns {"out": logits}, returning logits."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)["out"]


def lraspp(num_classes: int) -> nn.Module:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large
    return Logits(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes))


def fast_scnn(num_classes: int) -> nn.Module:
    from pytorchcv.model_provider import get_model
    network = get_model("fastscnn_cityscapes", pretrained=False, num_classes=num_classes, aux=False, fixed_size=False)
    network.stem.conv1.conv.padding = (1, 1)
    for separable in (network.stem.conv2, network.stem.conv3, network.head.conv1, network.head.conv2):
        separable.dw_conv.activate = False
    fusing = network.fusion.low_dw_conv.conv
    fusing.dilation = fusing.padding = (4, 4)
    return network


REFERENCES = {
    "lraspp_mobilenet_v3_large": [
        Reference("torchvision lraspp_mobilenet_v3_large", {}, lraspp, classes=(21, 10),
                  note='the logits out of its dictionary {"out": logits}'),
    ],
    "fast_scnn": [
        Reference("pytorchcv fastscnn_cityscapes", {}, fast_scnn, classes=(19, 10),
                  note="as in the paper: the first convolution padded, so that it halves 1024 to 512; no activation "
                  "inside separable convolutions; a fusing convolution of dilation 4"),
    ],
}

GOLDEN = {}
