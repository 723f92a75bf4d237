"""Random numbers by counter: each is a function of the numbers that name it, and of nothing that ran before.

So a sample is augmented alike in whatever batch, place or process it is drawn, and a whole batch is drawn at once.
"""
from collections.abc import Sequence

import numpy as np
from numpy import ndarray

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # splitmix64: Steele, Lea and Flood, OOPSLA 2014
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mixed(*numbers: int | Sequence[int] | ndarray) -> ndarray:
    """64 random bits for each combination of whole numbers, which are broadcast against each other: uint64.

    mixed(seed, n) is the n-th output of splitmix64 with that seed; of more numbers, the bits of all but the last are
    the seed. Numbers count modulo 2**64.
    """
    state = np.uint64(0)
    with np.errstate(over="ignore"):  # it is arithmetic modulo 2**64
        for number in numbers:
            counter = np.uint64(number % 2**64) if isinstance(number, int) else np.asarray(number).astype(np.uint64)
            state = state + (counter + np.uint64(1)) * GAMMA
            state = (state ^ (state >> np.uint64(30))) * FIRST
            state = (state ^ (state >> np.uint64(27))) * SECOND
            state = state ^ (state >> np.uint64(31))
    return np.asarray(state)


def uniform(seed: int, epoch: int, indices: Sequence[int] | ndarray, draws: int) -> ndarray:
    """Numbers from 0 to 1, without 1: (len(indices), draws) float64. A row depends on seed, epoch and its index."""
    bits = mixed(seed, epoch, np.asarray(indices)[:, None], np.arange(draws))
    return (bits >> np.uint64(11)) * 2.0**-53  # the bits that float64 has room for
