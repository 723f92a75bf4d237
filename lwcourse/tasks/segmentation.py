"""One class a pixel: cross-entropy averaged over pixels, and intersection over union."""
from dataclasses import dataclass
from typing import ClassVar

from lwcourse.tasks.classification import Classification, ConfusionMeter


class PixelMeter(ConfusionMeter):
    """`ConfusionMeter` of pixels."""

    def result(self) -> dict[str, float]:
        both = self.confusion.diagonal()
        union = self.confusion.sum(0) + self.confusion.sum(1) - both
        return {"accuracy": self.accuracy, "mean_iou": (both / union).nanmean().item()}


@dataclass(frozen=True, kw_only=True)
class Segmentation(Classification):
    """Pixels get one of `classes`; labelled `ignore_index`, they do not count. Label maps are (N, H, W)."""
    one: ClassVar[str] = "pixel"

    def meter(self) -> PixelMeter:
        return PixelMeter(len(self.classes), self.ignore_index)

    def mixing(self, mixup: float, cutmix: float):
        given = ", ".join(f"{name}={alpha}" for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha)
        raise ValueError(f"{given} blends labels of whole images; here each pixel has a label")
