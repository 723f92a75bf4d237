"""What the ESPNets must equal."""
from collections.abc import Callable

from torch import Tensor, nn

from lwcourse.references.builders import Reference, pytorchcv_model


class Nothing(nn.Module):
    """Adds nothing."""

    def forward(self, x: Tensor) -> float:
        return 0.0


def espnet_v2(name: str) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        network = pytorchcv_model(name)(num_classes)
        network.features.stage4.unit1.shortcut_block = Nothing()
        return network
    return build


def espnet_v2_reference(name: str, width: float) -> Reference:
    return Reference(f"pytorchcv {name}", {"width": width}, espnet_v2(name),
                     note="without the shortcut from the image to the last level, as in the official code")


REFERENCES = {
    "espnet_v2": [
        espnet_v2_reference("espnetv2_w1", 1.0),
        espnet_v2_reference("espnetv2_wd2", 0.5),
        espnet_v2_reference("espnetv2_w5d4", 1.25),
        espnet_v2_reference("espnetv2_w3d2", 1.5),
        espnet_v2_reference("espnetv2_w2", 2.0),
    ],
}

GOLDEN = {
    "espnet_c": {"espnetc_p2q8": {"upsample": False}},
    "espnet_v1": {"espnet_p2q8": {}, "espnet_p2q3": {"q": 3}, "espnet_p2q8_train": {"image_skip": True}},
    "espnet_v2": {"espnetv2_s1.0": {}, "espnetv2_s0.5": {"width": 0.5}},
    "espnet_v2_seg": {"espnetv2_seg_s1.0": {}},
    "espnet_v2_edgenets": {"edgenets_espnetv2_seg_s1.0": {}},
}
