"""What the MobileNets must equal."""
from torch import nn

from lwcourse.references.builders import Reference, pytorchcv_model, timm_model, torchvision_model

REFERENCES = {
    "mobilenet_v1": [
        Reference("pytorchcv mobilenet_w1", {}, pytorchcv_model("mobilenet_w1")),
        Reference("pytorchcv mobilenet_w3d4", {"width": 0.75}, pytorchcv_model("mobilenet_w3d4")),
        Reference("pytorchcv mobilenet_wd2", {"width": 0.5}, pytorchcv_model("mobilenet_wd2")),
        Reference("pytorchcv mobilenet_wd4", {"width": 0.25}, pytorchcv_model("mobilenet_wd4")),
        Reference("timm mobilenetv1_100", {}, timm_model("mobilenetv1_100", act_layer=nn.ReLU)),  # its default is ReLU6
    ],
    "mobilenet_v2": [
        Reference("torchvision mobilenet_v2", {}, torchvision_model("mobilenet_v2")),
        Reference("torchvision mobilenet_v2", {"width": 0.35}, torchvision_model("mobilenet_v2", width_mult=0.35)),
        Reference("torchvision mobilenet_v2", {"width": 0.5}, torchvision_model("mobilenet_v2", width_mult=0.5)),
        Reference("torchvision mobilenet_v2", {"width": 0.75}, torchvision_model("mobilenet_v2", width_mult=0.75)),
        Reference("torchvision mobilenet_v2", {"width": 1.4}, torchvision_model("mobilenet_v2", width_mult=1.4)),
        Reference("timm mobilenetv2_100", {}, timm_model("mobilenetv2_100")),
    ],
    "mobilenet_v3_large": [
        Reference("torchvision mobilenet_v3_large", {}, torchvision_model("mobilenet_v3_large")),
        Reference("timm mobilenetv3_large_100", {}, timm_model("mobilenetv3_large_100", bn_eps=1e-3)),
        Reference("timm mobilenetv3_large_075", {"width": 0.75}, timm_model("mobilenetv3_large_075", bn_eps=1e-3)),
    ],
    "mobilenet_v3_small": [
        Reference("torchvision mobilenet_v3_small", {}, torchvision_model("mobilenet_v3_small")),
        Reference("timm mobilenetv3_small_100", {}, timm_model("mobilenetv3_small_100", bn_eps=1e-3)),
        Reference("timm mobilenetv3_small_075", {"width": 0.75}, timm_model("mobilenetv3_small_075", bn_eps=1e-3)),
    ],
}

GOLDEN = {
    "mobilenext": {"mobilenext_w1.0": {}},
}
