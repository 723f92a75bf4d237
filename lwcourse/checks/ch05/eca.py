"""05.1: efficient channel attention."""
import copy
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import (
    a_module_class,
    all_close,
    refuse_hidden_layers,
    refuse_ready_made,
    run_alone,
    shown,
    watch,
)
from lwcourse.layers import (
    adaptive_kernel_size,
)

ECA_CHANNELS = (16, 64, 128, 300)  # kernels 3, 3, 5, 5


@exercise("05.1", title="Efficient channel attention", minutes=15, difficulty="medium", expects=a_module_class)
def efficient_channel_attention(answer: type[nn.Module]) -> str:
    """`answer(channels)` builds the layer, kernel by the paper's rule."""
    for channels in ECA_CHANNELS:
        label = f"with {channels} channels: "
        with watch() as seen:
            layer = answer(channels)
        if not isinstance(layer, nn.Module):
            fail(f"{answer.__name__}({channels}) gives {shown(layer)}, not an nn.Module")
        refuse_hidden_layers(layer)
        _refuse_kernel(layer, channels)
        shape = (2, channels, 5, 7)
        layer = copy.deepcopy(layer).float().cpu().eval()
        for one in (seen, run_alone(layer, torch.randn(shape), shape, label)):
            refuse_ready_made(one, ["EfficientChannelAttention"])
        _refuse_other_eca(layer, torch.randn(shape) + 0.3, label)
    return f"Equal to the course's layer for {', '.join(map(str, ECA_CHANNELS))} channels, in eval and training mode."


def _refuse_kernel(layer: nn.Module, channels: int) -> None:
    count, kernel = sum(p.numel() for p in layer.parameters()), adaptive_kernel_size(channels)
    if count == kernel:
        return
    shapes = [[size for size in p.shape if size > 1] for p in layer.parameters()]
    if count == kernel + 1 and any(p.numel() == 1 for p in layer.parameters()):
        fail("the convolution has a bias; ECA's has none")
    if any("Norm" in type(module).__name__ for module in layer.modules()):
        fail(f"there are {count} parameters, some of them in a normalisation. ECA has no BatchNorm or the "
             f"like, only a kernel of {kernel} weights")
    if any(len(shape) == 2 and channels in shape and shape[0] != shape[1] for shape in shapes):
        fail(f"the layer has {count:,} weights, in fully connected layers: that is SE, which squeezes the channels. "
             f"ECA squeezes nothing, and runs one kernel of {kernel} along them")
    if count >= channels * kernel:
        fail(f"the convolution has {count:,} weights: it takes the channels for the channels of a signal. The means "
             f"are one signal of length {channels}, and one kernel of {kernel} runs along it")
    if count % 2 == 0 and 0 < count < 2 * kernel:
        fail(f"the kernel has {count} weights, an even number: no channel would be in the middle")
    fail(f"with {channels} channels there are {count} weights, the paper's kernel has {kernel}")


def _refuse_other_eca(layer: nn.Module, x: Tensor, label: str) -> None:
    """Refuse unless `layer` computes ECA from its own weights, drawn anew, in whatever way it is written."""
    with torch.no_grad():
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    weight = torch.cat([parameter.detach().flatten() for parameter in layer.parameters()])
    with torch.no_grad():
        y = layer(x.clone())
        ways = [one for one in (weight, weight.flip(0)) if all_close([y], [_eca(one, x)])]  # a kernel has no direction
        if not ways:
            for reason, formula in ECA_MISTAKES.items():
                if all_close([y], [formula(weight, x)]):
                    fail(reason)
    if y.shape != x.shape:
        fail(f"{label}an input of shape {tuple(x.shape)} gives {tuple(y.shape)}; the shape must stay")
    if not ways:
        fail(f"{label}the output is not that of ECA with the same weights, and no usual mistake explains it: the gate "
             "is one number for each channel, from its mean and those of its neighbours, and multiplies x")
    weight = ways[0].requires_grad_()
    for mode in (False, True):
        layer.train(mode)
        wrong = " in training mode" if mode else ""
        mine, right = _outcome(layer, x, list(layer.parameters())), _outcome(partial(_eca, weight), x, [weight])
        if not all_close(mine[:1], right[:1]):
            fail(f"{label}equal in eval mode, but not in training mode: there is dropout, or forward does "
                 "something else there")
        pairs = zip((mine[1], mine[2].sort().values), (right[1], right[2].sort().values), strict=True)
        if any((one - other).abs().max() > 1e-3 * other.abs().max() for one, other in pairs):
            fail(f"{label}the output is right{wrong}, but not all gradients are: is something detached, or computed "
                 "under torch.no_grad()?")


