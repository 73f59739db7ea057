"""JPEG as libjpeg knows it: every kind of frame and layout, every warning, every end, and no byte beyond a buffer."""

from __future__ import annotations

import io
import itertools
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile
from support import coded_jpeg, hostile, images
from support.coded_jpeg import any_frame, layout_jpeg, lossless_jpeg, segment

from arraystore import DecodeError, ImageSpec, Kind, build
from arraystore._decoding.decode import Decoded, decode_into
from arraystore._decoding.header import read_header
from arraystore._decoding.jpeg import decoder as jpeg
from arraystore._decoding.jpeg.libjpeg_words import words_heard

if TYPE_CHECKING:
    from support.nursery import Nursery

ROOT = Path(__file__).resolve().parents[2]
FACTORS = (1, 2, 4, 8)
END = b"\xff\xd9"


def by_pillow(data: bytes) -> images.Pixels | None:
    """The pixels, or None where Pillow refuses the file."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except OSError:
        return None


def decoded(data: bytes, **options: Any) -> images.Pixels:
    image = jpeg.decode_scaled(data, read_header(data), gray=False, **options).image.copy()
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def stored(data: bytes, **options: Any) -> tuple[images.Pixels, Decoded]:
    """The slot in NHWC at the size of the image, and what is said of it."""
    header = read_header(data)
    spec = ImageSpec(size=(header.height, header.width), layout="NHWC", exact=True, **options)
    slot = np.full(spec.slot_shape, 77, np.uint8)
    return slot, decode_into(data, slot, spec)


def refusal(data: bytes, **options: Any) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        stored(data, **options)
    assert caught.value.reason
    assert caught.value.kind
    return caught.value


# --- no byte beyond a buffer -----------------------------------------------------------------------------------------


def _two_frames(first: int, second: int) -> bytes:
    """A file whose decoder might take the one frame and whose reader the other."""
    data = lossless_jpeg(64, 80)
    at = data.index(b"\xff\xc3")
    frames = [coded_jpeg.frame(marker, 64, 80, [(1, 1)]) for marker in (first, second)]
    return data[:at] + b"".join(frames) + data[at + len(frames[0]) :]


def _behind(*stray: bytes) -> bytes:
    """A lossless file whose frame is preceded by a frame of another kind that a careless walk might see."""
    data = lossless_jpeg(64, 80)
    at = data.index(b"\xff\xc3")
    hidden = coded_jpeg.frame(0xC0, 64, 80, [(1, 1)])
    return data[:at] + b"".join(stray).replace(b"HIDDEN", hidden) + data[at:]


ODD_FRAMES = {
    **{
        f"SOF{marker - 0xC0} of {components}": any_frame(marker, 64, 80, components)
        for marker in range(0xC0, 0xD0)
        for components in (1, 3, 4)
    },
    **{f"lossless {components}": lossless_jpeg(64, 80, components) for components in (1, 3, 4)},
    "lossless then sequential": _two_frames(0xC3, 0xC0),
    "sequential then lossless": _two_frames(0xC0, 0xC3),
    "progressive then lossless": _two_frames(0xC2, 0xC3),
    "hidden in a comment": _behind(segment(0xFE, b"HIDDEN")),
    "behind a restart": _behind(b"\xff\xd0", b"HIDDEN"[:0]),
    "behind fill bytes": _behind(b"\xff\xff\xff"),
    "a length of nothing": _behind(b"\xff\xfe\0\0", b"HIDDEN"),
    "a length of one": _behind(b"\xff\xe5\0\1", b"HIDDEN"),
    "hidden in a table": _behind(b"\xff\xc4\0\3\0", b"HIDDEN"),
    "height told later": lossless_jpeg(64, 80).replace(b"\x08\0\x40\0\x50", b"\x08\0\0\0\x50"),
    "DNL": lossless_jpeg(64, 80)[:-2] + segment(0xDC, b"\x20\0") + END,
    "odd layout": layout_jpeg([(4, 2), (1, 1), (1, 1)], 64, 80),
    "odd layout of four": layout_jpeg([(2, 1), (1, 1), (1, 1), (1, 1)], 64, 80),
    "ordinary": images.jpeg(images.photo(64, 80)),
    "progressive": images.progressive(images.photo(64, 80)),
    "cut": images.jpeg(images.photo(64, 80))[:900],
    "without an end": images.jpeg(images.photo(64, 80))[:-2],
}


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", ODD_FRAMES)
@pytest.mark.parametrize("gray", [False, True])
def test_no_decoder_writes_beyond_its_buffer(
    name: str, factor: int, gray: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 64 * 80 * 4 + 4096  # for all pixels of the file, behind the buffer
    kept: list[tuple[images.Pixels, int]] = []

    def get(_: str, *shape: int) -> images.Pixels:
        need = int(np.prod(shape))
        memory = np.full(need + room, 0xA5, np.uint8)
        kept.append((memory, need))
        return memory[:need].reshape(shape)

    monkeypatch.setattr(jpeg._buffers, "get", get)
    data = ODD_FRAMES[name]
    try:
        header = read_header(data)
        jpeg.decode_scaled(data, header, gray=gray, factor=factor, keep_truncated=True)
    except DecodeError as error:
        assert error.reason
    for memory, need in kept:
        assert (memory[need:] == 0xA5).all()


@pytest.mark.parametrize("name", ["lossless 1", "lossless 3", "lossless 4", "SOF9 of 3", "SOF10 of 1"])
def test_frames_are_shrunk_only_if_the_decoder_shrinks_them(name: str) -> None:
    data = ODD_FRAMES[name]
    shrunk = jpeg.decode_scaled(data, read_header(data), gray=False, factor=8)
    lossless = name.startswith("lossless")
    assert shrunk.factor == (1 if lossless else 8)
    assert shrunk.image.shape[:2] == ((64, 80) if lossless else (8, 10))


_CHECKED = """
import sys
import numpy as np
import test_jpeg, test_fuzz
from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into

