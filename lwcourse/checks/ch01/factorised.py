"""Exercise 01.7: a factorised convolution."""
from functools import partial

from torch import Tensor, nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import a_module_class, compare_blocks, naming_mistakes, refuse_other_order

CASES = [((6, 10, 3), (2, 6, 9, 12)), ((8, 5, 7), (1, 8, 13, 10)), ((4, 4, 5), (2, 4, 8, 8))]


class _Factorised(nn.Module):
    """1 x k, then k x 1, without bias; or the other way round, or with the channels growing in the second."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, column_first: bool = False,
                 widened_last: bool = False):
        super().__init__()
        row, column = ((1, kernel), (0, kernel // 2)), ((kernel, 1), (kernel // 2, 0))  # kernel, padding
        first, second = (column, row) if column_first else (row, column)
        between = in_channels if widened_last else out_channels
        self.first = nn.Conv2d(in_channels, between, first[0], padding=first[1], bias=False)
        self.second = nn.Conv2d(between, out_channels, second[0], padding=second[1], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class _Activated(_Factorised):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


class _ActivatedLast(_Factorised):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class _Whole(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


MISTAKES = {
    "you begin with the column, kernel x 1; the sheet begins with the row, 1 x kernel":
        partial(_Factorised, column_first=True),
    "the channels grow in your second layer; the sheet lets the first one give `out_channels`":
        partial(_Factorised, widened_last=True),
    "there is an activation between the two layers; the sheet has none, so that both together are one linear layer":
        _Activated,
    "there is an activation after the second layer; the sheet has none": _ActivatedLast,
    "that is a whole kernel x kernel convolution; make two layers, each with one side of the kernel": _Whole,
}


@exercise("01.7", title="A factorised convolution", minutes=10, difficulty="easy", expects=a_module_class)
def factorised(answer: type[nn.Module]) -> str:
    """`answer(in_channels, out_channels, kernel)`: 1 x kernel, then kernel x 1."""
    refuse_other_order(answer, ("in_channels", "out_channels", "kernel"))
    with naming_mistakes(answer, MISTAKES, CASES):
        compare_blocks(answer, _Factorised, CASES, macs=True,
                       hint="print the shape of the map after each of the two layers")
    return "1 x k and then k x 1: 2 k positions where there were k * k."
