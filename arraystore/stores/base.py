"""What every medium has in common: a store to read, and the protocol of a draft to fill."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from arraystore.errors import BadImage
from arraystore.fill import Filled
from arraystore.format import FAILED, PAGE_BYTES, Description, SlotFile, ledger_dtype
from arraystore.part import Part
from arraystore.slots import Slots
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from arraystore.progress import Progress
    from arraystore.verify import Verification

__all__ = ["Draft", "Plan", "Publication", "Store", "needed_bytes"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build makes; two calls with equal plans go on with each other's work.

    Attributes:
        count: how many slots.
        spec: how images become slots.
        manifest_digest: of the manifest.
        targets: names of the targets, which become files.
        decoders: versions of what decodes. Not compared: but what failed with others is tried again.
    """

    count: int
    spec: ImageSpec
    manifest_digest: str
    targets: tuple[str, ...] = ()
    decoders: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the members of plan.json."""
        return {
            "count": self.count,
            "spec": self.spec.to_dict(),
            "manifest_digest": self.manifest_digest,
            "targets": list(self.targets),
            "decoders": self.decoders,
        }

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return in what the members of another plan.json differ from this plan, a phrase each."""
        mine = self.to_json()
        del mine["decoders"]
        return [f"{key} was {other.get(key)!r}, is now {mine[key]!r}" for key in mine if other.get(key) != mine[key]]


def needed_bytes(count: int, spec: ImageSpec) -> int:
    """Return the bytes on disk that pixels, status, checksums and the build's ledger take."""
    return 3 * PAGE_BYTES + count * (spec.slot_bytes + 9 + ledger_dtype(spec.channels).itemsize)


@dataclass(frozen=True, slots=True)
class Publication:
    """Everything but the pixels that a finished store holds.

    Attributes:
        description: store.json.
        status: uint8, (N,).
        checksums: uint64, (N,).
        targets: name → array, axis 0 = N.
        samples: the samples table.
        dropped: sources that were dropped and why, or None.
    """

    description: Description
    status: npt.NDArray[np.uint8]
    checksums: npt.NDArray[np.uint64]
    targets: Mapping[str, npt.NDArray[Any]]
    samples: pa.Table
    dropped: pa.Table | None = None


class Draft(Protocol):
    """A store under construction: preallocated slots and the ledger of what is in them.

    Attributes:
        slots: uint8, (N, *slot_shape), writable: workers of this process fill these, where `file` is None or reserved.
        ledger: a row a slot (`arraystore.format.ledger_dtype`), as claimed so far; read-only.
        settled: bool, (N,): the slots that an earlier call has claimed.
        reasons: slot → why it failed.
        same_decoders: whether that call had the same versions of what decodes.
    """

    slots: Pixels
    settled: npt.NDArray[np.bool_]
    reasons: dict[int, str]
    same_decoders: bool

    @property
    def ledger(self) -> npt.NDArray[np.void]:
        """A row a slot, as claimed so far; read-only."""

    @property
    def file(self) -> SlotFile | None:
        """Where a worker of another process maps the slots; None where it must send the pixels back."""

    def writing(self) -> AbstractContextManager[None]:
        """While slots are written: tell of a volume that filled up what it means for the build."""

    def write(self, start: int, pixels: Pixels) -> None:
        """Copy pixels into the slots from ``start`` on."""

    def claim(self, runs: list[Filled]) -> None:
        """Make the pixels of finished runs durable, and then the rows that claim them."""

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        """Claim these slots no more, durably: they will be written again."""

    def shrink(self, count: int) -> None:
        """Give up all slots from ``count`` on; the pixels before them stay as they are."""

    def publish(self, publication: Publication) -> Store:
        """Make everything durable, give the store its name by one rename, and open it."""

    def close(self) -> None:
        """Let go, keeping what is done for a later call with the same plan. Without effect after `publish`."""


