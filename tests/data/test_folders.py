"""A reader's own pictures in folders: what is loaded, and what is said about trees that cannot be used."""
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lwcourse.data import DataCorrupt, DataNotFound, load_data


def photo(path, seed: int = 0, size=(60, 90)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    smooth = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(smooth).resize(size[::-1]).save(path, **{"quality": 95} if path.suffix == ".jpg" else {})


@pytest.fixture
def tree(tmp_path):
    """Cats and dogs: 3 of each to train on, of several sizes and kinds, 2 to test on."""
    root = tmp_path / "pets"
    for number, kind in enumerate(("cat", "dog")):
        for i, file in enumerate(("a.jpg", "b.png", "deeper/c.webp")):
            photo(root / "train" / kind / file, 10 * number + i, (40 + 30 * i, 90))
        for file in ("x.jpg", "y.png"):
            photo(root / "val" / kind / file, 5 + number)
    return root


def test_a_tree_is_a_data_set(tree):
    data = load_data("folder", root=tree, image_size=48)
    assert repr(data) == "pets: 6 training and 4 test images of 3 x 48 x 48, 2 classes"
    assert data.classes == ("cat", "dog") and data.train.targets == [0] * 3 + [1] * 3
    for dataset in (data.train, data.test):
        for image, label in dataset:
            assert image.shape == (3, 48, 48) and image.dtype == torch.float32 and type(image) is torch.Tensor
            assert label in (0, 1)
    assert data.mean == (0.485, 0.456, 0.406) and data.resize == 55
    assert not torch.equal(data.train[0][0], data.train[0][0])
    assert torch.equal(data.test[3][0], pickle.loads(pickle.dumps(data)).test[3][0])


def test_the_name_is_that_of_the_folder(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert load_data("folder", root=".").name == load_data("folder", root=f"{tree}/").name == "pets"
    assert load_data("imagenet", root=tree).name == "imagenet"


@pytest.mark.parametrize("augment", [True, False, "trivial", "rand"])
def test_test_images_are_the_centre_as_torchvision_makes_it_of_pil_images(tree, augment):
    data = load_data("folder", root=tree, image_size=56, augment=augment, erasing=0.5)
    transform = v2.Compose([v2.Resize(64), v2.CenterCrop(56), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                            v2.Normalize(data.mean, data.std)])
    for i, (path, _) in enumerate(data.test.samples):
        expected = transform(Image.open(path).convert("RGB"))
        torch.testing.assert_close(data.pixels(data.test[i][0]), data.pixels(expected), atol=2.01 / 255, rtol=0)


def test_training_images_are_changed_as_asked(tree):
    def steps(**options):
        return [type(step).__name__ for step in load_data("folder", root=tree, **options).train.transform
                .transform.transforms if not isinstance(step, (v2.ToDtype, v2.Normalize))]
    crop = ["RandomResizedCrop", "RandomHorizontalFlip"]
    assert steps() == crop and steps(augment=False) == ["Resize", "CenterCrop"]
    assert steps(augment="rand", erasing=0.1) == [*crop, "OnCPU", "RandomErasing"]
    plain = load_data("folder", root=tree, image_size=32, augment=False)
    erased = load_data("folder", root=tree, image_size=32, augment=False, erasing=1)
    trivial = load_data("folder", root=tree, image_size=32, augment="trivial")
    assert torch.equal(plain.train[0][0], plain.train[0][0])
    assert 0.01 < ((erased.train[0][0] == 0) & (plain.train[0][0] != 0)).float().mean() < 0.5
    assert len({trivial.train[1][0].numpy().tobytes() for _ in range(5)}) > 3


# -------------------------------------------------------------------------------------- trees that cannot be used

def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("missing", ["", "train", "val"])
def test_missing_folders_are_named(tree, missing):
    gone = tree / missing if missing else tree
    gone.rename(tree.parent / "elsewhere")
    with pytest.raises(DataNotFound) as error:
        load_data("folder", root=tree)
    said = one_line(error)
    assert f"there is no folder {gone}." in said and f"{tree}/val/<class>/" in said and "ImageNet" not in said


def test_a_root_must_be_given():
    with pytest.raises(ValueError, match=r"root must be a folder that holds train/<class>/\* and val/.* got None"):
        load_data("folder")


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_class_is_named(tree, split):
    (tree / split / "bird").mkdir()
    (tree / split / "bird" / "notes.txt").write_text("to do")
    with pytest.raises(DataNotFound) as error:
        load_data("folder", root=tree)
    assert f"{tree / split}: Found no valid file for the classes bird" in one_line(error)


@pytest.mark.parametrize(("split", "other"), [("train", "val"), ("val", "train")])
def test_a_class_of_one_side_only_is_named_with_its_side(tree, split, other):
    photo(tree / split / "bird" / "a.jpg")
    with pytest.raises(DataCorrupt) as error:
        load_data("folder", root=tree)
    assert one_line(error).endswith(f"must be the same; only {tree / split} has bird")


def test_many_odd_classes_are_not_all_listed(tree):
    for i in range(8):
        photo(tree / "val" / f"kind{i}" / "a.jpg")
    with pytest.raises(DataCorrupt, match=r"\(2\) and .*/val \(10\) must .* has kind0, .*, kind4 \.\.\.$"):
        load_data("folder", root=tree)


def test_one_class_is_too_few(tree):
    for split in ("train", "val"):
        (tree / split / "dog").rename(tree.parent / f"dogs of {split}")
    with pytest.raises(DataCorrupt, match="train has only one class, cat; it takes two"):
        load_data("folder", root=tree)


@pytest.mark.parametrize("name", [".DS_Store", ".ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/a.jpg", "._a.jpg"])
@pytest.mark.parametrize("where", ["", "train", "val/dog"])
def test_hidden_files_and_folders_are_passed_over(tree, where, name):
    photo(tree / where / name) if name.endswith(".jpg") else (tree / where / name).write_bytes(b"\0")
    data = load_data("folder", root=tree, skip_unreadable=True)
    assert data.classes == ("cat", "dog") and len(data.train) == 6 and len(data.test) == 4


@pytest.mark.parametrize(("option", "value", "says"), [
    ("augment", "auto", "augment must be True, False, 'trivial' or 'rand', got 'auto'"),
    ("erasing", -0.1, "erasing is a probability .* got -0.1"),
    ("skip_unreadable", 1, "skip_unreadable must be True or False, got 1"),
    ("image_size", 4, "image_size must be a whole number from 8 to 1024, got 4")])
@pytest.mark.parametrize("name", ["folder", "imagenet"])
def test_bad_options_are_named(tree, name, option, value, says):
    with pytest.raises(ValueError, match=says):
        load_data(name, root=tree, **{option: value})


# -------------------------------------------------------------------------------------- pictures that cannot be read

def damage(path, share: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])


def test_a_picture_that_cannot_be_read_is_named_at_its_turn(tree):
    damage(tree / "train" / "dog" / "a.jpg")
    data = load_data("folder", root=tree)
    with pytest.raises(DataCorrupt) as error:
        data.train[3]
    said = one_line(error)
    assert said.startswith(f"{tree / 'train' / 'dog' / 'a.jpg'} cannot be read as an image")
    assert said.endswith("; skip_unreadable=True leaves such pictures out")


def test_pictures_that_cannot_be_read_are_left_out_when_asked(tree, capsys):
    for file in ("train/cat/a.jpg", "train/dog/b.png", "val/cat/y.png"):
        damage(tree / file)
    (tree / "val" / "dog" / "page.jpg").write_text("<html>404</html>")
    data = load_data("folder", root=tree, image_size=32, skip_unreadable=True)
    said = capsys.readouterr().out
    assert said.startswith(f"pets: 4 of 11 pictures are left out; the first: {tree}/train/cat/a.jpg cannot be read as")
    assert said.count("\n") == 1
    assert [label for _, label in data.train] == data.train.targets == [0, 0, 1, 1]
    assert [label for _, label in data.test] == data.test.targets == [0, 1, 1]
    assert "4 training and 3 test images" in repr(data)


def test_nothing_is_said_where_all_can_be_read(tree, capsys):
    load_data("folder", root=tree, skip_unreadable=True)
    assert capsys.readouterr().out == ""


def test_a_class_of_which_nothing_can_be_read_is_named(tree):
    for path in (tree / "val" / "dog").iterdir():
        damage(path, 0.1)
    with pytest.raises(DataNotFound, match="val: no picture can be read of the classes dog$"):
        load_data("folder", root=tree, skip_unreadable=True)
