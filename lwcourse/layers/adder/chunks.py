"""The adder convolution in operators of PyTorch, for any device; memory stays near that of the unfolded patches."""
import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]
CHUNK = {"cpu": 2**19, "other": 2**24}  # differences w - x that are held at once


def distances(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """-sum |x - w| over the patches of `x`, in its memory format."""
    patches = F.unfold(x, weight.shape[2:], padding=padding, stride=stride).transpose(1, 2)  # (N, positions, C*k*k)
    found = torch.cdist(patches, weight.flatten(1).expand(len(x), -1, -1), p=1).transpose(1, 2).neg()
    return found.unflatten(2, output_sides(x, weight, stride, padding)).contiguous(memory_format=memory_format(x))


def input_gradient(x: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """sum grad * clamp(w - x, -1, 1) over all patches that a pixel is in."""
    kernel = weight.shape[2:]
    patches = F.unfold(x, kernel, padding=padding, stride=stride).transpose(1, 2).flatten(0, 1)
    grad_rows, weight_rows = grad.permute(0, 2, 3, 1).flatten(0, 2), weight.flatten(1)
    step = max(1, CHUNK["cpu" if x.device.type == "cpu" else "other"] // weight.numel())
    for part, g in zip(patches.split(step), grad_rows.split(step), strict=True):
        slopes = (weight_rows - part[:, None]).clamp_(-1, 1)  # (positions, O, C*k*k)
        part.copy_(torch.bmm(g[:, None], slopes)[:, 0])       # a patch that was read gives its place to the result
    positions = grad.shape[2] * grad.shape[3]
    patches = patches.unflatten(0, (len(x), positions)).transpose(1, 2)
    return F.fold(patches, x.shape[2:], kernel, padding=padding, stride=stride)


def output_sides(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Pair:
    """(height, width) of the output, as a convolution's."""
    height, width = ((x.shape[2 + i] + 2 * padding[i] - weight.shape[2 + i]) // stride[i] + 1 for i in (0, 1))
    return height, width


def memory_format(x: Tensor) -> torch.memory_format:
    """channels_last for maps that lie so, and not, as a single channel does, in either way."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
