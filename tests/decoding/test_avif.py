"""AVIF: gray of either range, and the items that hold its metadata, in every form that the standard allows."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support.images import furthest
from support.variants import avifs
from support.variants.common import GRAY, PICTURE, RGB

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.codecs import decode_any
from arraystore._decoding.formats import isobmff
from arraystore._decoding.formats.isobmff import avif_depth
from arraystore._decoding.formats.isobmff_items import exif_and_xmp
from arraystore._decoding.header import read_header
from arraystore._decoding.orientation import orientation_beside_boxes


def decode(data: bytes) -> Any:
    return decode_any(data, read_header(data), ImageSpec(size=8))


def by_pillow(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def by_pillow_upright(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


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


# --- the depth of samples ---------------------------------------------------------------------------------------------


def deep_avif() -> bytes:
    options = [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_SPEED, 10]
    done, encoded = cv2.imencode(".avif", RGB[..., ::-1].astype(np.uint16) << 2, options)
    assert done
    return encoded.tobytes()


def with_another_depth_first(data: bytes) -> bytes:
    """The file with a configuration of 8 bits, as of another image, in front of all properties."""
    own = data.index(b"av1C")
    added = bytearray(data[own - 4 : own + 8])
    added[10] &= ~0x60
    made = bytearray(data)
    for name in (b"ipco", b"iprp", b"meta"):
        at = data.index(name) - 4
        struct.pack_into(">I", made, at, struct.unpack_from(">I", data, at)[0] + len(added))
    links = data.index(b"ipma") + 15
    for at in range(links, links + data[links - 1]):
        made[at] += 1
    pixels = data.index(b"mdat") + 4
    place = data.index(struct.pack(">I", pixels), data.index(b"iloc"))
    struct.pack_into(">I", made, place, pixels + len(added))
    at = data.index(b"ipco") + 4
    return bytes(made[:at] + added + made[at:])


def test_the_depth_is_that_of_the_primary_image() -> None:
    data = deep_avif()
    other = with_another_depth_first(data)
    assert other.count(b"av1C") == 2
    assert avif_depth(data) == avif_depth(other) == 10
    assert avif_depth(avifs.saved()) == 8
    assert furthest(decode(other), decode(data)) == 0
    assert furthest(decode(other), by_pillow(other)) <= 1


def test_a_depth_that_the_boxes_leave_open_is_that_of_the_pixels() -> None:
    data = deep_avif()
    other = with_another_depth_first(data)
    first = other.index(b"ipma") + 15
    unlinked = bytearray(other)
    unlinked[first : first + unlinked[first - 1]] = b"\2" * unlinked[first - 1]  # as of a grid: no depth of its own
    assert avif_depth(bytes(unlinked)) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isobmff, "avif_depth", lambda _: None)
        assert furthest(decode(data), by_pillow(data)) == 0


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
    others: Mapping[int, int] = MappingProxyType({}),
) -> bytes:
    """A file of boxes whose items lie behind their length, or in the meta box.

    They describe item 1, or what ``others`` says.
    """
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
        refers = references({item: 1 for item in contents if item > 1} | others, wide=version == 2)
        places = box(b"iloc", bytes([version, 0, 0, 0]), sizes, count, located)
        return head + box(b"meta", bytes(4), PRIMARY, refers, named, places, held)

    return made(0) if in_meta else made(len(made(0)) + 8) + box(b"mdat", body)


PRIMARY = box(b"pitm", bytes(4), b"\0\1")


def references(described: dict[int, int], *, wide: bool = False) -> bytes:
    """The box that says which item describes which other."""
    form = ">IHI" if wide else ">HHH"
    named = [box(b"cdsc", struct.pack(form, item, 1, other)) for item, other in described.items()]
    return box(b"iref", bytes([wide, 0, 0, 0]), *named)


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


@pytest.mark.parametrize("version", [0, 2])
def test_metadata_of_other_images_does_not_count(version: int) -> None:
    number = 3 if version == 2 else 2
    contents = {1: b"pixels", 2: b"a map", 7: b"\0\0\0\0" + EXIF, 9: XMP, 17: bytes(4) + avifs.exif(3).tobytes()}
    kinds = {1: b"av01", 2: b"av01", 7: b"Exif", 9: mime(9, b"application/rdf+xml", version=number), 17: b"Exif"}
    assert exif_and_xmp(file_of(contents, kinds, version=version, others={9: 2, 17: 2})) == (EXIF, b"")
    assert exif_and_xmp(file_of(contents, kinds, version=version, others={7: 2, 17: 2})) == (b"", XMP)
    assert exif_and_xmp(file_of(contents, kinds, version=version, others={7: 2, 9: 2, 17: 2})) == (b"", b"")


def test_a_turn_of_another_image_turns_nothing() -> None:
    data = avifs.saved(xmp=XMP)
    at = data.index(b"cdsc") + 4
    other = data[: at + 4] + b"\0\7" + data[at + 6 :]
    assert read_header(data).orientation == 6
    assert read_header(other).orientation == 1
    assert decode(other).shape == by_pillow_upright(other).shape != by_pillow_upright(data).shape


def test_references_that_say_more_than_their_box_holds_are_cut() -> None:
    data = avifs.saved(xmp=XMP)
    count = data.index(b"cdsc") + 6
    assert data[count : count + 2] == b"\0\1"
    assert exif_and_xmp(data[:count] + b"\xff\xff" + data[count + 2 :]) == exif_and_xmp(data)


def test_a_file_without_metadata_has_none() -> None:
    assert exif_and_xmp(file_of({1: b"pixels"}, {1: b"av01"})) == (b"", b"")
    assert exif_and_xmp(box(b"meta", bytes(4))) == (b"", b"")
    assert exif_and_xmp(box(b"meta", bytes(4), box(b"iinf", bytes(4), b"\0\1", entry(7, b"Exif")))) == (b"", b"")


def test_extents_that_overlap_are_no_more_than_the_file() -> None:
    """A file of 800 KB that describes a gigabyte of EXIF."""
    items = range(2, 101)
    named = box(b"iinf", bytes(4), struct.pack(">H", len(items)), *[entry(item, b"Exif") for item in items])
    refers = references(dict.fromkeys(items, 1))

    def made(count: int, parts: list[tuple[int, int]]) -> bytes:
        located = [struct.pack(">HH", item, 0) + extents(parts, index=False, size=4) for item in items[:count]]
        places = box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", count), *located)
        return box(b"ftyp", b"avif") + box(b"meta", bytes(4), PRIMARY, refers, named, places)

    for count in (1, len(items)):
        assert exif_and_xmp(made(count, [(0, 9_000)] * 1_024)) == (b"", b"")
    data = made(1, [(0, 16)] * 3)
    (away,) = struct.unpack_from(">I", data)
    assert exif_and_xmp(data) == ((data[:16] * 3)[4 + away :], b"")


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
