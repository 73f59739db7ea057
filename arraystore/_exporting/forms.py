"""The forms of exports: the writer of each, and which one a target is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast, get_args

from arraystore._common.checks import choice_of, parse_bytes
from arraystore._exporting.columns import Columns
from arraystore._exporting.options import Form
from arraystore._exporting.runs import Run
from arraystore._exporting.writing.folder import Folder
from arraystore._exporting.writing.hugging_face import IMAGE
from arraystore._exporting.writing.metadata import FILE_NAME
from arraystore._exporting.writing.shards import DEFAULT_SHARD_BYTES, Shards
from arraystore._exporting.writing.tables import ImageTables
from arraystore._exporting.writing.tar import END_BYTES, Tars
from arraystore.errors import Option, SpecError

# The names that no column may have: those that a form has for itself.
RESERVED: dict[Form, tuple[str, ...]] = {"folder": (FILE_NAME,), "parquet": (IMAGE,), "arrow": (IMAGE,), "tar": ()}


class Writer(Protocol):
    """Writes one form. It gets all images in the order of their slots."""

    def add(self, run: Run) -> None:
        """Write some images, with what goes with them."""

    def finish(self) -> None:
        """Write what is left, and close all files."""

    def abandon(self) -> None:
        """Close the files as they are; nothing to do after `finish`."""

    @property
    def files(self) -> int:
        """How many there are, in the end."""

    @property
    def size_bytes(self) -> int:
        """What they hold together, in the end."""


def form_of(target: str | os.PathLike[str], form: Form | None) -> tuple[Form, bool]:
    """Return the form of a target, and whether it is a folder of files.

    Args:
        target: of which a suffix such as ``.parquet`` means one file of that form.
        form: what the caller wants; None for that of the suffix, or a folder of images.

    Raises:
        SpecError: there is no such form, or the suffix is that of another.
    """
    suffix = Path(target).suffix.lower().removeprefix(".")
    suffix = suffix if suffix in get_args(Form) and suffix != "folder" else ""
    chosen = cast("Form", choice_of("form", form or suffix or "folder", get_args(Form)))
    if suffix and suffix != chosen:
        raise SpecError(
            f"the target {os.fspath(target)} ends as a {suffix} file, and form is {chosen!r}",
            advice="give it another suffix, or pass {0}",
            options=[Option("form", suffix)],
        )
    return chosen, not suffix


def shard_limit(form: Form, max_bytes: int | str | None, *, is_folder: bool) -> int | None:
    """Return the bytes that a file should have at most; None for a single file.

    Raises:
        SpecError: the limit is no size, or is given where there are no shards.
    """
    if max_bytes is None:
        return DEFAULT_SHARD_BYTES if is_folder else None
    limit = parse_bytes(max_bytes)
    if form == "folder":
        raise SpecError(
            "a folder has a file for each image", advice="leave out {0}", options=[Option("max_bytes", None)]
        )
    if not is_folder:
        raise SpecError(
            "the target is one file, so it has no shards to limit",
            advice="leave out its suffix for a folder of shards, or leave out {0}",
            options=[Option("max_bytes", None)],
        )
    if limit < 1:
        raise SpecError(f"max_bytes must be at least 1, not {max_bytes!r}")
    return limit


@contextmanager
def writer_of(form: Form, new: Path, columns: Columns, suffix: str, limit: int | None) -> Iterator[Writer]:
    """Yield the writer of an export; its files are closed afterwards, also where the export fails.

    Args:
        form: of it.
        new: the file, or the folder, to be written.
        columns: beside the images.
        suffix: of the images.
        limit: see `shard_limit`.

    Raises:
        ManifestError: the form cannot hold the columns.
    """
    if form == "folder":
        writer: Writer = Folder(new, columns, suffix)
    else:
        if form == "tar" and limit is not None:
            limit = max(limit - END_BYTES, 1)
        shards = Shards(new, f".{form}", limit)
        writer = Tars(shards, columns, suffix) if form == "tar" else ImageTables(shards, form, columns, suffix)
    try:
        yield writer
    finally:
        writer.abandon()
