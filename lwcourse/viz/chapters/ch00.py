"""Pictures of chapter 00: what a trained network says of photographs."""
from collections.abc import Mapping, Sequence
from math import ceil

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from lwcourse.viz.labels import listed, require_entries
from lwcourse.viz.maps import _pixels, _show
from lwcourse.viz.theme import CARD, INK, MUTED, PALETTE, Figure, headline, new_figure, themed, tint

__all__ = ["best_classes"]

COLUMNS = 4


@themed
def best_classes(photos: Mapping[str, Tensor], probabilities: Tensor, classes: Sequence[str], *, seen: float = 1.0,
                 count: int = 3, title: str | None = None) -> Figure:
    """Photographs, and below each its `count` most probable classes as bars, of which a full one is 100 %.

    `photos` maps a name to an image as for `image`, `probabilities` is (photographs, classes), and `classes` has the
    names of the columns. The network sees the square at the centre whose side is `seen` of the shorter side; what lies
    outside of it is paled. Raises ValueError for another number of rows or columns, rows that are no probabilities,
    and a `seen` or `count` out of range.
    """
    require_entries(photos, "image")
    shares = probabilities.detach().cpu().double()
    if shares.shape != (len(photos), len(classes)):
        raise ValueError(f"probabilities must be (photographs, classes), {(len(photos), len(classes))}, "
                         f"got {tuple(shares.shape)}")
    if not (shares.min() >= 0 and torch.allclose(shares.sum(1), torch.ones(len(shares)).double(), atol=1e-3)):
        raise ValueError("the probabilities of a photograph must not be negative, and sum to 1; a softmax over the "
                         "classes gives such ones")
    if not (0 < seen <= 1 and 1 <= count <= len(classes)):
        raise ValueError(f"seen must be above 0 and at most 1, count from 1 to {len(classes)}; got {seen}, {count}")
    values, places = shares.topk(count)
    best = [[(classes[place], share) for place, share in zip(*row, strict=True)]
            for row in zip(places.tolist(), values.tolist(), strict=True)]
    said = [f"{name}: " + ", ".join(f"{label} {share:.0%}" for label, share in row)
            for name, row in zip(photos, best, strict=True)]
    columns = min(COLUMNS, len(photos))
    rows = ceil(len(photos) / columns)
    figure, axes = new_figure(2.2 * columns, rows * (1.85 + 0.25 * count) + 0.3 * bool(title), rows=2 * rows,
                              columns=columns, height_ratios=rows * [1.6, 0.25 * count],
                              alt=f"{title or 'Photographs'}, and the most probable classes of each. "
                                  f"{listed(said, most=12)}.")
    figure.has_photographs = True
    figure.get_layout_engine().set(h_pad=0.04, w_pad=0.04, hspace=0.02, wspace=0.02)
    axes = axes.reshape(2 * rows, columns)
    for panel in axes.flat:
        panel.set_axis_off()
    for i, (name, photo) in enumerate(photos.items()):
        row, column = divmod(i, columns)
        picture, bars = axes[2 * row, column], axes[2 * row + 1, column]
        pixels = _pixels(photo)
        _show(picture, pixels, name)
        _pale_outside(picture, *pixels.shape[:2], seen)
        _bars(bars, best[i])
    headline(figure, title)
    return figure


def _pale_outside(axes: Axes, height: int, width: int, seen: float) -> None:
    """A veil over what lies outside of the central square, and a line around that."""
    side = seen * min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    for x, y, wide, high in ((0, 0, width, top), (0, top + side, width, top), (0, top, left, side),
                             (left + side, top, left, side)):
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), wide, high, facecolor=CARD, alpha=0.6, linewidth=0))
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=INK, linewidth=1))


def _bars(axes: Axes, best: Sequence[tuple[str, float]]) -> None:
    for row, (label, share) in enumerate(best):
        axes.add_patch(Rectangle((0, row + 0.06), 1, 0.88, facecolor=tint(MUTED, 0.08), linewidth=0))
        axes.add_patch(Rectangle((0, row + 0.06), share, 0.88, facecolor=tint(PALETTE["sky"], 0.7), linewidth=0))
        axes.text(0.02, row + 0.5, label, va="center", fontsize=9)
        axes.text(0.98, row + 0.5, f"{share:.0%}", va="center", ha="right", fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(best), 0))
