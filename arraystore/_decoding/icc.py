"""Color profiles: those inside files, and pixels converted to sRGB by Pillow's ImageCms (LittleCMS).

GIF and netpbm have none. HEIF and AVIF may name their colors by a number in place of a profile, which is not read.
"""

import io
import threading
from struct import error as struct_error
from typing import Any

import numpy as np

from arraystore._decoding.header import Data, Header, Pixels, codec_of
from arraystore._decoding.jpeg.segments import START_OF_SCAN, segments
from arraystore._decoding.notes import notice
from arraystore.errors import DecodeError, Kind

_LONGEST_BYTES = 16 << 20
_APP2 = 0xE2
_JPEG_PREFIX = b"ICC_PROFILE\0"
_KEPT_TRANSFORMS = 16
_MODES = {2: "L", 3: "RGB"}  # by the dimensions of an array
_SPACES = {2: "GRAY", 3: "RGB "}  # as profiles name them, likewise

_of_thread = threading.local()  # a transform must not be used by two threads at once


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


def profile_of(data: Data, header: Header) -> bytes | None:
    """Return the color profile of an encoded image, or None if it has none or is sRGB itself.

    Raises:
        DecodeError: Pillow is not installed.
    """
    try:
        from PIL import ImageCms
    except ImportError:
        raise DecodeError(
            "its color profile cannot be read without Pillow",
            kind=Kind.UNSUPPORTED,
            advice="pip install 'arraystore[formats]'",
        ) from None
    try:
        profile = profile_in(data, header)
        if not profile:
            return None
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except Exception:  # the decoder has said what is wrong with the image; its profile cannot be read
        return None
    return None if "srgb" in name.lower() else profile


def to_srgb(image: Pixels, data: Data, header: Header) -> Pixels:
    """Return decoded pixels in sRGB: uint8, (H, W, 3), or ``image`` itself where nothing is to be converted.

    A profile of other channels than the pixels have (that of a CMYK image) is not applied, and that is noted.
    """
    profile = profile_of(data, header)
    if profile is None:
        return image
    from PIL import Image, ImageCms

    try:
        transform = _transform(profile, image.ndim)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        notice(f"its color profile was not applied: {error}")
        return image
    converted = ImageCms.applyTransform(Image.fromarray(image), transform)
    return np.ascontiguousarray(np.asarray(converted), np.uint8)


def _transform(profile: bytes, dimensions: int) -> Any:
    from PIL import ImageCms

    kept: dict[tuple[bytes, int], Any] = vars(_of_thread).setdefault("kept", {})
    key = profile, dimensions
    if key not in kept:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space
        if space != _SPACES[dimensions]:
            raise ValueError(f"it is one for {space.strip()} pixels")
        if len(kept) >= _KEPT_TRANSFORMS:
            kept.clear()
        kept[key] = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), _MODES[dimensions], "RGB")
    return kept[key]
