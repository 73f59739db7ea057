"""The manifest: the ordered table of sources, labels and other targets, made from whatever the user has.

Row i is the source, label and other targets of slot i. A manifest fixes N and the order before anything is allocated,
and two machines that see the same content make the same manifest.
"""

from __future__ import annotations

import json
import logging
import operator
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore.errors import ManifestError
from arraystore.tables import CATEGORY_LIMIT, TABLE_SUFFIXES, TextList, column_names, read_table

__all__ = ["IMAGE_SUFFIXES", "Manifest"]

IMAGE_SUFFIXES = frozenset(
    "avif bmp dib gif j2k jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp".split()  # noqa: SIM905 - legible
)

_logger = logging.getLogger(__name__)
_RAW_SUFFIXES = frozenset(suffix.encode() for suffix in IMAGE_SUFFIXES)
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# Targets become files beside these, so that a name may be nothing but a plain file name. 200 leaves room for suffixes.
_RESERVED = ("images", "status", "checksums", "samples", "store", "dropped", "ledger", "plan", "reasons", "lock")
_TARGET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://")
_HASH_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, eq=False, repr=False)
class Manifest:
    """The ordered table of sources and targets; unchangeable. Make one with `of` or a ``from_`` method.

    Attributes:
        sources: one a row, as given: paths (relative ones start from ``root``), bytes, or uint8 arrays of shape
            (H, W), (H, W, 1) or (H, W, 3). Arrays are neither copied nor looked at before `load`.
        root: the absolute folder that relative paths start from; None for paths taken as given and for sources in
            memory.
        targets: arrays, axis 0 = N, C-order not promised, read-only, not copied. ``"labels"`` is the class or main
            label: int64 for classes.
        classes: for each target of categories, the names of its codes, sorted by code point.
        texts: targets that stay text, one text a row.

    Raises:
        ManifestError: there are no sources, a target has another length, or a target's name cannot be a file's.
    """

    sources: Sequence[str | bytes | npt.NDArray[Any]]
    root: str | None = None
    targets: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _base: bytes = field(init=False, default=b"")
    _stream: _Stream | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        count = len(self.sources)
        if not count:
            raise ManifestError("there are no sources: pass at least one image")
        if isinstance(self.sources, list | tuple) and isinstance(self.sources[0], str | os.PathLike):
            raise ManifestError("a Manifest keeps paths in a form of its own: make it with Manifest.from_paths")
        names = [*self.targets, *self.texts]
        for name in names:
            _check_name(name, names)
            rows = len(self.targets[name] if name in self.targets else self.texts[name])
            if rows != count:
                message = f"target {name!r} has {rows:,} rows, but there are {count:,} sources: give one row a source"
                raise ManifestError(message)
        set_field = object.__setattr__
        set_field(self, "targets", MappingProxyType({key: _read_only(value) for key, value in self.targets.items()}))
        set_field(self, "classes", MappingProxyType({key: tuple(value) for key, value in self.classes.items()}))
        set_field(self, "texts", MappingProxyType(dict(self.texts)))
        # Relative paths mean what they mean now, wherever a later chdir leads.
        set_field(self, "_base", _with_slash(os.fsencode(self.root or Path.cwd())) if self.is_paths else b"")
        set_field(self, "_stream", None if hasattr(self.sources, "__getitem__") else _Stream(self.sources))

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings do not pickle, and worker processes need the whole.
        parts = (self.sources, self.root, dict(self.targets), dict(self.classes), dict(self.texts))
        return _restore, (parts, self._base)

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        kind = "paths" if self.is_paths else self.name(0).partition(" ")[0]
        under = f" under {self.root!r}" if self.root else ""
        named = ", ".join([*self.targets, *self.texts]) or "none"
        return f"<Manifest of {len(self):,} {kind}{under}; targets: {named}>"

    @property
    def is_paths(self) -> bool:
        """Whether the sources are paths."""
        return isinstance(self.sources, TextList)

    def load(self, slot: int) -> str | bytes | npt.NDArray[Any]:
        """Return what a worker needs for ``slot``: an absolute path (or a URL), bytes, or an array.

        An array is what the source gives, unchecked: whoever decodes checks its shape and dtype, because that is where
        one bad source is counted and passed over. An iterable that cannot be indexed is consumed: call with rising
        slots, from one thread.

        Raises:
            IndexError: there is no such slot.
            ManifestError: an iterable is asked for an earlier slot or ends early, or its item is not an array.
        """
        slot = self._checked_slot(slot)
        if isinstance(self.sources, TextList):
            raw = self.sources.raw(slot)
            # Bytes throughout, so that the file system gets back the very bytes that it gave, whatever the locale.
            return os.fsdecode(raw if raw.startswith(b"/") or _URL.match(raw) else self._base + raw)
        item = self.sources[slot] if self._stream is None else self._stream.take(slot)
        if isinstance(item, bytes) and _is_bytes(self.sources):
            return item
        try:
            if isinstance(item, str | bytes):
                raise TypeError("pass a list of paths or of bytes")  # noqa: TRY301 - one message for both
            return np.asarray(item)
        except (TypeError, ValueError) as error:
            message = f"source {self.name(slot)} is a {type(item).__name__}, not an array: {error}"
            raise ManifestError(message, slot=slot, source=self.name(slot), reason=str(error)) from error

    def name(self, slot: int) -> str:
        """Return the source of ``slot`` as text: its path as given, separated by ``/``, or such as ``"bytes 12"``.

        Raises:
            IndexError: there is no such slot.
        """
        slot = self._checked_slot(slot)
        if isinstance(self.sources, TextList):
            return self.sources[slot]
        return f"bytes {slot}" if _is_bytes(self.sources) else f"array {slot}"

    @cached_property
    def digest(self) -> str:
        """The manifest in 32 hexadecimal digits: the xxh3_128 of all that decides what the store holds.

        That is N, the paths (for bytes, their lengths and hashes), the targets, classes and texts; not ``root``, so
        that a folder may move. Files are not opened. Arrays count with their number, and as one ndarray with shape and
        dtype, but not with their pixels: they may be read only once, or be larger than memory.
        """
        digest = xxhash.xxh3_128()
        # Each part is a line of JSON that says how long the bytes after it are, so that no two manifests read alike.
        sources: Any = self.sources
        if isinstance(sources, TextList):
            _feed(digest, ["paths", len(self)], sources.offsets, sources.blob)
        elif _is_bytes(sources):
            hashes = [(len(data), xxhash.xxh3_64_intdigest(data)) for data in sources]
            _feed(digest, ["bytes", len(self)], np.array(hashes, np.uint64))
        else:
            # A lazy array-like may have a shape too, but only an ndarray's is sure to cost nothing.
            shape: list[Any] = [*sources.shape, sources.dtype.str] if isinstance(sources, np.ndarray) else []
            _feed(digest, ["arrays", len(self), shape])
        for name, values in sorted(self.targets.items()):
            _feed(digest, ["target", name, values.dtype.str, values.shape], values)
        for name, classes in sorted(self.classes.items()):
            _feed(digest, ["classes", name, classes])
        for name, texts in sorted(self.texts.items()):
            column = texts if isinstance(texts, TextList) else TextList.from_texts(texts)
            _feed(digest, ["texts", name], column.offsets, column.blob)
        return str(digest.hexdigest())

    def _checked_slot(self, slot: int) -> int:
        slot = operator.index(slot)
        if not 0 <= slot < len(self):
            raise IndexError(f"there is no slot {slot}: the manifest has {len(self):,}")
        return slot

    @classmethod
    def of(cls, source: Any, *, labels: Any = None, targets: Any = None) -> Manifest:
        """Return the manifest of whatever ``source`` is.

        Args:
            source: a Manifest (returned as it is); the path of a folder (of classes, of images, or with a
                ``metadata.csv``, ``.jsonl`` or ``.parquet`` that has a column ``file_name``) or of a table; a sequence
                of paths or of bytes; an array (N, H, W) or (N, H, W, 3); or anything with a length that gives arrays.
            labels: N numbers, or N texts (they become int64 codes of their sorted names). They replace the classes of
                a folder.
            targets: a mapping of further names to arrays, axis 0 = N; for a table also a list of its columns.

        Raises:
            ManifestError: the source is none of these, or labels and targets do not fit it; the message says what to
                pass instead.
        """
        if isinstance(source, Manifest):
            if labels is not None or targets is not None:
                raise ManifestError("a Manifest has its targets already: pass labels and targets when you make it")
            return source
        if isinstance(source, str | os.PathLike):
            return cls._of_path(os.fspath(source), labels, targets)
        _check_sized("the source", source)
        if getattr(source, "ndim", None) == 1 and hasattr(source, "tolist"):
            source = source.tolist()  # a column of a data frame, or an array of texts
        if isinstance(source, Sequence) and len(source):
            if isinstance(source[0], str | os.PathLike):
                return cls.from_paths(source, labels=labels, targets=targets)
            if isinstance(source[0], bytes):
                return cls.from_bytes(source, labels=labels, targets=targets)
        return cls.from_arrays(source, labels=labels, targets=targets)

    @classmethod
    def _of_path(cls, path: str, labels: Any, targets: Any) -> Manifest:
        if Path(path).is_dir():
            tables = [table for table in (Path(path) / name for name in _METADATA) if table.is_file()]
            tables = [table for table in tables if "file_name" in column_names(table)]
            if len(tables) > 1:
                names = " and ".join(table.name for table in tables)
                message = f"{path}: has {names}: pass the path of the one that you mean"
                raise ManifestError(message)
            if not tables:
                return cls.from_folder(path, labels=labels, targets=targets)
            return cls.from_table(tables[0], path_column="file_name", labels=labels, targets=targets)
        if path.lower().endswith(TABLE_SUFFIXES):
            return cls.from_table(path, labels=labels, targets=targets)
        return cls.from_folder(path, labels=labels, targets=targets)  # which says what is wrong

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        *,
        labels: Any = None,
        targets: Mapping[str, Any] | None = None,
        allow_empty: bool = False,
    ) -> Manifest:
        """Return the images of a folder tree, depth first, each folder's entries sorted by code point.

        The folders directly in ``folder`` are classes, and what lies in them at any depth is theirs; without folders
        there are no labels. Names that start with a dot are skipped; files are recognised by suffix (`IMAGE_SUFFIXES`,
        any case), and others are counted in the log. Symbolic links are followed; one that leads back to a folder that
        it lies in is not. A link to nothing is a source, which the build then reports: data that was not fetched
        must not make a smaller store.

        Args:
            folder: the folder; its absolute path becomes ``root``.
            labels: labels in that order, instead of the classes.
            targets: further arrays in that order, axis 0 = N.
            allow_empty: True keeps class folders without images as classes that no image has.

        Raises:
            ManifestError: the folder is not there, cannot be listed or has no images; images lie beside class folders;
                or a class folder has no images.
        """
        root = str(Path(folder).absolute())
        if not Path(root).is_dir():
            raise ManifestError(_not_a_folder(root), source=root)
        scan = _Scan(os.fsencode(root))
        sources = TextList.from_raw(scan.images())
        _logger.info("%s: images: %d; other files, ignored: %d", root, len(sources), scan.ignored)
        if not len(sources):
            message = f"{root}: there are no images in this folder ({scan.ignored:,} other files): {_known_suffixes()}"
            raise ManifestError(message, source=root)
        columns = _Columns(labels, targets)
        if labels is None and any(scan.counts.values()):
            columns.add_classes(root, scan, allow_empty=allow_empty)
        return cls(sources, root, columns.targets, columns.classes, columns.texts)

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[str | os.PathLike[str]],
        *,
        labels: Any = None,
        targets: Mapping[str, Any] | None = None,
        root: str | os.PathLike[str] | None = None,
    ) -> Manifest:
        """Return the manifest of a list of paths, in the order given; a path may come twice.

        Args:
            paths: the paths; not checked to exist, because a build reports each that does not.
            labels: N numbers or texts.
            targets: further arrays, axis 0 = N.
            root: the folder that relative paths start from; None is the current one, and is not part of the manifest.

        Raises:
            ManifestError: an item is not a path or is empty, or labels and targets do not fit.
        """
        _check_sized("paths", paths)
        sources = TextList.from_raw(_raw_paths(paths))
        columns = _Columns(labels, targets)
        return cls(sources, _checked_root(root), columns.targets, columns.classes, columns.texts)

    @classmethod
    def from_bytes(
        cls, data: Sequence[bytes], *, labels: Any = None, targets: Mapping[str, Any] | None = None
    ) -> Manifest:
        """Return the manifest of images held in memory as the bytes of their files.

        Args:
            data: one bytes object a row.
            labels: N numbers or texts.
            targets: further arrays, axis 0 = N.

        Raises:
            ManifestError: an item is not bytes, or labels and targets do not fit.
        """
        _check_sized("data", data)
        for row, item in enumerate(data):
            if not isinstance(item, bytes):
                raise _odd_row(row, item, "bytes")
        columns = _Columns(labels, targets)
        return cls(tuple(data), None, columns.targets, columns.classes, columns.texts)

    @classmethod
    def from_arrays(cls, arrays: Any, *, labels: Any = None, targets: Mapping[str, Any] | None = None) -> Manifest:
        """Return the manifest of images that are arrays already.

        Args:
            arrays: a uint8 array of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3); or a list, or anything with a length
                that can be indexed or else iterated once, whose items are uint8 arrays (H, W), (H, W, 1) or (H, W, 3).
            labels: N numbers or texts.
            targets: further arrays, axis 0 = N.

        Raises:
            ManifestError: the array has another shape or dtype, an item of a list is no array, there is no length, or
                labels and targets do not fit.
        """
        _check_sized("arrays", arrays)
        if isinstance(arrays, np.ndarray):
            _check_stack(arrays)
        elif isinstance(arrays, list | tuple):
            for row, item in enumerate(arrays):
                if not (hasattr(item, "__array__") or hasattr(item, "__array_interface__")):
                    raise _odd_row(row, item, "an array")
            arrays = tuple(arrays)
        elif not (hasattr(arrays, "__getitem__") or hasattr(arrays, "__iter__")):
            message = f"a {type(arrays).__name__} is no source: {_SOURCES}"
            raise ManifestError(message)
        columns = _Columns(labels, targets)
        return cls(arrays, None, columns.targets, columns.classes, columns.texts)

    @classmethod
    def from_table(
        cls,
        path: str | os.PathLike[str],
        *,
        path_column: str | None = None,
        labels: Any = None,
        targets: Sequence[str] | Mapping[str, Any] | None = None,
        root: str | os.PathLike[str] | None = None,
    ) -> Manifest:
        """Return the rows of a CSV, TSV, JSONL or Parquet file, as `arraystore.tables.read_table` reads them.

        Args:
            path: the table.
            path_column: the column of paths; None takes the first of file_name, path, source, filename, file, image
                and image_path that there is.
            labels: N numbers or texts, where the table has no labels.
            targets: the columns that become targets, or a mapping of further names to arrays, axis 0 = N.
            root: the folder that relative paths start from; None is the table's own.

        Raises:
            ManifestError: the table cannot be read, a column cannot be a target, or a target is given twice.
        """
        chosen, extra = (None, targets) if targets is None or isinstance(targets, Mapping) else (targets, None)
        table = read_table(path, path_column=path_column, targets=chosen)
        columns = _Columns(labels, extra)
        for name in {*columns.targets, *columns.texts} & {*table.targets, *table.texts}:
            message = f"{os.fspath(path)}: {name!r} is a column of the table and given beside it: leave one out"
            raise ManifestError(message)
        base = _checked_root(root) or str(Path(path).absolute().parent)
        return cls(
            table.paths,
            base,
            {**table.targets, **columns.targets},
            {**table.classes, **columns.classes},
            {**table.texts, **columns.texts},
        )


