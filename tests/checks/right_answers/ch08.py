"""Right answers to the exercises of chapter 08, each in another style."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.layers import ConvBNAct
from lwcourse.models import levit
from lwcourse.models.convnext import ConvNeXtBlock
from lwcourse.models.mobilevit import InvertedResidual, MobileViTBlock


def resized(core):
    """`core`, which takes even sides, between two calls of F.interpolate."""
    def deal(x, transform):
        h, w = x.shape[-2:]
        if h % 2 or w % 2:
            y = core(F.interpolate(x, size=(h + h % 2, w + w % 2), mode="bilinear", align_corners=False), transform)
            return F.interpolate(y, size=(h, w), mode="bilinear", align_corners=False)
        return core(x, transform)
    return deal


def by_permute(x, transform):
    n, c, h, w = x.shape
    y = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1).reshape(4 * n, h * w // 4, c)
    return transform(y).view(n, 2, 2, h // 2, w // 2, c).permute(0, 5, 3, 1, 4, 2).reshape(n, c, h, w)


def by_slices(x, transform):
    n, c, h, w = x.shape
    places = [(i, j) for i in (0, 1) for j in (0, 1)]
    tokens = torch.stack([x[..., i::2, j::2].flatten(2).mT for i, j in places], dim=1).flatten(0, 1)
    done = transform(tokens).unflatten(0, (n, 4))
    y = torch.empty_like(x)
    for k, (i, j) in enumerate(places):
        y[..., i::2, j::2] = done[:, k].mT.reshape(n, c, h // 2, w // 2)
    return y


def by_unshuffle(x, transform):
    n, c, h, w = x.shape
    y = F.pixel_unshuffle(x, 2).reshape(n, c, 4, -1).permute(0, 2, 3, 1).reshape(4 * n, -1, c)
    y = transform(y).reshape(n, 4, -1, c).permute(0, 3, 1, 2).reshape(n, 4 * c, h // 2, w // 2)
    return F.pixel_shuffle(y, 2)


def by_unfold(x, transform):
    n, c, h, w = x.shape
    y = F.unfold(x, 2, stride=2).reshape(n, c, 4, -1).permute(0, 2, 3, 1).reshape(4 * n, -1, c)
    y = transform(y).reshape(n, 4, -1, c).permute(0, 3, 1, 2).reshape(n, 4 * c, -1)
    return F.fold(y, (h, w), 2, stride=2)


def by_einsum(x, transform):
    n, c, h, w = x.shape
    y = torch.einsum("ncyixj->nijyxc", x.unflatten(3, (w // 2, 2)).unflatten(2, (h // 2, 2)))
    z = transform(y.reshape(4 * n, -1, c)).reshape(y.shape)
    return torch.einsum("nijyxc->ncyixj", z).reshape(x.shape)


def by_index(x, transform):
    n, c, h, w = x.shape
    place = torch.arange(h * w).view(h // 2, 2, w // 2, 2).permute(1, 3, 0, 2).flatten()
    y = x.flatten(2)[..., place].unflatten(2, (4, -1)).permute(0, 2, 3, 1)
    z = transform(y.flatten(0, 1)).unflatten(0, (n, 4)).permute(0, 3, 1, 2).flatten(2)
    return z[..., place.argsort()].view(n, c, h, w)


class Deal:
    """Always resizes, which changes nothing where sides are even."""

    def __call__(self, x, transform):
        h, w = x.shape[2:]
        y = nn.Upsample(size=(h + h % 2, w + w % 2), mode="bilinear")(x)
        return F.interpolate(by_permute(y, transform), (h, w), mode="bilinear")


def offsets(height, width):
    t = torch.arange(height * width)
    rows, columns = torch.div(t, width, rounding_mode="floor"), t.remainder(width)
    return (rows[:, None] - rows[None]).abs(), (columns[:, None] - columns[None]).abs()


def plain(queries, keys, values, biases, height, width):
    dy, dx = offsets(height, width)
    scores = queries.matmul(keys.mT).div(queries.size(-1) ** 0.5).add(biases[:, dy, dx])
    return torch.softmax(scores, dim=-1).matmul(values)


def masked(queries, keys, values, biases, height, width):
    dy, dx = offsets(height, width)
    return F.scaled_dot_product_attention(queries, keys, values, biases[None, :, dy, dx])


def exponentials(queries, keys, values, biases, height, width):
    dy, dx = offsets(height, width)
    scores = torch.einsum("nhqd,nhkd->nhqk", queries * queries.shape[-1] ** -0.5, keys) + biases[:, dy, dx]
    e = (scores - scores.amax(-1, keepdim=True)).exp()
    return torch.einsum("nhqk,nhkv->nhqv", e / e.sum(-1, keepdim=True), values)


def by_batches(queries, keys, values, biases, height, width):
    dy, dx = offsets(height, width)
    n, heads, tokens, depth = queries.shape
    added = biases[:, dy, dx].repeat(n, 1, 1)
    scores = torch.baddbmm(added, queries.flatten(0, 1), keys.flatten(0, 1).mT, alpha=depth ** -0.5)
    return torch.bmm(F.softmax(scores, -1), values.flatten(0, 1)).view(n, heads, tokens, -1)


def by_query(queries, keys, values, biases, height, width):
    rows = []
    for t in range(height * width):
        added = torch.stack([biases[:, abs(t // width - s // width), abs(t % width - s % width)]
                             for s in range(height * width)], -1)
        scores = (queries[:, :, t, None] * keys).sum(-1) / queries.shape[-1] ** 0.5 + added
        rows.append((scores.softmax(-1)[..., None] * values).sum(2))
    return torch.stack(rows, 2)


def by_flat_table(queries, keys, values, biases, height, width):
    dy, dx = offsets(height, width)
    table = biases.flatten(1)[:, dy * biases.shape[2] + dx]
    return ((queries @ keys.transpose(2, 3)) / np.sqrt(queries.shape[3]) + table).softmax(3) @ values


SHARES = {256: 78_184_448 / 407_364_096, 512: 1_250_951_168 / 2_566_709_760, 1024: 20_015_218_688 / 25_277_293_056}


def hybrid(block, channels=16):
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), InvertedResidual(16, channels, 2, 4),
                         InvertedResidual(channels, channels, 1, 6), block, InvertedResidual(channels, 32, 2, 6),
                         ConvBNAct(32, 96, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


class Attend(nn.Module):
    """Attention of one's own on the pixels of a map, added with a scale that begins at zero."""

    def __init__(self, attend, channels=16):
        super().__init__()
        self.attend, self.norm = attend, nn.LayerNorm(channels)
        self.qkv, self.project = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.scale, self.dropout = nn.Parameter(torch.zeros(channels)), nn.Dropout(0.1)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        y = self.project(self.attend(self, *self.qkv(self.norm(tokens)).chunk(3, -1)))
        return (tokens + self.scale * y).transpose(1, 2).reshape(x.shape)


