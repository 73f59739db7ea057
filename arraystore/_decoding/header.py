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
from types import ModuleType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from arraystore._sources.formats import FORMATS
from arraystore.errors import DecodeError, Kind

Data: TypeAlias = bytes | bytearray | memoryview
Pixels: TypeAlias = npt.NDArray[np.uint8]


# EXIF orientations, by how they are made upright: rows and columns are exchanged, and then an axis is reversed.
TRANSPOSED = frozenset((5, 6, 7, 8))
X_REVERSED = frozenset((2, 3, 6, 7))
Y_REVERSED = frozenset((3, 4, 7, 8))


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an image; its sides are those of the stored image, before the orientation is applied."""

    format: str  # "jpeg", "png", "webp", "bmp", "tiff", "gif", "avif", "heif", "jp2" or "ppm" (all of netpbm)
    height: int
    width: int
    orientation: int = 1  # of EXIF, 1 to 8; also where AVIF states rotation and mirroring in other terms
    components: int = 0  # of a JPEG: 1 gray, 3 color, 4 CMYK
    progressive: bool = False  # of a JPEG: its decoder holds all coefficients, two bytes for each sample
    scalable: bool = False  # of a JPEG: whether libjpeg can shrink its kind of frame while it decodes it

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        return (self.width, self.height) if self.orientation in TRANSPOSED else (self.height, self.width)


_module = cache(import_module)


def codec_of(data: Data) -> ModuleType:
    """Return the module that decodes a file, by the file's first bytes.

    Its ``read_header(data)`` returns a Header, its ``decode(data, header, spec)`` the pixels. Both may raise
    struct.error or IndexError at early ends.

    Raises:
        DecodeError: the data is empty or in no known format.
    """
    start = bytes(data[:16])
    for form in FORMATS:
        if form.signature.match(start):
            return _module(f"arraystore._decoding.{form.module}")
    if not start:
        raise DecodeError("the file is empty", kind=Kind.ENDS_EARLY)
    raise DecodeError(f"not an image in a known format (starts with {start!r})", kind=Kind.UNKNOWN_FORMAT)


def read_header(data: Data) -> Header:
    """Return the header of an encoded image; a file that ends early may still have one.

    Raises:
        DecodeError: the data is empty, in no known format, or has a header that is damaged or has no pixels.
    """
    if isinstance(data, memoryview) and (data.format != "B" or data.ndim != 1):
        data = data.cast("B")
    try:
        header: Header = codec_of(data).read_header(data)
    except (struct_error, IndexError):
        raise DecodeError("the file ends inside its header", kind=Kind.ENDS_EARLY) from None
    if header.height < 1 or header.width < 1:
        reason = f"the {header.format} header says {header.height} by {header.width} pixels"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    return header
