"""Checks of chapter 14: training."""
import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lwcourse.checks import Score, exercise, fail
from lwcourse.checks.helpers import (
    a_builder,
    a_function,
    banded,
    counted_macs,
    read_number,
    refuse_other_order,
    refuse_over_budget,
    refuse_standard_convolutions,
    shown,
    ten_class_network,
    trained_accuracy,
)
from lwcourse.data import load_data
from lwcourse.data.base import Data
from lwcourse.train.recipes import Recipe


class Plan(NamedTuple):
    """What a schedule is asked for: steps, and learning rates."""
    warmup: int
    hold: int
    total: int
    peak: float
    floor: float


PLANS = (Plan(5, 4, 20, 0.4, 0.02), Plan(3, 6, 31, 2.0, 0.5), Plan(0, 3, 12, 0.1, 0.01), Plan(4, 0, 17, 1.0, 0.0),
         Plan(1, 1, 9, 0.05, 0.001), Plan(0, 0, 7, 0.6, 0.03))
ARGUMENTS = ("step", "warmup", "hold", "total", "peak", "floor")


def _progress(step: int, plan: Plan) -> float:
    """How far the cosine has come, from 0 to 1."""
    start = plan.warmup + plan.hold
    return (step - start) / (plan.total - start)


def _rate(step: int, plan: Plan, *, climb: Callable[[int, Plan], float] = lambda step, plan: (step + 1) / plan.warmup,
          progress: Callable[[int, Plan], float] = _progress,
          fall: Callable[[float], float] = lambda done: (1 + math.cos(math.pi * done)) / 2,
          floored: Callable[[float, Plan], float] = lambda share, plan: plan.floor + (plan.peak - plan.floor) * share
          ) -> float:
    """The rate of a step; the options are the places where mistakes are made."""
    if step < plan.warmup:
        return plan.peak * climb(step, plan)
    if step < plan.warmup + plan.hold:
        return plan.peak
    return floored(fall(progress(step, plan)), plan)


def _with(**options: Any) -> Callable[[int, Plan], float]:
    return lambda step, plan: _rate(step, plan, **options)


def _divided(one: float, other: float) -> float:
    return one / other if other else math.nan


