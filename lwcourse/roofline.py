"""What a machine's arithmetic, memory and calls allow at most, and how near to that each layer comes."""
import time
from dataclasses import dataclass, field
from math import inf, isfinite, log
from numbers import Real
from statistics import median

import torch
from torch import Tensor, nn

from lwcourse.profile import format_bytes, trace
from lwcourse.running import (
    check_images,
    check_threads,
    cpu_threads,
    device_name,
    plain_network,
    seconds_of,
    synchronise,
    unchanged,
    whole_number,
)
from lwcourse.tables import counted, html_table, text_table

NEAR = 2.0  # a layer that takes at most this many times the time of its bound is held by that bound
WORKING_SETS = tuple(2**power for power in (16, 18, 20, 22, 24, 26, 28))  # 64 KiB to 256 MiB: caches, main memory


@dataclass(frozen=True)
class RooflinePoint:
    """One layer on the roofline: its `macs` and `bytes` of traffic for the whole batch, and its measured `seconds`.

    All three are the layer's own work, without that of modules inside it. `calls` is the number of its operators.
    """
    name: str
    kind: str
    macs: int
    bytes: int
    seconds: float
    roof: "Roofline" = field(repr=False)
    calls: int = 1

    @property
    def intensity(self) -> float:
        """MACs per byte."""
        return self.macs / self.bytes

    @property
    def achieved(self) -> float:
        """MACs per second."""
        return self.macs / self.seconds

    @property
    def working_set(self) -> float:
        """Bytes that one of its operators reads and writes, on average: those decide which cache can hold them."""
        return self.bytes / self.calls

    @property
    def attainable(self) -> float:
        """The roof above this layer, in MACs per second, with the bandwidth for its working set."""
        return self.roof.attainable(self.intensity, self.working_set)

    @property
    def memory_seconds(self) -> float:
        """Least time of its traffic, at the bandwidth for its working set, as if what fits a cache were in it."""
        return self.bytes / self.roof.bandwidth(self.working_set)

    @property
    def compute_seconds(self) -> float:
        """Least time of its MACs."""
        return self.macs / self.roof.peak_macs_per_s

    @property
    def call_seconds(self) -> float:
        """The fixed cost of its operators' calls."""
        return self.calls * self.roof.call_seconds

    @property
    def time_per_bound(self) -> float:
        """Measured time over the longer one of `memory_seconds` and `compute_seconds`; 1 is the roof."""
        return self.seconds / max(self.memory_seconds, self.compute_seconds)

    @property
    def bound(self) -> str:
        """What holds the layer: "memory" or "compute", whichever takes longer, or "neither".

        It is neither where the layer takes more than NEAR times as long as both allow, rounded to one decimal as in
        the table; `limit` then says what else.
        """
        if round(self.time_per_bound, 1) > NEAR:
            return "neither"
        return "memory" if self.memory_seconds > self.compute_seconds else "compute"

    @property
    def limit(self) -> str:
        """`bound` or, where that is neither, "fixed cost per call" if the calls take half of the time, else
        "kernel efficiency": the operator's program gets less out of the machine than the machine has.
        """
        if self.bound != "neither":
            return self.bound
        return "fixed cost per call" if NEAR * self.call_seconds >= self.seconds else "kernel efficiency"


class RooflinePoints(list):
    """The layers of one network under the roof, in the order in which they first ran; prints as a table."""

    def _rows(self) -> list[tuple[str, ...]]:
        rows = [("layer", "kind", "MACs", "traffic", "MACs/byte", "time", "time / bound", "limit")]
        for point in self:
            rows.append((point.name or "(model)", point.kind, f"{point.macs:,}", format_bytes(point.bytes),
                         f"{point.intensity:.2f}", f"{1e6 * point.seconds:,.0f} us", f"{point.time_per_bound:.1f}",
                         point.limit))
        return rows

    def _caption(self) -> str:
        return (f"bound: the longer one of the times of MACs and of traffic; up to {NEAR:g} times that is "
                "compute-bound or memory-bound")

    def __repr__(self) -> str:
        return f"{text_table(self._rows(), left=2)}\n{self._caption()}"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), left=2, caption=self._caption())


