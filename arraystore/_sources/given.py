"""Sources that a caller passes in memory: lists of paths, lists of bytes, and arrays."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import expanded
from arraystore._common.wording import a
from arraystore.errors import DecodeError, ManifestError

SOURCES = "pass a folder, a table, a list of paths or of bytes, or an array (N, H, W, 3)"


def is_pil_image(value: object) -> bool:
    """Return whether a value is an image of Pillow, without importing Pillow."""
    # While another thread imports the module, its class may be missing; then there are no images of it yet.
    kind = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return kind is not None and isinstance(value, kind)


def pillow_reason(error: Exception) -> str:
    """Return why an image of Pillow cannot be stored, from the error of its plugin."""
    return f"Pillow cannot load it: {error}"


def path_of(value: object, what: str = "the source") -> str:
    """Return the path of a folder or a table, with ``~`` expanded.

    Raises:
        ManifestError: it can be no path.
    """
    try:
        path = str(expanded(cast("str", value)))
        Path(path).is_dir()  # asks the system, which refuses names that are too long
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ManifestError(f"{what} is a text of {len(str(value)):,} letters, no path: {SOURCES}") from error
    except Exception as error:  # an object of the caller may raise anything
        raise ManifestError(f"{what} is {a(type(value).__name__)} that gives no path: {SOURCES}") from error
    return path


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A source that its owner could not give, such as the item of a data set whose own code failed."""

    reason: str

    @classmethod
    def of(cls, error: Exception) -> Unloaded:
        """Return the source that an error took the place of."""
        if isinstance(error, DecodeError):
            return cls(plain_reason(error))
        return cls(f"the source gave {type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class PillowImage:
    """An image of Pillow. One that cannot be loaded can still be sent to another process, with the reason."""

    image: Any

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            self.image.load()
        except Exception as error:  # its plugins raise errors of any class
            return Unloaded, (pillow_reason(error),)
        return PillowImage, (self.image,)


def plain_reason(error: DecodeError) -> str:
    """Return why a source cannot be stored, as a store keeps it."""
    # An option is written in one way in Python and in another in the command.
    return error.message if error.options else str(error)


class Stream:
    """An iterable that is consumed once, in order."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.iterator = chain(items)  # which asks for the iterator of the items when the first one is taken
        self.next_slot = 0

    def take(self, slot: int) -> Any:
        """Return item ``slot``; the items before it are dropped.

        Raises:
            ManifestError: the item was taken already, or there are fewer items than the length says.
        """
        if slot < self.next_slot:
            order = f"array {slot} was asked for after array {self.next_slot - 1}"
            message = f"{order}, but the source can only be read once, in order: pass a list or an array"
            raise ManifestError(message, slot=slot, source=f"array {slot}")
        while self.next_slot <= slot:
            try:
                item = next(self.iterator)
            except StopIteration:
                message = f"the source ended at row {self.next_slot}, before the length that it gives"
                raise ManifestError(
                    message,
                    slot=self.next_slot,
                    source=f"array {self.next_slot}",
                    advice="pass a list of its items, or mend its length",
                ) from None
            self.next_slot += 1
        return item


def raw_paths(paths: Iterable[object]) -> Iterator[bytes]:
    """Yield the bytes of paths.

    Raises:
        ManifestError: an item is not a path, is empty, or cannot be the name of a file.
    """
    for row, item in enumerate(paths):
        try:
            path = os.fspath(item) if isinstance(item, os.PathLike) else item
        except Exception as error:  # an object of the caller may raise anything
            raise _odd_row(row, item, "a path") from error
        if not isinstance(path, str):
            raise _odd_row(row, item, "a path")
        try:
            raw = os.fsencode(path)
        except UnicodeEncodeError as error:
            raise _bad_path(row, path, f"is no file name: {error}") from error
        if not raw or b"\0" in raw:
            raise _bad_path(row, path, "holds a NUL character, which no file name has" if raw else "is empty")
        yield raw


def checked_bytes(data: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return images that are the bytes of files.

    Raises:
        ManifestError: an item is not bytes.
    """
    items = tuple(data)
    for row, item in enumerate(items):
        if not isinstance(item, bytes):
            raise _odd_row(row, item, "bytes")
    return items


def checked_arrays(arrays: Any) -> Any:
    """Return images that are arrays; a list becomes a tuple.

    Raises:
        ManifestError: one array has another shape or dtype, an item of a list is no array, or the value is no source.
    """
    if isinstance(arrays, np.ndarray):
        if np.ma.is_masked(arrays):
            raise ManifestError("the array has masked values, which have no pixels: pass arrays.filled(0)")
        _check_stack(arrays)
    elif isinstance(arrays, list | tuple):
        for row, item in enumerate(arrays):
            # To ask an image of Pillow for its array would load it.
            if not (is_pil_image(item) or hasattr(item, "__array__") or hasattr(item, "__array_interface__")):
                raise _odd_row(row, item, "an array")
        return tuple(arrays)
    elif not (hasattr(arrays, "__getitem__") or hasattr(arrays, "__iter__")):
        raise ManifestError(f"{a(type(arrays).__name__)} is no source: {SOURCES}")
    return arrays


def _odd_row(row: int, item: object, wanted: str) -> ManifestError:
    reason = f"expected {wanted}, found {a(type(item).__name__)}"
    return ManifestError(f"row {row}: {reason}: sources must all be of one kind", slot=row, reason=reason)


def _bad_path(row: int, path: str, reason: str) -> ManifestError:
    return ManifestError(f"row {row} (counted from 0): the path {reason}", slot=row, source=path)


def _check_stack(images: npt.NDArray[Any]) -> None:
    shape = images.shape
    if images.dtype != np.uint8:
        raise ManifestError(f"the array has dtype {images.dtype}, not uint8: convert it, 0 being black and 255 white")
    if images.ndim == 2 or (images.ndim == 3 and shape[2] in (1, 3)):
        raise ManifestError(f"an array of shape {shape} is one image: pass image[None] for a manifest of one")
    if images.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        raise ManifestError(f"the array has shape {shape}, channels first: pass images.transpose(0, 2, 3, 1)")
    if images.ndim not in (3, 4) or (images.ndim == 4 and shape[3] not in (1, 3)):
        raise ManifestError(f"the array has shape {shape}: pass shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
