"""`lw.profile` against PyTorch's own counter, against formulas, and against what must not change."""
import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import lwcourse as lw
from lwcourse.profile import format_bytes

LARGER = {"densenet161", "densenet169", "densenet201", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5",
          "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_m", "efficientnet_v2_l", "swin_s", "swin_b",
          "swin_v2_s", "swin_v2_b"}
TORCHVISION = [pytest.param(name, marks=pytest.mark.heavy) if name in LARGER else name
               for name in torchvision.models.list_models(module=torchvision.models)]


def on_the_cpu(function):
    def call(*args, **kwargs):
        with torch.device("cpu"):
            return function(*args, **kwargs)
    return call


@pytest.mark.parametrize("name", TORCHVISION)
def test_macs_are_half_of_torchs_flops(name, monkeypatch):
    widths = torchvision.models.regnet.BlockParams.from_init_params  # computes the widths of RegNets with tensors
    monkeypatch.setattr(torchvision.models.regnet.BlockParams, "from_init_params", on_the_cpu(widths))
    options = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    with torch.device("meta"):  # counts need shapes only
        network = torchvision.models.get_model(name, weights=None, **options).eval()
    with FlopCounterMode(display=False) as oracle:  # sees the operators of the same forward pass
        counted = lw.profile(network)
    assert 2 * counted.macs == oracle.get_total_flops()
    assert counted.params == sum(p.numel() for p in network.parameters())


def test_layers_are_the_formulas():
    conv = nn.Conv2d(6, 12, (3, 5), stride=2, padding=1, groups=3)
    network = nn.Sequential(conv, nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 4 * 3, 5))
    first, norm, relu, flatten, linear = lw.profile(network, (6, 8, 8)).layers
    assert first.output_shape == (1, 12, 4, 3)
    assert first.macs == 4 * 3 * 12 * (3 * 5 * 2)
    assert first.params == 12 * 2 * 15 + 12
    assert (first.input_bytes, first.output_bytes, first.parameter_bytes) == (4 * 6 * 64, 4 * 144, 4 * first.params)
    assert first.intensity == first.macs / (4 * (6 * 64 + 144 + first.params))
    assert (norm.macs, norm.params, relu.params) == (0, 24, 0)
    assert (linear.macs, linear.output_shape) == (144 * 5, (1, 5))


def test_transposed_convolution_and_attention():
    assert lw.profile(nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 5)).macs == 25 * 4 * 6 * 9
    attention = nn.MultiheadAttention(16, 4, batch_first=True)

    class SelfAttention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    tokens = 10
    assert lw.profile(SelfAttention(), (tokens, 16)).macs == tokens * 16 * 16 * 4 + 2 * tokens * tokens * 16


def test_a_layer_called_twice_costs_twice_and_weighs_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)

        def forward(self, x):
            return self.conv(self.conv(x))

    (layer,) = lw.profile(Twice(), (3, 4, 4)).layers
    assert (layer.params, layer.macs, layer.calls) == (9, 2 * 16 * 9, 2)


def test_parameters_that_never_run_still_count():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.raw = nn.Linear(4, 4), nn.Linear(2, 3), nn.Parameter(torch.zeros(7))

        def forward(self, x):
            return self.used(x)

    counted = lw.profile(Idle(), (4,))
    assert counted.params == 20 + 9 + 7
    assert [layer.name for layer in counted.layers if not layer.calls] == ["", "unused"]


def test_additions_of_an_l1_layer_have_their_own_column():
    class Adder(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 8))

        def forward(self, x):
            return -torch.cdist(x, self.weight, p=1)

    counted = lw.profile(Adder(), (3, 8))
    assert (counted.macs, counted.adds) == (0, 2 * 3 * 5 * 8)
    assert "adds" in str(counted) and "adds" not in str(lw.profile(nn.Linear(3, 2), (3,)))


def test_a_layer_with_its_own_kernel_can_say_its_additions():
    class Adder(nn.Identity):
        def additions(self, x, output):
            return 11 * x.numel()

    assert lw.profile(nn.Sequential(Adder()), (3, 8)).adds == 11 * 24


def test_peak_of_live_activations():
    x, y = 4 * 3 * 64, 4 * 10 * 64
    chain = nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU(), nn.Conv2d(10, 10, 1))
    in_place = nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU(inplace=True), nn.Conv2d(10, 10, 1))
    assert lw.profile(chain, (3, 8, 8)).peak_activation_bytes == x + 2 * y
    assert lw.profile(in_place[:2], (3, 8, 8)).peak_activation_bytes == x + y

    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(10, 10, 1) for _ in range(3))

        def forward(self, x):
            y = x
            for conv in self.convs:
                y = conv(y)
            return x + y

    # While the sum is made, x, y and the sum are alive; without the shortcut, two maps would be enough.
    assert lw.profile(Shortcut(), (10, 8, 8)).peak_activation_bytes == 3 * y


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training):
    network = lw.create_model("mobilenet_v3_small").train(training)
    network.blocks[3].eval()
    network.stem.conv.weight.grad = torch.ones_like(network.stem.conv.weight)
    network.head.register_forward_hook(lambda *_: None)
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    random_state = torch.get_rng_state()
    lw.profile(network, (3, 64, 64))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert modes == [module.training for module in network.modules()]
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    assert torch.equal(network.stem.conv.weight.grad, torch.ones_like(network.stem.conv.weight))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.backends.mha.get_fastpath_enabled()


def test_an_input_that_does_not_fit_is_named_and_leaves_no_hooks():
    network = nn.Sequential(nn.Conv2d(3, 4, 3)).train()
    with pytest.raises(ValueError, match=r"Sequential cannot run an input of size \(5, 8, 8\)"):
        lw.profile(network, (5, 8, 8))
    assert network.training and not network[0]._forward_hooks and not network[0]._forward_pre_hooks


@pytest.mark.parametrize("size", [(), (3, 0, 8), (3, 8.5, 8), (3, -1, 8)])
def test_bad_sizes_are_refused(size):
    with pytest.raises(ValueError, match="positive integers"):
        lw.profile(nn.Identity(), size)


def test_only_modules_are_profiled():
    with pytest.raises(TypeError, match="takes a torch.nn.Module, got str"):
        lw.profile("mobilenet_v2")


def test_tables_hold_the_totals():
    counted = lw.profile(lw.create_model("mobilenet_v1", width=0.25))
    assert "470,072" in str(counted) and "41,030,272" in str(counted)
    assert "470,072" in counted._repr_html_() and counted._repr_html_().count("<tr>") == len(counted.layers) + 2


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (1536, "1.5 KiB"), (3 * 2**20, "3.0 MiB"),
                                              (2**31, "2.0 GiB")])
def test_bytes_for_people(count, words):
    assert format_bytes(count) == words


def test_a_layer_that_does_nothing_moves_nothing():
    inner = nn.Sequential(nn.Identity(), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Flatten())
    counted = lw.profile(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), inner), (3, 8, 8))
    _, identity, dropout, relu, flatten = counted.layers
    assert [layer.moved_bytes for layer in (identity, dropout, flatten)] == [0, 0, 0]
    assert [layer.output_shape for layer in (identity, dropout)] == [(1, 4, 8, 8)] * 2
    assert flatten.output_shape == (1, 256)
    assert relu.input_bytes == relu.output_bytes == 4 * 8 * 8 * 4  # in place, but it reads and writes
    assert counted.activation_bytes == 2 * 4 * 8 * 8 * 4
