"""Data sets: what they hold, that they are the same each time, and what happens to damaged or missing files."""
import hashlib
import os
import pickle
import re
import sys
import tarfile
import threading
import urllib.request
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import skimage.data
import torch
import torchvision
from PIL import Image
from sample_pictures import STORED, photograph
from sklearn.datasets import load_digits, load_sample_image
from torchvision.transforms.v2 import functional as transforms

from lwcourse.data import DataCorrupt, DataNotFound, base, load_data
from lwcourse.data import classification as data_module
from lwcourse.data import photographs as photo_module

# ------------------------------------------------------------------------------------------------ digits

def test_digits_are_those_of_scikit_learn_split_without_overlap():
    data = load_data("digits", image_size=8, in_channels=1)
    source = load_digits()
    images = source.images.astype(np.uint8)
    label_of = {image.tobytes(): label for image, label in zip(images, source.target, strict=True)}
    assert len(data.train) == 1437 and len(data.test) == 360
    parts = []
    for images, labels in (data.train.tensors, data.test.tensors):
        originals = (data.pixels(images)[:, 0] * 16).round().to(torch.uint8).numpy()
        assert [label_of[image.tobytes()] for image in originals] == labels.tolist()
        parts.append({image.tobytes() for image in originals})
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == set(label_of)


def test_digits_split_is_stratified():
    data = load_data("digits")
    everywhere, tested = Counter(load_digits().target.tolist()), Counter(data.test.tensors[1].tolist())
    assert all(abs(tested[label] - everywhere[label] * 360 / 1797) <= 1 for label in range(10))


def test_digits_are_normalised_by_the_training_pixels():
    data = load_data("digits", image_size=24)
    images = data.train.tensors[0]
    assert images.shape == (1437, 3, 24, 24) and data.image_shape == (3, 24, 24)
    assert torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2])
    assert images.mean().abs() < 1e-4 and (images.std() - 1).abs() < 1e-4
    assert (data.test.tensors[0].mean().abs() > 1e-4), "the test set has its own mean: it must not set the scale"
    assert data.pixels(images).min() == 0 and data.pixels(images).max() == pytest.approx(1, abs=1e-6)