def by_softmax(module, q, k, v):
    return module.dropout((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)) @ v


def by_exponentials(module, q, k, v):
    e = (torch.einsum("nqc,nkc->nqk", q, k) / 4).exp()
    return torch.einsum("nqk,nkc->nqc", e / e.sum(2, keepdim=True), v)


def separable(module, q, k, v):
    return (q.mean(2, keepdim=True).softmax(1) * k).sum(1, keepdim=True) * F.relu(v)


class Multihead(nn.Module):
    def __init__(self, channels=16):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, 4, batch_first=True)

    def forward(self, x):
        tokens = self.norm(x.flatten(2).mT)
        return x + self.attention(tokens, tokens, tokens, need_weights=False)[0].mT.reshape(x.shape)


class LeViTs(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = levit.Attention(16, 16, 8, 2, 8)

    def forward(self, x):
        return x + self.attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Pooled(nn.Module):
    """Two learned queries look for the digit."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(ConvBNAct(3, 16, 3, 2), InvertedResidual(16, 24, 2, 4),
                                  InvertedResidual(24, 24, 1, 6), InvertedResidual(24, 32, 1, 6))
        self.query, self.fc = nn.Parameter(torch.zeros(1, 2, 32)), nn.Linear(64, 10)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x):
        tokens = self.stem(x).flatten(2).mT
        return self.fc(self.attention(self.query.expand(len(x), 2, 32), tokens, tokens)[0].flatten(1))


COUNTS = {"sequences": 12, "tokens": 140, "weights": 940_800, "product_macs": 22_579_200, "linear_macs": 15_482_880}


def by_formula():
    t, n, d, heads = 14 * 10, 3 * 4, 48, 4
    return {"sequences": n, "tokens": t, "weights": n * heads * t**2, "product_macs": 2 * n * t**2 * d,
            "linear_macs": 4 * n * t * d**2}


class MendedInPlaceOf(nn.Module):
    """As the sheet's class, mended."""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.project = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels))

    def attend(self, x):
        n, t, d = x.shape
        q, k, v = (y.reshape(n, t, self.heads, d // self.heads).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
        scores = q @ k.transpose(-2, -1) / (d // self.heads)**0.5
        return self.project((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, t, d))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MendedFused(MendedInPlaceOf):
    def attend(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MendedEinsum(MendedInPlaceOf):
    def attend(self, x):
        q, k, v = (y.unflatten(-1, (self.heads, -1)) for y in self.qkv(x).chunk(3, dim=-1))
        weights = torch.einsum("nqhd,nkhd->nhqk", q, k).div(q.shape[-1]**0.5).softmax(-1)
        return self.project(torch.einsum("nhqk,nkhd->nqhd", weights, v).flatten(2))


class MendedByHeads(MendedInPlaceOf):
    def attend(self, x):
        done = []
        for q, k, v in zip(*(y.chunk(self.heads, dim=-1) for y in self.qkv(x).chunk(3, dim=-1)), strict=True):
            done.append(torch.softmax(q @ k.mT * q.shape[-1]**-0.5, dim=-1) @ v)
        return self.project(torch.cat(done, dim=-1))


class MendedSteps(MendedInPlaceOf):
    def forward(self, x):
        shortcut = x
        y = self.attend(self.norm1(x))
        x = shortcut + y
        return torch.add(x, self.mlp(self.norm2(x)))


class MendedApart(nn.Module):
    """Other names, attention and MLP as modules of their own."""

    def __init__(self, channels, heads):
        super().__init__()
        self.first = nn.ModuleDict({"norm": nn.LayerNorm(channels), "work": Heads(channels, heads)})
        self.second = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.SiLU(),
                                    nn.Linear(2 * channels, channels))

    def forward(self, x):
        x = self.first["work"](self.first["norm"](x)) + x
        return self.second(x) + x


class Heads(nn.Module):
    def __init__(self, channels, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).permute(0, 2, 1, 3).reshape(n, t, d))


class Isotropic(nn.Module):
    def __init__(self, channels, depth, patch, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, patch, stride=patch)
        self.blocks = nn.Sequential(*[ConvNeXtBlock(channels) for _ in range(depth)])
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.stem(x)).mean(dim=(2, 3))))


