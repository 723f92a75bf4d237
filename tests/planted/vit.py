"""ViT against timm's VisionTransformer."""
import timm
import torch
import torch.nn.functional as F
from torch import nn

from planted import Fault, Pair
from planted.sentences import (
    HEADS_ORDER,
    KEYS,
    NO_SHORTCUT,
    PIXEL_ORDER,
    QUERIES,
    SCALE,
    SOFTMAX_AXIS,
    VALUES,
    all_of,
    at,
    exchanged,
    extra,
    gap,
    instead,
    missing,
)

WIDTH, HEADS, DEPTH = 96, 3, 3


class Layer(nn.Module):
    """One layer of the encoder; only the second of the network has a fault."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        eps = 1e-5 if fault == "eps_here" else 1e-6
        self.n1 = nn.LayerNorm(WIDTH, eps=eps)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=fault != "qkv_no_bias")
        self.o = nn.Linear(WIDTH, WIDTH)
        self.n2 = nn.LayerNorm(WIDTH, eps=eps)
        hidden = 3 * WIDTH if fault == "mlp_ratio" else 4 * WIDTH
        self.m1 = nn.Linear(WIDTH, hidden)
        self.m2 = nn.Linear(hidden, WIDTH)

    def split(self, x):
        n, t, _ = x.shape
        heads = {"one_head": 1, "six_heads": 6}.get(self.fault, HEADS)
        qkv = self.qkv(x)
        if self.fault == "heads_first":
            q, k, v = qkv.reshape(n, t, heads, 3, -1).permute(3, 0, 2, 1, 4)
        elif self.fault == "heads_last":
            q, k, v = qkv.reshape(n, t, 3, -1, heads).permute(2, 0, 4, 1, 3)
        elif self.fault == "heads_view":
            q, k, v = (part.reshape(n, heads, t, -1) for part in qkv.chunk(3, -1))
        else:
            q, k, v = qkv.reshape(n, t, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if self.fault == "kv_swapped":
            k, v = v, k
        if self.fault == "kq":
            q, k = k, q
        if self.fault == "qv_swapped":
            q, v = v, q
        if self.fault == "v_is_k":
            v = k
        return q, k, v

    def attend(self, q, k, v):
        fault = self.fault
        if fault == "causal":
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        if fault == "dropout":
            return F.scaled_dot_product_attention(q, k, v, dropout_p=0.3)
        size = q.shape[-1]
        scale = {"scale": 1 / size, "no_scale": 1.0, "scale_width": WIDTH ** -0.5, "scale_up": size ** 0.5,
                 "scale_tokens": q.shape[-2] ** -0.5}.get(fault, size ** -0.5)
        scores = q @ k.transpose(-2, -1) * scale
        if fault == "mask_self":
            scores = scores.masked_fill(torch.eye(scores.shape[-1], dtype=torch.bool), float("-inf"))
        if fault == "sigmoid":
            weights = scores.sigmoid()
        elif fault == "no_softmax":
            weights = scores
        elif fault == "relu_scores":
            weights = scores.relu().softmax(-1)
        elif fault == "log_softmax":
            weights = scores.log_softmax(-1)
        else:
            weights = scores.softmax({"softmax_queries": -2, "softmax_heads": 1, "softmax_batch": 0}.get(fault, -1))
        if fault == "scale_after":
            weights = (q @ k.transpose(-2, -1)).softmax(-1) * scale
        return weights @ v

    def attention(self, x):
        n, t, _ = x.shape
        y = self.attend(*self.split(x))
        if self.fault == "no_transpose":
            y = y.reshape(n, t, WIDTH)
        elif self.fault == "merge_channels":
            y = y.permute(0, 2, 3, 1).reshape(n, t, WIDTH)
        else:
            y = y.transpose(1, 2).reshape(n, t, WIDTH)
        if self.fault == "gelu_before_o":
            y = F.gelu(y)
        return self.o(y)

    def mlp(self, x):
        x = self.m1(x)
        if self.fault == "tanh":
            x = F.gelu(x, approximate="tanh")
        elif self.fault == "relu":
            x = F.relu(x)
        elif self.fault == "silu":
            x = F.silu(x)
        elif self.fault == "quick_gelu":
            x = x * torch.sigmoid(1.702 * x)
        elif self.fault != "no_act":
            x = F.gelu(x)
        x = self.m2(x)
        return F.gelu(x) if self.fault == "act_after_mlp" else x

    def forward(self, x):
        if self.fault == "post_norm":
            x = self.n1(x + self.attention(x))
            return self.n2(x + self.mlp(x))
        if self.fault == "parallel":
            return x + self.attention(self.n1(x)) + self.mlp(self.n2(x))
        normed = self.n1(x)
        y = self.attention(normed)
        if self.fault == "no_skip":
            x = y
        elif self.fault == "skip_normed":
            x = normed + y
        elif self.fault == "skip_twice":
            x = x + x + y
        elif self.fault == "skip_minus":
            x = x - y
        elif self.fault == "skip_half":
            x = x + 0.5 * y
        else:
            x = x + y
        y = self.mlp(self.n2(x))
        if self.fault == "mlp_no_skip":
            return y
        if self.fault == "mlp_skip_minus":
            return y - x
        return x + y


class ViT(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.cls = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.pos = nn.Parameter(torch.randn(1, 17, WIDTH) * 0.02)
        self.pe = nn.Conv2d(3, WIDTH, 8, 8)
        self.bl = nn.ModuleList(Layer("eps_here" if fault == "eps" else fault if i == 1 else "") for i in range(DEPTH))
        self.n = nn.LayerNorm(WIDTH, eps=1e-6)
        self.fc = nn.Linear(WIDTH, 5)

    def embed(self, x):
        x = self.pe(x)
        if self.fault == "patches_relu":
            x = F.relu(x)
        if self.fault == "columns":
            x = x.transpose(2, 3)
        x = x.reshape(len(x), 16, WIDTH) if self.fault == "patches_view" else x.flatten(2).transpose(1, 2)
        if self.fault == "flipped":
            x = x.flip(1)
        cls = self.cls.expand(len(x), -1, -1)
        if self.fault == "pos_patches":
            return torch.cat([cls, x + self.pos[:, 1:]], 1)
        if self.fault == "pos_patches_first":
            return torch.cat([cls, x + self.pos[:, :-1]], 1)
        x = torch.cat([x, cls] if self.fault == "cls_last" else [cls, x], 1)
        if self.fault == "no_pos":
            return x
        if self.fault == "pos_times":
            return x * self.pos
        if self.fault == "pos_flipped":
            return x + self.pos.flip(1)
        if self.fault == "pos_twice":
            return x + self.pos + self.pos
        if self.fault == "pos_minus":
            return x - self.pos
        if self.fault == "embed_scaled":
            return x * WIDTH ** 0.5 + self.pos
        return x + self.pos

    def forward(self, x):
        x = self.embed(x)
        for layer in self.bl:
            x = layer(x)
        if self.fault != "no_norm":
            x = self.n(x)
        if self.fault == "mean_patches":
            x = x[:, 1:].mean(1)
        elif self.fault == "mean_all":
            x = x.mean(1)
        elif self.fault == "last_token":
            x = x[:, -1]
        elif self.fault == "max_patches":
            x = x.amax(1)
        elif self.fault == "sum_all":
            x = x.sum(1)
        else:
            x = x[:, 0]
        x = self.fc(torch.tanh(x) if self.fault == "tanh_head" else x)
        return x.softmax(-1) if self.fault == "softmax_end" else x


def reference():
    return timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS,
                                         num_classes=5)


ATTENTION = at("bl.1.o", "bl.1.qkv")
MLP = at("bl.1.m1", "bl.1.m2")
EMBED = at("pe", "cls", "pos", "bl.0.n1")
AFTER_ATTENTION = at("bl.1.o", "bl.1.n2")
AFTER_MLP = at("bl.1.m2", "bl.2.n1")
LAST_NORM, CLASSIFIER = at("n", "bl.2.m2", "fc"), gap("n", "fc")
POSITIONS = r"posit|`pos`"
CLASS_TOKEN = r"class token|`cls`|first token|token 0|position 0|\[:, 0\]|index 0|first (?:position|entry|row|of)"

FAULTS = (
    Fault("dropout", "dropout_p of F.scaled_dot_product_attention is on", ATTENTION, all_of(r"not deterministic")),
    Fault("tanh", "GELU in its tanh form", MLP, instead("GELU.*tanh", "GELU")),
    Fault("relu", "ReLU in the MLP", MLP, instead("ReLU", "GELU")),
    Fault("silu", "SiLU in the MLP", MLP, instead("SiLU|Swish", "GELU")),
    Fault("quick_gelu", "x * sigmoid(1.702 x) for GELU", MLP,
          instead(r".*(?:1\.702|sigmoid|quick|GELU in its).*", "GELU")),
    Fault("no_act", "no activation in the MLP", MLP, missing("GELU")),
    Fault("act_after_mlp", "GELU behind the MLP too", AFTER_MLP,
          extra("GELU") + "|" + instead("GELU", "no activation")),
    Fault("eps", "eps 1e-5 in every LayerNorm of the encoder", at("bl.0.n1"), instead("eps 1e-05", "(?:eps )?1e-06")),
    Fault("qkv_no_bias", "qkv without bias", at("bl.1.qkv"), missing("(?:a )?bias") + "|" + instead("no bias", "bias")),
    Fault("mlp_ratio", "MLP three times as wide, not four", at("bl.1.m1"), instead("288", "384")),
    Fault("no_pos", "no position table", EMBED, all_of("pos_embed|posit", "missing|has no|without")),
    Fault("no_norm", "the last norm is not called", LAST_NORM, all_of("norm", "missing|not called|without")),
    Fault("kv_swapped", "k and v exchanged", ATTENTION, exchanged(KEYS, VALUES)),
    Fault("kq", "k q^T: q and k exchanged", ATTENTION,
          exchanged(QUERIES, KEYS) + r"|transpos.*scores|scores.*transpos"),
    Fault("qv_swapped", "q and v exchanged", ATTENTION, exchanged(QUERIES, VALUES)),
    Fault("v_is_k", "the keys also serve as values", ATTENTION,
          all_of(rf"\b(?:{KEYS})\b", rf"\b(?:{VALUES})\b")),
    Fault("one_head", "one head", ATTENTION, all_of(r"\b(?:1|one) head", r"reference.*\b(?:3|three)\b")),
    Fault("six_heads", "six heads", ATTENTION, all_of(r"\b(?:6|six) heads", r"reference.*\b(?:3|three)\b")),
    Fault("heads_first", "qkv split as (heads, 3, d)", ATTENTION, HEADS_ORDER),
    Fault("heads_last", "qkv split as (3, d, heads)", ATTENTION, HEADS_ORDER),
    Fault("heads_view", "(N, T, C) viewed as (N, heads, T, d)", ATTENTION, HEADS_ORDER),
    Fault("no_transpose", "heads not transposed back", ATTENTION, HEADS_ORDER),
    Fault("merge_channels", "heads merged as (d, heads)", ATTENTION, HEADS_ORDER),
    Fault("causal", "causal attention", ATTENTION, all_of("causal|mask")),
    Fault("mask_self", "a token does not attend to itself", ATTENTION, all_of("mask|diagonal|itself")),
    Fault("softmax_queries", "softmax over the queries", ATTENTION, SOFTMAX_AXIS),
    Fault("softmax_heads", "softmax over the heads", ATTENTION, SOFTMAX_AXIS),
    Fault("softmax_batch", "softmax over the images", ATTENTION, SOFTMAX_AXIS),
    Fault("sigmoid", "sigmoid for softmax", ATTENTION, instead("sigmoid", "softmax")),
    Fault("no_softmax", "no softmax", ATTENTION, missing("softmax")),
    Fault("log_softmax", "log_softmax for softmax", ATTENTION, instead("log.?softmax", "softmax")),
    Fault("relu_scores", "ReLU of the scores", ATTENTION, extra("ReLU") + "|" + instead("ReLU.*", "softmax")),
    Fault("scale", "1/d for 1/sqrt(d)", ATTENTION, SCALE),
    Fault("no_scale", "no scale", ATTENTION, SCALE),
    Fault("scale_width", "1/sqrt(C) for 1/sqrt(d)", ATTENTION, SCALE),
    Fault("scale_up", "times sqrt(d)", ATTENTION, SCALE),
    Fault("scale_tokens", "1/sqrt(T) for 1/sqrt(d)", ATTENTION, SCALE),
    Fault("scale_after", "scaled after the softmax", ATTENTION,
          all_of(r"\bscal|times|multipl", "softmax|after|before")),
    Fault("gelu_before_o", "GELU before the projection of the attention", ATTENTION,
          extra("GELU") + "|" + instead("GELU", "no activation")),
    Fault("no_skip", "no shortcut around the attention", AFTER_ATTENTION, NO_SHORTCUT),
    Fault("skip_normed", "the shortcut starts behind the norm", AFTER_ATTENTION,
          all_of(r"`bl\.1\.n1`", "shortcut|adds?|plus|sum|made from|instead")),
    Fault("skip_twice", "the shortcut is added twice", AFTER_ATTENTION, all_of("twice|two times|times 2|2 times")),
    Fault("skip_minus", "the attention is subtracted", AFTER_ATTENTION, all_of(r"subtract|minus|times -1|sign")),
    Fault("skip_half", "half of the attention is added", AFTER_ATTENTION, SCALE),
    Fault("mlp_no_skip", "no shortcut around the MLP", AFTER_MLP, NO_SHORTCUT),
    Fault("mlp_skip_minus", "the shortcut around the MLP is subtracted", AFTER_MLP,
          all_of(r"subtract|minus|times -1|sign")),
    Fault("post_norm", "norm behind the addition", at("bl.0.m2", "bl.1.n1", "bl.1.qkv", "bl.1.o"),
          all_of("norm", "missing|order|before|after|behind")),
    Fault("parallel", "MLP beside the attention", AFTER_ATTENTION,
          missing("shortcut|addition|sum|adds") + "|" + all_of("made from|input of|output of",
                                                               r"`bl\.1\.(?:o|n1|n2)`")),
    Fault("columns", "patches column by column", EMBED, PIXEL_ORDER),
    Fault("patches_view", "(N, C, H, W) viewed as (N, T, C)", EMBED, PIXEL_ORDER + "|transpos|reshape|view"),
    Fault("flipped", "patches from last to first", EMBED, PIXEL_ORDER + "|revers|flip|backward"),
    Fault("patches_relu", "ReLU of the patches", EMBED, extra("ReLU") + "|" + instead("ReLU", "no activation")),
    Fault("cls_last", "class token last", EMBED,
          all_of("class token|cls|concatenat", r"last|\bend|order|first|behind|before|after")),
    Fault("pos_patches", "positions added to the patches only", EMBED,
          all_of(POSITIONS, r"class token|cls|first|only|part|before the concat|after the concat|missing for")),
    Fault("pos_patches_first", "positions 0 to 15 for the patches, none for the class token", EMBED,
          all_of(POSITIONS, r"class token|cls|first|only|part|another|shift|instead|order")),
    Fault("pos_flipped", "position table read backwards", EMBED,
          all_of(POSITIONS, r"order|revers|backward|flip|last to first")),
    Fault("pos_times", "times the positions", EMBED, instead(".*(?:times|multipl).*", ".*(?:add|plus|sum).*")),
    Fault("pos_twice", "positions added twice", EMBED, all_of("twice|two times|times 2|2 times")),
    Fault("pos_minus", "positions subtracted", EMBED, all_of("subtract|minus|times -1|sign")),
    Fault("embed_scaled", "tokens times sqrt(C)", EMBED, SCALE),
    Fault("mean_patches", "mean of the patches for the class token", CLASSIFIER,
          all_of("mean|average", CLASS_TOKEN)),
    Fault("mean_all", "mean of all tokens for the class token", CLASSIFIER, all_of("mean|average", CLASS_TOKEN)),
    Fault("sum_all", "sum of all tokens for the class token", CLASSIFIER, all_of("sum", CLASS_TOKEN)),
    Fault("max_patches", "maximum over the tokens for the class token", CLASSIFIER, all_of("max", CLASS_TOKEN)),
    Fault("last_token", "last token for the class token", CLASSIFIER,
          all_of(r"last|16|\[:, -1\]|another (?:token|position)", "token|position|index|row|axis")),
    Fault("tanh_head", "tanh before the classifier", CLASSIFIER,
          extra("Tanh") + "|" + instead("Tanh", "no activation")),
    Fault("softmax_end", "softmax at the end", at("fc"), extra("Softmax") + "|" + instead("Softmax", "no activation")),
)

PAIRS = (Pair("vit/timm", ViT, reference, (2, 3, 32, 32), FAULTS),)
