"""Training: each ingredient against a computation by hand, repeatability, interruption, checkpoints, bad input."""
import copy
import json
import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sample_training import QUIET, SHORT, few_digits, same_weights, tiny, without_time
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from lwcourse.data import Data, load_data
from lwcourse.layers import TrainingOutput
from lwcourse.train import (
    Epoch,
    History,
    TrainingDiverged,
    evaluate,
    fit,
    fit_seeds,
    pick_device,
    warmup_cosine,
)


@pytest.fixture(scope="module")
def few() -> Data:
    return few_digits()


# ------------------------------------------------------------------------------------------------ learning

def test_digits_are_learned():
    model, digits = tiny(), load_data("digits", image_size=16, in_channels=1)
    before = evaluate(model, digits)
    history = fit(model, digits, epochs=3, lr=0.1, **QUIET)
    assert before.accuracy < 0.3
    assert history.final.test_accuracy > 0.85 and history.final.test_loss < 0.6
    losses = [epoch.train_loss for epoch in history.epochs]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]
    after = evaluate(model, digits)
    assert after.accuracy == pytest.approx(history.final.test_accuracy)
    assert after.loss == pytest.approx(history.final.test_loss, rel=1e-4)


# ---------------------------------------------------------------------------- one step at a time, by hand

class Table(nn.Module):
    """Logits of an image that is one lit pixel: the row of a table. Remembers what it is given in training."""

    def __init__(self, images: int, classes: int):
        super().__init__()
        self.table = nn.Parameter(torch.randn(images, classes))
        self.seen = []

    def forward(self, x):
        if self.training:
            self.seen.append((x.detach().flatten(1).clone(), self.table.detach().clone()))
        return x.flatten(1) @ self.table


def lit_pixels(labels: list[int], classes: int) -> Data:
    count = len(labels)
    dataset = TensorDataset(torch.eye(count).view(count, 1, 1, count), torch.tensor(labels))
    return Data("pixels", dataset, dataset, tuple(map(str, range(classes))), (1, 1, count), (0.0,), (1.0,))


LABELS = [0, 2, 1, 1, 0, 2]


def smoothed(labels: torch.Tensor, classes: int, smoothing: float) -> torch.Tensor:
    return (1 - smoothing) * F.one_hot(labels, classes) + smoothing / classes


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.8, False), (0.0, False)])
@pytest.mark.parametrize(("weight_decay", "smoothing"), [(0.0, 0.0), (0.1, 0.0), (0.01, 0.3)])
def test_steps_equal_those_by_hand(momentum, nesterov, weight_decay, smoothing):
    model, data, lr = Table(6, 3), lit_pixels(LABELS, 3), 0.5
    weight, velocity, losses = model.table.detach().clone(), None, []
    targets = smoothed(torch.tensor(LABELS), 3, smoothing)
    for share in (0.5, 1.0, 1.0, 0.75, 0.25):  # two steps of warm-up, then a cosine of three: cos 0, 60 and 120 degrees
        log_probabilities = weight.log_softmax(1)
        losses.append(-(targets * log_probabilities).sum(1).mean().item())
        gradient = (log_probabilities.exp() - targets) / 6 + weight_decay * weight
        velocity = gradient if velocity is None else momentum * velocity + gradient
        weight = weight - lr * share * (gradient + momentum * velocity if nesterov else velocity)
    history = fit(model, data, epochs=5, warmup_epochs=2, lr=lr, momentum=momentum, nesterov=nesterov,
                  weight_decay=weight_decay, label_smoothing=smoothing, batch_size=6, **QUIET)
    torch.testing.assert_close(model.table.detach(), weight)
    assert history.step_losses == pytest.approx(losses, rel=1e-5)
    assert [epoch.lr / lr for epoch in history.epochs] == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.25])
    test_loss = F.cross_entropy(weight, torch.tensor(LABELS)).item()  # without smoothing
    assert history.final.test_loss == pytest.approx(test_loss, rel=1e-5)


class TwoHeads(Table):
    """In training, a second head that has a table of its own."""

    def __init__(self, images: int, classes: int):
        super().__init__(images, classes)
        self.other = nn.Parameter(torch.randn(images, classes))

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        return TrainingOutput(super().forward(x), (x.flatten(1) @ self.other,), weight=0.3)