class IsotropicPooled(Isotropic):
    def forward(self, x):
        return self.head(self.norm(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1)))


class IsotropicList(nn.Module):
    def __init__(self, channels, depth, patch, num_classes):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, channels, patch, patch)])
        for _ in range(depth):
            self.layers.append(ConvNeXtBlock(channels))
        self.end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(channels, 1e-6),
                                 nn.Linear(channels, num_classes))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.end(x)


class OwnBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.filter, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), nn.LayerNorm(c, eps=1e-6)
        self.up, self.down = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)
        self.scale = nn.Parameter(torch.full((c, 1, 1), 1e-6))

    def forward(self, x):
        y = self.norm(self.filter(x).permute(0, 2, 3, 1))
        return x + self.scale * self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)


class IsotropicOwn(Isotropic):
    def __init__(self, channels, depth, patch, num_classes):
        super().__init__(channels, depth, patch, num_classes)
        self.blocks = nn.Sequential(*[OwnBlock(channels) for _ in range(depth)])


class IsotropicTorchvision(Isotropic):
    def __init__(self, channels, depth, patch, num_classes):
        from torchvision.models.convnext import CNBlock

        super().__init__(channels, depth, patch, num_classes)
        self.blocks = nn.Sequential(*[CNBlock(channels, 1e-6, 0.0) for _ in range(depth)])


class IsotropicSequential(nn.Sequential):
    def __init__(self, channels, depth, patch, num_classes):
        super().__init__(nn.Conv2d(3, channels, patch, patch), *(ConvNeXtBlock(channels) for _ in range(depth)),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(channels, eps=1e-6),
                         nn.Linear(channels, num_classes))


