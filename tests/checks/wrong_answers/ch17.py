"""Wrong answers to the exercises of chapter 17, and words that the refusal must have."""
import time
from statistics import fmean, median

import torch
import torch.nn.functional as F

import lwcourse as lw

# 17.1


def report(**changes):
    layers = [one for one in lw.profile(lw.create_model("mobilenet_v2", width=0.5), (3, 160, 160)).layers
              if one.kind == "Conv2d"]

    def below(batch, weights=1, macs=None):
        return sum((macs or batch) * one.macs / (batch * (one.input_bytes + one.output_bytes)
                                                 + weights * one.parameter_bytes) < 6 for one in layers)

    def share(cost, part="depthwise"):
        return sum(getattr(one, cost) for one in layers if part in one.name) / sum(getattr(one, cost) for one in layers)

    right = {"hungriest": min(layers, key=lambda one: one.intensity).name, "below the ridge, batch 1": below(1),
             "below the ridge, batch 16": below(16), "depthwise MACs": share("macs"),
             "depthwise bytes": share("traffic_bytes")}
    return right | {key: value(below, share) if callable(value) else value for key, value in changes.items()}


COST = lw.profile(lw.create_model("mobilenet_v2", width=0.5), (3, 160, 160))


def of_all_layers(batch):
    return sum(batch * one.macs <= 6 * (batch * (one.input_bytes + one.output_bytes) + one.parameter_bytes)
               for one in COST.layers)


def counts_of(chosen, macs=1, weights=1):
    """Counts of the layers that a function chooses; `macs` and `weights` say how often each of them counts."""
    def below(batch):
        return sum(macs * batch * one.macs < 6 * (batch * (one.input_bytes + one.output_bytes)
                                                  + weights * one.parameter_bytes)
                   for one in COST.layers if chosen(one))
    return lambda: report(**{"below the ridge, batch 1": below(1), "below the ridge, batch 16": below(16)})


def shares(numerator, denominator):
    """Shares of the layers that the two functions choose."""
    def of(cost):
        part, whole = (sum(getattr(one, cost) for one in COST.layers if chosen(one))
                       for chosen in (numerator, denominator))
        return part / whole
    return lambda: report(**{"depthwise MACs": of("macs"), "depthwise bytes": of("traffic_bytes")})


def is_conv(layer):
    return layer.kind == "Conv2d"


def is_named(layer):
    return ".depthwise." in layer.name


def is_filter(layer):
    return is_conv(layer) and is_named(layer)


def without_weights():
    part, whole = (sum(one.input_bytes + one.output_bytes for one in COST.layers if chosen(one))
                   for chosen in (is_filter, is_conv))
    return report(**{"depthwise bytes": part / whole})


def reported(**changes):
    return lambda: report(**changes)


# 17.2

BY_HAND = {"1x1: arithmetic": 256.90112, "1x1: memory": 162.2016, "1x1: MACs per byte": 7.919191919191919,
           "depthwise: the longer bound": 160.7936, "1x1, batch 16: arithmetic of one image": 256.90112,
           "small depthwise: the longest of three": 5.0}
ARITHMETIC, MEMORY, INTENSITY, DEPTHWISE, BATCH, LONGEST = BY_HAND


def by_hand(changes=None, factor=1.0):
    """`changes`, and the times multiplied by `factor`."""
    numbers = {key: value if key == INTENSITY else value * factor for key, value in BY_HAND.items()}
    return lambda: numbers | (changes or {})


# 17.3


def limit(slack=2, holds=max, first="bounds", share=0.5, one_call=False, named=True, own=False):
    """The function of the sheet, with the usual mistakes to choose."""
    def answer(macs, moved, calls, seconds, peak, bandwidth, call_seconds):
        if own:
            peak, bandwidth, call_seconds = 40e9, 10e9, 1e-5
        bounds = {"compute": macs / peak, "memory": moved / bandwidth}
        calls_cost = (1 if one_call else calls) * call_seconds >= share * seconds
        if first == "calls" and calls_cost:
            return "fixed cost per call"
        if seconds <= slack * holds(bounds.values()):
            return max(bounds, key=bounds.get)
        return "fixed cost per call" if calls_cost and named else "kernel efficiency"
    return lambda: answer


