"""The sampler: a process that reads, every 10 ms, how much memory another process and its descendants hold.

It runs as a script, ``python -I -S sampler.py PID ...``. It imports only a little of the standard library, so it starts
in 15 ms and holds 10 MB. It prints ``ready`` after the first reading. Its standard input then says ``stop``, or
``kill``, which also ends the whole process tree. After that line, or when the input ends, it prints its readings as one
line of JSON and ends. It therefore never outlives the process that started it.

On Linux a reading is one ``/proc/PID/status`` for each process, about 10 µs. Only ``smaps_rollup`` tells which pages
are shared, and the system walks through all pages for it: 0.2 ms for 2 GB in huge pages, 30 times as much in small
ones. The sampler spends 0.1 % of a core on that file, and reads it soon after a process has come or gone. In between,
the sizes move with those of ``status``. It looks for new processes four times a second, so it may miss one that ends
sooner. The last reading does both once more. Systems without /proc are read by psutil, an installed package: there the
sampler is started without ``-S``.

With 30 µs for waking up, a reading every 10 ms costs about 0.6 % of a core. The cost stays below 0.85 %, after 4 ms at
the beginning: readings become rarer where the tree is large or the machine slow, except near a limit.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from importlib import import_module

__all__ = ["COLUMNS", "Columns", "parse_sizes", "sample"]

COLUMNS = ("seconds", "anonymous", "file", "shmem", "pss", "rss")
_KEPT_READINGS = 4096  # at most twice as many: 40 s in full, or hours with neighbors merged
_CPU_SHARE, _CPU_GRACE_S = 0.0075, 0.002  # of a core, after that much at the beginning
_LONGEST_PAUSE = 5  # times the interval, unless one reading alone takes more than its share
_SCAN_INTERVAL_S = 0.25  # between two searches for new processes, at least
_SCAN_PAUSE = 1000  # times the processor time of a search
_ROLLUP_INTERVAL_S = 0.2  # between two readings of smaps_rollup, at least
_ROLLUP_SHARE, _ROLLUP_GRACE_S = 0.001, 0.01  # of a core, after that much where several processes may share pages
_FASTEST_BYTES_PER_S = 4e9  # how fast a process can take memory
_SHORTEST_PAUSE_S = 0.002  # near a limit
_TICK_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
_CHUNK_BYTES = 8192  # longer than any of these files

_STATUS = (b"VmHWM", b"VmRSS", b"RssAnon", b"RssFile", b"RssShmem", b"VmSwap")
_ROLLUP = (b"Rss", b"Anonymous", b"Swap", b"Pss_Anon", b"Pss_File", b"Pss_Shmem", b"SwapPss")


def parse_sizes(text: bytes, names: tuple[bytes, ...]) -> dict[bytes, int]:
    """Return the sizes in lines ``Name: 12 kB`` of a file under /proc, in bytes.

    A process that has ended, but whose parent has not waited for it, has none of these lines.

    Args:
        text: the text of the file.
        names: the wanted names. Each is searched for, because 60 lines would have to be split for six of them.
    """
    found = {}
    for name in names:
        start = text.find(b"\n" + name + b":")
        if start >= 0:
            found[name] = int(text[start + len(name) + 2 : text.index(b"kB", start)]) * 1024
    return found


class Columns:
    """Readings in a bounded number of rows: neighbors are merged, and the greatest value of each column is kept.

    Args:
        kept: the least number of rows once there are so many readings; at most twice as many are kept.

    Attributes:
        rows: the rows so far.
        count: the number of readings.
    """

    def __init__(self, kept: int = _KEPT_READINGS) -> None:
        self._kept = kept
        self._stride = 1
        self.rows: list[tuple[float, ...]] = []
        self.count: int = 0

    def add(self, row: tuple[float, ...]) -> None:
        """Add a reading."""
        if self.count % self._stride:
            self.rows[-1] = tuple(map(max, self.rows[-1], row))
        else:
            if len(self.rows) == 2 * self._kept:
                pairs = zip(self.rows[::2], self.rows[1::2], strict=True)
                self.rows = [tuple(map(max, *pair)) for pair in pairs]
                self._stride *= 2
            self.rows.append(row)
        self.count += 1


class _Process:
    """A process under /proc. The open files stay with this very process, even when another gets its number.

    Attributes:
        pid: its number.
        status: the sizes of the last reading, by name, in bytes.
        shared: bytes of anonymous, file and shmem that other processes count.
        cpu_s: processor time of this process and of those of its children that have ended.

    Raises:
        OSError: there is no such process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status = os.open(f"/proc/{pid}/status", os.O_RDONLY)
        self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        self.status: dict[bytes, int] = {}
        self.shared = (0, 0, 0)
        self.cpu_s: float = 0.0

    def read(self) -> bool:
        """Read the sizes; return False when the process has ended."""
        try:
            status = parse_sizes(os.pread(self._status, _CHUNK_BYTES, 0), _STATUS)
        except OSError:
            return False
        if b"RssAnon" not in status:
            return False
        self.status = status
        return True

    def held(self) -> tuple[int, int, int]:
        """Return the anonymous, file and shmem bytes of the last reading, shared or not."""
        status = self.status
        return status[b"RssAnon"] + status.get(b"VmSwap", 0), status[b"RssFile"], status[b"RssShmem"]

    def own(self) -> tuple[int, int, int]:
        """Return the same without the bytes that other processes count."""
        held, shared = self.held(), self.shared
        return max(held[0] - shared[0], 0), max(held[1] - shared[1], 0), max(held[2] - shared[2], 0)

    def read_shared(self) -> bool:
        """Read how much is shared; return False where the system does not allow it."""
        try:
            # Opened anew each time: an open file stays with the memory that was there before an exec.
            with open(f"/proc/{self.pid}/smaps_rollup", "rb", buffering=0) as file:
                rollup = parse_sizes(file.read(_CHUNK_BYTES), _ROLLUP)
        except OSError:
            return False
        if b"Pss_Anon" not in rollup or not self.read():
            return False
        # All from one walk: memory that comes or goes before `status` is read must not look shared.
        anonymous = rollup[b"Anonymous"] - rollup[b"Pss_Anon"] + rollup[b"Swap"] - rollup[b"SwapPss"]
        others = rollup[b"Rss"] - rollup[b"Anonymous"] - rollup[b"Pss_File"] - rollup[b"Pss_Shmem"]
        shmem = min(max(self.status[b"RssShmem"] - rollup[b"Pss_Shmem"], 0), others)
        self.shared = (anonymous, others - shmem, shmem)
        return True

    def read_cpu(self) -> None:
        """Read the processor time."""
        try:
            # The name of the program, in brackets, may contain spaces and brackets.
            fields = os.pread(self._stat, _CHUNK_BYTES, 0).rpartition(b")")[2].split()
        except OSError:
            return
        if len(fields) > 14:
            self.cpu_s = sum(map(int, fields[11:15])) * _TICK_S

    def children(self) -> list[int]:
        """Return the numbers of its children."""
        found: list[int] = []
        try:
            for task in os.listdir(f"/proc/{self.pid}/task"):
                with open(f"/proc/{self.pid}/task/{task}/children", "rb", buffering=0) as file:
                    while some := file.read(_CHUNK_BYTES):
                        found += map(int, some.split())
        except OSError:
            pass  # it has ended meanwhile
        return found

    def kill(self) -> None:
        """End the process, unless it has ended: another process may have its number by now."""
        try:
            if self.read():
                os.kill(self.pid, signal.SIGKILL)
        except OSError:
            pass  # it has ended just now, or may not be killed

    def close(self) -> None:
        """Close its files."""
        os.close(self._status)
        os.close(self._stat)


