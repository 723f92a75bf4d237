"""Block diagrams: what is drawn, where it stands, and that the module is left alone."""
import copy
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn
from torchvision.models.densenet import _DenseBlock as DenseBlock
from torchvision.models.googlenet import Inception
from torchvision.models.resnet import BasicBlock
from torchvision.models.segmentation.lraspp import LRASPPHead
from torchvision.models.shufflenetv2 import InvertedResidual as ShuffleUnit

from lwcourse import viz
from lwcourse.layers import ChannelShuffle, ConvBNAct, GhostModule, Shift, SqueezeExcitation
from lwcourse.models.hrnet import Exchange
from lwcourse.models.levit import Attention
from lwcourse.models.mobilenet_v2 import InvertedResidual
from lwcourse.viz.diagram import drawing, layout
from lwcourse.viz.diagram.graph import trace


class DenseUnit(nn.Module):
    """Every convolution reads all maps so far."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([ConvBNAct(8 + 4 * i, 4, 3) for i in range(3)])

    def forward(self, x):
        maps = [x]
        for conv in self.convs:
            maps.append(conv(torch.cat(maps, 1)))
        return torch.cat(maps, 1)


class CoordinateAttention(nn.Module):
    """Two gates, one a row and one a column; checks its input's size as learners' code may."""

    def __init__(self):
        super().__init__()
        self.squeeze = ConvBNAct(32, 8, 1, act=nn.Hardswish)
        self.rows, self.columns = nn.Conv2d(8, 32, 1), nn.Conv2d(8, 32, 1)

    def forward(self, x):
        height, width = x.shape[-2:]
        if height < 2 or width % 2:
            raise ValueError("too small, or odd")
        pooled = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        rows, columns = self.squeeze(pooled).split([height, width], 2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()


class NestedShortcuts(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (ConvBNAct(16, 16, 3) for _ in range(3))

    def forward(self, x):
        y = self.first(x)
        return self.third(self.second(y) + y) + x


BLOCKS = {
    "inverted residual": (lambda: InvertedResidual(24, 24, 1, 6), (24, 56, 56)),
    "inverted residual, stride 2": (lambda: InvertedResidual(24, 32, 2, 6), (24, 56, 56)),
    "conv": (lambda: ConvBNAct(3, 32, 3, 2), (3, 224, 224)),
    "squeeze": (lambda: SqueezeExcitation(64, 16), (64, 28, 28)),
    "inception": (lambda: Inception(192, 64, 96, 128, 16, 32, 32), (192, 28, 28)),
    "shuffle unit": (lambda: ShuffleUnit(116, 116, 1), (116, 28, 28)),
    "shuffle unit, stride 2": (lambda: ShuffleUnit(24, 116, 2), (24, 56, 56)),
    "ghost": (lambda: GhostModule(16, 32), (16, 32, 32)),
    "residual with projection": (
        lambda: BasicBlock(64, 128, 2, nn.Sequential(nn.Conv2d(64, 128, 1, 2), nn.BatchNorm2d(128))), (64, 56, 56)),
    "nested shortcuts": (NestedShortcuts, (16, 32, 32)),
    "dense unit": (DenseUnit, (8, 32, 32)),
    "coordinate attention": (CoordinateAttention, (32, 14, 14)),
}


def traced(name, **options):
    build, shape = BLOCKS[name]
    return trace(build(), torch.randn(1, *shape), **options)


def boxes(found):
    """The boxes between input and output, as lines of text."""
    return [(node.title, *node.captions) for node in found.nodes if node.kind not in ("input", "output")]


def arrows(found):
    """(source's title, target's title, shape) of each arrow, marked where it is a shortcut."""
    return [(found.node(edge.source).title, found.node(edge.target).title, edge.shape) + ("shortcut",) * edge.shortcut
            for edge in found.edges]


def test_inverted_residual():
    found = traced("inverted residual")
    assert boxes(found) == [("1×1 conv", "24 → 144", "BN · ReLU6"), ("3×3 depthwise conv", "144 → 144", "BN · ReLU6"),
                            ("1×1 conv", "144 → 24", "BN"), ("+",)]
    assert arrows(found) == [
        ("input", "1×1 conv", "24×56×56"), ("1×1 conv", "3×3 depthwise conv", "144×56×56"),
        ("3×3 depthwise conv", "1×1 conv", "144×56×56"), ("input", "+", "24×56×56", "shortcut"),
        ("1×1 conv", "+", "24×56×56"), ("+", "output", "24×56×56")]
    assert [node.kind for node in found.nodes] == ["input", "pointwise", "depthwise", "pointwise", "merge", "output"]


def test_stride_shows_and_takes_the_shortcut_away():
    found = traced("inverted residual, stride 2")
    assert boxes(found)[1:] == [("3×3 depthwise conv", "144 → 144, stride 2", "BN · ReLU6"),
                                ("1×1 conv", "144 → 32", "BN")]
    assert not any(edge.shortcut for edge in found.edges)
    assert [edge.shape for edge in found.edges][-2:] == ["144×28×28", "32×28×28"]


def test_the_drawing_follows_the_code():
    block = InvertedResidual(24, 24, 1, 6)
    x = torch.randn(1, 24, 8, 8)
    block.has_shortcut = False
    assert not any(edge.shortcut for edge in trace(block, x).edges)
    assert ("+",) not in boxes(trace(block, x))
    block.project.add_module("act", nn.ReLU6())
    assert boxes(trace(block, x))[-1] == ("1×1 conv", "144 → 24", "BN · ReLU6")
    block.depthwise.conv = nn.Conv2d(144, 144, 3, padding=1, groups=12)
    assert boxes(trace(block, x))[1] == ("3×3 grouped conv", "144 → 144, 12 groups", "BN · ReLU6")
    block.depthwise.conv = nn.Conv2d(144, 144, 3, groups=144)
    assert boxes(trace(block, x))[1] == ("3×3 depthwise conv", "144 → 144, no padding", "BN · ReLU6")


def test_squeeze_gates_the_trunk():
    found = traced("squeeze")
    assert boxes(found) == [("mean over H, W",), ("1×1 conv", "64 → 16", "ReLU"), ("1×1 conv", "16 → 64"),
                            ("sigmoid",), ("×",)]
    assert ("input", "×", "64×28×28", "shortcut") in arrows(found)
    assert ("sigmoid", "×", "64×1×1") in arrows(found)
    placed = arranged(found)
    trunk = {placed.boxes[name].x for name in ("<input>", "mul", "<output>")}
    assert len(trunk) == 1 and placed.boxes["gate"].x > trunk.pop()


def test_inception_has_four_branches_side_by_side():
    found = traced("inception")
    merge = next(node.name for node in found.nodes if node.title == "concat")
    assert [edge.shape for edge in found.edges if edge.target == merge] == [
        "64×28×28", "128×28×28", "32×28×28", "32×28×28"]
    starts = [edge.target for edge in found.edges if edge.source == "<input>"]
    placed = arranged(found)
    assert len({placed.boxes[name].x for name in starts}) == 4
    assert len({placed.boxes[name].y for name in starts}) == 1
    assert ("3×3 max pool",) in boxes(found)


def test_shuffle_unit():
    found = traced("shuffle unit")
    assert [line[0] for line in boxes(found)] == [
        "split", "1×1 conv", "3×3 depthwise conv", "1×1 conv", "concat", "channel shuffle"]
    assert boxes(found)[-1] == ("channel shuffle", "2 groups")
    assert ("split", "concat", "58×28×28", "shortcut") in arrows(found)


def test_ghost_keeps_the_primary_maps():
    assert arrows(traced("ghost"))[2:4] == [("1×1 conv", "concat", "16×32×32", "shortcut"),
                                            ("3×3 depthwise conv", "concat", "16×32×32")]
    assert ("x[:, :33]",) in boxes(trace(GhostModule(16, 33), torch.randn(1, 16, 8, 8)))


def test_full_detail_opens_the_boxes():
    assert [line[0] for line in boxes(traced("conv", detail="full"))] == ["3×3 conv", "BN", "ReLU"]
    parts = nn.Sequential(Shift(18), nn.Conv2d(18, 36, 1))
    x = torch.randn(1, 18, 8, 8)
    assert boxes(trace(parts, x)) == [("Shift",), ("1×1 conv", "18 → 36")]
    assert ("concat",) in boxes(trace(parts, x, detail="full"))
    assert ("concat",) in boxes(trace(Shift(18), x)), "a part that is drawn by itself is opened"


def test_a_box_with_two_readers_is_not_fused():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.bn(y) + y

    assert boxes(trace(Both(), torch.randn(1, 4, 4, 4))) == [("1×1 conv", "4 → 4"), ("BN",), ("+",)]


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(8, 1, 3, 3))
        self.scale = nn.Parameter(torch.ones(1, 8, 1, 1))

    def forward(self, x):
        return self.function(self, x)


def shuffled(x, groups):
    return x.view(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]).transpose(1, 2).contiguous().view(x.shape)


@pytest.mark.parametrize("function, expected", [
    (lambda m, x: F.conv2d(x, m.weight, padding=2, dilation=2, groups=x.size(1)),
     ("3×3 depthwise conv", "8 → 8, dilation 2")),
    (lambda m, x: F.relu(F.conv2d(x, m.weight, None, 2, 1, 1, 8)), ("3×3 depthwise conv", "8 → 8, stride 2", "ReLU")),
    (lambda m, x: F.conv_transpose2d(x, m.weight, stride=2, groups=8),
     ("3×3 transposed depthwise conv", "8 → 8, stride 2")),
    (lambda m, x: F.conv_transpose2d(x, m.weight, None, 1, 1, 0, 8, 2),
     ("3×3 transposed depthwise conv", "8 → 8, dilation 2")),
    (lambda m, x: m.scale * x, ("× scale",)),
    (lambda m, x: 1 - x, ("1 − x",)),
    (lambda m, x: x / 2, ("÷ 2",)),
    (lambda m, x: x + x, ("+",)),
    (lambda m, x: x.mean(dim=1, keepdim=True), ("mean over C",)),
    (lambda m, x: x.amax((2, 3)), ("max over H, W",)),
    (lambda m, x: torch.max(x, 1)[0], ("max over C",)),
    (lambda m, x: F.max_pool2d(x, 3, 2, 1), ("3×3 max pool", "stride 2")),
    (lambda m, x: F.avg_pool2d(x, 2), ("2×2 average pool", "stride 2")),
    (lambda m, x: F.adaptive_avg_pool2d(x, 1), ("global average pool",)),
    (lambda m, x: F.interpolate(x, scale_factor=2), ("upsample ×2",)),
    (lambda m, x: x[:, 2:4], ("x[:, 2:4]",)),
    (lambda m, x: torch.cat([x, x], 2), ("concat along H",)),
    (lambda m, x: shuffled(x, 4), ("channel shuffle", "4 groups")),
    (lambda m, x: x.reshape(2, 4, 2, 6, 6).permute(0, 2, 1, 3, 4).flatten(1, 2), ("channel shuffle", "4 groups")),
    (lambda m, x: x.erf(), ("erf",)),
])
def test_words_for_operations(function, expected):
    assert boxes(trace(Applied(function), torch.randn(2, 8, 6, 6))) == [expected]


@pytest.mark.parametrize("function", [
    lambda m, x: x.view(2, 4, 2, 6, 6).view(2, 8, 6, 6),
    lambda m, x: x.view(2, 4, 2, 6, 6).transpose(1, 3).reshape(2, 8, 6, 6),
    lambda m, x: x.view(2, 4, 2, 6, 6).permute(0, 2, 1, 4, 3).reshape(2, 8, 6, 6),
    lambda m, x: x.view(2, 2, 2, 2, 36).transpose(1, 2).reshape(2, 8, 6, 6),
])
def test_other_views_are_no_channel_shuffle(function):
    assert "channel shuffle" not in [line[0] for line in boxes(trace(Applied(function), torch.randn(2, 8, 6, 6)))]


@pytest.mark.parametrize("module, shape, expected", [
    (nn.Conv2d(8, 8, (1, 7), padding=(0, 3)), (8, 9, 9), ("1×7 conv", "8 → 8")),
    (nn.Conv2d(8, 8, 1, groups=2), (8, 9, 9), ("1×1 grouped conv", "8 → 8, 2 groups")),
    (nn.Conv2d(8, 16, 3, 2, 1, groups=4), (8, 9, 9), ("3×3 grouped conv", "8 → 16, stride 2", "4 groups")),
    (nn.Conv1d(1, 1, 3, padding=1), (1, 9), ("3-tap conv", "1 → 1")),
    (nn.Linear(6, 3), (6,), ("linear", "6 → 3")),
    (nn.AdaptiveAvgPool2d(3), (4, 9, 9), ("adaptive average pool", "to 3×3")),
    (nn.Hardswish(), (4, 9, 9), ("h-swish",)),
    (nn.Sequential(ChannelShuffle(4)), (8, 9, 9), ("channel shuffle", "4 groups")),
    (ChannelShuffle(4), (8, 9, 9), ("channel shuffle", "4 groups")),
    (nn.GroupNorm(2, 4), (4, 9, 9), ("GroupNorm",)),
])
def test_words_for_modules(module, shape, expected):
    assert boxes(trace(module, torch.randn(2, *shape))) == [expected]


def test_two_inputs_and_two_outputs():
    class Pair(nn.Module):
        def forward(self, image, mask, scale=None):
            gated = image * mask
            return (gated if scale is None else gated * scale), -mask

    found = trace(Pair(), (torch.randn(1, 3, 4, 4), torch.randn(1, 1, 4, 4)))
    assert [node.title for node in found.nodes if node.kind in ("input", "output")] == [
        "image", "mask", "output 1", "output 2"]
    assert ("image", "×", "3×4×4") in arrows(found) and ("mask", "×", "1×4×4") in arrows(found)


def test_the_module_and_its_input_stay_as_they_were():
    block = InvertedResidual(8, 8, 1, 2).train()
    block.expand.bn.momentum = 0.5
    calls = []
    block.project.register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(block.state_dict())
    x = -torch.rand(2, 8, 6, 6)
    kept = x.clone()
    viz.block_diagram(nn.Sequential(nn.ReLU(inplace=True), block), x)
    assert torch.equal(x, kept)
    assert all(module.training for module in block.modules())
    assert len(block.project._forward_hooks) == 1 and calls == []
    assert all(torch.equal(value, before[key]) for key, value in block.state_dict().items())
    assert all(parameter.grad is None for parameter in block.parameters())


def test_one_image_is_enough_in_training_mode():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvBNAct(4, 4, 1)).train()  # BatchNorm refuses a single value
    assert boxes(trace(pooled, torch.randn(1, 4, 6, 6)))[1] == ("1×1 conv", "4 → 4", "BN · ReLU")


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.weight if x.sum() > 0 else x


def test_what_fx_cannot_follow_is_named():
    with pytest.raises(ValueError, match=r"cannot draw Branching: .*control flow"):
        viz.block_diagram(Branching(), torch.randn(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"cannot draw Sequential \(in its part '1\.0'\): .*control flow"):
        viz.block_diagram(nn.Sequential(nn.ReLU(), nn.Sequential(Branching())), torch.randn(1, 3, 4, 4))


def test_bad_input():
    with pytest.raises(ValueError, match=r"Conv2d cannot run on an input of shape \(1, 2, 4, 4\).*3 channels"):
        viz.block_diagram(nn.Conv2d(3, 4, 1), torch.randn(1, 2, 4, 4))
    with pytest.raises(TypeError, match="nn.Module, got function"):
        viz.block_diagram(shuffled, torch.randn(1, 2, 4, 4))
    with pytest.raises(TypeError, match="tensor or a tuple of tensors, got str"):
        viz.block_diagram(nn.ReLU(), "an image")
    with pytest.raises(ValueError, match="'fused' or 'full', got 'all'"):
        viz.block_diagram(nn.ReLU(), torch.randn(1, 2), detail="all")
    with pytest.raises(ValueError, match="at least one module"):
        viz.block_diagrams({}, torch.randn(1, 2))
    with pytest.raises(ValueError, match="none for 'wide'"):
        viz.block_diagrams({"narrow": nn.Linear(2, 3), "wide": nn.Linear(4, 3)}, {"narrow": torch.randn(1, 2)})


def arranged(found):
    return layout.arrange(found, {node.name: drawing._size(node) for node in found.nodes}, drawing.GAP)


@pytest.mark.parametrize("detail", ["fused", "full"])
@pytest.mark.parametrize("name", BLOCKS)
def test_boxes_stand_apart_and_arrows_cross_none(name, detail):
    found = traced(name, detail=detail)
    placed = arranged(found)
    assert set(placed.boxes) == {node.name for node in found.nodes}
    for (first, a), (second, b) in combinations(placed.boxes.items(), 2):
        apart = a.right + 4 < b.left or b.right + 4 < a.left or a.bottom + 4 < b.top or b.bottom + 4 < a.top
        assert apart, f"{first} and {second} overlap"
    for edge in found.edges:
        assert placed.boxes[edge.source].bottom < placed.boxes[edge.target].top, "arrows point down"

    for route in placed.routes:
        ends = (route.edge.source, route.edge.target)
        line = drawing.arrow_path(route, placed.boxes[ends[1]]).to_polygons(closed_only=False)[0]
        points = [(a + t * (b - a)) for a, b in pairwise(line) for t in (0.0, 0.25, 0.5, 0.75)]
        for other, box in placed.boxes.items():
            inside = [point for point in points if box.left < point[0] < box.right and box.top < point[1] < box.bottom]
            assert other in ends or not inside, f"{route.edge} runs through {other}"


@pytest.mark.parametrize("detail", ["fused", "full"])
@pytest.mark.parametrize("name", BLOCKS)
def test_words_stay_in_their_boxes_and_apart(name, detail):
    figure = viz.block_diagram(BLOCKS[name][0](), torch.randn(1, *BLOCKS[name][1]), "A title", detail=detail)
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.axes[0]
    extents = {patch.get_label()[4:]: patch.get_window_extent(renderer) for patch in axes.patches
               if patch.get_label().startswith("box ")}
    page = figure.bbox
    words = {text: text.get_window_extent(renderer) for text in axes.texts}
    for text, extent in words.items():
        assert page.x0 <= extent.x0 and extent.x1 <= page.x1 and page.y0 <= extent.y0 and extent.y1 <= page.y1
        if text.get_label().startswith("text "):
            box = extents[text.get_label()[5:]]
            assert box.x0 < extent.x0 and extent.x1 < box.x1 and box.y0 < extent.y0 and extent.y1 < box.y1, text
        else:
            assert not any(extent.overlaps(box) for box in extents.values()), f"{text} covers a box"
    shapes = [extent for text, extent in words.items() if text.get_label() == "shape"]
    assert shapes and not any(a.overlaps(b) for a, b in combinations(shapes, 2))


@pytest.mark.parametrize("name", BLOCKS)
def test_each_shape_stands_at_the_start_of_its_arrow(name):
    found = traced(name)
    placed = arranged(found)
    labels = drawing._labels(found, placed)
    for shape, x, y, _ in labels:
        assert any(route.edge.shape == shape and abs(route.pieces[0][0] - x) <= 6
                   and route.pieces[0][1] < y < route.pieces[1][2] for route in placed.routes), (shape, x, y)
    assert {shape for shape, *_ in labels} == {edge.shape for edge in found.edges}


def test_a_shortcut_lies_beside_the_trunk_and_a_merge_below_its_branches():
    placed = arranged(traced("inverted residual"))
    route = next(route for route in placed.routes if route.edge.shortcut)
    passed = [x for x, _, _ in route.pieces[1:-1]]
    assert len(passed) == 3 and len(set(passed)) == 1 and route.entry == "left"
    assert passed[0] < min(placed.boxes[name].left for name in placed.boxes if name.endswith("conv"))
    assert len({box.x for box in placed.boxes.values()}) == 1

    placed = arranged(traced("residual with projection"))
    ends = [placed.boxes[name].x for name in ("conv2", "downsample_0")]
    assert placed.boxes["add"].x == pytest.approx(sum(ends) / 2, abs=0.5)


def test_figures_are_small_repeatable_and_described():
    block = InvertedResidual(24, 24, 1, 6)
    x = torch.randn(1, 24, 56, 56)
    figure = viz.block_diagram(block, x)
    assert figure.png() == viz.block_diagram(block, x).png() and len(figure.png()) < 60_000
    assert figure.alt.startswith("InvertedResidual, drawn from its code: input 24×56×56; 1×1 conv, 24 → 144")
    assert "a shortcut from input to +" in figure.alt
    other = copy.deepcopy(block)
    other.has_shortcut = False
    pair = viz.block_diagrams({"mine": other, "reference": block}, x)
    headings = [text for text in pair.axes[0].texts if text.get_label() == "heading"]
    assert [text.get_text() for text in headings] == ["mine", "reference"]
    assert pair.alt.count("drawn from its code") == 2 and pair.alt.count("shortcut") == 1
    # both start level, the second right of everything in the first
    tops = [patch.get_window_extent().y1 for patch in pair.axes[0].patches if patch.get_label() == "box <input>"]
    assert tops[0] == pytest.approx(tops[1])


def test_modules_drawn_side_by_side_on_an_input_each():
    modules = {"narrow": nn.Conv2d(2, 3, 1), "wide": nn.Conv2d(4, 3, 1)}
    alt = viz.block_diagrams(modules, {"wide": torch.randn(1, 4, 5, 5), "narrow": torch.randn(1, 2, 7, 7)}).alt
    narrow, wide = alt[:alt.index("wide")], alt[alt.index("wide"):]
    assert "2×7×7" in narrow and "3×7×7" in narrow and "4×5×5" in wide and "3×5×5" in wide


# Inputs of other kinds than one tensor

class Maps(nn.Module):
    """Takes a dict with a list in it, a number and a size, and gives a dict."""

    def forward(self, maps, factor, size=(1, 1)):
        assert isinstance(maps, dict) and isinstance(factor, int) and size[0] == 1
        return {"sum": maps["whole"] * factor, "parts": [part.relu() for part in maps["parts"]]}


class Grows(nn.Module):
    """Adds to the list that it is given, as torchvision's feature pyramids do."""

    def forward(self, maps, names):
        names.append("pool")
        maps.append(F.max_pool2d(maps[-1], 1, 2, 0))
        return maps, names


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.grows = nn.Conv2d(4, 4, 1), Grows()

    def forward(self, x):
        maps, names = self.grows([x, self.conv(x)], ["a", "b"])
        return dict(zip(names, maps, strict=True))


