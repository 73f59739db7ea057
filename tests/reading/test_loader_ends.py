"""However an iteration ends, its threads end with it, and no buffer and no file stays behind."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from textwrap import indent
from typing import Any

import numpy as np
import pytest
from support.readers import STORED, labels_of, numbered_store, readers, said, wait_for

import arraystore
from arraystore import Augment, Loader, Store, StoreError
from arraystore._format.slot_file import npy_header
from arraystore._workers import pipeline

ROOT = Path(__file__).resolve().parents[2]
SOON_S = 8.0  # a thread that does not stop is waited for longer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return numbered_store(tmp_path_factory.mktemp("ends") / "numbered.store")


def files() -> Counter[str]:
    """The files that are open in this process, and how often.

    Those that an earlier test has left to the collector may be closed at any time, so a test asks for new ones alone:
    the difference of two counters has no negative numbers.
    """
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the folder itself
            found[str(link.readlink())] += 1
    return found


class Ways:
    """Ways to leave a loop over a loader early."""

    @staticmethod
    def leave(loader: Loader) -> None:
        for _ in loader:
            break

    @staticmethod
    def give_back(loader: Loader) -> Any:
        for number, batch in enumerate(loader):
            if number == 2:
                return batch
        return None

    @staticmethod
    def fail(loader: Loader) -> None:
        with contextlib.suppress(ZeroDivisionError):
            for _ in loader:
                _ = 1 / 0

    @staticmethod
    def delete(loader: Loader) -> None:
        iterator = iter(loader)
        next(iterator)
        del iterator

    @staticmethod
    def begin_only(loader: Loader) -> None:
        iter(loader)

    @staticmethod
    def close(loader: Loader) -> None:
        iterator = iter(loader)
        next(iterator)
        iterator.close()  # type: ignore[attr-defined]

    @staticmethod
    def end_the_generator_around_it(loader: Loader) -> None:
        def wrapped() -> Iterator[Any]:
            yield from loader

        generator = wrapped()
        next(generator)
        generator.close()

    @staticmethod
    def drop_it_in_a_circle(loader: Loader) -> None:
        iterator = iter(loader)
        next(iterator)
        circle: list[Any] = [iterator]
        circle.append(circle)
        del circle, iterator
        gc.collect(0)


WAYS = [value.__func__ for value in vars(Ways).values() if isinstance(value, staticmethod)]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("times", [15, pytest.param(1000, marks=pytest.mark.long)])
def test_a_loop_that_is_left_early_leaves_nothing(store: Store, way: Any, times: int) -> None:
    before = files()
    made: list[int] = []

    def allocate(size: int) -> Any:
        made.append(size)
        return np.empty(size, np.uint8)

    for number in range(times):
        ahead = ("auto", "read", "off")[number % 3]
        loader = store.loader(4, workers=1 + number % 3, in_flight=2, ahead=ahead, allocate=allocate)
        made.clear()
        start_s = time.monotonic()
        way(loader)
        assert time.monotonic() - start_s < SOON_S
        assert readers() == []
        assert not files() - before
        assert loader._pool is not None
        assert len(loader._pool._free) == min(len(made), 4)  # every lease has come back


class InjectedError(Exception):
    """An error on purpose."""


def injections(store: Store) -> dict[str, dict[str, Any]]:
    """Options of loaders that fail somewhere in the midst of an epoch."""

    def image(image: Any) -> Any:
        if np.array_equal(image, store.images[60].transpose(1, 2, 0)):
            raise InjectedError
        return image

    def batch(batch: Any) -> Any:
        if 60 in batch[1]:
            raise InjectedError
        return batch

    def allocator(calls: int) -> Any:
        left = iter(range(calls))

        def allocate(size: int) -> Any:
            if next(left, None) is None:
                raise InjectedError
            return np.empty(size, np.uint8)

        return allocate

    return {
        "transform": {"transform": image},
        "batch_transform": {"batch_transform": batch},
        "allocate": {"allocate": allocator(0)},
        "allocate again": {"allocate": allocator(2), "in_flight": 3},
    }


def consume(loader: Loader) -> list[Any]:
    return list(loader)


@pytest.mark.parametrize("times", [6, pytest.param(25, marks=pytest.mark.long)])
@pytest.mark.parametrize("where", ["transform", "batch_transform", "allocate", "allocate again"])
def test_an_error_reaches_the_consumer_and_leaves_nothing(store: Store, where: str, times: int) -> None:
    before = files()
    for number in range(times):
        options = injections(store)[where]
        loader = store.loader(4, workers=1 + number % 3, ahead=("auto", "read")[number % 2], seed=number, **options)
        start_s = time.monotonic()
        with pytest.raises(InjectedError):
            consume(loader)
        assert time.monotonic() - start_s < SOON_S
        assert readers() == []
        assert not files() - before
    if where != "allocate again":
        return
    loader = store.loader(4, **injections(store)[where])
    with pytest.raises(InjectedError):
        consume(loader)
    assert loader._pool is not None
    assert len(loader._pool._free) == 2


def test_buffers_come_back_with_the_error_and_not_with_the_next_collection(store: Store) -> None:
    def fail(batch: Any) -> Any:
        if 60 in batch[1]:
            raise InjectedError
        return batch

    gc.disable()
    try:
        made: list[int] = []
        loader = store.loader(
            4, batch_transform=fail, allocate=lambda size: made.append(size) or np.empty(size, np.uint8)
        )
        with contextlib.suppress(InjectedError):
            deque(loader, maxlen=0)
        assert readers() == []
        assert loader._pool is not None
        assert len(loader._pool._free) == len(made) > 0
    finally:
        gc.enable()


def test_an_order_a_thread_and_a_file_that_fail(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files()

    def fail(*_args: Any, **_options: Any) -> Any:
        raise InjectedError

    loader = store.loader(4)
    monkeypatch.setattr("arraystore._ordering.order.Shuffle.draw", fail)
    with pytest.raises(InjectedError):
        consume(loader)
    monkeypatch.undo()
    monkeypatch.setattr("arraystore._reading.read_ahead.ReadAhead._fetch", fail)
    with pytest.raises(InjectedError):
        consume(loader)
    monkeypatch.undo()
    monkeypatch.setattr("arraystore._reading.batches.gather", fail)
    with pytest.raises(InjectedError) as caught:
        consume(loader)
    assert re.fullmatch(r"while batch \d of epoch 0 was made", caught.value.__notes__[0])
    monkeypatch.undo()
    monkeypatch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("can't start")))
    said(StoreError, "no thread could be started to read: can't start; use fewer workers", iter, loader)
    monkeypatch.undo()
    assert readers() == []
    assert not files() - before
    assert sorted(labels_of(loader)) == STORED.tolist()  # and it works again


def test_an_interrupt_while_threads_start_ends_those_that_have(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files()
    start = threading.Thread.start
    for number in range(4):
        left = iter(range(number))

        def interrupted(thread: threading.Thread, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            iter(store.loader(4, workers=3))
        monkeypatch.undo()
        assert readers() == []
        assert not files() - before


def test_an_error_is_told_at_once_though_another_thread_is_busy(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A transform that is stuck holds up who leaves for as long as the documentation says, and no longer."""
    assert pipeline._STOP_WAIT_S == 10
    assert "up to 10 seconds" in (Loader.__doc__ or "")
    monkeypatch.setattr(pipeline, "_STOP_WAIT_S", 0.2)
    stuck, release = threading.Event(), threading.Event()

    def transform(image: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return image
        if not stuck.is_set():
            stuck.set()
            release.wait(100)
        return image

    loader = store.loader(8, transform=transform, workers=2)
    iterator = iter(loader)
    assert stuck.wait(100)
    start_s = time.monotonic()
    with caplog.at_level(logging.WARNING):
        del iterator
    assert time.monotonic() - start_s < SOON_S
    assert len(readers()) == 1
    assert re.fullmatch(
        r"arraystore-read-\d is still at work, and ends when that is done", caplog.records[-1].getMessage()
    )
    release.set()
    wait_for(lambda: readers() == [])


def test_leaving_waits_for_a_few_calls_of_a_slow_transform_and_not_for_the_batch(store: Store) -> None:
    calls: list[int] = []

    def slow(image: Any) -> Any:
        calls.append(1)
        time.sleep(0.2)
        return image

    loader = store.loader(99, transform=slow, workers=2)
    iterator = iter(loader)
    wait_for(lambda: len(calls) > 3)
    del iterator
    assert len(calls) < 99
    assert readers() == []


def test_an_iteration_that_is_freed_in_its_own_thread_ends(store: Store) -> None:
    held = SimpleQueue[Any]()

    def let_go(batch: Any) -> Any:
        with contextlib.suppress(Empty):
            held.get(timeout=20)
        return batch

    before = files()
    for _ in range(20):
        held.put(iter(store.loader(4, batch_transform=let_go, workers=1)))
        wait_for(lambda: readers() == [])
    assert not files() - before


BEGIN = """
import os, pickle, signal, sys, threading, time, warnings
import arraystore
store = arraystore.open(sys.argv[1])
started, first = threading.Event(), threading.Lock()
def called(wait_s):
    if threading.current_thread() is not threading.main_thread():
        if first.acquire(blocking=False):
            print("waiting", flush=True)
            started.set()
        time.sleep(wait_s)
def stuck(image):
    called(60)
    return image
def slow(image):
    called(0.2)
    return image
def left():
    return len([thread for thread in threading.enumerate() if thread.name.startswith("arraystore-read")])
"""
INTERRUPTED = """
    raise SystemExit("not interrupted")
except KeyboardInterrupt:
    print("interrupted", left())
"""
SHORT = "import arraystore._workers.pipeline\narraystore._workers.pipeline._STOP_WAIT_S = 0.1\n"
STARTED = """
started.wait()
print("end")
"""
STEP = """
for batch in store.loader(4):
    print("waiting", flush=True)
    time.sleep(60)
"""
FORK = """
warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons, of any fork beside threads
signal.alarm(60)
loader = store.loader(4, workers=3, cache=2000)
def hold(lock, held, forked):
    with lock:
        held.set()
        forked.wait()
for _ in range(8):
    iterator = iter(loader)
    next(iterator)
    held, forked = threading.Event(), threading.Event()
    threading.Thread(target=hold, args=(iterator._pipeline._lock, held, forked)).start()
    held.wait()
    child = os.fork()
    if child == 0:
        try:
            next(iterator)
        except arraystore.StoreError as error:
            told = str(error)
        del iterator
        good = told.endswith("begin one of your own") and sum(len(y) for _, y in loader) == 99 and left() == 0
        os._exit(0 if good else 1)
    forked.set()
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(iterator)) == 24
print(left())
"""
# What a process does; the signal that it gets once it says that it waits; its exit code, and what it says. They run
# side by side; those that wait for a signal get it first.
PROCESSES: dict[str, tuple[str, signal.Signals | None, int, str]] = {
    "Ctrl-C while next waits": (
        f"try:\n    next(iter(store.loader(99, transform=slow, workers=2))){INTERRUPTED}",
        signal.SIGINT,
        0,
        "waiting\ninterrupted 0\n",
    ),
    "Ctrl-C while next waits for what is stuck": (
        f"{SHORT}try:\n    next(iter(store.loader(9, transform=stuck, workers=1))){INTERRUPTED}",
        signal.SIGINT,
        0,
        "waiting\ninterrupted 1\n",
    ),
    "Ctrl-C in the training step": (
        f"try:\n{indent(STEP, '    ')}{INTERRUPTED}",
        signal.SIGINT,
        0,
        "waiting\ninterrupted 0\n",
    ),
    "SIGTERM": (
        STEP,
        signal.SIGTERM,
        -signal.SIGTERM,
        "waiting\n",
    ),
    "SIGTERM that is handled": (
        f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)){STEP}",
        signal.SIGTERM,
        3,
        "waiting\n",
    ),
    "exit with a live iterator": ("it = iter(store.loader(4)); next(it); print('end')", None, 0, "end\n"),
    "exit with threads that read ahead": (
        "it = iter(store.loader(4, ahead='read', workers=5)); next(it); print('end')",
        None,
        0,
        "end\n",
    ),
    "exit with a transform that is stuck": (
        f"{SHORT}it = iter(store.loader(9, transform=stuck)){STARTED}",
        None,
        0,
        "waiting\nend\n",
    ),
    "forks while it reads": (FORK, None, 0, "0\n"),
}


