"""Batches of an epoch: the same from any place in it, in any process, and whoever loads them."""
import random

import numpy as np
import pytest
import torch
from sample_training import SHORT, few_digits, same_weights, tiny, without_time
from torch.utils.data import Dataset, TensorDataset

from lwcourse.train import fit
from lwcourse.train.input import Batches
from lwcourse.train.processes import Processes

CPU = torch.device("cpu")


class Drawing(Dataset):
    """Each image holds its number, and what the three random generators gave for it."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()]).view(1, 1, 4), index


def drawn(batches, **options) -> list[list[list[float]]]:
    return [images.flatten(1).tolist() for images, *_ in batches.epoch(**options)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_from_any_batch(workers):
    batches = Batches(Drawing(20), 6, seed=3, device=CPU, num_workers=workers)
    whole = drawn(batches, number=1)
    assert [len(batch) for batch in whole] == [6, 6, 6, 2] and batches.count == 4
    for first in range(4):
        assert drawn(batches, number=1, first=first) == whole[first:]
    assert drawn(Batches(Drawing(20), 6, seed=3, device=CPU), number=1) == whole
    indices = sorted(row[0] for batch in whole for row in batch)
    assert indices == list(range(20))


def test_what_an_image_draws_depends_on_seed_epoch_and_image_alone():
    def by_image(batch_size, seed, number):
        batches = Batches(Drawing(12), batch_size, seed=seed, device=CPU)
        return {row[0]: row[1:] for batch in drawn(batches, number=number) for row in batch}

    assert by_image(4, 0, 0) == by_image(6, 0, 0)
    assert len({str(by_image(4, seed, number)[5.0]) for seed in (0, 1, 2**40) for number in (0, 1)}) == 6
    assert len({str(draws) for draws in by_image(4, 0, 0).values()}) == 12


@pytest.mark.parametrize(("images", "size", "sizes"), [(7, 3, [3, 3]), (8, 3, [3, 3, 2]), (1, 3, [1]), (4, 1, [1] * 4),
                                                       (6, 3, [3, 3])])
def test_a_last_batch_of_one_image_is_left_out(images, size, sizes):
    for dataset in (TensorDataset(torch.rand(images, 1, 2, 2), torch.arange(images)), Drawing(images)):
        batches = Batches(dataset, size, device=CPU)
        assert [len(one) for one, *_ in batches.epoch(0)] == sizes and batches.count == len(sizes)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_each_batch(count):
    dataset = TensorDataset(torch.arange(23.0).view(23, 1, 1, 1), torch.arange(23))
    whole = [labels.tolist() for _, labels, _ in Batches(dataset, 9, device=CPU).epoch(2)]
    parts = [list(Batches(dataset, 9, device=CPU, processes=Processes(rank, count)).epoch(2)) for rank in range(count)]
    assert {len(part) for part in parts} == {len(whole)}
    for number, batch in enumerate(whole):
        learned = [label for part in parts for label in part[number][1].tolist() if part[number][2]]
        assert learned == batch
        assert all(len(part[number][0]) >= 2 for part in parts)
    tested = [label for rank in range(count) for _, labels in
              Batches(dataset, 9, device=CPU, processes=Processes(rank, count)).in_order() for label in labels.tolist()]
    assert sorted(tested) == list(range(23))


def test_a_checkpoint_in_the_middle_of_an_epoch(tmp_path):
    few, whole, resumed = few_digits(), tiny(), tiny(seed=1)
    options = {"epochs": 2, "ema": 0.8, "mixup": 0.3, "optimizer": "adamw", **SHORT}
    expected = fit(whole, few, **options)
    for stop, name in ((4, "middle"), (6, "the end of an epoch"), (7, "the next one")):
        path = tmp_path / name
        history = fit(tiny(), few, checkpoint=path, watch=lambda run, stop=stop: run.done_steps == stop, **options)
        assert history.interrupted and len(history.step_losses) == stop
        resumed = tiny(seed=1)
        assert without_time(fit(resumed, few, checkpoint=path, resume=True, **options)) == without_time(expected)
        assert same_weights(resumed, whole)


def test_checkpoints_by_steps_and_minutes(tmp_path, monkeypatch):
    few, path, written = few_digits(), tmp_path / "run.pt", []

    def watch(run):
        if run.step:
            written.append(path.exists())
    fit(tiny(), few, epochs=1, checkpoint=path, checkpoint_steps=2, watch=watch, **SHORT)
    assert written == [False, False, True, True, True, True]
    path.unlink()
    written.clear()
    clock = iter(range(0, 10000, 45))
    monkeypatch.setattr("lwcourse.train.loop.time.monotonic", lambda: next(clock))
    fit(tiny(), few, epochs=1, checkpoint=path, checkpoint_minutes=2, watch=watch, **SHORT)
    assert written == [False, False, False, True, True, True]
    with pytest.raises(ValueError, match="need checkpoint=, the file to write"):
        fit(tiny(), few, checkpoint_steps=3)
    with pytest.raises(ValueError, match="checkpoint_minutes must be None, or a positive number, got 0"):
        fit(tiny(), few, checkpoint=path, checkpoint_minutes=0)


def test_a_position_that_cannot_be_is_named(tmp_path):
    few, path = few_digits(), tmp_path / "run.pt"
    fit(tiny(), few, epochs=2, checkpoint=path, watch=lambda run: run.done_steps == 3, **SHORT)
    saved = torch.load(path, weights_only=True)
    for position in ({**saved["position"], "step": 99}, {"step": 3}, {**saved["position"], "meter": 5}):
        torch.save({**saved, "position": position}, path)
        model = tiny(seed=1)
        with pytest.raises(ValueError, match="is damaged: its 'position' does not fit"):
            fit(model, few, epochs=2, checkpoint=path, resume=True, **SHORT)
        assert same_weights(model, tiny(seed=1))