files = [*test_jpeg.ODD_FRAMES.values(), *(data for datas in test_fuzz.BASES.values() for data in datas)]
count = 0
for data in files:
    for side in (64, 32, 16, 8, 3):
        for color in ("rgb", "gray"):
            spec = ImageSpec(size=side, color=color, truncated="keep")
            slot = np.empty(spec.slot_shape, np.uint8)
            try:
                decode_into(data, slot, spec)
                count += 1
            except DecodeError:
                pass
            del slot
sys.stdout.write(f"{count} stored")
"""


def test_every_format_at_every_factor_under_a_checking_allocator() -> None:
    folders = [ROOT, ROOT / "tests", ROOT / "tests" / "decoding"]
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _CHECKED],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "LD_PRELOAD": "libc_malloc_debug.so.0",
            "MALLOC_CHECK_": "3",  # a write beyond a block ends the process when the block is freed
            "MALLOC_PERTURB_": "165",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout.split()[0]) > 200


# --- kinds of frames, layouts of chroma ------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [1, 3, 4])
def test_lossless_jpegs_have_the_pixels_of_pillow(components: int) -> None:
    data = lossless_jpeg(64, 80, components, seed=3)
    np.testing.assert_array_equal(decoded(data, factor=4), by_pillow(data))
    store = build([data], size=8, progress=False)
    assert store.status.tolist() == [1]
    slot = np.empty((1, 64, 80), np.uint8)
    decode_into(data, slot, ImageSpec(size=(64, 80), color="gray"))
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(slot[0], image.convert("RGB").convert("L"))


@pytest.mark.parametrize("marker", [0xC9, 0xCA])
@pytest.mark.parametrize("components", [1, 3, 4])
def test_arithmetic_codes_have_the_pixels_of_pillow(marker: int, components: int) -> None:
    data = any_frame(marker, 64, 80, components)
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


@pytest.mark.parametrize("marker", [0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF])
def test_frames_that_no_decoder_has_are_named(marker: int) -> None:
    error = refusal(any_frame(marker, 64, 80))
    assert error.kind is Kind.UNSUPPORTED
    assert f"SOF{marker - 0xC0} " in error.reason


@pytest.mark.parametrize(("bits", "components"), [(12, 3), (16, 1), (8, 2), (8, 5)])
def test_other_depths_and_numbers_of_components_are_named(bits: int, components: int) -> None:
    data = b"\xff\xd8" + coded_jpeg.tables() + coded_jpeg.frame(0xC1, 8, 8, [(1, 1)] * components, bits=bits)
    error = refusal(data + coded_jpeg.scan(range(min(components, 4))) + bytes(9) + END)
    assert error.kind is Kind.UNSUPPORTED
    assert f"{components} components of {bits} bits" in error.reason


SAMPLINGS = list(itertools.product([1, 2, 3, 4], [1, 2, 3, 4]))
LAYOUTS = [
    [first, second, third]
    for first, second, third in itertools.product(
        SAMPLINGS, [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1)], [(1, 1), (2, 1), (1, 2), (2, 2)]
    )
    if sum(across * down for across, down in (first, second, third)) <= 10  # more blocks are not allowed together
]


def test_every_layout_of_chroma_has_the_pixels_of_pillow() -> None:
    compared = 0
    for number, layout in enumerate(LAYOUTS):
        for apart in (False, True):
            data = layout_jpeg(layout, seed=number, apart=apart)
            wanted = by_pillow(data)
            if wanted is None:  # a ratio that is no whole number
                assert refusal(data).kind in (Kind.UNSUPPORTED, Kind.DAMAGED)
                continue
            slot, what = stored(data)
            np.testing.assert_array_equal(slot, wanted, err_msg=f"{layout} {apart}")
            assert what == Decoded(37, 53, None)
            compared += 1
    assert compared > 150


@pytest.mark.parametrize("layout", [[(2, 2)], [(3, 4)], [(1, 4)], [(1, 1)] * 4, [(2, 2), (1, 1), (1, 1), (2, 2)]])
def test_layouts_of_gray_and_cmyk_have_the_pixels_of_pillow(layout: Any) -> None:
    data = layout_jpeg(layout)
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


def test_an_odd_layout_of_cmyk_is_within_a_level_of_pillow() -> None:
    data = layout_jpeg([(2, 1), (1, 1), (1, 1), (1, 1)])
    wanted = by_pillow(data)
    assert wanted is not None
    assert np.abs(decoded(data).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("layout", [[(2, 2), (1, 1), (1, 1)], [(4, 2), (1, 1), (1, 1)]], ids=["named", "odd"])
def test_gray_is_the_luma_of_the_file(layout: Any) -> None:
    data = layout_jpeg(layout)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", image.size)
        luma = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(jpeg.decode_scaled(data, read_header(data), gray=True).image, luma)


# --- damage: all that libjpeg notices --------------------------------------------------------------------------------


def test_every_flipped_bit_that_libjpeg_notices_is_reported() -> None:
    base = images.jpeg(images.noise(120, 160), quality=85)
    odd = layout_jpeg([(4, 2), (1, 1), (1, 1)], 120, 160)
    rng = random.Random(7)
    noticed = refused = 0
    for data in (base, odd):
        scan = data.rindex(b"\xff\xda") + 14
        for _ in range(300):
            flipped = bytearray(data)
            flipped[rng.randrange(scan, len(data) - 2)] ^= 1 << rng.randrange(8)
            if data is base:
                try:
                    simplejpeg.decode_jpeg(bytes(flipped))
                except ValueError:
                    noticed += 1
            try:
                _, what = stored(bytes(flipped))
            except DecodeError as error:
                assert error.kind in (Kind.DAMAGED, Kind.ENDS_EARLY)
                refused += data is base
                noticed += data is not base
            else:
                assert what.note is None
        if data is base:
            assert 10 < noticed == refused
            noticed = 0
    assert noticed > 10  # of the odd layout, which OpenCV decodes


def test_bytes_that_are_left_over_before_the_end_are_damage() -> None:
    for data in (images.jpeg(images.photo(64, 80)), layout_jpeg([(4, 2), (1, 1), (1, 1)], 64, 80)):
        for stray in (bytes(20), b"bytes that were left over"):
            assert "extraneous bytes before marker 0xd9" in refusal(data[:-2] + stray + END).reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data, at: data[:at] + b"stray" + data[at:], "5 extraneous bytes before marker 0xdb"),
        (lambda data, _: data.replace(b"JFIF\0\1", b"JFIF\0\7"), "unknown JFIF revision number 7"),
        (lambda data, at: data[:2] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\5") + data[at:], "Unknown Adobe color"),
        (lambda data, at: data[:at] + segment(0xE2, b"ICC_PROFILE\0\5\1abc") + data[at:], "bad ICC marker"),
    ],
)
def test_what_is_odd_in_the_header_is_a_note(change: Any, said: str) -> None:
    data = images.jpeg(images.photo(64, 80))
    odd = change(data, data.index(b"\xff\xdb"))
    slot, what = stored(odd)
    np.testing.assert_array_equal(slot, by_pillow(data))
    assert what.note is not None
    assert said in what.note
    # and does not hide what is wrong with the pixels
    assert refusal(odd[: len(odd) // 2]).kind is Kind.ENDS_EARLY
    assert refusal(odd[:-2] + bytes(12) + END).kind is Kind.DAMAGED


@pytest.mark.parametrize("transform", [1, 7])
def test_unknown_colors_of_cmyk_are_taken_as_libjpeg_takes_them(transform: int) -> None:
    data = hostile.encode("JPEG", "CMYK")
    at = data.index(b"\xff\xee")
    odd = data[: at + 15] + bytes([transform]) + data[at + 16 :]
    slot, what = stored(odd)
    np.testing.assert_array_equal(slot, by_pillow(odd))
    assert what.note is not None
    assert "Unknown Adobe color" in what.note


def test_a_second_start_of_the_image_is_not_mended() -> None:
    data = images.jpeg(images.photo(64, 80))
    at = data.index(b"\xff\xdb")
    for stray in (b"\xff\xd8", b"stray\xff\xd8", b"\xff\xf7\0\4ab"):
        assert by_pillow(data[:at] + stray + data[at:]) is None
        assert refusal(data[:at] + stray + data[at:]).kind in (Kind.DAMAGED, Kind.UNSUPPORTED)


# --- ends ------------------------------------------------------------------------------------------------------------

SAMSUNG = b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1500000000000SEFH" + bytes(24) + b"\x30\0\0\0SEFT"
TAILS = {
    "nothing": b"",
    "half a marker": b"\xff",
    "fill bytes": b"\xff\xff\xff",
    "a zero": b"\0",
    "few zeros": bytes(12),
    "zeros": bytes(64),
    "zeros and text": bytes(2048) + b"and what stood there before",
    "many zeros": bytes(4096),
    "a phone's data": SAMSUNG,
    "a phone's data and zeros": SAMSUNG + bytes(512),
    "text": b"taken by somebody, somewhere",
    "another image": images.jpeg(images.photo(24, 24)),
    "data with another image": SAMSUNG + images.jpeg(images.photo(24, 24)) + SAMSUNG,
}
ENDLESS = {
    "baseline": images.jpeg(images.photo(64, 80)),
    "noise": images.jpeg(images.noise(64, 80)),
    "progressive": images.progressive(images.photo(64, 80)),
    "gray": images.jpeg(images.photo(64, 80)[..., 0].copy()),
    "cmyk": hostile.encode("JPEG", "CMYK"),
    "odd layout": layout_jpeg([(4, 2), (1, 1), (1, 1)], 64, 80),
    "restarts": hostile.encode("JPEG", restart_marker_blocks=1),
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", ENDLESS)
def test_pixels_that_are_all_there_need_no_end_marker(name: str, tail: str) -> None:
    data = ENDLESS[name]
    slot, what = stored(data[:-2] + TAILS[tail])
    np.testing.assert_array_equal(slot, by_pillow(data))
    assert what.note == "the JPEG has no end marker; all its pixels are there"
    assert stored(data)[1].note is None
    assert stored(data + TAILS[tail])[1].note is None


def test_the_last_byte_of_the_pixels_may_be_a_zero() -> None:
    files = (layout_jpeg([(1, 1)], 24, 24, seed=seed) for seed in range(5000))
    data = next(data for data in files if data[-3] == 0)
    for tail in (b"", bytes(40)):
        np.testing.assert_array_equal(stored(data[:-2] + tail)[0], by_pillow(data))


@pytest.mark.parametrize("optimize", [False, True])
def test_a_picture_of_one_color_needs_no_end_marker(optimize: bool) -> None:
    with io.BytesIO() as file:
        Image.new("RGB", (320, 240), (0, 0, 0)).save(file, "JPEG", optimize=optimize)
        data = file.getvalue()
    slot, _ = stored(data[:-2])
    np.testing.assert_array_equal(slot, by_pillow(data))


@pytest.mark.parametrize(
    "tail", ["nothing", "few zeros", "zeros", "many zeros", "zeros and text", "another image", "half a marker"]
)
@pytest.mark.parametrize("name", ENDLESS)
def test_missing_pixels_are_refused_whatever_follows(name: str, tail: str) -> None:
    data = ENDLESS[name]
    scan = data.rindex(b"\xff\xda")
    for part in (0.3, 0.6, 0.9):
        cut = data[: int(scan + part * (len(data) - scan))]
        assert refusal(cut + TAILS[tail]).kind in (Kind.ENDS_EARLY, Kind.DAMAGED)


def _by_scan(data: bytes) -> list[bytes]:
    """The file as it would be had it ended after each scan but the last."""
    scans = list(re.finditer(rb"\xff\xda..(.)", data, re.DOTALL))
    ends = [re.compile(rb"\xff[^\0]").search(data, scan.end() + 2 * scan[1][0] + 3) for scan in scans]
    return [data[: end.start()] for end in ends[:-1] if end]


@pytest.mark.parametrize("tail", ["nothing", "zeros", "another image", "text"])
@pytest.mark.parametrize(
    "data",
    [
        images.progressive(images.photo(64, 80)),
        hostile.encode("JPEG", "CMYK", progressive=True),
        layout_jpeg([(2, 2), (1, 1), (1, 1)], 64, 80, apart=True),
        layout_jpeg([(4, 2), (1, 1), (1, 1)], 64, 80, apart=True),
    ],
    ids=["progressive", "progressive cmyk", "components apart", "odd layout apart"],
)
def test_missing_scans_are_refused_although_decoders_do_not_notice(data: bytes, tail: str) -> None:
    parts = _by_scan(data)
    assert len(parts) > 1
    for part in parts:
        assert by_pillow(part + END) is not None
        assert refusal(part + TAILS[tail]).kind is Kind.ENDS_EARLY
        _, what = stored(part + TAILS[tail], truncated="keep")
        assert what.note is not None
        assert what.note.startswith("ends early: ")
    assert stored(data[:-2] + TAILS[tail])[1].note == "the JPEG has no end marker; all its pixels are there"


def pillow_keeps(data: bytes, monkeypatch: pytest.MonkeyPatch) -> images.Pixels:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("tail", ["nothing", "zeros", "many zeros"])
@pytest.mark.parametrize("name", [name for name in ENDLESS if name != "restarts"])
def test_truncated_jpegs_are_kept_on_request(name: str, tail: str) -> None:
    data = ENDLESS[name]
    scan = data.rindex(b"\xff\xda")
    cut = data[: scan + (len(data) - scan) // 2] + TAILS[tail]
    assert refusal(cut).kind is Kind.ENDS_EARLY
    slot, what = stored(cut, truncated="keep")
    assert what.note is not None
    assert what.note.startswith("ends early: ")
    whole, _ = stored(data, truncated="keep")
    if name != "progressive":  # which has all of the picture after a few scans, only coarser
        np.testing.assert_array_equal(slot[:8], whole[:8])
        rest = slot[-8:, -8:].reshape(-1, 3)
        assert (rest == rest[0]).all()  # one gray or color: nothing was there
    assert stored(data, truncated="keep")[1].note is None


def test_what_was_kept_is_gray_below(monkeypatch: pytest.MonkeyPatch) -> None:
    data = images.jpeg(images.noise(160, 160))[:9000]
    slot, _ = stored(data, truncated="keep")
    assert (slot[-16:] == 128).all()
    same = (slot == pillow_keeps(data, monkeypatch)).all((1, 2))
    assert same[:64].all()


def test_only_early_ends_are_kept() -> None:
    data = bytearray(images.jpeg(images.noise(120, 160), quality=95))
    tables = data.index(b"\xff\xc4")
    data[tables + 8 : tables + 16] = b"\xff" * 8
    assert refusal(bytes(data), truncated="keep").kind is Kind.DAMAGED
    cut_header = bytes(images.jpeg(images.photo(64, 80))[:300])
    assert refusal(cut_header, truncated="keep").kind is Kind.ENDS_EARLY


# --- what OpenCV's libjpeg says --------------------------------------------------------------------------------------


def test_words_of_libjpeg_are_heard_and_others_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with words_heard() as words:
        os.write(2, b"something else\nCorrupt JPEG data: bad Huffman code\nand more\n")
    assert words == ["Corrupt JPEG data: bad Huffman code"]
    assert capfd.readouterr().err.split("\n") == ["something else", "", "and more", ""]
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_nothing_of_libjpeg_reaches_the_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    for data in (*ENDLESS.values(), *ODD_FRAMES.values()):
        for cut in (data, data[: len(data) * 2 // 3], data[:-2]):
            try:
                stored(cut, truncated="keep")
            except DecodeError:
                continue
    assert capfd.readouterr().err == ""


def decode_without_standard_error() -> bool:
    """Whether it is closed still, after a good and a bad image."""
    os.close(2)
    data = ODD_FRAMES["odd layout"]
    stored(data)
    refusal(data[:-40])
    try:
        os.fstat(2)
    except OSError:
        return True
    return False


def test_a_closed_standard_error_is_no_hindrance(nursery: Nursery) -> None:
    assert nursery.run(decode_without_standard_error)


def test_threads_hear_of_their_own_images() -> None:
    good = layout_jpeg([(4, 2), (1, 1), (1, 1)], 120, 160)
    bad = good[:900] + END
    wrong: list[str] = []

    def work(data: bytes, is_good: bool) -> None:
        for _ in range(20):
            try:
                stored(data)
            except DecodeError:
                if is_good:
                    wrong.append("good")
            else:
                if not is_good:
                    wrong.append("bad")

    threads = [threading.Thread(target=work, args=pair) for pair in [(good, True), (bad, False)] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
