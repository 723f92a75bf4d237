"""viz.channel_paths, viz.reachability, viz.relative_times and viz.search_paths draw what they are given."""
import pytest
import torch
from torch import nn

from lwcourse import viz
from lwcourse.layers import ChannelShuffle


def grouped(groups: int, layers: int, shuffle: bool) -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [ChannelShuffle(groups)] if i and shuffle else []
        parts.append(nn.Conv2d(6, 6, 1, groups=groups))
    return nn.Sequential(*parts)


class TestChannelPaths:
    def test_lines_lead_from_old_to_new_places(self):
        figure = viz.channel_paths({"paper": ChannelShuffle(2), "none": nn.Identity()}, 6, 2)
        paper, none = figure.axes
        lines = [line.get_xdata() for line in paper.lines if len(line.get_xdata()) == 2]
        starts, ends = zip(*lines, strict=True)
        assert list(ends) == sorted(ends) and starts[0] < starts[2] < starts[4] < starts[1], "0 3 1 4 2 5"
        assert [text.get_text() for text in paper.texts][1::2] == ["0", "3", "1", "4", "2", "5"]
        assert all(len(set(line.get_xdata())) == 1 for line in none.lines), "nothing moves"
        assert "paper 0 3 1 4 2 5; none 0 1 2 3 4 5" in figure.alt

    def test_a_colour_a_group(self):
        axes, = viz.channel_paths({"x": nn.Identity()}, 6, 3).axes
        assert len({line.get_color() for line in axes.lines}) == 3

    @pytest.mark.parametrize(("module", "channels", "groups", "words"), [
        (nn.ReLU6(), 12, 3, "does more than reorder 12 channels"),
        (nn.Identity(), 12, 5, "divide the 12 channels, got 5"),
        (nn.Identity(), 12, 0, "got 0"),
        (nn.Identity(), 14, 7, "from 1 to 6"),
    ])
    def test_what_it_cannot_draw(self, module, channels, groups, words):
        with pytest.raises(ValueError, match=words):
            viz.channel_paths({"x": module}, channels, groups)


class TestReachability:
    def test_walls_without_a_shuffle_and_none_with_it(self):
        figure = viz.reachability({"one": grouped(2, 1, False), "two": grouped(2, 2, False),
                                   "shuffled": grouped(2, 2, True)}, 6, groups=2)
        one, two, shuffled = (axes.images[0].get_array() for axes in figure.axes)
        assert (one == two).all() and one[0].tolist() == [1, 1, 1, 0, 0, 0] and one[5].tolist() == [0, 0, 0, 2, 2, 2]
        assert (shuffled[:, :3] == 1).all() and (shuffled[:, 3:] == 2).all()
        assert "one 50%; two 50%; shuffled 100%" in figure.alt
        assert [axes.get_title(loc="left") for axes in figure.axes][2] == "shuffled\n100% of pairs"

    def test_one_group_has_no_legend(self):
        assert not viz.reachability({"x": nn.Identity()}, 3).legends
        assert viz.reachability({"x": nn.Identity()}, 4, groups=2, title="t").legends

    def test_groups_beyond_the_colours_are_still_drawn(self):
        cells = viz.reachability({"x": nn.Conv2d(8, 8, 1, groups=8)}, 8, groups=8).axes[0].images[0].get_array()
        assert (cells.diagonal() > 0).all() and (cells > 0).sum() == 8

    def test_what_it_cannot_draw(self):
        with pytest.raises(ValueError, match="groups must divide the 6 input channels, got 4"):
            viz.reachability({"x": nn.Identity()}, 6, groups=4)
        with pytest.raises(ValueError, match="nothing to draw"):
            viz.reachability({}, 6)


class TestRelativeTimes:
    PANELS = {"groups": {"1": [1, 1, 1], "8": [2.5, 2, 4]}, "parts": {"1": [1.0], "2": [0.5], "4": [0.75]}}

    def test_dots_and_medians(self):
        figure = viz.relative_times(self.PANELS, title="t")
        groups, parts = figure.axes
        lines = [list(line.get_ydata()) for line in groups.lines]
        assert lines == [[1, 1], [1, 2.5], [1, 1, 1], [2.5, 2, 4]]
        assert [label.get_text() for label in parts.get_xticklabels()] == ["1", "2", "4"]
        assert groups.get_ylim() == parts.get_ylim() and groups.get_ylim()[0] == 0
        assert "groups: 1 1.00, 8 2.50; parts: 1 1.00, 2 0.50, 4 0.75" in figure.alt

    @pytest.mark.parametrize(("panels", "words"), [
        ({}, "nothing to draw"), ({"q": {}}, "nothing to draw"), ({"q": {"a": []}}, "'q', 'a': ratios must be"),
        ({"q": {"a": [0.0]}}, "positive"), ({"q": {"a": [float("nan")]}}, "positive")])
    def test_what_it_cannot_draw(self, panels, words):
        with pytest.raises(ValueError, match=words):
            viz.relative_times(panels)


class TestSearchPaths:
    GENERATIONS = {"1": [(1000, 50), (2000, 60)], "2": [(1500, 70), (2500, 40)], "3": [(1200, 55)]}

    def test_best_so_far_and_median(self):
        figure = viz.search_paths(self.GENERATIONS, budget=2600, y_label="accuracy (%)", title="t")
        left, right = figure.axes
        assert [list(line.get_ydata()) for line in right.lines] == [[60, 70, 70], [55, 55, 55]]
        ring = next(line for line in left.lines if line.get_label() == "best")
        assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([1.5], [70])
        assert "thousands" in left.get_xlabel() and left.lines[-1].get_xdata()[0] == 2.6
        assert "5 candidates" in figure.alt and "3 median 55, best so far 70" in figure.alt

    @pytest.mark.parametrize(("generations", "words"), [
        ({}, "nothing to draw"), ({"1": []}, "'1' must hold"), ({"1": [(1, float("inf"))]}, "finite")])
    def test_what_it_cannot_draw(self, generations, words):
        with pytest.raises(ValueError, match=words):
            viz.search_paths(generations)
