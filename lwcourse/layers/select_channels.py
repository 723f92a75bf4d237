"""Index layer: Huang et al., CondenseNet, CVPR 2018, https://arxiv.org/abs/1711.09224, sec. 3.1 and Figure 1."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SelectChannels(nn.Module):
    """The channels named by `index`, in its order; one may come twice.

    Shape: (N, channels, ...) -> (N, len(index), ...).
    Cost: no arithmetic; what is selected is copied once.
    `index` is a buffer, so that it is saved with the weights that fit it.
    Raises ValueError when `index` is empty or has a negative entry.
    """

    def __init__(self, index: Sequence[int] | Tensor):
        super().__init__()
        given = index if isinstance(index, Tensor) else torch.as_tensor(index, device="cpu")
        looked_at = given.device.type != "meta"  # where a tensor has a shape and no numbers
        if given.dim() != 1 or not len(given) or (looked_at and given.min() < 0):
            raise ValueError("index must be a list of channels, counted from 0, got "
                             f"{given.tolist() if looked_at else given}")
        self.register_buffer("index", torch.as_tensor(index, dtype=torch.long).clone())

    def extra_repr(self) -> str:
        return f"{len(self.index)} channels"

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.index)
