"""Chapter 02: a small MobileNetV2 as the paper builds it, and without two of its ideas, each from three seeds."""
from functools import partial

from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, initialise
from lwcourse.learned import Learned
from lwcourse.models.mobilenet_v2 import InvertedResidual, Stage

STAGES = (                # feature-map side in pixels for a 32 x 32 image
    Stage(1,  8, 1, 1),   # 16 -> 16
    Stage(6, 12, 3, 2),   # 16 ->  8
    Stage(6, 16, 4, 2),   #  8 ->  4
)
STEM, FEATURES = 8, 64
SEEDS = (0, 1, 2)


class NonLinear(InvertedResidual):
    """ReLU6 after the projection too, before the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__(in_channels, out_channels, stride, expand)
        self.project = ConvBNAct(expand * in_channels, out_channels, 1, act=nn.ReLU6)


class NoShortcut(InvertedResidual):
    """The input is never added."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__(in_channels, out_channels, stride, expand)
        self.has_shortcut = False


BLOCKS = {"published": InvertedResidual, "relu6": NonLinear, "no_shortcut": NoShortcut}


class SmallMobileNetV2(nn.Module):
    """MobileNetV2 with a short, narrow table. Images (N, 3, H, W) -> logits (N, 10)."""

    def __init__(self, block: type[InvertedResidual] = InvertedResidual):
        super().__init__()
        self.stem = ConvBNAct(3, STEM, 3, stride=2, act=nn.ReLU6)
        blocks, channels = [], STEM
        for stage in STAGES:
            for i in range(stage.repeats):
                blocks.append(block(channels, stage.channels, stage.stride if i == 0 else 1, stage.expand))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvBNAct(channels, FEATURES, 1, act=nn.ReLU6)
        self.classifier = nn.Linear(FEATURES, 10)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))    # (N, 64, H/8, W/8)
        return self.classifier(x.mean(dim=(2, 3)))  # (N, 10)


NETWORKS = [Learned(name=f"02.{name}_{seed}", build=partial(SmallMobileNetV2, block), data="photo_digits",
                    loading={"copies": 4}, least=0.8,
                    settings={"epochs": 8, "lr": 0.1, "batch_size": 64, "seed": seed, "device": "cpu"})
            for name, block in BLOCKS.items() for seed in SEEDS]
