"""The README: its tables are up to date, its code runs, its links lead somewhere, its promises are kept."""
import re

import pytest
import skimage.data
import torch
from sample_notebooks import ADDRESS, checkout, markdown, notebook

import lwcourse as lw
from lwcourse import cli as command_line
from lwcourse.authoring import badge, check_address, set_address, update_readme
from lwcourse.authoring.drawings import CHAPTERS, WRITTEN
from lwcourse.authoring.files import notebook_text

CARD = "| Reading | Exercises | Run time | Before this |\n|---|---|---|---|\n| 30 min | 45 min | under 60 s | nothing |"
FIRST = f"# 02 · MobileNets\n{badge(ADDRESS, 'notebooks/02_mobilenets.ipynb')}\n\nA sentence.\n\n{CARD}"
MARKS = "# Course\n<!-- chapters -->\nold\n<!-- /chapters -->\nbetween\n<!-- networks --><!-- /networks -->\nend\n"


@pytest.fixture
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


# The README of the course

def test_tables_are_up_to_date(root):
    assert not update_readme(root, check=True), "run `python -m lwcourse readme`"


def test_every_chapter_and_network_is_in_a_table(root, readme):
    for path in (root / "notebooks").glob("*.ipynb"):
        assert readme.count(f"](notebooks/{path.name})") >= 1
    for name in lw.list_models():
        assert f"`{name}`" in readme and lw.model_card(name).url in readme


def test_map_shows_the_chapters_that_exist(root):
    exist = sorted(path.name[:2] for path in (root / "notebooks").glob("*.ipynb"))
    assert list(WRITTEN) == exist, "lwcourse/drawings.py draws the others dashed: change WRITTEN, run `make figures`"


def test_code_runs(readme, capsys):
    block, trained = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(block.splitlines()) == 5
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert f"{lw.profile(names['network'], (3, 224, 224)).macs:,} MACs" in printed
    assert all(re.search(rf"^{name} .* ms ", printed, re.MULTILINE) for name in ("V1", "V2"))
    names["photo"] = torch.as_tensor(skimage.data.coffee().copy()).permute(2, 0, 1)
    exec(compile(trained, "README.md", "exec"), names)
    assert names["weights"].classes[int(names["logits"].argmax())] == "espresso"


def test_light_cnns_names_can_be_imported(readme):
    line, = re.findall(r"becomes `(from lwcourse import \w+)`", readme)
    names = {}
    exec(line, names)
    assert names["mbv2"] is lw.registry.factory("mobilenet_v2")


def test_links_and_pictures_lead_to_files(root, readme):
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", readme) if not target.startswith("https://")]
    assert len(targets) > 5
    assert [target for target in targets if not (root / target).exists()] == []


def test_commands_exist(root, readme):
    make_targets = set(re.findall(r"^([a-z][a-z ]*):", (root / "Makefile").read_text(), re.MULTILINE))
    make_targets = {target for line in make_targets for target in line.split()}
    named = set(re.findall(r"make ([a-z]+)`|^    make ([a-z]+)", readme, re.MULTILINE))
    named = {first or second for first, second in named}
    assert named >= {"lab", "test"} and named <= make_targets
    for words in re.findall(r"python -m lwcourse ([a-z-]+)", readme):
        with pytest.raises(SystemExit) as stopped:
            command_line.parser().parse_args([words, "--help"])
        assert stopped.value.code == 0


# The tool

@pytest.fixture
def course(tmp_path):
    root = checkout(tmp_path / "course")
    (root / "notebooks" / "02_mobilenets.ipynb").write_text(notebook_text(notebook(markdown(FIRST))), encoding="utf-8")
    (root / "README.md").write_text(MARKS, encoding="utf-8")
    return root


def rewrite_first_cell(course, old, new):
    path = course / "notebooks" / "02_mobilenets.ipynb"
    assert old in FIRST
    path.write_text(notebook_text(notebook(markdown(FIRST.replace(old, new)))), encoding="utf-8")


