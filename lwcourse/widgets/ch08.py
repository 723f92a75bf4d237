"""Explorer of what attention costs beside convolutions: it grows with the square of the number of tokens."""
from lwcourse import viz
from lwcourse.profile import format_bytes
from lwcourse.tables import html_table
from lwcourse.widgets.explorer import Explorer, dropdown, slider

__all__ = ["TokenExplorer"]

SIDES = (128, 192, 256, 384, 512, 768, 1024)
HEADS = 4


def hybrid_macs(side: int, stride: int, patch: int, channels: int, tokens: int, depth: int) -> dict[str, int]:
    """MACs of the parts of one MobileViT block on an image of side * side pixels whose map is `stride` times smaller.

    Raises ValueError when the map's side, side / stride, is no multiple of `patch`.
    """
    if side % stride or (side // stride) % patch:
        raise ValueError(f"an image of {side} pixels at stride {stride} has a map of {side / stride:g} a side, which "
                         f"patches of {patch} do not divide")
    pixels = (side // stride) ** 2
    return {"convolutions": pixels * (27 * channels**2 + 2 * channels * tokens),
            "linear layers": pixels * depth * 8 * tokens**2,
            "attention products": depth * 2 * pixels**2 // patch**2 * tokens}


class TokenExplorer(Explorer):
    """Chapter 8: image size, stride and patch size against tokens, and against MACs of one MobileViT block."""

    def __init__(self, side: int = 256, stride: int = 8, patch: int = 2, tokens: int = 64, depth: int = 2):
        super().__init__({
            "side": slider("image size (px)", side, 128, 1024, 64),
            "stride": dropdown("stride of the map", [4, 8, 16, 32], stride),
            "patch": dropdown("patch", [(f"{p} × {p}", p) for p in (1, 2, 4, 8)], patch),
            "tokens": slider("token channels d", tokens, 16, 256, 16),
            "depth": slider("transformer layers", depth, 1, 6, 1),
        }, self._explore)

    @staticmethod
    def _explore(side: int, stride: int, patch: int, tokens: int, depth: int) -> tuple[viz.Figure, str]:
        channels = 3 * tokens // 4  # as in MobileViT, whose transformers are wider than the map
        settings = stride, patch, channels, tokens, depth
        current = hybrid_macs(side, *settings)
        curves = {name: {} for name in current}
        for other in sorted({*SIDES, side}):
            if not (other // stride) % patch:
                for name, macs in hybrid_macs(other, *settings).items():
                    curves[name][other] = macs
        length = (side // stride // patch) ** 2
        figure = viz.growth(curves, mark=side, title=(
            f"One block, stride {stride}, patches of {patch} × {patch}: {patch**2} sequences of {length:,} tokens"))
        total = sum(current.values())
        rows = [("", f"{side} px", "share")]
        rows += [(f"MACs of {name}", f"{macs:,}", f"{macs / total:.1%}") for name, macs in current.items()]
        rows.append(("all MACs", f"{total:,}", ""))
        rows.append(("tokens in a sequence", f"{length:,}", ""))
        rows.append((f"weights of a layer with {HEADS} heads, if stored",
                     format_bytes(4 * HEADS * patch**2 * length**2), ""))
        return figure, html_table(rows)
