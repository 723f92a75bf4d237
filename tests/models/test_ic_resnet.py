"""Inception Convolution: mixed dilations against a slow reference, files of patterns, and the search."""
import json
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import InceptionConv
from lwcourse.models import ic_resnet
from lwcourse.models.ic_resnet import (
    channels_of_layers,
    crop,
    example_patterns,
    read_patterns,
    representation_errors,
    search_patterns,
    super_resnet,
    write_patterns,
)
from lwcourse.verify import randomise_statistics, relative_error

WIDTH = 0.125  # 8, 16, 32 and 64 channels


class Slow(nn.Module):
    """Each output channel by itself: its 3x3 kernel is spread over a large one full of zeros."""

    def __init__(self, weight: torch.Tensor, stride, pattern: dict):
        super().__init__()
        self.weight, self.stride = weight, stride
        self.dilations = [dilation for dilation, count in pattern.items() for _ in range(count)]

    def forward(self, x):
        outputs = []
        for kernel, (height, width) in zip(self.weight, self.dilations, strict=True):
            spread = torch.zeros(1, kernel.shape[0], 2 * height + 1, 2 * width + 1, dtype=x.dtype)
            spread[0, :, ::height, ::width] = kernel
            outputs.append(F.conv2d(x, spread, None, self.stride, (height, width)))
        return torch.cat(outputs, dim=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "patterns.json"


def write(path, depth=18, seed=0, width=WIDTH):
    write_patterns(path, example_patterns(depth, width=width, seed=seed))
    return path


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pattern", [{(1, 1): 8}, {(2, 1): 3, (1, 1): 1, (1, 4): 4}, {(3, 3): 8}])
def test_inception_conv_is_every_channel_with_its_own_dilation(pattern, stride):
    torch.manual_seed(0)
    conv = InceptionConv(4, 8, stride, pattern=pattern).double()
    x = torch.randn(2, 4, 7, 10, dtype=torch.float64)
    expected = Slow(conv.weight, stride, pattern)(x)
    torch.testing.assert_close(conv(x), expected)
    last = conv.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)
    assert lw.profile(conv, (4, 12, 12)).macs == (12 // stride) ** 2 * 9 * 4 * 8


@pytest.mark.parametrize(("pattern", "words"), [
    ({(1, 1): 4, (1, 2): 3}, "pattern has 7 channels, the convolution 8"),
    ({}, "pattern has 0 channels, the convolution 8"),
    ({(0, 1): 8}, "positive integers"),
    ({(1, 1): 9, (1, 2): -1}, "positive integers"),
    ({(1, 1.5): 8}, "positive integers"),
])
def test_inception_conv_refuses_bad_patterns(pattern, words):
    with pytest.raises(ValueError, match=words):
        InceptionConv(4, 8, pattern=pattern)


@pytest.mark.parametrize("depth", [18, 50])
def test_network_with_mixed_dilations_equals_the_slow_reference(path, depth):
    patterns = read_patterns(write(path, depth))
    torch.manual_seed(0)
    network = lw.create_model(f"ic_resnet{depth}", 10, width=WIDTH, pattern_path=path).double().eval()
    randomise_statistics(network)
    plain = lw.create_model(f"resnet{depth}", 10, width=WIDTH).double().eval()
    plain.load_state_dict(network.state_dict())  # dilations add nothing to the weights
    x = torch.randn(1, 3, 96, 64, dtype=torch.float64)
    with torch.no_grad():
        found, undilated = network(x), plain(x)
        remaining = iter(patterns)
        for unit in [module for module in plain.blocks.modules() if hasattr(module, "conv")]:
            if unit.conv.kernel_size == (3, 3):
                unit.conv = Slow(unit.conv.weight, unit.conv.stride, next(remaining))
        assert next(remaining, None) is None
        assert relative_error(found, plain(x)) < 1e-10
    assert relative_error(found, undilated) > 1e-3


def test_all_gradients_with_mixed_dilations(path):
    network = lw.create_model("ic_resnet18", 10, width=WIDTH, pattern_path=write(path))
    network(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_export_with_mixed_dilations(path, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = lw.create_model("ic_resnet18", 10, width=WIDTH, pattern_path=write(path)).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.onnx.export(network, (x,), str(tmp_path / "network.onnx"), dynamo=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    exported = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        assert relative_error(torch.from_numpy(exported), network(x)) < 1e-5


def test_networks_share_no_state(path, tmp_path):
    """Twice one file, and another network between: each network has the patterns of its own file, all of them."""
    def patterns_of(network):
        return [module.pattern for module in network.modules() if isinstance(module, InceptionConv)]

    other = write(tmp_path / "other.json", seed=1)
    first = lw.create_model("ic_resnet18", width=WIDTH, pattern_path=write(path))
    second = lw.create_model("ic_resnet18", width=WIDTH, pattern_path=other)
    third = lw.create_model("ic_resnet18", width=WIDTH, pattern_path=str(path))
    plain = lw.create_model("ic_resnet18", width=WIDTH)
    assert patterns_of(first) == patterns_of(third) == read_patterns(path)
    assert patterns_of(second) == read_patterns(other) != read_patterns(path)
    assert patterns_of(plain) == [{(1, 1): channels} for channels in channels_of_layers(18, WIDTH)]


def test_file_keeps_its_order_and_leaves_out_zeros(path):
    path.write_text('[{"(3, 0)": 2, "(0,1)": 0, "(0, 10)": 5, "( 0 , 2 )": 1}]')
    assert list(read_patterns(path)[0].items()) == [((4, 1), 2), ((1, 11), 5), ((1, 3), 1)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_examples_are_reproducible_and_survive_the_file(path, seed):
    patterns = example_patterns(50, seed=seed)
    assert patterns == example_patterns(50, seed=seed) != example_patterns(50, seed=seed + 1)
    assert [sum(pattern.values()) for pattern in patterns] == [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3
    assert any(len(pattern) > 8 for pattern in patterns)
    assert max(max(dilation) for pattern in patterns for dilation in pattern) == 4
    write_patterns(path, patterns)
    assert [list(pattern.items()) for pattern in read_patterns(path)] == [list(p.items()) for p in patterns]


def test_example_of_dilation_one_is_the_plain_network():
    assert example_patterns(18, 1) == [{(1, 1): channels} for channels in channels_of_layers(18)]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        lw.create_model("ic_resnet50", pattern_path=tmp_path / "nowhere.json")


@pytest.mark.parametrize(("text", "words"), [
    ("[{", "is not JSON"),
    ("\x00", "is not JSON"),
    ('{"(0, 0)": 8}', "must hold a list with one object for each 3x3 convolution"),
    ("[[]]", "layer 1 must be an object"),
    ('[{"(0, 0)": 8}, 3]', "layer 2 must be an object .* got 3"),
    ('[{"(0, 0)": 8}, {"0, 1": 8}]', r"layer 2: a key must be two numbers .* got '0, 1'"),
    ('[{"(0, -1)": 8}]', r"layer 1: a key must be two numbers .* got '\(0, -1\)'"),
    ('[{"(0, 1, 2)": 8}]', "layer 1: a key must be two numbers"),
    ('[{"(0, 0)": 9, "(0, 1)": -1}]', r"layer 1: the number of channels of '\(0, 1\)' must be .* got -1"),
    ('[{"(0, 0)": 8.0}]', "must be an integer from 0, got 8.0"),
    ('[{"(0, 0)": true}]', "must be an integer from 0, got True"),
    ('[{"(0, 0)": "8"}]', "must be an integer from 0, got '8'"),
    ('[{"(0, 0)": 4, "(0,0)": 4}]', r"layer 1 has the key '\(0,0\)' twice"),
    ('[{"(0, 0)": 8}]', "patterns for 1 layers, but this network has 16 convolutions of 3x3"),
])
def test_bad_files_are_refused(path, text, words):
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        lw.create_model("ic_resnet18", width=WIDTH, pattern_path=path)


def test_wrong_number_of_channels_names_the_layer_and_both_numbers(path):
    layers = json.loads(write(path).read_text())
    layers[6]["(9, 9)"] = 3
    path.write_text(json.dumps(layers))
    with pytest.raises(ValueError, match="layer 7: the pattern has 19 channels, .* of the network has 16"):
        lw.create_model("ic_resnet18", width=WIDTH, pattern_path=path)
    with pytest.raises(ValueError, match="layer 1: the pattern has 8 channels, .* of the network has 16"):
        lw.create_model("ic_resnet18", width=2 * WIDTH, pattern_path=path)


def test_crop_takes_the_kernel_of_a_dilation():
    weight = torch.arange(49.0).reshape(1, 1, 7, 7)
    assert crop(weight, (1, 3)).flatten().tolist() == [14, 17, 20, 21, 24, 27, 28, 31, 34]
    assert crop(weight, (3, 2)).flatten().tolist() == [1, 3, 5, 22, 24, 26, 43, 45, 47]


@pytest.mark.parametrize("stride", [1, 2])
def test_errors_are_those_of_the_kernel_without_what_was_cropped(stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 7, stride, 3, bias=False).double()
    x = torch.randn(2, 3, 9, 12, dtype=torch.float64)
    errors = representation_errors(conv, x)
    assert list(errors) == list(product((1, 2, 3), repeat=2))
    for (height, width), error in errors.items():
        lost = conv.weight.detach().clone()
        lost[:, :, 3 - height:4 + height:height, 3 - width:4 + width:width] = 0
        torch.testing.assert_close(error, F.conv2d(x, lost, None, stride, 3).abs().mean(dim=(0, 2, 3)))


def test_search_finds_the_dilations_that_were_planted(path):
    """Every large kernel holds one dilated 3x3 kernel and little else; the search must count them all."""
    torch.manual_seed(0)
    network = super_resnet(50, 10, width=WIDTH, max_dilation=3)
    planted = []
    generator = torch.Generator().manual_seed(1)
    for conv in (module for module in network.blocks.modules() if getattr(module, "kernel_size", None) == (7, 7)):
        dilations = (torch.randint(1, 4, (conv.out_channels, 2), generator=generator)).tolist()
        with torch.no_grad():
            kept = torch.full_like(conv.weight, 0.01)
            for channel, dilation in enumerate(dilations):
                crop(kept, dilation)[channel] = 1
            conv.weight.mul_(kept)
        planted.append({d: dilations.count(list(d)) for d in product((1, 2, 3), repeat=2) if list(d) in dilations})

    patterns = search_patterns(network, torch.randn(2, 3, 128, 128))
    assert patterns == planted
    assert network.training and not any(module._forward_pre_hooks for module in network.modules())

    write_patterns(path, patterns)
    assert read_patterns(path) == patterns
    found = lw.create_model("ic_resnet50", 10, width=WIDTH, pattern_path=path).eval()
    assert found(torch.randn(1, 3, 64, 64)).shape == (1, 10)


def test_search_leaves_no_hooks_when_the_network_fails():
    network = super_resnet(18, 10, width=WIDTH, max_dilation=2)
    with pytest.raises(ValueError, match="built for 3 channels, got 4"):
        search_patterns(network, torch.randn(1, 4, 64, 64))
    assert network.training and not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("function", [ic_resnet.super_resnet, ic_resnet.example_patterns])
def test_bad_sizes_of_the_search_are_refused(function):
    with pytest.raises(ValueError, match="max_dilation must be a positive integer, got 0"):
        function(18, max_dilation=0)
    with pytest.raises(ValueError, match="depth must be one of 18, 34, 50, 101, got 20"):
        function(20)
