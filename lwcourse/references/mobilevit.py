"""What the MobileViTs must equal."""
from lwcourse.references.builders import Reference, timm_model

REFERENCES = {  # at 96 x 64 pixels the last maps are 3 x 2, which 2 x 2 patches do not divide; at 128 x 64 all are even
    "mobilevit_xxs": [
        Reference("timm mobilevit_xxs", {}, timm_model("mobilevit_xxs")),
        Reference("timm mobilevit_xxs", {}, timm_model("mobilevit_xxs"), size=(128, 64)),
    ],
    "mobilevit_xs": [
        Reference("timm mobilevit_xs", {}, timm_model("mobilevit_xs")),
        Reference("timm mobilevit_xs", {}, timm_model("mobilevit_xs"), size=(128, 64)),
    ],
    "mobilevit_s": [
        Reference("timm mobilevit_s", {}, timm_model("mobilevit_s")),
        Reference("timm mobilevit_s", {}, timm_model("mobilevit_s"), size=(128, 64)),
    ],
}

GOLDEN = {}
