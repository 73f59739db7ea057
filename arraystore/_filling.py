"""The store that `arraystore.build(..., wait=False)` returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from arraystore._common.lazy import lazy
from arraystore._common.options import public
from arraystore._common.progress import Progress
from arraystore._format.checking.result import Verification
from arraystore._format.description import Description
from arraystore._reading.store import Store
from arraystore._stores.medium import Opened
from arraystore._stores.opening import verify_store
from arraystore._stores.unfinished.filling import Filler, FillingImages
from arraystore.errors import BadImage, StoreError

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraystore._kernels import sums as slot_sums
else:  # it loads numba, which takes half a second
    slot_sums = lazy("arraystore._kernels.sums")


@public
class FillingStore(Store):
    """A store that can be read while it is filled; `arraystore.build` makes it with ``wait=False``.

        >>> store = arraystore.build("photos/", "train.store", size=256, wait=False)  # doctest: +SKIP
        >>> for images, labels in store.loader(256, seed=1):  # doctest: +SKIP
        ...     train(images, labels)
        >>> store.finish()  # doctest: +SKIP

    Its length, targets and orders are fixed from the beginning, and are the same in every process that makes the same
    call. Threads fill slots in the order in which loaders will ask for them; a slot that nobody has filled yet is
    decoded by the thread that needs it. So the first epoch takes as long as the slower of decoding and training, and
    later ones read at the speed of a built store.

    No loader of it hands out the slot of a bad image: the slot of the next position of the epoch takes its place, and
    is there twice in that epoch.

    The first process that makes the call fills. Others, such as the ranks of one training, read what it has filled,
    decode what is missing, and send it what they have decoded. `close`, the end of that process or a kill ends the
    filling, and the same call goes on from there. See docs/filling.md.

    Attributes:
        mean: each channel's mean over all stored slots, 0 to 255. Before `finish` it is not known: empty, or that of
            the sample that the option ``statistics`` of `arraystore.build` asked for.
        std: each channel's standard deviation over all stored slots; before `finish` as ``mean``.
    """

    def __init__(self, opened: Opened, statistics: int | None = None) -> None:
        super().__init__(opened)
        self._images = cast("FillingImages", opened.array.images)
        if statistics is not None:
            self._estimate(statistics)

    @property
    def _filler(self) -> Filler:
        return self._images.filler

    @property
    def filled(self) -> float:
        """The share of the slots that are filled, from 0.0 to 1.0, as far as this process knows."""
        return self._filler.filled / max(len(self), 1)

    def finish(self) -> None:
        """Fill what is left, compare every slot with its checksum, and publish the store.

        Afterwards this object is the finished store, byte for byte the one that `build` makes without ``wait=False``.
        In a process that does not fill, it asks the one that does, and waits for as long as that gets on.

        Raises:
            BadImagesError: some sources could not be stored, and ``bad`` is ``"raise"``; or none could. The good ones
                are kept.
            StoreError: the store was closed, the volume failed, or the process that fills has ended.
        """
        _ = self._array  # raises if the store was closed
        self._filler.finish()
        self._adopt()

    def _estimate(self, count: int) -> None:
        """Fill so many slots now, spread evenly, and take their mean and standard deviation until all are filled.

        They are the same in every process and every later call, as long as the sources are.

        Raises:
            BadImagesError: more images are bad than ``max_bad`` allows.
        """
        if self._filler.finished is not None:
            return
        slots = self.__slot_arrays__
        sample = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))
        slots.expect(lambda: iter([sample]))  # the workers help
        sums, pixels = np.zeros((self.spec.channels, 2), object), 0
        for slot in sample.reshape(-1, 1):  # one at a time: slots may differ in height and width
            if not slots.failed(slot)[0]:
                (image,) = slots.take(slot)
                sums += slot_sums.channel_sums(image, self.layout).astype(object)
                pixels += image.size // self.spec.channels
        if pixels:
            mean, std = slot_sums.mean_and_std([(total, squares) for total, squares in sums.tolist()], pixels)
            self._describe(replace(self._opened, description=replace(self.description, mean=mean, std=std)))

    def _adopt(self) -> None:
        """Take over what the finished store says, as soon as this process knows of it."""
        opened: Opened | None = self._filler.finished
        if opened is not None and self.description is not opened.description:
            self._describe(opened)

    def _describe(self, opened: Opened) -> None:
        """Say of itself what another account of this store says."""
        self.description: Description = opened.description
        self.mean: tuple[float, ...] = opened.description.mean
        self.std: tuple[float, ...] = opened.description.std
        self._opened = replace(self._opened, description=opened.description, load_table=opened.load_table)
        array = replace(self._array, checksums=opened.array.checksums)
        self._slots = replace(
            self.__slot_arrays__, arrays=(array,), mean=self.mean, std=self.std, records=(self._opened,)
        )

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        """The status of each slot, uint8, (N,), as far as this process knows: 0 empty, 1 stored, 2 failed; a copy."""
        _ = self._array
        return self._filler.status()

    @property
    def checksums(self) -> npt.NDArray[np.uint64]:
        """The xxh3_64 of each slot's bytes: uint64, (N,).

        Raises:
            StoreError: the store is not finished.
        """
        return cast("npt.NDArray[np.uint64]", self._finished().array.checksums)

    def bad(self) -> list[BadImage]:
        """Return the slots whose source could not be stored, with the reasons, as far as this process knows."""
        _ = self._array
        self._adopt()
        return self._filler.bad() if self._filler.finished is None else super().bad()

    def verify(self, *, workers: int | None = None, progress: bool | Callable[[Progress], None] = True) -> Verification:
        """Read and check all contents of the finished store; see `arraystore.verify`.

        Raises:
            StoreError: the store is not finished.
            SpecError: workers is less than 1.
            FormatError: the store is replaced again and again.
        """
        return verify_store(self._finished(), workers=workers, progress=progress)

    def close(self) -> None:
        """Stop filling, and drop the arrays. What is filled is kept on disk, and the same call goes on from there.

        Loaders and choices of slots that were made before stay readable only if the store is finished.
        """
        self._filler.close()
        super().close()

    def _finished(self) -> Opened:
        _ = self._array
        finished: Opened | None = self._filler.finished
        if finished is None:
            raise StoreError("this store is still being filled: call finish() first")
        return finished

    def __reduce__(self) -> tuple[Callable[..., FillingStore], tuple[Any, ...]]:
        return FillingStore, (replace(self._opened, array=self._array),)

    def __repr__(self) -> str:
        return super().__repr__().replace("arraystore.Store", "arraystore.FillingStore", 1)
