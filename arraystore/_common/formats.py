"""The image formats that a source may have: one line each."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        module: the module of `arraystore._decoding` that reads its header and its pixels.
        signature: a pattern that the first 16 bytes of its files match.
        suffixes: the suffixes of its files, in lower case, without the dot.
    """

    module: str
    signature: re.Pattern[bytes]
    suffixes: tuple[str, ...]


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
