"""Wrong answers to the exercises of chapter 00, and words that the refusal must have."""
from torch import nn

import lwcourse as lw


def flops():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return 2 * in_channels * out_channels * kernel**2 * height * width // groups
    return conv_macs


def without_groups():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return in_channels * out_channels * kernel**2 * height * width
    return conv_macs


def kernel_once():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return in_channels * out_channels * kernel * height * width // groups
    return conv_macs


def only_squares():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return in_channels * out_channels * kernel**2 * height * height // groups
    return conv_macs


def share(weight, chosen, base=lambda module: True):
    """A function that divides the `weight` of the `chosen` layers by that of the `base` layers."""
    def build():
        def depthwise_share(network, input_size):
            modules = dict(network.named_modules())
            layers = [(modules[layer.name], layer) for layer in lw.profile(network, input_size).layers]
            part, whole = (sum(weight(layer) for module, layer in layers if wanted(module))
                           for wanted in (chosen, base))
            return part / whole
        return depthwise_share
    return build


def macs(layer):
    return layer.macs


def params(layer):
    return layer.params


def one(layer):
    return 1


def is_conv(module):
    return isinstance(module, nn.Conv2d)


def is_spatial(module):
    return is_conv(module) and module.kernel_size > (1, 1)


def is_depthwise(module):
    return is_conv(module) and module.groups == module.in_channels


def per_cent():
    def depthwise_share(network, input_size):
        return 100 * share(macs, is_depthwise)()(network, input_size)
    return depthwise_share


def fixed_size():
    def depthwise_share(network, input_size):
        return share(macs, is_depthwise)()(network, (3, 224, 224))
    return depthwise_share


def mend(*repairs):
    """A function that makes some of the repairs."""
    def build():
        def mended(network):
            for repair in repairs:
                repair(network)
            return network
        return mended
    return build


def stride(network):
    network.blocks[3].depthwise.conv.stride = (2, 2)


def linear(network):
    network.blocks[8].project.act = nn.Identity()


def shortcut(network):
    network.blocks[14].has_shortcut = True


def new_network():
    def mended(network):
        return lw.create_model("mobilenet_v2")
    return mended


def nothing_returned():
    def mended(network):
        for repair in (stride, linear, shortcut):
            repair(network)
    return mended


WRONG = {
    "00.1": {
        "a multiply and an add counted as two": (flops, "one MAC is both together"),
        "groups forgotten": (without_groups, "`groups` makes no difference"),
        "kernel not squared": (kernel_once, "kernel * kernel"),
        "height taken for width": (only_squares, "too small"),
    },
    "00.2": {
        "per cent": (per_cent, "a share is a number from 0 to 1"),
        "parameters": (share(params, is_depthwise), "you count parameters"),
        "layers": (share(one, is_depthwise), "you count layers"),
        "every large kernel": (share(macs, is_spatial), "every convolution with a kernel above 1"),
        "every convolution": (share(macs, is_conv), "you count every convolution;"),
        "classifier left out": (share(macs, is_depthwise, is_conv), "the classifier is part of the network"),
        "the others": (share(macs, lambda module: not is_depthwise(module)), "all other layers"),
        "always 224 pixels": (fixed_size, "mobilenet_v1, (3, 64, 64)"),
    },
    "00.3": {
        "nothing mended": (mend(), "stride 1, but the reference has stride 2"),
        "one mended": (mend(stride), ("blocks.8", "activation")),
        "two mended": (mend(stride, linear), "the shortcut is missing"),
        "a new network": (new_network, "the network that it is given"),
        "nothing returned": (nothing_returned, "return network"),
    },
}
