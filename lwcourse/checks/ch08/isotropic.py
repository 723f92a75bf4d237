"""08.7: a ConvNeXt without stages."""
from collections.abc import Callable

from torch import Tensor, nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    a_module_class,
    compare_blocks,
    naming_mistakes,
    refuse_other_order,
)
from lwcourse.layers import LayerNorm2d
from lwcourse.models.convnext import EPS, ConvNeXtBlock


class _Isotropic(nn.Module):
    """A ConvNeXt without stages (section 3.3 of its paper), or with one mistake."""
    mistake = ""

    def __init__(self, channels: int, depth: int, patch: int, num_classes: int):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, patch, stride=patch)
        if self.mistake == "stem norm":
            self.stem = nn.Sequential(self.stem, LayerNorm2d(channels, eps=EPS))
        if self.mistake == "one block":
            self.blocks = nn.Sequential(*[ConvNeXtBlock(channels)] * depth)
        else:
            self.blocks = nn.Sequential(*(ConvNeXtBlock(channels) for _ in range(depth)))
        self.norm = nn.Identity() if self.mistake == "no norm" else nn.LayerNorm(channels, eps=EPS)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        if self.mistake == "norm first":
            return self.classifier(self.norm(x.permute(0, 2, 3, 1)).mean(dim=(1, 2)))
        if self.mistake == "maximum":
            return self.classifier(self.norm(x.amax(dim=(2, 3))))
        return self.classifier(self.norm(x.mean(dim=(2, 3))))


def _mistaken(mistake: str) -> type[_Isotropic]:
    return type("Mistaken", (_Isotropic,), {"mistake": mistake})


ISOTROPIC_MISTAKES = {
    "the LayerNorm works on each pixel, before the mean; it comes after the mean": _mistaken("norm first"),
    "the LayerNorm between the mean and the linear layer is missing": _mistaken("no norm"),
    "there is a norm after the patches; this stem has none": _mistaken("stem norm"),
    "one block runs several times, with the same weights: `[block] * depth` repeats the module. Build a new one each "
    "time": _mistaken("one block"),
    "the largest value of each channel is taken, not its mean": _mistaken("maximum"),
}
ISOTROPIC_CASES = [((12, 2, 4, 10), (2, 3, 16, 24)), ((8, 3, 2, 5), (1, 3, 10, 8))]


@exercise("08.7", title="A ConvNeXt without stages", minutes=20, difficulty="medium", expects=a_module_class)
def isotropic(answer: Callable[..., nn.Module]) -> str:
    """`answer(channels, depth, patch, num_classes)` builds an isotropic ConvNeXt for (N, 3, H, W)."""
    refuse_other_order(answer, ("channels", "depth", "patch", "num_classes"))
    with naming_mistakes(answer, ISOTROPIC_MISTAKES, ISOTROPIC_CASES):
        compare_blocks(answer, _Isotropic, ISOTROPIC_CASES, macs=True)
    return "Equal for two sizes of patch, with images that are not square."
