"""Stores and encoded slots to export, and what comes back from other programs."""

from __future__ import annotations

import gc
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import xxhash
from PIL import Image

import arraystore
from arraystore import Ragged, Slots, Store
from arraystore._format.specification import FAILED, STORED
from arraystore._reading.slot_arrays import SlotArrays
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.slot_array import SlotArray
from support import images

SIZE = 24
COUNT = 19
NAMES = ("ash", "größe 日本", "oak")


def rich_store(photos: Path, place: Path, **options: Any) -> Store:
    """A store of 19 images with a target of every kind: classes, lists, texts, numbers and masks."""
    paths = sorted(path for path in photos.rglob("*") if path.is_file())
    rng = np.random.default_rng(5)
    boxes = [rng.random((i % 3, 4)).astype(np.float32) * 20 for i in range(COUNT)]
    masks = [rng.integers(0, 9, images.SIZES[i % len(images.SIZES)], np.uint8) for i in range(COUNT)]
    manifest = arraystore.Manifest.from_paths(paths).changed(
        targets={
            "labels": np.array([1, 0, 1] * 6 + [0]),
            "boxes": Ragged.from_rows(boxes, dtype=np.float32),
            "score": np.where(np.arange(COUNT) == 3, np.nan, np.arange(COUNT) / 7),
            "vector": np.arange(COUNT * 2, dtype=np.int16).reshape(COUNT, 2),
            "grid": np.arange(COUNT * 6, dtype=np.uint64).reshape(COUNT, 3, 2),
            "flag": np.arange(COUNT) % 3 == 0,
            "tags": np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]] * 6 + [[1, 0, 0]], np.uint8),
        },
        classes={"labels": ("x", "y"), "tags": ("a", "b", "c")},
        texts={"caption": [f"caption, number “{i}” of all" for i in range(COUNT)]},
        masks={"mask": arraystore.Masks(masks)},
    )
    return arraystore.build(manifest, place, size=SIZE, progress=False, **options)


def jpegs(count: int, *, gray: bool = False) -> list[bytes]:
    """JPEGs with restart markers, as an encoded store has them."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    found = []
    for seed in range(count):
        pixels = images.photo(SIZE, SIZE, seed=seed)
        done, data = cv2.imencode(".jpg", pixels[:, :, 0] if gray else pixels[:, :, ::-1], options)
        assert done
        found.append(data.tobytes())
    return found


def encoded_slots(
    data: Sequence[bytes],
    *,
    failed: Sequence[int] = (),
    targets: Mapping[str, Any] | None = None,
    categories: Mapping[str, tuple[str, ...]] | None = None,
) -> Slots:
    """Slots that are kept as these JPEGs."""
    kept = [b"" if slot in failed else each for slot, each in enumerate(data)]
    channels = 3 if Image.open(io.BytesIO(data[0])).mode == "RGB" else 1
    encoded = EncodedImages(
        np.frombuffer(b"".join(kept), np.uint8),
        np.cumsum([0, *map(len, kept)], dtype=np.uint64),
        (len(kept), channels, SIZE, SIZE),
        "NCHW",
        "x.store",
    )
    status = np.full(len(kept), STORED, np.uint8)
    status[list(failed)] = FAILED
    checksums = np.array([xxhash.xxh3_64_intdigest(each) for each in kept], np.uint64)
    array = SlotArray(np.empty((len(kept), 1), np.uint8), status, checksums, targets or {})
    object.__setattr__(array, "images", encoded)
    return Slots(SlotArrays((array,), layout="NCHW", categories=categories or {}))


def planes(data: bytes | Image.Image) -> npt.NDArray[np.uint8]:
    """The pixels that Pillow decodes, (C, H, W)."""
    with Image.open(io.BytesIO(data)) if isinstance(data, bytes) else data as image:
        pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def jpeg_of(pixels: Any, *, quality: int = 90, subsampling: str = "420") -> bytes:
    """The JPEG of a slot, (C, H, W)."""
    turned = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return images.jpeg(turned[:, :, 0] if len(pixels) == 1 else turned, quality=quality, subsampling=subsampling)


@contextmanager
def open_files_allowed() -> Iterator[None]:
    """Do not warn of files that other programs leave open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def error_of(store: Any, slot: int, data: bytes | Image.Image) -> float:
    """How many levels the pixels that come back are from those of a slot, the mean."""
    return float(np.abs(planes(data).astype(int) - store.take([slot])[0]).mean())


def files_in(place: Path) -> dict[str, bytes]:
    """Every file of an export."""
    if place.is_file():
        return {place.name: place.read_bytes()}
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}
