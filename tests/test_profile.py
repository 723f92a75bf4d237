"""`lw.profile` against PyTorch's own counter, against formulas, and against what must not change."""
import copy
import random
import warnings

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import lwcourse as lw
from lwcourse.layers import AdderConv2d
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
    assert counted.params == sum(p.numel() for p in network.parameters()) and counted.uncounted == ()


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
    counted = lw.profile(AdderConv2d(3, 4, 3, padding=1), (3, 8, 8))
    assert counted.traffic_bytes == 4 * (3 * 64 + 3 * 4 * 9 + 4 * 64), "one pass, whatever its kernel packs"
    assert counted.peak_activation_bytes == 4 * (3 * 64 + 4 * 64) and not counted.uncounted


def test_a_layer_that_says_its_additions_may_multiply_too():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1, bias=False)

        def additions(self, x, output):
            return 7

        def forward(self, x):
            return self.conv(x) + x.sum()

    counted = lw.profile(Both(), (3, 8, 8))
    assert (counted.macs, counted.adds) == (64 * 12, 7)


def test_an_attribute_called_additions_that_is_no_method_is_the_learners_own():
    conv = nn.Conv2d(3, 4, 3)
    conv.additions = 3
    assert (lw.profile(conv, (3, 8, 8)).macs, lw.profile(conv, (3, 8, 8)).adds) == (36 * 4 * 27, 0)


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


@pytest.mark.parametrize("size", [
    (), (3, 0, 8), (3, 8.5, 8), (3, -1, 8), 224, None, "3,8,8", b"388", (3, True, True), (3, float("nan"), 8), 3.5,
    ("3", "8", "8"), (3, None, 8), np.ones(3), [(3, 8, 8)], torch.ones(3, 8, 8), torch.tensor([3, 8, 8]),
], ids=lambda size: str(size)[:20])
def test_bad_sizes_are_refused(size):
    with pytest.raises(ValueError, match="input_size must hold positive integers, such as") as refused:
        lw.profile(nn.Identity(), size)
    assert len(str(refused.value)) < 200, "names a tensor's shape, not its numbers"


@pytest.mark.parametrize("size", [[3, 8, 8], torch.Size((3, 8, 8)), np.array([3, 8, 8]), tuple(np.int64([3, 8, 8]))])
def test_any_sequence_of_whole_numbers_is_a_size(size):
    counted = lw.profile(nn.Conv2d(3, 4, 1), size)
    assert counted.input_size == (3, 8, 8) and all(type(side) is int for side in counted.input_size)


@pytest.mark.parametrize("side", [10**7, 10**30, 2**40])
def test_a_size_beyond_the_memory_is_refused_before_it_is_made(side):
    with pytest.raises(ValueError, match="takes .* there are .* of memory on cpu"):
        lw.profile(nn.Conv2d(3, 4, 1), (3, side, side))


class Raises(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error, self.conv = error, nn.Conv2d(3, 3, 1)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        torch.rand(1)
        self.conv(x)
        raise self.error


@pytest.mark.parametrize(("error", "words"), [
    (KeyError("k"), "KeyError: 'k'"), (AttributeError("no such"), "AttributeError: no such"),
    (AssertionError("shape"), "AssertionError: shape"), (AssertionError(), "AssertionError"),
    (ZeroDivisionError("by 0"), "ZeroDivisionError: by 0"), (StopIteration(), "StopIteration"),
    (NotImplementedError("later"), "NotImplementedError: later"), (RuntimeError("boom"), "RuntimeError: boom"),
    (ValueError("images must be square"), "images must be square"),
    (MemoryError(), "there is not enough memory for it"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), "there is not enough memory for it"),
])
def test_whatever_a_forward_raises_becomes_a_sentence_and_leaves_no_trace(error, words):
    network = Raises(error).train()
    random_state = torch.get_rng_state()
    with pytest.raises(ValueError) as refused:
        lw.profile(network, (3, 8, 8))
    assert str(refused.value) == f"Raises cannot run an input of size (3, 8, 8): {words}"
    assert refused.value.__cause__ is error
    assert network.calls == 0 and network.training and torch.equal(random_state, torch.get_rng_state())
    assert not (network.conv._forward_hooks or network.conv._forward_pre_hooks or network._forward_hooks)


