"""What the ConvNeXts must equal."""
from lwcourse.references.builders import Reference, timm_model, torchvision_model

REFERENCES = {
    "convnext_tiny": [
        Reference("torchvision convnext_tiny", {}, torchvision_model("convnext_tiny")),
        Reference("timm convnext_tiny", {}, timm_model("convnext_tiny")),
    ],
    "convnext_small": [
        Reference("torchvision convnext_small", {}, torchvision_model("convnext_small")),
    ],
    "convnext_base": [
        Reference("torchvision convnext_base", {}, torchvision_model("convnext_base")),
    ],
}

GOLDEN = {}
