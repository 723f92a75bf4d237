"""Right answers to the exercises of chapter 14, in styles other than the solution's."""
import copy
import math
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lwcourse.layers import ConvBNAct, SeparableConv
from lwcourse.train import warmup_cosine


def the(answer):
    return lambda: answer


def with_numbers(step, warmup, hold, total, peak, floor):
    """No branch: a climb that stops at 1, and what the cosine takes away, nothing at first."""
    climb = min(1.0, (step + 1) / warmup) if warmup else 1.0
    done = max(0.0, (step - warmup - hold) / (total - warmup - hold))
    return climb * peak - (peak - floor) * (1 - math.cos(math.pi * done)) / 2


def with_the_course(step, warmup, hold, total, peak, floor):
    if step < warmup + hold:
        return peak * min(1, (step + 1) / max(warmup, 1))
    return floor + (peak - floor) * warmup_cosine(step - warmup - hold, 0, total - warmup - hold)


def with_a_tensor(step, warmup, hold, total, peak, floor):
    done = torch.tensor((step - warmup - hold) / (total - warmup - hold), dtype=torch.float64).clamp(0, 1)
    climb = torch.tensor((step + 1) / warmup if warmup else 1.0, dtype=torch.float64).clamp(max=1)
    ends = torch.tensor([peak, floor], dtype=torch.float64)
    falling = torch.lerp(*ends, (1 - torch.cos(torch.pi * done)) / 2)
    return torch.where(climb < 1, climb * peak, falling)


def with_a_table(step, warmup, hold, total, peak, floor):
    rest = total - warmup - hold
    table = [peak * (i + 1) / warmup for i in range(warmup)] + [peak] * hold
    table += [floor + (peak - floor) * (1 + math.cos(math.pi * i / rest)) / 2 for i in range(rest)]
    return table[step]


def with_degrees(step, warmup, hold, total, peak, floor):
    if step < warmup:
        return peak - peak * (warmup - step - 1) / warmup
    degrees = max(0, 180 * (step - warmup - hold) / (total - warmup - hold))
    return (peak + floor) / 2 + (peak - floor) / 2 * math.cos(math.radians(degrees))


