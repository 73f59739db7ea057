"""Images that are kept as JPEG bytes and decoded when they are read, behind the face of an array of slots.

A window is cut out of the bytes before any pixel is decoded (`arraystore._kernels.jpeg_cut`), so a random resized crop
decodes about the part that it shows. Its pixels are those of the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.parts import Parts
from arraystore._common.lazy import lazy
from arraystore._common.scratch import Buffers
from arraystore._decoding.header import TRANSPOSED, read_header
from arraystore._format.description import Description
from arraystore._format.ledger import side_fields
from arraystore._stores.array_face import ArrayFace
from arraystore._stores.encoded.jpegs import Integers, Jpegs, Pixels
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
class EncodedImages(Jpegs, ArrayFace):
    """Images as JPEG bytes. It has what readers use of an array: shape, dtype, length, and indexing.

    ``images[3]`` is an array with the pixels of an image, ``images[2:9]`` and ``images[[5, 1]]`` one with several,
    which must have the same sides; each belongs to the caller. An image without bytes has zeros.
    """

    new_array: ClassVar[str] = "encoded images are decoded into a new array"

    def _made(self, rows: Integers) -> Pixels:
        out = np.empty((len(rows), *self.shape_of(rows)), np.uint8)
        self.read(rows, out)
        return out

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
        if not out[:1].size or not len(rows):
            return
        at = np.arange(len(rows)) if at is None else at
        flat = out.reshape(len(out), -1)
        starts, ends = self.spans(rows)
        for these in together(ends - starts, _FILE_BYTES):
            pieces = self._pieces(rows[these], starts[these], ends[these])
            rooms = [flat[row] for row in at[these].tolist()]
            if self.layout == "NHWC" or self.channels == 1:  # the decoder writes them as they are wanted
                self._decode(rows[these], pieces, rooms)
            else:  # one at a time, so that it is still in the cache when its channels become planes
                self._decode(rows[these], pieces, [_scratch(flat.shape[1])] * len(rooms), rooms)

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
            pieces = self._pieces(rows[block], starts[block], ends[block], windows[block])
            sizes = self.channels * pieces.boxes[:, 2] * pieces.boxes[:, 3]
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

    def _pieces(
        self, rows: Integers, starts: Integers, ends: Integers, windows: npt.NDArray[np.int32] | None = None
    ) -> Pieces:
        return pieces_of(self._bytes, starts, ends, self.sides_of(rows), self.channels, windows, self.turned(rows))

    def _decode(self, rows: Integers, pieces: Pieces, rooms: list[Pixels], planes: Sequence[Pixels] = ()) -> None:
        """Decode pieces of images, each into its room.

        Args:
            rows: int64, (k,): the images.
            pieces: of these.
            rooms: of each, flat, of its size; they may be the same array if ``planes`` are given.
            planes: of each, its flat place in a batch, to which its three channels are moved; or nothing.
        """
        channels = self.channels
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
        data, is_gray, one = self.bytes_of(row), self.channels == 1, np.array([row])
        is_turned = self.turned(one) is not None
        height, width = self.sides_of(one)[0].tolist()
        try:
            header = read_header(data)
            if is_turned and header.orientation in TRANSPOSED:
                height, width = width, height
            found = f"{header.height} by {header.width} pixels of {header.format}"
            if header.format != "jpeg" or (header.height, header.width) != (height, width):
                raise self.damaged(row, f"it has {found}, not {height} by {width} of jpeg")
            image = jpeg.decode_scaled(data, header, gray=is_gray).image
        except DecodeError as error:
            raise self.damaged(row, str(error)) from error
        if image.ndim == 3 and is_gray:
            image = slot_decoder.luma(image)
        if is_turned:
            image = slot_decoder.turned_upright(image, header.orientation)
        return image if image.ndim == 3 else image[:, :, None]  # a gray one is the same in all channels


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
