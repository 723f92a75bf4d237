"""How long networks take on this machine; what its arithmetic and its memory allow is in `roofline.py`.

Times are medians of interleaved rounds: in each round every model runs once, so that a machine
whose speed drifts is unfair to none. Compare ratios of one run; absolute times belong to the
machine, its threads and the moment.
"""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from torch import Tensor, nn

from lwcourse.roofline import Roofline, RooflinePoint, RooflinePoints, roofline
from lwcourse.running import check_images, cpu_threads, device_name, refuse_lazy, seconds_of, unchanged, whole_number
from lwcourse.tables import counted, html_table, text_table

__all__ = ["Latencies", "Latency", "Roofline", "RooflinePoint", "RooflinePoints", "measure_latency", "roofline"]


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
    only, at most four for each processor. Models, their buffers, `x` and the random generators stay
    as they are. Raises ValueError when there is nothing to measure (no model, an empty `x`, tensors
    on the meta device), a number is out of its range, or a model and `x` are on different devices;
    TypeError when something is no nn.Module or no tensor.
    """
    models = _named(models)
    rounds, warmup = whole_number("rounds", rounds, 2), whole_number("warmup", warmup, 0)
    check_images(models, x)
    names, times = list(models), {name: [] for name in models}
    with cpu_threads(threads) as used, unchanged(models.values(), x.device), torch.inference_mode():
        for i in range(warmup + rounds):
            turn = i % len(names)
            for name in names[turn:] + names[:turn]:
                seconds = seconds_of(lambda name=name: models[name](x), x.device)
                if i >= warmup:
                    times[name].append(seconds)
    return Latencies({name: Latency(tuple(values)) for name, values in times.items()}, tuple(x.shape),
                     device_name(x.device), used)


def _named(models: nn.Module | Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    if isinstance(models, nn.Module) and not isinstance(models, nn.ModuleDict):
        models = {"model": models}
    if not isinstance(models, Mapping | nn.ModuleDict):
        raise TypeError("models must be a network, or a dict from a name to a network, such as {'mine': network}; "
                        f"got {type(models).__name__}")
    if not models:
        raise ValueError("there is no model to measure: models is empty")
    for name, model in models.items():
        if not isinstance(model, nn.Module):
            kind = f"the class {model.__name__}; build it first" if isinstance(model, type) else type(model).__name__
            raise TypeError(f"model {name!r} must be an nn.Module, got {kind}")
        refuse_lazy(model, "measure_latency")
    return {str(name): model for name, model in models.items()}
