"""The figures' look, their alt text, and how a notebook shows them."""
import base64
from io import BytesIO

import matplotlib
import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torch import nn

from lwcourse import viz
from lwcourse.viz import new_figure, save_svg, theme


def sine():
    figure, axes = new_figure(alt="a sine wave")
    axes.plot(torch.linspace(0, 9, 50).sin().numpy())
    axes.set(xlabel="time (s)", ylabel="height (m)")
    return figure


def luminance(colour):
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
             for part in matplotlib.colors.to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(first, second):
    dark, light = sorted(map(luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


def test_text_has_contrast_on_the_card_and_on_every_box():
    assert contrast(theme.INK, theme.CARD) > 7 and contrast(theme.MUTED, theme.CARD) > 4.5
    for colour in viz.PALETTE.values():
        assert contrast(theme.INK, theme.tint(colour, 0.22)) > 7


def test_a_figure_says_what_it_shows():
    figure = sine()
    assert repr(figure) == "<Figure: a sine wave>"
    data, metadata = figure._repr_mimebundle_()
    assert data["text/plain"] == "<Figure: a sine wave>" and metadata == {"image/png": {"alt": "a sine wave"}}
    png = base64.b64decode(data["image/png"])
    assert png.startswith(b"\x89PNG") and png == figure.png()
    assert int.from_bytes(png[16:20]) == 720 and int.from_bytes(png[20:24]) == 360, "7.2 x 3.6 inches at 100 dpi"
    for alt in ("", "  ", None):
        with pytest.raises(ValueError, match="alt must say in words"):
            new_figure(alt=alt)


def test_global_settings_neither_change_nor_matter():
    before = dict(matplotlib.rcParams)
    plain = sine().png()
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 22, "xtick.color": "red", "figure.facecolor": "black"}):
        loud = viz.block_diagram(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8)).png()
    assert loud == viz.block_diagram(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8)).png()
    figure = sine()
    with matplotlib.rc_context({"xtick.color": "red", "ytick.labelsize": 30, "savefig.facecolor": "black"}):
        assert figure.png() == plain
    figure, buffer = sine(), BytesIO()
    with matplotlib.rc_context({"xtick.color": "red", "ytick.labelsize": 30}):
        # as Jupyter's inline backend does; ticks are made only now, and the style must hold for them, too
        figure.canvas.print_figure(buffer, facecolor=figure.get_facecolor(), dpi=figure.dpi,
                                   metadata={"Software": None})
    assert buffer.getvalue() == plain


def test_several_axes():
    _, axes = new_figure(alt="two rows", rows=2, columns=3, sharex=True, width_ratios=[1, 2, 1])
    assert axes.shape == (2, 3)


def test_svg_is_the_same_every_time(tmp_path):
    path = save_svg(sine(), tmp_path / "sine.svg")
    first = path.read_bytes()
    assert save_svg(sine(), path).read_bytes() == first
    assert b"<title>a sine wave</title>" in first and b"dc:date" not in first
    assert b"<text" not in first, "letters are outlines, so that no font is needed"


def test_a_notebook_shows_a_figure_once():
    make = "from lwcourse.viz import new_figure\nfigure, axes = new_figure(alt='a line'); _ = axes.plot([1, 2]); figure"
    cells = [make, "import matplotlib.pyplot\n" + make, "%matplotlib inline\n" + make, "_ = figure"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    for cell in notebook.cells[:3]:
        assert len(cell.outputs) == 1
        assert set(cell.outputs[0].data) == {"text/plain", "image/png"}
        assert cell.outputs[0].data["text/plain"] == "<Figure: a line>"
        assert cell.outputs[0].metadata["image/png"]["alt"] == "a line"
    assert notebook.cells[3].outputs == []
