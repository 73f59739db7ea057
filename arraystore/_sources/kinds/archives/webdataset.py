"""Shards of WebDataset: tar files in which members that share a key are one sample, such as 7.jpg, 7.cls and 7.json."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from arraystore._sources.entries import ImageFiles
from arraystore._sources.kinds.archives.masks import MemberMasks
from arraystore._sources.kinds.archives.members import Index, Members
from arraystore._sources.kinds.found import Found
from arraystore._sources.targets.given import TargetColumns, whole_numbers
from arraystore._sources.targets.masks import BITS, Masks
from arraystore.errors import DecodeError, Kind, ManifestError, Option

_LABELS = (b"cls", b"label", b"labels", b"class")
_TEXTS = (b"txt", b"caption", b"text")
_BESIDE_IMAGES = frozenset((*_LABELS, *_TEXTS, b"json"))
_MASK = re.compile(rb"(?:masks?|labels?|seg|segm|segmentation|annotations?|gt|instances?|semantic|panoptic)\.\w+$")
_CHECKED_MEMBERS = 1000
_SIDE_LIMIT_BYTES = 1 << 20
Sample = dict[bytes, int]  # extension → member of its archive


def is_webdataset(archives: Sequence[Index], files: ImageFiles, targets: Iterable[str] = ()) -> bool:
    """Return whether these are tar files in which members with the same key as an image say what it shows.

    These are members of known names, masks beside an image, and ``targets`` of the caller.
    """
    first = archives[0]
    if not all(archive.path.lower().endswith(".tar") for archive in archives):
        return False
    keys = [_key_of(name) for name in first.names[:_CHECKED_MEMBERS]]
    images = {keys[member] for member, (_, extension) in enumerate(keys) if _is_image(first, member, extension, files)}
    of_images, plain = {key for key, _ in images}, {key for key, extension in images if b"." not in extension}
    beside = _BESIDE_IMAGES.union(map(os.fsencode, targets))
    return any(
        (key in of_images and extension in beside) or (key in plain and _MASK.match(extension) is not None)
        for key, extension in keys
    )


def webdataset_of(
    archives: Sequence[Index],
    files: ImageFiles,
    targets: Sequence[str] | Mapping[str, str] | None,
    *,
    is_labeled: bool,
) -> Found:
    """Return the samples of shards, in the order of the shards, that have an image.

    ``.cls`` gives the labels, or where there is none a ``label`` in ``.json``; ``.txt`` is kept as a text. ``targets``
    names extensions, or members of the objects in ``.json``; an extension may be that of masks. With ``is_labeled`` the
    caller has other labels. ``files`` tells which extensions are those of images.

    Raises:
        ManifestError: a sample lacks what others have, or it cannot be read.
    """
    kinds = _kinds_of(archives, targets)
    masks = {os.fsencode(name).lower(): name for name, kind in kinds.items() if kind in BITS}
    left_out = Counter[str]()
    samples: list[tuple[int, Sample]] = []
    chosen: list[tuple[int, int]] = []
    for file, archive in enumerate(archives):
        for sample in _samples_of(archive).values():
            images = [name for name, member in sample.items() if _is_image(archive, member, name, files)]
            plain = [extension for extension in images if files.have_suffix(extension)]
            plain = plain or [extension for extension in images if b"." not in extension]
            if not plain:
                left_out.update("." + os.fsdecode(extension) for extension in sample)
                continue
            # A mask such as 7.seg.png is beside the image 7.jpg, not an image of the set.
            others = (extension for extension in images if extension != plain[0] and extension not in masks)
            left_out.update("." + os.fsdecode(extension) for extension in others)
            samples.append((file, sample))
            chosen.append((file, sample[plain[0]]))
    found = Found(Members(archives, chosen), left_out=left_out)
    reader = _Reader(archives, samples)
    if targets is None:
        columns = _usual_targets(reader, is_labeled=is_labeled)
    else:
        columns = _chosen_targets(reader, [name for name in targets if name not in masks.values()])
    for extension, name in masks.items():
        found.masks[name] = Masks(reader.masks(extension), bits=BITS[kinds[name]])
    found.targets, found.classes, found.texts = columns.targets, columns.classes, columns.texts
    return found


def _usual_targets(reader: "_Reader", *, is_labeled: bool) -> TargetColumns:
    columns = TargetColumns(None, None)
    label = next((each for each in _LABELS if reader.has(each)), None)
    if is_labeled:
        pass
    elif label is not None:
        columns.add("labels", whole_numbers(reader.texts(label)))
    elif reader.has(b"json") and any("label" in each for each in reader.objects()[:1]):
        columns.add("labels", reader.values("label"))
    for extension in _TEXTS:
        if reader.has(extension):
            columns.texts[extension.decode()] = reader.texts(extension)
    return columns


def _chosen_targets(reader: "_Reader", targets: Sequence[str]) -> TargetColumns:
    columns = TargetColumns(None, None)
    for name in targets:
        extension = os.fsencode(name)
        values = reader.texts(extension) if reader.has(extension) else reader.values(name)
        as_label = extension in _LABELS and "labels" not in columns.targets
        if extension in _TEXTS:
            columns.texts[name] = [str(value) for value in values]
        else:
            columns.add("labels" if as_label else name, whole_numbers(values))
    return columns


def _kinds_of(archives: Sequence[Index], targets: Sequence[str] | Mapping[str, str] | None) -> Mapping[str, str]:
    """Return what the caller wants of some extensions.

    Raises:
        ManifestError: an extension cannot become that.
    """
    kinds = targets if isinstance(targets, Mapping) else {}
    odd = next((name for name, kind in kinds.items() if kind not in (*BITS, "auto")), None)
    if odd is None:
        return kinds
    path = archives[0].path
    raise ManifestError(
        f"{path}: the members .{odd} cannot become a {kinds[odd]!r}: shards have the kinds 'auto', 'mask' and 'mask16'",
        source=path,
        kind=Kind.INVALID,
        advice="pass their names alone as {0}",
        options=[Option("targets", list(kinds))],
    )


class _Reader:
    """Reads what lies beside the images, a column at a time."""

    def __init__(self, archives: Sequence[Index], samples: Sequence[tuple[int, Sample]]) -> None:
        self._archives = archives
        self._samples = samples
        self._objects: list[dict[str, Any]] = []

    def has(self, extension: bytes) -> bool:
        """Return whether a sample has a member with this extension."""
        return any(extension in sample for _, sample in self._samples)

    def texts(self, extension: bytes) -> list[str]:
        """Return the text of each sample's member with this extension."""
        return [self._text(file, sample, extension) for file, sample in self._samples]

    def masks(self, extension: bytes) -> MemberMasks:
        """Return the mask that each sample has in its member with this extension.

        Raises:
            ManifestError: no sample has one.
        """
        if not self.has(extension):
            what = f"has no member .{os.fsdecode(extension)} beside its images"
            raise self._refusal(0, what, [Option("targets", {"…": "mask"})])
        places = [(file, sample[extension]) if extension in sample else None for file, sample in self._samples]
        names = []
        for file, sample in self._samples:
            key, _ = _key_of(self._archives[file].names[next(iter(sample.values()))])
            names.append(key.removeprefix(b"/") + b"." + extension)
        return MemberMasks(self._archives, places, names)

    def objects(self) -> list[dict[str, Any]]:
        """Return the object in each sample's ``.json``."""
        if not self._objects:
            self._objects = [self._object(file, sample) for file, sample in self._samples]
        return self._objects

    def values(self, name: str) -> list[Any]:
        """Return one member of each sample's object."""
        if not self.has(b"json"):
            raise self._refusal(0, f"has no member .{name} beside its images", [Option("targets", ["…"])])
        for row, each in enumerate(self.objects()):
            if not isinstance(each.get(name), str | int | float | list):
                raise self._refusal(row, f"has no {name!r} that is a target in its .json", [Option("targets", ["…"])])
        return [each[name] for each in self.objects()]

    def _text(self, file: int, sample: Sample, extension: bytes) -> str:
        if extension not in sample:
            row = self._samples.index((file, sample))
            raise self._refusal(row, f"has no member .{os.fsdecode(extension)}, as others have")
        part = self._archives[file].part(sample[extension])
        try:
            return part.read(_SIDE_LIMIT_BYTES).decode().strip()
        except (DecodeError, UnicodeDecodeError, OSError) as error:
            row = self._samples.index((file, sample))
            raise self._refusal(row, f"has a member .{os.fsdecode(extension)} that cannot be read: {error}") from error

    def _object(self, file: int, sample: Sample) -> dict[str, Any]:
        text = self._text(file, sample, b"json")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            row = self._samples.index((file, sample))
            raise self._refusal(row, f"has a member .json that cannot be read: {error}") from error
        return value if isinstance(value, dict) else {}

    def _refusal(self, row: int, reason: str, options: Sequence[Option] = ()) -> ManifestError:
        file, sample = self._samples[row]
        archive = self._archives[file]
        name = os.fsdecode(archive.names[next(iter(sample.values()))])
        return ManifestError(
            f"{archive.path}: the sample of {name!r} {reason}",
            slot=row,
            source=archive.path,
            reason=reason,
            kind=Kind.INVALID,
            advice="choose what becomes a target with {0}" if options else "complete it, or leave the sample out",
            options=options,
        )


def _samples_of(archive: Index) -> dict[bytes, Sample]:
    """Return the samples of one shard by their keys, in the order of their first members."""
    samples: dict[bytes, Sample] = {}
    for member, name in enumerate(archive.names):
        file = name.rpartition(b"/")[2]
        if file.startswith(b"."):
            continue
        key, extension = _key_of(name)
        samples.setdefault(key, {})[extension] = member
    return samples


def _key_of(name: bytes) -> tuple[bytes, bytes]:
    """Return the key and the extension of a member: its name up to the first dot behind the folders, and the rest."""
    folder, _, file = name.rpartition(b"/")
    stem, _, extension = file.partition(b".")
    return folder + b"/" + stem, extension.lower()


def _is_image(archive: Index, member: int, extension: bytes, files: ImageFiles) -> bool:
    if not extension or extension in _BESIDE_IMAGES:
        return False
    return files.hold(b"x." + extension, partial(archive.start_of, member))
