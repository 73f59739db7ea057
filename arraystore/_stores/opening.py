"""TODO."""

from __future__ import annotations
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
import numpy as np
import numpy.typing as npt
from arraystore._stores.hdf5_file import dataset_blocks
from arraystore._common.digests import file_blocks
from arraystore.errors import FormatError
from arraystore._format.slot_file import PAGE_BYTES, PIXELS_OFFSET, SlotFile, npy_form, npy_header, npy_slots
from arraystore._format.samples import read_parquet
from arraystore._stores import Store
from arraystore._stores.hdf5_file import check_heaps
if TYPE_CHECKING:
    import h5py
    import pyarrow as pa
import os
from pathlib import Path
from arraystore.errors import FormatError
from arraystore._format.slot_file import SlotFile, npy_slots
from arraystore._stores.draft import Draft, Plan
from arraystore._reading.store import Store
from pathlib import Path
from typing import TYPE_CHECKING
import numpy as np
from arraystore.errors import FormatError, SpecError, StoreError
from arraystore._format.specification import EMPTY, Description
from arraystore._format.slot_file import SlotFile, npy_slots
from arraystore._format.files import read_json
from arraystore.spec import ImageSpec
from arraystore._format.publication import Publication
from arraystore._reading.store import Store
from arraystore._format.ledger import read_ledger, sealed
from arraystore._stores.partial import LEDGER, PLAN
from arraystore._format.parts import Parts
from arraystore._stores.npy import _FolderParts
from arraystore._stores.hdf5_file import _Hdf5Parts
from arraystore._stores.ram import _MemoryParts
if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["draft_for", "finished", "medium_of", "no_store", "open_store", "open_unfinished", "parts_of", "slots_of"]

_TRIES = 100
_HDF5_SUFFIXES = frozenset((".h5", ".hdf5", ".hdf"))



def parts_of(store: Store | Path) -> Parts:
    """Return the parts of a store: of one in memory, or of the folder or file at a path.

    Raises:
        FormatError: there is nothing at the path, or the store in memory was closed.
    """
    if isinstance(store, Store):
        return _MemoryParts(store)
    if store.is_dir():
        return _FolderParts(store)
    if store.is_file():
        return _Hdf5Parts(store)
    raise no_store(store)


def medium_of(target: str | os.PathLike[str] | None) -> str:
    """Return the medium that a target asks for: ``"ram"`` (None), ``"hdf5"`` (by suffix) or ``"npy"``."""
    if target is None:
        return "ram"
    return "hdf5" if Path(target).suffix.lower() in _HDF5_SUFFIXES else "npy"


def draft_for(
    target: str | os.PathLike[str] | None, plan: Plan, *, overwrite: bool = False, fresh: bool = False
) -> Draft:
    """Reserve everything that a build needs, or take up what an earlier call left.

    Args:
        target: where the store will be; None for RAM.
        plan: what will be built.
        overwrite: True replaces a store that has the target's name, once the new one is finished.
        fresh: True discards what an unfinished build left.

    Raises:
        StoreExistsError: the target has its name already.
        StoreError: another build into this target is running, or an unfinished one was of something else.
        SpaceError: there is not enough memory, or the volume is too small.
        OSError: the target cannot be written.
    """
    if target is None:
        from arraystore._stores.ram import MemoryDraft  # noqa: PLC0415 - each medium loads only what it needs

        return MemoryDraft(plan)
    path = Path(target).absolute()  # what is relative must not move with the working folder
    if medium_of(target) == "hdf5":
        from arraystore._stores.hdf5 import Hdf5Draft  # noqa: PLC0415 - h5py takes a tenth of a second

        return Hdf5Draft(path, plan, overwrite=overwrite, fresh=fresh)
    from arraystore._stores.npy import NpyDraft  # noqa: PLC0415

    return NpyDraft(path, plan, overwrite=overwrite, fresh=fresh)


def finished(target: str | os.PathLike[str] | None, plan: Plan) -> Store | None:
    """Return the store that a killed call with this plan had published but not tidied up, or None.

    Raises:
        StoreError: that call is still running.
        OSError: what it left cannot be removed.
    """
    if target is None or not os.path.lexists(target):
        return None
    from arraystore._stores.partial import finish_published  # noqa: PLC0415 - see draft_for

    path = Path(target).absolute()
    return open_store(path) if finish_published(path, plan) else None


def slots_of(path: Path) -> SlotFile:
    """Return where the slots of a published store lie.

    Raises:
        FormatError: they cannot be mapped, or there are none.
    """
    if path.is_dir():
        return npy_slots(path / "images.npy")
    from arraystore._stores.hdf5_file import slots_of as hdf5_slots  # noqa: PLC0415 - see draft_for

    return hdf5_slots(path)


def open_store(path: str | os.PathLike[str], *, partial: bool = False) -> Store:
    """Open a published store; nothing is read but its description, and the pixels are mapped.

    A store that is replaced or updated keeps its old pixels for those who hold it: open it again for the new ones.

    Args:
        path: a store folder or an HDF5 file made by `arraystore.build`.
        partial: True opens the store that is being built for this path, if there is one, as it is now: slots that are
            not settled have status 0, and their pixels may be anything. It has no targets and no samples yet.

    Returns:
        The store; its arrays are read-only mappings that stay valid as long as they are referenced.

    Raises:
        FormatError: there is no store at the path, or it is damaged, cut short, or newer than this arraystore.
        OSError: it cannot be read.
    """
    place = Path(path).absolute()
    unfinished = place.with_name(place.name + ".partial")
    if partial and unfinished.is_dir():

        return open_unfinished(unfinished)
    for _ in range(_TRIES):
        before = _identity(place)
        try:
            store = _open_published(place)
        except (FormatError, OSError):
            if _identity(place) == before:
                raise
            continue
        # It is read by its name, many times: of a store that replaced it meanwhile, no part may be among it.
        if _identity(place) == before:
            return store
        store.close()
    raise FormatError(f"{place} is replaced again and again: open it when that has ended", source=str(place))


def _open_published(place: Path) -> Store:
    if place.is_dir():
        from arraystore._stores.npy import open_npy  # noqa: PLC0415 - see draft_for

        return open_npy(place)
    if place.is_file():
        from arraystore._stores.hdf5 import open_hdf5  # noqa: PLC0415 - see draft_for

        return open_hdf5(place)
    raise no_store(place)


def no_store(place: Path) -> FormatError:
    """Return the error that says that nothing is there, or only an unfinished build."""
    partial = place.with_name(place.name + ".partial")
    hint = f"; {partial} is an unfinished build, call build again to finish it" if partial.is_dir() else ""
    return FormatError(f"there is no store at {place}{hint}", source=str(place))


def _identity(place: Path) -> tuple[int, int]:
    """Which folder or file has the name now; zeros for none."""
    try:
        info = place.stat()
    except OSError:
        return 0, 0
    return info.st_dev, info.st_ino


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
    from arraystore._stores.hdf5_file import slots_of  # noqa: PLC0415 - h5py takes a tenth of a second

    return slots_of(folder / "images.h5")


def _no_table(name: str) -> pa.Table:
    raise StoreError(f"a store under construction has no {name} yet: they are written when every slot is settled")
