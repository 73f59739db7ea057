"""Reading ahead: items in order, a bounded number ahead, errors at their items, and workers that die or are left."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.lazy_functions import (
    KillOnce,
    doubled,
    drawn,
    filled,
    kill_at_four,
    process,
    refuse_three,
    slow_five,
    unsendable,
)

from arraystore import Lazy, LazyError, StoreError, lazy
from arraystore._sequences.children import Children
from arraystore.errors import Kind

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 400.0


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    gc.collect()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("arraystore")] == []
    assert children() == []


def children() -> list[str]:
    """The worker processes of this process, those that wait to be reaped too."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            _, _, fields = (path / "stat").read_text().rpartition(")")
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        state, parent = fields.split()[:2]
        if int(parent) == os.getpid() and (b"arraystore._sequences.answers" in command or state == "Z"):
            found.append(path.name)
    return found


def read(items: Iterable[Any]) -> tuple[list[Any], LazyError]:
    """What comes out of a loop, and the error that ends it."""
    seen = []
    try:
        for item in items:
            seen.append(item)  # noqa: PERF402 - what came before the error counts
    except LazyError as error:
        return seen, error
    raise AssertionError("there was no error")


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [None, 1, 5])
@pytest.mark.parametrize("workers", [1, 3])
def test_items_come_in_order(workers: int, buffer: int | None) -> None:
    seq = lazy(range(40)).map(lambda item: time.sleep(0.001 * (item % 3)) or item)
    ahead = seq.prefetch(workers, buffer=buffer)
    assert list(ahead) == list(range(40))
    assert list(ahead) == list(range(40))  # each loop begins anew
    assert len(ahead) == 40
    order = np.random.default_rng(0).integers(-40, 40, 30)
    assert list(seq.prefetch(workers, order=order, buffer=buffer)) == [item % 40 for item in order.tolist()]
    assert list(lazy([]).prefetch(workers)) == []


