"""Pairs that are equal although they are written differently: `lw.compare` must say so."""
import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from planted import Pair
from planted.zoo import ZOO


class Net(nn.Module):
    """Named layers, and a forward that uses them: `run(self, x)`."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            if isinstance(layer, nn.Parameter):
                self.register_parameter(name, layer)
            elif isinstance(layer, torch.Tensor):
                self.register_buffer(name, layer)
            else:
                setattr(self, name, layer)

    def forward(self, *x):
        return self.run(self, *x)


def equal(name, mine, reference, *x):
    return Pair(name, lambda fault: mine(), reference, x)


def both(name, one, other, *x):
    """Each of the two serves as the reference of the other."""
    return equal(name, one, other, *x), equal(name + ", the other way round", other, one, *x)


def weight(*shape):
    return nn.Parameter(torch.randn(shape) * 0.3)


def conv(i, o, k=3, **options):
    return nn.Conv2d(i, o, k, **{"padding": k // 2} | options)


IMAGE = (2, 3, 12, 10)
TOKENS = (2, 7, 16)


# ---------------------------------------------------------------------------------- one network, several styles

def plain(bias=False):
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=bias), nn.BatchNorm2d(16), nn.ReLU6(),
                         nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=bias), nn.BatchNorm2d(16), nn.Hardswish(),
                         nn.Conv2d(16, 8, 1, bias=bias), nn.BatchNorm2d(8),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


class Functional(nn.Module):
    """`plain` with its layers declared from the last to the first, and activations written out."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Conv2d(8, 5, 1)
        self.b3, self.c3 = nn.BatchNorm2d(8), nn.Conv2d(16, 8, 1, bias=False)
        self.b2, self.c2 = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding="same", groups=16, bias=False)
        self.b1, self.c1 = nn.BatchNorm2d(16), nn.Conv2d(3, 16, 3, 2, 1, bias=False)

    def forward(self, x):
        x = self.b1(self.c1(x)).clamp(0, 6)
        x = self.b2(self.c2(x))
        x = x * F.relu6(x + 3) / 6
        return self.fc(self.b3(self.c3(x)).mean((2, 3), keepdim=True)).flatten(1)


