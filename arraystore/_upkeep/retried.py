"""Sources that an update tried again and that failed again: from then on they count as unchanged."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.arrow import number_column, numbers_in, time_column
from arraystore._format.publication import Publication

_NUMBERS = re.compile(r"[\d.,]+")


def settled(
    publication: Publication, stamps: npt.NDArray[np.void], retried: frozenset[str], before: Mapping[str, str]
) -> Publication:
    """Return what is published, where sources that failed again have the stamps of their files.

    A source that failed for a cause outside its file is recorded without a stamp, so that it is tried again. Without
    this, every comparison would find it again, and every update would make a new store that is as the old one.

    Args:
        publication: of the update.
        stamps: of the files, see `Changes.stamps`.
        retried: the names of the sources that were tried again.
        before: the name of each source that had failed → the reason.
    """

    def table_with_stamps(table: Any, rows: npt.NDArray[np.int64]) -> Any:
        again = _failed_again(table, retried, before)
        if not len(again):
            return table
        known = {"bytes": numbers_in(table["bytes"]).copy(), "mtime": numbers_in(table["mtime"].cast("int64")).copy()}
        known["bytes"][again] = stamps["bytes"][rows[again]]
        known["mtime"][again] = stamps["mtime"][rows[again]] // 1000
        made = {"bytes": number_column(known["bytes"]), "mtime": time_column(known["mtime"], known["mtime"] != 0)}
        if "mask_stamp" in table.column_names:
            masks = numbers_in(table["mask_stamp"]).copy()
            masks[again] = stamps["masks"][rows[again]]
            made["mask_stamp"] = number_column(masks)
        for name, column in made.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        return table

    samples, dropped = publication.samples, publication.dropped
    if dropped is not None:
        # Rows that fail are dropped, and others move into their places.
        return replace(publication, dropped=table_with_stamps(dropped, numbers_in(dropped["row"])))
    return replace(publication, samples=table_with_stamps(samples, np.arange(len(samples))))


def _failed_again(table: Any, retried: frozenset[str], before: Mapping[str, str]) -> npt.NDArray[np.int64]:
    """Return the rows of a table of samples whose source was tried again, and failed for the same reason as before."""
    sizes = numbers_in(table["bytes"])
    columns = (table[name].to_pylist() for name in ("source", "reason"))
    return np.array(
        [
            row
            for row, (source, reason) in enumerate(zip(*columns, strict=True))
            if reason and not sizes[row] and _name(source) in retried and _is_same(reason, before.get(_name(source)))
        ],
        np.int64,
    )


def _name(source: str | bytes) -> str:
    return source if isinstance(source, str) else source.decode("utf-8", "surrogateescape")


def _is_same(reason: str, before: str | None) -> bool:
    """Return whether two reasons are the same but for numbers, such as how much memory is free."""
    return before is not None and _NUMBERS.sub("", reason) == _NUMBERS.sub("", before)
