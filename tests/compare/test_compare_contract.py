"""lwcourse.compare: what is equal is called equal, nothing is changed, and the report and the errors read well."""
import random

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from sample_networks import Tiny, images
from torch import nn

from lwcourse import compare, create_model


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Equal networks

def test_equal_to_torchvision_and_timm():
    ours = create_model("mobilenet_v2")
    for reference in (torchvision.models.mobilenet_v2(), timm.create_model("mobilenetv2_100")):
        result = compare(ours, reference, images(1, 3, 48, 33))
        assert result.equal and result.first_difference is None and result.max_error < 1e-9
        assert len(result.layers) == 105 and all(layer.ok for layer in result.layers)
    assert (result.layers[-1].mine, result.layers[-1].reference) == ("classifier.1", "classifier")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtypes_are_brought_together(dtype):
    assert compare(Tiny().to(dtype), Tiny().double(), images(2, 3, 40, 33).to(dtype)).equal


def test_a_forward_that_insists_on_float32_is_compared_in_float32():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) @ torch.eye(4, dtype=torch.float32)
    result = compare(Stubborn(), Stubborn(), images(2, 4))
    assert result.equal and result.tolerance == 1e-4
    assert any("compared in float32" in note for note in result.notes)


class Written(nn.Module):
    """Two branches, joined by `join`."""

    def __init__(self, join):
        super().__init__()
        self.left, self.right, self.join = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), join

    def forward(self, x):
        return self.join(self.left(x), self.right(x))


def slices(a, b):
    made = torch.empty(a.shape[0], 8, *a.shape[2:])
    made[:, :4], made[:, 4:] = a, b
    return made


def in_float32(a, b):
    return torch.cat([a.float(), b.float()], dim=1).to(a.dtype)


def scaled_in_float32(a, b):
    return torch.cat([a.float(), 1.01 * b.float()], dim=1).to(a.dtype)


def test_what_a_forward_makes_itself_is_as_exact_as_the_rest():
    reference = Written(lambda a, b: torch.cat([a, b], dim=1))
    result = compare(Written(slices), reference, images(2, 3, 5, 7))
    assert result.equal and result.tolerance == 1e-9
    result = compare(Written(in_float32), reference, images(2, 3, 5, 7))
    assert result.equal and result.tolerance == 1e-4
    assert not compare(Written(scaled_in_float32), reference, images(2, 3, 5, 7)).equal
    assert torch.get_default_dtype() is torch.float32


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def __init__(self, swap=False):
            super().__init__()
            self.a, self.b, self.swap = nn.Linear(4, 3), nn.Linear(5, 3), swap

        def forward(self, x, y):
            a, b = self.a(x), self.b(y)
            return {"sum": a + b, "parts": [b, a] if self.swap else [a, b], "note": None}
    inputs = images(2, 4), images(2, 5)
    assert compare(Two(), Two(), inputs).equal
    result = compare(Two(swap=True), Two(), inputs)
    assert not result.equal
    assert "yours is the output of `b`, but the reference's is the output of `a`" in result.first_difference