class _Scan:
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
        self.root = _with_slash(root)
        self.counts: dict[bytes, int] = {}
        self.loose: bytes | None = None
        self.ignored = 0

    def images(self) -> Iterator[bytes]:
        """Yield paths relative to the root.

        Names are compared as bytes, which for UTF-8 is the order of code points, and the same in every locale.
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
                elif _has_image_suffix(name) and (
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


def _has_image_suffix(name: bytes) -> bool:
    stem, _, suffix = name.rpartition(b".")
    return bool(stem) and suffix.lower() in _RAW_SUFFIXES


class _Stream:
    """An iterable that is consumed once, in order."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = items
        self.iterator: Iterator[Any] | None = None
        self.next_slot = 0

    def take(self, slot: int) -> Any:
        """Return item ``slot``, dropping those before it.

        Raises:
            ManifestError: it was taken already, or there are fewer items than the length promised.
        """
        if slot < self.next_slot:
            message = (
                f"array {slot} was asked for after array {self.next_slot - 1}, but the source can only be read once, "
                "in order: pass a list or an array"
            )
            raise ManifestError(message, slot=slot, source=f"array {slot}")
        if self.iterator is None:
            self.iterator = iter(self.items)
        while self.next_slot <= slot:
            try:
                item = next(self.iterator)
            except StopIteration:
                message = f"the source ended at row {self.next_slot}, before the length that it gives"
                raise ManifestError(message, slot=self.next_slot, source=f"array {self.next_slot}") from None
            self.next_slot += 1
        return item


