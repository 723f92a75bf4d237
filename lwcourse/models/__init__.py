"""One paper, one file: classification here, the other tasks below; importing this package registers every network."""
from importlib import import_module
from pkgutil import walk_packages

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