class ConvBN(nn.Module):
    """Weights and statistics as the learner's own tensors, two layers in one class."""

    def __init__(self, i, o, k, stride=1, groups=1):
        super().__init__()
        self.stride, self.pad, self.groups = stride, k // 2, groups
        self.kernel = weight(o, i // groups, k, k)
        self.gamma, self.beta = nn.Parameter(torch.ones(o)), nn.Parameter(torch.zeros(o))
        self.register_buffer("running_mean", torch.zeros(o))
        self.register_buffer("running_var", torch.ones(o))

    def forward(self, x):
        x = F.conv2d(x, self.kernel, None, self.stride, self.pad, 1, self.groups)
        return F.batch_norm(x, self.running_mean, self.running_var, self.gamma, self.beta, self.training)


class Kernel(nn.Module):
    """A convolution whose weight has the learner's own name."""

    def __init__(self, i, o, k, stride=1, groups=1):
        super().__init__()
        self.stride, self.pad, self.groups, self.w = stride, k // 2, groups, weight(o, i // groups, k, k)

    def forward(self, x):
        return F.conv2d(x, self.w, None, self.stride, self.pad, 1, self.groups)


class Norm(nn.Module):
    """BatchNorm by hand; `names` are those of its weight, bias, mean and variance."""

    def __init__(self, channels, names, flat=True):
        super().__init__()
        self.names, shape = names, (channels,) if flat else (1, channels, 1, 1)
        self.register_parameter(names[0], nn.Parameter(torch.ones(shape)))
        self.register_parameter(names[1], nn.Parameter(torch.zeros(shape)))
        self.register_buffer(names[2], torch.zeros(shape))
        self.register_buffer(names[3], torch.ones(shape))

    def forward(self, x):
        gamma, beta, mean, var = (getattr(self, name).view(1, -1, 1, 1) for name in self.names)
        return gamma * (x - mean) / (var + 1e-5).sqrt() + beta


def with_norms(names, flat=True):
    net = plain()
    net[1], net[4] = Norm(16, names, flat), Norm(16, names, flat)
    return net


def own_layers():
    net = plain()
    net[0], net[3], net[6] = Kernel(3, 16, 3, 2), Kernel(16, 16, 3, groups=16), Kernel(16, 8, 1)
    return net


def own_blocks():
    return nn.Sequential(ConvBN(3, 16, 3, 2), nn.ReLU6(), ConvBN(16, 16, 3, groups=16), nn.Hardswish(),
                         ConvBN(16, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


class InOneClass(nn.Module):
    """Every tensor of `plain` in the network itself, F.conv2d and F.batch_norm in forward."""

    def __init__(self):
        super().__init__()
        self.w1, self.w2, self.w3 = weight(16, 3, 3, 3), weight(16, 1, 3, 3), weight(8, 16, 1, 1)
        for i, c in enumerate((16, 16, 8), 1):
            self.register_parameter(f"gamma{i}", nn.Parameter(torch.ones(c)))
            self.register_parameter(f"beta{i}", nn.Parameter(torch.zeros(c)))
            self.register_buffer(f"mean{i}", torch.zeros(c))
            self.register_buffer(f"var{i}", torch.ones(c))
        self.w4, self.bias4 = weight(5, 8), nn.Parameter(torch.zeros(5))

    def norm(self, x, i):
        mean, var, gamma, beta = (getattr(self, f"{name}{i}") for name in ("mean", "var", "gamma", "beta"))
        return F.batch_norm(x, mean, var, gamma, beta, self.training)

    def forward(self, x):
        x = F.relu6(self.norm(F.conv2d(x, self.w1, stride=2, padding=1), 1))
        x = F.hardswish(self.norm(F.conv2d(x, self.w2, padding=1, groups=16), 2))
        x = self.norm(F.conv2d(x, self.w3), 3)
        return F.linear(x.mean((2, 3)), self.w4, self.bias4)


class Listed(nn.Module):
    """`plain` by a ModuleList and a loop."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(plain())

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({f"p{i}": part for i, part in enumerate(plain())})

    def forward(self, x):
        for part in self.parts.values():
            x = part(x)
        return x


def folded():
    """`plain` as it is deployed: BatchNorm in the convolution's bias."""
    net = plain(bias=True)
    return nn.Sequential(*(part for part in net if not isinstance(part, nn.BatchNorm2d)))


class Deployed(nn.Module):
    """Only the first BatchNorm is folded."""

    def __init__(self):
        super().__init__()
        net = plain()
        net[0] = nn.Conv2d(3, 16, 3, 2, 1)
        del net[1]
        self.net = net

    def forward(self, x):
        return self.net(x)


def checkpointed():
    net = plain()
    return Net(lambda s, x: s.b(checkpoint(s.a, x, use_reentrant=False)), a=net[:5], b=net[5:])


def used(build):
    """A network that has run before, in eval mode."""
    def built(fault=""):
        net = build().eval()
        with torch.no_grad():
            net(torch.randn(2, 3, 12, 10))
        return net.train()
    return built


def channels_last():
    return plain().to(memory_format=torch.channels_last)


def hooked():
    net = plain()
    seen = []
    net[2].register_forward_hook(lambda module, args, output: seen.append(output))
    return net


def half_precision_free():
    return plain().double()


STYLES = {
    "functional, declared backwards": Functional,
    "own kernels": own_layers,
    "own kernel and norm in a class": own_blocks,
    "every tensor in one class": InOneClass,
    "own BatchNorm, gamma and beta": lambda: with_norms(("gamma", "beta", "running_mean", "running_var")),
    "own BatchNorm, weight and bias": lambda: with_norms(("weight", "bias", "running_mean", "running_var")),
    "own BatchNorm, scale and shift, mean and var": lambda: with_norms(("scale", "shift", "mean", "var"), False),
    "own BatchNorm, mean and var": lambda: with_norms(("weight", "bias", "mean", "var")),
    "own BatchNorm, moving averages": lambda: with_norms(("gamma", "beta", "moving_mean", "moving_var"), False),
    "ModuleList": Listed,
    "ModuleDict": Dictionary,
    "BatchNorm folded": folded,
    "checkpointed": checkpointed,
    "channels_last": channels_last,
    "float64": half_precision_free,
    "with a hook": hooked,
    "has run": used(plain),
    "torch.compile": lambda: torch.compile(plain()),
    "DataParallel": lambda: nn.DataParallel(plain()),
    "torch.fx": lambda: torch.fx.symbolic_trace(plain()),
    "torch.jit.script": lambda: torch.jit.script(plain()),
    "torch.jit.trace": lambda: torch.jit.trace(plain().eval(), torch.randn(2, 3, 12, 10)),
    "deep copy, eval mode": lambda: copy.deepcopy(plain()).eval(),
    "no gradients": lambda: plain().requires_grad_(False),
}


# ------------------------------------------------------------------------------------------- attention, in styles

def heads(x, count=4):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def join(x):
    return x.transpose(1, 2).flatten(2)


def softmax_attention(q, k, v):
    return torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), -1) @ v


def one_qkv(attend=softmax_attention):
    return Net(lambda s, x: s.o(join(attend(*(heads(part) for part in s.qkv(x).chunk(3, -1))))),
               qkv=nn.Linear(16, 48), o=nn.Linear(16, 16))


def three_linears(order=("q", "k", "v"), bias=True):
    layers = {name: nn.Linear(16, 16, bias=bias) for name in order} | {"o": nn.Linear(16, 16)}
    return Net(lambda s, x: s.o(join(softmax_attention(heads(s.q(x)), heads(s.k(x)), heads(s.v(x))))), **layers)


def q_and_kv():
    def run(s, x):
        k, v = s.kv(x).chunk(2, -1)
        return s.o(join(softmax_attention(heads(s.q(x)), heads(k), heads(v))))
    return Net(run, q=nn.Linear(16, 16), kv=nn.Linear(16, 32), o=nn.Linear(16, 16))


def torch_attention():
    return Net(lambda s, x: s.a(x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(16, 4, batch_first=True))


def torch_attention_with_weights():
    return Net(lambda s, x: s.a(x, x, x)[0], a=nn.MultiheadAttention(16, 4, batch_first=True))


def scaled_first(q, k, v):
    return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1) @ v


def scaled_both(q, k, v):
    scale = q.shape[-1] ** -0.25
    return ((q * scale) @ (k * scale).transpose(2, 3)).softmax(-1) @ v


def by_einsum(q, k, v):
    scores = torch.einsum("nhqd,nhkd->nhqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("nhqk,nhkd->nhqd", scores.softmax(3), v)


def softmax_by_hand(q, k, v):
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    scores = (scores - scores.amax(-1, keepdim=True)).exp()
    return scores / scores.sum(-1, keepdim=True) @ v


def transposed(q, k, v):
    """Everything with queries and keys exchanged, softmax included: the same."""
    scores = k @ q.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return (v.mT @ scores.softmax(-2)).mT


def head_by_head(q, k, v):
    return torch.stack([softmax_attention(q[:, i], k[:, i], v[:, i]) for i in range(q.shape[1])], 1)


def batched(q, k, v):
    n, h, t, d = q.shape
    q, k, v = (part.reshape(n * h, t, d) for part in (q, k, v))
    return torch.bmm(torch.baddbmm(q.new_zeros(()), q, k.mT, beta=0, alpha=d ** -0.5).softmax(-1), v).view(n, h, t, d)


def encoder_layer():
    return nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True, norm_first=True)


def encoder_by_hand():
    def run(s, x):
        x = x + s.a(s.n1(x))
        return x + s.l2(F.gelu(s.l1(s.n2(x))))
    return Net(run, n1=nn.LayerNorm(16), a=one_qkv(), n2=nn.LayerNorm(16), l1=nn.Linear(16, 32), l2=nn.Linear(32, 16))


ATTENTION = {
    "F.scaled_dot_product_attention": F.scaled_dot_product_attention, "scaled before": scaled_first,
    "scaled in both": scaled_both, "einsum": by_einsum, "softmax by hand": softmax_by_hand, "transposed": transposed,
    "head by head": head_by_head, "bmm": batched,
}


# --------------------------------------------------------------------------------- one operation, written otherwise

def around(operation):
    """A convolution before and one behind, and no other weights."""
    def run(s, x):
        return s.post(s.operation(s.pre(x)))
    return Net(run, pre=nn.Conv2d(3, 8, 3, padding=1), post=nn.Conv2d(8, 4, 1), operation=operation)


def by_hand_gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def tanh_gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def shuffle(x, groups):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def assigned(x):
    y = x.new_empty(len(x), 16, *x.shape[2:])
    y[:, :8] = x
    y[:, 8:] = x.relu()
    return y


def average_by_unfold(x):
    n, c, h, w = x.shape
    return F.unfold(x, 2, stride=2).view(n, c, 4, h // 2, w // 2).mean(2)


def maximum_by_shifts(x):
    return torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)


def shuffled_pixels(x):
    n, c, h, w = x.shape
    return x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)


