"""Small networks that ship trained: each file holds what it says, and training one anew writes such a file."""
import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

import lwcourse as lw
from lwcourse import learned
from lwcourse.learned import Learned, find_learned, learn, learned_networks, load_learned


@pytest.mark.parametrize("name", learned_networks())
def test_a_network_is_as_good_as_its_record_says(name):
    one, model = find_learned(name), load_learned(name)
    record = model.record
    assert not model.training and one.path.stat().st_size <= 1.05 * learned.MAX_BYTES
    assert record["score"] >= one.least
    assert (record["data"], record["loading"]) == (one.data, one.loading), "train it anew"
    assert record["settings"] == learned.settings_of(one), "train it anew"
    found = lw.evaluate(model, lw.load_data(one.data, **one.loading))
    assert getattr(found, record["metric"]) == pytest.approx(record["score"], abs=0.01)


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))


@pytest.fixture
def small(monkeypatch, tmp_path):
    """One network that is quick to train, whose file goes elsewhere."""
    one = Learned(name="99.linear", build=linear, data="digits", loading={"image_size": 8}, least=0.5,
                  settings={"epochs": 2, "seed": 3})
    monkeypatch.setattr(learned, "learned_networks", lambda: {one.name: one})
    monkeypatch.setattr(Learned, "path", property(lambda self: tmp_path / "files" / f"{self.name}.safetensors"))
    return one


def test_learning_writes_what_loading_reads(small):
    record = learn("99.linear", progress=False)
    state = torch.random.get_rng_state()
    model = load_learned("99.linear")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.record == record and record["score"] > 0.5 and record["metric"] == "accuracy"
    found = lw.evaluate(model, lw.load_data("digits", image_size=8))
    assert found.accuracy == pytest.approx(record["score"])
    with safe_open(small.path, framework="pt") as file:
        assert json.loads(file.metadata()["record"])["settings"] == {"epochs": 2, "seed": 3}
    before = small.path.read_bytes()
    learn("99.linear", progress=False)
    assert small.path.read_bytes() == before


def test_too_weak_or_too_large_a_network_is_not_written(small):
    object.__setattr__(small, "least", 0.999)
    with pytest.raises(ValueError, match=r"reached a test accuracy of 0\.\d+, and 0.999 is wanted"):
        learn("99.linear", progress=False)
    object.__setattr__(small, "least", 0.1)
    object.__setattr__(small, "build", lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 2000), nn.Linear(2000, 10)))
    with pytest.raises(ValueError, match="bytes of weights, 300,000 at most"):
        learn("99.linear", progress=False)
    assert not small.path.exists()


def test_unknown_name(small):
    with pytest.raises(ValueError, match="did you mean '99.linear'"):
        load_learned("99.linea")
    with pytest.raises(ValueError, match="there are 99.linear"):
        load_learned("xyz")
