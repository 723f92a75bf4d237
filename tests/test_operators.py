"""What an operator costs: MACs whatever the kernel or the mode, and the same traffic however it is spelled."""
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import lwcourse as lw
from lwcourse.operators import stored_bytes


class Run(nn.Module):
    """A network whose forward is `function(x, *modules)`."""

    def __init__(self, function, *modules):
        super().__init__()
        self.parts, self.function = nn.ModuleList(modules), function

    def forward(self, x):
        return self.function(x, *self.parts)


LINEAR = nn.Linear(16, 8, bias=False)
MATRIX = LINEAR.weight
MACS = {  # function, modules, input_size, MACs by hand
    "RNN": (lambda x, m: m(x)[0], [nn.RNN(32, 48, batch_first=True)], (10, 32), 10 * 48 * (32 + 48)),
    "GRU": (lambda x, m: m(x)[0], [nn.GRU(32, 48, batch_first=True)], (10, 32), 3 * 10 * 48 * 80),
    "LSTM": (lambda x, m: m(x)[0], [nn.LSTM(32, 48, batch_first=True)], (10, 32), 4 * 10 * 48 * 80),
    "LSTM, both directions": (lambda x, m: m(x)[0], [nn.LSTM(32, 48, batch_first=True, bidirectional=True)], (10, 32),
                              2 * 4 * 10 * 48 * 80),
    "LSTM, two layers": (lambda x, m: m(x)[0], [nn.LSTM(32, 48, 2, batch_first=True)], (10, 32),
                         4 * 10 * 48 * (80 + 96)),
    "LSTM, projected": (lambda x, m: m(x)[0], [nn.LSTM(32, 48, batch_first=True, proj_size=16)], (10, 32),
                        10 * (4 * 48 * (32 + 16) + 48 * 16)),
    "LSTMCell": (lambda x, m: m(x)[0], [nn.LSTMCell(32, 48)], (32,), 4 * 48 * 80),
    "DeformConv2d": (lambda x, offsets, conv: conv(x, offsets(x)),
                     [nn.Conv2d(8, 18, 3, padding=1), torchvision.ops.DeformConv2d(8, 16, 3, padding=1)], (8, 6, 6),
                     36 * (18 * 72 + 16 * 72)),
    "ConvTranspose2d": (lambda x, m: m(x), [nn.ConvTranspose2d(4, 6, 3, 2, groups=2)], (4, 5, 5), 25 * 4 * 3 * 9),
    "Bilinear": (lambda x, m: m(x, x), [nn.Bilinear(16, 16, 8)], (16,), 8 * 16 * 16 + 8 * 16),
    "matrix @ vector": (lambda x: MATRIX @ x[0], [], (16,), 128),
    "mv": (lambda x: torch.mv(MATRIX, x[0]), [], (16,), 128),
    "addmv": (lambda x: torch.addmv(torch.zeros(8), MATRIX, x[0]), [], (16,), 128),
    "dot": (lambda x: torch.dot(MATRIX[0], x[0]), [], (16,), 16),
    "vdot": (lambda x: torch.vdot(MATRIX[0], x[0]), [], (16,), 16),
    "inner": (lambda x: torch.inner(x, MATRIX), [], (16,), 128),
    "einsum": (lambda x: torch.einsum("oi,ni->no", MATRIX, x), [], (16,), 128),
    "tensordot": (lambda x: torch.tensordot(MATRIX, x[0], ([1], [0])), [], (16,), 128),
    "addbmm": (lambda x: torch.addbmm(torch.zeros(4, 4), x.view(2, 4, 8), x.view(2, 8, 4)), [], (64,), 256),
    "baddbmm": (lambda x: torch.baddbmm(torch.zeros(2, 4, 4), x.view(2, 4, 8), x.view(2, 8, 4)), [], (64,), 256),
    "addmm_": (lambda x: torch.zeros(1, 8).addmm_(x, MATRIX.t()), [], (16,), 128),
    "mm into an output": (lambda x: torch.mm(x, MATRIX.t(), out=torch.empty(1, 8)), [], (16,), 128),
    "outer product: no sum": (lambda x: torch.outer(MATRIX[0], x[0]), [], (16,), 0),
    "gate: no sum": (lambda x: x * MATRIX[:1], [], (16,), 0),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_by_hand_in_every_mode(name):
    function, modules, size, macs = MACS[name]
    counted = lw.profile(Run(function, *modules), size)
    assert (counted.macs, counted.uncounted) == (macs, ())
    decorated = Run(torch.inference_mode()(function), *modules)
    assert lw.profile(decorated, size).macs == macs, "composite operators reach the counter whole in inference mode"
    with torch.inference_mode():
        assert lw.profile(Run(function, *modules), size).macs == macs


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_attention_in_each_kernel_counts_as_torchs_own_counter_does(backend):
    network = Run(lambda x: F.scaled_dot_product_attention(x, x[..., :6, :], x[..., :6, :]))
    x = torch.randn(1, 2, 10, 16)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as oracle:  # it does not know the CPU's kernel
        network(x)
    with sdpa_kernel(backend):
        assert 2 * lw.profile(network, (2, 10, 16)).macs == oracle.get_total_flops() == 2 * 2 * 2 * 10 * 6 * 16


def test_a_block_in_inference_mode_counts_beside_one_outside():
    def function(x, first, second):
        with torch.inference_mode():
            x = first(x)
        return second(x)

    convs = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1, bias=False)
    counted = lw.profile(Run(function, *convs), (3, 6, 6))
    assert counted.macs == 36 * (27 * 8 + 72 * 8)
    assert [layer.macs for layer in counted.layers] == [36 * 27 * 8, 36 * 72 * 8]


