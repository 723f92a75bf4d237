"""`python -m lwcourse verify`: it passes what is right, and names each thing that can be wrong."""
from dataclasses import replace

import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse import references, registry, verify
from lwcourse.__main__ import main
from lwcourse.references import Reference, builders


def lines(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_what_is_right_passes(capsys):
    assert main(["verify", "mbv3_small", "mobilenext"]) == 0
    out = lines(capsys)
    assert out[-1] == "2 networks, 4 comparisons, 0 with a problem"
    assert [line.split()[0] for line in out[2:-1]] == ["mobilenet_v3_small"] * 3 + ["mobilenext"]
    assert "2,542,856" in out[2] and "56,510,400" in out[2] and "2.5 / 56" in out[2]


def test_wrong_card_is_a_problem(monkeypatch, capsys):
    card = lw.model_card("mobilenext")
    monkeypatch.setitem(registry._cards, "mobilenext", replace(card, counted_macs=card.counted_macs + 1))
    assert main(["verify", "mobilenext"]) == 1
    out = lines(capsys)
    assert "are not the card's (3535416, 311342593, 0)" in out[2]
    assert out[-1] == "1 network, 1 comparison, 1 with a problem"


def small_reference(monkeypatch, build) -> None:
    monkeypatch.setitem(references.REFERENCES, "mobilenet_v3_small", [Reference("a peer", {}, build)])


def test_other_output_is_a_problem(monkeypatch, capsys):
    def build(num_classes: int) -> nn.Module:
        network = builders.torchvision_model("mobilenet_v3_small")(num_classes)
        network.features[1].block[0][2] = nn.ReLU6()  # in place of ReLU
        network.features[0][1].eps = 2e-3
        return network

    small_reference(monkeypatch, build)
    assert main(["verify", "mobilenet_v3_small"]) == 1
    assert "the outputs differ" in lines(capsys)[2]


def test_other_layers_are_a_problem(monkeypatch, capsys):
    small_reference(monkeypatch, builders.torchvision_model("mobilenet_v3_large"))
    assert main(["verify", "mobilenet_v3_small"]) == 1
    assert "cannot be copied" in lines(capsys)[2]


def test_missing_package_is_a_problem(monkeypatch, capsys):
    def build(num_classes: int) -> nn.Module:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    small_reference(monkeypatch, build)
    assert main(["verify", "mobilenet_v3_small"]) == 1
    assert "not compared: timm is not installed" in lines(capsys)[2]


def test_stored_output_of_other_layers_is_a_problem(monkeypatch):
    monkeypatch.setitem(references.GOLDEN, "mobilenet_v2", {"mobilenext_w1.0": {}})
    with pytest.raises(ValueError, match="layer 10 of mobilenet_v2 is Conv2d .*, in the official code"):
        verify.golden_error("mobilenet_v2", "mobilenext_w1.0")


def test_shapes_that_differ_are_no_error_of_zero():
    with pytest.raises(ValueError, match=r"shapes \(1, 2\) and \(1, 3\)"):
        verify.relative_error(torch.zeros(1, 2), torch.zeros(1, 3))


def test_unknown_network(capsys):
    assert main(["verify", "mobilenet_v9"]) == 2
    assert "did you mean" in capsys.readouterr().err