class _Columns:
    """The targets that a caller gives beside the sources, sorted into arrays, classes and texts."""

    def __init__(self, labels: Any, targets: Any) -> None:
        self.targets: dict[str, npt.NDArray[Any]] = {}
        self.classes: dict[str, tuple[str, ...]] = {}
        self.texts: dict[str, Sequence[str]] = {}
        if targets is not None and not isinstance(targets, Mapping):
            message = f"targets must be a mapping of names to arrays, not a {type(targets).__name__}"
            raise ManifestError(f"{message}; names of columns are for tables")
        if labels is not None:
            if "labels" in (targets or {}):
                raise ManifestError("labels are given twice: by labels= and in targets; leave one out")
            self.add("labels", labels)
        for name, values in (targets or {}).items():
            self.add(name, values)

    def add(self, name: str, values: Any) -> None:
        """Add one target.

        Raises:
            ManifestError: the values are neither numbers nor texts, or are both.
        """
        _check_sized(f"target {name!r}", values)
        texts = _as_texts(name, values)
        if texts is None:
            self.targets[name] = _as_numbers(name, values)
            return
        names = sorted(set(texts))
        # Labels are classes however many there are: the caller said so.
        if len(names) > CATEGORY_LIMIT and name != "labels":
            self.texts[name] = TextList.from_texts(texts)
            return
        codes = {text: code for code, text in enumerate(names)}
        self.targets[name] = np.fromiter((codes[text] for text in texts), np.int64, len(texts))
        self.classes[name] = tuple(names)

    def add_classes(self, root: str, scan: _Scan, *, allow_empty: bool) -> None:
        """Add the folders of a scan as the classes of its images.

        Raises:
            ManifestError: images lie beside the folders, or a folder has none.
        """
        if scan.loose is not None:
            message = (
                f"{root}: has images (such as {os.fsdecode(scan.loose)!r}) beside class folders (such as "
                f"{os.fsdecode(next(iter(scan.counts)))!r}): move them into a class folder, or pass labels= or a list "
                "of paths"
            )
            raise ManifestError(message, source=os.fsdecode(scan.loose))
        empty = [os.fsdecode(name) for name, count in scan.counts.items() if not count]
        # torchvision refuses too. Dropping the class would be worse than an error: the codes after it would move, so
        # that a validation folder that lacks one class would disagree with its training folder, silently.
        if empty and not allow_empty:
            shown = ", ".join(map(repr, empty[:10])) + (f" and {len(empty) - 10} more" if len(empty) > 10 else "")
            message = (
                f"{root}: no images in the class folders {shown}: add some, delete the folders, or pass "
                f"allow_empty=True to keep them as classes; {_known_suffixes()}"
            )
            raise ManifestError(message, source=root)
        self.classes["labels"] = tuple(os.fsdecode(name) for name in scan.counts)
        # The walk goes folder by folder, so that the images of a class are one run.
        self.targets["labels"] = np.repeat(np.arange(len(scan.counts)), list(scan.counts.values()))


