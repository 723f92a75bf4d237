"""What GhostNet must equal."""
from lwcourse.references.builders import Reference, timm_model

REFERENCES = {
    "ghostnet": [
        Reference("timm ghostnet_100", {}, timm_model("ghostnet_100")),
        Reference("timm ghostnet_050", {"width": 0.5}, timm_model("ghostnet_050")),
        Reference("timm ghostnet_130", {"width": 1.3}, timm_model("ghostnet_130")),
    ],
}

GOLDEN = {
    "ghostnet": {"ghostnet_1.0": {}},
}
