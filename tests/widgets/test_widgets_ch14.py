"""The explorer of chapter 14: its rates are those that `lw.fit` trains with, and controls change figure and table."""
import pytest

import lwcourse as lw

pytest.importorskip("ipywidgets")
from lwcourse import widgets
from lwcourse.train import warmup_cosine
from lwcourse.widgets.ch14 import KINDS


def test_cosine_is_the_packages():
    rates = widgets.ScheduleExplorer.rates("cosine", 0.4, 6, 1.0)
    assert rates == [0.4 * warmup_cosine(step, 50, 300) for step in range(300)]


@pytest.mark.parametrize("kind, last", [("linear", 0.4 / 250), ("constant", 0.4), ("steps, × 0.1", 0.004)])
def test_other_schedules_end_where_they_should(kind, last):
    rates = widgets.ScheduleExplorer.rates(kind, 0.4, 6, 1.0)
    assert len(rates) == 300 and rates[0] == pytest.approx(0.4 / 50) and rates[-1] == pytest.approx(last)


def test_all_kinds_are_recipes():
    for name in KINDS.values():
        assert lw.train.Recipe(schedule=name.format(every=2))


def test_controls_change_figure_and_table():
    explorer = widgets.ScheduleExplorer()
    seen = {explorer.picture.value}
    for name, value in (("kind", "linear"), ("peak", 1.0), ("epochs", 10), ("warmup", 2.0)):
        explorer.controls[name].value = value
        seen.add(explorer.picture.value)
    assert len(seen) == 5 and "10 epochs of 50 steps, peak 1.00" in explorer.figure.alt
    assert "linear" in explorer.table.value


def test_a_warmup_longer_than_the_run_is_explained():
    explorer = widgets.ScheduleExplorer(epochs=2)
    explorer.controls["warmup"].value = 2.5
    assert explorer.figure is None and "does not fit into a run of 2" in explorer.table.value
