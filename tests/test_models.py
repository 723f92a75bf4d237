"""What proves a network: each test runs for every registered name."""
import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from golden import golden_fill
from torch import nn

import lwcourse as lw
from lwcourse.references import GOLDEN, REFERENCES, Reference
from lwcourse.registry import factory

NAMES = lw.list_models()
GOLDEN_FOLDER = Path(__file__).parent / "golden"
EVERY_VARIANT = [pytest.param(name, {}, lw.model_card(name), id=name) for name in NAMES] + [
    pytest.param(name, dict(variant.arguments), variant,
                 id="-".join([name, *(f"{key}{value}" for key, value in variant.arguments.items())]))
    for name in NAMES for variant in lw.model_card(name).variants]


def build(name: str, **options) -> nn.Module:
    """A network whose statistics are not the trivial ones of a fresh BatchNorm, in eval mode."""
    torch.manual_seed(0)
    network = lw.create_model(name, **options).eval()
    randomise_statistics(network)
    return network


def randomise_statistics(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            nn.init.normal_(module.weight, 1.0, 0.1, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize(("name", "arguments", "figures"), EVERY_VARIANT)
def test_counts_are_exactly_those_of_the_card(name, arguments, figures):
    counted = lw.profile(lw.create_model(name, **arguments), lw.model_card(name).input_size)
    assert (counted.params, counted.macs) == (figures.counted_params, figures.counted_macs)


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
    """Each row of a table ends in `# side -> side`; the network must make these sides of a 224 px image."""
    network = build(name)
    module = importlib.import_module(type(network).__module__)
    tables = re.findall(r"^(\w+) = \(.*?^\)", Path(module.__file__).read_text(), re.M | re.S)
    sources = {table: re.search(rf"^{table} = \(.*?^\)", Path(module.__file__).read_text(), re.M | re.S)[0]
               for table in tables}
    (table,) = [t for t in tables if len(blocks_per_row(getattr(module, t))) and
                sum(blocks_per_row(getattr(module, t))) == len(network.blocks)
                and (len(tables) == 1 or t.lower() in name)]
    margin = [(int(a), int(b)) for a, b in re.findall(r"#\s*(\d+)\s*->\s*(\d+)$", sources[table], re.M)]
    repeats = blocks_per_row(getattr(module, table))
    assert len(margin) == len(repeats)

    sides = []
    for block in network.blocks:
        block.register_forward_hook(lambda m, args, out: sides.append((args[0].shape[-1], out.shape[-1])))
    with torch.no_grad():
        network(torch.zeros(1, 3, 224, 224))
    measured, start = [], 0
    for count in repeats:
        measured.append((sides[start][0], sides[start + count - 1][1]))
        start += count
    assert measured == margin


def blocks_per_row(rows) -> list[int]:
    return [getattr(row, "repeats", 1) for row in rows]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(64, 64), (75, 101)], ids=["64x64", "75x101"])
def test_output_is_one_row_of_logits_per_image(name, size):
    with torch.no_grad():
        assert build(name, num_classes=7, in_channels=1)(torch.randn(3, 1, *size)).shape == (3, 7)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    network = lw.create_model(name, num_classes=10)
    network(torch.randn(4, 3, 64, 64)).square().sum().backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


