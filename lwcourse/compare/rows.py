"""The steps of both networks side by side, and what is found along them."""
from dataclasses import dataclass

from torch import Tensor, nn

from lwcourse.compare.trace import Call, Layer, Run
from lwcourse.compare.transfer import fit


@dataclass(eq=False)
class Row:
    """One step along both networks: a call of a layer and of its partner, or a layer that has none.

    Errors are relative to the reference's largest value; None where nothing was compared.
    """
    mine: Layer | None
    reference: Layer | None
    mine_call: Call | None = None
    reference_call: Call | None = None
    input_error: float | None = None
    output_error: float | None = None
    number: int = 0

    def agrees(self, tolerance: float) -> bool:
        paired = self.mine is not None and self.reference is not None and fit(self.mine, self.reference)
        called = (self.mine_call is None) == (self.reference_call is None)
        return paired and called and all(e is None or e <= tolerance for e in (self.input_error, self.output_error))


@dataclass(eq=False)
class Walk:
    """The rows in the reference's order, the inputs, and what is needed to judge them."""
    rows: list[Row]
    inputs: list[Tensor]
    tolerance: float
    counts: list[int]  # layers with tensors: mine, reference
    runs: tuple[Run, Run]
    models: tuple[nn.Module, nn.Module]

    def place(self, row: Row) -> str:
        """Which layer `row` is: "layer 7 of 53, your `a` (reference: `b`)"."""
        return f"layer {row.number} of {len(self.rows)}, your `{row.mine.name}` (reference: `{row.reference.name}`)"


@dataclass(eq=False)
class Finding:
    """The sentence, and the row that it is about (None: what follows the last layer)."""
    words: str
    row: Row | None

    @property
    def sentence(self) -> str:
        return f"{self.words[0].upper()}{self.words[1:]}."