def quantised(network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(network, {nn.Linear, nn.LSTM})


def test_a_quantised_layer_counts_with_its_packed_parameters():
    (layer,) = lw.profile(quantised(nn.Sequential(nn.Linear(16, 8))), (16,)).layers
    assert (layer.macs, layer.params) == (16 * 8, 16 * 8 + 8)
    assert layer.parameter_bytes == 16 * 8 + 4 * 8, "weights of 8 bits, a bias of 32"


def test_what_is_not_known_is_named_under_the_table():
    counted = lw.profile(Run(lambda x, m: m(x)[0], quantised(nn.Sequential(nn.LSTM(4, 5)))[0]), (3, 4))
    assert counted.uncounted == ("aten.quantized_lstm (parts.0)",)
    assert "MACs of these are not counted: aten.quantized_lstm (parts.0)" in str(counted)
    assert "quantized_lstm" in counted._repr_html_()
    assert "not counted" not in str(lw.profile(LINEAR, (16,)))


def test_a_kernel_outside_pytorch_is_named_and_moves_what_goes_in_and_comes_out():
    class Numpy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3))

        def forward(self, x):
            return torch.from_numpy(x.numpy() @ self.weight.detach().numpy().T)

    counted = lw.profile(nn.Sequential(Numpy(), nn.ReLU()), (5, 3))
    assert counted.uncounted == ("a kernel outside PyTorch (0)",)
    assert counted.layers[0].traffic_bytes == 4 * (15 + 12 + 20)
    assert counted.peak_activation_bytes == 4 * (20 + 20)


CONV = nn.Conv2d(8, 8, 3, padding=1)
NORM = nn.BatchNorm2d(8)
LN = nn.LayerNorm(6)
PRELU = nn.PReLU(8)


def by_hand(x):
    y = F.conv2d(x, CONV.weight, CONV.bias, padding=1)
    y = F.batch_norm(y, NORM.running_mean, NORM.running_var, NORM.weight, NORM.bias)
    return F.linear(F.relu6(y).mean((2, 3)), HEAD.weight, HEAD.bias)