def norm_by_formula(x, weight, bias, eps):
    mean = x.mean(dim=1, keepdim=True)
    variance = ((x - mean)**2).mean(dim=1, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * weight[:, None, None] + bias[:, None, None]


def norm_by_var(x, weight, bias, eps):
    variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
    return torch.rsqrt(variance + eps) * (x - mean) * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


def norm_permuted(x, weight, bias, eps):
    y = x.permute(0, 2, 3, 1)
    y = (y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, unbiased=False, keepdim=True) + eps)
    return (y * weight + bias).permute(0, 3, 1, 2)


def norm_by_torch(x, weight, bias, eps):
    return F.layer_norm(x.movedim(1, -1), [len(weight)], weight, bias, eps).movedim(-1, 1)


def norm_by_module(x, weight, bias, eps):
    y = nn.LayerNorm(x.shape[1], eps, elementwise_affine=False)(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return weight.reshape(-1, 1, 1) * y + bias.reshape(-1, 1, 1)


def norm_by_squares(x, weight, bias, eps):
    mean, square = x.mean(1, keepdim=True), (x**2).mean(1, keepdim=True)
    return torch.einsum("nchw,c->nchw", (x - mean) * (square - mean**2 + eps)**-0.5, weight) + bias[None, :, None, None]


RIGHT = {
    "08.1": {"permute": lambda: resized(by_permute), "slices": lambda: resized(by_slices),
             "pixel_unshuffle": lambda: resized(by_unshuffle), "F.unfold": lambda: resized(by_unfold),
             "einsum": lambda: resized(by_einsum), "indices": lambda: resized(by_index), "always resized": Deal},
    "08.2": {"products": lambda: plain, "a mask": lambda: masked, "exponentials": lambda: exponentials,
             "bmm": lambda: by_batches, "query by query": lambda: by_query, "a flat table": lambda: by_flat_table},
    "08.3": {
        "fractions": lambda: dict(SHARES),
        "rounded": lambda: {256: 0.19, 512: 0.49, 1024: 0.79},
        "tensors": lambda: {side: torch.tensor(share) for side, share in SHARES.items()},
        "numpy": lambda: {np.int64(side): np.float64(share) for side, share in SHARES.items()},
        "arrays of one": lambda: {side: np.array([share]) for side, share in SHARES.items()},
        "further keys": lambda: {224: 0.15, **SHARES},
    },
    "08.4": {
        "MobileViT's block": lambda: lambda: hybrid(MobileViTBlock(16, 24, depth=1, dropout=0.0)),
        "LeViT's attention": lambda: lambda: hybrid(LeViTs()),
        "nn.MultiheadAttention": lambda: lambda: hybrid(Multihead()),
        "a softmax": lambda: lambda: hybrid(Attend(by_softmax, 24), 24),
        "exponentials": lambda: lambda: hybrid(Attend(by_exponentials, 24), 24),
        "separable": lambda: lambda: hybrid(Attend(separable, 24), 24),
        "PyTorch's function": lambda: lambda: hybrid(Attend(lambda m, q, k, v:
                                                            F.scaled_dot_product_attention(q, k, v), 24), 24),
        "a class that pools": lambda: Pooled,
    },
    "08.5": {
        "numbers": lambda: dict(COUNTS),
        "by the formulas": by_formula,
        "floats": lambda: {key: float(value) for key, value in COUNTS.items()},
        "tensors": lambda: {key: torch.tensor(value) for key, value in COUNTS.items()},
        "numpy": lambda: {key: np.int64(value) for key, value in COUNTS.items()},
        "further keys": lambda: {"patches": 140, **COUNTS},
    },
    "08.6": {"mended": lambda: MendedInPlaceOf, "PyTorch's function": lambda: MendedFused,
             "einsum": lambda: MendedEinsum, "head by head": lambda: MendedByHeads,
             "in steps": lambda: MendedSteps, "modules of their own": lambda: MendedApart},
    "08.7": {"a class": lambda: Isotropic, "pooled": lambda: IsotropicPooled, "a ModuleList": lambda: IsotropicList,
             "an own block": lambda: IsotropicOwn, "torchvision's block": lambda: IsotropicTorchvision,
             "nn.Sequential": lambda: IsotropicSequential},
    "08.8": {"the formula": lambda: norm_by_formula, "var_mean": lambda: norm_by_var,
             "permuted": lambda: norm_permuted, "F.layer_norm": lambda: norm_by_torch,
             "nn.LayerNorm": lambda: norm_by_module, "mean of squares": lambda: norm_by_squares},
}

SLOW = {("08.4", name) for name in list(RIGHT["08.4"])[1:]}
