"""New statistics for BatchNorm, where those from training are not the network's own.

So for a path of a super-network (Guo et al., ECCV 2020, https://arxiv.org/abs/1904.00420, sec. 3.4) and for averaged
weights (Izmailov et al., UAI 2018, https://arxiv.org/abs/1803.05407).
"""
from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Set every BatchNorm's statistics to the mean of those of the batches `images`, in place.

    Everything else, dropout too, is as in eval mode; modes are afterwards as before. Cost: a forward for each batch.
    Raises ValueError when there is no batch.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes, momenta = {module: module.training for module in network.modules()}, [norm.momentum for norm in norms]
    batches = 0
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
            norm.momentum = None  # a plain mean over all batches
        for batch in images:
            network(batch)
            batches += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if not batches:
        raise ValueError("recalibrate needs a batch of images at least, got none: the statistics are 0 and 1 now")