_SOURCES = "pass a folder, a table, a list of paths or of bytes, or an array (N, H, W, 3)"


def _known_suffixes() -> str:
    return f"images are recognised by the suffixes {', '.join(sorted(IMAGE_SUFFIXES))}"


def _with_slash(folder: bytes) -> bytes:
    return folder.rstrip(b"/") + b"/"


def _not_a_folder(path: str) -> str:
    if not os.path.lexists(path):
        return f"{path}: there is no such file or folder: {_SOURCES}"
    if _has_image_suffix(os.fsencode(Path(path).name)):
        return f"{path}: is one image, not a folder: pass a list, [{path!r}]"
    return f"{path}: is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)}): {_SOURCES}"


def _checked_root(root: str | os.PathLike[str] | None) -> str | None:
    if root is None:
        return None
    path = str(Path(root).absolute())
    if not Path(path).is_dir():
        raise ManifestError(
            f"{path}: root is not a folder: pass the folder that relative paths start from", source=path
        )
    return path


def _check_sized(what: str, value: Any) -> None:
    """Refuse what has no rows, or no order among them."""
    kind = type(value).__name__
    if isinstance(value, str | bytes | bytearray | memoryview | os.PathLike):
        raise ManifestError(f"{what} must have a row for each image, but is one {kind}: pass a list")
    if isinstance(value, AbstractSet | Mapping):
        raise ManifestError(f"{what} is a {kind}, whose order does not say which row is which: pass a list")
    try:
        len(value)
    except TypeError:
        raise ManifestError(f"{what} is a {kind}, which has no length: pass a list, such as list(…) of it") from None


