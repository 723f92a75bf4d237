"""LeViT: position biases at every size, folding of BatchNorm, the two heads, and bad options."""
import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.layers import StochasticDepth, TrainingOutput
from lwcourse.models.levit import Attention, BNLinear, LinearBN, Pair, ShrinkingAttention, distances
from lwcourse.references.builders import timm_model
from lwcourse.verify import randomise_statistics, relative_error
from lwcourse.viz.diagram.graph import trace

NAMES = lw.list_models("LeViT")


def small(**options) -> nn.Module:
    torch.manual_seed(0)
    network = lw.create_model("levit_128s", num_classes=5, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # As it is born, its output hardly depends on the image.
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    randomise_statistics(network)
    return network


def test_distances_by_hand():
    assert distances(2, 2, stride=1, side=5).tolist() == [
        [0, 1, 5, 6],  # from the upper left pixel to itself, its right, the one below, the diagonal
        [1, 0, 6, 5],
        [5, 6, 0, 1],
        [6, 5, 1, 0],
    ]
    assert distances(1, 4, stride=2, side=4).tolist() == [[0, 1, 2, 3], [2, 1, 0, 1]]
    assert distances(3, 3, stride=2, side=3).shape == (4, 9)


def test_a_smaller_map_has_the_biases_of_the_same_distances():
    """timm's network for 96 x 64 pixels, with the entries of our larger tables, does what ours does."""
    ours, theirs = small(), timm_model("levit_128s", img_size=(96, 64))(5).eval()
    state = {key: value for key, value in ours.state_dict().items() if not key.endswith("biases")}
    target = [key for key in theirs.state_dict() if not key.endswith("biases")]
    assert len(state) == len(target)
    names = dict(zip(target, state, strict=True))  # both register their layers in the order in which they run
    theirs.load_state_dict({key: state[name] for key, name in names.items()}, strict=False)
    mine = [module for module in ours.modules() if isinstance(module, Attention)]
    other = [module for module in theirs.modules() if hasattr(module, "attention_biases")]
    with torch.no_grad():
        for a, b in zip(mine, other, strict=True):
            height, width = b.resolution
            assert height < a.side and width < a.side
            b.attention_biases.copy_(a.biases.unflatten(1, (a.side, a.side))[:, :height, :width].flatten(1))
        x = torch.randn(2, 3, 96, 64)
        assert relative_error(ours(x), theirs(x)) < 1e-5
        mine[0].biases[:, 1] += 1
        assert relative_error(ours(x), theirs(x)) > 1e-4  # the biases do matter


def test_a_network_for_larger_images_agrees_on_smaller_ones():
    ours, larger = small(), small(image_size=256)
    state = ours.state_dict()
    for name, module in larger.named_modules():
        if isinstance(module, Attention):
            side = ours.get_submodule(name).side
            wide = module.biases.detach().clone().unflatten(1, (module.side, module.side))
            wide[:, :side, :side] = state[f"{name}.biases"].unflatten(1, (side, side))
            state[f"{name}.biases"] = wide.flatten(1)
    larger.load_state_dict(state)
    x = torch.randn(1, 3, 224, 200)
    with torch.no_grad():
        assert relative_error(larger(x), ours(x)) < 1e-5
        assert larger(torch.randn(1, 3, 256, 240)).shape == (1, 5)


def test_images_larger_than_the_biases_are_refused():
    with pytest.raises(ValueError, match="up to 96 x 96 pixels, got 64 x 97; build it with image_size=97"):
        small(image_size=96)(torch.zeros(1, 3, 64, 97))


def test_attention_refuses_a_map_larger_than_its_biases():
    with pytest.raises(ValueError, match="maps of up to 4 x 4, got 3 x 6"):
        Attention(8, 8, key=4, heads=2, side=4)(torch.zeros(1, 3, 6, 8))


@pytest.mark.parametrize("size", [31, 0, -224, 224.0, "224", (224, 224)])
def test_a_bad_image_size_is_refused(size):
    with pytest.raises(ValueError, match="image_size must be an integer of at least 32") as error:
        lw.create_model("levit_128s", image_size=size)
    assert repr(size) in str(error.value)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_fuse_keeps_the_output(dtype, tolerance):
    network, x = small().to(dtype), torch.randn(2, 3, 64, 96, dtype=dtype)
    fused = network.fuse()
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in fused.modules())
    with torch.no_grad():
        assert relative_error(fused(x), network(x)) < tolerance
    assert lw.profile(fused, (3, 64, 96)).macs == lw.profile(network, (3, 64, 96)).macs


