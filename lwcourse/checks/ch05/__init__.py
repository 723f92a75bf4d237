"""Checks for notebooks/05_attention.ipynb."""
from lwcourse.checks.ch05 import coordinate, eca, host, numbers, place, split, timing

__all__ = ["coordinate", "eca", "host", "numbers", "place", "split", "timing"]
