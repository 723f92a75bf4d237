"""Right answers to the exercises of chapter 17, in different styles."""
import statistics

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.roofline import Roofline, RooflinePoint

# 17.1

VALUES = {"hungriest": "blocks.13.depthwise.conv", "below the ridge, batch 1": 46, "below the ridge, batch 16": 31,
          "depthwise MACs": 0.1168984132177327, "depthwise bytes": 0.3836529116128496}


def reported(**changes):
    return lambda: VALUES | changes


def counted():
    cost = lw.profile(lw.create_model("mobilenet_v2", width=0.5), (3, 160, 160))
    convs = [one for one in cost.layers if one.kind == "Conv2d"]
    n = np.array([[1], [16]])
    macs, maps, weights = (np.array(column) for column in zip(*(
        (one.macs, one.input_bytes + one.output_bytes, one.parameter_bytes) for one in convs), strict=True))
    below = (n * macs / (n * maps + weights) < 6).sum(1)
    filters = np.array(["depthwise" in one.name for one in convs])
    return {"hungriest": convs[np.argmin(macs / (maps + weights))].name, "below the ridge, batch 1": below[0],
            "below the ridge, batch 16": below[1], "depthwise MACs": macs[filters].sum() / macs.sum(),
            "depthwise bytes": (maps + weights)[filters].sum() / (maps + weights).sum()}


# 17.2

BY_HAND = {"1x1: arithmetic": 256.90112, "1x1: memory": 162.2016, "1x1: MACs per byte": 7.919191919191919,
           "depthwise: the longer bound": 160.7936, "1x1, batch 16: arithmetic of one image": 256.90112,
           "small depthwise: the longest of three": 5}


def by_hand(kind=float):
    return lambda: {key: kind(value) for key, value in BY_HAND.items()}


def layer_costs():
    one = lw.profile(nn.Conv2d(64, 64, 1, bias=False), (64, 56, 56))
    filters = lw.profile(nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), (64, 56, 56))
    numbers = (one.macs / 50e3, one.traffic_bytes / 1e4, one.macs / one.traffic_bytes,
               max(filters.macs / 50e3, filters.traffic_bytes / 1e4), one.macs / 50e3, 5.0)
    return dict(zip(BY_HAND, numbers, strict=True))


# 17.3


def with_ifs(macs, moved, calls, seconds, peak, bandwidth, call_seconds):
    arithmetic, memory = macs / peak, moved / bandwidth
    if seconds <= 2 * max(arithmetic, memory):
        if memory > arithmetic:
            return "memory"
        return "compute"
    if calls * call_seconds >= seconds / 2:
        return "fixed cost per call"
    return "kernel efficiency"


def with_a_dict(macs, moved, calls, seconds, peak, bandwidth, call_seconds):
    bounds = {"compute": macs / peak, "memory": moved / bandwidth}
    longest = max(bounds, key=bounds.get)
    if bounds[longest] * 2 >= seconds:
        return longest
    return ("kernel efficiency", "fixed cost per call")[2 * calls * call_seconds >= seconds]


def with_a_list(macs, moved, calls, seconds, peak, bandwidth, call_seconds):
    memory = moved / bandwidth > macs / peak
    near = max(moved / bandwidth, macs / peak) / seconds >= 0.5
    choices = [(near and memory, "memory"), (near, "compute"),
               (call_seconds * calls / seconds >= 0.5, "fixed cost per call"), (True, "kernel efficiency")]
    return next(name for holds, name in choices if holds)


def with_tensors(*numbers):
    macs, moved, calls, seconds, peak, bandwidth, call_seconds = torch.tensor(numbers, dtype=torch.float64)
    bounds = torch.stack([macs / peak, moved / bandwidth])
    if seconds <= 2 * bounds.max():
        return ["compute", "memory"][bounds.argmax()]
    return "fixed cost per call" if 2 * calls * call_seconds >= seconds else "kernel efficiency"


def with_the_course(macs, moved, calls, seconds, peak, bandwidth, call_seconds):
    roof = Roofline(peak, bandwidth, "cpu", 1, call_seconds=call_seconds)
    return RooflinePoint("", "", macs, moved, seconds, roof, calls).limit


def with_match(macs, moved, calls, seconds, peak, bandwidth, call_seconds):
    a, m = macs / peak, moved / bandwidth
    match (seconds / max(a, m) <= 2, m > a, calls * call_seconds / seconds >= 0.5):
        case (True, True, _):
            return "memory"
        case (True, False, _):
            return "compute"
        case (False, _, True):
            return "fixed cost per call"
    return "kernel efficiency"


# 17.4


