"""Networks that a check trains: what they may be, what they cost, and a score that cannot be bought.

What is trained is never the learner's object, but a copy whose weights are drawn anew from the check's own seed: a
network that was trained before, or that remembers images, gains nothing. Nor does a function that builds a small
network to be counted, and a larger one to be trained.
"""
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lwcourse.checks import Score, fail
from lwcourse.checks.helpers.answers import shown
from lwcourse.checks.helpers.blocks import NORMS
from lwcourse.checks.helpers.operators import CONSTANT, first_output, operators_of
from lwcourse.checks.helpers.slips import (
    refuse_hidden_layers,
    refuse_mixed_batch,
    refuse_other_dtype,
    refuse_probabilities,
    refuse_squashed,
)
from lwcourse.data import Data
from lwcourse.profile import profile
from lwcourse.train import TrainingDiverged, fit_seeds

TRIED_OUT = 8  # batches that a builder may run through its network, as to learn a shape


def build_network(answer: Callable[[], nn.Module], what: str = "network") -> nn.Module:
    """What `answer()` builds, twice; refused unless both are new modules that share nothing."""
    torch.manual_seed(0)
    network, other = answer(), answer()
    if not isinstance(network, nn.Module):
        fail(f"your function returns {shown(network)}, not a {what}"
             + ("; is the return missing?" if network is None else ""))
    if isinstance(network, torch.jit.ScriptModule):
        fail(f"your function returns a scripted {what}, whose layers cannot be looked at; return the module itself")
    refuse_hidden_layers(network)
    refuse_other_dtype(network)
    refuse_shared(network, other, what)
    _refuse_trained(network, what)
    return network


def _refuse_trained(network: nn.Module, what: str) -> None:
    batches = max((int(norm.num_batches_tracked) for norm in network.modules()
                   if isinstance(norm, NORMS) and norm.num_batches_tracked is not None), default=0)
    if batches > TRIED_OUT:
        fail(f"your function returns a {what} that was trained already: its BatchNorm has seen {batches:,} batches. "
             "The check draws the weights anew, so that training before gains nothing", "return it as it is built")


def refuse_shared(one: nn.Module, other: nn.Module, what: str = "network") -> None:
    """Refuse two results of one builder that are the same object, or have weights in the same memory."""
    places = {tensor.data_ptr() for tensor in _tensors(one) if tensor.numel()}
    if one is other or any(tensor.data_ptr() in places for tensor in _tensors(other) if tensor.numel()):
        fail(f"your function returns the same {what}, or the same weights, each time it is called: it was built "
             f"outside. Every call must build a new {what}", "put everything that builds layers inside the function")


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def ten_class_network(answer: Callable[[], nn.Module], size: tuple[int, int, int]) -> nn.Module:
    """What `answer()` builds, refused unless it is a network that gives images of `size` ten logits each."""
    network = build_network(answer).eval()
    images = torch.randn(2, *size)
    logits = first_output(network, images)
    if not isinstance(logits, Tensor) or logits.shape != (2, 10):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        fail(f"two images of {' x '.join(map(str, size))} must give logits of shape (2, 10), got {got}")
    refuse_probabilities(logits)
    refuse_squashed(network, images)
    refuse_mixed_batch(network, images)
    return network


def counted_macs(network: nn.Module, size: Sequence[int], free: int = 0) -> int:
    """MACs of the layers, and of products with weights that are written out: `x * self.weight`, shifted and added.

    Up to `free` such products are not counted, so that a scale for each channel costs no more than BatchNorm's.
    """
    products = operators_of(network, size).products
    return profile(network, tuple(size)).macs + (products if products > free else 0)


def counted_parameters(network: nn.Module) -> int:
    """Parameters, and numbers in buffers that are no running statistics: weights by another name."""
    buffers = [buffer for module in network.modules() if not isinstance(module, NORMS)
               for buffer in module.buffers(recurse=False) if buffer.is_floating_point()]
    return sum(tensor.numel() for tensor in [*network.parameters(), *buffers])


