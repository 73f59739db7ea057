"""Bytes become a slot: the pixels are Pillow's, upright, and whatever is wrong is a DecodeError with a reason."""

from __future__ import annotations

import io
import re
import resource
import tracemalloc
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support import images

from arraystore import DecodeError, ImageSpec
from arraystore._decoding import decode as module
from arraystore._decoding.decode import decode_into

SUBSAMPLINGS = ["444", "422", "420", "440"]


def decoded(data: Any, **options: Any) -> images.Pixels:
    """The slot in NHWC, (H, W, C)."""
    spec = ImageSpec(**({"size": (48, 64), "layout": "NHWC", "exact": True} | options))
    slot = np.full(spec.slot_shape, 77, np.uint8)
    decode_into(data, slot, spec)
    return slot if spec.layout == "NHWC" else slot.transpose(1, 2, 0)


def by_pillow(data: bytes, size: tuple[int, int] = (48, 64)) -> images.Pixels:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def difference(one: images.Pixels, other: images.Pixels) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.fixture
def factors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects by how much each JPEG is shrunk while it is decoded."""
    seen: list[int] = []
    original = simplejpeg.decode_jpeg

    def decode_jpeg(data: Any, **options: Any) -> Any:
        seen.append(int(options["min_factor"]))
        return original(data, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode_jpeg)
    return seen


# --- the same pixels as Pillow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(333, 447), (97, 131), (48, 64), (16, 16), (9, 301), (1, 1)])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_a_jpeg_has_the_pixels_of_pillow(subsampling: str, size: tuple[int, int]) -> None:
    data = images.jpeg(images.photo(*size), subsampling=subsampling)
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


@pytest.mark.parametrize("size", [(333, 447), (31, 17)])
def test_gray_and_progressive_jpegs_have_the_pixels_of_pillow(size: tuple[int, int]) -> None:
    pixels = images.photo(*size)
    for data in (images.progressive(pixels), images.jpeg(pixels[..., 0].copy())):
        np.testing.assert_array_equal(decoded(data), by_pillow(data))


def test_a_png_has_the_pixels_of_pillow() -> None:
    data = images.png(images.noise(100, 77))
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_will_do(kind: Any) -> None:
    for data in (images.jpeg(images.photo(90, 80)), images.png(images.photo(90, 80))):
        np.testing.assert_array_equal(decoded(kind(data)), decoded(data))


def test_the_size_of_the_whole_upright_image_is_returned() -> None:
    spec = ImageSpec(size=8, fit="crop")
    slot = np.empty(spec.slot_shape, np.uint8)
    pixels = images.photo(90, 50)
    assert decode_into(images.jpeg(pixels), slot, spec)[:2] == (90, 50)
    assert decode_into(images.jpeg(pixels, orientation=6), slot, spec)[:2] == (50, 90)
    assert decode_into(images.png(pixels), slot, spec)[:2] == (90, 50)
    assert decode_into(pixels, slot, spec)[:2] == (90, 50)


@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("gray_source", [False, True])
def test_layouts_hold_the_same_pixels(color: Any, fit: Any, gray_source: Any) -> None:
    pixels = images.photo(70, 110)
    data = images.jpeg(pixels[..., 0].copy() if gray_source else pixels)
    options = {"color": color, "fit": fit, "background": (10, 200, 30)}
    planar = decoded(data, layout="NCHW", **options)
    assert planar.shape == (48, 64, 3 if color == "rgb" else 1)
    np.testing.assert_array_equal(planar, decoded(data, layout="NHWC", **options))


# --- color ----------------------------------------------------------------------------------------------------------


def test_gray_of_a_jpeg_is_its_luma() -> None:
    data = images.jpeg(images.photo(133, 171))
    image = Image.open(io.BytesIO(data))
    image.draft("L", image.size)
    expected = np.asarray(image.resize((64, 48), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decoded(data, color="gray")[..., 0], expected)


def test_gray_of_pixels_is_that_of_pillow() -> None:
    pixels = images.noise(90, 101)
    expected = np.asarray(Image.fromarray(pixels).convert("L").resize((64, 48), Image.Resampling.BILINEAR))
    for data in (pixels, images.png(pixels)):
        np.testing.assert_array_equal(decoded(data, color="gray")[..., 0], expected)


def test_every_gray_level_is_rounded_as_pillow_does() -> None:
    cube = np.stack(np.meshgrid(*[np.arange(0, 256, 5, dtype=np.uint8)] * 3), axis=-1).reshape(52, -1, 3)
    expected = np.asarray(Image.fromarray(cube).convert("L"))
    np.testing.assert_array_equal(decoded(cube, color="gray", size=cube.shape[:2])[..., 0], expected)


@pytest.mark.parametrize("shape", [(60, 70), (60, 70, 1)])
def test_a_gray_image_becomes_three_equal_channels(shape: tuple[int, ...]) -> None:
    slot = decoded(images.noise(60, 70, 1).reshape(shape))
    assert (slot == slot[..., :1]).all()
    np.testing.assert_array_equal(slot[..., :1], decoded(images.noise(60, 70, 1), color="gray"))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("data", [images.photo(30, 90), images.jpeg(images.photo(90, 30)), images.noise(30, 90, 1)])
def test_padding_is_background(layout: Any, data: Any) -> None:
    slot = decoded(data, fit="pad", size=60, background=(1, 2, 3), layout=layout)
    wide = not isinstance(data, bytes)
    beside = np.concatenate([slot[:20], slot[40:]] if wide else [slot[:, :20], slot[:, 40:]], axis=0 if wide else 1)
    assert (beside == (1, 2, 3)).all()
    luma = Image.new("RGB", (1, 1), (200, 100, 50)).convert("L").getpixel((0, 0))
    gray = decoded(data, fit="pad", size=60, background=(200, 100, 50), layout=layout, color="gray")
    assert gray[0, 0, 0] == gray[-1, -1, 0] == luma


# --- decoding at a smaller scale -------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("size", [(1000, 1400), (777, 531), (400, 400)])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_scaled_decoding_is_within_its_bound(
    size: tuple[int, int], subsampling: str, fit: Any, factors: list[int]
) -> None:
    data = images.jpeg(images.photo(*size), subsampling=subsampling)
    scaled = decoded(data, exact=False, fit=fit)
    full = decoded(data, exact=True, fit=fit)
    assert factors[0] > 1
    assert factors[1] == 1
    assert difference(scaled, full) < 0.6


@pytest.mark.parametrize(
    ("size", "factor"),
    [
        ((191, 256), 1),
        ((192, 255), 1),
        ((192, 256), 2),
        ((384, 511), 2),
        ((384, 512), 4),
        ((768, 1023), 4),
        ((768, 1024), 8),
        ((3000, 4000), 8),
        ((96, 4000), 1),
    ],
)
def test_the_scale_leaves_at_least_twice_the_target(size: tuple[int, int], factor: int, factors: list[int]) -> None:
    decoded(images.jpeg(np.zeros((*size, 3), np.uint8)), exact=False)
    assert factors == [factor]


@settings(max_examples=60)
@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from(["stretch", "crop", "pad"]),
)
def test_any_scale_leaves_at_least_twice_the_target(
    height: int, width: int, to_height: int, to_width: int, fit: Any
) -> None:
    placement = ImageSpec(size=(to_height, to_width), fit=fit).place(height, width)
    factor = module._reduction(placement)
    left, top, right, bottom = placement.box
    assert factor in (1, 2, 4, 8)
    assert factor == 1 or (bottom - top) / factor >= 2 * placement.height
    assert factor == 1 or (right - left) / factor >= 2 * placement.width
    double = 2 * factor
    if factor < 8:
        assert (bottom - top) / double < 2 * placement.height or (right - left) / double < 2 * placement.width


def test_nearest_is_never_scaled(factors: list[int]) -> None:
    decoded(images.jpeg(images.photo(1000, 1400)), exact=False, filter="nearest")
    assert factors == [1]


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(333, 447), (100, 61), (2, 3)])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_images_are_made_upright(orientation: int, size: tuple[int, int], fit: Any) -> None:
    data = images.jpeg(images.photo(*size), orientation=orientation)
    upright = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decoded(data, fit=fit), decoded(upright, fit=fit))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1001, 1403), (1407, 1002), (1003, 1005), (1000, 1400)])
@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_scaled_images_are_made_upright(orientation: int, size: tuple[int, int], fit: Any, factors: list[int]) -> None:
    data = images.jpeg(images.photo(*size), orientation=orientation)
    exact = decoded(data, fit=fit, size=(61, 55), exact=True)
    scaled = decoded(data, fit=fit, size=(61, 55), exact=False)
    assert factors == [1, 8]
    assert difference(scaled, exact) < 0.6
    if fit == "stretch":
        np.testing.assert_array_equal(exact, by_pillow(data, (61, 55)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_part_pixel_at_the_edge_is_on_the_right_side(orientation: int) -> None:
    # 8 k + 1 columns: the last stored one covers an eighth of a pixel. A box off by that much moves every edge.
    y, x = np.mgrid[0:1001, 0:1001]
    ramp = np.stack([x * 255 / 1000, y * 255 / 1000, (x + y) * 255 / 2000], axis=-1).astype(np.uint8)
    data = images.jpeg(ramp, orientation=orientation, subsampling="444", quality=98)
    shift = decoded(data, size=62, exact=False).astype(int) - decoded(data, size=62, exact=True)
    # Seven eighths of a scaled pixel on the wrong side would be 7 px of 1001, that is 1.8 gray levels, everywhere.
    assert np.abs(shift[4:-4, 4:-4].mean((0, 1))).max() < 0.5


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_gray_jpeg_is_made_upright(orientation: int) -> None:
    data = images.jpeg(images.photo(50, 71)[..., 1].copy(), orientation=orientation)
    np.testing.assert_array_equal(decoded(data), by_pillow(data))
    np.testing.assert_array_equal(decoded(data, color="gray")[..., 0], by_pillow(data)[..., 0])


# --- refusals --------------------------------------------------------------------------------------------------------


def check_error(error: DecodeError) -> None:
    assert error.kind
    assert str(error).startswith(error.reason)
    assert error.reason


def refusal(data: Any, **options: Any) -> str:
    with pytest.raises(DecodeError) as caught:
        decoded(data, **options)
    check_error(caught.value)
    return str(caught.value)


def test_a_lying_header_is_refused_before_memory_is_taken() -> None:
    data = images.bomb()
    assert len(data) < 1000
    decoded(images.jpeg(images.photo(9, 9)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    message = refusal(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    assert message == (
        "its header says 60000 x 60000 pixels, more than max_pixels = 178,000,000: "
        "if that is right, pass max_pixels=3600000000"
    )


@pytest.mark.parametrize("encode", [images.jpeg, images.png])
def test_max_pixels_is_the_largest_number_accepted(encode: Any) -> None:
    data = encode(images.photo(30, 40))
    decoded(data, max_pixels=1200)
    assert refusal(data, max_pixels=1199).startswith("its header says 40 x 30 pixels, more than max_pixels = 1,199: ")


@pytest.mark.parametrize("make", [images.jpeg, images.progressive], ids=["baseline", "progressive"])
def test_a_jpeg_that_ends_early_is_refused_wherever_it_ends(make: Any) -> None:
    data = make(images.noise(64, 80))
    decoded(data)
    cuts = {*range(len(data) - 6, len(data) // 2, -97), *range(0, len(data) // 2, 61), *range(8)}
    for cut in cuts:
        assert refusal(data[:cut]), cut


def test_what_is_said_of_a_jpeg_that_ends_early() -> None:
    data = images.jpeg(images.noise(64, 80))
    message = refusal(data[: len(data) // 2])
    assert re.fullmatch(r"the JPEG ends early or pixels are missing \(.*[Pp]remature end of JPEG file.*\)", message)
    assert refusal(b"") == "the file is empty"
    assert refusal(b"GIF") == "not an image in a known format (starts with b'GIF')"


def test_a_scaled_jpeg_that_ends_early_is_refused_too() -> None:
    data = images.jpeg(images.photo(800, 1100))
    for cut in range(len(data) // 3, len(data) - 6, len(data) // 9):
        assert "ends early" in refusal(data[:cut], exact=False)


def test_damage_is_refused_with_the_decoders_reason() -> None:
    base = images.jpeg(images.noise(200, 200), quality=95)
    # JPEG has no checksums, and the decoder takes a code that is none for a zero: only lost pixels are noticed.
    for at in range(len(base) // 4, len(base) // 2, len(base) // 40):
        for stray in (b"\xff\xd9", b"\xff\xd3", b"\xff\xfe\x00\x09garbage"):
            message = refusal(base[:at] + stray + base[at + len(stray) :])
            assert message == (
                "the JPEG ends early or pixels are missing (Corrupt JPEG data: premature end of data segment)"
            )
    tables = base.index(b"\xff\xc4")
    damaged = base[: tables + 8] + b"\xff" * 8 + base[tables + 16 :]
    assert re.fullmatch(r"the JPEG is damaged \(.+\)", refusal(damaged))


def test_a_restart_marker_that_comes_too_early_means_lost_pixels() -> None:
    with io.BytesIO() as file:
        Image.fromarray(images.noise(160, 160)).save(file, "JPEG", quality=90, restart_marker_rows=1)
        data = file.getvalue()
    decoded(data)
    first, second = data.index(b"\xff\xd0"), data.index(b"\xff\xd1")
    assert second - first > 200
    for removed in (20, 90):  # bytes of the second row of blocks are gone
        assert refusal(data[: first + 50] + data[first + 50 + removed :])


def test_garbage_after_the_end_is_let_through() -> None:
    data = images.jpeg(images.photo(64, 80))
    for tail in (b"\0", b"garbage" * 100, b"\xff\xd8\xff\xe0", data):
        np.testing.assert_array_equal(decoded(data + tail), decoded(data))


def test_stray_bytes_before_a_marker_are_let_through() -> None:
    data = images.jpeg(images.photo(64, 80))
    at = data.index(b"\xff\xdb")
    for stray in (b"\0", b"\0\0\0\0", b"stray bytes"):
        np.testing.assert_array_equal(decoded(data[:at] + stray + data[at:]), by_pillow(data))


def test_stray_bytes_do_not_hide_an_early_end() -> None:
    data = images.jpeg(images.noise(64, 80))
    at = data.index(b"\xff\xdb")
    broken = data[:at] + b"stray bytes" + data[at : len(data) // 2]
    assert refusal(broken)


def test_stray_bytes_do_not_change_the_orientation() -> None:
    data = images.jpeg(images.photo(64, 80), orientation=6)
    at = data.index(b"\xff\xdb")
    np.testing.assert_array_equal(decoded(data[:at] + b"\0\0" + data[at:]), decoded(data))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 of shape (4, 4, 3)"),
        (np.zeros((4, 4, 3), np.int8), "int8 of shape (4, 4, 3)"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 of shape (4, 4, 4)"),
        (np.zeros((3, 4, 4), np.uint8), "uint8 of shape (3, 4, 4)"),
        (np.zeros((4,), np.uint8), "uint8 of shape (4,)"),
        (np.zeros((), np.uint8), "uint8 of shape ()"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 of shape (0, 4, 3)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "uint8 of shape (1, 4, 4, 3)"),
        (np.array(["x"]), "<U1 of shape (1,)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "array",
)
def test_an_array_that_is_no_image_is_refused(array: Any, said: str) -> None:
    wanted = "an array source must be uint8 of shape (H, W), (H, W, 1) or (H, W, 3)"
    assert refusal(array) == f"{wanted}, not {said}"


def test_arrays_need_not_be_contiguous_nor_writable() -> None:
    pixels = images.noise(60, 80)
    expected = decoded(pixels)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(decoded(pixels), expected)
    np.testing.assert_array_equal(decoded(np.asfortranarray(pixels)), expected)
    np.testing.assert_array_equal(decoded(np.repeat(pixels, 2, axis=1)[:, ::2]), expected)
    np.testing.assert_array_equal(decoded(pixels[::-1, ::-1][::-1, ::-1]), expected)


BASES = [
    images.jpeg(images.noise(40, 50, seed=1)),
    images.jpeg(images.photo(200, 210), subsampling="444"),
    images.progressive(images.photo(60, 50)),
    images.jpeg(images.photo(33, 47), orientation=7),
    images.png(images.photo(30, 20)),
]


@settings(max_examples=250)
@given(
    st.sampled_from(BASES),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.floats(0, 1.2),
    st.binary(max_size=6),
)
def test_changed_bytes_give_a_slot_or_a_decode_error(
    base: bytes, changes: list[tuple[float, int]], end: float, tail: bytes
) -> None:
    data = bytearray(base)
    for place, value in changes:
        data[int(place * len(data))] = value
    data = data[: int(end * len(data))] + tail
    for options in ({"exact": True}, {"exact": False, "size": 16, "color": "gray", "fit": "crop"}):
        try:
            decoded(bytes(data), max_pixels=4_000_000, **options)
        except DecodeError as error:
            check_error(error)


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_random_bytes_give_a_decode_error(data: bytes) -> None:
    for content in (data, b"\xff\xd8\xff" + data, b"\x89PNG\r\n\x1a\n" + data):
        with pytest.raises(DecodeError):
            decoded(content)