SCHEDULE_MISTAKES: dict[str, Callable[[int, Plan], float]] = {
    "the warm-up is one step behind: the first step has the rate 0 and learns nothing. Steps are counted from 0":
        _with(climb=lambda step, plan: step / plan.warmup),
    "the warm-up divides by warmup + 1: its last step should have the peak, and stays below it":
        _with(climb=lambda step, plan: (step + 1) / (plan.warmup + 1)),
    "in the warm-up a division rounds down to whole numbers: the rate is 0 until its last step":
        _with(climb=lambda step, plan: (step + 1) // plan.warmup),
    "the warm-up climbs from the floor; it climbs from peak / warmup, in equal steps":
        lambda step, plan: plan.floor + (plan.peak - plan.floor) * (step + 1) / plan.warmup
        if step < plan.warmup else _rate(step, plan),
    "the warm-up is missing: its steps have the peak already": _with(climb=lambda step, plan: 1),
    "the cosine counts from the end of the warm-up: when the constant part is over, the rate jumps":
        _with(progress=lambda step, plan: (step - plan.warmup) / (plan.total - plan.warmup)),
    "the constant part is missing: the cosine begins right after the warm-up":
        lambda step, plan: _rate(step, plan._replace(hold=0)),
    "the cosine counts from step 0: when it begins, it is on its way already":
        _with(progress=lambda step, plan: step / plan.total),
    "the cosine takes as long as the whole run: at the end it has not come down":
        _with(progress=lambda step, plan: (step - plan.warmup - plan.hold) / plan.total),
    "the cosine reaches the floor on the last step; it would reach it one step later, at step `total`":
        _with(progress=lambda step, plan: _divided(step - plan.warmup - plan.hold,
                                                   plan.total - 1 - plan.warmup - plan.hold)),
    "the cosine is one step ahead: its first step should still have the peak":
        _with(progress=lambda step, plan: _progress(step + 1, plan)),
    "the constant part is one step too long: the cosine's first step should have the peak, its second less":
        lambda step, plan: _rate(step, plan._replace(hold=plan.hold + 1)),
    "in the cosine a division rounds down to whole numbers, so that the rate stays at the peak":
        _with(progress=lambda step, plan: _progress(step, plan) // 1),
    "the cosine is asked for degrees: math.cos takes radians, and half a turn is pi":
        _with(fall=lambda done: (1 + math.cos(180 * done)) / 2),
    "the cosine goes through a whole turn: the rate falls, and climbs again":
        _with(fall=lambda done: (1 + math.cos(2 * math.pi * done)) / 2),
    "the cosine goes through a quarter of a turn: it falls steeply at the end; it is half a turn, 1 + cos, halved":
        _with(fall=lambda done: math.cos(math.pi / 2 * done)),
    "the cosine climbs: its sign is wrong": _with(fall=lambda done: (1 - math.cos(math.pi * done)) / 2),
    "1 + cos goes from 2 to 0, and is not halved": _with(fall=lambda done: 1 + math.cos(math.pi * done)),
    "the cosine goes from 1 to -1: the 1 + is missing, and the rate becomes negative":
        _with(fall=lambda done: math.cos(math.pi * done)),
    "the rate falls on a straight line; a cosine is asked for": _with(fall=lambda done: 1 - done),
    "the floor is forgotten: the rate falls towards 0":
        _with(floored=lambda share, plan: plan.peak * share),
    "the floor cuts the cosine off (a maximum of both); the cosine itself ends at the floor":
        _with(floored=lambda share, plan: max(plan.floor, plan.peak * share)),
    "the floor is added on top: the cosine begins above the peak":
        _with(floored=lambda share, plan: plan.floor + plan.peak * share),
    "these are shares of the peak; give the rate itself": lambda step, plan: _rate(step, plan) / plan.peak,
    "your steps count from 1; the first step is step 0": lambda step, plan: _rate(max(step - 1, 0), plan),
}


@exercise("14.1", title="A schedule in three parts", minutes=15, difficulty="easy", expects=a_function)
def schedule(answer: Callable[..., float]) -> str:
    """`answer(step, warmup, hold, total, peak, floor)` is the learning rate of a step."""
    refuse_other_order(answer, ARGUMENTS)
    mine: list[tuple[int, Plan, float]] = []
    for plan in PLANS:
        for step in range(plan.total):
            value = read_number(answer(step, plan.warmup, plan.hold, plan.total, plan.peak, plan.floor),
                                f"step {step} with warmup={plan.warmup}, hold={plan.hold}, total={plan.total}")
            mine.append((step, plan, float(value)))

    def equal(formula: Callable[[int, Plan], float]) -> bool:
        return all(math.isclose(value, formula(step, plan), rel_tol=1e-4, abs_tol=1e-7) for step, plan, value in mine)

    if equal(_rate):
        return f"Right for all {len(mine)} steps of {len(PLANS)} plans, with and without warm-up and constant part."
    for reason, formula in SCHEDULE_MISTAKES.items():
        if equal(formula):
            fail(reason)
    step, plan, value = next(one for one in mine if not math.isclose(one[2], _rate(*one[:2]), rel_tol=1e-4,
                                                                     abs_tol=1e-7))
    where = "warm-up" if step < plan.warmup else "constant part" if step < plan.warmup + plan.hold else "cosine"
    size = "large" if value > _rate(step, plan) else "small"
    fail(f"with warmup={plan.warmup}, hold={plan.hold}, total={plan.total}, peak={plan.peak}, floor={plan.floor} the "
         f"rate of step {step}, in the {where}, is {value:.4g}: too {size}",
         "print the rates of all steps of this plan, and look for the first that surprises you")


@dataclass(frozen=True)
class Loop:
    """One way to write the loop of the sheet; the default is right, and each field may be the place of a mistake."""
    zero: str = "each step"
    loss: str = "logits"
    mode: str = "each epoch"
    rate: str = "before the step"
    average: str = "with statistics"


BUGS: dict[str, tuple[str, str]] = {
    "the gradients are never set to zero: each step goes along the sum of all gradients so far": ("zero", "never"),
    "the gradients are set to zero once an epoch, so that they add up over its batches": ("zero", "each epoch"),
    "the loss gets a softmax: cross_entropy takes logits, and has a softmax inside": ("loss", "softmax"),
    "after the first test the model stays in evaluation mode: train() must be called again in every epoch":
        ("mode", "first epoch"),
    "the model is never put into evaluation mode for the test, so that BatchNorm learns from the test images":
        ("mode", "never eval"),
    "the learning rate is set after the step: each step but the first uses that of the step before":
        ("rate", "after the step"),
    "the learning rate is that of the epoch's number; rate() wants the number of steps so far": ("rate", "epoch"),
    "the learning rate stays what it was at the start": ("rate", "never"),
    "the average has no statistics of BatchNorm: its running mean and variance are still those of the untrained model":
        ("average", "weights alone"),
    "the average takes over BatchNorm's statistics as they are; they are averaged as the weights are":
        ("average", "statistics copied"),
    "the average is updated before the step, and so is one step behind": ("average", "before the step"),
    "the average begins with the weights after the first step; it is a copy from before it (the chapter's is later)":
        ("average", "late"),
    "the average gives the new weights the share `decay`, and keeps 1 - decay of the old: it is the reverse":
        ("average", "reversed"),
}
PLANTED = [words for words, bug in BUGS.items() if bug in (
    ("zero", "never"), ("loss", "softmax"), ("mode", "first epoch"), ("rate", "after the step"),
    ("average", "weights alone"))]
OTHER_ACCURACIES = ("the accuracies are not those of the model on the test images: shares from 0 to 1, in evaluation "
                    "mode, one after each epoch")
OTHER_AVERAGE = ("the average is another: it starts as a copy of the model, and after each step it becomes decay * "
                 "itself + (1 - decay) * the model")
LOOP_ARGUMENTS = ("model", "batches", "test", "epochs", "rate", "decay")
DECAY, EPOCHS, BATCHES = 0.8, 3, 3


class Trained(NamedTuple):
    """What a loop has made: tensors of the model and of its average by name, and the accuracies after each epoch."""
    model: dict[str, Tensor]
    average: dict[str, Tensor]
    accuracies: list[float]


def run_loop(way: Loop, model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], test: tuple[Tensor, Tensor],
             epochs: int, rate: Callable[[int], float], decay: float) -> tuple[nn.Module, list[float]]:
    """The loop of the sheet, right or with the mistakes of `way`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate(0), momentum=0.9)
    average, accuracies, step = copy.deepcopy(model).eval(), [], 0
    model.train()
    for epoch in range(epochs):
        if way.mode != "first epoch":
            model.train()
        if way.zero == "each epoch":
            optimizer.zero_grad()
        for images, labels in batches:
            if way.rate in ("before the step", "epoch"):
                optimizer.param_groups[0]["lr"] = rate(epoch if way.rate == "epoch" else step)
            logits = model(images)
            loss = F.cross_entropy(logits.softmax(1) if way.loss == "softmax" else logits, labels)
            if way.zero == "each step":
                optimizer.zero_grad()
            loss.backward()
            if way.average == "before the step":
                _blend(average, model, decay, way)
            optimizer.step()
            if way.rate == "after the step":
                optimizer.param_groups[0]["lr"] = rate(step)
            if way.average != "before the step":
                _blend(average, model, 0 if way.average == "late" and step == 0 else decay, way)
            step += 1
        if way.mode != "never eval":
            model.eval()
        with torch.no_grad():
            accuracies.append((model(test[0]).argmax(1) == test[1]).float().mean().item())
    return average, accuracies


@torch.no_grad()
def _blend(average: nn.Module, model: nn.Module, decay: float, way: Loop) -> None:
    kept = 1 - decay if way.average == "reversed" else decay
    for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
        mine.lerp_(theirs, 1 - kept)
    if way.average != "weights alone":
        for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
            if mine.is_floating_point() and way.average != "statistics copied":
                mine.lerp_(theirs, 1 - kept)
            else:
                mine.copy_(theirs)


def _problem() -> tuple[nn.Module, list[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """A small network with BatchNorm, batches to train on, and images to test on; the same at every call."""
    torch.manual_seed(14)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    images, labels = torch.randn(8 * BATCHES + 60, 1, 6, 6), torch.arange(8 * BATCHES + 60) % 3
    images[:, 0, 0] += labels[:, None] - 1
    batches = list(zip(images[:8 * BATCHES].split(8), labels[:8 * BATCHES].split(8), strict=True))
    return model, batches, (2 * images[8 * BATCHES:] + 1, labels[8 * BATCHES:])


def rate_of_step(step: int) -> float:
    """The learning rate that the check trains with: another one for every step."""
    return 0.02 + 0.02 * ((3 * step) % 7)


def _trained(loop: Callable[..., Any], epochs: int = EPOCHS, batches: int = BATCHES) -> Trained:
    model, data, test = _problem()
    torch.manual_seed(0)
    result = loop(model, data[:batches], test, epochs, rate_of_step, DECAY)
    if not isinstance(result, tuple | list) or len(result) != 2:
        fail(f"the loop returns {shown(result)}; it must return the average and the list of accuracies, in this order")
    average, accuracies = result
    if isinstance(average, torch.optim.swa_utils.AveragedModel):
        average = average.module
    if not isinstance(average, nn.Module):
        fail(f"the first thing that the loop returns is {shown(average)}, not the average, a network")
    if average is model:
        fail("the loop returns the model itself as the average; the average is a copy that moves slowly")
    if isinstance(accuracies, Tensor | np.ndarray) and accuracies.ndim == 1:
        accuracies = accuracies.tolist()
    if not isinstance(accuracies, Sequence) or len(accuracies) != epochs:
        fail(f"the second thing that the loop returns must be a list of {epochs} accuracies, one an epoch; got "
             f"{shown(accuracies)}")
    return Trained(_floats(model), _floats(average),
                   [float(read_number(one, f"accuracy {n}")) for n, one in enumerate(accuracies, start=1)])


def _floats(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items() if value.is_floating_point()}


def _alike(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(value, other[name], rtol=1e-3, atol=1e-5) for name, value in one.items())


@exercise("14.2", title="Five bugs in a loop", minutes=30, difficulty="medium", expects=a_function)
def five_bugs(answer: Callable[..., Any]) -> str:
    """`answer(model, batches, test, epochs, rate, decay)` trains `model`, and returns its average and accuracies."""
    refuse_other_order(answer, LOOP_ARGUMENTS)
    mine = _trained(answer)
    came, _, _ = _problem()
    if _alike({name: mine.model[name] for name, _ in came.named_parameters()}, dict(came.named_parameters())):
        fail("the model has the weights that it came with: either no step is taken, or the gradients are set to zero "
             "between backward() and step()")
    bugs = _bugs_of(mine)
    if bugs is None:
        _refuse_at_first_difference(answer)
    if bugs:
        left = [words for words in PLANTED if words in bugs]
        fail(f"one of its lines is still wrong:\n- {bugs[0]}" if len(bugs) == 1 else
             f"{len(bugs)} of its lines are still wrong. One of them:\n- {bugs[0]}",
             share=1 - len(bugs) / 5 if left == bugs else 0.0)
    return f"The same weights, average and accuracies as the course's loop after {EPOCHS * BATCHES} steps."


def _bugs_of(mine: Trained) -> list[str] | None:
    """The fewest known mistakes that explain a loop, in words; None where none do."""
    places: dict[str, list[tuple[str, str]]] = {}
    for words, (place, kind) in BUGS.items():
        places.setdefault(place, [("", "")]).append((words, kind))
    averages = places.pop("average")
    for bugs in sorted(itertools.product(*places.values()), key=lambda one: sum(bool(words) for words, _ in one)):
        changes = {place: kind for place, (_, kind) in zip(places, bugs, strict=True) if kind}
        theirs = _trained(_way(Loop(**changes)))
        if not _alike(mine.model, theirs.model):
            continue
        found = [words for words, _ in bugs if words]
        if any(abs(one - other) > 1e-3 for one, other in zip(mine.accuracies, theirs.accuracies, strict=True)):
            found.append(OTHER_ACCURACIES)
        ways = (Loop(**changes, average=kind) if kind else Loop(**changes) for _, kind in averages)
        alike = [_alike(mine.average, _trained(_way(way)).average) for way in ways]
        if not any(alike):
            return [*found, OTHER_AVERAGE]
        words, _ = averages[alike.index(True)]
        return [*found, words] if words else found
    return None


def _way(loop: Loop) -> Callable[..., Any]:
    return lambda *given: run_loop(loop, *given)


def _refuse_at_first_difference(answer: Callable[..., Any]) -> None:
    """Refuse a loop that no known mistake explains, with the place where it leaves the right one."""
    for words, epochs, batches in (("after the first step", 1, 1), ("in the first epoch, after the first step", 1,
                                                                     BATCHES)):
        mine, right = _trained(answer, epochs, batches), _trained(_way(Loop()), epochs, batches)
        if not _alike(mine.model, right.model):
            fail(f"the weights differ from those of the right loop {words}, and no usual mistake explains it",
                 "compare your loop with the steps in the sheet's list, one line after the other")
    fail("the first epoch is right, and a later one is not: what does the test after an epoch leave behind?")


SIZE, IMAGES, COPIES, BATCH = (3, 16, 16), 960, 2, 32
WORK = 6_000_000_000  # MACs of a training: 30 s of a device that does 0.2 G a second
MOST_EPOCHS = 12
SETTINGS = ("epochs", "lr", "momentum", "nesterov", "weight_decay", "schedule", "warmup_epochs", "label_smoothing",
            "mixup", "ema")
# Seeds 0 to 9 of the sheet's solution: 61.5, 58.8, 66.0, 64.2, 64.2, 61.3, 61.3, 58.1, 60.1, 60.3 %: mean 61.6,
# standard deviation 2.5. A linear classifier with a good recipe: 24 to 26 %.
LEAST, GOOD = 0.56, 0.60


@exercise("14.3", title="The best accuracy in thirty seconds", minutes=30, difficulty="hard", expects=a_builder)
def thirty_seconds(answer: Callable[[], Any]) -> Score:
    """`answer()` gives a network for (N, 3, 16, 16) and ten classes, or a pair of it and settings of a recipe."""
    settings = _settings(answer())

    def build() -> nn.Module:
        given = answer()
        return given[0] if isinstance(given, tuple | list) else given

    network = ten_class_network(build, SIZE)
    macs = counted_macs(network, SIZE)
    work = 3 * macs * IMAGES * settings["epochs"]
    refuse_over_budget([(work, WORK, "MACs of training")],
                       "3 · MACs of an image · 960 images · epochs: fewer epochs, or a smaller network?")
    accuracy = trained_accuracy(build, network, _data(), settings, hint="a smaller lr, or some warm-up?")
    if accuracy >= LEAST:
        refuse_standard_convolutions(network, SIZE, "depthwise or grouped filters")
    spent = f", with {macs:,} MACs an image, {settings['epochs']} epochs, and {work / 1e9:.2f} of {WORK / 1e9:g} G MACs"
    return banded(accuracy, LEAST, GOOD, spent, "within the budget, but it learned too little. Accuracy on the test "
                  "digits", "what does the second recipe of the chapter's puzzle add?")


def _settings(given: Any) -> dict[str, Any]:
    """The settings of a recipe that an answer names, with the sheet's defaults for the others."""
    if isinstance(given, tuple | list) and len(given) != 2:
        fail(f"your function returns {len(given)} things; it returns a network, or a network and a dict of settings")
    own = given[1] if isinstance(given, tuple | list) else {}
    if not isinstance(own, Mapping):
        fail(f"the second thing that your function returns is {shown(own)}, not a dict of settings")
    if unknown := [name for name in own if name not in SETTINGS]:
        fail(f"{unknown[0]!r} is no setting of this exercise; there are {', '.join(SETTINGS)}")
    settings = {"epochs": 5, "lr": 0.4, "schedule": "constant", "warmup_epochs": 0, **own, "batch_size": BATCH}
    try:
        recipe = Recipe(**settings)
    except (ValueError, TypeError) as error:
        fail(f"these settings make no recipe: {error}")
    if recipe.epochs > MOST_EPOCHS:
        fail(f"{recipe.epochs} epochs are too many: at most {MOST_EPOCHS}, so that the check itself ends soon")
    return settings


def _data() -> Data:
    data = load_data("photo_digits", copies=COPIES, image_size=SIZE[1])
    return replace(data, train=TensorDataset(*(tensor[:IMAGES] for tensor in data.train.tensors)))
