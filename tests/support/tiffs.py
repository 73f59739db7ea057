"""TIFFs of every layout, written here: strips and tiles, planes together and apart, in each packing that is easy."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from PIL import Image
from support import images

Pixels = npt.NDArray[Any]

NONE, FAX_RUNS, FAX_3, FAX_4, LZW, JPEG, DEFLATE = 1, 2, 3, 4, 5, 7, 8
PACKBITS, OLD_DEFLATE, LZMA, ZSTD = 32_773, 32_946, 34_925, 50_000
GRAY, RGB, PALETTE, CMYK, YCBCR = 1, 2, 3, 5, 6


def _joined(codes: list[tuple[int, int]], *, old: bool) -> bytes:
    """Codes of some widths in a row: the highest bit first, or, of old files, the lowest."""
    texts = [f"{code:0{width}b}" for code, width in codes]
    count = sum(map(len, texts))
    size = -(-count // 8)
    if old:
        return int("".join(reversed(texts)), 2).to_bytes(size, "little")
    return (int("".join(texts), 2) << 8 * size - count).to_bytes(size, "big")


def lzw(data: bytes, *, old: bool = False) -> bytes:
    """LZW as TIFF has it, or as files before 1988 have it."""
    codes = [(256, 9)]
    table: dict[tuple[int, int], int] = {}  # of the code of a string and a byte: the code of both
    free, width, before = 258, 9, -1
    margin = 0 if old else 1
    for value in data:
        known = value if before < 0 else table.get((before, value))
        if known is not None:
            before = known
            continue
        codes.append((before, width))
        table[before, value] = free
        free += 1
        if free > (1 << width) - margin:
            width += 1
        if free == 4094:
            codes.append((256, width if width < 13 else 12))
            table, free, width = {}, 258, 9
        before = value
    if before >= 0:
        codes.append((before, width))
        free += 1
        if free > (1 << width) - margin:
            width += 1
    codes.append((257, min(width, 12)))
    return _joined(codes, old=old)


def packbits(data: bytes, row: int) -> bytes:
    """PackBits: each row by itself, runs of three and more as runs."""
    out = bytearray()
    for start in range(0, len(data), row):
        line, at = data[start : start + row], 0
        while at < len(line):
            run = 1
            while at + run < len(line) and run < 128 and line[at + run] == line[at]:
                run += 1
            if run > 2:
                out += bytes([257 - run, line[at]])
                at += run
                continue
            end = at
            while end < len(line) and end - at < 128 and line[end : end + 3] != line[end : end + 1] * 3:
                end += 1
            end = max(end, at + 1)
            out += bytes([end - at - 1]) + line[at:end]
            at = end
    return bytes(out)


def pack(data: bytes, compression: int, row: int) -> bytes:
    """Return bytes as a compression packs them."""
    if compression == LZW:
        return lzw(data)
    if compression in (DEFLATE, OLD_DEFLATE):
        return zlib.compress(data)
    if compression == PACKBITS:
        return packbits(data, row)
    if compression == LZMA:
        return lzma.compress(data, preset=0)  # the usual one takes a hundred times the memory
    if compression == ZSTD:
        return bytes(pa.Codec("zstd").compress(data))
    return data


def parts(samples: Pixels, planar: int, tile: tuple[int, int] | None, rows: int) -> Iterator[Pixels]:
    planes = [samples] if planar == 1 else [samples[..., [plane]] for plane in range(samples.shape[2])]
    height, width = samples.shape[:2]
    for plane in planes:
        if tile is None:
            yield from (plane[top : top + rows] for top in range(0, height, rows))
            continue
        down, across = -height % tile[0], -width % tile[1]
        padded = np.pad(plane, ((0, down), (0, across), (0, 0)), constant_values=7)
        for top in range(0, height, tile[0]):
            yield from (padded[top : top + tile[0], left : left + tile[1]] for left in range(0, width, tile[1]))


def _stored(part: Pixels, bits: int, order: str, *, predictor: int) -> bytes:
    if predictor == 2:
        part = np.concatenate([part[:, :1], part[:, 1:] - part[:, :-1]], axis=1)
    if bits in (8, 16):
        return part.astype(np.dtype(part.dtype).newbyteorder(order)).tobytes()
    flat = part.reshape(part.shape[0], -1)
    ones = (flat[..., None] >> np.arange(bits - 1, -1, -1)).astype(np.uint8) & 1
    return np.packbits(ones.reshape(part.shape[0], -1), axis=1).tobytes()


def tiff(
    samples: Pixels,
    photometric: int,
    *,
    compression: int = NONE,
    bits: int | None = None,
    planar: int = 1,
    tile: tuple[int, int] | None = None,
    rows: int = 7,
    order: str = "<",
    predictor: int = 1,
    reverse: bool = False,
    more: dict[int, tuple[str, Any]] | None = None,
    packed: list[bytes] | None = None,
) -> bytes:
    """A TIFF of samples (H, W) or (H, W, samples), its pixels in front of its directory.

    Args:
        samples: of `bits` bits each.
        photometric: what they mean.
        compression: how they are packed.
        bits: of a sample; those of its dtype by default.
        planar: 1 for samples side by side, 2 for planes apart.
        tile: rows and columns of a tile, in place of strips.
        rows: of a strip.
        order: of the bytes of a number.
        predictor: 2 for differences.
        reverse: whether the lowest bit of a byte comes first.
        more: other tags: letter of struct, and values.
        packed: the strips or tiles, in place of those made of the samples.
    """
    samples = samples[..., None] if samples.ndim == 2 else samples
    height, width, channels = samples.shape
    depth = bits or samples.dtype.itemsize * 8
    if packed is None:
        packed = []
        for part in parts(samples, planar, tile, rows):
            raw = _stored(part, depth, order, predictor=predictor)
            packed.append(pack(raw, compression, len(raw) // part.shape[0]))
    if reverse:
        packed = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in part) for part in packed]
    offsets, at = [], 8
    for part in packed:
        offsets.append(at)
        at += len(part)
    body = b"".join(packed)
    tags: dict[int, tuple[str, Any]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [depth] * channels),
        259: ("H", [compression]),
        262: ("H", [photometric]),
        277: ("H", [channels]),
        284: ("H", [planar]),
        324 if tile else 273: ("I", offsets),
        325 if tile else 279: ("I", [len(part) for part in packed]),
    }
    tags |= {322: ("I", [tile[1]]), 323: ("I", [tile[0]])} if tile else {278: ("I", [rows])}
    tags |= {317: ("H", [predictor])} if predictor != 1 else {}
    tags |= {266: ("H", [2])} if reverse else {}
    return with_directory(body, tags | (more or {}), order)


_CODES = {"B": 1, "H": 3, "I": 4, "R": 5, "u": 7}  # R: fractions of 1; u: bytes of no meaning


def with_directory(body: bytes, tags: dict[int, tuple[str, Any]], order: str = "<") -> bytes:
    """A TIFF of a body, which begins at byte 8, and a directory behind it."""
    body += bytes(len(body) % 2)
    entries, far = b"", b""
    behind = 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, (letter, values) in sorted(tags.items()):
        if letter == "R":
            fractions = [number for value in values for number in (round(value * 10_000), 10_000)]
            value = struct.pack(f"{order}{len(fractions)}I", *fractions)
        elif letter == "u":
            value = bytes(values)
        else:
            value = struct.pack(f"{order}{len(values)}{letter}", *values)
        entries += struct.pack(f"{order}HHI", tag, _CODES[letter], len(values))
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", behind + len(far))
            far += value + bytes(len(value) % 2)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body))
    return start + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + far


def saved(image: Image.Image, **options: Any) -> bytes:
    """A TIFF that Pillow and libtiff write."""
    return images.encode(image, "TIFF", **options)
