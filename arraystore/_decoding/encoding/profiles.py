"""The color profile inside a file, as bytes, so that a smaller image of it can keep its colors.

GIF and netpbm have none. HEIF and AVIF may name their colors by a number in place of a profile, which is not kept.
"""

from struct import error as struct_error

from arraystore._decoding.header import Data, Header, codec_of
from arraystore._decoding.jpeg.segments import START_OF_SCAN, segments
from arraystore._decoding.notes import notice
from arraystore.errors import DecodeError

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
    profile = profile_in(data, header)
    if not profile:
        return b""
    space = profile[_SPACE_AT : _SPACE_AT + 4]
    if space != _SPACES[dimensions]:
        kinds = space.decode("latin-1").strip(), _SPACES[dimensions].decode().strip()
        notice("its color profile is not kept: it is one for {} pixels, and these are {}".format(*kinds))
        return b""
    return profile


def profile_in(data: Data, header: Header) -> bytes:
    """Return the profile of an encoded image, whatever pixels it is for; empty where there is none that can be read."""
    read = jpeg_profile if header.format == "jpeg" else getattr(codec_of(data), "profile", lambda _data: b"")
    try:
        profile: bytes = read(data)
    except (struct_error, IndexError, DecodeError):
        return b""
    return profile if len(profile) <= _LONGEST_BYTES else b""


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
