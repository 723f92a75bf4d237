"""00.4 and 00.5: what is inside of a trained network, and what it says of a photograph."""
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from copy import deepcopy
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

import lwcourse as lw
from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, plain, read_number, refuse_missing_keys, shown

BATCH, HEIGHT, WIDTH = 4, 160, 96
PLACES = ("stem", "blocks", "head", "logits")


@exercise("00.4", title="Follow the shapes", minutes=5, difficulty="easy", expects=dict)
def shapes(answer: Mapping[str, Any]) -> str:
    """`answer` maps each of PLACES to the shape of its output, for BATCH images of HEIGHT x WIDTH pixels."""
    refuse_missing_keys(answer, PLACES)
    right = _shapes(BATCH, HEIGHT, WIDTH)
    mine = {place: _read_shape(answer[place], place) for place in PLACES}
    wrong = [place for place in PLACES if mine[place] != right[place]]
    if not wrong:
        return "As the network itself gives them."
    share = 1 - len(wrong) / len(PLACES)
    maps = [place for place in PLACES if len(right[place]) == 4]
    mistakes = {
        "the batch is missing: four images go through at once, and the first number of each shape counts them":
            {place: shape[1:] for place, shape in right.items()},
        f"these are the shapes of one image, and the batch has {BATCH}": _shapes(1, HEIGHT, WIDTH),
        "height and width are exchanged: a shape is (images, channels, height, width)": _shapes(BATCH, WIDTH, HEIGHT),
        "these are the shapes for 224 x 224 pixels, as in the chapter": _shapes(BATCH, 224, 224),
        "the channels stand last; in PyTorch they come before height and width":
            {place: (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape for place, shape in right.items()},
    }
    for reason, given in mistakes.items():
        if all(mine[place] == given[place] for place in maps):
            fail(reason, "a shape is (N, C, H, W)", share)
    place, got, expected = wrong[0], mine[wrong[0]], right[wrong[0]]
    if len(got) != len(expected):
        words = ("the head's map is averaged over its pixels before the last layer, so the logits have no sides"
                 if place == "logits" else "a map has four numbers: images, channels, height, width")
    elif got[2:] != expected[2:]:
        words = "its sides are wrong; from the image on they are halved how many times, and rounded up?"
    elif got[1] != expected[1]:
        words = "its channels are wrong; they do not depend on the size of the image"
    else:
        words = f"its first number is wrong; {BATCH} images go in"
    fail(f"{place}: {words}", "section 0.1 of the chapter follows another image through the same parts", share)


@cache
def _shapes(batch: int, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """What the parts of the network give."""
    with torch.device("meta"), torch.no_grad():  # shapes only
        network = lw.create_model("efficientnet_lite0").eval()
        stem = network.stem(torch.empty(batch, 3, height, width))
        blocks = network.blocks(stem)
        found = {"stem": stem, "blocks": blocks, "head": network.head(blocks),
                 "logits": network(torch.empty(batch, 3, height, width))}
    return {place: tuple(tensor.shape) for place, tensor in found.items()}


def _read_shape(value: Any, place: str) -> tuple[int, ...]:
    if isinstance(value, Tensor | np.ndarray):
        if value.ndim != 1:
            fail(f"{place}: this is {shown(value)} itself; its .shape is asked for")
        value = value.tolist()
    if not isinstance(value, list | tuple):
        fail(f"{place}: got {shown(value)}, not a shape such as (1, 32, 112, 112)")
    numbers = [read_number(one, place) for one in value]
    if any(number != int(number) for number in numbers):
        fail(f"{place}: a shape has whole numbers; half a pixel is none (is it rounded up?)")
    return tuple(map(int, numbers))


NAMED = ("coffee", "china", "astronaut")
HINT = "prepare the photograph, run the network in evaluation mode, take the softmax of its logits"
CLOSE, ALIKE = 2e-3, 1e-4  # of a probability: right, and what a mistake gives


@exercise("00.5", title="Name a photograph", minutes=10, difficulty="easy", expects=a_function)
def name_a_photograph(answer: Callable[[nn.Module, Tensor], tuple[str, float]]) -> str:
    """`answer(network, photo)`: the most probable class by name, and its probability."""
    network = _lite0()
    photos = lw.load_data("photos")._asdict()
    given = {}
    for name in NAMED:
        handed = deepcopy(network).train()  # as a network comes from a factory
        given[name] = _read_pair(answer(handed, photos[name].clone()), name)
        if not torch.equal(handed.stem.bn.running_mean, network.stem.bn.running_mean):
            fail("the network ran in training mode, where BatchNorm takes the statistics of this one image (and "
                 "changes its own): call .eval() first", HINT)
    right = {name: _best(network, photos[name]) for name in NAMED}
    if all(given[name][0] == right[name][0] and abs(given[name][1] - right[name][1]) < CLOSE for name in NAMED):
        return "; ".join(f"{name}: {best}, {share:.0%}" for name, (best, share) in right.items()) + "."
    for reason, mistaken in MISTAKES.items():
        expected = {name: mistaken(network, photos[name]) for name in NAMED}
        if all(abs(given[name][1] - expected[name]) <= ALIKE * max(1, abs(expected[name])) for name in NAMED):
            fail(reason, HINT)
    for name in NAMED:
        if given[name][0] not in lw.weights_of(network).classes:
            fail(f"{name}: {shown(given[name][0])} is no class of ImageNet",
                 "lw.weights_of(network).classes has the names, in the order of the logits")
        if given[name][0] != right[name][0]:
            fail(f"{name}: the network does not say {given[name][0]!r} of it, when the photograph is prepared as the "
                 "weights need it", "lw.weights_of(network).transform() prepares it")
        if abs(given[name][1] - right[name][1]) >= CLOSE:
            fail(f"{name}: {given[name][0]!r} is right, and its probability is not {given[name][1]:.4g}",
                 "the probabilities of the 1,000 classes sum to 1")


@cache
def _lite0() -> nn.Module:
    with redirect_stdout(StringIO()):  # what its weights need was said in the chapter
        return lw.create_model("efficientnet_lite0", weights="imagenet").eval()


def _prepared(network: nn.Module, photo: Tensor) -> Tensor:
    return lw.weights_of(network).transform()(photo)[None]


def _best(network: nn.Module, photo: Tensor) -> tuple[str, float]:
    with torch.no_grad():
        probabilities = network.eval()(_prepared(network, photo)).softmax(1)[0]
    return lw.weights_of(network).classes[int(probabilities.argmax())], probabilities.max().item()


def _largest(prepare: Callable[[nn.Module, Tensor], Tensor] = _prepared,
             squash: Callable[[Tensor], Tensor] = lambda logits: logits.softmax(1)
             ) -> Callable[[nn.Module, Tensor], float]:
    """What somebody reports who prepares and squashes so."""
    def report(network: nn.Module, photo: Tensor) -> float:
        with torch.no_grad():
            return squash(network(prepare(network, photo))).max().item()
    return report


def _undone(network: nn.Module, x: Tensor) -> Tensor:
    """A prepared photograph before it was normalised."""
    weights = lw.weights_of(network)
    return x * torch.tensor(weights.std).view(3, 1, 1) + torch.tensor(weights.mean).view(3, 1, 1)


def _squeezed(network: nn.Module, photo: Tensor) -> Tensor:
    """All of the photograph, pressed into a square."""
    weights = lw.weights_of(network)
    resize = v2.Resize((weights.size, weights.size), v2.InterpolationMode(weights.interpolation), antialias=True)
    return v2.Normalize(weights.mean, weights.std)(resize(photo))[None]


MISTAKES = {
    "these are percentages; a probability is a number from 0 to 1":
        lambda network, photo: 100 * _best(network, photo)[1],
    "these are the logits; softmax turns them into probabilities": _largest(squash=lambda logits: logits),
    "these are sigmoids: they look at each class alone; the probabilities of all classes sum to 1, as softmax makes "
    "them": _largest(squash=torch.sigmoid),
    "every probability is 1: softmax ran over the images of the batch (dim=0), not over the classes (dim=1)":
        _largest(squash=lambda logits: logits.softmax(0)),
    "these are logarithms of probabilities": lambda network, photo: float(np.log(_best(network, photo)[1])),
    "the photograph is not prepared: the weights need it resized, cut and normalised":
        _largest(lambda network, photo: photo[None]),
    "the photograph is resized and cut, but not normalised: the weights need values from about -1 to 1":
        _largest(lambda network, photo: _undone(network, _prepared(network, photo))),
    "the photograph is divided by 255, though its values lie between 0 and 1 already":
        _largest(lambda network, photo: _prepared(network, photo / 255)),
    "the whole photograph is pressed into a square; resize its shorter side, and cut out the centre":
        _largest(_squeezed),
}


def _read_pair(value: Any, name: str) -> tuple[str, float]:
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.items()))
    if not isinstance(value, list | tuple) or len(value) != 2:
        fail(f"{name}: got {shown(value)}; a name and a probability are asked for, as in `return name, probability`")
    first, second = value
    if isinstance(second, str) and not isinstance(first, str):
        fail("the probability comes first; give the name, then the probability")
    if isinstance(first, str):
        return first, float(read_number(second, f"the probability of {name}"))
    fail(f"{name}: {shown(plain(first))} stands where the name is asked for; "
         "lw.weights_of(network).classes[index] is the name of a class")