OPERATIONS = {  # name: one way, the other
    "GELU by its formula": (by_hand_gelu, F.gelu),
    "GELU in its tanh form by its formula": (tanh_gelu, nn.GELU(approximate="tanh")),
    "Hardswish by relu6": (lambda x: x * F.relu6(x + 3) / 6, F.hardswish),
    "Hardswish by clamp": (lambda x: x * ((x + 3) / 6).clamp(0, 1), nn.Hardswish()),
    "Hardswish by Hardsigmoid": (lambda x: x * F.hardsigmoid(x), nn.Hardswish()),
    "SiLU by sigmoid": (lambda x: x * x.sigmoid(), nn.SiLU()),
    "SiLU by exp": (lambda x: x / (1 + (-x).exp()), F.silu),
    "ReLU by clamp": (lambda x: x.clamp(min=0), F.relu),
    "ReLU by maximum": (lambda x: torch.maximum(x, torch.zeros_like(x)), nn.ReLU()),
    "ReLU by where": (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), nn.ReLU()),
    "ReLU by a mask": (lambda x: x * (x > 0), nn.ReLU()),
    "ReLU6 by min and relu": (lambda x: x.relu().clamp(max=6), nn.ReLU6()),
    "ReLU6 by Hardtanh": (nn.Hardtanh(0, 6), nn.ReLU6()),
    "LeakyReLU by maximum": (lambda x: torch.maximum(x, 0.1 * x), nn.LeakyReLU(0.1)),
    "Mish by its formula": (lambda x: x * torch.tanh(F.softplus(x)), nn.Mish()),
    "Sigmoid by its formula": (lambda x: 1 / (1 + torch.exp(-x)), nn.Sigmoid()),
    "Sigmoid by tanh": (lambda x: 0.5 * (1 + torch.tanh(x / 2)), torch.sigmoid),
    "Softmax over channels by exp": (lambda x: x.exp() / x.exp().sum(1, keepdim=True), nn.Softmax(1)),
    "Identity and dropout": (nn.Sequential(nn.Identity(), nn.Dropout(0.5)), lambda x: x),
    "F.dropout with training": (lambda x: F.dropout(x, 0.5, training=False), lambda x: x),
    "max pooling by amax": (maximum_by_shifts, nn.MaxPool2d(2)),
    "max pooling with the padding before": (lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-1e9), 3, 2),
                                            nn.MaxPool2d(3, 2, 1)),
    "average pooling by unfold": (average_by_unfold, nn.AvgPool2d(2)),
    "average pooling with the padding before": (lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2),
                                                nn.AvgPool2d(3, 2, 1)),
    "average pooling as adaptive": (lambda x: F.adaptive_avg_pool2d(x, (6, 5)), nn.AvgPool2d(2)),
    "average pooling by a fixed kernel": (lambda x: F.conv2d(x, x.new_full((8, 1, 2, 2), 0.25), stride=2, groups=8),
                                          nn.AvgPool2d(2)),
    "nearest by repeat_interleave": (lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3), nn.Upsample(None, 2)),
    "nearest by kron": (lambda x: torch.kron(x, x.new_ones(2, 2)), lambda x: F.interpolate(x, scale_factor=2)),
    "bilinear by size and by factor": (lambda x: F.interpolate(x, (24, 20), mode="bilinear"),
                                       nn.Upsample(scale_factor=2, mode="bilinear")),
    "channel shuffle by nn": (nn.ChannelShuffle(2), lambda x: shuffle(x, 2)),
    "channel shuffle by stack": (lambda x: torch.stack(x.chunk(2, 1), 2).flatten(1, 2), lambda x: shuffle(x, 2)),
    "channel shuffle by index": (lambda x: x[:, [0, 4, 1, 5, 2, 6, 3, 7]], lambda x: shuffle(x, 2)),
    "pixel shuffle and back": (lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), lambda x: x),
    "slices reversed twice": (lambda x: x.flip(1).flip(1), lambda x: x),
    "view and back": (lambda x: x.flatten(2).transpose(1, 2).reshape(len(x), 12, 10, 8).permute(0, 3, 1, 2),
                      lambda x: x.contiguous()),
    "rolled and back": (lambda x: x.roll((2, 3), (2, 3)).roll((-2, -3), (2, 3)), lambda x: x),
    "padded and cut": (lambda x: F.pad(x, (2, 1, 0, 3))[:, :, :12, 2:12], lambda x: x),
    "times two by adding": (lambda x: x + x, lambda x: 2 * x),
    "halved twice": (lambda x: x / 2 / 2, lambda x: 0.25 * x),
    "zero centred by mean": (lambda x: x - x.mean((2, 3), keepdim=True),
                             lambda x: x - F.adaptive_avg_pool2d(x, 1)),
    "detach": (lambda x: x.detach(), lambda x: x),
}

WIDER = {  # 8 channels become 16
    "slice assignment for cat": (assigned, lambda x: torch.cat([x, x.relu()], 1)),
    "hstack for cat": (lambda x: torch.hstack([x, x.relu()]), lambda x: torch.cat((x, x.relu()), dim=-3)),
    "stack and flatten for cat": (lambda x: torch.stack([x, x.relu()], 1).flatten(1, 2),
                                  lambda x: torch.cat([x, x.relu()], 1)),
    "padded channels for cat with zeros": (lambda x: F.pad(x, (0, 0, 0, 0, 0, 8)),
                                           lambda x: torch.cat([x, torch.zeros_like(x)], 1)),
    "repeat for cat": (lambda x: x.repeat(1, 2, 1, 1), lambda x: torch.cat([x, x], 1)),
}