def with_a_scheduler(step, warmup, hold, total, peak, floor):
    """torch's own: a list of three, stepped from the start."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    rest = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup - hold, eta_min=floor)
    if step < warmup:
        return peak * (step + 1) / warmup
    for _ in range(step - warmup - hold):
        optimizer.step()
        rest.step()
    return optimizer.param_groups[0]["lr"]


class Rate:
    def __call__(self, step, warmup, hold, total, peak, floor):
        part = (step >= warmup) + (step >= warmup + hold)
        return (lambda: peak / warmup * (step + 1), lambda: peak, lambda: floor + (peak - floor) / 2 * (
            1 + math.cos(math.pi * (step - warmup - hold) / (total - warmup - hold))))[part]()


def accuracy_of(model, test):
    images, labels = test
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(1) == labels).double().mean()


def with_state_dict(model, batches, test, epochs, rate, decay):
    average = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    steps, accuracies = count(), []
    for _ in range(epochs):
        model.train()
        for images, labels in batches:
            optimizer.zero_grad(set_to_none=False)
            F.nll_loss(model(images).log_softmax(1), labels).backward()
            for group in optimizer.param_groups:
                group["lr"] = rate(next(steps))
            optimizer.step()
            state = model.state_dict()
            average.load_state_dict({name: decay * value + (1 - decay) * state[name] if value.is_floating_point()
                                     else state[name] for name, value in average.state_dict().items()})
        accuracies.append(accuracy_of(model, test))
    return average, accuracies


def with_torchs_average(model, batches, test, epochs, rate, decay):
    """AveragedModel copies at its first update: so it is updated once before the first step."""
    def blend(mine, theirs, _):
        return decay * mine + (1 - decay) * theirs if mine.is_floating_point() else theirs

    average = AveragedModel(model, avg_fn=blend, use_buffers=True)
    average.update_parameters(model)
    optimizer, accuracies, step = torch.optim.SGD(model.parameters(), lr=rate(0), momentum=0.9), [], 0
    for _ in range(epochs):
        model.train()
        for images, labels in batches:
            model.zero_grad()
            nn.CrossEntropyLoss()(model(images), labels).backward()
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.step()
            average.update_parameters(model)
            step += 1
        accuracies.append(float(accuracy_of(model, test)))
    return average, accuracies


def with_lambda_lr(model, batches, test, epochs, rate, decay):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    average, accuracies = copy.deepcopy(model), []
    for _ in range(epochs):
        for images, labels in batches:
            model.train()
            loss = F.cross_entropy(model(images), labels)
            grads = torch.autograd.grad(loss, list(model.parameters()))
            for parameter, grad in zip(model.parameters(), grads, strict=True):
                parameter.grad = grad
            optimizer.step()
            schedule.step()
            for name, mine in average.state_dict().items():
                if mine.dtype.is_floating_point:
                    mine.mul_(decay).add_(model.state_dict()[name], alpha=1 - decay)
        accuracies += [accuracy_of(model, test).item()]
    return [average, accuracies]


def by_hand(model, batches, test, epochs, rate, decay):
    """SGD with momentum written out, and no optimiser at all."""
    weights, average, accuracies, step = list(model.parameters()), copy.deepcopy(model).eval(), [], 0
    velocities = [torch.zeros_like(weight) for weight in weights]
    for _ in range(epochs):
        model.train()
        for images, labels in batches:
            for weight in weights:
                weight.grad = None
            F.cross_entropy(model(images), labels).backward()
            with torch.no_grad():
                for weight, velocity in zip(weights, velocities, strict=True):
                    velocity.mul_(0.9).add_(weight.grad)
                    weight.sub_(rate(step) * velocity)
                ours, theirs = ([*one.parameters(), *one.buffers()] for one in (average, model))
                for mine, other in zip(ours, theirs, strict=True):
                    if mine.is_floating_point():
                        mine += (1 - decay) * (other - mine)
            step += 1
        accuracies.append(accuracy_of(model, test).item())
    return average, accuracies


def one_loop(model, batches, test, epochs, rate, decay):
    """Epochs and batches in a single loop; the counter of the average stays as it was."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate(0), momentum=0.9)
    average, accuracies = copy.deepcopy(model), []
    for step in range(epochs * len(batches)):
        images, labels = batches[step % len(batches)]
        optimizer.param_groups[0].update(lr=rate(step))
        loss = F.cross_entropy(model.train()(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for (_, mine), (_, other) in zip(average.state_dict().items(), model.state_dict().items(), strict=True):
                if mine.is_floating_point():
                    mine.copy_(torch.lerp(other, mine, decay))
        if (step + 1) % len(batches) == 0:
            accuracies.append(accuracy_of(model, test).item())
    return average, accuracies


def gathered(kind):
    """The accuracies in one tensor or array, not in a list."""
    def train(*given):
        average, accuracies = by_hand(*given)
        return average, kind(accuracies)
    return train


class Trainer:
    def __init__(self):
        self.step = 0

    def __call__(self, model, batches, test, epochs, rate, decay):
        self.step = 0
        optimizer = torch.optim.SGD(model.parameters(), lr=rate(0), momentum=0.9)
        average = copy.deepcopy(model)
        return average, [self.epoch(model, average, optimizer, batches, test, rate, decay) for _ in range(epochs)]

    def epoch(self, model, average, optimizer, batches, test, rate, decay):
        model.train()
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels, reduction="sum").div(len(labels)).backward()
            optimizer.param_groups[0]["lr"] = rate(self.step)
            optimizer.step()
            self.step += 1
            for one, other in ((average.parameters(), model.parameters()), (average.buffers(), model.buffers())):
                for mine, theirs in zip(one, other, strict=True):
                    mine.data = (mine.data.double() * decay + theirs.data.double() * (1 - decay)).to(mine.dtype)
        return accuracy_of(model, test).item()


GOOD = {"epochs": 11, "lr": 0.6, "schedule": "cosine", "warmup_epochs": 1, "ema": 0.95}


def separable(*, stem=16, middle=32, top=64, act=nn.ReLU):
    return nn.Sequential(ConvBNAct(3, stem, 3, stride=2, act=act), SeparableConv(stem, middle, act=act),
                         SeparableConv(middle, top, stride=2, act=act), SeparableConv(top, top, act=act),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(top, 10))


class Written(nn.Module):
    """The solution's network in layers of PyTorch alone."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.ModuleList(nn.Sequential(
            nn.Conv2d(i, i, 3, s, 1, groups=i, bias=False), nn.BatchNorm2d(i), nn.ReLU(),
            nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
            for i, o, s in ((16, 32, 1), (32, 64, 2), (64, 64, 1)))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=(2, 3)))


RIGHT = {
    "14.1": {"without a branch": the(with_numbers), "with the course's cosine": the(with_the_course),
             "with a tensor": the(with_a_tensor), "with a table": the(with_a_table), "with degrees": the(with_degrees),
             "with torch's scheduler": the(with_a_scheduler), "an object": Rate},
    "14.2": {"state dicts": the(with_state_dict), "torch's AveragedModel": the(with_torchs_average),
             "LambdaLR": the(with_lambda_lr), "no optimiser": the(by_hand), "one loop": the(one_loop),
             "an object": Trainer, "a tensor of accuracies": the(gathered(torch.tensor)),
             "an array of accuracies": the(gathered(np.array))},
    "14.3": {"the sheet's": the(lambda: (separable(), GOOD)), "a class": the(lambda: (Written(), GOOD)),
             "a list": the(lambda: [separable(), GOOD]),
             "SiLU": the(lambda: (separable(act=nn.SiLU), GOOD)),
             "a little smoothing": the(lambda: (separable(), GOOD | {"label_smoothing": 0.05})),
             "linear schedule": the(lambda: (separable(), GOOD | {"schedule": "linear"})),
             "a wider stem": the(lambda: (separable(stem=20, middle=32), GOOD | {"epochs": 10}))},
}
SLOW = {("14.3", name) for name in RIGHT["14.3"] if name != "the sheet's"}
