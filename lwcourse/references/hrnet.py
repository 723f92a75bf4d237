"""What the HRNets must equal."""
from lwcourse.references.builders import Reference, timm_model

REFERENCES = {
    "hrnet_w18": [Reference("timm hrnet_w18", {}, timm_model("hrnet_w18"))],
    "hrnet_w18_small": [Reference("timm hrnet_w18_small", {}, timm_model("hrnet_w18_small"))],
    "hrnet_w18_small_v2": [Reference("timm hrnet_w18_small_v2", {}, timm_model("hrnet_w18_small_v2"))],
    "hrnet_w32": [Reference("timm hrnet_w32", {}, timm_model("hrnet_w32"))],
}

GOLDEN = {}
