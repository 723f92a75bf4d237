"""Tasks: their losses and figures against torch and torchmetrics, and a loop that knows none of them."""
import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from sample_training import QUIET
from torch import nn
from torch.utils.data import TensorDataset
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from lwcourse.data import Data
from lwcourse.layers import TrainingOutput
from lwcourse.tasks import Classification, Segmentation
from lwcourse.train import History, evaluate, fit

CLASSES = tuple("abcd")


def batch(*size, ignored=True):
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4, *size), torch.randint(4, (6, *size))
    if ignored:
        labels[::3] = -100
    return logits, labels


@pytest.mark.parametrize("task, size", [(Classification, ()), (Segmentation, (5, 3))])
def test_loss_is_torchs_with_all_heads(task, size):
    logits, labels = batch(*size)
    weights = torch.tensor([0.5, 1, 2, 0.1])
    task = task(classes=CLASSES, class_weights=weights, label_smoothing=0.1)

    def expected(one):
        return F.cross_entropy(one, labels, weights, label_smoothing=0.1)

    torch.testing.assert_close(task.loss(logits, labels), expected(logits))
    heads = TrainingOutput(logits, (2 * logits, logits - 1), 0.3)
    torch.testing.assert_close(task.loss(heads, labels),
                               expected(logits) + 0.3 * (expected(2 * logits) + expected(logits - 1)))
    total, count = task.test_loss(logits, labels)
    assert total / count == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


def test_labels_that_teach_nothing_have_no_weight():
    labels = torch.tensor([0, 1, 3, -100, 3])
    assert Classification(classes=CLASSES).weight(labels) == 4
    assert Classification(classes=CLASSES, class_weights=torch.tensor([1.0, 1, 1, 0])).weight(labels) == 2


@pytest.mark.parametrize("task, size", [(Classification, ()), (Segmentation, (5, 3))])
def test_figures_are_those_of_torchmetrics_and_of_several_processes_together(task, size):
    logits, labels = batch(*size)
    task = task(classes=CLASSES)
    meter, parts = task.meter(), [task.meter(), task.meter()]
    assert math.isnan(meter.result()["accuracy"])
    meter.update(logits, labels)
    for k, part in enumerate(parts):
        part.update(logits[k::2], labels[k::2])
    parts[0].merge(parts[1])
    found = meter.result()
    assert parts[0].result() == found and next(iter(found)) == task.metric
    assert found["accuracy"] == pytest.approx(
        multiclass_accuracy(logits, labels, 4, average="micro", ignore_index=-100).item())
    if size:
        assert found["mean_iou"] == pytest.approx(multiclass_jaccard_index(logits, labels, 4, ignore_index=-100).item())


def test_mixup_blends_images_and_labels_alike():
    images, labels = torch.randn(6, 3, 4, 4), torch.tensor([0, 1, 2, 3, -100, 1])
    blended, shares = Classification(classes=CLASSES).mixing(0.5, 0)(images, labels)
    assert blended.shape == (5, 3, 4, 4) and shares.shape == (5, 4)
    torch.testing.assert_close(shares.sum(1), torch.ones(5))
    main = (shares.max(1).values)[:, None, None, None]
    kept, rolled = images[labels >= 0], images[labels >= 0].roll(1, 0)
    one, other = main * kept + (1 - main) * rolled, (1 - main) * kept + main * rolled
    near = torch.minimum((blended - one).abs(), (blended - other).abs()).flatten(1).amax(1)
    assert near.max() < 1e-5
    with pytest.raises(ValueError, match="here each pixel has a label"):
        Segmentation(classes=CLASSES).mixing(0.5, 0)


# A task that the package has not: the loop trains it all the same

class ErrorMeter:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def update(self, output, targets):
        self.total += (output.squeeze(1) - targets).abs().sum().item()
        self.count += len(targets)

    def merge(self, other):
        self.total, self.count = self.total + other.total, self.count + other.count

    def result(self):
        return {"error": self.total / self.count}


@dataclass(frozen=True)
class Brightness:
    """Regression: how bright an image is."""
    metric: ClassVar[str] = "error"
    higher: ClassVar[bool] = False

    def sample(self, dataset):
        return dataset[0]

    def check(self, model, dataset, sample, place):
        assert model(place(sample[0][None])).shape == (1, 1)

    def check_targets(self, targets):
        assert targets.is_floating_point()

    def weight(self, targets):
        return len(targets)

    def targets(self, batch, device):
        return batch.to(device)

    def loss(self, output, targets):
        return F.mse_loss(output.squeeze(1), targets)

    def test_loss(self, output, targets):
        return F.mse_loss(output.squeeze(1), targets, reduction="sum").item(), len(targets)

    def meter(self):
        return ErrorMeter()

    def evaluation(self, loss, meter):
        return loss, meter.result()


class Bright(Data):
    task = Brightness()


def bright() -> Data:
    torch.manual_seed(0)
    images = torch.rand(64, 1, 4, 4)
    parts = [TensorDataset(part, part.mean((1, 2, 3))) for part in images.split([48, 16])]
    return Bright("bright", *parts, (), (1, 4, 4), (0.0,), (1.0,))


def regression():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 1))


def test_the_loop_trains_a_task_that_it_has_never_seen(tmp_path):
    model, data = regression(), bright()
    before = evaluate(model, data)
    history = fit(model, data, epochs=4, batch_size=16, lr=0.1, checkpoint=tmp_path / "run.pt", **QUIET)
    loss, figures = evaluate(model, data)
    assert loss < 0.2 * before[0] and figures["error"] == pytest.approx(history.final.test_error)
    assert history.best == min(history.epochs, key=lambda epoch: epoch.test_error)
    assert "test error" in repr(history) and History.from_dict(history.to_dict()) == history
    with pytest.raises(AttributeError, match="it has train_loss, train_error, test_loss, test_error"):
        _ = history.final.test_accuracy
    again = regression()
    fit(again, data, epochs=4, batch_size=16, lr=0.1, **QUIET)
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_options_that_a_task_does_not_have():
    with pytest.raises(ValueError, match="label_smoothing=0.1 is nothing that Brightness has"):
        fit(regression(), bright(), label_smoothing=0.1, **QUIET)
