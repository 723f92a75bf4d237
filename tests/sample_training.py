"""A small data set and network, and comparisons of runs, for the tests of training."""
from dataclasses import replace

import torch
from torch import nn
from torch.utils.data import TensorDataset

from lwcourse.data import Data, load_data
from lwcourse.train import History

QUIET = {"progress": False}
SHORT = {"batch_size": 32, "progress": False}


def few_digits() -> Data:
    """192 training and 100 test digits of 1 x 16 x 16: six steps of 32 an epoch."""
    digits = load_data("digits", image_size=16, in_channels=1)
    parts = (TensorDataset(*dataset[:count]) for dataset, count in ((digits.train, 192), (digits.test, 100)))
    return Data("few", *parts, digits.classes, digits.image_shape, digits.mean, digits.std)


def tiny(in_channels: int = 1, classes: int = 10, dropout: float = 0.2, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(dropout),
        nn.Linear(128, classes))


def without_batchnorm(seed: int = 0) -> nn.Sequential:
    """A network whose loss of a batch is the mean of those of its parts."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(32, 10))


def without_time(history: History) -> tuple:
    return [replace(epoch, seconds=0) for epoch in history.epochs], history.step_losses


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
