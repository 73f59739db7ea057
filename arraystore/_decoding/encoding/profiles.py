"""The color profile of an image, so that a smaller image of it can keep its colors."""

from arraystore._decoding.header import Data, Header
from arraystore._decoding.icc import profile_in
from arraystore._decoding.notes import notice

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
