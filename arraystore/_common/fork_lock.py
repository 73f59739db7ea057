"""Locks that a fork cannot leave shut: a fork in the midst of one would give the child a lock that nobody opens."""

from __future__ import annotations

import os
import threading

__all__ = ["lock_across_forks"]


def lock_across_forks() -> threading.Lock:
    """Return a new lock that whoever forks waits for; for a module, since it is kept as long as the process.

    What it protects must not take long, and must not fork.
    """
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