def test_digits_are_resized_as_torchvision_does():
    small, large = load_data("digits", image_size=8), load_data("digits", image_size=20)
    pixels = small.pixels(small.test.tensors[0])
    expected = transforms.resize(pixels, [20, 20], antialias=True)
    torch.testing.assert_close(large.pixels(large.test.tensors[0]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["digits", "photo_digits"])
def test_seed_draws_the_set(name):
    first, again, other = (load_data(name, image_size=16, seed=seed) for seed in (0, 0, 1))
    for split in ("train", "test"):
        a, b, c = (getattr(data, split).tensors for data in (first, again, other))
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
        assert not torch.equal(a[1], c[1])


def test_loading_leaves_the_random_state_alone():
    np.random.seed(3)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    load_data("photo_digits", image_size=16, copies=1)
    assert torch.equal(before, torch.get_rng_state()) and (numpy_before == np.random.get_state()[1]).all()


# ------------------------------------------------------------------------------------------- photo_digits

def test_photo_digits_shapes_and_repr():
    data = load_data("photo_digits", image_size=32, copies=2)
    images, labels = data.train.tensors
    assert images.shape == (2874, 3, 32, 32) and data.test.tensors[0].shape == (720, 3, 32, 32)
    assert images.is_contiguous() and images.dtype == torch.float32 and labels.dtype == torch.int64
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    assert repr(data) == "photo_digits: 2,874 training and 720 test images of 3 x 32 x 32, 10 classes"


def test_photo_digits_come_from_their_own_split(monkeypatch):
    seen, scatter = [], data_module._scatter
    monkeypatch.setattr(data_module, "_scatter", lambda images, *rest: (seen.append(images), scatter(images, *rest))[1])
    composed = load_data("photo_digits", image_size=16, copies=2)
    plain = load_data("digits", image_size=8, in_channels=1)
    for images, split in zip(seen, ("train", "test"), strict=True):
        originals, labels = getattr(plain, split).tensors
        torch.testing.assert_close(images, plain.pixels(originals).repeat_interleave(2, 0), atol=1e-6, rtol=0)
        assert torch.equal(getattr(composed, split).tensors[1], labels.repeat_interleave(2))


def test_crops_of_training_and_test_come_from_disjoint_columns(monkeypatch):
    """Photographs that hold their own coordinates, with digits of no ink, tell where each crop lies."""
    size, (height, width) = 32, (427, 640)
    columns, rows = torch.arange(width).expand(height, width), torch.arange(height)[:, None].expand(height, width)
    maps = torch.stack([torch.stack([columns / 1000, rows / 1000, torch.full((height, width), i / 2)]) for i in (0, 1)])
    monkeypatch.setattr(data_module, "_photographs", lambda: maps)
    monkeypatch.setattr(data_module, "_scatter", lambda images, *rest: torch.zeros(len(images), 1, size, size))
    data = load_data("photo_digits", image_size=size, copies=1)
    for split, inside in (("train", lambda cut: (cut, width)), ("test", lambda cut: (0, cut))):
        crops = data.pixels(getattr(data, split).tensors[0])
        columns, rows, photograph = (crops * torch.tensor([1000, 1000, 2]).view(3, 1, 1)).round().unbind(1)
        assert torch.equal(columns[:, 0], columns[:, -1]) and (columns.diff(dim=2) == 1).all()
        assert (rows.diff(dim=1) == 1).all() and rows.min() < 10 and rows.max() > height - 10
        assert set(photograph.unique().tolist()) == {0, 1}
        for i, (_, cut) in enumerate(data_module.CUTS):
            first, last = inside(cut)
            used = columns[photograph[:, 0, 0] == i]
            assert first <= used.min() < first + 10 and last - 10 < used.max() < last


def test_blending_is_the_difference_of_crop_and_ink(monkeypatch):
    def on_grey(level):
        monkeypatch.setattr(data_module, "_photographs", lambda: torch.full((2, 3, 427, 640), level))
        data = load_data("photo_digits", image_size=16, copies=1)
        return data.pixels(data.train.tensors[0])

    ink = on_grey(0.0)
    assert ink.max() > 0.9
    torch.testing.assert_close(on_grey(0.6), (0.6 - ink).abs(), atol=1e-5, rtol=0)


def test_scattered_digits_keep_their_shape_and_stay_inside():
    size, block = 64, torch.zeros(400, 1, 8, 8)
    block[:, :, 2:6, 3:5] = 1.0
    ink = data_module._scatter(block, size, torch.Generator().manual_seed(0))[:, 0]
    mass = ink.sum((1, 2))
    scale = (mass / (8 / 64 * size**2)).sqrt()
    assert 0.59 < scale.min() < 0.65 and 0.95 < scale.max() < 1.01
    places = torch.arange(size) + 0.5
    centre_x, centre_y = (ink.sum(1) * places).sum(1) / mass, (ink.sum(2) * places).sum(1) / mass
    for centre in (centre_x, centre_y):  # the block's centre is the square's, which reaches to size * scale / 2
        free = size * (1 - scale) / 2
        assert ((centre - size / 2).abs() <= free + 0.5).all()
        assert ((centre - size / 2).abs() > 0.8 * free).any()
    width = (ink.sum(1) * (places - centre_x[:, None]) ** 2).sum(1)
    height = (ink.sum(2) * (places - centre_y[:, None]) ** 2).sum(1)
    assert (height > 2.5 * width).all(), "a block twice as tall as wide stays so"


# ------------------------------------------------------------------------------------------------- photos

def test_photos_are_those_of_scikit_learn_and_scikit_image():
    photos = load_data("photos")
    assert photos._fields[:2] == ("china", "flower") and photos[0] is photos.china
    for name, photo in photos._asdict().items():
        theirs = load_sample_image(f"{name}.jpg") if name in ("china", "flower") else getattr(skimage.data, name)()
        theirs = theirs if theirs.ndim == 3 else theirs[..., None].repeat(3, axis=2)
        assert photo.dtype == torch.float32 and photo.is_contiguous()
        assert np.array_equal((photo.permute(1, 2, 0) * 255).round().numpy(), theirs)
    assert {photo.shape for photo in photos} == {(3, 427, 640), (3, 300, 451), (3, 400, 600), (3, 512, 512)}


def test_photos_come_with_pip():
    """scikit-image would fetch what it lacks; its five are files of the package."""
    folder = Path(skimage.data.__file__).parent
    for name in load_data("photos")._fields[2:]:
        assert any((folder / f"{name}.{kind}").is_file() for kind in ("png", "jpg")), name


def test_photos_have_a_line_on_their_licence():
    photos = load_data("photos", image_size=8)
    assert tuple(photos.licences) == photos._fields
    for line in photos.licences.values():
        assert re.fullmatch(r"(CC BY 2.0|CC0|public domain), \S.* \(in scikit-(learn|image)\)", line)
    with pytest.raises(TypeError):
        photos.licences["china"] = "mine"


@pytest.mark.parametrize(("module", "package"), [("sklearn.datasets", "scikit-learn"), ("skimage", "scikit-image")])
def test_photos_name_the_package_that_is_missing(module, package, monkeypatch):
    photo_module.photograph.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"comes with {package}: pip install {package}"):
        load_data("photos")


