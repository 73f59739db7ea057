"""Copy slots of a finished store into a new one, so that an update or a repair decodes only the other slots."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt

from arraystore._building.build import build_key
from arraystore._building.workers.reading import Source, StoredSlot
from arraystore._common.arrow import numbers_in
from arraystore._format.checking.checksums import mask_parts
from arraystore._format.ledger import side_fields
from arraystore._format.samples import file_masks, has_files, hashes_of, manifest_of, mask_fields, mtimes_us, notes_of
from arraystore._format.slot_file import EncodedFile, SlotFile
from arraystore._format.specification import FAILED
from arraystore._reading.store import Store
from arraystore._sources.manifest import Manifest
from arraystore._sources.stamps import STAMP
from arraystore._stores.media import medium_at
from arraystore._stores.opening import contents_of, hold
from arraystore._stores.publishing import real_target
from arraystore._stores.unfinished.partial import PartialFolder
from arraystore.errors import StoreError
from arraystore.spec import ImageSpec


def manifest_in(store: Store) -> Manifest:
    """Return the manifest of a store on disk.

    Raises:
        StoreError: the sources are not files, or the samples do not say what they were built from.
    """
    manifest = manifest_of(store.samples, store.targets, store.categories, store.description.masks)
    path = str(store.path)
    if manifest is None and store.description.from_files and has_files(store.samples):
        raise StoreError(
            f"a text or mask of {path} has the name of a column that samples have for themselves, so they do not say "
            "all that it was built from",
            source=path,
            advice="build it again, and give the text or mask another name",
        )
    if manifest is None or not store.description.from_files:
        raise StoreError(f"the sources of {path} are not files", source=path, advice="build it again")
    described = store.description
    return replace(
        manifest,
        root=described.root,
        origin=described.origin,
        source_pixels=described.source_pixels,
        source_options=described.source_options,
    )


def hold_store(path: str | os.PathLike[str], manifest: Manifest, spec: ImageSpec) -> PartialFolder:
    """Lock the folder in which the successor of a store is built, of such rows, on the same medium; see `hold`."""
    return hold(path, build_key(manifest, spec), overwrite=True, medium=medium_at(real_target(path)))


class Takeover:
    """The source of each row of a new store: a slot of the old store, or the row's own source.

    ``slots`` and ``stamps`` are as in `arraystore.Changes`; a row of zeros in ``stamps`` keeps the values of the old
    store. ``load`` returns a row's own source. ``is_of(slot, row)`` tells whether the slot's source in the old store is
    the source of the row; otherwise the slot is not copied. ``failed`` are the rows whose slot is copied and had
    failed.

    Raises:
        StoreError: the store is in memory.
    """

    def __init__(
        self,
        store: Store,
        slots: npt.NDArray[np.int64],
        stamps: npt.NDArray[np.void],
        load: Callable[[int], Source],
        is_of: Callable[[int, int], bool],
    ) -> None:
        if store.path is None:
            raise StoreError("a store in memory has no file to copy slots from", advice="build it again")
        self._load = load
        self._is_of = is_of
        self._slots = slots
        contents = contents_of(store.path)
        # Not by the header of the file, which may be damaged.
        place, _ = contents.slots((len(store), *store.spec.slot_shape))
        self._file = cast("SlotFile | EncodedFile", place)
        # The pixels that JPEGs were made of are not there to be summed again.
        self._sums = None if store.spec.encode is None else contents.array(contents.sums)
        self._side_fields = side_fields(store.spec)
        self._shapes = None if store.spec.one_shape else contents.array(contents.shapes)
        self._checksums = np.asarray(store.checksums)
        self._reasons = {bad.slot: bad.reason for bad in store.bad()}
        samples = store.samples
        self._notes = notes_of(samples)
        self._sides = {name: numbers_in(samples[name]) for name in ("height", "width")}
        self._hashes = hashes_of(samples)
        self._mask_fields = mask_fields(samples)
        names = sorted(file_masks(store.description.masks, samples.column_names))
        self._masks = [mask_parts(contents, store.description, name) for name in names]
        known = np.zeros(len(store), STAMP)
        known["bytes"], known["mtime"] = numbers_in(samples["bytes"]), mtimes_us(samples) * 1000
        self._stamps = np.where(stamps["bytes"] == 0, known[slots], stamps)
        self._stamps["masks"] = np.where(stamps["masks"] == 0, self._mask_fields["mask_stamp"][slots], stamps["masks"])
        taken = np.flatnonzero(slots >= 0)
        failed = np.asarray(store.status)[slots[taken]] == FAILED
        self.failed: frozenset[int] = frozenset(taken[failed].tolist())

    def load(self, row: int) -> Source:
        """Return the source that a worker fills a row from."""
        slot = int(self._slots[row])
        source = self._load(row)
        if slot < 0 or not isinstance(source, str) or not self._is_of(slot, row):
            return source
        return StoredSlot(
            part=self._file.part(slot),
            checksum=int(self._checksums[slot]),
            facts={
                "height": int(self._sides["height"][slot]),
                "width": int(self._sides["width"][slot]),
                "bytes": int(self._stamps["bytes"][row]),
                "mtime": int(self._stamps["mtime"][row]),
                "hash": int(self._hashes[slot]),
            }
            | self._facts_of_masks(slot, row)
            | ({} if self._sums is None else {"sums": self._sums[slot]})
            | ({} if self._shapes is None else dict(zip(self._side_fields, self._shapes[slot].tolist(), strict=True))),
            source=source,
            reason=self._reasons.get(slot),
            note=self._notes.get(slot),
            masks=tuple(part_of(slot) for part_of in self._masks),
            mask_checksum=int(self._mask_fields["mask_checksum"][slot]),
        )

    def _facts_of_masks(self, slot: int, row: int) -> dict[str, int]:
        if not self._masks:
            return {}
        return {"mask_stamp": int(self._stamps["masks"][row]), "mask_hash": int(self._mask_fields["mask_hash"][slot])}
