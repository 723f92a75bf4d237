"""What only one chapter draws: chapter NN in `chNN.py`. Each module lists in `__all__` what `lwcourse.viz` offers."""
