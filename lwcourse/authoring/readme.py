"""The two tables of README.md, made from the chapters' first cells and from the networks' cards."""
import re
from pathlib import Path

from lwcourse.authoring.address import badge, read_address
from lwcourse.authoring.drawings import CHAPTERS
from lwcourse.authoring.files import read_notebook, write_if_changed
from lwcourse.registry import accuracy_words, alias_words, list_models, model_card

TITLE = re.compile(r"^# (\d\d) · (.+?)\s*$", re.MULTILINE)
CARD = ("Reading", "Exercises", "Run time", "Before this")


def update_readme(root: Path | str, check: bool = False) -> bool:
    """Write the tables between their marks, `<!-- chapters -->` ... `<!-- /chapters -->` and `networks`.

    True when the README changed, or with `check`, which writes nothing, when it would. Raises ValueError for
    a README without the marks and for a chapter whose first cell has no title or no card.
    """
    root = Path(root)
    path = root / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, table in (("chapters", chapters_table(root)), ("networks", networks_table(root))):
        text = _between(text, name, table)
    if check:
        return path.read_bytes() != text.encode()
    return write_if_changed(path, text)


def chapters_table(root: Path) -> str:
    """One row a chapter of `notebooks/`; the chapters of the map that do not exist yet are named below."""
    address = read_address(root)
    lines = ["| | chapter | open | reading | exercises | networks |", "|---|---|---|---|---|---|"]
    written = set()
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        number, title, card = _first_cell(path)
        networks = [f"`{name}`" for name in list_models() if model_card(name).chapter == number]
        lines.append(f"| {number} | [{title}](notebooks/{path.name}) | {badge(address, f'notebooks/{path.name}')} | "
                     f"{card['Reading']} | {card['Exercises']} | {', '.join(networks)} |")
        written.add(number)
    planned = [f"{chapter.number} {chapter.lines[0]} ({chapter.lines[1]})"
               for chapter in CHAPTERS if chapter.number not in written]
    return "\n".join(lines + (["", f"Planned: {'; '.join(planned)}."] if planned else []))


def networks_table(root: Path) -> str:
    """One row a network: what is published, and what is counted; networks that label pixels have an mIoU, said so."""
    chapters = {path.name[:2]: path for path in (root / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    lines = ["| network | paper | input | parameters (M) | MACs (M) | published top-1, or mIoU (%) | chapter |",
             "|---|---|--:|--:|--:|--:|---|"]
    for card in sorted(map(model_card, list_models()), key=lambda card: (card.chapter, card.year, card.name)):
        accuracy = accuracy_words(card, "not given")
        chapter = chapters.get(card.chapter)
        link = f"[{card.chapter}](notebooks/{chapter.name})" if chapter else card.chapter
        name = ", ".join(f"`{one}`" for one in (card.name, *alias_words(card)))
        size = "{} × {}".format(*card.input_size[1:])
        macs = f"{card.counted_macs / 1e6:.1f}"
        if card.counted_adds:
            macs += f" and {card.counted_adds / 1e6:.1f} additions"
        lines.append(f"| {name} | [{card.paper}]({card.url}), {card.year} | {size} | {card.counted_params / 1e6:.2f} | "
                     f"{macs} | {accuracy} | {link} |")
    return "\n".join(lines)


def _first_cell(path: Path) -> tuple[str, str, dict[str, str]]:
    """Number, title and card of a chapter."""
    text = read_notebook(path).cells[0].source
    title = TITLE.search(text)
    if title is None or title[1] != path.name[:2]:
        raise ValueError(f"{path}: its first cell needs the title `# {path.name[:2]} · Title`")
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()
            if line.startswith("|")]
    if len(rows) != 3 or tuple(rows[0]) != CARD or len(rows[2]) != len(CARD):
        raise ValueError(f"{path}: its first cell needs the card, a table with one row under {' | '.join(CARD)}")
    return title[1], title[2], dict(zip(CARD, rows[2], strict=True))


def _between(text: str, name: str, table: str) -> str:
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"README.md needs the marks {start} and {end}, once each and in this order")
    return f"{text[:text.index(start)]}{start}\n{table}\n{text[text.index(end):]}"
