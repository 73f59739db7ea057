"""AVIF: gray of either range, and the items that hold its metadata, in every form that the standard allows."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.images import furthest
from support.variants import avifs
from support.variants.common import GRAY, PICTURE

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.codecs import decode_any
from arraystore._decoding.formats.isobmff_items import exif_and_xmp
from arraystore._decoding.header import read_header
from arraystore._decoding.orientation import orientation_beside_boxes


def decode(data: bytes) -> Any:
    return decode_any(data, read_header(data), ImageSpec(size=8))


def by_pillow(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


# --- the range of gray ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 10, 12])
@pytest.mark.parametrize("full", [False, True])
def test_gray_of_either_range_has_all_its_levels(depth: int, *, full: bool) -> None:
    deep = GRAY if depth == 8 else GRAY.astype(np.uint16) << (depth - 8)
    options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_SPEED, 10]
    done, encoded = cv2.imencode(".avif", deep, options)
    assert done
    data = bytearray(encoded.tobytes())
    data[data.index(b"nclx") + 10] = 0x80 * full
    pixels = decode(bytes(data))
    assert pixels.ndim == 2
    assert furthest(pixels, by_pillow(bytes(data))) == 0
    assert (furthest(pixels, GRAY) <= 2) is full


@pytest.mark.parametrize("span", ["full", "limited"])
def test_a_range_that_no_box_states_is_that_of_the_pixels(span: str) -> None:
    data = avifs.saved(PICTURE.convert("L"), subsampling="4:0:0", range=span)
    unsaid = data.replace(b"colr", b"free")
    assert furthest(decode(unsaid), decode(data)) == 0
    assert furthest(decode(unsaid), by_pillow(unsaid)) == 0


# --- items ------------------------------------------------------------------------------------------------------------

EXIF, XMP = b"II*\0" + bytes(8), avifs.xmp(6)


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def entry(item: int, kind: bytes, rest: bytes = b"name\0", *, version: int = 2) -> bytes:
    number = struct.pack(">I" if version == 3 else ">H", item)
    return box(b"infe", bytes([version, 0, 0, 0]), number, bytes(2), kind, rest)


def extents(parts: list[tuple[int, int]], *, index: bool, size: int) -> bytes:
    letter = {4: "I", 8: "Q"}[size]
    made = struct.pack(">H", len(parts))
    for start, length in parts:
        made += (bytes(size) if index else b"") + struct.pack(f">2{letter}", start, length)
    return made


def file_of(
    contents: dict[int, bytes],
    kinds: dict[int, bytes],
    *,
    version: int = 0,
    size: int = 4,
    index: bool = False,
    in_meta: bool = False,
    halves: bool = False,
) -> bytes:
    """A file of boxes whose items lie behind their length, or in the meta box."""
    body = b"".join(contents.values())
    head = box(b"ftyp", b"avif")

    def made(base: int) -> bytes:
        located, at = b"", base
        for item, content in contents.items():
            half = len(content) // 2 if halves else len(content)
            parts = [(at, half), (at + half, len(content) - half)][: 1 + halves]
            located += struct.pack(">I" if version == 2 else ">H", item)
            located += (bytes([0, in_meta]) if version else b"") + bytes(2)
            located += extents(parts, index=index, size=size)
            at += len(content)
        sizes = bytes([size << 4 | size, size * index])
        count = struct.pack(">I" if version == 2 else ">H", len(contents))
        wide = [
            entry(item, kind, version=3 if version == 2 else 2) if len(kind) == 4 else kind
            for item, kind in kinds.items()
        ]
        named = box(b"iinf", bytes(4), struct.pack(">H", len(kinds)), *wide)
        held = box(b"idat", body) if in_meta else b""
        return head + box(
            b"meta", bytes(4), named, box(b"iloc", bytes([version, 0, 0, 0]), sizes, count, located), held
        )

    return made(0) if in_meta else made(len(made(0)) + 8) + box(b"mdat", body)


def mime(item: int, kind: bytes, *, version: int = 2) -> bytes:
    return entry(item, b"mime", b"\0" + kind + b"\0", version=version)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("in_meta", [False, True])
def test_metadata_is_found_wherever_it_lies(version: int, size: int, *, halves: bool, in_meta: bool) -> None:
    contents = {1: b"pixels", 7: b"\0\0\0\2" + b"xx" + EXIF, 9: XMP, 11: b"<other/>"}
    number = 3 if version == 2 else 2
    kinds = {1: b"av01", 7: b"Exif", 9: mime(9, b"application/rdf+xml", version=number), 11: mime(11, b"text/xml")}
    options: dict[str, Any] = {"version": version, "size": size, "halves": halves}
    data = file_of(contents, kinds, in_meta=in_meta and version > 0, index=version > 0, **options)
    assert exif_and_xmp(data) == (EXIF, XMP)


def test_a_file_without_metadata_has_none() -> None:
    assert exif_and_xmp(file_of({1: b"pixels"}, {1: b"av01"})) == (b"", b"")
    assert exif_and_xmp(box(b"meta", bytes(4))) == (b"", b"")
    assert exif_and_xmp(box(b"meta", bytes(4), box(b"iinf", bytes(4), b"\0\1", entry(7, b"Exif")))) == (b"", b"")


def test_boxes_outrank_exif_but_not_xmp_beside_exif_without_the_tag() -> None:
    stated = avifs.exif(3).tobytes()
    assert orientation_beside_boxes(b"", XMP) == 6
    assert orientation_beside_boxes(EXIF, XMP) == 6
    assert orientation_beside_boxes(stated, XMP) == 1
    assert orientation_beside_boxes(stated, b"") == 1


WHOLE = avifs.saved(xmp=XMP)


def test_the_file_that_is_damaged_below_is_turned() -> None:
    assert read_header(WHOLE).orientation == 6


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, WHOLE.index(b"mdat")), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_boxes_give_a_header_or_a_reason(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    try:
        assert 1 <= read_header(bytes(data)).orientation <= 8
    except DecodeError as error:
        assert error.reason
