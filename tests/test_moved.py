"""Old import paths lead to what has moved, and each room by chapters gathers its chapters."""
import importlib
import sys

import pytest

import lwcourse as lw
from lwcourse import checks, viz, widgets
from lwcourse.by_chapter import chapter_modules, public_names
from lwcourse.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_is_the_new_module(old, monkeypatch):
    monkeypatch.delitem(sys.modules, f"lwcourse.{old}", raising=False)
    new = importlib.import_module(f"lwcourse.{MOVED[old]}")
    with pytest.warns(DeprecationWarning, match=rf"lwcourse\.{old} has moved: import lwcourse\.{MOVED[old]}"):
        assert importlib.import_module(f"lwcourse.{old}") is new
    assert new.__spec__.name == f"lwcourse.{MOVED[old]}"


def test_nothing_else_is_found():
    with pytest.raises(ModuleNotFoundError, match=r"lwcourse\.models\.espnet_v9"):
        importlib.import_module("lwcourse.models.espnet_v9")
    with pytest.raises(ModuleNotFoundError, match="benchmark"):
        importlib.import_module("benchmark")


def test_old_names_of_networks_are_no_modules_of_their_own():
    assert lw.create_model("fast_scnn", 5).__class__.__module__ == "lwcourse.models.segmentation.fast_scnn"


@pytest.mark.parametrize("room", [viz.chapters, widgets])
def test_a_room_offers_what_its_chapters_list(room):
    offered = viz if room is viz.chapters else room
    for name, value in public_names(room).items():
        assert getattr(offered, name) is value and name in offered.__all__


def test_chapters_are_found_by_number():
    assert chapter_modules(checks)[:3] == ["ch00", "ch01", "ch02"]
    assert chapter_modules(widgets) == [*(f"ch{n:02d}" for n in range(9)), "ch14", "ch17"]


def test_two_chapters_cannot_offer_one_name(monkeypatch):
    monkeypatch.setattr(viz.chapters.ch03, "__all__", ["growth"])
    monkeypatch.setattr(viz.chapters.ch03, "growth", viz.growth, raising=False)
    with pytest.raises(ImportError, match=r"ch08 and .* both offer 'growth'"):
        public_names(viz.chapters)
