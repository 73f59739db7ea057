"""Columns whose cells are images or masks: bytes, or structs of bytes and path, as Hugging Face writes them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.lazy import lazy
from arraystore._sources.kinds.found import SourceList
from arraystore._sources.targets.masks import BITS
from arraystore.errors import DecodeError, Kind

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    pa, pc = lazy("pyarrow"), lazy("pyarrow.compute")


def image_of(cell: Any, name: str) -> bytes | str:
    """Return the bytes in a cell, or its path if it has no bytes.

    Raises:
        DecodeError: it has neither.
    """
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if isinstance(data, bytes):
        return data
    path = cell.get("path") if isinstance(cell, Mapping) else None
    if isinstance(path, str) and path:
        return path
    raise DecodeError(f"{name}: the cell has neither bytes nor a path", source=name, kind=Kind.MISSING)


class ColumnImages(SourceList):
    """The cells of a column in memory.

    Args:
        column: a ChunkedArray of pyarrow, of bytes or structs.
        root: the folder that the paths of cells without bytes start from, with a slash at its end.
    """

    noun: ClassVar[str] = "images in a table"
    may_name_files = True

    def __init__(self, column: Any, root: str) -> None:
        self._column = column
        self._root = root

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, slot: Any) -> Any:
        image = image_of(self._column[slot].as_py(), self.name(slot))
        return image if isinstance(image, bytes) else os.path.join(self._root, image)

    def name(self, slot: int) -> str:
        return (self._part("path", slot).as_py() if self._has("path") else None) or f"row {slot}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        hashes = np.zeros((len(self), 2), np.uint64)
        for slot in range(len(self)):
            data = self._part("bytes", slot).as_buffer() if self._has("bytes") else self._column[slot].as_buffer()
            if data is not None:
                hashes[slot] = len(data), xxhash.xxh3_64_intdigest(data)
        names = pc.struct_field(self._column, "path").to_pylist() if self._has("path") else []
        yield ["rows", names], (hashes,)

    def _has(self, part: str) -> bool:
        kind = self._column.type
        return bool(pa.types.is_struct(kind)) and any(field.name == part for field in kind)

    def _part(self, part: str, slot: int) -> Any:
        cell = self._column[slot]
        return cell[part] if cell.is_valid else pa.scalar(None, pa.binary())


def is_binary(kind: Any) -> bool:
    """Return whether a type of pyarrow is of bytes."""
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def holds_images(kind: Any) -> bool:
    """Return whether a type of pyarrow is one of images: bytes, or structs that have some."""
    if not pa.types.is_struct(kind):
        return is_binary(kind)
    # Where no cell has bytes, their type is that of nothing.
    return any(field.name == "bytes" and (is_binary(field.type) or pa.types.is_null(field.type)) for field in kind)


def mask_columns(schema: Any, targets: Any) -> tuple[dict[str, int], Any]:
    """Return the columns that the caller wants as masks and whose cells hold these, and what else becomes a target.

    Returns:
        column → bits; and ``targets`` without these columns.
    """
    if not isinstance(targets, Mapping):
        return {}, targets
    held = {field.name for field in schema if holds_images(field.type)}
    masks = {name: BITS[kind] for name, kind in targets.items() if kind in BITS and name in held}
    return masks, {name: kind for name, kind in targets.items() if name not in masks}