def child(code: str, *args: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_processes_that_end_or_fork_while_they_read(store: Store) -> None:
    running = {name: child(BEGIN + code, str(store.path)) for name, (code, *_) in PROCESSES.items()}
    try:
        for name, (_, sent, code, says) in PROCESSES.items():
            process = running[name]
            assert process.stdout is not None
            begun = ""
            if sent is not None:
                begun = process.stdout.readline()
                process.send_signal(sent)
            start_s = time.monotonic()
            out, errors = process.communicate(timeout=400)
            assert (begun + out, process.returncode) == (says, code), f"{name}: {errors}"
            assert sent is None or time.monotonic() - start_s < 40, name
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def test_a_loader_goes_to_a_process_of_its_own(store: Store, tmp_path: Path) -> None:
    loader = store.loader(7, seed=4, augment=Augment(hflip=0.5), cache="1 MB", targets="pair")
    next(iter(loader))
    (tmp_path / "loader").write_bytes(pickle.dumps(loader))
    code = (
        "import hashlib, pickle, sys\n"
        "loader = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print([hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() for x, y in loader])"
    )
    out, errors = child(code, tmp_path / "loader").communicate(timeout=400)
    expected = [hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() for x, y in loader]
    assert out == f"{expected}\n", errors


def stretch(folder: Path, count: int) -> None:
    """Make a store of so many slots out of a small one: a hole for pixels, and real targets."""
    arraystore.build(np.zeros((2, 8, 8, 3), np.uint8), folder, size=8, labels=[0, 1], progress=False)
    description = json.loads((folder / "store.json").read_text())
    for name in ("digest", "digests"):
        del description[name]
    description["count"] = count
    description["targets"] = {"labels": {"dtype": "uint8", "shape": [count]}}
    (folder / "store.json").write_text(json.dumps(description))
    header = npy_header((count, 3, 8, 8))
    with (folder / "images.npy").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + count * 192)
    np.save(folder / "status.npy", np.ones(count, np.uint8))
    np.save(folder / "labels.npy", np.arange(count, dtype=np.uint8))
    np.lib.format.open_memmap(folder / "checksums.npy", "w+", np.uint64, (count,))


