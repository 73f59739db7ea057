"""Slots as a map-style dataset for PyTorch: one gather a batch, and no copy but what goes between processes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from arraystore._reading.buffers import Leases
from arraystore._reading.loader import batch_targets
from arraystore._reading.slot_arrays import Slots

__all__ = ["StoreDataset"]


class StoreDataset(Dataset[Any]):
    """Slots as a map-style dataset, for torch.utils.data.DataLoader and what is made for it.

        >>> dataset = StoreDataset(store)  # doctest: +SKIP
        >>> loader = DataLoader(dataset, 256, shuffle=True, num_workers=4, collate_fn=dataset.collate)  # doctest: +SKIP

    A sample is ``(image, label)``; the image alone where there are no labels, or with ``targets=()``; with another name
    in ``targets`` that target in place of the label; with a list of names a dict of ``"images"`` and them. All are
    tensors, an image with the shape and dtype of its slot.

    A DataLoader asks for a whole batch at once. It is gathered by one call, into shared memory where that is in one
    of the DataLoader's processes; `collate` hands that on as it is, where torch's own would copy it. The samples of a
    batch are views of it, so one of them that is kept keeps all.

    It can be sent to processes: those that are forked share everything, those that are spawned map files again, and get
    a copy of what is in RAM.

    Args:
        slots: a store, or what was chosen of stores. Slots that hold no image are left out.
        transform: a function of one image, a tensor with the shape of the slot, its own to change; what it returns
            takes the place of the image. What is random in it is for it to seed, as in any dataset. (The ``transform``
            of a `Loader` gets an array, (H, W, C), instead.)
        targets: see above; None for the labels.

    Attributes:
        slots: what is read: sample i is slot i of these.

    Raises:
        SpecError: there is no such target.
    """

    def __init__(
        self,
        slots: Slots,
        *,
        transform: Callable[[torch.Tensor], Any] | None = None,
        targets: str | Sequence[str] | None = None,
    ) -> None:
        names, self._single = batch_targets(slots, targets)
        unreadable = slots.unreadable()
        # Not the store itself: it may be closed while its slots are still read.
        self.slots = slots.choose(np.delete(np.arange(len(slots)), unreadable)) if unreadable.size else slots.same()
        part = self.slots.parts[0]
        arrays = {"images": part.images} | {name: part.targets[name] for name in names}
        self._columns = {name: (array.shape[1:], array.dtype) for name, array in arrays.items()}
        self._transform = transform
        self._pool: tuple[int, Leases] | None = None

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, index: int) -> Any:
        return self._samples([index], self._buffers(1))[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a batch, read by one call.

        Args:
            indices: of the samples; negative ones count from the end.

        Raises:
            IndexError: there is no such sample.
        """
        shared = get_worker_info() is not None and self._transform is None
        return self._samples(indices, self._shared(len(indices)) if shared else self._lent(len(indices)))

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        """Return a batch of samples, as the ``collate_fn`` of a DataLoader.

        It is what `Loader` yields: a tensor, a tuple or a dict, with one more axis in front. What was gathered as a
        batch is not copied; other samples are stacked as torch does.
        """
        return samples.whole if isinstance(samples, _Gathered) else default_collate(samples)

    def _samples(self, indices: Sequence[int], columns: dict[str, torch.Tensor]) -> list[Any]:
        """Fill the buffers of a batch, and return its samples."""
        count = len(self)
        wanted = np.array([operator.index(index) for index in indices], np.int64)
        wanted[wanted < 0] += count
        if wanted.size and not 0 <= int(wanted.min()) <= int(wanted.max()) < count:
            raise IndexError(f"samples {min(indices):,} to {max(indices):,} were asked for, there are {count:,}")
        for name, tensor in columns.items():
            self.slots.take(wanted, None if name == "images" else name, out=tensor.numpy())
        images: Sequence[Any] = columns["images"].unbind()
        if self._transform is not None:
            images = [self._transformed(*each) for each in zip(images, wanted, strict=True)]
        rows = zip(images, *(tensor.unbind() for name, tensor in columns.items() if name != "images"), strict=True)
        samples = [self._shaped(row) for row in rows]
        return samples if self._transform is not None else _Gathered(samples, self._shaped(tuple(columns.values())))

    def _shaped(self, values: tuple[Any, ...]) -> Any:
        if not self._single:
            return dict(zip(self._columns, values, strict=True))
        return values if len(values) > 1 else values[0]

    def _transformed(self, image: torch.Tensor, index: np.int64) -> Any:
        try:
            return self._transform(image) if self._transform is not None else image
        except Exception as error:
            error.add_note(f"transform was called with slot {self.slots.base(np.array([index]))[0]}")
            raise

    def _buffers(self, count: int) -> dict[str, torch.Tensor]:
        return {
            name: torch.from_numpy(np.empty((count, *shape), dtype)) for name, (shape, dtype) in self._columns.items()
        }

    def _lent(self, count: int) -> dict[str, torch.Tensor]:
        """Buffers that are used again when nothing refers to them: new memory costs more than to fill it."""
        if self._pool is None or self._pool[0] != count:
            columns = {name: ((count, *shape), dtype) for name, (shape, dtype) in self._columns.items()}
            self._pool = count, Leases(columns, spare=2)
        return {name: torch.from_numpy(array) for name, array in self._pool[1].take().items()}

    def _shared(self, count: int) -> dict[str, torch.Tensor]:
        """Buffers that the process of the DataLoader maps when they are sent to it."""
        buffers = {}
        for name, (shape, dtype) in self._columns.items():
            size = count * int(np.prod(shape)) * dtype.itemsize
            # As torch's own collate does: `share_memory_` would copy what has been gathered.
            storage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call,unused-ignore]  # noqa: SLF001 - see above
            flat = torch.empty(0, dtype=torch.uint8).set_(storage)
            buffers[name] = flat.view(torch.from_numpy(np.empty(0, dtype)).dtype).view(count, *shape)
        return buffers

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}


class _Gathered(list[Any]):
    """Samples that lie in one batch."""

    def __init__(self, samples: list[Any], whole: Any) -> None:
        super().__init__(samples)
        self.whole = whole
