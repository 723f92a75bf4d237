"""`python -m lwcourse train` and `evaluate`: the folder of a run, and what bad input leaves behind."""
import csv
import json
import os
import re
import subprocess
import sys
from tempfile import TemporaryDirectory

import pytest
import torch
from PIL import Image

import lwcourse as lw
from lwcourse.cli import main
from lwcourse.train.folder import RunFolder

NETWORK = ["mobilenet_v1", "--width", "0.25"]
QUICK = [*NETWORK, "--data", "digits", "--image-size", "32", "--workers", "0", "--epochs", "2", "--batch-size", "512",
         "--lr", "0.1", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run, which no test changes."""
    path = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *QUICK, "--out", str(path), "--set", "ema=0.5"]) == 0
    return path


def refused(capsys, code: int, says: str, *arguments: str) -> None:
    capsys.readouterr()
    assert main(list(arguments)) == code
    error = capsys.readouterr().err.strip()
    assert re.search(says, error) and error.startswith("error: ") and "\n" not in error, error


def test_a_run_leaves_all_that_repeats_it(run):
    names = {path.name for path in run.iterdir() if not path.name.startswith(("events", "."))}
    assert names == {"config.json", "metrics.csv", "last.pt", "best.pt", "curves.svg", "README.md"}
    config = json.loads((run / "config.json").read_text())
    assert config["network"] == {"name": "mobilenet_v1", "arguments": {"width": 0.25}}
    assert config["data"] == {"name": "digits", "options": {"image_size": 32}}
    assert (config["recipe"]["ema"], config["recipe"]["lr"], config["recipe"]["batch_size"]) == (0.5, 0.1, 512)
    assert config["versions"]["torch"] == torch.__version__ and config["seed"] == 0
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"] and 0 <= float(rows[1]["test_accuracy"]) <= 1
    readme = (run / "README.md").read_text()
    assert f"train --resume --out {run}" in readme and config["command"] in readme
    assert (run / "curves.svg").read_text().startswith("<?xml")


def test_the_best_network_is_loaded_evaluated_and_asked(run, capsys, tmp_path):
    network, rows = lw.load(run), list(csv.DictReader((run / "metrics.csv").open()))
    best = max(rows, key=lambda row: float(row["test_accuracy"]))
    data = lw.load_data("digits", image_size=32)
    assert lw.evaluate(network, data).accuracy == pytest.approx(float(best["test_accuracy"]))
    trained = lw.weights_of(network)
    assert trained.classes == tuple("0123456789") and trained.size == 32 and trained.mean == pytest.approx(data.mean)
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert f"accuracy {float(best['test_accuracy']):.2%}" in capsys.readouterr().out
    Image.new("RGB", (20, 30), "white").save(tmp_path / "white.png")
    assert main(["predict", str(run), str(tmp_path / "white.png"), "--top", "2"]) == 0
    assert re.search(r"white.png: \d \d\.\d+, \d \d\.\d+", capsys.readouterr().out)


def test_the_config_repeats_the_run(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    arguments = config["command"].split()[3:]
    arguments[arguments.index("--out") + 1] = str(tmp_path / "again")
    assert main(arguments) == 0
    first, second = (torch.load(path / "best.pt", weights_only=True)["state"] for path in (run, tmp_path / "again"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_grey_network_is_asked_about_a_coloured_picture(tmp_path, capsys):
    network = lw.create_model("mobilenet_v1", 10, in_channels=1, width=0.25)
    from lwcourse.weights.trained import ATTRIBUTE, TrainedWeights
    setattr(network, ATTRIBUTE, TrainedWeights(network="mobilenet_v1", name="run", source="", size=32, resize=32,
                                               mean=(0.5,), std=(0.5,), classes=tuple("0123456789")))
    lw.save(network, tmp_path / "grey.safetensors")
    Image.new("RGB", (20, 30), "red").save(tmp_path / "red.png")
    assert main(["predict", str(tmp_path / "grey.safetensors"), str(tmp_path / "red.png")]) == 0
    assert "red.png: " in capsys.readouterr().out


def test_a_finished_run_is_not_trained_on(run, capsys):
    content = (run / "last.pt").read_bytes()
    assert main(["train", "--resume", "--out", str(run)]) == 0
    assert "2 of 2 epochs" in capsys.readouterr().out and (run / "last.pt").read_bytes() == content


def test_what_a_killed_run_left_half_written_is_tidied_up(run):
    (run / "metrics.123.part.csv").write_text("epoch,tr")
    assert main(["train", "--resume", "--out", str(run)]) == 0
    assert not list(run.glob("*.part*")) and (run / "metrics.csv").exists()


def test_two_runs_never_share_a_folder(run, capsys, tmp_path):
    refused(capsys, 2, "holds a run already: go on with it by --resume", "train", *QUICK, "--out", str(run))
    with RunFolder(run).locked():
        refused(capsys, 2, "another process is training in", "train", "--resume", "--out", str(run))
    (tmp_path / "thesis.tex").write_text("all my work")
    refused(capsys, 2, "is not empty; choose another --out", "train", *QUICK, "--out", str(tmp_path))
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(("change", "says"), [
    (["mobilenet_v2"], "is a run with network name='mobilenet_v1', not 'mobilenet_v2'; leave out MODEL"),
    (["mobilenet_v1", "--width", "0.25", "--image-size", "32", "--lr", "0.2"], "is a run with recipe epochs=2, not 3"),
    (["mobilenet_v1", "--width", "0.25", "--data", "photo_digits"], "is a run with data name='digits', not 'photo_d")])
def test_another_run_is_not_resumed(run, capsys, change, says):
    refused(capsys, 2, says, "train", *change, "--resume", "--out", str(run))


@pytest.mark.parametrize(("arguments", "says"), [
    (["mobilenet_v9"], "there is no model 'mobilenet_v9'; did you mean"),
    ([], "which network"),
    ([*NETWORK, "--recipe", "quik"], "there is no recipe 'quik'; did you mean 'quick'"),
    ([*NETWORK, "--set", "learning_rte=1"], "--set learning_rte=1: there is no 'learning_rte'"),
    ([*NETWORK, "--set", "lr"], "--set takes NAME=VALUE, such as lr=0.1, got 'lr'"),
    ([*NETWORK, "--set", "lr=fast"], "--set lr=fast: it must be a number, got 'fast'"),
    ([*NETWORK, "--set", "nesterov=yes"], "--set nesterov=yes: it must be true or false, got 'yes'"),
    ([*NETWORK, "--set", "ema=2"], "ema must be None, or between 0 and 1, got 2"),
    ([*NETWORK, "--lr", "0.1", "--set", "lr=0.2"], "--lr 0.1 and --set lr=0.2 are one too many"),
    ([*NETWORK, "--epochs", "0"], "epochs must be a whole number of at least 1, got 0"),
    ([*NETWORK, "--batch-size", "5000"], "the batch of 5000 images is larger than digits, which has 1437"),
    ([*NETWORK, "--data", "digit"], "there is no data set 'digit'; did you mean"),
    ([*NETWORK, "--data", "digits", "--root", "x"], "'digits' takes no option 'root'"),
    ([*NETWORK, "--data", "imagenet", "--root", "/nowhere"], "there is no folder"),
    ([*NETWORK, "--weights", "imagenet"], "there are no weights 'imagenet' for mobilenet_v1"),
    (["inception_v3", "--image-size", "32"], "images must be at least 75 x 75 pixels"),
    ([*NETWORK, "--device", "cuda:99"], "not available here"),
    ([*NETWORK, "--teacher", "mobilenet_v1"], "there are no trained weights for mobilenet_v1"),
    ([*NETWORK, "--checkpoint-steps", "0"], "checkpoint_steps must be None, or a whole number of at least 1, got 0")])
def test_bad_input_is_one_line_and_leaves_nothing(arguments, says, tmp_path, capsys):
    refused(capsys, 2, says, "train", *arguments, "--out", str(tmp_path / "run"))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_an_unwritable_folder_is_named_before_anything_else(tmp_path, capsys):
    tmp_path.chmod(0o500)
    refused(capsys, 2, "cannot be written", "train", *QUICK, "--out", str(tmp_path / "run"))


def test_a_folder_below_a_file_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    refused(capsys, 2, "cannot be written|is a file", "train", *QUICK, "--out", str(tmp_path / "file" / "run"))
    refused(capsys, 2, "must be a folder", "train", *QUICK, "--out", str(tmp_path / "file"))


def test_a_loss_that_is_nan_stops_the_run_and_keeps_the_checkpoint(tmp_path, capsys):
    path = tmp_path / "run"
    capsys.readouterr()
    assert main(["train", *QUICK, "--set", "schedule=constant", "--set", "optimizer=adamw", "--set",
                 "weight_decay=1e35", "--out", str(path), "--checkpoint-steps", "1"]) == 1
    error = capsys.readouterr().err
    assert re.search(r"the loss became (nan|inf) at step \d of 6; try a smaller lr", error)
    saved = torch.load(path / "last.pt", weights_only=True)
    assert saved["position"]["step"] >= 1


def test_a_truncated_checkpoint_is_named(run, tmp_path, capsys):
    copied = tmp_path / "run"
    copied.mkdir()
    for name in ("config.json", "last.pt", "best.pt"):
        (copied / name).write_bytes((run / name).read_bytes())
    (copied / "last.pt").write_bytes((run / "last.pt").read_bytes()[:5000])
    refused(capsys, 2, "last.pt cannot be read as a checkpoint", "train", "--resume", "--out", str(copied))
    assert (copied / "last.pt").stat().st_size == 5000
    (copied / "best.pt").write_bytes(b"nonsense")
    refused(capsys, 2, "best.pt cannot be read as the best network of a run", "evaluate", str(copied))
    (copied / "config.json").write_text("{}")
    refused(capsys, 2, "config.json was not written by `train`", "train", "--resume", "--out", str(copied))
    refused(capsys, 2, "holds no run", "train", "--resume", "--out", str(tmp_path / "nowhere"))


def test_a_dry_run_tells_what_it_would_take_and_writes_nothing(tmp_path, capsys):
    assert main(["train", *QUICK, "--out", str(tmp_path / "run"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    parameters = sum(one.numel() for one in lw.create_model("mobilenet_v1", 10, width=0.25).parameters())
    assert f"{parameters:,} parameters" in out and "3 an epoch of 512 images each, 6 in 2 epochs" in out
    assert re.search(r"a step +[\d.e-]+ s on cpu, [\d,]+ images/s", out) and os.listdir(tmp_path) == []


def test_a_run_starts_from_another_ones_weights(run, tmp_path, capsys):
    """All but the classifier stays as it was in that run, which is the teacher as well."""
    with TemporaryDirectory() as folder:
        started = ["--weights", str(run), "--teacher", str(run), "--set", "freeze=backbone", "--out", f"{folder}/run"]
        assert main(["train", *QUICK, *started]) == 0
        before, after = lw.load(run).state_dict(), lw.load(f"{folder}/run").state_dict()
    assert [key for key in before if not torch.equal(before[key], after[key])] == ["classifier.weight",
                                                                                  "classifier.bias"]
    refused(capsys, 2, r"best.pt' do not fit mobilenet_v1 .*: \S+ has shape", "train", "mobilenet_v1",
            "--weights", str(run), "--out", str(tmp_path / "wider"))
    refused(capsys, 2, "there are no weights '/nowhere'", "train", *QUICK, "--weights", "/nowhere", "--out",
            str(tmp_path / "none"))
    assert os.listdir(tmp_path) == []


def test_recipes_are_listed_with_their_sources(capsys):
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert "mobilenet_v2: Sandler et al. 2018" in out and "optimizer=rmsprop" in out and "quick: " in out


def test_a_run_to_resume_must_be_named(capsys):
    refused(capsys, 2, "which run", "train", "--resume")


def test_evaluate_by_name_needs_data(capsys):
    refused(capsys, 2, "on which data", "evaluate", "efficientnet_lite0")


def test_weights_of_a_run_begin_one_with_other_classes(run, capsys, tmp_path):
    pictures = tmp_path / "pictures"
    for split in ("train", "val"):
        for name in ("dark", "light"):
            folder = pictures / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (40, 40), (20 * i + 150 * (name == "light"),) * 3).save(folder / f"{i}.png")
    folder = tmp_path / "run"
    arguments = ["train", *NETWORK, "--data", "folder", "--root", str(pictures), "--image-size", "32", "--workers", "0",
                 "--epochs", "1", "--batch-size", "8", "--device", "cpu", "--out", str(folder)]
    assert main([*arguments, "--weights", str(run), "--lr", "1e-9"]) == 0
    assert "the last layer (classifier.weight, classifier.bias) is new, for 2 classes" in capsys.readouterr().out
    before, after = lw.load(run).state_dict(), lw.load(folder).state_dict()
    key = "blocks.0.depthwise.conv.weight" if "blocks.0.depthwise.conv.weight" in before else "stem.conv.weight"
    assert torch.allclose(before[key], after[key], atol=1e-6) and len(after["classifier.bias"]) == 2
    # Its data may have moved; its classes must be those of the data that it is tested on, resumed on, and teaches.
    (tmp_path / "elsewhere").mkdir()
    pictures = pictures.rename(tmp_path / "elsewhere" / "pictures")
    refused(capsys, 2, "pictures", "train", "--resume", "--out", str(folder))
    assert main(["train", "--resume", "--out", str(folder), "--root", str(pictures)]) == 0
    pictures = pictures.rename(tmp_path / "pictures")
    refused(capsys, 2, "tells 2 classes, and digits .*has 10", "evaluate", str(folder), "--data", "digits",
            "--image-size", "32")
    for split in ("train", "val"):
        (pictures / split / "dark").rename(pictures / split / "night")
    refused(capsys, 2, "2 of 2 differ, such as 'dark' where the data have 'light'", "evaluate", str(folder))
    refused(capsys, 2, "the run knows other classes", "train", "--resume", "--out", str(folder))
    refused(capsys, 2, "the teacher .* knows other classes", *arguments[:-1], str(tmp_path / "taught"),
            "--teacher", str(folder))


@pytest.mark.parametrize("option", [["--lr", "0.5"], ["--epochs", "40"], ["--seed", "1"], ["--data", "photo_digits"],
                                    ["--set", "ema=0.9"], ["--recipe", "cifar"], ["--image-size", "16"]])
def test_a_run_that_goes_on_keeps_its_settings(run, capsys, option):
    before = {path: path.read_bytes() for path in run.iterdir() if path.suffix in (".json", ".csv", ".pt")}
    refused(capsys, 2, f"{option[0]} is a setting of the run in", "train", "--resume", "--out", str(run), *option)
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_without_an_epoch_leaves_nothing(capsys, tmp_path):
    assert main(["train", *QUICK, "--set", "lr=1e30", "--out", str(tmp_path / "run")][:-4] +
                ["--lr", "1e30", "--out", str(tmp_path / "run")]) in (1, 2)
    assert "smaller lr" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_run_with_an_epoch_and_no_checkpoint_can_be_resumed(monkeypatch, capsys, tmp_path):
    from lwcourse.train.checkpoint import Checkpoint

    folder = tmp_path / "a run"

    def full(self, *parts):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "write", full)
        assert main(["train", *QUICK, "--out", str(folder)]) == 2
    assert (folder / "best.pt").exists() and not (folder / "last.pt").exists()
    assert f"train --resume --out '{folder}'" in (folder / "README.md").read_text()
    assert main(["train", "--resume", "--out", str(folder)]) == 0
    assert len(list(csv.DictReader((folder / "metrics.csv").open()))) == 2


def test_a_network_that_cannot_be_written_is_named(monkeypatch, capsys, tmp_path):
    def full(*arguments):
        raise RuntimeError("[enforce fail at inline_container.cc:672] unexpected pos 1 vs 2")  # as PyTorch says it

    monkeypatch.setattr("lwcourse.train.folder.torch.save", full)
    refused(capsys, 2, r"best.pt cannot be written, perhaps since the disk is full", "train", *QUICK, "--out",
            str(tmp_path / "run"))


def test_a_dry_run_counts_the_images_that_there_are(capsys, tmp_path):
    flags = ["train", *QUICK, "--dry-run", "--out", str(tmp_path / "run")]
    refused(capsys, 2, "times accumulate=9 is larger than digits", *flags, "--set", "accumulate=9")
    for flag in (["--checkpoint-steps", "0"], ["--checkpoint-minutes", "-3"], ["--seed", "-1"], ["--device", "gpu"],
                 ["--image-size", "0"], ["--out", ""]):
        refused(capsys, 2, flag[0].removeprefix("--").replace("-", "."), *flags, *flag)
    assert main([*flags, "--set", "accumulate=2"]) == 0
    printed = capsys.readouterr().out
    steps, images = re.search(r"(\d+) an epoch of (\d+) images each", printed).groups()
    assert (int(steps), int(images)) == (2, 1024)


def test_a_reader_that_goes_away_does_not_end_a_run(tmp_path):
    command = subprocess.Popen(
        [sys.executable, "-m", "lwcourse", "train", *QUICK, "--out", str(tmp_path / "run")], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    command.stdout.close()
    assert command.wait(timeout=300) == 0 and command.stderr.read() == ""
    assert len(list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))) == 2