HEADS = {  # (N, 8, H, W) to (N, 8)
    "mean over two axes": lambda x: x.mean((2, 3)),
    "mean twice": lambda x: x.mean(3).mean(2),
    "mean of the flattened": lambda x: x.flatten(2).mean(-1),
    "avg_pool2d of the whole map": lambda x: F.avg_pool2d(x, x.shape[2:]).flatten(1),
    "AdaptiveAvgPool2d and squeeze": lambda x: nn.AdaptiveAvgPool2d((1, 1))(x).squeeze(-1).squeeze(-1),
    "AdaptiveAvgPool2d and view": lambda x: F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1),
    "sum by the count": lambda x: x.sum((2, 3)) / (x.shape[2] * x.shape[3]),
    "einsum": lambda x: torch.einsum("nchw->nc", x) / x[0, 0].numel(),
    "mean of channels that come last": lambda x: x.permute(0, 2, 3, 1).reshape(len(x), -1, 8).mean(1),
}

MAX_HEADS = {
    "AdaptiveMaxPool2d": lambda x: F.adaptive_max_pool2d(x, 1).flatten(1),
    "amax": lambda x: x.amax((2, 3)),
    "max twice": lambda x: x.max(3).values.max(2).values,
    "max_pool2d of the whole map": lambda x: F.max_pool2d(x, x.shape[2:])[:, :, 0, 0],
}

FLATTEN = {
    "view": lambda x: x.view(x.shape[0], -1), "reshape": lambda x: x.reshape(len(x), 8 * 12 * 10),
    "nn.Flatten": nn.Flatten(), "flatten twice": lambda x: x.flatten(2).flatten(1),
    "stacked": lambda x: torch.stack([image.ravel() for image in x]),
}


def headed(head):
    return Net(lambda s, x: s.fc(head(F.relu(s.pre(x)))), pre=nn.Conv2d(3, 8, 3, padding=1), fc=nn.Linear(8, 4))


def flattened(flatten):
    return Net(lambda s, x: s.fc(flatten(s.pre(x))), pre=nn.Conv2d(3, 8, 3, padding=1), fc=nn.Linear(960, 4))


def widened(operation):
    return Net(lambda s, x: s.post(operation(s.pre(x))), pre=nn.Conv2d(3, 8, 3, padding=1), post=nn.Conv2d(16, 4, 1))


def operations():
    for name, (one, other) in OPERATIONS.items():
        yield equal(name, lambda one=one: around(one), lambda other=other: around(other), *IMAGE)
    for name, (one, other) in WIDER.items():
        yield equal(name, lambda one=one: widened(one), lambda other=other: widened(other), *IMAGE)
    for words, build, ways in (("global average: ", headed, HEADS), ("global maximum: ", headed, MAX_HEADS),
                               ("flatten: ", flattened, FLATTEN)):
        first, *others = ways.items()
        for name, way in others:
            yield equal(words + name, lambda build=build, way=way: build(way),
                        lambda build=build, first=first: build(first[1]), *IMAGE)


# ------------------------------------------------------------------------------------- layers with weights, otherwise

class HandLayerNorm(nn.Module):
    """Over the last axis, or with `first` over the channels of a map."""

    def __init__(self, channels, first=False, names=("weight", "bias"), eps=1e-6):
        super().__init__()
        self.first, self.names, self.eps = first, names, eps
        self.register_parameter(names[0], nn.Parameter(torch.ones(channels)))
        self.register_parameter(names[1], nn.Parameter(torch.zeros(channels)))

    def forward(self, x):
        axis = 1 if self.first else -1
        x = (x - x.mean(axis, keepdim=True)) / (x.var(axis, keepdim=True, unbiased=False) + self.eps).sqrt()
        shape = (-1, 1, 1) if self.first else (-1,)
        return x * getattr(self, self.names[0]).view(shape) + getattr(self, self.names[1]).view(shape)


