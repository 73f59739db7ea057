"""How far an unfinished store has come, in its folder ``TARGET.partial/``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from arraystore._common.wording import flat
from arraystore._format.specification import FAILED, STORED
from arraystore._stores.opening import open_store
from arraystore._stores.publishing import LOCK, PLAN
from arraystore._stores.unfinished.build_lock import is_locked

_SUFFIX = ".partial"


def is_unfinished(path: Path) -> bool:
    """Return whether a path is the folder of an unfinished store."""
    return path.name.endswith(_SUFFIX) and (path / PLAN).is_file()


def describe_unfinished(path: Path) -> dict[str, Any]:
    """Return the facts about the unfinished store in a folder as plain values.

    Raises:
        FormatError: the folder holds none that can be read.
    """
    opened = open_store(path.with_name(path.name.removesuffix(_SUFFIX)), unfinished=True)
    status = np.bincount(np.asarray(opened.array.status), minlength=3)
    count, filled = opened.description.count, int(status[STORED] + status[FAILED])
    return {
        "path": str(path),
        "medium": opened.medium,
        "shape": [count, *opened.description.shape],
        "filled": filled / max(count, 1),
        "stored": int(status[STORED]),
        "failed": int(status[FAILED]),
        "empty": count - filled,
        "in_progress": is_locked(path / LOCK),
    }


def unfinished_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts that `describe_unfinished` returned as the rows of a table: a name and a text each."""
    count, *slot = facts["shape"]
    yield "unfinished", flat(facts["path"])
    yield "medium", facts["medium"]
    yield "images", f"{count:,} of {' x '.join(map(str, slot))} uint8"
    yield "filled", f"{count - facts['empty']:,} of {count:,}, {100 * facts['filled']:.1f} %"
    yield "status", f"{facts['stored']:,} stored, {facts['failed']:,} failed, {facts['empty']:,} empty"
    doing = (
        "a process is filling it" if facts["in_progress"] else "nobody fills it now: the same call goes on from here"
    )
    yield "now", doing
