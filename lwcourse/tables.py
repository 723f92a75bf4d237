"""One way to print a table, as text and as HTML, for everything that the package reports."""
import html
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


def counted(count: int, noun: str) -> str:
    """1, "thread" -> '1 thread'; 2, "thread" -> '2 threads'."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def text_table(rows: Rows, left: int = 1, footer: int = 0) -> str:
    """Rows of equal length as aligned text; the first is the header, the last `footer` rows stand apart.

    The first `left` columns are flush left, the others, usually numbers, flush right.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) if i < left else cell.rjust(width)
                       for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    body = len(lines) - footer
    return "\n".join([lines[0], rule, *lines[1:body], *([rule, *lines[body:]] if footer else [])])


def html_table(rows: Rows, left: int = 1, footer: int = 0, caption: str = "") -> str:
    """The same rows as an HTML table that scrolls when it is long."""
    def line(row: Sequence[str], tag: str) -> str:
        style = "padding:2px 8px;text-align:"  # ipywidgets.HTML has no padding of its own
        return "<tr>" + "".join(f'<{tag} style="{style}{"left" if i < left else "right"}">{html.escape(cell)}</{tag}>'
                                for i, cell in enumerate(row)) + "</tr>"

    body = len(rows) - footer
    return (f"<p>{html.escape(caption)}</p>" * bool(caption)
            + '<div style="max-height:26em;overflow:auto;width:fit-content">'
            + f'<table><thead>{line(rows[0], "th")}</thead><tbody>'
            + "".join(line(row, "td") for row in rows[1:body]) + "".join(line(row, "th") for row in rows[body:])
            + "</tbody></table></div>")
