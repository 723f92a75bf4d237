"""Labels that do not count: a batch of them adds nothing to the weights, the statistics or the means."""
import math
import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sample_training import QUIET, SHORT, few_digits, same_weights, tiny
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from lwcourse.data import Data
from lwcourse.train import evaluate, fit
from lwcourse.train.input import Batches


def labeller() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))


def maps(void: list[int], ignore_index: int = -100, void_label: int | None = None) -> Data:
    """Four maps of three classes, those in `void` of one label all over."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (4, 8, 8), generator=generator)
    test = TensorDataset(torch.randn(2, 1, 8, 8, generator=generator), labels[:2].clone())
    labels[void] = ignore_index if void_label is None else void_label
    train = TensorDataset(torch.randn(4, 1, 8, 8, generator=generator), labels)
    return Data("maps", train, test, ("a", "b", "c"), (1, 8, 8), (0.0,), (1.0,), True, ignore_index)


OPTIONS = [{}, {"ema": 0.9}, {"amp": True}, {"label_smoothing": 0.1}, {"class_weights": [0.5, 1.0, 2.0]}]


@pytest.mark.parametrize("ignore_index", [-100, 255])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_void_batch_adds_nothing(ignore_index, options):
    """In batches of one, a void map is as good as none: as many steps as labelled maps, and finite means."""
    data, weights = maps([2], ignore_index), torch.tensor(options.get("class_weights", [1.0, 1.0, 1.0]))
    history = fit(labeller(), data, epochs=2, batch_size=1, **options, **QUIET)
    assert len(history.step_losses) == 2 * 3 and all(map(math.isfinite, history.step_losses))
    for number, epoch in enumerate(history.epochs):
        batches = Batches(data.train, 1, device=torch.device("cpu")).epoch(number)
        counts = [weights[labels].sum().item() for _, labels, _ in batches if (labels != ignore_index).any()]
        losses = history.step_losses[3 * number:3 * number + 3]
        assert epoch.train_loss == pytest.approx(sum(map(math.prod, zip(losses, counts, strict=True))) / sum(counts))


@pytest.mark.parametrize(("void_label", "weights"), [(None, None), (1, [1.0, 0.0, 2.0]), (1, [1, 0, 2])])
def test_void_batches_leave_the_one_step_by_hand(void_label, weights):
    """Three void maps of four: the weights and statistics are those of one step on the fourth."""
    data, model, by_hand = maps([0, 1, 3], void_label=void_label), labeller(), labeller()
    history = fit(model, data, epochs=1, batch_size=1, lr=0.3, momentum=0.0, nesterov=False, weight_decay=0.01,
                  schedule=lambda epoch: 1.0, class_weights=weights, **QUIET)
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float32)
    images, labels = data.train[2:3]
    logits = by_hand.train()(images)
    loss = F.cross_entropy(logits, labels, weight)
    loss.backward()
    torch.optim.SGD(by_hand.parameters(), 0.3, weight_decay=0.01).step()
    assert history.step_losses == [pytest.approx(loss.item(), rel=1e-5)]
    assert history.final.train_loss == history.step_losses[0]
    assert history.final.train_accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_means_are_weighted_by_what_counts():
    """Two batches of two maps, of which one has a single labelled pixel."""
    data = maps([])
    labels = data.train.tensors[1]
    labels[1:] = -100
    labels[2, 0, 0], labels[3, 1, 1] = 1, 2
    history = fit(labeller(), data, epochs=1, batch_size=2, lr=1e-9, **QUIET)
    counts = {65: 1, 1: 65, 2: 64, 64: 2}  # by the luck of the draw, the full map has one of the others beside it
    first, second = history.step_losses
    assert any(history.final.train_loss == pytest.approx((a * first + b * second) / (a + b), rel=1e-6)
               for a, b in counts.items())


@pytest.mark.parametrize(("data", "options", "says"), [
    (maps([0, 1, 2, 3]), {}, "every pixel is labelled -100"),
    (maps([0, 1, 2, 3], 255), {}, "every pixel is labelled 255"),
    (maps([0, 1, 2, 3], void_label=0), {"class_weights": [0, 1, 1]},
     "no label of epoch 1 counts: all are -100, or of a class of weight 0")])
def test_an_epoch_without_any_label_is_refused(data, options, says):
    model = labeller()
    with pytest.raises(ValueError, match=says):
        fit(model, data, epochs=1, **options, **QUIET)
    assert same_weights(model, labeller()) and model.training


def test_labels_that_are_void_in_lazy_data_only():
    class Crops(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return torch.zeros(1, 8, 8), torch.full((8, 8), -100)

    with pytest.raises(ValueError, match="no label of epoch 1 counts"):
        fit(labeller(), replace(maps([]), train=Crops()), epochs=1, **QUIET)
    model = labeller()
    with pytest.raises(ValueError, match="every pixel is labelled -100"):
        fit(model, replace(maps([]), test=Crops()), epochs=1, **QUIET)
    assert same_weights(model, labeller())


@pytest.mark.parametrize("options", [{}, {"mixup": 0.4}, {"mixup": 0.4, "label_smoothing": 0.1},
                                     {"mixup": 0.4, "class_weights": [0.0, *[1.0] * 9]}], ids=str)
def test_unlabelled_images_among_others(options):
    """Mixup blends the labelled ones alone."""
    few = few_digits()
    labels = few.train.tensors[1].clone()
    labels[::2] = -100
    images = few.train.tensors[0].clone()
    images[::2] = 1e4  # whatever they show
    model = tiny()
    seen = []
    model[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].max().item()) if
                                       torch.is_grad_enabled() else None)
    history = fit(model, replace(few, train=TensorDataset(images, labels)), epochs=1, **{**SHORT, "batch_size": 4},
                  **options)
    assert all(map(math.isfinite, history.step_losses)) and 30 < len(history.step_losses) <= 48
    assert "mixup" not in options or max(seen) < 100


def test_evaluate_keeps_no_predictions():
    """Its memory does not grow with the data set: of all outputs, two at most are alive at a time."""
    outputs, alive = [], []

    def count(module, inputs, output):
        outputs.append(weakref.ref(output))
        alive.append(sum(reference() is not None for reference in outputs))

    model = labeller()
    model.register_forward_hook(count)
    data = maps([1])
    dataset = TensorDataset(*(tensor.repeat(5, *[1] * (tensor.ndim - 1)) for tensor in data.train.tensors))
    found = evaluate(model, dataset, batch_size=2)
    assert found.confusion.sum() == 15 * 64 and len(outputs) == 11 and max(alive) <= 2
