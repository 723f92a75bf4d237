"""Which inputs an output reads, found by trying: the receptive field in space, and the connections of channels."""
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from lwcourse.viz.labels import listed, require_entries
from lwcourse.viz.theme import CARD, GRID, PALETTE, Figure, headline, new_figure, themed

EFFECTIVE = 1 - 0.9545  # share of the peak from which Luo et al. count a pixel as read
DECADES = 5  # that the colours of `reach_maps` span


def centre_gradient(module: nn.Module, x_size: Sequence[int], *, samples: int = 16, seed: int = 0) -> Tensor:
    """How strongly the output at the centre depends on each input pixel: (H, W), largest value 1.

    The mean over `samples` random inputs of size `x_size` (C, H, W) of |d y / d x|, where y is the
    output (N, C', H', W') at (H' // 2, W' // 2), all channels added, in eval mode; exactly zero where
    nothing is read. Works on a copy in float64, so that the module stays as it is and the small
    gradients at the rim of a deep stack stay apart from zero.
    Luo et al. 2016, https://arxiv.org/abs/1701.04128. Raises ValueError when the module cannot run
    the input, or its output has no pixels or does not depend on the input.
    """
    x_size = tuple(x_size)
    if len(x_size) != 3 or min(x_size) < 1:
        raise ValueError(f"x_size must be (channels, height, width), all positive, got {x_size}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    total = torch.zeros(x_size[1:], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    module = _copy_in_double(module)
    with torch.enable_grad():
        for _ in range(samples):
            x = torch.randn(1, *x_size, generator=generator, dtype=torch.float64).requires_grad_()
            y = _run(module, x)
            centre = y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum()
            gradient = torch.autograd.grad(centre, x, allow_unused=True)[0] if centre.requires_grad else None
            if gradient is not None:
                total += gradient[0].abs().sum(0)
    if not total.any():
        raise ValueError("the centre of the output does not depend on the input by a gradient")
    return total / total.max()


def _copy_in_double(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(module).__name__}")
    return deepcopy(module).to("cpu", torch.float64).eval()


def _run(module: nn.Module, x: Tensor) -> Tensor:
    size = tuple(x.shape[1:])
    try:
        y = module(x)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{type(module).__name__} cannot run an input of size {size}: {error}") from error
    if not isinstance(y, Tensor) or y.ndim != 4:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"the output must be a feature map (N, C, H, W), got {got}; take the part before the pooling")
    return y


@themed
def receptive_field(module: nn.Module, x_size: Sequence[int], *, samples: int = 16, seed: int = 0,
                    title: str | None = None) -> Figure:
    """The effective receptive field of the output's centre, as a heat map over the input.

    Brightness is `centre_gradient`. The dashed frame holds every pixel whose gradient is not zero:
    the theoretical field. The effective one counts pixels above 4.55 % of the peak, and its side is
    the root of their number. Arguments and errors are those of `centre_gradient`.
    """
    field = centre_gradient(module, x_size, samples=samples, seed=seed)
    rows, columns = torch.nonzero(field.sum(1)).flatten(), torch.nonzero(field.sum(0)).flatten()
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
    side = float((field > EFFECTIVE).sum()) ** 0.5
    at_border = top == 0 or left == 0 or top + height == field.shape[0] or left + width == field.shape[1]
    border = ", and touches the border of the input: it may be larger" if at_border else ""
    name = title or f"Receptive field of {type(module).__name__}"
    tall = min(max(5.4 * field.shape[0] / field.shape[1], 2.4), 5.4)
    figure, axes = new_figure(6.6, tall, alt=(
        f"{name}, heat map over {field.shape[0]} × {field.shape[1]} input pixels: the theoretical field is {height} × "
        f"{width} pixels{border}; the effective one is about {side:.1f} pixels wide."))
    picture = axes.imshow(100 * field.numpy(), vmin=0, vmax=100)
    axes.grid(visible=False)
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=PALETTE["orange"],
                             linestyle=(0, (4, 2)), linewidth=2.2, clip_on=False))
    axes.set(xlabel="input column (pixels)", ylabel="input row (pixels)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the strongest gradient (%)")
    bar.outline.set_visible(False)
    axes.set_title(f"{name}\ntheoretical {height} × {width} (frame){' or more' if at_border else ''}, "
                   f"effective about {side:.1f} × {side:.1f}")
    return figure


def channel_connections(module: nn.Module, in_channels: int, *, size: int = 16, seed: int = 0) -> Tensor:
    """Which output channel reads which input channel: booleans (out_channels, in_channels).

    Each input channel is replaced by other random numbers in turn, and outputs that change read
    it: this holds for any module that maps (N, in_channels, size, size) to (N, C, H, W),
    whatever it does inside. Works on a copy in float64 and eval mode. Raises ValueError when
    `in_channels` or `size` is below 1, or the module cannot run such an input.
    """
    if in_channels < 1 or size < 1:
        raise ValueError(f"in_channels and size must be at least 1, got {in_channels} and {size}")
    generator = torch.Generator().manual_seed(seed)
    shape = (1, in_channels, size, size)
    base, other = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    module = _copy_in_double(module)
    columns = []
    with torch.no_grad():
        before = _run(module, base)
        rounding = 1e-12 * before.abs().max()  # sums may be taken in another order
        for channel in range(in_channels):
            x = base.clone()
            x[:, channel] = other[:, channel]
            columns.append((_run(module, x) - before).abs().amax((0, 2, 3)) > rounding)
    return torch.stack(columns, dim=1)


