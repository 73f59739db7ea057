"""Check that a store is whole."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from arraystore._common.progress import Progress
from arraystore._common.public import public
from arraystore._format.verification import Verification, verify_contents
from arraystore._reading.store import Store
from arraystore._stores.opening import contents_of


@public
def verify(
    store: Store | str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: bool | Callable[[Progress], None] = True,
) -> Verification:
    """Read and check every byte of a store. Nothing is written.

    Args:
        store: a store, or its path. A store on disk is read from the disk again.
        workers: how many threads read and check; by default one per processor, at least 4.
        progress: True draws a bar, False is silent, a function is called with a `Progress` that counts bytes.

    Returns:
        All damage. For a store that cannot be opened this is a fault, not an exception.

    Raises:
        SpecError: workers is less than 1.
    """
    if isinstance(store, Store):
        return store.verify(workers=workers, progress=progress)
    contents = partial(contents_of, Path(store).absolute())
    return verify_contents(contents, workers=workers, progress=progress)
