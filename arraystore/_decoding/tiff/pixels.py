"""The samples of a TIFF, as stored: its strips or tiles are unpacked, each to its last byte, and put together."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._decoding.header import Data, Pixels
from arraystore._decoding.tiff.colors import full_chroma
from arraystore._decoding.tiff.directory import Compression, Directory, Photometric, Tag
from arraystore._decoding.tiff.jpegs import unpack_jpeg
from arraystore._decoding.tiff.packing import FAXES, UNPACKED, PackingError, unpack_bytes, unpack_fax
from arraystore._decoding.tiff.pieces import Form, Piece, pieces
from arraystore.errors import DecodeError, Kind

if TYPE_CHECKING:
    from arraystore._kernels.packed import unpack
else:
    unpack = lazy("arraystore._kernels.packed.unpack")

Samples = npt.NDArray[Any]

_NO_PREDICTOR, _DIFFERENCES = 1, 2
_PREDICTED = frozenset(
    (Compression.LZW, Compression.DEFLATE, Compression.OLD_DEFLATE, Compression.LZMA, Compression.ZSTD)
)
_LOWEST_BIT_FIRST = 2  # of FILL_ORDER
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(-1, 8)[:, ::-1], axis=1)[:, 0]


def can_unpack(form: Form, directory: Directory) -> bool:
    """Return whether the samples are of a kind that `read_samples` reads."""
    if len(set(directory.all(Tag.BITS_PER_SAMPLE))) > 1 or not 1 <= form.bits <= 16:
        return False
    if form.photometric == Photometric.YCBCR and (form.bits, form.samples, form.channels) != (8, 3, 3):
        return False
    if form.compression == Compression.JPEG:
        return form.bits == 8 and form.channels in (1, 3, 4)
    if form.compression in FAXES:
        return form.bits == 1 and form.channels == 1
    predictor = _predictor(form, directory)
    differences = predictor == _DIFFERENCES and form.bits in (8, 16) and form.subsampling == (1, 1)
    known = predictor == _NO_PREDICTOR or differences
    return form.compression in UNPACKED and known


def _predictor(form: Form, directory: Directory) -> int:
    return directory.one(Tag.PREDICTOR, _NO_PREDICTOR) if form.compression in _PREDICTED else _NO_PREDICTOR


def read_samples(form: Form, directory: Directory, data: Data) -> Samples:
    """Return the samples (H, W, samples), uint8 of up to 8 bits and else uint16, not scaled.

    Those of JPEGs in luma and chroma are RGB. The chroma of others is at every pixel.

    Raises:
        DecodeError: a strip or tile is missing, damaged or ends early.
    """
    image = np.empty((form.height, form.width, form.samples), np.uint8 if form.bits <= 8 else np.uint16)
    for piece in pieces(form, directory, data):
        packed = np.frombuffer(data, np.uint8, piece.end - piece.at, piece.at)
        try:
            part = _unpacked(packed, piece, form, directory)
        except PackingError as error:
            where = f"{form.name} {piece.number + 1:,}"
            raise DecodeError(f"the tiff is damaged at {where}: {error}", kind=Kind.DAMAGED) from None
        target = image[piece.top : piece.top + form.rows, piece.left : piece.left + form.columns]
        part = part[: target.shape[0], : target.shape[1]]
        if form.channels == 1:
            target[..., piece.plane] = part[..., 0]
        else:
            target[...] = part
    return image


def _unpacked(packed: Pixels, piece: Piece, form: Form, directory: Directory) -> Samples:
    """Return the samples (rows, columns, channels) of a strip or tile."""
    if form.compression == Compression.JPEG:
        shape = piece.rows, form.columns, form.channels
        tables = bytes(directory.all(Tag.JPEG_TABLES))
        in_chroma = form.photometric == Photometric.YCBCR
        return unpack_jpeg(packed.tobytes(), tables, shape, most_rows=form.rows, luma_and_chroma=in_chroma)
    if directory.one(Tag.FILL_ORDER, 1) == _LOWEST_BIT_FIRST:
        packed = _REVERSED[packed]
    if form.compression in FAXES:
        options = directory.one(Tag.T4_OPTIONS, 0)
        return unpack_fax(packed, form.compression, piece.rows, form.columns, options)[..., None]
    flat = unpack_bytes(packed, form.compression, form.packed_bytes(piece.rows))
    if form.subsampling != (1, 1):
        return full_chroma(flat, piece.rows, form.columns, form.subsampling)
    rows = flat.reshape(piece.rows, form.row_bytes)
    count = form.columns * form.channels
    samples: Samples
    if form.bits == 8:
        samples = rows
    elif form.bits == 16:
        samples = rows.view(directory.order + "u2").astype(np.uint16)
    else:
        samples = np.empty((piece.rows, count), np.uint8 if form.bits < 8 else np.uint16)
        unpack.widen(rows, form.bits, samples)
    if _predictor(form, directory) == _DIFFERENCES:
        unpack.add_up(samples, form.channels)
    return samples.reshape(piece.rows, form.columns, form.channels)
