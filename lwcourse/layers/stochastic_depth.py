"""Stochastic depth: Huang et al., ECCV 2016, https://arxiv.org/abs/1603.09382."""
from torch import Tensor, nn

from lwcourse.layers.validate import check_rate


class StochasticDepth(nn.Module):
    """In training, drop a residual branch for each image with probability `rate`, and scale it up where it is kept.

    Shape: (N, ...) -> the same. The mean over many drops is the branch itself, which is what eval mode returns.
    Raises ValueError unless 0 <= rate < 1. Cost: none in eval mode.
    """

    def __init__(self, rate: float):
        super().__init__()
        check_rate("the rate of stochastic depth", rate)
        self.rate = rate

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))
