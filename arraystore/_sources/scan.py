"""The scan: every image below a folder, in an order that is the same on every machine."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from arraystore.errors import ManifestError

__all__ = ["IMAGE_SUFFIXES", "Scan", "has_image_suffix", "with_slash"]

IMAGE_SUFFIXES = frozenset(
    "avif bmp dib gif j2k jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp".split()  # noqa: SIM905 - legible
)

_logger = logging.getLogger(__name__)
_RAW_SUFFIXES = frozenset(suffix.encode() for suffix in IMAGE_SUFFIXES)


class Scan:
    """One walk through a folder tree, and what it met beside the images.

    Nothing is asked of the file system but the lists of folders, whose entries say what kind they are, and the targets
    of symbolic links: a stat a file would cost a million round trips on a network volume. Of the names, only those of
    the open folders are held as objects, so that the widest folder decides the peak: about 70 bytes an image in it.

    Attributes:
        counts: images in each folder directly in the root, in order.
        loose: one image directly in the root, or None.
        ignored: files that are no images by suffix, and what is neither file nor folder.
    """

    def __init__(self, root: bytes) -> None:
        self.root = with_slash(root)
        self.counts: dict[bytes, int] = {}
        self.loose: bytes | None = None
        self.ignored = 0

    def images(self) -> Iterator[bytes]:
        """Yield paths relative to the root.

        Names are compared as bytes, which for UTF-8 is the order of code points, and the same in every locale.

        Raises:
            ManifestError: a folder cannot be listed.
        """
        try:
            # A stack of our own: a tree may be deeper than Python's calls.
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
            reason = error.strerror or str(error)
            raise ManifestError(f"{source}: the folder cannot be listed: {reason}", source=source) from error

    def _open(self, prefix: bytes) -> tuple[bytes, Iterator[bytes], dict[bytes, bool]]:
        """List one folder: its prefix, its images and folders in order, and the folders (True for a link to one)."""
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
        """Whether the linked folder ``relative`` is one of those that the walk is in."""
        place = Path(os.fsdecode(self.root + relative))
        if not any(place.samefile(os.fsdecode(self.root + prefix)) for prefix in prefixes):
            return False
        _logger.warning("%s: links back to a folder that it lies in; not followed", place)
        return True


def _leads_to(link: os.DirEntry[bytes], is_kind: Callable[[int], bool], *, missing: bool = False) -> bool:
    try:
        return is_kind(link.stat().st_mode)
    except OSError:
        return missing


def has_image_suffix(name: bytes) -> bool:
    """Tell whether a file of this name is taken for an image."""
    stem, _, suffix = name.rpartition(b".")
    return bool(stem) and suffix.lower() in _RAW_SUFFIXES


def with_slash(folder: bytes) -> bytes:
    """Return a folder's path with one slash at its end."""
    return folder.rstrip(b"/") + b"/"
