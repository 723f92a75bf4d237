"""Training and testing on label maps: loss, weights and metrics against torch and torchmetrics."""
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sample_training import QUIET, without_time
from torch import nn
from torch.utils.data import TensorDataset
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)

from lwcourse.data import IGNORE_INDEX, Data, load_data
from lwcourse.train import CyclicLinear, History, enet_weights, evaluate, fit


def labeller(classes: int = 8, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, classes, 1))


@pytest.fixture(scope="module")
def streets() -> Data:
    return load_data("scenes", train_images=24, test_images=6, image_size=(32, 64))


def with_holes(data: Data) -> Data:
    """A third of the pixels do not count."""
    parts = []
    for part in (data.train, data.test):
        images, labels = part.tensors
        labels = labels.clone()
        labels[:, ::3] = IGNORE_INDEX
        parts.append(TensorDataset(images, labels))
    return replace(data, train=parts[0], test=parts[1])


def test_label_maps_are_learned(streets):
    model = labeller()
    before = evaluate(model, streets)
    history = fit(model, streets, epochs=4, batch_size=4, lr=0.1, **QUIET)
    assert history.final.test_mean_iou > 2 * before.mean_iou and history.final.test_accuracy > 0.4
    assert history.final.train_loss < 0.8 * history.epochs[0].train_loss
    assert "test mIoU" in repr(history) and History.from_dict(history.to_dict()) == history
    again = fit(labeller(), streets, epochs=4, batch_size=4, lr=0.1, **QUIET)
    assert without_time(again) == without_time(history)


@pytest.mark.parametrize("holes", [False, True])
def test_metrics_equal_those_of_torchmetrics(streets, holes):
    data = with_holes(streets) if holes else streets
    model = labeller().eval()
    found = evaluate(model, data)
    images, labels = data.test.tensors
    with torch.no_grad():
        logits = model(images)
    predicted = logits.argmax(1)
    oracle = {"num_classes": 8, "ignore_index": IGNORE_INDEX}
    assert torch.equal(found.confusion, multiclass_confusion_matrix(predicted, labels, **oracle))
    iou = multiclass_jaccard_index(predicted, labels, average="none", **oracle)
    present = found.confusion.sum(0) + found.confusion.sum(1) > 0
    assert torch.allclose(found.iou[present].float(), iou[present]) and found.iou[~present].isnan().all()
    assert found.mean_iou == pytest.approx(iou[present].mean().item(), rel=1e-5)
    assert found.accuracy == pytest.approx(multiclass_accuracy(predicted, labels, average="micro", **oracle).item())
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX).item(), rel=1e-4)


def test_class_that_is_nowhere_has_no_iou():
    labels = torch.tensor([[[0, 0, 1, 1]]])
    image = F.one_hot(torch.tensor([[[0, 1, 1, 1]]]), 3).permute(0, 3, 1, 2).float()
    found = evaluate(nn.Conv2d(3, 3, 1).requires_grad_(False), TensorDataset(image, labels))
    model = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3)[..., None, None])
        model.bias.zero_()
    found = evaluate(model, TensorDataset(image, labels))
    assert found.iou[:2].tolist() == [pytest.approx(1 / 2), pytest.approx(2 / 3)] and found.iou[2].isnan()
    assert found.mean_iou == pytest.approx(7 / 12)


