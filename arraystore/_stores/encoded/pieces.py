"""What is decoded of some JPEGs: the whole images, or windows that are cut out of their bytes before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._common.scratch import Buffers

if TYPE_CHECKING:
    from arraystore._kernels import jpeg_cut
else:  # numba takes half a second
    jpeg_cut = lazy("arraystore._kernels.jpeg_cut")

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_HEAD_BYTES = 1 << 16  # of a JPEG that is cut, besides as many bytes as its pixels have; larger ones hold other things
_MARGIN = 1  # pixels beside a window, with which chroma is interpolated

_buffers = Buffers()


class Pieces(NamedTuple):
    """Some JPEGs, and the boxes that they show of their images."""

    files: list[Pixels]  # windows that were cut lie in scratch memory, which the next ones overwrite
    plain: list[bool]  # whether any decoder decodes it in one pass
    boxes: Integers  # (k, 4): left, top, width, height

    def some(self, these: slice) -> Pieces:
        """Return some of them."""
        return Pieces(self.files[these], self.plain[these], self.boxes[these])


def together(sizes: Integers, most: int) -> Iterator[slice]:
    """Yield runs of neighbors that have up to so many bytes together, and at least one each."""
    first = total = 0
    for k, size in enumerate(sizes.tolist()):
        if k > first and total + size > most:
            yield slice(first, k)
            first, total = k, 0
        total += size
    if first < len(sizes):
        yield slice(first, len(sizes))


def pieces_of(
    data: Pixels,
    starts: Integers,
    ends: Integers,
    sides: Integers,
    channels: int,
    windows: npt.NDArray[np.int32] | None = None,
    turned: npt.NDArray[np.bool_] | None = None,
) -> Pieces:
    """Return the pieces of some images; see `arraystore._kernels.jpeg_cut`.

    Args:
        data: uint8, flat: the JPEGs.
        starts: int64, (k,): where each begins, for at least one.
        ends: int64, (k,): where each ends.
        sides: int64, (k, 2): height and width of each image.
        channels: of all images.
        windows: int32, (k, 6): see `arraystore._augmenting.crops.GEOMETRY`; None for whole images.
        turned: bool, (k,): which images are turned after they are decoded, and so are decoded whole; None if none is.
    """
    # Those that hold far more than pixels would take as much scratch memory.
    left_whole = ends - starts > channels * sides.prod(axis=1) + _HEAD_BYTES
    if turned is not None:
        left_whole |= turned
    sizes = np.where(left_whole, 0, ends - starts)
    cut_ends = starts + sizes
    across = np.ascontiguousarray(sides[:, ::-1])  # width before height
    placed, plain = np.zeros((len(starts), 6), np.int64), np.empty(len(starts), np.bool_)
    placed[:, 4:] = across
    room = sizes.max() if windows is None else sizes.sum() + len(starts) * jpeg_cut.SPARE_BYTES
    cuts = _buffers.get("cuts", int(room))
    jpeg_cut.find_plain(data, starts, cut_ends, across, cuts, plain)
    if windows is not None:
        wanted = np.empty((len(starts), 5), np.int64)
        wanted[:, :2] = windows[:, 1::-1]
        wanted[:, 2:4] = windows[:, 3:1:-1]
        wanted[:, 2:4] += wanted[:, :2]
        wanted[:, 4] = _MARGIN
        jpeg_cut.cut_many(data, starts, cut_ends, wanted, across, cuts, placed)
    every = zip(*map(np.ndarray.tolist, (starts, ends, placed[:, 0], placed[:, 1])), strict=True)
    files = [cuts[begin:stop] if stop else data[start:end] for start, end, begin, stop in every]
    return Pieces(files, plain.tolist(), placed[:, 2:])
