"""What `compare` returns: plain data, with a text for terminals and a table for notebooks."""
import html
import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LayerComparison:
    """One step along both networks, in the reference's order.

    Names, kinds and output shapes are None on the side that has no such layer. `error` is the
    largest deviation of the output, relative to the reference's largest value (inf when shapes
    differ, None when it was not compared).
    """
    mine: str | None
    reference: str | None
    mine_kind: str | None
    reference_kind: str | None
    mine_shape: tuple[int, ...] | None
    reference_shape: tuple[int, ...] | None
    error: float | None
    ok: bool


def _magnitude(error: float) -> str:
    """The nearest power of ten, since the digits change from one processor to the next."""
    return f"~{10.0 ** round(math.log10(error)):g}" if 0 < error < math.inf else f"{error:g}"


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found. Prints as a short report, and as a table in a notebook.

    equal             whether all outputs agree up to `tolerance`
    max_error         largest deviation of an output, relative to the reference's largest value
    first_difference  where the networks part and why, in words; None when they are equal
    layers            every layer beside its partner
    notes             what does not show in the outputs: momentum, dropout rates, unused parameters
    """
    equal: bool
    max_error: float
    first_difference: str | None
    layers: list[LayerComparison]
    notes: list[str]
    tolerance: float
    focus: int | None = field(default=None)  # which of `layers` the first difference is about

    def _verdict(self) -> str:
        if self.equal:
            return f"Equal, to {self.tolerance:.0e} of the largest output."
        return f"Different. {self.first_difference}"

    def _shown(self) -> list[int]:
        """Numbers of the rows worth showing: those around the first difference, else the ends."""
        last = len(self.layers) - 1
        if self.equal:
            wanted = {0, 1, last - 1, last}
        elif self.focus is None:
            wanted = set(range(last - 2, last + 1))
        else:
            wanted = set(range(self.focus - 2, self.focus + 3))
        return sorted(k for k in wanted if 0 <= k <= last)

    def _cells(self, k: int) -> list[str]:
        layer = self.layers[k]
        shapes = [str(shape) for shape in (layer.mine_shape, layer.reference_shape) if shape]
        error = "equal" if layer.ok else "" if layer.error is None else _magnitude(layer.error)
        kinds = dict.fromkeys(kind for kind in (layer.mine_kind, layer.reference_kind) if kind)
        return [str(k + 1), layer.mine or "(none)", layer.reference or "(none)", " / ".join(kinds),
                " / ".join(dict.fromkeys(shapes)), error]

    def _table(self) -> tuple[list[str], list[tuple[bool, list[str]]]]:
        head = ["layer", "yours", "reference", "kind", "output", "error"]
        return head, [(self.layers[k].ok, self._cells(k)) for k in self._shown()]

    def __str__(self) -> str:
        head, rows = self._table()
        table = [["", *head]] + [["ok" if ok else "x", *cells] for ok, cells in rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines = [self._verdict(), ""]
        for row in table:
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        lines.append(f"({len(rows)} of {len(self.layers)} layers shown)")
        return "\n".join(lines + [f"Note: {note}" for note in self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def marked(text):  # `name` -> <code>name</code>
            parts = html.escape(text).split("`")
            return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
        # Half-transparent colours and inherited text read on light and on dark pages.
        green, red = "rgba(0, 158, 115, 0.22)", "rgba(213, 94, 0, 0.30)"
        cell = "padding: 2px 8px; text-align: left"
        head, rows = self._table()
        body = "".join(
            f'<tr style="background: {green if ok else red}"><td style="{cell}">{"✓" if ok else "✗"}</td>'
            + "".join(f'<td style="{cell}">{html.escape(text)}</td>' for text in cells) + "</tr>" for ok, cells in rows)
        titles = "".join(f'<th style="{cell}">{title}</th>' for title in ["", *head])
        notes = "".join(f"<p>Note: {marked(note)}</p>" for note in self.notes)
        bar = "#009e73" if self.equal else "#d55e00"
        return (f'<div><p style="border-left: 4px solid {bar}; padding-left: 8px">{marked(self._verdict())}</p>'
                f'<table style="color: inherit"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'
                f"<p>{len(rows)} of {len(self.layers)} layers shown</p>{notes}</div>")
