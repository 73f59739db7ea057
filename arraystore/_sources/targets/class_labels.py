"""The names of classes that tables of Hugging Face have in their metadata, for codes in their columns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arraystore._common.ragged import Ragged, rows_of_one_length
from arraystore._sources.kinds.found import Found
from arraystore.errors import Kind, ManifestError


def class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of the codes of columns, which a Hugging Face data set has in the metadata of its tables."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {name: kind.get("feature", kind) for name, kind in features.items()}  # of the items of lists
        found = {name: kind["names"] for name, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}  # it is written by others, and names are a convenience
    return {
        name: tuple(names)
        for name, names in found.items()
        if isinstance(names, list) and all(isinstance(each, str) for each in names)
    }


def add_class_names(found: Found, target_of: Mapping[str, str], names: Mapping[str, Sequence[str]]) -> None:
    """Give targets of codes the names of their classes. A code of -1 has no class.

    Raises:
        ManifestError: a code has no name.
    """
    for column, classes in names.items():
        target = target_of.get(column, "")
        given = found.targets.get(target)
        if isinstance(given, np.ndarray) and given.ndim == 2:  # lists that happen to have one length
            given = rows_of_one_length(given)
        codes = given.values if isinstance(given, Ragged) else given
        if codes is None or codes.dtype.kind not in "iu" or codes.ndim != 1 or target in found.classes:
            continue
        odd = np.flatnonzero((codes < -1) | (codes >= len(classes)))
        if len(odd):
            row, code = int(odd[0]), codes[odd[0]]
            row = given.row_of(row) if isinstance(given, Ragged) else row
            message = f"{found.place}: column {column!r}: row {row} (counted from 0): {code} is none of the classes"
            raise ManifestError(
                f"{message}, which are {len(classes):,}", slot=row, source=found.place, kind=Kind.INVALID
            )
        found.classes[target] = tuple(classes)
        if given is not None:
            found.targets[target] = given