def by_last_reader(sizes, operators):
    last = {}
    for i, (read, written) in enumerate(operators):
        last |= dict.fromkeys(read, i) | {written: i}
    last[operators[-1][1]] = len(operators)
    alive, most = {name for name in sizes if name not in {w for _, w in operators}}, 0
    for i, (_, written) in enumerate(operators):
        alive.add(written)
        most = max(most, sum(sizes[name] for name in alive))
        alive = {name for name in alive if last[name] > i}
    return most


def by_counting_readers(sizes, operators):
    left = {name: sum(name in read for read, _ in operators) for name in sizes}
    left[operators[-1][1]] += 1
    now = sum(sizes[n] for n in sizes if all(n != w for _, w in operators))
    most = now
    for read, written in operators:
        now += sizes[written]
        most = max(most, now)
        for name in set(read):
            left[name] -= 1
            if not left[name]:
                now -= sizes[name]
        if not left[written]:
            now -= sizes[written]
    return most


def by_a_matrix(sizes, operators):
    names, steps = list(sizes), len(operators)
    alive = np.zeros((len(names), steps), dtype=bool)
    for row, name in enumerate(names):
        born = next((i for i, (_, w) in enumerate(operators) if w == name), 0)
        dies = max([i for i, (read, _) in enumerate(operators) if name in read] + [born])
        alive[row, born:(steps if name == operators[-1][1] else dies + 1)] = True
    return (np.array([sizes[name] for name in names]) @ alive).max()


def by_looking_ahead(sizes, operators):
    written = [name for _, name in operators]
    inputs = set(sizes) - set(written)
    peaks = []
    for i in range(len(operators)):
        needed = set(written[-1:]) if i == len(operators) - 1 else set()
        needed |= {written[i]} | {name for read, _ in operators[i:] for name in read
                                  if name in inputs or name in written[:i + 1]}
        peaks.append(sum(sizes[name] for name in needed))
    return max(peaks)


def as_a_tensor(sizes, operators):
    return torch.tensor(by_looking_ahead(sizes, operators))


def backwards(sizes, operators):
    needed, most = {operators[-1][1]}, 0
    for read, written in reversed(operators):
        most = max(most, sum(sizes[name] for name in needed | {written, *read}))
        needed = (needed | set(read)) - {written}
    return float(most)


# 17.5


def with_statistics(run, rounds, warmup, clock):
    for _ in range(warmup):
        run()
    times = []
    for _ in range(rounds):
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times)


def with_numpy(run, rounds, warmup, clock):
    marks = [clock()]
    for _ in range(warmup + rounds):
        run()
        marks.append(clock())
    return np.median(np.diff(marks)[warmup:])


