"""The adder convolution, kernels and PyTorch's operators alike, beside loops in float64 over the paper's equations."""
import copy
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_training import QUIET, few_digits, same_weights, without_time
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import lwcourse as lw
from lwcourse.layers import AdderConv2d
from lwcourse.layers.adder import chunks
from lwcourse.layers.adder import conv as adder_conv
from lwcourse.layers.adder.variants import AdderVariant2d
from lwcourse.verify import relative_error

kernels = pytest.importorskip("lwcourse.layers.adder.kernels")
BOTH = pytest.mark.parametrize("path", [kernels, chunks], ids=["kernels", "chunks"])
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}


def loops(x, weight, grad, stride, padding):
    """Output, gradient of x and unscaled gradient of the weight, a position at a time, in float64."""
    x, weight, grad = x.double(), weight.double(), grad.double()
    height, width = weight.shape[2:]
    padded = nn.functional.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    out, grad_padded, grad_weight = torch.zeros_like(grad), torch.zeros_like(padded), torch.zeros_like(weight)
    for n in range(len(x)):
        for i in range(grad.shape[2]):
            for j in range(grad.shape[3]):
                here = (n, slice(None), slice(i * stride[0], i * stride[0] + height),
                        slice(j * stride[1], j * stride[1] + width))
                difference = padded[here] - weight
                g = grad[n, :, i, j, None, None, None]
                out[n, :, i, j] = -difference.abs().sum((1, 2, 3))
                grad_weight += g * difference
                grad_padded[here] += (g * (-difference).clamp(-1, 1)).sum(0)
    inside = grad_padded[:, :, padding[0]:padding[0] + x.shape[2], padding[1]:padding[1] + x.shape[3]]
    return out, inside, grad_weight


def laid_out(x, layout):
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "strided":  # every second number of a larger tensor
        return torch.stack([x, x + 1], dim=-1)[..., 0]
    return x.transpose(2, 3).contiguous().transpose(2, 3) if layout == "transposed" else x


@st.composite
def cases(draw):
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (2, 3)]))
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    sides = [draw(st.integers(max(1, kernel[i] - 2 * padding[i]), 9)) for i in (0, 1)]
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 18)), *sides)
    return {"shape": shape, "outputs": draw(st.integers(1, 19)), "kernel": kernel, "padding": padding,
            "stride": (draw(st.integers(1, 3)), draw(st.integers(1, 3))), "seed": draw(st.integers(0, 99)),
            "layout": draw(st.sampled_from(["contiguous", "channels_last", "strided", "transposed"])),
            "dtype": draw(st.sampled_from([torch.float32, torch.float64]))}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases())
def test_both_paths_equal_loops_over_the_equations(case):
    generator = torch.Generator().manual_seed(case["seed"])
    x = laid_out(2 * torch.randn(case["shape"], generator=generator, dtype=case["dtype"]), case["layout"])
    weight = torch.randn(case["outputs"], x.shape[1], *case["kernel"], generator=generator, dtype=case["dtype"])
    where = case["stride"], case["padding"]
    sides = chunks.output_sides(x, weight, *where)
    grad = torch.randn(len(x), case["outputs"], *sides, generator=generator, dtype=case["dtype"])
    out, grad_x, _ = loops(x, weight, grad, *where)
    for path in (kernels, chunks):
        for found, expected in ((path.distances(x, weight, *where), out),
                                (path.input_gradient(x, weight, grad, *where), grad_x)):
            assert found.dtype == case["dtype"] and found.shape == expected.shape
            worst = (found - expected).abs().max()
            assert worst <= TOLERANCE[case["dtype"]] * max(1, expected.abs().max()), path.__name__


@pytest.fixture
def choose(monkeypatch):
    """choose(path) makes the layer run on kernels or on chunks."""
    def use(path):
        monkeypatch.setattr(adder_conv, "fast_kernels", lambda: path if path is kernels else None)
    return use


