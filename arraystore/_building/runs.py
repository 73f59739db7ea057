"""Choose the slots that a build must fill, and cut them into runs.

A later call fills the slots that no earlier call has settled, and those whose source has changed since.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from arraystore._building.workers.reading import Source, loaded
from arraystore._format.ledger import name_hash
from arraystore._format.specification import FAILED
from arraystore._sources.manifest import Manifest
from arraystore._sources.stamps import file_hashes, file_stamp, file_stamps, row_hashes
from arraystore._sources.targets.mask_sources import masks_hash, masks_stamp
from arraystore._stores.medium import Draft, FilledRun

# Long enough that handing out a run costs nothing; short enough that Ctrl-C and progress wait a second at most.
_LONGEST_RUN_SLOTS = 16
_HELD_BYTES = 8 << 20
_HELD_BYTES_IN_ORDER = 128 << 20


def in_order(filled: Iterable[FilledRun], runs: Sequence[tuple[int, int]]) -> Iterator[FilledRun]:
    """Yield finished runs in the order of their slots, so that what is appended to a file lies there in this order.

    A run that waits for an earlier one is held in memory. If too much is held, because one image takes very long, what
    is held is yielded without the earlier run.

    Args:
        filled: runs, or parts of them, as they are finished.
        runs: start and stop of all of them, ascending.
    """
    starts = [start for start, _ in runs]
    next_of = {stop: start for (_, stop), start in zip(runs, starts[1:], strict=False)}
    expected = starts[0] if starts else 0
    held: dict[int, FilledRun] = {}
    held_bytes = 0
    ends: dict[int, int] = {}  # start → stop of what was yielded before its turn

    def next_stop(stop: int) -> int:
        while (start := next_of.get(stop, stop)) in ends:
            stop = ends.pop(start)
        return start

    for run in filled:
        held[run.start] = run
        held_bytes += sum(map(len, run.encoded))
        while (one := held.pop(expected, None)) is not None:
            expected = next_stop(one.start + len(one.rows))
            held_bytes -= sum(map(len, one.encoded))
            yield one
        if held_bytes > _HELD_BYTES_IN_ORDER:
            for start in sorted(held):
                one = held.pop(start)
                ends[start] = start + len(one.rows)
                yield one
            held_bytes = 0
    for start in sorted(held):
        yield held[start]


def slots_to_fill(draft: Draft, manifest: Manifest, *, content: bool = False) -> npt.NDArray[np.int64]:
    """Return the slots to fill in rising order, and withdraw the claims that an earlier call made on them.

    These are the slots that are not settled, those whose source has changed, and those that failed with other versions
    of the decoders. A file has changed if its size or time of change has.

    Args:
        draft: of the store.
        manifest: its rows, which are files if ``content`` is True.
        content: True reads the source of each settled slot, and fills the slot again if the contents have changed.
    """
    settled = np.flatnonzero(draft.settled)
    again = _changed(manifest, draft.ledger, settled)
    content |= _is_elsewhere(manifest, draft.ledger, settled)
    if content and settled.size:
        same = settled[~again]
        changed = file_hashes(lambda slot: str(manifest.load(slot)), same) != draft.ledger["hash"][same]
        if manifest.masks:
            known = draft.ledger["mask_hash"][same]
            changed |= (known != 0) & (mask_hashes(manifest, same) != known)
        again[~again] = changed
    if not draft.same_decoders:
        again |= draft.ledger["status"][settled] == FAILED
    draft.withdraw(settled[again])
    to_fill = ~draft.settled
    to_fill[settled[again]] = True
    empty = np.flatnonzero(to_fill)
    for texts in (draft.reasons, draft.notes):
        for slot in [slot for slot in texts if to_fill[slot]]:
            del texts[slot]
    return empty


def _changed(manifest: Manifest, ledger: npt.NDArray[np.void], slots: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return for each slot whether its source or a mask differs from when it was read."""
    if not slots.size:
        return np.zeros(0, bool)
    changed = _image_changed(manifest, ledger, slots)
    if not all(masks.is_fixed for masks in manifest.masks.values()):
        changed |= _mask_stamps(manifest, slots) != ledger["mask_stamp"][slots]
    return changed


