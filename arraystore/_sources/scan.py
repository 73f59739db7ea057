"""The scan: every image below a folder, in the same order on every machine."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from arraystore._sources.entries import (
    OWN_ENTRIES,
    ImageFiles,
    is_own_folder,
    is_system_folder,
    start_of,
    suffix_of,
)
from arraystore.errors import Kind, ManifestError

_logger = logging.getLogger(__name__)
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_RAW_METADATA = frozenset(map(os.fsencode, METADATA))
_LEFT_OUT_SUFFIXES = 1000  # file names choose the suffixes, so their number has a limit
_SUFFIX_LETTERS = 20
_MORE = "of other suffixes"
_OPEN_IT = "open a store with arraystore.open, or pass the folder of its images"


class Scan:
    """One walk through a folder tree, with counts of the files that it met.

    The file system is asked for the lists of folders, whose entries state their kind, for the targets of symbolic
    links, and for the first bytes of files whose names say nothing. A stat of each file would cost a million round
    trips on a network volume. Stores, unfinished stores and folders of the system are passed over. Only the names of
    the folders on the path of the walk are held as objects, so the peak of memory is about 70 bytes an image of the
    widest folder.

    ``decoders`` are as in `ImageFiles`.
    """

    def __init__(self, root: bytes, decoders: Iterable[str | bytes] | None = None) -> None:
        self.root = with_slash(root)
        self._images = ImageFiles(decoders)
        self.counts: dict[bytes, int] = {}  # the number of images in each folder directly in the root, in order
        self.loose: bytes | None = None  # the name of an image directly in the root
        self.left_out: Counter[str] = Counter()  # suffix, with its dot or "", → files that are no images
        self.passed_over: list[bytes] = []  # folders that are not the user's own
        self.metadata: bytes | None = None  # a table of metadata below the root

    def images(self) -> Iterator[bytes]:
        """Yield paths relative to the root.

        Names are sorted as bytes: in UTF-8 that is the order of code points, and it is the same in every locale.

        Raises:
            ManifestError: a folder cannot be listed.
        """
        try:
            # No recursion, because a tree may be deeper than Python allows calls to be.
            opened = self._open(b"")
            if opened is None:
                message = f"{os.fsdecode(self.root)}: is a store, or an unfinished one, not a folder of images"
                raise ManifestError(message, source=os.fsdecode(self.root), kind=Kind.INVALID, advice=_OPEN_IT)
            stack = [opened]
            while stack:
                prefix, names, folders = stack[-1]
                name = next(names, None)
                if name is None:
                    stack.pop()
                elif name in folders:
                    if folders[name] and self._is_loop(prefix + name, [part for part, _, _ in stack]):
                        continue
                    below = self._open(prefix + name + b"/")
                    if below is None:
                        continue
                    if not prefix:
                        self.counts[name] = 0
                    stack.append(below)
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

    def _open(self, prefix: bytes) -> tuple[bytes, Iterator[bytes], dict[bytes, bool]] | None:
        """Return the prefix of a folder, its images and folders in order, and its folders (True for a link to one).

        None is returned for a store.
        """
        names: list[bytes] = []
        folders: dict[bytes, bool] = {}
        others: Counter[str] = Counter()
        own: set[bytes] = set()
        path = self.root + prefix
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(b"."):
                    continue
                is_link = entry.is_symlink()
                if entry.is_dir(follow_symlinks=False) or (is_link and _leads_to(entry, stat.S_ISDIR)):
                    if is_system_folder(name):
                        self.passed_over.append(prefix + name)
                        continue
                    folders[name] = is_link
                    names.append(name)
                elif self._is_image(entry, path, is_link=is_link):
                    names.append(name)
                else:
                    others[shown_suffix(name)] += 1
                    if name in OWN_ENTRIES:
                        own.add(name)
                    if prefix and name in _RAW_METADATA and (self.metadata is None or prefix + name < self.metadata):
                        self.metadata = prefix + name
        if own and is_own_folder(Path(os.fsdecode(path)), own):
            self.passed_over.append(prefix.rstrip(b"/"))
            return None
        for suffix, count in others.items():
            known = suffix in self.left_out or len(self.left_out) < _LEFT_OUT_SUFFIXES
            self.left_out[suffix if known else _MORE] += count
        names.sort()
        return prefix, iter(names), folders

    def _is_image(self, entry: os.DirEntry[bytes], folder: bytes, *, is_link: bool) -> bool:
        # A link to nothing is a source if its name is that of an image: there are no first bytes to tell.
        if not entry.is_file(follow_symlinks=False) and not (is_link and _leads_to(entry, stat.S_ISREG, missing=True)):
            return False
        return self._images.hold(entry.name, lambda count: start_of(folder + entry.name, count))

    def _is_loop(self, relative: bytes, prefixes: list[bytes]) -> bool:
        """Return whether the linked folder ``relative`` is one of the folders on the path of the walk."""
        place = Path(os.fsdecode(self.root + relative))
        if not any(place.samefile(os.fsdecode(self.root + prefix)) for prefix in prefixes):
            return False
        _logger.warning("%s: links back to a folder around it; not followed", place)
        return True


def shown_suffix(name: bytes) -> str:
    """Return the suffix under which a file that is left out is counted, with its dot; a long one is not shown."""
    suffix = suffix_of(name)
    if not suffix:
        return ""
    return "." + suffix.decode("utf-8", "replace") if len(suffix) <= _SUFFIX_LETTERS else _MORE


def _leads_to(link: os.DirEntry[bytes], is_kind: Callable[[int], bool], *, missing: bool = False) -> bool:
    try:
        return is_kind(link.stat().st_mode)
    except OSError:
        return missing


def with_slash(folder: bytes) -> bytes:
    """Return the path of a folder with one slash at its end."""
    return folder.rstrip(b"/") + b"/"
