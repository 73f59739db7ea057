"""Images that are kept as JPEG bytes and decoded when they are read, behind the face of an array of slots.

A window is cut out of the bytes before any pixel is decoded (`arraystore._kernels.jpeg_cut`), so a random resized crop
decodes about the part that it shows. Its pixels are those of the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.parts import Parts
from arraystore._common.lazy import lazy
from arraystore._common.scratch import Buffers
from arraystore.errors import FormatError, Kind

if TYPE_CHECKING:
    import simplejpeg

    from arraystore._kernels import crop as crop_kernels
    from arraystore._kernels import jpeg_cut
else:  # numba takes half a second
    simplejpeg, crop_kernels = lazy("simplejpeg"), lazy("arraystore._kernels.crop")
    jpeg_cut = lazy("arraystore._kernels.jpeg_cut")

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_BLOCK_BYTES = 1 << 20  # of pixels that are decoded before they are moved into the batch: they stay in the cache
_REGISTER_BYTES = 64
_MARGIN = 1  # pixels beside a window, with which chroma is interpolated

_buffers = Buffers()


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImages:
    """Images of one shape as JPEG bytes. It has what readers use of an array: shape, dtype, length, and indexing.

    ``images[3]`` is an array with the pixels of an image, ``images[2:9]`` and ``images[[5, 1]]`` one with several; each
    belongs to the caller. An image without bytes has zeros.

    Attributes:
        encoded: uint8, (bytes,): the JPEGs, one after the other.
        offsets: uint64, (N + 1,): where each begins; the last is the end. Or (N,), with ``ends``.
        shape: (N, C, H, W), or (N, H, W, C).
        layout: ``"NCHW"`` or ``"NHWC"``.
        place: what holds them, for errors.
        ends: uint64, (N,): where each ends, if they do not follow each other; None if they do.
    """

    encoded: Pixels
    offsets: npt.NDArray[np.uint64]
    shape: tuple[int, ...]
    layout: str
    place: str = ""
    ends: npt.NDArray[np.uint64] | None = None

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """The type of the pixels."""
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that all images take as they are kept."""
        return self.encoded.nbytes

    @property
    def sides(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        first, second, third = self.shape[1:]
        return (first, second, third) if self.layout == "NCHW" else (third, first, second)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Any) -> Any:
        if isinstance(chosen, tuple):
            return self[chosen[0]][(slice(None), *chosen[1:]) if not _is_one(chosen[0]) else chosen[1:]]
        rows = np.arange(len(self), dtype=np.int64)[chosen]
        out = np.empty((rows.size, *self.shape[1:]), np.uint8)
        self.read(rows.reshape(-1), out)
        return out.reshape(*rows.shape, *self.shape[1:])

    def __iter__(self) -> Iterator[Pixels]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("encoded images are decoded into a new array")
        return np.asarray(self[:], dtype)

    def bytes_of(self, row: int) -> memoryview:
        """Return the JPEG of an image; empty if it has none."""
        begins, ends = self._ranges(np.array([row]))
        return memoryview(self.encoded)[int(begins[0]) : int(ends[0])].toreadonly()

    def _ranges(self, rows: Integers) -> tuple[Integers, Integers]:
        ends = self.offsets[rows + 1] if self.ends is None else self.ends[rows]
        return self.offsets[rows].astype(np.int64), ends.astype(np.int64)

    def read(self, rows: Integers, out: Pixels, at: Integers | None = None) -> None:
        """Decode images into rows of an array: the first ones, or the rows ``at``.

        Raises:
            FormatError: the bytes of an image are damaged.
        """
        channels, height, width = self.sides
        whole = crop_kernels.form_of("uint8", channels, height, width, planar=self.layout == "NCHW")
        windows = np.tile(np.array([0, 0, height, width, 0, 0], np.int32), (len(rows), 1))
        places = np.arange(len(rows)) if at is None else at
        for part in self.parts(rows, windows):
            these = slice(part.first, part.stop)
            arguments = (part.source, (channels, 0), part.places, windows[these], out.reshape(-1), places[these], whole)
            crop_kernels.write_crops(*arguments, 0)

    def parts(self, rows: Integers, windows: npt.NDArray[np.int32]) -> Iterator[Parts]:
        """Decode the parts of images that windows show, some images at a time; channels are interleaved.

        Args:
            rows: int64, (k,): the images.
            windows: int32, (k, 6): of each image; see `arraystore._augmenting.crops.GEOMETRY`.

        Raises:
            FormatError: the bytes of an image are damaged.
        """
        channels, height, width = self.sides
        together = max(_BLOCK_BYTES // (channels * height * width), 1)
        for first in range(0, len(rows), together):
            stop = min(first + together, len(rows))
            yield self._decoded(first, rows[first:stop], windows[first:stop])

    def _decoded(self, first: int, rows: Integers, windows: npt.NDArray[np.int32]) -> Parts:
        channels, height, width = self.sides
        count, image_bytes = len(rows), channels * height * width
        starts, ends = self._ranges(rows)
        wanted = np.empty((count, 5), np.int64)
        wanted[:, 0], wanted[:, 1] = windows[:, 1], windows[:, 0]
        wanted[:, 2], wanted[:, 3] = wanted[:, 0] + windows[:, 3], wanted[:, 1] + windows[:, 2]
        wanted[:, 4] = _MARGIN
        cuts = _buffers.get("cuts", int((ends - starts + jpeg_cut.SPARE_BYTES).sum()))
        # Where each cut begins and ends among the cuts, and its left, top, width and height.
        placed = np.empty((count, 6), np.int64)
        jpeg_cut.cut_many(self.encoded, starts, ends, wanted, (width, height), cuts, placed)
        # The kernels read a whole register at a time, and a register may reach over the end of the last part.
        pixels = _buffers.get("pixels", count * image_bytes + _REGISTER_BYTES)
        places = np.empty((count, 3), np.int64)
        places[:, 0] = np.arange(count) * image_bytes
        places[:, 1:] = placed[:, :3:-1]
        for k, (begin, end, _, _, wide, high) in enumerate(placed.tolist()):
            data = cuts[begin:end] if end else self.encoded[int(starts[k]) : int(ends[k])]
            room = pixels[k * image_bytes : k * image_bytes + wide * high * channels]
            if data.size:
                self._decode(data, room, (high, width if not end else wide, channels), int(rows[k]))
            else:
                room[:] = 0
        return Parts(first, first + count, pixels, places, placed[:, 3:1:-1])

    def _decode(self, data: Pixels, room: Pixels, shape: tuple[int, int, int], row: int) -> None:
        try:
            decoded = simplejpeg.decode_jpeg(data, colorspace="RGB" if shape[2] == 3 else "GRAY", buffer=room)
        except ValueError as error:
            raise self._damaged(row, str(error)) from error
        if decoded.shape != shape:
            raise self._damaged(row, f"it has shape {decoded.shape} instead of {shape}")

    def _damaged(self, row: int, what: str) -> FormatError:
        return FormatError(
            f"{self.place}: the JPEG of slot {row} is damaged: {what}",
            slot=row,
            source=self.place,
            kind=Kind.DAMAGED,
            advice="repair the store",
        )


def _is_one(chosen: Any) -> bool:
    return isinstance(chosen, int | np.integer)
