"""What decoding takes is no more than its header lets one expect, and large images wait until they are alone."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image
from support import images

import arraystore
from arraystore import ImageSpec
from arraystore._decoding import decode as decode_module
from arraystore._decoding.decode import decode_into
from arraystore._decoding.memory import MemoryNeededError

if TYPE_CHECKING:
    from support.nursery import Nursery

SIDE = 2800
SPARE_BYTES = 16 << 20  # what allocators and readers of the process take beside


def encoded(suffix: str, channels: int, kind: type = np.uint8) -> bytes:
    shape = (SIDE, SIDE) if channels == 1 else (SIDE, SIDE, channels)
    return cv2.imencode(suffix, np.zeros(shape, kind))[1].tobytes()


def flat(mode: str) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE))


def gradient(mode: str) -> Image.Image:
    """Return an image whose pixels differ: OpenJPEG takes less memory for those that do not."""
    return Image.radial_gradient("L").resize((SIDE, SIDE)).convert(mode)


KINDS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: images.encode(flat("RGB"), "JPEG"),
    "gray jpeg": lambda: images.encode(flat("L"), "JPEG"),
    "cmyk jpeg": lambda: images.encode(flat("CMYK"), "JPEG"),
    "progressive jpeg": lambda: images.encode(flat("RGB"), "JPEG", progressive=True, subsampling=0),
    "turned jpeg": lambda: images.turned(images.encode(flat("RGB"), "JPEG"), 6),
    "png": lambda: encoded(".png", 3),
    "gray png of 16 bits": lambda: encoded(".png", 1, np.uint16),
    "png of 16 bits with alpha": lambda: encoded(".png", 4, np.uint16),
    "palette png": lambda: images.encode(flat("P"), "PNG", transparency=0),
    "png with gray alpha": lambda: images.encode(flat("LA"), "PNG"),
    "webp": lambda: images.encode(flat("RGB"), "WEBP"),
    "webp with alpha": lambda: images.encode(flat("RGBA"), "WEBP", lossless=True),
    "bmp": lambda: encoded(".bmp", 3),
    "bmp with alpha": lambda: encoded(".bmp", 4),
    "gif": lambda: images.encode(flat("P"), "GIF"),
    "ppm": lambda: encoded(".ppm", 3),
    "ppm of 16 bits": lambda: encoded(".ppm", 3, np.uint16),
    "tiff": lambda: images.encode(flat("RGB"), "TIFF", compression="tiff_lzw"),
    "tiff with alpha": lambda: images.encode(flat("RGBA"), "TIFF", compression="tiff_adobe_deflate"),
    "tiff of 16 bits": lambda: encoded(".tiff", 3, np.uint16),
    "tiff of 16 bits with alpha": lambda: encoded(".tiff", 4, np.uint16),
    "palette tiff": lambda: images.encode(flat("P"), "TIFF"),
    "cmyk tiff": lambda: images.encode(flat("CMYK"), "TIFF"),
    "jp2": lambda: images.encode(gradient("RGB"), "JPEG2000"),
    "jp2 with alpha": lambda: images.encode(gradient("RGBA"), "JPEG2000"),
    "jp2 of 16 bits": lambda: bytes(cv2.imencode(".jp2", np.asarray(gradient("RGB")).astype(np.uint16) * 257)[1]),
    "avif": lambda: images.encode(flat("RGB"), "AVIF", speed=10),
    "avif with alpha": lambda: images.encode(flat("RGBA"), "AVIF", speed=10),
}


def taken(kind: str) -> tuple[int, int]:
    """Return what decoding takes, and what the header lets one expect, in bytes."""
    spec = ImageSpec(size=8, exact=True)
    slot = np.empty(spec.slot_shape, np.uint8)
    data = KINDS[kind]()
    decode_into(data, slot, ImageSpec(size=8, exact=True, max_pixels=SIDE * SIDE))  # loads the decoder
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is given back
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before = field("VmRSS")
    decode_into(data, slot, spec)
    peak = field("VmHWM")
    try:
        decode_into(data, slot, spec, memory_bytes=1)
    except MemoryNeededError as error:
        return peak - before, error.needed_bytes
    raise AssertionError


def field(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_tells_what_decoding_takes(nursery: Nursery, kind: str) -> None:
    took, expected = nursery.run(taken, kind)
    print(f"{kind}: {took / SIDE**2:.1f} bytes a pixel, {expected / SIDE**2:.1f} expected")
    assert took <= expected + SPARE_BYTES


# --- large images wait ------------------------------------------------------------------------------------------------

SMALL, LARGE = images.png(images.photo(30, 40)), images.png(np.zeros((3000, 4000, 3), np.uint8))
LARGE_BYTES = 120_000_000  # a little more than what the header of the large one lets one expect


@pytest.mark.parametrize("options", [{}, {"processes": True}], ids=["threads", "processes"])
def test_large_images_are_decoded_alone_after_the_others(options: dict[str, Any]) -> None:
    sources = [SMALL, LARGE, SMALL, LARGE, SMALL, LARGE]
    wanted = arraystore.build(sources, size=8, progress=False)
    store = arraystore.build(sources, size=8, progress=False, workers=3, max_memory=LARGE_BYTES, **options)
    assert store.status.tolist() == [1] * 6
    assert np.array_equal(store.images, wanted.images)


def test_no_two_large_images_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    original = decode_module._opened
    inside, most = [], [0]
    lock = threading.Lock()

    def watched(data: Any, *args: Any) -> Any:
        if len(data) != len(LARGE) or args[-1] < LARGE_BYTES:
            return original(data, *args)
        with lock:
            inside.append(1)
            most[0] = max(most[0], len(inside))
        try:
            return original(data, *args)
        finally:
            with lock:
                inside.pop()

    monkeypatch.setattr(decode_module, "_opened", watched)
    store = arraystore.build([LARGE] * 6, size=8, progress=False, workers=3, max_memory=LARGE_BYTES)
    assert store.status.tolist() == [1] * 6
    assert most == [1]


@pytest.mark.parametrize("options", [{}, {"processes": True}], ids=["threads", "processes"])
def test_what_does_not_fit_is_refused_and_tried_again_with_more(tmp_path: Path, options: dict[str, Any]) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for number, data in enumerate([SMALL, LARGE, SMALL]):
        (sources / f"{number}.png").write_bytes(data)
    with pytest.raises(arraystore.BadImagesError) as caught:
        arraystore.build(sources, tmp_path / "x", size=8, progress=False, max_memory="100 MB", **options)
    (bad,) = caught.value.bad
    assert bad.slot == 1
    assert bad.reason == (
        "decoding its 4000 x 3000 pixels would take 0.11 GB, more than the 0.10 GB that images may take (max_memory)"
    )
    with arraystore.build(sources, tmp_path / "x", size=8, progress=False, max_memory="200 MB") as store:
        assert store.status.tolist() == [1, 1, 1]


def test_a_sample_of_plan_says_that_images_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(LARGE)
    monkeypatch.setattr("arraystore._building.plan.memory_for_images", lambda _wanted: 2.0 * LARGE_BYTES)
    notes = arraystore.plan(tmp_path, size=8, workers=4, progress=False).notes
    assert any(note.startswith("1 image of the sample would take too much memory beside others") for note in notes)


@pytest.mark.parametrize("wanted", ["much", -1, "8 parsecs"])
def test_what_is_no_memory_is_refused(wanted: Any) -> None:
    with pytest.raises(arraystore.SpecError, match="a size in bytes must be a number, or a text such as '8 GB'"):
        arraystore.build([SMALL], size=8, max_memory=wanted)
