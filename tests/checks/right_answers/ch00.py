"""Right answers to the exercises of chapter 00, in different styles."""
import operator
from functools import reduce
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
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


# 00.4

def shapes(*sides, channels=(32, 320, 1280), classes=1000, batch=4, kind=tuple):
    """The dict of 00.4, from the sides of the stem's map and of the last one."""
    places = dict(zip(("stem", "blocks", "head"), channels, strict=True))
    found = {place: kind((batch, count, *sides[place != "stem"])) for place, count in places.items()}
    return found | {"logits": kind((batch, classes))}


def run_by_hand():
    network, x = lw.create_model("efficientnet_lite0").eval(), torch.zeros(4, 3, 160, 96)
    with torch.no_grad():
        found = {"stem": network.stem(x)}
        found["blocks"] = network.blocks(found["stem"])
        found["head"] = network.head(found["blocks"])
    return {place: one.shape for place, one in found.items()} | {"logits": network(x).shape}


# 00.5

def prepared(network, photo):
    return lw.weights_of(network).transform()(photo).unsqueeze(0)


def by_softmax():
    def best(network, photo):
        network.eval()
        with torch.no_grad():
            share, index = network(prepared(network, photo)).softmax(dim=1).max(dim=1)
        return lw.weights_of(network).classes[index.item()], share.item()
    return best


def with_gradients_and_tensors():
    def best(network, photo):
        shares = F.softmax(network.eval()(prepared(network, photo)).squeeze(0), dim=0)
        return [lw.weights_of(network).classes[shares.argmax()], shares.max()]
    return best


def by_exponentials():
    def best(network, photo):
        with torch.inference_mode():
            logits = network.train(False)(prepared(network, photo))[0].double().numpy()
        shares = np.exp(logits) / np.exp(logits).sum()
        return lw.weights_of(network).classes[int(np.argmax(shares))], shares.max()
    return best


def by_log_softmax():
    def best(network, photo):
        logs = network.eval()(prepared(network, photo)).log_softmax(-1).flatten()
        return lw.weights_of(network).classes[logs.topk(1).indices.item()], logs.max().exp().item()
    return best


def transformed_by_hand():
    def best(network, photo):
        weights = lw.weights_of(network)
        height, width = photo.shape[1:]
        scale = weights.resize / min(height, width)
        resized = torchvision.transforms.v2.functional.resize(
            photo, [int(height * scale), int(width * scale)], antialias=True,
            interpolation=torchvision.transforms.InterpolationMode.BICUBIC)
        top, left = (round((side - weights.size) / 2) for side in resized.shape[1:])
        cut = resized[:, top:top + weights.size, left:left + weights.size]
        x = (cut - torch.tensor(weights.mean).view(3, 1, 1)) / torch.tensor(weights.std).view(3, 1, 1)
        shares = network.eval()(x[None]).softmax(1)[0].tolist()
        return weights.classes[shares.index(max(shares))], max(shares)
    return best


def as_a_dict():
    def best(network, photo):
        name, share = by_softmax()(network, photo)
        return {name: share}
    return best


# 00.6

def cut_mean(a, b):
    """Without the three smallest and the three largest."""
    return np.mean(np.sort(np.divide(a, b))[3:-3])


def by_logarithms(a, b):
    return np.exp(np.median(np.log(a) - np.log(b)))


def sorted_middle(a, b):
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    return ratios[len(ratios) // 2]


# 00.7

def with_a_loop():
    def choose(names, max_params, max_macs):
        best = None
        for name in names:
            card = lw.model_card(name)
            if card.published_top1 is None or card.counted_params > max_params or card.counted_macs > max_macs:
                continue
            if best is None or card.published_top1 > lw.model_card(best).published_top1:
                best = name
        return best
    return choose


def by_sorting():
    def choose(names, max_params, max_macs):
        cards = sorted(map(lw.model_card, names), key=lambda card: card.published_top1 or 0, reverse=True)
        return next((card.name for card in cards if card.published_top1 and card.counted_params <= max_params
                     and card.counted_macs <= max_macs), None)
    return choose


def with_arrays():
    def choose(names, max_params, max_macs):
        cards = [lw.model_card(name) for name in names]
        top1 = np.array([card.published_top1 or np.nan for card in cards])
        top1[np.array([card.counted_params for card in cards]) > max_params] = np.nan
        top1[np.array([card.counted_macs for card in cards]) > max_macs] = np.nan
        return None if np.isnan(top1).all() else names[int(np.nanargmax(top1))]
    return choose


def by_max():
    return lambda names, max_params, max_macs: max(
        (name for name in names if lw.model_card(name).counted_params <= max_params
         and lw.model_card(name).counted_macs <= max_macs and lw.model_card(name).published_top1),
        key=lambda name: lw.model_card(name).published_top1, default=None)


def by_a_dict():
    def choose(names, max_params, max_macs):
        fitting = {}
        for name in names:
            card = lw.model_card(name)
            if card.counted_params <= max_params and card.counted_macs <= max_macs and card.published_top1:
                fitting[card.published_top1] = name
        return fitting[max(fitting)] if fitting else None
    return choose


def by_profiling_once():
    def choose(names, max_params, max_macs):
        def fits(card):
            return card.published_top1 is not None and not (
                card.counted_params > max_params or card.counted_macs > max_macs)
        left = list(filter(fits, map(lw.model_card, names)))
        left.sort(key=lambda card: card.published_top1)
        return left.pop().name if left else None
    return choose


RIGHT = {
    "00.4": {"typed": lambda: shapes((80, 48), (5, 3)), "lists": lambda: shapes((80, 48), (5, 3), kind=list),
             "run": run_by_hand, "sizes": lambda: shapes((80, 48), (5, 3), kind=torch.Size),
             "arrays": lambda: shapes((80, 48), (5, 3), kind=np.array),
             "tensors": lambda: shapes((80, 48), (5, 3), kind=torch.tensor),
             "more than asked for": lambda: {"image": (4, 3, 160, 96)} | shapes((80, 48), (5, 3))},
    "00.5": {"softmax": by_softmax, "tensors": with_gradients_and_tensors, "exponentials": by_exponentials,
             "logarithms": by_log_softmax, "prepared by hand": transformed_by_hand, "a dict": as_a_dict},
    "00.6": {"median": lambda: lambda a, b: median(x / y for x, y in zip(a, b, strict=True)),
             "NumPy": lambda: lambda a, b: np.median(np.array(a) / np.array(b)),
             "PyTorch": lambda: lambda a, b: (torch.tensor(a) / torch.tensor(b)).median(),
             "cut mean": lambda: cut_mean, "logarithms": lambda: by_logarithms, "the middle": lambda: sorted_middle},
    "00.7": {"a loop": with_a_loop, "sorted": by_sorting, "arrays": with_arrays, "max": by_max, "a dict": by_a_dict,
             "cards": by_profiling_once},
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
