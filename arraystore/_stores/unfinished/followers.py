"""Processes that read an unfinished store while another one fills it, and how the next build waits for their end.

A build that lets others follow makes a file in its folder, and each follower holds a shared lock (flock) of that file.
Pixels that a follower reads are never written again: whoever takes up the folder next waits until all followers have
ended, because sources may have changed, and their slots are then filled anew.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from arraystore._common.forks import OwnDescriptor
from arraystore._stores.publishing import FOLLOWERS
from arraystore.errors import Kind, StoreError

_WAIT_LIMIT_S = 20.0  # workers of a loader end within seconds after the process that started them
_RETRY_S = 0.05


def let_follow(folder: Path) -> None:
    """Let other processes read the slots that are claimed, from now on. The caller holds the folder."""
    (folder / FOLLOWERS).touch()


def follow(folder: Path) -> OwnDescriptor | None:
    """Return what holds this process's place among the followers; None if nobody may follow, or not safely."""
    try:
        place = OwnDescriptor(folder / FOLLOWERS, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(place.number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if place.is_at(folder / FOLLOWERS):
            return place
    except OSError:  # the next build is waiting, or the volume has no locks
        pass
    place.close()
    return None


def end_following(folder: Path, target: Path) -> None:
    """Let nobody follow any more, and wait for those that do. The caller holds the folder.

    Raises:
        StoreError: a process of an earlier call reads the slots and does not end.
    """
    try:
        file = OwnDescriptor(folder / FOLLOWERS, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        deadline_s = time.monotonic() + _WAIT_LIMIT_S
        while not _alone(file):
            if time.monotonic() > deadline_s:
                raise StoreError(
                    f"a process of an earlier call still reads the unfinished store {target}: end it first",
                    source=str(target),
                    kind=Kind.BUSY,
                )
            time.sleep(_RETRY_S)
        (folder / FOLLOWERS).unlink(missing_ok=True)
    finally:
        file.close()


def _alone(file: OwnDescriptor) -> bool:
    try:
        fcntl.flock(file.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # without locks, nobody could follow
        return True
    return True
