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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.public import public
from arraystore._common.text_list import TextList
from arraystore._sources.scan import Scan, has_image_suffix, with_slash
from arraystore._sources.tables import TABLE_SUFFIXES, column_names, read_table
from arraystore._sources.targets import TargetColumns, check_name, check_sized, known_suffixes
from arraystore.errors import ManifestError

__all__ = ["Manifest"]


_logger = logging.getLogger(__name__)
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://")
_HASH_BLOCK_BYTES = 64 << 20


@public
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
        origin: the absolute path of the folder or table that says all this by itself; None where more was given. Not
            part of the digest.

    Raises:
        ManifestError: there are no sources, a target has another length, or a target's name cannot be a file's.
    """

    sources: Sequence[str | bytes | npt.NDArray[Any]]
    root: str | None = None
    targets: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origin: str | None = None
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
            check_name(name, names)
            rows = len(self.targets[name] if name in self.targets else self.texts[name])
            if rows != count:
                message = f"target {name!r} has {rows:,} rows, but there are {count:,} sources: give one row a source"
                raise ManifestError(message)
        set_field = object.__setattr__
        set_field(self, "targets", MappingProxyType({key: _read_only(value) for key, value in self.targets.items()}))
        set_field(self, "classes", MappingProxyType({key: tuple(value) for key, value in self.classes.items()}))
        set_field(self, "texts", MappingProxyType(dict(self.texts)))
        # Relative paths mean what they mean now, wherever a later chdir leads.
        set_field(self, "_base", with_slash(os.fsencode(self.root or Path.cwd())) if self.is_paths else b"")
        set_field(self, "_stream", None if hasattr(self.sources, "__getitem__") else _Stream(self.sources))

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings do not pickle, and worker processes need the whole.
        parts = (self.sources, self.root, dict(self.targets), dict(self.classes), dict(self.texts), self.origin)
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
        check_sized("the source", source)
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
        there are no labels. Names that start with a dot are skipped; files are recognized by suffix (`IMAGE_SUFFIXES`,
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
        scan = Scan(os.fsencode(root))
        sources = TextList.from_raw(scan.images())
        _logger.info("%s: images: %d; other files, ignored: %d", root, len(sources), scan.ignored)
        if not len(sources):
            message = f"{root}: there are no images in this folder ({scan.ignored:,} other files): {known_suffixes()}"
            raise ManifestError(message, source=root)
        columns = TargetColumns(labels, targets)
        if labels is None and any(scan.counts.values()):
            columns.add_classes(root, scan, allow_empty=allow_empty)
        origin = root if labels is None and not targets and not allow_empty else None
        return cls(sources, root, columns.targets, columns.classes, columns.texts, origin)

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
        check_sized("paths", paths)
        sources = TextList.from_raw(_raw_paths(paths))
        columns = TargetColumns(labels, targets)
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
        check_sized("data", data)
        for row, item in enumerate(data):
            if not isinstance(item, bytes):
                raise _odd_row(row, item, "bytes")
        columns = TargetColumns(labels, targets)
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
        check_sized("arrays", arrays)
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
        columns = TargetColumns(labels, targets)
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
        """Return the rows of a CSV, TSV, JSONL or Parquet file, as `arraystore._sources.tables.read_table` reads them.

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
        columns = TargetColumns(labels, extra)
        for name in {*columns.targets, *columns.texts} & {*table.targets, *table.texts}:
            message = f"{os.fspath(path)}: {name!r} is a column of the table and given beside it: leave one out"
            raise ManifestError(message)
        base = _checked_root(root) or str(Path(path).absolute().parent)
        plain = labels is None and targets is None and root is None and path_column in (None, "file_name")
        return cls(
            table.paths,
            base,
            {**table.targets, **columns.targets},
            {**table.classes, **columns.classes},
            {**table.texts, **columns.texts},
            str(Path(path).absolute()) if plain else None,
        )


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


_SOURCES = "pass a folder, a table, a list of paths or of bytes, or an array (N, H, W, 3)"


def _not_a_folder(path: str) -> str:
    if not os.path.lexists(path):
        return f"{path}: there is no such file or folder: {_SOURCES}"
    if has_image_suffix(os.fsencode(Path(path).name)):
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
    parts: tuple[Any, str | None, dict[str, Any], dict[str, tuple[str, ...]], dict[str, Any], str | None], base: bytes
) -> Manifest:
    manifest = Manifest(*parts)
    object.__setattr__(manifest, "_base", base)
    return manifest
