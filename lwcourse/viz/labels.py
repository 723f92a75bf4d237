"""Numbers and names on figures: units, the sentences of alt texts, and labels that keep out of each other's way."""
from collections.abc import Iterable, Mapping, Sequence
from math import cos, log10, pi, sin

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from lwcourse.viz.theme import MUTED

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


def place_labels(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str], *,
                 size: float = 9) -> list[Annotation]:
    """Write each name beside its point (data coordinates), where it covers no other name and no point.

    Places are tried near to far, eight directions each; a far one gets a thin line to its point. When
    all are taken the one that overlaps least is used. The figure's layout is fixed by this call, so it
    comes last, when limits and other labels stand.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # only now are sizes in pixels known
    figure.set_layout_engine("none")
    pixel = figure.dpi / 72
    frame = axes.get_window_extent()
    centres = [tuple(axes.transData.transform(point)) for point in points]
    taken = [Bbox.from_bounds(x - 5 * pixel, y - 5 * pixel, 10 * pixel, 10 * pixel) for x, y in centres]
    placed = []
    # Crowded points choose first, while there is room near them.
    order = sorted(range(len(points)), key=lambda i: _nearest(centres, i))
    for i in order:
        note = axes.annotate(names[i], points[i], xytext=(0, 0), textcoords="offset points", fontsize=size,
                             ha="center", va="center", annotation_clip=False)
        box = note.get_window_extent()
        width, height = box.width, box.height
        obstacles = taken[:i] + taken[i + 1:]
        best, best_cost = None, float("inf")
        for rank, (dx, dy, far) in enumerate(_offsets(width, height, pixel)):
            x, y = centres[i][0] + dx, centres[i][1] + dy
            candidate = Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
            outside = width * height - _overlap(candidate, frame)
            cost = 4 * outside + sum(_overlap(candidate, other) for other in obstacles) + 0.01 * rank
            if cost < best_cost:
                best, best_cost = (dx, dy, far, candidate), cost
        dx, dy, far, candidate = best
        note.set_position((dx / pixel, dy / pixel))
        if far:
            axes.annotate("", points[i], xytext=(dx / pixel, dy / pixel), textcoords="offset points", zorder=1,
                          annotation_clip=False, arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.8,
                                                             "shrinkB": 3, "patchB": None})
        note.set_zorder(4)
        taken.append(candidate)
        placed.append((i, note))
    return [note for _, note in sorted(placed, key=lambda pair: pair[0])]


def _offsets(width: float, height: float, pixel: float):
    """Displacements of a label's centre from its point, in pixels, and whether it needs a line."""
    for gap in (7, 20, 34, 50):
        for angle in (0, pi, pi / 2, -pi / 2, pi / 4, -pi / 4, 3 * pi / 4, -3 * pi / 4):
            dx = cos(angle) * (gap * pixel + width / 2)
            dy = sin(angle) * (gap * pixel + height / 2)
            yield dx, dy, gap > 7


def _overlap(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _nearest(centres: Sequence[tuple[float, float]], i: int) -> float:
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
