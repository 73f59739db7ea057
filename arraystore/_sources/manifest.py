"""The manifest: the ordered table of sources, labels and other targets; it fixes N and the order before a build."""

from __future__ import annotations

import logging
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import cached
from arraystore._common.options import complete, public, shows_options
from arraystore._common.ragged import Ragged, Target
from arraystore._sources.given import Stream, Unloaded, checked_arrays, checked_bytes, is_pil_image, path_of
from arraystore._sources.identity import are_bytes, digests_of, parts_of_sources, parts_of_targets
from arraystore._sources.kinds.folders import from_folder
from arraystore._sources.kinds.found import Found, SourceList
from arraystore._sources.kinds.lists import from_paths
from arraystore._sources.kinds.rows.files import from_table
from arraystore._sources.kinds.slots import StoreSlots
from arraystore._sources.kinds.table import chosen_columns, found_in, masks_in_folders
from arraystore._sources.options import SourceOptions, fixed_classes, for_source
from arraystore._sources.recorded import recorded_options
from arraystore._sources.scan import with_slash
from arraystore._sources.targets.class_names import mask_classes, recoded
from arraystore._sources.targets.given import TargetColumns, check_files, check_name, check_sized
from arraystore._sources.targets.mask_sources import MaskSource
from arraystore._sources.targets.masks import Masks
from arraystore._sources.text_list import TextList
from arraystore.errors import DecodeError, Kind, ManifestError, Option
from arraystore.spec import ImageSpec

_logger = logging.getLogger(__name__)
_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://")


