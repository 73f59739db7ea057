"""The header of an image: its format, size and orientation, read without decoding any pixel.

`read_header` runs once for each image of a build and holds the interpreter's lock, so it must be quick: a JPEG takes a
few microseconds. No header needs a decoder: OpenCV and Pillow are imported when the first pixels are decoded.

Every read is bounded: `struct.unpack_from` and indexing raise at the end of the data, and `read_header` turns that into
a DecodeError. Slices do not raise, so they are only taken where a short one cannot match. Every loop moves forward.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from struct import error as struct_error
from typing import Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.formats import FORMATS
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

Data: TypeAlias = bytes | bytearray | memoryview
Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an image.

    Attributes:
        format: ``"jpeg"``, ``"png"``, ``"webp"``, ``"bmp"``, ``"tiff"``, ``"gif"``, ``"avif"``, ``"heif"``, ``"jp2"``
            or ``"ppm"`` (all of netpbm).
        height: rows as stored, before the orientation is applied.
        width: columns as stored.
        orientation: EXIF orientation, 1 to 8; 1 where the image states none. AVIF states rotation and mirroring in
            other terms; here they are the EXIF orientation that does the same.
        components: the number of components of a JPEG (1 gray, 3 color, 4 CMYK); 0 for every other format.
    """

    format: str
    height: int
    width: int
    orientation: int = 1
    components: int = 0


class Codec(Protocol):
    """The functions that the module of a format must have. Both may raise struct.error or IndexError at early ends."""

    def read_header(self, data: Data) -> Header:
        """Return the header; it raises DecodeError where the header is damaged."""

    def decode(self, data: Data, header: Header, spec: ImageSpec) -> Pixels:
        """Return the pixels as `arraystore._decoding.codecs.decode_any` does."""


@cache
def _codec(module: str) -> Codec:
    return cast("Codec", import_module(f"arraystore._decoding.{module}"))


def codec_of(data: Data) -> Codec:
    """Return the module that decodes a file, by the file's first bytes.

    Raises:
        DecodeError: the data is empty or in no known format.
    """
    start = bytes(data[:16])
    for form in FORMATS:
        if form.signature.match(start):
            return _codec(form.module)
    if not start:
        raise DecodeError("the file is empty", kind=Kind.ENDS_EARLY)
    raise DecodeError(f"not an image in a known format (starts with {start!r})", kind=Kind.UNKNOWN_FORMAT)


def read_header(data: Data) -> Header:
    """Return format, size and orientation of an encoded image, decoding no pixel.

    Args:
        data: the whole file. Only its structure is read, so a file that ends early may still have a header.

    Raises:
        DecodeError: the data is empty, in no known format, or has a header that is damaged or has no pixels.
    """
    if isinstance(data, memoryview) and (data.format != "B" or data.ndim != 1):
        data = data.cast("B")
    try:
        header = codec_of(data).read_header(data)
    except (struct_error, IndexError):
        raise DecodeError("the file ends inside its header", kind=Kind.ENDS_EARLY) from None
    if header.height < 1 or header.width < 1:
        reason = f"the {header.format} header says {header.height} by {header.width} pixels"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    return header
