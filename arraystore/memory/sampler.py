"""The sampler: a process that reads, every 10 ms, how much memory another one and its descendants hold.

It is run by path, ``python -I -S sampler.py PID``, imports only a little of the standard library, and so starts in
15 ms and holds 10 MB: what is measured has no thread of its own for it, and the readings keep their pace while it holds
the interpreter's lock. It says ``ready`` after the first reading. On its standard input it is told ``stop``, or
``kill``, which ends the whole tree first; then, or at the end of that input, it prints what it read as one line of JSON
and ends. So it never outlives who started it.

On Linux a reading is a ``/proc/PID/status`` for each process, 10 µs together with the arithmetic. What is shared only
``smaps_rollup`` knows, which walks through all pages (0.2 ms for 2 GB in huge pages, 30 times that in small ones). It
is read when the time for it has been saved up, 0.1 % of a core, and first of all after a process has come or gone; in
between, its figures move with those of ``status``. For new processes it looks four times a second: those that live
shorter may be missed. Elsewhere psutil is asked.

Waking up, too, takes time, some 30 µs, so that a reading every 10 ms costs about 0.6 % of a core. It never costs more
than 0.85 %, beyond 4 ms at the beginning: where a tree is large, or the machine slow, readings come less often; only
near a limit they come as often as they must.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import threading
import time

TYPE_CHECKING = False  # as in `typing`, whose import would take a third of the start
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["COLUMNS", "Columns", "parse_sizes", "sample"]

COLUMNS = ("seconds", "anonymous", "file", "shmem", "pss", "rss")
_KEPT = 4096  # readings, at most twice that: 40 s in full, or hours with neighbours merged
_SHARE, _GRACE_S = 0.0075, 0.002  # of a core, after that much at the beginning
_STRETCH = 5  # times the interval that a pause is lengthened to at once, unless a reading itself takes so much
_SCAN_S = 0.25  # between looks for new processes, at least
_SCAN_PAUSE = 1000  # times a look's own duration
_ROLLUP_S = 0.2  # between two readings of what is shared, at least
_ROLLUP_SHARE, _ROLLUP_GRACE_S = 0.001, 0.01  # of a core, after that much where several processes may share
_FASTEST, _SHORTEST_S = 4e9, 0.002  # bytes a second that a process can take, and the shortest pause near a limit
_TICK_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
_CHUNK = 8192  # longer than any of these files

_STATUS = (b"VmHWM", b"VmRSS", b"RssAnon", b"RssFile", b"RssShmem", b"VmSwap")
_ROLLUP = (b"Rss", b"Anonymous", b"Swap", b"Pss_Anon", b"Pss_File", b"Pss_Shmem", b"SwapPss")


def parse_sizes(text: bytes, names: Iterable[bytes]) -> dict[bytes, int]:
    """Return the values of lines ``Name: 12 kB`` of a file under /proc, in bytes.

    A process that has ended, and is not waited for yet, has none of them.

    Args:
        text: of the file.
        names: whose values are wanted. By searching, for there are 60 lines of which six are wanted.
    """
    found = {}
    for name in names:
        start = text.find(b"\n" + name + b":")
        if start >= 0:
            found[name] = int(text[start + len(name) + 2 : text.index(b"kB", start)]) * 1024
    return found


class Columns:
    """Readings, thinned out as they grow in number: neighbours are merged, and the greatest of each column is kept.

    Args:
        kept: how many at least, once there are so many; at most twice as many.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._stride = 1
        self._rows: list[tuple[float, ...]] = []
        self._open: list[tuple[float, ...]] = []
        self.count = 0

    def add(self, row: tuple[float, ...]) -> None:
        """Take a reading."""
        self.count += 1
        self._open.append(row)
        if len(self._open) == self._stride:
            self._rows.append(_greatest(self._open))
            self._open = []
            if len(self._rows) == 2 * self._kept:
                self._rows = [_greatest(pair) for pair in zip(self._rows[::2], self._rows[1::2], strict=True)]
                self._stride *= 2

    def rows(self) -> list[tuple[float, ...]]:
        """Return all readings, the last and unfinished group of neighbours included."""
        return [*self._rows, _greatest(self._open)] if self._open else self._rows