def titles(found, *kinds):
    return [node.title for node in found.nodes if not kinds or node.kind in kinds]


@pytest.mark.parametrize("wrap", [list, tuple, lambda maps: (maps,), lambda maps: ((maps[0], maps[1]),)],
                         ids=["a list", "a tuple", "a tuple of a list", "a tuple of a tuple"])
def test_a_module_that_takes_a_list_of_maps(wrap):
    maps = [torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)]
    found = trace(Exchange([8, 16]), wrap(maps))
    assert titles(found, "input", "output") == ["input 1", "input 2", "output 1", "output 2"]
    shapes = {edge.source: edge.shape for edge in found.edges}
    assert shapes["<input 1>"] == "8×8×8" and shapes["<input 2>"] == "16×4×4"
    assert titles(found, "merge") == ["+", "+"] and "upsample ×2" in titles(found)
    viz.block_diagrams({"mine": Exchange([8, 16]), "reference": Exchange([8, 16])}, wrap(maps))


def test_a_list_is_the_arguments_where_the_module_takes_two():
    class Adds(nn.Module):
        def forward(self, x, y):
            return x + y
    x = torch.randn(1, 4, 3, 3)
    for given in ([x, x], (x, x)):
        assert titles(trace(Adds(), given)) == ["x", "y", "+", "output"]


