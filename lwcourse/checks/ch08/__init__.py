"""Checks for notebooks/08_mobilevit.ipynb."""
from lwcourse.checks.ch08 import attention, counts, deal, hybrid, isotropic, layer, norm, share

__all__ = ["attention", "counts", "deal", "hybrid", "isotropic", "layer", "norm", "share"]
