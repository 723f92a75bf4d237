"""What EfficientNet-Lite must equal: timm's ports of the official networks, with either padding."""
from lwcourse.references.builders import Reference, timm_model

REFERENCES = {
    f"efficientnet_lite{k}": [
        Reference(f"timm tf_efficientnet_lite{k}", {"padding": "tensorflow"}, timm_model(f"tf_efficientnet_lite{k}")),
        Reference(f"timm efficientnet_lite{k}", {}, timm_model(f"efficientnet_lite{k}", bn_eps=1e-3)),
    ] for k in range(5)
}

GOLDEN: dict[str, dict[str, dict]] = {}
