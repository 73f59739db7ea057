"""A store that is still under construction, opened to look at what is there so far."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arraystore.errors import FormatError, SpecError, StoreError
from arraystore.format import EMPTY, Description, SlotFile, npy_slots, read_json
from arraystore.spec import ImageSpec
from arraystore.stores.base import Publication, Store
from arraystore.stores.ledger import read_ledger, sealed
from arraystore.stores.partial import LEDGER, PLAN

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["open_unfinished"]


def open_unfinished(folder: Path) -> Store:
    """Open the partial folder of a build, running or interrupted; nothing is written, and no build is disturbed.

    Only slots that are claimed at this moment have a status; the pixels of the others (status 0) may be anything.

    Raises:
        FormatError: the folder is damaged, or the build has not begun, or its target has its name by now.
    """
    try:
        plan = read_json(folder / PLAN)
        count, spec = int(plan["count"]), ImageSpec.from_dict(plan["spec"])
        hdf5 = (folder / "images.h5").exists()
        slots = _hdf5_slots(folder) if hdf5 else npy_slots(folder / "images.npy")
        ledger = read_ledger(folder / LEDGER, count, spec.channels)
        images = slots.map()
    except (OSError, KeyError, TypeError, ValueError, SpecError) as error:
        raise FormatError(f"{folder} is no unfinished build that can be read: {error}", source=str(folder)) from error
    if slots.shape != (count, *spec.slot_shape):
        # Rows are being dropped, or the header is damaged: either way plan and pixels do not speak of the same slots.
        raise FormatError(f"{folder}: the pixels are of {slots.shape}, its plan says otherwise", source=str(folder))
    claimed = sealed(ledger)
    publication = Publication(
        description=Description(count=count, shape=spec.slot_shape, spec=spec),
        status=np.where(claimed, ledger["status"], EMPTY).astype(np.uint8),
        checksums=np.where(claimed, ledger["checksum"], 0).astype(np.uint64),
        targets={},
        samples=None,
    )
    return Store(
        medium="hdf5" if hdf5 else "npy",
        path=folder,
        images=images,
        publication=publication,
        load_table=_no_table,
    )


def _hdf5_slots(folder: Path) -> SlotFile:
    from arraystore.stores.hdf5 import slots_of  # noqa: PLC0415 - h5py takes a tenth of a second

    return slots_of(folder / "images.h5")


def _no_table(name: str) -> pa.Table:
    raise StoreError(f"a store under construction has no {name} yet: they are written when every slot is settled")
