"""How alike the maps of a layer are: by correlation, and by the small filter that makes one of another, its ghost."""
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lwcourse.viz.labels import listed
from lwcourse.viz.maps import SIGNED
from lwcourse.viz.theme import CARD, GRID, INK, MUTED, PALETTE, Figure, new_figure, themed


def map_likeness(maps: Tensor) -> Tensor:
    """|correlation| of each two of the maps (C, H, W), as (C, C) with zeros on the diagonal; 0 for constant maps."""
    rows = _maps(maps).flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return (rows @ rows.T).abs().clamp(max=1).fill_diagonal_(0)


def ghost_likeness(maps: Tensor, kernel_size: int = 3, *, fitted_on: Tensor | None = None) -> Tensor:
    """How well one filter of `kernel_size` pixels makes map j of map i: [i, j] is the share of j's variance that fits.

    `maps` is (C, H, W). Each filter, with a constant, is the one of least squared error, on the maps `fitted_on`
    where given, else on `maps` themselves. A constant map j counts as made by any, and 1 stands on the diagonal.
    On other maps than it was fitted on a filter can do worse than the mean: the share is then 0.
    Raises ValueError for another shape, or an even kernel.
    """
    maps = _maps(maps)
    source = maps if fitted_on is None else _maps(fitted_on)
    if len(source) != len(maps):
        raise ValueError(f"fitted_on must have {len(maps)} maps, got {len(source)}")
    total = (maps - maps.mean((1, 2), keepdim=True)).square().sum((1, 2))
    error = torch.empty(len(maps), len(maps), dtype=torch.float64)
    for i in range(len(maps)):
        gram, cross = _normal_equations(maps[i], maps, kernel_size)
        filters = _solve(*((gram, cross) if source is maps else _normal_equations(source[i], source, kernel_size)))
        # |maps - patches @ filters|^2, from sums over pixels that are there already
        error[i] = maps.square().sum((1, 2)) + (filters * (gram @ filters - 2 * cross)).sum(0)
    shares = torch.where(total > 1e-9, 1 - error / total.clamp(min=1e-9), 1.0).clamp(0, 1).float()
    return shares.fill_diagonal_(1)


def choose_intrinsic(shares: Tensor, count: int) -> list[int]:
    """The `count` maps of which the others are made best: greedily, by the `shares` of `ghost_likeness`."""
    if not 1 <= count <= len(shares):
        raise ValueError(f"count must be from 1 to {len(shares)}, got {count}")
    chosen: list[int] = []
    best = torch.zeros(len(shares))
    for _ in range(count):
        gains = torch.maximum(shares, best).sum(1)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        best = torch.maximum(best, shares[chosen[-1]])
    return chosen


def _maps(maps: Tensor) -> Tensor:
    maps = maps.detach().cpu().double()
    maps = maps[0] if maps.ndim == 4 and maps.shape[0] == 1 else maps
    if maps.ndim != 3 or len(maps) < 2 or not maps.isfinite().all():
        raise ValueError(f"maps must be two or more, (C, H, W), and finite; got shape {tuple(maps.shape)}")
    return maps


def _patches(picture: Tensor, kernel_size: int) -> Tensor:
    """(H * W, kernel_size**2 + 1): the neighbourhood of each pixel, and a one."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")
    edge = kernel_size // 2
    padded = F.pad(picture[None, None], (edge,) * 4, mode="replicate")
    patches = F.unfold(padded, kernel_size)[0].T
    return torch.cat([patches, patches.new_ones(len(patches), 1)], dim=1)


def _normal_equations(source: Tensor, targets: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """The products, summed over pixels, of a map's patches with each other and with every target (C, H, W)."""
    patches = _patches(source, kernel_size)
    return patches.T @ patches, patches.T @ targets.flatten(1).T


def _solve(gram: Tensor, cross: Tensor) -> Tensor:
    """(kernel_size**2 + 1, C): the filter and constant of least squared error from one map to each target."""
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)  # a constant map has no unique one
    return torch.linalg.solve(gram + ridge, cross)


