"""JPEGs coded by hand: any layout of chroma, any kind of frame, random coefficients. No encoder writes these."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Sequence
from functools import cache

Layout = Sequence[tuple[int, int]]  # horizontal and vertical sampling of each component

# Each code has a fixed length: 4 bits for the sizes of DC values (and of lossless differences), 8 bits for AC symbols.
_DC_SYMBOLS = bytes(range(12))
_AC_SYMBOLS = bytes([0x00, 0xF0, *(run << 4 | size for run in range(16) for size in range(1, 6))])


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _table(kind: int, length: int, symbols: bytes) -> bytes:
    counts = bytes(len(symbols) if bits == length else 0 for bits in range(1, 17))
    return segment(0xC4, bytes([kind]) + counts + symbols)


def frame(marker: int, height: int, width: int, layout: Layout, *, bits: int = 8) -> bytes:
    components = b"".join(bytes([number + 1, h << 4 | v, 0]) for number, (h, v) in enumerate(layout))
    return segment(marker, struct.pack(">BHHB", bits, height, width, len(layout)) + components)


def scan(components: Sequence[int], *, spectral: tuple[int, int, int] = (0, 63, 0)) -> bytes:
    chosen = b"".join(bytes([number + 1, 0]) for number in components)
    return segment(0xDA, bytes([len(components)]) + chosen + bytes(spectral))


def tables() -> bytes:
    return segment(0xDB, bytes([0]) + bytes([2] * 64)) + _table(0x00, 4, _DC_SYMBOLS) + _table(0x10, 8, _AC_SYMBOLS)


class _Bits:
    def __init__(self) -> None:
        self._text: list[str] = []

    def put(self, value: int, length: int) -> None:
        if length:
            self._text.append(f"{value:0{length}b}")

    def number(self, value: int) -> None:
        """The bits of a value whose size has been coded: a negative one is less by one, without its sign."""
        size = abs(value).bit_length()
        self.put(value if value >= 0 else value + (1 << size) - 1, size)

    def done(self) -> bytes:
        text = "".join(self._text)
        text += "1" * (-len(text) % 8)
        data = int(text, 2).to_bytes(len(text) // 8, "big") if text else b""
        return data.replace(b"\xff", b"\xff\0")


def _block(bits: _Bits, rng: random.Random, step: int) -> None:
    bits.put(abs(step).bit_length(), 4)
    bits.number(step)
    for _ in range(rng.randrange(4)):
        run, value = rng.randrange(4), rng.choice((-3, -2, -1, 1, 2, 3))
        bits.put(_AC_SYMBOLS.index(run << 4 | abs(value).bit_length()), 8)
        bits.number(value)
    bits.put(0, 8)


def layout_jpeg(
    layout: Layout,
    height: int = 37,
    width: int = 53,
    *,
    seed: int = 0,
    marker: int = 0xC0,
    apart: bool = False,
    restart: int = 0,
) -> bytes:
    """A sequential JPEG of random waves.

    ``apart``: each component in a scan of its own; ``restart``: units of a common scan between restart markers.
    """
    rng = random.Random(seed)
    across, down = max(h for h, _ in layout), max(v for _, v in layout)
    levels = [0] * len(layout)

    def blocks(bits: _Bits, number: int, count: int) -> None:
        for _ in range(count):
            target = rng.randrange(-200, 200)
            _block(bits, rng, target - levels[number])
            levels[number] = target

    parts = [b"\xff\xd8", tables(), frame(marker, height, width, layout)]
    if apart or len(layout) == 1:
        for number, (h, v) in enumerate(layout):
            bits = _Bits()
            rows, columns = math.ceil(height * v / down / 8), math.ceil(width * h / across / 8)
            blocks(bits, number, rows * columns)
            parts += [scan([number]), bits.done()]
    else:
        parts += [segment(0xDD, restart.to_bytes(2, "big"))] if restart else []
        parts.append(scan(range(len(layout))))
        bits = _Bits()
        for unit in range(math.ceil(height / 8 / down) * math.ceil(width / 8 / across)):
            if restart and unit and unit % restart == 0:
                parts += [bits.done(), bytes([0xFF, 0xD0 + (unit // restart - 1) % 8])]
                bits, levels[:] = _Bits(), [0] * len(layout)
            for number, (h, v) in enumerate(layout):
                blocks(bits, number, h * v)
        parts.append(bits.done())
    return b"".join([*parts, b"\xff\xd9"])


@cache  # bits take long one by one, and modules of tests ask for the same file again
def lossless_jpeg(height: int, width: int, components: int = 1, *, seed: int = 0) -> bytes:
    """A lossless JPEG (SOF3): each sample is the one to its left and a small random difference."""
    rng = random.Random(seed)
    bits = _Bits()
    for number in range(height * width * components):
        step = rng.choice((-1, 0, 0, 1)) if number >= components else 0
        bits.put(abs(step).bit_length(), 4)
        bits.number(step)
    parts = [tables(), frame(0xC3, height, width, [(1, 1)] * components), scan(range(components), spectral=(1, 0, 0))]
    return b"\xff\xd8" + b"".join(parts) + bits.done() + b"\xff\xd9"


def any_frame(
    marker: int, height: int, width: int, components: int = 3, *, seed: int = 0, size_bytes: int = 8
) -> bytes:
    """A file with this kind of frame and random bytes for pixels. An arithmetic decoder takes any bytes as pixels."""
    spectral = {0xC2: (0, 0, 0), 0xCA: (0, 0, 0), 0xC3: (1, 0, 0), 0xCB: (1, 0, 0)}.get(marker, (0, 63, 0))
    pixels = random.Random(seed).randbytes(size_bytes).replace(b"\xff", b"\xfe")
    parts = [tables(), frame(marker, height, width, [(1, 1)] * components), scan(range(components), spectral=spectral)]
    return b"\xff\xd8" + b"".join(parts) + pixels + b"\xff\xd9"
