"""Names, cards and the package's front door."""
import subprocess
import sys

import pytest

import lwcourse as lw
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


def test_everything_in_the_public_list_exists():
    assert [name for name in lw.__all__ if not hasattr(lw, name)] == []
    assert set(lw.__all__) <= set(dir(lw))


def test_import_is_light():
    heavy = ["torchvision", "sklearn", "matplotlib", "ipywidgets", "tqdm", "timm", "IPython"]
    code = ("import sys, torch; before = set(sys.modules); import lwcourse; "
            f"print([name for name in {heavy} if name in set(sys.modules) - before])")
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert loaded == "[]"
