"""The key of a build: what its store will be. Two calls with equal keys continue each other's work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.wording import many
from arraystore._format.ledger import claimed_rows, mask_pixels, name_hash
from arraystore._format.slot_file import PIXELS_OFFSET, SlotFile
from arraystore._sources.manifest import Manifest
from arraystore._stores.medium import Medium, needed_bytes
from arraystore.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class BuildKey:
    """The store that a build makes.

    Attributes:
        count: how many slots it has.
        spec: how images become slots.
        manifest_digest: see `Manifest`.
        targets: the names of the targets that are arrays.
        decoders: their versions. They are not compared, but images that failed with other versions are tried again.
        root: see `Manifest`. It is not compared, because a folder may move.
        parts: for messages: a part of the manifest, in words → its digest. Empty in old plans.
        masks: the targets that are masks, and their types as NumPy writes them.
    """

    count: int
    spec: ImageSpec
    manifest_digest: str
    targets: tuple[str, ...] = ()
    decoders: str = ""
    root: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    masks: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the members of plan.json."""
        parts = {"spec": self.spec.to_dict(), "targets": list(self.targets), "parts": dict(self.parts)}
        members = asdict(self) | parts | {"masks": dict(self.masks)}
        return {name: value for name, value in members.items() if value or name != "masks"}

    @property
    def mask_bytes(self) -> int:
        """The bytes of all masks of a slot."""
        return sum(file.slot_bytes for file in self.mask_files(Path()))

    def needed_bytes(self, medium: Medium) -> int:
        """Return the bytes on disk that a build takes: see `needed_bytes`."""
        # A store that is one file gets a copy of the masks, which a folder keeps as they are.
        copies = 1 if medium.is_folder else 2
        return needed_bytes(self.count, self.spec, copies * self.mask_bytes)

    def mask_files(self, folder: Path) -> list[SlotFile]:
        """Return where the masks of each target lie in the folder of a build; the bytes of a slot are one axis.

        There are no such files where slots differ in height and width: the masks then follow the JPEG of their slot.
        """
        if not self.spec.one_shape:
            return []
        pixels = self.spec.height * self.spec.width
        return [
            SlotFile(str(folder / f"{name}.npy"), PIXELS_OFFSET, (self.count, pixels * np.dtype(kind).itemsize))
            for name, kind in self.masks
        ]

    def logged_mask_bytes(self, rows: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
        """Return how many bytes of masks follow the JPEG of each slot in a log: (N,)."""
        return mask_pixels(rows, self.spec) * sum(np.dtype(kind).itemsize for _, kind in self.masks)

    def fits(self, plan: Mapping[str, Any]) -> bool:
        """Return whether a plan.json is that of a build with this key."""
        mine = self.to_json()
        return all(
            plan.get(name) == mine.get(name) for name in ("count", "spec", "manifest_digest", "targets", "masks")
        )

    def differences(
        self, plan: Mapping[str, Any], manifest: Manifest | None = None, rows: npt.NDArray[np.void] | None = None
    ) -> list[str]:
        """Return how the build of a plan.json differs from this one, a phrase for each difference.

        Args:
            plan: of the other build.
            manifest: of this build.
            rows: of the ledger of the other build, which tell what its slots were filled from.
        """
        return [*self._count(plan), *self._parts(plan, manifest, rows), *self._options(plan)]

    def _count(self, plan: Mapping[str, Any]) -> Iterator[str]:
        was = plan.get("count")
        if was != self.count:
            before = many(was, "source") if isinstance(was, int) else repr(was)
            yield f"it had {before}, now there are {self.count:,}"

    def _parts(
        self, plan: Mapping[str, Any], manifest: Manifest | None, rows: npt.NDArray[np.void] | None
    ) -> Iterator[str]:
        if plan.get("manifest_digest") == self.manifest_digest:
            return
        was = plan.get("parts")
        if not (isinstance(was, dict) and was):
            yield "its sources, labels or targets were others"
            return
        if was.get("sources") != self.parts.get("sources"):
            root = plan.get("root")
            if manifest is not None and isinstance(root, str) and manifest.root not in (None, root):
                manifest = replace(manifest, root=root)  # the ledger has hashes of whole paths
            told = None if manifest is None or rows is None else sources_told(manifest, rows)
            yield told or "its sources were others"
        changed = [part for part in self.parts if part != "sources" and part in was and was[part] != self.parts[part]]
        for what, parts in (
            ("it had other values of", changed),
            ("it did not have", [part for part in self.parts if part not in was]),
            ("it had also", [part for part in was if part not in self.parts]),
        ):
            if parts:
                yield f"{what} {', '.join(parts)}"

    def _options(self, plan: Mapping[str, Any]) -> Iterator[str]:
        try:
            was = asdict(ImageSpec.from_dict(plan["spec"]))
        except (KeyError, TypeError, ValueError):  # a plan that is damaged
            yield "its options cannot be read"
            return
        for name, value in asdict(self.spec).items():
            if was[name] != value:
                yield f"{name} was {was[name]!r}, is now {value!r}"


@dataclass(frozen=True, slots=True)
class Salvage:
    """What a build can use of an unfinished build that had other rows.

    Attributes:
        names: returns the `name_hash` of each row's source: uint64, (N,).
        decoded: whether a row has to be decoded, unless its slot is taken from the unfinished build: bool, (N,).
    """

    names: Callable[[], npt.NDArray[np.uint64]]
    decoded: npt.NDArray[np.bool_]


def sources_told(manifest: Manifest, rows: npt.NDArray[np.void]) -> str | None:
    """Return in words how the sources of a manifest differ from those that the slots of a ledger were filled from.

    The ledger has only hashes of names, so a source that is not in the manifest has no name here. None is returned for
    sources of which the ledger has no hashes.
    """
    if manifest.is_paths:
        column, sources = (
            "name",
            (name_hash(str(manifest.load(row)), manifest.load_masks(row)) for row in range(len(manifest))),
        )
    elif isinstance(manifest.sources, tuple) and isinstance(manifest.sources[0], bytes):
        column, sources = "hash", (xxhash.xxh3_64_intdigest(data) for data in manifest.sources)
    else:
        return None
    now = np.fromiter(sources, np.uint64, len(manifest))
    filled = np.flatnonzero(claimed_rows(rows))
    was = rows[column][filled]
    differ = np.ones(len(filled), bool)
    inside = filled < len(now)
    differ[inside] = was[inside] != now[filled[inside]]
    if not differ.any():
        return f"its sources were others, but not those of the {many(len(filled), 'slot')} that it has filled"
    first = int(np.argmax(differ))
    slot, found = int(filled[first]), np.flatnonzero(now == was[first])
    before = f"{manifest.name(int(found[0]))!r}, now the source of slot {found[0]}" if len(found) else "another source"
    after = f"is {manifest.name(slot)!r}" if slot < len(now) else "is not there any more"
    return (
        f"slot {slot} {after}, but was filled from {before} "
        f"({np.count_nonzero(differ):,} of {many(len(filled), 'filled slot')} had another source)"
    )
