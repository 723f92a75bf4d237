"""`lw.measure_latency` and `lw.roofline`: what they run, restore and compute. No test asserts a time."""
import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.latency import Latencies, Latency, Roofline


class Spy(nn.Module):
    def __init__(self, name: str, log: list):
        super().__init__()
        self.name, self.log = name, log
        self.dropout = nn.Dropout()

    def forward(self, x):
        self.log.append((self.name, self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()))
        return x


def test_rounds_are_interleaved_and_start_with_each_model_in_turn():
    log = []
    lw.measure_latency({name: Spy(name, log) for name in "abc"}, torch.zeros(1), rounds=3, warmup=1)
    assert "".join(name for name, *_ in log) == "abc" "bca" "cab" "abc"


def test_models_run_in_eval_and_inference_mode_and_are_restored():
    log, threads = [], torch.get_num_threads()
    spy = Spy("a", log).train()
    latencies = lw.measure_latency(spy, torch.zeros(2, 3), rounds=4, warmup=0, threads=1)
    assert {entry[1:] for entry in log} == {(False, True, 1)}
    assert spy.training and spy.dropout.training and torch.get_num_threads() == threads
    assert latencies.threads == 1 and latencies.device == "cpu" and latencies.input_shape == (2, 3)
    assert len(latencies["model"].times) == 4


def test_median_quartiles_and_ratio():
    a, b = Latency((4.0, 1.0, 3.0, 2.0, 5.0)), Latency((2.0, 1.0, 1.0, 1.0, 2.0))
    assert (a.median, a.q1, a.q3) == (3.0, 2.0, 4.0)
    both = Latencies({"a": a, "b": b}, (1, 3, 8, 8), "cpu", 2)
    assert both.ratio("a", "b") == 2.0  # median of 2, 1, 3, 2, 2.5, not 3 / 1
    assert "3000.00 ms" in str(both) and "2 threads" in str(both) and "0.50" in both._repr_html_()


@pytest.mark.parametrize(("arguments", "words"), [
    ({"models": {}}, "no model to measure"),
    ({"rounds": 1}, "rounds must be at least 2"),
    ({"threads": 0}, "threads must be at least 1, got 0"),
])
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        lw.measure_latency(**{"models": nn.Identity(), "x": torch.zeros(1)} | arguments)


def test_a_model_on_another_device_is_named():
    with pytest.raises(ValueError, match="model 'far' is on meta, but x is on cpu"):
        lw.measure_latency({"far": nn.Linear(2, 2, device="meta")}, torch.zeros(1, 2))


def test_the_roof():
    roof = Roofline(peak_macs_per_s=100e9, bandwidth_bytes_per_s=10e9, device="cpu", threads=2)
    assert roof.ridge == 10.0
    assert roof.attainable(4.0) == 40e9 and roof.attainable(50.0) == 100e9


def test_layers_are_placed_by_what_they_cost():
    roof = Roofline(peak_macs_per_s=100e9, bandwidth_bytes_per_s=10e9, device="cpu", threads=1)
    network = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), nn.ReLU(),
                            nn.Conv2d(64, 128, 3, padding=1, bias=False)).train()
    depthwise, dense = roof.place(network, torch.randn(2, 64, 14, 14), rounds=2)
    assert (depthwise.name, dense.name) == ("0", "2") and network.training
    assert depthwise.macs == 2 * 14 * 14 * 64 * 9
    assert depthwise.bytes == 4 * (2 * 2 * 64 * 14 * 14 + 64 * 9)
    assert depthwise.intensity == depthwise.macs / depthwise.bytes
    assert (depthwise.bound, dense.bound) == ("memory", "compute")
    assert depthwise.attainable == depthwise.intensity * 10e9 and dense.attainable == 100e9
    assert depthwise.achieved == depthwise.macs / depthwise.seconds > 0
    assert not network[0]._forward_hooks


def test_the_machine_is_measured():
    roof = lw.roofline(threads=1)
    assert roof.peak_macs_per_s > 1e8 and roof.bandwidth_bytes_per_s > 1e8
    assert roof.threads == 1 and "GMAC/s" in repr(roof)
