"""Pictures of chapter 04: how alike maps are and what a ghost costs; templates by product and by distance."""
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import ListedColormap
from torch import Tensor

from lwcourse.viz.labels import legend_above, listed, require_entries
from lwcourse.viz.maps import SIGNED
from lwcourse.viz.theme import CARD, CYCLE, GRID, INK, MUTED, PALETTE, Figure, headline, new_figure, themed, tint

__all__ = ["choose_intrinsic", "ghost_budget", "ghost_likeness", "gradient_norms", "map_likeness", "map_pairs",
           "output_histograms", "template_planes"]


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
    headline(figure, title)
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
    headline(figure, title)
    return figure


@themed
def template_planes(templates: Tensor, *, limit: float = 3.0, title: str | None = None) -> Figure:
    """Which of the templates (K, 2) a point of the plane is given to: by the product, and by the L1 distance.

    A colour a template; lines join points of equal answer of the winner, w·x on the left and -|x - w| summed on the
    right. Raises ValueError unless there are two to six templates of two numbers.
    """
    templates = torch.as_tensor(templates).detach().cpu().double()
    if templates.ndim != 2 or templates.shape[1] != 2 or not 2 <= len(templates) <= len(CYCLE):
        raise ValueError(f"templates must be (2 to {len(CYCLE)}, 2), got {tuple(templates.shape)}")
    side = torch.linspace(-limit, limit, 301, dtype=torch.float64)
    points = torch.cartesian_prod(side, side)                       # (x, y), y fastest
    answers = {"product": points @ templates.T, "L1 distance": -torch.cdist(points, templates, p=1)}
    figure, panels = new_figure(7.6, 4.0, columns=2, alt="planes")
    sentences = []
    for axes, (name, values) in zip(panels, answers.items(), strict=True):
        most, winner = values.max(1)
        areas = torch.bincount(winner, minlength=len(templates)) / len(points)
        axes.imshow(winner.view(301, 301).T.numpy(), origin="lower", extent=(-limit, limit) * 2, vmin=-0.5,
                    vmax=len(templates) - 0.5, cmap=ListedColormap([tint(c, 0.45) for c in CYCLE[:len(templates)]]))
        lines = axes.contour(side.numpy(), side.numpy(), most.view(301, 301).T.numpy(), levels=8, colors=INK,
                             linewidths=0.8, linestyles="solid", alpha=0.6)
        axes.clabel(lines, lines.levels[1::2], fontsize=8, fmt="%g")
        owners = (values.argmax(1)[[int((points - one).square().sum(1).argmin()) for one in templates]]).tolist()
        for k, (x, y) in enumerate(templates.tolist()):
            axes.plot(x, y, "o", color=CYCLE[k], markeredgecolor=INK, markersize=11)
            axes.text(x + 0.2, y + 0.2, f"w{k + 1}", fontsize=10, fontweight="bold")
        axes.grid(visible=False)
        axes.set(xlabel="first number of the patch", ylabel="second number of the patch", aspect="equal")
        own = sum(owner == k for k, owner in enumerate(owners))
        axes.set_title(f"{name}: {own} of {len(templates)} win at home", fontsize=10)
        shares = ", ".join(f"w{k + 1} {area:.0%}" for k, area in enumerate(areas.tolist()))
        sentences.append(f"by the {name} {own} of {len(templates)} templates win at their own place, areas {shares}")
    figure.alt = f"{title or 'Two ways to compare'}: {listed(sentences)}."
    headline(figure, title)
    return figure


@themed
def output_histograms(outputs: Mapping[str, Tensor], *, label: str = "output (no unit)",
                      title: str | None = None) -> Figure:
    """A histogram for each named tensor, one above the other, each on an axis of its own that holds zero.

    Raises ValueError for no tensor, or values that are not finite.
    """
    require_entries(outputs, "tensor")
    values = {name: torch.as_tensor(one).detach().cpu().double().flatten().numpy() for name, one in outputs.items()}
    for name, numbers in values.items():
        if not len(numbers) or not np.isfinite(numbers).all():
            raise ValueError(f"the values of {name!r} must be finite, and one at least")
    words = {name: f"mean {round(numbers.mean(), 1) + 0.0:.1f}, standard deviation {numbers.std():.2g}, "
                   f"{(numbers > 0).mean():.0%} above zero" for name, numbers in values.items()}
    figure, rows = new_figure(7.6, 0.7 + 1.3 * len(values), rows=len(values), alt=(
        f"Histograms, {label}: {listed([f'{name} {text}' for name, text in words.items()])}."))
    for axes, (name, numbers), colour in zip(np.atleast_1d(rows), values.items(), CYCLE * len(values), strict=False):
        edges = np.linspace(min(numbers.min(), 0), max(numbers.max(), 0) or 1.0, 120)
        axes.hist(numbers, edges, weights=np.full(len(numbers), 100 / len(numbers)), color=colour)
        axes.axvline(0, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.set_title(f"{name}: {words[name]}", fontsize=9.5, fontweight="normal")
        axes.set_ylabel("share (%)")
        axes.grid(axis="x", visible=False)
    np.atleast_1d(rows)[-1].set_xlabel(f"{label}; dashed: zero")
    headline(figure, title)
    return figure


@themed
def gradient_norms(norms: Mapping[str, Sequence[float]], layers: Sequence[str], *,
                   label: str = "L2 norm of the weight's gradient", title: str | None = None) -> Figure:
    """One line a network, one place a layer, on a logarithmic axis.

    Raises ValueError for no network, another number of norms than `layers`, or norms that are not positive.
    """
    require_entries(norms, "list of norms")
    figure, axes = new_figure(7.4, 3.7, alt="gradient norms")
    sentences = []
    for k, (name, values) in enumerate(norms.items()):
        values = np.asarray(list(values), float)
        if len(values) != len(layers) or not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"{name!r} must have a positive norm for each of {len(layers)} layers, got {values}")
        axes.plot(range(len(layers)), values, marker="osD^vP"[k % 6], color=CYCLE[k % len(CYCLE)], label=name,
                  markersize=8, linewidth=1.8)
        sentences.append(f"{name} {', '.join(f'{value:.2g}' for value in values)}")
    figure.alt = f"{title or label}, layers {', '.join(layers)}: {listed(sentences)}."
    axes.set(yscale="log", ylabel=label.replace(" of ", "\nof "), xlim=(-0.3, len(layers) - 0.7))
    axes.set_xticks(range(len(layers)), layers)
    axes.set_xlabel("layer, first to last")
    axes.tick_params(which="minor", color=MUTED)
    legend_above(figure, axes.lines, title)
    return figure
