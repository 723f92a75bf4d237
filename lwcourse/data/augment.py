"""How training images are changed at random: what can be asked for, and torchvision's transforms for it."""
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from lwcourse.data.base import OnCPU, check_whole
from lwcourse.layers.validate import check_flag

POLICIES = ("trivial", "rand")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of training images, each of them off by default.

    padding: crops are shifted by up to that many pixels each way; zeros come in, as in RandomCrop(padding=...).
    flip: half of the images are mirrored.
    erasing: probability that a box is set to the mean (Zhong et al. 2020), with the sizes of RandomErasing.
    policy: None, "trivial" (TrivialAugmentWide, Müller and Hutter 2021) or "rand" (RandAugment, Cubuk et al. 2020).

    Raises ValueError for other values.
    """
    padding: int = 0
    flip: bool = False
    erasing: float = 0.0
    policy: str | None = None

    def __post_init__(self):
        check_whole("padding", self.padding, 0)
        check_flag("flip", self.flip)
        check_erasing(self.erasing)
        if self.policy is not None and self.policy not in POLICIES:
            raise ValueError(f"policy must be None, {' or '.join(map(repr, POLICIES))}, got {self.policy!r}")

    def __str__(self) -> str:
        parts = [self.padding and f"crops shifted by up to {self.padding}", self.flip and "mirrored",
                 self.policy and f"policy {self.policy}", self.erasing and f"erasing {self.erasing:g}"]
        return ", ".join(part for part in parts if part) or "as they are"


def check_erasing(erasing: object) -> None:
    if isinstance(erasing, bool) or not isinstance(erasing, Real) or not 0 <= erasing <= 1:
        raise ValueError(f"erasing is a probability and must be a number from 0 to 1, got {erasing!r}")


def chosen(augment: bool | str, erasing: float, padding: int = 0) -> Augment | None:
    """The changes that the options of `load_data` ask for: `augment` True crops and mirrors, a policy does more."""
    if not isinstance(augment, bool) and augment not in POLICIES:
        raise ValueError(f"augment must be True, False, {' or '.join(map(repr, POLICIES))}, got {augment!r}")
    check_erasing(erasing)
    if not (augment or erasing):
        return None
    return Augment(padding=padding if augment else 0, flip=bool(augment), erasing=float(erasing),
                   policy=augment if isinstance(augment, str) else None)


def policy_transform(policy: str) -> Callable[[Any], Any]:
    """torchvision's transform of one uint8 image; it draws from PyTorch's random numbers on the CPU."""
    from torchvision.transforms import v2
    return OnCPU({"trivial": v2.TrivialAugmentWide, "rand": v2.RandAugment}[policy]())
