"""What is special to the ESPNets: the pyramid, its fusion, odd sizes, few classes, learning label maps."""
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import lwcourse as lw
from lwcourse.layers import DilatedPyramid, TrainingOutput
from lwcourse.models.espnet_v2 import EESP, ESPNetV2, StridedEESP
from lwcourse.models.segmentation.espnet_v1 import ESP
from lwcourse.models.segmentation.espnet_v2_seg import EfficientPyramid


def impulse(size: int = 41) -> torch.Tensor:
    """One bright pixel in the middle."""
    x = torch.zeros(1, 1, size, size)
    x[0, 0, size // 2, size // 2] = 1
    return x


def pyramid_of_ones(**options) -> DilatedPyramid:
    pyramid = DilatedPyramid(1, (1, 1, 1, 1, 1), (1, 2, 4, 8, 16), **options)
    for branch in pyramid.branches:
        torch.nn.init.ones_(branch.weight)
    return pyramid


def reached(maps: torch.Tensor) -> list[int]:
    """The number of pixels of each map that see the middle."""
    return [(one != 0).sum().item() for one in maps[0]]


@torch.no_grad()
def test_fusion_fills_the_grid_that_dilation_leaves():
    """Alone each branch sees 9 pixels, at any dilation; each fused one has 8 new ones around the middle."""
    assert reached(pyramid_of_ones(hierarchical=False)(impulse())) == [9, 9, 9, 9, 9]
    assert reached(pyramid_of_ones()(impulse())) == [9, 17, 25, 33, 41]
    assert reached(pyramid_of_ones(fuse_from=1)(impulse())) == [9, 9, 17, 25, 33]


def test_fused_maps_are_running_sums_and_pass_gradients():
    torch.manual_seed(0)
    pyramid = DilatedPyramid(2, (3, 2, 2), (1, 2, 4), fuse_from=1).double()
    x = torch.randn(2, 2, 7, 9, dtype=torch.float64, requires_grad=True)
    maps = [F.conv2d(x, branch.weight, padding=d, dilation=d)
            for branch, d in zip(pyramid.branches, (1, 2, 4), strict=True)]
    torch.testing.assert_close(pyramid(x), torch.cat([maps[0], maps[1], maps[1] + maps[2]], dim=1))
    assert torch.autograd.gradcheck(pyramid, x)


def test_branches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"equal channels, got \(3, 2\)"):
        DilatedPyramid(2, (3, 2), (1, 2))
    with pytest.raises(ValueError, match="channels and a dilation, got 2 and 3"):
        DilatedPyramid(2, (2, 2), (1, 2, 4))


@pytest.mark.parametrize(("channels", "branches"), [(64, [16, 12, 12, 12, 12]), (128, [28, 25, 25, 25, 25]),
                                                    (20, [4] * 5), (3, [1, 1, 1]), (1, [1])])
def test_esp_splits_channels_and_gives_the_rest_to_the_smallest_branch(channels, branches):
    esp = ESP(19, channels, stride=2)
    assert [branch.out_channels for branch in esp.pyramid.branches] == branches
    assert esp(torch.randn(2, 19, 9, 16)).shape == (2, channels, 5, 8)


def test_blocks_add_their_input_only_where_it_fits():
    assert ESP(20, 20).has_shortcut and not ESP(40, 20).has_shortcut and not ESP(20, 20, stride=2).has_shortcut
    assert EESP(32, 32, (1, 1, 2, 3)).has_shortcut and not EESP(64, 32, (1, 1, 2, 3)).has_shortcut
    for block, channels in ((ESP(20, 20), 20), (EESP(32, 32, (1, 1, 2, 3)), 32)):
        block.eval()
        for parameter in block.pyramid.parameters():
            torch.nn.init.zeros_(parameter)
        x = torch.rand(1, channels, 4, 4)  # positive, so that PReLU keeps it
        torch.testing.assert_close(block(x), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("build", "words"), [
    (lambda: ESP(8, 8, stride=3), "stride must be 1 or 2, got 3"),
    (lambda: EESP(32, 32, (1, 1, 2, 3), stride=4), "stride must be 1 or 2, got 4"),
    (lambda: EESP(32, 24, (1, 1, 2, 3)), "multiple of 4 and out_channels of 16, got 32 and 24"),
    (lambda: EESP(30, 32, (1, 1, 2, 3)), "multiple of 4 and out_channels of 16, got 30 and 32"),
    (lambda: lw.create_model("espnet_v1", p=0), "p must be a positive integer, got 0"),
    (lambda: lw.create_model("espnet_c", q=2.5), "q must be a positive integer, got 2.5"),
    (lambda: lw.create_model("espnet_v2", width=0.75), "width must be one of 0.5, 1.0, 1.25, 1.5, 2.0, .* got 0.75"),
    (lambda: lw.create_model("espnet_v2_seg", width=3), "width must be one of .* got 3"),
    (lambda: lw.create_model("espnet_v2_edgenets", width=0.25), "width must be one of .* got 0.25"),
])
def test_bad_options_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_fusion_is_switched_off_everywhere_and_costs_nothing():
    torch.manual_seed(0)
    fused = lw.create_model("espnet_v1", q=1).eval()
    plain = lw.create_model("espnet_v1", q=1, hierarchical=False).eval()
    plain.load_state_dict(fused.state_dict())
    pyramids = [module for module in plain.modules() if isinstance(module, DilatedPyramid)]
    assert len(pyramids) == 6 and not any(pyramid.hierarchical for pyramid in pyramids)
    x = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(plain(x), fused(x))
    assert lw.profile(plain, (3, 64, 64)).macs == lw.profile(fused, (3, 64, 64)).macs


