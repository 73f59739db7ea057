"""The samples table: row i says where slot i came from. It is stored as Parquet, or as columns in HDF5."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from arraystore._common.arrow import number_column, numbers_in, text_column, time_column
from arraystore._common.lazy import lazy
from arraystore._common.ragged import Ragged, Target
from arraystore._format.files import keep_os_error
from arraystore._format.specification import FAILED
from arraystore._sources.manifest import Manifest
from arraystore._sources.targets.columns import text_list
from arraystore._sources.targets.masks import Masks
from arraystore._sources.targets.multi_label import names_in
from arraystore._sources.targets.own_columns import AT_TIMES, MASK_FIELDS
from arraystore.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
else:
    pa, pq = lazy("pyarrow"), lazy("pyarrow.parquet")  # a quarter of a second


def samples_table(
    manifest: Manifest,
    ledger: npt.NDArray[np.void],
    reasons: Mapping[int, str],
    notes: Mapping[int, str],
    kept: npt.NDArray[np.int64] | None,
) -> pa.Table:
    """Return the samples of a finished build. ``kept`` has each slot's row of the manifest if rows were dropped."""
    rows = range(len(manifest)) if kept is None else kept.tolist()
    chosen = ledger if kept is None else ledger[kept]
    columns: dict[str, pa.Array] = {"source": text_column([manifest.name(row) for row in rows])}
    names, labels = manifest.classes.get("labels"), manifest.targets.get("labels")
    if names is not None and labels is not None and not isinstance(labels, Ragged):
        codes = labels if kept is None else labels[kept]
        if codes.ndim == 2:
            columns["label"] = text_column(["|".join(names_in(row, names)) for row in codes])
        else:
            coded = pa.DictionaryArray.from_arrays(number_column(codes), text_column(names))
            columns["label"] = coded.dictionary_decode()
    for name in ("height", "width", "bytes"):
        columns[name] = number_column(chosen[name])
    columns["mtime"] = _times(chosen["mtime"])
    columns["hash"] = number_column(chosen["hash"], valid=chosen["hash"] != 0)
    failed = chosen["status"] == FAILED
    columns["reason"] = text_column(
        [reasons.get(row, "") if bad else "" for row, bad in zip(rows, failed, strict=True)], failed
    )
    noted = np.fromiter((row in notes for row in rows), bool, len(rows))
    if noted.any():
        columns["note"] = text_column([notes.get(row, "") for row in rows], noted)
    if manifest.masks:
        columns |= {name: number_column(chosen[name]) for name in MASK_FIELDS}
    apart = AT_TIMES.union(columns)
    for name, texts in manifest.texts.items():
        columns[f"{name}_text" if name in apart else name] = text_column([texts[row] for row in rows])
    for name, masks in manifest.masks.items():
        columns[f"{name}_text" if name in apart else name] = text_column([masks.name(row) for row in rows])
    return pa.table(columns)


def manifest_of(
    samples: pa.Table,
    targets: Mapping[str, Target],
    classes: Mapping[str, Sequence[str]],
    masks: Mapping[str, int] = MappingProxyType({}),
) -> Manifest | None:
    """Return the manifest that `samples_table` was given, or None if the table does not say all of it.

    The sources must be paths, no row dropped, and no text may have had the name of one of the table's own columns.
    Of ``masks``, the names and what they are filled with, ``targets`` may have the arrays too.
    """
    own = {"source", "reason", "note"}
    if "labels" in classes and not isinstance(targets.get("labels"), Ragged):
        own.add("label")
    kinds = zip(samples.schema.names, samples.schema.types, strict=True)
    texts = [name for name, kind in kinds if (pa.types.is_string(kind) or pa.types.is_binary(kind)) and name not in own]
    apart = AT_TIMES.union(samples.schema.names)
    renamed = any(name.removesuffix("_text") in apart for name in texts if name.endswith("_text"))
    if renamed or not has_files(samples):
        return None
    of_files = file_masks(masks, samples.schema.names)
    if not set(of_files) <= set(texts):
        return None
    return Manifest(
        text_list(samples["source"]),
        targets={name: array for name, array in targets.items() if name not in of_files},
        classes={name: tuple(names) for name, names in classes.items()},
        texts={name: text_list(samples[name]) for name in texts if name not in of_files},
        masks={name: Masks(text_list(samples[name]), bits=fill.bit_length()) for name, fill in of_files.items()},
        mask_fills={name: fill for name, fill in masks.items() if name not in of_files},
    )