def test_an_interrupt_passes_and_leaves_no_trace():
    network = Raises(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        lw.profile(network, (3, 8, 8))
    assert network.calls == 0 and not network.conv._forward_hooks


def test_what_forward_writes_is_put_back():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.embedding = nn.Embedding(10, 4, max_norm=0.1)  # shrinks its rows in place
            self.register_buffer("calls", torch.zeros(1))
            self.register_buffer("seen", None)

        def forward(self, x):
            self.calls += 1
            self.calls = self.calls * 2
            self.seen = torch.ones(3)
            self.register_buffer("late", torch.ones(2))
            self.norm.train()
            self.conv.weight.mul_(2)
            self.conv.bias = nn.Parameter(torch.zeros(4))
            random.random(), np.random.rand(), torch.rand(1)
            self.embedding(torch.tensor([1]))
            return self.norm(self.conv(x))

    network = Writes().eval()
    before, calls = copy.deepcopy(network.state_dict()), network.calls
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    lw.profile(network, (3, 8, 8))
    after = network.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[key], before[key]) for key in before)
    assert network.calls is calls and not network.norm.training
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_a_frozen_batch_norm_stays_frozen():
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    network = Frozen(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    lw.profile(network, (3, 8, 8))
    assert network.training and network[0].training and not network[1].training


PLAIN = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
X = torch.ones(1, 3, 8, 8)


@pytest.mark.parametrize("wrap", [
    lambda: nn.DataParallel(PLAIN), lambda: torch.compile(PLAIN, backend="eager"), lambda: torch.jit.trace(PLAIN, X),
    lambda: torch.export.export(PLAIN, (X,)).module(), lambda: nn.DataParallel(torch.compile(PLAIN, backend="eager")),
    lambda: torch.fx.symbolic_trace(PLAIN), lambda: copy.deepcopy(PLAIN).to("meta"),
    lambda: copy.deepcopy(PLAIN).half(),
], ids=["DataParallel", "compiled", "traced", "exported", "both", "fx", "meta", "half"])
def test_wrapped_networks_count_as_what_they_wrap(wrap):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        network = wrap()
    counted = lw.profile(network, (3, 8, 8))
    assert (counted.macs, counted.params) == (36 * 4 * 27, 4 * 27 + 8)


def test_a_compiled_module_inside_counts_layer_by_layer():
    inner = nn.Sequential(nn.Conv2d(4, 4, 1))
    inner.compile(backend="eager")
    network = nn.Sequential(nn.Conv2d(3, 4, 1), inner)
    network(X)  # compiled now
    assert [layer.macs for layer in lw.profile(network, (3, 8, 8)).layers] == [64 * 12, 64 * 16]


def test_what_cannot_be_followed_is_refused_in_words():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(PLAIN)
    for network in (scripted, nn.Sequential(nn.Conv2d(3, 3, 1), scripted)):
        with pytest.raises(ValueError, match="compiled by TorchScript, and hides its layers"):
            lw.profile(network, (3, 8, 8))
    with pytest.raises(ValueError, match="Sequential has lazy layers without shapes yet: run it once, then call"):
        lw.profile(nn.Sequential(nn.LazyConv2d(4, 3)), (3, 8, 8))


def test_a_default_device_of_another_kind_changes_nothing():
    torch.set_default_device("meta")
    try:
        assert lw.profile(PLAIN, (3, 8, 8)).macs == 36 * 4 * 27
        assert lw.profile(nn.ReLU(), (3, 8, 8)).traffic_bytes == 2 * 4 * 192
    finally:
        torch.set_default_device(None)


def test_only_modules_are_profiled():
    with pytest.raises(TypeError, match="takes a torch.nn.Module, got str"):
        lw.profile("mobilenet_v2")
    with pytest.raises(TypeError, match="got type ReLU, a class: build the network first"):
        lw.profile(nn.ReLU)


def test_tables_hold_the_totals():
    counted = lw.profile(lw.create_model("mobilenet_v1", width=0.25))
    assert "470,072" in str(counted) and "41,030,272" in str(counted)
    assert "470,072" in counted._repr_html_() and counted._repr_html_().count("<tr>") == len(counted.layers) + 2


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (1536, "1.5 KiB"), (3 * 2**20, "3.0 MiB"),
                                              (2**31, "2.0 GiB"), (2**41, "2.0 TiB"), (2**62, "4,096.0 PiB")])
def test_bytes_for_people(count, words):
    assert format_bytes(count) == words


def test_a_layer_that_does_nothing_moves_nothing():
    inner = nn.Sequential(nn.Identity(), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Flatten())
    counted = lw.profile(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), inner), (3, 8, 8))
    _, identity, dropout, relu, flatten = counted.layers
    assert [layer.traffic_bytes for layer in (identity, dropout, flatten)] == [0, 0, 0]
    assert [layer.output_shape for layer in (identity, dropout)] == [(1, 4, 8, 8)] * 2
    assert flatten.output_shape == (1, 256)
    assert relu.input_bytes == relu.output_bytes == 4 * 8 * 8 * 4  # in place, but it reads and writes
    assert counted.activation_bytes == 2 * 4 * 8 * 8 * 4
