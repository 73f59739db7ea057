"""What the variants of all formats share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from support import images

Pixels = npt.NDArray[Any]

HEIGHT, WIDTH = 22, 35
RGB = images.photo(HEIGHT, WIDTH, seed=3)
GRAY = RGB[..., 1].copy()
ALPHA = ((np.mgrid[0:HEIGHT, 0:WIDTH] * [[[11]], [[7]]]).sum(0) % 256).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
DEEP = (RGB.astype(np.uint16) * 257) ^ (np.arange(WIDTH, dtype=np.uint16)[:, None] * 37 % 256)  # low bytes of their own
PICTURE = Image.fromarray(RGB)
BACKGROUND = (200, 13, 90)


class File(NamedTuple):
    """A file, and its right pixels where they are known without a decoder: (H, W), (H, W, 3), or with alpha."""

    data: bytes
    wanted: Pixels | None = None


def modes(*names: str) -> dict[str, Image.Image]:
    """The picture in modes of Pillow."""
    made = {"RGBA": Image.fromarray(RGBA), "LA": Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(ALPHA)])}
    made["P"] = PICTURE.convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    made["I;16"] = Image.fromarray(DEEP[..., 0])
    return {name: made[name] if name in made else PICTURE.convert(name) for name in names}
