"""The drawings in figures/, for the README and the chapters; `python -m lwcourse figures` makes them anew.

What a drawing says of code is taken from the code: blocks from torch.fx, connections from gradients,
numbers from cards and profiles. Lengths are in points, y grows downwards.
"""
import inspect
import io
import keyword
import textwrap
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Line
from torch import Tensor, nn

import lwcourse as lw
from lwcourse.layers import ChannelShuffle, Shift
from lwcourse.models.mobilenet_v2 import InvertedResidual
from lwcourse.viz import theme
from lwcourse.viz.diagram import drawing
from lwcourse.viz.diagram.graph import trace
from lwcourse.viz.theme import Figure, svg, themed

WIDTH = 660.0  # 880 pixels, the width of a README
MARGIN = 18.0


class Chapter(NamedTuple):
    """A box of the course map, at (column, row); `needs` are the chapters to read before."""
    number: str
    lines: tuple[str, ...]
    column: int
    row: float
    needs: tuple[str, ...]


CHAPTERS = (
    Chapter("00", ("Start here", "how a chapter works"), 0, 0.5, ()),
    Chapter("01", ("What makes a", "network light?"), 0, 1.75, ("00",)),
    Chapter("02", ("MobileNets", "V1, V2, V3, MobileNeXt"), 1, 2, ("17",)),
    Chapter("03", ("ShuffleNets", "V1, V2, one-shot search"), 2, 0, ("02",)),
    Chapter("04", ("Noah's Ark", "GhostNet, AdderNet"), 2, 1, ("02",)),
    Chapter("05", ("Attention", "SE, ECA, CA, SA, Triplet"), 2, 2, ("02",)),
    Chapter("06", ("Inception", "GoogLeNet to Xception"), 2, 3, ("02",)),
    Chapter("07", ("ESPNet", "light segmentation"), 2, 4, ("02",)),
    Chapter("08", ("MobileViT", "with LeViT, ConvNeXt"), 3, 1.5, ("05",)),
    Chapter("09", ("CPU networks", "PP-LCNet and others"), 3, 2.5, ("05",)),
    Chapter("10", ("CondenseNet", "groups that are learned"), 3, 0, ("03",)),
    Chapter("11", ("HRNet", "high resolution throughout"), 3, 4, ("07",)),
    Chapter("14", ("Training", "recipes, weights, transfer"), 1, 3.5, ("02",)),
    Chapter("17", ("Time and memory", "roofline, caches, peak"), 0, 3, ("01",)),
)
WRITTEN = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "14", "17")  # the others are drawn dashed


def draw_all(folder: str | Path) -> list[Path]:
    """Write every drawing as `folder`/NAME.svg; returns the paths of those that changed."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, draw in DRAWINGS.items():
        path, content = folder / f"{name}.svg", svg(draw())
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
            changed.append(path)
    return changed


def connections(module: nn.Module, channels: int, size: int = 7) -> Tensor:
    """What the middle pixel of each output channel reads: booleans (out_channels, channels, size, size).

    Found from gradients, with every weight set to 1 so that none cancels another.
    `module` maps (N, channels, H, W) to the same H and W.
    """
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    x = torch.ones(1, channels, size, size, requires_grad=True)
    outputs = module(x)[0, :, size // 2, size // 2]
    return torch.stack([torch.autograd.grad(output, x, retain_graph=True)[0][0] != 0 for output in outputs])


def _page(height: float, alt: str) -> tuple[Figure, Axes]:
    """A card with round corners on nothing, and axes in points."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), facecolor="none", alt=alt)
    axes = drawing.blank_axes(figure, WIDTH, height)
    axes.add_patch(_rounded(1, 1, WIDTH - 2, height - 2, 9, facecolor=theme.CARD, edgecolor=theme.GRID, zorder=0))
    return figure, axes


def _rounded(x: float, y: float, width: float, height: float, radius: float, **style) -> FancyBboxPatch:
    return FancyBboxPatch((x, y), width, height, boxstyle=f"round,pad=0,rounding_size={radius}", **style)