class ProcTree:
    """A process and its descendants, read from /proc.

    Attributes:
        most: the greatest number of processes at one time.
        cpu_s: processor time of all of them.
        rollup_s: processor time that this process has spent on reading ``smaps_rollup``.

    Raises:
        OSError: there is no such process.
    """

    def __init__(self, root: int) -> None:
        self._root = _Process(root)
        self._members = {root: self._root}
        self._began = time.monotonic()
        self._next_scan = self._next_rollup = 0.0
        self._rollup_s_per_byte = 0.0
        self.rollup_s: float = 0.0
        self._changed = True
        self._shared_known = True
        self.most: int = 1
        self.cpu_s: float = 0.0

    @property
    def method(self) -> str:
        """How memory is read, in words for the reader of a report."""
        if self._shared_known:
            return "/proc: status at every reading, smaps_rollup for shared pages"
        return "/proc: status alone; smaps_rollup cannot be read here, so a shared page counts once for each process"

    @property
    def kernel_peak_bytes(self) -> int:
        """The peak of the first process's resident set, as the system kept it."""
        return self._root.status.get(b"VmHWM", 0)

    def read(self, *, last: bool = False) -> tuple[float, ...] | None:
        """Return a row of `COLUMNS`; None when the first process has ended.

        Args:
            last: also look for new processes and shared pages, even if neither is due: no later row makes up for it.
        """
        now = time.monotonic()
        if last or now >= self._next_scan:
            before_s = time.thread_time()  # on a busy machine a search may last much longer than what it costs
            self.scan()
            self._next_scan = now + max(_SCAN_INTERVAL_S, (time.thread_time() - before_s) * _SCAN_PAUSE)
        for process in [each for each in self._members.values() if not each.read()]:
            if process is self._root:
                return None
            del self._members[process.pid]
            process.close()
            self._changed = True
        self._read_shared(last=last)
        now = time.monotonic()
        anonymous = file_backed = shmem = rss = 0
        for process in self._members.values():
            one, two, three = process.own()
            anonymous, file_backed, shmem = anonymous + one, file_backed + two, shmem + three
            rss += process.status[b"VmRSS"]
        return now, anonymous, file_backed, shmem, anonymous + file_backed + shmem, rss

    def _read_shared(self, *, last: bool) -> None:
        """Read how much is shared, if that is due and its share of processor time allows it: it delays the readings."""
        now = time.monotonic()
        anyhow = last and len(self._members) > 1
        if not (anyhow or self._changed or now >= self._next_rollup):
            return
        held = sum(process.status[b"VmRSS"] for process in self._members.values())
        allowed_s = _ROLLUP_SHARE * (now - self._began) + (_ROLLUP_GRACE_S if len(self._members) > 1 else 0)
        expected_s = self.rollup_s + self._rollup_s_per_byte * held
        if not anyhow and self._rollup_s_per_byte and expected_s > allowed_s:
            return
        start = time.thread_time()
        known = [process.read_shared() for process in self._members.values()]
        took_s = time.thread_time() - start
        self._shared_known = all(known)
        self._changed = False
        self._next_rollup = now + _ROLLUP_INTERVAL_S
        self._rollup_s_per_byte = took_s / max(held, 1)
        self.rollup_s += took_s

    def scan(self) -> None:
        """Search for new processes, and read the processor time of all."""
        found = list(self._members.values())
        for process in found:  # the list grows meanwhile
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
                # It begins as a copy of its parent: all of it counts as shared until smaps_rollup has been read.
                child.shared = child.held()
                self._members[pid] = child
                self._changed = True
                found.append(child)
        for process in found:
            process.read_cpu()
        self.most = max(self.most, len(found))
        self.cpu_s = max(self.cpu_s, sum(process.cpu_s for process in found))

    def kill(self) -> None:
        """End all of them."""
        self.scan()
        for process in self._members.values():
            process.kill()


