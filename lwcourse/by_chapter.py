"""Rooms whose modules `chNN.py` each belong to one chapter: a new chapter adds its file, and nothing else."""
import re
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def chapter_modules(package: ModuleType) -> list[str]:
    """Names of the modules `chNN` of a package, in order."""
    return sorted(module.name for module in iter_modules(package.__path__) if re.fullmatch(r"ch\d\d", module.name))


def public_names(package: ModuleType) -> dict[str, object]:
    """Everything that the `__all__` of the package's chapters lists. Raises ImportError where two offer one name."""
    found: dict[str, object] = {}
    for name in chapter_modules(package):
        module = import_module(f"{package.__name__}.{name}")
        for public in module.__all__:
            if public in found:
                raise ImportError(f"{module.__name__} and {found[public].__module__} both offer {public!r}")
            found[public] = getattr(module, public)
    return found
