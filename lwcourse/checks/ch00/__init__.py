"""Checks for notebooks/00_start_here.ipynb."""
from lwcourse.checks.ch00 import choice, clock, cost, errors, trained
from lwcourse.checks.ch00.errors import faulty_network

__all__ = ["choice", "clock", "cost", "errors", "faulty_network", "trained"]
