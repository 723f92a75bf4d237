"""Data sets with label maps, in the layouts that their users have: made small here, read by the real code."""
import numpy as np
import pytest
import torch
from PIL import Image

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
