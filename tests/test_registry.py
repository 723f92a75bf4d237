"""Names, cards and the package's front door."""
import subprocess
import sys
from inspect import signature

import numpy as np
import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse import registry
from lwcourse.__main__ import main
from lwcourse.authoring.readme import networks_table
from lwcourse.registry import ModelCard, register


def test_names_are_sorted_and_by_family():
    assert lw.list_models() == sorted(lw.list_models())
    assert lw.list_models("MobileNetV3") == ["mobilenet_v3_large", "mobilenet_v3_small"]
    with pytest.raises(ValueError, match="no family 'Mobile'.*MobileNetV3"):
        lw.list_models("Mobile")


def test_an_unknown_model_gets_close_matches():
    with pytest.raises(ValueError, match="there is no model 'mobilnet_v2'; did you mean 'mobilenet_v2'"):
        lw.create_model("mobilnet_v2")
    with pytest.raises(ValueError, match="has them all"):
        lw.model_card("zzzzzzzzzz")
    with pytest.raises(TypeError, match="a model name is a string.*got int"):
        lw.create_model(2)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="widht"):
        lw.create_model("mobilenet_v2", widht=0.5)


@pytest.mark.parametrize("name", lw.list_models())
def test_a_network_is_built_without_memory(name):
    with torch.device("meta"):
        network = lw.create_model(name)
    assert {tensor.device.type for tensor in [*network.parameters(), *network.buffers()]} == {"meta"}