def test_further_heads_learn_with_their_weight():
    model, data, lr = TwoHeads(6, 3), lit_pixels(LABELS, 3), 0.5
    targets = smoothed(torch.tensor(LABELS), 3, 0.1)
    weights, loss = {name: p.detach().clone() for name, p in model.named_parameters()}, 0.0
    for name, share in (("table", 1.0), ("other", 0.3)):
        log_probabilities = weights[name].log_softmax(1)
        loss -= share * (targets * log_probabilities).sum(1).mean().item()
        weights[name] -= lr * share * (log_probabilities.exp() - targets) / 6
    history = fit(model, data, epochs=1, warmup_epochs=0, lr=lr, momentum=0.0, nesterov=False, weight_decay=0.0,
                  label_smoothing=0.1, batch_size=6, **QUIET)
    for name, expected in weights.items():
        torch.testing.assert_close(model.get_parameter(name).detach(), expected)
    assert history.step_losses == pytest.approx([loss], rel=1e-5)
    assert history.final.train_accuracy == 1 / 6 * sum(
        int(row.argmax() == label) for row, label in zip(model.seen[0][1], LABELS, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixup_blends_images_and_targets_alike(smoothing):
    model, data, labels = Table(6, 3), lit_pixels(LABELS, 3), torch.tensor(LABELS)
    history = fit(model, data, epochs=8, warmup_epochs=0, mixup=0.8, label_smoothing=smoothing, batch_size=6, **QUIET)
    shares = []
    for (images, table), loss in zip(model.seen, history.step_losses, strict=True):
        torch.testing.assert_close(images.sum(1), torch.ones(6))
        assert torch.equal((images > 0).sum(1), torch.full((6,), 2)), "each image is a blend of two different ones"
        torch.testing.assert_close(images.sum(0), torch.ones(6))
        share = images.amax(1)
        torch.testing.assert_close(share, share[:1].expand(6))  # one draw a batch
        shares.append(share[0].item())
        targets = images @ smoothed(labels, 3, smoothing).float()
        assert loss == pytest.approx(-(targets * (images @ table).log_softmax(1)).sum(1).mean().item(), rel=1e-4)
    assert len(set(shares)) == len(shares)


def test_mixup_counts_an_image_as_its_main_label():
    """With a table that is always right of a single image, a blend is right when the larger part wins."""
    data, model = lit_pixels(LABELS, 3), Table(6, 3)
    model.table.data = 20.0 * F.one_hot(torch.tensor(LABELS), 3).float()
    history = fit(model, data, epochs=1, warmup_epochs=0, lr=1e-9, mixup=0.5, batch_size=6, **QUIET)
    assert history.final.train_accuracy == 1


class WithNorm(nn.Module):
    """A BatchNorm under a linear layer; keeps its state before each training step and after the last."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear, self.states = nn.BatchNorm2d(1), nn.Linear(4, 2), []

    def forward(self, x):
        if self.training:
            self.states.append(copy.deepcopy({name: value for name, value in self.state_dict().items()}))
        return self.linear(self.norm(x).flatten(1))


def test_ema_averages_weights_and_statistics():
    images, labels = torch.randn(8, 1, 2, 2) * 3 + 1, torch.arange(8) % 2
    dataset = TensorDataset(images, labels)
    data = Data("noise", dataset, dataset, ("a", "b"), (1, 2, 2), (0.0,), (1.0,))
    plain = WithNorm()
    averaged = copy.deepcopy(plain)
    options = {"epochs": 4, "lr": 0.5, "batch_size": 8, **QUIET}
    fit(plain, data, **options)
    history = fit(averaged, data, ema=0.7, **options)
    after = [*plain.states[1:], plain.state_dict()]  # after each of the four steps
    for name in ("linear.weight", "norm.weight", "norm.running_mean", "norm.running_var"):
        expected = after[0][name]
        for state in after[1:]:
            expected = 0.7 * expected + 0.3 * state[name]
        torch.testing.assert_close(averaged.state_dict()[name], expected)
        assert not torch.allclose(expected, after[-1][name], rtol=1e-4)
    assert history.final.test_loss == pytest.approx(evaluate(averaged, data).loss, rel=1e-5)
    assert history.final.test_loss != pytest.approx(evaluate(plain, data).loss, rel=1e-4)


def test_warmup_cosine_values():
    shares = [warmup_cosine(step, 4, 12) for step in range(13)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert shares[8] == pytest.approx(0.5) and shares[6] == pytest.approx((1 + 0.5**0.5) / 2)
    assert shares[12] == 0 and shares[4:] == sorted(shares[4:], reverse=True)
    assert warmup_cosine(0, 0, 10) == 1


def test_warmup_is_counted_in_epochs():
    """Of two epochs of two steps each, half an epoch is one step."""
    history = fit(Table(6, 3), lit_pixels(LABELS, 3), epochs=2, warmup_epochs=0.5, lr=0.1, batch_size=3, **QUIET)
    assert [epoch.lr for epoch in history.epochs] == pytest.approx([0.1, 0.1 * (1 + np.cos(2 / 3 * np.pi)) / 2])


def test_training_figures_are_means_over_images():
    """Five images in batches of three and two; a table that is right of all but the first."""
    data, model = lit_pixels(LABELS[:5], 3), Table(5, 3)
    model.table.data = 3.0 * F.one_hot(torch.tensor([1, *LABELS[1:5]]), 3).float()
    history = fit(model, data, epochs=1, warmup_epochs=0, lr=1e-9, batch_size=3, **QUIET)
    first, second = history.step_losses
    assert first != pytest.approx(second)
    assert history.final.train_loss == pytest.approx((3 * first + 2 * second) / 5)
    assert history.final.train_accuracy == history.final.test_accuracy == 4 / 5


def test_every_image_is_seen_once_an_epoch_in_a_new_order():
    model, data = Table(6, 3), lit_pixels(LABELS, 3)
    fit(model, data, epochs=4, warmup_epochs=0, batch_size=2, **QUIET)
    order = [images.argmax(1).tolist() for images, _ in model.seen]
    epochs = [sum(order[i:i + 3], []) for i in range(0, 12, 3)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1


@pytest.mark.parametrize(("images", "batch_size", "steps"), [(5, 2, 2), (4, 2, 2), (5, 3, 2), (3, 2, 1), (2, 64, 1)])
def test_a_last_batch_of_one_is_skipped(images, batch_size, steps):
    """BatchNorm over 1 x 1 maps raises on a batch of one."""
    dataset = TensorDataset(torch.randn(images, 1, 1, 1), torch.arange(images) % 2)
    data = Data("points", dataset, dataset, ("a", "b"), (1, 1, 1), (0.0,), (1.0,))
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 2))
    history = fit(model, data, epochs=1, batch_size=batch_size, **QUIET)
    assert len(history.step_losses) == steps


# ------------------------------------------------------------------------------------------------ seeds

def test_same_seed_gives_the_same_history(few):
    model, again, other = tiny(), tiny(), tiny()
    history = fit(model, few, epochs=2, seed=5, mixup=0.2, **SHORT)
    torch.rand(7)
    repeated = fit(again, few, epochs=2, seed=5, mixup=0.2, **SHORT)
    assert without_time(history) == without_time(repeated) and same_weights(model, again)
    assert without_time(history) != without_time(fit(other, few, epochs=2, seed=6, mixup=0.2, **SHORT))


def test_seed_fixes_dropout(few):
    """A full batch leaves only dropout to draw."""
    losses = [fit(tiny(dropout=0.5), few, epochs=1, seed=seed, batch_size=192, **QUIET).step_losses[0]
              for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


class Noisy(Dataset):
    """Images that a careless author changes with Python's and NumPy's random numbers."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, label = self.dataset[index]
        return image + random.random() + torch.tensor(np.random.rand(), dtype=torch.float32), label


def test_seed_fixes_python_and_numpy_and_leaves_all_states_alone(few):
    data = replace(few, train=Noisy(few.train))
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    model = copy.deepcopy(initial := tiny())
    torch.manual_seed(3)
    history = fit(model, data, epochs=1, **SHORT)
    evaluate(model, few)
    fit_seeds(tiny_without_seed, few, (0,), epochs=1, **SHORT)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    random.seed(8), np.random.seed(9)
    assert fit(initial, data, epochs=1, **SHORT).step_losses == history.step_losses


def tiny_without_seed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1),
                         nn.Linear(196, 10))


