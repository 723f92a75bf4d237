"""How long networks take on this machine, and what its arithmetic and its memory allow.

Times are medians of interleaved rounds: in each round every model runs once, so that a machine
whose speed drifts is unfair to none. Compare ratios of one run; absolute times belong to the
machine, its threads and the moment.
"""
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles

import torch
from torch import Tensor, nn

from lwcourse.profile import eval_mode, profile
from lwcourse.tables import counted, html_table, text_table


@dataclass(frozen=True)
class Latency:
    """Times of one model, in seconds, one for each round."""
    times: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.times)

    @property
    def q1(self) -> float:
        return quantiles(self.times, n=4, method="inclusive")[0]

    @property
    def q3(self) -> float:
        return quantiles(self.times, n=4, method="inclusive")[2]


@dataclass(frozen=True)
class Latencies(Mapping):
    """Latency of each model by name, measured together; prints as a table."""
    results: Mapping[str, Latency]
    input_shape: tuple[int, ...]
    device: str
    threads: int

    def __getitem__(self, name: str) -> Latency:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def ratio(self, name: str, other: str) -> float:
        """How many times as long as `other` the model `name` takes: the median over rounds of their ratio."""
        return median(a / b for a, b in zip(self[name].times, self[other].times, strict=True))

    def _rows(self) -> list[tuple[str, ...]]:
        first = next(iter(self))
        rows = [("model", "median", "quartiles", f"x {first}")]
        for name, latency in self.items():
            rows.append((name, f"{1e3 * latency.median:.2f} ms", f"{1e3 * latency.q1:.2f} - {1e3 * latency.q3:.2f} ms",
                         f"{self.ratio(name, first):.2f}"))
        return rows

    def _caption(self) -> str:
        rounds = len(next(iter(self.values())).times)
        return (f"input {'x'.join(map(str, self.input_shape))}, {self.device}, {counted(self.threads, 'thread')}, "
                f"{rounds} interleaved rounds")

    def __repr__(self) -> str:
        return f"{text_table(self._rows())}\n{self._caption()}"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), caption=self._caption())


def measure_latency(models: nn.Module | Mapping[str, nn.Module], x: Tensor, *, rounds: int = 20, warmup: int = 3,
                    threads: int | None = None) -> Latencies:
    """Time the forward pass of each model on `x`, in eval mode and without gradients.

    Each of `rounds` rounds runs every model once, the order turning from round to round, after
    `warmup` rounds that do not count. `threads` sets PyTorch's CPU threads for the measurement
    only. Models and `x` stay as they are. Raises ValueError when there is nothing to measure,
    or a model and `x` are on different devices.
    """
    models = {"model": models} if isinstance(models, nn.Module) else dict(models)
    if not models:
        raise ValueError("there is no model to measure: models is empty")
    if rounds < 2 or warmup < 0:
        raise ValueError(f"rounds must be at least 2 and warmup at least 0, got {rounds} and {warmup}")
    for name, model in models.items():
        device = next((p.device for p in model.parameters()), x.device)
        if device != x.device:
            raise ValueError(f"model {name!r} is on {device}, but x is on {x.device}; move one with .to()")
    names, times = list(models), {name: [] for name in models}
    with _threads(threads) as used, _all_in_eval_mode(models.values()), torch.inference_mode():
        for i in range(warmup + rounds):
            turn = i % len(names)
            for name in names[turn:] + names[:turn]:
                seconds = _seconds(lambda name=name: models[name](x), x.device)
                if i >= warmup:
                    times[name].append(seconds)
    return Latencies({name: Latency(tuple(values)) for name, values in times.items()}, tuple(x.shape),
                     device_name(x.device), used)


@dataclass(frozen=True)
class RooflinePoint:
    """One layer on the roofline: `macs` and least `bytes` moved for the whole batch, and its measured `seconds`."""
    name: str
    kind: str
    macs: int
    bytes: int
    seconds: float
    roof: "Roofline" = field(repr=False)

    @property
    def intensity(self) -> float:
        """MACs per byte."""
        return self.macs / self.bytes

    @property
    def achieved(self) -> float:
        """MACs per second."""
        return self.macs / self.seconds

    @property
    def attainable(self) -> float:
        """The roof above this layer, in MACs per second."""
        return self.roof.attainable(self.intensity)

    @property
    def bound(self) -> str:
        """Which limit is the lower one at this intensity: "memory" or "compute"."""
        return "memory" if self.intensity < self.roof.ridge else "compute"


