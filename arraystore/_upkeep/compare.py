"""Compare a store with its sources, and list the rows of an updated store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import numpy.typing as npt

from arraystore._building.options import CompareOptions
from arraystore._building.runs import row_stamps
from arraystore._common.arrow import number_column, numbers_in
from arraystore._common.options import complete, public, shows_options
from arraystore._decoding.hooks import check_decoders
from arraystore._format.samples import hashes_of, mask_fields, mtimes_us
from arraystore._format.specification import STORED
from arraystore._reading.store import Store
from arraystore._sources.manifest import Manifest
from arraystore._sources.stamps import STAMP, file_hashes
from arraystore._sources.targets.mask_sources import masks_hash
from arraystore._stores.opening import open_store
from arraystore._upkeep.alike import as_ragged, check_alike
from arraystore._upkeep.merging import in_codes_of, merged, raw_path
from arraystore._upkeep.moved import is_elsewhere
from arraystore._upkeep.relisted import check_decoders_given, listed_again
from arraystore._upkeep.reuse import manifest_in
from arraystore.errors import ManifestError, SpecError, StoreError

if TYPE_CHECKING:
    import pyarrow as pa

Rows = npt.NDArray[np.int64]


@public
@dataclass(frozen=True, eq=False, repr=False)
class Changes:
    """How the sources of a store have changed, and the rows of an updated store.

    Attributes:
        added: sources that are not in the store.
        changed: sources whose file or mask has changed.
        retried: sources whose file has not changed, but which failed for a cause that may have passed: an error of the
            volume, too little memory, or too little time. An update tries them again. One that fails again for the same
            reason counts as unchanged from then on, until its file changes or ``content=True`` is passed, so that
            updates until nothing changes come to an end.
        renamed: sources that are in the store under another name: old name and new name.
        removed: sources of the store that no longer exist.
        unchanged: how many rows have not changed. Failed rows with an unchanged file count too.
        still_bad: how many sources were dropped when the store was built and have not changed since; they stay out.
        relabeled: whether a target, class or text of a source in the store has changed.
        manifest: the rows of the updated store.
        slots: for each row of ``manifest`` the slot of the store that can be copied, or -1; int64, (N,).
        stamps: size and time of each row's file, and a number for those of its masks
            (`arraystore._sources.stamps.STAMP`, (N,)); zeros for removed sources.
        dropped: the table of the sources that stay dropped, or None.
        keeps_removed: whether the rows of removed sources are kept.
        identity: the digest of the store's store.json, which tells whose slots ``slots`` are.
        moved: the folder or table of the sources, if the store records another one; otherwise None. An update records
            it.
    """

    added: Sequence[str]
    changed: Sequence[str]
    retried: Sequence[str]
    renamed: Sequence[tuple[str, str]]
    removed: Sequence[str]
    unchanged: int
    still_bad: int
    relabeled: bool
    manifest: Manifest
    slots: Rows
    stamps: npt.NDArray[np.void]
    dropped: pa.Table | None
    keeps_removed: bool
    identity: str
    moved: str | None = None

    def __bool__(self) -> bool:
        """Whether an update would make a new store: True also if it would only try sources again."""
        gone = self.removed and not self.keeps_removed
        rows = self.added or self.changed or self.retried or self.renamed or gone or self.relabeled
        return bool(rows or self.moved)

    def __repr__(self) -> str:
        return f"<arraystore.Changes: {self}>"

    def __str__(self) -> str:
        counts = {
            "added": len(self.added),
            "changed": len(self.changed),
            "tried again": len(self.retried),
            "renamed": len(self.renamed),
            "removed, but kept" if self.keeps_removed else "removed": len(self.removed),
            "unchanged": self.unchanged,
            "left out because they are still bad": self.still_bad,
        }
        parts = [f"{count:,} {what}" for what, count in counts.items() if count or what == "unchanged"]
        parts += ["targets changed"] if self.relabeled else []
        return ", ".join([*parts, f"moved to {self.moved}"] if self.moved else parts)


@public
@shows_options(CompareOptions)
def compare(
    path: str | os.PathLike[str],
    source: Any = None,
    *,
    removed: Literal["drop", "keep"] = "drop",
    content: bool = False,
    labels: Any = None,
    targets: Any = None,
    **options: Unpack[CompareOptions],
) -> Changes:
    """Find how the sources of a store have changed since it was built. Nothing is written.

    A source is found by its path. It is unchanged if the size and the time of change of its file are. In another folder
    than the recorded one, a file that has the same name, size and time may be another one, so its contents decide.

    Args:
        path: the store.
        source: the folder, table or list that it was built from; see `arraystore.build`. None takes the folder or table
            whose path is recorded in the store.
        removed: ``"drop"`` leaves out rows whose source no longer exists, ``"keep"`` keeps them with their pixels.
        content: True reads every file whose size is the same, and compares its contents instead of the time of change.
            Sources that failed without being read are then tried again, see `Changes.retried`.
        labels: see `arraystore.build`.
        targets: see `arraystore.build`. Columns that the build chose are recorded; arrays have to be passed again.
        options: from ``root`` to ``decoders``, see `arraystore.build`. Those that are not given are as at the build of
            the store, which records them; only ``decoders`` have to be passed again.

    Raises:
        SpecError: ``removed`` or ``decoders`` is invalid.
        FormatError: there is no store at the path, or it is damaged.
        StoreError: ``source`` is None and the store does not record its source; its sources are not files; its masks
            came with the slots of another store; or it was built with ``decoders`` that are not given.
        ManifestError: the sources cannot be listed, or have other targets than the store; or labels or targets that
            were given at the build are not given.
        OSError: the store cannot be read.
    """
    if removed not in ("drop", "keep"):
        raise SpecError(f"removed must be 'drop' or 'keep', not {removed!r}")
    every = complete("compare", CompareOptions, options)
    check_decoders(every["decoders"])
    opened = open_store(path)
    with Store(opened) as store:
        if source is None:
            source = store.description.origin
        if source is None:
            raise StoreError(
                f"{path} does not record what it was built from", source=os.fspath(path), advice="pass the source"
            )
        old = manifest_in(store)
        names = map(old.name, range(len(old)))
        check_decoders_given(store.description, names, every["decoders"], Path(path))
        new = listed_again(store.description, source, labels, targets, every, options)
        check_decoders_given(store.description, map(new.name, range(len(new))), every["decoders"], Path(path))
        new = as_ragged(old, new)
        check_alike(path, old, new)
        new = in_codes_of(old, new)
        apart = is_elsewhere(old.root, new.root)
        moved = apart or (new.origin is not None and is_elsewhere(old.origin, new.origin))
        comparison = _Comparison(store, old, new, content=content or apart)
        changes = comparison.changes(keep=removed == "keep", identity=opened.identity)
        return replace(changes, moved=new.origin or new.root or "the paths as given") if moved else changes


class _Comparison:
    """The old and the new manifest of a store, and which rows of the two have the same source."""

    def __init__(self, store: Store, old: Manifest, new: Manifest, *, content: bool) -> None:
        self.old, self.new = old, new
        samples = store.samples
        self._bytes = numbers_in(samples["bytes"])
        self._mtime_us = mtimes_us(samples)
        self._hash = hashes_of(samples)
        self._masks = mask_fields(samples)
        self._stored = np.asarray(store.status) == STORED
        self.dropped = store.dropped_samples
        self.slot_of = _matches(old.sources, new.sources)  # row of the new manifest → slot, or -1
        self.stamps = row_stamps(new)
        self._dropped_stamps = self._stamps_of_dropped()
        self.passing = self._passing(content=content)
        self.same = self._same(content=content)
        self.renamed = self._renamed()
        self.skipped = self._still_bad()

    def _path(self, row: int) -> str:
        return str(self.new.load(row))

    def _same(self, *, content: bool) -> npt.NDArray[np.bool_]:
        """Return whether the file and the masks of each row are unchanged."""
        slot = self.slot_of
        same: npt.NDArray[np.bool_] = (slot >= 0) & (self.stamps["bytes"] == self._bytes[slot])
        for row in np.flatnonzero(same).tolist() if self.new.masks else ():
            same[row] = self._masks_are_same(row, content=content)
        if not content:
            same &= self.stamps["mtime"] // 1000 == self._mtime_us[slot]
            return same
        rows = np.flatnonzero(same)
        hashes = file_hashes(self._path, rows)
        same[rows] = (hashes != 0) & (hashes == self._hash[slot[rows]])
        return same

    def _masks_are_same(self, row: int, *, content: bool) -> bool:
        """Return whether the masks of a row have the names that they had in its slot, and have not changed."""
        slot = int(self.slot_of[row])
        for name, masks in self.new.masks.items():
            if masks.are_files and masks.name(row) != self.old.masks[name].name(slot):
                return False
        if content and self._masks["mask_hash"][slot] != 0:
            return self._masks_have_contents_of(row, slot)
        return bool(self.stamps["masks"][row] == self._masks["mask_stamp"][slot])

    def _masks_have_contents_of(self, row: int, slot: int) -> bool:
        return not self.new.masks or masks_hash(self.new.load_masks(row)) == int(self._masks["mask_hash"][slot])

    def _renamed(self) -> Rows:
        """Return the rows of the new manifest whose file has the contents of a removed source, and match them."""
        gone = np.setdiff1d(np.flatnonzero(self._stored & (self._hash != 0)), self.slot_of)
        waiting: dict[tuple[int, int], list[int]] = {}
        for slot in gone[::-1].tolist():
            waiting.setdefault((int(self._bytes[slot]), int(self._hash[slot])), []).append(slot)
        rows = np.flatnonzero((self.slot_of < 0) & np.isin(self.stamps["bytes"], self._bytes[gone]))
        found = []
        for row, digest in zip(rows.tolist(), file_hashes(self._path, rows).tolist(), strict=True):
            slots = waiting.get((int(self.stamps["bytes"][row]), digest))
            if slots and self._masks_have_contents_of(row, slots[-1]):
                self.slot_of[row] = slots.pop()
                self.same[row] = True
                found.append(row)
        return np.array(found, np.int64)

    def _passing(self, *, content: bool) -> npt.NDArray[np.bool_]:
        """Return whether each row failed without a stamp: for a cause that lay outside its file, and may have passed.

        A file that may still not be read has not changed, so its stamp stays as it was recorded: zeros. With
        ``content``, a row that failed without a hash is one too: its file was not read, or failed again.
        """
        slot = self.slot_of
        failed = (slot >= 0) & ~self._stored[slot] & (self._bytes[slot] == 0) & (self._mtime_us[slot] == 0)
        again = (slot >= 0) & ~self._stored[slot] & (self._hash[slot] == 0) & ~failed & content
        for row in np.flatnonzero(slot < 0).tolist() if self._dropped_stamps else ():
            failed[row] = self._dropped_stamps.get(raw_path(self.new.sources, row), (1,))[:2] == (0, 0)
        for row in np.flatnonzero(failed).tolist():
            if not os.access(self._path(row), os.R_OK):
                self.stamps[row] = 0
        passing: npt.NDArray[np.bool_] = (failed | again) & (self.stamps != np.zeros((), STAMP))
        return passing

    def _stamps_of_dropped(self) -> dict[bytes, tuple[int, ...]]:
        """Return size and time in microseconds of each dropped source, and the stamp of its masks."""
        if self.dropped is None or "mtime" not in self.dropped.column_names:
            return {}
        sources = [os.fsencode(source) for source in self.dropped["source"].to_pylist()]
        masks = mask_fields(self.dropped)["mask_stamp"].tolist()
        stamps = zip(self.dropped["bytes"].to_pylist(), mtimes_us(self.dropped).tolist(), masks, strict=True)
        return dict(zip(sources, stamps, strict=True))

    def _still_bad(self) -> npt.NDArray[np.bool_]:
        """Return whether each row is a dropped source whose file has not changed since."""
        skipped = np.zeros(len(self.new), bool)
        for row in np.flatnonzero(self.slot_of < 0).tolist() if self._dropped_stamps else ():
            size, time_ns, masks = self.stamps[row].tolist()
            stamp = (size, time_ns // 1000, masks)
            skipped[row] = self._dropped_stamps.get(raw_path(self.new.sources, row)) == stamp
        return skipped

    def changes(self, *, keep: bool, identity: str) -> Changes:
        """Return the changes. In the updated store, old rows come first in their order, then new rows in theirs."""
        row_of = np.full(len(self.old), -1)
        matched = np.flatnonzero(self.slot_of >= 0)
        row_of[self.slot_of[matched]] = matched
        removed = np.flatnonzero(row_of < 0)
        kept = np.arange(len(self.old)) if keep else np.flatnonzero(row_of >= 0)
        added = np.flatnonzero((self.slot_of < 0) & ~self.skipped)
        slots = np.r_[kept, np.full(len(added), -1)]
        rows = np.r_[row_of[kept], added]
        if not len(rows):
            raise ManifestError(
                "no source of the store exists any more, and there are no new ones: is this the source?"
            )
        is_same = (rows < 0) | self.same[rows]
        stamps = np.where(rows < 0, np.zeros((), STAMP), self.stamps[rows])
        is_retried = (rows >= 0) & self.passing[rows]
        still = len(matched) - int(np.count_nonzero(is_retried & (slots >= 0)))
        changed = np.flatnonzero((slots >= 0) & ~is_same & ~is_retried)
        manifest, relabeled = merged(self.old, self.new, slots, rows)
        return Changes(
            added=[self.new.name(row) for row in added[~self.passing[added]].tolist()],
            changed=[self.new.name(row) for row in rows[changed].tolist()],
            retried=[self.new.name(row) for row in rows[is_retried].tolist()],
            renamed=[
                (self.old.name(slot), self.new.name(row))
                for slot, row in zip(self.slot_of[self.renamed].tolist(), self.renamed.tolist(), strict=True)
            ],
            removed=[self.old.name(slot) for slot in removed.tolist()],
            unchanged=still - len(self.renamed) - len(changed),
            still_bad=int(np.count_nonzero(self.skipped)),
            relabeled=relabeled,
            manifest=manifest,
            slots=np.where(is_same, slots, -1),
            stamps=stamps,
            dropped=self._dropped_rows(),
            keeps_removed=keep,
            identity=identity,
        )

    def _dropped_rows(self) -> pa.Table | None:
        """Return the rows of the dropped table whose sources stay dropped."""
        if self.dropped is None:
            return None
        still = {raw_path(self.new.sources, row) for row in np.flatnonzero(self.skipped).tolist()}
        held = [os.fsencode(source) in still for source in self.dropped["source"].to_pylist()]
        return self.dropped.take(number_column(np.flatnonzero(held))) if any(held) else None


def _matches(old: Sequence[Any], new: Sequence[Any]) -> Rows:
    """Return for each path of ``new`` its index in ``old``, or -1; equal paths are matched in order."""
    waiting: dict[bytes, list[int]] = {}
    for slot in reversed(range(len(old))):
        waiting.setdefault(raw_path(old, slot), []).append(slot)
    found = np.full(len(new), -1)
    for row in range(len(new)):
        slots = waiting.get(raw_path(new, row))
        if slots:
            found[row] = slots.pop()
    return found
