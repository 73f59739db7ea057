"""A folder of images: class folders where there are classes, and a table beside the images where there is more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from arraystore._common.wording import flat
from arraystore._exporting.columns import Column, Columns, is_utf8
from arraystore._exporting.runs import Run
from arraystore._exporting.writing.metadata import FILE_NAME, Metadata, metadata_for
from arraystore.errors import Kind, ManifestError, Option

_LONGEST_BYTES = 200


def class_folders(columns: Columns) -> tuple[str, ...]:
    """Return the names of the class folders, in the order of their codes; empty if the images lie in one folder.

    Raises:
        ManifestError: a class has a name that no folder may have, or that readers leave out.
    """
    classes = columns.label.classes if columns.label is not None else ()
    for name in classes:
        odd = not name.strip() or name.startswith((".", "__")) or any(letter in name for letter in "/\\\0")
        if odd or not is_utf8(name) or len(name.encode()) > _LONGEST_BYTES:
            raise ManifestError(
                f"the class {flat(name)!r} cannot be the name of a folder",
                kind=Kind.INVALID,
                advice="export with {0}",
                options=[Option("form", "parquet")],
            )
    return classes


class Folder:
    """Writes an export as a folder. It is a writer, see `arraystore._exporting.forms`.

    Args:
        new: the folder, which is there.
        columns: beside the images.
        suffix: of the images.

    Raises:
        ManifestError: see `class_folders`.
    """

    def __init__(self, new: Path, columns: Columns, suffix: str) -> None:
        self._new, self._suffix = new, suffix
        self._classes, self._label = class_folders(columns), columns.label
        self._masks = columns.masks
        self._images = "images/" if self._masks else ""
        self._made: set[str] = set()
        self.files: int = 0
        self.size_bytes: int = 0
        in_folders = self._label if self._classes else None
        self._told = list(columns)
        self._table: Metadata | None = None
        if any(column is not in_folders for column in columns):
            self._table = metadata_for(new, [_as_file_name(column) for column in columns])

    def add(self, run: Run) -> None:
        """See `arraystore._exporting.forms`."""
        folders = [""] * len(run.stems)
        if self._classes and self._label is not None:
            codes = cast("Any", run.values[self._label.name]).tolist()
            folders = [f"{self._classes[code]}/" for code in codes]
        places = [folder + stem for folder, stem in zip(folders, run.stems, strict=True)]
        paths = [f"{self._images}{place}{self._suffix}" for place in places]
        self._write(paths, run.images)
        values = dict(run.values)
        for mask in self._masks:
            names = [f"masks/{mask.name}/{place}.png" for place in places]
            self._write(names, cast("Sequence[bytes]", values[mask.name]))
            values[mask.name] = names
        if self._table is not None:
            self._table.add(paths, [values[column.name] for column in self._told])

    def finish(self) -> None:
        """See `arraystore._exporting.forms`."""
        if self._table is not None:
            self._table.finish()
            self.files, self.size_bytes = self.files + 1, self.size_bytes + self._table.size_bytes

    def abandon(self) -> None:
        """See `arraystore._exporting.forms`."""
        if self._table is not None:
            self._table.abandon()

    def _write(self, paths: Sequence[str], contents: Sequence[bytes]) -> None:
        for path, data in zip(paths, contents, strict=True):
            self._make_folder(os.path.dirname(path))
            with open(f"{self._new}/{path}", "xb", buffering=0) as file:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
            self.size_bytes += len(data)
        self.files += len(paths)

    def _make_folder(self, name: str) -> None:
        """Make a folder and those around it.

        Raises:
            ManifestError: the volume takes its name for that of another class.
        """
        if name in self._made or not name:
            return
        self._make_folder(os.path.dirname(name))
        try:
            os.mkdir(f"{self._new}/{name}")
        except FileExistsError:
            raise ManifestError(
                f"the class {flat(os.path.basename(name))!r} would have one folder with another class on this volume",
                kind=Kind.EXISTS,
                advice="choose another volume, or export with {0}",
                options=[Option("form", "parquet")],
            ) from None
        self._made.add(name)


def _as_file_name(column: Column) -> Column:
    """Return how a column is told in the table: instead of a mask, the path of its file."""
    return replace(column, name=f"{column.name}_{FILE_NAME}", kind="text") if column.kind == "mask" else column
