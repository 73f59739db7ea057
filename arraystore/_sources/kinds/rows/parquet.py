"""Parquet files whose rows hold the images themselves; only the rows that are decoded next are read."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._sources.kinds.found import Found, SourceList
from arraystore._sources.kinds.rows.cells import check_targets, image_column
from arraystore._sources.kinds.rows.columns import holds_images, image_of, mask_columns
from arraystore._sources.kinds.rows.files import from_table
from arraystore._sources.kinds.rows.parquet_rows import ParquetRows
from arraystore._sources.stamps import file_stamp
from arraystore._sources.tables import add_targets, conditions_of, reading_table
from arraystore._sources.targets.class_labels import add_class_names, class_names
from arraystore._sources.targets.columns import numbered_rows, text_list
from arraystore._sources.targets.masks import Masks
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pa_parquet
else:
    pa, pa_parquet = lazy("pyarrow"), lazy("pyarrow.parquet")

_NO_COLUMN = "\0rows"  # no column has this name
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.parquet")


class ParquetImages(SourceList):
    """The images, or the masks, in a column of Parquet files.

    Args:
        rows: of the files.
        column: the name.
        names: the path that each chosen row gives its image, perhaps empty; None if there are none.
        may_name_files: whether a cell may have no bytes but the path of a file.
    """

    noun: ClassVar[str] = "rows of Parquet files"

    def __init__(self, rows: ParquetRows, column: str, names: TextList | None, *, may_name_files: bool) -> None:
        self._rows = rows
        self._column = column
        self._names = names
        self.may_name_files = may_name_files

    def __len__(self) -> int:
        return len(self._rows.rows)

    def __getitem__(self, slot: Any) -> Any:
        cell, folder = self._rows.cell(self._column, slot)
        image = image_of(cell, self.name(slot))
        return image if isinstance(image, bytes) else os.path.join(folder, image)

    def name(self, slot: int) -> str:
        path = "" if self._names is None else self._names[slot]
        return path or f"row {self._rows.rows[slot]}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        names = () if self._names is None else (self._names.offsets, self._names.blob)
        files, stamps, counts = self._rows.header
        yield ["parquet", files, stamps, self._column, counts], (self._rows.rows, *names)


def has_images(path: str) -> bool:
    """Return whether rows of a Parquet file hold images or other bytes.

    Raises:
        ManifestError: it cannot be read.
    """
    with reading_table(path):
        return any(holds_images(field.type) for field in pa_parquet.read_schema(path))


def from_parquet(
    source: str | Sequence[str],
    *,
    path_column: str | None = None,
    targets: Sequence[str] | Mapping[str, str] | None = None,
    where: str | Mapping[str, Any] | None = None,
) -> Found:
    """Return the images and targets of Parquet files, in the order of the files. No image is read.

    The codes of a Hugging Face ``ClassLabel`` keep their names.

    Raises:
        ManifestError: a file cannot be read, has other columns than the first, or belongs to another split; or a
            column is missing or is no target.
    """
    paths = [str(Path(path).absolute()) for path in ([source] if isinstance(source, str) else source)]
    conditions = conditions_of(where)
    notes = _check_shards(paths)
    tables, names, counts = [], [], []
    stamps = [file_stamp(path) for path in paths]
    with reading_table(paths[0]):
        schema = pa_parquet.read_schema(paths[0])
        masks, others = mask_columns(schema, targets)
        column = image_column(paths[0], schema, path_column, masks)
        if column is None and len(paths) == 1:  # the images are files, and their masks in the table
            return from_table(paths[0], path_column=path_column, targets=targets, where=where)
        if column is None:
            raise ManifestError(f"{paths[0]}: no column holds images: {schema.names}", source=paths[0])
        needed = check_targets(paths[0], schema, column, others, conditions)
        named = _names_files(schema, column)
        without_bytes: dict[str, list[int | None]] = {name: [] for name in (column, *masks)}
    for path in paths:
        with reading_table(path), pa_parquet.ParquetFile(path, pre_buffer=False) as file:
            if file.schema_arrow.names != schema.names:
                message = f"{path}: has the columns {file.schema_arrow.names}, {paths[0]} has {schema.names}"
                raise ManifestError(f"{message}: pass files with the same ones", source=path, kind=Kind.INVALID)
            tables.append(file.read(columns=needed))
            if named:
                cells = file.read(columns=[f"{column}.path"]).column(0).combine_chunks()
                chunks = cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]
                names += [chunk.flatten()[0] for chunk in chunks]
            groups = range(file.metadata.num_row_groups)
            counts.append([file.metadata.row_group(group).num_rows for group in groups])
            for name, nulls in without_bytes.items():
                nulls.append(_nulls(file.metadata, f"{name}.bytes"))
        if tables[-1].num_columns == 0:  # a table without columns has no rows
            tables[-1] = pa.table({_NO_COLUMN: np.zeros(sum(counts[-1]), np.int64)})
    with reading_table(paths[0]):
        table = pa.concat_tables(tables, promote_options="permissive")
        table, rows = numbered_rows(paths[0], table, conditions)
        if not len(rows):
            raise ManifestError(f"{paths[0]}: the table has no rows", source=paths[0], kind=Kind.MISSING)
        paths_in = text_list(pa.chunked_array(names).cast(pa.string()).fill_null("").take(rows)) if named else None
        lazily = ParquetRows(paths, [column, *masks], rows, stamps, counts)

        def cells(name: str, names: TextList | None = None) -> ParquetImages:
            may_name_files = _names_files(schema, name) and set(without_bytes[name]) != {0}
            return ParquetImages(lazily, name, names, may_name_files=may_name_files)

        # Where no cell has bytes, these are files as in any other list.
        are_paths = paths_in is not None and without_bytes[column] == [sum(each) for each in counts]
        sources = paths_in if are_paths else cells(column, paths_in)
        found = Found(sources, str(Path(paths[0]).parent), notes=notes, place=paths[0])
        found.masks = {name: Masks(cells(name), bits=bits) for name, bits in masks.items()}
        table = table.drop_columns([name for name in table.column_names if name == _NO_COLUMN])
        target_of = add_targets(found, table, column, others, conditions, schema.names)
    add_class_names(found, target_of, class_names(schema))
    return found


def _names_files(schema: Any, column: str) -> bool:
    """Return whether the cells of a column have paths beside bytes."""
    kind = schema.field(column).type
    return bool(pa.types.is_struct(kind)) and any(field.name == "path" for field in kind)


def _nulls(metadata: Any, column: str) -> int | None:
    """Return how many cells of a column are null, as the statistics of a file tell; None if they do not."""
    count = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        parts = [group.column(i) for i in range(group.num_columns)]
        found = next((part.statistics for part in parts if part.path_in_schema == column), None)
        if found is None or not found.has_null_count:
            return None
        count += found.null_count
    return count


def _check_shards(paths: Sequence[str]) -> list[str]:
    """Return notes on shards that are missing, by names such as train-00003-of-00010.parquet.

    Raises:
        ManifestError: the files are shards of several splits.
    """
    shards: dict[tuple[str, int], set[int]] = defaultdict(set)
    for path in paths:
        found = _SHARD.fullmatch(os.path.basename(path))
        if found:
            shards[found[1], int(found[3])].add(int(found[2]))
    splits = sorted({split for split, _ in shards})
    if len(splits) > 1:
        shown = ", ".join(map(repr, splits))
        folder = os.path.dirname(paths[0])
        raise ManifestError(
            f"{folder}: the files are shards of several splits, {shown}",
            source=folder,
            kind=Kind.INVALID,
            advice=f"build each of its own, such as {folder}/{splits[0]}-*.parquet",
        )
    return [
        f"{count - len(present):,} of the {count:,} shards of {split!r} are missing"
        for (split, count), present in shards.items()
        if len(present) < count
    ]
