"""Where a store that is being filled lies, with what a process needs to read it there and to decode what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arraystore._building.filling.jobs import Jobs
from arraystore._common.limits import memory_for_images, usable_cpus
from arraystore._format.description import Description
from arraystore._sources.manifest import Manifest
from arraystore._stores.unfinished.build_key import BuildKey


@dataclass(frozen=True, slots=True)
class Place:
    """A store that is being filled, or was finished since; it can be pickled.

    Attributes:
        target: where it is, or will be.
        key: of its build.
        manifest: its rows.
        decoders: of the caller; see `arraystore.build`.
        max_memory: likewise.
        bad: ``"raise"`` or ``"keep"``.
    """

    target: Path | None
    key: BuildKey
    manifest: Manifest
    decoders: Mapping[Any, Any] | None
    max_memory: int | str | None
    bad: str

    def jobs(self) -> Jobs:
        """Return what makes the jobs of its slots."""
        most = memory_for_images(self.max_memory)
        return Jobs(self.manifest, self.key.spec, self.decoders, most / usable_cpus(), most)

    def is_finished_as(self, description: Description) -> bool:
        """Return whether a finished store is this one, by what it says of itself."""
        files = self.manifest.as_files(self.key.spec)
        digest = (files or self.manifest).digest
        same = (description.count, description.spec, description.manifest_digest)
        return same == (self.key.count, self.key.spec, digest)