def _odd_row(row: int, item: object, wanted: str) -> ManifestError:
    reason = f"expected {wanted}, found a {type(item).__name__}"
    return ManifestError(f"row {row}: {reason}: sources must all be of one kind", slot=row, reason=reason)


def _bad_path(row: int, reason: str) -> str:
    return f"row {row} (counted from 0): the path {reason}"


def _raw_paths(paths: Iterable[object]) -> Iterator[bytes]:
    for row, item in enumerate(paths):
        path = os.fspath(item) if isinstance(item, os.PathLike) else item
        if not isinstance(path, str):
            raise _odd_row(row, item, "a path")
        try:
            raw = os.fsencode(path)
        except UnicodeEncodeError as error:
            raise ManifestError(_bad_path(row, f"cannot be a file's: {error}"), slot=row, source=path) from error
        if not raw or b"\0" in raw:
            raise ManifestError(
                _bad_path(row, "holds a NUL character, which no file's name can" if raw else "is empty"),
                slot=row,
                source=path,
            )
        yield raw


def _is_bytes(sources: Sequence[Any]) -> bool:
    return isinstance(sources, list | tuple) and isinstance(sources[0], bytes)


def _check_stack(images: npt.NDArray[Any]) -> None:
    shape = images.shape
    hint = "pass shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
    if images.dtype != np.uint8:
        raise ManifestError(f"the array has dtype {images.dtype}, not uint8: convert it, 0 being black and 255 white")
    if images.ndim == 2 or (images.ndim == 3 and shape[2] in (1, 3)):
        raise ManifestError(f"an array of shape {shape} is one image: pass image[None] for a manifest of one")
    if images.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        raise ManifestError(f"the array has shape {shape}, channels first: pass images.transpose(0, 2, 3, 1)")
    if images.ndim not in (3, 4) or (images.ndim == 4 and shape[3] not in (1, 3)):
        raise ManifestError(f"the array has shape {shape}: {hint}")


