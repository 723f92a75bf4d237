"""One picture, from a file or its bytes to a uint8 tensor."""
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lwcourse.data.base import DataCorrupt, on_cpu, open_image

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
BIT_DEPTH, COLOUR_TYPE = 24, 25  # where they are in a PNG
WITHOUT_PALETTE = (0, 2, 4, 6)   # colour types: grey, RGB, and both with transparency
TURNED_BY_PIL = (b"tiff:Orientation", b"Raw profile type", b"eXIf")  # says how a camera was held, beside a JPEG's EXIF


@on_cpu
def read_picture(path: str | os.PathLike, content: bytes | None = None) -> Tensor:
    """A picture in RGB, upright: (3, height, width) uint8. `content` are its bytes, where `path` only names it.

    The usual kinds of JPEG and PNG are decoded by torchvision; whatever it cannot read, or would read otherwise than
    `open_image`, is left to that. Raises DataCorrupt, which names the picture, when it cannot be read.
    """
    if content is None:
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise DataCorrupt(f"{path} cannot be read as an image: {error}") from error
    picture = _decoded(content)
    if picture is not None:
        return picture
    return torch.from_numpy(np.array(open_image(path, content))).permute(2, 0, 1)


def _decoded(content: bytes) -> Tensor | None:
    """The picture as torchvision decodes it, or None where PIL has to."""
    try:
        from torchvision.io import ImageReadMode, decode_image
    except ImportError:  # torchvision 0.29 says that a later release will have no decoders; PIL is slower, and enough
        return None
    is_jpeg = content.startswith(JPEG)
    is_png = content.startswith(PNG) and len(content) > COLOUR_TYPE and (
        content[BIT_DEPTH] == 8 and content[COLOUR_TYPE] in WITHOUT_PALETTE)
    if not (is_jpeg or is_png) or any(mark in content for mark in TURNED_BY_PIL):
        return None
    try:
        stored = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED,
                              apply_exif_orientation=is_jpeg)
    except (RuntimeError, AttributeError):  # a damaged file; torchvision without its libraries for images
        return None
    channels = len(stored)
    if stored.dtype != torch.uint8 or is_jpeg and channels == 4:  # CMYK, which Photoshop stores inverted
        return None
    return stored[:3] if channels >= 3 else stored[:1].repeat(3, 1, 1)
