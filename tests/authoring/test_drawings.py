"""The drawings in figures/: up to date, true, and legible."""
import re
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch
from torch import nn

import lwcourse as lw
from lwcourse.authoring import drawings
from lwcourse.authoring.drawings import CHAPTERS, DRAWINGS, WRITTEN, connections
from lwcourse.layers import ChannelShuffle, SeparableConv, Shift
from lwcourse.viz import channel_connections


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with all drawings, made now."""
    folder = tmp_path_factory.mktemp("figures")
    assert drawings.draw_all(folder) == [folder / f"{name}.svg" for name in DRAWINGS]
    return folder


def words(svg):
    """The texts of a drawing: matplotlib writes each as a comment beside its outlines."""
    return re.findall(r"<!-- (.*?) -->", svg)


def matplotlib_version(svg):
    return re.search(r"Matplotlib v([\w.]+)", svg)[1]


def elements(svg):
    """Every element's tag with the numbers in its shape and place, without ids and file data."""
    found = []
    for element in ElementTree.fromstring(svg).iter():
        numbers = [float(number) for key in ("d", "transform", "x", "y", "width", "height")
                   for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", element.get(key, ""))]
        found.append((element.tag, re.sub(r"[\d.]+", "", element.get("d", "")), numbers, element.get("style")))
    return found


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_stored_drawing_is_what_the_code_draws(name, drawn, root):
    stored, fresh = ((folder / f"{name}.svg").read_text() for folder in (root / "figures", drawn))
    assert words(stored) == words(fresh), "run `python -m lwcourse figures`"
    assert len(words(fresh)) > 10
    if matplotlib_version(stored) != matplotlib_version(fresh):
        return  # another version outlines letters and orders elements in its own way
    for old, new in zip(elements(stored), elements(fresh), strict=True):
        assert old[:2] == new[:2] and old[3] == new[3]
        assert old[2] == pytest.approx(new[2], abs=0.02)


def test_no_other_drawing_is_stored(root):
    assert {path.stem for path in (root / "figures").glob("*.svg")} == set(DRAWINGS)


def test_a_second_run_changes_nothing_and_a_third_mends(drawn):
    before = {path: path.read_bytes() for path in drawn.iterdir()}
    assert drawings.draw_all(drawn) == []
    assert {path: path.read_bytes() for path in drawn.iterdir()} == before
    spoilt = drawn / "course_map.svg"
    spoilt.write_text("<svg/>")
    assert drawings.draw_all(drawn) == [spoilt]
    assert spoilt.read_bytes() == before[spoilt]


@pytest.mark.parametrize("name", DRAWINGS)
def test_words_are_apart_and_on_the_page(name):
    figure = DRAWINGS[name]()
    renderer = FigureCanvasAgg(figure).get_renderer()
    with matplotlib.rc_context({"text.hinting": "none"}):  # as in an SVG: no letter is moved to a pixel
        extents = {text: text.get_window_extent(renderer) for text in figure.axes[0].texts}
    page = figure.bbox.padded(-5)
    for text, extent in extents.items():
        assert page.x0 < extent.x0 and extent.x1 < page.x1 and page.y0 < extent.y0 and extent.y1 < page.y1, text
    for (first, a), (second, b) in combinations(extents.items(), 2):
        assert not a.padded(-0.5).overlaps(b.padded(-0.5)), f"{first} covers {second}"
    card, *frames = [patch.get_window_extent(renderer) for patch in figure.axes[0].patches
                     if isinstance(patch, FancyBboxPatch)]
    assert card.width > 0.99 * figure.bbox.width
    for text, extent in extents.items():
        for frame in frames:
            if frame.contains(extent.x0, (extent.y0 + extent.y1) / 2):
                assert extent.x1 < frame.x1 - 1, f"{text} leaves its box"
    assert len(figure.alt) > 100 and figure.alt.endswith(".")


@pytest.mark.parametrize("module", [
    nn.Conv2d(9, 9, 3, padding=1), nn.Conv2d(9, 9, 1), nn.Conv2d(9, 9, 3, padding=1, groups=3),
    nn.Conv2d(9, 9, 3, padding=1, groups=9), SeparableConv(9, 9), ChannelShuffle(3), Shift(9)])
def test_connections_agree_with_trying_it_out(module):
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)  # drawn at import, they could leave a channel dead behind its ReLU
    expected = channel_connections(module, 9)
    assert torch.equal(connections(module.eval(), 9).flatten(2).any(2), expected)


def test_connections_in_space():
    read = connections(nn.Conv2d(2, 2, 3, padding=2, dilation=2, groups=2), 2)
    assert read[0, 0].nonzero().tolist() == [[i, j] for i in (1, 3, 5) for j in (1, 3, 5)]
    assert not read[0, 1].any()
    shifted = connections(Shift(9), 9)
    assert shifted.flatten(1).sum(1).tolist() == [1] * 9
    assert len({tuple(pixel) for pixel in shifted.any(1).nonzero()[:, 1:].tolist()}) == 9


def test_the_facts_in_the_drawings():
    zoo = drawings.conv_zoo().alt
    for fact in ("standard 3×3: each output reads 9 pixels of 9 channels, 729 weights",
                 "grouped 3×3, 3 groups: each output reads 9 pixels of 3 channels, 243 weights",
                 "depthwise-separable 3×3: each output reads 9 pixels of 9 channels, 162 weights",
                 "shift: each output reads 1 pixel of 1 channel, another one in each, 0 weights"):
        assert fact in zoo
    assert "324 weights" in drawings.depthwise_separable().alt and "90 weights" in drawings.depthwise_separable().alt


def test_the_hero_draws_no_network_that_is_not_proved(monkeypatch):
    create = lw.create_model
    monkeypatch.setattr(lw, "create_model", lambda name: create(name, width=0.75))
    with pytest.raises(RuntimeError, match="differs from torchvision's"):
        drawings.hero()


def test_the_map_is_in_order_and_knows_what_is_written(root):
    numbers = [chapter.number for chapter in CHAPTERS]
    place = {chapter.number: (chapter.column, chapter.row) for chapter in CHAPTERS}
    assert numbers == sorted(set(numbers)) and all(re.fullmatch(r"\d\d", number) for number in numbers)
    for chapter in CHAPTERS:
        assert all(place[need] < place[chapter.number] for need in chapter.needs), "arrows lead down, or to the right"
        assert all(chapter.number not in WRITTEN or need in WRITTEN for need in chapter.needs)
    assert len({(chapter.column, chapter.row) for chapter in CHAPTERS}) == len(CHAPTERS)
    assert {path.name[:2] for path in (root / "notebooks").glob("[0-9][0-9]_*.ipynb")} <= set(WRITTEN)
    planned = drawings.course_map().alt
    assert planned.count("(planned)") == len(CHAPTERS) - len(WRITTEN) and "11 HRNet after 07 (planned)" in planned
