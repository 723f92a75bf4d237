"""The examples in the README of light_cnns (version 0.4), with only the import changed."""
import importlib
import json

import pytest
import torch

import lwcourse as lw

CLASSIFIERS = [
    "resnet50_v1b", "mbv1", "mbv2", "mbv3_small", "mbv3_large", "mobilenext", "shufflenetv1", "shufflenetv2",
    "resnet20", "ghostnet", "mbv2_ca", "mbv2_eca", "resnest50_v1b", "mbv2_sa", "mbv2_triplet", "lcnet_baseline",
    "mobilevit_s", "googlenet", "inception_v2", "inception_v3", "inception_v4", "xception", "espnetv2"]


def run_example(name: str, **options) -> torch.Tensor:
    module = importlib.import_module("lwcourse")
    model = getattr(module, name)(**options)
    model.eval()
    assert len(str(model)) > 100  # they print it
    with torch.no_grad():
        return model(torch.randn(1, 3, 224, 224))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_example(name):
    assert run_example(name).shape == (1, 1000)


def test_example_of_inception_convolution(tmp_path):
    network = lw.ic_resnet50()
    channels = [module.out_channels for module in network.modules() if type(module).__name__ == "InceptionConv"]
    pattern = tmp_path / "ic_resnet50_k9.json"
    pattern.write_text(json.dumps([{"(0, 0)": count // 2, "(1, 3)": count - count // 2} for count in channels]))
    assert run_example("ic_resnet50", pattern_path=str(pattern)).shape == (1, 1000)


def test_example_of_espnet():
    assert run_example("espnetv1").shape == (1, 20, 224, 224)
