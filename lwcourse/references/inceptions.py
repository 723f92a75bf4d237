"""What the Inception networks must equal."""
from collections.abc import Callable

from torch import nn

from lwcourse.references.builders import Reference, pytorchcv_model, timm_model, torchvision_model

SIZE = (107, 139)  # 107: the least of which networks without padding leave more than one pixel


def googlenet(num_classes: int) -> nn.Module:
    """torchvision's, with the kernels of the paper's Table 1: 5x5, where it has 3x3, and 3x3 in the last pooling."""
    network = torchvision_model("googlenet", aux_logits=False, init_weights=False)(num_classes)
    for module in network.modules():
        if hasattr(module, "branch3"):
            conv = module.branch3[1].conv
            module.branch3[1].conv = nn.Conv2d(conv.in_channels, conv.out_channels, 5, padding=2, bias=False)
    network.maxpool4 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return network


def bninception(num_classes: int) -> nn.Module:
    """pytorchcv's, which follows Caffe's, changed to the paper's network and TF-Slim's."""
    network = pytorchcv_model("bninception")(num_classes)
    stages = network.features
    for module in (stages.stage2.unit4, stages.stage2.unit5):  # 4c and 4d: 96 channels after the pooling, not 128
        projection = module.branches.branch4.conv
        projection.conv, projection.bn = nn.Conv2d(projection.conv.in_channels, 96, 1), nn.BatchNorm2d(96)
    narrower = {608: 576, 1056: 1024}  # so that fewer come out of 4c, 4d and 4e
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):  # no biases before BatchNorm
                setattr(parent, name, nn.Conv2d(
                    narrower.get(child.in_channels, child.in_channels), child.out_channels, child.kernel_size,
                    child.stride, child.padding, bias=False))
            elif isinstance(child, nn.MaxPool2d) and child.stride == 2:  # theirs fails on maps with an odd side
                setattr(parent, name, nn.MaxPool2d(3, stride=2, padding=1))
            elif isinstance(child, nn.AvgPool2d):
                child.count_include_pad = False
            elif isinstance(child, nn.BatchNorm2d):
                child.eps = 1e-3
    stages.init_block.conv1.conv = nn.Sequential(  # a separable convolution, 8 maps a channel
        nn.Conv2d(3, 24, 7, stride=2, padding=3, groups=3, bias=False), nn.Conv2d(24, 64, 1, bias=False))
    return network


def with_eps(build: Callable[[int], nn.Module], eps: float) -> Callable[[int], nn.Module]:
    """The network of `build` with another epsilon in its BatchNorms."""
    def aligned(num_classes: int) -> nn.Module:
        network = build(num_classes)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = eps
        return network
    return aligned


REFERENCES = {
    "googlenet": [
        Reference("torchvision googlenet", {}, googlenet, SIZE,
                  note="5x5 kernels where torchvision has 3x3, a 3x3 kernel in its last max pooling"),
    ],
    "inception_v2": [
        Reference("pytorchcv bninception", {}, bninception, SIZE,
                  note="separable first convolution, 96 channels after the pooling of 4c and 4d, no biases before "
                       "BatchNorm, its epsilon 1e-3, max pooling with stride 2 padded, means without the padding"),
    ],
    "inception_v3": [
        Reference("torchvision inception_v3", {},
                  torchvision_model("inception_v3", aux_logits=False, init_weights=False), SIZE),
        Reference("timm inception_v3", {}, timm_model("inception_v3"), SIZE),
    ],
    "inception_v4": [
        Reference("timm inception_v4", {}, timm_model("inception_v4"), SIZE),
    ],
    "inception_resnet_v2": [
        Reference("timm inception_resnet_v2", {}, timm_model("inception_resnet_v2"), SIZE),
    ],
    "xception": [
        Reference("timm legacy_xception", {}, with_eps(timm_model("legacy_xception"), 1e-3), SIZE,
                  note="BatchNorm's epsilon 1e-3, as in Keras, not 1e-5"),
    ],
}

GOLDEN = {}
