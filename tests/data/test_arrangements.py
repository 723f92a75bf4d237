"""The two tasks that need places: their classes hold the same digits, and their canvases close on themselves."""
import pytest
import torch

from lwcourse.data.arrangements import digit_pairs, digit_sides


def test_pairs_differ_in_the_direction_alone():
    data = digit_pairs(train=40, test=10)
    assert (len(data.train), len(data.test), data.image_shape) == (40, 10, (1, 32, 32))
    for image, label in data.train:
        ink = data.pixels(image)[0] > 0.001
        rows, columns = ink.any(1), ink.any(0)
        # Two digits in one band of rows leave most rows empty; two in one band of columns most columns.
        narrow, wide = (rows, columns) if label == 0 else (columns, rows)
        assert narrow.sum() <= 8 < wide.sum()


def test_sides_are_halves():
    data = digit_sides(train=40, test=10)
    for image, label in data.train:
        columns = (data.pixels(image)[0] > 0.001).any(0).nonzero().flatten()
        assert columns.min() >= 16 * label and columns.max() < 16 * (label + 1)


@pytest.mark.parametrize("make", [digit_pairs, digit_sides])
def test_the_same_seed_gives_the_same_images_and_classes_are_even(make):
    first, again, other = make(train=20), make(train=20), make(train=20, seed=1)
    assert torch.equal(first.train.tensors[0], again.train.tensors[0])
    assert not torch.equal(first.train.tensors[0], other.train.tensors[0])
    assert first.train.tensors[1].sum() == 10 and abs(first.train.tensors[0].mean()) < 1e-5


def test_bad_options():
    with pytest.raises(ValueError, match="image_size must be a multiple of 4"):
        digit_pairs(image_size=30)
    with pytest.raises(ValueError, match="train must be"):
        digit_sides(train=0)
    with pytest.raises(ValueError, match="train must be"):
        digit_pairs(train=True)
    with pytest.raises(ValueError, match="GiB"):
        digit_sides(train=10**9)
    with pytest.raises(ValueError, match="image_size must be a multiple of 4"):
        digit_pairs(image_size="32")


@pytest.mark.parametrize("make", [digit_pairs, digit_sides])
def test_the_default_device_does_not_matter(make):
    expected = make(train=4, test=2)
    torch.set_default_device("meta")
    try:
        found = make(train=4, test=2)
    finally:
        torch.set_default_device(None)
    assert torch.equal(found.train.tensors[0], expected.train.tensors[0])
