"""Netpbm (PBM, PGM, PPM and PAM): samples mostly lie in the file as they are."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._decoding.codecs import damaged, no_numbers
from arraystore._decoding.eight_bits import finish
from arraystore._decoding.header import Data, Header, Pixels
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    from arraystore._kernels.packed import text as texts
else:
    texts = lazy("arraystore._kernels.packed.text")

_LONGEST_NETPBM_HEADER_BYTES = 65_536  # comments may be long, but not endless
_PAM_END = b"\nENDHDR\n"
# The digit after the P: 1 and 4 have bits, of which 1 is black; 1 to 3 are text.
_BIT_KINDS, _TEXT_KINDS, _COLOR_KINDS, _PAM_KIND = (1, 4), (1, 2, 3), (3, 6), 7
_BIT_TEXT_KIND, _BIT_KIND = 1, 4


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


def read_header(data: Data) -> Header:
    """Return the header of a netpbm image."""
    netpbm = _netpbm_header(data)
    return Header("ppm", netpbm.height, netpbm.width)


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a netpbm image.

    Raises:
        DecodeError: it has too few samples, or too many a pixel.
    """
    netpbm = _netpbm_header(data)
    return finish(_samples(data, header, netpbm), spec, maximum=netpbm.maximum)


def numbers(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[Any]:
    """Return the samples of a netpbm image of one sample a pixel, (H, W); of bits, 1 is white, as Pillow has it.

    Raises:
        DecodeError: it has several samples a pixel, or too few in all.
    """
    del spec
    netpbm = _netpbm_header(data)
    if netpbm.depth != 1:
        raise no_numbers(f"{netpbm.depth} samples each")
    return _samples(data, header, netpbm)[..., 0]


def _samples(data: Data, header: Header, netpbm: _Netpbm) -> npt.NDArray[Any]:
    """Return the samples (H, W, depth), not scaled; those of bits are 1 where it is white."""
    if netpbm.kind in _TEXT_KINDS:
        return _samples_of_text(data, header, netpbm)
    if netpbm.kind == _BIT_KIND:
        row_bytes = (netpbm.width + 7) // 8
        if netpbm.at + netpbm.height * row_bytes > len(data):
            raise damaged(header)
        rows = np.frombuffer(data, np.uint8, netpbm.height * row_bytes, netpbm.at).reshape(netpbm.height, row_bytes)
        return 1 - np.unpackbits(rows, axis=1, count=netpbm.width)[..., None]
    if netpbm.depth > 4:
        reason = f"the netpbm image has {netpbm.depth} samples a pixel; 1 to 4 can be decoded"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    kind = np.dtype(np.uint8 if netpbm.maximum < 256 else ">u2")
    count = netpbm.height * netpbm.width * netpbm.depth
    if netpbm.at + count * kind.itemsize > len(data):
        raise damaged(header)
    samples = np.frombuffer(data, kind, count, netpbm.at).reshape(netpbm.height, netpbm.width, netpbm.depth)
    return samples.astype(kind.newbyteorder("="))  # copied, so that the result does not hold the file


def _samples_of_text(data: Data, header: Header, netpbm: _Netpbm) -> npt.NDArray[Any]:
    samples = np.empty(netpbm.height * netpbm.width * netpbm.depth, np.uint16)
    text = np.frombuffer(data, np.uint8)[netpbm.at :]
    found = texts.numbers(text, samples, netpbm.maximum, netpbm.kind == _BIT_TEXT_KIND)
    if found < samples.size:
        raise damaged(header)
    if netpbm.kind == _BIT_TEXT_KIND:
        samples = 1 - samples
    return samples.reshape(netpbm.height, netpbm.width, netpbm.depth)