@public
@dataclass(frozen=True, eq=False, repr=False)
class Manifest:
    """The ordered table of sources and targets; immutable. Make one with `of` or a ``from_`` method.

    Attributes:
        sources: one a row, as given: paths (relative ones start from ``root``), bytes, or uint8 arrays of shape
            (H, W), (H, W, 1) or (H, W, 3). Arrays are neither copied nor read before `load`.
        root: the absolute folder that relative paths start from; None for paths taken as given and for sources in
            memory.
        targets: arrays, axis 0 = N, of any memory order, read-only, not copied; or `Ragged` ones. ``"labels"`` is the
            class or main label: int64 for classes.
        classes: for each target of categories, the names of its codes, sorted by code point; for masks whose numbers
            are known, what these mean, from 0 on.
        texts: targets that stay text, one text a row.
        origin: the absolute path of the folder or table that gives the whole manifest, with ``source_options``; None
            where the caller gave more. Not part of the digest.
        left_out: the suffixes of the files in the folder that are no images, each with its dot ("" for none) → how
            many there are. Not part of the digest.
        notes: what a caller should know before building, such as an order of classes that surprises. They are in the
            log too. Not part of the digest.
        source_pixels: targets whose coordinates are in pixels of the upright source images → ``"boxes"`` or
            ``"keypoints"``. Not part of the digest.
        masks: targets that are a second image for each image; relative paths start where those of the images do.
        mask_fills: the names of ``targets`` that are masks of slots of another store → their `Masks.fill`. Not part
            of the digest.
        source_sides: (N, 2), height and width of the upright images that ``source_pixels`` are for, 0 where they are
            not known; None if none is. A source of another size is a bad image. Not part of the digest.
        source_options: how the sources were listed, as a store records it for its updates; see
            `arraystore._format.specification`. Not part of the digest.

    Raises:
        ManifestError: there are no sources, a target has another length, or the name of a target is no file name.
    """

    sources: Sequence[str | bytes | npt.NDArray[Any]]
    root: str | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origin: str | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source_pixels: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, Masks] = field(default_factory=dict)
    mask_fills: Mapping[str, int] = field(default_factory=dict)
    source_sides: npt.NDArray[np.int64] | None = None
    source_options: Mapping[str, Any] = field(default_factory=dict)
    _base: bytes = field(init=False, default=b"")
    _stream: Stream | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        count = len(self.sources)
        if not count:
            raise ManifestError("there are no sources: pass at least one image")
        if isinstance(self.sources, list | tuple) and isinstance(self.sources[0], str | os.PathLike):
            raise ManifestError("a Manifest keeps paths in a form of its own: make it with Manifest.from_paths")
        set_field = object.__setattr__
        masks = {name: masks.of_images(self.sources, self.root) for name, masks in sorted(self.masks.items())}
        set_field(self, "masks", MappingProxyType(masks))
        columns: dict[str, Any] = {**self.targets, **self.texts, **self.masks}
        names = [*self.targets, *self.texts, *self.masks]
        for name in names:
            check_name(name, names)
            if isinstance(self.targets.get(name), Ragged):
                check_files(name, names)
            rows = len(columns[name])
            if rows != count:
                message = f"target {name!r} has {rows:,} rows, but there are {count:,} sources: give one row a source"
                raise ManifestError(message)
        set_field(self, "targets", MappingProxyType({key: _read_only(value) for key, value in self.targets.items()}))
        set_field(self, "classes", MappingProxyType({key: tuple(value) for key, value in self.classes.items()}))
        set_field(self, "texts", MappingProxyType(dict(self.texts)))
        set_field(self, "left_out", MappingProxyType(dict(self.left_out)))
        set_field(self, "source_pixels", MappingProxyType(dict(self.source_pixels)))
        set_field(self, "mask_fills", MappingProxyType(dict(self.mask_fills)))
        set_field(self, "source_options", MappingProxyType(dict(self.source_options)))
        # A later chdir must not change the meaning of relative paths.
        has_paths = self.is_paths or self.masks
        set_field(self, "_base", with_slash(os.fsencode(self.root or Path.cwd())) if has_paths else b"")
        set_field(self, "_stream", None if hasattr(self.sources, "__getitem__") else Stream(self.sources))

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings do not pickle, and worker processes need a copy of the manifest.
        mappings = (dict(self.targets), dict(self.classes), dict(self.texts))
        kinds = (dict(self.source_pixels), dict(self.masks), dict(self.mask_fills))
        rest = (self.origin, dict(self.left_out), self.notes, *kinds, self.source_sides, dict(self.source_options))
        parts = (self.sources, self.root, *mappings, *rest)
        return _restore, (parts, self._base)

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        kind = "paths" if self.is_paths else self.name(0).partition(" ")[0]
        kind = self.sources.noun if isinstance(self.sources, SourceList) else kind
        under = f" under {self.root!r}" if self.root else ""
        named = ", ".join([*self.targets, *self.texts, *self.masks]) or "none"
        return f"<Manifest of {len(self):,} {kind}{under}; targets: {named}>"

    @property
    def is_paths(self) -> bool:
        """Whether the sources are paths."""
        return isinstance(self.sources, TextList)

    @property
    def is_read_once(self) -> bool:
        """Whether the sources can only be loaded once, in rising order."""
        return self._stream is not None

    @property
    def is_fixed(self) -> bool:
        """Whether the digest covers what every source holds."""
        return self.sources.is_fixed if isinstance(self.sources, SourceList) else are_bytes(self.sources)

    @property
    def may_name_files(self) -> bool:
        """Whether some sources may be paths of files though the manifest is none of paths."""
        return isinstance(self.sources, SourceList) and self.sources.may_name_files

    def changed(self, **attributes: Any) -> Manifest:
        """Return this manifest with other attributes than ``root``; relative paths start where they did."""
        made = replace(self, **attributes)
        if self._base:
            object.__setattr__(made, "_base", self._base)
        return made

    def as_files(self, spec: ImageSpec) -> Manifest | None:
        """Return this manifest with paths as sources; None if the sources are no files.

        Slots of another store count as the files that they were made of, where ``spec`` makes the same pixels of these.
        """
        if isinstance(self.sources, SourceList) and self.sources.are_files(spec):
            return self.changed(sources=TextList.from_texts(map(self.sources.name, range(len(self)))))
        return self if self.is_paths else None

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
            return self._path(self.sources.raw(slot))
        item = self.sources[slot] if self._stream is None else self._stream.take(slot)
        if isinstance(self.sources, SourceList):
            return item
        if isinstance(item, bytes) and are_bytes(self.sources):
            return item
        if isinstance(item, str | bytes):
            raise self._not_an_array(slot, item, "pass a list of paths or of bytes")
        if is_pil_image(item):
            return item
        try:
            return np.asarray(item)
        except (TypeError, ValueError) as error:
            raise self._not_an_array(slot, item, str(error)) from error

    def paths(self) -> list[str]:
        """Return what `load` returns for every slot, where the sources are paths; for many it is several times as fast.

        Raises:
            ManifestError: the sources are no paths.
        """
        if not isinstance(self.sources, TextList):
            raise ManifestError(f"the sources are no paths: {self!r}")
        return [self._path(raw) for raw in self.sources.raws()]

    def load_masks(self, slot: int) -> tuple[MaskSource, ...]:
        """Return the source of each mask of ``slot`` for a worker, in the order of `masks`.

        A mask that cannot be given is an `Unloaded`. Where images can only be read in order, call with rising slots.

        Raises:
            IndexError: there is no such slot.
            ManifestError: the masks as a whole are not what they said.
        """
        slot = self._checked_slot(slot)
        return tuple(self._load_mask(masks, slot) for masks in self.masks.values())

    def _load_mask(self, masks: Masks, slot: int) -> MaskSource:
        try:
            if isinstance(masks.sources, TextList):
                return self._path(masks.sources.raw(slot))
            mask: MaskSource = masks.sources[slot]
        except ManifestError:
            raise
        except Exception as error:  # an object of the caller may raise anything
            _logger.info("slot %d: its mask failed", slot, exc_info=error)
            return Unloaded.of(error)
        return mask

    def sides_of(self, slots: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Return those of `source_sides` that are known, by slot."""
        if self.source_sides is None:
            return {}
        sides = {slot: self.source_sides[slot].tolist() for slot in slots}
        return {slot: (height, width) for slot, (height, width) in sides.items() if height and width}

    def _path(self, raw: bytes) -> str:
        # The path stays bytes until here, so that the file system gets its own bytes back in any locale.
        return os.fsdecode(raw if raw.startswith(b"/") or _URL.match(raw) else self._base + raw)

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
        if isinstance(self.sources, SourceList):
            return self.sources.name(slot)
        return f"bytes {slot}" if are_bytes(self.sources) else f"array {slot}"

    @property
    def digest(self) -> str:
        """The xxh3_128 of the manifest, in 32 hexadecimal digits.

        It covers N, the paths (for bytes, their lengths and hashes), the targets, classes and texts. It leaves out
        ``root``, so that a folder may move, and the content of files. Of arrays it covers the number, and of one
        ndarray also shape and dtype, but no pixels: they may be readable only once, or be larger than memory.
        """
        return self._digests[0]

    @property
    def part_digests(self) -> Mapping[str, str]:
        """The digest of each part, by the part's name in messages, to tell what differs between two manifests."""
        return self._digests[1]

    @cached
    def _digests(self) -> tuple[str, dict[str, str]]:
        targets = parts_of_targets(self.targets, self.classes, self.texts, self.masks)
        return digests_of(chain(parts_of_sources(self.sources), targets))

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
            targets: a mapping of further names to arrays, axis 0 = N, or to `Masks`; for a table also a list of its
                columns, or a mapping of columns to kinds: ``"number"``, ``"category"``, ``"multi-label"``, ``"text"``,
                ``"mask"`` or ``"mask16"``.
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
            source = path_of(source)
        columns, extra = chosen_columns(targets)
        folders, keys = masks_in_folders(labels, extra), [*(decoders or ())]
        found = found_in(source, labels, columns, every, keys, folders)
        inside = folders.keys() & found.masks.keys()
        labels = None if "labels" in inside else labels
        extra = {name: each for name, each in (extra or {}).items() if name not in inside} or None
        listed = recorded_options(every, columns, keys)
        return cls._of_found(found, labels, extra, listed).with_classes(every["classes"])

    @classmethod
    def _of_found(
        cls, found: Found, labels: Any, targets: Any, listed: Mapping[str, Any] = MappingProxyType({})
    ) -> Manifest:
        """Return the manifest of what a kind of source has found, with what the caller gives beside it.

        ``listed`` are the options by which it was found, see `recorded_options`.
        """
        columns = TargetColumns(labels, targets)
        beside = sorted({*columns.targets, *columns.texts, *columns.masks, *found.source_options.get("given", ())})
        listed = {**found.source_options, **listed} | ({"given": beside} if beside else {})
        given, read = ({*each.targets, *each.texts, *each.masks} for each in (columns, found))
        for name in sorted(given & read):
            message = f"{found.place}: {name!r} comes from there and is given beside it: leave one out"
            raise ManifestError(message)
        if columns.masks and isinstance(found.sources, StoreSlots):
            raise ManifestError("Masks go with images from files, and not with the slots of a store")
        for note in found.notes:
            _logger.warning("%s", note)
        return cls(
            found.sources,
            found.root,
            found.targets | columns.targets,
            found.classes | columns.classes,
            {**found.texts, **columns.texts},
            found.origin if labels is None and not targets else None,
            left_out=found.left_out,
            notes=tuple(found.notes),
            source_pixels=found.source_pixels,
            masks=found.masks | columns.masks,
            mask_fills=found.mask_fills,
            source_sides=found.source_sides,
            source_options=listed,
        )

    def with_classes(self, classes: Any) -> Manifest:
        """Return this manifest with other codes of its categories, in the order of ``classes``.

        Args:
            classes: the names of the labels' codes, code 0 first; a mapping of targets to such names; a store, whose
                codes are taken; or None, which changes nothing. There may be names without rows.

        Raises:
            ManifestError: a row has a class that is not among the names, or a target that is named has no classes.
        """
        targets, names, masks = dict(self.targets), dict(self.classes), dict(self.masks)
        # Masks whose numbers mean the classes of the labels follow these, also where there are no labels beside them.
        of_labels = mask_classes(names["labels"]) if "labels" in names else None
        of_masks = {name for name in names.keys() & {*masks, *self.mask_fills} if of_labels in (None, names[name])}
        fixed = fixed_classes(classes, {*names, "labels"} if of_masks else names)
        if not fixed:
            return self
        if "labels" in fixed:
            fixed = {name: mask_classes(fixed["labels"]) for name in of_masks} | fixed
        for target in sorted(fixed.keys() & names.keys()):
            if target in masks:
                masks[target] = masks[target].with_classes(target, fixed[target])
            elif target in self.mask_fills:
                if names[target] != fixed[target]:
                    raise ManifestError(
                        f"the masks {target!r} of these slots have numbers of other classes than those given",
                        kind=Kind.INVALID,
                        advice="leave out {0}, or build from the images and their masks",
                        options=[Option("classes", None)],
                    )
            else:
                targets[target] = recoded(target, targets[target], names[target], fixed[target])
            names[target] = fixed[target]
        listed = {**self.source_options, "classes": sorted({*self.source_options.get("classes", ()), *fixed})}
        return self.changed(targets=targets, classes=names, masks=masks, source_options=listed)

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
        (`arraystore._sources.formats`, in any case); a file whose suffix says nothing is recognized by its first bytes.
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
        keys = [*(decoders or ())]
        found = from_folder(folder, labels=labels, allow_empty=allow_empty, classes=classes, decoders=keys)
        listed = recorded_options({"allow_empty": allow_empty}, None, keys)
        return cls._of_found(found, labels, targets, listed).with_classes(classes)

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
        listed = recorded_options({"root": root}, None, None)
        return cls._of_found(from_paths(paths, root=root), labels, targets, listed)

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
        return cls._of_found(Found(checked_bytes(data)), labels, targets)

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
        return cls._of_found(Found(checked_arrays(arrays)), labels, targets)

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
                ``"multi-label"``, ``"text"``, ``"mask"`` or ``"mask16"``; or a mapping of further names to arrays,
                axis 0 = N, or to `Masks`.
            root: the folder that relative paths start from; None is the folder of the table.
            suffix: is added to every path that does not end in it, such as ``".jpg"`` for a column of ids.
            separator: of the cells of a CSV; None is a comma.
            where: the rows to take, as ``"split=train"`` or ``{"split": "train"}``.
            classes: the names of the codes, see `with_classes`.

        Raises:
            ManifestError: the table cannot be read, a column does not fit, or a target is given twice.
        """
        columns, extra = chosen_columns(targets)
        rows: dict[str, Any] = {"suffix": suffix, "separator": separator, "where": where}
        rows |= {"path_column": path_column, "root": root}
        found = from_table(path, targets=columns, **rows)
        return cls._of_found(found, labels, extra, recorded_options(rows, columns, None)).with_classes(classes)


def _read_only(values: Any) -> Target:
    if isinstance(values, Ragged):
        return values
    view = np.asarray(values).view()
    view.flags.writeable = False
    return view


def _restore(parts: tuple[Any, ...], base: bytes) -> Manifest:
    manifest = Manifest(*parts)
    object.__setattr__(manifest, "_base", base)
    return manifest
