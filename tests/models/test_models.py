"""What proves a network: each test runs for every registered name."""
import copy
import importlib
import io
import re
from functools import lru_cache
from inspect import signature
from pathlib import Path

import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.layers import StochasticDepth, TrainingOutput
from lwcourse.references import GOLDEN, REFERENCES, Reference
from lwcourse.registry import factory
from lwcourse.verify import (
    GOLDEN_TOLERANCE,
    TOLERANCE,
    golden_error,
    randomise_statistics,
    reference_errors,
    relative_error,
)

NAMES = lw.list_models()
# Their blocks are those of a smaller size: only `make heavy` tests in them what does not depend on numbers.
LARGER = {"convnext_small", "convnext_base", "efficientnet_lite1", "efficientnet_lite2", "efficientnet_lite3",
          "efficientnet_lite4", "hrnet_w18_small_v2", "hrnet_w18", "hrnet_w32", "ic_resnet34", "ic_resnet101",
          "levit_128", "levit_192", "levit_256", "levit_384", "parnet_m", "parnet_l", "parnet_xl", "resnest50",
          "resnest50_1s4x24d", "resnet34", "resnet101", "resnet34_d", "resnet101_d"}
EVERY_NAME = [pytest.param(name, marks=pytest.mark.heavy) if name in LARGER else name for name in NAMES]
EVERY_VARIANT = [pytest.param(name, {}, lw.model_card(name), id=name) for name in NAMES] + [
    pytest.param(name, dict(variant.arguments), variant,
                 id="-".join([name, *(f"{key}{value}" for key, value in variant.arguments.items())]))
    for name in NAMES for variant in lw.model_card(name).variants]


def new(name: str, dtype: torch.dtype = torch.float32, **options) -> nn.Module:
    """A network whose statistics are not the trivial ones of a fresh BatchNorm, in eval mode."""
    torch.manual_seed(0)
    network = lw.create_model(name, **options).eval()
    randomise_statistics(network)
    return network.to(dtype)


shared = lru_cache(maxsize=3)(new)  # for tests that leave it as it is; conftest.py puts those of a network in a row


@lru_cache(maxsize=1)
def without_numbers(name: str, **options) -> nn.Module:
    """A network on PyTorch's device of shapes alone, where counting takes no time; to be left as it is."""
    with torch.device("cpu" if name == "condensenet" else "meta"):  # CondenseNet looks at its indices
        return lw.create_model(name, **options).eval()


def side(name: str, least: int = 64) -> int:
    """Of a small image that the network takes."""
    return max(least, lw.model_card(name).smallest)


def images(name: str, count: int, dtype: torch.dtype = torch.float32, least: int = 64) -> torch.Tensor:
    return torch.randn(count, lw.model_card(name).input_size[0], side(name, least), side(name, least), dtype=dtype)


def logits_shape(name: str, x: torch.Tensor, classes: int) -> tuple[int, ...]:
    """What the network makes of images: a row of logits for each, or a map of such rows."""
    return (len(x), classes, *x.shape[2:]) if lw.model_card(name).task == "segmentation" else (len(x), classes)


@pytest.mark.parametrize(("name", "arguments", "figures"), EVERY_VARIANT)
def test_counts_are_exactly_those_of_the_card(name, arguments, figures):
    counted = lw.profile(without_numbers(name, **arguments), lw.model_card(name).input_size)
    assert (counted.params, counted.macs, counted.adds) == (
        figures.counted_params, figures.counted_macs, figures.counted_adds)


@pytest.mark.parametrize(("name", "arguments", "figures"), EVERY_VARIANT)
def test_published_figures_agree_or_the_card_says_why_not(name, arguments, figures):
    def rounds_to(counted: int, published: float | None) -> bool:
        if published is None:
            return False
        decimals = len(repr(published).partition(".")[2]) if isinstance(published, float) else 0
        return abs(counted / 1e6 - published) <= 0.5 * 10.0**-decimals

    agree = (rounds_to(figures.counted_params, figures.published_params_m)
             and rounds_to(figures.counted_macs, figures.published_macs_m))
    assert agree or len(figures.note) > 20, "the published figures are not ours, and no note says why"


