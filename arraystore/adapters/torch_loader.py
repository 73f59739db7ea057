"""The loader with tensors: on the CPU they share the memory of its arrays, to a CUDA device a stream carries them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeAlias, Unpack

import numpy as np
import numpy.typing as npt
import torch

from arraystore._augmenting.augment import Augment, Dtype
from arraystore._reading.loader import LoaderOptions
from arraystore._reading.slot_arrays import Slots
from arraystore.errors import SpecError

__all__ = ["Loader"]

Device: TypeAlias = torch.device | str | int
_Line: TypeAlias = deque[tuple[Any, "torch.cuda.Event", tuple[int, int]]]
_Held: TypeAlias = deque[tuple["torch.cuda.Event", Any]]
_END = object()


class Loader:
    """Batches of slots as tensors: what `arraystore.Loader` yields, on a device.

    On the CPU the tensors share their memory with the arrays of that loader: nothing is copied, a batch is yours as
    long as you keep a tensor or anything made of it, and then its memory is used again.

    On a CUDA device batches are gathered into pinned memory, and a stream of their own copies each across while the
    batch before it is trained on: the device holds the one that is handed over, and the next. What crosses is uint8;
    floats are made on the device. The tensors are yours, and ready for the stream that is current when they are handed
    over.

    Args:
        slots: a store, or what was chosen of stores.
        batch_size: how many images a batch of this rank has.
        device: where the tensors shall be; None for the CPU.
        non_blocking: False copies to a CUDA device when a batch is asked for, and waits until that is done.
        dtype: of the images, made on the device of uint8: ``"float32"``, ``"float16"``, ``"bfloat16"`` or the
            torch.dtype of that name; ``"uint8"`` leaves them as they are. With an ``augment`` that makes floats leave
            it so: images of its bfloat16 are torch.bfloat16 here.
        normalize: True makes each channel (value - mean) / std with the store's own mean and std; a pair (mean, std)
            gives others, a number a channel, in gray levels from 0 to 255. False makes floats value / 255.
        channels_last: True yields images of shape (b, C, H, W) in the memory format torch.channels_last. That takes no
            time where slots, or the ``layout`` of an ``augment``, are NHWC, which otherwise stay (b, H, W, C).
        options: those of `arraystore.Loader`. Rank and world size are those of torch.distributed, if it is in use.
            Images that a ``transform`` returns are taken for (H, W, C), as it gets them. A ``batch_transform`` gets
            and returns a batch of arrays; it may return anything, but where this loader is to change the images they
            must be in the same place.

    Attributes:
        loader: the `arraystore.Loader` behind it.
        device: where the tensors are.

    Raises:
        SpecError: an option cannot be, or does not go with another or with the slots; or, when images that are not
            uint8 or have other channels than the slots come, that these cannot be converted.
        SpaceError: there is not enough memory for the cache.
    """

    def __init__(  # noqa: PLR0913 - users choose a few by name
        self,
        slots: Slots,
        batch_size: int = 256,
        *,
        device: Device | None = None,
        non_blocking: bool = True,
        dtype: torch.dtype | Dtype = "uint8",
        normalize: bool | tuple[Sequence[float], Sequence[float]] = False,
        channels_last: bool = False,
        **options: Unpack[LoaderOptions],
    ) -> None:
        self.device = _device(device)
        self._non_blocking = non_blocking
        self._finish = _Finish.of(slots, options, str(dtype), normalize, self.device, channels_last=channels_last)
        if self.device.type == "cuda":
            options = {"allocate": partial(_pinned, self.device), **options}
        self.loader = slots.loader(batch_size, **options)
        self._turn = 0
        self._at: tuple[int, int] | None = None  # where the loader behind is elsewhere, for it is one batch ahead

    @property
    def batch_size(self) -> int:
        """How many images a batch of this rank has."""
        return self.loader.batch_size

    @property
    def epoch(self) -> int:
        """The epoch that is read, or will be next: from 0."""
        return (self._at or self.loader.at)[0]

    def set_epoch(self, epoch: int) -> None:
        """Have the next ``for`` begin an epoch.

        Raises:
            SpecError: it is no whole number, or negative.
        """
        self.loader.set_epoch(epoch)
        self._at = None

    def state_dict(self) -> dict[str, Any]:
        """Return where it is, as JSON can hold it: behind the batch that was last handed over."""
        epoch, position = self._at or self.loader.at
        return self.loader.state_dict() | {"epoch": epoch, "position": position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another loader was, with a device or without: see `arraystore.Loader.load_state_dict`.

        Raises:
            SpecError: it had other slots, another seed or another order; or this is no state.
        """
        self.loader.load_state_dict(state)
        self._at = None

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        self._turn += 1
        if self.device.type == "cuda" and self._non_blocking:
            self._at = self.loader.at
            return self._across(batches, self._turn)
        self._at = None
        return map(self._sent, batches)

    def _sent(self, batch: Any) -> Any:
        sent = _each(lambda tensor: tensor.to(self.device, non_blocking=self._non_blocking), _each(_tensor, batch))
        if self._finish is None:
            return sent
        if isinstance(sent, dict):
            return sent | {"images": self._finish(sent["images"])}
        if isinstance(sent, tuple | list):
            return _like(sent, (self._finish(sent[0]), *sent[1:]))
        return self._finish(sent)

    def _across(self, batches: Iterator[Any], turn: int) -> Iterator[Any]:
        """Yield batches that a stream of their own has brought to the device, one ahead of the one that is yielded."""
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call,unused-ignore]
        line: _Line = deque()
        # Pinned memory that is being copied: to let it go would have the next batch written into it.
        held: _Held = deque()
        try:
            more = True
            while more or line:
                while more and len(line) < 2:
                    more = self._send(batches, side, line, held)
                if line:
                    yield self._handed_over(*line.popleft(), turn)
        finally:
            side.synchronize()
        if turn == self._turn:
            self._at = None

    def _send(self, batches: Iterator[Any], side: torch.cuda.Stream, line: _Line, held: _Held) -> bool:
        """Begin to bring the next batch to the device; return whether there was one."""
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
        line.append((sent, event, at))
        return True

    def _handed_over(self, batch: Any, event: torch.cuda.Event, at: tuple[int, int], turn: int) -> Any:
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(event)
        # The memory is the side stream's: it must not be used again there before this stream is done with it.
        _each(lambda tensor: tensor.record_stream(stream), batch)
        if turn == self._turn:  # an iteration that was left behind is not where this is
            self._at = at
        return batch


