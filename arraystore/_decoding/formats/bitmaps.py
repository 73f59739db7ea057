"""BMP and netpbm: formats whose samples mostly lie in the file as they are."""

import re
from dataclasses import dataclass
from struct import unpack_from

import numpy as np

from arraystore._decoding.codecs import damaged, opencv_or_fail
from arraystore._decoding.eight_bits import eight_bits, finish
from arraystore._decoding.header import Data, Header, Pixels
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec


def read_header(data: Data) -> Header:
    """Return the header of a BMP or of a netpbm image."""
    if data[:2] == b"BM":
        return _bmp_header(data)
    netpbm = _netpbm_header(data)
    return Header("ppm", netpbm.height, netpbm.width)


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a BMP or of a netpbm image."""
    return _decode_bmp(data, header, spec) if header.format == "bmp" else _decode_netpbm(data, header, spec)


# Where the fields of a BMP begin. The older header of 12 bytes has sides of 16 bits and none of the later fields.
_PIXELS_START_AT, _HEADER_SIZE_AT, _SIDES_AT, _HEIGHT_AT = 10, 14, 18, 22
_BITS_AT, _MASKS_AT, _ALPHA_MASK_AT = 28, 54, 66
_OLD_HEADER_BYTES, _USUAL_HEADER_BYTES, _HEADER_WITH_ALPHA_BYTES = 12, 40, 56
_NO_COMPRESSION, _MASKS, _MASKS_WITH_ALPHA = 0, 3, 6


def _bmp_header(data: Data) -> Header:
    (size,) = unpack_from("<I", data, _HEADER_SIZE_AT)
    if size == _OLD_HEADER_BYTES:
        width, height = unpack_from("<HH", data, _SIDES_AT)
    elif 16 <= size <= 256:
        width, height = unpack_from("<ii", data, _SIDES_AT)
    else:
        raise DecodeError(f"the bmp has an unknown header of {size} bytes", kind=Kind.DAMAGED)
    return Header("bmp", abs(height), width)  # a negative height says that rows run from the top


def _decode_bmp(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    (size,) = unpack_from("<I", data, _HEADER_SIZE_AT)
    if size < _USUAL_HEADER_BYTES:  # OpenCV would give gray pixels
        return finish(opencv_or_fail(data, header, in_color=True), spec)
    # OpenCV makes 248 of white in 16 bits, and a false alpha of some masks.
    bits, compression = unpack_from("<HI", data, _BITS_AT)
    if bits in (16, 32) and compression in (_NO_COMPRESSION, _MASKS, _MASKS_WITH_ALPHA):
        return finish(_masked(data, header, size, bits, compression), spec)
    return finish(opencv_or_fail(data, header), spec)


def _masked(data: Data, header: Header, size: int, bits: int, compression: int) -> Pixels:
    """Return RGB or RGBA of a BMP whose pixels are words of 16 or 32 bits with a mask for each channel."""
    masks = [0x7C00, 0x3E0, 0x1F] if bits == 16 else [0xFF0000, 0xFF00, 0xFF]
    if compression != _NO_COMPRESSION:
        masks = list(unpack_from("<III", data, _MASKS_AT))
        if compression == _MASKS_WITH_ALPHA or size >= _HEADER_WITH_ALPHA_BYTES:
            masks += [mask for mask in unpack_from("<I", data, _ALPHA_MASK_AT) if mask]
    (start,) = unpack_from("<I", data, _PIXELS_START_AT)
    stride = (header.width * bits + 31) // 32 * 4  # rows are filled up to 4 bytes
    if start + stride * header.height > len(data):
        raise damaged(header)
    words = np.frombuffer(data, f"<u{bits // 8}", stride * header.height * 8 // bits, start)
    words = words.reshape(header.height, -1)[:, : header.width]
    if unpack_from("<i", data, _HEIGHT_AT)[0] > 0:
        words = words[::-1]
    pixels = np.empty((header.height, header.width, len(masks)), np.uint8)
    for channel, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1 if mask else 0
        maximum = mask >> shift
        if not 0 < maximum < 65_536 or maximum & (maximum + 1):
            reason = f"the bmp has a mask of {mask:#x}, which is not 1 to 16 bits in a row"
            raise DecodeError(reason, kind=Kind.UNSUPPORTED)
        pixels[..., channel] = eight_bits((words >> shift & maximum).astype(np.uint16), maximum)
    return pixels


_LONGEST_NETPBM_HEADER_BYTES = 65_536  # comments may be long, but not endless
_PAM_END = b"\nENDHDR\n"
# The digit after the P. Those without samples of their own width: bits (1, 4), and numbers as text (2, 3).
_BIT_KINDS, _TEXT_KINDS, _COLOR_KINDS, _PAM_KIND = (1, 4), (2, 3), (3, 6), 7


@dataclass(frozen=True, slots=True)
class _Netpbm:
    """The header of a PBM, PGM, PPM or PAM."""

    kind: int  # 1 to 7, the digit after the P
    height: int
    width: int
    depth: int  # samples a pixel
    maximum: int  # full intensity
    at: int  # the byte at which the samples begin


def _netpbm_header(data: Data) -> _Netpbm:
    text = bytes(data[:_LONGEST_NETPBM_HEADER_BYTES])
    kind = int(text[1:2])
    if kind == _PAM_KIND:
        header = _pam_header(text)
    else:
        count = 2 if kind in _BIT_KINDS else 3
        # A comment runs to the end of its line; one white space ends the header.
        found = re.match(rb"P\d" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" * count + rb"(?:#[^\r\n]*)?\s", text)
        if found is None:
            raise DecodeError("the netpbm header is damaged or cut off", kind=Kind.DAMAGED)
        width, height, maximum = (*map(int, found.groups()), 1)[:3]
        header = _Netpbm(kind, height, width, 3 if kind in _COLOR_KINDS else 1, maximum, found.end())
    if not 1 <= header.maximum <= 65_535:
        raise DecodeError(f"the netpbm header says that the largest sample is {header.maximum}", kind=Kind.DAMAGED)
    return header


def _pam_header(text: bytes) -> _Netpbm:
    end = text.find(_PAM_END)
    if end < 0:
        raise DecodeError("the netpbm header is damaged or cut off", kind=Kind.DAMAGED)
    fields = dict(re.findall(rb"^(HEIGHT|WIDTH|DEPTH|MAXVAL)\s+(\d{1,9})\s*$", text[:end], re.MULTILINE))
    if len(fields) < 4:
        raise DecodeError("the netpbm header does not state its width, height, depth and maximum", kind=Kind.DAMAGED)
    height, width, depth, maximum = (int(fields[name]) for name in (b"HEIGHT", b"WIDTH", b"DEPTH", b"MAXVAL"))
    return _Netpbm(_PAM_KIND, height, width, depth, maximum, end + len(_PAM_END))


def _decode_netpbm(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    netpbm = _netpbm_header(data)
    if netpbm.kind in _BIT_KINDS:
        head = b"P%d %d %d\n" % (netpbm.kind, netpbm.width, netpbm.height)
        return finish(opencv_or_fail(head + data[netpbm.at :], header), spec)
    if netpbm.kind in _TEXT_KINDS:
        # With a maximum of 16 bits OpenCV gives the numbers unchanged. It fails where the last one ends the file.
        head = b"P%d %d %d 65535\n" % (netpbm.kind, netpbm.width, netpbm.height)
        pixels = opencv_or_fail(head + data[netpbm.at :] + b"\n", header)
        return finish(pixels, spec, maximum=netpbm.maximum)
    if netpbm.depth > 4:
        reason = f"the netpbm image has {netpbm.depth} samples a pixel; 1 to 4 can be decoded"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    kind = np.dtype(np.uint8 if netpbm.maximum < 256 else ">u2")
    count = netpbm.height * netpbm.width * netpbm.depth
    if netpbm.at + count * kind.itemsize > len(data):
        raise damaged(header)
    samples = np.frombuffer(data, kind, count, netpbm.at).reshape(netpbm.height, netpbm.width, netpbm.depth)
    pixels = samples.astype(kind.newbyteorder("="))  # copied, so that the result does not hold the file
    return finish(pixels, spec, maximum=netpbm.maximum)
