"""Worker processes: a new interpreter that runs a program of this package, and one socket that connects it.

A child that dies, stops or hangs is merely silent: nothing else is shared, so neither process leaves anything behind.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.spawn import get_executable
from pathlib import Path

from arraystore._workers.messages import is_loading_main
from arraystore.errors import Kind, StoreError

_KILL_LIMIT_S = 10.0


class Child:
    """A worker process and this end of the socket to it. The other end is the standard input of the process.

    Args:
        code: what it runs; its arguments are the entries of the path for imports.

    Raises:
        StoreError: it cannot be started.
    """

    def __init__(self, code: str) -> None:
        if getattr(sys, "frozen", False) or not get_executable():
            raise StoreError(
                "worker processes need a Python interpreter, and this program is none", advice="work with threads"
            )
        if is_loading_main():
            raise StoreError(
                "worker processes import the script for its functions, and so they would start worker processes too",
                kind=Kind.INVALID,
                advice="put what the script does under if __name__ == '__main__':",
            )
        # With the folder of the package, because entries of the path may be relative to an earlier working folder.
        path = [*(entry for entry in sys.path if isinstance(entry, str)), str(Path(__file__).parents[2])]
        # The options with which this interpreter runs, such as -W error, as multiprocessing passes them on.
        flags: list[str] = vars(subprocess)["_args_from_interpreter_flags"]()
        # Unlike multiprocessing, this does not run __main__ again: scripts need no guard, and start no second build.
        # Only a child that gets a function of the script imports it, see `arraystore._workers.messages`.
        self.socket, theirs = socket.socketpair()
        with theirs:
            try:
                self.process: subprocess.Popen[bytes] = subprocess.Popen(
                    [get_executable(), *flags, "-c", code, *path], stdin=theirs.fileno()
                )
            except BaseException as error:
                self.socket.close()
                if isinstance(error, OSError):
                    raise StoreError(f"a worker process cannot be started: {error.strerror or error}") from error
                raise

    def end(self, patience_s: float) -> int:
        """Wait for the end of the process, then kill it; return its exit status, or minus the signal that killed it.

        Raises:
            StoreError: even a kill does not end it.
        """
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        try:
            return self.process.wait(_KILL_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise StoreError(
                f"the worker process {self.process.pid} cannot be ended: it waits for a volume that does not answer. "
                "Mend that; the same call continues from there"
            ) from None


@contextlib.contextmanager
def sigint_held() -> Iterator[None]:
    """Start processes with SIGINT blocked, and delay a Ctrl-C until they have started.

    Ctrl-C goes to every process of the terminal, and only this one shall be interrupted: it ends the others and
    reports. A process that is started while SIGINT is blocked has it blocked from its first instruction; if workers
    ignored the signal themselves, a Ctrl-C during their imports would come too early. This process may still get the
    signal, through other threads such as NumPy's. An exception while a worker is being started would leave it without
    an owner, so the handler only notes the signal, and it is raised afterwards. Python raises KeyboardInterrupt in the
    main thread alone, so other threads need no handler.
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
    """Say how a process ended, from its exit status, or minus the signal that killed it."""
    if status >= 0:
        return f"it ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # real-time signals have no names
        name = f"signal {-status}"
    hint = ", as when memory runs out" if status == -signal.SIGKILL else ""
    return f"killed by {name}{hint}"