class TurnedLayerNorm(nn.LayerNorm):
    """timm's and torchvision's LayerNorm2d."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def between(layer, post=None):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), layer, nn.ReLU(), post or nn.Conv2d(8, 4, 1))


def on_map(layer):
    """A layer for (N, ..., C) on a map."""
    return Net(lambda s, x: s.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), layer=layer)


def on_tokens(layer):
    """A layer for (N, T, C) on a map."""
    return Net(lambda s, x: s.layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(len(x), -1, *x.shape[2:]),
               layer=layer)


def unfolded(s, x):
    n, _, h, w = x.shape
    return (s.w.flatten(1) @ F.unfold(x, 3, padding=1)).view(n, -1, h, w) + s.b.view(-1, 1, 1)


def channel_by_channel():
    def run(s, x):
        return torch.cat([kernel(x[:, i:i + 1]) for i, kernel in enumerate(s.kernels)], 1)
    return Net(run, kernels=nn.ModuleList(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(8)))


def depthwise_loop():
    """One weight, a Python loop over its channels."""
    return Net(lambda s, x: torch.cat([F.conv2d(x[:, i:i + 1], s.w[i:i + 1], padding=1) for i in range(8)], 1),
               w=weight(8, 1, 3, 3))


def shifted():
    """A convolution as a sum of shifted maps."""
    def run(s, x):
        h, w = x.shape[2:]
        padded = F.pad(x, (1, 1, 1, 1))
        return sum(torch.einsum("oc,nchw->nohw", s.w[:, :, i, j], padded[:, :, i:i + h, j:j + w])
                   for i in range(3) for j in range(3))
    return Net(run, w=weight(8, 8, 3, 3))


def halves(count=2):
    def run(s, x):
        return torch.cat([part(piece) for part, piece in zip(s.parts, x.chunk(count, 1), strict=True)], 1)
    return Net(run, parts=nn.ModuleList(nn.Conv2d(8 // count, 8 // count, 3, padding=1) for _ in range(count)))


def two_outputs():
    """Two 1x1 convolutions of one map, concatenated."""
    return Net(lambda s, x: torch.cat([s.a(x), s.b(x)], 1), a=nn.Conv2d(8, 3, 1), b=nn.Conv2d(8, 5, 1))


def merged_outputs():
    """The same two in one convolution, cut afterwards."""
    return Net(lambda s, x: torch.cat(s.ab(x).split([3, 5], 1), 1), ab=nn.Conv2d(8, 8, 1))


def used_split(merged):
    """A gated unit: half of the channels weighs the other."""
    if merged:
        def run(s, x):
            a, b = s.ab(x).chunk(2, 1)
            return a * b.sigmoid()
        return Net(run, ab=nn.Conv2d(8, 16, 1))
    return Net(lambda s, x: s.a(x) * s.b(x).sigmoid(), a=nn.Conv2d(8, 8, 1), b=nn.Conv2d(8, 8, 1))


def padded(layer, **options):
    return nn.Sequential(layer, nn.Conv2d(8, 8, 3, **options))


def conv8(**options):
    return nn.Conv2d(8, 8, 3, **options)


def squeeze(linear):
    if linear:
        def run(s, x):
            gate = s.b(s.a(x.mean((2, 3))).relu()).sigmoid()
            return x * gate[:, :, None, None]
        return Net(run, a=nn.Linear(8, 4), b=nn.Linear(4, 8))
    return Net(lambda s, x: x * s.b(F.relu(s.a(F.adaptive_avg_pool2d(x, 1)))).sigmoid(),
               a=nn.Conv2d(8, 4, 1), b=nn.Conv2d(4, 8, 1))


def efficient(mapped):
    """ECA: Conv1d along the channels, or the same by a Conv2d of one column."""
    if mapped:
        return Net(lambda s, x: x * s.c(x.mean((2, 3)).view(len(x), 1, -1, 1)).view(len(x), -1, 1, 1).sigmoid(),
                   c=nn.Conv2d(1, 1, (3, 1), padding=(1, 0), bias=False))
    return Net(lambda s, x: x * s.c(x.mean((2, 3))[:, None]).transpose(1, 2)[..., None].sigmoid(),
               c=nn.Conv1d(1, 1, 3, padding=1, bias=False))


LAYERS = {  # name: one layer on 8 channels of a map, the other
    "own kernel": (lambda: Net(lambda s, x: F.conv2d(x, s.w, s.b, padding=1), w=weight(8, 8, 3, 3), b=weight(8)),
                   lambda: conv8(padding=1)),
    "unfold and matmul": (lambda: Net(unfolded, w=weight(8, 8, 3, 3), b=weight(8)), lambda: conv8(padding=1)),
    "sum of shifted maps": (shifted, lambda: conv8(padding=1, bias=False)),
    "Linear for 1x1": (lambda: on_map(nn.Linear(8, 8)), lambda: nn.Conv2d(8, 8, 1)),
    "Linear on tokens for 1x1": (lambda: on_tokens(nn.Linear(8, 8)), lambda: nn.Conv2d(8, 8, 1)),
    "einsum for 1x1": (lambda: Net(lambda s, x: torch.einsum("oc,nchw->nohw", s.w, x), w=weight(8, 8)),
                       lambda: nn.Conv2d(8, 8, 1, bias=False)),
    "matmul for 1x1": (lambda: Net(lambda s, x: (s.w @ x.flatten(2)).unflatten(2, x.shape[2:]), w=weight(8, 8)),
                       lambda: nn.Conv2d(8, 8, 1, bias=False)),
    "Conv1d for 1x1": (lambda: Net(lambda s, x: s.c(x.flatten(2)).unflatten(2, x.shape[2:]), c=nn.Conv1d(8, 8, 1)),
                       lambda: nn.Conv2d(8, 8, 1)),
    "F.linear for 1x1": (lambda: Net(lambda s, x: F.linear(x.movedim(1, -1), s.w, s.b).movedim(-1, 1),
                                     w=weight(8, 8), b=weight(8)), lambda: nn.Conv2d(8, 8, 1)),
    "strided 1x1 by slicing": (lambda: Net(lambda s, x: s.c(x[:, :, ::2, ::2]), c=nn.Conv2d(8, 8, 1)),
                               lambda: nn.Conv2d(8, 8, 1, stride=2)),
    "depthwise channel by channel": (channel_by_channel, lambda: conv8(padding=1, groups=8, bias=False)),
    "depthwise in a loop": (depthwise_loop, lambda: conv8(padding=1, groups=8, bias=False)),
    "two halves for groups=2": (halves, lambda: conv8(padding=1, groups=2)),
    "four parts for groups=4": (lambda: halves(4), lambda: conv8(padding=1, groups=4)),
    "two 1x1 of one map for one": (two_outputs, lambda: nn.Conv2d(8, 8, 1)),
    "one 1x1, cut": (merged_outputs, lambda: nn.Conv2d(8, 8, 1)),
    "one 1x1 cut for two": (lambda: used_split(True), lambda: used_split(False)),
    "ZeroPad2d": (lambda: padded(nn.ZeroPad2d(1)), lambda: conv8(padding=1)),
    "ZeroPad2d, stride 2": (lambda: padded(nn.ZeroPad2d(1), stride=2), lambda: conv8(padding=1, stride=2)),
    "ConstantPad2d": (lambda: padded(nn.ConstantPad2d(2, 0.0), dilation=2), lambda: conv8(padding=2, dilation=2)),
    "F.pad": (lambda: Net(lambda s, x: s.c(F.pad(x, (1, 1, 1, 1))), c=conv8()), lambda: conv8(padding=1)),
    "F.pad, a part of it": (lambda: Net(lambda s, x: s.c(F.pad(x, (1, 1, 0, 0))), c=conv8(padding=(1, 0))),
                            lambda: conv8(padding=1)),
    "ReflectionPad2d": (lambda: padded(nn.ReflectionPad2d(1)), lambda: conv8(padding=1, padding_mode="reflect")),
    "ReplicationPad2d": (lambda: padded(nn.ReplicationPad2d(1)), lambda: conv8(padding=1, padding_mode="replicate")),
    "CircularPad2d": (lambda: padded(nn.CircularPad2d(1)), lambda: conv8(padding=1, padding_mode="circular")),
    "padding='same'": (lambda: conv8(padding="same", dilation=2), lambda: conv8(padding=2, dilation=2)),
    "padding='valid'": (lambda: conv8(padding="valid"), conv8),
    "kernel as a tuple": (lambda: nn.Conv2d(8, 8, (3, 3), (1, 1), (1, 1), (1, 1)), lambda: conv8(padding=1)),
    "LayerNorm by hand on channels": (lambda: HandLayerNorm(8, True), lambda: TurnedLayerNorm(8, eps=1e-6)),
    "LayerNorm by hand, own names": (lambda: HandLayerNorm(8, True, ("gamma", "beta")),
                                     lambda: on_map(nn.LayerNorm(8, eps=1e-6))),
    "LayerNorm by hand, channels last": (lambda: on_map(HandLayerNorm(8)), lambda: TurnedLayerNorm(8, eps=1e-6)),
    "LayerNorm on tokens and on maps": (lambda: on_tokens(nn.LayerNorm(8)), lambda: TurnedLayerNorm(8)),
    "F.layer_norm": (lambda: Net(lambda s, x: F.layer_norm(x.movedim(1, -1), (8,), s.g, s.b).movedim(-1, 1),
                                 g=weight(8), b=weight(8)), lambda: TurnedLayerNorm(8)),
    "GroupNorm for InstanceNorm": (lambda: nn.GroupNorm(8, 8), lambda: nn.InstanceNorm2d(8, affine=True)),
    "GroupNorm by hand": (
        lambda: Net(lambda s, x: F.layer_norm(x.unflatten(1, (2, -1)), (4, *x.shape[2:])).flatten(1, 2)
                    * s.g[:, None, None] + s.b[:, None, None], g=weight(8), b=weight(8)),
        lambda: nn.GroupNorm(2, 8)),
    "BatchNorm1d on tokens": (
        lambda: Net(lambda s, x: s.n(x.flatten(2)).unflatten(2, x.shape[2:]), n=nn.BatchNorm1d(8)),
        lambda: nn.BatchNorm2d(8)),
    "BatchNorm folded into the convolution": (
        lambda: conv8(padding=1), lambda: nn.Sequential(conv8(padding=1, bias=False), nn.BatchNorm2d(8))),
    "BatchNorm folded into a depthwise convolution": (
        lambda: conv8(padding=1, groups=8), lambda: nn.Sequential(conv8(padding=1, groups=8, bias=False),
                                                                  nn.BatchNorm2d(8))),
    "BatchNorm not folded": (
        lambda: nn.Sequential(conv8(padding=1, bias=False), nn.BatchNorm2d(8)), lambda: conv8(padding=1)),
    "scale and shift as parameters": (
        lambda: Net(lambda s, x: x * s.scale + s.shift, scale=weight(8, 1, 1), shift=weight(8, 1, 1)),
        lambda: Net(lambda s, x: torch.addcmul(s.shift[None, :, None, None], x, s.scale[None, :, None, None]),
                    scale=weight(8), shift=weight(8))),
    "squeeze-and-excitation by Linear": (lambda: squeeze(True), lambda: squeeze(False)),
    "squeeze-and-excitation by 1x1": (lambda: squeeze(False), lambda: squeeze(True)),
    "ECA by Conv2d": (lambda: efficient(True), lambda: efficient(False)),
    "PReLU by hand": (lambda: Net(lambda s, x: x.relu() - s.slope[:, None, None] * (-x).relu(), slope=weight(8)),
                      lambda: nn.PReLU(8)),
    "PReLU by where": (lambda: Net(lambda s, x: torch.where(x > 0, x, s.slope * x), slope=weight(8, 1, 1)),
                       lambda: nn.PReLU(8)),
    "weight_norm in both": (lambda: nn.utils.parametrizations.weight_norm(conv8(padding=1)),
                            lambda: nn.utils.parametrizations.weight_norm(conv8(padding=1))),
    "ConvTranspose2d by zeros between": (
        lambda: Net(lambda s, x: F.conv_transpose2d(x, s.w, s.b, stride=2), w=weight(8, 8, 2, 2), b=weight(8)),
        lambda: nn.ConvTranspose2d(8, 8, 2, 2)),
    "layer scale, two shapes": (lambda: Net(lambda s, x: x * s.g, g=weight(1, 8, 1, 1)),
                                lambda: Net(lambda s, x: (x.movedim(1, -1) * s.g).movedim(-1, 1), g=weight(8))),
    "an affine-free norm and its own scale": (
        lambda: Net(lambda s, x: s.n(x) * s.g[:, None, None] + s.b[:, None, None],
                    n=nn.BatchNorm2d(8, affine=False), g=weight(8), b=weight(8)), lambda: nn.BatchNorm2d(8)),
}


# ------------------------------------------------------------------------------------------------- blocks and branches

def bn(channels):
    return nn.BatchNorm2d(channels)


class Residual(nn.Module):
    """ResNet's block; `first` calls the shortcut's projection before the branch."""

    def __init__(self, first):
        super().__init__()
        self.first = first
        self.c1, self.b1 = nn.Conv2d(8, 16, 3, 2, 1, bias=False), bn(16)
        self.c2, self.b2 = nn.Conv2d(16, 16, 3, 1, 1, bias=False), bn(16)
        self.down = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), bn(16))

    def forward(self, x):
        if self.first:
            shortcut = self.down(x)
        y = self.b2(self.c2(self.b1(self.c1(x)).relu()))
        return F.relu(y + (shortcut if self.first else self.down(x)))


class ShuffleUnit(nn.Module):
    """The strided unit of ShuffleNetV2; `first` calls the left branch before the right."""

    def __init__(self, first):
        super().__init__()
        self.first = first
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), bn(8),
                                  nn.Conv2d(8, 8, 1, bias=False), bn(8), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), bn(8), nn.ReLU(),
                                   nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), bn(8),
                                   nn.Conv2d(8, 8, 1, bias=False), bn(8), nn.ReLU())

    def forward(self, x):
        if self.first:
            left, right = self.left(x), self.right(x)
        else:
            right, left = self.right(x), self.left(x)
        return shuffle(torch.cat([left, right], 1), 2)


class Towers(nn.Module):
    """Inception's towers, called in the given order."""

    def __init__(self, order):
        super().__init__()
        self.order = order
        self.a = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
        self.c = nn.Sequential(nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 5, padding=2), nn.ReLU())
        self.d = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(8, 2, 1), nn.ReLU())

    def forward(self, x):
        maps = {name: getattr(self, name)(x) for name in self.order}
        return torch.cat([maps[name] for name in "abcd"], 1)


