"""BMP, with and without its file header: samples that lie in the file as they are, or in runs.

It is decoded here, because OpenCV garbles rows of runs that are longer than the image, makes 248 of white in 16 bits,
and a false alpha of some masks.
"""

from dataclasses import dataclass
from struct import pack, unpack_from
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._decoding.codecs import damaged, no_numbers
from arraystore._decoding.eight_bits import eight_bits, finish
from arraystore._decoding.header import Data, Header, Pixels
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    from arraystore._kernels.packed import runs, unpack
else:
    runs = lazy("arraystore._kernels.packed.runs")
    unpack = lazy("arraystore._kernels.packed.unpack")

_FILE_HEADER_BYTES = 14
_PIXELS_START_AT = 10  # of a file header
_OLD_HEADER_BYTES, _USUAL_HEADER_BYTES = 12, 40
_HEADER_SIZES = (16, 40, 52, 56, 64, 108, 124)  # of the others
_HEADER_WITH_ALPHA_BYTES = 56
_HEADER_WITH_PROFILE_BYTES, _EMBEDDED = 124, b"DEBM"
_NONE, _RUNS, _RUNS_OF_HALF_BYTES, _MASKS, _MASKS_WITH_ALPHA = 0, 1, 2, 3, 6
_MASKS_AT = 40  # in the header that follows the file header, or behind it
_DEPTHS = {
    _NONE: (1, 2, 4, 8, 16, 24, 32),
    _RUNS: (8,),
    _RUNS_OF_HALF_BYTES: (4,),
    _MASKS: (16, 24, 32),
    _MASKS_WITH_ALPHA: (16, 32),
}
_MASKS_OF_16_BITS = (0x7C00, 0x3E0, 0x1F)
_USUAL_MASKS = (0xFF0000, 0xFF00, 0xFF)
_ALPHA_OF_USUAL_MASKS = 0xFF000000
_MOST_COLORS = 65_536  # that a header may announce; those beyond an index's range are not read


@dataclass(frozen=True, slots=True)
class _Bmp:
    """The header of a BMP."""

    size: int  # of this header, in bytes
    height: int
    width: int
    from_top: bool  # whether the first row is the uppermost
    bits: int  # of a pixel
    compression: int
    colors: int  # of the palette

    @property
    def masks_bytes(self) -> int:
        """The bytes of the masks that follow a header that is too short for them."""
        return {_MASKS: 12, _MASKS_WITH_ALPHA: 16}.get(self.compression, 0) if self.size == _USUAL_HEADER_BYTES else 0

    @property
    def color_bytes(self) -> int:
        """The bytes of a color of the palette."""
        return 3 if self.size == _OLD_HEADER_BYTES else 4


def _whole(data: Data) -> Data:
    """Return a BMP with its file header, from one with or without."""
    return data if data[:2] == b"BM" else b"BM" + pack("<IHHI", 0, 0, 0, 0) + data


def _header(data: Data) -> _Bmp:
    """Return the header of a whole BMP."""
    (size,) = unpack_from("<I", data, _FILE_HEADER_BYTES)
    if size == _OLD_HEADER_BYTES:
        width, height, _, bits = unpack_from("<HHHH", data, _FILE_HEADER_BYTES + 4)
        colors = 1 << bits if bits <= 8 else 0
        return _Bmp(size, height, width, from_top=False, bits=bits, compression=_NONE, colors=colors)
    if size not in _HEADER_SIZES:
        raise DecodeError(f"the bmp has an unknown header of {size} bytes", kind=Kind.DAMAGED)
    width, height, _, bits = unpack_from("<iiHH", data, _FILE_HEADER_BYTES + 4)
    compression, colors = _NONE, 0
    if size >= _USUAL_HEADER_BYTES:
        (compression,) = unpack_from("<I", data, _FILE_HEADER_BYTES + 16)
        (colors,) = unpack_from("<I", data, _FILE_HEADER_BYTES + 32)
    if colors > _MOST_COLORS:
        raise DecodeError(f"the bmp has a palette of {colors:,} colors", kind=Kind.DAMAGED)
    colors = colors or (1 << bits if bits <= 8 else 0)
    return _Bmp(size, abs(height), width, from_top=height < 0, bits=bits, compression=compression, colors=colors)


def read_header(data: Data) -> Header:
    """Return the header of a BMP.

    Raises:
        DecodeError: it is one that no BMP has.
    """
    bmp = _header(_whole(data[: _FILE_HEADER_BYTES + 256]))
    return Header("bmp", bmp.height, bmp.width)


def profile(data: Data) -> bytes:
    """Return the color profile of a BMP; empty where it has none, or only names a file that has it."""
    start = _FILE_HEADER_BYTES
    if data[:2] != b"BM" or data[start] != _HEADER_WITH_PROFILE_BYTES or data[start + 56 : start + 60] != _EMBEDDED:
        return b""
    at, size = unpack_from("<II", data, start + 112)
    return bytes(data[start + at : start + at + size])


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a BMP.

    Raises:
        DecodeError: it is damaged, ends early, or is of a kind that cannot be decoded.
    """
    data = _whole(data)
    bmp = _header(data)
    _check_depth(bmp)
    packed = np.frombuffer(data, np.uint8)[_start(data, bmp) :]
    if bmp.bits <= 8:
        palette = _palette(data, bmp)
        pixels: Pixels = palette[_indices(packed, bmp, header)]
        return finish(pixels if palette.ndim == 2 else pixels[..., None], spec)
    rows = _rows(packed, bmp, header)
    if bmp.bits == 24:
        pixels = rows[:, : 3 * bmp.width].reshape(bmp.height, bmp.width, 3)[..., ::-1]
        return finish(np.ascontiguousarray(pixels), spec)
    words = rows.view(f"<u{bmp.bits // 8}")[:, : bmp.width]
    return finish(_masked(words, _masks(data, bmp)), spec)


def numbers(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the indices into the palette of a BMP: (H, W).

    Raises:
        DecodeError: it has no palette, or see `decode`.
    """
    del spec
    data = _whole(data)
    bmp = _header(data)
    _check_depth(bmp)
    if bmp.bits > 8:
        raise no_numbers("RGB")
    return _indices(np.frombuffer(data, np.uint8)[_start(data, bmp) :], bmp, header)


