"""The initialisation that the official code of the MobileNets and most of their successors share."""
from torch import nn


def initialise(network: nn.Module, mode: str = "fan_out") -> None:
    """He initialisation, in place: convolutions ~ N(0, 2 / (k*k*out_channels)), linear layers ~ N(0, 0.01^2),
    biases 0, BatchNorm weight 1 and bias 0.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852, in its fan-out form; `mode` "fan_in" has in_channels
    in the place of out_channels.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
