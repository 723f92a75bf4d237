"""What one should know of trained weights: where they come from, how images must be prepared, what the outputs mean."""
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

ATTRIBUTE = "trained_weights"  # of a network: copies and pickles keep it


@dataclass(frozen=True, kw_only=True)
class TrainedWeights:
    """Weights that somebody trained, and what belongs to them.

    `name` is what `lw.create_model(network, weights=name)` takes, `arguments` are those of the factory that the
    weights need, `top1` is the published accuracy in per cent on ImageNet-1k at `size` pixels, never ours. An image is
    resized so that its shorter side has `resize` pixels (`interpolation`), cut to `size` x `size` at the centre, and
    normalised with `mean` and `std`, which are for values from 0 to 1.
    """
    network: str
    name: str
    source: str
    licence: str = ""
    top1: float | None = None
    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    classes: tuple[str, ...] = ()
    arguments: Mapping[str, object] = field(default_factory=dict)

    def transform(self):
        """A torchvision v2 transform: a PIL image, or a uint8 tensor (..., 3, H, W), to float (..., 3, size, size)."""
        from torchvision.transforms import v2

        return v2.Compose([
            v2.ToImage(),
            *([v2.Grayscale()] if len(self.mean) == 1 else []),
            v2.Resize(self.resize, interpolation=v2.InterpolationMode(self.interpolation), antialias=True),
            v2.CenterCrop(self.size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(self.mean, self.std),
        ])


def weights_of(model: nn.Module) -> TrainedWeights:
    """The trained weights that `lw.create_model(..., weights=...)` or `lw.load` put into a network.

    Raises ValueError for a network that was built without.
    """
    found = getattr(model, ATTRIBUTE, None)
    if found is None:
        raise ValueError(f"this {type(model).__name__} was built without trained weights; lw.create_model(name, "
                         "weights=...) takes what lw.list_weights(name) lists")
    return found


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet-1k's 1,000 classes, in the order of the outputs."""
    from torchvision.models import MobileNet_V2_Weights

    return tuple(MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"])