def test_fuse_leaves_the_original_as_it_was():
    network = small().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = network.fuse()
    with torch.no_grad():
        for parameter in fused.parameters():
            parameter.zero_()
    after = network.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[key], before[key]) for key in before)
    assert network.training and not any(module.training for module in fused.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("layer", [LinearBN(6, 4), BNLinear(6, 4)])
def test_a_layer_that_fuse_folds_is_linear(layer):
    """What makes folding possible: f(x + y) - f(y) does not depend on y."""
    layer.eval()
    randomise_statistics(layer)
    x, y = torch.randn(2, 5, 6)
    with torch.no_grad():
        assert torch.allclose(layer(x + y) - layer(y), layer(x) - layer(torch.zeros_like(x)), atol=1e-5)


def test_heads_stand_apart_in_training_and_together_after_it():
    network, x = small(), torch.randn(4, 3, 64, 64)
    features = {}
    for name in ("classifier", "distillation"):
        getattr(network, name).register_forward_hook(lambda m, args, out, name=name: features.update({name: out}))
    with torch.no_grad():
        logits = network(x)
    assert torch.equal(logits, (features["classifier"] + features["distillation"]) / 2)
    assert not torch.equal(features["classifier"], features["distillation"])
    output = network.train()(x)
    assert isinstance(output, TrainingOutput) and output.weight == 1.0
    assert torch.equal(output.logits, features["classifier"]) and len(output.auxiliary) == 1
    assert torch.equal(output.auxiliary[0], features["distillation"])


@pytest.mark.parametrize(("kind", "queries"), [(Attention, (3, 5)), (ShrinkingAttention, (2, 3))])
def test_attention_weights_are_those_that_forward_uses(kind, queries):
    torch.manual_seed(0)
    attention = kind(8, 6, key=4, heads=3, side=5).double().eval()
    randomise_statistics(attention)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        weights = attention.weights(x)
        values = attention.queries_keys_values(x)[2]
        mixed = torch.einsum("nhqk,nhkc->nqhc", weights, values).reshape(2, *queries, -1)
        assert (attention(x) - attention.project(mixed)).abs().max() < 1e-12
    assert weights.shape == (2, 3, queries[0] * queries[1], 15)
    assert (weights.sum(-1) - 1).abs().max() < 1e-12


def test_a_bias_moves_attention_to_its_distance():
    attention = Attention(8, 8, key=4, heads=2, side=4).eval()
    nn.init.zeros_(attention.qkv.linear.weight)  # all positions look the same
    with torch.no_grad():
        attention.biases[1, 4 * 1 + 2] = 100.0   # one row and two columns away
        weights = attention.weights(torch.randn(1, 4, 4, 8))[0]
    assert torch.allclose(weights[0], torch.full((16, 16), 1 / 16))
    assert weights[1, 0].argmax() == 1 * 4 + 2 and weights[1, 0].max() > 0.99


def test_a_fresh_pair_is_its_shortcut():
    x = torch.randn(2, 3, 3, 8)
    assert torch.equal(Pair(Attention(8, 8, 4, 2, side=3), 8, 0.0).eval()(x), x)


@pytest.mark.parametrize(("kind", "cost"), [
    (Attention, 16 * 8 * 12 * 4 + 16 * 16 * 12 * 3 + 16 * 24 * 8),
    (ShrinkingAttention, 16 * 8 * 12 * 5 + 4 * 8 * 12 + 4 * 16 * 12 * 5 + 4 * 48 * 8),
])
def test_the_cost_of_attention(kind, cost):
    assert lw.profile(kind(8, 8, key=4, heads=3, side=4), (4, 4, 8)).macs == cost


@pytest.mark.parametrize("name", NAMES)
def test_the_official_count_also_has_one_for_each_value_of_a_softmax(name):
    card = lw.model_card(name)
    network = lw.create_model(name)
    softmax = sum(module.heads * module.distances.numel() for module in network.modules()
                  if isinstance(module, Attention))
    official = round((card.counted_macs + softmax) / 1e6)
    assert official == (1128 if name == "levit_256" else card.published_macs_m)


def test_only_the_largest_drops_branches():
    rates = {name: {module.rate for module in lw.create_model(name, 2).modules() if isinstance(module, StochasticDepth)}
             for name in NAMES}
    assert rates == {name: {0.1} if name == "levit_384" else {0} for name in NAMES}


@pytest.mark.parametrize("kind", [Attention, ShrinkingAttention])
def test_attention_can_be_drawn(kind):
    diagram = trace(kind(8, 8, key=4, heads=2, side=4), torch.randn(1, 4, 4, 8))
    assert diagram.nodes[-1].kind == "output"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_export_of_a_fused_network_whose_maps_have_odd_sides(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network, x = small(image_size=112).fuse(), torch.randn(1, 3, 112, 112)
    torch.onnx.export(network, (x,), str(tmp_path / "network.onnx"), dynamo=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    exported = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        assert relative_error(torch.from_numpy(exported), network(x)) < 1e-5
