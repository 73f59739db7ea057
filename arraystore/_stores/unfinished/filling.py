"""Images of a store that is read while it is filled, behind the face of an array of slots.

Readers ask for slots. A `Filler` fills those that are missing and says where their pixels are; that it does so is all
that readers know of it. In a forked process, another filler takes its place, because threads and locks of a build do
not live on in a fork.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._common.forks import lock_across_forks
from arraystore._kernels.copy_rows import gather
from arraystore._stores.array_face import ArrayFace
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.encoded.jpegs import slot_shape_of
from arraystore.errors import BadImage

Pixels = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]
# What holds images, the rows of it to read, and their places among the rows that were asked for, or None for all of
# them in order; see `arraystore._kernels.copy_rows`.
Chosen = tuple[Pixels | EncodedImages, Index, Index | None]

_log = logging.getLogger(__name__)

_forking = lock_across_forks()


class Filler(Protocol):
    """What fills the slots of one store for the readers of this process."""

    identity: str  # of what the slots will hold, the same in every process and in later calls

    @property
    def kept(self) -> Pixels | EncodedImages | None:
        """The images of all slots, mapped from their file or in memory; None where there are none yet."""

    @property
    def is_complete(self) -> bool:
        """Whether every slot is settled and can be read from ``kept``."""

    @property
    def may_fail(self) -> bool:
        """Whether a slot may turn out to have no image; once that is False, it stays so."""

    @property
    def filled(self) -> int:
        """How many slots are settled, as far as this process knows."""

    def status(self) -> Pixels:
        """Return the status of each slot as far as this process knows, a copy: uint8, (N,)."""

    def chosen(self, rows: Index) -> Iterator[Chosen]:
        """Yield where the images of some slots are, after filling those that are missing."""

    def failed(self, rows: Index) -> npt.NDArray[np.bool_]:
        """Return for each slot whether its source could not be stored, after filling those that are missing."""

    def expect(self, order: Iterator[Index]) -> None:
        """Fill slots in this order from now on, as far as they are not filled."""

    def check(self) -> None:
        """Raise the error that the caller wants for the bad images that are known."""

    def bad(self) -> list[BadImage]:
        """Return the slots that are known to have failed, with the reasons."""

    @property
    def finished(self) -> Any:
        """The finished store, an `arraystore._stores.medium.Opened`; None if this process does not know of it yet."""

    def finish(self) -> Any:
        """Fill what is left, publish the store, and return it opened; see `arraystore.FillingStore.finish`."""

    def close(self) -> None:
        """Stop filling; nothing can be read afterwards unless the store is finished."""

    def in_fork(self) -> Filler:
        """Return what fills in a process that was forked from this one."""

    def sendable(self) -> Callable[[], Filler]:
        """Return something that can be pickled, and that makes a filler in another process."""


class FillingImages(ArrayFace):
    """Images of which some are not filled yet. It has what readers use of an array: shape, dtype, length, and indexing.

    ``images[3]`` and ``images[2:9]`` fill these slots first, and return copies. The filler is closed when nothing
    refers to this object any more.

    Attributes:
        shape: (N, C, H, W), or (N, H, W, C); None in place of sides that differ.
        is_encoded: whether images are kept as JPEGs, and decoded when they are read.
    """

    new_array: ClassVar[str] = "images that are being filled are copied into a new array"

    def __init__(self, shape: tuple[Any, ...], filler: Filler, *, is_encoded: bool = False) -> None:
        self.shape = shape
        self.is_encoded = is_encoded
        self._filler = filler
        self._expected: Iterator[Index] | None = None
        self._process = os.getpid()
        self._end = weakref.finalize(self, _close, filler)

    @property
    def filler(self) -> Filler:
        """What fills the slots in this process."""
        if os.getpid() != self._process:
            with _forking:
                if os.getpid() != self._process:
                    self._end.detach()
                    self._filler = self._filler.in_fork()
                    self._process = os.getpid()
        if self._expected is not None and self._filler.is_complete:
            self._expected = None  # it refers to this object, whose slots would live on until a collection
        return self._filler

    def expect(self, order: Iterator[Index]) -> None:
        """Fill slots in this order from now on, as far as they are not filled.

        The order is kept here, because it may refer to this object: what the filler held, its threads would keep alive.
        """
        self._expected = order
        self.filler.expect(_expected(weakref.ref(self)))

    def next_expected(self) -> Index | None:
        """Return the next slots of the order; None at its end."""
        order = self._expected
        return None if order is None else next(order, None)

    @property
    def nbytes(self) -> int:
        """The bytes of all images as they are kept; 0 as long as that is not known."""
        if self.is_encoded:
            return self._filler.kept.nbytes if self._filler.is_complete and self._filler.kept is not None else 0
        return int(np.prod(self.shape, dtype=np.int64))

    def sides_of(self, rows: Index) -> Index:
        """Return height and width of images, which are filled first, where they differ: int64, (k, 2)."""
        sides = np.zeros((len(rows), 2), np.int64)
        for images, there, at in self._encoded(rows):
            sides[slice(None) if at is None else at] = images.sides_of(there)
        return sides

    def bytes_of(self, row: int) -> memoryview:
        """Return the JPEG of an image, which is filled first, where images are encoded."""
        ((images, there, _),) = self._encoded(np.array([row]))
        return images.bytes_of(int(there[0]))

    def _encoded(self, rows: Index) -> Iterator[tuple[EncodedImages, Index, Index | None]]:
        for images, there, at in self.filler.chosen(rows):
            if isinstance(images, EncodedImages):
                yield images, there, at

    def _made(self, rows: Index) -> Pixels:
        shape = self.shape[1:]
        if None in shape:
            channels = next(side for side in shape if side is not None)
            shape = slot_shape_of(self.sides_of(rows), channels, "NCHW" if shape[0] is not None else "NHWC")
        out = np.empty((len(rows), *shape), np.uint8)
        gather(self.filler.chosen(rows), out)
        return out

    def __reduce__(self) -> tuple[Callable[..., FillingImages], tuple[Any, ...]]:
        return _received, (self.shape, self.is_encoded, self.filler.sendable())


def _expected(images: weakref.ref[FillingImages]) -> Iterator[Index]:
    """Yield the slots that readers of some images will ask for, as long as there are readers."""
    while (there := images()) is not None and (rows := there.next_expected()) is not None:
        del there
        yield rows


def _close(filler: Filler) -> None:
    """Close a filler whose images nobody has any more.

    The garbage collector may find that in any thread, also in one that the filler waits for as it closes.
    """
    if threading.current_thread() is threading.main_thread():
        _close_now(filler)
    else:
        threading.Thread(target=_close_now, args=(filler,), name="arraystore-close").start()


def _close_now(filler: Filler) -> None:
    try:
        filler.close()
    except Exception as error:  # it has nobody to go to: the store is no longer in use
        _log.warning("a store that nobody uses any more could not be closed: %s", error)


def _received(shape: tuple[Any, ...], is_encoded: bool, make: Callable[[], Filler]) -> FillingImages:
    return FillingImages(shape, make(), is_encoded=is_encoded)