class PsutilTree:
    """The same, read by psutil. Some systems tell only the resident set size: all of it counts as anonymous.

    Raises:
        ImportError: psutil is not installed.
        psutil.Error: there is no such process.
    """

    rollup_s: float = 0.0

    def __init__(self, root: int) -> None:
        self._psutil = import_module("psutil")
        self._root = self._psutil.Process(root)
        self._members = {root: self._root}
        self._cpu_s: dict[int, float] = {}  # by number, ended processes included
        self._next_scan = 0.0
        self.kernel_peak_bytes: int = 0
        self.most: int = 1
        self.cpu_s: float = 0.0
        anonymous = "the whole resident set counts as anonymous"
        if hasattr(self._root.memory_info(), "private"):
            anonymous = "private bytes count as anonymous, the rest of the resident set as file-backed"
        self.method: str = f"psutil {self._psutil.__version__}: {anonymous}"

    def read(self, *, last: bool = False) -> tuple[float, ...] | None:
        """Return a row of `COLUMNS`; None when the first process has ended. For ``last`` see `ProcTree.read`."""
        now = time.monotonic()
        if last or now >= self._next_scan:
            before_s = time.thread_time()
            self.scan()
            self._next_scan = now + max(_SCAN_INTERVAL_S, (time.thread_time() - before_s) * _SCAN_PAUSE)
        anonymous = rss = 0
        for pid, process in list(self._members.items()):
            try:
                info, ended = process.memory_info(), process.status() == self._psutil.STATUS_ZOMBIE
            except self._psutil.Error:
                ended = True
            if not ended:
                anonymous += getattr(info, "private", info.rss)
                rss += info.rss
                if process is self._root:
                    self.kernel_peak_bytes = getattr(info, "peak_wset", 0)
            elif process is self._root:
                return None
            else:
                del self._members[pid]
        return now, anonymous, max(rss - anonymous, 0), 0, max(rss, anonymous), rss

    def scan(self) -> None:
        """Search for new processes, and read the processor time of all."""
        try:
            for child in self._root.children(recursive=True):
                if child.pid != os.getpid():
                    self._members.setdefault(child.pid, child)
            for pid, process in self._members.items():
                times = process.cpu_times()
                self._cpu_s[pid] = times.user + times.system
        except self._psutil.Error:
            pass  # one has ended meanwhile
        self.most = max(self.most, len(self._members))
        self.cpu_s = sum(self._cpu_s.values())

    def kill(self) -> None:
        """End all of them."""
        self.scan()
        for process in self._members.values():
            try:
                process.kill()
            except self._psutil.Error:
                continue  # it has ended, or may not be killed


