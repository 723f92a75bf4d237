"""Which network of which package, or which stored output of official code, each network of the course must equal.

One module a family, which has `REFERENCES`, from our names to networks of the packages torchvision, timm and
pytorchcv (imported when a reference is built; the last two come with the extra `dev`), and `GOLDEN`, from our
names to the files of lwcourse/golden, each with the arguments of our factory.
"""
from importlib import import_module
from pkgutil import iter_modules

from lwcourse.references.builders import Reference

__all__ = ["GOLDEN", "REFERENCES", "Reference"]

_families = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)
             if module.name != "builders"]
REFERENCES: dict[str, list[Reference]] = {name: list(references) for family in _families
                                          for name, references in family.REFERENCES.items()}
GOLDEN: dict[str, dict[str, dict]] = {name: dict(files) for family in _families
                                      for name, files in family.GOLDEN.items()}
