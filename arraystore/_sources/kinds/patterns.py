"""Patterns of paths: globs such as photos/**/*.jpg, and numbered shards such as train-{000..123}.tar."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from arraystore._common.wording import left_out_text
from arraystore._sources.entries import ImageFiles, start_of
from arraystore._sources.given import raw_paths
from arraystore._sources.kinds.found import Found
from arraystore._sources.scan import shown_suffix
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError

_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_CHOICES = re.compile(r"\{([^{},]*(?:,[^{},]*)+)\}")
_MOST_PATHS = 1_000_000


def is_pattern(path: str) -> bool:
    """Return whether a path that is not there is a pattern of others."""
    has_signs = glob.has_magic(path) or _RANGE.search(path) or _CHOICES.search(path)
    return bool(has_signs) and not os.path.lexists(path)


def paths_like(pattern: str) -> list[str]:
    """Return the absolute paths of the files that a pattern means, sorted as a folder of them would be.

    Numbers in braces mean every one of them, in that order, whether it is there or not, so that a missing shard is
    seen; the signs of a glob mean what is there. Names that start with a dot are skipped, as in a folder.

    Raises:
        ManifestError: there is no such file.
    """
    found = []
    for each in _expanded(str(Path(pattern).absolute())):
        if glob.has_magic(each):
            files = [path for path in glob.iglob(each, recursive=True) if Path(path).is_file()]
            found += sorted(files, key=lambda path: os.fsencode(path).split(b"/"))
        else:
            found.append(each)
    if not found:
        raise ManifestError(f"{pattern}: no file is like this pattern", source=pattern, kind=Kind.MISSING)
    return found


def from_pattern(paths: Sequence[str], *, decoders: Iterable[str | bytes] | None = None) -> Found:
    """Return the images among the files that a pattern means. They have no labels, as no folder says so.

    Args:
        paths: of the files, see `paths_like`.
        decoders: see `ImageFiles`.

    Raises:
        ManifestError: none of them is an image.
    """
    images, left_out, files = [], Counter[str](), ImageFiles(decoders)
    for path in paths:
        raw = os.fsencode(path)
        name = os.path.basename(raw)
        if files.hold(name, partial(start_of, raw)):
            images.append(path)
        else:
            left_out[shown_suffix(name)] += 1
    if not images:
        others = left_out_text(left_out)
        raise ManifestError(f"none of the files of this pattern is an image; {others}", kind=Kind.MISSING)
    root = os.path.commonpath([os.path.dirname(path) for path in images])
    names = TextList.from_raw(raw_paths(os.path.relpath(path, root) for path in images))
    note = "a pattern of paths gives no labels: pass labels, or the folder of class folders"
    return Found(names, root, left_out=left_out, notes=[note])


def _expanded(pattern: str) -> list[str]:
    """Return a pattern without braces, once for each text that they mean."""
    braces = [brace for brace in (_RANGE.search(pattern), _CHOICES.search(pattern)) if brace is not None]
    if not braces:
        return [pattern]
    brace = min(braces, key=re.Match.start)
    before, behind = pattern[: brace.start()], pattern[brace.end() :]
    expanded: list[str] = []
    for text in _texts(brace):
        expanded += _expanded(before + text + behind)
        if len(expanded) > _MOST_PATHS:
            raise ManifestError(f"{pattern} means more than {_MOST_PATHS:,} files", source=pattern, kind=Kind.INVALID)
    return expanded


def _texts(brace: re.Match[str]) -> list[str]:
    if brace.lastindex == 1:
        return brace[1].split(",")
    first, last = brace[1], brace[2]
    if int(last) < int(first):
        message = f"{brace[0]} counts backwards: write the smaller number first"
        raise ManifestError(message, source=brace[0], kind=Kind.INVALID)
    if int(last) - int(first) > _MOST_PATHS:
        raise ManifestError(f"{brace[0]} means more than {_MOST_PATHS:,} files", source=brace[0], kind=Kind.INVALID)
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
