"""Average pooling to a given size, which ONNX can express only where the size divides the map."""
import torch
import torch.nn.functional as F
from torch import Tensor


def adaptive_average_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`F.adaptive_avg_pool2d`, exported to ONNX as two matrix products, which are equal.

    Shape: (N, channels, H, W) -> (N, channels, *size), smaller or larger. Size and map are then fixed in the file.
    """
    if not torch.onnx.is_in_onnx_export():
        return F.adaptive_avg_pool2d(x, size)
    rows, columns = (_shares(int(old), new).to(x) for old, new in zip(x.shape[2:], size, strict=True))
    return rows @ x @ columns.T


def _shares(old: int, new: int) -> Tensor:
    """(new, old): the share of each old pixel in each new one, which is the mean of those that it touches."""
    shares = [[0.0] * old for _ in range(new)]  # a list: tracing would record what fills a tensor
    for i, row in enumerate(shares):
        start, end = i * old // new, -(-(i + 1) * old // new)
        row[start:end] = [1 / (end - start)] * (end - start)
    return torch.tensor(shares)