@themed
def connectivity(module: nn.Module, in_channels: int, *, size: int = 16, pixels: bool = False,
                 title: str | None = None) -> Figure:
    """Which output channel (row) reads which input channel (column), tried out on random inputs.

    With `pixels` a second panel shows which pixels of the input one output pixel, at the centre,
    reads. Arguments and errors are those of `channel_connections`.
    """
    matrix = channel_connections(module, in_channels, size=size).numpy()
    outputs, count = len(matrix), int(matrix.sum())
    name = title or "Connections"
    fewest, most = int(matrix.sum(1).min()), int(matrix.sum(1).max())
    alt = (f"{name}: matrix of {outputs} output by {in_channels} input channels; {count:,} of {matrix.size:,} pairs "
           f"are connected, {fewest if fewest == most else f'{fewest} to {most}'} inputs an output.")
    figure, axes = new_figure(7.6 if pixels else 5.0, 4.0, columns=2 if pixels else 1, alt=alt)
    panels = np.atleast_1d(axes)
    matrix_panel(panels[0], matrix, f"{count:,} of {matrix.size:,} channel pairs")
    panels[0].set(xlabel="input channel", ylabel="output channel")
    if pixels:
        read = (centre_gradient(module, (in_channels, size, size), samples=4) > 0).numpy()
        figure.alt += f" One output pixel reads {int(read.sum())} of {read.size} input pixels."
        matrix_panel(panels[1], read, f"{int(read.sum())} of {read.size} pixels")
        panels[1].set(xlabel="input column (pixels)", ylabel="input row (pixels)")
    headline(figure, title)
    return figure


def matrix_panel(axes: Axes, cells: np.ndarray, title: str) -> None:
    """True cells of a boolean matrix in blue, with lines between cells where there are few."""
    rows, columns = cells.shape
    axes.imshow(cells, cmap=ListedColormap([CARD, PALETTE["blue"]]), vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if columns <= 32:
        axes.vlines(np.arange(columns - 1) + 0.5, -0.5, rows - 0.5, color=GRID, linewidth=0.8)
    if rows <= 32:
        axes.hlines(np.arange(rows - 1) + 0.5, -0.5, columns - 0.5, color=GRID, linewidth=0.8)
    axes.set_title(title, fontsize=10)
    for spine in axes.spines.values():
        spine.set_visible(True)


@themed
def reach_maps(fields: Mapping[str, Tensor], *, title: str | None = None) -> Figure:
    """What reaches the centre of an output from each input pixel, network by network, on one logarithmic scale.

    `fields` maps a name to what `centre_gradient` returns, (H, W) with largest value 1. Pixels that are not read at
    all stay as pale as the card; those below 10^-5 of the strongest have the darkest colour. Raises ValueError for
    another shape, for negative values, and for a map without any gradient.
    """
    require_entries(fields, "a map (H, W)")
    maps = {name: plane(name, field) for name, field in fields.items()}
    for name, field in maps.items():
        if not (field >= 0).all() or field.max() <= 0:
            raise ValueError(f"{name!r} must hold gradients' sizes, positive somewhere and nowhere negative")
    shares = {name: (field > 0).mean() for name, field in maps.items()}
    shares = {name: f"{share:.0%}" if share >= 0.01 else f"{share:.1%}" for name, share in shares.items()}
    sentences = [f"{' '.join(name.split())}, {shares[name]} of {field.shape[0]} × {field.shape[1]} pixels are read"
                 for name, field in maps.items()]
    figure, axes = new_figure(min(0.9 + 3.1 * len(maps), 9.4), 2.9 + 0.3 * bool(title), columns=len(maps), alt=(
        f"{title or 'Receptive fields'}, heat maps on a logarithmic scale: {listed(sentences)}."))
    panels = list(np.atleast_1d(axes))
    for panel, (name, field) in zip(panels, maps.items(), strict=True):
        picture = panel.imshow(np.where(field > 0, np.maximum(field / field.max(), 10.0**-DECADES), np.nan),
                               norm=LogNorm(10.0**-DECADES, 1))
        panel.grid(visible=False)
        panel.set_title(f"{name}\n{shares[name]} read", fontsize=9.5, fontweight="normal")
        panel.set_xlabel("input column (pixels)")
    panels[0].set_ylabel("input row (pixels)")
    bar = figure.colorbar(picture, ax=panels, fraction=0.05, pad=0.02, shrink=0.85)
    bar.set_label("gradient, share of the strongest")
    bar.outline.set_visible(False)
    headline(figure, title)
    return figure


def plane(name: str, values: Tensor) -> np.ndarray:
    """A map (rows, columns) as an array. Raises ValueError, naming it, for any other shape."""
    array = torch.as_tensor(values).detach().cpu().double().numpy()
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name!r} must be (rows, columns), got shape {array.shape}")
    return array
