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


# A BMP in the clipboard's form has no file header: its own header says how long it is, then the sides, one plane, and
# the bits of a pixel.
_BMP = (
    rb"BM|\x0c\0\0\0.{4}\x01\0[\x01\x02\x04\x08\x18]\0"
    rb"|[\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0.{8}\x01\0[\x01\x02\x04\x08\x10\x18\x20]\0"
)

FORMATS = (
    _format("jpeg.decoder", rb"\xff\xd8\xff", "jpg", "jpeg", "jpe", "jfif", "jif", "jfi", "pjpeg", "pjp", "mpo"),
    _format("formats.png", rb"\x89PNG\r\n\x1a\n", "png", "apng"),
    _format("formats.webp", rb"RIFF.{4}WEBP", "webp"),
    _format("formats.bmp", _BMP, "bmp", "dib"),
    _format("formats.netpbm", rb"P[1-6][\s#]|P7\s*\n", "pbm", "pgm", "pnm", "ppm", "pam"),
    _format("tiff.decoder", rb"II[*+]\0|MM\0[*+]", "tif", "tiff", "btf"),
    _format("formats.gif", rb"GIF8[79]a", "gif"),
    _format("formats.isobmff", rb".{4}ftyp", "avif", "avifs", "heic", "heics", "heif", "heifs", "hif"),
    _format("formats.jpeg2000", rb".{4}jP  \r\n\x87\n|\xff\x4f\xff\x51", "jp2", "j2k", "jpx", "jpf", "j2c", "jpc"),
)
# Images that nothing here decodes: a build reports each, where leaving them out would make a smaller store in silence.
_OTHER_IMAGES = ("jxl", "jph", "jhc", "jpm", "jxr")
IMAGE_SUFFIXES = frozenset(suffix for form in FORMATS for suffix in form.suffixes) | frozenset(_OTHER_IMAGES)
