"""The strips or tiles of a TIFF: where each lies in the file and in the image."""

from collections.abc import Iterator
from dataclasses import dataclass

from arraystore._decoding.header import Data
from arraystore._decoding.tiff.directory import Compression, Directory, Photometric, Tag
from arraystore.errors import DecodeError, Kind

_PLANES_TOGETHER, _PLANES_APART = 1, 2  # of PLANAR_CONFIG
_DEFAULT_SUBSAMPLING = (2, 2)
_MANY_PIECES = 65_536
_LEAST_PIECE_PIXELS = 256  # on average, where there are many


@dataclass(frozen=True, slots=True)
class Form:
    """How the samples of an image are stored."""

    height: int
    width: int
    bits: int  # of a sample
    samples: int  # of a pixel
    channels: int  # of a pixel in one strip or tile: 1 where planes lie apart
    photometric: int
    compression: int
    tiled: bool
    rows: int  # of a strip or tile
    columns: int
    subsampling: tuple[int, int]  # pixels that share their chroma, across and down; (1, 1) where each has its own

    def packed_bytes(self, rows: int) -> int:
        """Return how many bytes so many rows of a strip or tile have before they are compressed."""
        across, down = self.subsampling
        if (across, down) == (1, 1):
            return rows * self.row_bytes
        return -(-rows // down) * -(-self.columns // across) * (across * down + 2)

    @property
    def row_bytes(self) -> int:
        """The bytes of a row of a strip or tile: it begins at a whole byte."""
        return (self.columns * self.channels * self.bits + 7) // 8

    @property
    def name(self) -> str:
        """What a part of the image is called."""
        return "tile" if self.tiled else "strip"


@dataclass(frozen=True, slots=True)
class Piece:
    """A strip or tile."""

    number: int
    top: int
    left: int
    rows: int  # that it stores; those of a tile may lie outside the image
    plane: int
    at: int  # its first byte
    end: int


def read_form(directory: Directory) -> Form:
    """Return how the samples are stored.

    Raises:
        DecodeError: a number is one that no TIFF has.
    """
    compression = directory.one(Tag.COMPRESSION, Compression.NONE)
    samples = directory.one(Tag.SAMPLES_PER_PIXEL, 1)
    tiled = bool(directory.all(Tag.TILE_WIDTH))
    photometric = directory.one(Tag.PHOTOMETRIC, Photometric.RGB if samples >= 3 else Photometric.BLACK_IS_ZERO)
    planes = directory.one(Tag.PLANAR_CONFIG, _PLANES_TOGETHER)
    if planes not in (_PLANES_TOGETHER, _PLANES_APART):
        raise DecodeError(f"the tiff is damaged: it has planes of the kind {planes}", kind=Kind.DAMAGED)
    apart = planes == _PLANES_APART and samples > 1
    height, width = directory.one(Tag.IMAGE_LENGTH, 0), directory.one(Tag.IMAGE_WIDTH, 0)
    rows, columns = min(directory.one(Tag.ROWS_PER_STRIP, height), height), width
    if tiled:
        rows, columns = directory.one(Tag.TILE_LENGTH, 0), directory.one(Tag.TILE_WIDTH, 0)
    subsampling = (1, 1)
    if photometric == Photometric.YCBCR and compression != Compression.JPEG:
        across, down = (*directory.all(Tag.YCBCR_SUBSAMPLING), *_DEFAULT_SUBSAMPLING)[:2]
        subsampling = across, down
    if rows < 1 or columns < 1 or samples < 1 or not {*subsampling} <= {1, 2, 4}:
        raise DecodeError("the tiff is damaged: it has strips, tiles or pixels of no size", kind=Kind.DAMAGED)
    return Form(
        height=height,
        width=width,
        bits=directory.one(Tag.BITS_PER_SAMPLE, 1),
        samples=samples,
        channels=1 if apart else samples,
        photometric=photometric,
        compression=compression,
        tiled=tiled,
        rows=rows,
        columns=columns,
        subsampling=subsampling,
    )


def pieces(form: Form, directory: Directory, data: Data) -> Iterator[Piece]:
    """Yield every strip or tile of the image.

    Raises:
        DecodeError: the file does not have them all, or they are too many and too small.
    """
    offsets = directory.all(Tag.TILE_OFFSETS) or directory.all(Tag.STRIP_OFFSETS)
    counts = directory.all(Tag.TILE_BYTE_COUNTS) or directory.all(Tag.STRIP_BYTE_COUNTS)
    across, down = -(-form.width // form.columns), -(-form.height // form.rows)
    planes = form.samples // form.channels
    needed = across * down * planes
    if not counts and form.compression != Compression.NONE and directory.is_odd:
        raise DecodeError(f"the tiff is damaged: it does not say how long its {form.name}s are", kind=Kind.DAMAGED)
    if len(offsets) < needed or 0 < len(counts) < needed:
        found = min(len(offsets), len(counts) or len(offsets))
        reason = f"the tiff has {found:,} of the {needed:,} {form.name}s that its {form.height:,} rows need"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    if needed > _MANY_PIECES and form.height * form.width * planes < needed * _LEAST_PIECE_PIXELS:
        reason = (
            f"the tiff has {needed:,} {form.name}s for {form.width} x {form.height} pixels; save it with larger ones"
        )
        raise DecodeError(reason, kind=Kind.TOO_LARGE)
    for number in range(needed):
        plane, place = divmod(number, across * down)
        top, left = place // across * form.rows, place % across * form.columns
        rows = form.rows if form.tiled else min(form.rows, form.height - top)
        at = offsets[number]
        if form.compression == Compression.NONE:
            end = at + form.packed_bytes(rows)  # whatever is said of it: some writers say nothing, or something wrong
        else:
            end = at + counts[number] if counts else len(data)
        if not at <= end <= len(data):
            reason = (
                f"the tiff ends early: its {form.name} {number + 1:,} of {needed:,} lies beyond its {len(data):,} bytes"
            )
            raise DecodeError(reason, kind=Kind.ENDS_EARLY)
        yield Piece(number, top, left, rows, plane, at, end)
