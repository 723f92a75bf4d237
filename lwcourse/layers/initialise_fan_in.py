"""The initialisation of the ShuffleNets in Megvii's official code."""
from torch import nn


def initialise_fan_in(network: nn.Module, stem: nn.Module) -> None:
    """Convolutions ~ N(0, 1 / c^2) with c the input channels of one group, in place; linear layers and the
    convolutions of `stem` ~ N(0, 0.01^2), biases 0, BatchNorm weight 1 and bias 0.0001.

    Source: github.com/megvii-model/ShuffleNet-Series (`_initialize_weights`).
    """
    first = set(stem.modules())
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01 if module in first else 1 / module.weight.shape[1])
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, 0.0001)
            continue
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
