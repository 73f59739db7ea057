"""Images that are decoded when they are read: the pixels of the whole JPEGs, whatever windows and bytes there are."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import jpegs
from support.coded_jpeg import layout_jpeg
from support.jpegs import encoded_of, jpeg, picture, pillow_jpeg, pixels_of

from arraystore import Augment, CenterCrop, FormatError, PadAndCrop, RandomCrop, RandomResizedCrop
from arraystore._augmenting.crops import Crop
from arraystore._stores.encoded import images as encoded_images
from arraystore._stores.encoded import pieces
from arraystore._stores.encoded.images import EncodedImages
from arraystore.errors import Kind

HEIGHT, WIDTH = 50, 70


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """Twelve JPEGs; slot 3 failed."""
    made = jpegs.jpegs(12, HEIGHT, WIDTH)
    made[3] = b""
    return made


# --- an array of pixels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_it_has_the_face_of_an_array(files: list[bytes], layout: str) -> None:
    images, pixels = encoded_of(files, HEIGHT, WIDTH, layout=layout), pixels_of(files, HEIGHT, WIDTH, layout=layout)
    assert (images.shape, images.dtype, images.ndim, len(images)) == (pixels.shape, pixels.dtype, 4, 12)
    assert images.nbytes == sum(map(len, files))
    mask = np.arange(12) % 3 == 0
    chosen: list[Any] = [
        *(0, 3, -1, np.int64(5), slice(None), slice(2, 9), slice(None, None, -2), slice(5, 5)),
        *([5, 1, 5], np.array([[1, 2], [3, 3]]), mask, ..., np.array([], np.int64)),
        *((2, 1), (slice(1, 4), 0), (slice(None), slice(None), 3, 2), ([1, 2], slice(0, 1)), (), (-1, ..., 0)),
        *((..., 0), (None, 2), ([1, 2, 1], [0, 2, 1]), ([4, 2], slice(None), [0, 1]), (mask, slice(None), 1)),
    ]
    for each in chosen:
        np.testing.assert_array_equal(images[each], pixels[each], strict=True, err_msg=repr(each))
    np.testing.assert_array_equal(np.asarray(images), pixels, strict=True)
    np.testing.assert_array_equal(np.asarray(images, np.float32), pixels.astype(np.float32), strict=True)
    np.testing.assert_array_equal(list(images), pixels)
    assert not pixels[3].any()
    one = images[7]
    one[...] = 0  # it belongs to the caller
    np.testing.assert_array_equal(images[7], pixels[7])
    for outside in (12, -13, [3, 12]):
        with pytest.raises(IndexError):
            images[outside]
    with pytest.raises(ValueError, match=r"^encoded images are decoded into a new array$"):
        np.array(images, copy=False)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_rows_of_a_batch_are_filled_and_no_others(files: list[bytes], layout: str) -> None:
    images, pixels = encoded_of(files, HEIGHT, WIDTH, layout=layout), pixels_of(files, HEIGHT, WIDTH, layout=layout)
    out = np.full((8, *images.shape[1:]), 7, np.uint8)
    images.read(np.array([2, 3, 9]), out, np.array([5, 0, 2]))
    np.testing.assert_array_equal(out[[5, 0, 2]], pixels[[2, 3, 9]])
    assert (out[[1, 3, 4, 6, 7]] == 7).all()
    for wrong in (out[:, :, ::2], out.astype(np.int8), np.zeros((0, 3, 1, 1), np.uint8), out[:, ::-1]):
        with pytest.raises(ValueError, match=r"^images are decoded into uint8 of shape \(n, "):
            images.read(np.array([2]), wrong)


def test_the_bytes_of_an_image_are_a_view_that_cannot_be_written(files: list[bytes]) -> None:
    images = encoded_of(files, HEIGHT, WIDTH)
    assert [bytes(images.bytes_of(row)) for row in range(12)] == files
    data = images.bytes_of(1)
    assert data.readonly
    assert np.shares_memory(np.frombuffer(data, np.uint8), images.encoded)


# --- windows ---------------------------------------------------------------------------------------------------------


def crops(height: int, width: int) -> list[Crop | None]:
    return [
        None,
        CenterCrop((max(height - 3, 1), max(width // 2, 1))),
        RandomCrop((max(height // 2, 1), max(width // 3, 1))),
        PadAndCrop(5, (height, width), fill=9),
        PadAndCrop(2, (height + 2, width)),
        RandomResizedCrop((24, 17)),
        RandomResizedCrop((9, 40), scale=(0.01, 0.3)),
    ]


@settings(max_examples=150)
@given(st.data())
def test_windows_have_the_pixels_of_the_whole_image(data: st.DataObject) -> None:
    """Each augmentation of JPEGs equals, to the last bit, that of the pixels of the JPEGs decoded whole."""
    draw = data.draw
    height, width = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    channels, layout = draw(st.sampled_from([1, 3])), draw(st.sampled_from(["NCHW", "NHWC"]))
    options = {
        "quality": draw(st.integers(1, 100)),
        "restart": draw(st.integers(0, 8)),
        "sampling": draw(st.sampled_from([*jpegs.SAMPLINGS])),
    }
    files = jpegs.jpegs(3, height, width, channels, **options)
    files[1] = draw(st.sampled_from([b"", files[1]]))
    augment = Augment(
        crop=draw(st.sampled_from(crops(height, width))),
        hflip=0.5,
        vflip=draw(st.sampled_from([0, 0.5])),
        dtype=draw(st.sampled_from(["uint8", "float32", "float16", "bfloat16"])),
        layout=draw(st.sampled_from([None, "NCHW", "NHWC"])),
    )
    images = encoded_of(files, height, width, channels, layout)
    pixels = pixels_of(files, height, width, channels, layout)
    rows = np.array(draw(st.lists(st.integers(0, 2), min_size=1, max_size=9)))
    slot, seed = images.shape[1:], draw(st.integers(0, 1000))
    geometry = augment.sample(rows, seed=seed, epoch=1, slot_shape=slot, layout=layout, draws=np.arange(len(rows)))
    shape, dtype = augment.output(slot, layout)
    got, expected = (np.zeros((len(rows) + 2, *shape), dtype) for _ in range(2))
    out_rows = np.random.default_rng(seed).permutation(len(rows) + 2)[: len(rows)]
    augment.apply(images, rows, geometry, got, layout=layout, out_rows=out_rows)
    augment.apply(pixels, rows, geometry, expected, layout=layout, out_rows=out_rows)
    np.testing.assert_array_equal(got, expected, strict=True)


def test_windows_that_end_where_blocks_end() -> None:
    """Chroma beside them is interpolated with that of the next blocks."""
    files = jpegs.jpegs(6, 96, 96, restart=1)
    images, pixels = encoded_of(files, 96, 96), pixels_of(files, 96, 96)
    augment, rows = Augment(crop=CenterCrop(32)), np.arange(6)
    geometry = augment.sample(rows, seed=0, epoch=0, slot_shape=(3, 96, 96), layout="NCHW")
    got = np.empty((6, 3, 32, 32), np.uint8)
    augment.apply(images, rows, geometry, got, layout="NCHW")
    np.testing.assert_array_equal(got, pixels[:, :, 32:64, 32:64])
    (part,) = images.parts(rows, np.ascontiguousarray(geometry).view(np.int32).reshape(-1, 6))
    assert part.places[:, 1:].tolist() == [[64, 64]] * 6  # a block more on each side was decoded, and not the whole


def test_many_images_of_many_blocks(files: list[bytes]) -> None:
    """More pixels than are decoded at once, and images that alone have more."""
    many = encoded_of(files * 40, HEIGHT, WIDTH)
    rows = np.random.default_rng(1).permutation(480)
    np.testing.assert_array_equal(many[rows], pixels_of(files, HEIGHT, WIDTH)[rows % 12])
    large = jpegs.jpegs(2, 700, 900)
    np.testing.assert_array_equal(encoded_of(large, 700, 900)[[1, 0]], pixels_of(large, 700, 900)[::-1])


@pytest.mark.parametrize(("pixel_bytes", "file_bytes"), [(1, 1 << 22), (1 << 22, 1), (30_000, 9_000)])
@pytest.mark.parametrize("crop", [None, RandomResizedCrop(20)])
def test_some_images_are_decoded_at_a_time(
    files: list[bytes], monkeypatch: pytest.MonkeyPatch, pixel_bytes: int, file_bytes: int, crop: Crop | None
) -> None:
    monkeypatch.setattr(encoded_images, "_PIXEL_BYTES", pixel_bytes)
    monkeypatch.setattr(encoded_images, "_FILE_BYTES", file_bytes)
    images, pixels, rows = encoded_of(files, HEIGHT, WIDTH), pixels_of(files, HEIGHT, WIDTH), np.arange(12)[::-1]
    augment = Augment(crop=crop, hflip=0.5)
    geometry = augment.sample(rows, seed=0, epoch=0, slot_shape=images.shape[1:], layout="NCHW")
    got, expected = (np.zeros((12, *augment.output(images.shape[1:], "NCHW")[0]), np.uint8) for _ in range(2))
    augment.apply(images, rows, geometry, got, layout="NCHW")
    augment.apply(pixels, rows, geometry, expected, layout="NCHW")
    np.testing.assert_array_equal(got, expected)
    parts = list(images.parts(rows, np.ascontiguousarray(geometry).view(np.int32).reshape(-1, 6)))
    assert [part.first for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert len(parts) == 12 if 1 in (pixel_bytes, file_bytes) else 1 < len(parts) < 12
    np.testing.assert_array_equal(images[rows], pixels[rows])


def test_neighbors_are_together_up_to_a_size() -> None:
    def slices(sizes: list[int]) -> list[list[int]]:
        return [sizes[these] for these in pieces.together(np.array(sizes, np.int64), 10)]

    assert slices([]) == []
    assert slices([11]) == [[11]]
    assert slices([4, 6, 1, 30, 0, 5, 5, 1]) == [[4, 6], [1], [30], [0, 5, 5], [1]]


def test_jpegs_that_hold_far_more_than_pixels_take_no_more_scratch() -> None:
    """Comments of megabytes are not copied into scratch memory, and the pixels are right."""
    plain = jpeg(picture(HEIGHT, WIDTH))
    comment = b"\xff\xfe\xff\xff" + b"c" * 65_533
    files = [plain[:2] + comment * 80 + plain[2:], plain]
    np.testing.assert_array_equal(encoded_of(files, HEIGHT, WIDTH)[:], pixels_of(files, HEIGHT, WIDTH))
    assert pieces._buffers._kept["cuts"].size < 80 * len(comment)


# --- other kinds of JPEGs --------------------------------------------------------------------------------------------


def kinds() -> dict[str, bytes]:
    image = Image.fromarray(picture(HEIGHT, WIDTH, 5))
    return {
        "without restart markers": pillow_jpeg(image, quality=80),
        "markers after rows of blocks": pillow_jpeg(image, restart_marker_rows=1),
        "progressive": pillow_jpeg(image, progressive=True),
        "gray": pillow_jpeg(image.convert("L")),
        "CMYK": pillow_jpeg(image.convert("CMYK")),
        "CMYK with restart markers": pillow_jpeg(image.convert("CMYK"), restart_marker_blocks=1),
        "RGB": pillow_jpeg(image, keep_rgb=True),
        "with a comment and EXIF": pillow_jpeg(image, comment=b"x" * 3000, exif=Image.Exif()),
        "optimized": pillow_jpeg(image, optimize=True, restart_marker_blocks=1),
    }


@pytest.mark.parametrize("kind", [*kinds()])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_jpeg_is_decoded(kind: str, channels: int) -> None:
    """All as a build decodes them, gray or in color; a window of each has the same pixels."""
    files = [jpeg(picture(HEIGHT, WIDTH)), kinds()[kind], b""]
    for layout in ("NCHW", "NHWC"):
        images = encoded_of(files, HEIGHT, WIDTH, channels, layout)
        pixels = pixels_of(files, HEIGHT, WIDTH, channels, layout)
        if channels == 1:
            # Pillow converts color to gray; a JPEG has its own luma, as builds take it.
            pixels = np.stack([_luma(data, (HEIGHT, WIDTH)) for data in files]).reshape(pixels.shape)
        got = images[:]
        np.testing.assert_array_equal(got, pixels, err_msg=kind)
        augment, rows = Augment(crop=RandomResizedCrop(20), hflip=0.5), np.array([0, 1, 2, 1])
        geometry = augment.sample(rows, seed=3, epoch=0, slot_shape=images.shape[1:], layout=layout, draws=np.arange(4))
        results = [np.empty((4, *augment.output(images.shape[1:], layout)[0]), np.uint8) for _ in range(2)]
        for source, out in zip((images, got), results, strict=True):
            augment.apply(source, rows, geometry, out, layout=layout)
        np.testing.assert_array_equal(*results)


def _luma(data: bytes, sides: tuple[int, int]) -> Any:
    if not data:
        return np.zeros(sides, np.uint8)
    with Image.open(io.BytesIO(data)) as image:
        if image.mode == "RGB" and image.info.get("adobe_transform") != 0:
            image.draft("L", image.size)
        return np.asarray(image.convert("L"))


def test_chroma_of_a_layout_without_a_name_is_decoded() -> None:
    data = layout_jpeg([(3, 1), (1, 1), (1, 1)], 40, 50)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(encoded_of([data], 40, 50, layout="NHWC")[0], np.asarray(image))


# --- damage ----------------------------------------------------------------------------------------------------------


def damaged(images: EncodedImages, slot: int, reason: str) -> None:
    """Every way of reading says which slot is damaged, where, and what to do; the others can be read."""
    augment = Augment(crop=CenterCrop(8))
    rows = np.array([0, slot])
    geometry = augment.sample(rows, seed=0, epoch=0, slot_shape=images.shape[1:], layout=images.layout)
    batch = np.empty((2, *augment.output(images.shape[1:], images.layout)[0]), np.uint8)
    for read in (
        lambda: images[slot],
        lambda: np.asarray(images),
        lambda: augment.apply(images, rows, geometry, batch, layout=images.layout),
    ):
        with pytest.raises(FormatError) as caught:
            read()
        error = caught.value
        assert re.fullmatch(f"x.store: the JPEG of slot {slot} is damaged: {reason}; repair the store", str(error))
        assert (error.slot, error.source, error.kind) == (slot, "x.store", Kind.DAMAGED)
        assert error.advice == "repair the store"
    assert images[0].any()


DAMAGE = {
    "ends early": (jpeg(picture(HEIGHT, WIDTH))[:-40], ".*(ends early|damaged).*"),
    "half": (jpeg(picture(HEIGHT, WIDTH))[:1000], ".*ends early.*"),
    "header": (jpeg(picture(HEIGHT, WIDTH))[:300], "(the file ends inside its header|the jpeg has no frame header).*"),
    "a byte": (b"\xff", "not an image in a known format.*"),
    "text": (b"no picture" * 50, "not an image in a known format.*"),
    "wider": (jpeg(picture(HEIGHT, WIDTH + 1)), "it has 50 by 71 pixels of jpeg, not 50 by 70 of jpeg"),
    "turned": (jpeg(picture(WIDTH, HEIGHT)), "it has 70 by 50 pixels of jpeg, not 50 by 70 of jpeg"),
    "smaller": (jpeg(picture(8, 8)), "it has 8 by 8 pixels of jpeg, not 50 by 70 of jpeg"),
    "larger": (jpeg(picture(900, 900)), "it has 900 by 900 pixels of jpeg, not 50 by 70 of jpeg"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), ".+"),
}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", [*DAMAGE])
def test_damaged_bytes_are_an_error(files: list[bytes], layout: str, kind: str) -> None:
    data, reason = DAMAGE[kind]
    damaged(encoded_of([*files[:5], data, *files[6:]], HEIGHT, WIDTH, layout=layout), 5, reason)


def test_a_png_of_the_right_sides_is_no_jpeg() -> None:
    file = io.BytesIO()
    Image.fromarray(picture(HEIGHT, WIDTH)).save(file, "png")
    reason = "it has 50 by 70 pixels of png, not 50 by 70 of jpeg"
    damaged(encoded_of([jpeg(picture(HEIGHT, WIDTH)), file.getvalue()], HEIGHT, WIDTH), 1, reason)


def test_a_frame_that_says_other_sides_than_it_has_blocks_for_is_an_error(files: list[bytes]) -> None:
    """The sides in the header are right, the blocks are those of another image: libjpeg would fill in gray."""
    data = bytearray(jpeg(picture(HEIGHT - 20, WIDTH)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 7] = HEIGHT.to_bytes(2, "big")
    damaged(encoded_of([files[0], bytes(data)], HEIGHT, WIDTH), 1, ".*")


@pytest.mark.parametrize(
    ("row", "value"),
    [(6, 0), (6, 2**63), (6, 2**64 - 1), (6, 10**6), (12, 10**6), (12, 0), (5, 2**62)],
)
def test_offsets_that_lie_nowhere_are_an_error(files: list[bytes], row: int, value: int) -> None:
    good = encoded_of(files, HEIGHT, WIDTH)
    offsets = good.offsets.copy()
    offsets[row] = value
    images = EncodedImages(good.encoded, offsets, good.shape, good.layout, "x.store")
    slots = [slot for slot in (row - 1, row) if slot < 12 and _wrong(offsets, slot, good.encoded.size)]
    assert slots
    for slot in slots:
        with pytest.raises(FormatError) as caught:
            images[slot]
        assert str(caught.value) == (
            f"x.store: the JPEG of slot {slot} is damaged: its offsets do not lie in the file of the JPEGs; "
            "repair the store"
        )
        assert (caught.value.slot, caught.value.kind) == (slot, Kind.DAMAGED)
        with pytest.raises(FormatError, match="the JPEG of slot"):
            images.bytes_of(slot)
    with pytest.raises(FormatError):
        np.asarray(images)
    np.testing.assert_array_equal(images[1], good[1])
    starts, ends = images.spans_inside(np.arange(12))
    assert ((starts >= 0) & (starts <= ends) & (ends <= good.encoded.size)).all()


def _wrong(offsets: Any, slot: int, size: int) -> bool:
    return not 0 <= int(offsets[slot]) <= int(offsets[slot + 1]) <= size


def test_another_number_of_offsets_is_an_error(files: list[bytes]) -> None:
    good = encoded_of(files, HEIGHT, WIDTH)
    with pytest.raises(FormatError) as caught:
        EncodedImages(good.encoded, good.offsets[:-1], good.shape, good.layout, "x.store")
    assert str(caught.value) == "x.store has offsets of shape (12,) for 12 JPEGs: repair the store"


@settings(max_examples=300)
@given(st.data())
def test_changed_bytes_are_an_error_or_an_image_and_nothing_else(data: st.DataObject) -> None:
    """Whatever the bytes are, no byte outside the batch is written, and a read ends."""
    draw = data.draw
    good = jpegs.jpegs(2, 40, 56, restart=draw(st.integers(0, 3)), quality=draw(st.sampled_from([5, 60, 100])))
    changed = bytearray(good[0])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed) - 1) | st.integers(0, 700).map(lambda at: min(at, len(changed) - 1)))
        changed[at] = draw(st.integers(0, 255) | st.sampled_from([0, 0xFF, 0xD0, 0xD9, 0xC0, 0xDA]))
    files = [bytes(changed[: draw(st.integers(0, len(changed))) if draw(st.booleans()) else None]), good[1]]
    images = encoded_of(files, 40, 56, layout=draw(st.sampled_from(["NCHW", "NHWC"])))
    augment = Augment(crop=draw(st.sampled_from([None, RandomCrop(11), RandomResizedCrop(13)])), dtype="float16")
    rows = np.array([1, 0])
    slot = images.shape[1:]
    geometry = augment.sample(rows, seed=draw(st.integers(0, 99)), epoch=0, slot_shape=slot, layout=images.layout)
    shape, dtype = augment.output(slot, images.layout)
    batch = np.full((4, *shape), 3, dtype)
    whole = np.full((4, *slot), 7, np.uint8)
    for read in (
        lambda: augment.apply(images, rows, geometry, batch, layout=images.layout, out_rows=np.array([1, 2])),
        lambda: images.read(rows, whole, np.array([1, 2])),
    ):
        try:
            read()
        except FormatError as error:
            assert error.slot == 0
    assert (batch[[0, 3]] == 3).all()
    assert (whole[[0, 3]] == 7).all()
    np.testing.assert_array_equal(images[1], pixels_of(files[1:], 40, 56, layout=images.layout)[0])
