"""The image formats that a source may have: one line each."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """One format."""

    module: str  # of `arraystore._decoding`; it reads the header and the pixels
    signature: re.Pattern[bytes]  # the first 16 bytes of a file match it
    suffixes: tuple[str, ...]  # in lower case, without the dot


def _format(module: str, signature: bytes, *suffixes: str) -> Format:
    return Format(module, re.compile(signature, re.DOTALL), suffixes)


FORMATS = (
    _format("jpeg", rb"\xff\xd8\xff", "jpg", "jpeg", "jpe", "jfif"),
    _format("png", rb"\x89PNG\r\n\x1a\n", "png"),
    _format("webp", rb"RIFF.{4}WEBP", "webp"),
    _format("bitmaps", rb"BM", "bmp", "dib"),
    _format("bitmaps", rb"P[1-7][\s#]", "pbm", "pgm", "pnm", "ppm"),
    _format("tiff", rb"II[*+]\0|MM\0[*+]", "tif", "tiff"),
    _format("gif", rb"GIF8[79]a", "gif"),
    _format("isobmff", rb".{4}ftyp", "avif"),
    _format("jpeg2000", rb".{4}jP  \r\n\x87\n|\xff\x4f\xff\x51", "jp2", "j2k"),
)
IMAGE_SUFFIXES = frozenset(suffix for form in FORMATS for suffix in form.suffixes)
