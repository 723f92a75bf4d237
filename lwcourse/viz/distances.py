"""Pictures of two ways to compare a patch with a template, of what comes out, and of the gradients that go back."""
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from torch import Tensor

from lwcourse.viz.labels import legend_above, listed, require_entries
from lwcourse.viz.theme import CYCLE, INK, MUTED, Figure, new_figure, themed, tint


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
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
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
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
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