def test_photos_resized_are_squares():
    assert all(photo.shape == (3, 40, 40) for photo in load_data("photos", image_size=40))


def test_photos_resized_are_the_central_square():
    whole, small = load_data("photos").china, load_data("photos", image_size=61).china
    assert small.shape == (3, 61, 61)
    expected = transforms.resize(whole[:, :, 106:533], [61, 61], antialias=True)  # 427 columns, from (640 - 427) / 2
    torch.testing.assert_close(small, expected, atol=2e-3, rtol=0)


def test_changing_a_photo_does_not_change_the_next():
    load_data("photos").flower.zero_()
    assert load_data("photos").flower.max() > 0.5


# ------------------------------------------------------------------------------------------------- options

@pytest.mark.parametrize(("name", "says"), [("digit", "'digits'"), ("Photo-Digits", "'photo_digits'"),
                                            ("cifar", "'cifar10'"), ("zzzz", "there are digits")])
def test_unknown_names_offer_close_matches(name, says):
    with pytest.raises(ValueError, match=f"no data set '{name}'.*{says}"):
        load_data(name)


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match="got int"):
        load_data(10)


@pytest.mark.parametrize(("name", "options", "says"), [
    ("digits", {"image_size": 0}, "image_size must be a whole number from 8 to 512, got 0"),
    ("digits", {"image_size": 32.0}, "image_size .* got 32.0"),
    ("digits", {"image_size": True}, "image_size .* got True"),
    ("digits", {"in_channels": 2}, "in_channels must be 1 or 3, got 2"),
    ("digits", {"seed": -1}, "seed .* got -1"),
    ("photo_digits", {"image_size": 300}, "image_size must be a whole number from 16 to 128, got 300"),
    ("photo_digits", {"copies": 0}, "copies must be a whole number of at least 1, got 0"),
    ("photo_digits", {"seed": 1.5}, "seed .* got 1.5"),
    ("photos", {"image_size": "64"}, "image_size .* got '64'"),
    ("digits", {"image_size": np.bool_(True)}, "image_size .* got np.True_"),
    ("digits", {"in_channels": 3.0}, "in_channels must be 1 or 3, got 3.0"),
    ("digits", {"in_channels": True}, "in_channels must be 1 or 3, got True"),
    ("digits", {"in_channels": "3"}, "in_channels must be 1 or 3, got '3'"),
    ("photo_digits", {"copies": 10**9}, "copies=1000000000 would take .* GiB .* may have 16 GiB"),
    ("photo_digits", {"copies": True}, "copies .* got True"),
    ("scenes", {"train_images": 10**9}, "scenes with 1,000,000,060 images .* GiB"),
    ("scenes", {"image_size": (True, 64)}, "the height in image_size .* got True"),
    ("cifar10", {"augment": "yes"}, "augment must be True, False, 'trivial' or 'rand', got 'yes'"),
    ("cifar100", {"augment": 1}, "augment must be True, False, 'trivial' or 'rand', got 1"),
    ("cifar10", {"erasing": 1.5}, "erasing is a probability .* got 1.5"),
    ("cifar10", {"erasing": True}, "erasing is a probability .* got True"),
    ("cifar10", {"erasing": float("nan")}, "erasing is a probability .* got nan"),
    ("cifar100", {"download": 1}, "download must be True or False, got 1"),
    ("imagenet", {"augment": None}, "augment must be True, False, 'trivial' or 'rand', got None"),
    ("voc_segmentation", {"download": "no"}, "download must be True or False, got 'no'"),
    ("camvid", {"image_size": "big"}, r"image_size must be \(height, width\).* got 'big'"),
    ("cityscapes", {"augment": 0}, "augment must be True or False, got 0"),
    ("cifar10", {"root": ""}, "root must be a folder, got ''"),
    ("imagenet", {"root": __file__}, f"root must be a folder, got the file {__file__}"),
    ("cityscapes", {"root": __file__}, "root must be a folder, got the file"),
    ("cifar10", {"image_size": 4}, "image_size .* got 4"),
    ("imagenet", {"image_size": -224}, "image_size .* got -224")])
