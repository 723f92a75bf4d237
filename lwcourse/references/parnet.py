"""What the ParNets must equal."""
REFERENCES = {}

GOLDEN = {
    "parnet_s": {"parnet_s": {}},
    "parnet_m": {"parnet_m": {}},
    "parnet_l": {"parnet_l": {}},
    "parnet_xl": {"parnet_xl": {}},
}