def _greatest(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return rows[0] if len(rows) == 1 else tuple(map(max, *rows))


class _Process:
    """A process under /proc. What is open stays with this very process, even when another gets its number.

    Attributes:
        pid: its number.
        status: its last reading, by name, in bytes.
        shared: of anonymous, file and shmem, what is to be taken off because others have it, too.
        cpu_s: of it and of those of its children that have ended and been waited for.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status = os.open(f"/proc/{pid}/status", os.O_RDONLY)
        self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        self._handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
        self.status: dict[bytes, int] = {}
        self.shared = (0, 0, 0)
        self.cpu_s = 0.0

    def read(self) -> bool:
        """Take a reading; False when the process has ended."""
        try:
            status = parse_sizes(os.pread(self._status, _CHUNK, 0), _STATUS)
        except OSError:
            return False
        if b"RssAnon" not in status:
            return False
        self.status = status
        return True

    def held(self) -> tuple[int, int, int]:
        """Return the last reading's anonymous, file and shmem bytes, shared or not."""
        status = self.status
        return (
            status[b"RssAnon"] + status.get(b"VmSwap", 0),
            status[b"RssFile"],
            status[b"RssShmem"],
        )

    def own(self) -> tuple[int, int, int]:
        """Return the same without what others count."""
        held, shared = self.held(), self.shared
        return max(held[0] - shared[0], 0), max(held[1] - shared[1], 0), max(held[2] - shared[2], 0)

    def read_shared(self) -> bool:
        """Find out what is shared; False where the system does not let this be read."""
        try:
            # Opened anew: what is open stays with the memory that was there before an exec.
            with open(f"/proc/{self.pid}/smaps_rollup", "rb", buffering=0) as file:  # noqa: PTH123 - pathlib is slow to import
                rollup = parse_sizes(file.read(_CHUNK), _ROLLUP)
        except OSError:
            return False
        if b"Pss_Anon" not in rollup or not self.read():
            return False
        # Within one walk: what has come or gone between that and the reading of `status` is nobody else's.
        anonymous = rollup[b"Anonymous"] - rollup[b"Pss_Anon"] + rollup[b"Swap"] - rollup[b"SwapPss"]
        others = rollup[b"Rss"] - rollup[b"Anonymous"] - rollup[b"Pss_File"] - rollup[b"Pss_Shmem"]
        shmem = min(max(self.status[b"RssShmem"] - rollup[b"Pss_Shmem"], 0), others)
        self.shared = (anonymous, others - shmem, shmem)
        return True

    def read_cpu(self) -> None:
        """Take the processor time."""
        try:
            # The name, in brackets, may have spaces and brackets of its own.
            fields = os.pread(self._stat, _CHUNK, 0).rpartition(b")")[2].split()
        except OSError:
            return
        if len(fields) > 14:
            self.cpu_s = sum(map(int, fields[11:15])) * _TICK_S

    def children(self) -> list[int]:
        """Return the numbers of its children."""
        found: list[int] = []
        try:
            for task in os.listdir(f"/proc/{self.pid}/task"):  # noqa: PTH208 - pathlib is slow to import
                with open(f"/proc/{self.pid}/task/{task}/children", "rb", buffering=0) as file:  # noqa: PTH123 - likewise
                    while some := file.read(_CHUNK):
                        found += map(int, some.split())
        except OSError:
            pass  # it has ended meanwhile
        return found

    def kill(self) -> None:
        """End it."""
        try:
            if self._handle >= 0:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)
        except OSError:
            pass  # it has ended by itself

    def close(self) -> None:
        """Let it go."""
        for handle in (self._status, self._stat, self._handle):
            if handle >= 0:
                os.close(handle)