def sorted_by_hand(run, rounds, warmup, clock):
    times = []
    for i in range(warmup + rounds):
        start = clock()
        run()
        if i >= warmup:
            times.append(clock() - start)
    times.sort()
    return (times[rounds // 2] + times[(rounds - 1) // 2]) / 2


def with_quantile(run, rounds, warmup, clock):
    def once():
        start = clock()
        run()
        return clock() - start
    return torch.tensor([once() for _ in range(warmup + rounds)][warmup:], dtype=torch.float64).quantile(0.5)


def with_a_while(run, rounds, warmup, clock):
    while warmup:
        run()
        warmup -= 1
    durations = []
    while len(durations) < rounds:
        before = clock()
        run()
        after = clock()
        durations += [after - before]
    return float(np.percentile(durations, 50))


def in_float32(run, rounds, warmup, clock):
    return np.float32(with_numpy(run, rounds, warmup, clock))


# 17.6


def in_pieces(count):
    """Over the expanded channels, with functions of slices."""
    def thrifty(block, x):
        def norm(bn, y, part):
            return F.batch_norm(y, bn.running_mean[part], bn.running_var[part], bn.weight[part], bn.bias[part],
                                eps=bn.eps)
        expand, filters, project = block.expand, block.depthwise, block.project
        hidden, total = expand.conv.out_channels, 0
        for start in range(0, hidden, hidden // count):
            part = slice(start, start + hidden // count)
            y = F.relu6(norm(expand.bn, F.conv2d(x, expand.conv.weight[part]), part))
            y = F.relu6(norm(filters.bn, F.conv2d(y, filters.conv.weight[part], padding=1, groups=y.shape[1]), part))
            total = total + F.conv2d(y, project.conv.weight[:, part])
        return x + project.bn(total)
    return lambda: thrifty


def folded(block, x):
    """BatchNorm folded into the weights, added up in place."""
    def fold(layer):
        scale = layer.bn.weight / (layer.bn.running_var + layer.bn.eps).sqrt()
        return layer.conv.weight * scale[:, None, None, None], layer.bn.bias - layer.bn.running_mean * scale
    (w1, b1), (w2, b2), (w3, b3) = map(fold, (block.expand, block.depthwise, block.project))
    y = x + b3[:, None, None]
    for a, b, c, d, e in zip(w1.chunk(8), b1.chunk(8), w2.chunk(8), b2.chunk(8), w3.chunk(8, 1), strict=True):
        h = F.conv2d(x, a, b).clamp_(0, 6)
        y += F.conv2d(F.conv2d(h, c, d, padding=1, groups=len(c)).clamp_(0, 6), e)
    return y


def in_strips(block, x, rows=8):
    """Over rows of the picture: a strip and one row more on each side."""
    height, strips = x.shape[2], []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        above, below = max(top - 1, 0), min(bottom + 1, height)
        hidden = block.expand(x[:, :, above:below])
        hidden = F.pad(hidden, (1, 1, int(top == 0), int(bottom == height)))
        conv = block.depthwise.conv
        hidden = F.conv2d(hidden, conv.weight, groups=conv.groups)
        strips.append(block.project(block.depthwise.act(block.depthwise.bn(hidden))))
    return x + torch.cat(strips, 2)


def in_strips_written(block, x):
    y = torch.empty_like(x)
    for top in range(0, x.shape[2], 8):
        rows = slice(max(top - 1, 0), top + 9)
        hidden = block.expand(x[:, :, rows])
        whole = block.project(block.depthwise(hidden))     # its first and last row are wrong inside of the picture
        skip = top - rows.start
        y[:, :, top:top + 8] = whole[:, :, skip:skip + 8]
    return x + y


def modules_made(block, x):
    """Small layers that are built from the large ones."""
    total = torch.zeros_like(x)
    hidden = block.expand.conv.out_channels
    for part in torch.arange(hidden).chunk(4):
        e = nn.Conv2d(x.shape[1], len(part), 1, bias=False)
        d = nn.Conv2d(len(part), len(part), 3, padding=1, groups=len(part), bias=False)
        norms = [nn.BatchNorm2d(len(part)).eval() for _ in range(2)]
        e.weight.data, d.weight.data = block.expand.conv.weight[part], block.depthwise.conv.weight[part]
        for mine, whole in zip(norms, (block.expand.bn, block.depthwise.bn), strict=True):
            state = whole.state_dict().items()
            mine.load_state_dict({key: value[part] if value.ndim else value for key, value in state})
        y = F.relu6(norms[0](e(x)), inplace=True)
        y = F.relu6(norms[1](d(y)), inplace=True)
        total.add_(F.conv2d(y, block.project.conv.weight[:, part]))
    return block.project.bn(total) + x


RIGHT = {
    "17.1": {"typed in": reported(), "counted with NumPy": counted,
             "tensors": lambda: {key: value if isinstance(value, str) else torch.tensor(value, dtype=torch.float64)
                                 for key, value in VALUES.items()},
             "float32": reported(**{"depthwise MACs": np.float32(VALUES["depthwise MACs"])}),
             "counts as floats": reported(**{"below the ridge, batch 1": 46.0, "below the ridge, batch 16": 31.0}),
             "one number more": reported(ridge=6)},
    "17.2": {"typed in": by_hand(), "NumPy": by_hand(np.float32), "tensors": by_hand(torch.tensor),
             "rounded": by_hand(lambda value: round(value, 1 if value > 10 else 2)), "counted": layer_costs,
             "float64 of NumPy": by_hand(np.float64)},
    "17.3": {"ifs": lambda: with_ifs, "a dict": lambda: with_a_dict, "a list": lambda: with_a_list,
             "tensors": lambda: with_tensors, "the course": lambda: with_the_course, "match": lambda: with_match},
    "17.4": {"last reader": lambda: by_last_reader, "readers counted": lambda: by_counting_readers,
             "a matrix": lambda: by_a_matrix, "looking ahead": lambda: by_looking_ahead,
             "a tensor": lambda: as_a_tensor, "backwards": lambda: backwards},
    "17.5": {"statistics": lambda: with_statistics, "NumPy": lambda: with_numpy, "sorted": lambda: sorted_by_hand,
             "quantile": lambda: with_quantile, "while": lambda: with_a_while, "float32": lambda: in_float32},
    "17.6": {"six pieces": in_pieces(6), "four pieces": in_pieces(4), "folded": lambda: folded,
             "strips": lambda: in_strips, "strips written": lambda: in_strips_written,
             "modules": lambda: modules_made},
}
