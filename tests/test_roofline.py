"""`lw.roofline`: what it computes and refuses, and what holds a layer. No test asserts a measured time."""
import time
from itertools import count

import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse import roofline as roofline_function
from lwcourse.latency import Roofline as SameRoofline
from lwcourse.roofline import NEAR, Roofline, RooflinePoint, _falling

ROOF = Roofline(peak_macs_per_s=100e9, bandwidth_bytes_per_s=10e9, device="cpu", threads=1)
CACHED = Roofline(100e9, 10e9, "cpu", 1, bandwidths=((2**16, 160e9), (2**20, 40e9), (2**28, 10e9)), call_seconds=1e-5)
X = torch.zeros(2, 3, 8, 8)


def test_the_roof():
    assert ROOF.ridge == ROOF.cache_ridge == 10.0
    assert ROOF.attainable(4.0) == 40e9 and ROOF.attainable(50.0) == ROOF.attainable(float("inf")) == 100e9
    assert ROOF.bandwidth() == ROOF.bandwidth(1) == 10e9, "where no cache was measured, main memory's for all"
    assert roofline_function is lw.roofline and SameRoofline is Roofline


def test_the_bandwidth_is_that_of_the_working_set():
    assert [CACHED.bandwidth(size) for size in (1, 2**16, 2**20, 2**28, 2**40)] == [160e9, 160e9, 40e9, 10e9, 10e9]
    assert CACHED.bandwidth(2**18) == pytest.approx(80e9), "half-way between two on a logarithmic scale"
    assert CACHED.attainable(0.5, 2**20) == 20e9 and CACHED.attainable(0.5) == 5e9
    assert (CACHED.ridge, CACHED.cache_ridge) == (10.0, 100 / 160)
    assert "10.0 GB/s (160.0 GB/s for 64.0 KiB)" in repr(CACHED) and "10 us a call" in repr(CACHED)


def test_a_large_set_is_a_bound_from_below_for_smaller_ones():
    assert _falling({1: 5.0, 2: 9.0, 4: 7.0, 8: 3.0}) == ((1, 9.0), (2, 9.0), (4, 7.0), (8, 3.0))


@pytest.mark.parametrize(("macs", "size", "seconds", "bound", "limit"), [
    (10**6, 2**20, 2 * 2**20 / 40e9, "memory", "memory"),  # 26 us of bytes, 10 us of MACs; twice as long is near
    (10**6, 2**20, 2.1 * 2**20 / 40e9, "neither", "kernel efficiency"),
    (10**6, 2**20, 0.9 * 2**20 / 40e9, "memory", "memory"),
    (10**7, 2**20, 1.5e-4, "compute", "compute"),  # 100 us of MACs
    (10**7, 2**20, 3e-4, "neither", "kernel efficiency"),
    (10**4, 2**12, 1.5e-5, "neither", "fixed cost per call"),  # 0.1 us of both, and a call of 10 us
    (10**4, 2**12, 3e-5, "neither", "kernel efficiency"),
])
def test_what_holds_a_layer(macs, size, seconds, bound, limit):
    point = RooflinePoint("conv", "Conv2d", macs, size, seconds, CACHED)
    assert (point.bound, point.limit) == (bound, limit)
    assert point.time_per_bound == seconds / max(macs / 100e9, size / CACHED.bandwidth(size))
    assert (point.bound == "neither") == (point.time_per_bound > NEAR)


def test_calls_share_the_working_set_and_pay_each():
    point = RooflinePoint("conv", "Conv2d", 10**6, 16 * 2**16, 1e-3, CACHED, calls=16)
    assert point.memory_seconds == 2**20 / 160e9, "sixteen times 64 KiB, each in the cache"
    assert point.call_seconds == pytest.approx(16e-5)


def test_layers_are_placed_by_what_they_cost():
    network = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), nn.ReLU(),
                            nn.Conv2d(64, 128, 3, padding=1, bias=False)).train()
    points = ROOF.place(network, torch.randn(2, 64, 14, 14), rounds=2)
    depthwise, dense = points
    assert (depthwise.name, dense.name) == ("0", "2") and network.training
    assert depthwise.macs == 2 * 14 * 14 * 64 * 9
    assert depthwise.bytes == 4 * (2 * 2 * 64 * 14 * 14 + 64 * 9)
    assert depthwise.intensity == depthwise.macs / depthwise.bytes
    assert depthwise.attainable == depthwise.intensity * 10e9 and dense.attainable == 100e9
    assert depthwise.achieved == depthwise.macs / depthwise.seconds > 0
    assert not network[0]._forward_hooks
    lines = str(points).splitlines()
    assert lines[0].split("  ")[-1].strip() == "limit" and "time / bound" in lines[0] and len(lines) == 5
    assert "time / bound" in points._repr_html_() and f"{depthwise.time_per_bound:.1f}" in lines[2]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.softmax = nn.Linear(16, 48), nn.Softmax(-1)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.softmax(q @ k.transpose(1, 2)) @ v


