"""Pictures of what a network sees and holds: images, feature maps, filters, and which input an output reads."""
from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle
from torch import Tensor

from lwcourse.viz.labels import listed
from lwcourse.viz.theme import GRID, PALETTE, Figure, headline, new_figure, themed

SIGNED = LinearSegmentedColormap.from_list(  # blue below zero, orange-red above, told apart by all
    "signed", ["#00334F", PALETTE["blue"], "#F7F7F7", PALETTE["vermillion"], "#6B2F00"])


@themed
def image(picture: Tensor, title: str | None = None) -> Figure:
    """One image: (3, H, W), (1, H, W) or (H, W), floats in [0, 1] or bytes.

    Raises ValueError for another shape, or floats outside of [0, 1]: undo the normalisation
    first, with `data.pixels`.
    """
    pixels = _pixels(picture)
    height, width = pixels.shape[:2]
    colour = "grey" if pixels.ndim == 2 else "colour"
    tall = min(4.6, 7.2 * height / width)
    figure, axes = new_figure(tall * width / height + 0.2, tall + (0.45 if title else 0.2),
                              alt=f"{title or 'Image'}: {width} × {height} pixels, {colour}, mean {pixels.mean():.2f}.")
    _show(axes, pixels)
    if title:
        axes.set_title(title)
    return figure


@themed
def images(batch: Tensor | Sequence[Tensor], titles: Sequence[str] | None = None, *,
           columns: int | None = None) -> Figure:
    """A grid of images, (N, 3, H, W), (N, 1, H, W) or a list, with a title over each.

    Values are as for `image`. Raises ValueError for no image or another number of titles.
    """
    pictures = [_pixels(picture) for picture in batch]
    if not pictures:
        raise ValueError("nothing to draw: there is no image")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"titles must be one an image, {len(pictures)}, got {len(titles)}")
    titles = None if titles is None else [str(title) for title in titles]
    shown = f": {listed(titles, most=16, separator=', ')}" if titles else ""
    figure, grid = _grid(len(pictures), columns, f"{len(pictures)} images{shown}.", titled=titles is not None,
                         aspect=max(pixels.shape[0] / pixels.shape[1] for pixels in pictures))
    for i, (axes, pixels) in enumerate(zip(grid, pictures, strict=True)):
        _show(axes, pixels, titles[i] if titles else None)
    return figure


def _pixels(picture: Tensor) -> np.ndarray:
    """(H, W) or (H, W, 3), floats in [0, 1]."""
    picture = torch.as_tensor(picture).detach().cpu()
    if picture.ndim == 3 and picture.shape[0] in (1, 3):
        picture = picture[0] if picture.shape[0] == 1 else picture.permute(1, 2, 0)
    elif picture.ndim != 2:
        raise ValueError(f"an image must be (3, H, W), (1, H, W) or (H, W), got {tuple(picture.shape)}")
    if not picture.numel():
        raise ValueError(f"an image must have pixels, got shape {tuple(picture.shape)}")
    if picture.dtype == torch.uint8:
        return picture.numpy() / 255
    pixels = picture.double().numpy()
    if not (pixels.min() >= -1e-3 and pixels.max() <= 1 + 1e-3):
        raise ValueError(f"pixels must be from 0 to 1, these are from {pixels.min():.3g} to {pixels.max():.3g}; "
                         "data.pixels(images) undoes the normalisation of a data set")
    return pixels.clip(0, 1)


def _show(axes: Axes, pixels: np.ndarray, title: str | None = None, **look) -> None:
    look = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "antialiased"} | look  # smooth only when shrunk
    axes.imshow(pixels, **look)
    axes.set_axis_off()
    if title is not None:
        axes.set_title(title, fontsize=9, fontweight="normal", loc="center", pad=3)


