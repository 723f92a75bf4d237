"""Figures of training, functions, images and receptive fields show the data they were given."""
import numpy as np
import pytest
import torch
from sample_figures import history, spiral
from torch import nn

from lwcourse import viz
from lwcourse.layers import ConvBNAct, SqueezeExcitation


def shows(axes, values: torch.Tensor) -> bool:
    """Whether the picture in `axes` is made of these values, row by row."""
    picture = np.asarray(axes.images[0].get_array())
    return picture.shape == tuple(values.shape) and np.allclose(picture, values.detach().numpy())


class TestCurves:
    def test_the_line_is_the_mean_and_the_band_the_range_over_seeds(self):
        figure = viz.training_curves({"a": [history([0.2, 0.4, 0.9]), history([0.4, 0.8])]})
        loss, accuracy = figure.axes
        train, test = accuracy.lines
        assert list(test.get_ydata()) == pytest.approx([30, 60]), "cut to the shorter run"
        assert list(train.get_ydata()) == pytest.approx([15, 30]) and train.get_linestyle() != "-"
        band = accuracy.collections[0].get_paths()[0].vertices
        at_end = band[band[:, 0] == 2][:, 1]
        assert (at_end.min(), at_end.max()) == pytest.approx((40, 80))
        assert list(loss.lines[1].get_ydata()) == pytest.approx([0.7, 0.4])
        assert "a reaches 60.0 % test accuracy after 2 epochs (40.0 to 80.0 over 2 seeds)" in figure.alt

    def test_a_single_epoch_can_be_seen(self):
        figure = viz.training_curves({"a": history([0.5])})
        assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines)

    def test_a_dot_a_seed_and_a_bar_at_the_mean(self):
        figure = viz.error_bars({"a": [0.9, 0.93, 0.96], "b": [0.8]})
        axes, = figure.axes
        dots = [line for line in axes.lines if line.get_marker() == "o"]
        means = [line for line in axes.lines if line.get_marker() == "|"]
        assert list(dots[0].get_xdata()) == pytest.approx([90, 93, 96])
        assert [line.get_xdata()[0] for line in means] == pytest.approx([93, 80])
        low, high = axes.get_xlim()
        assert low < 80 and high > 96
        assert "a mean 93 (90 to 96); b mean 80 (one seed)" in figure.alt and "(%)" in axes.get_xlabel()

    def test_tiny_differences_look_tiny(self):
        low, high = viz.error_bars({"a": [0.9130, 0.9131], "b": [0.9132]}).axes[0].get_xlim()
        assert high - low == pytest.approx(1)
        low, high = viz.error_bars({"a": [50.0, 50.01]}, percent=False, label="time (ms)").axes[0].get_xlim()
        assert high - low == pytest.approx(1.0002)

    def test_functions_that_work_in_place_do_not_disturb_the_others(self):
        figure = viz.activation_functions({"relu": nn.ReLU(inplace=True), "same": lambda x: x, "h": nn.Hardswish()},
                                          limits=(-2, 2))
        relu, same, hswish = (line for line in figure.axes[0].lines if len(line.get_xdata()) > 2)
        x = np.linspace(-2, 2, len(relu.get_xdata()))
        assert relu.get_ydata() == pytest.approx(x.clip(0), abs=1e-6) and same.get_ydata() == pytest.approx(x, abs=1e-6)
        assert hswish.get_ydata() == pytest.approx(x * (x + 3).clip(0, 6) / 6, abs=1e-6)
        assert len({line.get_linestyle() + str(line._dash_pattern) for line in (relu, same, hswish)}) == 3

    def test_curves_go_through_their_points_in_order(self):
        figure = viz.curves_2d({"a": spiral(), "b": 3 * spiral()})
        panels = figure.axes[:2]
        for panel, curve in zip(panels, (spiral(), 3 * spiral()), strict=True):
            pieces, = panel.collections
            assert np.array([s[0] for s in pieces.get_segments()]) == pytest.approx(curve[:-1].numpy(), abs=1e-6)
            assert np.all(np.diff(pieces.get_array()) > 0), "the colour tells the position"
            assert panel.get_aspect() == 1
            assert panel.get_xlim()[0] < curve[:, 0].min() and panel.get_xlim()[1] > curve[:, 0].max()

    def test_the_reference_is_behind_each_curve(self):
        figure = viz.curves_2d({"a": spiral() / 9, "b": 2 * spiral()}, reference=spiral())
        for panel in figure.axes[:2]:
            line, = panel.lines
            assert line.get_xydata() == pytest.approx(spiral().numpy(), abs=1e-6)
            assert panel.get_xlim()[1] > spiral()[:, 0].max(), "and wholly in sight"

    def test_confusion_colours_shares_and_writes_counts(self):
        figure = viz.confusion(torch.tensor([[8, 2], [0, 5]]), ["cat", "dog"])
        axes = figure.axes[0]
        assert axes.images[0].get_array().tolist() == pytest.approx(np.array([[80, 20], [0, 100]]))
        assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "8", (1, 0): "2", (1, 1): "5"}
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
        assert "86.7 % of 15 correct; most often cat is taken for dog, 2 times" in figure.alt
        assert "no mistakes" in viz.confusion(torch.eye(3)).alt

    @pytest.mark.parametrize("call, message", [
        (lambda: viz.training_curves({}), "is empty"),
        (lambda: viz.training_curves({"a": []}), "'a' has no history"),
        (lambda: viz.training_curves({"a": [history([])]}), "without a finished epoch"),
        (lambda: viz.error_bars({}), "is empty"),
        (lambda: viz.error_bars({"a": []}), "one finite number or more"),
        (lambda: viz.error_bars({"a": [float("nan")]}), "one finite number or more"),
        (lambda: viz.error_bars({"a": [91.3]}), "shares from 0 to 1.*divide them by 100"),
        (lambda: viz.activation_functions({}), "is empty"),
        (lambda: viz.activation_functions({"a": torch.relu}, limits=(2, 1)), "must ascend"),
        (lambda: viz.activation_functions({"a": torch.sum}), "'a' must keep the shape"),
        (lambda: viz.curves_2d({}), "is empty"),
        (lambda: viz.curves_2d({"a": torch.rand(5, 3)}), r"'a' must be finite and of shape \(N, 2\).*\(5, 3\)"),
        (lambda: viz.curves_2d({"a": torch.full((5, 2), torch.inf)}), "must be finite"),
        (lambda: viz.confusion(torch.ones(2, 3)), r"must be square.*\(2, 3\)"),
        (lambda: viz.confusion(torch.zeros(2, 2)), "not all 0"),
        (lambda: viz.confusion(torch.tensor([[1, -1], [0, 1]])), "counts from 0"),
        (lambda: viz.confusion(torch.eye(3), ["a"]), "must be 3 names.*got 1"),
    ])
    def test_bad_input(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()


class TestMaps:
    def test_images_keep_rows_columns_and_colours(self):
        picture = torch.zeros(3, 4, 6)
        picture[0, 1, 5] = 1.0
        shown = viz.image(picture).axes[0].images[0].get_array()
        assert shown.shape == (4, 6, 3) and tuple(shown[1, 5]) == (1, 0, 0) and shown.sum() == 1
        grey = viz.image((51 * picture[0]).byte()).axes[0].images[0]
        assert grey.get_array()[1, 5] == 0.2 and grey.get_clim() == (0, 1), "dark stays dark"

    def test_a_grid_shows_each_image_under_its_title(self):
        batch = torch.rand(5, 1, 3, 3)
        figure = viz.images(batch, list("abcde"))
        panels = [axes for axes in figure.axes if axes.images]
        assert [axes.get_title() for axes in panels] == list("abcde")
        for axes, picture in zip(panels, batch, strict=True):
            assert shows(axes, picture[0])

    def test_channels_share_one_scale_around_zero(self):
        maps = torch.randn(20, 6, 6)
        maps[3] *= 5
        figure = viz.feature_maps(maps[None], count=6)
        panels = [axes for axes in figure.axes if axes.images]
        assert len(panels) == 6 and all(shows(axes, channel) for axes, channel in zip(panels, maps, strict=False))
        limits = {axes.images[0].get_clim() for axes in panels}
        assert len(limits) == 1
        low, high = limits.pop()
        assert low == -high
        assert "channels 0 to 5 of 20, 6 × 6" in figure.alt and "channel 3 is strongest" in figure.alt

    def test_after_relu_the_scale_starts_at_zero_and_dead_channels_are_counted(self):
        maps = torch.rand(4, 5, 5) + 1
        assert viz.feature_maps(maps).axes[0].images[0].get_clim()[0] == 0
        maps[2] = 0
        figure = viz.feature_maps(maps)
        assert "1 are all zero" in figure.alt

    def test_filters_of_a_depthwise_convolution(self):
        weight = nn.Conv2d(6, 6, 3, groups=6).weight
        panels = [axes for axes in viz.kernels(weight).axes if axes.images]
        assert len(panels) == 6
        for axes, kernel in zip(panels, weight.detach(), strict=True):
            assert shows(axes, kernel[0])
            assert axes.images[0].get_clim()[0] == -axes.images[0].get_clim()[1], "white is zero"

    def test_filters_with_several_inputs_have_an_input_a_row(self):
        weight = torch.arange(4 * 3 * 9.0).reshape(4, 3, 3, 3) + 1
        panels = [axes.images[0].get_array() for axes in viz.kernels(weight).axes if axes.images]
        expected = [weight[out, channel].numpy() for channel in range(3) for out in range(4)]
        assert len(panels) == 12
        assert all(np.array_equal(a, b) for a, b in zip(panels, expected, strict=True))

    def test_pointwise_weights_are_one_matrix(self):
        weight = nn.Conv2d(8, 5, 1).weight
        for form in (weight, weight[:, :, 0, 0]):
            axes = viz.kernels(form).axes[0]
            assert shows(axes, weight[:, :, 0, 0])
            assert (axes.get_xlabel(), axes.get_ylabel()) == ("input channel", "output channel")

    @pytest.mark.parametrize("call, message", [
        (lambda: viz.image(torch.rand(2, 4, 4)), r"\(3, H, W\).*got \(2, 4, 4\)"),
        (lambda: viz.image(torch.randn(3, 4, 4) * 5), "from 0 to 1.*undoes the normalisation"),
        (lambda: viz.image(torch.rand(3, 0, 4)), "must have pixels"),
        (lambda: viz.images([]), "no image"),
        (lambda: viz.images(torch.rand(2, 3, 4, 4), ["a"]), "one an image, 2, got 1"),
        (lambda: viz.feature_maps(torch.rand(2, 3, 4, 4)), r"got \(2, 3, 4, 4\)"),
        (lambda: viz.feature_maps(torch.full((3, 4, 4), torch.nan)), "must be finite"),
        (lambda: viz.feature_maps(torch.rand(3, 4, 4), count=0), "at least 1, got 0"),
        (lambda: viz.kernels(torch.rand(3, 3, 3)), r"got \(3, 3, 3\)"),
        (lambda: viz.kernels(torch.rand(3, 3, 3, 3), count=0), "at least 1"),
    ])
    def test_bad_input(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()


def field_of(module: nn.Module, size: tuple[int, int, int], **options) -> tuple[range, range]:
    """Rows and columns that the centre reads, first to last."""
    gradient = viz.centre_gradient(module, size, **options)
    rows, columns = gradient.sum(1).nonzero().flatten().tolist(), gradient.sum(0).nonzero().flatten().tolist()
    return range(rows[0], rows[-1] + 1), range(columns[0], columns[-1] + 1)


class TestReach:
    @pytest.mark.parametrize("module, side", [
        (nn.Conv2d(2, 3, 1), 1),
        (nn.Conv2d(2, 3, 5, padding=2), 5),
        (nn.Conv2d(2, 3, 3, padding=4, dilation=4), 9),
        (nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 3, 3, 1, 1)), 7),
        (nn.Sequential(nn.Conv2d(2, 3, 3, 1, 1), nn.MaxPool2d(3, 2, 1)), 5),
        (nn.Sequential(*[nn.Conv2d(2, 2, 3, padding=1) for _ in range(12)]), 25),
    ])
    def test_theoretical_field_is_what_the_formula_gives(self, module, side):
        torch.manual_seed(0)
        rows, columns = field_of(module, (2, 41, 41))
        assert (len(rows), len(columns)) == (side, side)

    def test_rows_and_columns_are_not_swapped(self):
        rows, columns = field_of(nn.Conv2d(1, 1, (3, 7), padding=(1, 3)), (1, 20, 30))
        assert (len(rows), len(columns)) == (3, 7) and 10 in rows and 15 in columns

    def test_gradients_far_below_the_precision_of_float32_still_count(self):
        deep = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(9)])
        with torch.no_grad():
            for conv in deep:
                conv.weight.fill_(1e-4)
                conv.weight[0, 0, 1, 1] = 1.0
        assert len(field_of(deep, (1, 25, 25))[0]) == 19, "a corner's share is 1e-36"
        assert "theoretical field is 19 × 19" in viz.receptive_field(deep, (1, 25, 25)).alt

    def test_gradient_is_that_of_the_centre(self):
        conv = nn.Conv2d(1, 1, 3, padding=1)
        gradient = viz.centre_gradient(conv, (1, 9, 9), samples=1)
        kernel = conv.weight[0, 0].detach().double().abs()
        assert torch.allclose(gradient[3:6, 3:6], kernel / kernel.max())

    def test_the_module_and_the_random_numbers_stay_as_they_were(self):
        body = nn.Sequential(ConvBNAct(3, 4, 3), nn.Dropout(), ConvBNAct(4, 4, 3)).train()
        body[2].eval()
        body[0].conv.weight.grad = torch.ones_like(body[0].conv.weight)
        state = {key: value.clone() for key, value in body.state_dict().items()}
        modes, random = [module.training for module in body.modules()], torch.get_rng_state()
        viz.receptive_field(body, (3, 12, 12), samples=2)
        viz.connectivity(body, 3, pixels=True)
        assert all(torch.equal(value, state[key]) for key, value in body.state_dict().items())
        assert [module.training for module in body.modules()] == modes
        assert body[0].conv.weight.grad.eq(1).all() and body[2].conv.weight.grad is None
        assert body[0].conv.weight.dtype == torch.float32 and torch.equal(torch.get_rng_state(), random)

    def test_works_where_gradients_are_off(self):
        with torch.no_grad():
            assert viz.centre_gradient(nn.Conv2d(1, 1, 3, padding=1), (1, 8, 8)).max() == 1

    def test_figure_states_both_fields(self):
        deep = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(6)])
        for conv in deep:
            nn.init.ones_(conv.weight)
        figure = viz.receptive_field(deep, (1, 21, 21))
        assert "theoretical field is 13 × 13 pixels; the effective one is about" in figure.alt
        gradient = viz.centre_gradient(deep, (1, 21, 21))
        side = float((gradient > 0.0455).sum()) ** 0.5
        assert side < 11 and f"about {side:.1f} pixels" in figure.alt
        frame, = figure.axes[0].patches
        assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (3.5, 3.5, 13, 13)

    def test_a_field_cut_by_the_border_says_so(self):
        assert "may be larger" in viz.receptive_field(nn.Conv2d(1, 1, 9, padding=4), (1, 7, 7)).alt
        assert "may be larger" not in viz.receptive_field(nn.Conv2d(1, 1, 3, padding=1), (1, 7, 7)).alt

    def test_connections_of_groups_shuffle_and_gate(self):
        def expected(groups: int, outputs: int, inputs: int) -> torch.Tensor:
            return torch.block_diag(*[torch.ones(outputs // groups, inputs // groups)] * groups).bool()

        for groups in (1, 2, 4):
            conv = nn.Conv2d(8, 12, 3, padding=1, groups=groups)
            assert torch.equal(viz.channel_connections(conv, 8), expected(groups, 12, 8))
        depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        assert torch.equal(viz.channel_connections(depthwise, 8), torch.eye(8).bool())
        shuffled = viz.channel_connections(nn.ChannelShuffle(2), 6)
        assert shuffled.nonzero()[:, 1].tolist() == [0, 3, 1, 4, 2, 5]
        assert viz.channel_connections(nn.Sequential(depthwise, SqueezeExcitation(8, 64)), 8).all(), "a gate reads all"
        assert viz.channel_connections(nn.Conv2d(8, 8, 3, stride=2, groups=2), 8).sum() == 32

    def test_connectivity_draws_its_matrix_and_the_pixels(self):
        figure = viz.connectivity(nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=2), 6, size=13, pixels=True)
        channels, pixels = (axes.images[0].get_array() for axes in figure.axes)
        assert channels.shape == (4, 6) and channels[:2, :3].all() and channels[2:, 3:].all() and channels.sum() == 12
        assert np.argwhere(pixels).tolist() == [[r, c] for r in (4, 6, 8) for c in (4, 6, 8)]
        assert "12 of 24 pairs are connected, 3 inputs an output. One output pixel reads 9 of 169" in figure.alt

    @pytest.mark.parametrize("call, message", [
        (lambda: viz.centre_gradient(nn.Conv2d(3, 4, 3), (3, 8)), r"\(channels, height, width\).*\(3, 8\)"),
        (lambda: viz.centre_gradient(nn.Conv2d(3, 4, 3), (5, 8, 8)), "Conv2d cannot run an input of size"),
        (lambda: viz.centre_gradient(nn.Conv2d(3, 4, 3), (3, 8, 8), samples=0), "at least 1, got 0"),
        (lambda: viz.receptive_field(nn.Flatten(), (3, 8, 8)), r"\(N, C, H, W\), got \(1, 192\)"),
        (lambda: viz.centre_gradient(nn.Threshold(1e9, 0.0), (3, 8, 8)), "does not depend on the input"),
        (lambda: viz.channel_connections(nn.Conv2d(3, 4, 3), 0), "at least 1, got 0"),
        (lambda: viz.connectivity(nn.Conv2d(3, 4, 3), 5), "cannot run an input"),
    ])
    def test_bad_input(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()

    def test_not_a_module(self):
        with pytest.raises(TypeError, match="expected a torch.nn.Module, got builtin_function_or_method"):
            viz.connectivity(torch.relu, 3)