@dataclass(frozen=True, slots=True, eq=False)
class _Finish:
    """What is done to the images of a batch on their device.

    Attributes:
        dtype: what they become; None leaves what they are, and shows as bfloat16 what is uint16.
        planar: whether they come as (C, H, W).
        scale: float32, what each channel is multiplied with, shaped to be.
        bias: likewise, what is added then.
        channels_last: see `Loader`.
    """

    dtype: torch.dtype | None
    planar: bool
    scale: torch.Tensor
    bias: torch.Tensor
    channels_last: bool

    @classmethod
    def of(  # noqa: PLR0913 - the options of a loader
        cls,
        slots: Slots,
        options: LoaderOptions,
        dtype: str,
        normalize: bool | tuple[Sequence[float], Sequence[float]],  # noqa: FBT001 - see above
        device: torch.device,
        *,
        channels_last: bool,
    ) -> Self | None:
        """Return what is to be done; None for nothing."""
        name: Any = dtype.removeprefix("torch.")
        floats = Augment(dtype=name, normalize=normalize)
        augment = options.get("augment")
        bits = augment is not None and augment.dtype == "bfloat16"
        if name == "uint8" and not channels_last and not bits:
            return None
        if len(slots.slot_shape) != 3:
            raise SpecError(f"dtype and channels_last are for images: these slots have shape {slots.slot_shape}")
        layout = "NHWC" if options.get("transform") else (augment and augment.layout) or slots.layout
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
                f"dtype makes floats of uint8 images with {len(self.scale)} channels on axis {axis}, these are "
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
        raise SpecError(f"device={device!r} was passed, and torch finds no CUDA device here: leave device out")
    return chosen if chosen.index is not None else torch.device("cuda", torch.cuda.current_device())


def _pinned(device: torch.device, size: int) -> npt.NDArray[np.uint8]:
    with torch.cuda.device(device):  # threads begin with the first device
        block: npt.NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
    return block


def _tensor(array: Any) -> Any:
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else array


def _each(function: Callable[[Any], Any], batch: Any) -> Any:
    """Return a batch with what a function makes of each of its arrays, or of its tensors."""
    if isinstance(batch, dict):
        return {name: _each(function, value) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return _like(batch, (_each(function, value) for value in batch))
    return function(batch) if isinstance(batch, np.ndarray | torch.Tensor) else batch


def _like(batch: Any, values: Iterable[Any]) -> Any:
    """Return a list, a tuple or a named tuple with other values."""
    kind = type(batch)
    return getattr(kind, "_make", kind)(values)
