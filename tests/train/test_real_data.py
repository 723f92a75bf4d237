"""The command on data as users have them: CIFAR's files, folders of pictures, shards; and TensorBoard's events."""
import csv
import json
import pickle
import re

import numpy as np
import pytest
import torch
import torchvision
import webdataset
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

import lwcourse as lw
from lwcourse.cli import main

QUICK = ["--width", "0.25", "--workers", "0", "--epochs", "2", "--device", "cpu", "--lr", "0.05"]
COLOURS = {"blue": (30, 60, 200), "red": (200, 40, 30)}


def train(tmp_path, *arguments) -> list[dict[str, str]]:
    assert main(["train", "mobilenet_v1", *QUICK, *map(str, arguments), "--out", str(tmp_path / "run")]) == 0
    return list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """CIFAR-10's own binary files, with 12 images each: class k is mostly of one shade."""
    generator, inside = np.random.default_rng(0), tmp_path / "data" / CIFAR10.base_folder
    inside.mkdir(parents=True)
    lists = {}
    for kind in ("train_list", "test_list"):
        entries = []
        for name, _ in getattr(CIFAR10, kind):
            labels = generator.integers(10, size=12).tolist()
            pixels = np.stack([generator.integers(25 * label, 25 * label + 20, size=3072) for label in labels])
            with (inside / name).open("wb") as file:
                pickle.dump({"data": pixels.astype(np.uint8), "labels": labels}, file)
            entries.append([name, calculate_md5(inside / name)])
        lists[kind] = entries
    with (inside / "batches.meta").open("wb") as file:
        pickle.dump({"label_names": [f"kind {k}" for k in range(10)]}, file)
    lists["meta"] = {**CIFAR10.meta, "md5": calculate_md5(inside / "batches.meta")}
    for name, value in lists.items():
        monkeypatch.setattr(CIFAR10, name, value)
    return tmp_path / "data"


@pytest.fixture
def pictures(tmp_path):
    """root/{train,val}/{blue,red}/*.jpg"""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name, colour in COLOURS.items():
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(-25, 25, size=(48, 40, 3))
                Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg")
    return tmp_path / "pictures"


def test_cifar10(cifar, tmp_path):
    rows = train(tmp_path, "--data", "cifar10", "--root", cifar, "--batch-size", "20", "--set", "augment=trivial",
                 "--set", "erasing=0.25", "--set", "cutmix=1.0")
    assert len(rows) == 2
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["options"] == {"augment": "trivial", "erasing": 0.25, "root": str(cifar)}
    assert lw.weights_of(lw.load(tmp_path / "run")).classes[3] == "kind 3"


def test_own_pictures_from_imagenets_weights(pictures, tmp_path, capsys):
    """lite0, frozen but for its classifier, tells red from blue after two epochs, and says so of a new picture."""
    run = tmp_path / "run"
    assert main(["train", "efficientnet_lite0", "--weights", "imagenet", "--data", "folder", "--root", str(pictures),
                 "--recipe", "finetune", "--set", "freeze=backbone", "--image-size", "64", "--batch-size", "8",
                 "--epochs", "2", "--lr", "0.003", "--workers", "0", "--device", "cpu", "--out", str(run)]) == 0
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert float(rows[-1]["test_accuracy"]) == 1.0
    trained = lw.weights_of(lw.load(run))
    assert (trained.classes, trained.size, trained.resize) == (("blue", "red"), 64, 73)
    Image.new("RGB", (50, 60), COLOURS["red"]).save(tmp_path / "new.png")
    capsys.readouterr()
    assert main(["predict", str(run), str(tmp_path / "new.png"), "--top", "1"]) == 0
    assert re.search(r"new.png: red 0\.\d+", capsys.readouterr().out)
    file = lw.save(lw.load(run), tmp_path / "network.safetensors")
    for named in ([str(run), "--root", str(pictures)], [str(file), "--data", "folder", "--root", str(pictures)]):
        assert main(["evaluate", *named]) == 0
        assert "accuracy 100.00% (8 of 8)" in capsys.readouterr().out


def test_shards(pictures, tmp_path):
    for split in ("train", "val"):
        with webdataset.TarWriter(str(tmp_path / f"{split}-000.tar")) as tar:
            for number, path in enumerate(sorted((pictures / split).rglob("*.jpg"))):
                tar.write({"__key__": f"{number:04d}", "jpg": path.read_bytes(), "cls": int(path.parent.name == "red")})
    rows = train(tmp_path, "--data", f"wds:{tmp_path}/{{train,val}}-*.tar", "--image-size", "32", "--batch-size", "8")
    assert len(rows) == 2


def test_workers_draw_what_one_process_draws(pictures, tmp_path):
    """Augmentation depends on seed, epoch and image alone, not on who loads it."""
    weights = []
    for workers in (0, 2):
        (tmp_path / str(workers)).mkdir()
        train(tmp_path / str(workers), "--data", "folder", "--root", pictures, "--image-size", "32", "--batch-size",
              "8", "--set", "augment=rand", "--set", "erasing=0.5", "--workers", workers)
        weights.append(torch.load(tmp_path / str(workers) / "run" / "best.pt", weights_only=True)["state"])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda root: (root / "train" / "green").mkdir(), "green"),
    (lambda root: [path.unlink() for path in (root / "val" / "red").iterdir()], "red"),
    (lambda root: (root / "val" / "red").rename(root / "val" / "rot"), "pictures/val has rot"),
    (lambda root: (root / "train" / "red" / "0.jpg").write_bytes(b"\xff\xd8 no picture"), "0.jpg")])
def test_bad_pictures_are_one_line_and_leave_nothing(pictures, tmp_path, capsys, spoil, says):
    spoil(pictures)
    capsys.readouterr()
    assert main(["train", "mobilenet_v1", *QUICK, "--data", "folder", "--root", str(pictures), "--image-size", "32",
                 "--batch-size", "16", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and error.startswith("error: ") and "\n" not in error
    assert not (tmp_path / "run").exists()


def test_a_damaged_picture_may_be_left_out(pictures, tmp_path, capsys):
    (pictures / "train" / "red" / "0.jpg").write_bytes(b"\xff\xd8 no picture")
    train(tmp_path, "--data", "folder", "--root", pictures, "--image-size", "32", "--batch-size", "15",
          "--skip-unreadable")
    assert re.search(r"1 .*0\.jpg", "".join(capsys.readouterr()))


def test_tensorboard_reads_the_events(pictures, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    rows = train(tmp_path, "--data", "folder", "--root", pictures, "--image-size", "32", "--batch-size", "8")
    found = events.EventAccumulator(str(tmp_path / "run"))
    found.Reload()
    assert [event.step for event in found.Scalars("step/loss")] == [1, 2, 3, 4]
    assert [event.value for event in found.Scalars("test/accuracy")] == pytest.approx(
        [float(row["test_accuracy"]) for row in rows])


def test_versions_of_torchvision_are_written_down(pictures, tmp_path):
    train(tmp_path, "--data", "folder", "--root", pictures, "--image-size", "32", "--batch-size", "8")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["versions"]["torchvision"] == torchvision.__version__
