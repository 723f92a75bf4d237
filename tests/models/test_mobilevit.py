"""MobileViT: unfolding and folding, the attention maps, and that every pixel attends to its like in other patches."""
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import lwcourse as lw
from lwcourse.models.mobilevit import Attention, MobileViTBlock, TransformerLayer, fold, unfold
from lwcourse.verify import relative_error


def test_unfold_deals_out_the_pixels_of_each_patch():
    image = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert unfold(image)[..., 0].tolist() == [
        [0, 2, 4, 12, 14, 16],   # the upper left pixel of every 2 x 2 patch, row by row
        [1, 3, 5, 13, 15, 17],   # upper right
        [6, 8, 10, 18, 20, 22],  # lower left
        [7, 9, 11, 19, 21, 23],
    ]


def test_unfold_keeps_images_and_channels_apart():
    x = torch.randn(3, 5, 4, 6)
    sequences = unfold(x)
    assert sequences.shape == (12, 6, 5)
    for image in range(3):
        assert torch.equal(sequences[4 * image:4 * image + 4], unfold(x[image:image + 1]))
    assert torch.equal(sequences[..., 2:3], unfold(x[:, 2:3]))


@pytest.mark.parametrize(("patch", "height", "width"), [(1, 3, 5), (2, 4, 6), (2, 6, 4), (4, 8, 4)])
def test_fold_undoes_unfold(patch, height, width):
    x = torch.randn(2, 3, height, width)
    assert torch.equal(fold(unfold(x, patch), height, width, patch), x)


def test_attention_weights_are_those_that_forward_uses():
    torch.manual_seed(0)
    attention = Attention(12, heads=3).double()
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    with torch.no_grad():
        weights = attention.weights(x)
        values = attention.qkv(x)[..., 24:].unflatten(-1, (3, 4)).transpose(1, 2)
        by_hand = attention.project((weights @ values).transpose(1, 2).flatten(2))
        assert (attention(x) - by_hand).abs().max() < 1e-12
    assert weights.shape == (2, 3, 7, 7) and weights.min() > 0
    assert (weights.sum(-1) - 1).abs().max() < 1e-12
    assert weights.std() > 1e-3  # a uniform map would prove nothing


@pytest.mark.parametrize("heads", [0, 5])
def test_attention_refuses_heads_that_do_not_divide_the_channels(heads):
    with pytest.raises(ValueError, match=f"12 channels do not divide into {heads} heads"):
        Attention(12, heads=heads)


def test_a_pixel_attends_to_the_same_place_of_every_patch_and_to_no_other():
    torch.manual_seed(0)
    layer = TransformerLayer(8).eval()
    x = torch.randn(1, 8, 6, 4, requires_grad=True)
    fold(layer(unfold(x)), 6, 4)[0, :, 2, 1].sum().backward()
    reached = x.grad[0].abs().sum(0) > 0
    expected = torch.zeros(6, 4, dtype=torch.bool)
    expected[0::2, 1::2] = True
    assert torch.equal(reached, expected)


def test_with_the_convolutions_a_pixel_sees_the_whole_map():
    torch.manual_seed(0)
    block = MobileViTBlock(4, 8, depth=1).eval()
    x = torch.randn(1, 4, 12, 16, requires_grad=True)
    block(x)[0, :, 0, 0].sum().backward()
    assert (x.grad[0].abs().sum(0) > 0).all()


def test_maps_that_patches_do_not_divide_are_stretched_and_shrunk_back():
    torch.manual_seed(0)
    block = MobileViTBlock(4, 8, depth=1).eval()
    x = torch.randn(2, 4, 7, 10)
    with torch.no_grad():
        y = F.interpolate(block.widen(block.local(x)), (8, 10), mode="bilinear", align_corners=False)
        y = F.interpolate(fold(block.transformer(unfold(y)), 8, 10), (7, 10), mode="bilinear", align_corners=False)
        expected = block.fuse_maps(torch.cat([x, block.narrow(y)], 1))
        assert torch.equal(block(x), expected)


@pytest.mark.parametrize("name", ["mobilevit_xxs", "mobilevit_xs", "mobilevit_s"])
def test_the_products_of_attention_count(name):
    """The kernel of the CPU hides them from PyTorch's counter; plain products do not."""
    network = lw.create_model(name).eval()
    with FlopCounterMode(display=False) as oracle, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network(torch.zeros(1, 3, 64, 96))
    assert 2 * lw.profile(network, (3, 64, 96)).macs == oracle.get_total_flops()


def test_the_cost_of_a_block_is_its_formula():
    channels, tokens, depth, pixels = 4, 8, 3, 8 * 12
    formula = pixels * (27 * channels**2 + 2 * channels * tokens
                        + depth * (8 * tokens**2 + 2 * pixels // 4 * tokens))
    assert lw.profile(MobileViTBlock(channels, tokens, depth), (channels, 8, 12)).macs == formula


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    network, x = lw.create_model("mobilevit_xxs", num_classes=5), torch.randn(2, 3, 64, 64)
    assert not torch.equal(network(x), network(x))
    with torch.no_grad():
        assert torch.equal(network.eval()(x), network(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_export_of_maps_that_patches_do_not_divide(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network, x = lw.create_model("mobilevit_xxs", num_classes=5).eval(), torch.randn(1, 3, 96, 200)
    torch.onnx.export(network, (x,), str(tmp_path / "network.onnx"), dynamo=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    exported = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        assert relative_error(torch.from_numpy(exported), network(x)) < 1e-5
