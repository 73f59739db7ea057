"""Batches for Keras 3: what ``fit``, ``evaluate`` and ``predict`` take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Unpack

from arraystore._common.checks import whole_number
from arraystore._common.extras import framework
from arraystore._reading.loader import Loader, LoaderOptions
from arraystore.errors import SpecError
from arraystore.spec import Layout

if TYPE_CHECKING:
    from arraystore._reading.slot_arrays import Slots

__all__ = ["Dataset"]


class Dataset:
    """Slots as a ``keras.utils.PyDataset``: batches by number, for any back end.

        >>> data = Dataset(store, 128, seed=1)  # doctest: +SKIP
        >>> model.fit(data, epochs=10, shuffle=False)  # doctest: +SKIP

    A batch is ``(images, labels)``; ``(images,)`` where there are no labels, or with ``targets=()``; with another name
    in ``targets`` that target in place of the labels; with a list of names ``(images, {name: target, …})``, for models
    with several outputs. Images have the layout that Keras is configured for: where that is channels_last, as it is by
    default, and the slots are NCHW, they are turned while they are copied. `Augment` with a ``layout`` decides
    otherwise.

    What batch n of an epoch has depends on the seed, the epoch and n alone, whatever is asked for first, and in which
    thread or process. While batches are asked for from 0 on, one after another, the threads of a `Loader` make them
    ahead; in any other order each is made when it is asked for. So have ``fit`` keep their order, with
    ``shuffle=False``: the slots are shuffled here. To evaluate and to predict, make another `Dataset` with
    ``shuffle=False``.

    Keras' own ``workers`` stay at 1, for its queue takes batches of one epoch into the next when ``fit`` begins with a
    model that has to be built.

    Each ``on_epoch_end`` begins the next epoch. Keras also calls it as it begins, so that ``fit`` leaves epoch 0 out.
    To have the epochs of ``fit``, as where it goes on from an ``initial_epoch``, pass it
    ``callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: data.set_epoch(epoch))]``.

    Args:
        slots: a store, or what was chosen of stores. Slots that hold no image are never drawn.
        batch_size: how many images a batch has.
        options: see `arraystore.Loader`; ``batch_transform`` gets and returns a batch as Keras takes it.

    Raises:
        SpecError: an option cannot be, or does not go with another or with the slots.
        SpaceError: there is not enough memory for the cache.
        MissingExtraError: Keras is not installed.
    """

    def __new__(cls, *_args: Any, **_options: Any) -> Dataset:  # noqa: D102, PYI034 - what it returns is of `_kind`
        # Keras takes only what is a PyDataset, and takes seconds to import, so that class cannot be a base of this one.
        return object.__new__(_kind(cls))  # type: ignore[arg-type] # a class has a hash

    def __init__(self, slots: Slots, batch_size: int = 32, **options: Unpack[LoaderOptions]) -> None:
        keras = framework("keras")
        keras.utils.PyDataset.__init__(self)
        augment = options.get("augment")
        if augment is not None and augment.dtype == "bfloat16":
            raise SpecError(
                "Keras takes no images of bfloat16 from NumPy: choose dtype='uint8' or 'float32', and let "
                "keras.config.set_dtype_policy('mixed_bfloat16') make them so on the device"
            )
        layout: Layout = "NHWC" if keras.config.image_data_format() == "channels_last" else "NCHW"
        if slots.layout not in ("", layout) and (augment is None or augment.layout is None):
            from arraystore._augmenting.augment import Augment  # noqa: PLC0415 - who turns nothing can do without it

            options["augment"] = Augment(layout=layout) if augment is None else replace(augment, layout=layout)
        self._then: Callable[[Any], Any] | None = options.pop("batch_transform", None)
        self._loader = Loader(slots, batch_size, **options)
        self._epoch = 0
        self._lock = Lock()
        self._ahead: Iterator[Any] | None = None
        self._next = 0

    @property
    def epoch(self) -> int:
        """The epoch whose batches it has, from 0."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Have the batches of an epoch; for callbacks of ``fit``, which call it between epochs.

        Raises:
            SpecError: it is no whole number, or negative.
        """
        with self._lock:
            self._epoch = whole_number("epoch", epoch, 0)
            self._ahead = None

    def on_epoch_end(self) -> None:
        """Go on to the next epoch."""
        self.set_epoch(self._epoch + 1)

    def __len__(self) -> int:
        return len(self._loader)

    def __getitem__(self, number: int) -> Any:
        if not -len(self) <= number < len(self):
            raise IndexError(f"batch {number} of {len(self):,}")
        batch = self._made(number % len(self))
        if isinstance(batch, dict):
            batch = batch.pop("images"), batch
        elif not isinstance(batch, tuple):
            batch = (batch,)
        return batch if self._then is None else self._then(batch)

    def _made(self, number: int) -> Any:
        with self._lock:
            if number == 0:
                self._loader.set_epoch(self._epoch)
                self._ahead, self._next = iter(self._loader), 0
            if self._ahead is not None and number == self._next:
                self._next += 1
                batch = next(self._ahead)
                if self._next == len(self):
                    self._ahead = None
                return batch
            self._ahead = None  # there is no telling which comes next
            epoch = self._epoch
        return self._loader.batch(number, epoch=epoch)

    def __reduce__(self) -> tuple[Callable[..., Dataset], tuple[Any, ...]]:
        return _remade, (type(self).__mro__[1], self.__dict__ | {"_lock": None, "_ahead": None})


@cache
def _kind(cls: type[Dataset]) -> type[Dataset]:
    """Return a class that is a Dataset, or what a user has derived from it, and Keras' as well."""
    return type(cls.__name__, (cls, framework("keras").utils.PyDataset), {"__module__": cls.__module__})


def _remade(cls: type[Dataset], state: dict[str, Any]) -> Dataset:
    made = cls.__new__(cls)
    made.__dict__.update(state | {"_lock": Lock()})
    return made