@pytest.mark.parametrize("layout", ["N C", "N H W C", "N HW C"])
def test_a_linear_layer_may_stand_for_a_1x1_convolution(layout):
    class Mixer(nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.mix, self.end = nn.Conv2d(6, 8, 1) if conv else nn.Linear(6, 8), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            if isinstance(self.mix, nn.Conv2d):
                return self.end(self.mix(x))
            if layout == "N HW C":
                return self.end(self.mix(x.flatten(2).mT).mT.unflatten(2, x.shape[2:]))
            if layout == "N H W C":
                return self.end(self.mix(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
            return self.end(self.mix(x.flatten(1))[:, :, None, None])
    x = images(2, 6, 4, 5) if "H" in layout else images(2, 6, 1, 1)
    for pair in ((Mixer(False), Mixer(True)), (Mixer(True), Mixer(False))):
        result = compare(*pair, x)
        assert result.equal and result.notes == [] and all(layer.ok for layer in result.layers)


def test_attention_with_and_without_a_module():
    """torch's MultiheadAttention never calls its output projection; timm calls two linear layers instead."""
    ours = torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=10)
    reference = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=4, mlp_ratio=2, num_classes=10)
    assert compare(ours, reference, images(2, 3, 32, 32)).equal
    heads = torchvision.models.VisionTransformer(32, 8, 2, 8, 64, 128, num_classes=10)
    assert "heads 8, but the reference has heads 4" in compare(heads, ours, images(2, 3, 32, 32)).first_difference


def test_attention_takes_no_fast_path_which_would_skip_the_hooks():
    seen = []

    class Looks(nn.Linear):
        def forward(self, x):
            seen.append(torch.backends.mha.get_fastpath_enabled())
            return super().forward(x)
    before = torch.backends.mha.get_fastpath_enabled()
    assert before and compare(Looks(3, 3), nn.Linear(3, 3), images(2, 3)).equal
    assert not any(seen) and torch.backends.mha.get_fastpath_enabled()


def test_equal_although_something_inside_is_done_in_another_order():
    """ReLU and max pooling commute: the same outputs, and a note that the inside differs."""
    def network(*middle):
        return nn.Sequential(nn.Conv2d(3, 8, 3), *middle, nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(72, 2))
    mine = network(nn.MaxPool2d(2), nn.ReLU())
    assert compare(mine, network(nn.ReLU(), nn.MaxPool2d(2)), images(2, 3, 8, 8)).notes == []
    linear = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AvgPool2d(2), nn.Conv2d(8, 4, 1))
    swapped = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.AvgPool2d(2))
    result = compare(linear, swapped, images(2, 3, 8, 8))
    assert result.equal and result.first_difference is None
    assert result.notes == ["some layers inside give other values than their partners, but the outputs agree"]


def test_branches_that_only_their_strides_tell_apart():
    class Branches(nn.Module):
        def __init__(self, slow_first):
            super().__init__()
            self.slow, self.fast, self.slow_first = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1, stride=2), slow_first

        def forward(self, x):
            parts = [F.max_pool2d(self.slow(x), 2), self.fast(x)] if self.slow_first else \
                [self.fast(x), F.max_pool2d(self.slow(x), 2)][::-1]
            return torch.cat(parts, 1)
    result = compare(Branches(True), Branches(False), images(1, 3, 8, 8))
    assert result.equal
    assert result.notes == ["2 layers run in another order than in the reference, the first being your `fast` "
                            "(reference: `fast`)"]


def test_notes_on_what_outputs_do_not_show():
    mine, reference = Tiny(momentum=0.01, dropout=0.2), Tiny(dropout=0.5)
    mine.spare = nn.Linear(3, 3)
    result = compare(mine, reference, images(2, 3, 40, 32))
    assert result.equal
    assert "BatchNorm momentum: 0.01 in your `norm1`, 0.1 in the reference (1 such layers)" in result.notes[0]
    assert "dropout rates: 0.2 in your network, 0.5 in the reference" in result.notes[1]
    assert "your network has parameters that x never reaches" in result.notes[2]
    assert "ignored: `spare.weight`, `spare.bias`" in result.notes[2] and len(result.notes) == 3


@pytest.mark.parametrize("context", [
    lambda: torch.device("meta"), torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16),
], ids=["device", "inference", "autocast"])
def test_works_inside_other_contexts(context):
    mine, wrong, reference, x = Tiny(), Tiny(groups=2), Tiny(), images(2, 3, 40, 32)
    with context():
        assert compare(mine, reference, x).max_error < 1e-9
        assert "a channel shuffle with 2 groups" in compare(wrong, reference, x).first_difference


# Nothing changes

