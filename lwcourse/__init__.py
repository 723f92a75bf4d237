"""lwcourse: lightweight vision networks, readable, verified and measured.

Everything named here loads on first use, so that `import lwcourse` costs little more than `import torch`.
"""
from importlib import import_module
from importlib.metadata import version

from lwcourse import models, moved, registry
from lwcourse.compare import Comparison, compare, transfer_weights
from lwcourse.latency import Latencies, Roofline, measure_latency, roofline
from lwcourse.profile import Profile, profile
from lwcourse.registry import ModelCard, create_model, list_models, model_card

__version__ = version("lwcourse")

moved.install()

_LAZY = {  # name -> module that is imported when the name is first used
    "setup": "lwcourse.session", "pick_device": "lwcourse.train",
    "load_data": "lwcourse.data",
    "fit": "lwcourse.train", "fit_seeds": "lwcourse.train", "evaluate": "lwcourse.train", "History": "lwcourse.train",
    "check": "lwcourse.checks", "CheckFailed": "lwcourse.checks",
    "list_weights": "lwcourse.weights", "weights_of": "lwcourse.weights", "save": "lwcourse.weights.files",
    "load": "lwcourse.weights.files", "load_learned": "lwcourse.learned",
    "viz": "", "widgets": "", "checks": "",
}

__all__ = ["Comparison", "Latencies", "ModelCard", "Profile", "Roofline", "compare", "create_model", "list_models",
           "measure_latency", "model_card", "models", "profile", "registry", "roofline", "transfer_weights", *_LAZY]


def __getattr__(name: str):
    """Lazy parts of the API, and every network by name or alias: `from lwcourse import mbv2`."""
    if name in _LAZY:
        module = import_module(_LAZY[name] or f"lwcourse.{name}")
        value = getattr(module, name) if _LAZY[name] else module
    elif name in registry.list_models() or name in registry.aliases():
        value = registry.factory(name)
    else:
        raise AttributeError(f"module 'lwcourse' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *registry.list_models(), *registry.aliases()})
