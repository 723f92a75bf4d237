"""Pictures of attention: what a gate reads, what it does to a photograph, and the order of channels in its layers."""
import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from lwcourse.registry import model_card
from lwcourse.tables import html_table
from lwcourse.viz.labels import listed, require_entries
from lwcourse.viz.theme import CARD, CYCLE, GRID, INK, MUTED, PALETTE, Figure, headline, new_figure, themed, tint

__all__ = ["attention_maps", "attention_reads", "gate_reads", "kernel_sizes", "operator_shares", "published_counted",
           "split_order"]

SHARES = LinearSegmentedColormap.from_list("shares", [CARD, PALETTE["sky"], PALETTE["blue"], "#00334F"])


def gate_reads(layer: nn.Module, x_size: Sequence[int], at: Sequence[int] | None = None, *, seed: int = 0) -> Tensor:
    """Which inputs decide about one value of `layer.attention(x)`: booleans (C, H, W), found by trying each.

    `x_size` is (C, H, W), `at` the (channel, row, column) of the gated value, the middle one by default. Works on
    a copy in eval mode and float64 with random weights, so that a scale which begins at zero hides nothing.
    Raises ValueError when the layer cannot run the size or `at` lies outside of it, TypeError without `attention`.
    """
    x_size = tuple(x_size)
    if len(x_size) != 3 or min(x_size) < 1:
        raise ValueError(f"x_size must be (channels, height, width), all positive, got {x_size}")
    at = tuple(size // 2 for size in x_size) if at is None else tuple(at)
    if len(at) != 3 or not all(0 <= place < size for place, size in zip(at, x_size, strict=True)):
        raise ValueError(f"at must be a (channel, row, column) inside {x_size}, got {at}")
    if not callable(getattr(layer, "attention", None)):
        raise TypeError(f"{type(layer).__name__} has no attention(x)")
    generator = torch.Generator().manual_seed(seed)
    layer = deepcopy(layer).to("cpu", torch.float64).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64) + 0.2)
        base = torch.rand(1, *x_size, generator=generator, dtype=torch.float64)
        values = []
        for part in torch.eye(base.numel(), dtype=torch.float64).split(512):
            try:
                gates = layer.attention(torch.cat([base, base + 3 * part.view(-1, *x_size)]))
            except (RuntimeError, ValueError, AttributeError) as error:
                raise ValueError(f"{type(layer).__name__} cannot run an input of size {x_size}: {error}") from error
            gates = gates.expand(-1, *x_size)[:, at[0], at[1], at[2]]
            values.append((gates[1:] - gates[0]).abs() > 1e-12)
    return torch.cat(values).view(x_size)