def _check_depth(bmp: _Bmp) -> None:
    if bmp.bits not in _DEPTHS.get(bmp.compression, ()):
        reason = f"the bmp has compression {bmp.compression} with {bmp.bits} bits a pixel, which cannot be decoded"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)


def _start(data: Data, bmp: _Bmp) -> int:
    """Return the byte at which the pixels begin."""
    (start,) = unpack_from("<I", data, _PIXELS_START_AT)
    after_header = _FILE_HEADER_BYTES + bmp.size
    after_palette = after_header + bmp.masks_bytes + bmp.color_bytes * bmp.colors
    # Some writers say nothing, or forget the palette.
    if start == 0 or (start == after_header and bmp.bits <= 8):
        return after_palette
    if start < after_header:
        raise DecodeError("the bmp is damaged: its pixels begin inside its header", kind=Kind.DAMAGED)
    return int(start)


def _palette(data: Data, bmp: _Bmp) -> Pixels:
    """Return the palette: (256, 3), or (256,) of gray ones. Colors that the file leaves out are as Pillow has them."""
    levels = np.arange(256, dtype=np.uint8)
    at = _FILE_HEADER_BYTES + bmp.size + bmp.masks_bytes
    count = min(bmp.colors, 1 << bmp.bits)
    stored = np.frombuffer(data, np.uint8)[at : at + count * bmp.color_bytes]
    if stored.size < count * bmp.color_bytes:
        raise DecodeError("the bmp ends early: it has no whole palette", kind=Kind.ENDS_EARLY)
    colors = np.zeros((256, 3), np.uint8)
    colors[:count] = stored.reshape(count, bmp.color_bytes)[:, 2::-1]
    if (colors[:count] == levels[:count, None]).all():
        return levels
    return colors[:, 0].copy() if (colors == colors[:, :1]).all() else colors


def _indices(packed: Pixels, bmp: _Bmp, header: Header) -> Pixels:
    if bmp.compression in (_RUNS, _RUNS_OF_HALF_BYTES):
        indices = np.zeros((bmp.height, bmp.width), np.uint8)
        done = runs.bmp_runs(np.ascontiguousarray(packed), indices, bmp.compression == _RUNS_OF_HALF_BYTES)
        if done < indices.size:
            reason = f"the bmp ends early: its runs have {done:,} of {indices.size:,} pixels"
            raise DecodeError(reason, kind=Kind.ENDS_EARLY)
        return indices if bmp.from_top else indices[::-1]
    rows = _rows(packed, bmp, header)
    if bmp.bits == 8:
        return rows[:, : bmp.width]
    indices = np.empty((bmp.height, bmp.width), np.uint8)
    unpack.widen(np.ascontiguousarray(rows), bmp.bits, indices)
    return indices


def _rows(packed: Pixels, bmp: _Bmp, header: Header) -> Pixels:
    """Return the bytes of each row, the uppermost first. The last one in the file may lack what fills it up."""
    stride, needed = (bmp.width * bmp.bits + 31) // 32 * 4, (bmp.width * bmp.bits + 7) // 8
    if packed.size < stride * (bmp.height - 1) + needed:
        raise damaged(header)
    packed = packed[: stride * bmp.height]
    packed = np.concatenate([packed, np.zeros(stride * bmp.height - packed.size, np.uint8)])
    rows = packed.reshape(bmp.height, stride)
    return rows if bmp.from_top else rows[::-1]


def _masks(data: Data, bmp: _Bmp) -> tuple[int, ...]:
    """Return the mask of red, green, blue, and of alpha where there is one."""
    at = _FILE_HEADER_BYTES + _MASKS_AT
    if bmp.compression == _NONE:
        return _MASKS_OF_16_BITS if bmp.bits == 16 else _USUAL_MASKS
    masks: tuple[int, ...] = unpack_from("<III", data, at)
    if bmp.compression == _MASKS_WITH_ALPHA or bmp.size >= _HEADER_WITH_ALPHA_BYTES:
        masks += tuple(mask for mask in unpack_from("<I", data, at + 12) if mask)
    if not any(masks) and bmp.bits == 32:
        return (*_USUAL_MASKS, _ALPHA_OF_USUAL_MASKS)
    return masks


def _masked(words: npt.NDArray[Any], masks: tuple[int, ...]) -> Pixels:
    """Return RGB or RGBA of words of 16 or 32 bits. Alpha that is nowhere above 0 is one that a writer forgot."""
    pixels = np.empty((*words.shape, len(masks)), np.uint8)
    for channel, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1 if mask else 0
        maximum = mask >> shift
        if not 0 < maximum < 65_536 or maximum & (maximum + 1):
            reason = f"the bmp has a mask of {mask:#x}, which is not 1 to 16 bits in a row"
            raise DecodeError(reason, kind=Kind.UNSUPPORTED)
        pixels[..., channel] = eight_bits((words >> shift & maximum).astype(np.uint16), maximum)
    if len(masks) == 4 and not pixels[..., 3].any():
        return np.ascontiguousarray(pixels[..., :3])
    return pixels