def shorter_named(macs, moved, calls, seconds, peak, bandwidth, call_seconds):
    found = limit()()(macs, moved, calls, seconds, peak, bandwidth, call_seconds)
    return {"compute": "memory", "memory": "compute"}.get(found, found)


def bounds_alone(macs, moved, calls, seconds, peak, bandwidth, call_seconds):
    return "memory" if moved / bandwidth > macs / peak else "compute"


# 17.4


def peaks(function):
    return lambda: function


def lives(early=False, input_stays=False, output=True):
    def answer(sizes, operators):
        written = {name: i for i, (_, name) in enumerate(operators)}
        first = {name: written.get(name, -1) for name in sizes}
        last = dict(first)
        for i, (read, _) in enumerate(operators):
            last |= dict.fromkeys(read, i - early)
        if output:
            last[operators[-1][1]] = len(operators)
        if input_stays:
            last |= {name: len(operators) for name in sizes if first[name] < 0}
        return [sum(size for name, size in sizes.items() if first[name] <= i <= max(last[name], first[name]))
                for i in range(len(operators))]
    return answer


def changes_its_input(sizes, operators):
    most = max(lives()(sizes, operators))
    sizes.clear()
    return most


def one_too_many(sizes, operators):
    return max(lives()(sizes, operators)) + 1


# 17.5


def stopwatch(of=median, skip=True, before=True, extra=0):
    def answer(run, rounds, warmup, clock):
        times = []
        for _ in range(warmup + rounds + extra):
            start = clock()
            run()
            times.append(clock() - start)
        return of(times[warmup if skip else 0:])
    return lambda: answer


def own_clock(run, rounds, warmup, clock):
    start = time.perf_counter()
    for _ in range(rounds + warmup):
        run()
    return (time.perf_counter() - start) / rounds


def no_warmup(run, rounds, warmup, clock):
    return stopwatch()()(run, rounds, 0, clock)


def whole_over_rounds(run, rounds, warmup, clock):
    start = clock()
    for _ in range(warmup + rounds):
        run()
    return (clock() - start) / rounds


def backwards(run, rounds, warmup, clock):
    return -stopwatch()()(run, rounds, warmup, clock)


# 17.6


def as_it_is(block, x):
    return block(x)