def refuse_over_budget(bills: Sequence[tuple[int, int, str]], hint: str) -> None:
    """Refuse when one of `bills`, (spent, budget, of what), is over its budget; all that are over are named."""
    if over := [f"{spent:,} {what}, of {budget:,} allowed" for spent, budget, what in bills if spent > budget]:
        fail(f"over budget: {'; '.join(over)}", hint)


def drawn_anew(network: nn.Module) -> nn.Module:
    """A copy with weights of the current random state, whatever was learned before.

    Layers draw as they do when they are built. A parameter of a module's own is mixed: its values stay, in random
    order, so that ones and zeros remain and a learned pattern does not. So is a buffer with many different values.
    """
    fresh = copy.deepcopy(network)
    drawn: set[nn.Parameter] = set()
    for module in fresh.modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset) and type(module).__module__.startswith("torch.nn"):
            reset()
            drawn.update(module.parameters(recurse=False))
    with torch.no_grad():
        for tensor in [one for one in fresh.parameters() if one not in drawn] + _tables(fresh):
            flat = tensor.flatten()
            tensor.copy_(flat[torch.randperm(flat.numel())].view_as(tensor))
    return fresh


def _tables(network: nn.Module) -> list[Tensor]:
    """Buffers that could hold weights: no running statistics, and no mask or blur kernel, which have few values."""
    return [buffer for module in network.modules() if not isinstance(module, NORMS)
            for buffer in module.buffers(recurse=False)
            if buffer.is_floating_point() and buffer.unique().numel() > CONSTANT]


def refuse_other_network(network: nn.Module, counted: nn.Module, size: Sequence[int]) -> None:
    """Refuse what a builder gives to be trained where it is not the network that was `counted` before."""
    costs = [_costs(one, size) for one in (counted, network)]
    for what, (before, now) in {what: [cost[what] for cost in costs] for what in costs[0]}.items():
        if before != now:
            fail(f"your function builds another network each time it is called: one with {before:,} {what} to be "
                 f"counted, and one with {now:,} to be trained", OTHER_NETWORK)
    if [tensor.shape for tensor in _tensors(network)] != [tensor.shape for tensor in _tensors(counted)]:
        fail("your function builds another network each time it is called: parameters have other shapes in the one to "
             "be counted than in the one to be trained", OTHER_NETWORK)


OTHER_NETWORK = "no counter, no random size and nothing else from outside may decide what your function builds"


def _costs(network: nn.Module, size: Sequence[int]) -> dict[str, int]:
    with torch.random.fork_rng(devices=[]):
        alone = copy.deepcopy(network).eval()
        cost = profile(alone, tuple(size))
        return {"parameters": counted_parameters(alone), "MACs": counted_macs(alone, size), "additions": cost.adds,
                "bytes of live activations": cost.peak_activation_bytes}


def trained_accuracy(build: Callable[[], nn.Module], counted: nn.Module, data: Data, recipe: Mapping[str, Any],
                     hint: str = "", seed: int = 0) -> float:
    """Test accuracy of a network trained by `lw.fit` with `recipe`, its weights drawn by `seed`; refused when it is
    not the one that was `counted`, or the training diverges. On the CPU and on one thread, so that a score depends
    little on the machine.
    """
    def anew() -> nn.Module:
        network = build()
        refuse_other_network(network, counted, data.image_shape)
        return drawn_anew(network)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        history, = fit_seeds(anew, data, seeds=(seed,), device="cpu", progress=False, **recipe)
    except TrainingDiverged as error:
        fail(f"training failed: {error}", hint)
    finally:
        torch.set_num_threads(threads)
    return history.final.test_accuracy


def banded(score: float, least: float, good: float, words: str, reason: str, hint: str = "") -> Score:
    """A score in bands: refused below `least` with `reason`; three quarters of the points from there, all from `good`.

    `words` is what was reached and spent.
    """
    if score < least:
        fail(f"{reason}: {score:.1%}, {least:.0%} are needed", hint)
    if score < good:
        return Score(f"Score {score:.1%}{words}. All points from {good:.0%}; this is three quarters of them.", 0.75)
    return Score(f"Score {score:.1%}{words}.")