@pytest.mark.parametrize("name", NAMES)
def test_eval_mode_is_deterministic_and_independent_of_the_batch(name):
    network, x = build(name).double(), torch.randn(3, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        together, again = network(x), network(x)
        alone = torch.cat([network(image[None]) for image in x])
    assert torch.equal(together, again)
    assert relative_error(alone, together) < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_round_trips(name, tmp_path):
    network, x = build(name), torch.randn(1, 3, 64, 64)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(1)
    other = lw.create_model(name).eval()
    assert not torch.equal(other(x), network(x))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(x), network(x))


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_builds_one_network_in_silence(name, capfd):
    torch.manual_seed(3)
    first = lw.create_model(name, num_classes=10).state_dict()
    torch.manual_seed(3)
    second = lw.create_model(name, num_classes=10).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_export_gives_the_same_output(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, x = build(name), torch.randn(2, 3, 64, 64)
    torch.onnx.export(network, (x,), str(tmp_path / "network.onnx"), dynamo=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    exported = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        assert relative_error(torch.from_numpy(exported), network(x)) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_gives_the_same_output(name):
    network, x = build(name).double(), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = network(x)
        found = network.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert relative_error(found, expected) < 1e-10


def reference_id(case) -> str:
    name, reference = case
    return "-".join([name, *map(str, reference.arguments.values()), reference.label.replace(" ", "_")])


CASES = [(name, reference) for name, references in REFERENCES.items() for reference in references]


@pytest.mark.parametrize("num_classes", [1000, 10])
@pytest.mark.parametrize("case", CASES, ids=reference_id)
def test_logits_equal_the_reference(case: tuple[str, Reference], num_classes):
    name, reference = case
    torch.manual_seed(0)
    theirs = reference.build(num_classes).eval()
    randomise_statistics(theirs)
    ours = lw.create_model(name, num_classes, **reference.arguments).eval()
    x = torch.randn(2, 3, 96, 64)  # rectangular: a swap of height and width must show
    lw.transfer_weights(theirs, ours, x)
    with torch.no_grad():
        assert relative_error(ours(x), theirs(x)) < 1e-5
        assert relative_error(ours.double()(x.double()), theirs.double()(x.double())) < 1e-10


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in GOLDEN.items() for case in cases])
def test_output_equals_the_official_codes(name, case):
    stored = json.loads((GOLDEN_FOLDER / f"{case}.json").read_text())
    x = golden_fill.input_tensor(stored["input_shape"], stored["input_seed"])
    network = lw.create_model(name, stored["num_classes"], **GOLDEN[name][case])
    owners = golden_fill.fill(network, x, seed=stored["seed"], gain=stored["gain"])
    assert golden_fill.first_difference(golden_fill.signature(network, x, owners=owners), stored["signature"]) is None
    with torch.no_grad():
        assert golden_fill.worst_error(network(x), stored["outputs"]["out"]) < 1e-9


def test_every_network_has_a_reference():
    assert sorted({*REFERENCES, *GOLDEN}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_card_names_a_reference_that_is_tested(name):
    labels = [reference.label for reference in REFERENCES.get(name, ())]
    assert lw.model_card(name).reference in labels or (name in GOLDEN and "official" in lw.model_card(name).reference)


@pytest.mark.parametrize("name", NAMES)
def test_aliases_build_the_same_network(name):
    for alias in lw.model_card(name).aliases:
        assert getattr(lw, alias) is factory(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("options", "words"), [
    ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
    ({"num_classes": 2.5}, "num_classes must be a positive integer, got 2.5"),
    ({"in_channels": -1}, "in_channels must be a positive integer, got -1"),
])
def test_bad_options_are_refused(name, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        lw.create_model(name, **options)


@pytest.mark.parametrize("name", [name for name in NAMES if lw.model_card(name).variants])
@pytest.mark.parametrize("width", [0, -1.0, float("nan"), "1.0"])
def test_bad_width_is_refused(name, width):
    with pytest.raises(ValueError, match=f"width must be a positive number .* got {re.escape(repr(width))}"):
        lw.create_model(name, width=width)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "words"), [
    ((1, 4, 64, 64), "built for 3 channels, got 4"),
    ((3, 64, 64), r"images must be \(N, 3, H, W\), got shape \(3, 64, 64\)"),
    ((1, 3, 64, 31), "at least 32 x 32 pixels.*got 64 x 31"),
])
def test_bad_images_are_refused(name, shape, words):
    with pytest.raises(ValueError, match=words):
        lw.create_model(name).eval()(torch.zeros(shape))
