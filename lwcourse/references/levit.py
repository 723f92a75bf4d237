"""What the LeViTs must equal; timm's take images of one size only."""
from lwcourse.references.builders import Reference, timm_model

REFERENCES = {
    "levit_128s": [
        Reference("timm levit_128s", {}, timm_model("levit_128s"), size=(224, 224)),
        Reference("timm levit_128s", {"image_size": 144}, timm_model("levit_128s", img_size=144), size=(144, 144)),
    ],
    "levit_128": [Reference("timm levit_128", {}, timm_model("levit_128"), size=(224, 224))],
    "levit_192": [Reference("timm levit_192", {}, timm_model("levit_192"), size=(224, 224))],
    "levit_256": [Reference("timm levit_256", {}, timm_model("levit_256"), size=(224, 224))],
    "levit_384": [Reference("timm levit_384", {}, timm_model("levit_384"), size=(224, 224))],
}

GOLDEN = {
    "levit_128s": {"levit_128s": {}},
}