class Pyramid(nn.Module):
    """ESP's branches, called in the given order."""

    def __init__(self, order):
        super().__init__()
        self.order = order
        self.reduce = nn.Conv2d(8, 4, 1, bias=False)
        self.d = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=2 ** i, dilation=2 ** i, bias=False) for i in range(4))

    def forward(self, x):
        y = self.reduce(x)
        maps = {i: self.d[i](y) for i in self.order}
        y = [maps[0], maps[1], maps[1] + maps[2], maps[1] + maps[2] + maps[3]]
        return torch.cat(y, 1)


def pyramid_by_sums():
    """The same with a running sum, out of place."""
    net = Pyramid(range(4))

    def run(s, x):
        y = s.net.reduce(x)
        maps = [d(y) for d in s.net.d]
        return torch.cat([maps[0], *torch.stack(maps[1:]).cumsum(0)], 1)
    return Net(run, net=net)


def twice(loop):
    if loop:
        def run(s, x):
            for _ in range(2):
                x = s.c(x).relu()
            return x
        return Net(run, c=conv8(padding=1))
    return Net(lambda s, x: F.relu(s.c(F.relu(s.c(x)))), c=conv8(padding=1))


def tied():
    """One layer under two names."""
    layer = conv8(padding=1)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU())


def tied_weight():
    """Two layers with one weight."""
    one, other = conv8(padding=1), conv8(padding=1)
    other.weight, other.bias = one.weight, one.bias
    return nn.Sequential(one, nn.ReLU(), other, nn.ReLU())


