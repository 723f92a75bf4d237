"""Numbers and names on figures: units, the sentences of alt texts, and labels that keep out of each other's way."""
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import cos, log10, pi, sin

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

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

    Points, and the corners of the line, whose pieces must be parallel to an axis, are in data
    coordinates. Places are tried near to far, eight directions each; a far one gets a thin line
    to its point. When all are taken the one that overlaps least is used. The figure's layout is
    fixed by this call, so it comes last, when limits and other labels stand.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # only now are sizes in pixels known
    figure.set_layout_engine("none")
    pixel = figure.dpi / 72
    frame = axes.get_window_extent()
    centres = [tuple(axes.transData.transform(point)) for point in points]
    corners = [tuple(axes.transData.transform(corner)) for corner in line]
    taken = [_around(centre, centre, 5 * pixel) for centre in centres]
    taken += [_around(*ends, 2 * pixel) for ends in pairwise(corners)]
    notes = {}
    for i in sorted(range(len(points)), key=lambda i: _nearest(centres, i)):  # where it is crowded, while there is room
        note = axes.annotate(names[i], points[i], xytext=(0, 0), textcoords="offset points", fontsize=size, zorder=4,
                             ha="center", va="center", annotation_clip=False,
                             path_effects=[withStroke(linewidth=3, foreground=CARD)])
        box = note.get_window_extent()
        places = [_Place(centres[i], box.width, box.height, gap * pixel, angle, gap > NEAR)
                  for gap in (NEAR, 16, 26, 38, 52) for angle in _ANGLES]
        others = taken[:i] + taken[i + 1:]
        place = min(places, key=lambda place: place.cost(others, frame))  # the first, that is nearest, of equals
        note.set_position((place.dx / pixel, place.dy / pixel))
        if place.is_far:
            axes.annotate("", points[i], xytext=(place.end[0] / pixel, place.end[1] / pixel), zorder=1.5,
                          textcoords="offset points", annotation_clip=False,
                          arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4})
        taken += [place.box, *place.leader]
        notes[i] = note
    return [notes[i] for i in range(len(points))]


NEAR = 7  # points between a dot and a label that needs no line
_ANGLES = (0, pi, pi / 2, -pi / 2, pi / 4, -pi / 4, 3 * pi / 4, -3 * pi / 4)


class _Place:
    """One place for a label, in pixels: its box, the end of the line to its point, and small boxes along that line."""

    def __init__(self, centre: Point, width: float, height: float, gap: float, angle: float, is_far: bool):
        self.dx, self.dy, self.is_far = cos(angle) * (gap + width / 2), sin(angle) * (gap + height / 2), is_far
        x, y = centre
        self.box = Bbox.from_bounds(x + self.dx - width / 2, y + self.dy - height / 2, width, height)
        self.end = (min(max(x, self.box.x0), self.box.x1) - x, min(max(y, self.box.y0), self.box.y1) - y)
        along = [(x + t / 20 * self.end[0], y + t / 20 * self.end[1]) for t in range(2, 20)] if is_far else []
        self.leader = [_around(spot, spot, 1) for spot in along]

    def cost(self, taken: Sequence[Bbox], frame: Bbox) -> float:
        """Square pixels that overlap with what is there, dearer outside of the frame."""
        outside = self.box.width * self.box.height - _overlap(self.box, frame)
        crossed = sum(_overlap(spot, other) for spot in self.leader for other in taken)
        return 4 * outside + sum(_overlap(self.box, other) for other in taken) + 10 * crossed


def _around(a: Point, b: Point, margin: float) -> Bbox:
    return Bbox([[min(a[0], b[0]) - margin, min(a[1], b[1]) - margin],
                 [max(a[0], b[0]) + margin, max(a[1], b[1]) + margin]])


def _overlap(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _nearest(centres: Sequence[Point], i: int) -> float:
    x, y = centres[i]
    return min(((x - u) ** 2 + (y - v) ** 2 for j, (u, v) in enumerate(centres) if j != i), default=0.0)


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
