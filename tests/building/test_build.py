"""A build is the same whatever runs it, survives whatever stops it, and says what went wrong."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import images
from support.nursery import KilledError, Nursery
from support.store_contract import assert_equal, build, count_decodes, plain

import arraystore
from arraystore import BadImagesError, Progress, SpecError, StoreError
from arraystore._building.runs import cut_runs
from arraystore._decoding import decode as decode_module
from arraystore._stores.publishing import partial_of
from arraystore.errors import Kind, Option

ROOT = Path(__file__).resolve().parents[2]


def contents(store: Path) -> dict[str, bytes]:
    """Every byte of a store; samples.parquet holds no time of its own, so it counts too."""
    files = sorted(path for path in store.rglob("*") if path.is_file()) if store.is_dir() else [store]
    return {path.name: path.read_bytes() for path in files}


def filling_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("arraystore-fill")]


@pytest.fixture(scope="module", params=["spawn", "forkserver"])
def processes(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context(request.param)
    # A spawned process loads all by itself; those of a fork server share that.
    with ProcessPoolExecutor(1 if request.param == "spawn" else 2, mp_context=context) as pool:
        yield pool


# --- the same for any workers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 5, 64])
@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_the_bytes_are_the_same_for_any_number_of_workers(mixed: Path, tmp_path: Path, name: str, workers: int) -> None:
    for number in (1, workers):
        (tmp_path / str(number)).mkdir()
        build(mixed, tmp_path / str(number) / name, workers=number, bad="keep")
    made = contents(tmp_path / str(workers) / name)
    assert made == contents(tmp_path / "1" / name)
    assert made


def test_the_bytes_are_the_same_in_ram(photos: Path) -> None:
    oracle = build(photos, workers=1)
    for workers in (2, 5):
        assert_equal(oracle, build(photos, workers=workers))


def test_processes_make_the_same_bytes(
    photos: Path, mixed: Path, tmp_path: Path, processes: ProcessPoolExecutor
) -> None:
    assert_equal(build(photos), build(photos, executor=processes, workers=None))
    for name in ("x.store", "x.h5"):
        for source, bad in ((photos, "raise"), (mixed, "keep"), (mixed, "drop")):
            for folder, executor in (("threads", None), ("processes", processes)):
                (tmp_path / folder).mkdir(exist_ok=True)
                build(source, tmp_path / folder / name, executor=executor, workers=2, bad=bad, overwrite=True)
            assert contents(tmp_path / "processes" / name) == contents(tmp_path / "threads" / name)
    assert processes.submit(os.getpid).result() != os.getpid()  # it was not shut down


def test_processes_take_bytes_and_arrays(processes: ProcessPoolExecutor) -> None:
    arrays = images.noise(40, 30).reshape(20, 2, 30, 3)
    assert_equal(build(arrays), build(arrays, executor=processes))
    data = [images.jpeg(images.photo(20, 30, seed=i)) for i in range(20)]
    assert_equal(build(data), build(data, executor=processes))


def test_a_callers_threads_are_used_and_left_running(photos: Path, tmp_path: Path) -> None:
    names: set[str] = set()

    with ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
        original = decode_module.decode_into

        def noting(*args: Any, **limits: Any) -> Any:
            names.add(threading.current_thread().name.partition("_")[0])
            return original(*args, **limits)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decode_module, "decode_into", noting)
            assert_equal(build(photos), build(photos, tmp_path / "x", executor=pool))
        names.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decode_module, "decode_into", noting)
            build(photos, executor=pool)
        assert names == {"mine"}
        assert pool.submit(int, "7").result() == 7


def test_only_a_bounded_number_of_sources_is_held(tmp_path: Path) -> None:
    """An iterable larger than memory must not be read ahead of the workers."""
    ahead: list[int] = []
    settled = [0]

    class Endless:
        def __len__(self) -> int:
            return 600

        def __iter__(self) -> Iterator[images.Pixels]:
            for slot in range(600):
                ahead.append(slot - settled[0])
                yield np.full((2, 2, 3), slot % 256, np.uint8)

    def progress(now: Progress) -> None:
        settled[0] = now.done

    store = build(Endless(), tmp_path / "x", workers=2, progress=progress)
    np.testing.assert_array_equal(store.images[:, 0, 0, 0], np.arange(600) % 256)
    assert max(ahead) <= 16 * 3 * 2 + 16


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": None}, "size is missing: pass size=256, or (height, width), in pixels"),
        ({"bad": "skip"}, "bad must be 'raise', 'keep' or 'drop', not 'skip'"),
        ({"workers": 0}, "workers must be a whole number of 1 or more, not 0"),
        ({"workers": -1}, "workers must be a whole number of 1 or more, not -1"),
        ({"timeout_s": 0}, "timeout_s must be a number of seconds greater than 0, not 0"),
        ({"timeout_s": -1.5}, "timeout_s must be a number of seconds greater than 0, not -1.5"),
        ({"timeout_s": float("inf")}, "timeout_s must be a number of seconds greater than 0, not inf"),
        ({"timeout_s": float("nan")}, "timeout_s must be a number of seconds greater than 0, not nan"),
        ({"timeout_s": None}, "timeout_s must be a number of seconds greater than 0, not None"),
        (
            {"processes": True, "executor": ThreadPoolExecutor(1)},
            "processes=True and an executor were passed: choose one, the executor has its own workers",
        ),
        ({"fit": "cover"}, "fit must be one of 'stretch', 'crop', 'pad', 'keep', not 'cover'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        build(photos, tmp_path / "x", **options)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_spec_stands_for_all_its_options(photos: Path) -> None:
    options: dict[str, Any] = {"size": (9, 5), "fit": "pad", "color": "gray", "layout": "NHWC", "filter": "box"}
    assert_equal(build(photos, **options), build(photos, size=None, spec=arraystore.ImageSpec(**options)))


def test_relative_paths_mean_what_they_meant_when_the_call_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.write_tree(tmp_path / "in", {"a": 3, "b": 3})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("x.store", "x.h5"):
        store = build("in", name, progress=lambda _now: os.chdir(tmp_path / "elsewhere"))
        os.chdir(tmp_path)
        assert_equal(build("in"), store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "in", "x.h5", "x.store"]


# --- bad sources -----------------------------------------------------------------------------------------------------


def test_what_is_no_readable_file_is_a_bad_image_with_a_reason(tmp_path: Path) -> None:
    good = tmp_path / "good.jpg"
    good.write_bytes(images.jpeg(images.photo(9, 9)))
    os.mkfifo(tmp_path / "fifo.jpg")
    # With a writer it can be opened and read, so that even a build that does so fails here and does not hang.
    writer = os.open(tmp_path / "fifo.jpg", os.O_RDWR)
    os.write(writer, b"x")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nothing")
    sources = ["good.jpg", "fifo.jpg", "folder.jpg", "loop.jpg", "dangling.jpg", "missing.jpg", "good.jpg/x.jpg"]
    store = build([str(tmp_path / name) for name in [*sources, "n" * 300]] + ["/dev/zero"], bad="keep")
    os.close(writer)
    assert {Path(bad.source).name: bad.reason for bad in store.bad()} == {
        "fifo.jpg": "not a regular file",
        "folder.jpg": "not a regular file",
        "zero": "not a regular file",
        "loop.jpg": "cannot be read: Too many levels of symbolic links",
        "dangling.jpg": "cannot be read: No such file or directory",
        "missing.jpg": "cannot be read: No such file or directory",
        "x.jpg": "cannot be read: Not a directory",
        "n" * 300: "cannot be read: File name too long",
    }


def test_a_file_without_permission_is_a_bad_image(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.open

    def refuse(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith("ash/img_003.jpg"):
            raise PermissionError(13, "Permission denied", path)
        return original(path, *args, **options)

    monkeypatch.setattr("os.open", refuse)  # the tests may run as root, who may read everything
    store = build(photos, bad="keep")
    assert [(bad.slot, bad.reason) for bad in store.bad()] == [(3, "cannot be read: Permission denied")]


def test_a_lack_of_memory_for_one_image_is_a_bad_image(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = decode_module.decode_into

    def starve(data: Any, slot: Any, spec: Any, **limits: Any) -> Any:
        if len(data) == (photos / "ash" / "img_001.jpg").stat().st_size:
            raise MemoryError
        return original(data, slot, spec, **limits)

    monkeypatch.setattr(decode_module, "decode_into", starve)
    store = build(photos, bad="keep")
    assert [(bad.slot, bad.reason) for bad in store.bad()] == [(1, "there is not enough memory to decode it")]


def test_no_error_of_one_image_ends_a_build(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = decode_module.decode_into
    source = sorted(photos.rglob("*.*"))[4].read_bytes()

    def fail(data: Any, *args: Any, **limits: Any) -> Any:
        if data == source:
            raise ZeroDivisionError("surprise")
        return original(data, *args, **limits)

    monkeypatch.setattr(decode_module, "decode_into", fail)
    caplog.set_level("INFO", "arraystore")
    store = build(photos, tmp_path / "x", bad="keep")
    assert [(bad.slot, bad.reason) for bad in store.bad()] == [(4, "internal error: ZeroDivisionError: surprise")]
    assert re.search(r"slot 4: Traceback (?s:.+)in fail\n.+\nZeroDivisionError: surprise", caplog.text)


class Faulty:
    """A data set whose own code fails at item 2, and gives text at item 3."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> Any:
        if row == 2:
            raise KeyError("gone")
        return "text" if row == 3 else np.full((4, 4, 3), row, np.uint8)


