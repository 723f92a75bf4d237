"""Checks for notebooks/01_what_makes_a_network_light.ipynb."""
from lwcourse.checks.ch01 import cost, memory, network, shuffle, twin

__all__ = ["cost", "memory", "network", "shuffle", "twin"]
