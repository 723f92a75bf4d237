"""Where trained weights come from."""
