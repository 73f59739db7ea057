"""The flow: batches in order, a bounded number at once, errors at once, and every thread ends."""

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
from arraystore._reading import pipeline as flow_module
from arraystore._reading.pipeline import Flow, Making

SOON_S = 1.0  # within this an error must be where the batch is waited for


class Batch:
    """A batch that can be weakly referred to."""

    def __init__(self, number: int, rows: int) -> None:
        self.number = number
        self.rows = [0] * rows

    def fill(self, start: int, stop: int) -> None:
        for row in range(start, stop):
            self.rows[row] += 1


def making(number: int, *, pieces: int = 2, fill: Any = None, finish: Any = None) -> Making:
    batch = Batch(number, 2 * pieces)
    ranges = [(2 * piece, 2 * piece + 2) for piece in range(pieces)]
    return Making(ranges, fill or batch.fill, finish or (lambda: batch), f"batch {number}")


def makings(count: int, **options: Any) -> Iterator[Making]:
    return (making(number, **options) for number in range(count))


def eventually(true: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.001)
    return true()


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("arraystore-read")]


def drained(flow: Flow) -> list[int]:
    numbers = []
    while True:
        try:
            numbers.append(flow.take().number)
        except StopIteration:
            return numbers


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert eventually(lambda: readers() == [])