def test_encoder_enlarges_its_map_of_classes():
    torch.manual_seed(0)
    network = lw.create_model("espnet_c", 5, q=1).eval()
    small = lw.create_model("espnet_c", 5, q=1, upsample=False).eval()
    small.load_state_dict(network.state_dict())
    x = torch.randn(1, 3, 33, 50)
    assert small(x).shape == (1, 5, 5, 7)
    torch.testing.assert_close(network(x), F.interpolate(small(x), (33, 50), mode="bilinear"))


@pytest.mark.parametrize("name", ["espnet_c", "espnet_v1", "espnet_v2_seg", "espnet_v2_edgenets"])
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_few_classes_and_any_size(name, classes):
    network = lw.create_model(name, classes, **({"p": 1, "q": 1} if "v2" not in name else {})).eval()
    with torch.no_grad():
        for size in ((16, 16), (17, 31), (40, 23)):
            assert network(torch.randn(1, 3, *size)).shape == (1, classes, *size)


def test_an_odd_image_is_that_image_padded_on_the_right_for_espnet():
    """Sides of 2k - 1 and 2k pixels give levels of one size: cutting loses nothing but the surplus pixels."""
    network = lw.create_model("espnet_v1", 5, q=1).eval()
    sides = {}
    for size in ((31, 47), (32, 48)):
        sides[size] = [tuple(level.shape[2:]) for level in network.levels(torch.zeros(1, 3, *size))]
    assert sides[31, 47] == sides[32, 48] == [(16, 24), (16, 24), (8, 12), (4, 6)]


def test_levels_of_espnet_v2_see_the_image_but_for_the_last():
    network = ESPNetV2(10)
    units = [block for block in network.blocks if isinstance(block, StridedEESP)]
    assert [unit.image is not None for unit in units] == [True, True, True, False]
    network.eval()
    maps = network.levels(torch.randn(1, 3, 45, 70))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (32, 23, 35), (64, 12, 18), (128, 6, 9), (256, 3, 5), (512, 2, 3)]


def test_first_decoder_of_espnet_v2_trains_two_heads_of_the_labels_size():
    torch.manual_seed(0)
    network, x = lw.create_model("espnet_v2_seg", 6, width=0.5), torch.randn(2, 3, 50, 70)
    output = network(x)
    assert isinstance(output, TrainingOutput) and output.weight == 1.0
    assert output.logits.shape == output.auxiliary[0].shape == (2, 6, 50, 70)
    assert isinstance(network.eval()(x), torch.Tensor)


def test_no_window_of_the_efficient_pyramid_is_below_five_pixels():
    sizes = []
    pyramid = EfficientPyramid(8, 4, 6).eval()
    for branch in pyramid.filters:
        branch.register_forward_hook(lambda module, args, out: sizes.append(tuple(out.shape[2:])))
    assert pyramid(torch.randn(1, 8, 7, 20)).shape == (1, 6, 7, 20)
    assert sizes == [(14, 40), (11, 30), (7, 20), (5, 10), (5, 5)]


def test_the_alias_is_the_shallow_espnet():
    assert len(lw.create_model("espnetv1").blocks[4]) == 3 and len(lw.create_model("espnet_v1").blocks[4]) == 8
    assert lw.create_model("espnetv1").classify.out_channels == 20


def test_espnet_learns_a_handful_of_scenes():
    data = lw.load_data("scenes", train_images=8, test_images=1, image_size=(32, 64))
    data = replace(data, test=data.train)
    torch.manual_seed(0)
    network = lw.create_model("espnet_v1", data.num_classes, p=1, q=1)
    before = lw.evaluate(network, data)
    lw.fit(network, data, epochs=20, batch_size=4, lr=0.2, progress=False)
    after = lw.evaluate(network, data)
    commonest = after.confusion.sum(1).max().item() / after.confusion.sum().item()
    assert after.mean_iou > 3 * before.mean_iou and after.accuracy > commonest + 0.3
