"""From the bytes of an image to smaller pictures of it, with the transparency that slots do not have."""

import copy

import numpy as np

from arraystore._decoding.eight_bits import divided, multiplied
from arraystore._decoding.header import Pixels
from arraystore._kernels.resample import resize
from arraystore.spec import ImageSpec, Placement

OPAQUE = 255


def keeping_alpha(spec: ImageSpec) -> ImageSpec:
    """Return a spec with which transparent images are decoded to (H, W, 4). It has no background, as no other has."""
    kept = copy.copy(spec)
    object.__setattr__(kept, "background", None)
    return kept


def without_idle_alpha(image: Pixels) -> Pixels:
    """Return an image without its alpha where no pixel is transparent."""
    if image.shape[2:] == (4,) and (image[..., 3] == OPAQUE).all():
        return np.ascontiguousarray(image[..., :3])
    return image


def resized(image: Pixels, placement: Placement, name: str) -> Pixels:
    """Return the placement's part of an upright image at its size: uint8, with as many channels, C-contiguous.

    Colors are mixed by how opaque their pixels are, as by Pillow, so what nobody sees does not shine through at edges.
    The result is the image itself where nothing changes.

    Args:
        image: uint8, (H, W), (H, W, 3) or (H, W, 4).
        placement: of it; the place in a slot is not used.
        name: of the filter.
    """
    height, width = placement.height, placement.width
    if (*image.shape[:2],) == (height, width) and placement.box == (0.0, 0.0, float(width), float(height)):
        return np.ascontiguousarray(image)
    channels = image.shape[2] if image.ndim == 3 else 1
    out = np.empty((height, width, *image.shape[2:]), np.uint8)
    if channels < 4:
        resize(image, out, box=placement.box, name=name)
        return out
    color = np.ascontiguousarray(image[..., :3])
    alpha = np.ascontiguousarray(image[..., 3])
    small, clear = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
    if name == "nearest":  # nothing is mixed
        resize(color, small, box=placement.box, name=name)
        resize(alpha, clear, box=placement.box, name=name)
    else:
        resize(multiplied(color, alpha[..., None]), small, box=placement.box, name=name)
        resize(alpha, clear, box=placement.box, name=name)
        small = divided(small, clear[..., None])
    out[..., :3], out[..., 3] = small, clear
    return out
