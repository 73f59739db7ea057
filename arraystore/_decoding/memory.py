"""What decoding an image takes: its pixels, and the memory of its decoder, both known from its header.

A file of a few kilobytes may hold a hundred million pixels, and the bytes of a pixel differ tenfold between formats.
"""

from arraystore._decoding.header import Data, Header
from arraystore.errors import DecodeError, Kind, Option
from arraystore.spec import ImageSpec

# The most bytes a pixel at any one time, from the file to the 8-bit pixels that are resampled: measured over the kinds
# of each format (tests/decoding/test_memory.py), and rounded up.
_BYTES_A_PIXEL = {
    "jpeg": 9,  # that are left after shrinking
    "png": 16,
    "webp": 12,
    "bmp": 12,
    "tiff": 20,
    "gif": 9,
    "avif": 36,
    "heif": 36,
    "jp2": 28,
    "ppm": 20,
}
_BYTES_A_DRAWN_PIXEL = 10  # of a mask: its number, the size of the region in front, and the region that is drawn
_BYTES_A_PIXEL_OF_SMALL_PNG = 9  # with up to 8 bits a sample
_PNG_DEPTH_AT = 24
_COEFFICIENT_BYTES = 2
_USUAL_BYTES = 64 << 20  # less than this is not counted


class MemoryNeededError(MemoryError):
    """To decode a source takes more memory than it may take: ``needed_bytes``, by estimate."""

    def __init__(self, height: int, width: int, needed_bytes: int) -> None:
        super().__init__(f"decoding its {width} x {height} pixels would take {needed_bytes / 1e9:.2f} GB")
        self.needed_bytes = needed_bytes


def check_pixels(height: int, width: int, spec: ImageSpec) -> None:
    """Check that an image has no more pixels than ``spec.max_pixels``.

    Raises:
        DecodeError: it has more.
    """
    if height * width > spec.max_pixels:
        raise DecodeError(
            f"its header says {width} x {height} pixels, more than max_pixels = {spec.max_pixels:,}",
            kind=Kind.TOO_LARGE,
            advice="if that is right, pass {0}",
            options=[Option("max_pixels", height * width)],
        )


def check_memory(data: Data, header: Header, memory_bytes: float, factor: int = 1) -> None:
    """Check that an image can be decoded in so many bytes; a JPEG whose sides its decoder shrinks by a factor.

    Raises:
        MemoryNeededError: it needs more.
    """
    pixels = header.height * header.width
    needed = len(data) + pixels * _BYTES_A_PIXEL[header.format] // factor**2
    if header.format == "png" and len(data) > _PNG_DEPTH_AT and data[_PNG_DEPTH_AT] <= 8:
        needed = len(data) + pixels * _BYTES_A_PIXEL_OF_SMALL_PNG
    if header.progressive:
        needed += pixels * header.components * _COEFFICIENT_BYTES
    if needed > max(memory_bytes, _USUAL_BYTES):
        raise MemoryNeededError(header.height, header.width, needed)


def check_drawing(height: int, width: int, memory_bytes: float) -> None:
    """Check that a mask of these sides can be drawn in so many bytes.

    Raises:
        MemoryNeededError: it needs more.
    """
    needed = height * width * _BYTES_A_DRAWN_PIXEL
    if needed > max(memory_bytes, _USUAL_BYTES):
        raise MemoryNeededError(height, width, needed)
