"""Images that the tests make for themselves: smooth photos, noise, and files of them in every shape."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

Pixels = npt.NDArray[np.uint8]

SIZES = [(37, 53), (53, 37), (64, 64), (120, 40), (17, 200), (5, 5), (90, 91), (33, 64)]


def photo(height: int, width: int, *, seed: int = 0) -> Pixels:
    """A smooth picture, (H, W, 3): waves whose period is a fraction of its size, as in a photo that was taken well."""
    return _waves(height, width, seed).copy()


@lru_cache(64)  # a large one takes a quarter of a second
def _waves(height: int, width: int, seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(3):
        across, down, phase = rng.uniform(1.0, 4.0, 3)
        wave = np.sin(across * x / width * 6 + phase) + np.cos(down * y / height * 6 + phase)
        planes.append(127.5 + 55 * wave + rng.uniform(-15, 15))
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> Pixels:
    """Random bytes, (H, W, C), or (H, W) where ``channels`` is 1: every pixel differs from its neighbors."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def jpeg(pixels: Pixels, *, quality: int = 92, subsampling: str = "420", orientation: int = 1) -> bytes:
    """A JPEG; a gray one where the pixels are (H, W)."""
    gray = pixels.ndim == 2
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels[:, :, None] if gray else pixels),
        quality=quality,
        colorspace="GRAY" if gray else "RGB",
        colorsubsampling="Gray" if gray else subsampling,
    )
    return data if orientation == 1 else turned(data, orientation)


def turned(data: bytes, orientation: int) -> bytes:
    """The same JPEG with an EXIF block that states its orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image in a format of Pillow's."""
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def progressive(pixels: Pixels) -> bytes:
    return encode(Image.fromarray(pixels), "JPEG", quality=90, progressive=True)


def png(pixels: Pixels) -> bytes:
    done, data = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert done
    return data.tobytes()


def in_color(pixels: Any) -> npt.NDArray[np.int64]:
    """Pixels as (H, W, 3), which may be subtracted; gray ones have three equal channels."""
    return np.asarray(np.dstack([pixels] * 3) if np.ndim(pixels) == 2 else pixels).astype(np.int64)


def furthest(pixels: Any, wanted: Any) -> int:
    """The largest difference between images of the same sides, gray or in color."""
    assert in_color(pixels).shape == in_color(wanted).shape
    return int(np.abs(in_color(pixels) - in_color(wanted)).max())


def bomb(height: int = 60_000, width: int = 60_000) -> bytes:
    """A JPEG of a few hundred bytes whose header claims gigapixels."""
    data = bytearray(jpeg(photo(8, 8)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def write_tree(folder: Path, classes: dict[str, int]) -> Path:
    """A folder of class folders, JPEGs and PNGs of every shape in turn."""
    seed = 0
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            height, width = SIZES[seed % len(SIZES)]
            pixels = photo(height, width, seed=seed)
            if seed % 3 == 2:
                (folder / name / f"img_{i:03} ü.png").write_bytes(png(pixels))
            else:
                (folder / name / f"img_{i:03}.jpg").write_bytes(jpeg(pixels))
            seed += 1
    return folder
