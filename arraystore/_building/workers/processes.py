"""Worker processes that are watched, so that an image that crashes or hangs its worker cannot stop a build.

Each worker is a new interpreter that runs `arraystore._building.workers.worker`, and one socket connects it to this
process. The sockets do not block, so a worker that dies, stops or hangs, even in the middle of a message, is merely
silent. A silent worker is killed and replaced. The slots that it had not reported are filled again, one slot a job, so
that it is known which image is to blame.
"""

import contextlib
import math
import selectors
import signal
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from arraystore._building.fill import Job
from arraystore._building.workers.worker import REPORT_EVERY_S
from arraystore._sources.kinds.sequences import parted
from arraystore._stores.medium import FilledRun
from arraystore._workers.child import Child, ending, sigint_held
from arraystore._workers.messages import LENGTH_BYTES, Raised, WithFunctions, WorkerTraceError, pack, unpack
from arraystore.errors import StoreError

# A worker loads its decoders before it begins; numba compiles kernels that are not cached.
START_LIMIT_S = 300.0
_FAILED_STARTS_LIMIT = 3
_TRIES_PER_SLOT = 2
_JOBS_PER_WORKER = 2  # the one in progress and the next, so that no worker waits for this process
_WAIT_LIMIT_S = 0.25
_KILL_LIMIT_S = 10.0
_RECEIVE_LIMIT_BYTES = 1 << 20
_WORKER_CODE = "import sys; sys.path[:] = sys.argv[1:]; from arraystore._building.workers.worker import work; work()"


@dataclass(slots=True)
class _Task:
    """The part of a job that is not filled yet, and how often its slot, alone in its job, ended its worker."""

    job: Job
    late: int = 0
    deaths: int = 0


class _Worker(Child):
    """A worker process and its tasks. The first task is in progress."""

    def __init__(self, now_s: float) -> None:
        super().__init__(_WORKER_CODE)
        self.tasks: deque[_Task] = deque()
        self.ready = False
        self.heard_s = now_s
        self._has_sequence = False
        self.unsent: deque[memoryview] = deque()
        self._received = bytearray()
        self.socket.setblocking(False)

    def give(self, task: _Task, sequence: tuple[memoryview, ...]) -> None:
        """Send a job, and before the first one the lazy sequence that the sources of all jobs are items of."""
        if not self._has_sequence:
            self.unsent += sequence
            self._has_sequence = True
        self.unsent += pack(replace(task.job, sources=parted(task.job.sources)[1]) if sequence else task.job)
        self.tasks.append(task)
        self.send()

    def send(self) -> None:
        try:
            while self.unsent:
                sent = self.socket.send(self.unsent[0])
                self.unsent[0] = self.unsent[0][sent:]
                if not self.unsent[0]:
                    del self.unsent[0]
        except BlockingIOError:
            return
        except OSError:  # the worker is dead; messages that it sent before can still be received
            self.unsent.clear()

    def receive(self) -> list[Any] | None:
        """Return the messages that are complete now; None if the socket is closed, because the worker has ended."""
        try:
            data = self.socket.recv(_RECEIVE_LIMIT_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        self._received += data
        messages = []
        while len(self._received) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES], "little")
            if len(self._received) < end:
                break
            with memoryview(self._received)[LENGTH_BYTES:end] as message:
                messages.append(unpack(message))
            del self._received[:end]
        return messages if data else None


