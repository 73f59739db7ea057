"""A text file of paths, one a line, and perhaps a label behind each, as the lists of Caffe and ImageNet have it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from arraystore._sources.entries import ImageFiles
from arraystore._sources.given import raw_paths
from arraystore._sources.kinds.found import Found, checked_root
from arraystore._sources.tables import encoding_of
from arraystore._sources.targets.given import TargetColumns, whole_numbers
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError

LINES_SUFFIX = ".txt"
_LINE_LIMIT_LETTERS = 1 << 16


def from_lines(
    path: str,
    *,
    labels: Any = None,
    root: str | os.PathLike[str] | None = None,
    suffix: str = "",
    decoders: Iterable[str | bytes] | None = None,
) -> Found:
    """Return the paths of a text file, and their labels, unless the caller has others.

    A label stands behind a tab, or behind the last space of a line if what is before it ends like an image, or if
    ``suffix`` is given and the label is a number. Either every line has one or none has. Empty lines are passed over.
    ``decoders`` are as in `ImageFiles`, which tells how images end.

    Raises:
        ManifestError: the file cannot be read, has no lines, or some lines have a label and others have none.
    """
    if not Path(path).is_file():
        raise ManifestError(f"{path}: there is no such list of paths", source=path, kind=Kind.MISSING)
    paths: list[str] = []
    listed: list[str] = []
    files = ImageFiles(decoders)
    for number, line in _lines(path):
        name, label = _split(line, suffix, files)
        if bool(listed) != (label is not None) and paths:
            have, lack = (number, 1) if label is not None else (1, number)
            message = f"{path}: line {have} has a label behind its path, line {lack} has none"
            advice = "put a tab before each label; for paths with spaces alone, pass a list"
            raise ManifestError(message, source=path, kind=Kind.INVALID, advice=advice)
        paths.append(name if name.endswith(suffix) else name + suffix)
        listed += [] if label is None else [label]
    if not paths:
        raise ManifestError(f"{path}: has no lines", source=path, kind=Kind.MISSING)
    absolute = Path(path).absolute()
    found = Found(TextList.from_raw(raw_paths(paths)), checked_root(root) or str(absolute.parent), place=path)
    found.origin = str(absolute)
    if listed and labels is None:
        columns = TargetColumns(whole_numbers(listed), None)
        found.targets, found.classes, found.texts = columns.targets, columns.classes, columns.texts
    return found


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is not empty."""
    encoding = encoding_of(path)
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    try:
        with Path(path).open(encoding=encoding, errors=errors, newline="") as file:
            number = 0
            while line := file.readline(_LINE_LIMIT_LETTERS):
                number += 1
                text = line.rstrip("\r\n")
                if len(text) >= _LINE_LIMIT_LETTERS:
                    message = f"{path}: line {number} is too long for a path: is this a list of paths?"
                    raise ManifestError(message, source=path, kind=Kind.INVALID)
                if text.strip():
                    yield number, text
    except (OSError, UnicodeError) as error:
        message = f"{path}: the list of paths cannot be read: {error}"
        raise ManifestError(message, source=path, reason=str(error), kind=Kind.UNREADABLE) from error


def _split(line: str, suffix: str, files: ImageFiles) -> tuple[str, str | None]:
    """Return the path of a line, and its label if it has one."""
    name, tab, label = line.rpartition("\t")
    if tab:
        return name.strip(), label.strip()
    line = line.strip()
    if files.are_named(os.fsencode(line)):
        return line, None
    name, _, label = line.rpartition(" ")
    is_pair = files.are_named(os.fsencode(name)) or (suffix and label.lstrip("+-").isdecimal())
    return (name.rstrip(), label) if name and is_pair else (line, None)
