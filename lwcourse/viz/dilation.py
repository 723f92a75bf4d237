"""What dilated convolutions make of one bright pixel: the grid of holes, and what fills it."""
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from lwcourse.viz.labels import listed, require_entries
from lwcourse.viz.theme import Figure, new_figure, themed

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
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure
