"""Changed JPEGs are refused, or get markers and keep their pixels; no byte outside the arrays is read or written."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from PIL import Image
from support import coded_jpeg, images
from support.fences import Fenced
from support.restart_mutants import HEIGHT, WIDTH, base, mutant

from arraystore._decoding.jpeg import restarting

MUTANTS = 600
LONG_S = 20.0

BASES = [
    base("420", 2),
    base("444", 3, quality=40),
    base("411", 1, options=(cv2.IMWRITE_JPEG_OPTIMIZE, 1)),
    base("gray", 4, quality=100),
    base("422", 12),
    images.encode(Image.fromarray(images.photo(HEIGHT, WIDTH)).convert("CMYK"), "JPEG", restart_marker_blocks=4),
    coded_jpeg.layout_jpeg([(2, 1), (1, 1), (1, 1)], HEIGHT, WIDTH, restart=4),
]


class Fences:
    """Scratch memory beside pages that fault, in place of `arraystore._common.scratch.Buffers`."""

    def __init__(self) -> None:
        self.rooms = {name: Fenced(1 << 20) for name in ("file", "bits", "blocks", "out")}

    def get(self, name: str, size: int) -> npt.NDArray[np.uint8]:
        return self.rooms[name].place((size,), at_end=True)


@pytest.fixture
def fences(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fences]:
    made = Fences()
    monkeypatch.setattr(restarting, "_buffers", made)
    return made


def pixels_of(data: bytes) -> npt.NDArray[np.uint8] | None:
    """The pixels as libjpeg decodes them without a warning."""
    for space in ("RGB", "CMYK"):
        try:
            pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, space)
        except (ValueError, KeyError):
            continue
        return pixels
    return None


def check(data: bytes, interval: int, fences: Fences) -> tuple[bool, bool]:
    """Whether a file got markers, and whether it could be compared."""
    file = fences.get("file", len(data))
    file[:] = np.frombuffer(data, np.uint8)
    made = restarting.with_restart_markers(memoryview(file), interval)
    assert file.tobytes() == data
    if made is None:
        return False, False
    before = pixels_of(data)
    if before is None:  # the damage is elsewhere
        return True, False
    np.testing.assert_array_equal(pixels_of(made), before)
    return True, True


@pytest.mark.parametrize("number", range(len(BASES)))
def test_changed_files(number: int, fences: Fences) -> None:
    rng = random.Random(number)
    results = [
        check(mutant(BASES[number], rng), rng.choice((1, 2, 3, 7, 50)), fences) for _ in range(MUTANTS // len(BASES))
    ]
    got, compared = (sum(column) for column in zip(*results, strict=True))
    assert MUTANTS // len(BASES) > got > 3
    assert compared > 2


@pytest.mark.parametrize("number", range(len(BASES)))
def test_changed_bytes_of_pixels(number: int, fences: Fences) -> None:
    """Codes and the end of a scan are met everywhere: in files without markers a wrong bit changes all that follow."""
    data = restarting.with_restart_markers(BASES[number], 60_000)
    assert data is not None
    rng, begin = random.Random(number), len(data) // 2
    refused = 0
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 3))):
            changed[rng.randrange(begin, len(data))] = rng.choice((0, 0xFF, 0xD9, rng.randrange(256)))
        got, _ = check(bytes(changed), rng.choice((1, 2, 5)), fences)
        refused += not got
    assert refused > 0


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(len(BASES)))
def test_changed_files_for_a_while(number: int, fences: Fences) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"\nseed {seed}", flush=True)
    rng, results = random.Random(seed), []
    end_s = time.monotonic() + LONG_S
    while time.monotonic() < end_s:
        results.append(check(mutant(BASES[number], rng), rng.choice((1, 2, 3, 7, 50, 65_535)), fences))
    got, compared = (sum(column) for column in zip(*results, strict=True))
    print(f"{len(results):,} files, {got:,} with markers, {compared:,} compared")