def sample(pid: int, interval_s: float, limit_bytes: int, method: str, *, owned: bool) -> dict[str, object]:
    """Read until the standard input says to stop, and return all readings.

    Args:
        pid: the number of the first process.
        interval_s: seconds from one reading to the next, at least.
        limit_bytes: anonymous and shared memory beyond which the tree is killed; 0 for no limit.
        method: "proc" or "psutil".
        owned: whether the tree is killed when the standard input ends without a line.

    Raises:
        OSError: there is no such process.
        ImportError, psutil.Error: see `PsutilTree`.
    """
    tree = ProcTree(pid) if method == "proc" else PsutilTree(pid)
    columns = Columns()
    killed_at = None
    reading_s = 0.0  # an average
    row = tree.read()
    began, cpu_s, cost_s = time.monotonic(), tree.cpu_s, time.process_time()
    orders: list[bytes] = []
    # A thread, because not every system can wait for a pipe with a time limit.
    listener = threading.Thread(target=lambda: orders.append(os.read(0, _CHUNK_BYTES).strip()), daemon=True)
    listener.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while row is not None:
        columns.add(row)
        _, anonymous, _, shmem, _, _ = row
        if limit_bytes and anonymous + shmem > limit_bytes:
            tree.kill()
            killed_at = row[0]
            break
        affordable = began + (time.process_time() - cost_s - tree.rollup_s - _CPU_GRACE_S) / _CPU_SHARE
        # No single pause makes up for a large cost: where much is written, the system charges 3 ms of its own work at
        # once to this process, and a long gap would hide a peak.
        latest = row[0] + max(_LONGEST_PAUSE * interval_s, reading_s / _CPU_SHARE)
        pause_s = max(row[0] + interval_s, min(affordable, latest)) - time.monotonic()
        if limit_bytes:
            # At any cost: the tree must not get far beyond its limit before the next reading.
            pause_s = min(pause_s, max((limit_bytes - anonymous - shmem) / _FASTEST_BYTES_PER_S, _SHORTEST_PAUSE_S))
        listener.join(max(pause_s, 0.0))
        if orders:
            row = tree.read(last=True)
            if row is not None:
                columns.add(row)
            if orders[0] == b"kill" or (owned and not orders[0]):
                tree.kill()
            break
        before_s = time.process_time() - tree.rollup_s
        row = tree.read()
        reading_s += (time.process_time() - tree.rollup_s - before_s - reading_s) / 8
    cost_s, sampled_s = time.process_time() - cost_s, time.monotonic() - began
    listener.join()
    return {
        "columns": dict(zip(COLUMNS, map(list, zip(*columns.rows, strict=True)), strict=True)),
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
    """Run as a script: ``sampler.py PID INTERVAL_S LIMIT_BYTES proc|psutil owned|free``."""
    gc.disable()  # it would find nothing, and takes time
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the measured processes; this one ends after them
    pid, interval_s, limit_bytes, method, whose = sys.argv[1:]
    read = sample(int(pid), float(interval_s), int(limit_bytes), method, owned=whose == "owned")
    try:
        sys.stdout.write(json.dumps(read))
        sys.stdout.flush()
    except OSError:
        os._exit(1)  # the process that started it has ended


if __name__ == "__main__":
    main()
