import io
import struct
import subprocess
import sys
import time
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from arraystore._decoding.header import Header, codec_of, read_header
from arraystore._sources.formats import FORMATS, IMAGE_SUFFIXES
from arraystore.errors import DecodeError, Kind

HEIGHT, WIDTH = 21, 34


def encode(kind: str, mode: str = "RGB", size: Any = (WIDTH, HEIGHT), **options: Any) -> bytes:
    with io.BytesIO() as file:
        Image.new(mode, size).save(file, kind, **options)
        return file.getvalue()


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(
        f"{order}HH" if kind == 3 else f"{order}I", *((orientation, 0) if kind == 3 else (orientation,))
    )
    # The entry before holds the tag's own bytes as its value, which a search alone would take for the tag.
    before = struct.pack(f"{order}HHIHH", 0x0100, 3, 1, 0x0112, 0x0112)
    entries = before + struct.pack(f"{order}HHI", 0x0112, kind, 1) + value
    return mark + struct.pack(f"{order}IH", 8, 2) + entries + bytes(6)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def avif(
    *,
    turns: int | None = None,
    mirror: int | None = None,
    brand: bytes = b"avif",
    size: Any = (WIDTH, HEIGHT),
    wide: bool = False,
    other_first: bool = False,
) -> bytes:
    """The boxes of an AVIF without its pixels; a second image of another size is described as well."""
    properties = [box(b"ispe", bytes(4) + struct.pack(">II", *size)), box(b"ispe", bytes(4) + struct.pack(">II", 5, 6))]
    mine = [1]
    for kind, value in ((b"irot", turns), (b"imir", mirror)):
        if value is not None:
            properties.append(box(kind, bytes([value])))
            mine.append(len(properties))
    item = ">I" if wide else ">H"
    links = [(7, mine), (8, [2])]
    if other_first:
        links.reverse()
    table = b"".join(
        struct.pack(item, number)
        + bytes([len(indices)])
        + b"".join(struct.pack(">H" if wide else ">B", index) for index in indices)
        for number, indices in links
    )
    version = bytes([1, 0, 0, 1]) if wide else bytes(4)
    ipma = box(b"ipma", version + struct.pack(">I", len(links)) + table)
    pitm = box(b"pitm", bytes([int(wide), 0, 0, 0]) + struct.pack(item, 7))
    meta = box(b"meta", bytes(4) + pitm + box(b"iprp", box(b"ipco", b"".join(properties)) + ipma))
    return box(b"ftyp", brand + bytes(4) + b"miaf") + meta


def bmp(width: int, height: int, *, core: bool = False) -> bytes:
    body = struct.pack("<IHHHH", 12, width, height, 1, 24) if core else struct.pack("<IiiHH", 40, width, height, 1, 24)
    return b"BM" + bytes(12) + body + bytes(24)


def jpeg_with(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments) + encode("JPEG")[2:]


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