def shared_heads(stacked):
    """One head for two levels, level by level or both as one batch."""
    def run(s, x):
        a = s.c(x)
        b = F.max_pool2d(a, 2)
        return {"large": s.h(a), "small": s.h(b)}

    def flat(s, x):
        a = s.c(x)
        maps = [a, F.max_pool2d(a, 2)]
        large, small = (s.h(level) for level in maps)
        return dict(small=small, large=large)
    return Net(flat if stacked else run, c=conv(3, 8), h=nn.Conv2d(8, 4, 1))


BLOCKS = {  # name: one block on 8 channels, the other, channels out
    "ResNet, shortcut first": (lambda: Residual(True), lambda: Residual(False), 16),
    "ResNet, shortcut last": (lambda: Residual(False), lambda: Residual(True), 16),
    "ShuffleNetV2, right branch first": (lambda: ShuffleUnit(False), lambda: ShuffleUnit(True), 16),
    "ShuffleNetV2, left branch first": (lambda: ShuffleUnit(True), lambda: ShuffleUnit(False), 16),
    "Inception, towers backwards": (lambda: Towers("dcba"), lambda: Towers("abcd"), 16),
    "Inception, towers mixed": (lambda: Towers("badc"), lambda: Towers("abcd"), 16),
    "ESP, branches backwards": (lambda: Pyramid([3, 2, 1, 0]), lambda: Pyramid(range(4)), 16),
    "ESP, cumulative sum": (pyramid_by_sums, lambda: Pyramid(range(4)), 16),
    "one layer twice, in a loop": (lambda: twice(True), lambda: twice(False), 8),
    "one layer under two names": (tied, lambda: twice(False), 8),
    "one layer twice against two names": (lambda: twice(True), tied, 8),
    "two layers with one weight": (tied_weight, tied_weight, 8),
    "addition in place": (lambda: Net(lambda s, x: s.c(x).add_(x), c=conv8(padding=1)),
                          lambda: Net(lambda s, x: torch.add(x, s.c(x)), c=conv8(padding=1)), 8),
    "addition by sum": (lambda: Net(lambda s, x: torch.stack([x, s.c(x)]).sum(0), c=conv8(padding=1)),
                        lambda: Net(lambda s, x: x + s.c(x), c=conv8(padding=1)), 8),
    "scaled shortcut": (lambda: Net(lambda s, x: torch.add(x, s.c(x), alpha=0.2), c=conv8(padding=1)),
                        lambda: Net(lambda s, x: x + s.c(x) * 0.2, c=conv8(padding=1)), 8),
    "split by slices": (
        lambda: Net(lambda s, x: torch.cat([x[:, :4], s.c(x[:, 4:])], 1), c=conv(4, 4)),
        lambda: Net(lambda s, x: torch.cat((x.chunk(2, 1)[0], s.c(x.split(4, dim=1)[1])), dim=1), c=conv(4, 4)), 8),
    "split by even stride": (
        lambda: Net(lambda s, x: torch.cat([x[:, ::2], s.c(x[:, 1::2])], 1), c=conv(4, 4)),
        lambda: Net(lambda s, x: torch.cat([part if i == 0 else s.c(part) for i, part in
                                            enumerate(x.unflatten(1, (4, 2)).unbind(2))], 1), c=conv(4, 4)), 8),
}


# ------------------------------------------------------------------------------------------------- tokens against maps

