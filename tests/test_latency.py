"""`lw.measure_latency`: what it runs, restores and computes. No test asserts a time."""
import os

import numpy as np
import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.latency import Latencies, Latency


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


NET, X = nn.Conv2d(3, 4, 3), torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"models": {}}, "no model to measure"),
    ({"x": X[:0]}, "x must hold at least one image, got shape \\(0, 3, 8, 8\\)"),
    ({"x": X[..., :0]}, "at least one image"),
    ({"models": nn.Conv2d(3, 4, 3, device="meta"), "x": X.to("meta")}, "shapes but no numbers"),
    ({"models": nn.LazyConv2d(4, 3)}, "lazy layers without shapes yet: run it once"),
    *(({"rounds": rounds}, "rounds must be a whole number of at least 2, got") for rounds in
      (1, 0, -1, 2.5, "20", float("nan"), None, True, [2])),
    *(({"warmup": warmup}, "warmup must be a whole number of at least 0, got")
      for warmup in (-1, 0.5, "1", None, True)),
    *(({"threads": threads}, "threads must be a whole number from 1 to .* processors.*, got") for threads in
      (0, -4, "2", 1.5, True, float("nan"), 100_000, 4 * os.cpu_count() + 1)),
])
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        lw.measure_latency(**{"models": NET, "x": X, "rounds": 2, "warmup": 0} | arguments)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"models": None}, "a dict from a name to a network.*got NoneType"), ({"models": [NET]}, "got list"),
    ({"models": "mobilenet_v2"}, "got str"), ({"models": nn.ReLU}, "got type"),
    ({"models": {"a": None}}, "model 'a' must be an nn.Module, got NoneType"),
    ({"models": {"a": NET, "b": nn.Linear}}, "model 'b' must be an nn.Module, got the class Linear; build it first"),
    ({"x": None}, "x must be a tensor .* got NoneType"), ({"x": (1, 3, 8, 8)}, "got tuple"),
    ({"x": X.numpy()}, "got ndarray; torch.from_numpy"),
])
def test_what_is_no_network_or_tensor_is_refused(arguments, words):
    with pytest.raises(TypeError, match=words):
        lw.measure_latency(**{"models": NET, "x": X} | arguments)


def test_numpys_numbers_and_any_name_will_do():
    latencies = lw.measure_latency({1: NET}, X, rounds=np.int64(2), warmup=np.int8(0), threads=np.int64(1))
    assert list(latencies) == ["1"] and len(latencies["1"].times) == 2 and "1" in str(latencies)


def test_buffers_and_random_numbers_are_left_as_they_were():
    class Draws(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return x + torch.rand(1)

    network, state = Draws(), torch.get_rng_state()
    lw.measure_latency(network, X, rounds=2, warmup=0)
    assert network.calls == 0 and torch.equal(state, torch.get_rng_state())


def test_an_exported_network_is_timed_in_the_mode_that_it_has():
    exported = torch.export.export(NET.eval(), (X,)).module()
    assert len(lw.measure_latency({"exported": exported, "plain": NET.train()}, X, rounds=2, warmup=0)) == 2
    assert NET.training


def test_a_model_on_another_device_is_named():
    with pytest.raises(ValueError, match="model 'far' is on meta, but x is on cpu"):
        lw.measure_latency({"far": nn.Linear(2, 2, device="meta")}, torch.zeros(1, 2))
