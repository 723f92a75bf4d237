"""Pictures read by torchvision, or by PIL where that alone reads them right: the same pixels either way."""
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sample_pictures import STORED
from skimage import data as samples
from torchvision.transforms.v2 import functional as transforms

from lwcourse.data import DataCorrupt, base, pictures
from lwcourse.data.pictures import read_picture

COFFEE = Image.fromarray(samples.coffee()[:120, :181])
RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))


def by_pil(path) -> torch.Tensor:
    return transforms.pil_to_tensor(base.open_image(path))


def exif(orientation: int, order: str = "<") -> bytes:
    """The least note of a camera that says how it was held, in either byte order."""
    return b"Exif\0\0" + {"<": b"II", ">": b"MM"}[order] + struct.pack(
        f"{order}HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture
def only_torchvision(monkeypatch):
    monkeypatch.setattr(pictures, "open_image", lambda *_: pytest.fail("PIL was asked"))


@pytest.fixture
def only_pil(monkeypatch):
    """A torchvision that decodes nothing, as some builds and those to come."""
    monkeypatch.setattr(torchvision.io, "decode_image", lambda *_, **__: pytest.fail("torchvision was asked"))


@pytest.mark.parametrize("file", ["a.jpg", "a.png", "a.JPEG", "no_extension"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_usual_files_are_read_by_torchvision(file, mode, tmp_path, only_torchvision):
    path = tmp_path / file
    COFFEE.convert(mode).save(path, format="PNG" if "png" in file else "JPEG")
    found, expected = read_picture(path), by_pil(path)
    assert found.shape == (3, 120, 181) and found.dtype == torch.uint8
    assert (found.int() - expected.int()).abs().max() <= (0 if "png" in file else 2)
    assert torch.equal(read_picture("elsewhere", path.read_bytes()), found)


@pytest.mark.parametrize("options", [{"quality": 30}, {"progressive": True}, {"subsampling": 0}, {"optimize": True},
                                     {"icc_profile": b"any"}, {"dpi": (300, 300)}], ids=str)
def test_kinds_of_jpeg_are_within_two_grey_levels_of_pil(options, tmp_path, only_torchvision):
    COFFEE.save(tmp_path / "a.jpg", **options)
    assert (read_picture(tmp_path / "a.jpg").int() - by_pil(tmp_path / "a.jpg").int()).abs().max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_left_out(mode, tmp_path, only_torchvision):
    image = COFFEE.convert(mode)
    image.putalpha(Image.fromarray((255 * RAMP).astype(np.uint8)).resize(image.size))
    image.save(tmp_path / "a.png")
    assert torch.equal(read_picture(tmp_path / "a.png"), by_pil(tmp_path / "a.png"))


@pytest.mark.parametrize(("file", "save"), [
    ("palette.png", lambda path: COFFEE.convert("P").save(path)),
    ("palette4.png", lambda path: COFFEE.quantize(9).save(path, bits=4)),
    ("bits.png", lambda path: COFFEE.convert("1").save(path)),
    ("grey16.png", lambda path: Image.fromarray((RAMP * 65535).astype(np.uint16)).save(path)),
    ("grey16.tif", lambda path: Image.fromarray((RAMP * 65535).astype(np.uint16)).save(path)),
    ("a.tif", COFFEE.save), ("a.webp", COFFEE.save), ("a.bmp", COFFEE.save), ("a.gif", COFFEE.save),
    ("png_named.jpg", lambda path: COFFEE.convert("P").save(path, format="PNG"))])
def test_other_kinds_are_read_by_pil(file, save, tmp_path, only_pil):
    save(tmp_path / file)
    assert torch.equal(read_picture(tmp_path / file), by_pil(tmp_path / file))


def test_cmyk_is_converted_by_pil(tmp_path):
    COFFEE.convert("CMYK").save(tmp_path / "a.jpg")
    assert torch.equal(read_picture(tmp_path / "a.jpg"), by_pil(tmp_path / "a.jpg"))


def test_without_torchvisions_decoders_pil_reads_all(tmp_path, monkeypatch):
    for file in ("a.jpg", "a.png"):
        COFFEE.save(tmp_path / file)
    missing = type(sys)("torchvision.io")
    monkeypatch.setitem(sys.modules, "torchvision.io", missing)
    for file in ("a.jpg", "a.png"):
        assert torch.equal(read_picture(tmp_path / file), by_pil(tmp_path / file))
    missing.ImageReadMode = torchvision.io.ImageReadMode

    def no_library(*_, **__):
        raise RuntimeError("Couldn't load the image extension.")
    missing.decode_image = no_library
    assert torch.equal(read_picture(tmp_path / "a.jpg"), by_pil(tmp_path / "a.jpg"))


# --------------------------------------------------------------------------------------------- how a camera was held

def corner() -> np.ndarray:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:16, :32] = 255
    return pixels


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", STORED)
def test_jpegs_are_turned_upright(orientation, order, tmp_path, only_torchvision):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](corner())))
    stored.save(tmp_path / "a.jpg", exif=exif(orientation, order), quality=95)
    found = read_picture(tmp_path / "a.jpg")
    assert found.shape == (3, 48, 64) and (found.permute(1, 2, 0).int() - torch.from_numpy(corner())).abs().max() < 60
    assert (found.int() - by_pil(tmp_path / "a.jpg").int()).abs().max() <= 2


