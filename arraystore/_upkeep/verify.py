"""Prove that a store is whole: every byte of it, at the speed of memory, without changing one.

The pixels have a checksum a slot; all else has the digests in store.json, which has one of itself. What they cannot
prove, that the parts fit each other, is checked beside them. All that is wrong is found, not only the first.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._format.parts import COLUMNS, Parts, Slots
from arraystore._stores.opening import parts_of
from arraystore._format.checksums import checksum_of_zeros, wrong_slots
from arraystore._common.digests import digest_of
from arraystore._format.specification import seal_of
from arraystore.errors import BadImage, FormatError, SpecError
from arraystore._format.specification import FAILED, STORED, Description
from arraystore._common.limits import usable_cpus
from arraystore._common.progress import Progress, reporting
from arraystore._format.samples import manifest_of
from arraystore._stores import Store
from arraystore._format.verification import Verification
from arraystore._format.verification import _Check

__all__ = ["verify"]

# Threads that wait for a disk take no core.
_LEAST_WORKERS = 4


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
    if workers is not None and workers < 1:
        raise SpecError(f"workers must be at least 1, not {workers!r}")
    place = store.path or store if isinstance(store, Store) else Path(store).absolute()
    with reporting(progress) as report:
        check = _Check(report)
        with check.finding():
            check.run(parts_of(place), workers or max(_LEAST_WORKERS, usable_cpus()))
        return check.verification()


