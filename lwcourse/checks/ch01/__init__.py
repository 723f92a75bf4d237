"""Checks for notebooks/01_what_makes_a_network_light.ipynb."""
from lwcourse.checks.ch01 import cost, factorised, network, predictions, repaired, shuffle, twin

__all__ = ["cost", "factorised", "network", "predictions", "repaired", "shuffle", "twin"]
