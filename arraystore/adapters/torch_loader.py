"""The loader with tensors: on the CPU they share memory with its arrays; a CUDA stream copies them to a device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Self, TypeAlias, TypedDict, TypeVar, Unpack, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arraystore._augmenting.augment import Augment, Dtype
from arraystore._common.options import shows_options
from arraystore._reading import loader
from arraystore._reading.options import BatchSize, Common, LoaderOptions, One, Several
from arraystore._reading.slot_arrays import HasSlots, SlotArrays
from arraystore.errors import SpecError

__all__ = ["Loader"]

Device: TypeAlias = torch.device | str | int
_OnTheWay: TypeAlias = deque[tuple[Any, "torch.cuda.Event", tuple[int, int]]]
_Held: TypeAlias = deque[tuple["torch.cuda.Event", Any]]
_END = object()

B_co = TypeVar("B_co", covariant=True)
Pair = tuple[Tensor, Tensor]
Named = dict[str, Tensor]
Normalize = bool | tuple[Sequence[float], Sequence[float]]


class _Options(TypedDict, total=False):
    device: Device | None
    non_blocking: bool
    dtype: torch.dtype | Dtype
    normalize: Normalize
    channels_last: bool


class _Common(_Options, Common, total=False): ...


class _All(_Options, LoaderOptions, total=False): ...


class Loader(Generic[B_co]):
    """The batches of `arraystore.Loader` as tensors, on a device.

    On the CPU, the tensors share memory with the arrays of that loader: nothing is copied. A batch is yours for as
    long as you keep a tensor of it, or anything made of it; then its memory is used again.

    For a CUDA device, batches are gathered into pinned memory. A separate stream copies each batch to the device
    during the training on the batch before, so the device holds two batches. Images cross as uint8; floats are made
    on the device. The tensors are yours, and ready for the stream that is current when they are handed over.

    Args:
        slots: a store, or a choice of stores.
        batch_size: how many images a batch of this rank has, one number or one by epoch; see `arraystore.Loader`.
        device: where the tensors shall be; None for the CPU.
        non_blocking: False copies a batch to a CUDA device when it is asked for, and waits for the copy.
        dtype: of the images, converted from uint8 on the device: ``"float32"``, ``"float16"``, ``"bfloat16"`` or the
            torch.dtype of that name; ``"uint8"`` leaves them as they are. Leave it so with an ``augment`` that makes
            floats: its bfloat16 images are torch.bfloat16 here.
        normalize: True makes each channel (value - mean) / std with the store's own mean and std. A pair (mean, std)
            gives other values, one number per channel, in gray levels from 0 to 255. False makes floats value / 255.
        channels_last: True yields images of shape (b, C, H, W) in the memory format torch.channels_last. That takes no
            time if the slots, or the ``layout`` of an ``augment``, are NHWC; with False, these stay (b, H, W, C).
        options: see `arraystore.Loader`. Rank and world size are those of torch.distributed, if it is in use. Images
            that a ``transform`` returns must be (H, W, C), as it gets them. A ``batch_transform`` gets a batch of
            arrays and may return anything; but if this loader is to convert the images, they must be in the same
            place.

    Attributes:
        loader: the `arraystore.Loader` that makes the batches.
        device: where the tensors are.

    Raises:
        SpecError: an option is invalid, or does not go with another option or with the slots; or images cannot be
            converted, because they are not uint8 or have another number of channels than the slots.
        SpaceError: there is not enough free memory for the cache.
    """

    @overload
    def __init__(
        self: Loader[Pair],
        slots: HasSlots,
        batch_size: BatchSize = ...,
        *,
        targets: One = ...,
        **options: Unpack[_Common],
    ) -> None: ...
    @overload
    def __init__(
        self: Loader[Tensor],
        slots: HasSlots,
        batch_size: BatchSize = ...,
        *,
        targets: tuple[()],
        **options: Unpack[_Common],
    ) -> None: ...
    @overload
    def __init__(
        self: Loader[Named],
        slots: HasSlots,
        batch_size: BatchSize = ...,
        *,
        targets: Several,
        **options: Unpack[_Common],
    ) -> None: ...
    @overload
    def __init__(self: Loader[Any], slots: HasSlots, batch_size: BatchSize = ..., **options: Unpack[_All]) -> None: ...
    @shows_options(LoaderOptions)
    def __init__(
        self,
        slots: HasSlots,
        batch_size: BatchSize = 256,
        *,
        device: Device | None = None,
        non_blocking: bool = True,
        dtype: torch.dtype | Dtype = "uint8",
        normalize: Normalize = False,
        channels_last: bool = False,
        **options: Unpack[LoaderOptions],
    ) -> None:
        self.device: torch.device = _device(device)
        self._non_blocking = non_blocking
        arrays = slots.__slot_arrays__
        arrays.check_normalize(normalize)
        self._convert = _Conversion.of(arrays, options, str(dtype), normalize, self.device, channels_last=channels_last)
        if self.device.type == "cuda":
            options = {"allocate": partial(_pinned, self.device), **options}
        self.loader: loader.Loader[Any] = loader.Loader(slots, batch_size, **options)
        self._iterations = 0
        self._at: tuple[int, int] | None = None  # the position after the last batch; None if it is the loader's own

    @property
    def batch_size(self) -> int:
        """How many images a batch of this rank has in the current `epoch`."""
        return self.loader.share_at(self.epoch).batch_size

    @property
    def epoch(self) -> int:
        """The epoch that is being read, or the next one if none is: from 0."""
        return (self._at or self.loader.at)[0]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next ``for``.

        Raises:
            SpecError: it is no whole number, or negative.
        """
        self.loader.set_epoch(epoch)
        self._at = None

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that was handed over, as a dict for JSON."""
        epoch, position = self._at or self.loader.at
        return self.loader.state_dict() | {"epoch": epoch, "position": position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of another loader, of this class or `arraystore.Loader`; see its `load_state_dict`.

        Raises:
            SpecError: the state has other slots, another seed or another order; or it is no state.
        """
        self.loader.load_state_dict(state)
        self._at = None

    def __len__(self) -> int:
        return self.loader.share_at(self.epoch).batches()

    def __iter__(self) -> Iterator[B_co]:
        batches = iter(self.loader)
        self._iterations += 1
        if self.device.type == "cuda" and self._non_blocking:
            self._at = self.loader.at
            return self._copied_ahead(batches, self._iterations)
        self._at = None
        return map(self._sent, batches)

    def _sent(self, batch: Any) -> Any:
        sent = _each(lambda tensor: tensor.to(self.device, non_blocking=self._non_blocking), _each(_tensor, batch))
        if self._convert is None:
            return sent
        if isinstance(sent, dict):
            return sent | {"images": self._convert(sent["images"])}
        if isinstance(sent, tuple | list):
            return _like(sent, (self._convert(sent[0]), *sent[1:]))
        return self._convert(sent)

    def _copied_ahead(self, batches: Iterator[Any], iteration: int) -> Iterator[Any]:
        """Yield batches on the device; a separate stream copies the next batch meanwhile."""
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call,unused-ignore]
        on_the_way: _OnTheWay = deque()
        # Batches in pinned memory that is being copied: without a reference, the next batch would overwrite it.
        held: _Held = deque()
        try:
            more = True
            while more or on_the_way:
                while more and len(on_the_way) < 2:
                    more = self._send(batches, side, on_the_way, held)
                if on_the_way:
                    yield self._handed_over(*on_the_way.popleft(), iteration)
        finally:
            side.synchronize()
        if iteration == self._iterations:
            self._at = None

    def _send(self, batches: Iterator[Any], side: torch.cuda.Stream, on_the_way: _OnTheWay, held: _Held) -> bool:
        """Start to copy the next batch to the device; return False if there is none."""
        while held and held[0][0].query():  # type: ignore[no-untyped-call,unused-ignore]
            held.popleft()
        batch = next(batches, _END)
        if batch is _END:
            return False
        event = torch.cuda.Event()  # type: ignore[no-untyped-call,unused-ignore]
        at = self.loader.at
        with torch.cuda.stream(side):
            try:
                sent = self._sent(batch)
            finally:
                event.record(side)
                held.append((event, batch))
        on_the_way.append((sent, event, at))
        return True

    def _handed_over(self, batch: Any, event: torch.cuda.Event, at: tuple[int, int], iteration: int) -> Any:
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(event)
        # The side stream owns the memory, and must not use it again before this stream is done with it.
        _each(lambda tensor: tensor.record_stream(stream), batch)
        if iteration == self._iterations:  # an older iteration does not move the loader
            self._at = at
        return batch


