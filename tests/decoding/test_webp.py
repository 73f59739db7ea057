"""WebP: its chunks must fit into each other, because OpenCV does not look."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import images

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into

PIXELS = images.photo(30, 40)
METADATA = {"exif": bytes(31), "xmp": b"<x/>"}


def saved(mode: str = "RGB", **options: Any) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(PIXELS).convert(mode).save(file, "WEBP", **options)
        return file.getvalue()


FILES = {
    "lossy": saved(),
    "lossless": saved(lossless=True),
    "lossy with metadata": saved(**METADATA),
    "lossless with metadata": saved(lossless=True, **METADATA),
    "with alpha": saved("RGBA"),
    "with alpha and metadata": saved("RGBA", **METADATA),
    "animated": saved(save_all=True, append_images=[Image.fromarray(PIXELS[::-1].copy())], lossless=True),
}


def decoded(data: bytes) -> images.Pixels:
    spec = ImageSpec(size=(30, 40), layout="NHWC", exact=True)
    slot = np.empty(spec.slot_shape, np.uint8)
    decode_into(data, slot, spec)
    return slot


def chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    at, found = 12, []
    while at < len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        found.append((kind, at, size))
        at += 8 + size + (size & 1)
    return found


def with_size(data: bytes, at: int, size: int) -> bytes:
    return data[: at + 4] + struct.pack("<I", size) + data[at + 8 :]


def refused_by_both(data: bytes) -> None:
    with pytest.raises(DecodeError, match="the webp data is damaged or ends early"):
        decoded(data)
    with pytest.raises(OSError), Image.open(io.BytesIO(data)) as image:  # noqa: PT011 - any of its errors
        image.load()


@pytest.mark.parametrize("name", FILES)
def test_the_pixels_are_those_of_pillow_whatever_follows(name: str) -> None:
    data = FILES[name]
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(image.convert("RGB"))
    for tail in (b"", b"\0", b"what follows", data):
        np.testing.assert_array_equal(decoded(data + tail), wanted)


@pytest.mark.parametrize("name", FILES)
def test_chunks_beyond_the_file_are_damage(name: str) -> None:
    data = FILES[name]
    refused_by_both(data[:-20])
    refused_by_both(with_size(data, 0, len(data) + 92))
    for _, at, size in chunks(data):
        refused_by_both(with_size(data, at, size + (1 << 20)))
    if len(chunks(data)) > 2:
        refused_by_both(with_size(data, chunks(data)[-1][1], 1 << 31))


def test_pixels_that_would_be_read_from_the_next_chunk_are_missing() -> None:
    data = FILES["lossless"]
    body = data[20:]
    cut = body[: len(body) // 2 & ~1]
    rest = body[len(cut) :]
    other = b"".join([b"VP8L", struct.pack("<I", len(cut)), cut, rest])
    refused_by_both(b"RIFF" + struct.pack("<I", len(other) + 4) + b"WEBP" + other)