@dataclass(frozen=True)
class Roofline:
    """What a machine can do at most: Williams et al. 2009, https://doi.org/10.1145/1498765.1498785.

    `peak_macs_per_s` is the best float32 matrix product, `bandwidth_bytes_per_s` the best copy of
    a tensor that no cache holds. A small tensor that stays in a cache may pass the slanted roof.
    """
    peak_macs_per_s: float
    bandwidth_bytes_per_s: float
    device: str
    threads: int

    @property
    def ridge(self) -> float:
        """MACs per byte at which a layer stops waiting for memory."""
        return self.peak_macs_per_s / self.bandwidth_bytes_per_s

    def attainable(self, intensity: float) -> float:
        """MACs per second that a layer of this intensity (MACs per byte) can reach."""
        return min(self.peak_macs_per_s, intensity * self.bandwidth_bytes_per_s)

    def place(self, model: nn.Module, x: Tensor, *, rounds: int = 10) -> list[RooflinePoint]:
        """Time every layer of `model` that multiplies, inside the running network, and set it under the roof."""
        layers = {layer.name: layer for layer in profile(model, tuple(x.shape[1:])).layers if layer.macs}
        seconds = _layer_seconds(model, x, set(layers), rounds, self.threads)
        batch, points = x.shape[0], []
        for name, layer in layers.items():
            moved = batch * (layer.input_bytes + layer.output_bytes) + layer.parameter_bytes
            points.append(RooflinePoint(name, layer.kind, batch * layer.macs, moved, seconds[name], self))
        return points

    def __repr__(self) -> str:
        return (f"Roofline of {self.device} with {counted(self.threads, 'thread')}: "
                f"{self.peak_macs_per_s / 1e9:.0f} GMAC/s, {self.bandwidth_bytes_per_s / 1e9:.1f} GB/s, "
                f"ridge at {self.ridge:.1f} MACs per byte")


def roofline(*, device: torch.device | str = "cpu", threads: int | None = None) -> Roofline:
    """Measure this machine: the fastest float32 matrix product and the fastest large copy of several tries.

    Takes about 2 s. `threads` sets PyTorch's CPU threads for the measurement only.
    """
    device = torch.device(device)
    with _threads(threads) as used, torch.inference_mode():
        peak = bandwidth = 0.0
        for side in (512, 1024, 2048):
            a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
            seconds = min(_seconds(lambda a=a, b=b: a @ b, device) for _ in range(8))
            peak = max(peak, side**3 / seconds)
        source = torch.ones(32 * 2**20, device=device)  # 128 MiB: larger than the caches
        target = torch.empty_like(source)
        seconds = min(_seconds(lambda: target.copy_(source), device) for _ in range(8))
        bandwidth = 2 * source.nbytes / seconds  # read once, written once
    return Roofline(peak, bandwidth, device_name(device), used)


def device_name(device: torch.device) -> str:
    """A name for people: the graphics card's own, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished what it was given; a CPU always has."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    function()
    synchronise(device)
    return time.perf_counter() - start


def _layer_seconds(model: nn.Module, x: Tensor, names: set[str], rounds: int, threads: int) -> dict[str, float]:
    started, times, handles = {}, {name: [] for name in names}, []

    def start(name: str):
        def hook(module, args):
            synchronise(x.device)
            started[name] = time.perf_counter()
        return hook

    def stop(name: str):
        def hook(module, args, output):
            synchronise(x.device)
            total[name] = total.get(name, 0.0) + time.perf_counter() - started[name]
        return hook

    for name, module in model.named_modules():
        if name in names:
            handles += [module.register_forward_pre_hook(start(name)), module.register_forward_hook(stop(name))]
    try:
        with _threads(threads), eval_mode(model), torch.inference_mode():
            for i in range(2 + rounds):  # two rounds of warm-up
                total: dict[str, float] = {}
                model(x)
                if i >= 2:
                    for name, seconds in total.items():
                        times[name].append(seconds)
    finally:
        for handle in handles:
            handle.remove()
    return {name: median(values) for name, values in times.items()}


@contextmanager
def _threads(count: int | None):
    """PyTorch's CPU threads inside the block; yields how many they are."""
    before = torch.get_num_threads()
    if count is not None and count < 1:
        raise ValueError(f"threads must be at least 1, got {count}; this machine has {os.cpu_count()} processors")
    torch.set_num_threads(count or before)
    try:
        yield count or before
    finally:
        torch.set_num_threads(before)


@contextmanager
def _all_in_eval_mode(models):
    whole = nn.ModuleList(models)
    with eval_mode(whole):
        yield
