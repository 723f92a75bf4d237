"""What is special to LR-ASPP and Fast-SCNN, and to pooling that ONNX cannot express."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import TrainingOutput, adaptive_average_pool
from lwcourse.models.mobilenet_v3 import LARGE
from lwcourse.models.segmentation.fast_scnn import DSConv


@pytest.mark.parametrize(("old", "new"), [((8, 12), (4, 6)), ((7, 9), (3, 5)), ((2, 3), (6, 6)), ((5, 4), (1, 1))])
def test_pooling_for_export_equals_pooling(monkeypatch, old, new):
    x = torch.randn(2, 3, *old, dtype=torch.float64)
    expected = F.adaptive_avg_pool2d(x, new)
    assert torch.equal(adaptive_average_pool(x, new), expected)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    torch.testing.assert_close(adaptive_average_pool(x, new), expected, rtol=1e-6, atol=1e-6)


def test_lraspp_uses_every_row_of_mobilenet_v3_and_dilates_the_last_three():
    network = lw.create_model("lraspp_mobilenet_v3_large", 5)
    filters = [block.depthwise.conv for stage in network.blocks for block in stage]
    assert [conv.kernel_size[0] for conv in filters] == [row.kernel for row in LARGE]
    assert [conv.dilation[0] for conv in filters] == [1] * 12 + [2] * 3
    assert [conv.stride[0] for conv in filters] == [row.stride for row in LARGE[:12]] + [1] * 3


def test_fast_scnn_has_no_activation_between_the_two_convolutions():
    kinds = [type(module) for module in DSConv(4, 6).modules() if not list(module.children())]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


def test_fast_scnn_trains_two_more_heads_when_asked():
    torch.manual_seed(0)
    network, x = lw.create_model("fast_scnn", 6, auxiliary=True), torch.randn(2, 3, 50, 70)
    output = network(x)
    assert isinstance(output, TrainingOutput) and output.weight == 0.4 and len(output.auxiliary) == 2
    assert all(logits.shape == (2, 6, 50, 70) for logits in (output.logits, *output.auxiliary))
    sum(logits.square().mean() for logits in (output.logits, *output.auxiliary)).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.auxiliary.parameters())
    plain = lw.create_model("fast_scnn", 6)
    assert isinstance(plain(x), torch.Tensor)
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if "auxiliary" not in key})
    assert torch.equal(plain.eval()(x), network.eval()(x))


def test_fast_scnn_refuses_to_train_on_one_image():
    with pytest.raises(ValueError, match="cannot train on one image of 64 x 96 pixels"):
        lw.create_model("fast_scnn", 6)(torch.randn(1, 3, 64, 96))


@pytest.mark.parametrize(("name", "classes"), [
    ("espnet_c", 20), ("espnet_v1", 20), ("espnet_v2_seg", 20), ("espnet_v2_edgenets", 20), ("fast_scnn", 19),
    ("lraspp_mobilenet_v3_large", 21)])
def test_default_classes_are_those_of_the_benchmark(name, classes):
    with torch.no_grad():
        assert lw.create_model(name).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, classes, 32, 32)
