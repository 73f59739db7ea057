"""The manifest: the ordered table of sources, labels and other targets; it fixes N and the order before a build."""

from __future__ import annotations

import json
import logging
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.checks import expanded
from arraystore._common.lazy import cached
from arraystore._common.options import complete, shows_options
from arraystore._common.public import public
from arraystore._common.wording import left_out_text, many
from arraystore._sources.class_names import check_meant, order_note, recoded
from arraystore._sources.entries import has_image_suffix
from arraystore._sources.given import SOURCES, Stream, checked_arrays, checked_bytes, is_pil_image, path_of, raw_paths
from arraystore._sources.options import SourceOptions, fixed_classes, for_source
from arraystore._sources.scan import METADATA, Scan, with_slash
from arraystore._sources.tables import TABLE_SUFFIXES, column_names, read_table
from arraystore._sources.targets import KNOWN_SUFFIXES, TargetColumns, check_name, check_sized
from arraystore._sources.text_list import TextList
from arraystore.errors import DecodeError, Kind, ManifestError, Option

_logger = logging.getLogger(__name__)
_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://")
_HASH_BLOCK_BYTES = 64 << 20


@public
@dataclass(frozen=True, eq=False, repr=False)
class Manifest:
    """The ordered table of sources and targets; immutable. Make one with `of` or a ``from_`` method.

    Attributes:
        sources: one a row, as given: paths (relative ones start from ``root``), bytes, or uint8 arrays of shape
            (H, W), (H, W, 1) or (H, W, 3). Arrays are neither copied nor read before `load`.
        root: the absolute folder that relative paths start from; None for paths taken as given and for sources in
            memory.
        targets: arrays, axis 0 = N, of any memory order, read-only, not copied. ``"labels"`` is the class or main
            label: int64 for classes.
        classes: for each target of categories, the names of its codes, sorted by code point.
        texts: targets that stay text, one text a row.
        origin: the absolute path of the folder or table that gives the whole manifest; None where the caller gave
            more. Not part of the digest.
        left_out: the suffixes of the files in the folder that are no images, each with its dot ("" for none) → how
            many there are. Not part of the digest.
        notes: what a caller should know before building, such as an order of classes that surprises. They are in the
            log too. Not part of the digest.

    Raises:
        ManifestError: there are no sources, a target has another length, or the name of a target is no file name.
    """

    sources: Sequence[str | bytes | npt.NDArray[Any]]
    root: str | None = None
    targets: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origin: str | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    _base: bytes = field(init=False, default=b"")
    _stream: Stream | None = field(init=False, default=None)

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
        set_field(self, "left_out", MappingProxyType(dict(self.left_out)))
        # A later chdir must not change the meaning of relative paths.
        set_field(self, "_base", with_slash(os.fsencode(self.root or Path.cwd())) if self.is_paths else b"")
        set_field(self, "_stream", None if hasattr(self.sources, "__getitem__") else Stream(self.sources))

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings do not pickle, and worker processes need a copy of the manifest.
        mappings = (dict(self.targets), dict(self.classes), dict(self.texts))
        parts = (self.sources, self.root, *mappings, self.origin, dict(self.left_out), self.notes)
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

    @property
    def is_read_once(self) -> bool:
        """Whether the sources can only be loaded once, in rising order."""
        return self._stream is not None

    def load(self, slot: int) -> Any:
        """Return the source of ``slot`` for a worker: an absolute path (or a URL), bytes, an array, or a Pillow image.

        Shape and dtype of an array are not checked here: the decoder checks them, so that one bad source is counted and
        passed over. An iterable that cannot be indexed is consumed: call with rising slots, from one thread.

        Raises:
            IndexError: there is no such slot.
            DecodeError: the item is not an array.
            ManifestError: an iterable is asked for an earlier slot, or ends early.
        """
        slot = self._checked_slot(slot)
        if isinstance(self.sources, TextList):
            raw = self.sources.raw(slot)
            # The path stays bytes until here, so that the file system gets its own bytes back in any locale.
            return os.fsdecode(raw if raw.startswith(b"/") or _URL.match(raw) else self._base + raw)
        item = self.sources[slot] if self._stream is None else self._stream.take(slot)
        if isinstance(item, bytes) and _is_bytes(self.sources):
            return item
        if isinstance(item, str | bytes):
            raise self._not_an_array(slot, item, "pass a list of paths or of bytes")
        if is_pil_image(item):
            return item
        try:
            return np.asarray(item)
        except (TypeError, ValueError) as error:
            raise self._not_an_array(slot, item, str(error)) from error

    def _not_an_array(self, slot: int, item: object, reason: str) -> DecodeError:
        name = self.name(slot)
        message = f"source {name} is a {type(item).__name__}, not an array: {reason}"
        return DecodeError(message, slot=slot, source=name, reason=reason, kind=Kind.INVALID)

    def name(self, slot: int) -> str:
        """Return the source of ``slot`` as text: its path as given, separated by ``/``, or such as ``"bytes 12"``.

        Raises:
            IndexError: there is no such slot.
        """
        slot = self._checked_slot(slot)
        if isinstance(self.sources, TextList):
            return self.sources[slot]
        return f"bytes {slot}" if _is_bytes(self.sources) else f"array {slot}"

    @cached
    def digest(self) -> str:
        """The xxh3_128 of the manifest, in 32 hexadecimal digits.

        It covers N, the paths (for bytes, their lengths and hashes), the targets, classes and texts. It leaves out
        ``root``, so that a folder may move, and the content of files. Of arrays it covers the number, and of one
        ndarray also shape and dtype, but no pixels: they may be readable only once, or be larger than memory.
        """
        digest = xxhash.xxh3_128()
        # Each part begins with a line of JSON that states its length, so that no two manifests give the same bytes.
        sources: Any = self.sources
        if isinstance(sources, TextList):
            _feed(digest, ["paths", len(self)], sources.offsets, sources.blob)
        elif _is_bytes(sources):
            hashes = [(len(data), xxhash.xxh3_64_intdigest(data)) for data in sources]
            _feed(digest, ["bytes", len(self)], np.array(hashes, np.uint64))
        else:
            # Another array-like may have a shape too, but asking for it may be slow.
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
    @shows_options(SourceOptions)
    def of(
        cls,
        source: Any,
        *,
        labels: Any = None,
        targets: Any = None,
        decoders: Iterable[str | bytes] | None = None,
        **options: Unpack[SourceOptions],
    ) -> Manifest:
        """Return the manifest of a source of any kind.

        Args:
            source: a Manifest (returned as it is); the path of a folder (of classes, of images, or with a
                ``metadata.csv``, ``.jsonl`` or ``.parquet`` that has a column ``file_name``) or of a table; a sequence
                of paths or of bytes; an array (N, H, W) or (N, H, W, 3); or anything with a length that gives arrays.
            labels: N numbers, or N texts (they become int64 codes of their sorted names). They replace the classes of
                a folder.
            targets: a mapping of further names to arrays, axis 0 = N; for a table also a list of its columns, or a
                mapping of columns to ``"number"``, ``"category"``, ``"multi-label"`` or ``"text"``.
            decoders: see `from_folder`.
            options: see `arraystore.build`, from ``root`` to ``classes``.

        Raises:
            ManifestError: the source is none of these, or labels and targets do not fit it.
        """
        every = complete("Manifest.of", SourceOptions, options)
        if isinstance(source, Manifest):
            if labels is not None or targets is not None:
                raise ManifestError("a Manifest has its targets already: pass labels and targets when you make it")
            return source.with_classes(for_source("a Manifest", every)["classes"])
        if isinstance(source, str | os.PathLike):
            return cls._of_path(path_of(source), labels, targets, every, decoders)
        check_sized("the source", source)
        if getattr(source, "ndim", None) == 1 and hasattr(source, "tolist"):
            source = source.tolist()  # a column of a data frame, or an array of texts
        if isinstance(source, Sequence) and len(source) and isinstance(source[0], str | os.PathLike):
            own = for_source("a list of paths", every)
            paths = cls.from_paths(with_suffix(source, own["suffix"]), labels=labels, targets=targets, root=own["root"])
            return paths.with_classes(own["classes"])
        own = for_source("images in memory", every)
        is_bytes = isinstance(source, Sequence) and len(source) and isinstance(source[0], bytes)
        in_memory = cls.from_bytes if is_bytes else cls.from_arrays
        return in_memory(source, labels=labels, targets=targets).with_classes(own["classes"])

    def with_classes(self, classes: Any) -> Manifest:
        """Return this manifest with other codes of its categories, in the order of ``classes``.

        Args:
            classes: the names of the labels' codes, code 0 first; a mapping of targets to such names; a store, whose
                codes are taken; or None, which changes nothing. There may be names without rows.

        Raises:
            ManifestError: a row has a class that is not among the names, or the labels are no categories.
        """
        fixed = fixed_classes(classes)
        if not fixed:
            return self
        if "labels" in fixed and "labels" not in self.classes:
            raise ManifestError("classes were given, but there are no labels of classes: leave out classes")
        targets, names = dict(self.targets), dict(self.classes)
        for target in fixed.keys() & names.keys():
            targets[target] = recoded(target, targets[target], names[target], fixed[target])
            names[target] = fixed[target]
        return replace(self, targets=targets, classes=names, origin=None)

    @classmethod
    def _of_path(cls, path: str, labels: Any, targets: Any, options: SourceOptions, decoders: Any) -> Manifest:
        if Path(path).is_dir():
            tables = [table for table in (Path(path) / name for name in METADATA) if table.is_file()]
            tables = [table for table in tables if "file_name" in column_names(table)]
            if len(tables) > 1:
                names = " and ".join(table.name for table in tables)
                raise ManifestError(f"{path}: has {names}: pass the path of the one that you mean")
            if tables:
                own = for_source("a table", options)
                own["path_column"] = own["path_column"] or "file_name"
                return cls.from_table(tables[0], labels=labels, targets=targets, **own)
        elif path.lower().endswith(TABLE_SUFFIXES):
            return cls.from_table(path, labels=labels, targets=targets, **for_source("a table", options))
        own = for_source("a folder", options)
        return cls.from_folder(path, labels=labels, targets=targets, decoders=decoders, **own)

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        *,
        labels: Any = None,
        targets: Mapping[str, Any] | None = None,
        allow_empty: bool = False,
        classes: Any = None,
        decoders: Iterable[str | bytes] | None = None,
    ) -> Manifest:
        """Return the images of a folder tree, depth first, each folder's entries sorted by code point.

        The folders directly in ``folder`` are classes; an image at any depth belongs to its class. Without such
        folders there are no labels. Names that start with a dot are skipped. Images are recognized by suffix
        (`arraystore._common.formats`, in any case); a file whose suffix says nothing is recognized by its first bytes.
        Other files are counted in ``left_out``. Stores, unfinished stores and folders of systems (such as
        ``@eaDir``) are passed over. Symbolic links are followed,
        but not a link that leads back to a folder around it. A link to nothing is a source, and the build reports it:
        data that was not fetched must not make a smaller store.

        Args:
            folder: the folder; its absolute path becomes ``root``.
            labels: labels in that order, which replace the classes.
            targets: further arrays in that order, axis 0 = N.
            allow_empty: True accepts class folders without images, and keeps their classes.
            classes: the names of the codes, see `with_classes`. Folders of any name are taken as classes.
            decoders: suffixes (``".dcm"``) or first bytes (``b"SIMPLE"``) of further files that are images, such as the
                option ``decoders`` of `arraystore.build`.

        Raises:
            ManifestError: the folder is not there, cannot be listed or has no images; images lie beside class folders;
                or a class folder has no images.
        """
        root = str(expanded(folder).absolute())
        if not Path(root).is_dir():
            raise ManifestError(_not_a_folder(root), source=root, kind=Kind.MISSING)
        scan = Scan(os.fsencode(root), decoders or ())
        sources = TextList.from_raw(scan.images())
        left_out = f"; {left_out_text(scan.left_out)}" if scan.left_out else ""
        _logger.info("%s: %s%s", root, many(len(sources), "image"), left_out)
        if scan.passed_over:
            passed = ", ".join(map(os.fsdecode, scan.passed_over[:10]))
            _logger.info("%s: folders of stores and of systems, passed over: %s", root, passed)
        if not len(sources):
            message = f"{root}: there are no images in this folder{left_out or ', and no other files'}"
            raise ManifestError(message, source=root, kind=Kind.MISSING, advice=KNOWN_SUFFIXES)
        columns, notes = TargetColumns(labels, targets), []
        if labels is None and any(scan.counts.values()):
            _check_metadata(root, scan)
            if classes is None:
                check_meant(root, [os.fsdecode(name) for name in scan.counts])
            columns.add_classes(root, scan, allow_empty=allow_empty or classes is not None)
            note = order_note(columns.classes["labels"]) if classes is None else None
            notes += [f"{root}: {note}"] if note else []
        origin = root if labels is None and not targets and not allow_empty else None
        for note in notes:
            _logger.warning("%s", note)
        targets = columns.targets
        parts = (targets, columns.classes, columns.texts, origin, scan.left_out, tuple(notes))
        return cls(sources, root, *parts).with_classes(classes)

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
            paths: the paths. They need not exist: a build reports each missing file.
            labels: N numbers or texts.
            targets: further arrays, axis 0 = N.
            root: the folder that relative paths start from; None is the current folder.

        Raises:
            ManifestError: an item is not a path or is empty, or labels and targets do not fit.
        """
        check_sized("paths", paths)
        return cls._with_targets(TextList.from_raw(raw_paths(paths)), labels, targets, _checked_root(root))

    @classmethod
    def from_bytes(
        cls, data: Sequence[bytes], *, labels: Any = None, targets: Mapping[str, Any] | None = None
    ) -> Manifest:
        """Return the manifest of images that are the bytes of files.

        Args:
            data: one bytes object a row.
            labels: N numbers or texts.
            targets: further arrays, axis 0 = N.

        Raises:
            ManifestError: an item is not bytes, or labels and targets do not fit.
        """
        check_sized("data", data)
        return cls._with_targets(checked_bytes(data), labels, targets)

    @classmethod
    def from_arrays(cls, arrays: Any, *, labels: Any = None, targets: Mapping[str, Any] | None = None) -> Manifest:
        """Return the manifest of images that are arrays.

        Args:
            arrays: a uint8 array of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3); or a list, or another object with a
                length that can be indexed or iterated; its items are uint8 arrays (H, W), (H, W, 1) or (H, W, 3).
            labels: N numbers or texts.
            targets: further arrays, axis 0 = N.

        Raises:
            ManifestError: the array has another shape or dtype, an item of a list is no array, there is no length, or
                labels and targets do not fit.
        """
        check_sized("arrays", arrays)
        return cls._with_targets(checked_arrays(arrays), labels, targets)

    @classmethod
    def _with_targets(cls, sources: Any, labels: Any, targets: Any, root: str | None = None) -> Manifest:
        columns = TargetColumns(labels, targets)
        return cls(sources, root, columns.targets, columns.classes, columns.texts)

    @classmethod
    def from_table(
        cls,
        path: str | os.PathLike[str],
        *,
        path_column: str | None = None,
        labels: Any = None,
        targets: Sequence[str] | Mapping[str, Any] | None = None,
        root: str | os.PathLike[str] | None = None,
        suffix: str = "",
        separator: str | None = None,
        where: str | Mapping[str, Any] | None = None,
        classes: Any = None,
    ) -> Manifest:
        """Return the rows of a CSV, TSV, JSONL or Parquet file, as `arraystore._sources.tables.read_table` reads them.

        Args:
            path: the table.
            path_column: the column of paths; None takes the first that exists of file_name, path, source, filename,
                file, image and image_path.
            labels: N numbers or texts, where the table has no labels.
            targets: the columns that become targets; a mapping of columns to ``"number"``, ``"category"``,
                ``"multi-label"`` or ``"text"``; or a mapping of further names to arrays, axis 0 = N.
            root: the folder that relative paths start from; None is the folder of the table.
            suffix: is added to every path that does not end in it, such as ``".jpg"`` for a column of ids.
            separator: of the cells of a CSV; None is a comma.
            where: the rows to take, as ``"split=train"`` or ``{"split": "train"}``.
            classes: the names of the codes, see `with_classes`.

        Raises:
            ManifestError: the table cannot be read, a column does not fit, or a target is given twice.
        """
        path = str(expanded(path))
        chosen, extra = _chosen_columns(targets)
        rows: dict[str, Any] = {"suffix": suffix, "separator": separator, "where": where}
        table = read_table(path, path_column=path_column, targets=chosen, **rows)
        columns = TargetColumns(labels, extra)
        for name in {*columns.targets, *columns.texts} & {*table.targets, *table.texts}:
            message = f"{os.fspath(path)}: {name!r} is a column of the table and given beside it: leave one out"
            raise ManifestError(message)
        base = _checked_root(root) or str(Path(path).absolute().parent)
        plain = labels is None and targets is None and root is None and path_column in (None, "file_name")
        plain = plain and not any(rows.values())
        found = cls(
            table.paths,
            base,
            table.targets | columns.targets,
            table.classes | columns.classes,
            {**table.texts, **columns.texts},
            str(Path(path).absolute()) if plain else None,
            notes=tuple(table.notes),
        )
        for note in found.notes:
            _logger.warning("%s", note)
        return found.with_classes(classes)


def _chosen_columns(targets: Any) -> tuple[Any, Any]:
    """Return which columns of a table become targets, None for all, and the arrays that are given beside it."""
    if not isinstance(targets, Mapping):
        return targets, None
    kinds = {name: kind for name, kind in targets.items() if isinstance(kind, str)}
    arrays = {name: values for name, values in targets.items() if name not in kinds}
    return kinds or None, arrays or None


def with_suffix(paths: Sequence[Any], suffix: str) -> Sequence[Any]:
    """Return paths that all end in a suffix: it is added where it is not there."""
    if not suffix:
        return paths
    texts = map(os.fspath, paths)
    return [path if path.endswith(suffix) else path + suffix for path in texts]


def _check_metadata(root: str, scan: Scan) -> None:
    """Refuse class folders of which one has a table of metadata: the table, not the folder, has the labels."""
    if scan.metadata is None:
        return
    table = Path(root, os.fsdecode(scan.metadata))
    if "file_name" in column_names(table):
        raise ManifestError(
            f"{root}: has a table of metadata in a folder below it, {os.fsdecode(scan.metadata)!r}",
            source=root,
            kind=Kind.INVALID,
            advice=f"build {table.parent}, or pass {{0}} if the table does not matter",
            options=[Option("labels", ["…"])],
        )


def _not_a_folder(path: str) -> str:
    if not os.path.lexists(path):
        return f"{path}: there is no such file or folder: {SOURCES}"
    if has_image_suffix(os.fsencode(Path(path).name)):
        return f"{path}: is one image, not a folder: pass a list, [{path!r}]"
    return f"{path}: is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)}): {SOURCES}"


def _checked_root(root: str | os.PathLike[str] | None) -> str | None:
    if root is None:
        return None
    path = str(Path(path_of(root, "root")).absolute())
    if not Path(path).is_dir():
        message = f"{path}: root is not a folder: pass the folder that relative paths start from"
        raise ManifestError(message, source=path)
    return path


def _is_bytes(sources: Sequence[Any]) -> bool:
    return isinstance(sources, list | tuple) and isinstance(sources[0], bytes)


def _read_only(values: Any) -> npt.NDArray[Any]:
    view = np.asarray(values).view()
    view.flags.writeable = False
    return view


def _feed(digest: Any, header: list[Any], *columns: npt.NDArray[Any]) -> None:
    digest.update(json.dumps([*header, [column.nbytes for column in columns]]).encode() + b"\n")
    for column in columns:
        # A strided target is copied, in blocks because it may be larger than memory.
        step = max(1, _HASH_BLOCK_BYTES * len(column) // max(1, column.nbytes))
        for start in range(0, len(column), step):
            digest.update(np.ascontiguousarray(column[start : start + step]).data)


def _restore(parts: tuple[Any, ...], base: bytes) -> Manifest:
    manifest = Manifest(*parts)
    object.__setattr__(manifest, "_base", base)
    return manifest
