"""Check that a store is whole."""

import os
from collections.abc import Callable

from arraystore._common.options import public
from arraystore._common.progress import Progress
from arraystore._format.checking.result import Verification
from arraystore._reading.store import Store
from arraystore._stores.opening import verify_store


@public
def verify(
    store: Store | str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: bool | Callable[[Progress], None] = True,
) -> Verification:
    """Read and check all contents of a store: pixels, status, targets and tables. No content is changed.

    In an HDF5 file, attributes and the gaps between datasets are not checked, because no reader of stores uses them.

    Args:
        store: a store, or its path. A store on disk is read from the disk again.
        workers: how many threads read and check; by default one per processor, at least 4.
        progress: True draws a bar, False is silent, a function is called with a `Progress` that counts bytes.

    Returns:
        All damage. For a store that cannot be opened this is a fault, not an exception.

    Raises:
        SpecError: workers is less than 1.
        FormatError: the store is replaced again and again, or the path is a URL.
        OSError: the system does not let this process read the store, which says nothing about the store: no permission,
            too many open files, or too little memory.
    """
    if isinstance(store, Store):
        return store.verify(workers=workers, progress=progress)
    return verify_store(store, workers=workers, progress=progress)
