"""JPEGs as encoded stores keep them, one after the other in one array, and their pixels by another decoder."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from arraystore._stores.encoded.images import EncodedImages

Pixels = npt.NDArray[np.uint8]
SAMPLINGS = {"444": 0x111111, "422": 0x211111, "420": 0x221111, "440": 0x121111, "411": 0x411111}


def picture(height: int, width: int, seed: int = 0, channels: int = 3) -> Pixels:
    """A picture with edges and noise, (H, W, C)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), np.uint8)
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, 3)
    noisy = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(noisy[:, :, :channels])


def jpeg(pixels: Pixels, *, quality: int = 90, restart: int = 2, sampling: str = "420") -> bytes:
    """The JPEG of a picture, (H, W, 1 or 3), with restart markers as encoded stores have them."""
    given = pixels[:, :, ::-1] if pixels.shape[2] == 3 else pixels[:, :, 0]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(given), options)
    assert done
    return data.tobytes()


def jpegs(count: int, height: int, width: int, channels: int = 3, **options: Any) -> list[bytes]:
    return [jpeg(picture(height, width, seed, channels), **options) for seed in range(count)]


def pillow_jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "jpeg", **options)
    return file.getvalue()


def encoded_of(
    files: Sequence[bytes], height: int, width: int, channels: int = 3, layout: str = "NCHW", place: str = "x.store"
) -> EncodedImages:
    """These JPEGs as images of one shape."""
    slot = (channels, height, width) if layout == "NCHW" else (height, width, channels)
    data = np.frombuffer(b"".join(files), np.uint8)
    return EncodedImages(data, offsets_of(files), (len(files), *slot), layout, place)


def offsets_of(files: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    return np.cumsum([0, *map(len, files)]).astype(np.uint64)


def pixels_of(files: Sequence[bytes], height: int, width: int, channels: int = 3, layout: str = "NCHW") -> Pixels:
    """The pixels of these JPEGs by Pillow, which has its own copy of libjpeg; zeros for an empty one."""
    mode = "RGB" if channels == 3 else "L"
    images = np.zeros((len(files), height, width, channels), np.uint8)
    for image, data in zip(images, files, strict=True):
        if data:
            with Image.open(io.BytesIO(data)) as opened:
                image[...] = np.asarray(opened.convert(mode)).reshape(height, width, channels)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if layout == "NCHW" else images


def mapped(images: EncodedImages, folder: Path) -> EncodedImages:
    """The same images, mapped from files."""
    np.save(folder / "encoded.npy", images.encoded)
    np.save(folder / "offsets.npy", images.offsets)
    encoded, offsets = (np.load(folder / name, mmap_mode="r") for name in ("encoded.npy", "offsets.npy"))
    return EncodedImages(encoded, offsets, images.shape, images.layout, str(folder))