HEAD = nn.Linear(8, 5)
SAME = {
    "module, function, method": [nn.ReLU(), lambda x: F.relu(x), lambda x: x.relu(), lambda x: torch.clamp(x, min=0)],
    "in place": [nn.ReLU(inplace=True), lambda x: F.relu_(x), lambda x: x.relu_()],
    "ReLU6": [nn.ReLU6(), lambda x: F.relu6(x), nn.Hardtanh(0, 6)],
    "Hardswish": [nn.Hardswish(), lambda x: F.hardswish(x)],
    "SiLU": [nn.SiLU(), lambda x: F.silu(x)],
    "PReLU": [PRELU, lambda x: F.prelu(x, PRELU.weight)],
    "a sum": [lambda x: x.relu() + x, lambda x: torch.add(x.relu(), x), lambda x: x.relu().add(x)],
    "a sum in place": [lambda x: x.relu().add_(x), lambda x: torch.add(x.relu(), x, out=None)],
    "a concatenation": [lambda x: torch.cat([x, x.relu()], 1), lambda x: torch.concat([x, x.relu()], dim=1)],
    "global pooling": [lambda x: x.mean((2, 3)), lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
                       lambda x: nn.Flatten()(nn.AdaptiveAvgPool2d(1)(x)), lambda x: x.flatten(2).mean(2)],
    "BatchNorm": [NORM, lambda x: F.batch_norm(x, NORM.running_mean, NORM.running_var, NORM.weight, NORM.bias)],
    "LayerNorm": [LN, lambda x: F.layer_norm(x, (6,), LN.weight, LN.bias)],
    "max-pooling": [nn.MaxPool2d(2), lambda x: F.max_pool2d(x, 2),
                    lambda x: F.max_pool2d(x, 2, return_indices=True)[0]],
    "views": [nn.Identity(), lambda x: x.chunk(2, 1)[0], lambda x: x.transpose(1, 2), lambda x: x.flatten(1),
              lambda x: x.expand(3, -1, -1, -1), lambda x: F.dropout(x, training=False), lambda x: x.contiguous(),
              lambda x: x.reshape(1, 4, 2, 6, 6), lambda x: torch.split(x, 3, 1)[1], lambda x: x[:, ::2]],
    "a shuffle": [nn.ChannelShuffle(2), lambda x: x.view(1, 2, 4, 6, 6).transpose(1, 2).reshape(1, 8, 6, 6),
                  lambda x: x.view(1, 2, 4, 6, 6).transpose(1, 2).contiguous().view(1, 8, 6, 6)],
    "a network": [nn.Sequential(CONV, NORM, nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), HEAD), by_hand,
                  nn.Sequential(nn.Sequential(CONV, NORM), nn.Sequential(nn.ReLU6(), nn.AdaptiveAvgPool2d(1)),
                                nn.Sequential(nn.Flatten(), HEAD))],
}


@pytest.mark.parametrize("name", SAME)
def test_traffic_and_peak_do_not_depend_on_the_spelling(name):
    found = []
    for spelling in SAME[name]:
        network = spelling if isinstance(spelling, nn.Module) else Run(spelling)
        for mode in (torch.no_grad(), torch.inference_mode()):
            counted = lw.profile(Run(mode(lambda x, network: network(x)), network), (8, 6, 6))
            found.append((counted.traffic_bytes, counted.peak_activation_bytes))
    expected = found[0][0]
    if name == "a sum in place":  # the second makes a new map
        assert found[0] == found[1] and found[2][0] == expected
    else:
        assert set(found) == {found[0]}


MAP = 4 * 8 * 36  # bytes of the input below


