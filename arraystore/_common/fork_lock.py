"""Locks that are open in a forked child: an ordinary lock that is held during a fork stays shut in the child."""

import os
import threading


def lock_across_forks() -> threading.Lock:
    """Return a new lock that every fork acquires first.

    The process keeps it until it ends, so create such locks at module level. Code that holds the lock must be quick and
    must not fork.
    """
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
