"""Wrong answers to the exercises of chapter 00, and words that the refusal must have."""
import numpy as np
import torch
from torch import nn
from torchvision.transforms import v2

import lwcourse as lw


def counted(expression):
    """A function that counts by an expression of c, d (channels in and out), k, h, w and g (groups)."""
    code = compile(expression, expression, "eval")

    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return eval(code, {"c": in_channels, "d": out_channels, "k": kernel, "h": height, "w": width, "g": groups})
    return lambda: conv_macs


def depthwise_by_default():
    return lambda in_channels, out_channels, kernel, height, width, groups=None: (
        in_channels // (groups or in_channels) * out_channels * kernel**2 * height * width)


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


def traffic(layer):
    return layer.traffic_bytes


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


def of_layers(chosen, whole=lambda cost: cost.macs):
    """A function that divides the MACs of the layers that `chosen(name, module)` takes by `whole(cost)`."""
    def depthwise_share(network, input_size):
        modules, cost = dict(network.named_modules()), lw.profile(network, input_size)
        return sum(layer.macs for layer in cost.layers if chosen(layer.name, modules[layer.name])) / whole(cost)
    return lambda: depthwise_share


def one_layer(place):
    def depthwise_share(network, input_size):
        modules, cost = dict(network.named_modules()), lw.profile(network, input_size)
        return [layer.macs for layer in cost.layers if is_depthwise(modules[layer.name])][place] / cost.macs
    return lambda: depthwise_share


def rounded(decimals):
    return lambda: lambda network, input_size: round(share(macs, is_depthwise)()(network, input_size), decimals)


def fixed_size(side):
    return lambda: lambda network, input_size: share(macs, is_depthwise)()(network, (3, side, side))


def upside_down():
    return lambda network, input_size: 1 / share(macs, is_depthwise)()(network, input_size)


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


def none_for_the_layer(network):
    network.blocks[8].project.act = None


def none_for_the_attribute(network):
    network.blocks[8].project[2] = None


def other_stride(network):
    network.blocks[3].depthwise.conv.stride = (3, 3)


def shortcut_elsewhere(network):
    network.blocks[13].has_shortcut = True


def stride_elsewhere(network):
    network.blocks[2].depthwise.conv.stride = (2, 2)


def stride_in_the_projection(network):
    network.blocks[3].project.conv.stride = (2, 2)


def stride_by_pooling(network):
    network.blocks[3].project = nn.Sequential(nn.MaxPool2d(1, 2), *network.blocks[3].project)


def all_projections(network):
    for block in network.blocks:
        block.project.act = nn.Identity()
        block.depthwise.act = nn.Identity()


def all_blocks(network):
    network.blocks = lw.create_model("mobilenet_v2").blocks


def new_stem(network):
    network.stem = lw.create_model("mobilenet_v2").stem


def new_network():
    def mended(network):
        return lw.create_model("mobilenet_v2")
    return mended


def nothing_returned():
    def mended(network):
        for repair in (stride, linear, shortcut):
            repair(network)
    return mended


# 00.4

def shapes(stem=(4, 32, 80, 48), blocks=(4, 320, 5, 3), head=(4, 1280, 5, 3), logits=(4, 1000)):
    return lambda: {"stem": stem, "blocks": blocks, "head": head, "logits": logits}


def changed(change):
    """Each of the right shapes, changed."""
    return lambda: {place: change(shape) for place, shape in shapes()().items()}


def without_logits():
    return {place: shape for place, shape in shapes()().items() if place != "logits"}


# 00.5

def prepared(network, photo):
    return lw.weights_of(network).transform()(photo)[None]


def named(prepare=prepared, squash=lambda logits: logits.softmax(1), give=lambda name, share: (name, share),
          training=False):
    """A function that prepares, squashes and gives so."""
    def build():
        def best(network, photo):
            network.train(training)
            if training:
                network.classifier[0].p = 0.0
            with torch.no_grad():
                shares = squash(network(prepare(network, photo)))[0]
            return give(lw.weights_of(network).classes[shares.argmax().item()], shares.max().item())
        return best
    return build


def not_normalised(network, photo):
    weights = lw.weights_of(network)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (weights.mean, weights.std))
    return prepared(network, photo) * std + mean


def pressed(network, photo):
    weights = lw.weights_of(network)
    square = v2.functional.resize(photo, [weights.size] * 2, v2.InterpolationMode.BICUBIC, antialias=True)
    return v2.Normalize(weights.mean, weights.std)(square)[None]


