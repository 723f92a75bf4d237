"""Street scenes drawn by a program: image and label map together, for segmentation without a download.

A pinhole camera looks along a road. The ground and the walls beside it follow from perspective; cars, people,
trees and poles stand on the ground and hide what is behind them. Lengths are in metres: x to the right of
the camera, z ahead of it, heights above the ground.
"""
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy import ndarray

CLASSES = ("sky", "building", "road", "pavement", "tree", "pole", "car", "person")
SKY, BUILDING, ROAD, PAVEMENT, TREE, POLE, CAR, PERSON = range(len(CLASSES))
FARTHEST = 90.0  # objects and walls end here, m


@dataclass(frozen=True)
class Camera:
    """A point x, z on the ground is at column `centre` + `focal` * x / z and row `horizon` + `focal` * `above` / z."""
    height: int     # of the image, pixels
    width: int
    horizon: float  # row
    centre: float   # column of the vanishing point
    focal: float    # pixels
    above: float    # of the lens above the ground, m

    def column(self, x: float, z: float) -> float:
        return self.centre + self.focal * x / z

    def row(self, height: float, z: float) -> float:
        """Of a point at `height` above the ground."""
        return self.horizon + self.focal * (self.above - height) / z


class Thing(NamedTuple):
    """An object that stands on the ground at (x, z), with its label and its box in pixels (may leave the image)."""
    label: int
    x: float
    z: float
    left: float
    top: float
    right: float
    bottom: float


class Scene(NamedTuple):
    """`image` (3, height, width) float32 in [0, 1], `labels` (height, width) uint8, and what was drawn, far to near."""
    image: ndarray
    labels: ndarray
    camera: Camera
    things: tuple[Thing, ...]


def draw_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """One scene of `height` x `width` pixels (16 x 16 at least), decided by `rng` alone."""
    horizon = height * rng.uniform(0.36, 0.48)
    above = rng.uniform(1.4, 1.9)
    camera = Camera(height, width, horizon, width * rng.uniform(0.35, 0.65),
                    focal=rng.uniform(3.6, 4.6) * (height - horizon) / above, above=above)
    road = -rng.uniform(2.0, 4.5), rng.uniform(2.0, 4.5)  # its edges
    walls = road[0] - rng.uniform(2.0, 5.0), road[1] + rng.uniform(2.0, 5.0)
    light = rng.uniform(0.45, 1.1)
    haze = np.float32([[[0.75]], [[0.8]], [[0.88]]]) * rng.uniform(0.85, 1.1, (3, 1, 1)).astype(np.float32)
    image, labels, depth = _surroundings(rng, camera, road, walls, haze)
    things = _stand(rng, camera, road, walls)
    for thing in things:
        _PAINTERS[thing.label](rng, image, labels, depth, thing)
    clear = np.exp(depth * (-1 / rng.uniform(40, 400)))  # Beer-Lambert: with distance the air adds its own light
    image -= haze
    image *= clear
    image += haze
    image *= light
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0.01, 0.06))
    return Scene(np.clip(image, 0, 1, out=image), labels, camera, tuple(things))