def test_tables_come_from_cells_and_cards(course):
    assert update_readme(course)
    text = (course / "README.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| 02 |"))
    assert "[MobileNets](notebooks/02_mobilenets.ipynb)" in row and "| 30 min | 45 min |" in row
    assert badge(ADDRESS, "notebooks/02_mobilenets.ipynb") in row
    assert all(f"`{name}`" in row for name in lw.list_models() if lw.model_card(name).chapter == "02")
    card = lw.model_card("mobilenet_v2")
    row = next(line for line in text.splitlines() if line.startswith("| `mobilenet_v2`"))
    assert row.count("|") == 8 and "`mbv2`" in row and f"[{card.paper}]({card.url}), 2018" in row
    assert "| 224 × 224 | 3.50 | 300.8 | 72.0 | [02](notebooks/02_mobilenets.ipynb) |" in row
    row = next(line for line in text.splitlines() if line.startswith("| `adder_resnet20`"))
    assert "| 32 × 32 | 0.34 | 0.5 and 80.7 additions | not given | 04 |" in row
    row = next(line for line in text.splitlines() if line.startswith("| `espnet_v1`"))
    assert "`espnetv1 (q=3)`" in row and "| 60.3 mIoU |" in row
    assert text.startswith("# Course\n") and "old" not in text and "\nbetween\n" in text and text.endswith("\nend\n")


def test_chapters_that_do_not_exist_are_planned_and_not_linked(course):
    update_readme(course)
    text = (course / "README.md").read_text(encoding="utf-8")
    planned = next(line for line in text.splitlines() if line.startswith("Planned: "))
    assert [number in planned for number in ("02 ", "03 ShuffleNets", "10 CondenseNet")] == [False, True, True]
    for name in ("mobilenet_v1", "mobilenext"):
        assert lw.model_card(name).chapter == "02"
    (course / "notebooks" / "02_mobilenets.ipynb").unlink()
    update_readme(course)
    text = (course / "README.md").read_text(encoding="utf-8")
    assert "02 MobileNets" in text and "](notebooks/" not in text
    assert len(re.findall(r"\d\d \w", text.split("Planned: ")[1].splitlines()[0])) == len(CHAPTERS)


def test_check_writes_nothing(course):
    assert update_readme(course, check=True)
    assert (course / "README.md").read_text(encoding="utf-8") == MARKS
    assert update_readme(course)
    assert not update_readme(course) and not update_readme(course, check=True)


def test_a_new_address_and_the_tables_agree(course):
    update_readme(course)
    before = (course / "README.md").read_text(encoding="utf-8")
    set_address(course, "https://github.com/someone/fork")
    assert (course / "README.md").read_text(encoding="utf-8") == before.replace("OWNER/lwcourse", "someone/fork")
    assert not update_readme(course, check=True) and check_address(course) == []


@pytest.mark.parametrize("old, new, words", [
    ("# 02 ·", "# 03 ·", "`# 02 · Title`"),
    ("# 02 · MobileNets", "MobileNets", "`# 02 · Title`"),
    ("| Reading |", "| Minutes |", "Reading | Exercises | Run time | Before this"),
    ("| nothing |", "|", "a table with one row"),
    ("| 30 min | 45 min | under 60 s | nothing |", "", "a table with one row"),
])
def test_a_chapter_without_title_or_card_is_refused(course, old, new, words):
    rewrite_first_cell(course, old, new)
    with pytest.raises(ValueError, match="02_mobilenets.ipynb") as refused:
        update_readme(course)
    assert words in str(refused.value)
    assert (course / "README.md").read_text(encoding="utf-8") == MARKS


@pytest.mark.parametrize("old, new", [
    ("<!-- chapters -->", ""), ("<!-- /networks -->", ""), ("between", "<!-- networks -->"),
    ("<!-- networks --><!-- /networks -->", "<!-- /networks --><!-- networks -->")])
def test_a_readme_without_marks_is_refused(course, old, new):
    (course / "README.md").write_text(MARKS.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match="once each and in this order"):
        update_readme(course)


def test_command(course, monkeypatch, capsys):
    monkeypatch.chdir(course)
    assert command_line.main(["readme", "--check"]) == 1 and "out of date" in capsys.readouterr().out
    assert command_line.main(["readme"]) == 0 and "README.md changed" in capsys.readouterr().out
    assert command_line.main(["readme", "--check"]) == 0 and "up to date" in capsys.readouterr().out