def test_a_module_that_takes_a_dict():
    torch.manual_seed(0)
    head = LRASPPHead(40, 960, 5, 128)
    x = {"low": torch.randn(1, 40, 16, 16), "high": torch.randn(1, 960, 8, 8)}
    assert titles(trace(head, x), "input") == ["low", "high"]
    assert viz.block_diagrams({"mine": head, "torchvision's": head}, x).alt.count("low 40×16×16") == 2


def test_numbers_and_sizes_beside_tensors():
    x = {"whole": torch.randn(2, 4, 3, 3), "parts": [torch.randn(2, 4, 3, 3), torch.randn(2, 6, 3, 3)]}
    found = trace(Maps(), (x, 3, torch.Size((1, 1))))
    assert titles(found, "input") == ["maps whole", "maps parts 1", "maps parts 2"]
    assert "× 3" in titles(found) and titles(found).count("ReLU") == 2 and titles(found, "output")[-1] == "output 3"
    assert titles(trace(Maps(), ({"whole": x["whole"], "parts": ()}, 3)), "input") == ["input"]


def test_a_part_that_changes_a_list_is_opened():
    found = trace(Pyramid(), torch.randn(1, 4, 8, 8))
    assert titles(found) == ["input", "1×1 conv", "1×1 max pool", "output 1", "output 2", "output 3"]