@themed
def map_pairs(maps: Tensor, pairs: Sequence[tuple[int, int]] | None = None, *, count: int = 4, kernel_size: int = 3,
              title: str | None = None) -> Figure:
    """Pairs of maps that look alike: one, the other, and what a small filter makes of the first.

    `pairs` are channels (i, j) of the maps (C, H, W); None takes the `count` most alike pairs, each channel in one
    pair at most. Every picture has its own scale, from its least value (dark) to its largest.
    """
    maps = _maps(maps)
    likeness = map_likeness(maps)
    if pairs is None:
        pairs, free = [], likeness.clone()
        while len(pairs) < count and free.max() > 0:
            i, j = divmod(int(free.argmax()), len(maps))
            pairs.append((i, j))
            free[[i, j]] = free[:, [i, j]] = 0
    if not pairs:
        raise ValueError("nothing to draw: there is no pair of maps")
    edge = maps.shape[1] / maps.shape[2]
    figure, axes = new_figure(6.4, 0.45 + (0.35 if title else 0) + 1.5 * edge * len(pairs), alt="pairs of maps",
                              rows=len(pairs), columns=4)
    axes = np.atleast_2d(axes)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.03)
    sentences = []
    for row, (i, j) in zip(axes, pairs, strict=True):
        weights = _solve(*_normal_equations(maps[i], maps[j:j + 1], kernel_size))
        ghost = (_patches(maps[i], kernel_size) @ weights).view_as(maps[j])
        share = 1 - float((maps[j] - ghost).square().sum() / (maps[j] - maps[j].mean()).square().sum().clamp(min=1e-9))
        sentences.append(f"{i} and {j} correlate with {likeness[i, j]:.2f}, a {kernel_size} × {kernel_size} filter of "
                         f"{i} makes {share:.0%} of {j}")
        kernel = weights[:-1, 0].view(kernel_size, kernel_size)
        for panel, picture in zip(row, (maps[i], maps[j], ghost), strict=False):
            low, high = torch.quantile(picture.flatten()[::7], torch.tensor([0.01, 0.99], dtype=torch.float64)).tolist()
            panel.imshow(picture.numpy(), vmin=low, vmax=max(high, low + 1e-9), interpolation="antialiased")
        limit = float(kernel.abs().max()) or 1.0
        row[3].imshow(kernel.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit)
        for (y, x), weight in np.ndenumerate(kernel.numpy()):
            if kernel_size <= 3:
                row[3].text(x, y, f"{weight:.2f}", ha="center", va="center", fontsize=9,
                            color=CARD if abs(weight) > 0.6 * limit else INK)
        for panel, text in zip(row, (f"map {i}", f"map {j}", f"{share:.0%} made of {i}", "its filter"),
                               strict=True):
            panel.set_title(text, fontsize=9, fontweight="normal", loc="center", pad=3)
            panel.set_axis_off()
    figure.alt = f"{title or 'Pairs of feature maps'}: {listed(sentences)}."
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


@themed
def ghost_budget(shares: Tensor, costs: Sequence[tuple[int, float]], ratio: int, *, title: str | None = None) -> Figure:
    """What is kept of the maps against what is paid, for each ratio of ghosts; the chosen `ratio` is marked.

    `shares` is what `ghost_likeness` gives; `costs` are pairs (ratio, share of the convolution's MACs). On the right
    every map by how well it is made: 1 for the intrinsic ones, which are convolved, less for the ghosts.
    """
    channels = len(shares)
    kept = {one: shares[choose_intrinsic(shares, -(-channels // one))].amax(0) for one, _ in costs}
    if ratio not in kept:
        raise ValueError(f"ratio must be one of {', '.join(map(str, kept))}, got {ratio}")
    chosen = choose_intrinsic(shares, -(-channels // ratio))
    best = kept[ratio]
    figure, (curve, bars) = new_figure(7.8, 3.5, columns=2, width_ratios=(1, 1.25), alt=(
        f"{title or 'Ghosts'}: with ratio {ratio}, {len(chosen)} of {channels} maps are convolved, for "
        f"{dict(costs)[ratio]:.0%} of the MACs, and {best.mean():.0%} of the maps' variance is made; the worst ghost "
        f"has {best.min():.0%}. By ratio: "
        + listed([f"{one}: {cost:.0%} of the MACs, {kept[one].mean():.0%} made" for one, cost in costs]) + "."))
    x, y = [100 * cost for _, cost in costs], [100 * float(kept[one].mean()) for one, _ in costs]
    curve.plot(x, y, color=MUTED, linewidth=1.4, zorder=1)
    for one, a, b in zip(kept, x, y, strict=True):
        here = one == ratio
        curve.plot(a, b, "o", color=PALETTE["vermillion" if here else "blue"], markersize=10 if here else 6, zorder=2)
        if one in (1, 2, 3, 4, max(kept)) or here:
            curve.annotate(f"s = {one}" if one > 1 else "no ghosts", (a, b), xytext=(9 if one > 1 else 2, -13),
                           textcoords="offset points", ha="left" if one > 1 else "right", fontsize=9,
                           fontweight="bold" if here else "normal")
    curve.set(xlabel="MACs of the convolution (%)", ylabel="variance that is made (%)",
              xlim=(0, 108), ylim=(min(60, min(y) - 8), 103))
    curve.set_title("what each ratio costs and keeps", fontsize=10)
    order = sorted(range(channels), key=lambda j: (j not in chosen, -float(best[j])))
    colours = [PALETTE["blue" if j in chosen else "orange"] for j in order]
    bars.bar(range(channels), [100 * float(best[j]) for j in order], color=colours, width=0.85)
    bars.set(xlabel="map, best first", ylabel="made (%)", xticks=[], ylim=(0, 104))
    bars.grid(axis="x", visible=False)
    for name, colour in (("convolved", "blue"), ("ghost", "orange")):
        bars.bar([0], [0], color=PALETTE[colour], label=name)
    bars.legend(loc="lower right", framealpha=0.9, frameon=True)
    bars.set_title(f"s = {ratio}: {len(chosen)} maps convolved, {channels - len(chosen)} ghosts", fontsize=10)
    for spine in bars.spines.values():
        spine.set_color(GRID)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure
