"""Drawn street scenes: their labels against their own geometry, and that a seed decides them."""
import numpy as np
import pytest
import torch

from lwcourse.data import load_data
from lwcourse.data import streets as drawing
from lwcourse.data.streets import BUILDING, CAR, CLASSES, PAVEMENT, PERSON, POLE, ROAD, SKY, TREE, draw_scene


def scene(index: int, height: int = 96, width: int = 160) -> drawing.Scene:
    return draw_scene(np.random.default_rng([7, index]), height, width)


def inside(thing, shape) -> np.ndarray:
    """The pixels that the box of a thing touches."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return ((rows >= int(thing.top)) & (rows < np.ceil(thing.bottom)) &
            (columns >= int(thing.left)) & (columns < np.ceil(thing.right)))


@pytest.mark.parametrize("index", range(12))
def test_pixels_of_a_thing_lie_in_the_box_of_one(index):
    _, labels, _, things = scene(index)
    for label in (CAR, PERSON, TREE, POLE):
        boxes = [inside(thing, labels.shape) for thing in things if thing.label == label]
        everywhere = np.logical_or.reduce(boxes) if boxes else np.zeros(labels.shape, bool)
        assert not (labels == label)[~everywhere].any(), CLASSES[label]


@pytest.mark.parametrize("index", range(12))
def test_the_nearest_thing_hides_what_is_behind_it(index):
    _, labels, camera, things = scene(index)
    assert [thing.z for thing in things] == sorted((thing.z for thing in things), reverse=True)
    nearest = things[-1]
    box = inside(nearest, labels.shape)
    assert (labels[box] == nearest.label).any() or box.sum() < 4
    for thing in things:  # perspective: what stands on the ground ends where the ground is that far away
        assert thing.bottom == pytest.approx(camera.horizon + camera.focal * camera.above / thing.z)
        middle = (thing.left + thing.right) / 2
        assert middle == pytest.approx(camera.centre + camera.focal * thing.x / thing.z)


@pytest.mark.parametrize("index", range(12))
def test_without_things_the_ground_follows_from_perspective(index, monkeypatch):
    monkeypatch.setattr(drawing, "_stand", lambda *_: [])
    edges = []
    before = drawing._surroundings
    monkeypatch.setattr(drawing, "_surroundings", lambda rng, camera, road, walls, haze: (
        edges.append((road, walls)), before(rng, camera, road, walls, haze))[1])
    image, labels, camera, things = scene(index)
    (road, walls), = edges
    assert things == () and set(np.unique(labels)) <= {SKY, BUILDING, ROAD, PAVEMENT}
    for row in range(labels.shape[0]):
        if row + 0.5 <= camera.horizon:
            assert not np.isin(labels[row], (ROAD, PAVEMENT)).any()
            continue
        z = camera.focal * camera.above / (row + 0.5 - camera.horizon)
        assert not (labels[row] == SKY).any() or z > drawing.FARTHEST
        for column in range(0, labels.shape[1], 7):
            x = (column + 0.5 - camera.centre) * z / camera.focal
            expected = ROAD if road[0] < x < road[1] else PAVEMENT if walls[0] < x < walls[1] else BUILDING
            if z < drawing.FARTHEST and min(abs(x - edge) for edge in (*road, *walls)) > 0.01:
                assert labels[row, column] == expected


def test_scenes_are_images_and_labels():
    image, labels, _, _ = scene(0)
    assert image.shape == (3, 96, 160) and image.dtype == np.float32 and 0 <= image.min() < image.max() <= 1
    assert labels.shape == (96, 160) and labels.dtype == np.uint8


def test_things_are_seen_in_the_image():
    """Where there is a car the picture differs from the same street without one."""
    image, labels, _, things = scene(3)
    assert {thing.label for thing in things} >= {CAR, PERSON}
    colours = image.transpose(1, 2, 0)
    assert np.abs(colours[labels == CAR].mean(0) - colours[labels == ROAD].mean(0)).max() > 0.02


def test_the_seed_decides_and_larger_sets_begin_alike():
    few, more = (load_data("scenes", train_images=n, test_images=2, image_size=(32, 64), seed=5) for n in (3, 6))
    for i in range(3):
        assert torch.allclose(few.pixels(few.train[i][0]), more.pixels(more.train[i][0]), atol=1e-5)
        assert torch.equal(few.train[i][1], more.train[i][1])
    other = load_data("scenes", train_images=3, test_images=2, image_size=(32, 64), seed=6)
    assert not torch.equal(few.train[0][1], other.train[0][1])
    assert not torch.equal(few.train[0][1], few.test[0][1]), "training and test scenes are others"


def test_scenes_are_data_with_label_maps():
    data = load_data("scenes", train_images=40, test_images=4, image_size=(48, 80))
    images, labels = data.train.tensors
    assert data.dense and data.classes == CLASSES and data.image_shape == (3, 48, 80)
    assert images.shape == (40, 3, 48, 80) and labels.shape == (40, 48, 80) and labels.dtype == torch.long
    assert images.mean().abs() < 1e-4 and images.std(dim=(0, 2, 3)).sub(1).abs().max() < 1e-3
    shares = torch.bincount(labels.flatten(), minlength=len(CLASSES)) / labels.numel()
    assert shares.min() > 0 and shares.max() / shares.min() > 20, "classes are unequal, as in a street"


@pytest.mark.parametrize(("options", "says"), [
    ({"train_images": 0}, "train_images must be a whole number of at least 1, got 0"),
    ({"test_images": 1.5}, "test_images must be .* got 1.5"),
    ({"image_size": 128}, r"image_size must be \(height, width\), such as \(128, 256\), got 128"),
    ({"image_size": (8, 64)}, "the height in image_size must be a whole number from 16 to 4096, got 8"),
    ({"seed": -1}, "seed must be .* got -1"),
])
def test_bad_options_of_scenes(options, says):
    with pytest.raises(ValueError, match=says):
        load_data("scenes", **options)
