"""Images of Pillow as sources: the pixels that their file would give."""

from typing import Any

import numpy as np

from arraystore._decoding.codecs import pillow_samples
from arraystore._decoding.eight_bits import finish
from arraystore._decoding.header import Pixels
from arraystore._decoding.memory import check_pixels
from arraystore._sources.given import pillow_reason
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec


def pixels_of(image: Any, spec: ImageSpec) -> Pixels:
    """Return the upright pixels of an image of Pillow: uint8, (H, W) or (H, W, 3), transparent ones over background.

    An image that was opened and not loaded is loaded now, from the file that it holds open.

    Raises:
        DecodeError: it cannot be loaded, has more than ``spec.max_pixels`` pixels, or is of a mode that is no image.
    """
    check_pixels(image.height, image.width, spec)
    from PIL import ImageOps

    try:
        samples = pillow_samples(ImageOps.exif_transpose(image))
    except (DecodeError, MemoryError):
        raise
    except Exception as error:  # plugins raise errors of any class
        raise DecodeError(pillow_reason(error), kind=Kind.DAMAGED) from error
    return np.ascontiguousarray(finish(samples, spec))
