"""JPEGs get restart markers, and their pixels stay, bit for bit; whatever cannot be moved is left as it is."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from support import coded_jpeg, images, restart_jpegs
from support.restart_mutants import segments

from arraystore._decoding.jpeg.restarting import _with_all_sizes, with_restart_markers
from arraystore._kernels.jpeg_cut import SPARE_BYTES, cut

PHOTO = images.photo(96, 160)
INTERVAL, TABLES = 0xDD, 0xC4


def moved(data: bytes, interval: int | None = None) -> bytes:
    made = with_restart_markers(data, interval)
    assert made is not None
    return made


def markers(data: bytes) -> tuple[int, list[int]]:
    """What the file says of its interval, and the numbers of its markers."""
    parts = segments(data)
    (said,) = (data[at + 4 : end] for at, end in parts if data[at + 1] == INTERVAL)
    begin, end = parts[-1][1], data.index(b"\xff\xd9", parts[-1][1])
    numbers = [data[at + 1] - 0xD0 for at in range(begin, end) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    return int.from_bytes(said, "big"), numbers


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    sides = st.one_of(st.integers(1, 40), st.integers(1, 300))
    height, width, sampling = draw(sides), draw(sides), draw(st.sampled_from(list(restart_jpegs.SAMPLINGS)))
    columns, _ = restart_jpegs.units(height, width, sampling)
    return {
        "height": height,
        "width": width,
        "sampling": sampling,
        "before": draw(st.one_of(st.just(0), st.integers(1, 2 * columns))),
        "interval": draw(st.one_of(st.integers(1, columns), st.integers(1, 8))),
        "quality": draw(st.integers(1, 100)),
        "noise": draw(st.sampled_from([0, 5, 60, 200])),
        "seed": draw(st.integers(0, 2**31)),
        "options": draw(st.sampled_from([(), (cv2.IMWRITE_JPEG_OPTIMIZE, 1)])),
    }


@settings(max_examples=100)
@given(case=cases())
def test_the_pixels_stay(case: dict[str, Any]) -> None:
    height, width, sampling, interval = (case[name] for name in ("height", "width", "sampling", "interval"))
    pixels = restart_jpegs.picture(height, width, sampling, seed=case["seed"], noise=case["noise"])
    data = restart_jpegs.jpeg(pixels, sampling, case["before"], quality=case["quality"], options=case["options"])
    made = moved(data, interval)
    np.testing.assert_array_equal(restart_jpegs.decoded(made), restart_jpegs.decoded(data))
    columns, rows = restart_jpegs.units(height, width, sampling)
    assert markers(made) == (interval, [number % 8 for number in range(-(-columns * rows // interval) - 1)])
    assert moved(made, interval) == made
    if case["before"]:  # and back again: no bit is lost; the table of codes may have more than before
        again = moved(made, case["before"])
        scan = data[segments(data)[-1][1] :]
        assert again.endswith(scan)


LAYOUTS = [
    [(1, 1), (2, 2), (2, 2)],
    [(4, 2), (1, 1), (1, 1)],
    [(3, 1), (1, 1), (1, 1)],
    [(1, 4), (1, 1), (1, 1)],
    [(2, 2), (2, 1), (1, 2)],
    [(2, 1), (1, 1), (1, 1), (2, 1)],
    [(2, 2)],  # one component: its factors mean nothing
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_layouts_that_no_encoder_writes(layout: coded_jpeg.Layout) -> None:
    data = coded_jpeg.layout_jpeg(layout, 77, 133, restart=3)
    for interval in (1, 2, 5, 400):
        made = moved(data, interval)
        whole, again = (cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_COLOR) for each in (data, made))
        np.testing.assert_array_equal(again, whole)


def by_pillow(image: Image.Image | None = None, **options: Any) -> bytes:
    return images.encode(image or Image.fromarray(PHOTO), "JPEG", **options)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'></x:xmpmeta>"


@pytest.mark.parametrize(
    "data",
    [
        by_pillow(),
        by_pillow(restart_marker_rows=1),
        by_pillow(exif=Image.Exif().tobytes(), icc_profile=SRGB, comment=b"a photo", xmp=XMP, dpi=(300, 300)),
        by_pillow(keep_rgb=True),
        by_pillow(Image.fromarray(PHOTO).convert("CMYK")),
        by_pillow(Image.fromarray(PHOTO).convert("L"), optimize=True),
        images.jpeg(PHOTO, orientation=6),
        by_pillow() + b"another image" + by_pillow(),
        by_pillow(optimize=True, quality=30),
    ],
)
def test_all_else_stays_byte_for_byte(data: bytes) -> None:
    made = moved(data)
    kept = [data[at:end] for at, end in segments(data) if data[at + 1] != INTERVAL]
    now = [made[at:end] for at, end in segments(made)]
    assert now[-2] == b"\xff\xdd\0\4\0\2"
    added = now[len(kept) - 1 : -2]
    assert now == [*kept[:-1], *added, now[-2], kept[-1]]
    assert all(each[1] == TABLES for each in added)
    assert (
        made[made.index(b"\xff\xd9", segments(made)[-1][1]) :] == data[data.index(b"\xff\xd9", len(b"".join(kept))) :]
    )
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(made)) as after:
        assert after.info == before.info
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


def test_a_table_that_lacks_a_code_gets_it() -> None:
    """Differences are small in this image, and the first values are not; the codes that are there stay."""
    rows = np.linspace(90, 250, 64).astype(np.uint8)
    data = restart_jpegs.jpeg(np.repeat(rows[:, None], 64, 1), "gray", 0, options=(cv2.IMWRITE_JPEG_OPTIMIZE, 1))
    made = moved(data, 4)
    np.testing.assert_array_equal(restart_jpegs.decoded(made), restart_jpegs.decoded(data))
    before, after = (
        [each[at + 4 : end] for at, end in segments(each) if each[at + 1] == TABLES] for each in (data, made)
    )
    assert after[:-1] == before
    (own,) = (each for each in before if each[0] == 0)
    longest = max(length for length in range(1, 17) if own[length])
    assert after[-1][:longest] == own[:longest]
    assert after[-1][17:].startswith(own[17:])
    assert sorted(after[-1][17:]) == list(range(12))


@pytest.mark.parametrize(
    ("counts", "symbols", "expected"),
    [
        ({2: 3}, (3, 0, 9), {2: 3, 6: 9}),  # nine are missing: a code of two bits becomes sixteen of six
        ({1: 1, 2: 1, 15: 1}, (0, 1, 2), {1: 1, 2: 1, 15: 1, 16: 9}),
        ({}, (), {4: 12}),
        ({1: 2}, (0, 1), None),
        ({1: 1, **dict.fromkeys(range(2, 17), 1)}, tuple(range(4, 20)), None),
        ({4: 12}, tuple(range(12)), {4: 12}),
    ],
)
def test_codes_that_are_added_have_room(
    counts: dict[int, int], symbols: tuple[int, ...], expected: dict[int, int] | None
) -> None:
    def listed(of_length: dict[int, int]) -> bytes:
        return bytes(of_length.get(length, 0) for length in range(1, 17))

    made = _with_all_sizes((listed(counts), bytes(symbols)))
    if expected is None:
        assert made is None
    else:
        missing = [size for size in range(12) if size not in symbols]
        assert made == (listed(expected), bytes((*symbols, *missing)))


@pytest.mark.parametrize(
    ("width", "sampling", "expected"), [(160, "420", 2), (144, "420", 1), (9, "444", 2), (5, "411", 1)]
)
def test_the_interval_is_that_of_stores(width: int, sampling: str, expected: int) -> None:
    pixels = restart_jpegs.picture(20, width, sampling)
    data = restart_jpegs.jpeg(pixels, sampling, 0)
    assert markers(moved(data))[0] == expected
    assert moved(data, expected) == moved(data)


@pytest.mark.parametrize("interval", [0, -1, 65_536])
def test_no_other_intervals(interval: int) -> None:
    with pytest.raises(ValueError, match=rf"^restart markers are set after 1 to 65,535 units, not after {interval}$"):
        with_restart_markers(by_pillow(), interval)


def changed(marker: int, offset: int, value: int) -> bytes:
    data = bytearray(by_pillow())
    data[data.index(bytes([0xFF, marker])) + offset] = value
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        by_pillow(progressive=True),
        coded_jpeg.layout_jpeg([(2, 2), (1, 1), (1, 1)], 96, 160, apart=True),
        coded_jpeg.layout_jpeg([(4, 2), (2, 1), (1, 1)], 96, 160),  # units of eleven blocks, which libjpeg refuses
        coded_jpeg.lossless_jpeg(96, 160, 3),
        coded_jpeg.any_frame(0xC9, 96, 160),  # arithmetic codes
        images.png(PHOTO),
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        changed(0xC0, 4, 12),  # bits
        changed(0xC0, 9, 2),  # components
        changed(0xC0, 5, 0xFF),  # rows
        changed(0xC0, 11, 0x02),  # factors
        changed(0xC0, 11, 0x52),
        changed(0xC4, 4, 4),  # number of a table
        changed(0xC4, 4, 1),
        changed(0xC4, 5, 3),  # codes of one bit
        changed(0xC4, 20, 255),
        changed(0xDA, 4, 1),
        changed(0xDA, 5, 2),  # another order
        changed(0xDA, 6, 0x22),  # no such tables
        changed(0xDA, 11, 1),
        changed(0xDA, 12, 5),
        changed(0xDA, 13, 0x10),
        by_pillow().replace(b"\xff\xda", b"\xff\xdd\0\5\0\2\0\xff\xda"),
        by_pillow(restart_marker_blocks=2).replace(b"\xff\xd3", b"\xff\xd4"),
        by_pillow(restart_marker_blocks=2).replace(b"\xff\xd3", b"\0\0\xff\xd3"),
        by_pillow()[:-2] + b"\xff\xd0\xff\xd9",
        by_pillow()[:-2] + b"\xff\xdc\0\4\0\x60\xff\xd9",  # rows are counted behind the scan
    ],
)
def test_other_files_are_left_as_they_are(data: bytes) -> None:
    assert with_restart_markers(data, 3) is None


def test_a_file_that_ends_anywhere_is_left_as_it_is() -> None:
    data = restart_jpegs.jpeg(restart_jpegs.picture(40, 50, "420", noise=60), "420", 2)
    assert with_restart_markers(data, 1) is not None
    for size in range(len(data)):
        assert with_restart_markers(data[:size], 1) is None
        assert with_restart_markers(data[: max(size - 1, 0)] + b"\xff", 1) is None


def test_padding_before_markers_is_skipped_and_that_of_bits_may_be_anything() -> None:
    data = restart_jpegs.jpeg(restart_jpegs.picture(40, 50, "420", noise=60), "420", 2)
    padded = data
    for number in range(8):
        padded = padded.replace(bytes([0xFF, 0xD0 + number]), b"\xff\xff\xff" + bytes([0xD0 + number]))
    assert padded != data
    assert moved(padded, 1) == moved(data, 1)
    data, ended = by_pillow(), len(by_pillow()) - 3
    assert data[ended] & 1
    zero = data[:ended] + bytes([data[ended] & 0xFE]) + data[ended + 1 :]
    assert moved(zero, 3) == moved(data, 3)


def test_values_that_no_encoder_writes_are_refused() -> None:
    """Differences add up to a DC value that no code stands for."""
    bits = coded_jpeg._Bits()
    for _ in range(2):
        coded_jpeg._block(bits, type("", (), {"randrange": lambda *_: 0})(), 1500)  # type: ignore[arg-type]
    head = b"\xff\xd8" + coded_jpeg.tables() + coded_jpeg.frame(0xC0, 8, 16, [(1, 1)]) + coded_jpeg.scan([0])
    data = head + bits.done() + b"\xff\xd9"
    assert with_restart_markers(data, 2) is not None
    assert with_restart_markers(data, 1) is None


@pytest.mark.parametrize("sampling", restart_jpegs.SAMPLINGS)
def test_windows_are_cut_out_of_it(sampling: str) -> None:
    data = images.jpeg(PHOTO if sampling != "gray" else PHOTO[..., 0], subsampling=sampling.replace("gray", "444"))
    file = np.frombuffer(moved(data), np.uint8)
    out, placed = np.empty(file.size + SPARE_BYTES, np.uint8), np.zeros(4, np.int64)
    size = cut(file, np.array([70, 40, 90, 60, 1]), (160, 96), out, placed)
    assert 0 < size < len(data) // 2
    left, top, width, height = placed.tolist()
    part = restart_jpegs.decoded(out[:size])
    inside = restart_jpegs.decoded(data)[40:60, 70:90]
    assert (height, width) == part.shape[:2]
    np.testing.assert_array_equal(part[40 - top : 60 - top, 70 - left : 90 - left], inside)


def test_any_kind_of_bytes_is_taken() -> None:
    data = by_pillow()
    for kind in (bytearray, memoryview):
        assert with_restart_markers(kind(data), 3) == with_restart_markers(data, 3)  # type: ignore[arg-type]
    assert simplejpeg.decode_jpeg(with_restart_markers(memoryview(data))).shape == (96, 160, 3)
