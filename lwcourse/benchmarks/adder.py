"""The adder convolution beside its textbook form, torch.cdist and a convolution: time and memory, in one run.

The 1x1 layers of stride 2 stay at 11 to 20 times, where the textbook form has little to be slow with: 64 x 16 x 16
positions x 16 x 32 channels are 8.4 M terms. A fiftieth of its 19 ms is 0.38 ms. Reading the map (4 MiB), picking every
second pixel (1 written, 1 read), storing the output (2) and turning it into maps (2 read, 2 written) moves 12 MiB,
which takes 0.7 ms at the 17 GB/s of the machine used, before a term is computed. Nor does conv2d reach fifty times.
"""
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lwcourse as lw
from lwcourse.counter import Counter
from lwcourse.layers import AdderConv2d, ConvBNAct
from lwcourse.models.adder_resnet import RESNET20, AdderResNet, Basic
from lwcourse.profile import format_bytes
from lwcourse.running import cpu_threads, whole_number
from lwcourse.tables import counted, text_table

IMAGES = 64  # of a training step


class Shape(NamedTuple):
    """Of a layer and its input: channels in and out, side of the kernel, stride, side of the map, images."""
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    side: int
    images: int

    def __str__(self) -> str:
        return (f"{self.in_channels} -> {self.out_channels}, {self.kernel_size}x{self.kernel_size}"
                f"{f', stride {self.stride}' if self.stride > 1 else ''}, {self.side} px, {self.images} images")


