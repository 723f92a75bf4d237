"""Wrong answers to the exercises of chapter 14, and words that the refusal must have."""
import copy
import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.checks.ch14 import Loop, run_loop
from lwcourse.layers import ConvBNAct, SeparableConv


def the(answer):
    return lambda: answer


def schedule(*, climb=lambda s, w: (s + 1) / w, done=lambda s, w, h, t: (s - w - h) / (t - w - h),
             fall=lambda d: (1 + math.cos(math.pi * d)) / 2, floored=lambda x, p, f: f + (p - f) * x, hold=True,
             scale=lambda r, p: r):
    """Builds a schedule with one mistake."""
    def rate(step, warmup, hold_for, total, peak, floor):
        hold_for = hold_for if hold else 0
        if step < warmup:
            return scale(peak * climb(step, warmup), peak)
        if step < warmup + hold_for:
            return scale(peak, peak)
        return scale(floored(fall(done(step, warmup, hold_for, total)), peak, floor), peak)
    return the(rate)


def counted_from_one(step, *plan):
    return schedule()()(max(0, step - 1), *plan)


def held_longer(step, warmup, hold, *others):
    return schedule()()(step, warmup, hold + 1, *others)


def climbs_from_floor(step, warmup, hold, total, peak, floor):
    if step < warmup:
        return floor + (peak - floor) * (step + 1) / warmup
    return schedule()()(step, warmup, hold, total, peak, floor)


def to_the_last_step(step, warmup, hold, total, peak, floor):
    return schedule(done=lambda s, w, h, t: (s - w - h) / (t - 1 - w - h))()(step, warmup, hold, total, peak, floor)


def other_order(warmup, step, hold, total, peak, floor):
    return peak


def forgets_to_return(step, warmup, hold, total, peak, floor):
    peak * (step + 1) / max(warmup, 1)


def square_root(step, warmup, hold, total, peak, floor):
    if step < warmup:
        return peak * math.sqrt((step + 1) / warmup)
    return schedule()()(step, warmup, hold, total, peak, floor)


def stepwise(step, warmup, hold, total, peak, floor):
    if step < warmup + hold:
        return schedule()()(step, warmup, hold, total, peak, floor)
    return peak if step < (warmup + hold + total) / 2 else floor


def nothing_before_the_cosine(step, warmup, hold, *others):
    if warmup == 0 and hold == 0:
        return 1 / 0
    return schedule()()(step, warmup, hold, *others)


def zero_without_any(step, warmup, hold, *others):
    """`warmup or hold` was meant to ask whether the run still climbs or rests."""
    return schedule()()(step, warmup, hold, *others) if warmup or hold else 0.0


def loop(**mistakes):
    return the(partial(run_loop, Loop(**mistakes)))


def after(change):
    """The right loop, and then a change of what it returns: (model, average, accuracies, test) -> what is returned."""
    def train(model, batches, test, epochs, rate, decay):
        average, accuracies = run_loop(Loop(), model, batches, test, epochs, rate, decay)
        return change(model, average, accuracies, test)
    return the(train)


def nothing_learned(model, batches, test, epochs, rate, decay):
    optimizer = torch.optim.SGD(model.parameters(), lr=rate(0), momentum=0.9)
    for _ in range(epochs):
        for images, labels in batches:
            F.cross_entropy(model(images), labels).backward()
            optimizer.zero_grad()
            optimizer.step()
    return copy.deepcopy(model), [0.3] * epochs


def own_loop(*, momentum=0.9, shuffled=False, restart=False):
    """The right loop but for the optimiser."""
    def train(model, batches, test, epochs, rate, decay):
        average, accuracies, step = copy.deepcopy(model), [], 0
        optimizer = torch.optim.SGD(model.parameters(), lr=rate(0), momentum=momentum)
        for epoch in range(epochs):
            model.train()
            if restart:
                optimizer = torch.optim.SGD(model.parameters(), lr=rate(0), momentum=momentum)
            for images, labels in batches[::-1] if shuffled and epoch == 0 else batches:
                optimizer.param_groups[0]["lr"] = rate(step)
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()
                optimizer.step()
                step += 1
            model.eval()
            accuracies.append(0.5)
        return average, accuracies
    return the(train)


def weight_decay(model, batches, test, epochs, rate, decay):
    optimizer = torch.optim.SGD(model.parameters(), lr=rate(0), momentum=0.9, weight_decay=0.1)
    for images, labels in batches * epochs:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return copy.deepcopy(model), [0.5] * epochs


