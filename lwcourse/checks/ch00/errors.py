"""00.3: three errors in a network, to be found and mended."""
from collections.abc import Callable

import torch
from torch import nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, compare_modules
from lwcourse.models.mobilenet_v2 import MobileNetV2, mobilenet_v2

FAULTY = (3, 8, 14)  # blocks of `faulty_network` with an error


def faulty_network() -> MobileNetV2:
    """MobileNetV2 with three errors, which exercise 00.3 asks to find and mend."""
    network = mobilenet_v2()
    network.blocks[3].depthwise.conv.stride = (1, 1)
    network.blocks[8].project.add_module("act", nn.ReLU6(inplace=True))
    network.blocks[14].has_shortcut = False
    return network


@exercise("00.3", title="Three errors", minutes=15, difficulty="easy", expects=a_function)
def three_errors(answer: Callable[[nn.Module], nn.Module]) -> str:
    """`answer(network)` mends what `faulty_network()` gives, and returns it."""
    given = faulty_network()
    kept = {name: parameter.detach().clone() for name, parameter in given.named_parameters()
            if not name.startswith(tuple(f"blocks.{block}." for block in FAULTY))}
    mended = answer(given)
    if mended is None:
        fail("your function returns nothing; end it with `return network`")
    if mended is not given:
        fail("your function must mend the network that it is given, and return that one",
             "change attributes and layers of `network`, as in `network.blocks[4].has_shortcut = True`")
    _refuse_none_among_layers(mended)
    compare_modules(mended, mobilenet_v2(), (2, 3, 48, 64), macs=True,
                    hint="mend this, and let `lw.compare` find the next",
                    shortcut="is `has_shortcut` True in a block that changes the shape, or a stride another one?")
    now = dict(mended.named_parameters())
    new = [name for name, weight in kept.items() if name not in now or not torch.equal(now[name].to(weight), weight)]
    if new:
        fail(f"the network is right, but layers without an error are new: {len(new)} weights were replaced, such as "
             f"`{new[0]}`, and what a trained network had learned there would be lost",
             "mend the three errors, and leave all other blocks as they are")
    return "Equal to MobileNetV2."


def _refuse_none_among_layers(network: nn.Module) -> None:
    for name, module in network.named_modules():
        for child, layer in module._modules.items():
            if layer is None and isinstance(module, nn.Sequential):
                fail(f"`{name}.{child}` is None, and an nn.Sequential calls each of its layers: None cannot be called",
                     "take the layer out, or put a layer there that does nothing")
