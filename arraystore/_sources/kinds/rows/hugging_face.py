"""Data sets of Hugging Face, whose images are taken as they are stored, before Pillow decodes them."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from arraystore._sources.kinds.found import Found, SourceList
from arraystore._sources.kinds.rows.cells import check_targets, image_column, paths_in
from arraystore._sources.kinds.rows.columns import image_of, mask_columns
from arraystore._sources.kinds.rows.frames import from_frame
from arraystore._sources.tables import add_targets, conditions_of, reading_table
from arraystore._sources.targets.class_labels import add_class_names
from arraystore._sources.targets.columns import numbered_rows
from arraystore._sources.targets.masks import Masks
from arraystore.errors import Kind, ManifestError

_ROWS_A_READ = 16
_ROWS_A_LOOK = 1000
_PLACE = "the data set"


def is_hugging_face(source: Any) -> bool:
    """Return whether a source is a data set of Hugging Face; `datasets` is not imported for it."""
    module = sys.modules.get("datasets")
    names = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return module is not None and isinstance(source, tuple(getattr(module, name) for name in names))


class DatasetRows:
    """The columns of a data set that are read as they are needed, a few rows at a time.

    Args:
        rows: the data set with these columns alone, which are read as Arrow.
    """

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self._start = 0
        self._table: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_start": 0, "_table": None}

    def __len__(self) -> int:
        return len(self._rows)

    def cell(self, column: str, slot: int) -> Any:
        """Return a cell. That of another column in the same row is not read again."""
        if self._table is None or not self._start <= slot < self._start + len(self._table):
            self._start = slot
            self._table = self._rows[slot : slot + _ROWS_A_READ]
        return self._table.column(column)[slot - self._start].as_py()

    @property
    def fingerprint(self) -> str:
        """The one by which `datasets` itself tells whether rows are the same."""
        return str(getattr(self._rows, "_fingerprint", ""))


class DatasetImages(SourceList):
    """The images, or the masks, in a column of a data set, undecoded."""

    noun: ClassVar[str] = "images of a data set"
    may_name_files = True

    def __init__(self, rows: DatasetRows, column: str) -> None:
        self._rows = rows
        self._column = column

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, slot: Any) -> Any:
        image = image_of(self._rows.cell(self._column, slot), self.name(slot))
        return image if isinstance(image, bytes) else os.path.join(Path.cwd(), image)

    def name(self, slot: int) -> str:
        return f"row {slot}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        yield ["hugging face", self._column, self._rows.fingerprint], ()


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
    masks, others = mask_columns(schema, targets)
    column = image_column(_PLACE, schema, path_column, masks)
    arrow = data.with_format("arrow")
    if column is None:
        return from_frame(arrow[:], path_column=path_column, targets=targets, root=root, suffix=suffix, where=where)
    if root is not None or suffix:
        raise ManifestError("root and suffix have no meaning for a data set that holds its images: leave them out")
    needed = check_targets(_PLACE, schema, column, others, conditions)
    with reading_table(_PLACE):
        table = arrow.select_columns(needed)[:] if needed else None
        rows = data.select_columns([column, *masks])
        if conditions and table is not None:
            table, numbers = numbered_rows(_PLACE, table, conditions)
            rows = rows.select(numbers.tolist())
        if not len(rows):
            raise ManifestError(f"{_PLACE} has no rows", kind=Kind.MISSING)
        rows = rows.with_format("arrow")
        cells = (rows[at : at + _ROWS_A_LOOK].column(column) for at in range(0, len(rows), _ROWS_A_LOOK))
        lazily = DatasetRows(rows)
        found = Found(paths_in(cells) or DatasetImages(lazily, column), place=_PLACE)
        found.masks = {name: Masks(DatasetImages(lazily, name), bits=bits) for name, bits in masks.items()}
        if table is not None:
            target_of = add_targets(found, table, column, others, conditions, data.column_names)
            add_class_names(found, target_of, _class_names(data.features))
    return found


def _class_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    kinds = {name: getattr(kind, "feature", kind) for name, kind in features.items()}  # of the items of lists
    return {name: tuple(kind.names) for name, kind in kinds.items() if type(kind).__name__ == "ClassLabel"}
