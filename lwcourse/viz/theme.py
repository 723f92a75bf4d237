"""The look of every figure of the course: colours, fonts, the card behind them, and their alt text.

Colours are Okabe & Ito's (2008), told apart with the common kinds of colour blindness:
https://jfly.uni-koeln.de/color/. Figures stand on an opaque, nearly white card with dark text.
Transparent figures would need a grey that is legible on white and on black at once: the best such
grey has a contrast of 4.6 : 1 on both, the ink on the card has 14 : 1 wherever the card lies.

Nothing here touches pyplot or matplotlib's global settings. A drawing function is decorated with
`@themed`, makes its figure with `new_figure`, and returns it; Jupyter shows it once.
"""
import base64
from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path

import matplotlib
import matplotlib.colors
from cycler import cycler
from matplotlib.figure import Figure as MatplotlibFigure

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
PALETTE = {"black": BLACK, "orange": ORANGE, "sky": SKY, "green": GREEN,
           "yellow": YELLOW, "blue": BLUE, "vermillion": VERMILLION, "purple": PURPLE}

CARD = "#F9FAFB"   # behind every figure
INK = "#1F2933"    # text and outlines
MUTED = "#5A6672"  # captions, ticks: 5.6 : 1 on the card
GRID = "#DCE1E6"

CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)  # yellow is too pale for lines on the card

DPI = 100

STYLE = {
    "figure.dpi": DPI,
    "figure.facecolor": CARD,
    "savefig.facecolor": "auto",
    "savefig.dpi": "figure",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so text is as wide on every machine
    "font.size": 10,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.facecolor": CARD,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=CYCLE),
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "image.cmap": "cividis",       # even in lightness, and made for colour-blind readers
    "image.interpolation": "nearest",
}


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """`colour` in front of the card, as (red, green, blue); strength 0 is the card, 1 the colour."""
    return _mixed(CARD, colour, strength)


def shade(colour: str, strength: float = 0.2) -> tuple[float, float, float]:
    """`colour` darkened with ink, for the outline of an area in that colour."""
    return _mixed(colour, INK, strength)


def _mixed(first: str, second: str, share: float) -> tuple[float, float, float]:
    a, b = matplotlib.colors.to_rgb(first), matplotlib.colors.to_rgb(second)
    return tuple((1 - share) * x + share * y for x, y in zip(a, b, strict=True))


def themed(function: Callable) -> Callable:
    """Decorator for a function that draws: the course's style holds inside it and nowhere else."""
    @wraps(function)
    def draw(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)
    return draw


class Figure(MatplotlibFigure):
    """A matplotlib figure that knows its alt text and shows itself in Jupyter, once: as a PNG, or as a JPEG
    where it `has_photographs`.

    `alt` says in words what the picture shows. It is the figure's `repr`, so a notebook keeps it as
    `text/plain` beside the image, and it is the image's metadata under the key "alt", from which nbsphinx
    and nbconvert's classic template make the page's alt attribute (JupyterLab 4.6 and the lab template do not).
    """

    has_photographs = False  # then a notebook keeps it as a JPEG

    def __init__(self, *args, alt: str, **kwargs):
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"alt must say in words what the figure shows, got {alt!r}")
        self.alt = alt
        super().__init__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Figure: {self.alt}>"

    @themed  # matplotlib makes ticks and their labels only when it draws
    def draw(self, renderer) -> None:
        super().draw(renderer)

    @themed
    def png(self) -> bytes:
        """The figure as a PNG file, at its own dpi."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    @themed
    def jpeg(self) -> bytes:
        """The figure as a JPEG file, at its own dpi: of photographs a third of the PNG file."""
        buffer = BytesIO()
        self.savefig(buffer, format="jpeg", pil_kwargs={"quality": 90, "subsampling": 0})  # letters stay sharp
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        kind, picture = ("image/jpeg", self.jpeg()) if self.has_photographs else ("image/png", self.png())
        data = {"text/plain": repr(self), kind: base64.b64encode(picture).decode("ascii")}
        return data, {kind: {"alt": self.alt}}


@themed
def new_figure(width: float = 7.2, height: float = 3.6, *, alt: str, rows: int = 1, columns: int = 1,
               sharex: bool = False, sharey: bool = False, width_ratios: Sequence[float] | None = None,
               height_ratios: Sequence[float] | None = None):
    """A figure of `width` x `height` inches in the course's style, and its axes.

    Returns (Figure, Axes), or (Figure, array of Axes) with the shape `matplotlib.pyplot.subplots`
    would give when there is more than one. Axes are laid out so that labels never overlap.
    Raises ValueError when `alt` is empty; `figure.alt` may be set again once the numbers are known.
    """
    figure = Figure(figsize=(width, height), layout="constrained", alt=alt)
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey,
                           width_ratios=width_ratios, height_ratios=height_ratios)
    return figure, axes


def headline(figure: Figure, title: str | None) -> None:
    """The title of a figure of several panels, flush left; nothing where there is none."""
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


@themed
def svg(figure: MatplotlibFigure) -> bytes:
    """`figure` as an SVG file whose bytes depend on the figure and on matplotlib's version, on nothing else.

    Letters become outlines: the reader's machine may lack the font, and another one would not fit the boxes.
    The figure's alt text is the file's title.
    """
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "lwcourse", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": getattr(figure, "alt", None)})
    return buffer.getvalue()


def save_svg(figure: MatplotlibFigure, path: str | Path) -> Path:
    """Write `svg(figure)` to `path`, and return it."""
    path = Path(path)
    path.write_bytes(svg(figure))
    return path
