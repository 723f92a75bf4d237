"""What ResNet and the networks built on it must equal."""
from lwcourse.references.builders import Reference, torchvision_model

REFERENCES = {
    name: [Reference(f"torchvision {name}", {}, torchvision_model(name))]
    for name in ("resnet18", "resnet34", "resnet50", "resnet101")
}

GOLDEN = {}
