"""Signals: a Ctrl-C that must wait while processes start, and what ended one, in words."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["ending", "sigint_held"]


@contextlib.contextmanager
def sigint_held() -> Iterator[None]:
    """Start processes with SIGINT blocked, and let a Ctrl-C wait until they have started.

    Ctrl-C goes to every process of the terminal. What is started while SIGINT is blocked inherits that: only this
    process is interrupted, and it alone decides and reports. A worker that ignores the signal when it has begun would
    do so too late for a Ctrl-C during its imports. Other threads, such as numpy's, may still take the signal for this
    process, and an exception in the middle of starting a worker would strand it: so here a Ctrl-C is only noted, and
    raised afterwards. In any thread but the main one Python raises no Ctrl-C, and nothing need be noted.
    """
    noted: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    if handler is not None:
        signal.signal(signal.SIGINT, lambda number, _frame: noted.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if noted:
            signal.raise_signal(signal.SIGINT)


def ending(status: int) -> str:
    """Say how a process ended whose exit status this is, or minus the signal that killed it."""
    if status >= 0:
        return f"it ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # real-time signals have no names
        name = f"signal {-status}"
    hint = ", as when memory runs out" if status == -signal.SIGKILL else ""
    return f"killed by {name}{hint}"
