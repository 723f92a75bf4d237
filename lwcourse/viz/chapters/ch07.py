"""Pictures of chapter 07: what dilation makes of one pixel; label maps, IoU by class and frame rates."""
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter
from torch import Tensor, nn

from lwcourse.train import Evaluation, History
from lwcourse.viz.labels import legend_above, listed, require_entries
from lwcourse.viz.maps import _pixels
from lwcourse.viz.theme import CYCLE, MUTED, PALETTE, Figure, headline, new_figure, themed

__all__ = ["class_iou", "frame_rates", "iou_curves", "label_maps", "pixel_response", "pixel_responses"]


MOST_MAPS = 60


def pixel_response(module: nn.Module, in_channels: int, *, size: int = 41, ones: bool = False) -> Tensor:
    """How much each output pixel changes when the centre pixel is lit in every channel: (C, H, W), in eval mode.

    With `ones` every weight of a convolution is set to 1 first, so that the numbers count how often the pixel is
    read. Works on a copy in float64. Raises ValueError when the output is no feature map or `size` is below 1.
    """
    if in_channels < 1 or size < 1:
        raise ValueError(f"in_channels and size must be at least 1, got {in_channels} and {size}")
    module = deepcopy(module).to("cpu", torch.float64).eval()
    if ones:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.ones_(layer.weight)
    x = torch.zeros(2, in_channels, size, size, dtype=torch.float64)
    x[1, :, size // 2, size // 2] = 1
    with torch.no_grad():
        y = module(x)
    if not isinstance(y, Tensor) or y.ndim != 4:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"the output must be a feature map (N, C, H, W), got {got}")
    return (y[1] - y[0]).abs()


