"""Tar files in the form of WebDataset: the same samples as webdataset itself finds, and what is said of others."""
import gzip
import io
import json
import os
import pickle
import sys

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as transforms

from lwcourse.data import DataCorrupt, DataNotFound, load_data

SHARDS, EACH = 3, 4


def picture(number: int, kind: str = "JPEG") -> bytes:
    """A grey of its own for each number."""
    buffer = io.BytesIO()
    Image.new("RGB", (40 + number, 50), (5 * number,) * 3).save(buffer, format=kind)
    return buffer.getvalue()


def sample(number: int) -> dict:
    """Labels and pictures in the forms that there are."""
    label = number % 2
    return {"__key__": f"part/{number:06d}", **({"jpg": picture(number)} if number % 3 else {
        "PNG": picture(number, "PNG")}), **({"cls": label} if number % 4 < 2 else {"json": {"label": label}})}


def write(path, samples) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as tar:
        for one in samples:
            tar.write(one)


@pytest.fixture
def folder(tmp_path):
    """Shards train-000.tar to train-002.tar, with 4 samples each, and val-000.tar, of numbers that go on."""
    folder = tmp_path / "flowers"
    for shard in range(SHARDS):
        write(folder / f"train-{shard:03d}.tar", map(sample, range(shard * EACH, (shard + 1) * EACH)))
    write(folder / "val-000.tar", map(sample, range(12, 16)))
    return folder


def loaded(folder, **options):
    given = {"train": folder / "train-{000..002}.tar", "val": folder / "val-000.tar", "image_size": 32, **options}
    return load_data("wds", **given)


def shades(data, dataset) -> list[int]:
    return [round((data.pixels(image) * 255).mean().item() / 5) for image, _ in dataset]