def _surroundings(rng: np.random.Generator, camera: Camera, road: tuple[float, float], walls: tuple[float, float],
                  haze: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Sky, ground and rows of houses: colours, labels and depth of every pixel."""
    rows = np.arange(camera.height, dtype=np.float32)[:, None] + 0.5
    columns = np.arange(camera.width, dtype=np.float32)[None, :] + 0.5
    across = (columns - camera.centre) / camera.focal  # x / z
    left = across < 0
    wall = np.where(left, walls[0] / np.minimum(across, -1e-4), walls[1] / np.maximum(across, 1e-4))  # its z
    wall = wall.astype(np.float32)
    below = np.maximum(rows - camera.horizon, 1e-3)
    ground = np.where(rows > camera.horizon, camera.focal * camera.above / below, 1e6).astype(np.float32)  # its z

    is_ground = (ground < wall) & (ground < 1e6)
    x = across * ground
    on_road = (x > road[0]) & (x < road[1])
    marks = (np.abs(x - sum(road) / 2) < 0.12) & (ground % 6 < 3)
    slabs = np.where(ground % 1.2 < 0.12, 0.8, 1.0).astype(np.float32) * np.float32(rng.uniform(0.4, 0.65))
    tone = np.where(on_road, np.where(marks, np.float32(0.85), np.float32(rng.uniform(0.22, 0.42))), slabs)

    ends = rng.uniform(6.0, 16.0, (2, 24)).cumsum(1)  # where one house ends and the next begins, m ahead
    roofs = rng.uniform(3.0, 14.0, (2, 25)).astype(np.float32)
    paint = rng.uniform(0.25, 0.85, (2, 25, 3)).astype(np.float32)
    house = np.where(left, np.searchsorted(ends[0], wall), np.searchsorted(ends[1], wall))
    side = np.where(left, 0, 1)
    up = np.float32(camera.above) - (rows - np.float32(camera.horizon)) * (wall / np.float32(camera.focal))
    is_wall = ~is_ground & (up < roofs[side, house]) & (wall < FARTHEST)
    storey = up - 3 * np.floor(up / 3)
    window = (wall % 2.4 < 1.1) & (storey > 1.1) & (storey < 2.4)
    shade = np.where(window, np.float32(0.45), np.float32(1.0)) * np.where(left, np.float32(1.0), np.float32(0.8))

    rise = np.clip(rows / np.float32(camera.horizon), 0, 1)
    blue = np.float32([0.45, 0.62, 0.9]) * np.float32(rng.uniform(0.8, 1.1))
    image = np.empty((3, camera.height, camera.width), np.float32)
    for channel, warm in enumerate(np.float32([1.0, 0.98, 0.95])):
        sky = blue[channel] * (1 - rise) + haze[channel] * rise
        houses = paint[side, house, channel] * shade
        image[channel] = np.where(is_ground, tone * warm, np.where(is_wall, houses, sky))
    labels = np.where(is_ground, np.where(on_road, np.uint8(ROAD), np.uint8(PAVEMENT)),
                      np.where(is_wall, np.uint8(BUILDING), np.uint8(SKY)))
    depth = np.where(is_ground, ground, np.where(is_wall, wall, np.float32(4 * FARTHEST)))
    return image, labels, depth


def _stand(rng: np.random.Generator, camera: Camera, road: tuple[float, float],
           walls: tuple[float, float]) -> list[Thing]:
    """Objects at places where such things are, farthest first; those too small to see are left out."""
    things = []

    def place(label: int, x: float, z: float, wide: float, high: float) -> None:
        left, right = camera.column(x - wide / 2, z), camera.column(x + wide / 2, z)
        top, bottom = camera.row(high, z), camera.row(0, z)
        if bottom - top >= 3 and right > 0 and left < camera.width:
            things.append(Thing(label, x, z, left, top, right, bottom))

    def beside(least: float = 0.3) -> float:
        """Somewhere on a pavement, `least` from its edges."""
        side = rng.integers(2)
        inner, outer = (road[0], walls[0]) if side == 0 else (road[1], walls[1])
        margin = least / abs(outer - inner)
        return inner + (outer - inner) * rng.uniform(margin, 1 - margin)

    for _ in range(rng.integers(1, 6)):
        lane = rng.choice([0.27, 0.73]) * (road[1] - road[0]) + road[0]
        place(CAR, lane + rng.normal(0, 0.2), rng.uniform(7, 60), rng.uniform(1.6, 1.9), rng.uniform(1.35, 1.9))
    for _ in range(rng.integers(1, 7)):
        x = rng.uniform(*road) if rng.random() < 0.25 else beside()
        place(PERSON, x, rng.uniform(5, 35), rng.uniform(0.45, 0.7), rng.uniform(1.2, 1.95))
    for _ in range(rng.integers(0, 6)):
        high = rng.uniform(3.0, 8.0)
        place(TREE, beside(0.8), rng.uniform(7, 60), high * rng.uniform(0.45, 0.7), high)
    for _ in range(rng.integers(1, 5)):
        place(POLE, beside(), rng.uniform(6, 45), rng.uniform(0.9, 1.5), rng.uniform(3.5, 6.5))
    return sorted(things, key=lambda thing: -thing.z)


def _window(thing: Thing, labels: ndarray) -> tuple[slice, slice, ndarray, ndarray] | None:
    """The part of the image under a box, and coordinates in it: across -1 to 1, up 0 (ground) to 1."""
    height, width = labels.shape
    top, bottom = max(int(thing.top), 0), min(int(np.ceil(thing.bottom)), height)
    left, right = max(int(thing.left), 0), min(int(np.ceil(thing.right)), width)
    if top >= bottom or left >= right:
        return None
    across = (np.arange(left, right, dtype=np.float32) + 0.5 - thing.left) / (thing.right - thing.left) * 2 - 1
    up = (thing.bottom - np.arange(top, bottom, dtype=np.float32) - 0.5) / (thing.bottom - thing.top)
    return slice(top, bottom), slice(left, right), across[None, :], up[:, None]


def _fill(image: ndarray, labels: ndarray, depth: ndarray, place: tuple[slice, slice], shape: ndarray, thing: Thing,
          colours: ndarray) -> None:
    """Paint the pixels where `shape` (h, w) is true with `colours` (3, h, w)."""
    image[:, *place][:, shape] = colours[:, shape]
    labels[place][shape] = thing.label
    depth[place][shape] = thing.z


def _plain(colour: ndarray | tuple[float, ...]) -> ndarray:
    """A colour, to be broadcast over (3, h, w)."""
    return np.asarray(colour, np.float32)[:, None, None]


def _car(rng: np.random.Generator, image: ndarray, labels: ndarray, depth: ndarray, thing: Thing) -> None:
    colour = rng.uniform(0.1, 0.95, 3).astype(np.float32)
    lit = rng.random() < 0.5
    found = _window(thing, labels)
    if found is None:
        return
    rows, columns, across, up = found
    wide = np.abs(across)
    body = (up > 0.12) & (up < 0.62) & (wide < 0.98)
    cabin = (up >= 0.62) & (wide < 0.98 - 0.7 * (up - 0.62))
    wheels = (up <= 0.2) & (wide > 0.62) & (wide < 0.95)
    screen = cabin & (wide < 0.8 - 0.7 * (up - 0.62)) & (up < 0.92)
    lamps = (up < 0.5) & (up > 0.36) & (wide > 0.66) & (wide < 0.92)
    paint = _plain(colour) * np.where(up < 0.26, np.float32(0.6), np.float32(1.0))
    paint = np.where(lamps, _plain((0.95, 0.2, 0.15) if lit else (1, 1, 0.85)), paint)
    paint = np.where(screen, _plain((0.12, 0.14, 0.17)), np.where(wheels, np.float32(0.06), paint))
    _fill(image, labels, depth, (rows, columns), body | cabin | wheels, thing, paint)


def _person(rng: np.random.Generator, image: ndarray, labels: ndarray, depth: ndarray, thing: Thing) -> None:
    shirt, trousers = rng.uniform(0.05, 0.95, (2, 3)).astype(np.float32)
    skin = np.array([0.85, 0.65, 0.52], np.float32) * rng.uniform(0.45, 1.05)
    stride = rng.uniform(0.1, 0.45)
    found = _window(thing, labels)
    if found is None:
        return
    rows, columns, across, up = found
    head = (across / 0.4) ** 2 + ((up - 0.92) / 0.08) ** 2 < 1
    torso = (up > 0.45) & (up < 0.85) & (np.abs(across) < 0.55 + 0.5 * (up - 0.45))
    leg = stride * (0.5 - up) / 0.5
    legs = (up <= 0.5) & ((np.abs(across - leg) < 0.26) | (np.abs(across + leg) < 0.26))
    paint = np.where(head, _plain(skin), np.where(torso, _plain(shirt), _plain(trousers)))
    _fill(image, labels, depth, (rows, columns), head | torso | legs, thing, paint)


def _tree(rng: np.random.Generator, image: ndarray, labels: ndarray, depth: ndarray, thing: Thing) -> None:
    leaves = np.array([0.2, 0.42, 0.14], np.float32) * rng.uniform(0.6, 1.5, 3).astype(np.float32)
    bumps = rng.uniform(0, 6.28, 3)
    found = _window(thing, labels)
    if found is None:
        return
    rows, columns, across, up = found
    angle = np.arctan2(up - 0.66, across * 0.34)
    edge = 1 + 0.12 * (np.sin(5 * angle + bumps[0]) + np.sin(9 * angle + bumps[1]) - 1)
    crown = (across**2 + ((up - 0.66) / 0.34) ** 2) < edge**2
    trunk = (np.abs(across) < 0.09) & (up < 0.5)
    shade = 0.75 + 0.25 * np.sin(23 * up + bumps[2]) * np.sin(17 * across + bumps[0])
    paint = np.where(crown, _plain(leaves) * shade, _plain((0.3, 0.22, 0.16)))
    _fill(image, labels, depth, (rows, columns), crown | trunk, thing, paint)


def _pole(rng: np.random.Generator, image: ndarray, labels: ndarray, depth: ndarray, thing: Thing) -> None:
    """A lamp post, or a post with a round sign; never thinner than a pixel."""
    colour = (rng.uniform(0.2, 0.55),) * 3
    sign = rng.random() < 0.5
    board = np.array([(0.85, 0.1, 0.1), (0.1, 0.2, 0.75)][rng.integers(2)], np.float32)
    found = _window(thing, labels)
    if found is None:
        return
    rows, columns, across, up = found
    half = max(0.08, 1.01 / (thing.right - thing.left))  # in units of `across`, half a pixel or more
    shaft = np.broadcast_to(np.abs(across) < half, (up.shape[0], across.shape[1])) & (up < 0.97)
    if sign:
        aspect = (thing.bottom - thing.top) / (thing.right - thing.left)
        top = (across / 0.6) ** 2 + ((up - 0.86) * 2 * aspect / 0.6) ** 2 < 1
    else:
        top = (up > 0.95) & (across > -half) & (across < 0.9)
    paint = np.where(top & sign, _plain(board), _plain(colour))
    _fill(image, labels, depth, (rows, columns), shaft | top, thing, paint)


_PAINTERS = {CAR: _car, PERSON: _person, TREE: _tree, POLE: _pole}
