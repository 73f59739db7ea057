"""The files of an unfinished build that hold its slots: which slots an earlier call has left in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arraystore._format.files import fsync_path, reserve_file
from arraystore._format.slot_file import SlotFile
from arraystore._stores.medium import Medium
from arraystore._stores.publishing import MOVED, PLAN
from arraystore._stores.unfinished.build_key import BuildKey
from arraystore.spec import ImageSpec


def in_files(folder: Path, medium: Medium, key: BuildKey, rows: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Return of each row of a ledger whether the files still have all bytes of its slot and masks: bool, (N,)."""
    slots, files = folder / medium.draft_file, key.mask_files(folder)
    if key.spec.encode is None:
        files.append(SlotFile(str(slots), medium.head_bytes, (0, *key.spec.slot_shape)))
    there = np.arange(len(rows)) < min((file.stored for file in files), default=len(rows))
    if key.spec.encode is not None:
        size = max(slots.stat().st_size - medium.head_bytes, 0)
        lengths = rows["length"] + key.logged_mask_bytes(rows).astype(np.uint64)
        there &= (lengths <= size) & (rows["begin"] <= size - np.minimum(lengths, size))
    return there


def restore_log(folder: Path, medium: Medium) -> None:
    """Give the file that drafts append to its name again, if a call was killed after it had the final one."""
    final, log = folder / medium.pixels, folder / medium.draft_file
    if medium.log and final.is_file() and (folder / PLAN).exists() and not log.exists():
        final.rename(log)
        fsync_path(folder)


def copy_aside(folder: Path, medium: Medium, spec: ImageSpec, slots: Sequence[int]) -> None:
    """Copy the pixels of slots into a file of their own. JPEGs in a log stay: nothing is put over them."""
    if medium.slot_file is None or not slots:
        return
    earlier, file = medium.slot_file(folder / medium.draft_file).map(), _moved_file(folder, spec, len(slots))
    for number, slot in enumerate(slots):
        file.write(number, earlier[slot : slot + 1])


def put_back(folder: Path, medium: Medium, spec: ImageSpec, slots: Sequence[int]) -> None:
    """Write the pixels that `copy_aside` has copied into other slots, in the same order."""
    if medium.slot_file is None or not slots:
        return
    pixels, file = _moved_file(folder, spec, len(slots)).map(), medium.slot_file(folder / medium.draft_file)
    for number, slot in enumerate(slots):
        file.write(slot, pixels[number : number + 1])


def _moved_file(folder: Path, spec: ImageSpec, count: int) -> SlotFile:
    reserve_file(folder / MOVED, count * spec.slot_bytes)
    return SlotFile(str(folder / MOVED), 0, (count, *spec.slot_shape))
