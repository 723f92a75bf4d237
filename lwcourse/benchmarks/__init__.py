"""Tables of ratios: our times against those of peers, one file a table."""