class WorkerProcesses:
    """A `WorkerPool` of processes that fills all jobs, even if processes die or hang.

    If a worker dies or is late, its job is handed out again, one slot a job. A slot fails if its worker died twice, or
    was late twice, while the slot was alone in its job. Processes are started as there are jobs for them. If they end
    before they are ready, those that work go on alone.
    """

    def __init__(self, size: int, timeout_s: float) -> None:
        self.size = size
        self._timeout_s = timeout_s
        self._waiting: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._failed_starts = 0
        self._sequence: tuple[memoryview, ...] | None = None  # pickled once for all workers; () where there is none
        # The seconds for which this process has watched its workers. The count stands still while it does not watch,
        # because all processes are stopped with Ctrl-Z, or the caller's progress function runs: a worker's silence is
        # then not its fault.
        self._watched_s = 0.0
        self._looked_s = time.monotonic()

    @property
    def pending(self) -> int:
        return len(self._waiting) + sum(len(worker.tasks) for worker in self._workers)

    def submit(self, job: Job) -> None:
        self._waiting.append(_Task(job))
        self._hand_out()

    def collect(self) -> list[FilledRun]:
        filled: list[FilledRun] = []
        while not filled and self.pending:
            self._hand_out()
            filled = self._exchange()
        return filled

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            with contextlib.suppress(StoreError):  # it is killed, and will end as soon as its volume answers
                worker.end(_KILL_LIMIT_S)
            worker.socket.close()
        self._workers.clear()
        self._selector.close()

    def _hand_out(self) -> None:
        self._look()
        missing = min(self.size, self.pending) - len(self._workers)
        if missing > 0 and self._failed_starts < _FAILED_STARTS_LIMIT:
            with sigint_held():
                for _ in range(missing):
                    self._start()
        for tasks in range(_JOBS_PER_WORKER):  # idle workers come first
            for worker in self._workers:
                if self._waiting and worker.ready and len(worker.tasks) == tasks:
                    self._give(worker, self._waiting.popleft())

    def _start(self) -> None:
        worker = _Worker(self._watched_s)
        self._workers.append(worker)
        self._selector.register(worker.socket, selectors.EVENT_READ, worker)

    def _give(self, worker: _Worker, task: _Task) -> None:
        if not worker.tasks:
            worker.heard_s = self._watched_s
        job = task.job
        try:
            if self._sequence is None:
                step, _ = parted(job.sources)
                self._sequence = () if step is None else pack(WithFunctions.of(step))
            worker.give(task, self._sequence)
        except Exception as error:
            raise StoreError(
                f"the sources of slots {job.start} to {job.start + len(job.sources) - 1} cannot be sent to a worker "
                f"process: {error}",
                advice="build with threads",
                slot=job.start,
            ) from error
        self._expect(worker)

    def _expect(self, worker: _Worker) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.unsent else 0)
        self._selector.modify(worker.socket, wanted, worker)

    def _look(self) -> None:
        now_s = time.monotonic()
        self._watched_s += min(now_s - self._looked_s, 2 * _WAIT_LIMIT_S)
        self._looked_s = now_s

    def _exchange(self) -> list[FilledRun]:
        """Wait a short while for the sockets, send and receive, end dead and late workers, and return filled runs."""
        filled: list[FilledRun] = []
        ready = self._selector.select(_WAIT_LIMIT_S)
        self._look()
        for key, events in ready:
            worker: _Worker = key.data
            if events & selectors.EVENT_WRITE:
                worker.send()
                self._expect(worker)
            if events & selectors.EVENT_READ:
                messages = worker.receive()
                if messages is None:
                    filled += self._lose(worker, late=False)
                    continue
                worker.heard_s = self._watched_s
                for message in messages:
                    filled += self._take(worker, message)
        for worker in [worker for worker in self._workers if self._is_late(worker)]:
            filled += self._lose(worker, late=worker.process.poll() is None)
        return filled

    def _take(self, worker: _Worker, message: Any) -> list[FilledRun]:
        if isinstance(message, Raised):
            raise message.error from WorkerTraceError(message.trace)
        if message is None:
            worker.ready = True
            self._failed_starts = 0
            return []
        filled: FilledRun = message
        task = worker.tasks[0]
        done = len(filled.rows)
        if done == len(task.job.sources):
            worker.tasks.popleft()
        else:
            task.job = replace(task.job, start=task.job.start + done, sources=task.job.sources[done:])
        return [filled]

    def _is_late(self, worker: _Worker) -> bool:
        limit_s = math.inf
        if not worker.ready:
            limit_s = START_LIMIT_S
        elif worker.tasks:
            limit_s = self._timeout_s + REPORT_EVERY_S  # a worker may begin an image this long after its last message
        return self._watched_s - worker.heard_s > limit_s

    def _lose(self, worker: _Worker, *, late: bool) -> list[FilledRun]:
        """End a worker, and hand its tasks to others; return the slots that fail by that."""
        status = worker.end(0 if late else 1)
        self._selector.unregister(worker.socket)
        worker.socket.close()
        self._workers.remove(worker)
        if worker.ready:
            self._failed_starts = 0
        else:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS_LIMIT and not self._workers:
                how = f"they were not ready in {START_LIMIT_S:g} s" if late else f"the last one: {ending(status)}"
                raise StoreError(
                    f"worker processes cannot start, {self._failed_starts} ended before they began ({how}); see what "
                    "they printed, or build with threads. What was done is kept; the same call continues from there"
                )
        if not worker.tasks:
            return []
        task, *ahead = worker.tasks
        self._waiting.extendleft(reversed(ahead))  # the worker had not begun them
        return self._blame(task, status, late=late)

    def _blame(self, task: _Task, status: int, *, late: bool) -> list[FilledRun]:
        """Put back a task whose worker was ended while it had it in progress, or fail its slot."""
        job, count = task.job, len(task.job.sources)
        mapped = [file.path for file in job.slot_files if file.reserved]
        if status == -signal.SIGBUS and mapped:
            raise StoreError(
                f"the volume of {' or '.join(mapped)} failed or is full: a worker process was killed by SIGBUS when it "
                f"wrote slots {job.start} to {job.start + count - 1}. Mend it, or free some space; what was done is "
                "kept, and the same call continues from there",
                slot=job.start,
                source=mapped[0],
            )
        if count > 1:
            # If the worker was late, it was late with one of these, so each has one try left. If it died, nobody knows
            # which of them is to blame until each is alone in its job.
            singles = [
                _Task(replace(job, start=job.start + i, sources=[source]), late=int(late))
                for i, source in enumerate(job.sources)
            ]
            self._waiting.extendleft(reversed(singles))
            return []
        if late:
            task.late += 1
        else:
            task.deaths += 1
        if max(task.late, task.deaths) < _TRIES_PER_SLOT:
            self._waiting.appendleft(task)
            return []
        if late:
            reason = f"reading and decoding it took longer than {self._timeout_s:g} s (timeout_s), twice"
        else:
            reason = f"the worker process that decoded it died twice ({ending(status)})"
        return [job.failed(reason)]