def test_an_error_of_the_callers_data_set_is_that_slots(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "arraystore")
    store = build(Faulty(), size=4, bad="keep", progress=False)
    assert [(bad.slot, bad.reason) for bad in store.bad()] == [
        (2, "the source gave KeyError: 'gone'"),
        (3, "source array 3 is a str, not an array: pass a list of paths or of bytes"),
    ]
    assert store.images[:, 0, 0, 0].tolist() == [0, 1, 0, 0, 4, 5]
    assert "in __getitem__" in caplog.text


# --- sources that are read once --------------------------------------------------------------------------------------


class Once:
    """An iterable with a length, as a generator of frames would be."""

    def __init__(self, count: int, *, ends: int | None = None) -> None:
        self.count, self.ends = count, count if ends is None else ends

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[images.Pixels]:
        for slot in range(self.ends):
            yield np.full((3, 4, 3), slot, np.uint8)


def test_an_iterable_with_a_length_is_read_once_in_order(tmp_path: Path) -> None:
    for target in (None, tmp_path / "x.store", tmp_path / "x.h5"):
        store = build(Once(90), target, workers=3)
        np.testing.assert_array_equal(store.images[:, 0, 5, 5], np.arange(90))


def test_an_iterable_that_ends_early_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(arraystore.ManifestError, match="the source ended at row 70, before the length that it gives"):
        build(Once(90, ends=70), tmp_path / "x")
    assert filling_threads() == []
    assert plain(build(Once(90), tmp_path / "x").images)[:, 0, 0, 0].tolist() == list(range(90))


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
def test_progress_rises_to_the_total(mixed: Path, tmp_path: Path, workers: int) -> None:
    seen: list[tuple[int, int, int, int]] = []

    def note(now: Progress) -> None:
        seen.append((now.total, now.done, now.bad, now.source_bytes))

    build(mixed, tmp_path / "x", bad="keep", workers=workers, progress=note)
    assert seen[0] == (12, 0, 0, 0)
    good = [path.stat().st_size for path in mixed.rglob("*.*")]
    assert seen[-1] == (12, 12, 4, sum(good))
    assert seen == sorted(seen)