@dataclass(frozen=True, slots=True, eq=False)
class _Conversion:
    """The conversion of the images of a batch on their device.

    Attributes:
        dtype: of the result; None keeps the dtype, and shows uint16 as bfloat16.
        planar: whether images are (C, H, W).
        scale: float32, multiplies each channel; shaped to broadcast over images.
        bias: float32, is added then; shaped like ``scale``.
        channels_last: see `Loader`.
    """

    dtype: torch.dtype | None
    planar: bool
    scale: torch.Tensor
    bias: torch.Tensor
    channels_last: bool

    @classmethod
    def of(
        cls,
        slots: SlotArrays,
        options: LoaderOptions,
        dtype: str,
        normalize: Normalize,
        device: torch.device,
        *,
        channels_last: bool,
    ) -> Self | None:
        """Return the conversion for some options of a `Loader`; None if images stay as they are."""
        name: Any = dtype.removeprefix("torch.")
        floats = Augment(dtype=name, normalize=normalize)
        augment = options.get("augment")
        bits = augment is not None and augment.dtype == "bfloat16"
        if name == "uint8" and not channels_last and not bits:
            return None
        if len(slots.slot_shape) != 3:
            raise SpecError(f"dtype and channels_last are for images: these slots have shape {slots.slot_shape}")
        as_made = options.get("transform") and not options.get("frame")  # a frame has the layout of the slots
        layout = "NHWC" if as_made else (augment and augment.layout) or slots.layout
        planar = layout != "NHWC"
        channels = slots.slot_shape[-1 if slots.layout == "NHWC" else 0]
        shape = (-1, 1, 1) if planar or channels_last else (-1,)
        scale, bias = (
            torch.tensor(values, dtype=torch.float32, device=device).reshape(shape)
            for values in floats.scale_and_bias(channels, slots.mean or None, slots.std or None)
        )
        return cls(None if name == "uint8" else getattr(torch, name), planar, scale, bias, channels_last)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self.channels_last and not self.planar:
            images = images.permute(0, 3, 1, 2)
        kept = torch.channels_last if self.channels_last else torch.preserve_format
        if self.dtype is None:
            images = images.view(torch.bfloat16) if images.dtype == torch.uint16 else images
            return images.contiguous(memory_format=kept) if self.channels_last else images
        axis = 1 if self.planar or self.channels_last else 3
        if images.dtype != torch.uint8 or images.shape[axis] != len(self.scale):
            raise SpecError(
                f"dtype converts uint8 images with {len(self.scale)} channels on axis {axis}, but these are "
                f"{images.dtype} of shape {tuple(images.shape)}: leave dtype out, and convert them in the loop"
            )
        return images.to(torch.float32, memory_format=kept).mul_(self.scale).add_(self.bias).to(self.dtype)


def _device(device: Device | None) -> torch.device:
    try:
        chosen = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise SpecError(f"device must be one that torch knows, such as 'cuda' or 'cuda:1', not {device!r}") from error
    if chosen.type != "cuda":
        return chosen
    if not torch.cuda.is_available():
        raise SpecError(f"device={device!r} was passed, but torch finds no CUDA device here: leave device out")
    return chosen if chosen.index is not None else torch.device("cuda", torch.cuda.current_device())


def _pinned(device: torch.device, size: int) -> npt.NDArray[np.uint8]:
    with torch.cuda.device(device):  # in a new thread the first device is current
        block: npt.NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
    return block


def _tensor(array: Any) -> Any:
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else array


def _each(function: Callable[[Any], Any], batch: Any) -> Any:
    """Apply a function to each array or tensor of a batch."""
    if isinstance(batch, dict):
        return {name: _each(function, value) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return _like(batch, (_each(function, value) for value in batch))
    return function(batch) if isinstance(batch, np.ndarray | torch.Tensor) else batch


def _like(batch: Any, values: Iterable[Any]) -> Any:
    """Return a list, a tuple or a named tuple with other values."""
    kind = type(batch)
    return getattr(kind, "_make", kind)(values)