@dataclass(frozen=True)
class Roofline:
    """What a machine can do at most: Williams et al. 2009, https://doi.org/10.1145/1498765.1498785.

    `peak_macs_per_s` is the best float32 matrix product. `bandwidth_bytes_per_s` is the best copy of a tensor that
    no cache holds, and `bandwidths` has pairs of a working set (bytes read and written) and the best copy of that
    size: small ones stay in a cache and are faster. `call_seconds` is what a call of an operator costs that has next
    to nothing to do (a convolution of one number).
    Raises ValueError for a limit that is not positive and finite.
    """
    peak_macs_per_s: float
    bandwidth_bytes_per_s: float
    device: str
    threads: int
    bandwidths: tuple[tuple[int, float], ...] = ()
    call_seconds: float = 0.0

    def __post_init__(self):
        for name, value in (("peak_macs_per_s", self.peak_macs_per_s),
                            ("bandwidth_bytes_per_s", self.bandwidth_bytes_per_s),
                            *((f"the bandwidth for {size} bytes", value) for size, value in self.bandwidths)):
            if not _positive(value):
                raise ValueError(f"{name} must be a positive, finite number, got {value!r}")

    @property
    def ridge(self) -> float:
        """MACs per byte at which a layer with maps in main memory stops waiting for memory."""
        return self.peak_macs_per_s / self.bandwidth_bytes_per_s

    @property
    def cache_ridge(self) -> float:
        """MACs per byte at which a layer with maps in the fastest cache stops waiting for them."""
        return self.peak_macs_per_s / self.cache_bandwidth

    @property
    def cache_bandwidth(self) -> float:
        """Bytes per second of the smallest working set that was measured; main memory's where none was."""
        return self.bandwidths[0][1] if self.bandwidths else self.bandwidth_bytes_per_s

    def bandwidth(self, working_set: float = inf) -> float:
        """Bytes per second for an operator that reads and writes so many bytes, interpolated between those measured."""
        sizes = self.bandwidths or ((1, self.bandwidth_bytes_per_s),)
        if working_set >= sizes[-1][0]:
            return self.bandwidth_bytes_per_s
        for (small, fast), (large, slow) in zip(sizes, sizes[1:], strict=False):
            if working_set <= small:
                return fast
            if working_set <= large:
                share = log(working_set / small) / log(large / small)
                return fast ** (1 - share) * slow ** share
        return sizes[0][1]

    def attainable(self, intensity: float, working_set: float = inf) -> float:
        """MACs per second that a layer of this intensity (MACs per byte) and traffic (bytes) can reach.

        Raises ValueError for an intensity that is negative or no number.
        """
        if not isinstance(intensity, Real) or not intensity >= 0:
            raise ValueError(f"intensity must be a number of at least 0, in MACs per byte, got {intensity!r}")
        return min(self.peak_macs_per_s, intensity * self.bandwidth(working_set))

    def place(self, model: nn.Module, x: Tensor, *, rounds: int = 10) -> RooflinePoints:
        """Time every layer of `model` that multiplies, inside the running network, and set it under the roof.

        Seconds, MACs and bytes are a layer's own: where it has modules inside, theirs are taken off. The model stays
        as it is. Raises ValueError when `rounds` is below 1, `x` is empty or on another device than the model, or the
        model cannot run it; TypeError when `model` is no nn.Module or `x` no tensor.
        """
        network = plain_network(model, "place")
        rounds = whole_number("rounds", rounds, 1)
        check_images({"model": network}, x)
        layers = {layer.name: layer for layer in trace(network, x).layers.values() if layer.macs}
        seconds = _own_seconds(network, x, set(layers), rounds, self.threads)
        return RooflinePoints(
            RooflinePoint(name, layer.kind, layer.macs, layer.traffic_bytes, seconds[name], self, layer.operators)
            for name, layer in layers.items() if name in seconds)

    def __repr__(self) -> str:
        cache = (f" ({self.cache_bandwidth / 1e9:.1f} GB/s for {format_bytes(self.bandwidths[0][0])})"
                 if self.bandwidths else "")
        calls = f", {1e6 * self.call_seconds:.0f} us a call" if self.call_seconds else ""
        return (f"Roofline of {self.device} with {counted(self.threads, 'thread')}: "
                f"{self.peak_macs_per_s / 1e9:.0f} GMAC/s, {self.bandwidth_bytes_per_s / 1e9:.1f} GB/s{cache}, "
                f"ridge at {self.ridge:.1f} MACs per byte{calls}")