@pytest.mark.parametrize("name", NAMES)
def test_stage_sizes_are_those_in_the_margin_of_the_table(name):
    """Each row of a table ends in `# side -> side`: what the network makes of an image of the card's size."""
    network, card = without_numbers(name), lw.model_card(name)
    source = Path(importlib.import_module(type(network).__module__).__file__).read_text()
    tables = {table: [(int(a), int(b)) for a, b in re.findall(r"#\s*(\d+)\s*->\s*(\d+)$", rows, re.M)]
              for table, rows in re.findall(r"^(\w+)(?:: [^=\n]+)? = \((.*?)^\)", source, re.M | re.S)}
    margins = {table: margin for table, margin in tables.items() if margin}
    if len(margins) > 1:  # the table that the network is named after
        margins = {table: margin for table, margin in margins.items() if table.lower() in name}
    ((table, margin),) = margins.items()
    rows = getattr(importlib.import_module(type(network).__module__), table)
    repeats = getattr(network, "repeats", [getattr(row, "repeats", 1) for row in rows])
    if len(network.blocks) != sum(repeats):  # then each module of `blocks` is a row
        repeats = [1] * len(rows)
    assert len(margin) == len(rows) and len(network.blocks) == sum(repeats)

    size = (3, 224, 224) if name.startswith("efficientnet") else card.input_size  # one table for five sizes
    sides = []
    handles = [block.register_forward_hook(lambda m, args, out: sides.append((width(args), width(out))))
               for block in network.blocks]
    with torch.no_grad():
        network(torch.zeros(1, *size, device=next(network.parameters()).device))
    for handle in handles:
        handle.remove()
    ends = [sum(repeats[:i + 1]) for i in range(len(repeats))]
    assert [(sides[end - count][0], sides[end - 1][1]) for end, count in zip(ends, repeats, strict=True)] == margin


def width(value) -> int:
    """Of a map, or of the first one where a module takes or returns several."""
    while not isinstance(value, torch.Tensor):
        value = value[0]
    return value.shape[-1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("more", [(0, 0), (11, 37)], ids=["even", "odd"])
def test_output_is_one_row_of_logits_per_image_or_pixel(name, more):
    x = torch.randn(2, 1, side(name) + more[0], side(name) + more[1])
    with torch.no_grad():
        assert shared(name, num_classes=7, in_channels=1)(x).shape == logits_shape(name, x, 7)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    network = new(name, num_classes=10).train()  # with random numbers: a branch that starts at zero passes none back
    for module in network.modules():
        if isinstance(module, StochasticDepth):  # nor does one that is dropped for both images
            module.rate = 0.0
    x = images(name, 2, least=80)  # at 64 the last map may be one pixel, alone in its softmax
    output = network(x)
    for logits in (output.logits, *output.auxiliary) if isinstance(output, TrainingOutput) else (output,):
        assert logits.shape == logits_shape(name, x, 10)
        logits.square().sum().backward(retain_graph=True)
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


@pytest.mark.parametrize("name", EVERY_NAME)
def test_eval_mode_is_deterministic_and_independent_of_the_batch(name):
    network, x = shared(name, torch.float64), images(name, 2, torch.float64)
    with torch.no_grad():
        together, alone, again = network(x), network(x[1:]), network(x[1:])
    assert torch.equal(alone, again)
    assert relative_error(alone, together[1:]) < 1e-10


@pytest.mark.parametrize("name", EVERY_NAME)
def test_state_dict_round_trips(name):
    network, x, file = shared(name), images(name, 1), io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    other = lw.create_model(name).eval()
    with torch.no_grad():
        expected = network(x)
        assert not torch.equal(other(x), expected)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_builds_one_network_in_silence(name, capfd):
    torch.manual_seed(3)
    first = lw.create_model(name, num_classes=10).state_dict()
    torch.manual_seed(3)
    second = lw.create_model(name, num_classes=10).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", EVERY_NAME)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_export_gives_the_same_output(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    height, width = side(name, 32) + 11, side(name, 32) + 6  # odd, even: what a size of 64 hides
    network, x = shared(name), torch.randn(2, lw.model_card(name).input_size[0], height, width)
    torch.onnx.export(network, (x,), str(tmp_path / "network.onnx"), dynamo=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    exported = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        assert relative_error(torch.from_numpy(exported), network(x)) < 1e-5


@pytest.mark.parametrize("name", EVERY_NAME)
def test_channels_last_gives_the_same_output(name):
    network, x = copy.deepcopy(shared(name, torch.float64)), images(name, 1, torch.float64)
    with torch.no_grad():
        expected = network(x)
        found = network.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert relative_error(found, expected) < 1e-10


def reference_id(case) -> str:
    name, reference, classes = case
    return "-".join([name, *map(str, reference.arguments.values()), reference.label.replace(" ", "_"), str(classes)])


def lightest() -> set[str]:
    """Of each file of networks the one with the fewest MACs."""
    files = {}
    for name in sorted(REFERENCES, key=lambda name: -lw.model_card(name).counted_macs):
        files[factory(name).__module__] = name
    return set(files.values())


CASES = [pytest.param((name, reference, classes),
                      marks=[] if classes == reference.classes[-1] or name in lightest() else pytest.mark.heavy)
         for name, references in REFERENCES.items() for reference in references
         for classes in (reference.classes if reference is references[0] else reference.classes[-1:])]


@pytest.mark.parametrize("case", CASES, ids=reference_id)
def test_logits_equal_the_reference(case: tuple[str, Reference, int]):
    name, reference, classes = case
    dtypes = [torch.float32] if classes != reference.classes[-1] else [torch.float64]
    if len(reference.classes) == 1:
        dtypes = list(TOLERANCE)
    errors = reference_errors(*case, dtypes)  # each number of classes in another precision; `verify` takes both
    assert all(error < TOLERANCE[dtype] for dtype, error in errors.items()), errors


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in GOLDEN.items() for case in cases])
def test_output_equals_the_official_codes(name, case):
    assert golden_error(name, case) < GOLDEN_TOLERANCE


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(LARGER))
def test_a_larger_size_has_the_blocks_of_a_smaller_one(name):
    def blocks(of: str) -> tuple[str, set[type]]:
        return factory(of).__module__, {type(module) for module in without_numbers(of).modules()}
    smaller = [other for other in set(NAMES) - LARGER if lw.model_card(other).family == lw.model_card(name).family]
    assert blocks(name) in [blocks(other) for other in smaller]