def _outcome(function: Callable[[Tensor], Tensor], x: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """The output, the gradient of x, and that of all weights in a row."""
    given = x.clone().requires_grad_()
    y = function(given)
    loss = (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()
    wanted = [one for one in (given, *weights) if one.requires_grad]
    found = dict(zip(wanted, torch.autograd.grad(loss, wanted, allow_unused=True) if loss.requires_grad else [],
                     strict=False))
    grads = [torch.zeros_like(one) if found.get(one) is None else found[one] for one in (given, *weights)]
    return [y.detach(), grads[0], torch.cat([grad.flatten() for grad in grads[1:]])]


def _along_channels(weight: Tensor, means: Tensor, mode: str = "constant") -> Tensor:
    """`means` (N, C) -> (N, C, 1, 1)"""
    padded = F.pad(means[:, None], (len(weight) // 2,) * 2, mode=mode)
    return F.conv1d(padded, weight.view(1, 1, -1))[:, 0, :, None, None]


def _eca(weight: Tensor, x: Tensor) -> Tensor:
    return x * _along_channels(weight, x.mean((2, 3))).sigmoid()


def _eca_one_axis(weight: Tensor, x: Tensor, axis: int) -> Tensor:
    means = x.mean(axis).transpose(1, 2)  # (N, other axis, C)
    gate = _along_channels(weight, means.flatten(0, 1)).view(*means.shape).transpose(1, 2).sigmoid()
    return x * gate.unsqueeze(axis)


def _eca_pixels(weight: Tensor, x: Tensor) -> Tensor:
    return x * _along_channels(weight, x.mean(1).flatten(1)).sigmoid().view(len(x), 1, *x.shape[2:])


ECA_MISTAKES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the means of all images are one signal: at the ends of an image, the next one's channels are neighbours":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)).flatten()[None]).view(*x.shape[:2], 1, 1).sigmoid(),
    "the padding is in front alone: a channel sees those before it, and none of those after it":
        lambda w, x: x * _along_channels(F.pad(w, (0, len(w) - 1)), x.mean((2, 3))).sigmoid(),
    "the padding is at the end alone: a channel sees those after it, and none of those before it":
        lambda w, x: x * _along_channels(F.pad(w, (len(w) - 1, 0)), x.mean((2, 3))).sigmoid(),
    "the sigmoid comes before the convolution; it makes the gate, and comes last":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)).sigmoid()),
    "the sigmoid is missing: the gate is not held between 0 and 1":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))),
    "there are two sigmoids, one after the other: the second leaves only gates from 0.5 to 0.73":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))).sigmoid().sigmoid(),
    "the gate is added; it must multiply": lambda w, x: x + _along_channels(w, x.mean((2, 3))).sigmoid(),
    "you return the gate alone; x must be multiplied by it": lambda w, x: _along_channels(w, x.mean((2, 3))).sigmoid(),
    "x is added once more after the gate; ECA has no shortcut":
        lambda w, x: x + x * _along_channels(w, x.mean((2, 3))).sigmoid(),
    "the gate is 1 minus ECA's: it closes where that opens":
        lambda w, x: x * (1 - _along_channels(w, x.mean((2, 3))).sigmoid()),
    "the mean is over the batch as well: images share one gate":
        lambda w, x: x * _along_channels(w, x.mean((0, 2, 3))[None]).sigmoid(),
    "the gate is a hard sigmoid; ECA's is a sigmoid":
        lambda w, x: x * F.hardsigmoid(_along_channels(w, x.mean((2, 3)))),
    "the gate is a tanh, which may be negative; ECA's is a sigmoid":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))).tanh(),
    "the gate is a softmax: channels compete for a sum of 1; ECA's is a sigmoid":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))).softmax(1),
    "the mean is over rows only: each column has a gate of its own": lambda w, x: _eca_one_axis(w, x, 2),
    "the mean is over columns only: each row has a gate of its own": lambda w, x: _eca_one_axis(w, x, 3),
    "the convolution runs over the pixels, not over the channels": _eca_pixels,
    "the maximum is taken where the mean should be": lambda w, x: x * _along_channels(w, x.amax((2, 3))).sigmoid(),
    "each channel is summed where its mean is asked for": lambda w, x: x * _along_channels(w, x.sum((2, 3))).sigmoid(),
    "the first and the last channel are neighbours in your layer; beyond the ends there are zeros":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)), "circular").sigmoid(),
    "the first and the last mean are repeated beyond the ends of the channels; there are zeros":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)), "replicate").sigmoid(),
    "the means are mirrored beyond the ends of the channels; there are zeros":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)), "reflect").sigmoid(),
}
