"""ShuffleNet V1 and V2: their units beside pytorchcv's and torchvision's, and what they refuse."""
import re

import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.layers import ReleasedShuffleUnit, initialise_fan_in
from lwcourse.models import shufflenet_v1, shufflenet_v2
from lwcourse.references.shufflenets import official_order, unit_v1, unit_v2
from lwcourse.verify import randomise_statistics, relative_error


def prepared(module: nn.Module) -> nn.Module:
    """In float64 and eval mode, with statistics that are not trivial."""
    randomise_statistics(module)
    return module.double().eval()


def units_of(name: str, forward=None) -> list[nn.Module]:
    """Every unit of pytorchcv's network, in its own order or in that of the official code."""
    torch.manual_seed(0)
    if forward is None:
        from pytorchcv.model_provider import get_model
        network = get_model(f"shufflenet{name}")
    else:
        network = official_order(name, forward)(10)
    return [prepared(module) for module in network.modules() if type(module).__name__ == "ShuffleUnit"]


class TestV1:
    @pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
    def test_units_equal_pytorchcvs_once_the_order_is_the_official_one(self, groups):
        ours = prepared(lw.create_model("shufflenet_v1", groups=groups))
        theirs, their_order = units_of(f"_g{groups}_w1", unit_v1), units_of(f"_g{groups}_w1")
        for i in (0, 1, 4, 5):  # the first two of stages 2 and 3
            x = torch.randn(2, ours.blocks[i].reduce.conv.in_channels, 6, 8, dtype=torch.float64).relu()
            lw.transfer_weights(theirs[i], ours.blocks[i], x)
            with torch.no_grad():
                found = ours.blocks[i](x)
                assert relative_error(found, theirs[i](x)) < 1e-12
                if groups > 1 or i in (0, 4):  # else there is nothing to shuffle and nothing to concatenate
                    assert relative_error(found, their_order[i](x)) > 1e-2

    def test_shuffle_brings_channels_of_every_group_to_every_group(self):
        for groups in (2, 3, 4, 8):
            unit = lw.create_model("shufflenet_v1", groups=groups).blocks[1]
            hidden = unit.reduce.conv.out_channels
            before = torch.arange(hidden) // (hidden // groups)  # the group that made each channel
            after = unit.shuffle(before.view(1, -1, 1, 1)).view(groups, -1)
            assert all(set(row.tolist()) == set(range(groups)) for row in after)
            assert (torch.stack([(after == g).sum(1) for g in range(groups)]).float().std(0) < 1).all()

    def test_shuffle_before_or_after_the_depthwise_convolution_is_a_permutation_of_its_weights(self):
        torch.manual_seed(0)
        unit = prepared(shufflenet_v1.ShuffleUnit(24, 48, 2, groups=3, first_groups=1))
        other = prepared(shufflenet_v1.ShuffleUnit(24, 48, 2, groups=3, first_groups=1))
        other.load_state_dict(unit.state_dict())
        order = unit.shuffle(torch.arange(12).view(1, -1, 1, 1)).flatten()
        with torch.no_grad():
            other.depthwise.conv.weight.copy_(unit.depthwise.conv.weight[order])
            for key in ("weight", "bias", "running_mean", "running_var"):
                getattr(other.depthwise.bn, key).copy_(getattr(unit.depthwise.bn, key)[order])
            x = torch.randn(2, 24, 7, 9, dtype=torch.float64)
            early = other.expand(other.depthwise(other.shuffle(other.reduce(x))))
            assert relative_error(early, unit.expand(unit.shuffle(unit.depthwise(unit.reduce(x))))) < 1e-12

    def test_pooled_channels_come_first_and_as_they_are(self):
        unit = prepared(shufflenet_v1.ShuffleUnit(12, 36, 2, groups=3))
        x = -1 - torch.rand(2, 12, 7, 9, dtype=torch.float64)
        out = unit(x)
        assert out.shape == (2, 36, 4, 5) and out[:, 12:].min() == 0
        assert torch.equal(out[:, :12], nn.functional.avg_pool2d(x, 3, 2, 1))

    def test_cost_is_the_docstrings(self):
        unit = shufflenet_v1.ShuffleUnit(48, 48, 1, groups=3)
        assert lw.profile(unit, (48, 10, 7)).macs == 70 * (2 * 48 * 12 // 3 + 9 * 12)

    def test_first_convolution_alone_is_not_grouped(self):
        network = lw.create_model("shufflenet_v1", groups=8)
        assert [unit.reduce.conv.groups for unit in network.blocks] == [1] + 15 * [8]
        assert {unit.expand.conv.groups for unit in network.blocks} == {8}

    @pytest.mark.parametrize(("groups", "width", "stem", "stage2"), [
        (3, 0.25, 6, 60), (3, 0.5, 12, 120), (3, 1, 24, 240), (3, 1.5, 24, 360), (3, 2.0, 48, 480),  # official lists
        (8, 0.5, 16, 192), (8, 1.5, 24, 576), (8, 2.0, 48, 768),
        (4, 0.25, 8, 64), (2, 0.35, 8, 72), (3, 0.01, 3, 12), (8, 0.01, 8, 32), (1, 1.25, 24, 180)])  # rounded
    def test_channels_are_scaled_to_what_the_groups_divide(self, groups, width, stem, stage2):
        network = lw.create_model("shufflenet_v1", 10, width=width, groups=groups)
        assert network.stem.conv.out_channels == stem
        assert [4 * network.blocks[i].reduce.conv.out_channels for i in (0, 4, 12)] == [stage2, 2 * stage2, 4 * stage2]

    @pytest.mark.parametrize("groups", [0, 5, 2.5, None, "3"])
    def test_other_groups_are_refused(self, groups):
        with pytest.raises(ValueError, match=f"groups must be one of 1, 2, 3, 4, 8, got {re.escape(repr(groups))}"):
            lw.create_model("shufflenet_v1", groups=groups)

    @pytest.mark.parametrize(("arguments", "words"), [
        ((24, 48, 3, 3), "stride must be 1 or 2, got 3"),
        ((24, 48, 1, 3), "keeps its 24 channels, got out_channels=48"),
        ((40, 40, 1, 3), "3 groups must divide .* got 40, 40 / 4 and 40"),
        ((24, 64, 2, 3), "3 groups must divide .* got 24, 64 / 4 and 40"),
        ((25, 48, 2, 3), "3 groups must divide .* got 25, 48 / 4 and 23"),
        ((48, 48, 2, 3), "3 groups must divide .* got 48, 48 / 4 and 0"),
    ])
    def test_unit_refuses_channels_that_do_not_fit(self, arguments, words):
        with pytest.raises(ValueError, match=words):
            shufflenet_v1.ShuffleUnit(*arguments)


class TestV2:
    def test_released_units_equal_pytorchcvs_once_the_order_is_the_official_one(self):
        ours = prepared(lw.create_model("shufflenet_v2", released=True))
        theirs, their_order = units_of("v2b_w1", unit_v2), units_of("v2b_w1")
        for i in (0, 1, 4, 5):
            channels = [24, 116, 116, 232][(0, 1, 4, 5).index(i)]
            x = torch.randn(2, channels, 6, 8, dtype=torch.float64)
            lw.transfer_weights(theirs[i], ours.blocks[i], x)
            with torch.no_grad():
                assert relative_error(ours.blocks[i](x), theirs[i](x)) < 1e-12
                assert relative_error(ours.blocks[i](x), their_order[i](x)) > 1e-2

    def test_half_of_the_channels_pass_untouched(self):
        x = torch.randn(2, 16, 5, 7)
        with torch.no_grad():
            paper = shufflenet_v2.ShuffleUnit(16, 16, 1).eval()(x)
            released = ReleasedShuffleUnit(16, 16, 1).eval()(x)
        assert torch.equal(paper[:, ::2], x[:, :8])
        assert torch.equal(released[:, :8], x[:, ::2])

    @pytest.mark.parametrize(("width", "first"), [(0.5, (24, 24)), (1.0, (24, 92)), (1.5, (24, 152)), (2.0, (24, 220))])
    def test_first_unit_of_the_released_network_keeps_the_stems_channels(self, width, first):
        for released, expected in ((True, first), (False, (sum(first) // 2,) * 2)):
            unit = lw.create_model("shufflenet_v2", 10, width=width, released=released).blocks[0]
            assert (unit.shortcut[1].conv.out_channels, unit.branch[2].conv.out_channels) == expected

    @pytest.mark.parametrize("width", [0.75, 0.25, 3])
    def test_widths_that_the_paper_does_not_have_are_refused(self, width):
        with pytest.raises(ValueError, match=f"width must be one of 0.5, 1.0, 1.5, 2.0, .* got {width}"):
            lw.create_model("shufflenet_v2", width=width)
        assert lw.model_card("shufflenet_v2").widths == (0.5, 1.0, 1.5, 2.0)

    @pytest.mark.parametrize(("arguments", "words"), [
        ((8, 8, 3), "stride must be 1 or 2, got 3"), ((8, 16, 1), "8 in and 16 out"), ((8, 15, 2), "8 in and 15 out")])
    def test_unit_refuses_what_does_not_fit(self, arguments, words):
        with pytest.raises(ValueError, match=words):
            shufflenet_v2.ShuffleUnit(*arguments)

    def test_cost_is_the_docstrings(self):
        assert lw.profile(shufflenet_v2.ShuffleUnit(16, 16, 1), (16, 10, 7)).macs == 70 * 8 * (2 * 8 + 9)
        unit = ReleasedShuffleUnit(16, 16, 1, kernel_size=5, hidden=6)
        assert lw.profile(unit, (16, 10, 7)).macs == 70 * 6 * (2 * 8 + 25)


class TestReleasedUnit:
    @pytest.mark.parametrize("kernel_size", [3, 5, 7])
    @pytest.mark.parametrize("stride", [1, 2])
    def test_shapes(self, kernel_size, stride):
        unit = ReleasedShuffleUnit(8, 8 * stride, stride, kernel_size=kernel_size)
        assert unit(torch.randn(2, 8, 9, 7)).shape == (2, 8 * stride, *((9, 7) if stride == 1 else (5, 4)))

    def test_xception_is_depthwise_and_1x1_three_times(self):
        unit = ReleasedShuffleUnit(8, 20, 2, hidden=6, xception=True)
        convs = [layer.conv for layer in unit.branch]
        assert [(conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0]) for conv in convs] == [
            (8, 8, 3, 2), (8, 6, 1, 1), (6, 6, 3, 1), (6, 6, 1, 1), (6, 6, 3, 1), (6, 12, 1, 1)]
        assert [hasattr(layer, "act") for layer in unit.branch] == 3 * [False, True]
        assert [conv.groups for conv in convs] == [8, 1, 6, 1, 6, 1]

    @pytest.mark.parametrize(("arguments", "options", "words"), [
        ((8, 8, 0), {}, "stride must be 1 or 2, got 0"),
        ((8, 8, 1), {"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ((8, 10, 1), {}, "8 in and 10 out"), ((7, 7, 1), {}, "7 in and 7 out"),
        ((8, 8, 2), {}, "adds channels, got 8 in and 8 out"),
        ((8, 8, 1), {"hidden": 0}, "hidden must be at least 1, got 0")])
    def test_what_does_not_fit_is_refused(self, arguments, options, words):
        with pytest.raises(ValueError, match=words):
            ReleasedShuffleUnit(*arguments, **options)


def test_initialisation_is_the_official_codes():
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 256, 3))
    network = nn.Sequential(stem, nn.BatchNorm2d(256), nn.Conv2d(256, 64, 1), nn.Conv2d(64, 640, 3, groups=64),
                            nn.Linear(64, 100))
    nn.init.zeros_(network[1].weight)
    initialise_fan_in(network, stem)
    spreads = [layer.weight.std().item() for layer in (stem[0], network[2], network[3], network[4])]
    assert spreads == pytest.approx([0.01, 1 / 256, 1.0, 0.01], rel=0.05)
    assert all(not layer.bias.any() for layer in (stem[0], network[2], network[4]))
    assert torch.equal(network[1].weight, torch.ones(256)) and torch.equal(network[1].bias, torch.full((256,), 1e-4))
