"""Exercise 17.6: the same block in less memory."""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, compare_functions
from lwcourse.models.mobilenet_v2 import InvertedResidual
from lwcourse.profile import format_bytes, profile

CHANNELS, SIDE = 24, 56
PEAK, MACS = 6, 1.25  # of the size of the input; of the block's own MACs


class _Runs(nn.Module):
    def __init__(self, block: nn.Module, function: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.block, self.function = block, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.block, x)


def _no_shortcut(block: nn.Module, x: Tensor) -> Tensor:
    return block.project(block.depthwise(block.expand(x)))


def _no_first_norm(block: nn.Module, x: Tensor) -> Tensor:
    return x + block.project(block.depthwise(block.expand.act(block.expand.conv(x))))


def _no_middle_norm(block: nn.Module, x: Tensor) -> Tensor:
    y = block.expand(x)
    return x + block.project(block.depthwise.act(block.depthwise.conv(y)))


def _no_last_norm(block: nn.Module, x: Tensor) -> Tensor:
    return x + block.project.conv(block.depthwise(block.expand(x)))


def _no_first_activation(block: nn.Module, x: Tensor) -> Tensor:
    return x + block.project(block.depthwise(block.expand.bn(block.expand.conv(x))))


MISTAKES = {
    "the shortcut is missing: the block adds its input": _no_shortcut,
    "the BatchNorm after the expansion is missing": _no_first_norm,
    "the BatchNorm after the depthwise convolution is missing": _no_middle_norm,
    "the BatchNorm after the projection is missing": _no_last_norm,
    "the activation after the expansion is missing": _no_first_activation,
}


@exercise("17.6", title="The same block in less memory", minutes=25, difficulty="hard", expects=a_function)
def thrifty(answer: Callable[[nn.Module, Tensor], Tensor]) -> str:
    """`answer(block, x)` gives what `block(x)` does, with a smaller peak and little more work."""
    blocks = [_block(channels, expand) for channels, expand in ((CHANNELS, 6), (8, 4))]
    x = [torch.randn(2, CHANNELS, SIDE, SIDE), torch.randn(1, 8, 24, 16)]
    before = [{name: tensor.clone() for name, tensor in block.state_dict().items()} for block in blocks]
    with torch.no_grad():
        compare_functions(answer, lambda block, x: block(x), list(zip(blocks, x, strict=True)), MISTAKES,
                          hint="set eval mode, and compare with block(x), at the borders too")
    for block, state in zip(blocks, before, strict=True):
        if any(not torch.equal(tensor, state[name]) for name, tensor in block.state_dict().items()):
            fail("your function changes the block; it must be left as it is for the next image")
    size = (CHANNELS, SIDE, SIDE)
    own, cost = profile(blocks[0], size), profile(_Runs(blocks[0], answer), size)
    unit = 4 * CHANNELS * SIDE**2
    if cost.peak_activation_bytes > PEAK * unit:
        fail(f"the output is right, but the peak of live activations is {format_bytes(cost.peak_activation_bytes)}, "
             f"{cost.peak_activation_bytes / unit:.1f} times the input, and {PEAK} times is allowed; block(x) itself "
             f"has {own.peak_activation_bytes / unit:.1f}", "which maps of 144 channels are alive at once?")
    if cost.macs > MACS * own.macs:
        fail(f"the output is right and the peak is low, but you do {cost.macs / own.macs:.2f} times the block's MACs, "
             f"and {MACS} times is allowed", "what do you compute more than once?")
    return (f"Peak {cost.peak_activation_bytes / unit:.1f} times the input instead of "
            f"{own.peak_activation_bytes / unit:.1f}, with {cost.macs / own.macs:.2f} times the MACs.")


def _block(channels: int, expand: int) -> InvertedResidual:
    """With the statistics of a network that has learned: not all zero and one."""
    block = InvertedResidual(channels, channels, stride=1, expand=expand)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return block.eval()
