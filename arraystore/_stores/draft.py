"""What every medium has in common when a store is built: the key of a build, and the protocol of a draft to fill."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._format.ledger import ledger_dtype
from arraystore._format.publication import Publication
from arraystore._format.slot_file import PAGE_BYTES, SlotFile
from arraystore._stores.opened import Opened
from arraystore.spec import ImageSpec

__all__ = ["BuildKey", "Draft", "Filled", "needed_bytes"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BuildKey:
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
        """Return the members of key.json."""
        return {
            "count": self.count,
            "spec": self.spec.to_dict(),
            "manifest_digest": self.manifest_digest,
            "targets": list(self.targets),
            "decoders": self.decoders,
        }

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return in what the members of another key.json differ from this key, a phrase each."""
        mine = self.to_json()
        del mine["decoders"]
        return [f"{key} was {other.get(key)!r}, is now {mine[key]!r}" for key in mine if other.get(key) != mine[key]]


def needed_bytes(count: int, spec: ImageSpec) -> int:
    """Return the bytes on disk that pixels, status, checksums and the build's ledger take."""
    return 3 * PAGE_BYTES + count * (spec.slot_bytes + 9 + ledger_dtype(spec.channels).itemsize)


class Draft(Protocol):
    """A store under construction: preallocated slots and the ledger of what is in them.

    Attributes:
        slots: uint8, (N, *slot_shape), writable: workers of this process fill these, where `file` is None or reserved.
        ledger: a row a slot (`arraystore._format.ledger.ledger_dtype`), as claimed so far; read-only.
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

    def publish(self, publication: Publication) -> Opened:
        """Make everything durable, give the store its name by one rename, and open it."""

    def close(self) -> None:
        """Let go, keeping what is done for a later call with the same key. Without effect after `publish`."""


@dataclass(slots=True)
class Filled:
    """How a run, or a part of one, went.

    Attributes:
        start: its first slot.
        rows: one ledger row a slot (`arraystore._format.ledger.ledger_dtype`).
        reasons: slot → why it failed.
        pixels: the slots themselves where the worker could not write them in place.
    """

    start: int
    rows: npt.NDArray[np.void]
    reasons: dict[int, str] = field(default_factory=dict)
    pixels: Pixels | None = None
