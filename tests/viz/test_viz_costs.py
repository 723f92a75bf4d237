"""Figures of costs and of time show the numbers they were given."""
import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PathCollection
from sample_figures import FRONT, LATENCIES, POINTS, ROOF, blocks, drawn, mobilenet, point, slim
from torch import nn

import lwcourse as lw
from lwcourse import viz
from lwcourse.latency import Latencies, Latency, Roofline, RooflinePoint
from lwcourse.layers import SqueezeExcitation
from lwcourse.models.mobilenet_v2 import STAGES
from lwcourse.profile import Profile
from lwcourse.viz.cost import stage_of, stages
from lwcourse.viz.labels import short_count


class TestCost:
    def test_bars_are_as_long_as_the_costs(self):
        figure = viz.cost_bars(blocks())
        units = {"macs": 1e3, "params": 1e3, "activation_bytes": 1024}
        for axes, (attribute, unit) in zip(figure.axes, units.items(), strict=True):
            lengths = [patch.get_width() * unit for patch in axes.patches]
            assert lengths == pytest.approx([getattr(profile, attribute) for profile in blocks().values()])
            assert axes.get_xlim()[0] == 0
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["standard", "separable"]
        assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1], "the first is on top"

    def test_values_stand_at_the_bars_and_in_the_alt_text(self):
        figure = viz.cost_bars({"net": mobilenet()})
        words = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert words == ["301 M", "3.5 M", words[2]] and words[2].endswith("MiB")
        assert "net 301 M MACs, 3.5 M parameters" in figure.alt

    def test_a_logarithmic_axis_has_dots_in_place_of_bars(self):
        figure = viz.cost_bars({**blocks(), "nothing": lw.profile(nn.ReLU(), (1, 4, 4))}, log=True, metrics="macs")
        axes, = figure.axes
        assert axes.get_xscale() == "log" and not axes.patches
        dots = max(axes.lines, key=lambda line: len(line.get_xdata()))
        assert list(dots.get_xdata()) == pytest.approx([p.macs / 1e3 for p in blocks().values()]), "a zero has no dot"
        assert [text.get_text() for text in axes.texts][2] == "0"

    def test_metrics_by_layer_are_those_of_the_layer(self):
        layer = max(mobilenet().layers, key=lambda layer: layer.output_bytes)
        figure = viz.cost_bars({"layer": layer}, metrics=("activation_bytes",))
        assert figure.axes[0].patches[0].get_width() * 2**20 == layer.output_bytes

    def test_bars_along_the_depth_add_up_to_the_network(self):
        figure = viz.cost_layers(mobilenet())
        for axes, total, unit in zip(figure.axes, (mobilenet().macs, mobilenet().params, mobilenet().activation_bytes),
                                     (1e6, 1e6, 2**20), strict=True):
            bars = [p for p in axes.patches if p.get_height()]
            assert sum(bar.get_height() for bar in bars) * unit == pytest.approx(total)
        first = figure.axes[0].patches[0].get_height() * 1e6
        assert first == mobilenet().layers[0].macs, "input on the left"

    def test_stages_join_the_layers_of_a_block(self):
        figure = viz.cost_layers(mobilenet(), by_stage=True, metrics="params")
        block = sum(layer.params for layer in mobilenet().layers if layer.name.startswith("blocks.3."))
        names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        heights = dict(zip(sorted(range(len(names))), (p.get_height() for p in figure.axes[0].patches), strict=False))
        order = ["stem", *(f"blocks.{i}" for i in range(17)), "head", "classifier.1"]
        assert sorted(names) == sorted(order)
        assert heights[order.index("blocks.3")] * 1e6 == pytest.approx(block)

    def test_the_highlighted_layer_stands_out(self):
        figure = viz.cost_layers(mobilenet(), metrics="macs", highlight="head.conv")
        bars = figure.axes[0].patches
        strong = [bar for bar in bars if bar.get_alpha() == 1.0]
        assert [bar.get_height() * 1e6 for bar in strong] == [20_070_400]

    def test_stage_names(self):
        names = ["blocks.3.expand.conv", "stem.conv", "features.0.1", "classifier.1", "0.conv", "", "head"]
        assert [stage_of(name) for name in names] == ["blocks.3", "stem", "features.0", "classifier.1", "0", "(model)",
                                                      "head"]

    def test_stages_of_mobilenet_v2_are_those_of_table_2(self):
        found = stages(mobilenet())
        side, expected, first = 112, [], 0
        for stage in STAGES:
            side //= stage.stride
            last = first + stage.repeats - 1
            name = f"blocks.{first}" if stage.repeats == 1 else f"blocks.{first}–{last}"
            expected.append((name, (stage.channels, side, side)))
            first = last + 1
        assert found == [("stem", (32, 112, 112)), *expected, ("head", (1280, 7, 7)), ("classifier.1", (1000,))]

    def test_a_gate_at_the_end_of_a_block_is_not_its_output(self):
        block = nn.Sequential(nn.Conv2d(3, 8, 3), SqueezeExcitation(8, 4))
        model = nn.ModuleDict({"blocks": nn.ModuleList([block])})
        model.forward = lambda x: block(x)
        assert stages(lw.profile(model, (3, 10, 10))) == [("blocks.0", (8, 8, 8))]

    def test_boxes_are_as_high_as_the_maps_and_wide_by_the_root_of_channels(self):
        figure = viz.shape_flow([("a", (16, 64, 64)), ("b", (64, 32, 32)), ("c", (256, 16, 16)), ("d", (10,))])
        a, b, c, _ = (patch.get_bbox() for patch in figure.axes[0].patches)
        assert a.height / b.height == pytest.approx(2) and b.height / c.height == pytest.approx(2)
        assert b.width / a.width == pytest.approx(2) and c.width / b.width == pytest.approx(2)
        assert a.x1 < b.x0 < b.x1 < c.x0, "boxes keep apart, in order"

    def test_the_reference_is_outlined_around_the_same_centres(self):
        mine, other = [("a", (8, 32, 32)), ("b", (10,))], [("a", (16, 64, 64)), ("b", (10,))]
        box, outline, vector = viz.shape_flow(mine, reference=other).axes[0].patches
        assert outline.get_bbox().height / box.get_bbox().height == pytest.approx(2)
        assert outline.get_center() == pytest.approx(box.get_center())
        assert outline.get_facecolor()[3] == 0 and vector.get_facecolor()[3] == 1, "where both agree there is one box"

    def test_the_alt_text_of_width_scaling_compares(self):
        alt = drawn("width_scaling").alt
        assert f"{short_count(slim().macs)} MACs against 301 M" in alt

    @pytest.mark.parametrize("call, message", [
        (lambda: viz.cost_bars({}), "is empty"),
        (lambda: viz.cost_bars(blocks(), metrics=("flops",)), "must be among macs, params.*got flops"),
        (lambda: viz.cost_bars(blocks(), metrics=()), "got none"),
        (lambda: viz.cost_layers(Profile("none", (1,))), "has no layer with a cost"),
        (lambda: viz.cost_layers(mobilenet(), highlight="nose"), "such as 'stem.conv'.*got 'nose'"),
        (lambda: viz.cost_layers(mobilenet(), metrics="peak_activation_bytes"), "must be among"),
        (lambda: viz.shape_flow([]), "nothing to draw"),
        (lambda: viz.shape_flow([("a", (3, 4))]), r"must be \(C, H, W\) or \(C,\).*got \(3, 4\)"),
        (lambda: viz.shape_flow([("a", (3, 0, 4))]), "all positive"),
        (lambda: viz.shape_flow([("a", (3,))], reference=[("a", (3,)), ("b", (4,))]), "1 stages.*got 2"),
        (lambda: viz.width_scaling(slim(), mobilenet(), {}), "is empty"),
        (lambda: viz.width_scaling(slim(), blocks()["standard"], {1.0: slim()}), "stages like current"),
    ])
    def test_bad_input(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()

    def test_a_list_is_no_dict(self):
        with pytest.raises(TypeError, match="expected a dict from name to Profile, got list"):
            viz.cost_bars([mobilenet()])


class TestSpeed:
    @pytest.mark.parametrize("higher", [True, False])
    def test_front_holds_exactly_what_no_other_beats(self, higher):
        generator = torch.Generator().manual_seed(1)
        points = {str(i): tuple(p) for i, p in enumerate(torch.randint(0, 8, (30, 2), generator=generator).tolist())}
        front = viz.pareto_front(points, higher_is_better=higher)
        sign = 1 if higher else -1
        for name, (x, y) in points.items():
            beaten = any((u < x and sign * v >= sign * y) or (u <= x and sign * v > sign * y)
                         for u, v in points.values())
            assert (name in front) is not beaten
        assert [points[name][0] for name in front] == sorted(points[name][0] for name in front)

    def test_front_is_a_staircase_through_filled_points(self):
        figure = viz.pareto(FRONT)
        line, *dots = figure.axes[0].lines
        corners = [(44, 65.4), (155, 65.4), (155, 73.3), (219, 73.3), (219, 75.2)]
        assert list(zip(*line.get_data(), strict=True)) == corners
        filled = {name for name, dot in zip(FRONT, dots, strict=True)
                  if dot.get_markerfacecolor() == dot.get_markeredgecolor()}
        assert filled == {"small", "good", "large"} == set(viz.pareto_front(FRONT))
        assert "Not beaten by any other: small, good, large." in figure.alt

    def test_groups_share_a_colour_and_a_legend_entry(self):
        figure = viz.pareto(FRONT, groups={name: "one" if name < "g" else "two" for name in FRONT})
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["two", "one", "front: filled points"]
        assert len({line.get_markeredgecolor() for line in figure.axes[0].lines[1:]}) == 2

    def test_latency_bars_are_medians_with_quartiles(self):
        figure = viz.latency_bars(LATENCIES)
        axes, = figure.axes
        assert [bar.get_width() for bar in axes.patches] == pytest.approx([6.0, 1.0])
        whiskers, = (c for c in axes.collections if isinstance(c, LineCollection))
        ends = [tuple(segment[:, 0]) for segment in whiskers.get_segments()]
        assert ends[0] == pytest.approx((5.0, 7.0)) and ends[1] == pytest.approx((1.0, 2.0))
        assert "cpu, 2 threads" in axes.get_xlabel() and "wide 6 ms; narrow 1 ms" in figure.alt

    def test_long_latencies_have_no_exponent(self):
        times = {"slow": Latency((1.2344, 1.2344)), "edge": Latency((0.9999, 0.9999))}
        slow = Latencies(times, (1, 3, 8, 8), "cpu", 1)
        assert "slow 1,234 ms; edge 1,000 ms" in viz.latency_bars(slow).alt

    def test_macs_stand_beside_latency(self):
        figure = viz.latency_bars(LATENCIES, macs={"wide": 3_000_000, "narrow": mobilenet()})
        assert [bar.get_width() * 1e6 for bar in figure.axes[1].patches] == [3_000_000, mobilenet().macs]
        assert "beside MACs: wide 3 M; narrow 301 M" in figure.alt

    def test_layers_lie_where_they_were_measured(self):
        figure = viz.roofline(ROOF, POINTS)
        axes, = figure.axes
        dots = [tuple(c.get_offsets()[0]) for c in axes.collections if isinstance(c, PathCollection)]
        expected = sorted((p.intensity, p.achieved / 1e9) for p in POINTS)
        assert np.array(sorted(dots)) == pytest.approx(np.array(expected))
        roof = max(axes.lines, key=lambda line: len(line.get_xdata()))
        assert (roof.get_xdata()[1], roof.get_ydata()[1]) == pytest.approx((8.0, 80.0)), "the ridge"
        assert roof.get_ydata()[0] == pytest.approx(10 * roof.get_xdata()[0]), "10 GB/s"
        assert axes.get_xscale() == axes.get_yscale() == "log"

    def test_colour_is_the_kind_and_area_the_share_of_time(self):
        axes, = viz.roofline(ROOF, POINTS).axes
        dots = {c.get_offsets()[0][0]: c for c in axes.collections if isinstance(c, PathCollection)}
        a, b, c = (dots[x] for x in sorted(dots))
        colour = [tuple(dot.get_facecolor()[0]) for dot in (a, b, c)]
        assert colour[1] == colour[2] != colour[0]
        areas = np.array([dot.get_sizes()[0] for dot in (a, b, c)])
        assert areas - 24 == pytest.approx([900 * share for share in (0.2, 0.05, 0.75)])

    def test_kinds_beyond_the_palette_become_other(self):
        many = [point(f"l{i}", f"kind {i}", 1.0 + i, 0.5, 1e-3 * (10 - i)) for i in range(9)]
        labels = [text.get_text() for text in viz.roofline(ROOF, many).legends[0].get_texts()]
        assert labels == [*(f"kind {i}" for i in range(5)), "other"]
        two = viz.roofline(ROOF, many, kind=lambda p: "early" if p.name < "l4" else "late")
        assert [text.get_text() for text in two.legends[0].get_texts()] == ["early", "late"]

    def test_the_alt_text_counts_what_waits_for_memory(self):
        alt = viz.roofline(ROOF, POINTS).alt
        assert "2 of 3 layers are memory-bound and take 25 % of the time" in alt and "longest, c, reaches" in alt

    def test_a_dot_is_hollow_where_neither_roof_holds_it(self):
        far = [point("d", "1x1", 2.0, 0.1, 2e-3), *POINTS]
        figure = viz.roofline(ROOF, far)
        dots = {c.get_offsets()[0][0]: c for c in figure.axes[0].collections if isinstance(c, PathCollection)}
        assert [len(dots[p.intensity].get_facecolor()) for p in far] == [0, 1, 1, 1]
        assert "hollow: over 2 × its bound" in [text.get_text() for text in figure.legends[0].get_texts()]
        assert "1 of 4 layers are limited by the efficiency of their kernel and take 9 % of the time" in figure.alt
        assert "hollow" not in str([text.get_text() for text in viz.roofline(ROOF, POINTS).legends[0].get_texts()])

    def test_the_roof_of_a_cache_stands_above_that_of_memory(self):
        roof = Roofline(80e9, 10e9, "cpu", 2, bandwidths=((2**16, 160e9), (2**28, 10e9)))
        points = [RooflinePoint(p.name, p.kind, p.macs, p.bytes, p.seconds, roof) for p in POINTS]
        figure = viz.roofline(roof, points)
        corners = sorted(line.get_xdata()[1] for line in figure.axes[0].lines if len(line.get_xdata()) == 3)
        assert corners == [0.5, 8.0], "80 GMAC/s at 160 and at 10 GB/s"
        assert "160 GB/s for 64.0 KiB, in a cache" in figure.alt

    @pytest.mark.parametrize("call, message", [
        (lambda: viz.pareto({}), "is empty"),
        (lambda: viz.pareto({"a": (0, 1)}, log=True), "'a' must be finite, with x > 0"),
        (lambda: viz.pareto({"a": (float("nan"), 1)}), "must be finite, got"),
        (lambda: viz.pareto(FRONT, groups={"small": "s"}), "none for good, beaten"),
        (lambda: viz.latency_bars(LATENCIES, macs={"wide": 1}), "none for narrow"),
        (lambda: viz.roofline(ROOF, []), "nothing to draw"),
        (lambda: viz.roofline(ROOF, [RooflinePoint("x", "ReLU", 0, 10, 1e-3, ROOF)]), "nothing to draw"),
    ])
    def test_bad_input(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()
