"""Right answers to the exercises of chapter 08, each in another style."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.layers import ConvBNAct
from lwcourse.models import levit
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
}

SLOW = {("08.4", name) for name in list(RIGHT["08.4"])[1:]}