def test_bad_options_are_named(name, options, says):
    with pytest.raises(ValueError, match=says):
        load_data(name, **options)


@pytest.mark.parametrize("name", ["cifar10", "imagenet", "voc_segmentation", "oxford_pets", "camvid", "cityscapes"])
@pytest.mark.parametrize("root", [3, b"folder", True, ["folder"]])
def test_a_root_is_a_path(name, root):
    with pytest.raises(TypeError, match="root must be a folder, as a string or a Path, got "):
        load_data(name, root=root)


def test_numbers_of_numpy_are_numbers():
    data = load_data("digits", image_size=np.int64(8), in_channels=np.int32(1), seed=np.uint8(0))
    assert data.image_shape == (1, 8, 8) and all(type(side) is int for side in data.image_shape)
    assert torch.equal(data.train.tensors[0], load_data("digits", image_size=8, in_channels=1).train.tensors[0])
    assert len(load_data("photo_digits", copies=np.int64(1), image_size=np.int16(16)).test) == 360
    assert load_data("scenes", train_images=np.int64(1), test_images=1, image_size=[np.int64(16), 32]).image_shape == (
        3, 16, 32)


@pytest.mark.parametrize(("name", "options"), [
    ("digits", {"image_size": 8}), ("photo_digits", {"image_size": 16, "copies": 1}), ("photos", {}),
    ("scenes", {"train_images": 1, "test_images": 1, "image_size": (16, 32)})])
def test_sets_are_on_the_cpu_whatever_the_default_device(name, options):
    expected = load_data(name, **options)
    torch.set_default_device("meta")  # stands for any device that is not the CPU
    try:
        data = load_data(name, **options)
    finally:
        torch.set_default_device(None)
    pairs = zip(data, expected, strict=True) if name == "photos" else zip(data.train[0], expected.train[0], strict=True)
    assert all(torch.equal(found, wanted) for found, wanted in pairs)


def test_options_of_another_data_set_are_refused():
    with pytest.raises(TypeError, match="'digits' takes no option 'copies'; it takes image_size, in_channels, seed"):
        load_data("digits", copies=3)


# -------------------------------------------------------------------------------------------------- CIFAR

class FakeCifar:
    """A CIFAR of a few random images, in the layout and formats of the real one, served by HTTP from `folder`."""

    def __init__(self, name: str, folder, monkeypatch, address: str):
        self.source = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
        self.name, self.root = name, folder / "root"
        generator, classes = np.random.default_rng(0), 10 if name == "cifar10" else 100
        labels_key = "labels" if name == "cifar10" else "fine_labels"
        self.files, self.images, self.labels = {}, {}, {}
        for file, _ in (*self.source.train_list, *self.source.test_list):
            pixels = generator.integers(0, 256, (4, 3 * 32 * 32), dtype=np.uint8)
            labels = generator.integers(0, classes, 4).tolist()
            self.images[file], self.labels[file] = pixels.reshape(4, 3, 32, 32), labels
            self.files[file] = pickle.dumps({"data": pixels, labels_key: labels}, protocol=2)
        meta = {self.source.meta["key"]: [f"kind {i}" for i in range(classes)]}
        self.files[self.source.meta["filename"]] = pickle.dumps(meta, protocol=2)
        inside = folder / self.source.base_folder
        inside.mkdir()
        for file, content in self.files.items():
            (inside / file).write_bytes(content)
        self.archive = folder / "served" / self.source.filename
        with tarfile.open(self.archive, "w:gz") as tar:
            tar.add(inside, self.source.base_folder)
        md5 = {file: hashlib.md5(content).hexdigest() for file, content in self.files.items()}
        for attribute in ("train_list", "test_list"):
            monkeypatch.setattr(self.source, attribute, [[f, md5[f]] for f, _ in getattr(self.source, attribute)])
        monkeypatch.setattr(self.source, "meta", {**self.source.meta, "md5": md5[self.source.meta["filename"]]})
        monkeypatch.setattr(self.source, "tgz_md5", hashlib.md5(self.archive.read_bytes()).hexdigest())
        monkeypatch.setattr(self.source, "url", f"{address}/{self.source.filename}")

    @property
    def inside(self):
        return self.root / self.source.base_folder

    @property
    def local_archive(self):
        return self.root / self.source.filename

    def unpack(self):
        self.root.mkdir()
        with tarfile.open(self.archive) as tar:
            tar.extractall(self.root, filter="data")

    def truncate(self, path):
        content = self.archive.read_bytes()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content[:len(content) // 2])

    def load(self, **options):
        return load_data(self.name, root=self.root, **options)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def address(tmp_path):
    """The address of a web server on this machine, for the files in `tmp_path / "served"`."""
    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=tmp_path / "served")) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(params=["cifar10", "cifar100"])