def no_average(model, average, accuracies, test):
    fresh = copy.deepcopy(model)
    for parameter in fresh.parameters():
        parameter.data.mul_(0.5)
    return fresh, accuracies


def accuracies_of_average(model, average, accuracies, test):
    with torch.no_grad():
        return average, [1 - one for one in accuracies]


GOOD = {"epochs": 11, "lr": 0.6, "schedule": "cosine", "warmup_epochs": 1, "ema": 0.95}


def top(channels):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def separable(stem=16, middle=32, last=64):
    return nn.Sequential(ConvBNAct(3, stem, 3, stride=2), SeparableConv(stem, middle),
                         SeparableConv(middle, last, stride=2), SeparableConv(last, last), *top(last))


def plain_cnn():
    return nn.Sequential(ConvBNAct(3, 12, 3, stride=2), ConvBNAct(12, 24, 3, stride=2),
                         ConvBNAct(24, 32, 3, stride=2), *top(32))


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 10))


ONE = separable()


def growing():
    """A builder whose network is three times as large once it has been counted."""
    built = []

    def grow():
        built.append(None)
        return separable() if len(built) < 4 else separable(32, 64, 128), GOOD
    return grow

WRONG = {
    "14.1": {
        "a step behind": (schedule(climb=lambda s, w: s / w), "one step behind"),
        "warmup + 1": (schedule(climb=lambda s, w: (s + 1) / (w + 1)), "divides by warmup + 1"),
        "rounded climb": (schedule(climb=lambda s, w: (s + 1) // w), "in the warm-up a division rounds down"),
        "from the floor": (the(climbs_from_floor), "climbs from the floor"),
        "no warm-up": (schedule(climb=lambda s, w: 1), "the warm-up is missing"),
        "jumps": (schedule(done=lambda s, w, h, t: (s - w) / (t - w)), "counts from the end of the warm-up"),
        "no constant part": (schedule(hold=False), "the constant part is missing"),
        "from step 0": (schedule(done=lambda s, w, h, t: s / t), "counts from step 0"),
        "too long": (schedule(done=lambda s, w, h, t: (s - w - h) / t), "as long as the whole run"),
        "to the last step": (the(to_the_last_step), "reaches the floor on the last step"),
        "a step ahead": (schedule(done=lambda s, w, h, t: (s + 1 - w - h) / (t - w - h)), "one step ahead"),
        "constant too long": (the(held_longer), "one step too long"),
        "rounded progress": (schedule(done=lambda s, w, h, t: (s - w - h) // (t - w - h)),
                             "in the cosine a division rounds down"),
        "degrees": (schedule(fall=lambda d: (1 + math.cos(180 * d)) / 2), "degrees"),
        "whole turn": (schedule(fall=lambda d: (1 + math.cos(2 * math.pi * d)) / 2), "a whole turn"),
        "quarter turn": (schedule(fall=lambda d: math.cos(math.pi * d / 2)), "a quarter of a turn"),
        "climbs": (schedule(fall=lambda d: (1 - math.cos(math.pi * d)) / 2), "its sign is wrong"),
        "not halved": (schedule(fall=lambda d: 1 + math.cos(math.pi * d)), "is not halved"),
        "negative": (schedule(fall=lambda d: math.cos(math.pi * d)), "becomes negative"),
        "straight line": (schedule(fall=lambda d: 1 - d), "straight line"),
        "no floor": (schedule(floored=lambda x, p, f: p * x), "the floor is forgotten"),
        "cut off": (schedule(floored=lambda x, p, f: max(f, p * x)), "cuts the cosine off"),
        "floor on top": (schedule(floored=lambda x, p, f: f + p * x), "on top"),
        "shares": (schedule(scale=lambda r, p: r / p), "shares of the peak"),
        "from one": (the(counted_from_one), "count from 1"),
        "other order": (the(other_order), "another order"),
        "no return": (the(forgets_to_return), "is the return missing"),
        "a square root": (the(square_root), ["step 0, in the warm-up", "too large"]),
        "two levels": (the(stepwise), ["in the cosine", "too large"]),
        "breaks without both": (the(nothing_before_the_cosine), "division by zero"),
        "0 without both": (the(zero_without_any), ["warmup=0, hold=0", "step 0, in the cosine", "too small"]),
    },
    "14.2": {
        "no zero_grad": (loop(zero="never"), ["one of its lines", "never set to zero"]),
        "zero_grad an epoch": (loop(zero="each epoch"), "once an epoch"),
        "softmax": (loop(loss="softmax"), ["one of its lines", "the loss gets a softmax"]),
        "train once": (loop(mode="first epoch"), ["one of its lines", "train() must be called again"]),
        "never eval": (loop(mode="never eval"), "BatchNorm learns from the test images"),
        "rate after the step": (loop(rate="after the step"), ["one of its lines", "set after the step"]),
        "rate of the epoch": (loop(rate="epoch"), "epoch's number"),
        "rate of the start": (loop(rate="never"), "stays what it was at the start"),
        "no statistics": (loop(average="weights alone"), ["one of its lines", "no statistics of BatchNorm"]),
        "statistics copied": (loop(average="statistics copied"), "statistics as they are"),
        "average first": (loop(average="before the step"), "one step behind"),
        "average late": (loop(average="late"), "after the first step; it is a copy"),
        "reversed": (loop(average="reversed"), "the reverse"),
        "all five": (loop(zero="never", loss="softmax", mode="first epoch", rate="after the step",
                          average="weights alone"),
                     ["5 of its lines", "never set to zero"]),
        "three left": (loop(loss="softmax", rate="after the step", average="weights alone"),
                       ["3 of its lines", "the loss gets a softmax"]),
        "nothing learned": (the(nothing_learned), "the weights that it came with"),
        "other accuracies": (after(accuracies_of_average), "the accuracies are not those"),
        "per cent": (after(lambda m, a, acc, t: (a, [100 * one for one in acc])), "the accuracies are not those"),
        "another average": (after(no_average), "the average is another"),
        "the model again": (after(lambda m, a, acc, t: (m, acc)), "the model itself as the average"),
        "only the average": (after(lambda m, a, acc, t: a), "it must return the average and the list"),
        "the other way round": (after(lambda m, a, acc, t: (acc, a)), "not the average, a network"),
        "one accuracy": (after(lambda m, a, acc, t: (a, acc[-1:])), "a list of 3 accuracies"),
        "one accuracy in a tensor": (after(lambda m, a, acc, t: (a, torch.tensor(acc[-1:]))), "a list of 3 accuracies"),
        "a column of accuracies": (after(lambda m, a, acc, t: (a, torch.tensor(acc)[:, None])),
                                   "a list of 3 accuracies"),
        "no momentum": (own_loop(momentum=0.0), "in the first epoch, after the first step"),
        "weight decay": (the(weight_decay), "differ from those of the right loop after the first step"),
        "a new optimiser each epoch": (own_loop(restart=True), "the first epoch is right"),
        "another order": (the(lambda batches, model, test, epochs, rate, decay: None), "another order"),
    },
    "14.3": {
        "linear": (the(lambda: (linear(), GOOD)), "it learned too little"),
        "plain network, plain recipe": (the(plain_cnn), "it learned too little"),
        "plain network, good recipe": (the(lambda: (plain_cnn(), GOOD | {"epochs": 12})), "standard 3x3 convolution"),
        "plain recipe": (the(separable), "it learned too little"),
        "over the budget": (the(lambda: (separable(32, 64, 128), GOOD)), "over budget"),
        "too many epochs": (the(lambda: (separable(8, 8, 16), GOOD | {"epochs": 40})), "too many"),
        "unknown setting": (the(lambda: (separable(), GOOD | {"batch_size": 8})), "'batch_size' is no setting"),
        "bad setting": (the(lambda: (separable(), GOOD | {"ema": 1.5})), "make no recipe"),
        "three things": (the(lambda: (separable(), GOOD, 1)), "returns 3 things"),
        "no dict": (the(lambda: (separable(), 11)), "not a dict of settings"),
        "softmax at the end": (the(lambda: (nn.Sequential(separable(), nn.Softmax(1)), GOOD)), "ends in a softmax"),
        "built outside": (the(lambda: (ONE, GOOD)), "the same network"),
        "grows once it is counted": (growing, ["another network each time", "to be trained"]),
        "diverges": (the(lambda: (linear(), {"lr": 1e9})), "training failed"),
    },
}
SLOW = {("14.3", name) for name in ("linear", "plain network, plain recipe")}
