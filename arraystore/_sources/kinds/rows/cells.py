"""Images that lie in a column of a table, as bytes or as a struct of bytes and path, as Hugging Face writes them."""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arraystore._common.lazy import lazy
from arraystore._common.ragged import Ragged, rows_of_one_length
from arraystore._sources.given import raw_paths
from arraystore._sources.kinds.found import Found
from arraystore._sources.kinds.rows.columns import holds_images, is_binary
from arraystore._sources.tables import PATH_COLUMNS
from arraystore._sources.targets.columns import is_list_of_items
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError, Option

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    pa, pc = lazy("pyarrow"), lazy("pyarrow.compute")

_IMAGE_COLUMNS = ("image", "img", "images", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "photo", "picture")


def image_column(place: str, schema: Any, wanted: str | None, masks: Container[str] = ()) -> str | None:
    """Return the column whose cells are images; None if the table has a column of paths instead, or none of images.

    Args:
        place: the name of the table, for messages.
        schema: of pyarrow.
        wanted: the option ``path_column``.
        masks: the columns that become masks.

    Raises:
        ManifestError: several columns hold images.
    """
    names = [field.name for field in schema if holds_images(field.type) and field.name not in masks]
    if wanted is not None:
        return wanted if wanted in names else None
    known = [name for name in (*_IMAGE_COLUMNS, *PATH_COLUMNS) if name in names]
    if known or len(names) == 1:
        return (known or names)[0]
    if names:
        raise ManifestError(
            f"{place}: the columns {', '.join(map(repr, names))} hold images, or other bytes",
            source=place,
            kind=Kind.INVALID,
            advice="choose the one of the images with {0}",
            options=[Option("path_column", names[0])],
        )
    return None


def check_targets(place: str, schema: Any, images: str, targets: Any, conditions: Mapping[str, str]) -> list[str]:
    """Return the columns that are needed beside that of the images, before any of them is read.

    Raises:
        ManifestError: one of them holds bytes or structs, which are no target, and was not chosen.
    """
    if targets is not None:
        return [name for name in schema.names if name in {*targets, *conditions} and name != images]
    for field in schema:
        if field.name not in (images, *conditions) and (is_binary(field.type) or pa.types.is_nested(field.type)):
            if is_list_of_items(field.type):
                continue
            others = [each.name for each in schema if each.name not in (images, field.name)]
            chosen, advice = [Option("targets", others)], "choose other columns with {0}"
            if holds_images(field.type):
                chosen.append(Option("targets", dict.fromkeys(others, "auto") | {field.name: "mask"}))
                advice += ", or if it has masks, pass {1}"
            message = f"{place}: column {field.name!r} holds {field.type}, which is no target"
            raise ManifestError(message, source=place, kind=Kind.INVALID, advice=advice, options=chosen)
    return [name for name in schema.names if name != images]


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


def paths_in(columns: Iterable[Any]) -> TextList | None:
    """Return the paths of cells that have no bytes, which are files as in any other list; None if a cell is not so.

    Args:
        columns: the cells, in one or more arrays of pyarrow; no further one is asked for once a cell has bytes.
    """
    paths: list[str] = []
    for column in columns:
        if not pa.types.is_struct(column.type) or {"bytes", "path"} - {field.name for field in column.type}:
            return None
        found = pc.struct_field(column, "path")
        if pc.struct_field(column, "bytes").null_count < len(column) or found.null_count:
            return None
        paths += found.to_pylist()
    return TextList.from_raw(raw_paths(paths))
