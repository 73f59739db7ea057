"""Images that are kept as JPEG bytes and decoded when they are read, behind the face of an array of slots.

A window is cut out of the bytes before any pixel is decoded (`arraystore._kernels.jpeg_cut`), so a random resized crop
decodes about the part that it shows. Its pixels are those of the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.parts import Parts
from arraystore._common.lazy import lazy
from arraystore._common.scratch import Buffers
from arraystore._decoding.header import read_header
from arraystore._format.specification import STORED
from arraystore.errors import DecodeError, FormatError, Kind

if TYPE_CHECKING:
    import simplejpeg

    from arraystore._decoding import decode as slot_decoder
    from arraystore._decoding.jpeg import decoder as jpeg
    from arraystore._kernels import crop as crop_kernels
    from arraystore._kernels import jpeg_cut
else:  # numba takes half a second
    simplejpeg, crop_kernels = lazy("simplejpeg"), lazy("arraystore._kernels.crop")
    jpeg_cut, jpeg = lazy("arraystore._kernels.jpeg_cut"), lazy("arraystore._decoding.jpeg.decoder")
    slot_decoder = lazy("arraystore._decoding.decode")

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

# A block is as many images as are decoded before their pixels are moved into the batch: few, so that these stay in the
# cache, but enough to be worth the calls.
_BLOCK_BYTES = 1 << 21  # of pixels
_BLOCK_IMAGES = 256
_HEAD_BYTES = 1 << 16  # of a JPEG that is cut, besides as many bytes as its pixels have; larger ones hold other things
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
        status: uint8, (N,): of each image; one that is stored has bytes. None if it is not known.
        owner: image → what holds it, and its slot there, for errors; None if ``place`` holds all, in this order.

    Raises:
        FormatError: there is not one offset more than there are images.
    """

    encoded: Pixels
    offsets: npt.NDArray[np.uint64]
    shape: tuple[int, ...]
    layout: str
    place: str = ""
    ends: npt.NDArray[np.uint64] | None = None
    status: npt.NDArray[np.uint8] | None = None
    owner: Callable[[int], tuple[str, int]] | None = None
    # Plain arrays: indexing a np.memmap makes a np.memmap each time, which takes longer than the rest.
    _bytes: Pixels = field(init=False)
    _begins: Integers = field(init=False)
    _ends: Integers = field(init=False)

    def __post_init__(self) -> None:
        bounds = [np.asarray(each).view(np.int64) for each in (self.offsets, self.ends) if each is not None]
        begins, ends = bounds if len(bounds) == 2 else (bounds[0][:-1], bounds[0][1:])
        if not len(begins) == len(ends) == self.shape[0]:
            raise FormatError(
                f"{self.place or 'the store'} has offsets of shape {self.offsets.shape} for {self.shape[0]:,} JPEGs",
                source=self.place or None,
                kind=Kind.DAMAGED,
                advice="repair the store",
            )
        object.__setattr__(self, "_bytes", np.asarray(self.encoded))
        object.__setattr__(self, "_begins", begins)
        object.__setattr__(self, "_ends", ends)

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
            return self._inside(chosen)
        rows = np.arange(len(self), dtype=np.int64)[chosen]
        out = np.empty((rows.size, *self.shape[1:]), np.uint8)
        self.read(rows.reshape(-1), out)
        return out.reshape(*rows.shape, *self.shape[1:])

    def _inside(self, chosen: tuple[Any, ...]) -> Any:
        """Return what indices of several axes choose, as NumPy does; only the images that they name are decoded."""
        first, rest = chosen[0] if chosen else None, chosen[1:]
        if first is None or first is Ellipsis:
            return self[:][chosen]
        if isinstance(first, slice):
            return self[first][(slice(None), *rest)]
        rows = np.arange(len(self))[first]
        distinct, which = np.unique(rows, return_inverse=True)
        return self[distinct][(which.reshape(rows.shape), *rest)]

    def __iter__(self) -> Iterator[Pixels]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("encoded images are decoded into a new array")
        return np.asarray(self[:], dtype)

    def spans(self, rows: Integers) -> tuple[Integers, Integers]:
        """Return where the JPEGs of some images begin and end in ``encoded``: int64, (k,) each.

        Raises:
            FormatError: one would lie outside, or end before it begins; or a stored image has no bytes.
        """
        starts, ends = self._begins[rows], self._ends[rows]
        if rows.size and not (starts.min() >= 0 and ends.max() <= self._bytes.size and (starts < ends).all()):
            outside = (starts < 0) | (starts > ends) | (ends > self._bytes.size)
            if outside.any():
                raise self._damaged(int(rows[outside.argmax()]), "its offsets do not lie in the file of the JPEGs")
            missing = (starts == ends) & (self.status is not None and self.status[rows] == STORED)
            if missing.any():
                raise self._damaged(int(rows[missing.argmax()]), "it is stored, but has no bytes")
        return starts, ends

    def spans_inside(self, rows: Integers) -> tuple[Integers, Integers]:
        """Return `spans` for reading ahead: no error, but a span that would lie outside is shortened."""
        starts = self._begins[rows].clip(0, self._bytes.size)
        return starts, self._ends[rows].clip(starts, self._bytes.size)

    def bytes_of(self, row: int) -> memoryview:
        """Return the JPEG of an image, read-only; empty if it has none.

        Raises:
            FormatError: see `spans`.
        """
        (start,), (end,) = self.spans(np.array([row], np.int64))
        return self._bytes[int(start) : int(end)].data.toreadonly()

    def copy_bytes(self, rows: Integers, out: Pixels, begins: Integers) -> None:
        """Copy the JPEGs of some images into an array of bytes, each from its place in ``begins`` on.

        Raises:
            FormatError: see `spans`.
        """
        for start, end, begin in zip(*map(np.ndarray.tolist, self.spans(rows)), begins.tolist(), strict=True):
            out[begin : begin + end - start] = self._bytes[start:end]

    def read(self, rows: Integers, out: Pixels, at: Integers | None = None) -> None:
        """Decode images into rows of an array in C order: the first ones, or the rows ``at``.

        Raises:
            FormatError: the bytes of an image are damaged.
            ValueError: the array does not have the type and the shape of images, in C order.
        """
        if out.shape[1:] != self.shape[1:] or out.dtype != np.uint8 or not out.flags.carray:
            raise ValueError(f"images are decoded into uint8 of shape (n, {self.shape[1:]}), writable in C order")
        if not len(rows):
            return
        channels, height, width = self.sides
        windows = np.zeros((len(rows), 6), np.int32)
        windows[:, 2], windows[:, 3] = height, width
        at = np.arange(len(rows)) if at is None else np.ascontiguousarray(at)
        flat = out.reshape(len(out), -1)
        if self.layout == "NHWC" or channels == 1:  # the decoder writes them as they are wanted
            for these in self._blocks(len(rows)):
                self._decode(rows[these], windows[these], [flat[row] for row in at[these].tolist()])
            return
        whole = crop_kernels.form_of("uint8", channels, height, width, planar=True)
        for part in self.parts(rows, windows):
            these = slice(part.first, part.stop)
            arguments = (part.source, (channels, 0), part.places, windows[these], out.reshape(-1), at[these], whole)
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
        image_bytes = channels * height * width
        for these in self._blocks(len(rows)):
            count = these.stop - these.start
            # The kernels read a whole register at a time, and a register may reach over the end of the last part.
            pixels = _buffers.get("pixels", count * image_bytes + _REGISTER_BYTES)
            rooms = pixels[: count * image_bytes].reshape(count, image_bytes)
            placed = self._decode(rows[these], windows[these], list(rooms))
            places = np.empty((count, 3), np.int64)
            places[:, 0] = np.arange(count) * image_bytes
            places[:, 1:] = placed[:, :3:-1]
            yield Parts(these.start, these.stop, pixels, places, placed[:, 3:1:-1])

    def _blocks(self, count: int) -> Iterator[slice]:
        channels, height, width = self.sides
        together = min(max(_BLOCK_BYTES // (channels * height * width), 1), _BLOCK_IMAGES)
        return (slice(first, min(first + together, count)) for first in range(0, count, together))

    def _decode(self, rows: Integers, windows: npt.NDArray[np.int32], rooms: Sequence[Pixels]) -> Integers:
        """Decode the parts that windows show, each into the first bytes of its room.

        Returns:
            int64, (k, 6), which has the left and top side of each part in its image, its width and height in columns 2
            to 5.
        """
        channels, height, width = self.sides
        starts, ends = self.spans(rows)
        decode, color = simplejpeg.decode_jpeg, "RGB" if channels == 3 else "GRAY"
        cuts, placed, plain = self._cut(starts, ends, windows)
        columns = starts, ends, placed[:, 0], placed[:, 1], placed[:, 4], placed[:, 5], plain
        every = zip(*map(np.ndarray.tolist, columns), rooms, strict=True)
        for k, (start, end, begin, stop, wide, high, is_plain, room) in enumerate(every):
            if start == end:
                room[:] = 0
                continue
            if is_plain:
                data = cuts[begin:stop] if stop else self._bytes[start:end]
                # libjpeg complains of damage, and simplejpeg raises that.
                with suppress(ValueError):
                    if decode(data, colorspace=color, buffer=room).shape == (high, wide, channels):
                        continue
            self._decode_any(int(rows[k]), room.reshape(height, width, channels))
            placed[k, 2:] = 0, 0, width, height
        return placed

    def _cut(
        self, starts: Integers, ends: Integers, windows: npt.NDArray[np.int32]
    ) -> tuple[Pixels, Integers, npt.NDArray[np.bool_]]:
        """Cut the windows out of the JPEGs, and find the plain ones; see `arraystore._kernels.jpeg_cut`."""
        channels, height, width = self.sides
        wanted = np.empty((len(starts), 5), np.int64)
        wanted[:, :2] = windows[:, 1::-1]
        wanted[:, 2:4] = windows[:, 3:1:-1]
        wanted[:, 2:4] += wanted[:, :2]
        wanted[:, 4] = _MARGIN
        placed, plain = np.empty((len(starts), 6), np.int64), np.empty(len(starts), np.bool_)
        sizes = ends - starts
        if sizes.max() > (most := channels * height * width + _HEAD_BYTES):  # which would take as much scratch
            ends = np.where(sizes > most, starts, ends)
            sizes = ends - starts
        cuts = _buffers.get("cuts", int(sizes.sum()) + len(starts) * jpeg_cut.SPARE_BYTES)
        jpeg_cut.find_plain(self._bytes, starts, ends, (width, height), cuts, plain)
        jpeg_cut.cut_many(self._bytes, starts, ends, wanted, (width, height), cuts, placed)
        return cuts, placed, plain

    def _decode_any(self, row: int, room: Pixels) -> None:
        """Decode any JPEG, whole, as builds do: slower, but it also takes those that are not plain."""
        data, gray = self.bytes_of(row), room.shape[2] == 1
        try:
            header = read_header(data)
            found = f"{header.height} by {header.width} pixels of {header.format}"
            if header.format != "jpeg" or (header.height, header.width) != room.shape[:2]:
                raise self._damaged(row, f"it has {found}, not {room.shape[0]} by {room.shape[1]} of jpeg")
            image = jpeg.decode_scaled(data, header, gray=gray).image
        except DecodeError as error:
            raise self._damaged(row, str(error)) from error
        if image.ndim == 3 and gray:
            image = slot_decoder.luma(image)
        room[...] = image if image.ndim == 3 else image[:, :, None]

    def _damaged(self, row: int, what: str) -> FormatError:
        place, slot = (self.place, row) if self.owner is None else self.owner(row)
        return FormatError(
            f"{place + ': ' if place else ''}the JPEG of slot {slot} is damaged: {what}",
            slot=slot,
            source=place or None,
            reason=what,
            kind=Kind.DAMAGED,
            advice="repair the store",
        )
