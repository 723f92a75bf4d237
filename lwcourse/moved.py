"""Old import paths that still work: a notebook written for an earlier version finds what has moved.

`install` puts a finder behind Python's own, so that it costs nothing where a path exists.
"""
import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

MOVED = {  # old path -> new path, both below `lwcourse`
    "models.espnet_v1": "models.segmentation.espnet_v1",
    "models.espnet_v2_seg": "models.segmentation.espnet_v2_seg",
    "models.fast_scnn": "models.segmentation.fast_scnn",
    "models.lraspp": "models.segmentation.lraspp",
    "layers.adder_conv": "layers.adder.conv",
    "layers.adder_variants": "layers.adder.variants",
    "benchmark": "benchmarks.networks",
    "benchmark_adder": "benchmarks.adder",
}


class _Finder(MetaPathFinder, Loader):
    """Answers for an old path with the module that stands at the new one: the same object, not a copy."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.removeprefix("lwcourse.") in MOVED and "." in name else None

    def exec_module(self, module: object) -> None:
        old = module.__spec__.name
        new = "lwcourse." + MOVED[old.removeprefix("lwcourse.")]
        warnings.warn(f"{old} has moved: import {new}", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(new)  # what `import` returns is looked up once more after this


def install() -> None:
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