def test_fit_seeds_draws_weights_and_order(few):
    made = []

    def make() -> nn.Module:
        made.append(copy.deepcopy(model := tiny_without_seed()))
        return model
    histories = fit_seeds(make, few, (3, 4), epochs=1, lr=0.05, **SHORT)
    assert [history.settings["seed"] for history in histories] == [3, 4]
    assert histories[0].settings["lr"] == 0.05 and not same_weights(*made)
    assert histories[0].step_losses != histories[1].step_losses
    torch.rand(3)
    alone = fit_seeds(tiny_without_seed, few, (4,), epochs=1, lr=0.05, **SHORT)
    assert without_time(alone[0]) == without_time(histories[1])
    assert without_time(fit(made[1], few, seed=4, epochs=1, lr=0.05, **SHORT)) == without_time(histories[1])


# ------------------------------------------------------------------------ what is done to the model

@pytest.mark.parametrize("channels_last", [True, False, None])
@pytest.mark.parametrize("own", [torch.contiguous_format, torch.channels_last])
def test_layout_inside_and_after(few, channels_last, own):
    colour = (TensorDataset(part.tensors[0].repeat(1, 3, 1, 1), part.tensors[1]) for part in (few.train, few.test))
    data = Data("colour", *colour, few.classes, (3, 16, 16), few.mean, few.std)
    model = tiny(in_channels=3).to(memory_format=own)
    strides = [parameter.stride() for parameter in model.parameters()]
    inside = []
    for layer in (model[0], model[3]):  # the images and what becomes of them
        layer.register_forward_pre_hook(lambda module, inputs: inside.append(
            inputs[0].is_contiguous(memory_format=torch.channels_last)))
    fit(model, data, epochs=1, channels_last=channels_last, **SHORT)
    evaluate(model, data, channels_last=channels_last)
    assert set(inside) == {channels_last is not False}
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert all(parameter.grad is None for parameter in model.parameters())


