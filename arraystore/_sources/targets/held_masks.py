"""Masks that the caller holds: arrays, the bytes of files, or images of Pillow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.wording import a
from arraystore._sources.given import is_pil_image
from arraystore._sources.targets.mask_sources import CONVERT, MaskSource, PillowMask, plain_numbers
from arraystore.errors import DecodeError, Kind, ManifestError

EACH = "pass a list with one mask for each image: paths, bytes, arrays or images of Pillow"


@runtime_checkable
class MaskList(Protocol):
    """The masks of a target, in order, where they are no paths; a `SourceList` of masks is one too.

    Attributes:
        may_name_files: see `SourceList`, as for the methods.
    """

    @property
    def may_name_files(self) -> bool: ...

    @property
    def is_fixed(self) -> bool: ...

    def __len__(self) -> int: ...

    def __getitem__(self, slot: int, /) -> Any: ...

    def name(self, slot: int) -> str: ...

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]: ...


@runtime_checkable
class ClassMasks(MaskList, Protocol):
    """Masks that know what their numbers mean.

    Attributes:
        bits: of a number.
    """

    @property
    def bits(self) -> int: ...

    def with_classes(self, target: str, classes: tuple[str, ...]) -> ClassMasks: ...


class HeldMasks:
    """Masks that the caller holds, each looked at when its image is loaded.

    Args:
        masks: all of one kind: bytes, images of Pillow, or arrays; or one array of all, (N, H, W).

    Attributes:
        may_name_files: see `MaskList`.
        is_fixed: whether `identity` covers what every mask holds, because they are bytes.
    """

    may_name_files = False

    def __init__(self, masks: Any) -> None:
        self._masks = masks
        self.is_fixed: bool = isinstance(masks, tuple) and bool(masks) and isinstance(masks[0], bytes)

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, slot: int) -> MaskSource:
        return held_mask(self._masks[slot])

    def name(self, slot: int) -> str:
        return f"bytes {slot}" if self.is_fixed else f"array {slot}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        """Yield what tells these masks from others. Of arrays it is only how many there are, see `Manifest.digest`."""
        if self.is_fixed:
            hashes = [(len(data), xxhash.xxh3_64_intdigest(data)) for data in self._masks]
            yield ["bytes"], (np.array(hashes, np.uint64),)
        elif isinstance(self._masks, np.ndarray):
            yield ["arrays", list(self._masks.shape), self._masks.dtype.str], ()
        else:
            yield ["arrays"], ()


def held_mask(mask: Any) -> MaskSource:
    """Return one mask that the caller holds, for a worker.

    Raises:
        DecodeError: it is no mask.
    """
    if isinstance(mask, bytes):
        return mask
    if is_pil_image(mask):
        return PillowMask(mask)
    if isinstance(mask, str) or not (hasattr(mask, "__array__") or hasattr(mask, "__array_interface__")):
        raise DecodeError(f"it is {a(type(mask).__name__)}, no mask as the first one is", kind=Kind.INVALID)
    return np.asarray(mask)


def held_masks(masks: Any) -> HeldMasks:
    """Return masks that the caller holds, of which the first, or the one array of all, is looked at.

    Raises:
        ManifestError: these are no masks.
    """
    shape, dtype = getattr(masks, "shape", None), getattr(masks, "dtype", None)
    if isinstance(shape, tuple) and len(shape) > 1 and dtype is not None:
        _check_stack(masks, shape, dtype)
        return HeldMasks(masks)
    if not len(masks):
        return HeldMasks(())
    if isinstance(masks, list | tuple):
        are_bytes = isinstance(masks[0], bytes)
        for row, mask in enumerate(masks):
            if isinstance(mask, str | os.PathLike) or isinstance(mask, bytes) != are_bytes:
                found = a(type(mask).__name__)
                message = f"row {row} of the masks: expected one as in row 0, found {found}: {EACH}"
                raise ManifestError(message, slot=row, kind=Kind.INVALID)
        masks = tuple(masks)
    held = HeldMasks(masks)
    try:
        check_first(held[0])
    except DecodeError as error:
        raise _odd_first(error) from error
    return held


def check_listed(masks: Any) -> None:
    """Refuse what has no order of rows.

    Raises:
        ManifestError: it is refused.
    """
    kind = type(masks).__name__
    if is_pil_image(masks):
        raise ManifestError(f"masks are a list, one for each image, not {a(kind)}: {EACH}")
    if isinstance(masks, bytes | AbstractSet | Mapping) or not (
        hasattr(masks, "__len__") and hasattr(masks, "__getitem__")
    ):
        raise ManifestError(f"masks are a list, one for each image, not {a(kind)}: {EACH}")


def check_first(mask: MaskSource) -> None:
    """Refuse masks of which the first is of a wrong form, because then all will be.

    Raises:
        ManifestError: it is.
    """
    try:
        if isinstance(mask, PillowMask):
            mask.check_mode()
        elif isinstance(mask, np.ndarray):
            plain_numbers(mask)
    except DecodeError as error:
        raise _odd_first(error) from error


def _odd_first(error: DecodeError) -> ManifestError:
    return ManifestError(
        f"mask 0: {error.message}", slot=0, reason=error.message, kind=error.kind, advice=error.advice or EACH
    )


def _check_stack(masks: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Check the one array of all masks by its form.

    Raises:
        ManifestError: it is not (N, H, W), or of another type.
    """
    if isinstance(masks, np.ma.MaskedArray) and np.ma.is_masked(masks):
        raise ManifestError("the masks are a masked array, whose holes have no number: pass masks.filled(255)")
    if len(shape) == 2:
        raise ManifestError(f"an array of shape {shape} is one mask: pass masks[None] for one image")
    if len(shape) == 4 and shape[1] == 1:
        raise ManifestError(f"the masks have shape {shape}, with a channel: pass masks[:, 0]")
    if len(shape) != 3 and not (len(shape) == 4 and shape[3] == 1):
        raise ManifestError(f"the masks have shape {shape}, not (N, H, W): give each pixel one number")
    if str(dtype).rpartition(".")[2] not in ("bool", "uint8", "uint16", ">u2"):
        raise ManifestError(f"the masks have dtype {dtype}, not uint8 or uint16", kind=Kind.INVALID, advice=CONVERT)
