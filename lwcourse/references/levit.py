"""What the LeViTs must equal; timm's take images of one size only."""
from collections.abc import Callable

from torch import nn

from lwcourse.references.builders import Reference, timm_model


def levit(name: str, **options) -> Callable[[int], nn.Module]:
    """timm's network with weights that keep the size of what passes.

    As it is born, its output hardly depends on the image, and less on the attention.
    """
    def build(num_classes: int) -> nn.Module:
        network = timm_model(name, **options)(num_classes)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        return network
    return build


REFERENCES = {
    "levit_128s": [
        Reference("timm levit_128s", {}, levit("levit_128s"), size=(224, 224)),
        Reference("timm levit_128s", {"image_size": 144}, levit("levit_128s", img_size=144), size=(144, 144)),
    ],
    "levit_128": [Reference("timm levit_128", {}, levit("levit_128"), size=(224, 224))],
    "levit_192": [Reference("timm levit_192", {}, levit("levit_192"), size=(224, 224))],
    "levit_256": [Reference("timm levit_256", {}, levit("levit_256"), size=(224, 224))],
    "levit_384": [Reference("timm levit_384", {}, levit("levit_384"), size=(224, 224))],
}

GOLDEN = {
    "levit_128s": {"levit_128s": {}},
}
