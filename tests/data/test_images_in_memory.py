"""Images in memory: the same as torchvision gives for them, alike in any batch, and as random as they should be."""
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from lwcourse.data import Augment, ImagesInMemory
from lwcourse.data.draws import mixed
from lwcourse.data.memory import POLICY_SEED

MEAN, STD = (0.49, 0.48, 0.44), (0.25, 0.24, 0.26)
ALL = Augment(padding=4, flip=True, erasing=0.5, policy="trivial")


def noise(count: int, size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)


def made(images: torch.Tensor, augment: Augment | None = None, **options) -> ImagesInMemory:
    return ImagesInMemory(images, torch.arange(len(images)), MEAN, STD, augment=augment, **options)


def batch(dataset: ImagesInMemory, indices=None, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    indices = torch.arange(len(dataset)) if indices is None else torch.tensor(indices)
    images, labels = dataset.batch(indices, seed=seed, epoch=epoch, device=torch.device("cpu"))
    assert torch.equal(labels, dataset.targets[indices]) and images.dtype == torch.float32
    return images


def in_bytes(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((images * std + mean) * 255).round().to(torch.uint8)


# --------------------------------------------------------------------------------------- what torchvision would give

@pytest.mark.parametrize(("size", "tolerance"), [(None, 1e-5), (32, 1e-5), (48, 1.01 / 255 / min(STD)),
                                                 (20, 1.01 / 255 / min(STD)), (224, 1.01 / 255 / min(STD))])
def test_test_images_are_those_of_torchvision(size, tolerance):
    """Exact at the stored size; resized ones are within one grey level of what PIL makes of them."""
    images = noise(6)
    resize = [v2.Resize(size)] if size else []
    transform = v2.Compose([*resize, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    expected = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    dataset = made(images, image_size=size)
    torch.testing.assert_close(batch(dataset), expected, atol=tolerance, rtol=0)
    image, label = dataset[5]
    assert torch.equal(image, batch(dataset)[5]) and image.is_contiguous() and label == 5 and type(label) is int
    assert dataset.image_shape == (3, size or 32, size or 32) and batch(dataset).shape[1:] == dataset.image_shape


@pytest.mark.parametrize("size", [(32, 32), (12, 20)])
def test_crops_are_torchvisions_and_all_are_as_likely(size):
    """Each image is one of the 25 crops or their mirror images, to the bit, and each of the 50 comes equally often."""
    images = noise(3, size)
    possible = {}
    for number, image in enumerate(images):
        padded = transforms.pad(image, [2])
        for top in range(5):
            for left in range(5):
                crop = transforms.crop(padded, top, left, *size)
                possible |= {(number, crop.numpy().tobytes()): (top, left, False),
                             (number, transforms.horizontal_flip(crop).numpy().tobytes()): (top, left, True)}
    assert len(possible) == 3 * 50
    dataset = made(images, Augment(padding=2, flip=True))
    seen = Counter(possible[number, image.numpy().tobytes()] for epoch in range(500)
                   for number, image in enumerate(in_bytes(batch(dataset, epoch=epoch))))
    assert len(seen) == 50
    assert abs(sum((count - 30) ** 2 / 30 for count in seen.values()) - 49) < 4.5 * np.sqrt(2 * 49)


def test_crops_alone_and_mirrored_alone():
    images = noise(40)
    flipped = in_bytes(batch(made(images, Augment(flip=True))))
    mirrored = [torch.equal(found, transforms.horizontal_flip(image)) for found, image in
                zip(flipped, images, strict=True)]
    assert 10 < sum(mirrored) < 30
    assert all(mirror or torch.equal(found, image)
               for mirror, found, image in zip(mirrored, flipped, images, strict=True))
    moved = in_bytes(batch(made(images, Augment(padding=1))))
    assert all(torch.equal(found, image) or (found == 0).any() for found, image in zip(moved, images, strict=True))


@pytest.mark.parametrize(("name", "transform"), [("trivial", v2.TrivialAugmentWide()), ("rand", v2.RandAugment())])
def test_a_policy_is_torchvisions_under_a_seed_of_the_sample(name, transform):
    images = noise(12)
    found = in_bytes(batch(made(images, Augment(policy=name)), seed=3, epoch=2))
    seeds = mixed(3, 2, np.arange(12), POLICY_SEED).tolist()
    for image, seed, result in zip(images, seeds, found, strict=True):
        torch.manual_seed(seed)
        assert torch.equal(result, transform(image))
    assert sum(not torch.equal(a, b) for a, b in zip(images, found, strict=True)) > 4


@pytest.mark.parametrize("size", [(32, 32), (20, 48)])
def test_erased_boxes_have_the_sizes_of_torchvisions(size):
    count = 2500
    erased = batch(made(torch.full((count, 3, *size), 255, dtype=torch.uint8), Augment(erasing=0.4))) == 0
    assert torch.equal(erased[:, 0], erased[:, 1]) and torch.equal(erased[:, 0], erased[:, 2])
    torch.manual_seed(0)
    theirs = v2.RandomErasing(0.4)
    reference = torch.stack([theirs(torch.ones(1, *size)) == 0 for _ in range(count)])
    sides = []
    for boxes in (erased[:, 0], reference[:, 0]):
        rows, columns = boxes.any(2), boxes.any(1)
        assert torch.equal(boxes, rows[:, :, None] & columns[:, None, :]), "what is erased is a box"
        there = rows.any(1)
        assert abs(there.float().mean() - 0.4) < 4 * (0.24 / count) ** 0.5
        sides.append(torch.stack([rows[there].sum(1), columns[there].sum(1), rows[there].int().argmax(1),
                                  columns[there].int().argmax(1)]).double())
    for ours, reference in zip(*sides, strict=True):  # heights, widths, tops and lefts: means and spreads
        error = (ours.var() / len(ours) + reference.var() / len(reference)).sqrt()
        assert abs(ours.mean() - reference.mean()) < 4 * error
        assert abs(ours.std() / reference.std() - 1) < 0.15


# ------------------------------------------------------------------------------------------- what randomness hangs on

@pytest.mark.parametrize("augment", [ALL, Augment(padding=4, flip=True, erasing=0.5)], ids=str)
@pytest.mark.parametrize("size", [None, 40])
def test_a_sample_is_alike_in_any_batch(augment, size):
    dataset = made(noise(16), augment, image_size=size)
    whole = batch(dataset, seed=5, epoch=3)
    order = torch.randperm(16).tolist()
    torch.rand(7)
    assert torch.equal(batch(dataset, order, 5, 3), whole[order])
    assert torch.equal(batch(dataset, [9], 5, 3)[0], whole[9])
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(batch(again, [4, 4], 5, 3), whole[[4, 4]])
    for seed, epoch in ((5, 4), (6, 3), (3, 5)):
        other = batch(dataset, seed=seed, epoch=epoch)
        assert sum(torch.equal(a, b) for a, b in zip(whole, other, strict=True)) <= 1


def test_a_batch_neither_uses_nor_changes_the_random_state():
    dataset = made(noise(4), ALL)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = batch(dataset)
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    torch.manual_seed(99)
    assert torch.equal(first, batch(dataset))


def test_a_batch_leaves_the_number_of_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        batch(made(noise(4), ALL))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_single_samples_follow_pytorchs_random_numbers():
    dataset = made(noise(2), Augment(padding=4, flip=True))
    torch.manual_seed(0)
    first = [dataset[0][0] for _ in range(10)]
    assert len({image.numpy().tobytes() for image in first}) > 7
    torch.manual_seed(0)
    assert all(torch.equal(image, dataset[0][0]) for image in first)
    state = torch.get_rng_state()
    made(noise(2))[0]
    assert torch.equal(state, torch.get_rng_state()), "test images draw nothing"


def test_batches_are_channels_last_and_their_own():
    images = noise(5)
    dataset = made(images, ALL, image_size=24)
    assert batch(dataset).is_contiguous(memory_format=torch.channels_last)
    for changed in (made(images), made(images, ALL)):
        first = batch(changed)
        batch(changed).zero_()
        assert torch.equal(first, batch(changed)), "what is done to a batch stays in it"


@pytest.mark.parametrize("size", [None, 40])
def test_a_batch_is_made_where_it_is_wanted(size):
    dataset = made(noise(3), Augment(padding=4, flip=True, erasing=1.0), image_size=size)
    images, labels = dataset.batch(torch.arange(2), seed=0, epoch=0, device=torch.device("meta"))
    assert images.shape == (2, 3, size or 32, size or 32) and images.is_meta and labels.is_meta
    assert not dataset[0][0].is_meta and not pickle.loads(pickle.dumps(dataset))[0][0].is_meta


def test_whatever_the_default_device_samples_are_on_the_cpu():
    dataset = made(noise(3), ALL, image_size=40)
    expected = batch(dataset)
    torch.set_default_device("meta")
    try:
        images, labels = dataset.batch(torch.arange(3, device="cpu"), seed=0, epoch=0, device=torch.device("cpu"))
        sample, _ = dataset[0]
    finally:
        torch.set_default_device(None)
    assert torch.equal(images, expected) and labels.tolist() == [0, 1, 2] and sample.device.type == "cpu"


# ------------------------------------------------------------------------------------------------------- what it says

def test_it_is_a_data_set():
    dataset = made(noise(3), Augment(padding=4, flip=True, policy="rand", erasing=0.25), image_size=64)
    assert repr(dataset) == ("ImagesInMemory: 3 images of 3 x 32 x 32 resized to 64 x 64, crops shifted by up to 4, "
                             "mirrored, policy rand, erasing 0.25")
    assert repr(made(noise(3))) == "ImagesInMemory: 3 images of 3 x 32 x 32"
    assert len(list(made(noise(3)))) == 3 and torch.equal(made(noise(3))[-1][0], made(noise(3))[2][0])
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"no image {index}, only 3 of them"):
            dataset[index]


def test_grey_images():
    images = noise(4)[:, :1]
    dataset = ImagesInMemory(images, [0, 1, 0, 1], (0.5,), (0.25,), augment=Augment(padding=2, erasing=1.0))
    found, labels = dataset.batch(torch.tensor([3, 0]), seed=0, epoch=0, device=torch.device("cpu"))
    assert found.shape == (2, 1, 32, 32) and labels.tolist() == [1, 0]
    plain = ImagesInMemory(images, [0, 1, 0, 1], (0.5,), (0.25,))
    torch.testing.assert_close(plain[2][0], (images[2] / 255 - 0.5) / 0.25)


@pytest.mark.parametrize(("images", "options", "says"), [
    (noise(2).float(), {}, r"images must be a uint8 tensor \(N, channels, height, width\), .* got torch.float32"),
    (noise(2)[0], {}, r"images must .* got torch.uint8 of shape \(3, 32, 32\)"),
    (noise(2)[:0], {}, r"none of them 0, got .*\(0, 3, 32, 32\)"),
    (noise(2).numpy(), {}, "images must be .* got <class 'numpy.ndarray'>"),
    (noise(2), {"labels": [1]}, r"labels must be 2 whole numbers, one an image, got torch.int64 of shape \(1,\)"),
    (noise(2), {"labels": [1.0, 2.0]}, "labels must be 2 whole numbers.* got torch.float32"),
    (noise(2), {"mean": (0.5,)}, r"mean and std must be 3 numbers, .* got mean=\(0.5,\)"),
    (noise(2), {"std": (1, 0, 1)}, r"std positive, got .* std=\(1, 0, 1\)"),
    (noise(2), {"augment": "trivial"}, "augment must be None or an Augment, .* got 'trivial'"),
    (noise(2), {"image_size": 0}, "image_size must be a whole number from 1 to 4096, got 0")])
def test_what_is_no_set_of_images_is_refused(images, options, says):
    with pytest.raises(ValueError, match=says):
        ImagesInMemory(images, **{"labels": [0, 1], "mean": MEAN, "std": STD, **options})


@pytest.mark.parametrize(("options", "says"), [
    ({"padding": -1}, "padding must be a whole number of at least 0, got -1"),
    ({"flip": 1}, "flip must be True or False, got 1"),
    ({"erasing": 2}, "erasing is a probability and must be a number from 0 to 1, got 2"),
    ({"policy": "auto"}, "policy must be None, 'trivial' or 'rand', got 'auto'")])
def test_changes_that_there_are_not_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Augment(**options)