def field_side(response: Tensor) -> int:
    """Side in pixels of the smallest square around the centre that holds every pixel of (H, W) that is not zero."""
    rows, columns = response.nonzero(as_tuple=True)
    if not len(rows):
        return 0
    middle = torch.tensor([response.shape[0] // 2, response.shape[1] // 2])
    return 2 * int((torch.stack([rows, columns], dim=1) - middle).abs().max()) + 1


@themed
def pixel_responses(rows: Mapping[str, Tensor], columns: Sequence[str], *, title: str | None = None) -> Figure:
    """Responses to one pixel as a grid of pictures: a row a name, a column a map, with what is reached of each field.

    `rows` maps a name to (maps, H, W), as `pixel_response` gives it; `columns` names the maps. Each map has its own
    brightness. Raises ValueError for no row, another number of maps, or a negative value.
    """
    require_entries(rows, "tensor (maps, H, W)")
    if not 1 <= len(columns) * len(rows) <= MOST_MAPS:
        raise ValueError(f"there must be 1 to {MOST_MAPS} maps to draw, got {len(columns) * len(rows)}")
    for name, maps in rows.items():
        if maps.ndim != 3 or len(maps) != len(columns):
            raise ValueError(f"{name!r} must have {len(columns)} maps (maps, H, W), got shape {tuple(maps.shape)}")
        if maps.min() < 0:
            raise ValueError(f"responses cannot be negative, but those of {name!r} reach {maps.min():.3g}")
    side = 8.0 / max(len(columns), 3)
    figure, axes = new_figure(side * len(columns) + 0.5, (side + 0.42) * len(rows) + 0.25 + 0.3 * bool(title),
                              alt="responses", rows=len(rows), columns=len(columns))
    panels = np.asarray(axes).reshape(len(rows), len(columns))
    sentences = []
    for row, (name, maps) in enumerate(rows.items()):
        words = []
        for column, (label, response) in enumerate(zip(columns, maps, strict=True)):
            panel = panels[row, column]
            reached, field = int((response > 0).sum()), field_side(response)
            shown = response / response.max() if response.max() > 0 else response
            panel.imshow(shown.sqrt().numpy(), vmin=0, vmax=1)
            panel.grid(visible=False)
            panel.set(xticks=[], yticks=[])
            panel.set_title(label if row == 0 else "", fontsize=10, loc="center")
            panel.set_xlabel(f"{reached} of {field} × {field}", fontsize=9)
            if column == 0:
                panel.set_ylabel(name, fontsize=10, fontweight="bold")
            words.append(f"{label} {reached} of {field} × {field}")
        sentences.append(f"{name}: {listed(words, most=6, separator=', ')}")
    figure.alt = f"Responses to one bright pixel, pixels reached within the field. {'; '.join(sentences)}."
    headline(figure, title)
    return figure


LABEL_COLOURS = tuple(PALETTE[name] for name in ("sky", "purple", "black", "yellow", "green", "orange", "blue",
                                                 "vermillion"))
MARKERS = ("o", "s", "^", "D", "v", "P")


@themed
def label_maps(images: Tensor, labels: Mapping[str, Tensor], classes: Sequence[str], *,
               title: str | None = None) -> Figure:
    """Images in the first column, then a column for each name in `labels`: maps (N, H, W) of whole numbers.

    `images` is (N, 3, H, W) with pixels from 0 to 1; `classes` names the labels from 0 on, eight at most, since no
    more colours can be told apart by everyone. A label outside of them, as one to be ignored, stays white.
    Raises ValueError for other shapes or more classes.
    """
    require_entries(labels, "tensor (N, H, W)")
    if not 1 <= len(classes) <= len(LABEL_COLOURS):
        raise ValueError(f"label_maps has colours for 1 to {len(LABEL_COLOURS)} classes, got {len(classes)}")
    for name, maps in labels.items():
        if maps.shape != (len(images), *images.shape[2:]):
            raise ValueError(f"the maps of {name!r} must be {(len(images), *images.shape[2:])}, got "
                             f"{tuple(maps.shape)}")
    columns = ["image", *labels]
    height, width = images.shape[2:]
    wide = 8.0 / len(columns)
    figure, axes = new_figure(8.2, len(images) * (wide * height / width + 0.06) + 0.75 + 0.3 * bool(title),
                              alt="label maps", rows=len(images), columns=len(columns))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    panels = np.asarray(axes).reshape(len(images), len(columns))
    colours = ListedColormap(LABEL_COLOURS[:len(classes)])
    for row, picture in enumerate(images):
        panels[row, 0].imshow(_pixels(picture))
        for column, maps in enumerate(labels.values(), start=1):
            found = maps[row].cpu().numpy()
            panels[row, column].imshow(np.ma.masked_outside(found, 0, len(classes) - 1), cmap=colours, vmin=-0.5,
                                       vmax=len(classes) - 0.5)
    for column, name in enumerate(columns):
        panels[0, column].set_title(name, fontsize=10, loc="center")
    for panel in panels.flat:
        panel.set_axis_off()
    figure.legend(handles=[Patch(color=colour, label=name)
                           for name, colour in zip(classes, LABEL_COLOURS, strict=False)],
                  loc="outside lower center", ncols=min(len(classes), 8), handlelength=1, columnspacing=1.2)
    shares = []
    names = list(labels)
    for name in names[1:]:
        share = float((labels[name] == labels[names[0]]).float().mean())
        shares.append(f"{name} agrees with {names[0]} on {share:.0%} of the pixels")
    figure.alt = (f"{len(images)} images of {width} × {height} pixels beside label maps: {', '.join(names)}."
                  + f" {listed(shares)}." * bool(shares))
    headline(figure, title)
    return figure


@themed
def class_iou(results: Mapping[str, Sequence[Evaluation] | Evaluation], *, title: str | None = None) -> Figure:
    """IoU of each class, frequent classes on top: the mean over seeds as a bar, one dot per seed.

    `results` maps a name to what `lw.evaluate` returns, or to a list of these, one a seed; all of the same classes.
    A class that neither occurs nor is predicted has no bar. Raises ValueError when there is nothing to draw or the
    classes differ.
    """
    require_entries(results, "list of Evaluation")
    runs = {name: [entry] if isinstance(entry, Evaluation) else list(entry) for name, entry in results.items()}
    if not all(runs.values()):
        raise ValueError("every name needs one Evaluation at least")
    first = next(iter(runs.values()))[0]
    if any(entry.classes != first.classes for entries in runs.values() for entry in entries):
        raise ValueError("all results must be of the same classes")
    share = (first.confusion.sum(1) / first.confusion.sum()).numpy()
    order = np.argsort(-share, kind="stable")
    high = 0.8 / len(runs)
    figure, axes = new_figure(7.8, 1.2 + 0.42 * len(order) * max(1, len(runs) / 2) + 0.3 * bool(title), alt="IoU")
    sentences = []
    for i, (name, entries) in enumerate(runs.items()):
        values = 100 * np.stack([entry.iou.numpy() for entry in entries])[:, order]
        rows = np.arange(len(order)) - 0.4 + (i + 0.5) * high
        means = values.mean(0)
        axes.barh(rows, np.nan_to_num(means), height=0.9 * high, color=CYCLE[i % len(CYCLE)], label=name, alpha=0.75)
        if len(entries) > 1:
            for numbers in values:
                axes.plot(numbers, rows, "o", color="black", markersize=3.5, zorder=3)
        for row, mean, end in zip(rows, means, np.nan_to_num(values.max(0)), strict=True):
            axes.annotate(f"{mean:.0f}", (end, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8,
                          color=MUTED)
        sentences.append(f"{name} " + ", ".join(f"{first.classes[k]} {mean:.0f}" for k, mean in zip(order, means,
                                                                                                 strict=True)))
    axes.set_yticks(range(len(order)), [f"{first.classes[k]}, {share[k]:.1%}" for k in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    dots = ", one dot per seed" if any(len(entries) > 1 for entries in runs.values()) else ""
    axes.set(xlabel=f"IoU (%){dots}", ylabel="class, share of the pixels")
    figure.alt = f"Bar chart of IoU by class in per cent: {listed(sentences)}."
    legend_above(figure, axes.get_legend_handles_labels()[0], title)
    return figure


@themed
def iou_curves(histories: Mapping[str, History | Sequence[History]], *, level: float | None = None,
               title: str | None = None) -> Figure:
    """Test loss and mean IoU by epoch, the mean over seeds and a band from lowest to highest.

    `level` is a share from 0 to 1 to be drawn as a dashed line, such as what always answering the most frequent
    class gives. Raises ValueError for no history, or one whose data have no label maps.
    """
    require_entries(histories, "list of History")
    runs = {name: [entry] if isinstance(entry, History) else list(entry) for name, entry in histories.items()}
    for name, entries in runs.items():
        if not entries or any(not one.epochs or one.final.test.get("mean_iou") is None for one in entries):
            raise ValueError(f"{name!r} has no history with a mean IoU; train on label maps, as those of 'scenes'")
    figure, panels = new_figure(7.8, 3.4, alt="curves", columns=2)
    sentences = []
    for i, (name, entries) in enumerate(runs.items()):
        length = min(len(one.epochs) for one in entries)
        for axes, quantity, factor in zip(panels, ("test_loss", "test_mean_iou"), (1, 100), strict=True):
            values = factor * np.array([[getattr(epoch, quantity) for epoch in one.epochs[:length]]
                                        for one in entries])
            axes.plot(range(1, length + 1), values.mean(0), color=CYCLE[i % len(CYCLE)], label=name,
                      marker=MARKERS[i % len(MARKERS)], markersize=4)
            axes.fill_between(range(1, length + 1), values.min(0), values.max(0), alpha=0.2, linewidth=0,
                              color=CYCLE[i % len(CYCLE)])
        sentences.append(f"{name} ends at {values[:, -1].mean():.1f} % mean IoU")
    handles = panels[1].get_legend_handles_labels()[0]
    if level is not None:
        panels[1].axhline(100 * level, color=MUTED, linestyle=(0, (3, 2)), linewidth=1.4)
        handles = [*handles, Line2D([], [], color=MUTED, linestyle=(0, (3, 2)), linewidth=1.4,
                                    label="the most frequent class everywhere")]
    panels[0].set(xlabel="epoch", ylabel="test loss (nats a pixel)")
    panels[1].set(xlabel="epoch", ylabel="test mean IoU (%)", ylim=(0, None))
    for axes in panels:
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.alt = f"Learning curves: {listed(sentences)}."
    legend_above(figure, handles, title)
    return figure


@themed
def frame_rates(seconds: Mapping[str, Mapping[tuple[int, int], float]], *, title: str | None = None) -> Figure:
    """Frames a second against pixels, both axes logarithmic: one line a network.

    `seconds` maps a name to {(height, width): seconds a frame}. A dashed line shows the slope of a time that grows
    with the number of pixels. Raises ValueError when there is nothing to draw or a time is not positive.
    """
    require_entries(seconds, "{(height, width): seconds}")
    if any(not times or min(times.values()) <= 0 for times in seconds.values()):
        raise ValueError("every network needs one time at least, and all must be positive")
    figure, axes = new_figure(7.8, 4.2, alt="frame rates")
    sizes = sorted({size for times in seconds.values() for size in times}, key=lambda size: size[0] * size[1])
    sentences = []
    for i, (name, times) in enumerate(seconds.items()):
        measured = [size for size in sizes if size in times]
        rates = [1 / times[size] for size in measured]
        axes.plot([h * w for h, w in measured], rates, marker=MARKERS[i % len(MARKERS)], color=CYCLE[i % len(CYCLE)],
                  label=name)
        sentences.append(f"{name} " + ", ".join(f"{rate:.3g} at {h} × {w}"
                                                for (h, w), rate in zip(measured, rates, strict=True)))
    rates = [1 / value for times in seconds.values() for value in times.values()]
    areas = np.array([sizes[0][0] * sizes[0][1], sizes[-1][0] * sizes[-1][1]], float)
    axes.plot(areas, 1.5 * max(rates) * areas[0] / areas, color=MUTED, linestyle=(0, (3, 2)), linewidth=1.4,
              label="as fast for every pixel")
    axes.set(xscale="log", yscale="log", xlabel="image (height × width in pixels)", ylabel="frames a second")
    axes.set_xticks([h * w for h, w in sizes], [f"{h} × {w}" for h, w in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.alt = f"Line chart of frames a second against image size: {listed(sentences)}."
    legend_above(figure, axes.get_legend_handles_labels()[0], title)
    return figure
