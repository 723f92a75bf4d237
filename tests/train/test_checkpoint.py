"""The file of a run: paths that cannot be written, damage, owners, schedules and wrapped networks."""
import functools
import io
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sample_training import SHORT, few_digits, same_weights, tiny, without_time
from torch import nn
from torch.utils.data import Dataset

from lwcourse.data import Data
from lwcourse.train import CyclicLinear, History, fit
from lwcourse.train.checkpoint import Checkpoint

ONE = {"epochs": 1, **SHORT}


@pytest.fixture(scope="module")
def few() -> Data:
    return few_digits()


class Calling(Dataset):
    """Calls a function when it is asked for its n-th image."""

    def __init__(self, dataset, after: int, function):
        self.dataset, self.after, self.function = dataset, after, function

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        self.after -= 1
        if self.after == 0:
            self.function()
        return self.dataset[index]


def interrupt():
    raise KeyboardInterrupt


# ------------------------------------------------------------------------- paths, before the first step

@pytest.mark.parametrize(("path", "says"), [
    (3, "checkpoint must be the path of a file, got 3"), (True, "the path of a file, got True"),
    (b"run.pt", "the path of a file, got b'run.pt'"), ([], "the path of a file, got"),
    ("a\0b", "the path of a file, got"), ("", "checkpoint must be a file, and . is a folder"),
    ("{folder}", "must be a file, and .* is a folder"), ("{folder}/file/run.pt", "run.pt cannot be written"),
    ("{folder}/" + "n" * 300, "cannot be written: .*too long"),
    ("{folder}/new/deeper/" + "n" * 300, "cannot be written: .*too long"),
    ("/proc/nowhere/run.pt", "run.pt cannot be written"), ("/dev/null", "and /dev/null is something else"),
    ("{folder}/pipe", "pipe is something else, such as a device")])
@pytest.mark.parametrize("resume", [False, True])
def test_a_path_that_cannot_be_written_is_found_out_before_the_first_step(few, tmp_path, path, says, resume):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    path = path.format(folder=tmp_path) if isinstance(path, str) else path
    model = tiny()
    with pytest.raises(ValueError, match=says):
        fit(model, few, checkpoint=path, resume=resume, **ONE)
    assert same_weights(model, tiny()) and model.training
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


@pytest.mark.parametrize("name", ["n" * 250, "n" * 255, "é" * 120, "nétz 😀.pt"])
def test_long_and_foreign_names_can_be_written(few, tmp_path, name):
    fit(tiny(), few, checkpoint=tmp_path / name, **ONE)
    fit(tiny(), few, checkpoint=tmp_path / name, resume=True, **ONE)
    assert os.listdir(tmp_path) == [name]


def test_a_link_stays_a_link_and_a_change_of_folder_does_no_harm(few, tmp_path, monkeypatch):
    (tmp_path / "link.pt").symlink_to(tmp_path / "target.pt")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    data = replace(few, train=Calling(few.train, 100, lambda: os.chdir("elsewhere")))
    fit(tiny(), data, checkpoint="link.pt", **ONE)
    assert (tmp_path / "link.pt").is_symlink() and (tmp_path / "target.pt").is_file()


def test_what_a_killed_run_left_is_tidied_up(few, tmp_path):
    for name in ("run.pt.0123abcd.part", "run.pt.mine.part", "other.pt.0123abcd.part"):
        (tmp_path / name).touch()
    fit(tiny(), few, checkpoint=tmp_path / "run.pt", **ONE)
    assert sorted(os.listdir(tmp_path)) == ["other.pt.0123abcd.part", "run.pt", "run.pt.mine.part"]


def test_a_finished_run_is_read_where_nothing_can_be_written(few, tmp_path, monkeypatch):
    history = fit(tiny(), few, checkpoint=tmp_path / "run.pt", **ONE)
    monkeypatch.setattr(Checkpoint, "check_writable", interrupt)
    assert fit(tiny(seed=1), few, checkpoint=tmp_path / "run.pt", resume=True, **ONE) == history


