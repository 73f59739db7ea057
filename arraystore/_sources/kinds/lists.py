"""Lists of paths, lists of bytes, and arrays."""

import os
from collections.abc import Sequence
from typing import Any

from arraystore._sources.given import checked_arrays, checked_bytes, raw_paths
from arraystore._sources.kinds.found import Found, checked_root
from arraystore._sources.targets.given import check_sized
from arraystore._sources.text_list import TextList


def are_paths(source: Any) -> bool:
    """Return whether a source is a sequence that begins with a path."""
    return isinstance(source, Sequence) and len(source) > 0 and isinstance(source[0], str | os.PathLike)


def from_paths(
    paths: Sequence[str | os.PathLike[str]], *, root: str | os.PathLike[str] | None = None, suffix: str = ""
) -> Found:
    """Return a list of paths in its order; ``suffix`` is added where a path does not end in it.

    Raises:
        ManifestError: an item is not a path, or root is not a folder.
    """
    check_sized("paths", paths)
    if suffix:
        texts = [os.fspath(path) for path in paths]
        paths = [path if path.endswith(suffix) else path + suffix for path in texts]
    return Found(TextList.from_raw(raw_paths(paths)), checked_root(root))


def from_memory(source: Any) -> Found:
    """Return images in memory: the bytes of files, or arrays, or anything with a length that gives arrays.

    Raises:
        ManifestError: an item is of another kind than the first, or the value is no source.
    """
    is_bytes = isinstance(source, Sequence) and len(source) > 0 and isinstance(source[0], bytes)
    return Found(checked_bytes(source) if is_bytes else checked_arrays(source))
