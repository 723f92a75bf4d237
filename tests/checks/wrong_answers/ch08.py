"""Wrong answers to the exercises of chapter 08, and words that the refusal must have."""
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.checks.ch08.attention import _attend
from lwcourse.checks.ch08.deal import _deal
from lwcourse.checks.ch08.isotropic import _Isotropic, _mistaken
from lwcourse.checks.ch08.layer import _Layer, _with_bugs
from lwcourse.checks.ch08.norm import _norm
from lwcourse.layers import ConvBNAct, LayerNorm2d
from lwcourse.models.convnext import ConvNeXtBlock
from lwcourse.models.mobilevit import MobileViTBlock, fold, unfold


def deal(**mistake):
    """Exercise 08.1 with one mistake, as a function that a learner could have written."""
    return lambda: lambda x, transform: _deal(**mistake)(x, transform)


def core(x, transform):
    """Right, for even sides."""
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1)
    y = transform(y.reshape(4 * n, -1, c)).reshape(n, 2, 2, h // 2, w // 2, c)
    return y.permute(0, 5, 3, 1, 4, 2).reshape(x.shape)


def stretched(inner, there="bilinear", back="bilinear", **how):
    """The function that resizes odd sides around `inner`."""
    def deal(x, transform):
        size = list(x.shape[2:])
        even = [side + side % 2 for side in size]
        if even == size:
            return inner(x, transform)
        y = inner(F.interpolate(x, even, mode=there, **how), transform)
        return F.interpolate(y, size, mode=back, **how)
    return lambda: deal


def by_unshuffle(tokens_of, map_of):
    """Through pixel_unshuffle: `tokens_of` a map (N, 4 C, H/2, W/2), and back by `map_of`(tokens, that shape)."""
    def inner(x, transform):
        y = F.pixel_unshuffle(x, 2)
        return F.pixel_shuffle(map_of(transform(tokens_of(y)), y.shape), 2)
    return stretched(inner)


VIT = by_unshuffle(lambda y: y.flatten(2).transpose(1, 2), lambda t, size: t.transpose(1, 2).reshape(size))
CHANNELS_ALONE = by_unshuffle(lambda y: y.reshape(-1, y.shape[2] * y.shape[3], 1), lambda t, size: t.reshape(size))
OTHER_IMAGES = by_unshuffle(lambda y: y.flatten(2).permute(2, 0, 1).flatten(1)[None],
                            lambda t, size: t[0].unflatten(1, size[:2]).permute(1, 2, 0).reshape(size))


def channels_first():
    def inner(x, transform):
        n, c, h, w = x.shape
        y = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(4 * n, c, -1)
        y = transform(y).reshape(n, 2, 2, c, h // 2, w // 2)
        return y.permute(0, 3, 4, 1, 5, 2).reshape(x.shape)
    return stretched(inner)()


def each_image():
    def inner(x, transform):
        return torch.cat([core(image[None], transform) for image in x])
    return stretched(inner)()


def each_sequence():
    def inner(x, transform):
        return core(x, lambda tokens: torch.cat([transform(one[None]) for one in tokens]))
    return stretched(inner)()


def by_the_course():
    return stretched(lambda x, transform: fold(transform(unfold(x)), *x.shape[2:]))()


def course_fold():
    def inner(x, transform):
        n, c, h, w = x.shape
        y = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1)
        return fold(transform(y.reshape(4 * n, -1, c)), h, w)
    return stretched(inner)()


def not_folded():
    def deal(x, transform):
        y = core(x, seen := Keep(transform))
        return seen.last if y is not None else y
    return deal


class Keep:
    def __init__(self, transform):
        self.transform = transform

    def __call__(self, tokens):
        self.last = self.transform(tokens)
        return self.last


def wrong_way_back():
    def deal(x, transform):
        n, c, h, w = x.shape
        core(x, seen := Keep(transform))
        return seen.last.reshape(n, h, w, c).permute(0, 3, 1, 2)
    return deal


def never_called():
    return lambda x, transform: x


def detached():
    return stretched(lambda x, transform: core(x.detach(), transform))()


def detached_where(odd):
    """The tensor that goes on is detached for even sides alone, or for odd ones alone."""
    def deal(x, transform):
        y = x.detach() if odd == any(side % 2 for side in x.shape[2:]) else x
        return stretched(core)()(y, transform)
    return lambda: deal


def in_place():
    def deal(x, transform):
        y = stretched(core)()(x, transform)
        x.zero_()
        return y
    return deal


def strided_slices():
    def deal(x, transform):
        n, c, h, w = x.shape
        parts = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        y = transform(torch.stack(parts, 1).flatten(3).transpose(2, 3).reshape(4 * n, -1, c))
        return y.reshape(n, 2, 2, h // 2, w // 2, c).permute(0, 5, 3, 1, 4, 2).reshape(x.shape)
    return deal


def windows():
    def deal(x, transform):
        y = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 4, 5, 2, 3, 1)
        z = transform(y.reshape(4 * len(x), -1, x.shape[1])).reshape(y.shape)
        z = z.permute(0, 5, 3, 1, 4, 2)
        return z.reshape(*x.shape[:2], 2 * z.shape[2], 2 * z.shape[4])
    return deal


def joined(join):
    """`join` of the input and the right result."""
    return lambda: lambda x, transform: join(x, stretched(core)()(x, transform))


def tokens_added():
    return stretched(lambda x, transform: core(x, lambda tokens: tokens + transform(tokens)))()


def result_thrown_away():
    def inner(x, transform):
        return core(x, lambda tokens: (transform(tokens), tokens)[1])
    return stretched(inner)()


def attend(**mistake):
    return lambda: lambda *arguments: _attend(**mistake)(*arguments)


PRODUCTS = {256: 78_184_448, 512: 1_250_951_168, 1024: 20_015_218_688}
LINEAR_LAYERS = {256: 66_846_720, 512: 267_386_880, 1024: 1_069_547_520}  # of the attentions
ALL = {256: 407_364_096, 512: 2_566_709_760, 1024: 25_277_293_056}
SHARES = {side: macs / ALL[side] for side, macs in PRODUCTS.items()}
LINEAR = {side: (macs + LINEAR_LAYERS[side]) / ALL[side] for side, macs in PRODUCTS.items()}


def shares(numbers):
    return lambda: dict(numbers)


def own(function):
    """`function` as an answer."""
    return lambda: function


def softmax_detached(queries, keys, values, biases, height, width):
    return _attend()(queries.detach(), keys, values, biases, height, width)


def by_own_place(of_queries):
    """Biases of a query's, or of a key's own place."""
    def answer(queries, keys, values, biases, height, width):
        t = torch.arange(height * width)
        added = biases[:, t // width, t % width]
        added = added[:, :, None] if of_queries else added[:, None]
        return ((queries @ keys.mT) / queries.shape[-1] ** 0.5 + added).softmax(-1) @ values
    return lambda: answer


def cut_sum(queries, keys, values, biases, height, width):
    t = torch.arange(height * width)
    far = (t[:, None] // width - t // width).abs() + (t[:, None] % width - t % width).abs()
    added = biases[:, 0, far.clamp(max=biases.shape[-1] - 1)]
    return F.scaled_dot_product_attention(queries, keys, values, added)


def scaled_twice(queries, keys, values, biases, height, width):
    t = torch.arange(height * width)
    dy, dx = (t[:, None] // width - t // width).abs(), (t[:, None] % width - t % width).abs()
    return F.scaled_dot_product_attention(queries / queries.shape[-1] ** 0.5, keys, values, biases[:, dy, dx])


def overwrites(queries, keys, values, biases, height, width):
    y = _attend()(queries, keys, values, biases, height, width)
    values.zero_()
    return y


def design(build):
    return lambda: (lambda: build())


def net(*layers, channels=16):
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), ConvBNAct(16, channels, 3, 2), *layers, nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(channels, 10))


class Tokens(nn.Module):
    """Tokens of a map, and what `mix` makes of them: (N, T, 16), a map again where it has the same shape."""

    def __init__(self, mix, channels=16, **options):
        super().__init__()
        self.mix = mix
        self.attention = nn.MultiheadAttention(channels, 2, **{"batch_first": True} | options)
        self.q, self.k, self.v = (nn.Linear(channels, channels) for _ in range(3))
        self.memory = nn.Parameter(torch.randn(9, channels))

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        y = self.mix(self, tokens)
        return y.transpose(1, 2).reshape(x.shape) if y.shape == tokens.shape else y

    def weights(self, tokens):
        return (self.q(tokens) @ self.k(tokens).transpose(1, 2) / 4).softmax(-1)


class Raw(nn.Module):
    """A linear classifier of pixels, and attention over 16 means."""

    def __init__(self):
        super().__init__()
        self.attention, self.fc = nn.MultiheadAttention(3, 1, batch_first=True), nn.Linear(3072, 10)

    def forward(self, x):
        tokens = F.avg_pool2d(x, 8).flatten(2).transpose(1, 2)
        return self.fc(x.flatten(1)) / 10 + self.attention(tokens, tokens, tokens)[0].sum((1, 2))[:, None]


class Diverges(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = net(MobileViTBlock(16, 32, 1))

    def forward(self, x):
        return self.network(x) * 1e30


def mixed(mix, **options):
    return design(lambda: net(Tokens(mix, **options)))


COUNTS = {"sequences": 12, "tokens": 140, "weights": 940_800, "product_macs": 22_579_200, "linear_macs": 15_482_880}


def counts(**other):
    return lambda: COUNTS | other


class OverQueries(_Layer):
    def attention(self, x):
        n, t, d = x.shape
        q, k, v = (y.reshape(n, t, self.heads, -1).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
        scores = (q @ k.transpose(-2, -1) / q.shape[-1]**0.5).softmax(dim=-2)
        return self.project((scores @ v).transpose(1, 2).reshape(n, t, d))


class NoSecondShortcut(_Layer):
    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return self.mlp(self.norm2(x))


class NormAfter(_Layer):
    def forward(self, x):
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class WithDropout(_Layer):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.1, self.training)


class OtherOrder(_Layer):
    def __init__(self, heads, channels):
        super().__init__(channels, heads)


class Detached(_Layer):
    def forward(self, x):
        x = x + self.attention(self.norm1(x).detach())
        return x + self.mlp(self.norm2(x))


class PlainList(_Isotropic):
    def __init__(self, channels, depth, patch, num_classes):
        super().__init__(channels, depth, patch, num_classes)
        del self.blocks
        self.parts = [ConvNeXtBlock(channels) for _ in range(depth)]

    def forward(self, x):
        x = self.stem(x)
        for part in self.parts:
            x = part(x)
        return self.classifier(self.norm(x.mean(dim=(2, 3))))


class OneMore(_Isotropic):
    def __init__(self, channels, depth, patch, num_classes):
        super().__init__(channels, depth + 1, patch, num_classes)


class Overlapping(_Isotropic):
    def __init__(self, channels, depth, patch, num_classes):
        super().__init__(channels, depth, patch, num_classes)
        self.stem = nn.Conv2d(3, channels, 2 * patch - 1, stride=patch, padding=patch - 1)


class NoEps(_Isotropic):
    def __init__(self, channels, depth, patch, num_classes):
        super().__init__(channels, depth, patch, num_classes)
        self.norm = nn.LayerNorm(channels)


class PatchLast(_Isotropic):
    def __init__(self, patch, channels, depth, num_classes):
        super().__init__(channels, depth, patch, num_classes)


class Twice(_Isotropic):
    def forward(self, x):
        y = self.stem(x)
        self.blocks(y)
        return self.classifier(self.norm(self.blocks(y).mean(dim=(2, 3))))


def of_the_course(x, weight, bias, eps):
    norm = LayerNorm2d(x.shape[1], eps=eps)
    return norm(x) * weight[:, None, None] + bias[:, None, None]


def norm_detached(x, weight, bias, eps):
    mean, variance = x.detach().mean(1, keepdim=True), x.detach().var(1, correction=0, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * weight[:, None, None] + bias[:, None, None]


def norm_in_place(x, weight, bias, eps):
    y = _norm()(x, weight, bias, eps)
    x -= x.mean(1, keepdim=True)
    return y


ATTENDS = net(MobileViTBlock(16, 32, 1))

WRONG = {
    "08.1": {
        "patches column by column": (deal(columns_first=True), "patches of a sequence are in the wrong order"),
        "a patch is a sequence": (deal(patch_is_sequence=True), "the four pixels of one patch"),
        "images mixed": (deal(batch_mixed=True), "mixes the images of the batch"),
        "reshape without permute": (deal(viewed=True), "a reshape alone does not move an axis"),
        "one sequence": (deal(one_sequence=True), "all pixels of an image are in one sequence"),
        "quarters of the map": (deal(quarters=True), "the four quarters of the map"),
        "patches as tokens": (VIT, "each token is a whole patch"),
        "each channel a sequence": (CHANNELS_ALONE, "each channel is a sequence of its own"),
        "images in the channels": (OTHER_IMAGES, "`transform` gets the shape (1, 6, 24)"),
        "channels before tokens": (channels_first, "the channels stand before the tokens"),
        "a call for each image": (each_image, "is called 2 times; call it once"),
        "a call for each sequence": (each_sequence, "is called 8 times; call it once"),
        "the course's functions": (by_the_course, "the course's `unfold`"),
        "the course's fold": (course_fold, "uses the course's `fold`"),
        "corners aligned": (deal(align_corners=True), "align_corners=True"),
        "no resize": (lambda: core, ["breaks it", "odd sides are not resized"]),
        "no resize, by slices": (strided_slices, ["breaks it", "odd sides are not resized"]),
        "no resize, by windows": (windows, "the last row or column is dropped"),
        "padded with zeros": (deal(padded="constant"), "padded with zeros"),
        "padded with a copy": (deal(padded="replicate"), "padded with a copy"),
        "padded by a mirror": (deal(padded="reflect"), "mirrored"),
        "odd row cut off": (deal(cut=True), "the last row or column is dropped"),
        "not resized back": (deal(half=True), "must have its own size again"),
        "nearest neighbour": (deal(mode="nearest"), "by nearest neighbours, the default"),
        "back by nearest neighbours": (stretched(core, back="nearest"), "or shrunk by nearest neighbours"),
        "bicubic": (deal(mode="bicubic"), "stretched as bicubic"),
        "antialias": (deal(antialias=True), "antialias=True"),
        "shrunk to the even size below": (deal(down=True), "or the map is shrunk; odd sides must be stretched"),
        "cut back": (deal(cut_back=True), "the result is cut to the size of x"),
        "area": (stretched(core, "area", "area"), ["values are wrong", "how the map is resized"]),
        "not folded": (not_folded, "the output has shape"),
        "folded by reshape": (wrong_way_back, "folding does not give the map back"),
        "input added": (joined(lambda x, y: x + y), "the input, or your sequences as they were, is added"),
        "sequences added": (tokens_added, "the input, or your sequences as they were, is added"),
        "mean with the input": (joined(lambda x, y: (x + y) / 2), "the mean of the input and"),
        "result of transform thrown away": (result_thrown_away, "what `transform` gives is not used"),
        "transform never called": (never_called, "never called"),
        "detached": (detached, "no gradient"),
        "detached for even sides": (detached_where(False), "no gradient"),
        "detached for odd sides": (detached_where(True), "no gradient"),
        "in place": (in_place, "overwrites its input"),
        "nothing returned": (lambda: lambda x, transform: core(x, transform) and None, "Boolean value"),
        "no return": (lambda: lambda x, transform: [core(x, transform)][1:] or None, "is the return missing"),
    },
    "08.2": {
        "no scale": (attend(scale="none"), "not divided by the root"),
        "divided by d": (attend(scale="channels"), "not by their root"),
        "divided by d, with PyTorch's function": (own(scaled_twice), "divides by the root itself"),
        "times the root": (attend(scale="times"), "are multiplied by the root"),
        "root of the positions": (attend(scale="tokens"), "root of the number of positions"),
        "bias after softmax": (attend(where="after softmax"), "added after the softmax"),
        "bias scaled too": (attend(where="before scale"), "scaled with the scores"),
        "no bias": (attend(bias="none"), "the biases are missing"),
        "bias of the query's place": (by_own_place(True), ["all keys of a query get the same", "by a distance"]),
        "bias of the key's place": (by_own_place(False), "by the key's own row and column"),
        "scores times biases": (attend(where="times scores"), "the biases are multiplied with the scores"),
        "weights times biases": (attend(where="times weights"), "the weights behind the softmax are multiplied"),
        "one head's biases": (attend(one_head=True), "all heads get the biases of the first"),
        "sum of distances": (attend(bias="sum"), "the sum is looked up along the columns"),
        "sum of distances, cut": (own(cut_sum), "the sum is looked up along the columns"),
        "sum of distances, down": (attend(bias="sum down"), "the sum is looked up along the rows"),
        "rows only": (attend(bias="rows only"), "only the distance of rows"),
        "columns only": (attend(bias="columns only"), "only the distance of columns"),
        "rows in both axes": (attend(bias="rows twice"), "in both axes of the table"),
        "biases twice": (attend(sign=2), "added twice"),
        "rows and columns swapped": (attend(bias="swapped"), "rows and columns are swapped"),
        "signed offsets": (attend(bias="signed"), "keeps its sign"),
        "column by column": (attend(bias="column by column"), "counted column by column"),
        "height for width": (attend(bias="t // height"), "from a division by `height`"),
        "root of the values' channels": (attend(scale="values"), "root of the values' channels"),
        "biases subtracted": (attend(sign=-1), "subtracted"),
        "no softmax": (attend(softmax=False), "the softmax is missing"),
        "softmax over queries": (attend(axis=-2), "runs over the queries"),
        "softmax over heads": (attend(axis=1), "runs over the heads"),
        "softmax over images": (attend(axis=0), "runs over the images of the batch"),
        "queries and keys exchanged": (attend(exchanged=True), "queries and keys are exchanged"),
        "weights transposed": (attend(transposed=True), "the weights are transposed"),
        "queries detached": (own(softmax_detached), "no gradient"),
        "overwrites": (own(overwrites), "overwrites its input"),
        "heads joined": (own(lambda *a: _attend()(*a).transpose(1, 2).flatten(2)), "the output has shape"),
        "nothing": (own(lambda *a: None), "is the return missing"),
    },
    "08.3": {
        "percent": (shares({side: 100 * share for side, share in SHARES.items()}), "these are percent"),
        "linear layers counted": (shares(LINEAR), "linear layers of the attention too"),
        "ratio to the rest": (shares({side: share / (1 - share) for side, share in SHARES.items()}),
                              "divide by all MACs"),
        "MACs": (shares(PRODUCTS), "these are MACs"),
        "linear layers only": (shares({side: macs / ALL[side] for side, macs in LINEAR_LAYERS.items()}),
                               "these are the linear layers of the attention;"),
        "share of the attention": (shares({side: macs / (macs + LINEAR_LAYERS[side])
                                           for side, macs in PRODUCTS.items()}), "these are shares of the attention"),
        "all the rest": (shares({side: 1 - share for side, share in SHARES.items()}), "the shares of all the rest"),
        "one product of the rest": (shares({side: macs / 2 / (ALL[side] - macs) for side, macs in PRODUCTS.items()}),
                                    ["one of the two products", ", and this is the ratio"]),
        "one product, of what is left": (shares({side: macs / 2 / (ALL[side] - macs / 2)
                                                 for side, macs in PRODUCTS.items()}),
                                         ["one of the two products", ". And this is the ratio"]),
        "linear layers too, of the rest": (shares({side: LINEAR[side] / (1 - LINEAR[side]) for side in LINEAR}),
                                           ["linear layers of the attention too", "divide by all MACs"]),
        "linear layers too, in per cent": (shares({side: 100 * share for side, share in LINEAR.items()}),
                                           ["these are percent", "linear layers of the attention too"]),
        "one product": (shares({side: share / 2 for side, share in SHARES.items()}), "one of the two products"),
        "one size thrice": (shares(dict.fromkeys(SHARES, SHARES[256])), "did you profile each size"),
        "keys": (shares({224: 0.15}), "the keys must be"),
        "names for keys": (shares({str(side): share for side, share in SHARES.items()}), "there is no 256"),
        "a guess": (shares(SHARES | {512: 0.4}), "512: 0.4 is too small"),
        "a profile": (lambda: SHARES | {256: "0.19"}, "256: got '0.19', not a number"),
    },
    "08.4": {
        "no attention": (design(net), "there is no attention"),
        "a gate of channels": (mixed(lambda m, t: t * m.q(t.mean(1, keepdim=True)).softmax(-1)),
                               "there is no attention"),
        "a gate of channels, averaged": (mixed(lambda m, t: (t * m.q(t).softmax(-1)).mean(1, keepdim=True)
                                               .expand_as(t)), "there is no attention"),
        "a gate by einsum": (mixed(lambda m, t: torch.einsum("ntc,nc->ntc", t, m.q(t.mean(1)).softmax(-1))),
                             "there is no attention"),
        "weights that do not sum to 1": (mixed(lambda m, t: (m.q(t) @ m.k(t).transpose(1, 2)).sigmoid() @ m.v(t)),
                                         "no values are summed with weights that sum to 1"),
        "attention never used": (mixed(lambda m, t: t), "MultiheadAttention is built but never used"),
        "attention thrown away": (mixed(lambda m, t: (m.attention(t, t, t), t)[1]), "makes no difference"),
        "attention times zero": (mixed(lambda m, t: t + 0 * (m.weights(t) @ m.v(t))), "makes no difference"),
        "attention in eval mode only": (mixed(lambda m, t: t if m.training else t + m.weights(t) @ m.v(t)),
                                        "there is no attention in it in training mode"),
        "attention in training only": (mixed(lambda m, t: t + m.weights(t) @ m.v(t) if m.training else t),
                                       "there is no attention in it in eval mode:"),
        "attention to a memory": (mixed(lambda m, t: t + F.scaled_dot_product_attention(
            m.memory, m.memory, m.memory).mean(0)), "does not depend on the image"),
        "one token": (design(lambda: net(nn.AdaptiveAvgPool2d(2), MobileViTBlock(16, 32, 1))), "sees 1 token,"),
        "three tokens": (mixed(lambda m, t: t + m.attention(t, t[:, :3], t[:, :3])[0]), "sees 3 tokens,"),
        "one token, copied": (mixed(lambda m, t: t + m.attention(t, *[t.mean(1, keepdim=True).expand_as(t)] * 2)[0]),
                              "sees 1 different key,"),
        "one token, copied, for PyTorch's function": (mixed(lambda m, t: t + F.scaled_dot_product_attention(
            m.q(t), *[t.mean(1, keepdim=True).expand_as(t)] * 2)), "sees 1 different key,"),
        "batch_first forgotten": (mixed(lambda m, t: t + m.attention(t, t, t)[0], batch_first=False), "batch_first"),
        "softmax at the end": (design(lambda: nn.Sequential(net(MobileViTBlock(16, 32, 1)), nn.Softmax(1))),
                               "ends in a softmax"),
        "one network": (lambda: lambda: ATTENDS, "the same network, or the same weights"),
        "too many MACs": (design(lambda: net(MobileViTBlock(16, 48, 4))), ["over budget", "MACs, of 2,000,000"]),
        "too many parameters": (design(lambda: nn.Sequential(net(MobileViTBlock(16, 32, 1)), nn.Linear(10, 3000),
                                                             nn.Linear(3000, 10))),
                                ["over budget", "parameters, of 60,000"]),
        "a thousand classes": (design(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 1000))),
                               "must give logits of shape (2, 10)"),
        "no return": (design(lambda: None), "is the return missing?"),
        "a network, not a function": (lambda: net(), "a function without arguments"),
        "learns nothing": (design(lambda: nn.Sequential(nn.AvgPool2d(4), MobileViTBlock(3, 16, 1),
                                                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))),
                           "learned too little"),
        "a linear classifier": (design(Raw), "learned too little"),
        "a plain CNN": (design(lambda: nn.Sequential(
            ConvBNAct(3, 16, 3, 2), ConvBNAct(16, 32, 3, 2), ConvBNAct(32, 48, 3, 2),
            Tokens(lambda m, t: t + m.attention(t, t, t)[0], 48), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(48, 10))), "learned too little"),
        "diverges": (design(lambda: Diverges()), "training failed"),
    },
    "08.5": {
        "one image": (lambda: {"sequences": 4, "tokens": 140, "weights": 313_600, "product_macs": 7_526_400,
                               "linear_macs": 5_160_960}, "for one image, and there are three"),
        "exchanged": (counts(sequences=140, tokens=12), "sequences and tokens are exchanged: each"),
        "one sequence": (counts(weights=78_400, product_macs=1_881_600, linear_macs=1_290_240), "of one sequence"),
        "all pixels": (lambda: {"sequences": 3, "tokens": 560, "weights": 3_763_200, "product_macs": 90_316_800,
                                "linear_macs": 15_482_880}, "attention over all pixels"),
        "all pixels as tokens": (counts(tokens=560), "all pixels of the map"),
        "half the pixels": (counts(tokens=280), "makes a quarter"),
        "two sequences an image": (counts(sequences=6), "a patch of 2 x 2 has four"),
        "one head": (counts(weights=235_200), "each head has its own"),
        "a weight a token": (counts(weights=6_720), "T * T weights"),
        "one product": (counts(product_macs=11_289_600), "there are two products"),
        "times heads": (counts(product_macs=90_316_800), "heads do not multiply the work"),
        "doubled": (counts(product_macs=45_158_400, linear_macs=30_965_760), "one MAC is both"),
        "three layers": (counts(linear_macs=11_612_160), "there are four linear layers"),
        "one layer": (counts(linear_macs=3_870_720), "one linear layer of the four"),
        "parameters": (counts(linear_macs=9_216), "every token goes through"),
        "with the MLP": (counts(linear_macs=30_965_760), "the MLP is not part"),
        "keys": (lambda: {"tokens": 140}, "the keys must be"),
        "a guess": (counts(weights=1_000_000), "weights: 1,000,000"),
        "text": (counts(weights="many"), "not a number"),
    },
    "08.6": {
        "as it was": (lambda: _with_bugs("heads", "scale", "shortcut"), "all three bugs are still in it"),
        "heads and scale left": (lambda: _with_bugs("heads", "scale"), "two are left. One of them: the heads"),
        "heads and shortcut left": (lambda: _with_bugs("heads", "shortcut"), "two are left. One of them: the first"),
        "scale and shortcut left": (lambda: _with_bugs("scale", "shortcut"), "two are left. One of them: the scores"),
        "heads left": (lambda: _with_bugs("heads"), "one is left: the heads are cut out of the wrong axes"),
        "scale left": (lambda: _with_bugs("scale"), "one is left: the scores are divided"),
        "shortcut left": (lambda: _with_bugs("shortcut"), "one is left: the first shortcut"),
        "softmax over queries": (lambda: OverQueries, "but the reference"),
        "no second shortcut": (lambda: NoSecondShortcut, ["reference"]),
        "norm after the sum": (lambda: NormAfter, ["reference"]),
        "dropout": (lambda: WithDropout, "not in training mode"),
        "other order": (lambda: OtherOrder, "come in another order"),
        "detached": (lambda: Detached, "gradient"),
    },
    "08.7": {
        "norm before the mean": (lambda: _mistaken("norm first"), "before the mean; it comes after"),
        "no norm": (lambda: _mistaken("no norm"), "between the mean and the linear layer is missing"),
        "norm in the stem": (lambda: _mistaken("stem norm"), "this stem has none"),
        "one block, repeated": (lambda: _mistaken("one block"), "repeats the module"),
        "maximum": (lambda: _mistaken("maximum"), "not its mean"),
        "a plain list": (lambda: PlainList, "is a plain Python list"),
        "one block more": (lambda: OneMore, "reference"),
        "patches overlap": (lambda: Overlapping, "kernel"),
        "another eps": (lambda: NoEps, "eps"),
        "other order": (lambda: PatchLast, "come in another order"),
        "blocks run twice": (lambda: Twice, "more work"),
    },
    "08.8": {
        "all of an image": (own(_norm((1, 2, 3))), "over all of an image"),
        "pixels of a channel": (own(_norm((2, 3))), "over the pixels of each channel"),
        "the batch": (own(_norm((0, 2, 3))), "as BatchNorm does"),
        "the last axis": (own(_norm(-1)), "along the last axis"),
        "C - 1": (own(_norm(correction=1)), "divide by C"),
        "eps outside": (own(_norm(eps_outside=True)), "below the root"),
        "no root": (own(_norm(root=False)), "the root of the variance is missing"),
        "not centred": (own(_norm(centred=False)), "the mean is not subtracted"),
        "no weight": (own(_norm(weighted=False)), "weight is not used"),
        "no bias": (own(_norm(shifted=False)), "bias is not added"),
        "neither": (own(_norm(weighted=False, shifted=False)), "weight and bias are not used"),
        "the course's": (own(of_the_course), "the course's `LayerNorm2d`"),
        "detached": (own(norm_detached), "no gradient"),
        "in place": (own(norm_in_place), "overwrites its input"),
        "nothing": (own(lambda *a: None), "is the return missing"),
    },
}

SLOW = {("08.4", name) for name in ("learns nothing", "a linear classifier", "a plain CNN", "diverges")}