def test_layout_that_kills_the_process_is_not_chosen(few):
    """A strided 1x1 convolution of one channel: in channels_last its training ends in a crash on some processors."""
    model = nn.Sequential(nn.Conv2d(1, 16, 1, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    history = fit(model, few, epochs=1, device="cpu", **SHORT)
    assert history.settings["channels_last"] is False
    assert fit(tiny(), few, epochs=1, device="cpu", **SHORT).settings["channels_last"] is True


def test_evaluate_changes_nothing(few):
    model = tiny().train()
    model[1].eval()
    F.cross_entropy(model(few.train.tensors[0][:8]), few.train.tensors[1][:8]).backward()
    before, gradients = copy.deepcopy(model), [parameter.grad.clone() for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    evaluate(model, few)
    assert same_weights(model, before) and [module.training for module in model.modules()] == modes
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(model.parameters(), gradients, strict=True))


def test_frozen_parameters_stay(few):
    model = tiny()
    model[0].requires_grad_(False)
    fit(model, few, epochs=1, **SHORT)
    assert torch.equal(model[0].weight, tiny()[0].weight) and not torch.equal(model[6].weight, tiny()[6].weight)


def test_mixed_precision_on_the_cpu(few):
    dtypes, model = [], tiny()
    model[0].register_forward_hook(lambda module, inputs, output: dtypes.append((module.training, output.dtype)))
    history = fit(model, few, epochs=2, amp=True, lr=0.1, **SHORT)
    assert set(dtypes) == {(True, torch.bfloat16), (False, torch.float32)}
    assert history.epochs[1].train_loss < history.epochs[0].train_loss
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


# ---------------------------------------------------------------------------------------------- evaluate

class Lookup(nn.Module):
    """Logits that are the image's own first pixels."""

    def forward(self, x):
        return x.flatten(1)[:, :3]


def test_evaluation_by_hand():
    logits = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 3, 0], [1, 0, 0], [0, 0, 1]])
    labels = torch.tensor([0, 0, 1, 1, 1])  # right, 0 as 1, right, 1 as 0, 1 as 2
    result = evaluate(Lookup(), TensorDataset(logits.view(5, 1, 1, 3), labels), batch_size=2)
    assert result.accuracy == pytest.approx(2 / 5)
    assert result.loss == pytest.approx(np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in
                                                 zip(logits.numpy(), labels.tolist(), strict=True)]), rel=1e-6)
    assert result.confusion.tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]] and result.classes == ("0", "1", "2")
    assert result.class_accuracy[:2].tolist() == pytest.approx([1 / 2, 1 / 3]) and result.class_accuracy[2].isnan()
    assert repr(result) == f"accuracy 40.00% (2 of 5), loss {result.loss:.4f}"


