"""08.6: three planted bugs in a transformer layer."""
from collections.abc import Callable

from torch import Tensor, nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    a_module_class,
    compare_blocks,
    naming_mistakes,
    refuse_other_order,
)


class _Layer(nn.Module):
    """A transformer layer as in exercise 08.6, or with some of BUGS."""
    bugs: frozenset[str] = frozenset()

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.project = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels))

    def attention(self, x: Tensor) -> Tensor:
        images, tokens, channels = x.shape
        depth = channels // self.heads
        parts = self.qkv(x).chunk(3, dim=-1)
        if "heads" in self.bugs:
            q, k, v = (y.reshape(images, self.heads, tokens, depth) for y in parts)
        else:
            q, k, v = (y.reshape(images, tokens, self.heads, depth).transpose(1, 2) for y in parts)
        scores = q @ k.transpose(-2, -1) / (channels if "scale" in self.bugs else depth)**0.5
        y = scores.softmax(dim=-1) @ v
        return self.project((y if "heads" in self.bugs else y.transpose(1, 2)).reshape(images, tokens, channels))

    def forward(self, x: Tensor) -> Tensor:
        if "shortcut" in self.bugs:
            x = self.norm1(x)
            x = x + self.attention(x)
        else:
            x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


BUGS = {
    "heads": "the heads are cut out of the wrong axes: the shapes agree, but each head gets all channels of some "
             "tokens, where it must get some channels of all tokens",
    "scale": "the scores are divided by the root of all channels; a head sums over its own alone",
    "shortcut": "the first shortcut carries the normalised tokens; it must carry the tokens as they came",
}
LAYER_CASES = [((16, 4), (2, 9, 16)), ((12, 2), (3, 5, 12))]


def _with_bugs(*bugs: str) -> type[_Layer]:
    return type("Buggy", (_Layer,), {"bugs": frozenset(bugs)})


@exercise("08.6", title="Three planted bugs", minutes=15, difficulty="medium", expects=a_module_class)
def mended_layer(answer: Callable[..., nn.Module]) -> str:
    """`answer(channels, heads)` builds a transformer layer for (N, T, channels)."""
    refuse_other_order(answer, ("channels", "heads"))
    names = list(BUGS)
    mistakes = {f"all three bugs are still in it. One of them: {BUGS['shortcut']}": _with_bugs(*names)}
    for mended, left, other in (names, names[1:] + names[:1], names[2:] + names[:2]):
        mistakes[f"one bug is mended ({mended}), and two are left. One of them: {BUGS[left]}"] = _with_bugs(left, other)
    for name, words in BUGS.items():
        mistakes[f"two bugs are mended, and one is left: {words}"] = _with_bugs(name)
    with naming_mistakes(answer, mistakes, LAYER_CASES):
        compare_blocks(answer, _Layer, LAYER_CASES, "print the shapes, and say of each axis what it counts")
    return "All three are mended."
