"""Images that are kept as JPEG bytes and decoded when they are read, behind the face of an array of slots.

A window is cut out of the bytes before any pixel is decoded (`arraystore._kernels.jpeg_cut`), so a random resized crop
decodes about the part that it shows. Its pixels are those of the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.parts import Parts
from arraystore._common.lazy import lazy
from arraystore._common.scratch import Buffers
from arraystore._decoding.header import read_header
from arraystore._format.specification import STORED
from arraystore._stores.encoded.pieces import Pieces, pieces_of, together
from arraystore.errors import DecodeError, FormatError, Kind

if TYPE_CHECKING:
    import simplejpeg

    from arraystore._decoding import decode as slot_decoder
    from arraystore._decoding.jpeg import decoder as jpeg
    from arraystore._kernels import crop as crop_kernels
else:  # numba takes half a second
    simplejpeg, crop_kernels = lazy("simplejpeg"), lazy("arraystore._kernels.crop")
    jpeg, slot_decoder = lazy("arraystore._decoding.jpeg.decoder"), lazy("arraystore._decoding.decode")

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

# As many images are decoded together before their pixels are moved into the batch: few, so that these stay in the
# cache, but enough to be worth the calls.
_PIXEL_BYTES = 1 << 22
_FILE_BYTES = 1 << 22  # windows of as many are cut together
_REGISTER_BYTES = 64

_buffers = Buffers()


def _scratch(size: int) -> Pixels:
    """Return scratch memory for pixels that are read again at once.

    It begins at an odd address. libjpeg-turbo writes rows that begin at a multiple of 32 bytes around the cache, and a
    tenth of the time of an image would go into reading them from memory.
    """
    return _buffers.get("pixels", size + 1)[1:]


def _decoded(decode: Any, file: Pixels, color: str, room: Pixels, shape: tuple[int, int, int]) -> bool:
    """Decode a plain JPEG, and return whether it has that shape and libjpeg did not complain of damage."""
    try:
        return bool(decode(file, colorspace=color, buffer=room).shape == shape)
    except ValueError:
        return False


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
        at = np.arange(len(rows)) if at is None else at
        flat = out.reshape(len(out), -1)
        starts, ends = self.spans(rows)
        for these in together(ends - starts, _FILE_BYTES):
            pieces = pieces_of(self._bytes, starts[these], ends[these], self.sides)
            rooms = [flat[row] for row in at[these].tolist()]
            if self.layout == "NHWC" or channels == 1:  # the decoder writes them as they are wanted
                self._decode(rows[these], pieces, rooms)
            else:  # one at a time, so that it is still in the cache when its channels become planes
                room = _scratch(channels * height * width)
                self._decode(rows[these], pieces, [room] * len(rooms), rooms)

    def parts(self, rows: Integers, windows: npt.NDArray[np.int32]) -> Iterator[Parts]:
        """Decode the parts of images that windows show, some images at a time; channels are interleaved.

        Args:
            rows: int64, (k,): the images.
            windows: int32, (k, 6): of each image; see `arraystore._augmenting.crops.GEOMETRY`.

        Raises:
            FormatError: the bytes of an image are damaged.
        """
        starts, ends = self.spans(rows)
        for block in together(ends - starts, _FILE_BYTES):
            pieces = pieces_of(self._bytes, starts[block], ends[block], self.sides, windows[block])
            sizes = self.sides[0] * pieces.boxes[:, 2] * pieces.boxes[:, 3]
            for these in together(sizes, _PIXEL_BYTES):
                stops = sizes[these].cumsum()
                begins = stops - sizes[these]
                # The kernels read a whole register at a time, and a register may reach over the end of the last part.
                pixels = _scratch(int(stops[-1]) + _REGISTER_BYTES)
                rooms = [pixels[i:j] for i, j in zip(begins.tolist(), stops.tolist(), strict=True)]
                some = pieces.some(these)
                self._decode(rows[block][these], some, rooms)
                places = np.concatenate([begins[:, None], some.boxes[:, :1:-1]], axis=1)
                yield Parts(block.start + these.start, block.start + these.stop, pixels, places, some.boxes[:, 1::-1])

    def _decode(self, rows: Integers, pieces: Pieces, rooms: list[Pixels], planes: Sequence[Pixels] = ()) -> None:
        """Decode pieces of images, each into its room.

        Args:
            rows: int64, (k,): the images.
            pieces: of these.
            rooms: of each, flat, of its size; they may be the same array if ``planes`` are given.
            planes: of each, its flat place in a batch, to which its three channels are moved; or nothing.
        """
        channels = self.sides[0]
        decode, color = simplejpeg.decode_jpeg, "RGB" if channels == 3 else "GRAY"
        move = crop_kernels.write_planes if planes else None
        every = zip(rows.tolist(), pieces.files, pieces.plain, pieces.boxes.tolist(), rooms, strict=True)
        for k, (row, file, is_plain, (left, top, width, height), room) in enumerate(every):
            shape = height, width, channels
            if not file.size:
                room[:] = 0
            elif not (is_plain and _decoded(decode, file, color, room, shape)):
                room.reshape(shape)[...] = self._whole(row)[top : top + height, left : left + width]
            if move:
                move(room, planes[k])

    def _whole(self, row: int) -> Pixels:
        """Decode any JPEG, whole, as builds do, to (H, W, C): slower, but it also takes those that are not plain.

        Its pixels are in scratch memory, or new.
        """
        data, (channels, height, width) = self.bytes_of(row), self.sides
        try:
            header = read_header(data)
            found = f"{header.height} by {header.width} pixels of {header.format}"
            if header.format != "jpeg" or (header.height, header.width) != (height, width):
                raise self._damaged(row, f"it has {found}, not {height} by {width} of jpeg")
            image = jpeg.decode_scaled(data, header, gray=channels == 1).image
        except DecodeError as error:
            raise self._damaged(row, str(error)) from error
        if image.ndim == 3:
            return slot_decoder.luma(image)[:, :, None] if channels == 1 else image
        return image[:, :, None]  # of a gray one, which is the same in all channels

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