def test_evaluate_takes_the_test_part(few):
    model = tiny()
    fit(model, few, epochs=2, lr=0.1, **SHORT)
    assert evaluate(model, few).confusion.sum() == 100 and evaluate(model, few).classes == few.classes
    assert evaluate(model, few.train).confusion.sum() == 192
    assert evaluate(model, few).loss == pytest.approx(evaluate(model, few.test).loss)


# ----------------------------------------------------------------------------------------------- History

def test_history_survives_json(few):
    history = fit(tiny(), few, epochs=2, ema=0.9, **SHORT)
    assert History.from_dict(json.loads(json.dumps(history.to_dict()))) == history
    assert history.settings["torch"] == torch.__version__ and history.settings["model"] == "Sequential"
    assert history.settings["threads"] == torch.get_num_threads() and history.settings["train_images"] == 192
    for damaged in ({}, {**history.to_dict(), "epochs": [{"epoch": 1}]}, {**history.to_dict(), "step_losses": None}):
        with pytest.raises(ValueError, match="no History.to_dict"):
            History.from_dict(damaged)


def test_history_names_best_and_final():
    epochs = [Epoch(i + 1, {"loss": 1.0, "accuracy": 0.5}, {"loss": 1.0, "accuracy": accuracy}, 0.1, 2.0)
              for i, accuracy in enumerate((0.3, 0.8, 0.8, 0.7))]
    history = History({"model": "Net", "data": "digits", "epochs": 4}, epochs)
    assert history.best is epochs[1] and history.final is epochs[3]
    lines = repr(history).splitlines()
    assert lines[0] == "Net on digits: 4 of 4 epochs" and len(lines) == 6
    assert lines[3].split() == ["2", "1.0000", "50.00%", "1.0000", "80.00%", "0.1", "2.0"]
    assert len({len(line) for line in lines[1:]}) == 1, "the columns are aligned"


def test_of_epochs_with_one_accuracy_the_one_with_the_least_loss_is_best():
    epochs = [Epoch(i + 1, {"loss": 1.0}, {"loss": loss, "accuracy": 1.0}, 0.1, 2.0)
              for i, loss in enumerate((0.5, 0.2, 0.2, 0.3))]
    assert History({}, epochs).best is epochs[1]


# ---------------------------------------------------------------------------------------------- progress

def test_progress_is_one_line(few, capsys):
    fit(tiny(), few, epochs=2, batch_size=32)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.endswith("\n")
    last = err.split("\r")[-1]
    assert "384/384" in last and "images/s" in last and "epoch 2/2, loss " in last and "test " in last
    fit(tiny(), few, epochs=1, **SHORT)
    assert capsys.readouterr() == ("", "")


def test_tqdm_disable_hides_progress():
    """In a process of its own, since tqdm reads the environment when it is imported."""
    code = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from lwcourse.data import Data
