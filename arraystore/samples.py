"""The samples table: row i tells where slot i came from. Kept as Parquet, or as columns in HDF5.

A table is a mapping of column names to plain sequences here, so that pyarrow is loaded only to read or write Parquet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore.errors import FormatError
from arraystore.format import FAILED
from arraystore.manifest import Manifest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["dropped_table", "read_parquet", "samples_table", "write_parquet"]


def samples_table(
    manifest: Manifest,
    ledger: npt.NDArray[np.void],
    reasons: Mapping[int, str],
    kept: npt.NDArray[np.int64] | None,
) -> pa.Table:
    """Return the samples of a finished build as a pyarrow table.

    Args:
        manifest: what was built.
        ledger: a row a manifest row.
        reasons: manifest row → why it failed.
        kept: slot → manifest row where rows were dropped; None where slot i is row i.
    """
    import pyarrow as pa  # noqa: PLC0415 - a quarter of a second, and only builds and `store.samples` need it

    rows = range(len(manifest)) if kept is None else kept.tolist()
    chosen = ledger if kept is None else ledger[kept]
    columns: dict[str, Any] = {"source": _strings([manifest.name(row) for row in rows])}
    names = manifest.classes.get("labels")
    if names is not None:
        codes = manifest.targets["labels"] if kept is None else manifest.targets["labels"][kept]
        columns["label"] = pa.DictionaryArray.from_arrays(
            pa.array(codes.astype(np.int32)), _strings(list(names))
        ).dictionary_decode()
    for name in ("height", "width", "bytes"):
        columns[name] = pa.array(np.ascontiguousarray(chosen[name]))
    mtimes = np.ascontiguousarray(chosen["mtime"])
    columns["mtime"] = pa.array(mtimes, pa.timestamp("ns", "UTC"), mask=mtimes == 0)
    failed = chosen["status"] == FAILED
    columns["reason"] = pa.array(
        [reasons.get(row, "") if bad else None for row, bad in zip(rows, failed, strict=True)], pa.string()
    )
    for name, texts in manifest.texts.items():
        column = f"{name}_text" if name in columns else name
        columns[column] = _strings([texts[row] for row in rows])
    return pa.table(columns)


def dropped_table(manifest: Manifest, reasons: Mapping[int, str], rows: Sequence[int]) -> pa.Table:
    """Return the manifest rows that were dropped, their sources, and why, as a pyarrow table."""
    import pyarrow as pa  # noqa: PLC0415 - see samples_table

    return pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "source": _strings([manifest.name(row) for row in rows]),
            "reason": pa.array([reasons.get(row, "") for row in rows], pa.string()),
        }
    )


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table, and fsync it."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - see samples_table

    with path.open("wb") as file:  # pyarrow refuses a path that is not UTF-8
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def read_parquet(path: Path) -> pa.Table:
    """Read a table.

    Raises:
        FormatError: it is missing or damaged.
    """
    import pyarrow as pa  # noqa: PLC0415 - see samples_table
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            return pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise FormatError(f"{path} cannot be read: {error}", source=str(path)) from error


def _strings(names: list[str]) -> pa.Array:
    """Names as strings; as bytes, all of them, where one is not valid UTF-8: a Linux file name may be any bytes."""
    import pyarrow as pa  # noqa: PLC0415 - see samples_table

    try:
        return pa.array(names, pa.string())
    except UnicodeEncodeError:
        return pa.array([os.fsencode(name) for name in names], pa.binary())
