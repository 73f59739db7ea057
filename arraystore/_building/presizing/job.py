"""The work of one worker: each source of a run is read, decoded once, and written in every size.

The files get temporary names. The process that has the ledger gives them their own, when they are durable.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arraystore._building.bad import failure_of
from arraystore._building.fill import Job, timed_parts
from arraystore._building.masks import told_of_mask
from arraystore._building.presizing.recipe import Recipe
from arraystore._building.workers.reading import file_name_of, read_source
from arraystore._common.lazy import lazy
from arraystore._decoding.hooks import decode_by
from arraystore._decoding.notes import noticed
from arraystore._format.specification import FAILED, STORED
from arraystore._sources.targets.mask_sources import masks_stamp
from arraystore._stores.medium import FilledRun, Pixels

if TYPE_CHECKING:
    from arraystore._building.presizing import making
else:  # it needs the decoders
    making = lazy("arraystore._building.presizing.making")


def rows_dtype(sizes: int, files: int) -> np.dtype[Any]:
    """Return the type of a run's rows: what is known of each source, and of the files that were made of it.

    ``files`` are those of one size, the image first and then its masks; ``form`` is one of `recipe`.
    """
    file = np.dtype([("form", "u1"), ("bytes", "<u8")])
    source = [("status", "u1"), ("bytes", "<u8"), ("mtime", "<i8"), ("masks", "<u8"), ("height", "<u4")]
    return np.dtype([*source, ("width", "<u4"), ("files", file, (sizes, files))])


@dataclass(frozen=True, slots=True, kw_only=True)
class PresizeJob(Job):
    """A run of sources to be made smaller. Its slots are rows of the manifest, and it fills no arrays.

    Attributes:
        recipe: how they become smaller.
        folders: of the temporary files of each size.
        files: how many files each size has of a source.
    """

    recipe: Recipe
    folders: tuple[str, ...]
    files: int = 1

    def empty_run(self) -> FilledRun:
        """Return the result before anything is done."""
        return FilledRun(self.start, np.zeros(len(self.sources), rows_dtype(len(self.folders), self.files)))

    def parts(self, every_s: float) -> Iterator[FilledRun]:
        """See `arraystore._building.fill.fill_parts`."""
        return timed_parts(self.empty_run(), self._settle, every_s)

    def fill(self, slots: Pixels, stop: threading.Event) -> FilledRun:
        """See `arraystore._building.fill.fill_slots`; there are no slots."""
        filled = self.empty_run()
        for i in range(len(self.sources)):
            if stop.is_set():
                break
            self._settle(i, filled.rows[i], filled)
        return filled

    def failed(self, reason: str) -> FilledRun:
        """See `arraystore._building.fill.fail_slot`."""
        filled = self.empty_run()
        filled.rows["status"] = FAILED
        filled.reasons[self.start] = reason
        return filled

    def _settle(self, i: int, row: np.void, filled: FilledRun) -> None:
        """Make the files of a source; whatever goes wrong with it is its reason, but what the target's volume says."""
        slot = self.start + i
        made: Sequence[Sequence[making.Made]] = ()
        try:
            made = self._made(i, row)
        except Exception as error:  # no image ends the work
            reason = failure_of(error, slot, self.most_memory_bytes, filled)
            if reason is None:
                row["bytes"] = row["mtime"] = 0
                return  # later, alone
            filled.reasons[slot] = reason
        note = noticed()
        if not made:
            row["status"] = FAILED
            return
        if note is not None:
            filled.notes[slot] = note
        for size, folder in enumerate(self.folders):
            for number, (form, data) in enumerate(made[size]):
                write_file(temporary_name(folder, slot, number), data)
                row["files"][size][number] = form, len(data)
        row["status"] = STORED

    def _made(self, i: int, row: np.void) -> Sequence[Sequence[making.Made]]:
        """Return the files of a source for each size, and write what its row says of the source."""
        source = self.sources[i]
        masks = () if self.masks is None else self.masks.sources[self.start + i]
        row["masks"] = masks_stamp(masks)  # before they are read: what changes meanwhile is made again
        data, row["bytes"], row["mtime"] = read_source(source, self.spec.max_pixels)
        pixels = decode_by(self.decoders, file_name_of(source), data) if self.decoders else None
        noticed()  # forgets what was noticed in an image that failed
        image = making.picture_of(data, pixels, self.recipe, self.memory_bytes)
        row["height"], row["width"] = image.height, image.width
        made = [[file] for file in making.files_of(image, self.recipe)]
        for path in map(str, masks):  # the names of files, see `manifest_of`
            with told_of_mask(path):
                data, _, _ = read_source(path, self.spec.max_pixels)
                masks_made = making.masks_of(data, image, self.recipe, self.memory_bytes)
            for files, file in zip(made, masks_made, strict=True):
                files.append(file)
        return made


def temporary_name(folder: str, slot: int, number: int) -> str:
    """Return the path of a file that has no name yet: the image of a slot (0), or one of its masks."""
    return f"{folder}/{slot}.{number}"


def write_file(path: str, data: bytes | bytearray | memoryview) -> None:
    """Write a whole file, which is not yet durable.

    Raises:
        OSError: the volume failed or is full.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)