def either(request, tmp_path, monkeypatch, address):
    return FakeCifar(request.param, tmp_path, monkeypatch, address)


@pytest.fixture
def cifar(tmp_path, monkeypatch, address):
    return FakeCifar("cifar10", tmp_path, monkeypatch, address)


def check_holds(fake, data):
    """The data set holds every image and label of the fake, and leaves nothing but it in the folder."""
    for dataset, listed in ((data.train, fake.source.train_list), (data.test, fake.source.test_list)):
        names = [name for name, _ in listed]
        pixels = torch.from_numpy(np.concatenate([fake.images[name] for name in names])) / 255
        loaded, labels = zip(*[dataset[i] for i in range(len(dataset))], strict=True)
        torch.testing.assert_close(data.pixels(torch.stack(loaded)), pixels, atol=1e-5, rtol=0)
        assert list(labels) == [label for name in names for label in fake.labels[name]]
    assert sorted(path.name for path in fake.inside.iterdir()) == sorted(fake.files)
    assert not [path for path in fake.root.iterdir() if path.name.startswith(".")]


def test_cifar_files_are_used(either):
    either.unpack()
    data = either.load(augment=False)
    check_holds(either, data)
    assert data.classes == tuple(f"kind {i}" for i in range(data.num_classes))
    assert data.num_classes == {"cifar10": 10, "cifar100": 100}[either.name] and data.image_shape == (3, 32, 32)


def test_cifar_is_downloaded(either):
    check_holds(either, either.load(augment=False, download=True))


def test_cifar_is_unpacked_from_an_archive(either):
    either.root.mkdir()
    either.local_archive.write_bytes(either.archive.read_bytes())
    check_holds(either, either.load(augment=False))


def test_cifar_is_not_downloaded_unasked(either, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **options: pytest.fail("the network was used"))
    with pytest.raises(DataNotFound) as error:
        either.load()
    for part in (either.source.url, str(either.local_archive), "download=True", 'load_data("digits")'):
        assert part in str(error.value)
    assert isinstance(error.value, FileNotFoundError) and not either.root.exists()


def test_cifar_without_a_network(cifar, monkeypatch):
    def no_network(*args, **options):
        raise URLError("Name or service not known")
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(DataNotFound) as error:
        cifar.load(download=True)
    for part in (cifar.source.url, str(cifar.local_archive), "Name or service not known", 'load_data("digits")'):
        assert part in str(error.value)
    assert not cifar.root.exists()


def test_a_download_that_fails_removes_no_folder_that_was_there(cifar, monkeypatch):
    cifar.root.mkdir()
    monkeypatch.setattr(cifar.source, "url", cifar.source.url + ".gone")
    with pytest.raises(DataNotFound, match="could not download"):
        cifar.load(download=True)
    assert list(cifar.root.iterdir()) == []
    with pytest.raises(DataNotFound, match="could not download"):
        load_data("cifar10", root=cifar.root / "a" / "b", download=True)
    assert list(cifar.root.iterdir()) == []


def test_cifar_half_a_download_is_no_data_set(cifar):
    cifar.truncate(cifar.archive)
    with pytest.raises(DataNotFound, match="could not download"):
        cifar.load(download=True)
    assert not cifar.root.exists()
    with pytest.raises(DataNotFound, match="there is no CIFAR10"):
        cifar.load()


