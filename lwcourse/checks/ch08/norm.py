"""08.8: LayerNorm for maps."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    a_function,
    compare_functions,
    refuse_ready_made,
    watch,
)


def reference_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm of the channels of each pixel of a map (N, C, H, W)."""
    return F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, eps).permute(0, 3, 1, 2)


def _norm(axes: int | tuple[int, ...] = 1, *, correction: int = 0, eps_outside: bool = False, root: bool = True,
          centred: bool = True, weighted: bool = True, shifted: bool = True):
    """The same by its formula, or with one mistake."""
    def norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean = x.mean(axes, keepdim=True)
        variance = x.var(axes, correction=correction, keepdim=True)
        spread = variance.sqrt() + eps if eps_outside else (variance + eps).sqrt() if root else variance + eps
        y = (x - mean if centred else x) / spread
        y = y * weight.view(-1, 1, 1) if weighted else y
        return y + bias.view(-1, 1, 1) if shifted else y
    return norm


NORM_MISTAKES = {
    "mean and variance are taken over all of an image; each pixel has its own, over its channels": _norm((1, 2, 3)),
    "mean and variance are taken over the pixels of each channel; take them over the channels of each pixel":
        _norm((2, 3)),
    "mean and variance are taken over the batch, as BatchNorm does; take them over the channels of each pixel":
        _norm((0, 2, 3)),
    "mean and variance are taken along the last axis, the columns; the channels are axis 1": _norm(-1),
    "the variance is divided by C - 1 (x.var does that unless correction=0); divide by C": _norm(correction=1),
    "eps is added to the root; it belongs below the root": _norm(eps_outside=True),
    "the root of the variance is missing": _norm(root=False),
    "the mean is not subtracted": _norm(centred=False),
    "weight is not used": _norm(weighted=False),
    "bias is not added": _norm(shifted=False),
    "weight and bias are not used": _norm(weighted=False, shifted=False),
}


@exercise("08.8", title="LayerNorm for maps", minutes=10, difficulty="easy", expects=a_function)
def layer_norm_of_maps(answer: Callable[..., Tensor]) -> str:
    """`answer(x, weight, bias, eps)` normalises the channels of each pixel of x, (N, C, H, W)."""
    cases = []
    for shape, eps in (((2, 6, 4, 6), 0.2), ((3, 5, 2, 3), 1e-6)):
        cases.append((2 * torch.randn(shape) + 1, torch.randn(shape[1]), torch.randn(shape[1]), eps))
    with watch() as ran:
        answer(*(value.clone() if isinstance(value, Tensor) else value for value in cases[0]))
    refuse_ready_made(ran, ("LayerNorm2d",))
    compare_functions(answer, reference_norm, cases, NORM_MISTAKES, gradients=True)
    return "Equal, with a small eps and with a large one."
