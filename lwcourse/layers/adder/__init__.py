"""The adder convolution: `conv.py` is the layer, `variants.py` what else it might have been, the rest its kernels."""
from lwcourse.layers.adder.conv import AdderConv2d

__all__ = ["AdderConv2d"]
