"""A strip or tile of a TIFF from its packed bytes to exactly the bytes that it must have, or an error."""

import lzma
from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import decompressobj
from zlib import error as zlib_error

import numpy as np

from arraystore._common.lazy import lazy
from arraystore._decoding.header import Pixels
from arraystore._decoding.tiff.directory import Compression

if TYPE_CHECKING:
    import pyarrow as pa

    from arraystore._kernels.packed import fax, unpack
else:
    pa = lazy("pyarrow")
    fax = lazy("arraystore._kernels.packed.fax")
    unpack = lazy("arraystore._kernels.packed.unpack")

_LZMA_MEMORY_BYTES = 256 << 20  # the largest preset takes 65 MB
_TWO_DIMENSIONAL, _UNCOMPRESSED = 1, 2  # bits of T4_OPTIONS


class PackingError(ValueError):
    """Packed bytes are damaged or end early."""


def unpack_bytes(packed: Pixels, compression: int, size: int) -> Pixels:
    """Return the first ``size`` bytes of what was packed, flat and writable.

    Args:
        packed: uint8, flat.
        compression: a key of `UNPACKED`.
        size: how many bytes there must be. No more are unpacked.

    Raises:
        PackingError: there are fewer, or the decoder noticed damage.
    """
    unpacked = UNPACKED[compression](packed, size)
    if unpacked.size < size:
        raise PackingError(f"it unpacks to {unpacked.size:,} of {size:,} bytes")
    return unpacked[:size]


def _none(packed: Pixels, size: int) -> Pixels:
    return packed[:size].copy()


def _inflate(packed: Pixels, size: int) -> Pixels:
    unpacker = decompressobj()
    try:
        unpacked = unpacker.decompress(packed.data, size)
        if len(unpacked) == size and not unpacker.eof:
            unpacker.decompress(unpacker.unconsumed_tail, 1)  # compares the checksum, which stands behind the last byte
    except zlib_error as error:
        raise PackingError(str(error)) from None
    return np.frombuffer(bytearray(unpacked), np.uint8)


def _lzma(packed: Pixels, size: int) -> Pixels:
    try:
        unpacker = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)
        unpacked = unpacker.decompress(packed.tobytes(), size)
        if len(unpacked) == size and not unpacker.eof:
            unpacker.decompress(b"", 1)
    except (lzma.LZMAError, EOFError) as error:
        raise PackingError(str(error)) from None
    return np.frombuffer(bytearray(unpacked), np.uint8)


def _zstd(packed: Pixels, size: int) -> Pixels:
    try:
        unpacked = pa.Codec("zstd").decompress(packed, size)
    except OSError as error:
        raise PackingError(str(error)) from None
    return np.frombuffer(unpacked, np.uint8).copy()


def _lzw(packed: Pixels, size: int) -> Pixels:
    unpacked = np.empty(size, np.uint8)
    # Files of before 1988 begin with a code whose bits run the other way.
    old = packed.size > 1 and packed[0] == 0 and bool(packed[1] & 1)
    return unpacked[: _checked(unpack.lzw(packed, unpacked, old))]


def _packbits(packed: Pixels, size: int) -> Pixels:
    unpacked = np.empty(size, np.uint8)
    return unpacked[: _checked(unpack.packbits(packed, unpacked))]


def _checked(written: int) -> int:
    if written < 0:
        raise PackingError("it has a code that no encoder writes")
    return written


UNPACKED: dict[int, Callable[[Pixels, int], Pixels]] = {
    Compression.NONE: _none,
    Compression.LZW: _lzw,
    Compression.DEFLATE: _inflate,
    Compression.OLD_DEFLATE: _inflate,
    Compression.PACKBITS: _packbits,
    Compression.LZMA: _lzma,
    Compression.ZSTD: _zstd,
}

FAXES = frozenset((Compression.FAX_RUNS, Compression.FAX_3, Compression.FAX_4))


def unpack_fax(packed: Pixels, compression: int, rows: int, columns: int, options: int) -> Pixels:
    """Return pixels (rows, columns), 0 for white and 1 for black, that a fax machine's codes give.

    Args:
        packed: uint8, flat.
        compression: one of `FAXES`.
        rows: how many rows there must be.
        columns: pixels of a row.
        options: the bits of the tag T4_OPTIONS.

    Raises:
        PackingError: a row is damaged or missing.
    """
    pixels = np.empty((rows, columns), np.uint8)
    group = 4 if compression == Compression.FAX_4 else 3
    has_ends = compression == Compression.FAX_3
    two_dimensional = has_ends and bool(options & _TWO_DIMENSIONAL)
    align = 8 if compression == Compression.FAX_RUNS else 1
    found = fax.unfax(packed, pixels, group, two_dimensional, has_ends, align)
    if found < 0:
        reasons = {
            fax.DAMAGED: "it has a code that no encoder writes",
            fax.ENDS_EARLY: f"it has fewer than its {rows:,} rows",
            fax.UNCOMPRESSED: "it has pixels in the uncompressed mode of fax machines",
        }
        raise PackingError(reasons[found])
    return pixels