def row_stamps(manifest: Manifest) -> npt.NDArray[np.void]:
    """Return the stamps of the files and masks of all rows, whose sources are paths: dtype `STAMP`."""
    rows = np.arange(len(manifest))

    def path(row: int) -> str:
        return str(manifest.load(row))

    if _masks_are_files(manifest):
        return file_stamps(path, rows, lambda row: masks_stamp(manifest.load_masks(row)))
    stamps = file_stamps(path, rows)
    stamps["masks"] = _mask_stamps(manifest, rows)
    return stamps


def mask_hashes(manifest: Manifest, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the `masks_hash` of rows: uint64, one a row; files are read several at once, other masks in order."""
    if _masks_are_files(manifest):
        return row_hashes(lambda row: masks_hash(manifest.load_masks(row)), rows)
    return np.fromiter((masks_hash(manifest.load_masks(row)) for row in rows.tolist()), np.uint64, len(rows))


def _mask_stamps(manifest: Manifest, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    return np.fromiter((masks_stamp(manifest.load_masks(row)) for row in rows.tolist()), np.uint64, len(rows))


def _masks_are_files(manifest: Manifest) -> bool:
    return all(masks.are_files for masks in manifest.masks.values())


def _image_changed(
    manifest: Manifest, ledger: npt.NDArray[np.void], slots: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    if manifest.is_read_once:
        return np.ones(len(slots), bool)  # the arrays may be other ones than before
    if manifest.is_fixed:
        # What failed as if it had not been read, such as an image whose workers died, is tried again.
        rows = ledger[slots]
        changed: npt.NDArray[np.bool_] = (rows["status"] == FAILED) & (rows["bytes"] == 0) & (rows["hash"] == 0)
        if manifest.may_name_files:
            for i, slot in enumerate(slots.tolist()):
                row = ledger[slot]
                if row["mtime"] or row["status"] == FAILED:  # otherwise it was no file
                    changed[i] |= _is_changed_file(loaded(manifest.load, slot), row)
        return changed
    if not manifest.is_paths:
        # The digest does not cover the values of arrays. What has no hash, such as an image of Pillow, may be another.
        names = zip(slots.tolist(), ledger["name"][slots].tolist(), strict=True)
        unlike = (
            not name or name_hash(loaded(manifest.load, slot), manifest.load_masks(slot)) != name
            for slot, name in names
        )
        return np.fromiter(unlike, bool, len(slots))
    now = file_stamps(lambda slot: str(manifest.load(slot)), slots)
    differs: npt.NDArray[np.bool_] = (now["bytes"] != ledger["bytes"][slots]) | (now["mtime"] != ledger["mtime"][slots])
    return differs


def _is_changed_file(source: Source, row: np.void) -> bool:
    """Return whether a source is a file with another stamp than when its row was written."""
    return isinstance(source, str) and file_stamp(source) != (row["bytes"], row["mtime"])


def _is_elsewhere(manifest: Manifest, ledger: npt.NDArray[np.void], slots: npt.NDArray[np.int64]) -> bool:
    """Return whether the files lie in another folder than before, under the same names.

    Files of another folder may be other files, even if their sizes and times are the same.
    """
    if not manifest.is_paths or not slots.size:
        return False
    slot = int(slots[0])
    return name_hash(manifest.load(slot), manifest.load_masks(slot)) != int(ledger["name"][slot])


def cut_runs(empty: npt.NDArray[np.int64], workers: int, mask_bytes: int = 0) -> list[tuple[int, int]]:
    """Cut slots in rising order into runs (start, stop) of consecutive slots, which do not overlap.

    Workers hold the masks of a run, of so many bytes a slot, until it is finished.
    """
    if empty.size == 0:
        return []
    # Small builds get shorter runs, so that the workers end at about the same time.
    longest = min(_LONGEST_RUN_SLOTS, _HELD_BYTES // mask_bytes) if mask_bytes else _LONGEST_RUN_SLOTS
    length = max(1, min(longest, empty.size // (8 * workers)))
    edges = np.flatnonzero(np.diff(empty) != 1) + 1
    starts, stops = empty[np.r_[0, edges]], empty[np.r_[edges - 1, -1]] + 1
    return [
        (start, min(start + length, int(last)))
        for first, last in zip(starts, stops, strict=True)
        for start in range(int(first), int(last), length)
    ]