def state_of(model):
    tensors = {name: (tensor.clone(), tensor.requires_grad, None if tensor.grad is None else tensor.grad.clone())
               for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    modules = {name: (m.training, list(m._forward_hooks), list(m._forward_pre_hooks))
               for name, m in model.named_modules()}
    return tensors, modules


def assert_same_state(before, after):
    assert before[1] == after[1]
    assert before[0].keys() == after[0].keys()
    for name, (tensor, needs, grad) in before[0].items():
        other, other_needs, other_grad = after[0][name]
        assert torch.equal(tensor, other) and needs == other_needs, name
        assert (grad is None) == (other_grad is None) and (grad is None or torch.equal(grad, other_grad)), name


@pytest.mark.parametrize("options", [
    {}, dict(act=F.relu), dict(norm2=False), dict(always_drop=True, dropout=0.5),
    dict(end=lambda x: x * random.random() * np.random.rand()), dict(scale=torch.ones(3)),
], ids=["equal", "different", "structure", "dropout", "random", "raises"])
def test_compare_leaves_everything_as_it_was(options):
    models = Tiny(**options), Tiny()
    for model in models:
        model(images(2, 3, 32, 32)).sum().backward() if options.get("scale") is None else None
        model.norm1.eval()
        model.conv1.weight.requires_grad_(False)
        model.fc.register_forward_hook(lambda module, args, output: None)
    x = images(2, 3, 32, 32)
    before, x_before = [state_of(model) for model in models], x.clone()
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    if "scale" in options:
        with pytest.raises(ValueError):
            compare(*models, x)
    else:
        compare(*models, x)
    for model, state in zip(models, before, strict=True):
        assert_same_state(state, state_of(model))
    assert torch.equal(x, x_before) and torch.is_grad_enabled()
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), str(np.random.get_state()))


def test_hooks_of_ones_own_do_not_run_and_those_of_torch_do():
    torch.manual_seed(0)
    mine, reference, seen = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), []
    mine[0].register_forward_hook(lambda module, args, output: seen.append(output))
    mine[1].register_forward_pre_hook(lambda module, args: seen.append(args))
    result = compare(mine, reference, images(2, 4))
    assert result.equal and not seen
    assert result.notes == ["your network has forward hooks, which did not run: on `0`"]
    mine[1](mine[0](images(2, 4)))
    assert len(seen) == 2

    normed = nn.Sequential(torch.nn.utils.spectral_norm(nn.Linear(4, 4)), nn.ReLU())
    assert compare(normed, normed, images(2, 4)).notes == []


def test_the_same_comparison_gives_the_same_report():
    mine, reference = Tiny(act=F.relu), Tiny()
    assert str(compare(mine, reference, images(2, 3, 40, 32))) == str(compare(mine, reference, images(2, 3, 40, 32)))


# The report

def test_report_as_text_and_html():
    equal, wrong = (compare(Tiny(eps=eps), Tiny(), images(2, 3, 40, 32)) for eps in (1e-5, 1e-3))
    assert str(equal).splitlines()[0] == "Equal, to 1e-09 of the largest output."
    assert repr(equal) == str(equal) and "(4 of 15 layers shown)" in str(equal)
    lines = str(wrong).splitlines()
    assert lines[0] == "Different. " + wrong.first_difference
    assert lines[2].split() == ["layer", "yours", "reference", "kind", "output", "error"]
    assert [line.split()[:2] for line in lines[3:-1]] == [["ok", "1"], ["x", "2"], ["x", "3"], ["x", "4"]]
    page = wrong._repr_html_()
    assert "<code>norm1</code>" in page and page.index("eps 0.001") < page.index("<table")
    assert page.count("✓") == 1 and page.count("✗") == 3 and "✗" not in equal._repr_html_()


def test_names_are_escaped_in_html():
    class Angle(nn.Sequential):
        def forward(self, x):
            return self[0](x)
    model = Angle(nn.Linear(3, 3))
    model[0].__class__ = type("<b>", (nn.Linear,), {})
    assert "<b>" not in compare(model, model, images(2, 3))._repr_html_()