def roofline(*, device: torch.device | str = "cpu", threads: int | None = None) -> Roofline:
    """Measure this machine: the fastest float32 matrix product, the fastest copies in caches and main memory, and the
    fixed cost of a call, of several tries each.

    Takes about 3 s. `threads` sets PyTorch's CPU threads for the measurement only, at most four for each processor.
    Raises ValueError for a device that is no text or torch.device, that this machine lacks or that computes nothing.
    """
    from lwcourse.train.device import pick_device
    if not isinstance(device, str | torch.device) or not device:
        raise ValueError(f"device must be 'cpu', 'cuda' or 'mps', got {device!r}")
    chosen = pick_device(device)
    if chosen.type == "meta":
        raise ValueError("device 'meta' computes nothing, so nothing can be timed; take 'cpu', 'cuda' or 'mps'")
    if threads is not None:
        check_threads(threads)
    with cpu_threads(threads) as used, torch.inference_mode(), torch.device(chosen):
        peak = max(_product_rate(side, chosen) for side in (512, 1024, 2048))
        bandwidths = _falling({size: _copy_rate(size, chosen) for size in WORKING_SETS})
        call_seconds = _call_seconds(chosen)
    return Roofline(peak, bandwidths[-1][1], device_name(chosen), used, bandwidths, call_seconds)


def _positive(value: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value) and value > 0


def _product_rate(side: int, device: torch.device) -> float:
    a, b = torch.ones(side, side), torch.ones(side, side)
    return side**3 / min(seconds_of(lambda: a @ b, device) for _ in range(6))


def _copy_rate(working_set: int, device: torch.device) -> float:
    source = torch.ones(working_set // 8)  # read once, written once, 4 bytes each
    target = torch.empty_like(source)
    copies = max(1, 2**24 // working_set)  # short ones in a row, or the clock and the first call would be measured

    def copy():
        for _ in range(copies):
            target.copy_(source)
    return copies * working_set / min(seconds_of(copy, device) for _ in range(8))


def _falling(rates: dict[int, float]) -> tuple[tuple[int, float], ...]:
    """What a large working set reaches, a small one could reach: where it was measured slower, calls cost the time."""
    found, best = [], 0.0
    for size in sorted(rates, reverse=True):
        best = max(best, rates[size])
        found.append((size, best))
    return tuple(reversed(found))


def _call_seconds(device: torch.device) -> float:
    layer, x = nn.Conv2d(1, 1, 1), torch.ones(1, 1, 1, 1)
    return median([seconds_of(lambda: layer(x), device) for _ in range(60)][10:])


def _own_seconds(model: nn.Module, x: Tensor, names: set[str], rounds: int, threads: int) -> dict[str, float]:
    """Median seconds of each named module, without the time of the modules inside it."""
    times: dict[str, list[float]] = {name: [] for name in names}
    running: list[list[float]] = []  # for each running module: when it started, and the seconds of those inside it
    handles = []

    def start(module, args):
        synchronise(x.device)
        running.append([time.perf_counter(), 0.0])

    def stop(name: str):
        def hook(module, args, output):
            synchronise(x.device)
            started, inside = running.pop()
            whole = time.perf_counter() - started
            total[name] = total.get(name, 0.0) + whole - inside
            if running:
                running[-1][1] += whole
        return hook

    for name, module in model.named_modules():
        parents = {name[:i] for i, letter in enumerate(name) if letter == "."} | {""} if name else set()
        if name in names or parents & names:
            handles += [module.register_forward_pre_hook(start), module.register_forward_hook(stop(name))]
    try:
        with cpu_threads(threads), unchanged([model], x.device), torch.inference_mode():
            for i in range(2 + rounds):  # two rounds of warm-up
                total: dict[str, float] = {}
                model(x)
                if i >= 2:
                    for name in names & total.keys():
                        times[name].append(total[name])
    finally:
        for handle in handles:
            handle.remove()
    return {name: median(values) for name, values in times.items() if values}