def _check_name(name: object, names: Sequence[object]) -> None:
    if not isinstance(name, str) or not _TARGET_NAME.fullmatch(name):
        message = (
            f"a target cannot be named {name!r}, because its name becomes a file's: use up to 200 of A to Z, a to z, "
            "0 to 9, '_', '.' and '-', the first no '.' or '-'; rename it, or leave a column out with targets=[…]"
        )
        raise ManifestError(message)
    if name.lower() in _RESERVED:
        message = (
            f"a target cannot be named {name!r}, because a store's own files are {', '.join(_RESERVED)}: rename it"
        )
        raise ManifestError(message)
    # Some file systems do not tell them apart.
    alike = [other for other in names if isinstance(other, str) and other.lower() == name.lower()]
    if len(alike) > 1:
        raise ManifestError(f"the targets {alike[0]!r} and {alike[1]!r} differ only in case: rename one")


def _as_texts(name: str, values: Any) -> list[str] | None:
    """Return values that are texts as a list, or None if the first is not one.

    Checked item by item, because np.asarray makes texts of [1, "a"].
    """
    array_like = isinstance(values, np.ndarray) or not isinstance(values, list | tuple)
    if array_like:
        values = np.asarray(values)
        if values.dtype.kind not in "OUT" or values.ndim != 1:
            return None
        values = values.tolist()
    kinds = {isinstance(value, str) for value in values}
    if kinds == {True}:
        return list(map(str, values))
    if kinds == {True, False}:
        first = isinstance(values[0], str)
        row = next(row for row, value in enumerate(values) if isinstance(value, str) is not first)
        reason = f"expected {'text' if first else 'a number'} as in row 0, found a {type(values[row]).__name__}"
        raise ManifestError(f"target {name!r}: row {row} (counted from 0): {reason}", slot=row, reason=reason)
    return None


