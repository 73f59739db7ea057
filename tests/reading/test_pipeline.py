"""The pipeline: batches in order, a bounded number at once, errors at once, and every thread ends."""

from __future__ import annotations

import gc
import logging
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraystore import StoreError
from arraystore._workers import pipeline as pipeline_module
from arraystore._workers.pipeline import Batch, Pipeline

SOON_S = 20.0  # within this an error must be where the batch is waited for; what is stuck takes much longer


class Rows:
    """The result of a batch, which can be weakly referred to."""

    def __init__(self, number: int, rows: int) -> None:
        self.number = number
        self.rows = [0] * rows

    def fill(self, start: int, stop: int) -> None:
        for row in range(start, stop):
            self.rows[row] += 1


class Made(Batch):
    """A batch that two functions make."""

    def __init__(
        self, pieces: list[tuple[int, int]], fill: Callable[[int, int], None], finish: Callable[[], Any], about: str
    ) -> None:
        super().__init__(pieces, about)
        self._fill, self._finish = fill, finish

    def fill(self, start: int, stop: int) -> None:
        self._fill(start, stop)

    def finish(self) -> Any:
        return self._finish()


def batch_of(number: int, *, pieces: int = 2, fill: Any = None, finish: Any = None) -> Batch:
    batch = Rows(number, 2 * pieces)
    ranges = [(2 * piece, 2 * piece + 2) for piece in range(pieces)]
    return Made(ranges, fill or batch.fill, finish or (lambda: batch), f"batch {number}")


def batches(count: int, **options: Any) -> Iterator[Batch]:
    return (batch_of(number, **options) for number in range(count))


def eventually(true: Callable[[], bool], seconds: float = 100) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.001)
    return true()


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("arraystore-read")]


def drained(pipeline: Pipeline) -> list[int]:
    numbers = []
    while True:
        try:
            numbers.append(pipeline.take().number)
        except StopIteration:
            return numbers


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert eventually(lambda: readers() == [])