def test_cifar_truncated_archive_is_refused_then_mended(cifar):
    cifar.truncate(cifar.local_archive)
    before = cifar.local_archive.read_bytes()
    with pytest.raises(DataCorrupt, match=f"{cifar.source.filename} is incomplete or damaged .*download=True"):
        cifar.load()
    assert cifar.local_archive.read_bytes() == before and not cifar.inside.exists()
    check_holds(cifar, cifar.load(augment=False, download=True))


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", ["one bit", "half", "gone"])
def test_cifar_damaged_file_is_named_then_mended(cifar, file, damage):
    cifar.unpack()
    path = cifar.inside / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "half":
        path.write_bytes(content[:len(content) // 2])
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataCorrupt) as error:
        cifar.load()
    assert f"{cifar.inside} is incomplete or damaged: {file} missing or with a wrong MD5" in str(error.value)
    check_holds(cifar, cifar.load(augment=False, download=True))


def test_cifar_interrupted_unpacking_is_no_data_set(cifar, monkeypatch):
    moved, replace = [], os.replace

    def interrupted(source, target):
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(target)
        replace(source, target)
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cifar.load(download=True)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(DataCorrupt, match="incomplete or damaged"):
        cifar.load()
    check_holds(cifar, cifar.load(augment=False, download=True))


def test_cifar_augments_training_images_only(cifar):
    cifar.unpack()
    data = cifar.load()
    assert len({data.train[0][0].numpy().tobytes() for _ in range(20)}) > 10
    assert len({data.test[0][0].numpy().tobytes() for _ in range(5)}) == 1
    assert type(data.train[0][0]) is torch.Tensor and data.train[0][0].shape == (3, 32, 32)


@pytest.mark.parametrize(("options", "says"), [
    ({}, ", crops shifted by up to 4, mirrored"), ({"augment": False}, ""),
    ({"augment": False, "erasing": 1}, ", erasing 1"),
    ({"augment": "trivial"}, ", crops shifted by up to 4, mirrored, policy trivial"),
    ({"augment": "rand", "erasing": 0.1}, ", crops shifted by up to 4, mirrored, policy rand, erasing 0.1")])
def test_cifar_is_changed_as_asked(cifar, options, says):
    cifar.unpack()
    data = cifar.load(**options)
    assert repr(data.train) == f"ImagesInMemory: 20 images of 3 x 32 x 32{says}"
    assert repr(data.test) == "ImagesInMemory: 4 images of 3 x 32 x 32"
    images, labels = data.train.batch(torch.arange(20), seed=0, epoch=0, device="cpu")
    assert images.shape == (20, 3, 32, 32) and torch.equal(labels, data.train.targets)


def test_cifar_at_another_size(cifar):
    cifar.unpack()
    data = cifar.load(image_size=48)
    assert data.train[0][0].shape == data.test[0][0].shape == data.image_shape == (3, 48, 48)


def test_the_environment_names_the_folder(cifar, monkeypatch):
    cifar.unpack()
    monkeypatch.setenv("LWCOURSE_DATA", str(cifar.root))
    assert len(load_data("cifar10").train) == 20
    monkeypatch.delenv("LWCOURSE_DATA")
    monkeypatch.setenv("HOME", str(cifar.root / "home"))
    with pytest.raises(DataNotFound) as error:
        load_data("cifar10")
    assert str(cifar.root / "home" / ".cache" / "lwcourse") in str(error.value)


# ----------------------------------------------------------------------------------------------- ImageNet

@pytest.fixture
def tree(tmp_path):
    """Two classes; each training image has the shade of its class, and each test image a white centre."""
    root = tmp_path / "imagenet"
    for split, count in (("train", 3), ("val", 2)):
        for label, wnid in enumerate(("n01440764", "n01443537")):
            (root / split / wnid).mkdir(parents=True)
            for i in range(count):
                pixels = np.full((100, 140, 3), 40 + 100 * label, np.uint8)
                if split == "val":
                    pixels[30:70, 50:90] = 255
                Image.fromarray(pixels).save(root / split / wnid / f"{wnid}_{i}.JPEG", quality=95)
    return root


def test_imagenet_tree(tree):
    data = load_data("imagenet", root=tree, image_size=64)
    assert repr(data) == "imagenet: 6 training and 4 test images of 3 x 64 x 64, 2 classes"
    assert data.classes == ("n01440764", "n01443537")
    for dataset, count in ((data.train, 3), (data.test, 2)):
        images, labels = zip(*[dataset[i] for i in range(len(dataset))], strict=True)
        assert list(labels) == [0] * count + [1] * count
        assert {image.shape for image in images} == {(3, 64, 64)}
    shade = data.pixels(data.train[5][0]) * 255
    torch.testing.assert_close(shade, torch.full_like(shade, 140), atol=3, rtol=0)


def test_imagenet_tests_on_the_centre(tree):
    """100 x 140 is resized to 73 x 102; the white square of 40 is 29.2 wide, in the middle of the crop of 64."""
    data = load_data("imagenet", root=tree, image_size=64)
    row = data.pixels(data.test[0][0])[0, 32]
    white = (row > 0.6).nonzero()
    assert (white.max() - white.min() + 1).item() in (29, 30) and abs((white.max() + white.min()).item() - 63) <= 2


def test_imagenet_augmentation_can_be_off(tree):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)).save(
        tree / "train" / "n01440764" / "n01440764_0.JPEG")
    draws = {augment: [load_data("imagenet", root=tree, image_size=32, augment=augment).train[0][0] for _ in range(3)]
             for augment in (True, False)}
    assert not torch.equal(draws[True][0], draws[True][1]) and torch.equal(draws[False][0], draws[False][1])


