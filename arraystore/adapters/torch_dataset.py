"""Slots as a map-style dataset for PyTorch: one gather per batch, and no other copy within a process."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from arraystore._common.ragged import Ragged
from arraystore._reading.loader import batch_targets
from arraystore._reading.options import Targets
from arraystore._reading.slot_arrays import HasSlots
from arraystore._reading.slots import Slots
from arraystore._workers.buffers import BufferPool

__all__ = ["StoreDataset"]


class StoreDataset(Dataset[Any]):
    """Slots as a map-style dataset, for torch.utils.data.DataLoader and code made for it.

        >>> dataset = StoreDataset(store)  # doctest: +SKIP
        >>> loader = DataLoader(dataset, 256, shuffle=True, num_workers=4, collate_fn=dataset.collate)  # doctest: +SKIP

    A sample is ``(image, label)``, or the image alone if there are no labels or with ``targets=()``. With the name of
    a target in ``targets``, that target takes the place of the label. With a list of names, a sample is a dict of
    ``"images"`` and these targets. All are tensors; an image has the shape and dtype of its slot. Of a ragged target, a
    sample has its row, and a batch has a list of them; torch's own collate function cannot stack these, so pass
    `collate`. Where slots differ in height and width, so do the images, and a batch needs a ``transform`` that gives
    them one shape.

    A DataLoader asks for a whole batch at once. One call gathers the batch; in a worker process of the DataLoader it
    is gathered into shared memory. `collate` hands it on as it is, while torch's own function would copy it. The
    samples of a batch are views of it, so keeping one of them keeps the whole batch.

    It can be sent to other processes. Forked processes share everything. Spawned processes map files again, and get a
    copy of arrays in RAM.

    Args:
        slots: a store, or a choice of stores. Slots without an image are left out.
        transform: a function of one image, a tensor with the shape of the slot that it may change; its result takes
            the place of the image. It must seed its own random numbers, as in any dataset. Masks are not changed with
            the image. (The ``transform`` of a `Loader` gets an array, (H, W, C), instead.)
        targets: the name of a target, several names, or ``()`` for none; None for the labels.

    Attributes:
        slots: sample i is slot i of these.

    Raises:
        SpecError: there is no such target.
    """

    def __init__(
        self,
        slots: HasSlots,
        *,
        transform: Callable[[torch.Tensor], Any] | None = None,
        targets: Targets = None,
    ) -> None:
        arrays = slots.__slot_arrays__
        names, self._single = batch_targets(arrays, targets)
        readable = arrays.readable()
        if len(readable) < len(arrays):
            arrays = arrays.choose(readable)
        self.slots: Slots = Slots(arrays)
        self._names = ("images", *names)
        self._ragged = frozenset(name for name in names if arrays.is_ragged(name))
        # Images that differ in height and width have no common buffer.
        self._differ = arrays.differ
        self._columns = {} if arrays.differ else {"images": arrays.column()}
        self._columns |= {name: arrays.column(name) for name in names if name not in self._ragged}
        self._transform = transform
        self._pool: tuple[int, BufferPool] | None = None

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

        A batch is a tensor, a tuple or a dict of tensors with one more axis in front, as `Loader` yields it; a ragged
        target is a list of tensors. Samples that were gathered as a batch are not copied; others are stacked by torch.
        """
        if isinstance(samples, _Gathered):
            return samples.whole
        try:
            return _stacked(samples) if isinstance(samples, _Samples) else default_collate(samples)
        except RuntimeError as error:
            error.add_note("where slots differ in height and width, a transform must give all images one shape")
            raise

    def _samples(self, indices: Sequence[int], columns: dict[str, torch.Tensor]) -> list[Any]:
        """Fill the buffers of a batch, and return its samples."""
        count = len(self)
        wanted = np.array([operator.index(index) for index in indices], np.int64)
        wanted[wanted < 0] += count
        if wanted.size and not 0 <= int(wanted.min()) <= int(wanted.max()) < count:
            raise IndexError(f"samples {min(indices):,} to {max(indices):,} were asked for, there are {count:,}")
        wanted = self.slots.__slot_arrays__.with_images(wanted)
        for name, tensor in columns.items():
            self.slots.take(wanted, None if name == "images" else name, out=tensor.numpy())
        arrays = self.slots.__slot_arrays__
        lists = {name: _Rows.of(arrays.list_rows(arrays.base(wanted), name)) for name in self._ragged}
        images: Sequence[Any]
        if self._differ:
            images = [torch.from_numpy(self.slots.take([index])[0]) for index in wanted]
        else:
            images = columns["images"].unbind()
        if self._transform is not None:
            images = [self._transformed(*each) for each in zip(images, wanted, strict=True)]
        rest = (lists[name] if name in lists else columns[name].unbind() for name in self._names[1:])
        samples = [self._shaped(row) for row in zip(images, *rest, strict=True)]
        if self._transform is not None or self._differ:
            return _Samples(samples, self._ragged, self._names)
        return _Gathered(samples, self._shaped(tuple(lists.get(name, columns.get(name)) for name in self._names)))

    def _shaped(self, values: tuple[Any, ...]) -> Any:
        if not self._single:
            return dict(zip(self._names, values, strict=True))
        return values if len(values) > 1 else values[0]

    def _transformed(self, image: torch.Tensor, index: np.int64) -> Any:
        try:
            return self._transform(image) if self._transform is not None else image
        except Exception as error:
            error.add_note(f"transform was called with slot {self.slots.__slot_arrays__.base(np.array([index]))[0]}")
            raise

    def _buffers(self, count: int) -> dict[str, torch.Tensor]:
        return {
            name: torch.from_numpy(np.empty((count, *shape), dtype)) for name, (shape, dtype) in self._columns.items()
        }

    def _lent(self, count: int) -> dict[str, torch.Tensor]:
        """Return buffers that are used again when nothing refers to them: new memory costs more than filling it."""
        if self._pool is None or self._pool[0] != count:
            columns = {name: ((count, *shape), dtype) for name, (shape, dtype) in self._columns.items()}
            self._pool = count, BufferPool(columns, spare=2)
        return {name: torch.from_numpy(array) for name, array in self._pool[1].take().items()}

    def _shared(self, count: int) -> dict[str, torch.Tensor]:
        """Return buffers in shared memory, which the main process maps when they are sent to it."""
        buffers = {}
        for name, (shape, dtype) in self._columns.items():
            size = count * int(np.prod(shape)) * dtype.itemsize
            # As in torch's own collate function: `share_memory_` would copy the batch after the gather.
            storage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call,unused-ignore]  # noqa: SLF001 - torch offers no public way
            flat = torch.empty(0, dtype=torch.uint8).set_(storage)
            buffers[name] = flat.view(torch.from_numpy(np.empty(0, dtype)).dtype).view(count, *shape)
        return buffers

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}


