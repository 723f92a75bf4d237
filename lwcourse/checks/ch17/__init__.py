"""Checks for notebooks/17_time_and_memory.ipynb."""
from lwcourse.checks.ch17 import bounds, limits, peak, predictions, stopwatch, thrifty

__all__ = ["bounds", "limits", "peak", "predictions", "stopwatch", "thrifty"]