class Textbook(torch.autograd.Function):
    """The paper's equations as they stand: every difference of every output in one tensor (outputs, k*k*C, positions).

    Weights are (outputs, k*k*C), patches (k*k*C, positions).
    """

    @staticmethod
    def forward(ctx, weight: Tensor, patches: Tensor) -> Tensor:
        ctx.save_for_backward(weight, patches)
        return -(patches[None] - weight[:, :, None]).abs().sum(1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        weight, patches = ctx.saved_tensors
        difference = patches[None] - weight[:, :, None]
        full = (grad[:, None] * difference).sum(2)                            # full precision
        clipped = (grad[:, None] * (-difference).clamp(-1, 1)).sum(0)         # HardTanh
        return 0.2 * full.numel()**0.5 * full / full.norm().clamp(min=1e-12), clipped


def textbook(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    patches = F.unfold(x, weight.shape[2:], padding=weight.shape[2] // 2, stride=stride)
    output = Textbook.apply(weight.flatten(1), patches.transpose(0, 1).flatten(1))
    return _fold(output.unflatten(1, (len(x), -1)).transpose(0, 1))


def distances(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """By torch.cdist, whose gradients are the L1 norm's own: signs."""
    patches = F.unfold(x, weight.shape[2:], padding=weight.shape[2] // 2, stride=stride).transpose(1, 2)
    return _fold(-torch.cdist(patches, weight.flatten(1).expand(len(x), -1, -1), p=1).transpose(1, 2))


def _fold(rows: Tensor) -> Tensor:
    side = round(rows.shape[2]**0.5)
    return rows.unflatten(2, (side, side))


def contenders(shape: Shape) -> dict[str, Callable[[Tensor], Tensor]]:
    """The same layer four times; all but the convolution hold equal weights."""
    torch.manual_seed(0)
    channels, outputs, kernel, stride = shape[:4]
    layer = AdderConv2d(channels, outputs, kernel, stride, kernel // 2)
    conv = nn.Conv2d(channels, outputs, kernel, stride, kernel // 2, bias=False)
    return {"textbook": partial(textbook, weight=layer.weight, stride=stride),
            "cdist": partial(distances, weight=layer.weight, stride=stride), "ours": layer, "conv2d": conv}


def shapes() -> list[Shape]:
    """64 -> 64 at 32 px, with as few images as the textbook has memory for, and each layer of a training step."""
    network = lw.create_model("adder_resnet20", 10).eval()
    found = [Shape(64, 64, 3, 1, 32, 8)]
    handles = [module.register_forward_hook(lambda layer, args, out: found.append(Shape(
        layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0], args[0].shape[-1],
        IMAGES)))
        for module in network.modules() if isinstance(module, AdderConv2d)]
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(found))


def networks() -> dict[str, nn.Module]:
    """ResNet-20 of adders, and the same network of convolutions."""
    torch.manual_seed(0)
    conv = partial(nn.Conv2d, bias=False)
    plain = AdderResNet(RESNET20, Basic, ConvBNAct(3, 16, 3), 4, 10, 3, bias=False, layer=conv)
    return {"ours": lw.create_model("adder_resnet20", 10), "conv2d": plain}


def medians(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each function: the median of `rounds`, of which each runs all functions in turn, after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if i:
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def peak_bytes(function: Callable[[], object]) -> int:
    """Most bytes of tensors that live at once while the function runs; what it is given does not count."""
    with Counter(nn.Module()) as counter:
        function()
    return counter.eager.peak


def layer_rows(shape: Shape, rounds: int) -> list[tuple[str, ...]]:
    """A row for the forward pass, and one for forward and backward."""
    x = torch.randn(shape.images, shape.in_channels, shape.side, shape.side, requires_grad=True)

    def forward(layer):
        with torch.no_grad():
            layer(x)

    def both(layer):
        layer(x).sum().backward()
        x.grad = None
    rows = []
    for name, run in (("forward", forward), ("and backward", both)):
        functions = {key: partial(run, layer) for key, layer in contenders(shape).items()}
        seconds = medians(functions, rounds)
        peaks = [format_bytes(peak_bytes(function)) for function in functions.values()]
        rows.append((str(shape), name, *(f"{1e3 * value:.2f}" for value in seconds.values()),
                     f"{seconds['textbook'] / seconds['ours']:.0f}", f"{seconds['ours'] / seconds['conv2d']:.2f}",
                     *peaks))
    return rows


def training_rows(images: int, rounds: int) -> list[tuple[str, ...]]:
    """One step of SGD for each of `networks()`."""
    x, targets = torch.randn(images, 3, 32, 32), torch.randint(10, (images,))

    def step(network, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(network(x), targets).backward()
        optimizer.step()
    functions = {name: partial(step, network, torch.optim.SGD(network.parameters(), 0.01, 0.9))
                 for name, network in networks().items()}
    seconds = medians(functions, rounds)
    peaks = {name: peak_bytes(function) for name, function in functions.items()}
    return [(f"training step, {images} images", *(f"{1e3 * value:.0f}" for value in seconds.values()),
             f"{seconds['ours'] / seconds['conv2d']:.2f}", *(format_bytes(value) for value in peaks.values()),
             f"{peaks['ours'] / peaks['conv2d']:.2f}")]


def report(*, rounds: int = 3, threads: int | None = None, images: int = IMAGES,
           only: list[Shape] | None = None) -> str:
    """Both tables as text; `only` takes other layers than those of `shapes()`, `images` is for the training step."""
    names = ("textbook", "cdist", "ours", "conv2d")
    rounds = whole_number("rounds", rounds, 1)
    with cpu_threads(threads) as used:
        layers = [("layer", "pass", *(f"{name} (ms)" for name in names), "textbook / ours", "ours / conv2d",
                   *(f"{name} peak" for name in names))]
        for shape in only or shapes():
            layers += layer_rows(shape, rounds)
        steps = [("ResNet-20", "ours (ms)", "conv2d (ms)", "ours / conv2d", "ours peak", "conv2d peak",
                  "ours / conv2d"), *training_rows(images, rounds)]
    return (f"{text_table(layers, left=2)}\n{counted(used, 'thread')}, medians of "
            f"{counted(rounds, 'interleaved round')}\n\n{text_table(steps, left=1)}")