def test_numbers_of_numpy_are_numbers():
    plain = lw.create_model("mobilenet_v2", 10, in_channels=1, width=0.5)
    network = lw.create_model("mobilenet_v2", np.int64(10), in_channels=np.uint8(1), width=np.float32(0.5))
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in plain.state_dict().items()}
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("value", [0, -3, 10.0, "10", True, np.bool_(True), float("nan"), (10,), torch.tensor(10)])
@pytest.mark.parametrize("option", ["num_classes", "in_channels"])
def test_what_is_no_positive_integer_is_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must be a positive integer, got ") as error:
        lw.create_model("mobilenet_v2", **{option: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(("options", "words"), [
    ({"width": True}, "width must be a positive number such as 0.5 or 1.0, got True"),
    ({"width": float("nan")}, "width must be a positive number .* got nan"),
    ({"width": "1.0"}, "width must be a positive number .* got '1.0'"),
    ({"width": None}, "width must be a positive number .* got None"),
    ({"width": 1e-9}, "width multiplies .* from 0.01 to 16, got 1e-09"),
    ({"width": 1e6}, "width multiplies .* the weights by its square: it must be from 0.01 to 16, got 1000000.0"),
    ({"num_classes": 10**9}, "num_classes must be at most 1,000,000, got 1000000000"),
    ({"in_channels": 10**9}, "in_channels must be at most 10,000, got 1000000000")])
def test_what_is_too_large_or_small_is_refused_before_it_takes_memory(options, words):
    with pytest.raises(ValueError, match=words):
        lw.create_model("ghostnet", **options)


FLAGS = [(name, option.name) for name in lw.list_models()
         for option in signature(registry.factory(name)).parameters.values() if isinstance(option.default, bool)]


@pytest.mark.parametrize(("name", "flag"), FLAGS)
@pytest.mark.parametrize("value", ["no", "", 0, 1, None, 1.0, [True]])
def test_a_flag_is_true_or_false(name, flag, value):
    with torch.device("meta"), pytest.raises(ValueError, match=f"{flag} must be True or False, got ") as error:
        lw.create_model(name, **{flag: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(("name", "option", "values"), [
    ("condensenet", "groups", [True, 2.0, "2", None]), ("shufflenet_v1", "groups", [True, 2.0, "2", None]),
    ("mobilenet_v2_sa", "groups", [True, 2.0, "2", None]), ("levit_128s", "image_size", [True, 10**9]),
    ("mobilenet_v2_triplet", "kernel_size", [True, 3.0, "3", None, 10**9 + 1]),
    ("espnet_c", "p", [True, 2.0, "2", None, 10**9]), ("espnet_v1", "q", [True, 10**9]),
    ("convnext_tiny", "drop_rate", [True, "0", None]), ("inception_resnet_v2", "scale", [True, "0.1"]),
    ("shufflenet_v2_oneshot", "architecture", [3, None, [1] * 20, [(0, "1")] * 20])])
def test_an_option_of_another_kind_is_named(name, option, values):
    for value in values:
        with torch.device("meta"), pytest.raises(ValueError, match=f"{option}|a choice"):
            lw.create_model(name, **{option: value})


def test_a_name_is_registered_once():
    def mobilenet_v2():
        """Another function of that name."""
    with pytest.raises(ValueError, match="'mobilenet_v2' is registered already"):
        register(lw.model_card("mobilenet_v2"))(mobilenet_v2)

    def brand_new():
        """A new name with an alias that is taken."""
    with pytest.raises(ValueError, match="'mbv2' is registered already, for 'mobilenet_v2'"):
        register(lw.model_card("mobilenet_v2"), aliases=("mbv2",))(brand_new)
    assert "brand_new" not in lw.list_models()


def test_cards_know_their_name_and_paper():
    card = lw.model_card("mbv3_small")
    assert isinstance(card, ModelCard)
    assert card.name == "mobilenet_v3_small" and card.url == "https://arxiv.org/abs/1905.02244"


def test_names_of_light_cnns_import():
    from lwcourse import mbv1, mbv2, mbv3_large, mbv3_small
    assert [f.__name__ for f in (mbv1, mbv2, mbv3_large, mbv3_small)] == [
        "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]
    with pytest.raises(ImportError):
        from lwcourse import no_such_network  # noqa: F401


@pytest.fixture
def preset(monkeypatch):
    """A network `tiny` whose alias `tiny2` presets two arguments, and whose alias `tiny1` presets none."""
    for name in ("_factories", "_presets", "_cards", "_aliases"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))

    def tiny(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0, groups: int = 1) -> nn.Module:
        """A convolution."""
        return nn.Conv2d(in_channels, int(num_classes * width), 1, groups=groups)
    yield register(lw.model_card("mobilenet_v2"), aliases={"tiny2": {"width": 2.0, "groups": 3}, "tiny1": {}})(tiny)
    for name in ("tiny", "tiny1", "tiny2"):  # lwcourse remembers names that were used
        vars(lw).pop(name, None)


def test_an_alias_may_preset_arguments(preset):
    assert lw.tiny1 is preset and lw.tiny is preset
    for built in (lw.create_model("tiny2", 6), lw.tiny2(6), lw.tiny2(num_classes=6, in_channels=3)):
        assert (built.out_channels, built.groups) == (12, 3)
    assert lw.create_model("tiny2", 6, 9).in_channels == 9
    assert lw.tiny2 is lw.registry.factory("tiny2") and lw.tiny2.__name__ == "tiny2" and "conv" in lw.tiny2.__doc__
    defaults = {key: option.default for key, option in signature(lw.tiny2).parameters.items()}
    assert defaults == {"num_classes": 1000, "in_channels": 3, "width": 2.0, "groups": 3}


def test_the_callers_arguments_win_over_an_alias(preset):
    built = lw.create_model("tiny2", 6, groups=1)
    assert (built.out_channels, built.groups) == (12, 1)
    assert lw.tiny2(6, width=1.0).out_channels == 6
    assert lw.create_model("tiny2", 6).groups == 3  # that call left nothing behind


def test_an_alias_with_presets_reads_as_one(preset, capsys, tmp_path):
    card = lw.model_card("tiny2")
    assert card == lw.model_card("tiny") and card.name == "tiny" and list(card.aliases) == ["tiny2", "tiny1"]
    assert registry.aliases()["tiny2"] == registry.aliases()["tiny1"] == "tiny"
    assert "tiny2" not in lw.list_models() and {"tiny", "tiny2"} <= set(dir(lw))
    assert main(["show", "tiny2"]) == 0
    assert capsys.readouterr().out.startswith("tiny = tiny2 (width=2.0, groups=3) = tiny1\n")
    assert main(["list"]) == 0
    assert "tiny2 (width=2.0, groups=3), tiny1" in capsys.readouterr().out
    assert "| `tiny`, `tiny2 (width=2.0, groups=3)`, `tiny1` |" in networks_table(tmp_path)


def test_everything_in_the_public_list_exists():
    assert [name for name in lw.__all__ if not hasattr(lw, name)] == []
    assert set(lw.__all__) <= set(dir(lw))


def test_import_is_light():
    heavy = ["torchvision", "sklearn", "matplotlib", "ipywidgets", "tqdm", "timm", "IPython"]
    code = ("import sys, torch; before = set(sys.modules); import lwcourse; "
            f"print([name for name in {heavy} if name in set(sys.modules) - before])")
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert loaded == "[]"
