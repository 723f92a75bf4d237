"""One paper, one file; importing this package registers them all."""
from lwcourse.models import mobilenet_v1, mobilenet_v2, mobilenet_v3, mobilenext

__all__ = ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "mobilenext"]