from lwcourse.train import fit
dataset = TensorDataset(torch.randn(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]))
history = fit(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), Data("x", dataset, dataset, "ab", (1, 2, 2), (0,), (1,)))
assert len(history.epochs) == 3
"""
    result = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TQDM_DISABLE": "1"}, capture_output=True,
                            text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# --------------------------------------------------------------------------------------------- bad input

@pytest.mark.parametrize(("options", "says"), [
    ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
    ({"epochs": 1.5}, "epochs .* got 1.5"), ({"epochs": "3"}, "epochs .* got '3'"),
    ({"seed": -1}, "seed .* got -1"), ({"batch_size": 0}, "batch_size .* got 0"),
    ({"num_workers": -1}, "num_workers .* got -1"),
    ({"lr": 0}, "lr must be a positive number, got 0"), ({"lr": float("nan")}, "lr .* got nan"),
    ({"lr": "fast"}, "lr .* got 'fast'"),
    ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
    ({"momentum": 0}, "nesterov must be False when momentum is 0"),
    ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
    ({"label_smoothing": 1.1}, "label_smoothing must be between 0 and 1, got 1.1"),
    ({"epochs": 2, "warmup_epochs": 2}, "warmup_epochs must be at least 0 and below epochs=2, got 2"),
    ({"mixup": -1}, "mixup .* got -1"), ({"ema": 1.0}, "ema must be None, or between 0 and 1, got 1.0"),
    ({"ema": 0}, "ema .* got 0"), ({"device": "gpu"}, "no device 'gpu'")])
def test_bad_settings_are_named(few, options, says):
    model = tiny()
    with pytest.raises(ValueError, match=says):
        fit(model, few, **options, **QUIET)
    assert same_weights(model, tiny())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_here_is_named(few):
    with pytest.raises(ValueError, match="'cuda' is not available here; this machine has .*cpu"):
        fit(tiny(), few, device="cuda")
    assert pick_device("cpu") == torch.device("cpu") and pick_device().type in ("mps", "cpu")


def test_unknown_settings_are_refused(few):
    with pytest.raises(TypeError, match="learning_rate"):
        fit(tiny(), few, learning_rate=0.1)
    with pytest.raises(TypeError, match="learning_rate"):
        fit_seeds(tiny, few, learning_rate=0.1)


def test_outputs_and_classes_must_agree(few):
    says = "Sequential has 7 outputs, but the data has 10 classes; build it with num_classes=10"
    for call in (fit, evaluate):
        with pytest.raises(ValueError, match=says):
            call(tiny(classes=7), few)


def test_labels_must_be_classes(few):
    images = few.train.tensors[0]
    for labels, span in ((torch.arange(192) % 11, "got 10"), (torch.arange(192) % 10 - 1, "got -1")):
        wrong = replace(few, train=TensorDataset(images, labels))
        with pytest.raises(ValueError, match=f"labels must be between 0 and 9.*{span}"):
            fit(tiny(), wrong, **SHORT)


@pytest.mark.parametrize(("model", "says"), [
    (tiny(in_channels=3), r"cannot run images of shape \(1, 16, 16\)"),
    (nn.Conv2d(1, 10, 3), r"returns logits of shape \(N, num_classes\); Conv2d gave \(1, 10, 14, 14\)"),
    (Lookup(), "Lookup has no parameter to train")])
def test_models_that_do_not_fit_the_data_are_refused(few, model, says):
    with pytest.raises(ValueError, match=says):
        fit(model, few, **SHORT)


def test_kinds_are_checked(few):
    with pytest.raises(TypeError, match="model must be an nn.Module, as lw.create_model"):
        fit(tiny, few)
    with pytest.raises(TypeError, match="data must be a Data, .* got Photos"):
        fit(tiny(), load_data("photos"))
    with pytest.raises(TypeError, match="data must be a Data, .* got list"):
        evaluate(tiny(), [1, 2])
    grey = replace(few, train=TensorDataset(few.train.tensors[0][:, 0], few.train.tensors[1]))
    with pytest.raises(ValueError, match=r"images must be tensors of shape .*, got \(16, 16\)"):
        fit(tiny(), grey, **SHORT)


@pytest.mark.parametrize(("part", "says"), [("train", "nothing to train on"), ("test", "nothing to test on")])
def test_empty_data_is_refused(few, part, says):
    empty = TensorDataset(torch.zeros(0, 1, 16, 16), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match=says):
        fit(tiny(), replace(few, **{part: empty}))
    with pytest.raises(ValueError, match="no images to evaluate on"):
        evaluate(tiny(), empty)


def test_a_loss_that_explodes_stops_the_run(few):
    model = tiny()
    with pytest.raises(TrainingDiverged, match=r"loss became (nan|inf) at step \d+ of 18; try a smaller lr") as error:
        fit(model, few, epochs=3, lr=1e25, warmup_epochs=0, **SHORT)
    assert np.isfinite(error.value.history.step_losses).all() and not model.training
    assert 1 <= len(error.value.history.step_losses) < 18


@pytest.mark.parametrize(("options", "says"), [({"seeds": ()}, "seeds is empty"), ({"seed": 1}, "sets no 'seed'"),
                                               ({"checkpoint": "run.pt"}, "sets no 'checkpoint'")])
def test_fit_seeds_refuses(few, options, says):
    with pytest.raises(ValueError, match=says):
        fit_seeds(tiny, few, **options)