def test_ten_million_slots_are_opened_and_shuffled_at_once(tmp_path: Path) -> None:
    """A thousand times the slots take at most ten times as long, and no more memory."""
    for name, count in (("small.store", 10_000), ("large.store", 10_000_000)):
        stretch(tmp_path / name, count)
    code = (
        "import pathlib, sys, time, arraystore\n"
        "seconds = []\n"
        "for path in (sys.argv[1], sys.argv[1], sys.argv[2]):  # the first loads modules\n"
        "    start = time.perf_counter()\n"
        "    images, labels = next(iter(arraystore.open(path).loader(256)))\n"
        "    seconds.append(time.perf_counter() - start)\n"
        "print(seconds[2] / seconds[1], images.shape, len(set(labels.tolist())))\n"
        "print(pathlib.Path('/proc/self/smaps_rollup').read_text())"
    )
    ratios = []
    for _ in range(5):  # other processes may be at work
        out, errors = child(code, tmp_path / "small.store", tmp_path / "large.store").communicate(timeout=400)
        assert not errors
        ratio, rest = out.split(" ", 1)
        assert rest.startswith("(256, 3, 8, 8) 1")
        found = re.search(r"Anonymous: +(\d+) kB", rest)
        assert found is not None
        assert int(found[1]) < 100_000
        ratios.append(float(ratio))
        if ratios[-1] < 10:
            return
    pytest.fail(f"it took {ratios} times as long")
