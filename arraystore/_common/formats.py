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
    _format("jpeg.decoder", rb"\xff\xd8\xff", "jpg", "jpeg", "jpe", "jfif", "jif", "jfi", "pjpeg", "pjp", "mpo"),
    _format("formats.png", rb"\x89PNG\r\n\x1a\n", "png", "apng"),
    _format("formats.webp", rb"RIFF.{4}WEBP", "webp"),
    _format("formats.bitmaps", rb"BM", "bmp", "dib"),
    _format("formats.bitmaps", rb"P[1-7][\s#]", "pbm", "pgm", "pnm", "ppm", "pam"),
    _format("tiff.decoder", rb"II[*+]\0|MM\0[*+]", "tif", "tiff", "btf"),
    _format("formats.gif", rb"GIF8[79]a", "gif"),
    _format("formats.isobmff", rb".{4}ftyp", "avif", "avifs", "heic", "heics", "heif", "heifs", "hif"),
    _format("formats.jpeg2000", rb".{4}jP  \r\n\x87\n|\xff\x4f\xff\x51", "jp2", "j2k", "jpx", "jpf", "j2c", "jpc"),
)
# Images that nothing here decodes: a build reports each, where leaving them out would make a smaller store in silence.
_OTHER_IMAGES = ("jxl", "jph", "jhc", "jpm", "jxr")
IMAGE_SUFFIXES = frozenset(suffix for form in FORMATS for suffix in form.suffixes) | frozenset(_OTHER_IMAGES)