def pieces(hook=lambda name, y: y, shortcut=True, count=6):
    """Over the expanded channels; `hook(name, map)` may change or keep maps."""
    def thrifty(block, x):
        def norm(bn, y, part):
            return F.batch_norm(y, bn.running_mean[part], bn.running_var[part], bn.weight[part], bn.bias[part],
                                eps=bn.eps)
        total = 0
        hidden = block.expand.conv.out_channels
        for start in range(0, hidden, hidden // count):
            part = slice(start, start + hidden // count)
            y = F.conv2d(x, block.expand.conv.weight[part])
            y = y if hook == "no first norm" else norm(block.expand.bn, y, part)
            y = y if hook == "no first activation" else F.relu6(y)
            y = F.conv2d(y, block.depthwise.conv.weight[part], padding=1, groups=y.shape[1])
            y = F.relu6(y if hook == "no middle norm" else norm(block.depthwise.bn, y, part))
            total = total + F.conv2d(y, block.project.conv.weight[:, part])
        total = total if hook == "no last norm" else block.project.bn(total)
        return x + total if shortcut else total
    return lambda: thrifty


def expanded_whole(block, x):
    """Pieces only after the expansion."""
    y, total = block.expand(x), 0
    bn = block.depthwise.bn
    for part in torch.arange(y.shape[1]).chunk(6):
        z = F.conv2d(y[:, part], block.depthwise.conv.weight[part], padding=1, groups=len(part))
        z = F.batch_norm(z, bn.running_mean[part], bn.running_var[part], bn.weight[part], bn.bias[part], eps=bn.eps)
        total = total + F.conv2d(F.relu6(z), block.project.conv.weight[:, part])
    return x + block.project.bn(total)


def strips(halo, rows):
    def thrifty(block, x):
        parts = []
        for top in range(0, x.shape[2], rows):
            above = max(top - halo, 0)
            y = block.project(block.depthwise(block.expand(x[:, :, above:top + rows + halo])))
            parts.append(y[:, :, top - above:top - above + rows])
        return x + torch.cat(parts, 2)
    return lambda: thrifty


def in_place(block, x):
    x += block.project(block.depthwise(block.expand(x.clone())))
    return x


def half_precision(block, x):
    y = block.project(block.depthwise(block.expand(x))).half()
    return x + y.float()


def folds_the_block(block, x):
    y = pieces()()(block, x)
    block.project.bn.eps = 0.0
    block.expand.conv.weight.data *= 1.0 + 1e-3
    return y


WRONG = {
    "17.1": {
        "most for fewest": (reported(hungriest="blocks.11.expand.conv"), "does most MACs per byte"),
        "most bytes": (reported(hungriest="blocks.1.depthwise.conv"), "moves most bytes"),
        "another layer": (reported(hungriest="blocks.3.depthwise.conv"), "another convolution does fewer"),
        "a linear layer": (reported(hungriest="classifier.1"), "asked is a convolution"),
        "no such layer": (reported(hungriest="conv1"), "must be the name of a convolution"),
        "weights fetched for each image": (
            reported(**{"below the ridge, batch 16": lambda below, share: below(16, weights=16)}), "fetched once"),
        "MACs of one image": (
            reported(**{"below the ridge, batch 16": lambda below, share: below(16, macs=1)}), "MACs grow with the"),
        "above for below": (reported(**{"below the ridge, batch 1": lambda below, share: 52 - below(1),
                                        "below the ridge, batch 16": lambda below, share: 52 - below(16)}), "above"),
        "per cent": (reported(**{"depthwise MACs": lambda below, share: 100 * share("macs"),
                                 "depthwise bytes": lambda below, share: 100 * share("traffic_bytes")}), "per cent"),
        "the layer": (reported(hungriest=COST.layers[0]), "you give the layer itself"),
        "a number for the name": (reported(hungriest=3), "must be the name of a convolution"),
        "maps fetched once": (reported(**{"below the ridge, batch 16": sum(
            16 * one.macs < 6 * one.traffic_bytes for one in COST.layers if is_conv(one))}), "inputs and outputs grow"),
        "all layers": (reported(**{"below the ridge, batch 1": of_all_layers(1),
                                   "below the ridge, batch 16": of_all_layers(16)}), "you count all layers"),
        "all layers that move bytes": (counts_of(lambda one: one.traffic_bytes), "layers of all kinds below the ridge"),
        "all layers with parameters": (counts_of(lambda one: one.params), "you count all layers with parameters"),
        "the classifier too": (counts_of(lambda one: one.macs), "you count the classifier too"),
        "FLOPs": (counts_of(is_conv, macs=2), "you compare FLOPs"),
        "counts without weights": (counts_of(is_conv, weights=0), "bytes of the parameters are missing"),
        "shares for counts": (reported(**{"below the ridge, batch 1": 46 / 52, "below the ridge, batch 16": 31 / 52}),
                              "asked is how many there are"),
        "MACs and bytes": (lambda: report(**{key: sum(getattr(one, cost) for one in COST.layers if is_filter(one))
                                             for key, cost in (("depthwise MACs", "macs"),
                                                               ("depthwise bytes", "traffic_bytes"))}),
                           "not shares; divide them"),
        "1x1 layers": (shares(lambda one: is_conv(one) and any(
            part in one.name for part in ("expand.", "project.", "head.")), is_conv), "those of the 1x1 layers"),
        "of the whole network": (shares(is_filter, lambda one: True), "those of the whole network"),
        "of BatchNorm and ReLU6 too": (
            lambda: report(**{"depthwise bytes": shares(is_filter, lambda one: one.params or one.kind == "ReLU6")()[
                "depthwise bytes"]}), "of layers of all kinds"),
        "BatchNorms named so": (shares(is_named, is_conv), "you add the BatchNorms"),
        "all named so, of all": (lambda: report(**{"depthwise bytes": shares(is_named, lambda one: True)()[
            "depthwise bytes"]}), "of all layers; asked are convolutions"),
        "divided by the rest": (shares(is_filter, lambda one: is_conv(one) and not is_named(one)),
                                "you divide by the other convolutions"),
        "the rest": (shares(lambda one: is_conv(one) and not is_named(one), is_conv), "of all other convolutions"),
        "bytes without weights": (without_weights, "bytes of the weights are missing"),
        "parameters": (reported(**{"depthwise MACs": lambda below, share: share("params")}), "share of the parameters"),
        "layers": (reported(**{"depthwise MACs": 17 / 52, "depthwise bytes": 17 / 52}), "how many layers there are"),
        "rounded": (reported(**{"depthwise MACs": 0.117, "depthwise bytes": 0.384}), "you round, as to 3 decimals"),
        "one rounded": (reported(**{"depthwise bytes": 0.3837}), "you round"),
        "shares exchanged": (reported(**{"depthwise MACs": lambda below, share: share("traffic_bytes"),
                                         "depthwise bytes": lambda below, share: share("macs")}), "are exchanged"),
        "two mistakes": (reported(hungriest="stem.conv", **{"depthwise MACs": 0.5}), "another convolution does fewer"),
        "an empty dict": (dict, "there is no 'hungriest'"),
    },
    "17.2": {
        "seconds": (by_hand(factor=1e-6), "in seconds"),
        "milliseconds": (by_hand(factor=1e-3), "in milliseconds"),
        "FLOPs": (by_hand({ARITHMETIC: 513.80224, INTENSITY: 15.838383838, BATCH: 513.80224}), "a multiply and an add"),
        "numbers for bytes": (by_hand({MEMORY: 40.5504, INTENSITY: 31.6767676, DEPTHWISE: 40.1984}), "not bytes"),
        "one map": (by_hand({MEMORY: 81.92, DEPTHWISE: 80.512, INTENSITY: 15.68}), "you count one map"),
        "upside down": (by_hand({INTENSITY: 1 / 7.919191919}), "the intensity is upside down"),
        "the shorter": (by_hand({DEPTHWISE: 36.12672}), "not the shorter one"),
        "added": (by_hand({DEPTHWISE: 196.92032}), "you add the two bounds"),
        "mixing": (by_hand({DEPTHWISE: 2312.11008}), "your depthwise layer mixes"),
        "of 16 images": (by_hand({BATCH: 4110.41792}), "the arithmetic of 16 images"),
        "divided by 16": (by_hand({BATCH: 16.05632}), "each image needs all its MACs"),
        "no call": (by_hand({LONGEST: 2.7392}), "leave out the fixed cost"),
        "call added": (by_hand({LONGEST: 7.7392}), "you add the fixed cost"),
        "something else": (by_hand({MEMORY: 300.0}), "1x1: memory: 300.0 is too large"),
        "an empty dict": (dict, "there is no '1x1: arithmetic'"),
    },
    "17.3": {
        "bounds alone": (lambda: bounds_alone, "the two bounds alone"),
        "the shorter named": (lambda: shorter_named, "you name the shorter"),
        "of the shorter": (limit(holds=min), "you compare the time with the shorter bound"),
        "calls first": (limit(first="calls"), "you ask for the calls first"),
        "one call": (limit(one_call=True), "one call for every layer"),
        "never calls": (limit(named=False), "never comes out"),
        "no slack": (limit(slack=1), "you leave no room"),
        "all of the time": (limit(share=1), "half of it is enough"),
        "the sum": (limit(holds=sum), "a layer of"),
        "numbers of its own": (limit(own=True), "numbers of your own"),
        "another word": (lambda: lambda *numbers: "bandwidth", "not one of compute, memory"),
        "no return": (lambda: lambda *numbers: None, "is the return missing"),
    },
    "17.4": {
        "all maps": (peaks(lambda sizes, operators: sum(sizes.values())), "you add up all maps"),
        "largest map": (peaks(lambda sizes, operators: max(sizes.values())), "you take the largest map"),
        "pairs": (peaks(lambda sizes, operators: max(sum(sizes[n] for n in {*read, w}) for read, w in operators)),
                  "one operator's own maps"),
        "freed early": (peaks(lambda sizes, operators: max(lives(early=True)(sizes, operators))),
                        "before its last reader"),
        "input kept": (peaks(lambda sizes, operators: max(lives(input_stays=True)(sizes, operators))),
                       "keep the input"),
        "at the end": (peaks(lambda sizes, operators: lives()(sizes, operators)[-1]), "the sum at the end"),
        "changes its input": (peaks(changes_its_input), "work on copies"),
        "one too many": (peaks(one_too_many), "is too large"),
        "no return": (peaks(lambda sizes, operators: None), "is the return missing"),
        "a list": (peaks(lambda sizes, operators: lives()(sizes, operators)), "not a number"),
    },
    "17.5": {
        "mean": (stopwatch(fmean), "you take the mean"),
        "shortest": (stopwatch(min), "you take the shortest"),
        "warm-up among them": (stopwatch(skip=False), "the rounds of the warm-up are among"),
        "as it was": (stopwatch(fmean, skip=False), "the warm-up is in your time, and you take the mean"),
        "divided by rounds": (lambda: whole_over_rounds, "divide by the rounds alone"),
        "all together": (stopwatch(sum), "all rounds together"),
        "torch.median": (stopwatch(lambda times: torch.tensor(times).median()), "as torch.median does"),
        "upper of two": (stopwatch(lambda times: sorted(times)[len(times) // 2]), "you take the upper one"),
        "own clock": (lambda: own_clock, "never asks `clock`"),
        "no warm-up": (lambda: no_warmup, "`run` was called 5 times"),
        "one round more": (stopwatch(extra=1), "was called 8 times"),
        "negative": (lambda: backwards, "your time is -"),
        "no return": (lambda: lambda run, rounds, warmup, clock: None, "is the return missing"),
    },
    "17.6": {
        "as it is": (lambda: as_it_is, ("the output is right, but the peak", "13.0 times the input")),
        "expanded whole": (lambda: expanded_whole, "the output is right, but the peak"),
        "two pieces": (pieces(count=2), "the output is right, but the peak"),
        "no shortcut": (pieces(shortcut=False), "the shortcut is missing"),
        "no first norm": (pieces("no first norm"), "after the expansion is missing"),
        "no middle norm": (pieces("no middle norm"), "after the depthwise convolution is missing"),
        "no last norm": (pieces("no last norm"), "after the projection is missing"),
        "no first activation": (pieces("no first activation"), "the activation after the expansion"),
        "strips without a border": (strips(0, 8), "values are wrong"),
        "narrow strips": (strips(1, 2), "times the block's MACs"),
        "in place": (lambda: in_place, "overwrites its input"),
        "half precision": (lambda: half_precision, "values are wrong"),
        "changes the block": (lambda: folds_the_block, "changes the block"),
        "no return": (lambda: lambda block, x: None, "return"),
    },
}
