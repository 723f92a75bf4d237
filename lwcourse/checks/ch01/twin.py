"""Exercise 01.3: the twin of a separable convolution."""
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lwcourse.checks import CheckFailed, exercise, fail
from lwcourse.checks.helpers import a_function, compare_functions


def _separable_twin(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """weight[o, i, y, x] = pointwise[o, i] * depthwise[i, y, x]."""
    return pointwise * depthwise.transpose(0, 1)


def _only_filters(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return depthwise.transpose(0, 1).repeat(pointwise.shape[0], 1, 1, 1)


def _only_mixes(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return F.pad(pointwise, (depthwise.shape[-1] // 2,) * 4)


def _sum(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return pointwise + depthwise.transpose(0, 1)


def _mirrored(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return _separable_twin(depthwise.flip(2, 3), pointwise)


def _mirrored_along(axis: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda depthwise, pointwise: _separable_twin(depthwise.flip(axis), pointwise)


def _turned(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return _separable_twin(depthwise.transpose(2, 3), pointwise)


def _averaged(axis: int) -> Callable[[Tensor, Tensor], Tensor]:
    def mistaken(depthwise: Tensor, pointwise: Tensor) -> Tensor:
        return _separable_twin(depthwise, pointwise.mean(axis, keepdim=True).expand_as(pointwise))
    return mistaken


def _one_filter(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return _separable_twin(depthwise[:1].expand_as(depthwise), pointwise)


TWIN_MISTAKES = {
    "the 1x1 weights are missing: each output channel has a weight of its own for every input channel": _only_filters,
    "the filters are missing: your kernels have one pixel only, the centre": _only_mixes,
    "you add the two weights; what passes two layers is multiplied by both": _sum,
    "your kernels are mirrored; PyTorch's convolutions do not mirror, so nothing needs to be flipped": _mirrored,
    "your kernels are upside down: mirrored along their rows; nothing needs to be flipped": _mirrored_along(2),
    "your kernels are mirrored sideways, along their columns; nothing needs to be flipped": _mirrored_along(3),
    "rows and columns of your kernels are exchanged": _turned,
    "you average the 1x1 weights over the output channels; each output channel has weights of its own": _averaged(0),
    "you average the 1x1 weights over the input channels; each input channel has a weight of its own": _averaged(1),
    "you use the first filter for all input channels; each of them has a filter of its own": _one_filter,
}


@exercise("01.3", title="The twin of a separable convolution", minutes=15, difficulty="medium",
          expects=a_function)
def dense_twin(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`answer(depthwise (C_in, 1, k, k), pointwise (C_out, C_in, 1, 1))` -> weight (C_out, C_in, k, k)."""
    sizes = [(4, 6, 3), (5, 3, 3), (6, 6, 5), (1, 3, 3)]
    cases = [(torch.randn(c_in, 1, k, k), torch.randn(c_out, c_in, 1, 1)) for c_in, c_out, k in sizes]
    for depthwise, pointwise in cases:
        _refuse_other_axes(_twin_of(answer, depthwise, pointwise), depthwise, pointwise)
    compare_functions(answer, _separable_twin, cases, TWIN_MISTAKES,
                      hint="follow one number from input channel i, kernel position (y, x), to output channel o: by "
                           "what is it multiplied on its way?")
    worst = 0.0
    for depthwise, pointwise in cases:
        x = torch.randn(2, depthwise.shape[0], 9, 11)
        padding = depthwise.shape[-1] // 2
        separable = F.conv2d(F.conv2d(x, depthwise, padding=padding, groups=len(depthwise)), pointwise)
        weight = answer(depthwise, pointwise).to(x)
        worst = max(worst, (F.conv2d(x, weight, padding=padding) - separable).abs().max().item())
    return f"One convolution does what two did: largest difference {worst:.0e}."


def _twin_of(answer: Callable[[Tensor, Tensor], Tensor], depthwise: Tensor, pointwise: Tensor) -> Any:
    try:
        return answer(depthwise.clone(), pointwise.clone())
    except RuntimeError as error:
        if "must match the size" not in str(error):
            raise
        raise CheckFailed(f"the two weights do not fit as they are: depthwise {tuple(depthwise.shape)} has the input "
                          f"channels in axis 0, pointwise {tuple(pointwise.shape)} in axis 1") from error


def _refuse_other_axes(weight: Any, depthwise: Tensor, pointwise: Tensor) -> None:
    wanted = (*pointwise.shape[:2], *depthwise.shape[2:])
    if not isinstance(weight, Tensor) or weight.shape == wanted:
        return
    if weight.ndim == 4 and weight.shape[1] == 1:
        fail(f"the weight has shape {tuple(weight.shape)}, as of a depthwise convolution; the twin is a standard "
             "one, and has a kernel for each pair of channels")
    swapped = weight.shape == (wanted[1], wanted[0], *wanted[2:])
    fail(f"the weight has shape {tuple(weight.shape)}; that of a standard convolution is (out_channels, in_channels, "
         "k, k)" + (": output and input channels are exchanged" if swapped else ""))
