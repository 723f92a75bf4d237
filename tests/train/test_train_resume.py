"""Runs that are interrupted, resumed, or given a checkpoint that is damaged or not theirs."""
import copy
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sample_training import SHORT, few_digits, same_weights, tiny, without_time
from torch import nn
from torch.utils.data import Dataset

from lwcourse.data import Data
from lwcourse.train import evaluate, fit, fit_seeds


@pytest.fixture(scope="module")
def few() -> Data:
    return few_digits()


class Stopping(Dataset):
    """Raises KeyboardInterrupt, as Ctrl-C does, when asked for its n-th image from now on."""

    def __init__(self, dataset, after: int):
        self.dataset, self.after = dataset, after

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt
        return self.dataset[index]


EVERYTHING = {"epochs": 3, "mixup": 0.3, "label_smoothing": 0.1, "ema": 0.8, **SHORT}


def test_interrupted_returns_the_history_so_far(few):
    whole_model, model = tiny(), tiny()
    whole = fit(whole_model, few, epochs=3, **SHORT)
    data = replace(few, train=Stopping(few.train, 192 + 3 * 32 + 10))  # fit looks at one image before it starts
    before = torch.get_rng_state()
    history = fit(model, data, epochs=3, **SHORT)
    assert history.interrupted and not whole.interrupted
    assert "1 of 3 epochs, interrupted" in repr(history)
    assert without_time(history) == (without_time(whole)[0][:1], whole.step_losses[:9])
    assert not model.training and torch.equal(before, torch.get_rng_state())
    assert model[0].weight.is_contiguous() and np.isfinite(evaluate(model, few).loss)
    assert not same_weights(model, tiny()) and not same_weights(model, whole_model)


def test_interrupted_keeps_the_average(few):
    data = replace(few, train=Stopping(few.train, 100))
    plain, averaged = tiny(), tiny()
    fit(plain, data, epochs=1, **SHORT)
    data.train.after = 100
    fit(averaged, data, epochs=1, ema=0.9, **SHORT)
    assert not torch.equal(plain[0].weight, averaged[0].weight)


def test_interrupted_before_the_first_step(few):
    model = tiny()
    history = fit(model, replace(few, train=Stopping(few.train, 2)), epochs=1, ema=0.9, **SHORT)
    assert history.interrupted and history.step_losses == [] and same_weights(model, tiny())
    with pytest.raises(ValueError, match="no epoch was completed"):
        _ = history.final


def test_interrupting_ends_fit_seeds(few):
    data = replace(few, train=Stopping(few.train, 300))
    histories = fit_seeds(tiny, data, (0, 1, 2), epochs=1, **SHORT)
    assert [history.interrupted for history in histories] == [False, True]


@pytest.mark.parametrize("options", [EVERYTHING, {"epochs": 3, **SHORT}], ids=["everything", "plain"])
def test_resumed_equals_uninterrupted(few, tmp_path, options):
    whole, model, path = tiny(), tiny(), tmp_path / "new folder" / "run.pt"
    expected = fit(whole, few, **options)
    stopping = replace(few, train=Stopping(few.train, 192 + 100))
    assert fit(model, stopping, checkpoint=path, **options).interrupted
    fresh = tiny(seed=1)
    resumed = fit(fresh, few, checkpoint=path, resume=True, **options)
    assert without_time(resumed) == without_time(expected) and same_weights(fresh, whole)
    assert not resumed.interrupted and resumed.settings == expected.settings
    assert os.listdir(path.parent) == ["run.pt"]


def test_resuming_a_finished_run_trains_no_more(few, tmp_path):
    path, model, fresh = tmp_path / "run.pt", tiny(), tiny(seed=1)
    history = fit(model, few, epochs=1, checkpoint=path, resume=True, **SHORT)
    content = path.read_bytes()
    nothing = replace(few, train=Stopping(few.train, 3))  # no image beyond the first look
    again = fit(fresh, nothing, epochs=1, checkpoint=path, resume=True, **SHORT)
    assert again == history and same_weights(model, fresh) and path.read_bytes() == content


@pytest.fixture
def run(few, tmp_path):
    """A finished checkpoint, and a check that a refused resumption changed neither it nor the model."""
    path = tmp_path / "run.pt"
    fit(tiny(), few, epochs=1, checkpoint=path, **SHORT)

    def refused(says: str, error: type = ValueError, model: nn.Module | None = None, **options):
        model, content = tiny(seed=1) if model is None else model, path.read_bytes()
        before = copy.deepcopy(model)
        with pytest.raises(error, match=says):
            fit(model, few, checkpoint=path, **{"epochs": 1, "resume": True, **SHORT, **options})
        assert path.read_bytes() == content and same_weights(model, before)
    refused.path = path
    return refused


def test_a_checkpoint_is_not_overwritten(run):
    run("run.pt exists; pass resume=True", FileExistsError, resume=False)


@pytest.mark.parametrize(("options", "says"), [
    ({"lr": 0.5}, "is of a run with lr=0.02; this one has 0.5"), ({"seed": 1}, "with seed=0; this one has 1"),
    ({"epochs": 2}, "epochs=1; this one has 2"), ({"ema": 0.9}, "ema=None; this one has 0.9")])
def test_a_checkpoint_of_other_settings_is_refused(run, options, says):
    run(says, **options)


def test_a_checkpoint_of_another_network_is_refused(run):
    wider, deeper = tiny(), tiny()
    wider[-1] = nn.Linear(128, 10, bias=False)
    deeper[6] = nn.Conv2d(16, 32, 3, padding=1)
    run("another network: 11.bias is shape .10,. there and nothing of that name here", model=wider)
    run(r"another network: 6.weight is shape \(32, 16, 1, 1\) there and shape \(32, 16, 3, 3\) here", model=deeper)


def test_a_damaged_checkpoint_is_refused(run):
    content = run.path.read_bytes()
    for damaged in (content[:len(content) // 2], b"", b"not a checkpoint"):
        run.path.write_bytes(damaged)
        run("run.pt cannot be read as a checkpoint")


def test_a_foreign_file_is_refused(run, tmp_path):
    torch.save({"model": tiny().state_dict()}, run.path)
    run("was not written by fit")

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trapped"),))
    run.path.write_bytes(pickle.dumps(Trap(), protocol=2))
    run("cannot be read as a checkpoint")
    assert not (tmp_path / "trapped").exists()


def test_checkpoint_paths_are_checked(few, tmp_path):
    with pytest.raises(ValueError, match="must be a file, and .* is a folder"):
        fit(tiny(), few, checkpoint=tmp_path, **SHORT)
    with pytest.raises(ValueError, match="resume=True needs checkpoint="):
        fit(tiny(), few, resume=True, **SHORT)


def test_a_failed_write_keeps_the_checkpoint_before(few, tmp_path, monkeypatch):
    path, expected = tmp_path / "run.pt", fit(tiny(), few, epochs=2, **SHORT)
    save, saved = torch.save, []

    def full_disk(content, target):
        save(content, target)
        saved.append(target)
        if len(saved) == 2:
            target.truncate(1000)
            raise OSError("no space left on device")
    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        fit(tiny(), few, epochs=2, checkpoint=path, **SHORT)
    assert os.listdir(tmp_path) == ["run.pt"]
    resumed = fit(tiny(), few, epochs=2, checkpoint=path, resume=True, **SHORT)
    assert without_time(resumed) == without_time(expected)