@pytest.mark.parametrize("x", [[], (), {}, None, 3, (3, "a"), {"a": None}, [[]], torch.Size((1, 2))])
def test_an_input_without_a_tensor(x):
    with pytest.raises(TypeError, match="x must be a tensor or a tuple of tensors, got"):
        viz.block_diagram(nn.ReLU(), x)


@pytest.mark.parametrize("x", [[torch.zeros(1, 3, 4, 4)], (torch.zeros(1, 3, 4, 4),) * 2,
                               {"a": torch.zeros(1, 3, 4, 4)}, (torch.zeros(1, 2, 4, 4), 3)])
def test_an_input_that_does_not_fit(x):
    with pytest.raises(ValueError, match=r"Conv2d cannot run on an input of shape \(1, [23], 4, 4\).*: .+"):
        viz.block_diagram(nn.Conv2d(2, 4, 1), x)


def test_block_diagrams_takes_names():
    for modules in ([nn.ReLU()], nn.ReLU(), (nn.ReLU(), nn.ReLU()), None):
        with pytest.raises(TypeError, match="modules must map names to modules.*got (list|ReLU|tuple|NoneType)"):
            viz.block_diagrams(modules, torch.zeros(1, 2))
    with pytest.raises(TypeError, match="module must be an nn.Module, got str"):
        viz.block_diagrams({"a": "ReLU"}, torch.zeros(1, 2))