def operator_shares(module: nn.Module, x: Tensor, *, rounds: int = 20) -> dict[str, float]:
    """Each operator's share of the time that `module` takes on `x`, by PyTorch's profiler, the largest first.

    In eval mode and without gradients; time that an operator spends in others counts as theirs.
    Raises ValueError when `rounds` is less than 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes to stderr that it starts
    module = deepcopy(module).eval()
    with torch.no_grad():
        module(x)  # once without the profiler, as the first run is slower
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
            for _ in range(rounds):
                module(x)
    spent = {row.key.removeprefix("aten::"): row.self_cpu_time_total for row in record.key_averages()}
    total = max(sum(spent.values()), 1e-9)
    return {name: time / total for name, time in sorted(spent.items(), key=lambda row: -row[1])}


def published_counted(names: Sequence[str], times: Mapping[str, float], unit: str) -> str:
    """HTML: a row a network and variant with its published and counted figures, a time for those in `times`, and notes.

    `unit` heads the column of times. Variants in width are left out.
    """
    rows = [("network", "options", "M parameters, published", "counted", "M MACs, published", "counted",
             "top-1, published", unit, "note")]
    notes: list[str] = []
    for name in names:
        card = model_card(name)
        variants = [(one, dict(one.arguments)) for one in card.variants if "width" not in dict(one.arguments)]
        for figures, options in [(card, {}), *variants]:
            if figures.note and figures.note not in notes:
                notes.append(figures.note)
            params, macs, top1 = ("none" if value is None else f"{value:g}" for value in (
                figures.published_params_m, figures.published_macs_m, figures.published_top1))
            rows.append((name, ", ".join(f"{key} {value}" for key, value in options.items()), params,
                         f"{figures.counted_params / 1e6:.3f}", macs, f"{figures.counted_macs / 1e6:.1f}", top1,
                         f"{times[name]:.2f}" if name in times and not options else "",
                         str(notes.index(figures.note) + 1) if figures.note else ""))
    return html_table(rows, left=2) + "<ol>" + "".join(f"<li>{note}</li>" for note in notes) + "</ol>"


@themed
def attention_reads(layers: Mapping[str, nn.Module], x_size: Sequence[int], *,
                    at: Mapping[str, Sequence[int]] | None = None, title: str | None = None) -> Figure:
    """What one gated value depends on, one column a layer: seen from the front (pixels) and from above (channels).

    Colour is the share of the third axis that is read, by `gate_reads`. The frame marks the gated value; `at` maps
    the name of a layer to its (channel, row, column), the middle of `x_size` by default.
    """
    require_entries(layers, "layer with attention(x)")
    at = {name: tuple(size // 2 for size in x_size) for name in layers} | dict(at or {})
    reads = {name: gate_reads(layer, x_size, at[name]) for name, layer in layers.items()}
    shares = [f"{' '.join(name.split())} {100 * read.double().mean():.0f} % of the values, "
              f"{int(read.any(2).any(1).sum())} channels, {int(read.any(0).sum())} pixels"
              for name, read in reads.items()]
    channels, height, width = x_size
    side = 7.0 / max(len(layers), 3)
    figure, axes = new_figure(side * len(layers) + 0.9, side * (height + channels) / width + 0.9, rows=2,
                              columns=len(layers), height_ratios=(height, channels), sharex=True,
                              alt=f"What one gate reads of {channels} channels of {height} × {width} pixels: "
                                  f"{listed(shares)}.")
    panels = np.asarray(axes).reshape(2, len(layers))
    for column, (name, read) in enumerate(reads.items()):
        channel, row, pixel = at[name]
        for axes, shown, mark in ((panels[0, column], read.double().mean(0), (pixel, row)),
                                  (panels[1, column], read.double().mean(1), (pixel, channel))):
            axes.imshow(100 * shown.numpy(), cmap=SHARES, vmin=0, vmax=100)
            axes.add_patch(Rectangle((mark[0] - 0.5, mark[1] - 0.5), 1, 1, fill=False, linewidth=2,
                                     edgecolor=PALETTE["orange"]))
            axes.grid(visible=False)
            axes.set(xticks=(0, width - 1))
            for spine in axes.spines.values():
                spine.set(visible=True, color=GRID)
            axes.tick_params(length=0, labelsize=8)
            if column:
                axes.tick_params(labelleft=False)
        panels[0, column].set_title(name, fontsize=9.5, loc="center")
        panels[0, column].set_yticks((0, height - 1))
        panels[1, column].set_yticks((0, channels - 1))
    panels[0, 0].set_ylabel("row (pixels)")
    panels[1, 0].set_ylabel("channel")
    figure.supxlabel("column (pixels)", fontsize=10)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 100), SHARES), ax=panels, fraction=0.03, pad=0.02, aspect=30)
    bar.set_label("share that is read (%)\nof channels (top), of rows (bottom)", fontsize=9)
    bar.outline.set_visible(False)
    headline(figure, title)
    return figure


@themed
def attention_maps(photo: Tensor, gates: Mapping[str, Tensor], *, title: str | None = None) -> Figure:
    """A picture, and beside it the gates that belong to it, one column a layer.

    `photo` is (3, H, W) with values in [0, 1]; `gates` maps a name to `attention(x)`, (1, C, H', W'), where any
    axis may be 1. Above: the channel whose gate varies most over the picture, on one scale for all. Below: every
    channel, sorted by its mean, with a band from its smallest to its largest gate; no band, no place.
    Raises ValueError for another shape, or gates that are not finite.
    """
    require_entries(gates, "gates (1, C, H, W)")
    if photo.ndim != 3 or photo.shape[0] not in (1, 3):
        raise ValueError(f"photo must be (3, H, W), got {tuple(photo.shape)}")
    for name, gate in gates.items():
        if gate.ndim != 4 or gate.shape[0] != 1 or not gate.isfinite().all():
            raise ValueError(f"the gates of {name!r} must be finite and (1, C, H, W), got {tuple(gate.shape)}")
    maps = {name: gate.detach().cpu().double()[0].flatten(1) for name, gate in gates.items()}
    ranges = {name: (values.amin(1), values.mean(1), values.amax(1)) for name, values in maps.items()}
    chosen = {name: int((high - low).argmax()) for name, (low, _, high) in ranges.items()}
    shown = {name: gates[name].detach().cpu().double()[0, chosen[name]] for name in gates}
    low, high = min(map(torch.min, shown.values())).item(), max(map(torch.max, shown.values())).item()
    low, high = (low, high) if high - low > 0.02 else (low - 0.01, high + 0.01)
    words = [f"{name} from {gate.min():.2f} to {gate.max():.2f} over the picture in channel {chosen[name]}, channel "
             f"means from {ranges[name][1].min():.2f} to {ranges[name][1].max():.2f}" for name, gate in shown.items()]
    aspect = photo.shape[1] / photo.shape[2]
    side = 7.4 / max(len(gates) + 1, 3)
    figure, axes = new_figure(side * (len(gates) + 1) + 0.9, side * aspect + 2.3, rows=2, columns=len(gates) + 1,
                              height_ratios=(side * aspect, 1.3), alt=f"Gates for a picture: {listed(words)}.")
    panels = np.asarray(axes).reshape(2, len(gates) + 1)
    panels[0, 0].imshow(photo.detach().cpu().double().clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray",
                        vmin=0, vmax=1, extent=(0, 1, 0, 1))
    panels[0, 0].set_aspect(aspect)
    panels[0, 0].set_title("the picture\n", fontsize=9, loc="center")
    for axes in panels[:, 0]:
        axes.set_axis_off()
    panels = panels[:, 1:]
    for column, (name, gate) in enumerate(shown.items()):
        top, below = panels[:, column]
        heat = gate.expand(max(gate.shape[0], 2), max(gate.shape[1], 2)).numpy()
        top.imshow(heat, cmap="cividis", vmin=low, vmax=high, extent=(0, 1, 0, 1), interpolation="nearest")
        top.set_aspect(aspect)
        top.set_axis_off()
        top.set_title(f"{name}\nchannel {chosen[name]}", fontsize=9, loc="center")
        least, mean, most = (values[ranges[name][1].argsort()].numpy() for values in ranges[name])
        places = np.arange(len(mean))
        below.fill_between(places, least, most, color=PALETTE["orange"], alpha=0.45, linewidth=0, step="mid")
        below.plot(places, mean, color=PALETTE["blue"], linewidth=1.8)
        below.set(ylim=(0, 1.02), yticks=(0, 0.5, 1), xticks=(0, len(mean) - 1))
        below.tick_params(labelleft=column == 0, labelsize=8)
    panels[1, 0].set_ylabel("gate (no unit)", fontsize=9)
    gap = "\n" if len(gates) < 3 else " "
    figure.supxlabel(f"channels, sorted by mean gate{gap}(line: mean over pixels, band: least to most)", fontsize=9)
    bar = figure.colorbar(ScalarMappable(Normalize(low, high), "cividis"), ax=panels[0], fraction=0.03, pad=0.01)
    bar.set_label("gate (no unit)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    headline(figure, title)
    return figure


@themed
def kernel_sizes(rules: Mapping[str, Callable[[int], int]], *, limits: tuple[int, int] = (4, 4096),
                 marks: Sequence[int] = (), title: str | None = None) -> Figure:
    """Rules that choose a kernel from a number of channels, as steps over a logarithmic axis; dots at `marks`.

    Raises ValueError when there is no rule or `limits` do not ascend from at least 1.
    """
    require_entries(rules, "function of the channels")
    low, high = limits
    if not 1 <= low < high:
        raise ValueError(f"limits must ascend from at least 1, got {limits}")
    channels = np.arange(low, high + 1)
    curves = {name: np.array([rule(int(count)) for count in channels]) for name, rule in rules.items()}
    words = [f"{name} from {sizes[0]} at {low} channels to {sizes[-1]} at {high}" for name, sizes in curves.items()]
    figure, axes = new_figure(7.2, 3.2, alt=f"Kernel size by number of channels: {listed(words)}.")
    for i, (name, sizes) in enumerate(curves.items()):
        colour = CYCLE[i % len(CYCLE)]
        axes.step(channels, sizes, where="post", color=colour, label=name, linestyle=("-", (0, (4, 2)))[i % 2])
        axes.plot(marks, [rules[name](count) for count in marks], "o", color=colour, markersize=7)
    axes.set_xscale("log", base=2)
    powers = [2**n for n in range(20) if low <= 2**n <= high]
    axes.set_xticks(powers, [f"{power:,}" for power in powers], fontsize=8)
    axes.minorticks_off()
    axes.set(xlabel="channels (logarithmic)", ylabel="kernel (channels)", xlim=limits,
             yticks=range(1, max(map(max, curves.values())) + 1, 2))
    axes.legend(loc="upper left")
    if title:
        axes.set_title(title)
    return figure


@themed
def split_order(radix: int = 2, cardinality: int = 2, channels: int = 4, *, title: str | None = None) -> Figure:
    """Two orders of the same radix × channels numbers in Split-Attention, and how one becomes the other.

    Above, as the last convolution of the attention gives its weights: by group, then by split. Below, as the 3×3
    convolution orders the maps that they weigh: by split, then by group. Colour is the split, the text
    group.channel. Raises ValueError unless both are at least 1 and `cardinality` divides `channels`.
    """
    if radix < 1 or cardinality < 1 or channels < 1 or channels % cardinality:
        raise ValueError("radix and cardinality must be at least 1, and cardinality divide channels; got "
                         f"{radix}, {cardinality} and {channels}")
    width = channels // cardinality
    above = [(k, r, c) for k in range(cardinality) for r in range(radix) for c in range(width)]
    below = [(k, r, c) for r in range(radix) for k in range(cardinality) for c in range(width)]
    moved = sum(one != other for one, other in zip(above, below, strict=True))
    figure, axes = new_figure(7.8, 2.7, alt=(
        f"Order of {len(above)} channels in Split-Attention with radix {radix} and cardinality {cardinality}: by "
        f"group, then split, above; by split, then group, below; {moved} of them change places."))
    for y, order in ((1, above), (0, below)):
        for x, (k, r, c) in enumerate(order):
            colour = CYCLE[r % len(CYCLE)]
            axes.add_patch(Rectangle((x + 0.06, y - 0.16), 0.88, 0.32, facecolor=tint(colour, 0.3), edgecolor=colour,
                                     linewidth=1.6))
            axes.text(x + 0.5, y, f"{k}.{k * width + c}", ha="center", va="center", fontsize=min(9, 110 / len(order)))
    for x, one in enumerate(above):
        axes.plot([x + 0.5, below.index(one) + 0.5], [0.82, 0.18], color=CYCLE[one[1] % len(CYCLE)], linewidth=1.4)
    axes.text(0, 1.27, "weights, as the attention puts them out: by group, then by split", fontsize=9, color=INK)
    axes.text(0, -0.32, "maps of the 3×3 convolution: by split, then by group", fontsize=9, color=INK)
    for r in range(radix):
        axes.plot([], [], "s", color=CYCLE[r % len(CYCLE)], label=f"split {r}")
    figure.legend(loc="outside upper right", ncols=radix, handletextpad=0.3)
    axes.text(len(above), -0.32, "text: group.channel", fontsize=9, color=MUTED, ha="right")
    axes.set(xlim=(-0.05, len(above) + 0.05), ylim=(-0.42, 1.42))
    axes.set_axis_off()
    headline(figure, title)
    return figure
