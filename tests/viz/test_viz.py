"""Every figure: nothing may be cut off, overlap or be too small, and the course's settings stay inside it."""
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from sample_figures import FIGURES, draw, drawn

from lwcourse import viz
from lwcourse.viz.labels import byte_unit, count_unit, listed, log_limits, place_labels, short_count

SETTINGS = dict(matplotlib.rcParams)  # before anything is drawn


def texts(figure: viz.Figure) -> list[Text]:
    """Every text that a reader sees."""
    figure.draw_without_rendering()
    found = [*figure.texts, *(text for legend in figure.legends for text in _legend(legend))]
    found += [figure._suptitle] if figure._suptitle else []
    for axes in figure.axes:
        found += [axes.title, axes._left_title, axes._right_title, *axes.texts]
        found += _legend(axes.get_legend()) if axes.get_legend() else []
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            found += [axis.label, axis.offsetText, *(tick.label1 for tick in axis._update_ticks()),
                      *(tick.label2 for tick in axis._update_ticks())]
    return [text for text in dict.fromkeys(found) if text.get_visible() and text.get_text().strip()]


def _legend(legend) -> list[Text]:
    return [*legend.get_texts(), legend.get_title()]


@pytest.mark.parametrize("name", FIGURES)
class TestEveryFigure:
    def test_nothing_is_cut_off(self, name):
        figure = drawn(name)
        canvas = figure.bbox
        for text in texts(figure):
            box = text.get_window_extent()
            assert canvas.x0 - 1 <= box.x0 and box.x1 <= canvas.x1 + 1, f"{text.get_text()!r} is cut at a side: {box}"
            assert canvas.y0 - 1 <= box.y0 and box.y1 <= canvas.y1 + 1, f"{text.get_text()!r} is cut: {box}"

    def test_no_two_texts_overlap(self, name):
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(drawn(name))
                 if text.get_rotation() in (0, 90)]
        for (first, a), (second, b) in combinations(boxes, 2):
            width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert width <= 1 or height <= 2, f"{first!r} and {second!r} overlap by {width:.0f} x {height:.0f} pixels"

    def test_letters_are_large_enough(self, name):
        assert min((text.get_fontsize() for text in texts(drawn(name))), default=9) >= 9

    def test_a_notebook_shows_it_whole(self, name):
        width, height = drawn(name).get_size_inches() * viz.theme.DPI
        assert 300 <= width <= 900 and height <= 800

    def test_axes_with_numbers_say_what_they_are(self, name):
        figure = drawn(name)
        figure.draw_without_rendering()
        for axes in (axes for axes in figure.axes if axes.axison):
            for which, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
                numbers = [tick.label1.get_text() for tick in axis._update_ticks() if tick.label1.get_visible()]
                if not any(text.replace("−", "").replace(".", "").isdigit() for text in numbers):
                    continue
                line = [other for other in figure.axes if other.get_subplotspec() and axes.get_subplotspec()
                        and getattr(other.get_subplotspec(), "colspan" if which == "x" else "rowspan")
                        == getattr(axes.get_subplotspec(), "colspan" if which == "x" else "rowspan")] + [axes]
                assert any(getattr(other, f"{which}axis").label.get_text() for other in line), (which, numbers)

    def test_alt_text_is_a_sentence_about_the_data(self, name):
        alt = drawn(name).alt
        assert alt.endswith(".") and any(letter.isdigit() for letter in alt) and 20 < len(alt) < 900, alt

    def test_pyplot_and_global_settings_stay_as_they_are(self, name):
        import matplotlib.pyplot as plt

        draw(name).png()
        assert plt.get_fignums() == []
        assert dict(matplotlib.rcParams) == SETTINGS


def test_every_drawing_function_is_among_the_figures():
    functions = {name for name in viz.__all__ if callable(getattr(viz, name)) and name.islower()}
    other = {"new_figure", "save_svg", "themed", "block_diagram", "block_diagrams",  # test_diagram, test_theme
             "centre_gradient", "channel_connections", "pareto_front"}  # return numbers
    here = {name.split(",")[0] for name in FIGURES}
    elsewhere = "".join(path.read_text() for path in Path(__file__).parent.glob("test_viz_*.py"))  # the chapters' own
    assert here <= functions
    assert [name for name in sorted(functions - other - here) if f"viz.{name}(" not in elsewhere] == []


class TestLabels:
    @pytest.mark.parametrize("count, words", [(0, "0"), (27, "27"), (999, "999"), (999_999, "1 M"), (1234, "1.23 k"),
                                              (3_504_872, "3.5 M"), (300_774_272, "301 M"), (2.5e9, "2.5 G"),
                                              (-1500, "-1.5 k")])
    def test_short_count(self, count, words):
        assert short_count(count) == words

    def test_units_keep_the_largest_below_a_thousand(self):
        assert count_unit([5, 999]) == (1, "")
        assert count_unit([1_000, 20]) == (1e3, "thousands")
        assert count_unit([]) == (1, "")
        assert byte_unit([1023]) == (1, "B")
        assert byte_unit([3, 1024 * 1024]) == (2**20, "MiB")

    def test_listed_says_how_many_it_left_out(self):
        assert listed(list("abcd"), most=2) == "a; b; and 2 more"
        assert listed(list("ab"), most=2) == "a; b"

    def test_log_limits_hold_the_values_and_a_decade(self):
        for values in ([3.0], [0.01, 500.0], [2.0, 2.1]):
            low, high = log_limits(values)
            assert low < min(values) and max(values) < high and high / low >= 9.99

    @pytest.mark.parametrize("seed", [0, 1, 3, 7])
    def test_labels_of_a_crowd_do_not_overlap(self, seed):
        generator = torch.Generator().manual_seed(seed)
        points = (0.25 + 0.5 * torch.rand(16, 2, generator=generator)).tolist()
        names = [f"network_{i} x0.75" for i in range(16)]
        figure, axes = viz.new_figure(7.8, 4.4, alt="a crowd")
        axes.set(xlim=(-0.2, 1.2), ylim=(-0.1, 1.1))
        notes = place_labels(axes, points, names)
        boxes = [note.get_window_extent() for note in notes]
        assert [note.get_text() for note in notes] == names
        assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
        dots = axes.transData.transform(points)
        assert not [1 for box in boxes for dot in dots if box.contains(*dot)]
        leaders = [text for text in axes.texts if not text.get_text()]
        assert leaders, "in a crowd some labels stand apart, with a line"
        for leader in leaders:
            start = axes.transData.transform(leader.xy)
            end = start + np.array(leader.xyann) * figure.dpi / 72
            spots = start + np.linspace(0, 0.95, 30)[:, None] * (end - start)
            assert not [1 for spot in spots for box in boxes if box.contains(*spot)], "a line runs through a name"

    def test_a_label_keeps_off_the_line(self):
        _, axes = viz.new_figure(alt="a line")
        axes.set(xlim=(0, 10), ylim=(0, 10))
        on_line = [(1, 5), (9, 5)]
        note, = place_labels(axes, [(5, 5)], ["a name"], line=on_line)
        _, height = axes.transData.transform((5, 5))
        box = note.get_window_extent()
        assert box.y0 > height or box.y1 < height
        note, = place_labels(axes, [(5, 5)], ["a name"])
        box = note.get_window_extent()
        assert box.y0 < height < box.y1, "without a line the nearest place is beside the point"
