"""Orientation, wherever a file states it: what Pillow's exif_transpose does is the measure."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support import hostile, images

from arraystore import ImageSpec
from arraystore._decoding.decode import decode_into
from arraystore._decoding.header import read_header
from arraystore._decoding.orientation import orientation_of

WIDTH, HEIGHT = 34, 21
PIXELS = images.photo(HEIGHT, WIDTH)
PICTURE = Image.fromarray(PIXELS)
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def tiff_block(*entries: tuple[int, int, int, bytes], order: str = "<", magic: bytes | None = None) -> bytes:
    """A block of EXIF of entries: tag, type, count, and the four bytes of the value."""
    head = magic or (b"II*\0" if order == "<" else b"MM\0*")
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")
    return head + struct.pack(f"{order}I", 8) + body + bytes(4)


def exif(orientation: int, order: str = "<") -> bytes:
    return tiff_block((0x0112, 3, 1, struct.pack(f"{order}H", orientation)), order=order)


NO_TAG = tiff_block((0x0100, 3, 1, b"\1\0"))


def xmp(orientation: Any, form: str = "attribute") -> bytes:
    stated = {
        "attribute": f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>',
        "element": f"<rdf:Description><tiff:Orientation>{orientation}</tiff:Orientation></rdf:Description>",
        "absent": '<rdf:Description tiff:Make="x"/>',
    }[form]
    begin = '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>'
    return f'{begin}{stated}</rdf:RDF></x:xmpmeta>{" " * 200}<?xpacket end="w"?>'.encode()


def jpeg(*app1: bytes) -> bytes:
    data = images.jpeg(PIXELS)
    return data[:2] + b"".join(hostile.segment(0xE1, body) for body in app1) + data[2:]


def saved(kind: str, **options: Any) -> bytes:
    with io.BytesIO() as file:
        PICTURE.save(file, kind, **options)
        return file.getvalue()


def png(*chunks: tuple[bytes, bytes], after: bool = False) -> bytes:
    data = saved("PNG")
    at = data.index(b"IEND") - 4 if after else 33
    return data[:at] + b"".join(hostile.chunk(*chunk) for chunk in chunks) + data[at:]


def text(kind: bytes, keyword: bytes, body: bytes, *, packed: bool = False) -> tuple[bytes, bytes]:
    if kind == b"zTXt":
        return kind, keyword + b"\0\0" + zlib.compress(body)
    if kind == b"iTXt":
        return kind, keyword + b"\0" + bytes([packed, 0]) + b"en\0x\0" + (zlib.compress(body) if packed else body)
    return kind, keyword + b"\0" + body


def raw_profile(body: bytes) -> bytes:
    digits = body.hex().encode()
    lines = b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return b"\nexif\n" + f"{len(body):8}".encode() + b"\n" + lines + b"\n"


def webp(**options: bytes) -> bytes:
    return saved("WEBP", lossless=True, **options)


def tiff(**tags: Any) -> bytes:
    return saved("TIFF", tiffinfo={int(tag[1:]): value for tag, value in tags.items()})


PACKET = b"XML:com.adobe.xmp"
RAW = b"Raw profile type exif"


@cache
def cases(turn: int) -> dict[str, bytes]:
    """Files that state an orientation in every place, alone or with others that disagree."""
    other = turn % 8 + 1
    block, packet, element = exif(turn), xmp(turn), xmp(turn, "element")
    long = b"II*\0" + struct.pack("<I", 70_000) + bytes(69_992) + exif(turn)[8:]  # more than a segment holds
    return {
        "jpeg exif": jpeg(EXIF + block),
        "jpeg exif, big-endian": jpeg(EXIF + exif(turn, ">")),
        "jpeg exif twice prefixed": jpeg(EXIF + EXIF + block),
        "jpeg exif, prefix of five bytes": jpeg(EXIF[:5] + block),
        "jpeg exif without prefix": jpeg(block),
        "jpeg exif, then another": jpeg(EXIF + block, EXIF + exif(other)),
        "jpeg exif empty, then another": jpeg(EXIF, EXIF + block),
        "jpeg exif over two segments": jpeg(EXIF + long[:60_000], EXIF + long[60_000:]),
        "jpeg exif behind other segments": jpeg(b"other", XMP + xmp(other, "absent"), EXIF + block),
        "jpeg exif, magic reversed": jpeg(EXIF + tiff_block((0x0112, 3, 1, bytes([turn])), magic=b"II\0*")),
        "jpeg exif of long": jpeg(EXIF + tiff_block((0x0112, 4, 1, bytes([turn])))),
        "jpeg exif of signed short": jpeg(EXIF + tiff_block((0x0112, 8, 1, bytes([turn])))),
        "jpeg exif of two": jpeg(EXIF + tiff_block((0x0112, 3, 2, bytes([turn, 0, other])))),
        "jpeg exif twice": jpeg(EXIF + tiff_block((0x0112, 3, 1, bytes([other])), (0x0112, 3, 1, bytes([turn])))),
        "jpeg xmp attribute": jpeg(XMP + packet),
        "jpeg xmp element": jpeg(XMP + element),
        "jpeg xmp, then another": jpeg(XMP + xmp(other), XMP + packet),
        "jpeg xmp, then one without": jpeg(XMP + packet, XMP + xmp(0, "absent")),
        "jpeg xmp extended": jpeg(XMP + xmp(0, "absent"), b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + packet),
        "jpeg xmp and exif": jpeg(XMP + xmp(other), EXIF + block),
        "jpeg exif and xmp": jpeg(EXIF + block, XMP + xmp(other)),
        "jpeg xmp and exif of one": jpeg(EXIF + exif(1), XMP + packet),
        "jpeg xmp and exif of nine": jpeg(EXIF + exif(9), XMP + packet),
        "jpeg xmp and exif of nothing": jpeg(EXIF + NO_TAG, XMP + packet),
        "jpeg xmp of nine": jpeg(XMP + xmp(9)),
        "jpeg xmp of text": jpeg(XMP + xmp("Rotate 90 CW")),
        "jpeg xmp of two digits": jpeg(XMP + xmp(f"{turn}0")),
        "png exif": png((b"eXIf", block)),
        "png exif behind the pixels": png((b"eXIf", block), after=True),
        "png exif, prefixed": png((b"eXIf", EXIF + block)),
        "png exif twice": png((b"eXIf", exif(other)), (b"eXIf", block)),
        "png xmp": png(text(b"iTXt", PACKET, packet)),
        "png xmp element": png(text(b"iTXt", PACKET, element)),
        "png xmp packed": png(text(b"iTXt", PACKET, packet, packed=True)),
        "png xmp behind the pixels": png(text(b"iTXt", PACKET, packet, packed=True), after=True),
        "png xmp as plain text": png(text(b"tEXt", PACKET, packet)),
        "png xmp as packed text": png(text(b"zTXt", PACKET, packet)),
        "png xmp twice": png(text(b"iTXt", PACKET, xmp(other)), text(b"iTXt", PACKET, packet)),
        "png xmp and exif": png(text(b"iTXt", PACKET, xmp(other)), (b"eXIf", block)),
        "png xmp and exif of nothing": png(text(b"iTXt", PACKET, packet), (b"eXIf", NO_TAG)),
        "png raw profile": png(text(b"tEXt", RAW, raw_profile(EXIF + block))),
        "png raw profile packed": png(text(b"zTXt", RAW, raw_profile(EXIF + block))),
        "png raw profile of iTXt": png(text(b"iTXt", RAW, raw_profile(EXIF + block), packed=True)),
        "png raw profile without prefix": png(text(b"zTXt", RAW, raw_profile(block))),
        "png raw profile and exif": png(text(b"zTXt", RAW, raw_profile(EXIF + exif(other))), (b"eXIf", block)),
        "png raw profile and xmp": png(text(b"zTXt", RAW, raw_profile(block)), text(b"iTXt", PACKET, xmp(other))),
        "png raw profile of nothing and xmp": png(
            text(b"zTXt", RAW, raw_profile(NO_TAG)), text(b"iTXt", PACKET, packet)
        ),
        "png raw profile of another name": png(text(b"zTXt", b"Raw profile type APP1", raw_profile(block))),
        "png of a damaged packet": png((b"iTXt", PACKET + b"\0\1\0\0\0" + b"not packed")),
        "png text elsewhere": png(text(b"tEXt", b"Comment", packet)),
        "webp exif": webp(exif=block),
        "webp exif prefixed": webp(exif=EXIF + block),
        "webp xmp": webp(xmp=packet),
        "webp xmp element": webp(xmp=element),
        "webp xmp and exif": webp(exif=block, xmp=xmp(other)),
        "webp xmp and exif of nothing": webp(exif=NO_TAG, xmp=packet),
        "webp xmp and exif of one": webp(exif=exif(1), xmp=packet),
        "tiff tag": tiff(t274=turn),
        "tiff xmp": tiff(t700=packet),
        "tiff xmp element": tiff(t700=element),
        "tiff xmp and tag": tiff(t274=turn, t700=xmp(other)),
        "tiff xmp and tag of one": tiff(t274=1, t700=packet),
        "bigtiff xmp": saved("TIFF", tiffinfo={700: packet}, big_tiff=True),
    }


NAMES = list(cases(6))


def by_pillow(data: bytes) -> images.Pixels:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metadata Warning, tag 274 had too many entries")
        return _by_pillow(data)


def _by_pillow(data: bytes) -> images.Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("name", NAMES)
def test_every_place_is_read_as_pillow_reads_it(name: str) -> None:
    for turn in range(1, 9):
        data = cases(turn)[name]
        wanted = by_pillow(data)
        for kind in (bytes, bytearray, memoryview):
            spec = ImageSpec(size=wanted.shape[:2], layout="NHWC", exact=True)
            slot = np.empty(spec.slot_shape, np.uint8)
            assert decode_into(kind(data), slot, spec)[:2] == wanted.shape[:2], (name, turn)
            np.testing.assert_array_equal(slot, wanted, err_msg=f"{name} {turn}")


def test_the_measure_is_a_measure() -> None:
    turned = [name for name in NAMES if by_pillow(cases(6)[name]).shape[:2] == (WIDTH, HEIGHT)]
    assert len(turned) > 40
    assert {name.split()[0] for name in turned} == {"jpeg", "png", "webp", "tiff", "bigtiff"}


_FIELD = st.tuples(
    st.sampled_from([0x0100, 0x0112, 0x8769]), st.integers(0, 13), st.integers(0, 3), st.binary(min_size=4, max_size=4)
)


@settings(max_examples=300)
@given(st.lists(_FIELD, max_size=4), st.integers(-8, 8), st.sampled_from("<>"), st.sampled_from([b"", EXIF]))
def test_any_bytes_of_exif_state_an_orientation_or_none(fields: Any, cut: int, order: str, prefix: bytes) -> None:
    block = prefix + tiff_block(*fields, order=order)
    block = block[: len(block) + cut] if cut < 0 else block
    assert 1 <= orientation_of(block) <= 8
    assert 1 <= orientation_of(block, xmp(6)) <= 8


@settings(max_examples=200)
@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_are_upright(block: bytes, packet: bytes) -> None:
    assert orientation_of(block, packet) == 1
    assert orientation_of(EXIF + block, packet) in range(1, 9)


def test_a_text_that_would_inflate_to_gigabytes_is_not_inflated() -> None:
    packed = hostile.packed_zeros(512 << 20)
    bombs = [
        png((b"zTXt", RAW + b"\0\0" + packed)),
        png((b"iTXt", PACKET + b"\0\1\0\0\0" + packed)),
        png(*[(b"iTXt", PACKET + b"\0\1\0\0\0" + packed[: len(packed) // 100])] * 200),
    ]
    for data in bombs:
        began = time.process_time()
        assert read_header(data).orientation == 1
        assert time.process_time() - began < 0.3


def test_many_blocks_are_joined_once() -> None:
    data = jpeg(*[EXIF + bytes(65_000)] * 600)
    began = time.process_time()
    assert read_header(data).orientation == 1
    assert time.process_time() - began < 2