def file_masks(masks: Mapping[str, int], columns: Container[str]) -> Mapping[str, int]:
    """Return the masks of a store whose samples have these columns, unless they came with slots of another store."""
    return masks if "mask_checksum" in columns else {}


def mask_fields(samples: pa.Table) -> dict[str, npt.NDArray[np.uint64]]:
    """Return what a table says of the masks of each row, by the fields of a ledger; zeros where it lacks one."""
    known = samples.column_names
    return {
        name: numbers_in(samples[name]) if name in known else np.zeros(len(samples), np.uint64) for name in MASK_FIELDS
    }


def has_files(samples: pa.Table | None) -> bool:
    """Return whether there are sources, and they are files, not bytes or arrays that lay in memory."""
    return (
        samples is not None
        and len(samples) > 0
        and os.fsdecode(samples["source"][0].as_py()) not in ("bytes 0", "array 0")
    )


def dropped_table(
    manifest: Manifest, ledger: npt.NDArray[np.void], reasons: Mapping[int, str], rows: Sequence[int]
) -> pa.Table:
    """Return the rows of the manifest that were dropped, with sources and reasons."""
    columns = {
        "row": number_column(np.asarray(rows, np.int64)),
        "source": text_column([manifest.name(row) for row in rows]),
        "bytes": number_column(ledger["bytes"][rows]),
        "mtime": _times(ledger["mtime"][rows]),
        "reason": text_column([reasons.get(row, "") for row in rows]),
    }
    return pa.table(columns | ({"mask_stamp": number_column(ledger["mask_stamp"][rows])} if manifest.masks else {}))


def join_dropped(one: pa.Table | None, other: pa.Table | None) -> pa.Table | None:
    """Return the rows of both tables of dropped sources."""
    tables = [table for table in (one, other) if table is not None]
    if not tables:
        return None
    types = {table.schema.field("source").type for table in tables}
    if len(types) > 1:  # only one of them has names that are not valid UTF-8
        at = tables[0].schema.get_field_index("source")
        tables = [table.set_column(at, "source", table["source"].cast(pa.binary())) for table in tables]
    return pa.concat_tables(tables)


def mtimes_us(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the column mtime in microseconds since 1970, 0 where it is null: int64, (N,)."""
    return numbers_in(table["mtime"].cast(pa.int64()))


def hashes_of(table: pa.Table) -> npt.NDArray[np.uint64]:
    """Return the hash of each source's file, 0 where it is not known: uint64, (N,)."""
    known = "hash" in table.column_names
    return numbers_in(table["hash"]) if known else np.zeros(len(table), np.uint64)


def notes_of(table: pa.Table) -> dict[int, str]:
    """Return what decoders noticed in images that are stored, slot → note."""
    if "note" not in table.column_names:
        return {}
    notes = enumerate(table["note"].to_pylist())
    return {slot: note for slot, note in notes if note}  # HDF5 has an empty text for null


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table, and fsync it."""
    with path.open("wb") as file:  # pyarrow refuses a path that is not UTF-8
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def read_parquet(path: Path, columns: Sequence[str] | None = None, *, place: str | None = None) -> pa.Table:
    """Read a table, or only some of its columns. ``place`` is its name in messages, by default the path.

    Raises:
        FormatError: it is missing or damaged.
        OSError: see `keep_os_error`.
    """
    try:
        # Without threads of pyarrow. A thread that still holds a Python file while Python ends aborts the process: of
        # short processes, 1 in 20 died of the thread that reads ahead (pre_buffer).
        with path.open("rb") as file, pq.ParquetFile(file, pre_buffer=False) as table:
            return table.read(None if columns is None else list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        keep_os_error(error)
        place = place or str(path)
        raise FormatError(f"{place} cannot be read: {error}", source=place) from error


def _times(nanoseconds: npt.NDArray[np.int64]) -> pa.Array:
    return time_column(nanoseconds // 1000, nanoseconds != 0)
