"""Images that are kept as JPEG bytes and decoded when they are read, behind the face of an array of slots.

A window is cut out of the bytes before any pixel is decoded (`arraystore._kernels.jpeg_cut`), so a random resized crop
decodes about the part that it shows. Its pixels are those of the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.parts import Parts
from arraystore._common.lazy import lazy
from arraystore._common.scratch import Buffers
from arraystore._decoding.header import TRANSPOSED, read_header
from arraystore._format.description import Description
from arraystore._format.ledger import side_fields
from arraystore._stores.encoded.jpegs import Integers, Jpegs, Pixels
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

# A block is as many images as are decoded before their pixels are moved into the batch: few, so that these stay in the
# cache, but enough to be worth the calls.
_BLOCK_BYTES = 1 << 21  # of pixels
_BLOCK_IMAGES = 256
_HEAD_BYTES = 1 << 16  # of a JPEG that is cut, besides as many bytes as its pixels have; larger ones hold other things
_REGISTER_BYTES = 64
_MARGIN = 1  # pixels beside a window, with which chroma is interpolated

_buffers = Buffers()


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImages(Jpegs):
    """Images as JPEG bytes. It has what readers use of an array: shape, dtype, length, and indexing.

    ``images[3]`` is an array with the pixels of an image, ``images[2:9]`` and ``images[[5, 1]]`` one with several,
    which must have the same sides; each belongs to the caller. An image without bytes has zeros.
    """

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """The type of the pixels."""
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __getitem__(self, chosen: Any) -> Any:
        if isinstance(chosen, tuple):
            return self._inside(chosen)
        rows = np.arange(len(self), dtype=np.int64)[chosen]
        shape = self.shape_of(rows.reshape(-1))
        out = np.empty((rows.size, *shape), np.uint8)
        self.read(rows.reshape(-1), out)
        return out.reshape(*rows.shape, *shape)

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

    def read(self, rows: Integers, out: Pixels, at: Integers | None = None) -> None:
        """Decode images into rows of an array in C order: the first ones, or the rows ``at``.

        Raises:
            FormatError: the bytes of an image are damaged.
            SpecError: the images differ in shape.
            ValueError: the array does not have the type and the shape of images, in C order.
        """
        if self.differ and not len(rows):
            return
        shape = self.shape_of(rows)
        if out.shape[1:] != shape or out.dtype != np.uint8 or not out.flags.carray:
            raise ValueError(f"images are decoded into uint8 of shape (n, {shape}), writable in C order")
        if not len(rows):
            return
        channels, (height, width) = self.channels, self.sides_of(rows[:1])[0].tolist()
        if not height * width:  # no image has bytes
            return
        windows = np.zeros((len(rows), 6), np.int32)
        windows[:, 2], windows[:, 3] = height, width
        at = np.arange(len(rows)) if at is None else np.ascontiguousarray(at)
        flat = out.reshape(len(out), -1)
        if self.layout == "NHWC" or channels == 1:  # the decoder writes them as they are wanted
            sides = self.sides_of(rows)
            for these in self._blocks(sides):
                rooms = [flat[row] for row in at[these].tolist()]
                self._decode(rows[these], windows[these], sides[these], rooms)
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
        channels, sides = self.channels, self.sides_of(rows)
        for these in self._blocks(sides):
            count = these.stop - these.start
            ends = np.cumsum(channels * sides[these].prod(axis=1))
            # The kernels read a whole register at a time, and a register may reach over the end of the last part.
            pixels = _buffers.get("pixels", int(ends[-1]) + _REGISTER_BYTES)
            rooms = np.split(pixels[: ends[-1]], ends[:-1])
            placed = self._decode(rows[these], windows[these], sides[these], rooms)
            places = np.empty((count, 3), np.int64)
            places[0, 0], places[1:, 0] = 0, ends[:-1]
            places[:, 1:] = placed[:, :3:-1]
            yield Parts(these.start, these.stop, pixels, places, placed[:, 3:1:-1])

    def _blocks(self, sides: Integers) -> Iterator[slice]:
        """Yield slices of images that are decoded together."""
        sizes = self.channels * sides.prod(axis=1)
        first = 0
        while first < len(sizes):
            together = int(np.searchsorted(np.cumsum(sizes[first : first + _BLOCK_IMAGES]), _BLOCK_BYTES, "right"))
            yield slice(first, first := first + max(together, 1))

    def _decode(
        self, rows: Integers, windows: npt.NDArray[np.int32], sides: Integers, rooms: Sequence[Pixels]
    ) -> Integers:
        """Decode the parts that windows show, each into the first bytes of its room.

        Returns:
            int64, (k, 6), which has the left and top side of each part in its image, its width and height in columns 2
            to 5.
        """
        channels = self.channels
        starts, ends = self.spans(rows)
        decode, color = simplejpeg.decode_jpeg, "RGB" if channels == 3 else "GRAY"
        cuts, placed, plain = self._cut(starts, ends, windows, sides, self.turned(rows))
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
            height, width = sides[k].tolist()
            self._decode_any(int(rows[k]), room.reshape(height, width, channels))
            placed[k, 2:] = 0, 0, width, height
        return placed

    def _cut(
        self,
        starts: Integers,
        ends: Integers,
        windows: npt.NDArray[np.int32],
        sides: Integers,
        turned: npt.NDArray[np.bool_] | None,
    ) -> tuple[Pixels, Integers, npt.NDArray[np.bool_]]:
        """Cut the windows out of the JPEGs, and find the plain ones; see `arraystore._kernels.jpeg_cut`.

        Those that are turned are neither.
        """
        wanted = np.empty((len(starts), 5), np.int64)
        wanted[:, :2] = windows[:, 1::-1]
        wanted[:, 2:4] = windows[:, 3:1:-1]
        wanted[:, 2:4] += wanted[:, :2]
        wanted[:, 4] = _MARGIN
        placed, plain = np.empty((len(starts), 6), np.int64), np.empty(len(starts), np.bool_)
        if turned is not None:  # these are decoded whole
            ends = np.where(turned, starts, ends)
        sizes, most = ends - starts, self.channels * sides.prod(axis=1) + _HEAD_BYTES
        if (sizes > most).any():  # which would take as much scratch
            ends = np.where(sizes > most, starts, ends)
            sizes = ends - starts
        cuts = _buffers.get("cuts", int(sizes.sum()) + len(starts) * jpeg_cut.SPARE_BYTES)
        across = np.ascontiguousarray(sides[:, ::-1])  # width before height
        jpeg_cut.find_plain(self._bytes, starts, ends, across, cuts, plain)
        jpeg_cut.cut_many(self._bytes, starts, ends, wanted, across, cuts, placed)
        return cuts, placed, plain

    def _decode_any(self, row: int, room: Pixels) -> None:
        """Decode any JPEG, whole, as builds do: slower, but it also takes those that are not plain."""
        data, gray = self.bytes_of(row), room.shape[2] == 1
        is_turned = self.turned(np.array([row])) is not None
        try:
            header = read_header(data)
            found, wanted = (header.height, header.width), room.shape[:2]
            if is_turned and header.orientation in TRANSPOSED:
                wanted = wanted[::-1]
            form = f"{found[0]} by {found[1]} pixels of {header.format}"
            if header.format != "jpeg" or found != wanted:
                raise self.damaged(row, f"it has {form}, not {wanted[0]} by {wanted[1]} of jpeg")
            image = jpeg.decode_scaled(data, header, gray=gray).image
        except DecodeError as error:
            raise self.damaged(row, str(error)) from error
        if image.ndim == 3 and gray:
            image = slot_decoder.luma(image)
        if is_turned:
            image = slot_decoder.turned_upright(image, header.orientation)
        room[...] = image if image.ndim == 3 else image[:, :, None]


def encoded_images(
    description: Description,
    arrays: tuple[Pixels, npt.NDArray[np.uint64], npt.NDArray[np.int32] | None],
    place: str,
    *,
    count: int | None = None,
) -> EncodedImages:
    """Return the images of a finished store.

    Args:
        description: of the store.
        arrays: see `EncodedImages`: encoded, offsets, and shapes, which are None where slots have one shape.
        place: what holds them, for errors.
        count: how many there are; None for as many as the store has.

    Raises:
        FormatError: the arrays do not fit the description.
    """
    encoded, offsets, shapes = arrays
    spec = description.spec
    if shapes is not None and shapes.shape[1:] != (len(side_fields(spec)),):
        raise FormatError(
            f"{place} has shapes of {shapes.shape}, and its slots have {len(side_fields(spec))} numbers each",
            source=place,
            kind=Kind.DAMAGED,
            advice="repair the store, or build it again",
        )
    shape = (description.count if count is None else count, *description.shape)
    return EncodedImages(encoded, offsets, shape, spec.layout, place, shapes=shapes, most_pixels=spec.max_pixels)