def _cells(axes: Axes, filled: Tensor, left: float, top: float, side: float, colour: str) -> None:
    """A grid of squares with corner (left, top), those that are true filled."""
    rows, columns = filled.shape
    squares = [[(left + (j + a) * side, top + (i + b) * side) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
               for i, j in filled.nonzero().tolist()]
    lines = [[(left, top + i * side), (left + columns * side, top + i * side)] for i in range(rows + 1)]
    lines += [[(left + j * side, top), (left + j * side, top + rows * side)] for j in range(columns + 1)]
    axes.add_patch(PathPatch(Line.make_compound_path(*map(Line, squares)), facecolor=colour, linewidth=0, zorder=3))
    axes.add_patch(PathPatch(Line.make_compound_path(*map(Line, lines)), edgecolor=theme.tint(theme.MUTED, 0.45),
                             fill=False, linewidth=min(0.6, side / 10), zorder=3))


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _product(layer: nn.Conv2d) -> str:
    """The number of a convolution's weights as outputs · inputs of each · pixels, ones left out."""
    outputs, inputs, height, width = layer.weight.shape
    return " · ".join(str(factor) for factor in (outputs, inputs, height * width) if factor > 1)


@themed
def conv_zoo() -> Figure:
    """Which channels and which pixels nine light operations read, with their numbers of weights."""
    channels = 9
    zoo = {
        "standard 3×3": ("conv", nn.Conv2d(9, 9, 3, padding=1, bias=False)),
        "1×1": ("pointwise", nn.Conv2d(9, 9, 1, bias=False)),
        "grouped 3×3, 3 groups": ("grouped", nn.Conv2d(9, 9, 3, padding=1, groups=3, bias=False)),
        "depthwise 3×3": ("depthwise", nn.Conv2d(9, 9, 3, padding=1, groups=9, bias=False)),
        "depthwise-separable 3×3": ("depthwise", nn.Sequential(nn.Conv2d(9, 9, 3, padding=1, groups=9, bias=False),
                                                               nn.Conv2d(9, 9, 1, bias=False))),
        "factorised 1×3, 3×1": ("conv", nn.Sequential(nn.Conv2d(9, 9, (1, 3), padding=(0, 1), bias=False),
                                                      nn.Conv2d(9, 9, (3, 1), padding=(1, 0), bias=False))),
        "dilated 3×3, dilation 2": ("conv", nn.Conv2d(9, 9, 3, padding=2, dilation=2, bias=False)),
        "channel shuffle, 3 groups": ("gate", ChannelShuffle(3)),
        "shift": ("activation", Shift(9)),
    }
    facts = []
    figure, axes = _page(500.0, "being drawn")
    axes.text(MARGIN, 17, "What an output reads", fontsize=12.5, fontweight="bold", va="top")
    axes.text(MARGIN, 37, "9 channels in, 9 out. Left: the input channels (columns) that each output channel (rows) "
              "reads. Right: the pixels that an output pixel reads.", fontsize=8.2, color=theme.MUTED, va="top")
    for number, (title, (kind, module)) in enumerate(zoo.items()):
        left, top = MARGIN + 213 * (number % 3), 66 + 147 * (number // 3)
        read = connections(module, channels)
        pixels = int(read.any(1).flatten(1).sum(1).max())
        inputs = int(read.flatten(2).any(2).sum(1).max())
        colour = drawing.COLOURS[kind]
        axes.text(left, top, title, fontsize=9.5, fontweight="bold", va="top")
        _cells(axes, read.flatten(2).any(2), left, top + 18, 9.5, colour)
        _cells(axes, read.any(0).any(0), left + 107, top + 18, 9.5, colour)
        fact = (f"{pixels} pixel{'s' if pixels > 1 else ''} of {inputs} channel{'s' if inputs > 1 else ''}"
                f"{', another one in each' if pixels < int(read.any(0).any(0).sum()) else ''}")
        axes.text(left, top + 110, f"{_weights(module)} weights", fontsize=8.5, va="top", fontweight="bold")
        axes.text(left + 107, top + 110, fact.replace(", another", ",\nanother"), fontsize=8.2, va="top")
        facts.append(f"{title}: each output reads {fact}, {_weights(module)} weights")
    figure.alt = f"Nine operations on 9 channels as matrices of connections. {'; '.join(facts)}."
    return figure


@themed
def depthwise_separable() -> Figure:
    """A standard convolution, its two halves, and the halves in sequence, channel by channel."""
    n = 6
    filters = nn.Conv2d(n, n, 3, padding=1, groups=n, bias=False)
    mixes = nn.Conv2d(n, n, 1, bias=False)
    panels = (
        ("standard 3×3", "filters and mixes at once", (("conv", nn.Conv2d(n, n, 3, padding=1, bias=False)),)),
        ("depthwise 3×3", "filters each channel alone", (("depthwise", filters),)),
        ("1×1", "mixes channels, pixel by pixel", (("pointwise", mixes),)),
        ("depthwise, then 1×1", "filters, then mixes", (("depthwise", filters), ("pointwise", mixes))),
    )
    figure, axes = _page(252.0, "being drawn")
    left, facts = MARGIN, []
    for title, verb, layers in panels:
        axes.text(left, 18, title, fontsize=11, fontweight="bold", va="top")
        axes.text(left, 35, verb, fontsize=8.2, color=theme.MUTED, va="top")
        weights = sum(_weights(layer) for _, layer in layers)
        bold, last = {n // 2 - 1}, True
        for step, (kind, layer) in reversed(list(enumerate(layers))):
            bold = _bipartite(axes, connections(layer, n, size=5), left + 82 * step, 60.0, drawing.COLOURS[kind], bold,
                              last)
            last = False
        axes.text(left, 208, f"{weights} weights", fontsize=10, fontweight="bold", va="top")
        axes.text(left, 224, " + ".join(_product(layer) for _, layer in layers), fontsize=8.5, color=theme.MUTED,
                  va="top")
        facts.append(f"{title} {verb}, {weights} weights")
        left += 146.0
    figure.alt = (f"Six input channels joined to six output channels by the weights of each convolution, "
                  f"one output's inputs in bold: {'; '.join(facts)}.")
    return figure


def _bipartite(axes: Axes, read: Tensor, left: float, top: float, colour: str, bold: set[int],
               last: bool) -> set[int]:
    """Channels as squares, inputs left and outputs right, a line where an output reads an input.

    The lines of the outputs in `bold` are; returns the inputs that these read. Only the `last` step of
    a sequence draws its outputs.
    """
    pitch, side, across = 24.0, 17.0, 82.0
    thick = 1.9 if read.flatten(2).sum(2).max() > 1 else 1.1
    matrix = read.flatten(2).any(2)
    for output, source in matrix.nonzero().tolist():
        ys = [top + pitch * row + side / 2 for row in (source, output)]
        strong = output in bold
        axes.plot([left + side, left + across], ys, color=theme.shade(colour) if strong else theme.tint(colour, 0.45),
                  linewidth=thick if strong else 0.6 * thick, zorder=2 if strong else 1, solid_capstyle="butt")
    for row in range(read.shape[1]):
        _cells(axes, read[:, row].any(0), left, top + pitch * row, side / 5, colour)
    centre = torch.zeros(5, 5, dtype=torch.bool)
    centre[2, 2] = True
    for row in range(read.shape[0] if last else 0):
        _cells(axes, centre, left + across, top + pitch * row, side / 5, theme.INK if row in bold else theme.MUTED)
    return {source for output, source in matrix.nonzero().tolist() if output in bold}


@themed
def course_map() -> Figure:
    """The chapters and what each builds on; those still to be written are dashed."""
    width, height, column, row, top = 137.0, 44.0, 162.5, 57.0, 18.0
    figure, axes = _page(308.0, "being drawn")
    corner = {chapter.number: (MARGIN - 1 + column * chapter.column, top + row * chapter.row) for chapter in CHAPTERS}
    facts = []
    for chapter in CHAPTERS:
        left, y = corner[chapter.number]
        ready = chapter.number in WRITTEN
        colour = theme.BLUE if ready else theme.MUTED
        fill, thick, dashes = (theme.tint(theme.SKY, 0.22), 1.5, "-") if ready else (theme.CARD, 1.1, (0, (4, 3)))
        axes.add_patch(_rounded(left, y, width, height, 6, facecolor=fill, edgecolor=colour, linewidth=thick,
                                linestyle=dashes, zorder=3))
        axes.text(left + 16, y + height / 2, chapter.number, fontsize=11.5, fontweight="bold", color=colour,
                  ha="center", va="center_baseline", zorder=4)
        title, second = chapter.lines
        axes.text(left + 31, y + 16, title, fontsize=9.2, fontweight="bold", va="center_baseline", zorder=4)
        continues = second.endswith("?")
        axes.text(left + 31, y + 31, second, fontsize=9.2 if continues else 7.6, va="center_baseline", zorder=4,
                  fontweight="bold" if continues else "normal", color=theme.INK if continues else theme.MUTED)
        for number in chapter.needs:
            _map_arrow(axes, corner[number], corner[chapter.number], width, height, ready)
        name = " ".join(chapter.lines) if continues else title
        facts.append(f"{chapter.number} {name}" + (f" after {' and '.join(chapter.needs)}" if chapter.needs else "")
                     + ("" if ready else " (planned)"))
    y = top + row * 4 + height / 2
    for x, label, dashes, colour in ((MARGIN, "ready", "-", theme.BLUE),
                                     (MARGIN + 68, "planned", (0, (4, 3)), theme.MUTED)):
        axes.plot([x, x + 22], [y, y], color=colour, linewidth=1.5, linestyle=dashes)
        axes.text(x + 28, y, label, fontsize=8.5, color=theme.MUTED, va="center_baseline")
    figure.alt = f"Map of the course: {'; '.join(facts)}."
    return figure


def _map_arrow(axes: Axes, source: tuple[float, float], target: tuple[float, float], width: float, height: float,
               ready: bool) -> None:
    if source[0] == target[0]:
        line = Line([(source[0] + width / 2, source[1] + height), (target[0] + width / 2, target[1])])
    else:
        start, end = (source[0] + width, source[1] + height / 2), (target[0], target[1] + height / 2)
        middle = (start[0] + end[0] - 8) / 2
        line = Line([start, (middle, start[1]), (middle, end[1]), (end[0] - 8, end[1]), end],
                    [Line.MOVETO, Line.CURVE4, Line.CURVE4, Line.CURVE4, Line.LINETO])
    axes.add_patch(_arrow(line, theme.INK if ready else theme.MUTED))


def _arrow(line: Line, colour: str) -> FancyArrowPatch:
    return FancyArrowPatch(path=line, arrowstyle="-|>,head_length=5,head_width=2.6", mutation_scale=1, color=colour,
                           linewidth=1.2, joinstyle="miter", zorder=2)


@themed
def hero() -> Figure:
    """The block of MobileNetV2 as the course treats it: drawn from code, proved, and counted."""
    card, network = lw.model_card("mobilenet_v2"), lw.create_model("mobilenet_v2")
    profile = lw.profile(network, card.input_size)
    block = InvertedResidual(24, 24, stride=1, expand=6)
    found = trace(block, torch.zeros(1, 24, 56, 56), title="InvertedResidual")
    figure, axes = _page(362.0, "being drawn")
    arranged = drawing.laid_out(found, gap=20.0)
    _panel_title(axes, MARGIN, 18, "1", "Read it", "the block, drawn from its code")
    drawing.draw_layout(axes, found, arranged, MARGIN + 8, 52)
    left, right = 258.0, WIDTH - MARGIN
    _code(axes, inspect.getsource(InvertedResidual.forward), left, 18, right - left)
    axes.add_patch(_arrow(Line([(left - 4, 44), (218, 44), (214, 66), (166, 66)],
                               [Line.MOVETO, Line.CURVE4, Line.CURVE4, Line.CURVE4]), theme.BLUE))
    _panel_title(axes, left, 96, "2", "Prove it", "MobileNetV2, every number tested")
    _proof(axes, card, profile, left, right, 120)
    _panel_title(axes, left, 222, "3", "Look closer", "where the arithmetic is, and where the memory traffic is")
    shares = _work_bars(axes, network, profile, left, right, 252)
    figure.alt = (f"Three views of one network. {found.describe()} MobileNetV2: the paper says "
                  f"{card.published_params_m} million parameters and {card.published_macs_m} million multiply-adds; "
                  f"the code has {profile.params:,} and {profile.macs:,}. Its output equals torchvision's. {shares}")
    return figure


def _panel_title(axes: Axes, left: float, top: float, number: str, title: str, caption: str) -> None:
    axes.add_patch(Circle((left + 8, top + 7), 8, facecolor=theme.BLUE, edgecolor="none", zorder=3))
    axes.text(left + 8, top + 7, number, fontsize=9.5, fontweight="bold", color=theme.CARD, ha="center",
              va="center_baseline", zorder=4)
    axes.text(left + 22, top + 7, title, fontsize=11.5, fontweight="bold", va="center_baseline")
    axes.text(left + 22 + 8 + drawing.text_width(title, 11.5, bold=True), top + 7, caption, fontsize=8.5,
              color=theme.MUTED, va="center_baseline")


def _code(axes: Axes, source: str, left: float, top: float, width: float) -> None:
    """Python source in a frame, keywords in bold."""
    size, pitch = 7.6, 13.0
    lines = textwrap.dedent(source).strip().splitlines()
    axes.add_patch(_rounded(left, top, width, pitch * len(lines) + 12, 5, facecolor="white", edgecolor=theme.GRID))
    step = size * 0.60206  # width of a letter of DejaVu Sans Mono, in ems
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
        if token.string.strip():
            strong = keyword.iskeyword(token.string)
            axes.text(left + 8 + step * token.start[1], top + 6 + pitch * (token.start[0] - 0.5), token.string,
                      fontsize=size, family="DejaVu Sans Mono", va="center_baseline",
                      color=theme.shade(theme.BLUE) if strong else theme.INK, fontweight="bold" if strong else "normal")


def _proof(axes: Axes, card: lw.ModelCard, profile: lw.Profile, left: float, right: float, top: float) -> None:
    """Paper beside count, and the comparison with torchvision, which is made here and now."""
    from torchvision.models import mobilenet_v2

    comparison = lw.compare(lw.create_model("mobilenet_v2"), mobilenet_v2(weights=None), torch.randn(1, 3, 64, 64))
    if not comparison.equal:
        raise RuntimeError(f"mobilenet_v2 differs from torchvision's: {comparison.first_difference}")
    columns = (left, left + 128, left + 226, right)
    rows = (("", "paper", "counted"),
            ("parameters", f"{card.published_params_m} M", f"{profile.params:,}"),
            ("multiply-adds", f"{card.published_macs_m} M", f"{profile.macs:,}"))
    for i, row in enumerate(rows):
        y = top + 9 + 19 * i
        for x, text in zip(columns, row, strict=False):
            axes.text(x, y, text, fontsize=9.5 if i else 8.5, va="center_baseline",
                      color=theme.INK if i else theme.MUTED, fontweight="bold" if i and x == columns[2] else "normal")
        axes.plot([left, right], [y + 10, y + 10], color=theme.GRID, linewidth=0.8)
    axes.text(left, top + 66, "output", fontsize=9.5, va="center_baseline")
    tick = [(columns[1], top + 66), (columns[1] + 3.5, top + 69.5), (columns[1] + 10, top + 61.5)]
    axes.plot(*zip(*tick, strict=True), color=theme.GREEN, linewidth=2.4, solid_capstyle="round")
    axes.text(columns[1] + 17, top + 66, "equal to torchvision's, with the same weights", fontsize=9.5,
              va="center_baseline")


def _work_bars(axes: Axes, network: nn.Module, profile: lw.Profile, left: float, right: float, top: float) -> str:
    """Multiply-adds and bytes moved, each as one bar divided by family of layer; returns them in words."""
    families = {"1×1 conv": theme.SKY, "depthwise": theme.ORANGE, "stem, classifier": theme.BLUE,
                "BN": theme.MUTED, "ReLU6": theme.GREEN, "sums": theme.PALETTE["purple"]}
    parts = dict(network.named_modules())
    totals = {family: [0, 0] for family in families}
    for layer in profile.layers:
        part = parts[layer.name]
        if isinstance(part, nn.Conv2d) and part.groups > 1:
            family = "depthwise"
        elif isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1):
            family = "1×1 conv"
        elif isinstance(part, (nn.Conv2d, nn.Linear)):
            family = "stem, classifier"
        elif isinstance(part, (nn.BatchNorm2d, nn.ReLU6)):
            family = "BN" if isinstance(part, nn.BatchNorm2d) else "ReLU6"
        else:
            family = "sums"  # of the shortcuts, and the mean over the pixels; dropout does nothing in eval mode
        totals[family][0] += layer.macs
        totals[family][1] += layer.traffic_bytes
    words = []
    for i, (name, unit) in enumerate((("multiply-adds", "M"), ("bytes moved", "MB"))):
        total = sum(pair[i] for pair in totals.values())
        y, x = top + 29 * i, left + 128.0
        scale = (right - x) / total
        axes.text(left, y + 10.5, f"{name}", fontsize=9.5, va="center_baseline")
        axes.text(x - 8, y + 10.5, f"{total / 1e6:.0f} {unit}", fontsize=8.5, va="center_baseline", ha="right",
                  color=theme.MUTED)
        for family, pair in totals.items():
            width = pair[i] * scale
            axes.add_patch(_rounded(x, y, width, 21, 0, facecolor=theme.tint(families[family], 0.75),
                                    edgecolor=theme.CARD, linewidth=1.0))
            if width > 20:
                axes.text(x + width / 2, y + 10.5, f"{100 * pair[i] / total:.0f} %", fontsize=8.5, ha="center",
                          va="center_baseline", fontweight="bold")
            x += width
        shares = [f"{family} {100 * pair[i] / total:.0f} %" for family, pair in totals.items()]
        words.append(f"{name}: {', '.join(shares)}")
    x = left + 86.0
    for family, colour in families.items():
        axes.add_patch(_rounded(x, top + 63, 8, 8, 1.5, facecolor=theme.tint(colour, 0.75), edgecolor="none"))
        axes.text(x + 11, top + 67, family, fontsize=7.6, va="center_baseline", color=theme.MUTED)
        x += 11 + drawing.text_width(family, 7.6) + 7.5
    return f"Shares of {'; of '.join(words)}."


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "hero": hero, "course_map": course_map, "depthwise_separable": depthwise_separable, "conv_zoo": conv_zoo}