class Steps:
    """What a flow has called, and when it was over."""

    def __init__(self) -> None:
        self.stopped = 0
        self.closed = 0

    def stopping(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        self.closed += 1


def running(*args: Any, **options: Any) -> Flow:
    flow = Flow(*args, **options)
    flow.start()
    return flow


# --- order -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 30), st.integers(1, 6), st.integers(1, 5), st.data())
def test_batches_come_whole_and_in_order(count: int, workers: int, in_flight: int, data: st.DataObject) -> None:
    """Whatever the sizes, and however long each piece takes."""
    pieces = data.draw(st.lists(st.integers(1, 6), min_size=count, max_size=count))
    pauses = data.draw(st.lists(st.sampled_from([0, 0, 0, 0.0005]), min_size=count, max_size=count))
    steps = Steps()

    def slow(batch: Batch, pause: float) -> Callable[[int, int], None]:
        def fill(start: int, stop: int) -> None:
            time.sleep(pause * (start % 3))
            batch.fill(start, stop)

        return fill

    def source() -> Iterator[Making]:
        for number in range(count):
            batch = Batch(number, 2 * pieces[number])
            ranges = [(2 * piece, 2 * piece + 2) for piece in range(pieces[number])]
            yield Making(ranges, slow(batch, pauses[number]), lambda batch=batch: batch, f"batch {number}")

    flow = running(source(), workers=workers, in_flight=in_flight, stopping=steps.stopping, close=steps.close)
    for number in range(count):
        batch = flow.take()
        assert (batch.number, batch.rows) == (number, [1] * 2 * pieces[number])
    for _ in range(2):
        with pytest.raises(StopIteration):
            flow.take()
    flow.stop()
    assert eventually(lambda: steps.closed == 1)


def test_no_batches_are_the_end_at_once() -> None:
    flow = running(iter(()), workers=3, in_flight=2)
    assert drained(flow) == []


def test_no_more_are_begun_than_may_be_in_flight() -> None:
    begun: list[int] = []

    def source() -> Iterator[Making]:
        for number in range(50):
            begun.append(number)
            yield making(number)

    flow = running(source(), workers=4, in_flight=3)
    for taken in range(40):
        assert eventually(lambda taken=taken: len(begun) == taken + 3)
        assert flow.begun == taken + 3
        if taken % 10 == 0:
            time.sleep(0.03)
            assert len(begun) == taken + 3
        assert flow.take().number == taken
    flow.stop()
    assert len(begun) <= 43


def test_all_workers_share_one_batch() -> None:
    """Four pieces that wait for each other are filled, so four threads have one each."""
    together = threading.Barrier(4)
    flow = running(makings(5, pieces=4, fill=lambda _start, _stop: together.wait(10)), workers=4, in_flight=1)
    assert drained(flow) == [0, 1, 2, 3, 4]


def test_makings_are_advanced_by_one_thread_at_a_time() -> None:
    inside: list[int] = []

    def source() -> Iterator[Making]:
        for number in range(60):
            inside.append(1)
            time.sleep(0.0002)
            assert len(inside) == 1
            inside.pop()
            yield making(number, pieces=1)

    assert drained(running(source(), workers=5, in_flight=5)) == [*range(60)]


def test_a_thread_that_waits_keeps_no_batch() -> None:
    flow = running(makings(4), workers=3, in_flight=4)
    for _ in range(4):
        batch = weakref.ref(flow.take())
        assert eventually(lambda batch=batch: batch() is None, 0.5)
    flow.stop()


# --- what runs beside ------------------------------------------------------------------------------------------------


def test_what_runs_beside_sees_how_far_it_is() -> None:
    seen: list[tuple[int, bool]] = []

    def beside(flow: Flow) -> None:
        seen.extend((number, flow.opened(number)) for number in (0, 2, 3, 5, 99))

    flow = running(makings(6), workers=2, in_flight=2, beside=beside)
    assert eventually(lambda: len(seen) == 2)
    time.sleep(0.02)
    assert len(seen) == 2  # two are in flight: the third is begun when one is taken
    assert drained(flow) == [0, 1, 2, 3, 4, 5]
    assert eventually(lambda: len(seen) == 5)
    assert seen == [(0, True), (2, True), (3, True), (5, True), (99, False)]


def test_what_runs_beside_may_end_first_or_last() -> None:
    steps, hold = Steps(), threading.Event()
    flow = running(makings(5), workers=2, in_flight=2, beside=lambda _flow: None, close=steps.close)
    assert drained(flow) == [0, 1, 2, 3, 4]
    assert eventually(lambda: steps.closed == 1)
    steps = Steps()
    flow = running(makings(5), workers=2, in_flight=2, beside=lambda _flow: hold.wait(10) and None, close=steps.close)
    assert drained(flow) == [0, 1, 2, 3, 4]
    assert steps.closed == 0  # not before the last thread has ended
    hold.set()
    assert eventually(lambda: steps.closed == 1)


@pytest.mark.parametrize("how", ["stop", "error"])
def test_who_waits_for_batches_to_begin_is_told_that_none_will(how: str) -> None:
    answers: list[bool] = []
    began = threading.Event()

    def fill(_start: int, _stop: int) -> None:
        began.wait(10)
        raise OSError("broken")

    def beside(flow: Flow) -> None:
        began.set()
        answers.append(flow.opened(8))

    flow = running(
        makings(9, **({"fill": fill} if how == "error" else {})),
        workers=1,
        in_flight=2,
        beside=beside,
    )
    assert began.wait(10)
    if how == "error":
        with pytest.raises(OSError, match="broken"):
            flow.take()
    flow.stop()
    assert answers == [False]


# --- errors ----------------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_args: Any) -> Any:
        raise error

    return function


def broken(where: str, error: BaseException, steps: Steps, **options: Any) -> Flow:
    """A flow that is without end, but for an error at one place of batch 3; batch 0 is never filled."""
    stuck = threading.Event()

    def source() -> Iterator[Making]:
        for number in range(1000):
            if number == 3 and where == "makings":
                raise error
            parts: dict[str, Any] = {}
            if number == 3 and where in ("fill", "finish"):
                parts[where] = raising(error)
            if number == 0:
                parts["fill"] = lambda _start, _stop: stuck.wait(20)
            yield making(number, pieces=1, **parts)

    def stopping() -> None:
        steps.stopping()
        stuck.set()

    beside = raising(error) if where == "beside" else None
    return running(source(), workers=3, in_flight=5, beside=beside, stopping=stopping, close=steps.close, **options)


@pytest.mark.parametrize("kind", [OSError, ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("where", ["makings", "fill", "finish", "beside"])
def test_an_error_anywhere_is_raised_at_once(where: str, kind: type[BaseException]) -> None:
    """Also before batches that were begun earlier, and whatever it is; then all is over."""
    steps, error = Steps(), kind("broken")
    began = time.monotonic()
    flow = broken(where, error, steps)
    with pytest.raises(kind) as caught:
        flow.take()
    assert time.monotonic() - began < SOON_S
    assert caught.value is error
    notes = ["while batch 3 was made"] if where in ("fill", "finish") else []
    assert getattr(error, "__notes__", []) == notes
    assert readers() == []
    assert steps.closed == 1
    assert steps.stopped >= 1
    with pytest.raises(StopIteration):  # it is told once
        flow.take()


@pytest.mark.parametrize("where", ["makings", "fill", "finish", "beside"])
def test_a_stop_iteration_does_not_pass_for_the_end(where: str) -> None:
    """A user's function may call next() on what has ended; the epoch has not."""
    flow = broken(where, StopIteration("broken"), Steps())
    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        flow.take()
    assert isinstance(caught.value.__cause__, StopIteration)


def test_an_error_wakes_who_waits() -> None:
    release = threading.Event()

    def fill(_start: int, _stop: int) -> None:
        release.wait(10)
        raise OSError("late")

    flow = running(makings(3, fill=fill), workers=1, in_flight=1)
    timer = threading.Timer(0.05, release.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(OSError, match="late"):
        flow.take()
    assert time.monotonic() - began < SOON_S
    timer.join()


def test_of_several_errors_the_first_is_raised() -> None:
    over = threading.Event()

    def late(_start: int, _stop: int) -> None:
        over.wait(10)
        raise OSError("second")

    batches = [making(0, pieces=1, fill=late), making(1, pieces=1, fill=raising(OSError("first")))]
    flow = running(iter(batches), workers=2, in_flight=2, stopping=over.set)
    assert eventually(lambda: readers() == [])
    with pytest.raises(OSError, match="first"):
        flow.take()


def test_an_error_in_what_is_called_at_the_end_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    flow = running(
        makings(9, fill=raising(OSError("first"))), workers=1, in_flight=2, close=raising(ValueError("second"))
    )
    with pytest.raises(OSError, match="first"):
        flow.take()
    assert eventually(lambda: [str(each.exc_value) for each in told] == ["second"])


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_leaving_early_ends_all(taken: int) -> None:
    steps = Steps()
    flow = running(makings(1000), workers=3, in_flight=4, stopping=steps.stopping, close=steps.close)
    for _ in range(taken):
        flow.take()
    flow.stop()
    assert readers() == []
    assert (steps.closed, steps.stopped) == (1, 1)
    flow.stop()
    assert steps.closed == 1
    with pytest.raises(StopIteration):
        flow.take()


def test_many_flows_that_are_left_at_any_moment() -> None:
    steps = Steps()
    for number in range(300):
        flow = running(makings(8), workers=1 + number % 3, in_flight=1 + number % 4, close=steps.close)
        for _ in range(number % 9):
            flow.take()
        flow.stop()
    assert steps.closed == 300


def test_who_waits_is_woken_when_another_stops() -> None:
    release = threading.Event()
    flow = running(makings(3, fill=lambda _start, _stop: release.wait(10)), workers=1, in_flight=1)
    ended: list[bool] = []

    def consume() -> None:
        with pytest.raises(StopIteration):
            flow.take()
        ended.append(True)

    consumer = threading.Thread(target=consume)
    consumer.start()
    time.sleep(0.02)
    timer = threading.Timer(0.05, release.set)
    timer.start()
    flow.stop()
    consumer.join(SOON_S)
    timer.join()
    assert ended == [True]


def test_what_is_stuck_is_told_and_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flow_module, "_JOIN_S", 0.1)
    release, steps = threading.Event(), Steps()
    flow = running(makings(9, fill=lambda _start, _stop: release.wait(20)), workers=2, in_flight=3, close=steps.close)
    assert eventually(lambda: flow.begun in (1, 2))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        flow.stop()
    assert time.monotonic() - began < SOON_S
    messages = sorted(record.message for record in caplog.records)
    assert messages == [f"arraystore-read-{number} is still at work, and ends when that is done" for number in (0, 1)]
    assert steps.closed == 0
    release.set()
    assert eventually(lambda: steps.closed == 1)


@pytest.mark.parametrize("where", ["fill", "finish", "makings", "beside"])
def test_it_may_be_stopped_by_what_is_freed_in_its_own_threads(where: str) -> None:
    """The last reference to an iterator may go anywhere, in a user's function or while a lock is held, too."""

    class Holder:
        pass

    steps, holders = Steps(), [Holder()]
    flows: list[Flow] = []
    ready = threading.Event()

    def let_go(*_args: Any) -> None:
        ready.wait(10)
        holders.clear()

    def source() -> Iterator[Making]:
        for number in range(1000):
            if where == "makings" and number == 2:
                let_go()
            parts = {where: let_go} if where in ("fill", "finish") and number == 2 else {}
            yield making(number, pieces=1, **parts)

    beside = let_go if where == "beside" else None
    flows.append(running(source(), workers=2, in_flight=4, beside=beside, close=steps.close))
    weakref.finalize(holders[0], flows[0].stop)
    ready.set()
    assert eventually(lambda: steps.closed == 1)
    assert readers() == []
    assert drained(flows[0]) == []


def test_it_may_be_stopped_by_a_collection_in_another_flow() -> None:
    """Circles that hold flows are collected in the threads of others, which hold their own locks then."""
    steps = Steps()

    def forget() -> None:
        circle: list[Any] = [running(makings(100), workers=2, in_flight=2, close=steps.close)]
        circle.append(circle)

        class Holder:
            pass

        circle.append(Holder())
        weakref.finalize(circle[-1], circle[0].stop)

    def source() -> Iterator[Making]:
        for number in range(20):
            forget()
            gc.collect(0)
            yield making(number)

    assert drained(running(source(), workers=2, in_flight=2)) == [*range(20)]
    gc.collect()
    assert eventually(lambda: steps.closed == 20)


@pytest.mark.parametrize("started", [0, 1, 2])
@pytest.mark.parametrize("quick", [True, False])
def test_threads_that_cannot_start_are_an_error(monkeypatch: pytest.MonkeyPatch, started: int, quick: bool) -> None:  # noqa: FBT001
    steps, left = Steps(), [started]
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        original(thread)
        if quick:  # it has ended before the next would start
            thread.join(10)

    monkeypatch.setattr(threading.Thread, "start", start)
    message = "no thread could be started to read: can't start new thread; use fewer workers"
    with pytest.raises(StoreError, match="^" + re.escape(message) + "$") as caught:
        running(
            iter(()) if quick else makings(1000),
            workers=3,
            in_flight=2,
            stopping=steps.stopping,
            close=steps.close,
        )
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert eventually(lambda: steps.closed == 1)
    assert steps.stopped >= 1
    time.sleep(0.01)
    assert steps.closed == 1


def test_a_fork_has_no_threads_and_says_so() -> None:
    """What the child inherits may be locked for ever: it waits for none of it."""
    code = """
import os, signal, sys, threading, time
from arraystore.errors import StoreError
from arraystore._reading.pipeline import Flow, Making

def makings():
    for number in range(50):
        yield Making([(0, 1)], lambda start, stop: time.sleep(0.001), lambda number=number: number, "a batch")

flow = Flow(makings(), workers=2, in_flight=3)
flow.start()
assert flow.take() == 0
held, done = threading.Event(), threading.Event()

def hold():
    with flow._lock:  # as any of its threads may, at the moment of a fork
        held.set()
        done.wait(30)

holder = threading.Thread(target=hold)
holder.start()
assert held.wait(10)
for _ in range(5):
    child = os.fork()
    if not child:
        signal.alarm(20)
        status = 1
        try:
            flow.take()
        except StoreError as error:
            status = 0 if str(error).endswith("in the process that was forked: begin one of your own") else 2
        flow.stop()
        mine = Flow(makings(), workers=2, in_flight=3)
        mine.start()
        status += [mine.take() for _ in range(50)] != list(range(50))
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
done.set()
holder.join()
assert [flow.take() for _ in range(49)] == list(range(1, 50))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_an_interpreter_ends_with_a_flow_under_way() -> None:
    code = """
import time
from arraystore._reading.pipeline import Flow, Making
making = Making([(0, 1)], lambda start, stop: time.sleep(60), lambda: 1, "a batch")
flow = Flow(iter([making] * 9), workers=2, in_flight=3)
flow.start()
time.sleep(0.05)
"""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert time.monotonic() - began < 20
