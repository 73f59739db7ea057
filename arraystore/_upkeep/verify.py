"""Prove that a store is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from arraystore._common.progress import Progress
from arraystore._common.public import public
from arraystore._format.verification import Verification, verify_contents
from arraystore._reading.store import Store
from arraystore._stores.opening import contents_of

__all__ = ["verify"]


@public
def verify(
    store: Store | str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: bool | Callable[[Progress], None] = True,
) -> Verification:
    """Read every byte of a store and say whether it is whole; nothing is written.

    Args:
        store: a store, or the path of one. Of a store on disk the disk is read, not what was read when it was opened.
        workers: how many threads read and hash; by default one a core, and at least 4, of which some wait for the disk.
        progress: True draws a bar, False is silent, a function is called with a `Progress` that counts bytes.

    Returns:
        All that was found. A store that cannot even be opened has faults, and is no error.

    Raises:
        SpecError: workers is less than 1.
    """
    if isinstance(store, Store):
        return store.verify(workers=workers, progress=progress)
    contents = partial(contents_of, Path(store).absolute())
    return verify_contents(contents, workers=workers, progress=progress)
