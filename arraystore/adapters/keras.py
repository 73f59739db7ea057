"""Batches for Keras 3, for ``fit``, ``evaluate`` and ``predict``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import Any, Unpack

from arraystore._augmenting.augment import Augment
from arraystore._common.checks import whole_number
from arraystore._common.lazy import framework
from arraystore._common.options import shows_options
from arraystore._ordering.by_epoch import is_by_epoch
from arraystore._reading.loader import Loader
from arraystore._reading.options import LoaderOptions
from arraystore._reading.slot_arrays import HasSlots
from arraystore.errors import SpecError
from arraystore.spec import Layout

__all__ = ["Dataset"]


class Dataset:
    """Slots as a ``keras.utils.PyDataset``: batches by number, for any back end.

        >>> data = Dataset(store, 128, seed=1)  # doctest: +SKIP
        >>> model.fit(data, epochs=10, shuffle=False)  # doctest: +SKIP

    A batch is ``(images, labels)``, or ``(images,)`` if there are no labels or with ``targets=()``. With the name of a
    target in ``targets``, that target takes the place of the labels. With a list of names, a batch is
    ``(images, {name: target, …})``, for models with several outputs. Images have the layout that Keras is configured
    for. If that is channels_last, the default, and the slots are NCHW, the axes are moved while images are copied. An
    `Augment` with a ``layout`` overrides this.

    Batch n of an epoch depends on the seed, the epoch and n alone, not on the order, thread or process in which batches
    are asked for. If batches are asked for from 0 on, one after another, the threads of a `Loader` make them ahead; in
    any other order, each batch is made when it is asked for. Therefore pass ``shuffle=False`` to ``fit``: the slots are
    shuffled here. To evaluate and to predict, make another `Dataset` with ``shuffle=False``.

    Leave Keras' own ``workers`` at 1: with more, its queue takes batches of one epoch into the next when ``fit`` begins
    with a model that has to be built.

    Each ``on_epoch_end`` begins the next epoch. Keras also calls it before the first epoch, so ``fit`` skips epoch 0.
    To use the epoch numbers of ``fit``, for example with ``initial_epoch``, pass it
    ``callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: data.set_epoch(epoch))]``.

    Args:
        slots: a store, or a choice of stores. Slots without an image are never drawn.
        batch_size: how many images a batch has, one number: Keras counts the batches of an epoch once.
        options: see `arraystore.Loader`; ``batch_transform`` gets and returns a batch in Keras' form. A `Ragged` target
            needs one that pads its rows to one length.

    Raises:
        SpecError: an option is invalid, or does not go with another option or with the slots.
        SpaceError: there is not enough free memory for the cache.
        MissingExtraError: Keras is not installed.
    """

    def __new__(cls, *_args: Any, **_options: Any) -> Dataset:  # noqa: PYI034 - it returns a subclass
        """Return an instance of a subclass that Keras takes."""
        # Keras takes only instances of PyDataset, but importing Keras takes seconds, so PyDataset is added as a base
        # class when the first instance is made.
        return object.__new__(_with_keras_base(cls))  # type: ignore[arg-type] # a class has a hash

    @shows_options(LoaderOptions)
    def __init__(self, slots: HasSlots, batch_size: int = 32, **options: Unpack[LoaderOptions]) -> None:
        keras = framework("keras")
        keras.utils.PyDataset.__init__(self)
        if is_by_epoch(batch_size):
            raise SpecError(
                "Keras counts the batches of an epoch once, and batch sizes by epoch would change that: pass one number"
            )
        augment = options.get("augment")
        if augment is not None and augment.dtype == "bfloat16":
            raise SpecError(
                "Keras takes no images of bfloat16 from NumPy: choose dtype='uint8' or 'float32', and call "
                "keras.config.set_dtype_policy('mixed_bfloat16') to convert them on the device"
            )
        layout: Layout = "NHWC" if keras.config.image_data_format() == "channels_last" else "NCHW"
        if slots.__slot_arrays__.layout not in ("", layout) and (augment is None or augment.layout is None):
            options["augment"] = Augment(layout=layout) if augment is None else replace(augment, layout=layout)
        self._then: Callable[[Any], Any] | None = options.pop("batch_transform", None)
        self._loader: Loader[Any] = Loader(slots, batch_size, **options)
        if self._then is None:
            self._loader.refuse_lists("Keras takes arrays of one shape")
        self._loader.keep_count("Keras counts the batches of an epoch once")
        self._epoch = 0
        self._asked = 0  # how many batches of this epoch
        self._lock = Lock()
        self._ahead: Iterator[Any] | None = None
        self._next = 0

    @property
    def epoch(self) -> int:
        """The epoch of its batches, from 0."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; for callbacks of ``fit``, which call this between epochs.

        Raises:
            SpecError: it is no whole number, or negative.
        """
        with self._lock:
            self._epoch, self._asked = whole_number("epoch", epoch, 0), 0
            self._ahead = None

    def on_epoch_end(self) -> None:
        """Go on to the next epoch.

        Raises:
            BadImagesError: a store that was filled meanwhile has bad images, and its ``bad`` is ``"raise"``.
        """
        is_whole, epoch = self._asked >= len(self), self._epoch  # Keras calls this before the first epoch too
        self.set_epoch(epoch + 1)
        if is_whole:
            self._loader.end_epoch(epoch)

    def stop_callback(self) -> Any:
        """Return a callback for ``fit`` that ends it where the file of the option ``control`` says ``"stop": true``."""
        keras = framework("keras")
        loader = self._loader

        class StopWhereAsked(keras.callbacks.Callback):  # type: ignore[misc,name-defined,unused-ignore]
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                del epoch, logs
                if loader.stopped:
                    self.model.stop_training = True

        return StopWhereAsked()

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
            self._asked += 1
            if number == 0:
                self._loader.set_epoch(self._epoch)
                self._ahead, self._next = iter(self._loader), 0
            if self._ahead is not None and number == self._next:
                self._next += 1
                batch = next(self._ahead)
                if self._next == len(self):
                    self._ahead = None
                return batch
            self._ahead = None  # the next number is unknown, so no batch is made ahead
            epoch = self._epoch
        return self._loader.batch(number, epoch=epoch)

    def __reduce__(self) -> tuple[Callable[..., Dataset], tuple[Any, ...]]:
        return _unpickled, (type(self).__mro__[1], self.__dict__ | {"_lock": None, "_ahead": None})


@cache
def _with_keras_base(cls: type[Dataset]) -> type[Dataset]:
    """Return a subclass of `Dataset`, or of a user's subclass of it, and of Keras' PyDataset."""
    return type(cls.__name__, (cls, framework("keras").utils.PyDataset), {"__module__": cls.__module__})


def _unpickled(cls: type[Dataset], state: dict[str, Any]) -> Dataset:
    made = cls.__new__(cls)
    made.__dict__.update(state | {"_lock": Lock()})
    return made
