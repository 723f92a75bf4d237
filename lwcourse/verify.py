"""Are the networks what their cards say? Counts beside the card's, outputs beside the reference's."""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import lwcourse as lw
from lwcourse.compare.prepare import Randomiser
from lwcourse.golden import golden_fill, load
from lwcourse.references import GOLDEN, REFERENCES, Reference
from lwcourse.tables import counted, text_table

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # of max |ours - theirs| / max |theirs|
GOLDEN_TOLERANCE = 1e-9  # stored with 12 digits


def randomise_statistics(network: nn.Module) -> None:
    """Give every BatchNorm other numbers than the 0 and 1 of a fresh one, so that a missing or misplaced one shows.

    The same for all other constants that a fresh network is full of: biases, layer scales, tables of zeros.
    """
    Randomiser(network)
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            nn.init.normal_(module.weight, 1.0, 0.1, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)


@torch.no_grad()
def settle_statistics(network: nn.Module, x: Tensor) -> None:
    """Let every BatchNorm normalise what really reaches it, 20 % off, so that the logits depend on the image.

    With statistics that fit nothing, a deep network's signal fades, its biases decide, and a difference in an
    early layer no longer shows. `network` must be in eval mode, and the images to compare among `x`: on others the
    values, and with them rounding errors, grow from layer to layer.
    """
    generator = torch.Generator().manual_seed(2)

    def settle(norm: nn.Module, args: tuple[Tensor]) -> None:
        values = args[0].transpose(0, 1).flatten(1)
        var, mean = torch.var_mean(values, dim=1)
        var = var.clamp(min=0.1 * var.mean())  # a nearly constant channel would blow up rounding errors
        norm.running_mean.copy_(mean + 0.2 * var.sqrt() * torch.randn(mean.shape, generator=generator))
        norm.running_var.copy_(var * torch.empty_like(var).uniform_(0.8, 1.25, generator=generator))

    handles = [module.register_forward_pre_hook(settle) for module in network.modules()
               if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    network(x)
    for handle in handles:
        handle.remove()


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over largest value. Raises ValueError when the shapes differ."""
    if ours.shape != theirs.shape:
        raise ValueError(f"the outputs have shapes {tuple(ours.shape)} and {tuple(theirs.shape)}")
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def reference_errors(name: str, reference: Reference, num_classes: int = 1000,
                     dtypes: Sequence[torch.dtype] = tuple(TOLERANCE)) -> dict[torch.dtype, float]:
    """Relative error of our logits with the weights of `reference`, in each of `dtypes`.

    In float64 the signal is as strong as in a trained network, so that no difference hides in its fading. In
    float32 rounding errors would then grow from layer to layer, and it fades.
    """
    torch.manual_seed(0)
    theirs = reference.build(num_classes).eval()
    randomise_statistics(theirs)
    ours = lw.create_model(name, num_classes, **reference.arguments).eval()
    x = torch.randn(1, lw.model_card(name).input_size[0], *reference.size)
    errors = {}
    for dtype in dtypes:
        if dtype == torch.float64:
            settle_statistics(theirs, torch.cat((x, torch.randn(3, *x.shape[1:]))))
        lw.transfer_weights(theirs, ours, x)
        with torch.no_grad():
            errors[dtype] = relative_error(ours.to(dtype)(x.to(dtype)), theirs.to(dtype)(x.to(dtype)))
    return errors


def golden_error(name: str, case: str) -> float:
    """Error of our output, beside the stored one of the official code under the same weights.

    Raises ValueError, naming the first layer that differs, when the layers are others.
    """
    stored = load(case)
    x = golden_fill.input_tensor(stored["input_shape"], stored["input_seed"])
    network = lw.create_model(name, stored["num_classes"], **GOLDEN[name][case])
    owners = golden_fill.fill(network, x, seed=stored["seed"], gain=stored["gain"])
    layers = [line.replace(" adder[", " weight[") for line in stored["signature"]]  # AdderNet's name for its weights
    difference = golden_fill.first_difference(golden_fill.signature(network, x, owners=owners), layers)
    if difference is not None:
        raise ValueError("layer {} of {} is {}, in the official code {}".format(difference[0], name, *difference[1:]))
    outputs = stored["outputs"]
    if "out" not in outputs:  # AdderNet: these statistics close every ReLU of a network of negative sums
        network.train()
    with torch.no_grad():
        return golden_fill.worst_error(network(x), outputs["out" if "out" in outputs else "train"])


class Verdict(NamedTuple):
    """One line of the table: `problem` is "" when all is as it should be."""
    name: str
    params: int
    macs: int
    published: str
    reference: str
    error: float | None
    problem: str


def verify(names: Sequence[str] | None = None) -> Iterator[Verdict]:
    """A verdict for each network with each of its references; `names` defaults to every network.

    A reference whose package is not installed is a problem: pip install "lwcourse[dev]".
    """
    for name in [lw.model_card(name).name for name in names or lw.list_models()]:
        card = lw.model_card(name)
        profile = lw.profile(lw.create_model(name), card.input_size)
        counts = (profile.params, profile.macs, profile.adds)
        expected = (card.counted_params, card.counted_macs, card.counted_adds)
        wrong = "" if counts == expected else f"parameters, MACs and additions are not the card's {expected}"
        published = " / ".join("-" if figure is None else f"{figure:g}"
                               for figure in (card.published_params_m, card.published_macs_m))
        for label, error, problem in _compared(name):
            yield Verdict(name, profile.params, profile.macs, published, label, error, problem or wrong)


def _compared(name: str) -> Iterator[tuple[str, float | None, str]]:
    """(label, error, problem) for every reference of a network."""
    for reference in REFERENCES.get(name, ()):
        label = " ".join([reference.label, *(f"{key}={value}" for key, value in reference.arguments.items())])
        try:
            errors = reference_errors(name, reference)
            differ = any(error >= TOLERANCE[dtype] for dtype, error in errors.items())
            yield label, errors[torch.float64], "the outputs differ" if differ else ""
        except ModuleNotFoundError as missing:
            yield label, None, f"not compared: {missing.name} is not installed"
        except ValueError as reason:
            yield label, None, str(reason)
    for case in GOLDEN.get(name, ()):
        try:
            error = golden_error(name, case)
            yield f"official, {case}", error, "" if error < GOLDEN_TOLERANCE else "the outputs differ"
        except ValueError as reason:
            yield f"official, {case}", None, str(reason)


def report(names: Sequence[str] | None = None) -> tuple[str, bool]:
    """The table of all verdicts as text, and whether none has a problem."""
    rows = [("network", "reference", "params", "MACs", "published (M)", "error (float64)", "verdict")]
    verdicts = list(verify(names))
    previous = ""
    for verdict in verdicts:
        again = verdict.name == previous
        counts = ("", "", "") if again else (f"{verdict.params:,}", f"{verdict.macs:,}", verdict.published)
        error = "-" if verdict.error is None else f"{verdict.error:.0e}"
        rows.append((verdict.name, verdict.reference, *counts, error, verdict.problem or "equal"))
        previous = verdict.name
    wrong = sum(bool(verdict.problem) for verdict in verdicts)
    networks = len({verdict.name for verdict in verdicts})
    return (f"{text_table(rows, left=2)}\n{counted(networks, 'network')}, {counted(len(verdicts), 'comparison')}, "
            f"{wrong} with a problem"), not wrong