@BOTH
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (5, 2, 2)])
def test_gradients_of_the_layer_are_those_of_the_paper(path, kernel, stride, padding, choose):
    choose(path)
    layer = AdderConv2d(5, 7, kernel, stride, padding, bias=True).double()
    x = torch.randn(2, 5, 9, 7, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    grad = torch.randn_like(out)
    out.backward(grad)
    expected, grad_x, full = loops(x, layer.weight, grad, layer.stride, layer.padding)
    assert relative_error(out, expected + layer.bias[:, None, None]) < 1e-13
    assert relative_error(x.grad, grad_x) < 1e-13
    assert relative_error(layer.weight.grad, 0.2 * full.numel()**0.5 * full / full.norm()) < 1e-12
    assert relative_error(layer.bias.grad, grad.sum((0, 2, 3))) < 1e-13


def test_eta_is_the_norm_of_the_weights_gradient():
    layer = AdderConv2d(4, 8, 3, eta=0.05)
    (3 * layer(torch.randn(2, 4, 6, 6)).square()).sum().backward()
    assert layer.weight.grad.norm().item() == pytest.approx(0.05 * layer.weight.numel()**0.5, rel=1e-5)
    layer.weight.grad = None
    (0 * layer(torch.randn(2, 4, 6, 6))).sum().backward()
    assert torch.equal(layer.weight.grad, torch.zeros_like(layer.weight))


@BOTH
def test_an_empty_batch_and_one_pixel(path, choose):
    choose(path)
    layer = AdderConv2d(3, 4, 3, padding=1)
    x = torch.zeros(0, 3, 8, 8, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert out.shape == (0, 4, 8, 8) and x.grad.shape == x.shape and not layer.weight.grad.any()
    assert layer(torch.zeros(1, 3, 1, 1)).flatten().allclose(-layer.weight.abs().sum((1, 2, 3)))


@BOTH
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["x", "weight", "grad"])
def test_what_is_not_finite_stays_so(path, bad, where, choose):
    choose(path)
    layer, x = AdderConv2d(8, 16, 3, padding=1), torch.randn(1, 8, 6, 6)
    grad = torch.randn(1, 16, 6, 6)
    {"x": x, "weight": layer.weight.data, "grad": grad}[where][0, 0, 1, 1] = bad
    x.requires_grad_()
    out = layer(x)
    out.backward(grad)
    assert out.isfinite().all() == (where == "grad") and not layer.weight.grad.isfinite().all()
    patches = nn.functional.unfold(x.detach(), 3, padding=1).transpose(1, 2)[0, :, None]
    steps = (layer.weight.detach().flatten(1) - patches).clamp(-1, 1)
    slopes = (grad.flatten(2)[0].T[:, :, None] * steps).sum(1)  # (positions, 8 * 9)
    expected = nn.functional.fold(slopes.T[None], (6, 6), 3, padding=1)
    assert torch.allclose(x.grad, expected, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@BOTH
def test_output_lies_as_the_input_does(path, layout, choose):
    choose(path)
    out = AdderConv2d(8, 16, 3, padding=1)(torch.randn(2, 8, 5, 5).contiguous(memory_format=layout))
    assert out.is_contiguous(memory_format=layout)


def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr(kernels, "TERMS", 5000)  # many blocks
    x, weight, grad = torch.randn(3, 5, 13, 11), torch.randn(9, 5, 3, 3), torch.randn(3, 9, 13, 11)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append((kernels.distances(x, weight, (1, 1), (1, 1)),
                          kernels.input_gradient(x, weight, grad, (1, 1), (1, 1))))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


THREADS = """
import os, torch
from lwcourse.layers.adder import kernels
def sums():
    return kernels.distances(torch.ones(1, 4, 9, 9), torch.zeros(4, 4, 3, 3), (1, 1), (0, 0))
torch.set_num_threads(2)
kernels.TERMS = 1000  # many blocks
x = torch.ones(1000, 1000)
expected, total = sums(), (x + 1).sum()  # PyTorch's worker waits, and ours
"""
FREED = THREADS + """
before = len(os.listdir("/proc/self/task"))
kernels._free_cores()
leaves = kernels._openmp_pause() is not None  # older releases of PyTorch have an OpenMP that cannot send it off
assert len(os.listdir("/proc/self/task")) == before - leaves, before
assert torch.equal(sums(), expected) and (x + 1).sum() == total
"""
FORKED = THREADS + """
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(sums(), expected) else 1)
assert os.waitpid(child, 0)[1] == 0
assert torch.equal(sums(), expected) and (x + 1).sum() == total
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at Linux's list of threads, and forks")
@pytest.mark.parametrize("code", [FREED, FORKED], ids=["PyTorch's worker is sent off", "a forked process"])
def test_threads_come_and_go(code):
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True, timeout=100)


def test_an_error_in_a_thread_is_raised(monkeypatch):
    def fail(first, last):
        raise FloatingPointError(first)
    with pytest.raises(FloatingPointError):
        kernels._share(fail, 8, 1)


class Largest(TorchDispatchMode):
    """Watches for the tensor with the most numbers."""
    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple) else (output,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return output


@pytest.mark.parametrize(("path", "limit"), [(kernels, 2.0), (chunks, 9.0)], ids=["kernels", "chunks"])
def test_memory_is_that_of_the_maps_or_of_their_patches(path, limit, choose, monkeypatch):
    choose(path)
    monkeypatch.setattr(chunks, "CHUNK", {"cpu": 2**14})
    layer, x = AdderConv2d(8, 16, 3, padding=1), torch.randn(4, 8, 30, 30, requires_grad=True)
    with Largest() as seen:
        layer(x).sum().backward()
    assert seen.numbers <= limit * 4 * 8 * 32 * 32  # of the padded maps; all differences would be 144 times as many


def test_autocast_and_half_precision():
    layer, x = AdderConv2d(8, 16, 3, padding=1), torch.randn(2, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        conv = nn.Conv2d(8, 8, 1)
        out = layer(conv(x))
        out.sum().backward()
    assert out.dtype == torch.float32 and conv.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert half(x.bfloat16()).dtype == torch.bfloat16
    assert relative_error(half(x.bfloat16()).float(), layer(x)) < 0.01


def test_layer_is_copied_and_saved(tmp_path):
    layer, x = AdderConv2d(3, 4, 3, 2, 1, bias=True), torch.randn(1, 3, 7, 7)
    torch.save(layer, tmp_path / "layer.pt")
    for other in (copy.deepcopy(layer), torch.load(tmp_path / "layer.pt", weights_only=False)):
        assert torch.equal(other(x), layer(x)) and repr(other) == repr(layer)
    with torch.inference_mode():
        assert torch.equal(layer(x), copy.deepcopy(layer)(x))


def test_tools_of_the_course_take_the_layer():
    network, other = (nn.Sequential(AdderConv2d(3, 8, 3, 2, 1, bias=True), nn.BatchNorm2d(8)) for _ in range(2))
    x = torch.randn(2, 3, 8, 8)
    lw.transfer_weights(network, other, x)
    assert torch.equal(network[0].weight, other[0].weight) and torch.equal(network[0].bias, other[0].bias)
    assert lw.compare(network, other, x).equal
    other[0].padding = (0, 0)
    assert "padding 1, but the reference has padding 0" in lw.compare(network, other, x).first_difference
    from lwcourse.viz.diagram.graph import trace
    boxes = {node.title: node.captions for node in trace(network, x).nodes}
    assert boxes == {"input": (), "3×3 adder": ("3 → 8, stride 2", "BN"), "output": ()}
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8))
    lw.transfer_weights(network, convolution, x)
    assert torch.equal(convolution[0].weight, network[0].weight)


@BOTH
def test_additions_are_counted_once(path, choose):
    choose(path)
    counted = lw.profile(AdderConv2d(3, 4, 3, padding=1), (3, 5, 6))
    assert (counted.adds, counted.macs) == (2 * 30 * 4 * 27, 0)


@pytest.mark.parametrize(("arguments", "words"), [
    ((0, 4, 3), "in_channels must be at least 1, got 0"),
    ((3, 0, 3), "out_channels must be at least 1, got 0"),
    ((3, 4, 0), "kernel_size must be an integer of at least 1, or two of them; got 0"),
    ((3, 4, (3, 3, 3)), "kernel_size must be .* got \\(3, 3, 3\\)"),
    ((3, 4, 3, 1.5), "stride must be .* got 1.5"),
    ((3, 4, 3, 1, -1), "padding must be an integer of at least 0, .* got -1"),
])
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        AdderConv2d(*arguments)


def test_bad_eta_and_inputs_are_refused():
    with pytest.raises(ValueError, match="eta must be positive, got 0"):
        AdderConv2d(3, 4, 3, eta=0)
    layer = AdderConv2d(3, 4, 3)
    with pytest.raises(ValueError, match=r"the input must be \(N, 3, H, W\), got shape \(1, 4, 8, 8\)"):
        layer(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="a kernel of 3 x 3 does not fit into the padded input, which is 8 x 2"):
        layer(torch.zeros(1, 3, 8, 2))


def test_without_numba_the_layer_says_so_once_and_gives_the_same(monkeypatch, recwarn):
    layer, x = AdderConv2d(3, 4, 3), torch.randn(1, 3, 6, 6)
    expected = layer(x)
    adder_conv.fast_kernels.cache_clear()
    for name in ("kernels", "tiles", "llvm_vectors"):
        monkeypatch.delitem(sys.modules, f"lwcourse.layers.adder.{name}")
        monkeypatch.delattr(sys.modules["lwcourse.layers.adder"], name)
    monkeypatch.setitem(sys.modules, "numba", None)
    try:
        found = [layer(x) for _ in range(2)]
    finally:
        adder_conv.fast_kernels.cache_clear()
    assert len(recwarn) == 1 and "pip install 'lwcourse[fast]'" in str(recwarn[0].message)
    assert relative_error(found[0], expected) < 1e-6


def test_loops_are_kept_on_disk_where_there_is_a_place(monkeypatch):
    from lwcourse.layers.adder import tiles
    layer = AdderConv2d(3, 4, 3)
    layer(torch.randn(1, 3, 6, 6))
    assert tiles.distance_tiles.stats.cache_path
    real = tiles.njit

    def nowhere(function, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, **options)
    monkeypatch.setattr(tiles, "njit", nowhere)
    assert tiles.jit(lambda a: a + 1)(1) == 2


def test_importing_the_course_does_not_import_numba():
    code = "import sys, lwcourse; lwcourse.create_model('adder_resnet20'); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_training_on_digits_learns_and_repeats_itself():
    histories, networks = [], []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(lw.create_model("adder_resnet20", 10, 1))
        data = few_digits()
        histories.append(lw.fit(networks[-1], data, epochs=3, batch_size=32, lr=0.1, seed=0, **QUIET))
    losses = [epoch.train_loss for epoch in histories[0].epochs]
    assert losses[2] < 0.8 * losses[0]
    assert without_time(histories[0]) == without_time(histories[1]) and same_weights(*networks)


def test_the_same_network_of_convolutions():
    from lwcourse.benchmarks.adder import networks
    both = networks()
    counts = {name: lw.profile(network, (3, 32, 32)) for name, network in both.items()}
    assert counts["ours"].params == counts["conv2d"].params and counts["conv2d"].adds == 0
    assert counts["conv2d"].macs == counts["ours"].macs + counts["ours"].adds // 2


def test_benchmark_times_equal_layers(capsys):
    from lwcourse.benchmarks.adder import Shape, contenders, report, shapes
    assert len(shapes()) == 8 and shapes()[0] == (64, 64, 3, 1, 32, 8)
    layers = contenders(Shape(6, 5, 3, 2, 8, 2))
    inputs = [torch.randn(2, 6, 8, 8, requires_grad=True)]
    inputs.append(inputs[0].detach().clone().requires_grad_())
    outputs = [layers[name](x) for name, x in zip(("textbook", "ours"), inputs, strict=True)]
    gradients = [torch.autograd.grad(out.square().sum(), (x, layers["ours"].weight))
                 for out, x in zip(outputs, inputs, strict=True)]
    assert relative_error(*outputs) < 1e-5 and relative_error(layers["cdist"](inputs[0]), outputs[0]) < 1e-5
    assert all(relative_error(a, b) < 1e-4 for a, b in zip(*gradients, strict=True))
    text = report(rounds=1, threads=1, images=2, only=[Shape(4, 4, 3, 1, 6, 2)])
    assert "4 -> 4, 3x3, 6 px, 2 images" in text and "training step, 2 images" in text and "1 thread" in text


# What records the code, to run it elsewhere or faster

@pytest.fixture(params=["layer", "variant"])
def network(request):
    """Two adder layers, one of which takes a short cut through its input, and sizes that differ."""
    kind = {"layer": AdderConv2d, "variant": AdderVariant2d}[request.param]
    return nn.Sequential(kind(3, 5, 3, 1, 1, bias=True), nn.BatchNorm2d(5), nn.ReLU(), kind(5, 4, 1, 2, 0))


def outputs_and_gradients(network, call, x):
    state = copy.deepcopy(network.state_dict())
    network.zero_grad()
    output = call(x)
    output.square().sum().backward()
    network.load_state_dict(state)
    return [output.detach(), *[parameter.grad.clone() for parameter in network.parameters()]]


@BOTH
def test_torch_compile_takes_the_layer_whole(path, choose, network):
    choose(path)
    torch._dynamo.reset()
    x = torch.randn(2, 3, 9, 7)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    pairs = zip(outputs_and_gradients(network, compiled, x), outputs_and_gradients(network, network, x), strict=True)
    assert all(torch.equal(found, expected) for found, expected in pairs)
    assert torch.equal(compiled.eval()(x), network.eval()(x))


@BOTH
@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.heavy)])
def test_torch_export_gives_the_same_output(path, strict, choose, network):
    choose(path)
    torch._dynamo.reset()
    sizes = {0: torch.export.Dim("images", min=2, max=64)}
    exported = torch.export.export(network.eval(), (torch.randn(2, 3, 9, 7),), dynamic_shapes=(sizes,), strict=strict)
    x = torch.randn(5, 3, 9, 7)
    assert relative_error(exported.module()(x), network(x)) < 1e-5
    assert not [node for node in exported.graph.nodes if "adder" in str(node.target)], "no operator of our own"


def test_onnx_export_as_it_is_called_by_default(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    layer, x = AdderConv2d(3, 5, 3, 2, 1).eval(), torch.randn(2, 3, 9, 7)
    torch.onnx.export(layer, (x,), str(tmp_path / "layer.onnx"), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "layer.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert relative_error(torch.from_numpy(found), layer(x)) < 1e-5


def test_what_the_compiler_is_told_of_the_kernels_is_so():
    """Shapes, strides and the lack of side effects."""
    from lwcourse.layers.adder import opaque

    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 3, 9, 7).contiguous(memory_format=layout)
        weight, grad = torch.randn(5, 3, 3, 3), torch.randn(2, 5, 5, 4)
        tests = ("test_schema", "test_faketensor")
        torch.library.opcheck(opaque.distances, (x, weight, [2, 2], [1, 1]), test_utils=tests)
        torch.library.opcheck(opaque.input_gradient, (x, weight, grad, [2, 2], [1, 1]), test_utils=tests)