@pytest.mark.parametrize("error", [RuntimeError("[enforce fail at inline_container.cc:672]"), OSError(28, "No space")])
def test_a_full_disk_is_named_and_the_history_kept(few, tmp_path, monkeypatch, error):
    path, model, one = tmp_path / "run.pt", tiny(), tiny()
    save, usage = torch.save, os.statvfs(tmp_path)

    def full(content, target):
        save(content, target)
        if len(json.loads(content["history"])["epochs"]) == 2:
            raise error
    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 0}))
    with pytest.raises(OSError, match="run.pt could not be written: .*[Nn]o space") as caught:
        fit(model, few, epochs=2, checkpoint=path, **SHORT)
    whole = fit(one, few, epochs=2, **SHORT)
    assert usage.f_bsize and without_time(caught.value.history) == without_time(whole)
    assert same_weights(model, one) and not model.training and os.listdir(tmp_path) == ["run.pt"]
    monkeypatch.undo()
    assert without_time(fit(tiny(), few, epochs=2, checkpoint=path, resume=True, **SHORT)) == without_time(whole)


# -------------------------------------------------------------------------------------------------- damage

@pytest.fixture(scope="module")
def good(few, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "run.pt"
    fit(tiny(), few, checkpoint=path, **ONE)
    return path.read_bytes()


def content(good: bytes) -> dict:
    return torch.load(io.BytesIO(good), weights_only=True)


def refused(few: Data, path: Path, says: str) -> None:
    before, model = path.read_bytes(), tiny(seed=1)
    with pytest.raises(ValueError, match=says) as error:
        fit(model, few, checkpoint=path, resume=True, **ONE)
    assert str(path) in str(error.value) and "weights_only" not in str(error.value)
    assert error.value.__suppress_context__ or "weights_only" not in str(error.value.__cause__)
    assert path.read_bytes() == before and same_weights(model, tiny(seed=1)) and model.training


@pytest.mark.parametrize(("entry", "says"), [
    ("format", "was not written by fit"), ("history", "it holds no history of a run"), ("model", "it holds no 'model'"),
    ("optimizer", "it holds no 'optimizer'"), ("scaler", "it holds no 'scaler'")])
def test_a_missing_entry_is_named(few, good, tmp_path, entry, says):
    saved = content(good)
    del saved[entry]
    torch.save(saved, tmp_path / "run.pt")
    refused(few, tmp_path / "run.pt", says)


def changed(good: bytes, **entries) -> str:
    return json.dumps({**json.loads(content(good)["history"]), **entries})


@pytest.mark.parametrize("history", [
    lambda good: "{no json", lambda good: torch.ones(3), lambda good: 3, lambda good: "[]", lambda good: "null",
    lambda good: "{}", lambda good: changed(good, step_losses=["a"]), lambda good: changed(good, epochs=[3]),
    lambda good: changed(good, epochs=5), lambda good: changed(good, settings=3)])
def test_a_history_that_is_none_is_named(few, good, tmp_path, history):
    torch.save({**content(good), "history": history(good)}, tmp_path / "run.pt")
    refused(few, tmp_path / "run.pt", "is damaged: it holds no history of a run")


def test_epochs_that_cannot_be_are_named(few, good, tmp_path):
    epochs = json.loads(content(good)["history"])["epochs"]
    for wrong in ([], 3 * epochs, [{**epochs[0], "epoch": 7}]):
        torch.save({**content(good), "history": changed(good, epochs=wrong)}, tmp_path / "run.pt")
        refused(few, tmp_path / "run.pt", "is damaged: it holds the epochs")


def test_an_optimizer_that_does_not_fit_is_named(few, good, tmp_path):
    saved = content(good)["optimizer"]
    wrong = [{}, {**saved, "state": {}}, {**saved, "state": {**saved["state"], 0: {"momentum_buffer": torch.ones(3)}}}]
    for optimizer in wrong:
        torch.save({**content(good), "optimizer": optimizer}, tmp_path / "run.pt")
        refused(few, tmp_path / "run.pt", "is damaged: its 'optimizer' does not fit")


@pytest.mark.parametrize("damaged", [b"", b"not a checkpoint", bytes(1000), b"\x80\x04K\x01."])
def test_garbage_is_refused_without_bad_advice(few, tmp_path, damaged):
    (tmp_path / "run.pt").write_bytes(damaged)
    refused(few, tmp_path / "run.pt", "cannot be read as a checkpoint, it is damaged or something else")


def test_a_flipped_bit_is_refused_or_harmless(few, good, tmp_path):
    expected, draw, told = tiny(), random.Random(0), 0
    path = tmp_path / "run.pt"
    path.write_bytes(good)
    fit(expected, few, checkpoint=path, resume=True, **ONE)
    for _ in range(40):
        place, damaged = draw.randrange(len(good)), bytearray(good)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        model = tiny(seed=1)
        try:
            fit(model, few, checkpoint=path, resume=True, **ONE)
        except ValueError as error:
            told += str(path) in str(error)
        else:
            told += same_weights(model, expected)
    assert told == 40


# -------------------------------------------------------------------------------------------------- owners

def test_two_runs_on_one_new_checkpoint(few, tmp_path):
    """The other run ends while this one is in its first epoch; its file is left alone, and this run told."""
    path, other = tmp_path / "run.pt", tiny()
    data = replace(few, train=Calling(few.train, 100, lambda: fit(other, few, seed=1, checkpoint=path, **ONE)))
    with pytest.raises(FileExistsError, match="run.pt was written by something else .* with seed=1; this one has 0"
                       ) as error:
        fit(model := tiny(), data, seed=0, checkpoint=path, **ONE)
    assert without_time(error.value.history) == without_time(fit(alone := tiny(), few, seed=0, **ONE))
    assert same_weights(model, alone) and os.listdir(tmp_path) == ["run.pt"]
    fit(again := tiny(seed=1), few, seed=1, checkpoint=path, resume=True, **ONE)
    assert same_weights(again, other)


def test_a_file_of_something_else_is_left_alone(few, tmp_path):
    path = tmp_path / "run.pt"
    data = replace(few, train=Calling(few.train, 100, lambda: path.write_text("mine")))
    with pytest.raises(FileExistsError, match="was written by something else in the meantime, and is left as it is"):
        fit(tiny(), data, checkpoint=path, **ONE)
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["run.pt"]


@pytest.mark.parametrize("meanwhile", ["the same run", "the file goes", "the folder goes"])
def test_what_may_happen_to_a_checkpoint_meanwhile(few, tmp_path, meanwhile):
    path, twin = tmp_path / "folder" / "run.pt", tiny()

    def happen():
        if meanwhile == "the same run":
            fit(twin, few, epochs=2, checkpoint=path, resume=True, **SHORT)
        else:
            path.unlink()
        if meanwhile == "the folder goes":
            path.parent.rmdir()
    data = replace(few, train=Calling(few.train, 250, happen))
    expected = fit(tiny(), few, epochs=2, **SHORT)
    assert without_time(fit(tiny(), data, epochs=2, checkpoint=path, **SHORT)) == without_time(expected)
    assert without_time(fit(tiny(), few, epochs=2, checkpoint=path, resume=True, **SHORT)) == without_time(expected)


# ----------------------------------------------------------------------------------------------- schedules

def power(exponent: float) -> functools.partial:
    """A function of its own at each call, as another process would have: at another address."""
    def polynomial(exponent: float, epoch: float) -> float:
        return (1 - epoch / 3) ** exponent
    return functools.partial(polynomial, exponent)


class Halving:
    """With the default repr, which holds an address."""

    def __init__(self, rate: float):
        self.rate = rate

    def __call__(self, epoch: float) -> float:
        return 1 / (1 + self.rate * epoch)


@pytest.mark.parametrize(("schedule", "same", "other"), [
    (power(0.9), power(0.9), power(0.8)),
    (Halving(1), Halving(1), Halving(2)), (lambda epoch: 1.0, lambda epoch: 1.0, lambda epoch: 0.5),
    (Halving(1).__call__, Halving(1).__call__, Halving(3).__call__),
    (CyclicLinear(cycle=3), CyclicLinear(cycle=3), CyclicLinear(cycle=2)), (None, None, lambda epoch: 1.0),
    (lambda epoch: 1.0, lambda epoch: 1.0, None)],
    ids=["partial", "object", "lambda", "method", "CyclicLinear", "None", "not None"])
def test_schedules_are_told_apart_by_what_they_give(few, tmp_path, schedule, same, other):
    options = {"epochs": 2, "warmup_epochs": 0, "checkpoint": tmp_path / "run.pt", **SHORT}
    stopping = replace(few, train=Calling(few.train, 300, interrupt))
    fit(tiny(), stopping, schedule=schedule, **options)
    with pytest.raises(ValueError, match="is of a run (with schedule=|whose schedule, .* gave other learning rates)"):
        fit(tiny(), few, schedule=other, resume=True, **options)
    resumed = fit(tiny(seed=1), few, schedule=same, resume=True, **options)
    assert len(resumed.epochs) == 2 and " at 0x" not in str(resumed.settings["schedule"])


# ------------------------------------------------------------------------------------------------ wrappers

WRAPPERS = {"plain": lambda model: model, "compiled": lambda model: torch.compile(model, backend="eager"),
            "parallel": nn.DataParallel}


def with_compiled_part(model: nn.Sequential) -> nn.Sequential:
    model[0] = torch.compile(model[0], backend="eager")
    return model


@pytest.mark.parametrize("options", [{}, {"ema": 0.8}], ids=["plain", "ema"])
def test_wrapped_networks_resume_each_others_checkpoints(few, tmp_path, options):
    whole = tiny()
    expected = fit(whole, few, epochs=2, **SHORT, **options)
    wrappers = {**WRAPPERS, "part": with_compiled_part}
    for first, second in (("plain", "compiled"), ("compiled", "parallel"), ("parallel", "part"), ("part", "plain")):
        path, stopping = tmp_path / first, replace(few, train=Calling(few.train, 300, interrupt))
        fit(wrappers[first](tiny()), stopping, epochs=2, checkpoint=path, **SHORT, **options)
        saved = torch.load(path, weights_only=True)
        assert list(saved["model"]) == list(whole.state_dict())
        model = wrappers[second](tiny(seed=1))
        history = fit(model, few, epochs=2, checkpoint=path, resume=True, **SHORT, **options)
        assert without_time(history) == without_time(expected) and same_weights(model, whole) and not model.training
        assert history.settings["model"] == "Sequential"


def test_a_submodule_called_module_keeps_its_name(few, tmp_path):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = tiny()

        def forward(self, x):
            return self.module(x)

    fit(Holder(), few, checkpoint=tmp_path / "run.pt", **ONE)
    with pytest.raises(ValueError, match="is of a run with model='Holder'; this one has 'Sequential'"):
        fit(tiny(), few, checkpoint=tmp_path / "run.pt", resume=True, **ONE)
    assert isinstance(fit(Holder(), few, checkpoint=tmp_path / "run.pt", resume=True, **ONE), History)


def test_settings_that_are_no_json_are_named_before_the_first_step(few, tmp_path):
    model = tiny()
    with pytest.raises(ValueError, match="a checkpoint holds settings as JSON"):
        fit(model, replace(few, name=b"few"), checkpoint=tmp_path / "run.pt", **ONE)
    assert same_weights(model, tiny()) and os.listdir(tmp_path) == []
