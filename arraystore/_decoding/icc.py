"""Color profiles: pixels are converted to sRGB by Pillow's ImageCms (LittleCMS), where the spec asks for it."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np

from arraystore._decoding.encoding.profiles import profile_in
from arraystore._decoding.header import Data, Pixels, read_header
from arraystore._decoding.notes import notice
from arraystore.errors import DecodeError, Kind

_KEPT_TRANSFORMS = 16
_MODES = {2: "L", 3: "RGB"}  # by the dimensions of an array
_SPACES = {2: "GRAY", 3: "RGB "}  # as profiles name them, likewise

_of_thread = threading.local()  # a transform must not be used by two threads at once


def profile_of(data: Data | str) -> bytes | None:
    """Return the color profile of an encoded image or of a file, or None if it has none or is sRGB itself.

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
        if isinstance(data, str):
            data = Path(data).read_bytes()
        profile = profile_in(data, read_header(data))
        if not profile:
            return None
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except Exception:  # noqa: BLE001 - the decoder has said what is wrong with the image; its profile cannot be read
        return None
    return None if "srgb" in name.lower() else profile


def to_srgb(image: Pixels, data: Data) -> Pixels:
    """Return decoded pixels in sRGB: uint8, (H, W, 3), or ``image`` itself where nothing is to be converted.

    A profile of other channels than the pixels have (that of a CMYK image) is not applied, and that is noted.
    """
    profile = profile_of(data)
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