def test_one_step_by_hand(streets):
    """Weighted cross-entropy over the pixels that count, one step of SGD."""
    data = with_holes(streets)
    weights = torch.linspace(0.5, 2, 8)
    ours, by_hand = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)
    by_hand.load_state_dict(ours.state_dict())
    images, labels = data.train.tensors
    history = fit(ours, data, epochs=1, batch_size=24, lr=0.3, warmup_epochs=0, momentum=0.0, nesterov=False,
                  weight_decay=0.0, class_weights=weights, **QUIET)
    loss = F.cross_entropy(by_hand(images), labels, weights, ignore_index=IGNORE_INDEX)
    loss.backward()
    assert history.step_losses == [pytest.approx(loss.item(), rel=1e-4)]
    for mine, other in zip(ours.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(mine, other - 0.3 * other.grad, atol=1e-5)


def test_enet_weights_by_hand(streets):
    data = with_holes(streets)
    labels = data.train.tensors[1]
    counted = labels[labels != IGNORE_INDEX]
    expected = [1 / math.log(1.1 + (counted == label).float().mean().item()) for label in range(8)]
    assert enet_weights(data, c=1.1).tolist() == pytest.approx(expected, rel=1e-4)
    assert enet_weights(streets).argmin() == torch.bincount(streets.train.tensors[1].flatten()).argmax()
    with pytest.raises(ValueError, match="c must be above 1.*got 1.0"):
        enet_weights(streets, c=1.0)


def test_cyclic_rate_is_that_of_espnetv2():
    """The authors' first epochs: 0.1, then 0.5 down to 0.1 again and again, halved after 51 epochs."""
    rate = [round(0.5 * CyclicLinear()(epoch + 0.7), 5) for epoch in range(103)]
    assert rate[:12] == [0.1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.5]
    assert rate[50:57] == [0.1, 0.25, 0.2, 0.15, 0.1, 0.05, 0.25] and rate[101] == 0.125
    for bad, says in (({"cycle": 1}, "cycle must be .* got 1"), ({"lowest": 0.0}, "lowest must be .* got 0.0")):
        with pytest.raises(ValueError, match=says):
            CyclicLinear(**bad)


def test_fit_follows_a_schedule(streets):
    schedule = CyclicLinear(cycle=3, warmup=1)
    history = fit(labeller(), streets, epochs=4, batch_size=8, lr=0.1, schedule=schedule, **QUIET)
    assert [epoch.lr for epoch in history.epochs] == pytest.approx([0.02, 0.1, 0.06, 0.02])
    assert "CyclicLinear(cycle=3" in history.settings["schedule"]


@pytest.mark.parametrize(("labels", "says"), [
    (lambda labels: labels.float(), "labels must be of type torch.int64.*got torch.float32"),
    (lambda labels: labels + 3, "labels must be between 0 and 7, or -100 .*; got (8|9|10)"),
    (lambda labels: labels - 1, "labels must be between 0 and 7, or -100 .*; got -1"),
    (lambda labels: labels[:, :16], r"a label map must be .* as its image is, \(32, 64\), got \(16, 64\)"),
])
def test_bad_label_maps_are_named(streets, labels, says):
    images, good = streets.train.tensors
    wrong = TensorDataset(images, labels(good))
    with pytest.raises(ValueError, match=says):
        fit(labeller(), replace(streets, train=wrong), epochs=1, **QUIET)
    with pytest.raises(ValueError, match=says):
        evaluate(labeller(), wrong)


def test_label_beyond_the_classes_is_found_in_lazy_data_too(streets):
    class Lazy(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            image, labels = streets.train[index]
            return image, labels + 7 * (index == 2)

    with pytest.raises(ValueError, match="labels must be between 0 and 7"):
        fit(labeller(), replace(streets, train=Lazy()), epochs=1, **QUIET)
    with pytest.raises(ValueError, match="labels must be between 0 and 7"):
        evaluate(labeller(), Lazy())


@pytest.mark.parametrize(("options", "says"), [
    ({"class_weights": [1.0] * 7}, r"class_weights must be 8 numbers, one a class, got shape \(7,\)"),
    ({"class_weights": [1.0] * 7 + [-1.0]}, "class_weights must be finite, none negative"),
    ({"class_weights": [0.0] * 8}, "class_weights must be finite, none negative and not all 0"),
    ({"mixup": 0.2}, "mixup=0.2 blends labels of whole images; here each pixel has a label"),
])
def test_bad_settings_are_named(streets, options, says):
    with pytest.raises(ValueError, match=says):
        fit(labeller(), streets, epochs=1, **options, **QUIET)


@pytest.mark.parametrize(("model", "says"), [
    (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 8)),
     r"labels pixels returns logits of shape \(N, num_classes, 32, 64\); Sequential gave \(1, 8\)"),
    (nn.Conv2d(3, 8, 3), r"Conv2d gave \(1, 8, 30, 62\)"),
    (nn.Conv2d(3, 5, 1), "has 5 outputs, but the data has 8 classes"),
])
def test_models_that_do_not_label_pixels_are_refused(streets, model, says):
    with pytest.raises(ValueError, match=says):
        fit(model, streets, epochs=1, **QUIET)


def test_nothing_counts():
    images, labels = torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), IGNORE_INDEX)
    with pytest.raises(ValueError, match="every pixel is labelled -100"):
        evaluate(nn.Conv2d(3, 5, 1), TensorDataset(images, labels))
