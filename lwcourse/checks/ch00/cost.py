"""00.1 and 00.2: counting MACs, and whose they are."""
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import lwcourse as lw
from lwcourse.checks import exercise
from lwcourse.checks.helpers import a_function, compare_numbers, read_number

# What people write instead, with c, d: channels in and out, k: kernel, h, w: sides of the output, g: groups.
# Each is told apart from the right count, and from the others, by the configurations below (tested).
MISTAKES = {
    "you count a multiply and an add as two; one MAC is both together":
        lambda c, d, k, h, w, g: 2 * c * d * k * k * h * w // g,
    "`groups` makes no difference in your count; a filter sees only in_channels / groups channels":
        lambda c, d, k, h, w, g: c * d * k * k * h * w,
    "you multiply by `groups`; more groups make a convolution cheaper":
        lambda c, d, k, h, w, g: c * d * k * k * h * w * g,
    "you divide by `groups` twice; there are fewer channels in each filter, but as many filters":
        lambda c, d, k, h, w, g: c * d * k * k * h * w // g**2,
    "you use the kernel's side once; a filter has kernel * kernel positions":
        lambda c, d, k, h, w, g: c * d * k * h * w // g,
    "you take kernel * 2 for the positions of a filter; a square has side times side of them":
        lambda c, d, k, h, w, g: c * d * 2 * k * h * w // g,
    "you leave the kernel out; each output value takes kernel * kernel positions into account":
        lambda c, d, k, h, w, g: c * d * h * w // g,
    "you count the weights; each of them is used once for every pixel of the output (height * width)":
        lambda c, d, k, h, w, g: c * d * k * k // g,
    "you count the output values; each of them takes several MACs":
        lambda c, d, k, h, w, g: d * h * w,
    "you take one side of the map for both; it is height * width pixels large":
        lambda c, d, k, h, w, g: c * d * k * k * h * h // g,
    "you count one filter; there are out_channels of them":
        lambda c, d, k, h, w, g: c * k * k * h * w // g,
    "each output value adds up over the input channels too; `in_channels` is missing from your count":
        lambda c, d, k, h, w, g: d * k * k * h * w,
    "you count the additions of a bias as MACs; by the course's convention they do not count":
        lambda c, d, k, h, w, g: c * d * k * k * h * w // g + d * h * w,
    "you take kernel - 1 off the sides; the sizes given are those of the output already":
        lambda c, d, k, h, w, g: c * d * k * k * (h - k + 1) * (w - k + 1) // g,
    "these are millions of MACs; give the counts themselves": lambda c, d, k, h, w, g: c * d * k * k * h * w / g / 1e6,
    "these are thousands of MACs; give the counts themselves": lambda c, d, k, h, w, g: c * d * k * k * h * w / g / 1e3,
}
DEFAULT = "called without `groups`, your function does not take 1 for it: without groups the default must be 1"


@exercise("00.1", title="MACs of a convolution", minutes=5, difficulty="easy", expects=a_function)
def conv_macs(answer: Callable[..., int]) -> str:
    """`answer(in_channels, out_channels, kernel, height, width, groups=1)`, with the size of the output map."""
    mine, right, default = {}, {}, {}
    wrong = {reason: {} for reason in MISTAKES}
    for in_channels, out_channels, kernel, height, width, groups in _configurations():
        sizes, named = (in_channels, out_channels, kernel, height, width), {} if groups == 1 else {"groups": groups}
        label = f"conv_macs({', '.join(map(str, sizes))}{''.join(f', groups={n}' for n in named.values())})"
        mine[label] = answer(*sizes, **named)
        right[label] = _counted_by_torch(in_channels, out_channels, kernel, height, width, groups)
        for reason, formula in MISTAKES.items():
            wrong[reason][label] = formula(in_channels, out_channels, kernel, height, width, groups)
        if groups == 1 and read_number(mine[label], label) != right[label] == answer(*sizes, groups=1):
            default = {label: mine[label]}
    if default:
        wrong[DEFAULT] = right | default
    compare_numbers(mine, right, wrong, hint="work out one output value first, then count the output values")
    return f"Equal to torch's own counter on {len(right)} convolutions."