@pytest.mark.parametrize(("function", "traffic"), [
    (lambda x: x.relu(), 2 * MAP),
    (lambda x: x.relu_(), 2 * MAP),  # reads and writes its input
    (lambda x: x + x, 2 * MAP),  # one tensor, read once
    (lambda x: x + 1, 2 * MAP),
    (lambda x: x.relu() + x, 5 * MAP),
    (lambda x: torch.cat([x, x], 1), 3 * MAP),
    (lambda x: torch.cat([x, x.relu()], 1), 2 * MAP + 4 * MAP),
    (lambda x: x.mean((2, 3)), MAP + 4 * 8),
    (lambda x: x * x.mean((2, 3), keepdim=True), MAP + 32 + (MAP + 32 + MAP)),  # a gate
    (lambda x: x * x[:, :, :1, :1].expand_as(x), 2 * MAP + 32),  # repeated numbers count as they are stored
    (lambda x: x.transpose(1, 2).contiguous(), 2 * MAP),
    (lambda x: torch.zeros_like(x), MAP),
    (lambda x: torch.empty_like(x).copy_(x), 2 * MAP),  # overwrites what it does not read
    (lambda x: torch.zeros_like(x).fill_(1), 2 * MAP),
    (lambda x: F.max_pool2d(x, 2), MAP + MAP // 4),  # the places of the maxima have no reader
    (lambda x: F.max_pool2d(x, 2, return_indices=True), MAP + MAP // 4 + MAP // 2),  # 8 bytes a place
    (lambda x: F.interpolate(x, scale_factor=2), MAP + 4 * MAP),
    (lambda x: x.softmax(1), 2 * MAP),
])
def test_traffic_by_hand(function, traffic):
    counted = lw.profile(Run(function), (8, 6, 6))
    assert counted.traffic_bytes == traffic == counted.layers[0].traffic_bytes


def test_traffic_of_layers_by_hand():
    layers = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5))
    conv, norm, flatten, linear = lw.profile(layers, (8, 6, 6)).layers
    assert (conv.input_bytes, conv.parameter_bytes, conv.output_bytes) == (MAP, 4 * (4 * 72 + 4), MAP // 2)
    assert norm.parameter_bytes == 4 * 4 * 4, "scale, shift, mean and variance of each channel"
    assert (norm.traffic_bytes, flatten.traffic_bytes) == (MAP + 4 * 16, 0)
    assert linear.traffic_bytes == MAP // 2 + 4 * (5 * 144 + 5) + 4 * 5


def test_a_lookup_reads_its_rows_and_not_the_table():
    table = nn.Embedding(1000, 4)
    counted = lw.profile(Run(lambda x, m: m(x.long()), table), (7,))
    assert counted.layers[-1].traffic_bytes == 8 * 7 + 2 * 4 * 7 * 4  # numbers of rows, rows read and written
    assert counted.layers[0].traffic_bytes == 4 * 7 + 8 * 7


def test_operators_are_booked_on_the_module_whose_forward_runs_them():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1, bias=False)

        def forward(self, x):
            return x + F.relu(self.conv(x))

    block, conv = sorted(lw.profile(nn.Sequential(Block()), (8, 6, 6)).layers, key=lambda layer: layer.name)
    assert (block.name, block.kind, block.operators) == ("0", "Block", 2)
    assert block.traffic_bytes == 2 * MAP + 3 * MAP and conv.traffic_bytes == 2 * MAP + 4 * 64


def test_a_child_that_raises_leaves_the_booking_in_order():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrong, self.right = nn.Conv2d(5, 2, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            try:
                return self.wrong(x)
            except RuntimeError:
                return self.right(x).relu()

    traffic = {layer.name: layer.operators for layer in lw.profile(Careful(), (8, 6, 6)).layers}
    assert traffic == {"wrong": 0, "right": 1, "": 1}


def test_our_mobilenet_costs_what_torchvisions_does():
    ours = lw.profile(lw.create_model("mobilenet_v2", width=0.35), (3, 64, 64))
    theirs = lw.profile(torchvision.models.mobilenet_v2(width_mult=0.35), (3, 64, 64))
    assert (ours.macs, ours.traffic_bytes) == (theirs.macs, theirs.traffic_bytes)
    assert ours.peak_activation_bytes == theirs.peak_activation_bytes
    assert ours.peak_activation_bytes <= ours.eager_peak_bytes


def test_stored_bytes():
    x = torch.zeros(2, 3, 4)
    assert stored_bytes(x) == stored_bytes(x.transpose(0, 2)) == stored_bytes(x.expand(5, 2, 3, 4)) == 4 * 24
    assert stored_bytes(x[:, 1]) == stored_bytes(x[..., ::2][:1, :, :]) + 2 * 4 == 4 * 8
    assert stored_bytes(torch.zeros(10).unfold(0, 5, 1)) == 4 * 10, "windows overlap"
    assert stored_bytes(torch.zeros(0, 3)) == stored_bytes(torch.zeros(3, 0).t()) == 0
    assert stored_bytes(torch.zeros((), dtype=torch.int64)) == 8
    assert stored_bytes(torch.eye(3).to_sparse()) == 4 * 9
