"""Images that lie in a column of a table, as bytes or as a struct of bytes and path, as Hugging Face writes them."""

from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from arraystore._common.lazy import lazy
from arraystore._sources.given import raw_paths
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