def _as_numbers(name: str, values: Any) -> npt.NDArray[Any]:
    try:
        numbers = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ManifestError(f"target {name!r}: the rows make no array: {error}; give rows of one shape") from error
    if numbers.dtype.kind not in "biuf":
        raise ManifestError(f"target {name!r} has dtype {numbers.dtype}: give numbers or texts, without missing values")
    if name == "labels" and numbers.dtype.kind in "iu":
        if numbers.dtype == np.uint64 and numbers.size and int(numbers.max()) > np.iinfo(np.int64).max:
            raise ManifestError(f"target {name!r} holds {numbers.max()}, which does not fit int64")
        numbers = numbers.astype(np.int64, copy=False)
    return numbers


def _read_only(values: Any) -> npt.NDArray[Any]:
    view = np.asarray(values).view()
    view.flags.writeable = False
    return view


def _feed(digest: Any, header: list[Any], *columns: npt.NDArray[Any]) -> None:
    digest.update(json.dumps([*header, [column.nbytes for column in columns]]).encode() + b"\n")
    for column in columns:
        # Blocks, so that a strided target larger than memory is not copied whole.
        step = max(1, _HASH_BLOCK_BYTES * len(column) // max(1, column.nbytes))
        for start in range(0, len(column), step):
            digest.update(np.ascontiguousarray(column[start : start + step]).data)


def _restore(
    parts: tuple[Any, str | None, dict[str, Any], dict[str, tuple[str, ...]], dict[str, Any]], base: bytes
) -> Manifest:
    manifest = Manifest(*parts)
    object.__setattr__(manifest, "_base", base)
    return manifest
