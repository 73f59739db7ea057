"""The contract of all media: what a medium offers, the data that it returns for an open store, and drafts to fill.

To add a medium, write one module that makes a `Medium`, and name it in the table of `arraystore._stores.media`.
`arraystore.testing` has the tests that it must pass. A medium whose slots lie in one local file needs no more for its
drafts than a small subclass of `arraystore._stores.unfinished.disk_draft.DiskDraft`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from arraystore._format.contents import Contents
from arraystore._format.description import Description
from arraystore._format.ledger import ledger_dtype
from arraystore._format.publication import Publication
from arraystore._format.slot_file import PAGE_BYTES, SlotFile
from arraystore._stores.encoded.log import LogImages
from arraystore._stores.slot_array import SlotArray
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import pyarrow as pa

Pixels = npt.NDArray[np.uint8]

_MOST_COMPRESSION = 64  # of photos


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """One medium on disk: its names and sizes, and the four functions that everything else is done with."""

    name: str
    label: str  # in tables
    pixels: str  # the name of the file of the slots, in ``TARGET.partial/`` and in a store that is a folder
    log: str = ""  # the name in ``TARGET.partial/`` of a file that drafts append to, which is not yet that of the slots
    is_folder: bool  # otherwise a store is the file of its slots
    signature: bytes = b""  # the first bytes of a store that is a file
    suffixes: frozenset[str] = frozenset()  # of the targets that ask for this medium, in lower case
    names: tuple[str, ...] = ()  # of the other files in ``TARGET.partial/``, except the `.npy` file of each target
    head_bytes: int = 0  # before the slots in their file
    text_bytes: int = 0  # of a text in a table, besides its letters
    open: Callable[[Medium, Path], Opened]  # raises FormatError if there is no store, or if it is damaged
    # As `open`, but does not look at the file of the slots, which may be damaged; the array has no slots. None if
    # everything else lies in that file too.
    open_rest: Callable[[Medium, Path], Opened] | None = None
    contents: Callable[[Path], Contents]
    # Raises FormatError if the slots cannot be mapped. None if the file has no slots of one size.
    slot_file: Callable[[Path], SlotFile] | None = None
    draft: Callable[..., Draft]  # of (folder, key): begins a build in a `PartialFolder`, or takes one up

    @property
    def draft_file(self) -> str:
        """The name of the file in ``TARGET.partial/`` that has the slots before they are published."""
        return self.log or self.pixels

    def pixel_file(self, path: Path) -> Path:
        """Return the file that holds the slots of the published store at a path."""
        return path / self.pixels if self.is_folder else path


@dataclass(frozen=True, slots=True)
class Opened:
    """A store as its medium opened it: plain data. `Store` is the face that users get.

    It pickles: mapped arrays are mapped again in the other process. In memory it has the medium ``"ram"`` and no path.
    ``load_table`` reads the table ``"samples"`` or ``"dropped"``; it returns None if the store has no such table. It
    reads from the files that were opened, whatever has their names by then.
    """

    medium: str
    path: Path | None
    array: SlotArray
    description: Description
    load_table: Callable[[str], pa.Table | None]

    @property
    def identity(self) -> str:
        """See `SlotArray`."""
        return self.array.identity


def needed_bytes(count: int, spec: ImageSpec, mask_bytes: int = 0) -> int:
    """Return the bytes on disk that slots, masks, status, checksums and the build's ledger take.

    How long JPEGs get is not known before; they take more than this.
    """
    row_bytes = ledger_dtype(spec, masked=mask_bytes > 0).itemsize
    return 3 * PAGE_BYTES + count * (least_slot_bytes(spec) + mask_bytes + 9 + row_bytes)


def least_slot_bytes(spec: ImageSpec) -> int:
    """Return the bytes that a slot takes at least, which are known before it is encoded."""
    return spec.slot_bytes if spec.encode is None else spec.slot_bytes // _MOST_COMPRESSION


class Draft(Protocol):
    """A store under construction: preallocated slots, and the ledger that says which of them are filled."""

    slots: Pixels  # writable; threads of this process fill them if `file` is None or reserved
    appends: bool  # slots are written in the order of `put`, best in that of the slots
    on_disk: bool  # so that a later call goes on with its work
    settled: npt.NDArray[np.bool_]  # the slots that an earlier call has claimed
    reasons: dict[int, str]  # slot → why its source could not be stored
    notes: dict[int, str]  # slot → what its decoder noticed, though it is stored
    same_decoders: bool  # as those of the earlier call

    @property
    def ledger(self) -> npt.NDArray[np.void]:
        """One row a slot (`arraystore._format.ledger.ledger_dtype`), as claimed so far; read-only."""

    @property
    def file(self) -> SlotFile | None:
        """The file in which other processes map the slots; None where they send pixels or JPEGs back."""

    def log_images(self) -> LogImages | None:
        """Return what reads the JPEGs that `put` has taken while others are appended; None where slots are pixels."""

    def writing(self) -> AbstractContextManager[None]:
        """Return a context for writing slots. It turns the error of a full volume into a SpaceError with advice."""

    def put(self, run: FilledRun) -> None:
        """Write what the worker of a run could not write in place: pixels, JPEGs and masks.

        Where slots are encoded, the rows of the run then say where their JPEGs lie.
        """

    def move(self, slot: int, to: int) -> None:
        """Copy the pixels and masks of a slot into another one."""

    def claim(self, runs: list[FilledRun]) -> None:
        """Make the pixels of finished runs durable, and then the ledger rows that claim them."""

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        """Durably end the claims on these slots, because they will be written again."""

    def shrink(self, count: int) -> None:
        """Remove all slots from ``count`` on, none of which may be claimed; the pixels before them stay as they are."""

    def finish(self, publication: Publication) -> None:
        """Write what a store has beside its slots, and make everything durable."""

    def give_name(self) -> Opened:
        """Give the finished store its name by one rename, and open it."""


@dataclass(slots=True)
class FilledRun:
    """The result of filling a run, or a part of one: a ledger row for each slot from ``start`` on.

    It has the pixels only if the worker could not write them in place. A slot of status 0 was left empty: its image
    needs more memory than the job allows, or the build is ending.
    """

    start: int
    rows: npt.NDArray[np.void]
    reasons: dict[int, str] = field(default_factory=dict)  # slot → why its source could not be stored
    notes: dict[int, str] = field(default_factory=dict)  # slot → what its decoder noticed, though it is stored
    traces: list[str] = field(default_factory=list)  # of errors that are faults of this package, for the log
    pixels: Pixels | None = None
    # Where slots are encoded: of each slot its JPEG, and its masks after it where slots differ in shape.
    encoded: list[bytes] = field(default_factory=list)
    masks: tuple[npt.NDArray[Any], ...] = ()  # of each target of masks, one a slot, where slots have one shape

    def until(self, count: int) -> Self:
        """Return the part of the first slots, which are filled."""
        masks = tuple(array[:count] for array in self.masks)
        return replace(self, rows=self.rows[:count], masks=masks, encoded=self.encoded[:count])

    def since(self, first: int) -> Self:
        """Return the part of the slots from the one ``first`` of the run on, none of which is filled yet."""
        masks = tuple(array[first:] for array in self.masks)
        rest = replace(self, start=self.start + first, rows=self.rows[first:], masks=masks)
        return replace(rest, encoded=self.encoded[first:], reasons={}, notes={}, traces=[])
