"""The sources of a store in another place than it records, and whether they are still what was stored."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arraystore._building.runs import mask_hashes
from arraystore._common.arrow import numbers_in
from arraystore._common.checks import expanded
from arraystore._common.wording import many
from arraystore._format.samples import hashes_of, mask_fields
from arraystore._reading.store import Store
from arraystore._sources.manifest import Manifest
from arraystore._sources.stamps import file_hashes, file_stamps
from arraystore._upkeep.reuse import manifest_in
from arraystore.errors import Kind, ManifestError, StoreError


def sources_of(store: Store, folder: str | os.PathLike[str] | None) -> Manifest:
    """Return the manifest of a store, with the sources in another folder if one is given.

    An image of another size than the stored one is then a bad image where the store has coordinates in its pixels.

    Raises:
        ManifestError: there is no such folder.
        StoreError: the sources or masks are not files, or their names are no paths below a folder.
    """
    manifest = manifest_in(store)
    if not store.description.masks_are_files:
        raise StoreError(
            f"the masks of {store.path} are no files, so none can be decoded again",
            source=str(store.path),
            kind=Kind.INVALID,
            advice="update or build the store with the masks that it was built with",
        )
    if manifest.source_pixels:
        sides = np.stack([numbers_in(store.samples[name]) for name in ("height", "width")], axis=1)
        manifest = manifest.changed(source_sides=sides.astype(np.int64))
    if folder is None:
        return manifest
    root = expanded(folder).absolute()
    if not root.is_dir():
        raise ManifestError(
            f"{root} is no folder",
            source=str(root),
            kind=Kind.MISSING,
            advice="pass the folder that the sources have moved to",
        )
    apart = next((name for name in manifest.sources if _is_absolute(name)), None)
    if apart is not None:
        raise StoreError(
            f"the sources of {store.path} cannot be looked for in another folder, because their names are whole paths, "
            f"such as {apart!r}",
            source=str(store.path),
            kind=Kind.INVALID,
            advice="update the store with a list of the new paths",
        )
    return replace(manifest, root=str(root))


def _is_absolute(name: object) -> bool:
    return isinstance(name, str) and (name.startswith("/") or "://" in name)


def is_elsewhere(root: str | None, other: str | None) -> bool:
    """Return whether two roots of sources are not the same folder; None is that of paths taken as given."""
    if root == other:
        return False
    try:
        return root is None or other is None or not Path(root).samefile(other)
    except OSError:
        return True


def other_contents(store: Store, manifest: Manifest, slots: npt.NDArray[np.int64]) -> dict[int, str]:
    """Return those of the slots whose file or masks have other contents than the stored ones, slot → how they differ.

    Files that cannot be read are left out: decoding them says why.
    """

    def path(slot: int) -> str:
        return str(manifest.load(slot))

    bytes_before, hashes = numbers_in(store.samples["bytes"])[slots], hashes_of(store.samples)[slots]
    sizes = file_stamps(path, slots)["bytes"]
    differ = (sizes != bytes_before) & (sizes != 0) & (bytes_before != 0)
    reasons = {
        int(slot): f"is another file than the stored one: it has {many(int(now), 'byte')}, the stored one had {was:,}"
        for slot, now, was in zip(slots[differ], sizes[differ], bytes_before[differ], strict=True)
    }
    alike = np.flatnonzero((sizes == bytes_before) & (hashes != 0))
    found = file_hashes(path, slots[alike])
    changed = slots[alike][(found != hashes[alike]) & (found != 0)]
    reasons |= dict.fromkeys(changed.tolist(), "is another file than the stored one, of the same size")
    if manifest.masks:
        known, found = mask_fields(store.samples)["mask_hash"][slots], mask_hashes(manifest, slots)
        others = slots[(known != found) & (known != 0) & (found != 0)].tolist()
        reasons = dict.fromkeys(others, "has another mask than the stored one") | reasons
    return reasons
