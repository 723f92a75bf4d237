"""Random numbers by counter: even, unrelated to each other, and decided by what names them alone."""
import numpy as np
import pytest

from lwcourse.data.draws import mixed, uniform


def splitmix64(seed: int, count: int) -> list[int]:
    """The published generator, on Python's integers."""
    state, mask, numbers = seed, 2**64 - 1, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        numbers.append(z ^ (z >> 31))
    return numbers


def test_numbers_are_those_of_splitmix64():
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]  # of its authors' reference code
    start = splitmix64(0, 8)[7]
    assert mixed(7, np.arange(5)).tolist() == splitmix64(start, 5)
    assert mixed(7, 3, 4).item() == splitmix64(splitmix64(start, 4)[3], 5)[4]


def test_large_seeds_count_modulo_two_to_the_64th():
    assert mixed(2**64 + 5, 1) == mixed(5, 1) != mixed(2**63 + 5, 1)


def test_a_row_depends_on_its_index_alone():
    indices = np.random.default_rng(0).permutation(1000)
    whole = uniform(3, 1, np.arange(1000), 6)
    assert (uniform(3, 1, indices, 6) == whole[indices]).all()
    assert (uniform(3, 1, [17], 2) == whole[17, :2]).all()
    assert whole.dtype == np.float64 and whole.min() >= 0 and whole.max() < 1


@pytest.mark.parametrize("numbers", [
    uniform(0, 0, np.arange(100_000), 1).ravel(), uniform(0, 0, [0], 100_000).ravel(),
    np.concatenate([uniform(seed, epoch, [5], 1).ravel() for seed in range(200) for epoch in range(100)])],
    ids=["indices", "draws", "seeds and epochs"])
def test_numbers_are_uniform_and_unrelated(numbers):
    """Chi-squared of 100 bins, and of 10 x 10 for neighbours, within 4.5 standard deviations of 99."""
    pairs = (numbers[:-1] * 10).astype(int) * 10 + (numbers[1:] * 10).astype(int)
    for bins in ((numbers * 100).astype(int), pairs):
        counts = np.bincount(bins, minlength=100)
        expected = len(bins) / 100
        assert abs(((counts - expected) ** 2 / expected).sum() - 99) < 4.5 * np.sqrt(2 * 99)


def test_draws_of_a_sample_are_unrelated_to_each_other():
    numbers = np.concatenate([uniform(seed, 0, np.arange(2000), 4) for seed in range(5)] +
                             [uniform(9, epoch, np.arange(2000), 4) for epoch in range(5)], axis=1)
    correlation = np.corrcoef(numbers.T) - np.eye(numbers.shape[1])
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)
