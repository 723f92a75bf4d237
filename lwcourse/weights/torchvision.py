"""torchvision's networks with the weights that their authors trained, when this machine has them or can fetch them."""
import socket
from contextlib import contextmanager, redirect_stderr
from http.client import HTTPException
from io import StringIO
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

import torch
from torch import nn


def official_network(name: str, seconds: float = 3.0) -> nn.Module | None:
    """torchvision's network `name` with its default ImageNet weights, or None when they cannot be had now.

    They are taken from PyTorch's cache (torch.hub.get_dir()), else downloaded. A machine without a network
    gets its None within `seconds`; a download whose line falls silent for 10 s gives None as well, and a
    partial file is not kept. Raises ValueError for a name that torchvision does not have, RuntimeError for a
    download that is not what its checksum says.
    """
    from torchvision.models import get_model, get_model_weights

    weights = get_model_weights(name).DEFAULT
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if not cached.is_file() and not answers(weights.url, seconds):
        return None
    try:
        with _socket_timeout(10.0), redirect_stderr(StringIO()):  # a notebook keeps what torch.hub writes there
            return get_model(name, weights=weights, progress=False)
    except OSError:
        return None


def answers(url: str, seconds: float) -> bool:
    """Whether a server answers for `url` within `seconds`, the look-up of its name included."""
    found = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=seconds):
                found.append(True)
        except (OSError, HTTPException):  # no network, no such host, no answer, an answer that is no HTTP
            pass

    asking = Thread(target=ask, daemon=True)  # a look-up that hangs heeds no timeout
    asking.start()
    asking.join(seconds)
    return bool(found)


@contextmanager
def _socket_timeout(seconds: float):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
