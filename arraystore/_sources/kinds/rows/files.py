"""Tables in files, whose rows name images."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arraystore._common.checks import expanded
from arraystore._sources.kinds.folders import metadata_in
from arraystore._sources.kinds.found import Found, checked_root
from arraystore._sources.tables import read_table


def from_table(
    path: str | os.PathLike[str],
    *,
    path_column: str | None = None,
    targets: Sequence[str] | Mapping[str, str] | None = None,
    root: str | os.PathLike[str] | None = None,
    suffix: str = "",
    separator: str | None = None,
    where: str | Mapping[str, Any] | None = None,
) -> Found:
    """Return the rows of a CSV, TSV, JSONL or Parquet file, as `read_table` reads them.

    Args:
        path: the table.
        path_column: see `read_table`.
        targets: see `read_table`.
        root: the folder that relative paths start from; None is the folder of the table.
        suffix: see `read_table`.
        separator: see `read_table`.
        where: see `read_table`.

    Raises:
        ManifestError: the table cannot be read, or a column does not fit.
    """
    path = str(expanded(path))
    rows: dict[str, Any] = {"suffix": suffix, "separator": separator, "where": where}
    found = read_table(path, path_column=path_column, targets=targets, **rows)
    absolute = Path(path).absolute()
    found.root = checked_root(root) or str(absolute.parent)
    found.origin = str(absolute)
    return found


def from_metadata(folder: str, *, path_column: str | None = None, **options: Any) -> Found:
    """Return the images that the table of metadata in a folder lists; see `from_table` for the options.

    Raises:
        ManifestError: see `from_table`.
    """
    return from_table(metadata_in(folder) or folder, path_column=path_column or "file_name", **options)
