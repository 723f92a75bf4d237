"""SameConv2d pads as TensorFlow does."""
import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from lwcourse.layers import ConvBNAct, SameConv2d


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, (1, 7)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_equal_to_the_port_of_timm(kernel, stride, dilation):
    if stride > dilation * (min(kernel) - 1 if isinstance(kernel, tuple) else kernel - 1) + 1:
        with pytest.raises(ValueError, match="passes over pixels"):
            SameConv2d(4, 6, kernel, stride, dilation=dilation)
        return
    ours = SameConv2d(4, 6, kernel, stride, dilation=dilation, groups=2)
    theirs = Conv2dSame(4, 6, kernel, stride, dilation=dilation, groups=2)
    theirs.load_state_dict(ours.state_dict())
    for size in ((9, 12), (16, 15), (7, 7)):
        x = torch.randn(2, 4, *size)
        torch.testing.assert_close(ours(x), theirs(x))
        assert ours(x).shape[2:] == tuple(-(-side // stride) for side in size)


def test_an_even_side_has_its_extra_zeros_behind():
    layer = SameConv2d(1, 1, 3, 2, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert layer(x)[0, 0, 0, 0] == x[0, 0, :3, :3].sum() and layer(x)[0, 0, 1, 1] == x[0, 0, 2:, 2:].sum()


def test_brick_with_the_padding_of_tensorflow():
    brick = ConvBNAct(3, 4, 3, 2, padding="tensorflow")
    assert isinstance(brick.conv, SameConv2d) and brick(torch.zeros(2, 3, 8, 9)).shape == (2, 4, 4, 5)
