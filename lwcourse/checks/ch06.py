"""Checks of chapter 06: Inception."""
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, a_module_class, compare_blocks, compare_numbers, trained_accuracy
from lwcourse.data import load_data
from lwcourse.layers import Branches, ConvBNAct, tower
from lwcourse.models.googlenet import Inception
from lwcourse.models.inception_v3 import AsymmetricInception, pooled
from lwcourse.profile import profile

MODULE_CASES = (  # (in_channels, conv1, reduce3, conv3, reduce5, conv5, pool), input shape
    ((24, 8, 12, 16, 4, 20, 6), (2, 24, 9, 12)),
    ((16, 16, 8, 24, 12, 10, 32), (1, 16, 7, 5)),
    ((12, 6, 20, 8, 16, 14, 4), (1, 12, 6, 6)),  # reductions that widen, and all numbers differ
)


@exercise("06.1", title="Inception module", minutes=20, difficulty="medium", expects=a_module_class)
def inception_module(answer: type[nn.Module]) -> str:
    """`answer(in_channels, conv1, reduce3, conv3, reduce5, conv5, pool)` builds GoogLeNet's module."""
    for arguments, shape in MODULE_CASES:
        _refuse_wrong_shape(_with_epsilon(answer)(*arguments), arguments, shape)
        compare_blocks(_with_epsilon(answer), Inception, [(arguments, shape)])
    return f"Equal to the course's module in {len(MODULE_CASES)} settings."


