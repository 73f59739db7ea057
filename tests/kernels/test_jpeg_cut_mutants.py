"""Changed JPEGs are cut inside their memory, in a bounded number of steps, and a cut is decoded or refused."""

from __future__ import annotations

import random
import time
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from PIL import Image
from support import images, restart_jpegs
from support.fences import Fenced
from support.restart_mutants import HEIGHT, WIDTH, base, mutant

from arraystore._kernels import jpeg_cut
from arraystore._kernels.jpeg_cut import SPARE_BYTES, cut
from arraystore._kernels.vectors.instructions import STEP_BYTES

Pixels = npt.NDArray[np.uint8]

MUTANTS = 700
LONG_S = 20.0

BASES = [
    base("420", 2),
    base("444", 3, quality=40),
    base("411", 1, options=(cv2.IMWRITE_JPEG_OPTIMIZE, 1)),
    base("gray", 4),
    base("422", 12),  # two rows in an interval
    images.encode(Image.fromarray(images.photo(HEIGHT, WIDTH)).convert("CMYK"), "JPEG", restart_marker_blocks=4),
    images.encode(Image.fromarray(images.photo(HEIGHT, WIDTH)), "JPEG", restart_marker_blocks=1, exif=bytes(30)),
]


def box(rng: random.Random, width: int, height: int) -> tuple[int, int, int, int]:
    left, top = rng.randrange(-3, width), rng.randrange(-3, height)
    return left, top, left + rng.randrange(1, width + 3), top + rng.randrange(1, height + 3)


