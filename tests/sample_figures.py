"""Data to draw, and one figure of each kind, that the tests of `lwcourse.viz` share."""
from functools import cache

import torch
from torch import nn

import lwcourse as lw
from lwcourse import viz
from lwcourse.latency import Latencies, Latency, Roofline, RooflinePoint
from lwcourse.layers import ConvBNAct
from lwcourse.profile import Profile
from lwcourse.train import Epoch, History

ROOF = Roofline(peak_macs_per_s=80e9, bandwidth_bytes_per_s=10e9, device="cpu", threads=2)  # ridge at 8 MACs per byte
LATENCIES = Latencies({"wide": Latency((0.004, 0.005, 0.006, 0.007, 0.008)), "narrow": Latency((0.001, 0.001, 0.003))},
                      (1, 3, 8, 8), "cpu", 2)
FRONT = {"small": (44, 65.4), "good": (155, 73.3), "beaten": (325, 68.4), "large": (219, 75.2), "worse": (300, 72.0)}


@cache
def mobilenet() -> Profile:
    return lw.profile(lw.create_model("mobilenet_v2"))


@cache
def slim() -> Profile:
    return lw.profile(lw.create_model("mobilenet_v2", width=0.5), (3, 160, 160))


@cache
def blocks() -> dict[str, Profile]:
    dense = ConvBNAct(16, 16, 3)
    separable = nn.Sequential(ConvBNAct(16, 16, 3, groups=16), ConvBNAct(16, 16, 1))
    return {"standard": lw.profile(dense, (16, 8, 8)), "separable": lw.profile(separable, (16, 8, 8))}


def history(accuracies: list[float]) -> History:
    return History({}, [Epoch(i + 1, {"loss": 2.0 / (i + 1), "accuracy": a / 2}, {"loss": 1.0 - a, "accuracy": a}, 0.1,
                              1.0) for i, a in enumerate(accuracies)])


def point(name: str, kind: str, intensity: float, share: float, seconds: float = 1e-3) -> RooflinePoint:
    """A layer that reaches `share` of the roof."""
    macs = int(share * ROOF.attainable(intensity) * seconds)
    return RooflinePoint(name, kind, macs, round(macs / intensity), seconds, ROOF)


POINTS = [point("a", "depthwise", 0.5, 0.9, 4e-3), point("b", "1x1", 5.0, 0.5, 1e-3),
          point("c", "1x1", 20.0, 0.8, 15e-3)]


def spiral(count: int = 60) -> torch.Tensor:
    t = torch.linspace(0, 1, count)
    return torch.stack([t * torch.cos(12 * t), t * torch.sin(12 * t)], dim=1)


def draw(name: str) -> viz.Figure:
    torch.manual_seed(0)
    maps = torch.randn(1, 20, 8, 10)
    return {
        "cost_bars": lambda: viz.cost_bars(blocks()),
        "cost_bars, log": lambda: viz.cost_bars(blocks(), log=True, title="On a logarithmic axis"),
        "cost_bars, one": lambda: viz.cost_bars({"m": mobilenet()}, metrics="peak_activation_bytes"),
        "cost_layers": lambda: viz.cost_layers(mobilenet(), highlight="blocks.3.expand.conv"),
        "cost_layers, stages": lambda: viz.cost_layers(mobilenet(), by_stage=True, metrics=("macs",)),
        "shape_flow": lambda: viz.shape_flow(mobilenet()),
        "shape_flow, reference": lambda: viz.shape_flow(slim(), reference=mobilenet(), title="Half as wide"),
        "width_scaling": lambda: viz.width_scaling(slim(), mobilenet(), {0.5: slim(), 1.0: mobilenet()},
                                                   published={"width 1": (300e6, 3.4e6)}, title="Half as wide"),
        "pareto": lambda: viz.pareto(FRONT, groups={name: name[0] for name in FRONT}, title="A trade-off"),
        "pareto, log": lambda: viz.pareto(FRONT, log=True),
        "pareto, one": lambda: viz.pareto({"alone": (1.0, 2.0)}),
        "latency_bars": lambda: viz.latency_bars(LATENCIES),
        "latency_bars, macs": lambda: viz.latency_bars(LATENCIES, macs={"wide": 3_000_000, "narrow": mobilenet()}),
        "roofline": lambda: viz.roofline(ROOF, POINTS, title="Three layers"),
        "roofline, two": lambda: viz.roofline(ROOF, {"mine": POINTS, "other": POINTS[:2]}),
        "ranks": lambda: viz.ranks({"parameters": {"alexnet": 61e6, "resnet18": 12e6, "squeezenet1_1": 1e6},
                                    "latency": {"resnet18": 0.14, "alexnet": 0.09, "squeezenet1_1": 0.09}}, title="A"),
        "training_curves": lambda: viz.training_curves(
            {"mobilenet_v3_large": [history([0.5, 0.7]), history([0.6, 0.9])], "mobilenet_v3_small": history([0.3]),
             "mobilenext": history([0.4, 0.5])}, title="Three networks"),
        "error_bars": lambda: viz.error_bars({"mobilenet": [0.91, 0.93, 0.95], "other": [0.90]}),
        "activation_functions": lambda: viz.activation_functions({"ReLU": nn.ReLU(inplace=True), "swish": nn.SiLU()}),
        "curves_2d": lambda: viz.curves_2d({"input": spiral(), "a": -spiral(), "b": 2 * spiral(), "c": spiral()},
                                           reference=spiral(), title="Curves"),
        "confusion": lambda: viz.confusion(torch.eye(10) * 30 + 1),
        "confusion, names": lambda: viz.confusion(torch.eye(45), [f"class {i}" for i in range(45)]),
        "image": lambda: viz.image(torch.rand(3, 40, 60), "Noise"),
        "images": lambda: viz.images(torch.rand(7, 1, 8, 8), [f"digit {i}" for i in range(7)]),
        "feature_maps": lambda: viz.feature_maps(maps, title="Signed"),
        "feature_maps, relu": lambda: viz.feature_maps(maps[0].relu(), count=3),
        "kernels, depthwise": lambda: viz.kernels(nn.Conv2d(12, 12, 3, groups=12).weight, title="Depthwise"),
        "kernels, dense": lambda: viz.kernels(nn.Conv2d(3, 16, 3).weight),
        "kernels, 1x1": lambda: viz.kernels(nn.Conv2d(8, 24, 1).weight, title="Pointwise"),
        "receptive_field": lambda: viz.receptive_field(nn.Conv2d(3, 4, 5, padding=2), (3, 20, 24), samples=2),
        "connectivity": lambda: viz.connectivity(nn.Conv2d(8, 4, 3, padding=1, groups=4), 8, pixels=True, title="Four"),
        "connectivity, one": lambda: viz.connectivity(nn.Conv2d(1, 40, 1), 1),
    }[name]()


FIGURES = [
    "cost_bars", "cost_bars, log", "cost_bars, one", "cost_layers", "cost_layers, stages", "shape_flow",
    "shape_flow, reference", "width_scaling", "pareto", "pareto, log", "pareto, one", "latency_bars",
    "latency_bars, macs", "roofline", "roofline, two", "ranks", "training_curves", "error_bars",
    "activation_functions",
    "curves_2d", "confusion", "confusion, names", "image", "images", "feature_maps", "feature_maps, relu",
    "kernels, depthwise", "kernels, dense", "kernels, 1x1", "receptive_field", "connectivity", "connectivity, one",
]
drawn = cache(draw)