class Mixer(nn.Module):
    """Patches, an MLP with a shortcut, mean; on tokens (N, T, C), on (N, H, W, C), or on maps by 1x1 convolutions."""

    def __init__(self, form):
        super().__init__()
        self.form, linear = form, (lambda i, o: nn.Conv2d(i, o, 1)) if form == "map" else nn.Linear
        self.c = nn.Conv2d(3, 8, 3, 2, 1)
        self.n = TurnedLayerNorm(8) if form == "map" else nn.LayerNorm(8)
        self.a, self.b = linear(8, 16), linear(16, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.c(x)
        if self.form == "tokens":
            x = x.flatten(2).transpose(1, 2)
        elif self.form == "last":
            x = x.permute(0, 2, 3, 1)
        elif self.form == "time first":
            x = x.flatten(2).permute(2, 0, 1)
        x = x + self.b(F.gelu(self.a(self.n(x))))
        axes = {"tokens": 1, "last": (1, 2), "map": (2, 3), "time first": 0}[self.form]
        return self.fc(x.mean(axes))


class Attending(nn.Module):
    """Linear layer and BatchNorm, attention with a bias of the distance, Hardswish, back: as in LeViT."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens
        self.c = nn.Conv2d(3, 16, 3, 2, 1)
        self.q, self.n = nn.Linear(16, 48, bias=False), nn.BatchNorm1d(48)
        self.p, self.m = nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.c(x)
        h, w = x.shape[2:]
        x = x.flatten(2).transpose(1, 2) if self.tokens else x.permute(0, 2, 3, 1)
        y = self.q(x)
        y = self.n(y.flatten(0, -2)).reshape_as(y)
        q, k, v = y.reshape(len(x), h * w, 4, 12).transpose(1, 2).split(4, -1)
        y = ((q * 0.5) @ k.mT).softmax(-1) @ v
        y = F.hardswish(self.p(F.hardswish(y.transpose(1, 2).flatten(2)).view_as(x)))
        x = x + self.m(y.flatten(0, -2)).reshape_as(y)
        return self.fc(x.flatten(1, -2).mean(1))


def two_sums(again):
    """Two branches; `again`, the first runs once more for the sum that it is part of."""
    def run(s, x):
        a = s.a(x).relu()
        return s.c(torch.cat([a, s.b(x) + (s.a(x).relu() if again else a)], 1))

    return Net(run, a=conv(3, 8, bias=False), b=conv(3, 8, bias=False), c=conv(16, 4))


def row_and_column(combine, modules=False, columns_first=False):
    """A gate for rows and one for columns, of one shape: in a product nothing tells them apart but what they read."""
    def run(s, x):
        height = x.shape[2]
        y = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).mT], 2)
        if modules:
            return combine(s.fc(x), s.rows(y[:, :, :height]).sigmoid(), s.columns(y[:, :, height:]).sigmoid().mT)
        sides = [F.conv2d(y[:, :, height:], s.kernels[2], s.kernels[3]).sigmoid().mT,
                 F.conv2d(y[:, :, :height], s.kernels[0], s.kernels[1]).sigmoid()]
        return combine(s.fc(x), *(sides if columns_first else sides[::-1]))

    if modules:
        return Net(run, fc=conv(3, 8, 1), rows=conv(3, 8, 1), columns=conv(3, 8, 1))
    return Net(run, fc=conv(3, 8, 1), kernels=nn.ParameterList([weight(8, 3, 1, 1), weight(8), weight(8, 3, 1, 1),
                                                                weight(8)]))


def in_two_parts(modules=False):
    """A convolution whose kernel and bias are put together from two parameters each."""
    if modules:
        return Net(lambda s, x: s.fc(s.n(s.a(x)).relu()), a=conv(3, 8, 1), n=nn.BatchNorm2d(8), fc=conv(8, 4, 1))

    def run(s, x):
        return s.fc(s.n(F.conv2d(x, torch.cat([s.w1, s.w2]), torch.cat([s.b1, s.b2]))).relu())
    return Net(run, w1=weight(4, 3, 1, 1), w2=weight(4, 3, 1, 1), b1=weight(4), b2=weight(4), n=nn.BatchNorm2d(8),
               fc=conv(8, 4, 1))


PRODUCTS = {"x r c": lambda x, a, b: x * a * b, "(r c) x": lambda x, a, b: a * b * x,
            "x (r c)": lambda x, a, b: x * (a * b)}


FORMS = ("tokens", "last", "map", "time first")


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.r, self.fc = kind(16, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.r(x)[0][:, -1])


def two_inputs(way):
    return Net(lambda s, a, b: s.c(way(s.a(a), s.b(b))), a=nn.Linear(6, 8), b=nn.Linear(4, 8), c=nn.Linear(8, 3))


def pairs():
    for name, build in STYLES.items():
        yield equal(name, build, plain, *IMAGE)
        if name not in ("torch.jit.trace", "torch.jit.script", "DataParallel", "torch.compile"):
            yield equal(name + ", as reference", plain, build, *IMAGE)
    for name, attend in ATTENTION.items():
        yield equal("attention: " + name, lambda attend=attend: one_qkv(attend), one_qkv, *TOKENS)
    yield from both("attention: MultiheadAttention", one_qkv, torch_attention, *TOKENS)
    yield equal("attention: MultiheadAttention with weights", torch_attention_with_weights, torch_attention, *TOKENS)
    yield from both("attention: three Linears and MultiheadAttention", three_linears, torch_attention, *TOKENS)
    yield from both("attention: three Linears and one", three_linears, one_qkv, *TOKENS)
    yield equal("attention: three Linears declared v, k, q", lambda: three_linears("vkq"), one_qkv, *TOKENS)
    yield equal("attention: three Linears twice", lambda: three_linears("kvq"), three_linears, *TOKENS)
    yield from both("attention: q and kv", q_and_kv, one_qkv, *TOKENS)
    yield from both("attention: q and kv, three Linears", q_and_kv, three_linears, *TOKENS)
    yield from both("TransformerEncoderLayer", encoder_by_hand, encoder_layer, *TOKENS)
    yield from operations()
    for name, (one, other) in LAYERS.items():
        yield equal(name, lambda one=one: between(one()), lambda other=other: between(other()), *IMAGE)
    for name, (one, other, channels) in BLOCKS.items():
        yield equal(name, lambda one=one, channels=channels: between(one(), nn.Conv2d(channels, 4, 1)),
                    lambda other=other, channels=channels: between(other(), nn.Conv2d(channels, 4, 1)), *IMAGE)
    for one in FORMS:
        for other in FORMS:
            if one != other:
                yield equal(f"MLP: {one} against {other}", lambda one=one: Mixer(one), lambda other=other: Mixer(other),
                            *IMAGE)
    yield from both("attention: tokens against maps", lambda: Attending(True), lambda: Attending(False), *IMAGE)
    yield from both("a layer runs once more for a sum", lambda: two_sums(True), lambda: two_sums(False), *IMAGE)
    yield from both("kernels put together", in_two_parts, lambda: in_two_parts(True), *IMAGE)
    for name, combine in PRODUCTS.items():
        for columns_first in (False, True):
            yield from both(f"two gates from a ParameterList: {name}{', columns first' * columns_first}",
                            lambda combine=combine, first=columns_first: row_and_column(combine, columns_first=first),
                            lambda: row_and_column(PRODUCTS["x (r c)"], modules=True), *IMAGE)
    yield equal("LSTM", lambda: Recurrent(nn.LSTM), lambda: Recurrent(nn.LSTM), *TOKENS)
    yield equal("GRU", lambda: Recurrent(nn.GRU), lambda: Recurrent(nn.GRU), *TOKENS)
    yield equal("one head for two levels, kept twice", lambda: shared_heads(True), lambda: shared_heads(False), *IMAGE)
    yield equal("two inputs", lambda: two_inputs(torch.add), lambda: two_inputs(lambda a, b: b + a), (5, 6), (5, 4))
    yield equal("two inputs, multiplied", lambda: two_inputs(torch.mul), lambda: two_inputs(lambda a, b: b * a),
                (5, 6), (5, 4))


EQUAL = tuple(pairs()) + ZOO
