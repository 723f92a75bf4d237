"""What ResNet and the networks built on it must equal."""
from collections.abc import Callable

from torch import nn

from lwcourse.references.builders import Reference, pytorchcv_model, timm_model, torchvision_model


def _body_first(build: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    """pytorchcv's ResNet with each shortcut run after the body: weights are copied in the order of execution."""
    def aligned(num_classes: int) -> nn.Module:
        from pytorchcv.models.resnet import ResUnit

        class BodyFirst(ResUnit):
            def forward(self, x):
                y = self.body(x)
                return self.activ(y + (self.identity_conv(x) if self.resize_identity else x))

        network = build(num_classes)
        for unit in network.modules():
            if isinstance(unit, ResUnit):
                unit.__class__ = BodyFirst
        return network
    return aligned


REFERENCES = {
    **{ours: [Reference(f"torchvision {name}", {}, torchvision_model(name))]
       for name in ("resnet18", "resnet34", "resnet50", "resnet101") for ours in (name, f"ic_{name}")},
    "resnet18_d": [
        Reference("timm resnet18d", {}, timm_model("resnet18d")),
        Reference("timm resnet18d", {}, timm_model("resnet18d"), size=(75, 101), note="maps with odd sides"),
        Reference("torchvision resnet18", {"deep_stem": False, "pooled_shortcut": False},
                  torchvision_model("resnet18")),
    ],
    "resnet34_d": [Reference("timm resnet34d", {}, timm_model("resnet34d"))],
    "resnet50_d": [
        Reference("timm resnet50d", {}, timm_model("resnet50d")),
        Reference("timm resnet50c", {"pooled_shortcut": False}, timm_model("resnet50c")),
        Reference("torchvision resnet50", {"deep_stem": False, "pooled_shortcut": False},
                  torchvision_model("resnet50")),
        Reference("pytorchcv resnet50", {"stride_in_3x3": False, "deep_stem": False, "pooled_shortcut": False},
                  _body_first(pytorchcv_model("resnet50")), note="the shortcut runs after the body"),
    ],
    "resnet101_d": [Reference("timm resnet101d", {}, timm_model("resnet101d"))],
    "resnest50": [
        Reference("timm resnest50d", {}, timm_model("resnest50d")),
        Reference("timm resnest50d", {}, timm_model("resnest50d"), size=(75, 101), note="maps with odd sides"),
    ],
    "resnest50_1s4x24d": [Reference("timm resnest50d_1s4x24d", {}, timm_model("resnest50d_1s4x24d"))],
    "resnest50_4s2x40d": [Reference("timm resnest50d_4s2x40d", {}, timm_model("resnest50d_4s2x40d"))],
}

GOLDEN = {
    "ic_resnet50": {"ic_resnet50_all11": {}},
}
