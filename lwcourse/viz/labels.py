"""Numbers and names on figures: units, the sentences of alt texts, and labels that keep out of each other's way."""
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import cos, log10, pi, sin

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lwcourse.viz.theme import CARD, MUTED

Point = tuple[float, float]

_COUNTS = ((1, "", ""), (1e3, "k", "thousands"), (1e6, "M", "millions"), (1e9, "G", "billions"))
_BYTES = ((1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"))


def short_count(count: float) -> str:
    """Three significant digits: 3504872 -> '3.5 M', 300774272 -> '301 M', 27 -> '27'."""
    for scale, letter, _ in reversed(_COUNTS):
        if abs(count) >= 0.9995 * scale or scale == 1:
            number = f"{count / scale:.3g}"
            return f"{number} {letter}".rstrip()
    raise AssertionError("unreachable: the last scale takes every count")


def count_unit(values: Iterable[float]) -> tuple[float, str]:
    """The divisor that keeps the largest of `values` below 1000, and its name: (1e6, 'millions')."""
    largest = max((abs(value) for value in values), default=0)
    scale, _, name = max((unit for unit in _COUNTS if unit[0] <= max(largest, 1)), key=lambda unit: unit[0])
    return scale, name


def byte_unit(values: Iterable[float]) -> tuple[float, str]:
    """As `count_unit`, for bytes: (1048576, 'MiB')."""
    largest = max((abs(value) for value in values), default=0)
    return max(unit for unit in _BYTES if unit[0] <= max(largest, 1))


def listed(items: Sequence[str], most: int = 8, separator: str = "; ") -> str:
    """The first `most` items in words, and how many more there are: alt texts must end somewhere."""
    shown = separator.join(items[:most])
    return f"{shown}{separator}and {len(items) - most} more" if len(items) > most else shown


def require_entries(mapping: Mapping, what: str) -> None:
    """Raise TypeError unless `mapping` is a mapping, ValueError when it is empty."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"expected a dict from name to {what}, got {type(mapping).__name__}")
    if not mapping:
        raise ValueError(f"nothing to draw: the dict from name to {what} is empty")


def place_labels(axes: Axes, points: Sequence[Point], names: Sequence[str], *, line: Sequence[Point] = (),
                 size: float = 9) -> list[Annotation]:
    """Write each name beside its point, where it covers no other name, no point and not the `line`.

    Points, and the corners of the line, are in data coordinates. Places are tried near to far,
    in all directions; a far one gets a thin line to its point. When all are taken the one that
    overlaps least is used. The figure's layout is fixed by this call, so it comes last, when limits
    and other labels stand.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # only now are sizes in pixels known
    figure.set_layout_engine("none")
    pixel = figure.dpi / 72
    frame = np.array(axes.get_window_extent().extents)
    centres = [axes.transData.transform(point) for point in points]
    corners = [axes.transData.transform(corner) for corner in line]
    taken = [_box(centre, 10 * pixel, 10 * pixel) for centre in centres]
    taken += [_box(spot, 3 * pixel, 3 * pixel) for ends in pairwise(corners) for spot in _along(*ends, 5 * pixel)]
    notes = {}
    for i in sorted(range(len(points)), key=lambda i: _nearest(centres, i)):  # where it is crowded, while there is room
        note = axes.annotate(names[i], points[i], xytext=(0, 0), textcoords="offset points", fontsize=size, zorder=4,
                             ha="center", va="center", annotation_clip=False,
                             path_effects=[withStroke(linewidth=3, foreground=CARD)])
        box = note.get_window_extent()
        places = [_Place(centres[i], box.width, box.height, gap * pixel, angle, gap > NEAR)
                  for gap in (NEAR, 16, 26, 38, 52, 68, 86) for angle in _ANGLES]
        others = np.array(taken[:i] + taken[i + 1:]).reshape(-1, 4)
        place = min(places, key=lambda place: place.cost(others, frame))  # the first, that is nearest, of equals
        note.set_position(place.offset / pixel)
        if place.is_far:
            axes.annotate("", points[i], xytext=place.end / pixel, zorder=1.5, textcoords="offset points",
                          annotation_clip=False,
                          arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4})
        taken += [place.box, *place.leader]
        notes[i] = note
    return [notes[i] for i in range(len(points))]


NEAR = 7  # points between a dot and a label that needs no line
_ANGLES = tuple(pi / 12 * k for k in (  # the four sides first, then the corners, then between
    0, 12, 6, -6, 3, -3, 9, -9, 1, -1, 2, -2, 4, -4, 5, -5, 7, -7, 8, -8, 10, -10, 11, -11))


class _Place:
    """One place for a label, in pixels: its box, the end of the line to its point, and small boxes along that line."""

    def __init__(self, centre: np.ndarray, width: float, height: float, gap: float, angle: float, is_far: bool):
        self.is_far = is_far
        self.offset = np.array([cos(angle) * (gap + width / 2), sin(angle) * (gap + height / 2)])
        self.box = _box(centre + self.offset, width, height)
        self.end = np.clip(centre, self.box[:2], self.box[2:]) - centre
        self.leader = [_box(spot, 2, 2) for spot in _along(centre + 0.1 * self.end, centre + 0.95 * self.end, 4)
                       ] if is_far else []

    def cost(self, taken: np.ndarray, frame: np.ndarray) -> float:
        """Square pixels that overlap with what is there, dearer outside of the frame."""
        boxes = self.box[None]
        outside = np.prod(self.box[2:] - self.box[:2]) - _overlap(boxes, frame[None])
        crossed = _overlap(np.array(self.leader), taken) if self.leader else 0.0
        return 4 * outside + _overlap(boxes, taken) + 10 * crossed


def _box(centre: np.ndarray, width: float, height: float) -> np.ndarray:
    """(x0, y0, x1, y1)"""
    half = np.array([width / 2, height / 2])
    return np.concatenate([centre - half, centre + half])


def _along(a: np.ndarray, b: np.ndarray, step: float) -> np.ndarray:
    """Points from a to b, about `step` apart: (n, 2)."""
    return np.linspace(a, b, max(2, int(np.hypot(*(b - a)) / step)))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The area that boxes (n, 4) and (m, 4) share, summed over pairs."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return float(sides.clip(0).prod(-1).sum())


def _nearest(centres: Sequence[np.ndarray], i: int) -> float:
    return min((float(np.hypot(*(centres[i] - other))) for j, other in enumerate(centres) if j != i), default=0.0)


def log_limits(values: Iterable[float], margin: float = 1.6) -> tuple[float, float]:
    """Limits of a logarithmic axis that hold `values` with room, at least one decade apart."""
    values = list(values)
    low, high = min(values) / margin, max(values) * margin
    missing = 1 - log10(high / low)
    if missing > 0:
        low, high = low / 10 ** (missing / 2), high * 10 ** (missing / 2)
    return low, high


def log_axis(axis: Axis, low: float, high: float) -> None:
    """Make `axis` logarithmic from `low` to `high`, with plain numbers, and 2 and 5 among them where there is room."""
    name = axis.axis_name
    axis.axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_above(figure: MatplotlibFigure, handles: Sequence[Line2D], title: str | None = None) -> None:
    """A legend over the axes, read row by row, in as many columns as fit; `title` stands over it, in bold."""
    labels = [str(handle.get_label()) for handle in handles]
    room = figure.get_figwidth() / 0.075 - 2  # characters of 9 points
    columns = len(handles)
    while columns > 1 and sum(max(map(len, labels[c::columns])) + 6 for c in range(columns)) > room:
        columns -= 1
    by_rows = [handle for c in range(columns) for handle in handles[c::columns]]  # matplotlib goes down the columns
    figure.legend(handles=by_rows, loc="outside upper left", ncols=columns, handletextpad=0.5, columnspacing=1.4,
                  title=title, alignment="left", title_fontproperties={"size": 11, "weight": "bold"})
