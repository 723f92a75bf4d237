"""What every explorer is made of: controls, and a figure and a table that are drawn from their values."""
import base64
import html
from collections.abc import Callable, Mapping, Sequence

import ipywidgets

from lwcourse import viz

Draw = Callable[..., tuple[viz.Figure, str]]


class Explorer(ipywidgets.VBox):
    """Controls by name, and what `draw(**values)` makes of them: a figure and a table in HTML.

    `draw` runs once at the start and again after every change. When it raises ValueError the reader
    sees the message in place of picture and table; any other error is a bug, and stays one.
    """

    def __init__(self, controls: Mapping[str, ipywidgets.Widget], draw: Draw):
        if not controls:
            raise ValueError("an explorer needs at least one control")
        self.controls = dict(controls)
        self.figure: viz.Figure | None = None
        self._draw = draw
        # No tooltip: with one, JupyterLab shows an error in place of the picture (ipywidgets 8.1.9).
        self.picture = ipywidgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        self.table = ipywidgets.HTML()
        panel = ipywidgets.Box([*self.controls.values()], layout={"flex_flow": "row wrap"})
        super().__init__([panel, self.picture, self.table])
        for control in self.controls.values():
            control.observe(self._refresh, names="value")
        self._refresh()

    @property
    def values(self) -> dict[str, object]:
        """The value of each control."""
        return {name: control.value for name, control in self.controls.items()}

    def _refresh(self, change=None) -> None:
        try:
            self.figure, self.table.value = self._draw(**self.values)
        except ValueError as error:
            self.figure = None
            self.table.value = f"<p role='alert'><b>Not possible:</b> {html.escape(str(error))}</p>"
            self.picture.layout.display = "none"
            return
        self.picture.value = self.figure.png()
        self.picture.layout.display = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.figure.alt if self.figure else 'nothing to show for these values'}>"

    def _repr_mimebundle_(self, **kwargs):
        """The live widget, and for pages without a kernel its present picture and alt text."""
        data = {**super()._repr_mimebundle_(**kwargs), "text/plain": repr(self)}
        if self.figure is None:
            return data, {}
        data["image/png"] = base64.b64encode(self.picture.value).decode("ascii")
        return data, {"image/png": {"alt": self.figure.alt}}


def labelled(description: str, **options) -> dict:
    """Options that every control has: a label with room, and no redrawing while the mouse still moves."""
    return {"description": description, "style": {"description_width": "9em"}, "layout": {"width": "25em"}} | options


def slider(description: str, value: float, low: float, high: float, step: float) -> ipywidgets.Widget:
    """A slider that reports when it is let go; for whole numbers when `value` and `step` are.

    Raises ValueError when `value` is not between `low` and `high`, where ipywidgets would move it.
    """
    if not low <= value <= high:
        raise ValueError(f"{description} must be from {low} to {high}, got {value}")
    options = labelled(description, continuous_update=False)
    if isinstance(value, int) and isinstance(step, int):
        return ipywidgets.IntSlider(value, low, high, step, **options)
    return ipywidgets.FloatSlider(value=value, min=low, max=high, step=step, readout_format=".2f", **options)


def dropdown(description: str, options: Sequence, value) -> ipywidgets.Dropdown:
    """A menu of `options`: values, or pairs (label, value)."""
    return ipywidgets.Dropdown(options=options, value=value, **labelled(description))


def compare_row(label: str, value: float, reference: float,
                 words: Callable[[float], str] = "{:,}".format) -> tuple[str, ...]:
    """A row of the table under a picture: two values and their ratio."""
    ratio = f"{value / reference:.3g}" if reference else "-"
    return label, words(value), words(reference), ratio
