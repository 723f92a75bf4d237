"""viz.best_classes: names, bars and frame are what was given; the opening of chapter 00 names what it says, offline."""
import ast
import base64
import re
import socket
from itertools import combinations

import pytest
import torch

from lwcourse import viz
from lwcourse.authoring.files import read_notebook

CLASSES = ("cup", "cat", "tripod", "palace")
PHOTOS = {"one": torch.rand(3, 40, 60), "two": torch.rand(1, 50, 50)}
SHARES = torch.tensor([[0.1, 0.7, 0.15, 0.05], [0.0, 0.25, 0.26, 0.49]])


def written(axes):
    return [text.get_text() for text in axes.texts]


def test_best_classes_come_first_with_their_probabilities():
    figure = viz.best_classes(PHOTOS, SHARES, CLASSES)
    one, two, bars, more = figure.axes
    assert one.get_title() == "one" and two.get_title() == "two"
    assert written(bars) == ["cat", "70%", "tripod", "15%", "cup", "10%"]
    assert written(more) == ["palace", "49%", "tripod", "26%", "cat", "25%"]
    assert [patch.get_width() for patch in bars.patches[1::2]] == pytest.approx([0.7, 0.15, 0.1])
    assert "one: cat 70%, tripod 15%, cup 10%; two: palace 49%" in figure.alt


def test_what_the_network_does_not_see_is_paled():
    figure = viz.best_classes(PHOTOS, SHARES, CLASSES, seen=0.5)
    *veils, frame = figure.axes[0].patches
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (19.5, 9.5, 20, 20)
    assert sum(veil.get_width() * veil.get_height() for veil in veils) == 40 * 60 - 20 * 20


@pytest.mark.parametrize("photographs", [1, 2, 4, 7])
def test_nothing_overlaps_or_is_cut(photographs):
    shares = torch.full((photographs, 2), 0.5)
    names = {f"photo {i}": torch.rand(3, 40, 60) for i in range(photographs)}
    figure = viz.best_classes(names, shares, ("drilling platform", "football helmet"), count=2, title="Photographs")
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in (axes.title, *axes.texts) if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(texts) == 5 * photographs and min(text.get_fontsize() for text in texts) >= 9
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_notebook_keeps_photographs_as_a_jpeg_with_alt_text():
    figure = viz.best_classes(PHOTOS, SHARES, CLASSES)
    data, metadata = figure._repr_mimebundle_()
    assert set(data) == {"text/plain", "image/jpeg"} and metadata == {"image/jpeg": {"alt": figure.alt}}
    assert base64.b64decode(data["image/jpeg"]).startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("photos, shares, options, words", [
    ({}, SHARES, {}, "nothing to draw"), (PHOTOS, SHARES[:1], {}, r"\(2, 4\), got \(1, 4\)"),
    (PHOTOS, SHARES[:, :3], {}, r"got \(2, 3\)"), (PHOTOS, 2 * SHARES, {}, "sum to 1"),
    (PHOTOS, SHARES - 0.1, {}, "not be negative"), (PHOTOS, SHARES, {"seen": 1.1}, "seen must be"),
    (PHOTOS, SHARES, {"seen": 0}, "seen must be"), (PHOTOS, SHARES, {"count": 5}, "count from 1 to 4")])
def test_what_cannot_be_drawn_is_refused(photos, shares, options, words):
    with pytest.raises(ValueError, match=words):
        viz.best_classes(photos, shares, CLASSES, **options)


@pytest.fixture(scope="module")
def opening(pytestconfig):
    """The first cells of chapter 00, run to its first picture; no connection can be made."""
    chapter = read_notebook(pytestconfig.rootpath / "notebooks" / "00_start_here.ipynb")
    sources = [cell.source for cell in chapter.cells if cell.cell_type == "code"][1:]
    names = {}

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        for source in sources:
            if "best_classes" in source:
                return names, eval(ast.unparse(ast.parse(source)), names)
            exec(source, names)
    raise AssertionError("chapter 00 does not draw best_classes")


def test_chapter_00_opens_with_a_network_that_names_photographs(opening, pytestconfig):
    names, figure = opening
    best = dict(re.findall(r"(\w+): ([^;:]+?)[;.](?= |$)", figure.alt))
    assert list(best) == list(names["photos"]._fields)
    assert best["coffee"].startswith("espresso 95%") and best["camera"].startswith("tripod 94%")
    assert best["chelsea"].startswith("tiger cat 40%") and best["china"].startswith("palace 29%")
    stored = (pytestconfig.rootpath / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8")
    assert stored.count(figure.alt) == 2, "in the output's text, and as alt text of its picture"


def test_what_chapter_00_says_of_the_photographs_holds(opening):
    names, _ = opening
    classes = names["weights"].classes
    shares = dict(zip(names["photos"]._fields, names["probabilities"], strict=True))
    cats = sum(shares["chelsea"][classes.index(name)] for name in ("tiger cat", "Egyptian cat", "tabby"))
    assert round(float(cats), 2) == 0.92
    assert not {"person", "dahlia", "astronaut", "rocket"} & {word for name in classes for word in name.split()}


def test_what_chapter_00_says_of_the_first_kernels_holds(opening):
    """Four are empty, and the network answers the same without them; others follow brightness, colour, edges."""
    names, _ = opening
    network, x = names["lite0"], names["x"]
    stem = network.stem.conv
    weight = stem.weight.detach().clone()
    empty = [i for i, kernel in enumerate(weight) if kernel.abs().max() < 1e-6]
    with torch.no_grad():
        maps = stem(x[:1])[0, :, 1:-1, 1:-1]
        stem.weight[empty] = 0
        without = network(x).softmax(1)
        stem.weight.copy_(weight)
    assert empty == [11, 16, 28, 31]
    torch.testing.assert_close(without, names["probabilities"], rtol=0, atol=1e-6)
    bright = torch.nn.functional.avg_pool2d(x[:1].mean(1), 2)[0, 1:-1, 1:-1]
    likeness = torch.corrcoef(torch.stack([bright.flatten(), *maps[[12, 1, 13]].flatten(1)]))[0, 1:]
    assert likeness[0] > 0.95 and (likeness[1:] < -0.95).all()
    red, _, blue = weight[3].sum((1, 2))
    assert red < -4 and blue > 5