def test_seconds_are_a_modules_own_as_its_macs_are(monkeypatch):
    """On a clock that ticks once at each look, a module lasts one tick, and one more for each module inside it."""
    clock = count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    products, qkv = sorted(ROOF.place(nn.Sequential(Attention()), torch.randn(1, 10, 16), rounds=1),
                           key=lambda point: point.name)
    assert (products.name, qkv.name) == ("0", "0.qkv")
    assert (products.macs, qkv.macs) == (2 * 10 * 10 * 16, 10 * 16 * 48)
    assert qkv.seconds == 1.0
    assert products.seconds == 5.0 - 2.0, "five ticks from its start to its end, of which two children took one each"


def test_placing_inside_inference_mode_and_in_wrappers_is_the_same():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    plain = ROOF.place(network, X, rounds=1)
    with torch.inference_mode():
        inside = ROOF.place(network, torch.zeros(2, 3, 8, 8), rounds=1)
    wrapped = ROOF.place(nn.DataParallel(network), X, rounds=1)
    costs = [[(point.name, point.macs, point.bytes) for point in points] for points in (plain, inside, wrapped)]
    assert costs[0] == costs[1] == costs[2] == [("0", 2 * 36 * 4 * 27, 4 * (2 * 192 + 112 + 2 * 144))]


def test_nothing_that_multiplies_gives_no_points():
    assert ROOF.place(nn.ReLU(), X) == []


def test_placing_leaves_buffers_and_random_numbers_as_they_were():
    class Draws(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return self.conv(x) + torch.rand(1)

    network, state = Draws(), torch.get_rng_state()
    ROOF.place(network, X, rounds=1)
    assert network.calls == 0 and torch.equal(state, torch.get_rng_state()) and not network.conv._forward_hooks


@pytest.mark.parametrize(("call", "words"), [
    (lambda: ROOF.place(nn.Conv2d(3, 4, 3), X[:0]), "at least one image"),
    (lambda: ROOF.place(nn.Conv2d(3, 4, 3), X.to("meta")), "is on cpu, but x is on meta"),
    (lambda: ROOF.place(nn.Conv2d(3, 4, 3), X.byte()), "cannot run an input of size"),
    (lambda: ROOF.place(nn.Conv2d(3, 4, 3), X[:, :2]), "cannot run an input of size \\(2, 8, 8\\)"),
    (lambda: ROOF.place(nn.LazyConv2d(4, 3), X), "lazy layers"),
    *((lambda rounds=rounds: ROOF.place(nn.Conv2d(3, 4, 3), X, rounds=rounds), "rounds must be a whole number of at "
       "least 1, got") for rounds in (0, -1, "2", None, 2.5, True)),
    *((lambda peak=peak: Roofline(peak, 1e9, "cpu", 1), "peak_macs_per_s must be a positive, finite number, got")
      for peak in (0, -1, float("nan"), float("inf"), "1", None, True)),
    (lambda: Roofline(1e9, 0, "cpu", 1).ridge, "bandwidth_bytes_per_s must be a positive"),
    (lambda: Roofline(1e9, 1e9, "cpu", 1, ((64, 0.0),)), "the bandwidth for 64 bytes must be"),
    *((lambda intensity=intensity: ROOF.attainable(intensity), "intensity must be a number of at least 0")
      for intensity in (-1, float("nan"), "a", None)),
    *((lambda device=device: lw.roofline(device=device), "device") for device in ("gpu", "", None, 3, b"cpu", "meta")),
    *((lambda threads=threads: lw.roofline(threads=threads), "threads must be a whole number from 1 to")
      for threads in (0, "1", 1.5, True, 100_000)),
])
def test_bad_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="not available here"):
        lw.roofline(device="cuda")


def test_what_is_no_network_or_tensor_is_refused():
    for model, x in ((None, X), (nn.ReLU, X), (nn.ReLU(), None), (nn.ReLU(), (1, 3))):
        with pytest.raises(TypeError, match="got"):
            ROOF.place(model, x)


def test_the_machine_is_measured():
    roof = lw.roofline(threads=1)
    assert roof.peak_macs_per_s > 1e8 and roof.bandwidth_bytes_per_s > 1e8 and roof.call_seconds > 0
    assert roof.threads == 1 and "GMAC/s" in repr(roof)
    sizes, rates = zip(*roof.bandwidths, strict=True)
    assert list(sizes) == sorted(sizes) and list(rates) == sorted(rates, reverse=True)
    assert rates[-1] == roof.bandwidth_bytes_per_s
