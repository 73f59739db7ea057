"""Folders of images, of class folders, or with a table of metadata."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from arraystore._common.checks import expanded
from arraystore._common.wording import left_out_text, many
from arraystore._sources.entries import ImageFiles
from arraystore._sources.given import SOURCES
from arraystore._sources.kinds.found import Found
from arraystore._sources.scan import METADATA, Scan
from arraystore._sources.tables import TABLE_SUFFIXES, column_names
from arraystore._sources.targets.class_names import check_meant, order_note
from arraystore._sources.targets.given import KNOWN_SUFFIXES, TargetColumns
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError, Option

_logger = logging.getLogger(__name__)
_HOLD_IMAGES = (".parquet", ".tar", ".zip")


def metadata_in(folder: str) -> str | None:
    """Return the table in a folder that lists its images, as Hugging Face has it; None if there is none.

    Raises:
        ManifestError: there are several, or one cannot be read.
    """
    tables = [table for table in (Path(folder) / name for name in METADATA) if table.is_file()]
    tables = [table for table in tables if "file_name" in column_names(table)]
    if len(tables) > 1:
        names = " and ".join(table.name for table in tables)
        raise ManifestError(f"{folder}: has {names}: pass the path of the one that you mean")
    return str(tables[0]) if tables else None


def from_folder(
    folder: str | os.PathLike[str],
    *,
    labels: Any = None,
    allow_empty: bool = False,
    classes: Any = None,
    decoders: Iterable[str | bytes] | None = None,
) -> Found:
    """Return the images of a folder tree; see `arraystore.Manifest.from_folder`.

    Args:
        folder: the folder.
        labels: of the caller, which replace the classes.
        allow_empty: True accepts class folders without images.
        classes: of the caller; if given, folders of any name are classes.
        decoders: suffixes or first bytes of further files that are images.

    Raises:
        ManifestError: the folder is not there, cannot be listed or has no images; images lie beside class folders;
            or a class folder has no images.
    """
    root = str(expanded(folder).absolute())
    if not Path(root).is_dir():
        raise ManifestError(_not_a_folder(root, decoders), source=root, kind=Kind.MISSING)
    scan = Scan(os.fsencode(root), decoders)
    sources = TextList.from_raw(scan.images())
    left_out = f"; {left_out_text(scan.left_out)}" if scan.left_out else ""
    _logger.info("%s: %s%s", root, many(len(sources), "image"), left_out)
    if scan.passed_over:
        passed = ", ".join(map(os.fsdecode, scan.passed_over[:10]))
        _logger.info("%s: folders of stores and of systems, passed over: %s", root, passed)
    if not len(sources):
        message = f"{root}: there are no images in this folder{left_out or ', and no other files'}"
        packed = next((suffix for suffix in _HOLD_IMAGES if suffix in scan.left_out), None)
        advice = KNOWN_SUFFIXES if packed is None else f"if these hold the images, pass {root}/**/*{packed}"
        raise ManifestError(message, source=root, kind=Kind.MISSING, advice=advice)
    found = Found(sources, root, left_out=scan.left_out, place=root, origin=root)
    if labels is None and any(scan.counts.values()):
        _check_metadata(root, scan)
        if classes is None:
            check_meant(root, [os.fsdecode(name) for name in scan.counts])
        columns = TargetColumns(None, None)
        columns.add_classes(root, scan, allow_empty=allow_empty or classes is not None)
        found.targets, found.classes = columns.targets, columns.classes
        note = order_note(columns.classes["labels"]) if classes is None else None
        found.notes += [f"{root}: {note}"] if note else []
    return found


def _check_metadata(root: str, scan: Scan) -> None:
    """Refuse class folders of which one has a table of metadata: the table, not the folder, has the labels."""
    if scan.metadata is None:
        return
    table = Path(root, os.fsdecode(scan.metadata))
    if "file_name" in column_names(table):
        raise ManifestError(
            f"{root}: has a table of metadata in a folder below it, {os.fsdecode(scan.metadata)!r}",
            source=root,
            kind=Kind.INVALID,
            advice=f"build {table.parent}, or pass {{0}} if the table does not matter",
            options=[Option("labels", ["…"])],
        )


def _not_a_folder(path: str, decoders: Iterable[str | bytes] | None) -> str:
    if not os.path.lexists(path):
        return f"{path}: there is no such file or folder: {SOURCES}"
    if ImageFiles(decoders).are_named(os.fsencode(Path(path).name)):
        return f"{path}: is one image, not a folder: pass a list, [{path!r}]"
    return f"{path}: is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)}): {SOURCES}"