@pytest.mark.parametrize("missing", ["", "train", "val"])
def test_imagenet_missing_folders_are_named(tree, missing):
    gone = tree / missing if missing else tree
    gone.rename(tree.parent / "elsewhere")
    with pytest.raises(DataNotFound) as error:
        load_data("imagenet", root=tree)
    assert f"there is no folder {gone}." in str(error.value)
    assert "image-net.org" in str(error.value) and f"{tree}/val/<class>/*.JPEG" in str(error.value)


def test_imagenet_has_a_default_place(tree, monkeypatch):
    monkeypatch.setenv("LWCOURSE_DATA", str(tree.parent))
    assert len(load_data("imagenet").test) == 4


def test_imagenet_class_lists_must_agree(tree):
    (tree / "val" / "n01443537").rename(tree / "val" / "n09999999")
    with pytest.raises(DataCorrupt, match="must be the same; only .*/train has n01443537, only .*/val has n09999999$"):
        load_data("imagenet", root=tree)


@pytest.mark.parametrize("split", ["train", "val"])
def test_imagenet_empty_class_is_named(tree, split):
    (tree / split / "n01500000").mkdir()
    with pytest.raises(DataNotFound, match="no valid file for the classes n01500000"):
        load_data("imagenet", root=tree)


@pytest.mark.parametrize("damage", ["truncated", "no image", "empty"])
def test_imagenet_damaged_image_is_named(tree, damage):
    path = tree / "train" / "n01440764" / "n01440764_1.JPEG"
    content = {"truncated": path.read_bytes()[:600], "no image": b"<html>404</html>", "empty": b""}[damage]
    path.write_bytes(content)
    data = load_data("imagenet", root=tree, image_size=32)
    assert data.train[0][0].shape == (3, 32, 32)
    with pytest.raises(DataCorrupt, match="n01440764_1.JPEG cannot be read as an image"):
        data.train[1]


def test_samples_are_drawn_on_the_cpu_whatever_the_default_device(tree):
    torch.set_default_device("meta")
    try:
        data = load_data("imagenet", root=tree, image_size=32)
        image = pickle.loads(pickle.dumps(data)).train[0][0]  # as a worker that is spawned gets it
    finally:
        torch.set_default_device(None)
    assert image.device.type == "cpu" and image.shape == (3, 32, 32)


# ------------------------------------------------------------------------------------- what cameras and computers add

HIDDEN = [".DS_Store", "Thumbs.db", "desktop.ini", "._n01440764_0.JPEG", ".ipynb_checkpoints/a-checkpoint.JPEG",
          "__MACOSX/._a.JPEG", "@eaDir/a.JPEG", ".Trash-0/deep/er/a.png"]


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("where", ["", "train", "val", "train/n01440764", "val/n01443537"])
def test_hidden_files_and_folders_are_passed_over(tree, where, name):
    path = tree / where / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.startswith((".ipynb", "@")):  # copies of pictures
        Image.new("RGB", (40, 40)).save(path)
    else:
        path.write_bytes(b"\0\5\x16\7")
    data = load_data("imagenet", root=tree, image_size=32, augment=False)
    assert data.classes == ("n01440764", "n01443537") and data.train.targets == [0] * 3 + [1] * 3
    assert data.test.targets == [0] * 2 + [1] * 2 and all(image.shape == (3, 32, 32) for image, _ in data.train)


def test_a_tree_may_lie_in_a_hidden_folder(tree):
    tree.parent.rename(hidden := tree.parent.with_name(".cache"))
    assert len(load_data("imagenet", root=hidden / tree.name).train) == 6