class ProcTree:
    """A process and its descendants, as Linux tells of them.

    Attributes:
        most: how many processes there were at once, at most.
        cpu_s: seconds of processor time of all of them.
        rollup_s: seconds of processor time that it took to find out what is shared.

    Raises:
        OSError: there is no such process.
    """

    def __init__(self, root: int) -> None:
        self._root = _Process(root)
        self._members = {root: self._root}
        self._began = time.monotonic()
        self._next_scan = self._next_rollup = 0.0
        self._rollup_pace = 0.0  # seconds a byte
        self.rollup_s = 0.0
        self._changed = True
        self._shared_told = True
        self.most = 1
        self.cpu_s = 0.0

    @property
    def method(self) -> str:
        """How memory is read, in words."""
        if self._shared_told:
            return "/proc: status at every reading, smaps_rollup for what is shared"
        return "/proc: status alone; smaps_rollup cannot be read here, so a shared page counts once for each process"

    @property
    def kernel_peak_bytes(self) -> int:
        """The peak of the first process, as the system kept it."""
        return self._root.status.get(b"VmHWM", 0)

    def read(self) -> tuple[float, ...] | None:
        """Return a row of `COLUMNS`; None when the first process has ended."""
        now = time.monotonic()
        if now >= self._next_scan:
            self.scan()
            self._next_scan = now + max(_SCAN_S, (time.monotonic() - now) * _SCAN_PAUSE)
        for process in [each for each in self._members.values() if not each.read()]:
            if process is self._root:
                return None
            self._forget(process)
        self._read_shared()
        now = time.monotonic()
        anonymous = file_backed = shmem = rss = 0
        for process in self._members.values():
            one, two, three = process.own()
            anonymous, file_backed, shmem = anonymous + one, file_backed + two, shmem + three
            rss += process.status[b"VmRSS"]
        return now, anonymous, file_backed, shmem, anonymous + file_backed + shmem, rss

    def _read_shared(self) -> None:
        """Find out what is shared, if that is due and has been saved up for: it would hold up the readings."""
        now = time.monotonic()
        if not (self._changed or now >= self._next_rollup):
            return
        held = sum(process.status[b"VmRSS"] for process in self._members.values())
        saved_s = _ROLLUP_SHARE * (now - self._began) + (_ROLLUP_GRACE_S if len(self._members) > 1 else 0)
        if self._rollup_pace and self.rollup_s + self._rollup_pace * held > saved_s:
            return
        start = time.thread_time()
        told = [process.read_shared() for process in self._members.values()]
        took = time.thread_time() - start
        self._shared_told = all(told)
        self._changed = False
        self._next_rollup = now + _ROLLUP_S
        self._rollup_pace = took / max(held, 1)
        self.rollup_s += took

    def scan(self) -> None:
        """Look for new processes, and take the processor time."""
        found = list(self._members.values())
        for process in found:  # which grows
            for pid in process.children():
                if pid in self._members or pid == os.getpid():
                    continue
                try:
                    child = _Process(pid)
                except OSError:
                    continue  # it has ended meanwhile
                if not child.read():
                    child.close()
                    continue
                # A copy of its parent, who counts all that they share until that is known better.
                child.shared = child.held()
                self._members[pid] = child
                self._changed = True
                found.append(child)
        for process in found:
            process.read_cpu()
        self.most = max(self.most, len(found))
        self.cpu_s = max(self.cpu_s, sum(process.cpu_s for process in found))

    def _forget(self, process: _Process) -> None:
        del self._members[process.pid]
        process.close()
        self._changed = True

    def kill(self) -> None:
        """End all of them."""
        self.scan()
        for process in self._members.values():
            process.kill()


class PsutilTree:
    """The same as psutil tells it, on systems without /proc.

    Raises:
        ImportError: psutil is not installed.
        psutil.Error: there is no such process.
    """

    def __init__(self, root: int) -> None:
        import psutil  # noqa: PLC0415 - not on Linux

        self._psutil = psutil
        self._root = psutil.Process(root)
        self._members = {root: self._root}
        self._times: dict[int, float] = {}
        self._next_scan = 0.0
        self._private = hasattr(self._root.memory_info(), "private")
        self.most = 1
        self.cpu_s = 0.0
        self.rollup_s = 0.0
        self.kernel_peak_bytes = 0

    @property
    def method(self) -> str:
        """How memory is read, in words."""
        version = self._psutil.__version__
        if self._private:
            return f"psutil {version}: private bytes as anonymous, the rest of the working set as file-backed"
        return f"psutil {version}: resident set sizes alone; they stand as anonymous, files included"

    def read(self) -> tuple[float, ...] | None:
        """Return a row of `COLUMNS`; None when the first process has ended."""
        now = time.monotonic()
        if now >= self._next_scan:
            self.scan()
            self._next_scan = now + max(_SCAN_S, (time.monotonic() - now) * _SCAN_PAUSE)
        anonymous = rss = 0
        for pid, process in list(self._members.items()):
            try:
                info = process.memory_info()
                if process.status() == self._psutil.STATUS_ZOMBIE:
                    raise self._psutil.NoSuchProcess(pid)
            except self._psutil.Error:
                if process is self._root:
                    return None
                del self._members[pid]
                continue
            if process is self._root:
                self.kernel_peak_bytes = getattr(info, "peak_wset", 0)
            anonymous += info.private if self._private else info.rss
            rss += info.rss
        return now, anonymous, max(rss - anonymous, 0), 0, max(rss, anonymous), rss

    def scan(self) -> None:
        """Look for new processes, and take the processor time."""
        try:
            for child in self._root.children(recursive=True):
                if child.pid != os.getpid():
                    self._members.setdefault(child.pid, child)
            for pid, process in list(self._members.items()):
                times = process.cpu_times()
                self._times[pid] = times.user + times.system
        except self._psutil.Error:
            pass  # one has ended meanwhile
        self.most = max(self.most, len(self._members))
        self.cpu_s = sum(self._times.values())

    def kill(self) -> None:
        """End all of them."""
        self.scan()
        for process in self._members.values():
            try:
                process.kill()
            except self._psutil.Error:
                continue