def _grid(count: int, columns: int | None, alt: str, *, titled: bool, bar: bool = False,
          aspect: float = 1.0) -> tuple[Figure, list[Axes]]:
    """A figure about as wide as a notebook, with `count` panels, `aspect` times as high as wide."""
    ideal = sqrt(3 * count * aspect)
    columns = min(columns or min(range(1, 13), key=lambda n: -count % n + abs(n - ideal)), count)
    rows = ceil(count / columns)
    side = min(7.4 / columns, 2.2)
    figure, axes = new_figure(side * columns + (0.9 if bar else 0.2), rows * (side * aspect + 0.22 * titled) + 0.2,
                              alt=alt, rows=rows, columns=columns)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02, rect=(0.01, 0.02, 0.98, 0.96))
    panels = list(np.atleast_1d(axes).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


@themed
def feature_maps(activations: Tensor, *, count: int = 16, columns: int | None = None,
                 title: str | None = None) -> Figure:
    """The first `count` channels of a feature map (C, H, W) or (1, C, H, W), all on one colour scale.

    When values of both signs occur, white is zero, blue below and red above; else dark is zero.
    The scale ends where all but 0.2 % of the values are reached. Raises ValueError for another
    shape, values that are not finite, or a count below 1.
    """
    maps = activations.detach().cpu().double()
    maps = maps[0] if maps.ndim == 4 and maps.shape[0] == 1 else maps
    if maps.ndim != 3 or not maps.numel():
        raise ValueError(f"activations must be (C, H, W) or (1, C, H, W), got {tuple(activations.shape)}")
    if not maps.isfinite().all():
        raise ValueError("activations must be finite, but some are infinite or not a number")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    channels, height, width = maps.shape
    shown = maps[:count].numpy()
    silent = int((shown == 0).all((1, 2)).sum())
    strongest = int(np.abs(shown).mean((1, 2)).argmax())
    alt = (f"{title or 'Feature maps'}: channels 0 to {len(shown) - 1} of {channels}, {height} × {width} each, values "
           f"from {shown.min():.3g} to {shown.max():.3g}; channel {strongest} is strongest, {silent} are all zero.")
    figure, panels = _grid(len(shown), columns, alt, titled=True, bar=True)
    look = _scale(shown)
    for i, (axes, channel) in enumerate(zip(panels, shown, strict=True)):
        _show(axes, channel, f"{i}", **look)
    _colour_bar(figure, panels, look, shown, "activation (no unit)")
    headline(figure, title)
    return figure


def _scale(values: np.ndarray) -> dict:
    """Colours and limits: around zero for values of both signs, else from zero."""
    if values.min() < 0 < values.max():
        limit = float(np.quantile(np.abs(values), 0.998)) or 1.0
        return {"cmap": SIGNED, "vmin": -limit, "vmax": limit}
    low, high = np.quantile(values, (0.002, 0.998))
    low, high = min(low, 0.0), max(high, 0.0)
    return {"cmap": "cividis", "vmin": low, "vmax": high if high > low else low + 1}


def _colour_bar(figure: Figure, panels: list[Axes], look: dict, values: np.ndarray, label: str) -> None:
    below, above = values.min() < look["vmin"], values.max() > look["vmax"]
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    mappable = ScalarMappable(Normalize(look["vmin"], look["vmax"]), look["cmap"])
    bar = figure.colorbar(mappable, ax=panels, extend=extend[bool(below), bool(above)], fraction=0.05, pad=0.02,
                          aspect=25, shrink=0.9)
    bar.set_label(label)
    bar.outline.set_visible(False)


@themed
def kernels(weight: Tensor, *, count: int = 32, columns: int | None = None, title: str | None = None) -> Figure:
    """The filters of a convolution's weight (out_channels, in_channels / groups, kh, kw); white is zero.

    Depthwise filters make a grid. Otherwise each column is an output channel, each row an input
    channel of its group; the first `count` tiles that fit are shown. Weights of a 1 x 1
    convolution, or (out, in) of a linear layer, are one matrix. Raises ValueError for another
    shape or a count below 1.
    """
    weight = weight.detach().cpu().double()
    if weight.ndim == 2:
        weight = weight[:, :, None, None]
    if weight.ndim != 4 or not weight.numel():
        raise ValueError(f"weight must be (out_channels, in_channels / groups, kh, kw), got {tuple(weight.shape)}")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if weight.shape[2:] == (1, 1):
        return _weight_matrix(weight[:, :, 0, 0].numpy(), title)
    outputs, inputs, height, width = weight.shape
    rows = min(inputs, 8, count)
    filters = weight[:, :rows].numpy()[:max(1, count // rows)]
    if rows > 1:
        filters = filters[:16 if columns is None else columns]
    alt = (f"{title or 'Filters'}: {len(filters) * rows} of {outputs * inputs} kernels, {height} × {width} each, "
           f"weights from {filters.min():.3g} to {filters.max():.3g}.")
    tiles = filters.transpose(1, 0, 2, 3).reshape(-1, height, width)
    figure, panels = _grid(len(tiles), columns if rows == 1 else len(filters), alt, titled=rows == 1, bar=True)
    look = _scale(tiles) | {"cmap": SIGNED}
    limit = max(abs(look["vmin"]), abs(look["vmax"]))
    look |= {"vmin": -limit, "vmax": limit}
    for i, (axes, tile) in enumerate(zip(panels, tiles, strict=True)):
        _show(axes, tile, f"{i}" if rows == 1 else None, **look)
        axes.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=GRID, linewidth=1.5))
        if rows > 1:
            row, column = divmod(i, len(filters))
            if row == 0:
                axes.set_title(f"out {column}", fontsize=9, fontweight="normal", loc="center", pad=3)
            if column == 0:
                axes.text(-0.12, 0.5, f"in {row}", transform=axes.transAxes, ha="right", va="center", fontsize=9)
    _colour_bar(figure, panels, look, tiles, "weight (no unit)")
    headline(figure, title)
    return figure


def _weight_matrix(matrix: np.ndarray, title: str | None) -> Figure:
    outputs, inputs = matrix.shape
    figure, axes = new_figure(6.4, min(max(6.4 * outputs / inputs, 2.2), 5.6), alt=(
        f"{title or 'Weights'}: matrix of {outputs} output by {inputs} input channels, from {matrix.min():.3g} to "
        f"{matrix.max():.3g}."))
    look = _scale(np.concatenate([matrix.ravel(), -matrix.ravel()])) | {"cmap": SIGNED}
    axes.imshow(matrix, aspect="auto", **look)
    axes.grid(visible=False)
    axes.set(xlabel="input channel", ylabel="output channel")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    _colour_bar(figure, [axes], look, matrix, "weight (no unit)")
    if title:
        axes.set_title(title)
    return figure