class Store(Slots):
    """Preallocated slots with their status, manifest and targets, on one medium.

    Made by `arraystore.build` and `arraystore.open`, not directly. A context manager; leaving it closes the store.

    Attributes:
        medium: ``"ram"``, ``"npy"`` or ``"hdf5"``.
        path: the folder or file; None for RAM.
        spec: how images became slots.
        images: uint8, (N, C, H, W), or (N, H, W, C) where ``spec.layout`` is NHWC. A read-only np.memmap, or the RAM
            array. Owned by the store; views of it stay valid after the store is closed.
        status: uint8, (N,): 1 stored, 2 failed (the slot is zeros).
        checksums: uint64, (N,): xxh3_64 of each slot's bytes.
        targets: name → array, axis 0 = N.
        categories: name of a target → the names of its codes.
        mean: each channel's mean over all stored slots, 0 to 255.
        std: each channel's standard deviation over all stored slots.
        description: all that store.json says.
    """

    def __init__(
        self,
        *,
        medium: str,
        path: Path | None,
        images: Pixels,
        publication: Publication,
        load_table: Callable[[str], pa.Table | None],
    ) -> None:
        description = publication.description
        super().__init__(
            [Part(images, publication.status, publication.checksums, publication.targets)],
            layout=description.spec.layout,
            categories=description.classes,
            mean=description.mean,
            std=description.std,
        )
        self.medium = medium
        self.path = path
        self.description = description
        self.spec: ImageSpec = description.spec
        self.images: Pixels = images
        self.status = publication.status
        self.checksums = publication.checksums
        self.targets = publication.targets
        self._load_table = load_table
        self._samples: pa.Table | None = None

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return _receive, (self.medium, self.path, self.parts[0], self.description, self._load_table)

    @property
    def samples(self) -> pa.Table:
        """The samples as a pyarrow.Table (``.to_pandas()`` where pandas is installed), read when first asked for.

        Columns: source, label (where there are classes), height, width, bytes, mtime, reason, and the manifest's texts.
        """
        if self._samples is None:
            self._samples = self._load_table("samples")
        return self._samples

    def bad(self) -> list[BadImage]:
        """Return the slots whose source could not be stored, with the reasons."""
        slots = np.flatnonzero(np.asarray(self.status) == FAILED)
        if slots.size == 0:
            return []
        return _bad_images(self.samples.take(slots), slots.tolist())

    @property
    def dropped_samples(self) -> pa.Table | None:
        """The table of the sources whose rows were dropped: row, source, bytes, mtime and reason; None if none were."""
        return self._load_table("dropped")

    def dropped(self) -> list[BadImage]:
        """Return the sources whose rows were dropped, with the reasons; ``slot`` is the row that each had."""
        table = self.dropped_samples
        return [] if table is None else _bad_images(table, table["row"].to_pylist())

    def verify(self, *, workers: int | None = None, progress: bool | Callable[[Progress], None] = True) -> Verification:
        """Read every byte of the store and say whether it is whole; see `arraystore.verify`.

        Args:
            workers: how many threads read and hash; by default one a core, and at least 4.
            progress: True draws a bar, False is silent, a function is called with a `Progress` that counts bytes.

        Raises:
            SpecError: workers is less than 1.
        """
        from arraystore.verify import verify  # noqa: PLC0415 - only who verifies pays for it

        return verify(self, workers=workers, progress=progress)

    def close(self) -> None:
        """Let go of the arrays; the mappings end when nothing else references them."""
        self.images, self.targets = np.empty((0, *self.spec.slot_shape), np.uint8), {}
        self.status, self.checksums = np.empty(0, np.uint8), np.empty(0, np.uint64)
        self._parts, self.cache = (), None

    def __len__(self) -> int:
        return self.description.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        shape = " x ".join(map(str, (len(self), *self.spec.slot_shape)))
        place = "" if self.path is None else f" at {str(self.path)!r}"
        return f"<arraystore.Store {shape} uint8 {self.spec.layout}, {self.medium}{place}>"


def _receive(
    medium: str, path: Path | None, part: Part, description: Description, load_table: Callable[[str], pa.Table | None]
) -> Store:
    status, checksums = np.asarray(part.status), np.asarray(part.checksums)
    publication = Publication(description, status, checksums, part.targets, samples=None)
    return Store(medium=medium, path=path, images=part.images, publication=publication, load_table=load_table)


def _bad_images(table: pa.Table, slots: list[int]) -> list[BadImage]:
    rows = zip(slots, table["source"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return [BadImage(slot, os.fsdecode(source), reason) for slot, source, reason in rows]