def bilinear(network, photo):
    """Close, but not what the weights were trained with."""
    weights = lw.weights_of(network)
    small = v2.CenterCrop(weights.size)(v2.Resize(weights.resize // 2 * 3, antialias=True)(photo))
    return v2.Normalize(weights.mean, weights.std)(small)[None]


def index_and_share():
    def best(network, photo):
        with torch.no_grad():
            share, index = network.eval()(prepared(network, photo)).softmax(1).max(1)
        return index.item(), share.item()
    return best


def the_other_name():
    def best(network, photo):
        with torch.no_grad():
            shares = network.eval()(prepared(network, photo)).softmax(1)[0]
        return lw.weights_of(network).classes[shares.argsort()[-2]], shares.max().item()
    return best


# 00.6

def ratio(rule):
    return lambda: lambda a, b: rule(np.array(a), np.array(b))


# 00.7

def chosen(fits=lambda card, params, macs: card.counted_params <= params and card.counted_macs <= macs,
           best=lambda card: card.published_top1, give=lambda card: card.name, nothing=None):
    def build():
        def choose(names, max_params, max_macs):
            cards = [card for card in map(lw.model_card, names)
                     if card.published_top1 and fits(card, max_params, max_macs)]
            return give(max(cards, key=best)) if cards else nothing
        return choose
    return build


def the_unknown():
    def choose(names, max_params, max_macs):
        cards = [card for card in map(lw.model_card, names)
                 if card.counted_params <= max_params and card.counted_macs <= max_macs]
        return max(cards, key=lambda card: card.published_top1 or 100.0).name if cards else None
    return choose


def as_published(card, params, macs):
    return (card.published_params_m or 1e9) * 1e6 <= params and (card.published_macs_m or 1e9) * 1e6 <= macs


WRONG = {
    "00.4": {
        "no batch": (changed(lambda shape: shape[1:]), "the batch is missing"),
        "one image": (changed(lambda shape: (1, *shape[1:])), "the shapes of one image"),
        "sides exchanged": (changed(lambda shape: (*shape[:2], *shape[:1:-1])), "height and width are exchanged"),
        "224 pixels": (shapes((4, 32, 112, 112), (4, 320, 7, 7), (4, 1280, 7, 7)), "224 x 224 pixels, as in"),
        "channels last": (changed(lambda shape: (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape),
                          "the channels stand last"),
        "logits with sides": (shapes(logits=(4, 1000, 5, 3)), "the logits have no sides"),
        "a flat map": (shapes(blocks=(4, 320)), "blocks: a map has four numbers"),
        "halved once more": (shapes(head=(4, 1280, 3, 2)), "head: its sides are wrong"),
        "other channels": (shapes(head=(4, 320, 5, 3)), "head: its channels are wrong"),
        "one image in the end": (shapes(logits=(1, 1000)), "logits: its first number is wrong"),
        "halves of pixels": (shapes(stem=(4, 32, 80, 48.5)), "half a pixel is none"),
        "the tensor": (lambda: shapes(stem=torch.zeros(4, 32, 80, 48))(), "its .shape is asked for"),
        "a number": (shapes(stem=32), "not a shape such as"),
        "no logits": (without_logits, "there is no 'logits'"),
    },
    "00.5": {
        "per cent": (named(give=lambda name, share: (name, 100 * share)), "these are percentages"),
        "logits": (named(squash=lambda logits: logits), "these are the logits"),
        "sigmoid": (named(squash=torch.sigmoid), "these are sigmoids"),
        "softmax over the batch": (named(squash=lambda logits: logits.softmax(0)), "softmax ran over the images"),
        "logarithms": (named(squash=lambda logits: logits.log_softmax(1)), "logarithms of probabilities"),
        "as it comes": (named(lambda network, photo: photo[None]), "the photograph is not prepared"),
        "not normalised": (named(not_normalised), "but not normalised"),
        "divided by 255": (named(lambda network, photo: prepared(network, photo / 255)), "divided by 255"),
        "pressed": (named(pressed), "pressed into a square"),
        "training mode": (named(training=True), "call .eval() first"),
        "resized otherwise": (named(bilinear), ("coffee: 'espresso' is right", "its probability is not")),
        "index": (index_and_share, "lw.weights_of(network).classes[index] is the name"),
        "the other way round": (named(give=lambda name, share: (share, name)), "the probability comes first"),
        "the name alone": (named(give=lambda name, share: name), "a name and a probability are asked for"),
        "an own name": (named(give=lambda name, share: ("a coffee", share)), "is no class of ImageNet"),
        "the second": (the_other_name, "the network does not say"),
        "text": (named(give=lambda name, share: (name, f"{share:.0%}")), "not a number"),
    },
    "00.6": {
        "means": (ratio(lambda a, b: a.mean() / b.mean()), "you divide the means"),
        "sums": (ratio(lambda a, b: a.sum() / b.sum()), "you divide the means"),
        "mean of ratios": (ratio(lambda a, b: (a / b).mean()), "the mean of the rounds' ratios"),
        "medians": (ratio(lambda a, b: np.median(a) / np.median(b)), "you divide the medians"),
        "shortest": (ratio(lambda a, b: a.min() / b.min()), "you divide the shortest times"),
        "longest": (ratio(lambda a, b: a.max() / b.max()), "the longest times"),
        "upside down": (ratio(lambda a, b: np.median(b / a)), "upside down"),
        "difference": (ratio(lambda a, b: np.median(a) - np.median(b)), "you give a difference"),
        "differences": (ratio(lambda a, b: np.median(a - b)), "the median of the differences"),
        "first": (ratio(lambda a, b: a[0] / b[0]), "the first round alone"),
        "last": (ratio(lambda a, b: a[-1] / b[-1]), "the last round alone"),
        "without the first": (ratio(lambda a, b: a[1:].mean() / b[1:].mean()), "whose true ratio is 2.0"),
        "all ratios": (ratio(lambda a, b: a / b), "not a number"),
    },
    "00.7": {
        "parameters forgotten": (chosen(lambda card, params, macs: card.counted_macs <= macs), "budget of parameters"),
        "MACs forgotten": (chosen(lambda card, params, macs: card.counted_params <= params), "the budget of MACs"),
        "both forgotten": (chosen(lambda card, params, macs: True), "neither budget"),
        "either": (chosen(lambda card, params, macs: card.counted_params <= params or card.counted_macs <= macs),
                   "too many"),
        "fewest MACs": (chosen(best=lambda card: -card.counted_macs), "the fewest MACs"),
        "fewest parameters": (chosen(best=lambda card: -card.counted_params), "the fewest parameters"),
        "largest": (chosen(best=lambda card: card.counted_params), "the largest network that fits"),
        "most MACs": (chosen(best=lambda card: card.counted_macs), "the most MACs"),
        "worst": (chosen(best=lambda card: -card.published_top1), "the least accurate"),
        "published counts": (chosen(as_published), "you compare the published counts"),
        "strictly": (chosen(lambda card, params, macs: card.counted_params < params and card.counted_macs < macs),
                     "meets the budget exactly"),
        "first that fits": (chosen(best=lambda card: 0), "another one that fits is more accurate"),
        "accuracy": (chosen(give=lambda card: card.published_top1), "the name of a network is asked for"),
        "other name": (chosen(give=lambda card: card.family + "!"), "none of the names"),
        "never": (lambda: lambda names, max_params, max_macs: None, "there are networks that fit"),
        "unknown accuracy": (lambda: lambda names, max_params, max_macs: max(
            (lw.model_card(name) for name in names), key=lambda card: card.published_top1).name, "TypeError"),
        "unknown taken": (chosen(nothing="mobilenet_v2_sa"), "too many"),
        "unknown taken for the best": (the_unknown, "whose accuracy nobody has published"),
    },
    "00.1": {
        "a multiply and an add counted as two": (counted("2 * c * d * k**2 * h * w // g"), "one MAC is both together"),
        "groups forgotten": (counted("c * d * k**2 * h * w"), "`groups` makes no difference"),
        "times groups": (counted("c * d * k**2 * h * w * g"), "more groups make a convolution cheaper"),
        "both channels divided": (counted("(c // g) * (d // g) * k**2 * h * w"), "divide by `groups` twice"),
        "kernel not squared": (counted("c * d * k * h * w // g"), "kernel * kernel"),
        "kernel times two": (counted("c * d * 2 * k * h * w // g"), "you take kernel * 2"),
        "no kernel": (counted("c * d * h * w // g"), "you leave the kernel out"),
        "weights": (counted("c * d * k**2 // g"), "you count the weights"),
        "output values": (counted("d * h * w"), "you count the output values"),
        "height taken for width": (counted("c * d * k**2 * h * h // g"), "one side of the map for both"),
        "one filter": (counted("c * k**2 * h * w // g"), "you count one filter"),
        "one channel": (counted("d * k**2 * h * w"), "`in_channels` is missing"),
        "bias": (counted("(c * k**2 // g + 1) * d * h * w"), "additions of a bias"),
        "channels added": (counted("(c + d) * k**2 * h * w // g"), "conv_macs(5, 9, 5, 7, 8): 19,600 is too small"),
        "depthwise by default": (depthwise_by_default, "without groups the default must be 1"),
        "millions": (counted("c * d * k**2 * h * w / g / 1e6"), "millions of MACs"),
        "thousands": (counted("c * d * k**2 * h * w // g // 1000"), "thousands of MACs"),
        "output taken for input": (counted("c * d * k**2 * (h - k + 1) * (w - k + 1) // g"), "you take kernel - 1 off"),
        "text": (counted("str(c * d * k**2 * h * w // g)"), "not a number"),
        "nothing": (counted("None"), "is the return missing?"),
    },
    "00.2": {
        "per cent": (per_cent, "a share is a number from 0 to 1"),
        "MACs": (of_layers(lambda name, module: is_depthwise(module), lambda cost: 1), "the MACs themselves"),
        "parameters": (share(params, is_depthwise), "you count parameters"),
        "layers": (share(one, is_depthwise), "you count layers"),
        "convolutions": (share(one, is_depthwise, is_conv), "you count convolutions"),
        "by name": (of_layers(lambda name, module: "depthwise" in name), "by their names"),
        "by the end of the name": (of_layers(lambda name, module: name.endswith("depthwise.conv")), "by their names"),
        "3x3 with groups": (of_layers(lambda name, module: is_depthwise(module) and module.kernel_size == (3, 3)),
                            "only 3x3 kernels"),
        "every large kernel": (share(macs, is_spatial), "every convolution with a kernel above 1"),
        "every convolution": (share(macs, is_conv), "you count every convolution;"),
        "classifier left out": (share(macs, is_depthwise, is_conv), "the classifier is part of the network"),
        "divided by the rest": (share(macs, is_depthwise, lambda module: not is_depthwise(module)),
                                "the MACs of the other layers"),
        "upside down": (upside_down, "upside down"),
        "the others": (share(macs, lambda module: not is_depthwise(module)), "all other layers"),
        "as many channels out": (of_layers(lambda name, module: is_depthwise(module)
                                           and module.in_channels == module.out_channels), "more channels out than in"),
        "bytes": (share(traffic, is_depthwise), "by the bytes that they move"),
        "= for +=": (one_layer(-1), "the last of the depthwise convolutions"),
        "return in the loop": (one_layer(0), "the first of the depthwise convolutions"),
        **{f"{decimals} decimals": (rounded(decimals), f"you round, as to {decimals} decimals")
           for decimals in range(1, 6)},
        "always 224 pixels": (fixed_size(224), "`input_size` makes no difference"),
        "always 100 pixels": (fixed_size(100), "`input_size` makes no difference"),
        "the profile": (lambda: lambda network, input_size: lw.profile(network, input_size), "this is a whole profile"),
    },
    "00.3": {
        "nothing mended": (mend(), "stride 1, but the reference has stride 2"),
        "one mended": (mend(stride), ("blocks.8", "activation")),
        "two mended": (mend(stride, linear), "the shortcut is missing"),
        "another stride": (mend(other_stride, linear, shortcut), "stride 3, but the reference has stride 2"),
        "None for the layer": (mend(stride, none_for_the_layer, shortcut), "`blocks.8.project.act` is None"),
        "None in the sequence": (mend(stride, none_for_the_attribute, shortcut), "None cannot be called"),
        "a shortcut too many": (mend(stride, linear, shortcut, shortcut_elsewhere),
                                ("the shortcut is taken where it cannot be", "has_shortcut")),
        "a stride too many": (mend(stride, linear, shortcut, stride_elsewhere), ("the shortcut is taken", "a stride")),
        "all activations gone": (mend(stride, shortcut, all_projections), ("blocks.0", "activation is missing")),
        "all blocks new": (mend(all_blocks), ("layers without an error are new", "blocks.0.")),
        "a new stem": (mend(stride, linear, shortcut, new_stem), ("layers without an error are new", "stem.conv")),
        "the stride in the projection": (mend(stride_in_the_projection, linear, shortcut), ("more work", "MACs")),
        "the stride by pooling": (mend(stride_by_pooling, linear, shortcut), ("more work", "MACs")),
        "a new network": (new_network, "the network that it is given"),
        "nothing returned": (nothing_returned, "return network"),
    },
}
SLOW = {("00.3", name) for name in ("all blocks new", "a new stem")}  # equal, so that all is compared
