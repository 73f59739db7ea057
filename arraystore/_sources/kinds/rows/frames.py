"""Tables in memory: data frames of pandas and polars, and tables of pyarrow."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arraystore._common.lazy import lazy
from arraystore._sources.kinds.found import Found, checked_root
from arraystore._sources.kinds.rows.cells import check_targets, image_column, paths_in
from arraystore._sources.kinds.rows.columns import ColumnImages, mask_columns
from arraystore._sources.tables import add_targets, conditions_of, path_column_of, reading_table
from arraystore._sources.targets.class_labels import add_class_names, class_names
from arraystore._sources.targets.columns import Column, chosen_rows, paths_of
from arraystore.errors import Kind, ManifestError

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")

PLACE = "the table"


def is_frame(source: Any) -> bool:
    """Return whether a source is a table in memory; pandas, polars and pyarrow are not imported for it."""
    return _is_pandas(source) or (hasattr(source, "__arrow_c_stream__") and hasattr(source, "columns"))


def is_series(source: Any) -> bool:
    """Return whether a source is one column of polars or pyarrow."""
    return hasattr(source, "__arrow_c_stream__") and not is_frame(source) and hasattr(source, "__len__")


def from_frame(
    frame: Any,
    *,
    path_column: str | None = None,
    targets: Sequence[str] | Mapping[str, str] | None = None,
    root: str | os.PathLike[str] | None = None,
    suffix: str = "",
    where: str | Mapping[str, Any] | None = None,
) -> Found:
    """Return the rows of a table in memory, as `read_table` does those of a file.

    A column of bytes, or of structs of bytes and path, gives the images themselves. The index of pandas is left out.

    Raises:
        ManifestError: a column is missing, is no target, or holds values of several kinds.
    """
    conditions = conditions_of(where)
    with reading_table(PLACE):
        return _found(_arrow(frame), path_column, targets, root, suffix, conditions)


def _found(table: Any, path_column: Any, targets: Any, root: Any, suffix: str, conditions: dict[str, str]) -> Found:
    names = table.column_names
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ManifestError(f"{PLACE}: there are two columns named {repeated[0]!r}: rename one")
    images = image_column(PLACE, table.schema, path_column, mask_columns(table.schema, targets)[0])
    if images is not None and suffix:
        raise ManifestError("suffix has no meaning for images in a table: leave it out")
    if images is not None:
        check_targets(PLACE, table.schema, images, targets, conditions)
    column = images or path_column_of(PLACE, names, path_column)
    kept = {column, *(names if targets is None else targets), *conditions}
    table = chosen_rows(PLACE, table.select([name for name in names if name in kept]), conditions)
    if not len(table):
        raise ManifestError(f"{PLACE} has no rows", kind=Kind.MISSING)
    base, cells = checked_root(root), table.column(column)
    if images is None:
        sources: Any = paths_of(Column(PLACE, column, cells), suffix)
    else:
        sources = paths_in([cells]) or ColumnImages(cells, os.path.join(base or Path.cwd(), ""))
    found = Found(sources, base, place=PLACE)
    target_of = add_targets(found, table, column, targets, conditions, names)
    add_class_names(found, target_of, class_names(table.schema))
    return found


def _arrow(frame: Any) -> Any:
    """Return a table in memory as a table of pyarrow.

    Raises:
        ManifestError: a column holds values of several kinds.
    """
    try:
        if _is_pandas(frame):
            return pa.Table.from_pandas(frame, preserve_index=False)
        return frame if isinstance(frame, pa.Table) else pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ManifestError(
            f"{PLACE} cannot be read, because a column holds values of several kinds: {error}",
            reason=str(error),
            kind=Kind.INVALID,
        ) from error


def _is_pandas(source: Any) -> bool:
    module = sys.modules.get("pandas")
    return module is not None and isinstance(source, module.DataFrame)