@pytest.mark.parametrize("where", ["eXIf before the pixels", "eXIf after them", "text", "XMP"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_pngs_and_notes_of_editors_are_turned_too(where, orientation, tmp_path):
    path = tmp_path / ("a.jpg" if where == "XMP" else "a.png")
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](corner())))
    note = exif(orientation)[6:]
    if where == "XMP":
        stored.save(path, quality=95, xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description '
                                          b'tiff:Orientation="%d"/></x:xmpmeta>' % orientation)
    else:
        stored.save(path)
        content = path.read_bytes()
        text = f"\nexif\n{len(note) + 6:8}\n{exif(orientation).hex()}\n".encode()
        extra = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)) if where == "text" else chunk(
            b"eXIf", note)
        at = content.index(b"IEND" if where == "eXIf after them" else b"IDAT") - 4
        path.write_bytes(content[:at] + extra + content[at:])
    found = read_picture(path)
    assert found.shape == (3, 48, 64) and (found.permute(1, 2, 0).int() - torch.from_numpy(corner())).abs().max() < 60


@pytest.mark.parametrize("note", [b"Exif\0\0no TIFF at all", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", exif(0),
                                  exif(9), exif(77)])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_note_without_sense_does_no_harm(note, tmp_path):
    Image.fromarray(corner()).save(tmp_path / "a.jpg", exif=note, quality=95)
    assert (read_picture(tmp_path / "a.jpg").permute(1, 2, 0).int() - torch.from_numpy(corner())).abs().max() < 60


# --------------------------------------------------------------------------------------------------- what is damaged

@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("file", ["a.jpg", "progressive.jpg", "a.png", "a.tif", "a.webp", "a.bmp", "a.ppm"])
def test_whatever_is_cut_off_is_named(file, tmp_path):
    path = tmp_path / file
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    noise.save(path, **{"progressive": True} if "prog" in file else {})
    whole = path.read_bytes()
    for share in (0, 0.005, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9):
        path.write_bytes(whole[:int(share * len(whole))])
        with pytest.raises(DataCorrupt, match=f"{file} cannot be read as an image: .+"):
            read_picture(path)
        with pytest.raises(DataCorrupt, match="shard.tar: 000 cannot be read as an image: .+"):
            read_picture("shard.tar: 000", path.read_bytes())


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataCorrupt, match="gone.jpg cannot be read as an image: .*No such file"):
        read_picture(tmp_path / "gone.jpg")


@pytest.mark.parametrize("file", ["a.jpg", "a.webp"])
def test_pictures_are_on_the_cpu_whatever_the_default_device(file, tmp_path):
    COFFEE.save(tmp_path / file)
    torch.set_default_device("meta")
    try:
        found = read_picture(tmp_path / file)
    finally:
        torch.set_default_device(None)
    assert torch.equal(found, read_picture(tmp_path / file))
