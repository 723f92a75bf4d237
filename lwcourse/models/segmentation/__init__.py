"""Networks that label every pixel; one paper, one file."""