class _Orders:
    """What the standard input says: a line, or its end.

    Attributes:
        told: the line; "" at the end of the input, and None before.
    """

    def __init__(self) -> None:
        self.told: str | None = None
        self._poll = None
        if hasattr(select, "poll"):  # half the processor time of a thread and an event
            self._poll = select.poll()
            self._poll.register(sys.stdin, select.POLLIN)
        else:
            self._read = threading.Event()
            threading.Thread(target=self._take, daemon=True).start()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until something is said, and return whether it has been."""
        if self.told is None:
            if self._poll is None:
                self._read.wait(timeout_s)
            elif self._poll.poll(None if timeout_s is None else max(timeout_s, 0.0) * 1000):
                self._take()
        return self.told is not None

    def _take(self) -> None:
        self.told = sys.stdin.readline().strip()
        if self._poll is None:
            self._read.set()


def sample(pid: int, interval_s: float, limit_bytes: int, method: str, *, owned: bool) -> dict[str, Any]:
    """Sample until the standard input says to stop, and return what was read.

    Args:
        pid: the first process.
        interval_s: seconds from one reading to the next, at least.
        limit_bytes: of anonymous and shared memory, beyond which the tree is killed; 0 for none.
        method: "proc" or "psutil".
        owned: whether the tree is killed when the standard input ends and nothing has been said.
    """
    orders = _Orders()
    tree = ProcTree(pid) if method == "proc" else PsutilTree(pid)
    columns = Columns()
    killed_at = None
    reading_s = 0.0
    row = tree.read()
    began, cpu_s, cost_s = time.monotonic(), tree.cpu_s, time.process_time()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while row is not None:
        columns.add(row)
        _, anonymous, _, shmem, _, _ = row
        if limit_bytes and anonymous + shmem > limit_bytes:
            tree.kill()
            killed_at = row[0]
            break
        affordable = began + (time.process_time() - cost_s - tree.rollup_s - _GRACE_S) / _SHARE
        # In several steps: where much is written, the system puts work of its own on our account, 3 ms at a time.
        latest = row[0] + max(_STRETCH * interval_s, reading_s / _SHARE)
        pause = max(row[0] + interval_s, min(affordable, latest)) - time.monotonic()
        if limit_bytes:
            # Whatever it costs: before it can have gone far beyond.
            pause = min(pause, max((limit_bytes - anonymous - shmem) / _FASTEST, _SHORTEST_S))
        if orders.wait(pause):
            row = tree.read()
            if row is not None:
                columns.add(row)
                tree.scan()
            if orders.told == "kill" or (owned and not orders.told):
                tree.kill()
            break
        before_s = time.process_time() - tree.rollup_s
        row = tree.read()
        # An average, for the same reason.
        reading_s += (time.process_time() - tree.rollup_s - before_s - reading_s) / 8
    cost_s, sampled_s = time.process_time() - cost_s, time.monotonic() - began
    orders.wait(None)
    return {
        "columns": dict(zip(COLUMNS, map(list, zip(*columns.rows(), strict=True)), strict=True)),
        "readings": columns.count,
        "killed_at": killed_at,
        "kernel_peak_bytes": tree.kernel_peak_bytes,
        "processes": tree.most,
        "cpu_s": tree.cpu_s - cpu_s,
        "sampler_cpu_s": cost_s,
        "sampled_s": sampled_s,
        "method": tree.method,
    }


def main() -> None:
    """Run as a script: ``sampler.py PID INTERVAL_S LIMIT_BYTES METHOD owned|free``."""
    gc.disable()  # there is nothing to find, and looking for it takes time
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who are measured; this ends after them
    pid, interval_s, limit_bytes, method, whose = sys.argv[1:]
    read = sample(int(pid), float(interval_s), int(limit_bytes), method, owned=whose == "owned")
    try:
        sys.stdout.write(json.dumps(read))
        sys.stdout.flush()
    except OSError:
        os._exit(1)  # nobody is left to be told


if __name__ == "__main__":
    main()
