"""Data sets with label maps, in the layouts that their users have: made small here, read by the real code."""
import urllib.request
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from sample_pictures import STORED, photograph

from lwcourse.data import IGNORE_INDEX, DataCorrupt, DataNotFound, load_data

SIZE = (40, 60)  # of the files, height and width


def picture(path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), np.uint8)).save(path)


def label_map(path, values) -> np.ndarray:
    """Stripes of `values` from left to right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.tile(np.repeat(np.array(values, np.uint8), SIZE[1] // len(values)), (SIZE[0], 1))
    Image.fromarray(labels).save(path)
    return labels


def voc(root):
    folder = root / "VOCdevkit" / "VOC2012"
    for part, name in (("train", "a"), ("val", "b")):
        picture(folder / "JPEGImages" / f"{name}.jpg")
        label_map(folder / "SegmentationClass" / f"{name}.png", [0, 15, 255])
        (folder / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Segmentation" / f"{part}.txt").write_text(f"{name}\n")
    return root, [0, 15, IGNORE_INDEX]


def pets(root):
    folder = root / "oxford-iiit-pet"
    for part, name in (("trainval", "a_1"), ("test", "b_1")):
        picture(folder / "images" / f"{name}.jpg")
        label_map(folder / "annotations" / "trimaps" / f"{name}.png", [2, 3, 1])
        (folder / "annotations" / f"{part}.txt").write_text(f"{name} 1 1 1\n")
    return root, [1, 2, 0]


def camvid(root):
    for part in ("train", "test"):
        picture(root / part / "x.png")
        label_map(root / f"{part}annot" / "x.png", [3, 11, 10])
    return root, [3, IGNORE_INDEX, 10]


def cityscapes(root):
    for part in ("train", "val"):
        picture(root / "leftImg8bit" / part / "town" / "town_0_0_leftImg8bit.png")
        label_map(root / "gtFine" / part / "town" / "town_0_0_gtFine_labelIds.png", [7, 33, 4])
    return root, [0, 18, IGNORE_INDEX]  # road, bicycle, static


LAYOUTS = {"voc_segmentation": voc, "oxford_pets": pets, "camvid": camvid, "cityscapes": cityscapes}


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_are_read_and_labels_renamed(name, tmp_path):
    root, expected = LAYOUTS[name](tmp_path)
    data = load_data(name, root=root, image_size=SIZE, augment=False)
    assert data.dense and len(data.train) == len(data.test) == 1
    assert data.num_classes == {"voc_segmentation": 21, "oxford_pets": 3, "camvid": 11, "cityscapes": 19}[name]
    for image, labels in (data.train[0], data.test[0]):
        assert type(image) is torch.Tensor and image.shape == (3, *SIZE) and image.dtype == torch.float32
        assert type(labels) is torch.Tensor and labels.shape == SIZE and labels.dtype == torch.long
        assert labels.eq(labels[0]).all() and labels[0, [10, 30, 50]].tolist() == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_resizing_never_mixes_labels(name, tmp_path):
    root, expected = LAYOUTS[name](tmp_path)
    data = load_data(name, root=root, image_size=(31, 47))
    torch.manual_seed(0)
    for _ in range(5):
        image, labels = data.train[0]
        assert image.shape == (3, 31, 47) and set(labels.unique().tolist()) <= set(expected)


def test_image_and_map_move_together(tmp_path):
    """The image is the map, painted: after any random crop and flip they still agree."""
    for part in ("train", "test"):
        labels = label_map(tmp_path / f"{part}annot" / "x.png", [0, 5, 10])
        (tmp_path / part).mkdir()
        Image.fromarray(np.repeat(labels[..., None] * 25, 3, 2).astype(np.uint8)).save(tmp_path / part / "x.png")
    data = load_data("camvid", root=tmp_path, image_size=(64, 96))
    torch.manual_seed(1)
    seen = set()
    for _ in range(12):
        image, labels = data.train[0]
        painted = data.pixels(image)[0] * 255 / 25
        assert (painted - labels).abs().median() < 0.1 and ((painted - labels).abs() < 1).float().mean() > 0.9
        seen.add(tuple(labels[0, [0, 48, 95]].tolist()))
    assert len(seen) > 2, "training images are cropped and mirrored"


@pytest.mark.parametrize("name", LAYOUTS)
def test_missing_files_are_named(name, tmp_path):
    with pytest.raises(DataNotFound, match=r"(?s)" + str(tmp_path) + r".*(Get|https?).*load_data\(\"scenes\"\)"):
        load_data(name, root=tmp_path)


def test_damaged_files_are_named(tmp_path):
    camvid(tmp_path)
    data = load_data("camvid", root=tmp_path, image_size=SIZE)
    (tmp_path / "trainannot" / "x.png").write_bytes(b"\x89PNG, half of it")
    with pytest.raises(DataCorrupt, match="trainannot/x.png cannot be read as a label map"):
        data.train[0]
    label_map(tmp_path / "trainannot" / "x.png", [3, 12, 10])
    with pytest.raises(DataCorrupt, match="trainannot/x.png has the label 12; there are 11 classes"):
        data.train[0]
    Image.new("L", (7, 5)).save(tmp_path / "trainannot" / "x.png")
    with pytest.raises(DataCorrupt, match=r"trainannot/x.png has \(5, 7\) pixels.*\(40, 60\)"):
        data.train[0]
    Image.new("RGB", (60, 40)).save(tmp_path / "trainannot" / "x.png")
    with pytest.raises(DataCorrupt, match="no label map of one byte a pixel"):
        data.train[0]
    picture(tmp_path / "train" / "y.png")
    with pytest.raises(DataCorrupt, match="y.png is in only one of"):
        load_data("camvid", root=tmp_path)


@pytest.mark.parametrize("file", [".DS_Store", "Thumbs.db", "._x.png", ".ipynb_checkpoints/x.png", "__MACOSX/._x.png"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_hidden_files_are_passed_over(name, file, tmp_path):
    LAYOUTS[name](tmp_path)
    for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(b"\0\5\x16\7")
    data = load_data(name, root=tmp_path, image_size=SIZE, augment=False)
    assert len(data.train) == len(data.test) == 1 and data.train[0][0].shape == (3, *SIZE)


def test_a_town_of_which_a_map_is_missing(tmp_path):
    cityscapes(tmp_path)
    picture(tmp_path / "leftImg8bit" / "train" / "town" / "town_0_1_leftImg8bit.png")
    with pytest.raises(DataCorrupt, match="town/town_0_1 is in only one of .*leftImg8bit/train and .*gtFine/train"):
        load_data("cityscapes", root=tmp_path)


def test_sets_are_loaded_in_one_order(tmp_path):
    cityscapes(tmp_path)
    for town in ("a", "z", "m"):
        picture(tmp_path / "leftImg8bit" / "train" / town / f"{town}_leftImg8bit.png")
        label_map(tmp_path / "gtFine" / "train" / town / f"{town}_gtFine_labelIds.png", [7])
    pairs = load_data("cityscapes", root=tmp_path).train.pairs
    assert [image.parent.name for image, _ in pairs] == ["a", "m", "town", "z"]
    assert all(image.parent.name == labels.parent.name for image, labels in pairs)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["the upright image", "the stored image", "both turned"])
def test_image_and_map_are_upright_and_aligned(orientation, drawn_on, tmp_path):
    """A map may be of the image as a viewer shows it, or as it is stored, where its shape tells so."""
    if drawn_on == "the stored image" and orientation < 5:
        pytest.skip("the shape does not tell")
    labels = np.zeros((30, 44), np.uint8)
    labels[:10, :20] = 5
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / f"{part}annot").mkdir()
        photograph(tmp_path / part / "x.png", np.repeat(labels[..., None] * 25, 3, 2), orientation)
        drawn = labels if drawn_on == "the upright image" else np.ascontiguousarray(STORED[orientation](labels))
        if drawn_on == "both turned":
            photograph(tmp_path / f"{part}annot" / "x.png", labels, orientation)
        else:
            Image.fromarray(drawn).save(tmp_path / f"{part}annot" / "x.png")
    data = load_data("camvid", root=tmp_path, image_size=(30, 44), augment=False)
    image, found = data.train[0]
    assert np.array_equal(found.numpy(), labels)
    assert np.array_equal((data.pixels(image)[0] * 255 / 25).round().numpy(), labels)


def test_samples_are_drawn_on_the_cpu_whatever_the_default_device(tmp_path):
    camvid(tmp_path)
    torch.set_default_device("meta")
    try:
        image, labels = load_data("camvid", root=tmp_path, image_size=SIZE).train[0]
    finally:
        torch.set_default_device(None)
    assert image.device.type == labels.device.type == "cpu"


@pytest.mark.parametrize("name", ["voc_segmentation", "oxford_pets"])
def test_a_download_that_fails_leaves_no_folder(name, tmp_path, monkeypatch):
    def no_network(*args, **options):
        raise URLError("Name or service not known")
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(DataNotFound, match="is not whole in .*new.*Name or service"):
        load_data(name, root=tmp_path / "new", download=True)
    assert list(tmp_path.iterdir()) == []
