"""AdderNet: the layer and the network beside the official code's stored outputs, and the layer beside the paper."""
import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.golden import golden_fill, load
from lwcourse.layers import AdderConv2d
from lwcourse.references.adder import torchvision_resnet_of_adders
from lwcourse.verify import GOLDEN_TOLERANCE, relative_error


@pytest.mark.parametrize("case", ["adder2d_3x3_s1", "adder2d_3x3_s2", "adder2d_1x1_s2"])
def test_output_and_gradients_equal_the_official_codes(case):
    stored = load(case)
    sizes = stored["args"]
    layer = AdderConv2d(sizes["input_channel"], sizes["output_channel"], sizes["kernel_size"], sizes["stride"],
                        sizes["padding"])
    x = golden_fill.input_tensor(stored["input_shape"], stored["input_seed"])
    golden_fill.fill(layer, x, seed=stored["seed"], gain=stored["gain"])
    x.requires_grad_()
    out = layer(x)
    out.backward(golden_fill.input_tensor(out.shape, stored["grad_output_seed"]))
    for name, found in (("out", out), ("grad_X", x.grad), ("grad_W", layer.weight.grad)):
        assert golden_fill.worst_error(found, stored["outputs"][name]) < GOLDEN_TOLERANCE, name
    assert lw.profile(layer, stored["input_shape"][1:]).adds == stored["additions_per_sample"]


def test_network_in_eval_mode_equals_the_official_codes():
    """Training mode is compared in test_models.py."""
    stored = load("adder_resnet20")
    network = lw.create_model("adder_resnet20", 10)
    x = golden_fill.input_tensor(stored["input_shape"], stored["input_seed"])
    golden_fill.fill(network, x, seed=stored["seed"], gain=stored["gain"])
    with torch.no_grad():
        found = {"eval_uncalibrated": network(x)}
        calibrate(network, x)
        found |= {"eval": network(x),
                  "eval_other_input_seed_3": network(golden_fill.input_tensor(stored["input_shape"], 3))}
    for name, output in found.items():
        assert golden_fill.worst_error(output, stored["outputs"][name]) < GOLDEN_TOLERANCE, name


@torch.no_grad()
def calibrate(network: nn.Module, x: torch.Tensor) -> None:
    """Make the statistics those of `x`; a fresh BatchNorm's close every ReLU of a network of negative sums."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(x)
    network.eval()


@torch.no_grad()
def test_resnet50_in_training_mode_equals_its_reference():
    ours, theirs = lw.create_model("adder_resnet50", 10), torchvision_resnet_of_adders(10)
    x = torch.randn(4, 3, 64, 32)
    lw.transfer_weights(theirs, ours, x)
    assert relative_error(ours.double().train()(x.double()), theirs.double().train()(x.double())) < 1e-10
