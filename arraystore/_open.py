"""`arraystore.open`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from arraystore._common.options import public
from arraystore._reading.foreign_arrays import is_npy
from arraystore._reading.store import Store
from arraystore._stores.media import store_at, store_path
from arraystore._stores.opening import open_store
from arraystore.errors import FormatError


@public
def open(path: str | os.PathLike[str], *, partial: bool = False) -> Store:
    """Open a store; pixels are mapped, not read.

        >>> store = arraystore.open("train.store")  # doctest: +SKIP

    If a store is replaced or updated, open stores keep their old pixels: open it again to see the new ones.

    Args:
        path: a store folder or an HDF5 file made by `arraystore.build`. `arraystore.open_array` opens the arrays of
            other programs.
        partial: True opens the store that is being built for this path, if there is one, as it is now: slots that are
            not finished have status 0, and their pixels may be anything. It has no targets and no samples yet.

    Returns:
        The store. Its arrays are read-only mappings that stay valid for as long as they are referenced.

    Raises:
        FormatError: there is no store at the path, or it is damaged, truncated, or newer than this arraystore.
        OSError: it cannot be read.
    """
    file_path = store_path(path)
    if is_npy(file_path):
        raise FormatError(
            f"{file_path} is an array, not a store: open it with arraystore.open_array", source=str(file_path)
        )
    return Store(open_store(file_path, unfinished=partial))


@contextmanager
def opened_source(source: Any) -> Iterator[Any]:
    """Yield the source of a build; the path of a store becomes that store, open until the build has ended.

    Raises:
        FormatError: the store is damaged, or the HDF5 file is none of arraystore.
        OSError: it cannot be read.
    """
    path = store_at(source)
    if path is None:
        yield source
        return
    with Store(open_store(path)) as store:
        yield store
