"""Images with masks, and what Pillow makes of a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from arraystore import ImageSpec
from support import images

CLASSES = 21
COUNT = 19  # of the tables of images with masks that tests of building share
TARGETS = {"label": "auto", "mask": "mask"}


def numbers(height: int, width: int, *, seed: int = 0, classes: int = CLASSES) -> npt.NDArray[np.uint8]:
    """A mask of noise: a pixel that is moved or mixed is another number."""
    return np.random.default_rng(seed).integers(0, classes, (height, width), np.uint8)


def with_palette(mask: npt.NDArray[np.uint8], *, seed: int = 0) -> Image.Image:
    """An image whose palette has a random color for each number, as annotation tools write it."""
    image = Image.fromarray(mask).convert("L")
    image.putpalette(np.random.default_rng(seed).integers(0, 256, 768, np.uint8).tobytes())
    return image


def write(folder: Path, count: int) -> Path:
    """A table of images with labels and masks of every shape in turn, ``i/00.png`` and ``m/00.png``."""
    (folder / "i").mkdir(parents=True)
    (folder / "m").mkdir()
    rows = ["path,label,mask"]
    for i in range(count):
        height, width = images.SIZES[i % len(images.SIZES)]
        (folder / f"i/{i:02}.png").write_bytes(images.png(images.noise(height, width, seed=i)))
        with_palette(numbers(height, width, seed=i)).save(folder / f"m/{i:02}.png")
        rows.append(f"i/{i:02}.png,{i % 3},m/{i:02}.png")
    table = folder / "t.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def by_pillow(mask: Any, spec: ImageSpec, fill: int = 255) -> npt.NDArray[Any]:
    """The slot that Pillow makes of a mask by NEAREST."""
    image, size = mask if isinstance(mask, Image.Image) else Image.fromarray(mask), (spec.width, spec.height)
    if spec.fit == "crop":
        return np.asarray(ImageOps.fit(image, size, Image.Resampling.NEAREST))
    if spec.fit == "stretch":
        return np.asarray(image.resize(size, Image.Resampling.NEAREST))
    inner = ImageOps.contain(image, size, Image.Resampling.NEAREST)
    slot = np.full(spec.size, fill, np.asarray(inner).dtype)
    top, left = round((spec.height - inner.height) * 0.5), round((spec.width - inner.width) * 0.5)
    slot[top : top + inner.height, left : left + inner.width] = np.asarray(inner)
    return slot


def slots(folder: Path, spec: ImageSpec, count: int) -> npt.NDArray[np.uint8]:
    """The target that a build of `write`'s table should have."""
    return np.stack([by_pillow(Image.open(folder / f"m/{i:02}.png"), spec) for i in range(count)])
