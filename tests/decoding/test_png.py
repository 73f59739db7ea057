"""PNGs of every color type and depth, as the specification lists them: the samples say what the pixels are."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support import images
from support.pngs import (
    GRAY,
    GRAY_ALPHA,
    KINDS,
    PALETTE,
    RGB,
    RGB_ALPHA,
    chunk,
    head_of,
    palette_of,
    png_of,
    samples_of,
    wanted,
)

from arraystore import DecodeError, ImageSpec, Kind
from arraystore._decoding.codecs import numbers_of
from arraystore._decoding.decode import decode_into
from arraystore._decoding.header import read_header
from arraystore._decoding.notes import noticed

SPEC = ImageSpec(size=(21, 30), layout="NHWC")


def decoded(data: bytes, height: int, width: int, background: int = 255) -> npt.NDArray[np.uint8]:
    slot = np.empty((height, width, 3), np.uint8)
    decode_into(data, slot, ImageSpec(size=(height, width), layout="NHWC", background=(background,) * 3))
    return slot


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_every_color_type_and_depth(kind: int, depth: int, interlaced: bool) -> None:
    samples = samples_of(kind, depth)
    data = png_of(samples, kind, depth, interlaced=interlaced, before=head_of(kind, depth))
    assert images.furthest(decoded(data, 21, 30), wanted(samples, kind, depth)) <= (kind in (GRAY_ALPHA, RGB_ALPHA))
    if depth <= 8 and kind in (GRAY, RGB, PALETTE):
        with Image.open(io.BytesIO(data)) as image:
            assert images.furthest(decoded(data, 21, 30), image.convert("RGB")) == 0


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), [pair for pair in KINDS if pair[0] in (GRAY, RGB, PALETTE)])
def test_transparent_samples_of_every_kind_show_the_background(kind: int, depth: int, interlaced: bool) -> None:
    samples = samples_of(kind, depth)
    trns = [0, 77, 255, 128][: 1 << depth] if kind == PALETTE else samples[3, 4].tolist()
    data = png_of(samples, kind, depth, interlaced=interlaced, before=head_of(kind, depth, trns))
    for background in (255, 10):
        expected = wanted(samples, kind, depth, trns, background)
        assert images.furthest(decoded(data, 21, 30, background), expected) <= (kind == PALETTE)


@pytest.mark.parametrize("filters", [(0,), (1,), (2,), (3,), (4,), (4, 0, 3, 1, 2)])
@pytest.mark.parametrize(("kind", "depth"), [(GRAY, 2), (RGB, 8), (PALETTE, 4), (RGB_ALPHA, 16)])
def test_every_filter_of_rows(kind: int, depth: int, filters: Sequence[int]) -> None:
    samples = samples_of(kind, depth)
    data = png_of(samples, kind, depth, filters=filters, before=head_of(kind, depth), pieces=7)
    assert images.furthest(decoded(data, 21, 30), wanted(samples, kind, depth)) <= (kind == RGB_ALPHA)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 6, 7, 8, 9, 33])
def test_every_small_size(side: int, interlaced: bool) -> None:
    for kind, depth in ((PALETTE, 1), (PALETTE, 4), (GRAY, 1), (RGB, 8)):
        for height, width in ((side, side), (1, side), (side, 1)):
            samples = samples_of(kind, depth, height, width)
            data = png_of(samples, kind, depth, interlaced=interlaced, before=head_of(kind, depth))
            assert images.furthest(decoded(data, height, width), wanted(samples, kind, depth)) == 0


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"gAMA", struct.pack(">I", 100_000)),
        chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        chunk(b"sRGB", b"\0"),
        chunk(b"bKGD", struct.pack(">3H", 1, 2, 3)),
        chunk(b"pHYs", struct.pack(">IIB", 1, 4, 0)),
        chunk(b"tIME", struct.pack(">H5B", 2026, 1, 1, 0, 0, 0)),
        chunk(b"sBIT", b"\5\6\5"),
        chunk(b"tEXt", b"Title\0x"),
        chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"x")),
        chunk(b"iTXt", b"Title\0\0\0\0\0x"),
        chunk(b"prVt", b"of some program"),
    ],
    ids=lambda extra: extra[4:8].decode(),
)
def test_other_chunks_change_no_pixel(extra: bytes) -> None:
    samples = samples_of(RGB, 8)
    assert images.furthest(decoded(png_of(samples, RGB, 8, before=extra), 21, 30), wanted(samples, RGB, 8)) == 0


@pytest.mark.parametrize(("kind", "depth"), [(GRAY, 0), (GRAY, 3), (RGB, 4), (PALETTE, 16), (5, 8), (RGB_ALPHA, 2)])
def test_depths_that_a_color_type_has_not_are_errors(kind: int, depth: int) -> None:
    data = bytearray(png_of(samples_of(RGB, 8), RGB, 8))
    data[24:26] = depth, kind
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(DecodeError):
        decoded(bytes(data), 21, 30)


def test_a_palette_that_is_missing_is_an_error() -> None:
    with pytest.raises(DecodeError):
        decoded(png_of(samples_of(PALETTE, 4), PALETTE, 4), 21, 30)


def test_colors_beyond_the_end_of_a_palette_are_those_of_pillow() -> None:
    data = png_of(samples_of(PALETTE, 4), PALETTE, 4, before=chunk(b"PLTE", palette_of(4)[:3].tobytes()))
    with Image.open(io.BytesIO(data)) as image:
        assert images.furthest(decoded(data, 21, 30), image.convert("RGB")) == 0


def _with_end(data: bytes, *chunks: bytes) -> bytes:
    return data[:-12] + b"".join(chunks) + data[-12:]


def _color(*chunks: bytes) -> bytes:
    return png_of(samples_of(RGB, 8), RGB, 8, before=b"".join(chunks))


def _indexed(*chunks: bytes) -> bytes:
    return png_of(samples_of(PALETTE, 4), PALETTE, 4, before=b"".join(chunks))


def _clear(*values: int) -> bytes:
    return chunk(b"tRNS", bytes(values))


PLTE = chunk(b"PLTE", palette_of(4).tobytes())
CORNER = samples_of(RGB, 8)[0, 0].tolist()
ODD_TRANSPARENCY = {
    "in front of the palette": _indexed(_clear(0, 77), PLTE),
    "twice": _indexed(PLTE, _clear(0, 77), _clear(255, 0)),
    "behind the pixels": _with_end(_indexed(PLTE), _clear(0, 77)),
    "of more colors than there are": _indexed(PLTE, _clear(*range(0, 255, 15))),
    "of more colors than its palette has": png_of(
        samples_of(PALETTE, 4) % 8,
        PALETTE,
        4,
        before=chunk(b"PLTE", palette_of(4)[:8].tobytes()) + _clear(*range(0, 250, 25)),
    ),
    "of no color": _indexed(PLTE, _clear()),
    "of an image with alpha": png_of(samples_of(RGB_ALPHA, 8), RGB_ALPHA, 8, before=_clear(*bytes(6))),
    "of a color, too long": _color(_clear(0, CORNER[0], 0, CORNER[1], 0, CORNER[2], 9, 9)),
    "of a color beyond its depth": _color(_clear(1, CORNER[0], 1, CORNER[1], 1, CORNER[2])),
    "of two levels of gray": png_of(samples_of(GRAY, 8), GRAY, 8, before=_clear(0, 1) + _clear(0, 2)),
    "of gray, too long": png_of(samples_of(GRAY, 8), GRAY, 8, before=_clear(0, 1, 0, 2)),
}


@pytest.mark.parametrize("name", ODD_TRANSPARENCY)
def test_odd_transparency_is_taken_as_pillow_takes_it(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = ODD_TRANSPARENCY[name]
    with Image.open(io.BytesIO(data)) as image:
        rgba = image.convert("RGBA")
    below = Image.new("RGBA", rgba.size, (10, 10, 10, 255))
    wanted_pixels = np.asarray(Image.alpha_composite(below, rgba).convert("RGB"))
    assert images.furthest(decoded(data, 21, 30, 10), wanted_pixels) <= 1
    assert capfd.readouterr().err == ""


NO_PNGS = {
    "no pixels": _color()[:33] + chunk(b"IEND", b""),
    "no palette before its pixels": _with_end(_indexed(), PLTE),
    "2 palettes": _indexed(PLTE, PLTE),
    "a palette of 47 bytes": _indexed(chunk(b"PLTE", bytes(47))),
    "a palette of 0 bytes": _indexed(chunk(b"PLTE", b"")),
    "a palette of 771 bytes": _indexed(chunk(b"PLTE", bytes(771))),
    "a second header": _color(_color()[8:33]),
    "an unknown chunk ABCD, which it declares to be critical": _color(chunk(b"ABCD", b"")),
    "its tRNS chunk has 4 of 6 bytes": _color(_clear(0, 1, 0, 2)),
    "its tRNS chunk has 1 of 2 bytes": png_of(samples_of(GRAY, 8), GRAY, 8, before=_clear(1)),
    "the checksum of its tRNS chunk is wrong": _color(_clear(*bytes(6))[:-1] + b"\0"),
}


@pytest.mark.parametrize("what", NO_PNGS)
def test_what_is_missing_or_twice_is_said_here_and_not_by_libpng(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DecodeError, match=what) as caught:
        decoded(NO_PNGS[what], 21, 30)
    assert caught.value.kind is Kind.DAMAGED
    assert capfd.readouterr().err == ""


_GRAY_FILE = png_of(samples_of(GRAY, 8), GRAY, 8)
NO_MASKS = {
    "no pixels": _GRAY_FILE[:33] + chunk(b"IEND", b""),
    "a second header": _GRAY_FILE[:33] + _GRAY_FILE[8:],
    "an unknown chunk ABCD, which it declares to be critical": _with_end(_GRAY_FILE, chunk(b"ABCD", b"")),
    "no palette before its pixels": _indexed(),
    "2 palettes": _indexed(PLTE, PLTE),
    "a palette of 47 bytes": _indexed(chunk(b"PLTE", bytes(47))),
}


@pytest.mark.parametrize("what", NO_MASKS)
def test_what_is_no_png_is_no_mask_either(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = NO_MASKS[what]
    with pytest.raises(DecodeError, match=what):
        numbers_of(data, read_header(data), ImageSpec(size=8))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("at", "method"), [(26, 1), (27, 1), (28, 2)])
def test_methods_that_no_png_has_are_errors(at: int, method: int) -> None:
    data = bytearray(_color())
    data[at] = method
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(DecodeError, match="the png header names the methods"):
        decoded(bytes(data), 21, 30)


def test_a_png_whose_end_is_damaged_has_a_note(capfd: pytest.CaptureFixture[str]) -> None:
    whole = _with_end(_GRAY_FILE, b"")
    odd = whole[:-1] + b"\0", whole[:-12] + chunk(b"IEND", b"more"), whole[:-12] + b"\0\0\0\4IENDmore" + bytes(4)
    for data in (whole, *odd):
        slot = np.empty((21, 30, 3), np.uint8)
        note = decode_into(data, slot, SPEC).note
        assert note == (None if data is whole else "the png has no end chunk; all its pixels are there")
        assert np.array_equal(slot, decoded(whole, 21, 30))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("lost", [1, 4, 8, 12])
def test_a_png_without_its_end_has_a_note(lost: int) -> None:
    data = _with_end(_GRAY_FILE, chunk(b"tEXt", b"Title\0x"))
    whole, cut = (decode_into(each, np.empty((21, 30, 3), np.uint8), SPEC) for each in (data, data[:-lost]))
    numbers_of(data[:-lost], read_header(data), SPEC)
    assert noticed() == cut.note == "the png has no end chunk; all its pixels are there"
    assert images.furthest(decoded(data[:-lost], 21, 30), decoded(data, 21, 30)) == 0
    assert whole.note is None


def test_a_side_that_no_decoder_takes_is_said_here(capfd: pytest.CaptureFixture[str]) -> None:
    data = png_of(np.zeros((1, 1_000_001, 1), np.int64), GRAY, 1)
    with pytest.raises(DecodeError, match="the png has a side of 1,000,001 pixels; 1,000,000 can be decoded"):
        decoded(data, 1, 9)
    assert capfd.readouterr().err == ""
