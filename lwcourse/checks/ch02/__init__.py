"""Checks for notebooks/02_mobilenets.ipynb."""
from lwcourse.checks.ch02 import ablation, budgets, gate, minimal, paper, repaired, residual

__all__ = ["ablation", "budgets", "gate", "minimal", "paper", "repaired", "residual"]