def _configurations() -> list[tuple[int, int, int, int, int, int]]:
    """Random ones, of which the first is ungrouped and the second depthwise, with no two sizes equal."""
    draw = random.Random(0)  # the same ones each time, so that a changed verdict comes from a changed answer
    configurations = []
    for case in range(8):
        groups = 1 if case == 0 else draw.choice((2, 4, 8))
        in_channels = groups * (1 if case == 1 else draw.randint(2, 5))
        out_channels = in_channels if case == 1 else groups * draw.randint(6, 9)
        height = draw.randint(5, 40)
        configurations.append((in_channels, out_channels, draw.choice((3, 5, 7)), height, height + 1, groups))
    return configurations


def _counted_by_torch(in_channels: int, out_channels: int, kernel: int, height: int, width: int, groups: int) -> int:
    with torch.device("meta"):  # shapes only, nothing is computed
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups)
        with FlopCounterMode(display=False) as counter:
            conv(torch.empty(1, in_channels, height, width))
    return counter.get_total_flops() // 2


SHARE_MISTAKES = {
    "you give per cent; a share is a number from 0 to 1": lambda one: 100 * one.depthwise / one.total,
    "these are the MACs themselves; a share is a number from 0 to 1, so something must be divided":
        lambda one: one.depthwise,
    "you count parameters; the question is about MACs": lambda one: one.depthwise_params / one.params,
    "you count layers; weigh each by its MACs": lambda one: one.depthwise_layers / one.layers,
    "you count convolutions; weigh each by its MACs": lambda one: one.depthwise_layers / one.conv_layers,
    "you find the layers by their names, which other networks have not; look at the groups": lambda one: one.named,
    "you take only 3x3 kernels for depthwise; a depthwise convolution may have any kernel":
        lambda one: one.depthwise_3x3 / one.total,
    "you count every convolution with a kernel above 1; a depthwise one has as many groups as input channels":
        lambda one: one.spatial / one.total,
    "you count every convolution; a depthwise one has as many groups as input channels":
        lambda one: one.convs / one.total,
    "you divide by the MACs of the convolutions; the classifier is part of the network too":
        lambda one: one.depthwise / one.convs,
    "you divide by the MACs of the other layers; a share is a part of the whole":
        lambda one: one.depthwise / (one.total - one.depthwise),
    "your quotient is upside down: you divide the whole by the part": lambda one: one.total / one.depthwise,
    "that is the share of all other layers; the depthwise ones are asked for":
        lambda one: 1 - one.depthwise / one.total,
    "you weigh the layers by the bytes that they move; weigh them by their MACs": lambda one: one.traffic_share,
    "only one layer is counted, the last of the depthwise convolutions; add up all of them (is there an = for a +=?)":
        lambda one: one.each_depthwise[-1] / one.total,
    "only one layer is counted, the first of the depthwise convolutions; add up all of them (does your loop end "
    "early?)": lambda one: one.each_depthwise[0] / one.total,
    "you leave out depthwise convolutions with more channels out than in; what counts is that each filter sees one "
    "channel": lambda one: one.as_many_out / one.total,
}


DECIMALS = range(1, 6)  # that a rounded share may have


@dataclass
class _Counts:
    """Sums over the layers of a network, for one image; `spatial` are convolutions with a kernel above 1."""
    total: int = 0
    convs: int = 0
    spatial: int = 0
    depthwise: int = 0
    depthwise_3x3: int = 0
    depthwise_params: int = 0
    depthwise_layers: int = 0
    as_many_out: int = 0  # MACs of depthwise convolutions with as many channels out as in
    conv_layers: int = 0
    each_depthwise: list[int] = field(default_factory=list)  # MACs, in the order of the calls
    traffic_share: float = 0.0  # the depthwise convolutions' part of the bytes
    named_macs: int = 0  # MACs of layers with "depthwise" in their names
    params: int = 0
    layers: int = 0

    @property
    def named(self) -> float:
        return self.named_macs / self.total


