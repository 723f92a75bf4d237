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
        index = torch.as_tensor(index, dtype=torch.long).clone()
        if index.dim() != 1 or not len(index) or index.min() < 0:
            raise ValueError(f"index must be a list of channels, counted from 0, got {index.tolist()}")
        self.register_buffer("index", index)

    def extra_repr(self) -> str:
        return f"{len(self.index)} channels"

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.index)