def test_progress_counts_what_an_earlier_call_has_done(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(BadImagesError):
        build(mixed, tmp_path / "x")
    seen: list[int] = []
    build(mixed, tmp_path / "x", bad="keep", progress=lambda now: seen.append(now.done))
    assert seen[0] == 12  # those that failed are settled too
    assert seen[-1] == 12


# --- interruptions ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 300 images: long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("many")
    data = [images.jpeg(images.photo(240, 320, seed=i)) for i in range(10)]
    for i in range(300):
        (folder / f"{i:03}.jpg").write_bytes(data[i % 10])
    (folder / "150.jpg").write_bytes(b"bad")
    return folder


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_interruption_leaves_what_the_next_call_goes_on_from(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[BaseException]
) -> None:
    done = 0

    def interrupt(now: Progress) -> None:
        nonlocal done
        done = now.done
        if now.done >= 100:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        build(many, tmp_path / name, bad="keep", progress=interrupt, size=32)
    assert filling_threads() == []
    assert not (tmp_path / name).exists()
    decoded = count_decodes(monkeypatch)
    build(many, tmp_path / name, bad="keep", size=32)
    assert len(decoded) <= 300 - done + 1
    (tmp_path / "undisturbed").mkdir()
    build(many, tmp_path / "undisturbed" / name, bad="keep", size=32)
    assert contents(tmp_path / name) == contents(tmp_path / "undisturbed" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["undisturbed", name]


def test_an_interruption_stops_a_run_between_two_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = decode_module.decode_into
    decoded: list[float] = []

    def slow(*args: Any, **limits: Any) -> Any:
        time.sleep(0.02)
        decoded.append(time.perf_counter())
        return original(*args, **limits)

    def interrupt(now: Progress) -> None:
        if now.done:
            raise KeyboardInterrupt

    monkeypatch.setattr(decode_module, "decode_into", slow)
    with pytest.raises(KeyboardInterrupt):
        build(np.zeros((400, 2, 2, 3), np.uint8), tmp_path / "x", progress=interrupt, workers=2)
    # A run has 16 images; at most one a worker may still end after the first run did.
    assert len(decoded) <= 16 * 2 + 2


# Modules that a fork server loads before it forks workers for an executor.
multiprocessing.set_forkserver_preload(["arraystore._building.fill", "arraystore._decoding.decode"])

COMMAND = """
import sys
import arraystore
if __name__ == "__main__":
    def progress(now):
        print(now.done, flush=True)
    store = arraystore.build(sys.argv[1], sys.argv[2], size=512, bad="keep", progress=progress, workers=2)
    print("finished", flush=True)
"""


def test_ctrl_c_stops_a_real_build_at_once(many: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(many), str(tmp_path / "x")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 16:
            pass
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=400)
    assert "finished" not in out
    assert all(int(line) < 300 for line in out.splitlines())
    assert process.returncode == -signal.SIGINT
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert (tmp_path / "x.partial" / "plan.json").exists()


def build_until(many: Path, target: Path, done: int, sleep_s: float) -> None:
    """Build, and be killed a moment after some images are done."""

    def kill(now: Progress) -> None:
        if now.done >= done and not timer.is_alive():
            timer.start()

    timer = threading.Timer(sleep_s, os.kill, (os.getpid(), signal.SIGKILL))
    build(many, target, size=32, bad="keep", progress=kill, workers=2)


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_a_killed_build_goes_on_and_is_byte_identical(nursery: Nursery, many: Path, tmp_path: Path, name: str) -> None:
    rng = random.Random()
    kill_at = [rng.randrange(0, 150), rng.randrange(100, 290)]
    for done in kill_at:
        with suppress(KilledError, arraystore.StoreExistsError):  # it may be faster
            nursery.run(build_until, many, tmp_path / name, done, rng.uniform(0, 0.02))
    if (tmp_path / name).exists():  # it was faster
        return
    assert (tmp_path / f"{name}.partial").is_dir(), kill_at
    build(many, tmp_path / name, bad="keep", size=32)
    (tmp_path / "undisturbed").mkdir()
    build(many, tmp_path / "undisturbed" / name, bad="keep", size=32)
    assert contents(tmp_path / name) == contents(tmp_path / "undisturbed" / name), kill_at
    assert sorted(path.name for path in tmp_path.iterdir()) == ["undisturbed", name]


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_a_second_build_into_the_same_target_is_refused_while_the_first_lives(
    many: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    refused: list[str] = []

    def second(now: Progress) -> None:
        if now.done and not refused:
            for options in ({}, {"fresh": True}, {"overwrite": True}):
                with pytest.raises(StoreError) as caught:
                    build(many, target, bad="keep", size=32, **options)
                refused.append(str(caught.value))

    build(many, target, bad="keep", size=32, progress=second)
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    message = f"another build into {target} is running ({holder}): wait for it, or choose another target"
    assert refused == [message] * 3
    assert_equal(arraystore.open(target), build(many, bad="keep", size=32))


# --- workers that die ------------------------------------------------------------------------------------------------


def die(*_args: Any) -> None:
    os._exit(3)


def survive(function: Callable[..., Any], job: Any) -> Any:
    """Fill the first run, then die as a decoder that crashes would."""
    if job.start >= 32:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(job)


class Mortal(Executor):
    """Its workers die in the middle of the build."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool
        self._max_workers = 2

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        return self.pool.submit(survive, function, *args, **options)


DIED = (
    "a worker of the executor died: it could not start, was killed, ran out of memory, or crashed in a decoder. A "
    "store on disk keeps what was done, and the next call continues from there; shut the executor down and pass "
    "processes=True in its place, which replaces workers that crash or hang"
)


@pytest.mark.parametrize("name", ["x.h5", None])
def test_a_worker_of_an_executor_that_dies_is_an_error_and_the_work_is_kept(
    many: Path, tmp_path: Path, name: str | None
) -> None:
    target = name and tmp_path / name
    reported: list[int] = []

    def note(now: Progress) -> None:
        reported.append(now.done)

    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context) as pool, pytest.raises(StoreError) as caught:
        build(many, target, executor=Mortal(pool), bad="keep", size=32, progress=note)
    assert str(caught.value) == DIED
    assert (caught.value.kind, caught.value.options) == (Kind.CRASHED, (Option("processes"),))
    done = reported[-1]
    assert 0 < done < 300
    reported.clear()
    assert_equal(
        build(many, target, processes=True, bad="keep", size=32, progress=note), build(many, bad="keep", size=32)
    )
    assert reported[0] == (done if target else 0)


def test_an_executor_whose_workers_cannot_start_is_an_error(photos: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context, initializer=die) as pool, pytest.raises(StoreError) as caught:
        build(photos, tmp_path / "x", executor=pool)
    assert str(caught.value) == DIED


def fail() -> None:
    raise ValueError("poisoned")


def test_threads_that_cannot_start_are_an_error(photos: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2, initializer=fail) as pool, pytest.raises(StoreError) as caught:
        build(photos, tmp_path / "x", executor=pool)
    assert str(caught.value) == DIED


# --- runs ------------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 700)), st.integers(1, 70))
def test_runs_cover_each_empty_slot_exactly_once(slots: set[int], workers: int) -> None:
    empty = np.array(sorted(slots), np.int64)
    runs = cut_runs(empty, workers)
    assert all(0 < stop - start <= 16 for start, stop in runs)
    for mask_bytes, most in ((1 << 21, 4), (1 << 24, 1)):
        assert all(0 < stop - start <= most for start, stop in cut_runs(empty, workers, mask_bytes))
    assert [slot for start, stop in runs for slot in range(start, stop)] == empty.tolist()


# --- other sources than before ---------------------------------------------------------------------------------------


def interrupted(source: Any, target: Path, *, done: int) -> None:
    """Build, and stop after some images are done."""

    def stop(now: arraystore.Progress) -> None:
        if now.done >= done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(source, target, progress=stop)
    assert partial_of(target).is_dir()


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
@pytest.mark.parametrize("kind", ["array", "list", "iterable"])
def test_arrays_that_changed_are_not_taken_for_those_of_an_interrupted_build(
    tmp_path: Path, name: str, kind: str
) -> None:
    """Their number and shape are the same."""

    class Frames(Once):
        def __iter__(self) -> Iterator[images.Pixels]:
            return iter(arrays)

    arrays = images.noise(60, 20, seed=1)[:, :, None, :].repeat(20, 2)
    source: Any = {"array": arrays, "list": list(arrays), "iterable": Frames(60)}[kind]
    interrupted(source, tmp_path / name, done=30)
    arrays[5] = 255 - arrays[5]
    arrays[50] = 255 - arrays[50]
    source = {"array": arrays, "list": list(arrays), "iterable": Frames(60)}[kind]
    assert_equal(build(source, tmp_path / name), build(arrays))


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_arrays_of_an_interrupted_build_are_not_resized_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    arrays = images.noise(60, 20, seed=1)[:, :, None, :].repeat(20, 2)
    interrupted(arrays, tmp_path / name, done=30)
    decoded = count_decodes(monkeypatch)
    build(arrays, tmp_path / name)
    assert 0 < len(decoded) <= 30


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_files_of_another_folder_are_not_taken_for_those_of_an_interrupted_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They have the same names, sizes and times, as uncompressed images that an archive has unpacked often have."""
    for folder in ("one", "two", "moved"):
        (tmp_path / folder / "a").mkdir(parents=True)
        for number in range(40):
            file = tmp_path / folder / "a" / f"{number}.bmp"
            cv2.imwrite(str(file), images.noise(20, 20, seed=number + 100 * (folder == "two")))
            os.utime(file, (5, 5))
    interrupted(tmp_path / "one", tmp_path / name, done=20)
    assert_equal(build(tmp_path / "two", tmp_path / name), build(tmp_path / "two"))
    (tmp_path / name).rename(tmp_path / "other")
    interrupted(tmp_path / "one", tmp_path / name, done=20)
    decoded = count_decodes(monkeypatch)
    build(tmp_path / "moved", tmp_path / name)
    assert 0 < len(decoded) <= 20  # for the contents are the same
