"""Right answers to the exercises of chapter 00, in different styles."""
import operator
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import ConvBNAct
from lwcourse.models.mobilenet_v2 import InvertedResidual

# 00.1


def by_the_weight():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        weight = nn.Conv2d(in_channels, out_channels, kernel, groups=groups, device="meta").weight
        return weight.numel() * height * width
    return conv_macs


def a_group_at_a_time():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        total = 0
        for _ in range(groups):
            total += in_channels // groups * (out_channels // groups) * kernel**2 * height * width
        return total
    return conv_macs


def divided():
    return lambda in_channels, out_channels, kernel, height, width, groups=1: (
        in_channels / groups * out_channels * kernel * kernel * height * width)


def with_numpy():
    return lambda *sizes, groups=1: np.prod([*sizes[:3], sizes[2], *sizes[3:]]) // groups


def as_a_tensor():
    return lambda in_channels, out_channels, kernel, height, width, groups=1: torch.tensor(
        [in_channels // groups, out_channels, kernel, kernel, height, width]).prod()


def profiled():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups)
        return lw.profile(conv, (in_channels, height, width)).macs
    return conv_macs


class Callable:
    def __call__(self, in_channels, out_channels, kernel, height, width, groups=1):
        return reduce(operator.mul, (in_channels, out_channels, kernel, kernel, height, width)) // groups


# 00.2


def by_modules():
    def depthwise_share(network, input_size):
        cost = lw.profile(network, input_size)
        wanted = {name for name, module in network.named_modules()
                  if isinstance(module, nn.Conv2d) and module.groups == module.in_channels}
        return sum(layer.macs for layer in cost.layers if layer.name in wanted) / cost.macs
    return depthwise_share


def more_than_one_group():
    def depthwise_share(network, input_size):
        cost, part = lw.profile(network, input_size), 0
        for layer in cost.layers:
            if getattr(network.get_submodule(layer.name), "groups", 1) != 1:
                part += layer.macs
        return part / cost.macs
    return depthwise_share


def one_channel_a_filter():
    def depthwise_share(network, input_size):
        cost, modules = lw.profile(network, input_size), dict(network.named_modules())
        macs = np.array([layer.macs for layer in cost.layers])
        shapes = [getattr(modules[layer.name], "weight", torch.zeros(0)).shape for layer in cost.layers]
        chosen = np.array([len(shape) == 4 and shape[1] == 1 for shape in shapes])
        return macs[chosen].sum() / macs.sum()
    return depthwise_share


def counted_by_hooks():
    def depthwise_share(network, input_size):
        macs = {True: 0, False: 0}

        def add(module, _, output):
            depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
            macs[depthwise] += output.numel() * module.weight[0].numel()

        hooks = [module.register_forward_hook(add) for module in network.modules()
                 if isinstance(module, nn.Conv2d | nn.Linear)]
        with torch.no_grad():
            network.eval()(torch.zeros(1, *input_size))
        for hook in hooks:
            hook.remove()
        return macs[True] / sum(macs.values())
    return depthwise_share


def as_tensor_of_one():
    return lambda network, input_size: torch.tensor([by_modules()(network, input_size)])


def the_rest_taken_away():
    def depthwise_share(network, input_size):
        cost = lw.profile(network, list(input_size))
        groups = {name: m.groups for name, m in network.named_modules() if hasattr(m, "groups")}
        return 1 - sum(one.macs for one in cost.layers if groups.get(one.name, 1) == 1) / cost.macs
    return depthwise_share


# 00.3


def mended(linear, stride=(2, 2)):
    """A function that mends the projection with `linear(block)`."""
    def build():
        def mend(network):
            network.blocks[3].depthwise.conv.stride = stride
            linear(network.blocks[8])
            network.blocks[14].has_shortcut = True
            return network
        return mend
    return build


def identity(block):
    block.project.act = nn.Identity()


def deleted(block):
    del block.project.act


def sliced(block):
    block.project = block.project[:2]


def rebuilt(block):
    conv = block.project.conv
    block.project = ConvBNAct(conv.in_channels, conv.out_channels, 1, act=None)


def new_blocks():
    def mend(network):
        network.blocks[3] = InvertedResidual(24, 32, 2, 6)
        network.blocks[8] = InvertedResidual(64, 64, 1, 6)
        network.blocks[14] = InvertedResidual(160, 160, 1, 6)
        return network
    return mend


def like_a_whole_one():
    """Asks a network without errors."""
    def mend(network):
        right = lw.create_model("mobilenet_v2")
        for mine, block in zip(network.blocks, right.blocks, strict=True):
            mine.has_shortcut = block.has_shortcut
            mine.depthwise.conv.stride = block.depthwise.conv.stride
            if len(mine.project) > len(block.project):
                mine.project = mine.project[:len(block.project)]
        return network
    return mend


class Doubled(nn.Module):
    def forward(self, x):
        return F.relu(x) - F.relu(-x)


def other_linear(block):
    block.project.act = Doubled()


RIGHT = {
    "00.1": {"the weight's numbers": by_the_weight, "a group at a time": a_group_at_a_time, "floats": divided,
             "NumPy": with_numpy, "a tensor without axes": as_a_tensor, "profiled": profiled,
             "an object that can be called": Callable},
    "00.2": {"names of modules": by_modules, "more than one group": more_than_one_group,
             "one channel a filter, NumPy": one_channel_a_filter, "hooks": counted_by_hooks,
             "a tensor of one element": as_tensor_of_one, "1 minus the rest": the_rest_taken_away},
    "00.3": {"identity": mended(identity), "deleted": mended(deleted), "sliced": mended(sliced, stride=2),
             "rebuilt": mended(rebuilt), "new blocks": new_blocks, "asks a whole one": like_a_whole_one,
             "an identity of another kind": mended(other_linear)},
}
SLOW = {("00.3", name) for name in RIGHT["00.3"]} - {("00.3", "sliced")}  # seconds each