class Steps:
    """What a pipeline has called, and when it was over."""

    def __init__(self) -> None:
        self.stopped = 0
        self.closed = 0

    def stopping(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        self.closed += 1


def running(*args: Any, **options: Any) -> Pipeline:
    pipeline = Pipeline(*args, **options)
    pipeline.start()
    return pipeline


# --- order -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 30), st.integers(1, 6), st.integers(1, 5), st.data())
def test_batches_come_whole_and_in_order(count: int, workers: int, in_flight: int, data: st.DataObject) -> None:
    """Whatever the sizes, and however long each piece takes."""
    pieces = data.draw(st.lists(st.integers(1, 6), min_size=count, max_size=count))
    pauses = data.draw(st.lists(st.sampled_from([0, 0, 0, 0.0005]), min_size=count, max_size=count))
    steps = Steps()

    def slow(batch: Rows, pause: float) -> Callable[[int, int], None]:
        def fill(start: int, stop: int) -> None:
            time.sleep(pause * (start % 3))
            batch.fill(start, stop)

        return fill

    def source() -> Iterator[Batch]:
        for number in range(count):
            batch = Rows(number, 2 * pieces[number])
            ranges = [(2 * piece, 2 * piece + 2) for piece in range(pieces[number])]
            yield Made(ranges, slow(batch, pauses[number]), lambda batch=batch: batch, f"batch {number}")

    pipeline = running(source(), workers=workers, in_flight=in_flight, on_stop=steps.stopping, on_end=steps.close)
    for number in range(count):
        batch = pipeline.take()
        assert (batch.number, batch.rows) == (number, [1] * 2 * pieces[number])
    for _ in range(2):
        with pytest.raises(StopIteration):
            pipeline.take()
    pipeline.stop()
    assert eventually(lambda: steps.closed == 1)


def test_no_batches_are_the_end_at_once() -> None:
    pipeline = running(iter(()), workers=3, in_flight=2)
    assert drained(pipeline) == []


def test_no_more_are_begun_than_may_be_in_flight() -> None:
    begun: list[int] = []

    def source() -> Iterator[Batch]:
        for number in range(50):
            begun.append(number)
            yield batch_of(number)

    pipeline = running(source(), workers=4, in_flight=3)
    for taken in range(40):
        assert eventually(lambda taken=taken: len(begun) == taken + 3)
        assert pipeline.begun == taken + 3
        if taken % 10 == 0:
            time.sleep(0.03)
            assert len(begun) == taken + 3
        assert pipeline.take().number == taken
    pipeline.stop()
    assert len(begun) <= 43


def test_all_workers_share_one_batch() -> None:
    """Four pieces that wait for each other are filled, so four threads have one each."""
    together = threading.Barrier(4)
    pipeline = running(batches(5, pieces=4, fill=lambda _start, _stop: together.wait(100)), workers=4, in_flight=1)
    assert drained(pipeline) == [0, 1, 2, 3, 4]


def test_batches_are_advanced_by_one_thread_at_a_time() -> None:
    inside: list[int] = []

    def source() -> Iterator[Batch]:
        for number in range(60):
            inside.append(1)
            time.sleep(0.0002)
            assert len(inside) == 1
            inside.pop()
            yield batch_of(number, pieces=1)

    assert drained(running(source(), workers=5, in_flight=5)) == [*range(60)]


def test_a_thread_that_waits_keeps_no_batch() -> None:
    pipeline = running(batches(4), workers=3, in_flight=4)
    for _ in range(4):
        batch = weakref.ref(pipeline.take())
        assert eventually(lambda batch=batch: batch() is None, 0.5)
    pipeline.stop()


# --- the function beside the batches ----------------------------------------------------------------------------------


def test_what_runs_beside_sees_how_far_it_is() -> None:
    seen: list[tuple[int, bool]] = []

    def also_run(pipeline: Pipeline) -> None:
        seen.extend((number, pipeline.wait_begun(number)) for number in (0, 2, 3, 5, 99))

    pipeline = running(batches(6), workers=2, in_flight=2, also_run=also_run)
    assert eventually(lambda: len(seen) == 2)
    time.sleep(0.02)
    assert len(seen) == 2  # two are in flight: the third is begun when one is taken
    assert drained(pipeline) == [0, 1, 2, 3, 4, 5]
    assert eventually(lambda: len(seen) == 5)
    assert seen == [(0, True), (2, True), (3, True), (5, True), (99, False)]


def test_what_runs_beside_may_end_first_or_last() -> None:
    steps, hold = Steps(), threading.Event()
    pipeline = running(batches(5), workers=2, in_flight=2, also_run=lambda _pipeline: None, on_end=steps.close)
    assert drained(pipeline) == [0, 1, 2, 3, 4]
    assert eventually(lambda: steps.closed == 1)
    steps = Steps()
    pipeline = running(
        batches(5), workers=2, in_flight=2, also_run=lambda _pipeline: hold.wait(100) and None, on_end=steps.close
    )
    assert drained(pipeline) == [0, 1, 2, 3, 4]
    assert steps.closed == 0  # not before the last thread has ended
    hold.set()
    assert eventually(lambda: steps.closed == 1)


@pytest.mark.parametrize("how", ["stop", "error"])
def test_who_waits_for_batches_to_begin_is_told_that_none_will(how: str) -> None:
    answers: list[bool] = []
    began = threading.Event()

    def fill(_start: int, _stop: int) -> None:
        began.wait(100)
        raise OSError("broken")

    def also_run(pipeline: Pipeline) -> None:
        began.set()
        answers.append(pipeline.wait_begun(8))

    pipeline = running(
        batches(9, **({"fill": fill} if how == "error" else {})),
        workers=1,
        in_flight=2,
        also_run=also_run,
    )
    assert began.wait(100)
    if how == "error":
        with pytest.raises(OSError, match="broken"):
            pipeline.take()
    pipeline.stop()
    assert answers == [False]


# --- errors ----------------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_args: Any) -> Any:
        raise error

    return function


def broken(where: str, error: BaseException, steps: Steps, **options: Any) -> Pipeline:
    """A pipeline that is without end, but for an error at one place of batch 3; batch 0 is never filled."""
    stuck = threading.Event()

    def source() -> Iterator[Batch]:
        for number in range(1000):
            if number == 3 and where == "batches":
                raise error
            parts: dict[str, Any] = {}
            if number == 3 and where in ("fill", "finish"):
                parts[where] = raising(error)
            if number == 0:
                parts["fill"] = lambda _start, _stop: stuck.wait(100)
            yield batch_of(number, pieces=1, **parts)

    def stopping() -> None:
        steps.stopping()
        stuck.set()

    also_run = raising(error) if where == "also_run" else None
    return running(source(), workers=3, in_flight=5, also_run=also_run, on_stop=stopping, on_end=steps.close, **options)


@pytest.mark.parametrize("kind", [OSError, ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("where", ["batches", "fill", "finish", "also_run"])
def test_an_error_anywhere_is_raised_at_once(where: str, kind: type[BaseException]) -> None:
    """Also before batches that were begun earlier, and whatever it is; then all is over."""
    steps, error = Steps(), kind("broken")
    began = time.monotonic()
    pipeline = broken(where, error, steps)
    with pytest.raises(kind) as caught:
        pipeline.take()
    assert time.monotonic() - began < SOON_S
    assert caught.value is error
    notes = ["while batch 3 was made"] if where in ("fill", "finish") else []
    assert getattr(error, "__notes__", []) == notes
    assert readers() == []
    assert steps.closed == 1
    assert steps.stopped >= 1
    with pytest.raises(StopIteration):  # it is told once
        pipeline.take()


@pytest.mark.parametrize("where", ["batches", "fill", "finish", "also_run"])
def test_a_stop_iteration_does_not_pass_for_the_end(where: str) -> None:
    """A user's function may call next() on what has ended; the epoch has not."""
    pipeline = broken(where, StopIteration("broken"), Steps())
    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        pipeline.take()
    assert isinstance(caught.value.__cause__, StopIteration)


def test_an_error_wakes_who_waits() -> None:
    release = threading.Event()

    def fill(_start: int, _stop: int) -> None:
        release.wait(100)
        raise OSError("late")

    pipeline = running(batches(3, fill=fill), workers=1, in_flight=1)
    timer = threading.Timer(0.05, release.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(OSError, match="late"):
        pipeline.take()
    assert time.monotonic() - began < SOON_S
    timer.join()


def test_of_several_errors_the_first_is_raised() -> None:
    over = threading.Event()

    def late(_start: int, _stop: int) -> None:
        over.wait(100)
        raise OSError("second")

    batches = [batch_of(0, pieces=1, fill=late), batch_of(1, pieces=1, fill=raising(OSError("first")))]
    pipeline = running(iter(batches), workers=2, in_flight=2, on_stop=over.set)
    assert eventually(lambda: readers() == [])
    with pytest.raises(OSError, match="first"):
        pipeline.take()


def test_an_error_in_what_is_called_at_the_end_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    pipeline = running(
        batches(9, fill=raising(OSError("first"))), workers=1, in_flight=2, on_end=raising(ValueError("second"))
    )
    with pytest.raises(OSError, match="first"):
        pipeline.take()
    assert eventually(lambda: [str(each.exc_value) for each in told] == ["second"])


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_leaving_early_ends_all(taken: int) -> None:
    steps = Steps()
    pipeline = running(batches(1000), workers=3, in_flight=4, on_stop=steps.stopping, on_end=steps.close)
    for _ in range(taken):
        pipeline.take()
    pipeline.stop()
    assert readers() == []
    assert (steps.closed, steps.stopped) == (1, 1)
    pipeline.stop()
    assert steps.closed == 1
    with pytest.raises(StopIteration):
        pipeline.take()


def test_many_flows_that_are_left_at_any_moment() -> None:
    steps = Steps()
    for number in range(300):
        pipeline = running(batches(8), workers=1 + number % 3, in_flight=1 + number % 4, on_end=steps.close)
        for _ in range(number % 9):
            pipeline.take()
        pipeline.stop()
    assert steps.closed == 300


def test_who_waits_is_woken_when_another_stops() -> None:
    release = threading.Event()
    pipeline = running(batches(3, fill=lambda _start, _stop: release.wait(100)), workers=1, in_flight=1)
    ended: list[bool] = []

    def consume() -> None:
        with pytest.raises(StopIteration):
            pipeline.take()
        ended.append(True)

    consumer = threading.Thread(target=consume)
    consumer.start()
    time.sleep(0.02)
    timer = threading.Timer(0.05, release.set)
    timer.start()
    pipeline.stop()
    consumer.join(SOON_S)
    timer.join()
    assert ended == [True]


def test_what_is_stuck_is_told_and_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pipeline_module, "_STOP_WAIT_S", 0.1)
    release, steps = threading.Event(), Steps()
    pipeline = running(
        batches(9, fill=lambda _start, _stop: release.wait(100)), workers=2, in_flight=3, on_end=steps.close
    )
    assert eventually(lambda: pipeline.begun in (1, 2))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        pipeline.stop()
    assert time.monotonic() - began < SOON_S
    messages = sorted(record.message for record in caplog.records)
    assert messages == [f"arraystore-read-{number} is still at work, and ends when that is done" for number in (0, 1)]
    assert steps.closed == 0
    release.set()
    assert eventually(lambda: steps.closed == 1)


@pytest.mark.parametrize("where", ["fill", "finish", "batches", "also_run"])
def test_it_may_be_stopped_by_what_is_freed_in_its_own_threads(where: str) -> None:
    """The last reference to an iterator may go anywhere, in a user's function or while a lock is held, too."""

    class Holder:
        pass

    steps, holders = Steps(), [Holder()]
    pipelines: list[Pipeline] = []
    ready = threading.Event()

    def let_go(*_args: Any) -> None:
        ready.wait(100)
        holders.clear()

    def source() -> Iterator[Batch]:
        for number in range(1000):
            if where == "batches" and number == 2:
                let_go()
            parts = {where: let_go} if where in ("fill", "finish") and number == 2 else {}
            yield batch_of(number, pieces=1, **parts)

    also_run = let_go if where == "also_run" else None
    pipelines.append(running(source(), workers=2, in_flight=4, also_run=also_run, on_end=steps.close))
    weakref.finalize(holders[0], pipelines[0].stop)
    ready.set()
    assert eventually(lambda: steps.closed == 1)
    assert readers() == []
    assert drained(pipelines[0]) == []


def test_it_may_be_stopped_by_a_collection_in_another_flow() -> None:
    """Circles that hold pipelines are collected in the threads of others, which hold their own locks then."""
    steps = Steps()

    def forget() -> None:
        circle: list[Any] = [running(batches(100), workers=2, in_flight=2, on_end=steps.close)]
        circle.append(circle)

        class Holder:
            pass

        circle.append(Holder())
        weakref.finalize(circle[-1], circle[0].stop)

    def source() -> Iterator[Batch]:
        for number in range(20):
            forget()
            gc.collect(0)
            yield batch_of(number)

    assert drained(running(source(), workers=2, in_flight=2)) == [*range(20)]
    gc.collect()
    assert eventually(lambda: steps.closed == 20)


@pytest.mark.parametrize("started", [0, 1, 2])
@pytest.mark.parametrize("quick", [True, False])
def test_threads_that_cannot_start_are_an_error(monkeypatch: pytest.MonkeyPatch, started: int, quick: bool) -> None:
    steps, left = Steps(), [started]
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        original(thread)
        if quick:  # it has ended before the next would start
            thread.join(100)

    monkeypatch.setattr(threading.Thread, "start", start)
    message = "no thread could be started to read: can't start new thread; use fewer workers"
    with pytest.raises(StoreError, match="^" + re.escape(message) + "$") as caught:
        running(
            iter(()) if quick else batches(1000),
            workers=3,
            in_flight=2,
            on_stop=steps.stopping,
            on_end=steps.close,
        )
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert eventually(lambda: steps.closed == 1)
    assert steps.stopped >= 1
    time.sleep(0.01)
    assert steps.closed == 1


NUMBER = """
import time
from arraystore._workers.pipeline import Batch, Pipeline

class Number(Batch):
    def __init__(self, number, seconds):
        super().__init__([(0, 1)], "a batch")
        self.number, self.seconds = number, seconds

    def fill(self, start, stop):
        time.sleep(self.seconds)

    def finish(self):
        return self.number

"""


def test_a_fork_has_no_threads_and_says_so() -> None:
    """What the child inherits may be locked for ever: it waits for none of it."""
    code = (
        NUMBER
        + """
import os, signal, sys, threading, time
from arraystore.errors import StoreError

def batches():
    return (Number(number, 0.001) for number in range(50))

pipeline = Pipeline(batches(), workers=2, in_flight=3)
pipeline.start()
assert pipeline.take() == 0
held, done = threading.Event(), threading.Event()

def hold():
    with pipeline._lock:  # as any of its threads may, at the moment of a fork
        held.set()
        done.wait(300)

holder = threading.Thread(target=hold)
holder.start()
assert held.wait(100)
for _ in range(5):
    child = os.fork()
    if not child:
        signal.alarm(200)
        status = 1
        try:
            pipeline.take()
        except StoreError as error:
            status = 0 if str(error).endswith("in the process that was forked: begin one of your own") else 2
        pipeline.stop()
        mine = Pipeline(batches(), workers=2, in_flight=3)
        mine.start()
        status += [mine.take() for _ in range(50)] != list(range(50))
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
done.set()
holder.join()
assert [pipeline.take() for _ in range(49)] == list(range(1, 50))
"""
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=400)


def test_an_interpreter_ends_with_a_flow_under_way() -> None:
    code = (
        NUMBER
        + """
pipeline = Pipeline((Number(number, 60) for number in range(9)), workers=2, in_flight=3)
pipeline.start()
time.sleep(0.05)
"""
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=400)
    assert time.monotonic() - began < 50