CASES = {
    "jpeg": (encode("JPEG"), "jpeg", 3),
    "jpeg progressive": (encode("JPEG", progressive=True), "jpeg", 3),
    "jpeg gray": (encode("JPEG", "L"), "jpeg", 1),
    "jpeg cmyk": (encode("JPEG", "CMYK"), "jpeg", 4),
    "png": (encode("PNG"), "png", 0),
    "webp lossy": (encode("WEBP"), "webp", 0),
    "webp lossless": (encode("WEBP", lossless=True), "webp", 0),
    "webp extended": (encode("WEBP", exif=exif(1)), "webp", 0),
    "bmp": (encode("BMP"), "bmp", 0),
    "bmp from the top": (bmp(WIDTH, -HEIGHT), "bmp", 0),
    "bmp core": (bmp(WIDTH, HEIGHT, core=True), "bmp", 0),
    "tiff": (encode("TIFF"), "tiff", 0),
    "bigtiff": (encode("TIFF", big_tiff=True), "tiff", 0),
    "gif": (encode("GIF", "P"), "gif", 0),
    "avif": (encode("AVIF"), "avif", 0),
    "avif boxes": (avif(), "avif", 0),
    "avif wide": (avif(wide=True, other_first=True), "avif", 0),
    "heic": (avif(brand=b"heic"), "heif", 0),
    "jp2": (encode("JPEG2000"), "jp2", 0),
    "j2k": (encode("JPEG2000", no_jp2=True), "jp2", 0),
    "ppm": (encode("PPM"), "ppm", 0),
    "pbm": (encode("PPM", "1"), "ppm", 0),
    "ppm with comments": (b"P3 # a 1\n# b\n34\t# 9 9\n21 255\n0 0 0", "ppm", 0),
    "pam": (b"P7\n# c\nWIDTH 34\nHEIGHT 21\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n", "ppm", 0),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_format_size_and_components_are_read_from_any_kind_of_bytes(name: str, kind: Any) -> None:
    data, expected, components = CASES[name]
    assert read_header(kind(data)) == Header(
        expected, HEIGHT, WIDTH, 1, components, progressive="progressive" in name, scalable=expected == "jpeg"
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_orientation_is_read_in_either_byte_order_from_short_or_long(orientation: int, order: str, kind: Any) -> None:
    block = exif(orientation, order, kind)
    assert read_header(jpeg_with(segment(0xE1, b"Exif\0\0" + block))).orientation == orientation
    assert read_header(encode("PNG", exif=block)).orientation == orientation
    assert read_header(encode("WEBP", exif=block)).orientation == orientation
    assert read_header(encode("WEBP", exif=block).replace(block, b"Exif\0\0" + block[:-6])).orientation == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("big", [False, True])
def test_orientation_of_a_tiff_is_its_own_tag(*, orientation: int, big: bool) -> None:
    assert read_header(encode("TIFF", tiffinfo={274: orientation}, big_tiff=big)).orientation == orientation


def test_big_endian_tiff_is_read() -> None:
    entries = [(256, 3, 1, WIDTH << 16), (257, 4, 1, HEIGHT), (274, 3, 1, 6 << 16)]
    body = struct.pack(">H", 3) + b"".join(struct.pack(">HHII", *entry) for entry in entries)
    assert read_header(b"MM\0*" + struct.pack(">I", 8) + body) == Header("tiff", HEIGHT, WIDTH, 6, 0)


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_cannot_be_is_upright(value: int) -> None:
    assert read_header(jpeg_with(segment(0xE1, b"Exif\0\0" + exif(value)))).orientation == 1
    assert read_header(encode("TIFF", tiffinfo={274: value})).orientation == 1


@pytest.mark.parametrize("length", range(32))
def test_exif_that_ends_early_is_upright(length: int) -> None:
    assert read_header(jpeg_with(segment(0xE1, b"Exif\0\0" + exif(6)[:length]))).orientation == 1


# What a viewer does for irot, then imir, in turn; checked against the pixels that Pillow's transpose gives.
@pytest.mark.parametrize("turns", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [None, 0, 1])
def test_rotation_and_mirroring_of_avif_become_the_orientation_that_does_the_same(
    turns: int | None, mirror: int | None
) -> None:
    grid = Image.new("L", (2, 2))
    grid.putdata([1, 2, 3, 4])
    wanted = grid.rotate(90 * (turns or 0), expand=True)
    if mirror is not None:
        flip = Image.Transpose.FLIP_LEFT_RIGHT if mirror else Image.Transpose.FLIP_TOP_BOTTOM
        wanted = wanted.transpose(flip)
    orientation = read_header(avif(turns=turns, mirror=mirror)).orientation
    how = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's numbers in Pillow's
    upright = grid if orientation == 1 else grid.transpose(Image.Transpose(how[orientation]))
    assert upright.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_of_avif_agrees_with_the_writer(orientation: int) -> None:
    info = Image.Exif()
    info[274] = orientation
    assert read_header(encode("AVIF", exif=info)).orientation == orientation


def test_only_the_primary_image_of_an_avif_counts() -> None:
    header = read_header(avif(turns=1, other_first=True))
    assert (header.height, header.width, header.orientation) == (HEIGHT, WIDTH, 8)


def test_markers_that_decoders_skip_are_skipped() -> None:
    fill = b"\xff\xff\xff" + segment(0xE0, b"JFIF\0")[1:]
    assert read_header(jpeg_with(fill, b"stray", b"\xff\x01", b"\xff\x00", segment(0xFE, b"\xff\xc0"))).width == WIDTH


def test_gif_screen_grows_with_its_first_frame() -> None:
    data = bytearray(encode("GIF", "P"))
    data[6:10] = struct.pack("<HH", 3, 4)
    assert read_header(data) == Header("gif", HEIGHT, WIDTH, 1, 0)


REFUSED = {
    "empty": (b"", "the file is empty"),
    "unknown": (b"<!DOCTYPE html>", r"not an image in a known format \(starts with b'<!DOCTYPE html>'\)"),
    "mp4": (box(b"ftyp", b"isom" + bytes(4)), "not an image in a known format .*isom"),
    "xv thumbnail": (b"P7 332\n#END_OF_COMMENTS\n8 8 255\n", "not an image in a known format"),
    "jpeg without frame": (b"\xff\xd8\xff\xd9" + bytes(9), "no frame header"),
    "jpeg of no rows": (b"\xff\xd8" + segment(0xC0, struct.pack(">BHHB", 8, 0, 5, 3)), "0 by 5 pixels"),
    "jpeg length": (b"\xff\xd8\xff\xe0\0\1" + bytes(9), "damaged"),
    "jpeg cut": (encode("JPEG")[:100], "ends inside its header"),
    "png of no rows": (encode("PNG")[:16] + bytes(8), "png header says 0 by 0 pixels"),
    "png without IHDR": (b"\x89PNG\r\n\x1a\n" + bytes(20), "IHDR"),
    "webp chunk": (b"RIFF\x20\0\0\0WEBPJUNK" + bytes(20), "unknown chunk"),
    "bmp header": (b"BM" + bytes(12) + struct.pack("<I", 9999), "9999 bytes"),
    "bmp width": (bmp(-5, 3), "3 by -5 pixels"),
    "tiff directory": (b"II*\0\xff\xff\xff\x7f", "ends early"),
    "tiff size": (b"II*\0\x08\0\0\0\0\0", "does not state its size"),
    "gif frame": (b"GIF89a" + struct.pack("<HHBBB", 5, 5, 0, 0, 0) + b";", "no image in it"),
    "avif meta": (box(b"ftyp", b"avif" + bytes(4)) + bytes(8), "has a size of|primary image"),
    "jp2 header": (b"\0\0\0\x0cjP  \r\n\x87\n", "no image header"),
    "ppm header": (b"P6\nten ten 255\n", "damaged"),
    "ppm maximum": (b"P6\n1 1 99999\n", "99999"),
    "pam": (b"P7\nWIDTH 3\nENDHDR\n", "does not state"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_an_image_is_refused_with_the_reason(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(DecodeError, match=reason) as caught:
        read_header(data)
    assert caught.value.kind is not None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("empty", Kind.ENDS_EARLY),
        ("unknown", Kind.UNKNOWN_FORMAT),
        ("mp4", Kind.UNKNOWN_FORMAT),
        ("jpeg cut", Kind.ENDS_EARLY),
        ("png without IHDR", Kind.DAMAGED),
        ("tiff directory", Kind.ENDS_EARLY),
    ],
)
def test_programs_learn_the_kind_of_the_refusal(name: str, kind: Kind) -> None:
    with pytest.raises(DecodeError) as caught:
        read_header(REFUSED[name][0])
    assert caught.value.kind is kind


def test_the_table_of_formats_is_whole() -> None:
    modules = {vars(codec_of(data))["__name__"].partition("_decoding.")[2] for data, _, _ in CASES.values()}
    assert modules == {form.module for form in FORMATS}
    suffixes = [suffix for form in FORMATS for suffix in form.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert set(suffixes) <= IMAGE_SUFFIXES


def test_reading_headers_imports_no_decoder() -> None:
    code = (
        "import sys; from arraystore._decoding.header import read_header\n"
        f"for data in {[data for data, _, _ in CASES.values()]!r}: read_header(data)\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "arraystore._decoding.tiff.decoder" in loaded
    assert not {"cv2", "PIL", "simplejpeg", "numba"} & set(loaded)


@pytest.mark.parametrize("name", CASES)
def test_a_cut_at_any_byte_gives_a_header_or_a_reason(name: str) -> None:
    data, _, _ = CASES[name]
    for length in range(min(len(data), 300)):
        try:
            header = read_header(data[:length])
        except DecodeError:
            continue
        assert (header.height, header.width) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", CASES)
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=50)
def test_damage_gives_a_header_or_a_reason(name: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(CASES[name][0])
    for place, value in changes:
        data[int(place * (min(len(data), 400) - 1))] = value
    header = header_or_none(data)
    assert header is None or (header.height > 0 and header.width > 0 and 1 <= header.orientation <= 8)


def header_or_none(data: bytes | bytearray) -> Header | None:
    """Read a header in bounded time; None if it has no size to give."""
    began = time.process_time()
    try:
        return read_header(data)
    except DecodeError:
        return None
    finally:
        assert time.process_time() - began < 5


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"II*\0", b"P6 ", b"GIF89a", CASES["avif"][0][:32]])
@given(rest=st.binary(max_size=300))
@settings(max_examples=100)
def test_noise_after_a_signature_gives_a_header_or_a_reason(start: bytes, rest: bytes) -> None:
    header = header_or_none(start + rest)
    assert header is None or header.height > 0


def test_a_directory_that_repeats_a_long_list_is_read_once() -> None:
    count = 20_000
    entry = struct.pack("<HHII", 273, 4, count, 8)
    data = b"II*\0" + struct.pack("<IH", 8, count) + entry * count
    began = time.process_time()
    with pytest.raises(DecodeError, match="does not state its size"):
        read_header(data)
    assert time.process_time() - began < 20  # reading each list would take minutes


def test_png_orientation_may_follow_the_pixels() -> None:
    data = encode("PNG")
    body = b"eXIf" + exif(6)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    assert read_header(data[:-12] + chunk + data[-12:]).orientation == 6
