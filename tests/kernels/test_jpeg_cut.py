"""A cut of a JPEG has the pixels that the whole JPEG has there, bit for bit, and it is made where it can be."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from support import coded_jpeg, images, restart_jpegs

from arraystore._kernels.jpeg_cut import SPARE_BYTES, cut, cut_many
from arraystore._stores.encoded.pieces import _MARGIN

Pixels = npt.NDArray[np.uint8]
Box = restart_jpegs.Box


def cut_of(data: bytes, window: Box, sides: tuple[int, int], margin: int = _MARGIN) -> tuple[bytes, Box] | None:
    """The cut and the box that it shows; None if the kernel does not cut the file."""
    file, placed = np.frombuffer(data, np.uint8), np.full(4, -1, np.int64)
    out = np.empty(len(data) + SPARE_BYTES, np.uint8)
    size = cut(file, np.array([*window, margin], np.int64), sides, out, placed)
    assert 0 <= size <= len(data)
    left, top, width, height = placed.tolist()
    return (out[:size].tobytes(), (left, top, left + width, top + height)) if size else None


def check_pixels(data: bytes, whole: Pixels, window: Box, margin: int = _MARGIN) -> Box | None:
    """Compare a cut with the whole where the window is; return the box of the cut, None if there is none."""
    made = cut_of(data, window, whole.shape[1::-1], margin)
    if made is None:
        return None
    (left, top, right, bottom), (box_left, box_top, box_right, box_bottom) = window, made[1]
    part = restart_jpegs.decoded(made[0])
    assert part.shape == (box_bottom - box_top, box_right - box_left, whole.shape[2])
    shown = part[top - box_top : bottom - box_top, left - box_left : right - box_left]
    np.testing.assert_array_equal(shown, whole[top:bottom, left:right])
    return made[1]


@st.composite
def spans(draw: st.DrawFn, size: int) -> tuple[int, int]:
    """A range of pixels: anywhere, or at an end, or a few pixels beside the side of a block."""
    begin = draw(st.one_of(st.integers(0, size - 1), st.just(0), st.integers(0, (size - 1) // 8).map(lambda b: 8 * b)))
    end = draw(st.one_of(st.integers(begin + 1, size), st.just(size), st.integers(begin + 1, min(begin + 40, size))))
    return begin, end


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    sides = st.one_of(st.integers(1, 600), st.integers(1, 70))
    height, width, sampling = draw(sides), draw(sides), draw(st.sampled_from(list(restart_jpegs.SAMPLINGS)))
    columns, _ = restart_jpegs.units(height, width, sampling)
    regular = [number for number in range(1, 9) if columns % number == 0 or number % columns == 0]
    windows = [(draw(spans(width)), draw(spans(height))) for _ in range(4)]
    return {
        "height": height,
        "width": width,
        "sampling": sampling,
        "restart": draw(st.one_of(st.sampled_from(regular), st.integers(1, 8), st.just(columns), st.just(2 * columns))),
        "quality": draw(st.integers(1, 100)),
        "noise": draw(st.sampled_from([0, 5, 60])),
        "seed": draw(st.integers(0, 2**31)),
        "windows": [(left, top, right, bottom) for (left, right), (top, bottom) in windows],
    }


@settings(max_examples=150)
@given(case=cases())
@example(  # chroma of one column at the right end
    case={
        "height": 16,
        "width": 65,
        "sampling": "420",
        "restart": 1,
        "quality": 90,
        "noise": 60,
        "seed": 0,
        "windows": [(64, 0, 65, 16), (63, 0, 65, 1), (47, 0, 48, 16)],
    }
)
@example(  # chroma of three columns there: the interval is enough
    case={
        "height": 1,
        "width": 41,
        "sampling": "411",
        "restart": 1,
        "quality": 50,
        "noise": 60,
        "seed": 0,
        "windows": [(33, 0, 34, 1)],
    }
)
def test_a_cut_has_the_pixels_of_the_whole(case: dict[str, Any]) -> None:
    sides, sampling, restart = (case["height"], case["width"]), case["sampling"], case["restart"]
    pixels = restart_jpegs.picture(*sides, sampling, seed=case["seed"], noise=case["noise"])
    data = restart_jpegs.jpeg(pixels, sampling, restart, quality=case["quality"])
    whole = restart_jpegs.decoded(data)
    for window in case["windows"]:
        expected = restart_jpegs.box_of_cut(*sides, sampling, restart, window, _MARGIN)
        assert check_pixels(data, whole, window) == expected


LAYOUTS = [
    [(1, 1), (2, 2), (2, 2)],  # luma has fewer samples than chroma
    [(4, 2), (1, 1), (1, 1)],
    [(4, 1), (2, 1), (1, 1)],
    [(3, 1), (1, 1), (1, 1)],
    [(1, 4), (1, 1), (1, 1)],
    [(2, 2), (2, 1), (1, 2)],
    [(2, 1), (2, 1), (2, 1)],  # units of two blocks, and nothing to interpolate
    [(2, 1), (1, 1), (1, 1), (2, 1)],
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_layouts_that_no_encoder_writes(layout: coded_jpeg.Layout) -> None:
    data = coded_jpeg.layout_jpeg(layout, 77, 133, restart=1)
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    rng = np.random.default_rng(0)
    for window in boxes(rng, 77, 133, 100):
        made = cut_of(data, window, (133, 77))
        if made is None:
            assert (window[2] - window[0]) * (window[3] - window[1]) > 3_000
            continue
        part = cv2.imdecode(np.frombuffer(made[0], np.uint8), cv2.IMREAD_COLOR)
        (left, top, right, bottom), (box_left, box_top, *_) = window, made[1]
        shown = part[top - box_top : bottom - box_top, left - box_left : right - box_left]
        np.testing.assert_array_equal(shown, whole[top:bottom, left:right])


def boxes(rng: np.random.Generator, height: int, width: int, count: int) -> list[Box]:
    lefts, tops = rng.integers(0, width, count), rng.integers(0, height, count)
    return [
        (left, top, int(rng.integers(left, width)) + 1, int(rng.integers(top, height)) + 1)
        for left, top in zip(lefts.tolist(), tops.tolist(), strict=True)
    ]


@pytest.mark.parametrize("sampling", restart_jpegs.SAMPLINGS)
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_cut_that_is_decoded_smaller_has_the_pixels_of_the_whole(sampling: str, scale: int) -> None:
    reduced = getattr(cv2, f"IMREAD_REDUCED_COLOR_{scale}")
    rng, cuts = np.random.default_rng(scale), 0
    for height, width in ((144, 103), (39, 133), (60, 33), (101, 116)):
        restart = next(n for n in (3, 2, 1) if restart_jpegs.units(height, width, sampling)[0] % n == 0)
        data = restart_jpegs.jpeg(restart_jpegs.picture(height, width, sampling, noise=60), sampling, restart)
        whole = cv2.imdecode(np.frombuffer(data, np.uint8), reduced)
        for window in boxes(rng, height, width, 150):
            made = cut_of(data, window, (width, height), scale)
            if made is None:
                continue
            part = cv2.imdecode(np.frombuffer(made[0], np.uint8), reduced)
            # Every small pixel that the window touches.
            left, top, right, bottom = (
                window[0] // scale,
                window[1] // scale,
                -(-window[2] // scale),
                -(-window[3] // scale),
            )
            box_left, box_top = made[1][0] // scale, made[1][1] // scale
            shown = part[top - box_top : bottom - box_top, left - box_left : right - box_left]
            np.testing.assert_array_equal(shown, whole[top:bottom, left:right])
            cuts += 1
    assert cuts > 250


PHOTO = images.photo(96, 160)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
WINDOW = (37, 21, 95, 60)


def by_pillow(**options: Any) -> bytes:
    return images.encode(Image.fromarray(PHOTO), "JPEG", **options)


@pytest.mark.parametrize(
    "data",
    [
        by_pillow(restart_marker_blocks=2),
        by_pillow(restart_marker_blocks=5, optimize=True),
        by_pillow(restart_marker_rows=1, subsampling="4:4:4"),
        by_pillow(restart_marker_blocks=1, exif=Image.Exif().tobytes(), icc_profile=SRGB, comment=b"a photo"),
        by_pillow(restart_marker_blocks=2, keep_rgb=True),  # without conversion of colors: an Adobe segment says so
        images.turned(by_pillow(restart_marker_blocks=2, quality=30), 6),
        restart_jpegs.jpeg(PHOTO, "422", 2, options=(cv2.IMWRITE_JPEG_OPTIMIZE, 1)),
    ],
)
def test_files_of_any_writer_are_cut(data: bytes) -> None:
    whole = restart_jpegs.decoded(data)
    assert check_pixels(data, whole, WINDOW) is not None
    made = cut_of(data, WINDOW, (160, 96))
    assert made is not None
    # What applications write is left out. The decoders of Pillow and OpenCV read the cut as well.
    assert not any(name in made[0] for name in (b"Exif", b"ICC_PROFILE", b"a photo"))
    with Image.open(io.BytesIO(made[0])) as image:
        np.testing.assert_array_equal(np.asarray(image), restart_jpegs.decoded(made[0]))
    turned = cv2.imdecode(np.frombuffer(made[0], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(turned[..., ::-1], restart_jpegs.decoded(made[0]))


def test_a_segment_that_says_what_the_colors_are_is_kept() -> None:
    data = restart_jpegs.jpeg(PHOTO, "444", 2)
    begin = 4 + int.from_bytes(data[4:6], "big")  # the JFIF segment says that there is luma and chroma
    adobe = coded_jpeg.segment(0xEE, b"Adobe" + bytes([0, 100, 0, 0, 0, 0, 0]))  # and this one that there is not
    as_rgb = data[:2] + adobe + data[begin:]
    whole = restart_jpegs.decoded(as_rgb)
    assert (whole != restart_jpegs.decoded(data)).any()
    assert check_pixels(as_rgb, whole, WINDOW) is not None


def test_four_channels_are_cut() -> None:
    data = images.encode(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", restart_marker_blocks=2)
    made = cut_of(data, WINDOW, (160, 96))
    assert made is not None
    with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(made[0])) as part:
        assert part.mode == "CMYK"
        left, top = WINDOW[0] - made[1][0], WINDOW[1] - made[1][1]
        box = (left, top, left + WINDOW[2] - WINDOW[0], top + WINDOW[3] - WINDOW[1])
        np.testing.assert_array_equal(np.asarray(part.crop(box)), np.asarray(whole.crop(WINDOW)))


@pytest.mark.parametrize(
    "data",
    [
        images.jpeg(PHOTO),  # by simplejpeg, which writes no restart markers
        by_pillow(),
        by_pillow(progressive=True, restart_marker_blocks=2),
        restart_jpegs.jpeg(PHOTO, "420", 3),  # ten units in a row: intervals begin anywhere
        coded_jpeg.layout_jpeg([(2, 2), (1, 1), (1, 1)], 96, 160, apart=True),
        coded_jpeg.lossless_jpeg(96, 160, 3),
        coded_jpeg.any_frame(0xC9, 96, 160),  # arithmetic codes
        by_pillow(restart_marker_blocks=2)[:-2],  # no end
        images.png(PHOTO),
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
    ],
)
def test_what_has_no_intervals_of_blocks_is_not_cut(data: bytes) -> None:
    assert cut_of(data, WINDOW, (160, 96)) is None


@pytest.mark.parametrize("place", [0, 3, 10, -1])
@pytest.mark.parametrize("change", ["renumber", "drop", "repeat", "end", "stuffed"])
def test_every_marker_must_be_the_expected_one(place: int, change: str) -> None:
    """Also those that are far from the window."""
    data = restart_jpegs.jpeg(PHOTO, "420", 5)
    places = [at for at in range(len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    assert len(places) == 11
    at = places[place]
    changed = {
        "renumber": data[: at + 1] + bytes([0xD0 | (data[at + 1] + 1) % 8]) + data[at + 2 :],
        "drop": data[:at] + data[at + 2 :],
        "repeat": data[:at] + data[at : at + 2] + data[at:],
        "end": data[: at + 1] + b"\xd9" + data[at + 2 :],
        "stuffed": data[:at] + b"\xff\xff\x00" + data[at:],
    }[change]
    assert cut_of(data, (90, 20, 100, 60), (160, 96)) is not None
    assert cut_of(changed, (90, 20, 100, 60), (160, 96)) is None


@pytest.mark.parametrize(
    ("marker", "offset", "value"),
    [
        (0xC0, 4, 12),  # bits
        (0xC0, 9, 2),  # components
        (0xC0, 11, 0x20),
        (0xC0, 11, 0x52),
        (0xC0, 1, 0xC2),  # progressive
        (0xC0, 1, 0xC9),  # arithmetic codes
        (0xDD, 3, 5),
        (0xDA, 4, 1),  # a scan of one component
        (0xDA, 11, 1),  # of some waves
        (0xDA, 12, 5),
        (0xDA, 13, 0x10),  # of some bits
    ],
)
def test_other_headers_are_not_cut(marker: int, offset: int, value: int) -> None:
    data = bytearray(restart_jpegs.jpeg(PHOTO, "420", 2))
    data[data.index(bytes([0xFF, marker])) + offset] = value
    assert cut_of(bytes(data), WINDOW, (160, 96)) is None


def test_the_factors_of_one_component_mean_nothing() -> None:
    data = bytearray(restart_jpegs.jpeg(PHOTO[..., 0], "gray", 5))
    data[data.index(b"\xff\xc0") + 11] = 0x22
    assert check_pixels(bytes(data), restart_jpegs.decoded(bytes(data)), WINDOW) == (0, 16, 120, 64)


@pytest.mark.parametrize("marker", [0xC0, 0xDA])
def test_a_second_header_is_not_cut(marker: int) -> None:
    data = restart_jpegs.jpeg(PHOTO, "420", 2)
    at = data.index(bytes([0xFF, marker]))
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    assert cut_of(data[:end] + data[at:], WINDOW, (160, 96)) is None


def test_bytes_that_decoders_skip_are_skipped() -> None:
    data = by_pillow(restart_marker_blocks=2)
    whole = restart_jpegs.decoded(data)
    for number in range(8):
        data = data.replace(b"\xff" + bytes([0xD0 + number]), b"\xff\xff\xff" + bytes([0xD0 + number]))
    data = data.replace(b"\xff\xdb", b"\xff\xff\xdb") + b"anything"
    assert check_pixels(data, whole, WINDOW) == (32, 16, 96, 64)


def test_a_window_of_the_whole_is_not_cut() -> None:
    data = restart_jpegs.jpeg(PHOTO, "420", 2)
    assert cut_of(data, (0, 0, 160, 96), (160, 96)) is None
    assert cut_of(data, (31, 15, 129, 81), (160, 96)) is None  # the margin reaches the last blocks
    assert cut_of(data, (33, 17, 127, 79), (160, 96)) is not None


@pytest.mark.parametrize("window", [(160, 0, 170, 96), (0, 96, 9, 99), (-9, 0, -1, 9), (5, 5, 5, 9), (9, 9, 5, 12)])
def test_a_window_without_pixels_is_not_cut(window: Box) -> None:
    assert cut_of(restart_jpegs.jpeg(PHOTO, "444", 2), window, (160, 96)) is None


@pytest.mark.parametrize("end", [-(1 << 63), (1 << 63) - 1, 0])
@pytest.mark.parametrize("place", range(5))
def test_any_number_is_a_window(end: int, place: int) -> None:
    data = restart_jpegs.jpeg(PHOTO, "420", 2)
    numbers = [*WINDOW, 1]
    numbers[place] = end
    made = cut_of(data, tuple(numbers[:4]), (160, 96), numbers[4])
    assert made is None or restart_jpegs.decoded(made[0]).shape == (made[1][3] - made[1][1], made[1][2] - made[1][0], 3)


def test_a_window_beyond_the_image_is_cut_up_to_its_sides() -> None:
    data = restart_jpegs.jpeg(PHOTO, "444", 2)
    made = cut_of(data, (130, -20, 200, 20), (160, 96))
    assert made is not None
    assert made[1] == (128, 0, 160, 24)


@pytest.mark.parametrize("sides", [(96, 160), (160, 97), (144, 96), (0, 0)])
def test_a_file_of_other_sides_is_not_cut(sides: tuple[int, int]) -> None:
    assert cut_of(restart_jpegs.jpeg(PHOTO, "420", 2), WINDOW, sides) is None


def test_too_little_room_is_not_written() -> None:
    file = np.frombuffer(restart_jpegs.jpeg(PHOTO, "420", 2), np.uint8)
    for missing in (1, SPARE_BYTES, SPARE_BYTES + 1, file.size + SPARE_BYTES):
        out = np.full(file.size + SPARE_BYTES - missing, 7, np.uint8)
        assert cut(file, np.array([*WINDOW, 1], np.int64), (160, 96), out, np.zeros(4, np.int64)) == 0
        assert (out == 7).all()


def test_many_are_cut_as_each_is() -> None:
    whole = [restart_jpegs.jpeg(images.photo(96, 160, seed=seed), "420", 2) for seed in range(4)]
    files = [whole[0], images.jpeg(PHOTO), b"", whole[1], restart_jpegs.jpeg(PHOTO[:90], "420", 2), whole[2], whole[3]]
    rng = np.random.default_rng(0)
    windows = boxes(rng, 96, 160, len(files))
    ends = np.cumsum([len(file) for file in files])
    starts = ends - [len(file) for file in files]
    data = np.frombuffer(b"".join(files), np.uint8)
    out = np.empty(data.size + SPARE_BYTES * len(files), np.uint8)
    placed = np.full((len(files), 6), -1, np.int64)
    sides = np.tile(np.array([160, 96], np.int64), (len(windows), 1))
    cut_many(data, starts, ends, np.array([(*box, 1) for box in windows], np.int64), sides, out, placed)
    for file, window, row in zip(files, windows, placed.tolist(), strict=True):
        made = cut_of(file, window, (160, 96))
        if made is None:
            assert row == [0, 0, 0, 0, 160, 96]
        else:
            box = (row[2], row[3], row[2] + row[4], row[3] + row[5])
            assert (out[row[0] : row[1]].tobytes(), box) == made
    assert (placed[[0, 3, 5, 6], 1] > 0).all()
    assert not placed[[1, 2, 4], 1].any()


def test_files_that_lie_outside_or_have_no_room_are_not_cut() -> None:
    file = restart_jpegs.jpeg(PHOTO, "420", 2)
    size = len(file)
    data = np.frombuffer(file * 2, np.uint8)
    most, least = (1 << 63) - 1, -(1 << 63)
    places = [
        (0, size),
        (-2 * size, -size),
        (size, 2 * size + 1),
        (size, 0),
        (least, most),
        (most, least),
        (size, 2 * size),
    ]
    starts, ends = (np.array(column, np.int64) for column in zip(*places, strict=True))
    out, placed = np.empty(2 * (size + SPARE_BYTES), np.uint8), np.full((len(places), 6), -1, np.int64)
    windows = np.array([(*WINDOW, 1)] * len(places), np.int64)
    sides = np.array([(160, 96)] * len(places), np.int64)
    cut_many(data, starts, ends, windows, sides, out, placed)
    assert (placed[:, 1] > 0).tolist() == [True, False, False, False, False, False, True]
    assert (placed[1:6] == (0, 0, 0, 0, 160, 96)).all()
    cut_many(data, starts, ends, windows, sides, out[:-1], placed)
    assert (placed[:, 1] > 0).tolist() == [True, False, False, False, False, False, False]