def _one_of_each() -> nn.Module:
    """Filters of two depths and two kernels, under names that tell nothing."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 5, 1, 2, groups=8), nn.ReLU(),
                         nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 24, 1), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(24, 10))


@exercise("00.2", title="The depthwise share", minutes=10, difficulty="easy", expects=a_function)
def depthwise_share(answer: Callable[[nn.Module, tuple[int, int, int]], float]) -> str:
    """`answer(network, input_size)`: the part of the network's MACs that its depthwise convolutions do."""
    mine, right = {}, {}
    wrong = {reason: {} for reason in SHARE_MISTAKES}
    networks = [(name, lw.create_model(name, num_classes=200), size) for name, size in
                (("mobilenet_v1", 64), ("mobilenet_v2", 96), ("mobilenet_v3_small", 64))]
    for name, network, size in [*networks, ("an nn.Sequential with filters of two kernels", _one_of_each(), 32)]:
        input_size = (3, size, size)
        label = f"depthwise_share({name}, {input_size})"
        mine[label] = answer(network, input_size)
        counts = _counts(network, input_size)
        right[label] = counts.depthwise / counts.total
        for reason, mistaken in SHARE_MISTAKES.items():
            wrong[reason][label] = mistaken(counts)
    numbers = {label: read_number(share, label) for label, share in mine.items()}
    for decimals in DECIMALS:
        if all(math.isclose(number, round(right[label], decimals), rel_tol=1e-6) for label, number in numbers.items()):
            wrong[f"you round, as to {decimals} decimals; give the share as it is, not rounded"] = numbers
    at_128 = [read_number(answer(network, (3, 128, 128)), "") for _, network, _ in networks]
    if list(numbers.values())[:len(networks)] == at_128:
        wrong["`input_size` makes no difference in your shares: you measure every network at one size of your own"] = \
            numbers
    compare_numbers(mine, right, wrong, hint="what makes a convolution depthwise is a number that its module knows",
                    tolerance=1e-6)
    return "They are " + ", ".join(f"{share:.1%}" for share in list(right.values())[:3]) + \
        " of V1's, V2's and V3 small's MACs."


def _counts(network: nn.Module, input_size: tuple[int, int, int]) -> _Counts:
    """Counted from each layer's output, independently of `lw.profile`."""
    counts = _Counts(params=sum(parameter.numel() for parameter in network.parameters()))
    modules = dict(network.named_modules())
    names = {module: name for name, module in modules.items()}

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if not isinstance(module, nn.Conv2d | nn.Linear):
            return
        macs = output.numel() * module.weight[0].numel()  # every output value meets one filter
        counts.total += macs
        counts.named_macs += macs * ("depthwise" in names[module])
        if isinstance(module, nn.Conv2d):
            counts.convs += macs
            counts.conv_layers += 1
            counts.spatial += macs * (module.kernel_size != (1, 1))
            if module.groups == module.in_channels > 1:
                counts.depthwise += macs
                counts.each_depthwise.append(macs)
                counts.depthwise_3x3 += macs * (module.kernel_size == (3, 3))
                counts.depthwise_params += sum(parameter.numel() for parameter in module.parameters())
                counts.depthwise_layers += 1
                counts.as_many_out += macs * (module.in_channels == module.out_channels)

    leaves = [module for module in network.modules() if not any(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    with torch.no_grad():
        network.eval()(torch.zeros(1, *input_size))
    for handle in handles:
        handle.remove()
    cost = lw.profile(network, input_size)  # the rows that someone counts who counts layers or bytes
    counts.layers = len(cost.layers)
    moved = sum(layer.traffic_bytes for layer in cost.layers
                if getattr(modules[layer.name], "groups", 1) == getattr(modules[layer.name], "in_channels", 0) > 1)
    counts.traffic_share = moved / cost.traffic_bytes
    return counts
