"""The scan: every image below a folder, in the same order on every machine."""

import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from arraystore._common.formats import IMAGE_SUFFIXES
from arraystore.errors import Kind, ManifestError

_logger = logging.getLogger(__name__)
_RAW_SUFFIXES = frozenset(suffix.encode() for suffix in IMAGE_SUFFIXES)


class Scan:
    """One walk through a folder tree, with counts of the files that it met.

    The file system is asked for the lists of folders, whose entries state their kind, and for the targets of symbolic
    links. A stat of each file would cost a million round trips on a network volume. Only the names of the folders on
    the path of the walk are held as objects, so the peak of memory is about 70 bytes an image of the widest folder.
    """

    def __init__(self, root: bytes) -> None:
        self.root = with_slash(root)
        self.counts: dict[bytes, int] = {}  # the number of images in each folder directly in the root, in order
        self.loose: bytes | None = None  # the name of an image directly in the root
        self.ignored = 0  # files without the suffix of an image, and entries of other kinds

    def images(self) -> Iterator[bytes]:
        """Yield paths relative to the root.

        Names are sorted as bytes: in UTF-8 that is the order of code points, and it is the same in every locale.

        Raises:
            ManifestError: a folder cannot be listed.
        """
        try:
            # No recursion, because a tree may be deeper than Python allows calls to be.
            stack = [self._open(b"")]
            while stack:
                prefix, names, folders = stack[-1]
                name = next(names, None)
                if name is None:
                    stack.pop()
                elif name in folders:
                    if not (folders[name] and self._is_loop(prefix + name, [part for part, _, _ in stack])):
                        if not prefix:
                            self.counts[name] = 0
                        stack.append(self._open(prefix + name + b"/"))
                else:
                    if prefix:
                        self.counts[next(reversed(self.counts))] += 1
                    else:
                        self.loose = name
                    yield prefix + name
        except OSError as error:
            source = os.fsdecode(error.filename or self.root)
            message = f"{source}: the folder cannot be listed: {error.strerror or error}"
            raise ManifestError(message, source=source, kind=Kind.UNREADABLE) from error

    def _open(self, prefix: bytes) -> tuple[bytes, Iterator[bytes], dict[bytes, bool]]:
        """Return the prefix of a folder, its images and folders in order, and its folders (True for a link to one)."""
        names: list[bytes] = []
        folders: dict[bytes, bool] = {}
        with os.scandir(self.root + prefix) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(b"."):
                    continue
                is_link = entry.is_symlink()
                if entry.is_dir(follow_symlinks=False) or (is_link and _leads_to(entry, stat.S_ISDIR)):
                    folders[name] = is_link
                    names.append(name)
                elif has_image_suffix(name) and (
                    entry.is_file(follow_symlinks=False) or (is_link and _leads_to(entry, stat.S_ISREG, missing=True))
                ):
                    names.append(name)
                else:
                    self.ignored += 1
        names.sort()
        return prefix, iter(names), folders

    def _is_loop(self, relative: bytes, prefixes: list[bytes]) -> bool:
        """Return whether the linked folder ``relative`` is one of the folders on the path of the walk."""
        place = Path(os.fsdecode(self.root + relative))
        if not any(place.samefile(os.fsdecode(self.root + prefix)) for prefix in prefixes):
            return False
        _logger.warning("%s: links back to a folder around it; not followed", place)
        return True


def _leads_to(link: os.DirEntry[bytes], is_kind: Callable[[int], bool], *, missing: bool = False) -> bool:
    try:
        return is_kind(link.stat().st_mode)
    except OSError:
        return missing


def has_image_suffix(name: bytes) -> bool:
    """Return whether a file of this name has the suffix of an image."""
    stem, _, suffix = name.rpartition(b".")
    return bool(stem) and suffix.lower() in _RAW_SUFFIXES


def with_slash(folder: bytes) -> bytes:
    """Return the path of a folder with one slash at its end."""
    return folder.rstrip(b"/") + b"/"