def test_every_network_has_a_reference():
    assert sorted({*REFERENCES, *GOLDEN}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_card_names_a_reference_that_is_tested(name):
    labels = [reference.label for reference in REFERENCES.get(name, ())]
    assert lw.model_card(name).reference in labels or (name in GOLDEN and "official" in lw.model_card(name).reference)


@pytest.mark.parametrize("name", NAMES)
def test_published_accuracy_is_that_of_the_task(name):
    card = lw.model_card(name)
    assert card.task in ("classification", "segmentation")
    for figures in (card, *card.variants):
        assert (figures.published_top1 if card.task == "segmentation" else figures.published_miou) is None


@pytest.mark.parametrize("name", NAMES)
def test_aliases_build_the_same_network(name):
    for alias, arguments in lw.model_card(name).aliases.items():
        assert getattr(lw, alias) is factory(alias) and (arguments or factory(alias) is factory(name))
        built, expected = (lw.create_model(alias, 10).state_dict(), lw.create_model(name, 10, **arguments).state_dict())
        assert [(key, value.shape) for key, value in built.items()] == [
            (key, value.shape) for key, value in expected.items()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("options", "words"), [
    ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
    ({"num_classes": 2.5}, "num_classes must be a positive integer, got 2.5"),
    ({"in_channels": -1}, "in_channels must be a positive integer, got -1"),
])
def test_bad_options_are_refused(name, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        lw.create_model(name, **options)


@pytest.mark.parametrize("name", [name for name in NAMES if "width" in signature(factory(name)).parameters])
@pytest.mark.parametrize("width", [0, -1.0, float("nan"), "1.0"])
def test_bad_width_is_refused(name, width):
    with pytest.raises(ValueError, match=f"width must be .* got {re.escape(repr(width))}"):
        lw.create_model(name, width=width)


@pytest.mark.parametrize("name", NAMES)
def test_bad_images_are_refused(name):
    network, least = shared(name), lw.model_card(name).smallest
    for shape, words in [
        ((1, 4, 2 * least, 2 * least), "built for 3 channels, got 4"),
        ((3, 64, 64), r"images must be \(N, 3, H, W\), got shape \(3, 64, 64\)"),
        ((1, 3, 2 * least, least - 1), f"at least {least} x {least} pixels.*got {2 * least} x {least - 1}"),
    ]:
        with pytest.raises(ValueError, match=words):
            network(torch.zeros(shape))
    with torch.no_grad():
        assert network(torch.zeros(1, 3, least, least)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_trains_or_is_refused(name):
    network = copy.deepcopy(shared(name)).train()
    for times in (1, 1.45):
        size = int(times * lw.model_card(name).smallest)
        try:
            network(torch.randn(1, 3, size, size))
        except ValueError as error:
            assert re.search(f"BatchNorm cannot train on one image of {size} x {size} pixels", str(error)), error
