"""How an auxiliary classifier begins: Szegedy et al., GoogLeNet, 2014, https://arxiv.org/abs/1409.4842, sec. 5."""
import torch.nn.functional as F
from torch import Tensor, nn


class AuxiliaryPool(nn.Module):
    """5x5 average pooling with stride 3, then, unless that gave `side` x `side`, to `side` x `side`.

    Shape: (N, channels, H, W) -> (N, channels, side, side), for any H and W: the linear layers or unpadded
    convolutions of the classifier that follow need one size. A map smaller than 5 pixels is averaged whole.
    Cost: no multiply-adds.
    """

    def __init__(self, side: int):
        super().__init__()
        if side < 1:
            raise ValueError(f"side must be at least 1, got {side}")
        self.side = side

    def extra_repr(self) -> str:
        return f"side={self.side}"

    def forward(self, x: Tensor) -> Tensor:
        window = [min(5, length) for length in x.shape[2:]]
        return F.adaptive_avg_pool2d(F.avg_pool2d(x, window, stride=3), self.side)