# What does not depend on the input

class Constants(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step
        self.gamma = nn.Parameter(torch.ones(4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 8, 8))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 8))
        self.register_buffer("mask", torch.zeros(1, 1, 8, 8))
        self.register_buffer("relative_position_index", torch.arange(8))
        self.cache = {"cpu": torch.zeros(2, 4, 8, 8)}

    def forward(self, x):
        return self.step(self, x)


@pytest.mark.parametrize(("step", "title"), [
    (lambda s, x: x * s.gamma.view(-1, 1, 1), "× gamma"),
    (lambda s, x: x * s.gamma[None, :, None, None], "× gamma"),
    (lambda s, x: x + s.pos_embed[:, :, :x.shape[2]], "+ positions"),
    (lambda s, x: x + s.pos_embed.permute(0, 1, 3, 2), "+ positions"),
    (lambda s, x: x + s.relative_position_bias_table[s.relative_position_index].unsqueeze(0), "+ position bias"),
    (lambda s, x: x + s.mask.unsqueeze(1)[0], "+ mask"),
    (lambda s, x: x + s.mask[..., :8], "+ mask"),
    (lambda s, x: x + s.cache["cpu"], "+ cache"),
    (lambda s, x: x + s.cache["cpu"][:1], "+ cache"),
    (lambda s, x: x + torch.arange(8.0), "+ a constant"),
    (lambda s, x: x + torch.zeros_like(x), "+ zeros"),
])
def test_a_constant_is_called_by_what_it_is(step, title):
    found = trace(Constants(step), torch.randn(1, 4, 8, 8))
    assert titles(found) == ["input", title, "output"] and len(found.edges) == 2