def sides_of(data: bytes) -> tuple[int, int]:
    """The sides that a changed file has by the decoder's word, so that it is cut as often as possible."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):  # simplejpeg has no name for the factors 1 and 4
        return WIDTH, HEIGHT
    return width, height


# --- the kernel as Python --------------------------------------------------------------------------------------------


class Bounded:
    """What the kernel needs of an array. An index outside of it fails, one below 0 too, and so do too many."""

    def __init__(self, values: list[int], *, most: int, writable: bool = False) -> None:
        self.values, self.left, self.writable = values, most, writable
        self.size, self.ctypes, self.data = len(values), self, Address(self, 0)

    def check(self, begin: int, end: int) -> None:
        assert 0 <= begin < end <= self.size
        self.left -= 1
        assert self.left >= 0, "the kernel does not come to an end"

    def __getitem__(self, at: int) -> int:
        self.check(int(at), int(at) + 1)
        return self.values[at]

    def __setitem__(self, at: int, value: int) -> None:
        self.check(int(at), int(at) + 1)
        assert self.writable
        self.values[at] = int(value)


class Address:
    def __init__(self, array: Bounded, at: int) -> None:
        self.array, self.at = array, at

    def __add__(self, count: int) -> Address:
        return Address(self.array, self.at + int(count))

    def step(self) -> slice:
        self.array.check(self.at, self.at + STEP_BYTES)
        return slice(self.at, self.at + STEP_BYTES)


def ones(address: Address) -> int:
    values = address.array.values[address.step()]
    return sum(1 << i for i, value in enumerate(values) if value == 0xFF)


def copy_step(to: Address, address: Address) -> None:
    assert to.array.writable
    to.array.values[to.step()] = address.array.values[address.step()]


def lowest_bit(bits: int) -> int:
    return (int(bits) & -int(bits)).bit_length() - 1


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_one", "_two", "_copy_header", "_interval_end"):
        monkeypatch.setattr(jpeg_cut, name, getattr(jpeg_cut, name).py_func)
    for instruction in (ones, copy_step, lowest_bit):
        monkeypatch.setattr(jpeg_cut, instruction.__name__, instruction)


def cut_by_python(data: bytes, window: list[int], sides: tuple[int, int]) -> tuple[int, bytes, list[int]]:
    file = Bounded(list(data), most=6 * len(data) + 200)
    out = Bounded([0] * (len(data) + SPARE_BYTES), most=2 * len(data) + 200, writable=True)
    placed = Bounded([0] * 4, most=20, writable=True)
    kernel: Any = cut
    size = kernel.py_func(file, Bounded(window, most=20), sides, out, placed)
    assert 0 <= size <= len(data)
    return int(size), bytes(out.values[: int(size)]), placed.values


# --- the kernel as machine code --------------------------------------------------------------------------------------


class Machine:
    """Cuts between pages that fault: file and room are beside one of them."""

    def __init__(self) -> None:
        self.file, self.out = Fenced(1 << 16), Fenced(1 << 16)

    def __call__(
        self, data: bytes, window: list[int], sides: tuple[int, int], *, at_end: bool
    ) -> tuple[int, bytes, list[int]]:
        file, placed = self.file.place((len(data),), at_end=at_end), np.zeros(4, np.int64)
        file[:] = np.frombuffer(data, np.uint8)
        out = self.out.place((len(data) + SPARE_BYTES,), at_end=at_end)
        size = cut(file, np.array(window, np.int64), sides, out, placed)
        assert file.tobytes() == data
        return size, out[:size].tobytes(), placed.tolist()


def check_pixels(data: bytes, window: list[int], made: bytes, placed: list[int]) -> bool:
    """Decode a cut, or see that it is refused: as wide and high as the kernel says, with the pixels of the whole."""
    color = simplejpeg.decode_jpeg_header(made)[2] if decodes(made) else ""
    space = {"Gray": "GRAY", "CMYK": "CMYK"}.get(color, "RGB")
    try:
        part = simplejpeg.decode_jpeg(made, space)
    except ValueError:
        return False
    left, top, width, height = placed
    assert part.shape[:2] == (height, width)
    try:
        whole = simplejpeg.decode_jpeg(data, space)
    except ValueError:
        return True  # the damage is elsewhere
    inside = np.clip(window[:4], 0, [*whole.shape[1::-1]] * 2).tolist()  # none may be: then the margin alone was cut
    rows, columns = range(inside[1], inside[3]), range(inside[0], inside[2])
    shown = part[np.ix_([y - top for y in rows], [x - left for x in columns])]
    np.testing.assert_array_equal(shown, whole[np.ix_(rows, columns)])
    return True


def decodes(data: bytes) -> bool:
    try:
        simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):
        return False
    return True


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("number", range(len(BASES)))
def test_changed_files_are_cut_inside_their_arrays(number: int) -> None:
    rng, machine, cuts, shown = random.Random(number), Machine(), 0, 0
    for _ in range(MUTANTS // len(BASES)):
        data = mutant(BASES[number], rng)
        sides = sides_of(data)
        window = [*box(rng, *sides), 1]
        made = cut_by_python(data, window, sides)
        assert made == machine(data, window, sides, at_end=rng.random() < 0.5)
        if made[0]:
            cuts += 1
            shown += check_pixels(data, window, *made[1:])
    assert cuts > 10
    assert shown > 5


# A frame header whose components do not lie in it, a restart interval of no bytes, and so on, at the end of a file.
ENDS = [
    "ffd8ffc0000b080010001003011100",
    "ffd8ffc0000b0800100010030111",
    "ffd8ffdd0002",
    "ffd8ffdd000400",
    "ffd8ffda0002",
    "ffd8ffda0008030000003f00",
    "ffd8ffe10000",
    "ffd8ffe10001ff",
    "ffd8ffffffffffff",
    "ffd8ffffffffdb",
    "ffd8ffdb",
]


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("data", ENDS)
def test_a_header_that_ends_too_early_is_not_read_beyond_the_end(data: str) -> None:
    assert cut_by_python(bytes.fromhex(data), [0, 0, 8, 8, 1], (16, 16))[0] == 0


@pytest.mark.usefixtures("python")
def test_a_file_that_ends_anywhere_is_not_cut() -> None:
    """And its last byte may promise another one. Its intervals are longer than a step."""
    data = restart_jpegs.jpeg(restart_jpegs.picture(16, 48, "gray", noise=60), "gray", 2)
    window, sides = [17, 0, 20, 9, 1], (48, 16)
    assert cut_by_python(data, window, sides)[0]
    for size in range(len(data)):
        assert cut_by_python(data[:size], window, sides)[0] == 0
        assert cut_by_python(data[: max(size - 1, 0)] + b"\xff", window, sides)[0] == 0


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(len(BASES)))
def test_changed_files_for_a_while(number: int) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"\nseed {seed}", flush=True)
    rng, machine, tried, cuts, shown = random.Random(seed), Machine(), 0, 0, 0
    end_s = time.monotonic() + LONG_S
    while time.monotonic() < end_s:
        data = mutant(BASES[number], rng)
        sides = sides_of(data)
        window = [*box(rng, *sides), rng.choice((1, 1, 1, 0, 2, 8, -5, 1 << 62))]
        size, made, placed = machine(data, window, sides, at_end=rng.random() < 0.5)
        tried += 1
        if size:
            cuts += 1
            shown += window[4] > 0 and check_pixels(data, window, made, placed)
    print(f"{tried:,} files, {cuts:,} cut, {shown:,} decoded")