class _Rows(list[Any]):
    """A ragged target of a batch: a tensor for each image, all views of one, as which they are sent to another process.

    Sent one by one, each would take a file descriptor, and processes have about a thousand.
    """

    def __init__(self, values: torch.Tensor, shapes: list[tuple[int, ...]]) -> None:
        super().__init__(_split(values, shapes))
        self._sent = values, shapes

    @classmethod
    def of(cls, rows: Ragged | list[Any]) -> Self:
        """Return the rows of a target, or masks of slots that differ in height and width."""
        values = np.concatenate([row.reshape(-1) for row in rows]) if isinstance(rows, list) else np.array(rows.values)
        return cls(torch.from_numpy(values), [row.shape for row in rows])

    def __reduce__(self) -> tuple[Any, ...]:
        return _split, self._sent


def _split(values: torch.Tensor, shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    if not shapes:
        return []
    lengths = [math.prod(shape) // max(math.prod(values.shape[1:]), 1) for shape in shapes]
    return [part.reshape(shape) for part, shape in zip(torch.split(values, lengths), shapes, strict=True)]


class _Samples(list[Any]):
    """Samples whose images were transformed one by one; of some targets, each has a tensor of another length."""

    def __init__(self, samples: list[Any], ragged: frozenset[str], names: tuple[str, ...]) -> None:
        super().__init__(samples)
        self.ragged, self.names = ragged, names


def _stacked(samples: _Samples) -> Any:
    """Return a batch of samples: torch stacks what has one shape, the other targets become lists."""
    if not samples.ragged:
        return default_collate(list(samples))
    if isinstance(samples[0], dict):
        stacked = default_collate([{n: each[n] for n in samples.names if n not in samples.ragged} for each in samples])
        return {n: [each[n] for each in samples] if n in samples.ragged else stacked[n] for n in samples.names}
    columns = zip(*samples, strict=True)
    pairs = zip(samples.names, columns, strict=True)
    return tuple(list(column) if name in samples.ragged else default_collate(list(column)) for name, column in pairs)


class _Gathered(list[Any]):
    """Samples of one batch, and the batch."""

    def __init__(self, samples: list[Any], whole: Any) -> None:
        super().__init__(samples)
        self.whole = whole