def test_the_biases_of_attention_have_their_name():
    found = trace(Attention(16, 16, key=8, heads=2, side=4), torch.randn(1, 4, 4, 16))
    assert "+ biases" in titles(found) and not [title for title in titles(found) if "_" in title]


@pytest.mark.parametrize("method", ["view_as", "reshape_as", "expand_as"])
def test_a_tensor_of_which_only_the_shape_is_read_gives_no_arrow(method):
    class Same(nn.Module):
        def forward(self, x):
            y = x.relu()
            return getattr(x.flatten(2).unflatten(2, (4, 4)), method)(y) + y
    found = trace(Same(), torch.randn(1, 2, 4, 4))
    node = next(node for node in found.nodes if node.title == method.replace("_", " "))
    assert len([edge for edge in found.edges if edge.target == node.name]) == 1


# Shapes and arrows

class Attends(nn.Module):
    """One arrow turns, towards a box beside another whose shape would stand in its way."""

    def forward(self, x):
        queries, keys, values = x.chunk(3, dim=-1)
        return (0.25 * queries @ keys.transpose(-1, -2)).softmax(-1) @ values


LABELLED = {"dense": (DenseUnit, (8, 10, 12)), "dense, deeper": (lambda: DenseBlock(3, 16, 4, 8, 0), (16, 8, 8)),
            "attention": (Attends, (4, 196, 48)),
            "levit": (lambda: Attention(16, 16, key=8, heads=2, side=4), (4, 4, 16))}


@pytest.mark.parametrize("name", [*BLOCKS, *LABELLED, "low and high"])
def test_no_shape_covers_an_arrow_or_another_shape(name):
    if name == "low and high":
        maps = {"low": torch.zeros(1, 40, 16, 16), "high": torch.zeros(1, 960, 8, 8)}
        found = trace(LRASPPHead(40, 960, 5, 128), maps)
    else:
        build, shape = BLOCKS.get(name) or LABELLED[name]
        found = trace(build(), torch.zeros(1, *shape))
    placed = drawing.laid_out(found)
    boxes = [label.box for label in drawing._labels(found, placed)]
    for route in placed.routes:
        line = drawing.arrow_path(route, placed.boxes[route.edge.target]).to_polygons(closed_only=False)[0]
        for a, b in pairwise(line):
            for x, y in (a + t * (b - a) for t in np.linspace(0, 1, 20)):
                assert not [box for box in boxes if box[0] < x < box[1] and box[2] < y < box[3]], route.edge
    assert not [pair for pair in combinations(boxes, 2) if drawing._overlap(*pair)]