def test_no_more_are_computed_than_the_buffer_takes() -> None:
    lock, begun = threading.Lock(), 0

    def count(item: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        return item

    for taken, item in enumerate(lazy(range(200)).map(count).prefetch(3, buffer=4), 1):
        assert item == taken - 1
        assert begun <= taken + 4


def test_parts_of_an_item_are_made_by_one_worker() -> None:
    calls: list[int] = []

    def split(item: int) -> tuple[Any, ...]:
        calls.append(item)
        time.sleep(0.002)  # so that other threads take what comes next
        return item, -item, "x"

    seq = lazy(range(30)).map(split).flatten(3)
    assert len(list(seq.prefetch(4, buffer=12))) == 90
    assert sorted(calls) == list(range(30))


def test_an_error_comes_at_its_item() -> None:
    seen, error = read(lazy(range(100)).map(refuse_three).prefetch(3))
    assert seen == [0, 1, 2]
    assert re.fullmatch(r"item 3 of \.map\(refuse_three\) at .*: ValueError: no three", str(error))


def test_leaving_a_loop_ends_the_threads() -> None:
    ran = []
    for item in lazy(range(10_000)).map(lambda item: ran.append(item) or item).prefetch(2):
        if item == 5:
            break
    ended = len(ran)
    assert ended < 100
    iterator = iter(lazy(range(9)).prefetch(2))
    assert next(iterator) == 0
    del iterator  # the fixture sees that nothing is left


def test_an_iteration_that_is_not_begun_starts_nothing() -> None:
    before = threading.active_count()
    iterator = iter(lazy(range(9)).prefetch(2))
    assert threading.active_count() == before
    del iterator


# --- processes -------------------------------------------------------------------------------------------------------


def test_processes_give_what_threads_give() -> None:
    seq = lazy(range(12)).map(filled).zip(lazy(range(12)).map(drawn)).memo(4).batch(3).map(doubled_batch).flatten(2)
    ours = list(seq)
    got = list(seq.prefetch(2, processes=True, buffer=20))
    assert len(got) == len(ours) == 8
    for one, other in zip(got, ours, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.flags.writeable
        assert one.dtype == other.dtype


def doubled_batch(batch: tuple[Any, Any]) -> tuple[Any, Any]:
    pixels, numbers = batch
    return pixels * 2, numbers


def test_arrays_come_back_in_memory_that_is_used_again() -> None:
    addresses = []
    kept = None
    for item in lazy(range(12)).map(filled).prefetch(1, processes=True, buffer=1):
        addresses.append(item.ctypes.data)
        if len(addresses) == 3:
            kept = item
    assert len(set(addresses)) < 6
    assert addresses.count(kept.ctypes.data) == 1 or addresses.index(kept.ctypes.data) < 3
    np.testing.assert_array_equal(kept, filled(2))


def test_a_process_that_dies_is_replaced_and_its_item_tried_again(tmp_path: Path) -> None:
    seq = lazy(range(8)).map(KillOnce(tmp_path / "flag")).map(process_beside)
    got = list(seq.prefetch(1, processes=True))
    assert [item for item, _ in got] == list(range(8))
    assert len({number for _, number in got}) == 2


def process_beside(item: int) -> tuple[int, int]:
    return item, process(item)[0]


@pytest.mark.parametrize(
    ("function", "timeout_s", "at", "why"),
    [
        (kill_at_four, None, 4, "died (killed by SIGKILL, as when memory runs out), twice"),
        (slow_five, 0.5, 5, "took longer than 0.5 s (timeout_s), twice"),
    ],
)
def test_an_item_that_ends_its_process_twice_is_an_error(
    function: Callable[[int], int], timeout_s: float | None, at: int, why: str
) -> None:
    seen, error = read(lazy(range(9)).map(function).prefetch(1, processes=True, timeout_s=timeout_s))
    assert seen == list(range(at))
    assert str(error).endswith(f"StoreError: the worker process that computed it {why}")
    assert (error.item, error.kind) == (at, Kind.CRASHED)


def test_errors_of_processes_come_at_their_items_with_their_causes() -> None:
    seen, error = read(lazy(range(9)).map(refuse_three).prefetch(2, processes=True))
    assert seen == [0, 1, 2]
    assert str(error).endswith("ValueError: no three")
    assert (error.item, error.step) == (3, ".map(refuse_three)")
    assert isinstance(error.__cause__, ValueError)
    assert "in refuse_three" in str(error.__cause__.__cause__)
    seen, error = read(lazy(range(5)).map(unsendable).prefetch(1, processes=True))
    assert seen == [0, 1]
    assert str(error) == (
        "item 2 cannot be sent by a worker process: TypeError: cannot pickle 'generator' object; use threads, or map "
        "it to arrays, numbers and texts"
    )


def test_half_an_answer_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(lazy(range(9)).map(filled).__lazy_step__, None, spare=1)
    try:
        np.testing.assert_array_equal(children.compute(1), filled(1))
        monkeypatch.setattr(children._blocks, "take", starve)
        with pytest.raises(MemoryError):
            children.compute(2)
        monkeypatch.undo()
        np.testing.assert_array_equal(children.compute(3), filled(3))
    finally:
        children.close()


def starve(_: Any) -> Any:
    raise MemoryError


def test_leaving_a_loop_ends_the_processes() -> None:
    seen = set()
    for _, parent in lazy(range(1000)).map(process).prefetch(2, processes=True):
        seen.add(parent)
        assert 1 <= len(children()) <= 2
        break
    assert seen == {os.getpid()}
    assert children() == []


def test_what_no_process_can_get_is_told() -> None:
    with pytest.raises(StoreError, match=r"^the sequence cannot be sent to worker processes: .*; use threads, or "):
        list(lazy([1]).map(lambda item: item).prefetch(1, processes=True))


SCRIPT = """
import sys
import arraystore

def tripled(item):
    return 3 * item

def main():
    print([*arraystore.lazy(range(5)).map(tripled).prefetch(1, processes=True)])

GUARD
    main()
"""


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_functions_of_a_script_with_a_guard_work(tmp_path: Path) -> None:
    done = run(tmp_path, SCRIPT.replace("GUARD", 'if __name__ == "__main__":'))
    assert (done.stdout, done.stderr, done.returncode) == ("[0, 3, 6, 9, 12]\n", "", 0)


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path: Path) -> None:
    done = run(tmp_path, SCRIPT.replace("GUARD", "if True:"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("put what the script does under if __name__ == '__main__':")


def test_lazy_is_what_a_loop_over_it_says() -> None:
    seq: Lazy = lazy(range(3))
    assert repr(seq.prefetch(2)) == "<prefetch of 3 items by 2 threads>"
    assert list(seq.map(doubled).prefetch()) == [0, 2, 4]