def test_a_folder_of_hidden_files_is_an_empty_class(tree):
    for path in (tree / "train" / "n01443537").iterdir():
        path.rename(path.with_name(f"._{path.name}"))
    with pytest.raises(DataNotFound, match="no valid file for the classes n01443537.*.jpeg"):
        load_data("imagenet", root=tree)


def test_a_folder_without_classes(tree):
    for folder in (tree / "train").iterdir():
        folder.rename(folder.with_name(f".{folder.name}"))
    with pytest.raises(DataNotFound, match="train: there is no folder in it, and each class is one"):
        load_data("imagenet", root=tree)


RAMP = np.tile(np.linspace(0, 1, 64), (64, 1))
GREY16 = (RAMP * 65535).astype(np.uint16)


def loaded(path) -> torch.Tensor:
    """The pixels of one file that stands for a whole set."""
    return transforms.to_image(base.open_image(path))


def tiff(path, mode: str, order: str) -> None:
    """A grey TIFF of 16 bits in a byte order."""
    Image.frombytes(mode, (64, 64), GREY16.astype(f"{order}u2").tobytes()).save(path)


def pgm(path) -> None:
    path.write_bytes(b"P5 64 64 65535\n" + GREY16.astype(">u2").tobytes())


@pytest.mark.parametrize(("file", "save"), [
    ("a.png", lambda path: Image.fromarray(GREY16).save(path)),
    ("a.tif", lambda path: Image.fromarray(GREY16).save(path)),
    ("a.tif", lambda path: tiff(path, "I;16", "<")), ("a.tif", lambda path: tiff(path, "I;16B", ">")),
    ("a.pgm", pgm)], ids=["png", "tiff", "little", "big", "pgm"])
def test_greys_of_16_bits_are_scaled_to_8(file, save, tmp_path):
    save(tmp_path / file)
    expected = torch.from_numpy((GREY16 // 256).astype(np.uint8)).expand(3, -1, -1)
    assert torch.equal(loaded(tmp_path / file), expected)


@pytest.mark.parametrize(("dtype", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_an_image_of_unknown_range_is_refused(dtype, mode, tree):
    path = tree / "train" / "n01440764" / "n01440764_0.tif"
    Image.fromarray((255 * RAMP).astype(dtype)).save(path)
    with pytest.raises(DataCorrupt, match=f"n01440764_0.tif is an image of mode {mode}, .* which value is white"):
        load_data("imagenet", root=tree).train[1]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(mode, tmp_path):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.new("RGB", (8, 8), "white").convert(mode).save(path)
    assert (loaded(path) == 255).all() and loaded(path).shape == (3, 8, 8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparency", [0, bytes(range(256))])
def test_a_palette_with_transparency_is_read_without_a_warning(transparency, tmp_path):
    grey = Image.fromarray((255 * RAMP).astype(np.uint8))
    grey.convert("P").save(tmp_path / "a.png", transparency=transparency)
    assert torch.equal(loaded(tmp_path / "a.png")[0], torch.from_numpy(np.array(grey)))


@pytest.mark.parametrize("file", ["a.png", "a.tif", "a.webp"])
def test_the_first_image_of_several_is_read(file, tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / file, save_all=True, append_images=frames[1:])
    assert (loaded(tmp_path / file) == 255).all()


@pytest.mark.parametrize("file", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_photographs_are_turned_upright(file, orientation, tmp_path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:16, :32] = 255
    photograph(tmp_path / file, pixels, orientation)
    found = loaded(tmp_path / file).permute(1, 2, 0).numpy()
    assert found.shape == pixels.shape and (np.abs(found.astype(int) - pixels) < 60).all()


@pytest.mark.parametrize("note", [b"Exif\0\0no TIFF at all", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_a_damaged_note_of_the_camera_does_no_harm(note, tmp_path):
    Image.new("RGB", (8, 6), "white").save(tmp_path / "a.jpg", exif=note)
    assert loaded(tmp_path / "a.jpg").shape == (3, 6, 8)


@pytest.mark.parametrize("file", ["a.jpg", "a.png", "a.tif", "a.webp", "a.bmp", "a.ppm"])
def test_whatever_is_cut_off_is_named(file, tmp_path):
    path = tmp_path / file
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for share in (0, 0.01, 0.1, 0.5, 0.9):
        path.write_bytes(whole[:int(share * len(whole))])
        with pytest.raises(DataCorrupt, match=f"{file} cannot be read as an image: .+"):
            loaded(path)