def test_shards_are_a_data_set(folder):
    data = loaded(folder, augment=False)
    assert repr(data) == "flowers: 12 training and 4 test images of 3 x 32 x 32, 2 classes"
    assert data.classes == ("0", "1") and repr(data.train) == "TarPictures: 12 pictures in 3 tar files"
    assert shades(data, data.train) == list(range(12)) and shades(data, data.test) == [12, 13, 14, 15]
    for dataset in (data.train, data.test):
        assert [label for _, label in dataset] == dataset.targets.tolist() == [0, 1] * (len(dataset) // 2)
        assert all(image.shape == (3, 32, 32) and type(image) is torch.Tensor for image, _ in dataset)
    assert not torch.equal(*(loaded(folder, augment="rand", erasing=1.0).train[7][0] for _ in range(2)))


def test_samples_are_those_of_webdataset(folder):
    """Keys that go through folders, extensions in capitals, files in between that belong to no picture."""
    write(folder / "train-001.tar", [
        {"__key__": "a/b.c/0001", "seg.png": b"no picture of it", "jpg": picture(1), "cls": 0},
        {"__key__": "notes", "txt": "about the data"},
        {"__key__": "a/0002", "JPEG": picture(2), "json": {"label": 1, "width": 40}, "txt": "a caption"},
        {"__key__": "a/._0003", "jpg": b"\0\5\x16\7"}])
    data = loaded(folder, train=folder / "train-001.tar", augment=False)
    theirs = [one for one in webdataset.WebDataset(str(folder / "train-001.tar"), shardshuffle=False)
              if ("jpg" in one or "jpeg" in one) and "/._" not in one["__key__"]]
    assert len(theirs) == len(data.train) == 2
    for one, (shard, start, size), label in zip(theirs, data.train.index.places, data.train.targets, strict=True):
        assert data.train.index.shards[shard].read_bytes()[start:start + size] == one.get("jpg", one.get("jpeg"))
        assert label == (int(one["cls"]) if "cls" in one else json.loads(one["json"])["label"])


def test_pictures_are_transformed_as_those_of_folders(folder, tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        samples = []
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / "tree" / part / name).mkdir(parents=True)
            path = tmp_path / "tree" / part / name / "a.jpg"
            Image.fromarray(rng.integers(0, 256, (50, 60, 3), np.uint8)).save(path)
            samples.append({"__key__": f"{number}", "jpg": path.read_bytes(), "cls": name})
        write(folder / f"{part}.tar", samples)
    tree = load_data("folder", root=tmp_path / "tree", image_size=32)
    data = load_data(f"wds:{folder}/{{train,val}}.tar", classes=["cat", "dog"], image_size=32)
    assert data.classes == tree.classes == ("cat", "dog") and data.resize == tree.resize == 37
    assert (data.mean, data.std) == (tree.mean, tree.std)
    for a, b in ((data.test, tree.test), (data.train, tree.train)):
        for i in range(2):
            torch.manual_seed(i)
            image, label = a[i]
            torch.manual_seed(i)
            assert torch.equal(image, b[i][0]) and label == b[i][1]


def test_workers_read_the_same(folder):
    data = pickle.loads(pickle.dumps(loaded(folder, augment=False)))
    alone, shared = ([image for image, _ in DataLoader(data.train, 5, num_workers=workers)] for workers in (0, 2))
    assert torch.equal(torch.cat(alone), torch.cat(shared)) and len(torch.cat(alone)) == 12


# -------------------------------------------------------------------------------------------- what patterns stand for

@pytest.mark.parametrize(("pattern", "count"), [("{train,val}-{000..000}.tar", 4), ("{train,val}-*.tar", 12),
                                                ("{train,val}-00?.tar", 12)])
def test_one_pattern_for_both_parts(folder, pattern, count):
    data = load_data(f"wds:{folder}/{pattern}", image_size=32)
    assert len(data.train) == count and len(data.test) == 4
    assert [path.name for path in data.train.index.shards] == [f"train-{i:03d}.tar" for i in range(count // 4)]


def test_home_and_strange_names(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    os.rename(folder / "train-000.tar", folder / "train[0] a.tar")
    assert len(loaded(folder, train="~/train[0] a.tar").train) == 4


@pytest.mark.parametrize(("name", "says"), [
    ("wds:/data/train.tar", r"a pattern after wds: must hold \{train,val\} once, .* got '/data/train.tar'"),
    ("wds:", "must hold .* got ''"), ("wds:{train,val}/{train,val}", "once"),
    ("wds:https://a.b/{train,val}.tar", "train must be files .* not a stream, got 'https://a.b/train.tar'"),
    ("wds:a-{train,val}-{0..", "cannot be expanded"),
    ("wds:${nowhere}/{train,val}.tar", "cannot be expanded.*nowhere")])
def test_patterns_that_name_no_files(name, says):
    with pytest.raises(ValueError, match=says):
        load_data(name)


def test_a_pattern_is_given_once(folder):
    with pytest.raises(TypeError, match="'wds:a/{train,val}.tar' says where the shards are; leave out val"):
        load_data("wds:a/{train,val}.tar", val="b.tar")
    with pytest.raises(ValueError, match="train must be a pattern of tar files such as 'shards/train-.*, got None"):
        load_data("wds", val="b.tar")
    with pytest.raises(ValueError, match="val must be a pattern .* got 3"):
        loaded(folder, val=3)
    with pytest.raises(TypeError, match="'wds' takes no option 'root'"):
        load_data("wds:a/{train,val}.tar", root="b")


def test_the_missing_shard_is_named(folder):
    with pytest.raises(DataNotFound, match=r"there is no shard .*/train-003.tar, which train=.*\{000..009\}"):
        loaded(folder, train=f"{folder}/train-{{000..009}}.tar")
    with pytest.raises(DataNotFound, match=r"there is no shard .*/test-\*.tar, which val="):
        loaded(folder, val=folder / "test-*.tar")


def test_a_shard_is_for_training_or_for_testing(folder):
    with pytest.raises(ValueError, match="train-001.tar is in both train=.* and val=.*must not be tested on"):
        loaded(folder, val=f"{folder}/train-001.tar")


def test_webdataset_is_named_where_it_is_missing(folder, monkeypatch):
    loaded(folder)
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    with pytest.raises(ImportError, match=r"pip install 'lwcourse\[train\]'"):
        loaded(folder)


# ------------------------------------------------------------------------------------- samples that cannot be used

@pytest.mark.parametrize(("one", "options", "says"), [
    ({"jpg": b"1"}, {}, r"a sample must have one picture and a label \(.cls or .json\), and odd has .jpg$"),
    ({"cls": 1}, {}, "odd has .cls$"),
    ({"jpg": b"1", "png": b"2", "cls": 1}, {}, "odd has .cls, .jpg, .png$"),
    ({"jpg": b"1", "cls": "cat"}, {}, "odd.cls in .*: a label must be a whole number .classes= allows.*got b'cat'"),
    ({"jpg": b"1", "cls": "cow"}, {"classes": ("cat", "dog")}, "a whole number or one of classes, got b'cow'"),
    ({"jpg": b"1", "cls": "2"}, {"classes": ("cat", "dog")}, "a label must be from 0 to 1, got 2"),
    ({"jpg": b"1", "cls": "-1"}, {}, "a label must be from 0 to 999999, got -1"),
    ({"jpg": b"1", "cls": str(10**9)}, {}, "got 1000000000"),
    ({"jpg": b"1", "json": {"class": 1}}, {}, 'in json under "label", got'),
    ({"jpg": b"1", "json": {"label": 1.5}}, {}, 'in json under "label", got'),
    ({"jpg": b"1", "json": b"{"}, {}, 'odd.json in .* in json under "label", got')])
def test_a_sample_that_is_none_is_named(folder, one, options, says):
    write(folder / "odd.tar", [sample(0), {"__key__": "odd", **one}])
    with pytest.raises(DataCorrupt, match=says) as error:
        loaded(folder, train=folder / "odd.tar", **options)
    assert "odd.tar" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("classes", ["ab", ("a",), ("a", "a"), ("a", 1), ()])
def test_classes_are_names(folder, classes):
    with pytest.raises(ValueError, match="classes must be two names or more, all different, .* got "):
        loaded(folder, classes=classes)


def test_shards_without_samples_or_with_one_class(folder):
    write(folder / "empty.tar", [{"__key__": "readme", "txt": "nothing yet"}])
    with pytest.raises(DataNotFound, match="there is no sample in .*empty.tar; one is a picture and, beside it"):
        loaded(folder, train=folder / "empty.tar")
    for part in ("train", "val"):
        write(folder / f"{part}-zero.tar", [{"__key__": "a", "jpg": picture(0), "cls": 0}])
    with pytest.raises(DataCorrupt, match="all labels in .* are 0; it takes two classes"):
        load_data(f"wds:{folder}/{{train,val}}-zero.tar")


@pytest.mark.parametrize("share", [0, 0.1, 0.3, 0.5, 0.7, 0.8])
def test_a_shard_that_is_cut_off_is_named(folder, share):
    path = folder / "train-001.tar"
    whole = path.read_bytes().rstrip(b"\0")
    path.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(DataCorrupt, match="train-001.tar (cannot be read as a tar file|is damaged or cut off)"):
        loaded(folder)


def test_a_shard_that_is_damaged_or_compressed_is_named(folder):
    path = folder / "train-001.tar"
    whole = path.read_bytes()
    place = whole.index(b"part/000006")  # a header
    path.write_bytes(whole[:place] + b"\xff" * 512 + whole[place + 512:])
    with pytest.raises(DataCorrupt, match="train-001.tar (cannot be .*: bad|is damaged or cut off after 10,240)"):
        loaded(folder)
    path.write_bytes(gzip.compress(whole))
    with pytest.raises(DataCorrupt, match="cannot be read as a tar file: .*if it is compressed, unpack it"):
        loaded(folder)


def test_a_picture_that_cannot_be_read_is_named(folder):
    write(folder / "odd.tar", [sample(0), {"__key__": "part/odd", "jpg": picture(3)[:300], "cls": 1}])
    data = loaded(folder, train=folder / "odd.tar")
    assert data.train[0][0].shape == (3, 32, 32)
    with pytest.raises(DataCorrupt, match=r"^part/odd.jpg in .*odd.tar cannot be read as an image: ") as error:
        data.train[1]
    assert "\n" not in str(error.value)
    (folder / "odd.tar").unlink()
    with pytest.raises(DataCorrupt, match=r"^the file at byte .* in .*No such file.*odd.tar"):
        data.train[0]


def test_long_names_and_upright_pictures(folder):
    """A name of 300 characters takes several headers; a camera's note counts in a tar file too."""
    image, exif = Image.fromarray(np.zeros((48, 64, 3), np.uint8)), Image.Exif()
    exif[0x0112] = 6
    image.paste((255, 255, 255), (0, 0, 64, 24))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", exif=exif)
    write(folder / "long.tar", [{"__key__": "d/" * 150 + "name", "jpg": buffer.getvalue(), "cls": 1}])
    data = loaded(folder, val=folder / "long.tar", image_size=48)
    shown = transforms.rgb_to_grayscale(data.pixels(data.test[0][0]))[0]
    assert shown[:, 30:].mean() > 0.9 and shown[:, :18].mean() < 0.1, "turned to the right, what was above is there"
