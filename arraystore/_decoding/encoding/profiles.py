"""The color profile inside a file, as bytes, so that a smaller image of it can keep its colors.

Those of JPEG, PNG and WebP are read here, since every photo may have one. Those of other formats need Pillow.
"""

import io

from arraystore._decoding.codecs import warnings_ignored
from arraystore._decoding.formats import png, webp
from arraystore._decoding.header import Data, Header
from arraystore._decoding.jpeg.segments import START_OF_SCAN, segments
from arraystore._decoding.notes import notice

_LONGEST_BYTES = 16 << 20
_APP2 = 0xE2
_JPEG_PREFIX = b"ICC_PROFILE\0"
_SPACE_AT = 16  # where a profile names the kind of its pixels, in 4 bytes
_SPACES = {2: b"GRAY", 3: b"RGB "}  # by the dimensions of an array


def kept_profile(data: Data, header: Header, dimensions: int) -> bytes:
    """Return the profile of an encoded image for pixels that were decoded from it; empty where there is none.

    A profile of other pixels, such as that of a CMYK image for its pixels in RGB, is not kept, and that is noted.

    Args:
        data: the encoded image.
        header: of it.
        dimensions: of the array of pixels: 2 for gray, 3 for color.
    """
    read = {"jpeg": jpeg_profile, "png": png.profile, "webp": webp.profile}.get(header.format, _by_pillow)
    profile = read(data)
    if not profile or len(profile) > _LONGEST_BYTES:
        return b""
    space = profile[_SPACE_AT : _SPACE_AT + 4]
    if space != _SPACES[dimensions]:
        kinds = space.decode("latin-1").strip(), _SPACES[dimensions].decode().strip()
        notice("its color profile is not kept: it is one for {} pixels, and these are {}".format(*kinds))
        return b""
    return profile


def jpeg_profile(data: Data) -> bytes:
    """Return the color profile of a JPEG, whatever pixels it is for; empty where it has none."""
    parts: dict[int, bytes] = {}
    for marker, at, end in segments(data):
        if marker == START_OF_SCAN:
            break
        if marker == _APP2 and data[at + 4 : at + 4 + len(_JPEG_PREFIX)] == _JPEG_PREFIX:
            number = at + 4 + len(_JPEG_PREFIX)
            parts.setdefault(data[number], bytes(data[number + 2 : end]))
    return b"".join(parts[number] for number in sorted(parts))


def _by_pillow(data: Data) -> bytes:
    try:
        from PIL import Image
    except ImportError:
        notice("whether it has a color profile is not known without Pillow (pip install 'arraystore[formats]')")
        return b""
    try:
        with warnings_ignored, Image.open(io.BytesIO(data)) as image:
            return bytes(image.info.get("icc_profile") or b"")
    except Exception:  # noqa: BLE001 - its plugins raise errors of any class, and the pixels are decoded already
        return b""