def test_layers_tell_what_was_compared():
    result = compare(Tiny(norm2=False), Tiny(stem=dict(stride=1)), images(2, 3, 40, 32))
    first, lonely = result.layers[0], result.layers[3]
    assert (first.mine, first.mine_kind, first.mine_shape) == ("conv1", "Conv2d", (2, 16, 20, 16))
    assert (first.reference_shape, first.error, first.ok) == ((2, 16, 40, 32), float("inf"), False)
    assert (lonely.mine, lonely.mine_kind, lonely.reference) == (None, None, "norm2")
    assert lonely.error is None and not lonely.ok


# Bad input

class Broken(nn.Module):
    def __init__(self, padding):
        super().__init__()
        self.conv, self.end = nn.Conv2d(3, 3, 3, padding=padding), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.end(self.conv(x) + x)


def test_a_network_that_breaks_is_still_told_where_it_went_wrong():
    with pytest.raises(ValueError, match=(
            r"your network cannot run x of shape \(2, 3, 8, 8\): its own forward \(Broken\) says: .*size of tensor.* "
            r"It had left the reference before: layer 1 of 1, your `conv` \(reference: `conv`\): "
            r"padding 0, but the reference has padding 1")) as raised:
        compare(Broken(0), Broken(1), images(2, 3, 8, 8))
    assert isinstance(raised.value.__cause__, RuntimeError)
    with pytest.raises(ValueError, match="the reference cannot run x of shape"):
        compare(Broken(1), Broken(0), images(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"`0` \(Linear\) says: mat1 and mat2"):
        compare(nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(5, 4)), images(2, 5))


class Silent(nn.Linear):
    def forward(self, x):
        return "a string"


class Remembers(nn.Linear):
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


def test_bad_models_and_inputs():
    x, model = images(2, 3), nn.Linear(3, 3)
    for bad, kind, words in [
        (nn.ReLU(), ValueError, r"your network \(ReLU\) has no parameters"),
        (nn.LazyLinear(3), ValueError, "your network has lazy layers"),
        (nn.Linear, TypeError, r"must be a torch.nn.Module, got Linear; create an instance"),
        ("mobilenet_v2", TypeError, "your network must be a torch.nn.Module, got str"),
        (Silent(3, 3), ValueError, "your network returns no tensor"),
    ]:
        with pytest.raises(kind, match=words):
            compare(bad, model, x)
        with pytest.raises(kind, match=words.replace("your network", "the reference")):
            compare(model, bad, x)
    for bad, kind, words in [
        ([x], TypeError, "x must be a tensor or a tuple of tensors, .* got list"),
        ((x, 3), TypeError, "got a tuple with int"),
        ((), TypeError, "empty tuple"),
        (torch.zeros(0, 3), ValueError, r"no elements: its shape is \(0, 3\)"),
        (torch.ones(2, 3), ValueError, r"x is 1 everywhere, which hides differences; .*torch.randn\(2, 3\)"),
        (x / 0, ValueError, "NaN or infinite"),
    ]:
        with pytest.raises(kind, match=words):
            compare(model, model, bad)


def test_a_network_that_cannot_be_copied():
    model = Remembers(3, 3)
    model(images(2, 3))
    with pytest.raises(ValueError, match="your network cannot be copied.*earlier forward pass"):
        compare(model, nn.Linear(3, 3), images(2, 3))


def test_one_thread_inside_and_as_many_as_before_afterwards():
    class Spy(nn.Module):
        def __init__(self, seen):
            super().__init__()
            self.linear, self.seen = nn.Linear(4, 4), seen

        def forward(self, x):
            self.seen.append(torch.get_num_threads())
            return self.linear(x)

        def __deepcopy__(self, memo):  # copies report to the same list
            return Spy(self.seen)

    seen, before = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compare(Spy(seen), Spy(seen), torch.randn(2, 4))
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
