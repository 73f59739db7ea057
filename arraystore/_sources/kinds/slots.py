"""Slots of finished stores as sources: their pixels are taken over, with what is known of the images they came from."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.arrow import numbers_in
from arraystore._common.ragged import Ragged, masks_in
from arraystore._sources.kinds.found import Found, SourceList
from arraystore._sources.targets.own_columns import columns_beside
from arraystore.errors import DecodeError, FormatError, Kind, ManifestError
from arraystore.spec import ImageSpec, Jpeg

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class KeptSlot:
    """A slot of a store as a source.

    Attributes:
        pixels: uint8, (H, W, C).
        facts: fields of a ledger row, which describe the image that the slot was made of.
        reason: None, because a slot without an image is no source.
        note: what its decoder noticed, or None.
        jpeg: the slot's bytes, where the store keeps JPEGs.
        encode: how they were encoded.
    """

    pixels: Pixels
    facts: Mapping[str, int]
    reason: None = None
    note: str | None = None
    jpeg: bytes = b""
    encode: Jpeg | None = None

    def fits(self, channels_last: Pixels) -> bool:
        """Return whether a slot, (H, W, C), takes the pixels as they are."""
        return channels_last.shape == self.pixels.shape

    def own_slot(self, spec: ImageSpec) -> Pixels:
        """Return a new slot, (H, W, C), of the sides that a spec gives these pixels, which differ between slots."""
        at = spec.place(*self.pixels.shape[:2])
        return np.empty((at.height, at.width, spec.channels), np.uint8)

    def read_into(self, slot: Pixels, layout: str) -> bool:
        """Copy the pixels into a slot if they fit as they are, and return whether they do."""
        channels_last = slot if layout == "NHWC" else slot.transpose(1, 2, 0)
        if not self.fits(channels_last):
            return False
        channels_last[...] = self.pixels
        return True


def has_slots(source: Any) -> bool:
    """Return whether a source is a store, or a choice of slots."""
    return hasattr(type(source), "__slot_arrays__")


def spec_in(source: Any) -> ImageSpec:
    """Return the spec of the slots of a store, or one that fits slots whose own is not known.

    Raises:
        ManifestError: the slots are no images.
    """
    slots = source.__slot_arrays__
    specs: list[ImageSpec] = [record.description.spec for record in slots.records if record is not None]
    if specs and len(specs) == len(slots.arrays) and all(spec == specs[0] for spec in specs):
        return specs[0]
    if specs and not specs[0].one_shape:  # each slot is then taken as it is
        ways, heights, own = {spec.encode for spec in specs}, [spec.height for spec in specs], specs[0].to_dict()
        if not all(heights):
            return ImageSpec(color=own["color"], layout=own["layout"], encode="source")
        own["encode"] = ways.pop() if len(ways) == 1 else "jpeg"
        return ImageSpec(**own | {"size": max(heights)})
    height, width, channels = _channels_last(slots)(np.empty(slots.slot_shape, np.uint8)).shape
    return ImageSpec(size=(height, width), color="rgb" if channels == 3 else "gray", layout=slots.layout)


class StoreSlots(SourceList):
    """The slots of stores as sources, each checked against its checksum as it is read.

    Args:
        slots: the ``SlotArrays`` of the caller.
        known: what is known of each slot.
        spec: that all slots were made by; or one that fits them, see `spec_in`.
        encode: how all slots were encoded; None if they were not, or not alike.
        are_files: whether the names are paths of files that are there no less than for the store.
    """

    noun: ClassVar[str] = "slots"

    def __init__(self, slots: Any, known: "_Known", spec: ImageSpec, *, encode: Jpeg | None, are_files: bool) -> None:
        self._slots = slots
        self._known = known
        self._spec = spec
        self._encode = encode
        self._are_files = are_files
        self._turned = _channels_last(slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, slot: Any) -> Any:
        if slot in self._known.reasons:
            raise DecodeError(self._known.reasons[slot], slot=slot, source=self.name(slot))
        ((number, rows, _),) = self._slots.split(self._slots.base(np.array([slot])))
        array, row = self._slots.arrays[number], int(rows[0])
        try:
            sums = array.checksums
            damaged = sums is not None and xxhash.xxh3_64_intdigest(array.bytes_of(row)) != int(sums[row])
            jpeg = bytes(array.bytes_of(row)) if array.is_encoded else b""
            pixels = None if damaged else np.asarray(array.images[row])
        except FormatError:  # the JPEG cannot be decoded
            pixels = None
        if pixels is None:
            reason = "the pixels in the store that it is taken from are damaged: verify and repair that store"
            raise DecodeError(reason, slot=slot, source=self.name(slot), kind=Kind.DAMAGED)
        facts = {name: int(values[slot]) for name, values in self._known.facts.items()}
        note, encode = self._known.notes.get(slot), self._encode if jpeg else None
        return KeptSlot(self._turned(pixels), facts, note=note, jpeg=jpeg, encode=encode)

    def name(self, slot: int) -> str:
        return self._known.names[slot]

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        yield ["slots", self._slots.identity, list(self._slots.slot_shape)], ()

    @property
    def is_fixed(self) -> bool:
        """Whether all slots have checksums."""
        return all(array.checksums is not None for array in self._slots.arrays)

    def masks_in(self, target: Ragged) -> list[npt.NDArray[Any]]:
        """Return a target of masks as an array (H, W) of each slot; one pixel of a slot without an image."""
        slots = np.arange(len(self))
        masks = masks_in(target, slots, self._slots.sides_of(self._slots.base(slots)))
        return [mask if mask.size else np.zeros((1, 1), mask.dtype) for mask in masks]

    def keeps_place(self, spec: ImageSpec) -> bool:
        return (spec.size, spec.fit) == (self._spec.size, self._spec.fit)

    def are_files(self, spec: ImageSpec) -> bool:
        return self._are_files and spec == self._spec


def from_slots(source: Any, *, labels: Any = None) -> Found:
    """Return the slots of a store, of a choice, or of several, with their targets, classes, texts and samples.

    Raises:
        ManifestError: there are no slots, or they are no images of 8 bits.
    """
    slots = source.__slot_arrays__
    count = len(slots)
    if not count:
        raise ManifestError("there are no slots in this choice", kind=Kind.MISSING)
    check_images(slots)
    records: Sequence[Any] = slots.records if len(slots.records) == len(slots.arrays) else [None] * len(slots.arrays)
    roots = {record.description.root if record is not None else None for record in records}
    root = next(iter(roots)) if len(roots) == 1 else None
    samples = [_Samples(record, root) for record in records]
    known = _known_of(slots, samples)
    spec = spec_in(source)
    are_files = all(each.are_files and each.spec == spec for each in samples)
    ways = {each.spec.encode if each.spec is not None else None for each in samples}
    encode = ways.pop() if len(ways) == 1 else None
    found = Found(StoreSlots(slots, known, spec, encode=encode, are_files=are_files), root, place="the store")
    found.texts = dict(known.texts)
    if are_files and len(records) == 1:
        found.source_options = records[0].description.source_options
    if are_files and len(records) == 1 and slots.chosen is None:
        found.origin = records[0].description.origin
    for name in slots.target_names:
        if name != "labels" or labels is None:
            target = slots.target(name)
            found.targets[name] = target if isinstance(target, Ragged) else np.array(target)
    found.source_pixels = {name: kind for name, kind in slots.source_pixels.items() if name in found.targets}
    found.mask_fills = {name: fill for name, fill in slots.masks.items() if name in found.targets}
    found.classes = {name: tuple(classes) for name, classes in slots.categories.items() if name in found.targets}
    return found


def _known_of(slots: Any, samples: Sequence["_Samples"]) -> "_Known":
    """Return what is known of each slot of a choice, from the samples of each of its arrays."""
    count = len(slots)
    texts: dict[str, list[str]] = {
        name: [""] * count for name in set.intersection(*(set(each.texts) for each in samples))
    }
    known = _Known([""] * count, {name: np.zeros(count, kind) for name, kind in _FACTS.items()}, texts)
    unreadable = frozenset(slots.unreadable(found=True).tolist())
    for number, rows, at in slots.split(slots.base(np.arange(count))):
        places, own = np.arange(count) if at is None else at, samples[number]
        for fact, values in own.facts.items():
            known.facts[fact][places] = values[rows]
        for slot, row in zip(places.tolist(), rows.tolist(), strict=True):
            known.names[slot] = own.name(row)
            for name, column in texts.items():
                column[slot] = own.texts[name][row]
            if row in own.notes:
                known.notes[slot] = own.notes[row]
            if slot in unreadable:
                known.reasons[slot] = own.reasons.get(row) or "the slot is empty: the store is not finished"
    return known


@dataclass(slots=True)
class _Known:
    """What the tables of samples say of slots, one value a slot.

    Attributes:
        names: of the sources.
        facts: fields of a ledger row → values.
        texts: targets that are texts.
        reasons: slot → why it has no image.
        notes: slot → what its decoder noticed.
    """

    names: list[str]
    facts: dict[str, npt.NDArray[Any]]
    texts: dict[str, list[str]]
    reasons: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)


_FACTS = {"height": np.uint32, "width": np.uint32, "bytes": np.uint64, "mtime": np.int64, "hash": np.uint64}


class _Samples:
    """What the table of samples of one store says of each of its slots."""

    def __init__(self, record: Any, root: str | None) -> None:
        self._names: list[str] = []
        self.facts: dict[str, npt.NDArray[Any]] = {}
        self.reasons: dict[int, str] = {}
        self.notes: dict[int, str] = {}
        self.texts: dict[str, list[str]] = {}
        self.are_files = False
        self.spec: ImageSpec | None = None
        table = None if record is None else record.load_table("samples")
        if table is None:
            return
        description = record.description
        self.are_files, self.spec = bool(description.from_files), description.spec
        self._names = [os.fsdecode(name) for name in table["source"].to_pylist()]
        if description.root is not None and root is None and self.are_files:
            self._names = [os.path.join(description.root, name) for name in self._names]
        for name in _FACTS:
            if name in table.column_names and name != "mtime":
                self.facts[name] = numbers_in(table[name])
        times = numbers_in(table["mtime"].cast("int64"))
        self.facts["mtime"] = times * 1000
        self.reasons = {row: why for row, why in enumerate(table["reason"].to_pylist()) if why}
        if "note" in table.column_names:
            self.notes = {row: note for row, note in enumerate(table["note"].to_pylist()) if note}
        for name in columns_beside(table.schema.names, description.masks):
            if str(table.schema.field(name).type) in ("string", "large_string", "binary", "large_binary"):
                self.texts[name] = [os.fsdecode(text) for text in table[name].to_pylist()]

    def name(self, row: int) -> str:
        return self._names[row] if self._names else f"slot {row}"


def check_images(slots: Any) -> None:
    """Check that slots are images.

    Raises:
        ManifestError: they are not of 8 bits, or not of 1 or 3 channels.
    """
    if slots.dtype != np.uint8:
        raise ManifestError(f"the slots are of {slots.dtype}, not uint8: convert them, 0 being black and 255 white")
    _channels_last(slots)


def _channels_last(slots: Any) -> Any:
    """Return the function that turns the pixels of one slot to (H, W, C).

    Raises:
        ManifestError: the slots are no images.
    """
    shape = slots.slot_shape
    if slots.layout == "NCHW" and len(shape) == 3 and shape[0] in (1, 3):
        return _from_planes
    if slots.layout == "NHWC" and len(shape) == 3 and shape[2] in (1, 3):
        return _as_they_are
    if len(shape) == 2:
        return _with_a_channel
    raise ManifestError(f"slots of shape {shape} are no images of 1 or 3 channels", kind=Kind.INVALID)


def _from_planes(pixels: Pixels) -> Pixels:
    return pixels.transpose(1, 2, 0)


def _as_they_are(pixels: Pixels) -> Pixels:
    return pixels


def _with_a_channel(pixels: Pixels) -> Pixels:
    return pixels[:, :, None]
