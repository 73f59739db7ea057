"""Data sets of Hugging Face, whose images are taken as they are stored, before Pillow decodes them."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from arraystore._sources.kinds.found import Found, SourceList
from arraystore._sources.kinds.rows.cells import add_class_names, check_targets, image_column, image_of, paths_in
from arraystore._sources.kinds.rows.frames import from_frame
from arraystore._sources.tables import add_targets, conditions_of, reading_table
from arraystore._sources.targets.columns import numbered_rows
from arraystore.errors import Kind, ManifestError

_ROWS_A_READ = 16
_ROWS_A_LOOK = 1000
_PLACE = "the data set"


def is_hugging_face(source: Any) -> bool:
    """Return whether a source is a data set of Hugging Face; `datasets` is not imported for it."""
    module = sys.modules.get("datasets")
    names = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return module is not None and isinstance(source, tuple(getattr(module, name) for name in names))


class DatasetImages(SourceList):
    """The images in a column of a data set, undecoded.

    Args:
        rows: the data set with this column alone; its rows are read as Arrow.
        column: of the images.
    """

    noun: ClassVar[str] = "images of a data set"
    may_name_files: ClassVar[bool] = True

    def __init__(self, rows: Any, column: str) -> None:
        self._rows = rows
        self._column = column
        self._start = 0
        self._cells: Any = ()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_start": 0, "_cells": ()}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, slot: Any) -> Any:
        if not self._start <= slot < self._start + len(self._cells):
            self._start = slot
            self._cells = self._rows[slot : slot + _ROWS_A_READ].column(self._column)
        image = image_of(self._cells[slot - self._start].as_py(), self.name(slot))
        return image if isinstance(image, bytes) else os.path.join(Path.cwd(), image)

    def name(self, slot: int) -> str:
        return f"row {slot}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        # The fingerprint by which `datasets` itself tells whether rows are the same.
        yield ["hugging face", self._column, str(getattr(self._rows, "_fingerprint", ""))], ()


def from_hugging_face(
    data: Any,
    *,
    path_column: str | None = None,
    targets: Sequence[str] | Mapping[str, str] | None = None,
    root: str | os.PathLike[str] | None = None,
    suffix: str = "",
    where: str | Mapping[str, Any] | None = None,
) -> Found:
    """Return the images and targets of a data set of Hugging Face; ``ClassLabel`` keeps the names of its classes.

    Raises:
        ManifestError: it has several splits, or is streamed; or a column is missing or is no target.
    """
    if isinstance(data, Mapping):
        splits = ", ".join(map(repr, data))
        first = next(iter(data), "train")
        raise ManifestError(f"the data set has the splits {splits}: pass one, such as data[{first!r}]")
    if not hasattr(data, "select_columns") or not hasattr(data, "__len__"):
        raise ManifestError("the data set is streamed, so nobody knows how many rows it has: load it without streaming")
    conditions = conditions_of(where)
    schema = data.features.arrow_schema
    column = image_column(_PLACE, schema, path_column)
    arrow = data.with_format("arrow")
    if column is None:
        return from_frame(arrow[:], path_column=path_column, targets=targets, root=root, suffix=suffix, where=where)
    if root is not None or suffix:
        raise ManifestError("root and suffix have no meaning for a data set that holds its images: leave them out")
    needed = check_targets(_PLACE, schema, column, targets, conditions)
    with reading_table(_PLACE):
        table = arrow.select_columns(needed)[:] if needed else None
        rows = data.select_columns([column])
        if conditions and table is not None:
            table, numbers = numbered_rows(_PLACE, table, conditions)
            rows = rows.select(numbers.tolist())
        if not len(rows):
            raise ManifestError(f"{_PLACE} has no rows", kind=Kind.MISSING)
        rows = rows.with_format("arrow")
        cells = (rows[at : at + _ROWS_A_LOOK].column(column) for at in range(0, len(rows), _ROWS_A_LOOK))
        found = Found(paths_in(cells) or DatasetImages(rows, column), place=_PLACE)
        if table is not None:
            target_of = add_targets(found, table, column, targets, conditions, data.column_names)
            add_class_names(found, target_of, _class_names(data.features))
    return found


def _class_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    kinds = {name: getattr(kind, "feature", kind) for name, kind in features.items()}  # of the items of lists
    return {name: tuple(kind.names) for name, kind in kinds.items() if type(kind).__name__ == "ClassLabel"}