def _with_epsilon(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """`build`, with the epsilon of the Inception line in each BatchNorm: learners may leave it at PyTorch's."""
    def built(*arguments: int) -> nn.Module:
        module = build(*arguments)
        for part in module.modules() if isinstance(module, nn.Module) else ():
            if isinstance(part, nn.BatchNorm2d):
                part.eps = 1e-3
        return module
    built.__name__ = getattr(build, "__name__", "your module")
    return built


def _refuse_wrong_shape(module: nn.Module, arguments: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """What the output's channels and the order of the towers tell, before all layers are compared."""
    if not isinstance(module, nn.Module):
        return  # compare_blocks says it
    in_channels, conv1, _, conv3, _, conv5, pool = arguments
    x = torch.zeros(shape)
    try:
        with torch.no_grad():
            y = module.eval()(x)
    except RuntimeError as error:
        if "Sizes of tensors must match" not in str(error):
            raise
        fail(f"the towers' outputs cannot be concatenated, since their maps differ in size ({error})",
             "every tower keeps height and width: padding 1 for 3x3 and for the pooling, which has stride 1; 2 for 5x5")
    if not isinstance(y, Tensor) or y.ndim != 4:
        return
    channels = conv1 + conv3 + conv5 + pool
    if y.shape[1] == channels - pool + in_channels:
        fail(f"{y.shape[1]} channels come out, not {channels}: the pooling hands on all {in_channels} of its channels",
             "a 1x1 convolution behind the pooling brings them to `pool`")
    if y.shape[1] != channels:
        fail(f"{y.shape[1]} channels come out, not conv1 + conv3 + conv5 + pool = {channels}",
             "concatenate the four towers' outputs along dimension 1")
    if y.shape[2:] != x.shape[2:]:
        fail(f"a map of {tuple(x.shape[2:])} pixels becomes {tuple(y.shape[2:])}: the module keeps height and width",
             "stride 1 everywhere, in the pooling too, and padding kernel // 2")
    _refuse_wrong_order(module, (conv1, conv3, conv5, pool), shape)
    _refuse_linear_tower(module, (conv1, conv3, conv5, pool), shape)


def _refuse_wrong_order(module: nn.Module, channels: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Each tower has another reach: how many pixels one pixel changes tells which tower stands where."""
    reach = (1, 9, 25, 9)
    lit = torch.zeros(1, *shape[1:], dtype=torch.float64)
    row, column = shape[2] // 2, shape[3] // 2
    lit[:, :, row, column] = 1.0
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.5) if parameter.ndim > 1 else None
        changed = (module(lit) != module(torch.zeros_like(lit))).sum(dim=(2, 3))[0].tolist()
    expected = [pixels for pixels, count in zip(reach, channels, strict=True) for _ in range(count)]
    if changed != expected and sorted(changed) == sorted(expected):
        fail("the towers are concatenated in another order",
             "1x1 first, then 3x3, 5x5 and pooling, as in the table")


def _refuse_linear_tower(module: nn.Module, channels: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """A tower that ends in ReLU gives no negative number; `module` is in float64 here, and in the right order."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        outputs = module(torch.randn(shape, dtype=torch.float64)).split(channels, dim=1)
    linear = [name for name, y in zip(("1x1", "3x3", "5x5", "pooling"), outputs, strict=True) if (y < 0).any()]
    if linear:
        fail(f"no ReLU at the end of the tower of {', '.join(linear)}: negative numbers come out of it",
             "BatchNorm and ReLU follow every convolution")


FIELD_SIZE, SIDE = (768, 31, 31), 17


class FullKernels(Branches):
    """AsymmetricInception with 7x7 kernels in the place of each 1x7 with a 7x1."""

    def __init__(self, in_channels: int, hidden: int):
        super().__init__([
            tower(in_channels, (192, 1)),
            tower(in_channels, (hidden, 1), (192, 7)),
            tower(in_channels, (hidden, 1), (hidden, 7), (192, 7)),
            pooled(in_channels, 192),
        ])


class Threes(Branches):
    """AsymmetricInception with three 3x3 kernels in the place of each 1x7 with a 7x1."""

    def __init__(self, in_channels: int, hidden: int):
        three = [(hidden, 3)] * 3
        super().__init__([
            tower(in_channels, (192, 1)),
            tower(in_channels, (hidden, 1), *three[:2], (192, 3)),
            tower(in_channels, (hidden, 1), *three, *three[:2], (192, 3)),
            pooled(in_channels, 192),
        ])


BLOCKS = {"1x7, 7x1": AsymmetricInception, "7x7": FullKernels, "3x3, 3x3, 3x3": Threes}


def module_costs(build: Callable[[int, int], nn.Module], size: int = SIDE) -> tuple[int, int]:
    """(MACs, parameters) of build(768, 128) on a map of `size` pixels a side."""
    with torch.device("meta"):  # shapes only: nothing is computed
        cost = profile(build(768, 128), (768, size, size))
    return cost.macs, cost.params


@exercise("06.2", title="Same field, other bill", minutes=20, difficulty="medium", expects=dict)
def same_field(answer: Mapping[str, int]) -> str:
    """`answer` maps "field" to the side of the field in pixels, and each name in BLOCKS to its MACs."""
    keys = ("field", *BLOCKS)
    if set(answer) != set(keys):
        fail(f"the keys must be {', '.join(map(repr, keys))}; got {', '.join(map(repr, answer)) or 'none'}")
    costs = {name: module_costs(block) for name, block in BLOCKS.items()}
    macs = {name: cost[0] for name, cost in costs.items()}
    compare_numbers({"field": answer["field"]}, {"field": 13}, {
        "\"field\": 7 is the field of one pair; the third tower has two, one after the other": {"field": 7},
        "\"field\": two kernels of 7 share their middle pixel: 7 + 7 - 1 is not 14": {"field": 14},
        "\"field\": a 1x7 widens the field only across and a 7x1 only down; you counted all four in both directions":
            {"field": 25},
        "\"field\": this is the number of pixels in the field; give its side": {"field": 169},
    }, hint="viz.field_size(AsymmetricInception(768, 128), (768, 31, 31)) measures it")
    mistakes = {
        "these are parameters; the question is for MACs": {name: cost[1] for name, cost in costs.items()},
        "you count a multiply and an add as two; one MAC is both together": {n: 2 * count for n, count in macs.items()},
        "these are millions of MACs; give the counts themselves": {n: count / 1e6 for n, count in macs.items()},
        "these are MACs of another map; the module works on 17 x 17 pixels":
            {name: module_costs(block, FIELD_SIZE[1])[0] for name, block in BLOCKS.items()},
        "\"7x7\" has its kernels only in one of the two towers; replace every 1x7 with a 7x1":
            macs | {"7x7": module_costs(_OneTower)[0]},
        "the third tower of \"7x7\" has one 7x7; its field needs two of them, one after the other":
            macs | {"7x7": module_costs(_OneSeven)[0]},
        "\"3x3, 3x3, 3x3\" has two 3x3 for each 7x7, which see 5 pixels; seven need three":
            macs | {"3x3, 3x3, 3x3": module_costs(_TwoThrees)[0]},
    }
    compare_numbers({name: answer[name] for name in macs}, macs, mistakes, tolerance=1e-6,
                    hint="build each module from the course's parts and read lw.profile(module, (768, 17, 17)).macs")
    return (f"All three see 13 x 13 pixels; the factorised one has {macs['1x7, 7x1'] / macs['7x7']:.0%} of the MACs of "
            f"the 7x7, and {macs['1x7, 7x1'] / macs['3x3, 3x3, 3x3']:.0%} of those of the 3x3.")


class _OneTower(FullKernels):
    def __init__(self, in_channels: int, hidden: int):
        super().__init__(in_channels, hidden)
        self[2] = AsymmetricInception(in_channels, hidden)[2]


class _OneSeven(FullKernels):
    def __init__(self, in_channels: int, hidden: int):
        super().__init__(in_channels, hidden)
        self[2] = tower(in_channels, (hidden, 1), (192, 7))


class _TwoThrees(FullKernels):
    def __init__(self, in_channels: int, hidden: int):
        super().__init__(in_channels, hidden)
        self[1] = tower(in_channels, (hidden, 1), (hidden, 3), (192, 3))
        self[2] = tower(in_channels, (hidden, 1), *[(hidden, 3)] * 3, (192, 3))


CHANNELS, MAP, MAX_MACS, FIELD, LEAST_ACCURACY = 32, 16, 1_000_000, 9, 0.45
RECIPE = {"epochs": 5, "lr": 0.1, "batch_size": 32}


@exercise("06.3", title="A module for a wide field", minutes=30, difficulty="hard", expects=a_function)
def wide_field(answer: Callable[[], nn.Module]) -> str:
    """`answer()` builds a module for (N, 32, 16, 16); two of them are trained in a small network, for the score."""
    module = answer()
    if not isinstance(module, nn.Module):
        fail(f"your function returns {type(module).__name__}, not a module"
             + ("; is the return missing?" if module is None else ""))
    shape = (2, CHANNELS, MAP, MAP)
    with torch.no_grad():
        y = module.eval()(torch.zeros(shape))  # by itself first: an error is told with its line
    if not isinstance(y, Tensor) or y.shape != shape:
        got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        fail(f"the module must keep the shape of its input, {shape}, got {got}",
             "channels of the towers must add up to 32, and every kernel needs padding")
    cost = profile(module, shape[1:])
    if cost.macs > MAX_MACS:
        fail(f"over budget: {cost.macs:,} MACs, of {MAX_MACS:,} allowed",
             "reduce the channels with a 1x1 before a large kernel, and factorise it")
    _refuse_narrow_field(module)
    accuracy = trained_accuracy(lambda: _frame(answer), load_data("photo_digits", copies=1), RECIPE,
                                hint="is there a BatchNorm behind every convolution?")
    if accuracy < LEAST_ACCURACY:
        fail(f"within the budget and wide enough, but it learned too little: {accuracy:.0%} of the test digits are "
             f"right, {LEAST_ACCURACY:.0%} are needed",
             "is there a BatchNorm and an activation behind the convolutions, and a tower that keeps details?")
    return f"Score {accuracy:.1%}, with {cost.macs:,} of {MAX_MACS:,} MACs."


def _refuse_narrow_field(module: nn.Module) -> None:
    """Every pixel of 9 x 9 around the centre must be read."""
    from lwcourse.viz import centre_gradient  # matplotlib only where it is needed

    size = 2 * MAP + 1
    read = centre_gradient(module, (CHANNELS, size, size), samples=4) > 0
    rows, columns = (read.any(dim).nonzero().flatten() for dim in (1, 0))
    height, width = (int(where[-1] - where[0]) + 1 for where in (rows, columns))
    if min(height, width) < FIELD:
        fail(f"the field is {height} x {width} pixels, {FIELD} x {FIELD} are needed",
             "fields of kernels in a row add up to 1 + the sum of (kernel - 1), down and across apart")
    middle, reach = size // 2, FIELD // 2
    window = read[middle - reach:middle + reach + 1, middle - reach:middle + reach + 1]
    if not window.all():
        fail(f"the field is {height} x {width} pixels, but of the {FIELD} x {FIELD} in its middle only "
             f"{int(window.sum())} of {window.numel()} are read: it has holes",
             "a dilated kernel alone reads a grid, and a 1x9 beside a 9x1 reads a cross; put kernels one after another")


def _frame(build: Callable[[], nn.Module]) -> nn.Module:
    """The network around two such modules, on maps of 16 and 8 pixels a side."""
    return nn.Sequential(ConvBNAct(3, CHANNELS, 3, stride=2), build(), nn.MaxPool2d(2), build(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10))
