"""Worker processes that die, stop, hang or cannot start: the build goes on, and its result is that of threads."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support import images, warm_workers
from support.nursery import LIMIT_S, Nursery
from support.store_contract import assert_equal, build

import arraystore
from arraystore import BadImage, BadImagesError, Progress, Store, StoreError
from arraystore._building.workers import pool as pool_module
from arraystore._building.workers import processes as processes_module
from arraystore._workers import child as child_module
from arraystore.errors import Kind, Option

ROOT = Path(__file__).resolve().parents[2]
KILLED = "killed by SIGKILL, as when memory runs out"

# What the workers' interpreters run before anything else: an image that ends with one of these marks does its harm when
# it is decoded. A decoder with a fault does no more and no less.
HARM = """
import ctypes, os, resource, signal, sys, time
import arraystore._decoding.decode as module

class Sealed(Exception):
    def __init__(self, one, two):
        super().__init__(one)

def once(harm):
    try:
        os.close(os.open(FLAG, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    harm()

def starve():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    ctypes.memset(libc.malloc(ctypes.c_size_t(1 << 34)), 1, 1)  # as code does that does not look at what malloc gives

def count(harm):
    with open(FLAG, "ab", buffering=0) as file:
        file.write(b".")
    harm()

def fail(error):
    raise error

def kill(number):
    os.kill(os.getpid(), number)

HARM = {
    b"#kill": lambda: kill(signal.SIGKILL),
    b"#bus": lambda: kill(signal.SIGBUS),
    b"#crash": lambda: ctypes.string_at(0),
    b"#exit": lambda: os._exit(7),
    b"#starve": starve,
    b"#hang": lambda: count(lambda: time.sleep(1000)),
    b"#stop": lambda: count(lambda: kill(signal.SIGSTOP)),
    b"#die once": lambda: once(lambda: kill(signal.SIGKILL)),
    b"#hang once": lambda: once(lambda: time.sleep(1000)),
    b"#surprise": lambda: fail(ZeroDivisionError("surprise")),
    b"#sealed": lambda: fail(Sealed("surprise", 2)),
    b"#slow": lambda: count(lambda: time.sleep(0.1)),
    b"#slower": lambda: count(lambda: time.sleep(0.4)),
}
original = module.decode_into

def decode_into(data, slot, spec, **limits):
    for mark, harm in HARM.items():
        if bytes(data[-len(mark):]) == mark:
            slot[...] = 77
            harm()
    return original(data, slot, spec, **limits)

module.decode_into = decode_into
"""


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that lets every worker's interpreter run a text before anything else."""
    folder = tmp_path / "first"
    folder.mkdir()

    def write(text: str) -> None:
        (folder / "sitecustomize.py").write_text(f"FLAG = {str(tmp_path / 'flag')!r}\n{text}")
        monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")

    return write


@pytest.fixture
def harmful(first: Callable[[str], None]) -> None:
    first(HARM)


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    yield
    assert workers() == []


def workers(parent: int | None = None) -> list[int]:
    """The worker processes of this process, the oldest first, those that wait to be reaped too."""
    found: list[tuple[int, int]] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name, _, fields = (path / "stat").read_text().rpartition(")")
            state, ppid, *others = fields.split()
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        is_worker = b"arraystore._building.workers.worker" in command or name.endswith(f"({warm_workers.NAME}")
        if int(ppid) == (parent or os.getpid()) and (is_worker or state == "Z"):
            found.append((int(others[17]), int(path.name)))  # the time of its start: numbers of processes begin anew
    return [number for _, number in sorted(found)]


def data(count: int, marks: dict[int, bytes] | None = None) -> list[bytes]:
    """JPEGs, some with a mark at their end."""
    files = [images.jpeg(images.photo(40, 60, seed=i % 8)) for i in range(count)]
    for slot, mark in (marks or {}).items():
        files[slot] += mark
    return files


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.iterdir())}


def check(source: Any, target: Any, bad: dict[int, str], **options: Any) -> Store:
    """Build in processes: ``bad`` says which slots fail and why, and all others are as threads make them."""
    store = build(source, target, processes=True, bad="keep", **options)
    assert {image.slot: image.reason for image in store.bad()} == bad
    oracle = build(source, bad="keep")
    good = np.flatnonzero(np.asarray(store.status) == 1)
    assert len(good) == len(store) - len(bad)
    np.testing.assert_array_equal(store.images[good], oracle.images[good])
    np.testing.assert_array_equal(store.checksums[good], oracle.checksums[good])
    assert not store.images[list(bad)].any()
    for column in ("bytes", "height", "source"):
        assert store.samples[column].take(good).to_pylist() == oracle.samples[column].take(good).to_pylist()
    return store


# --- the same as threads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bads"),
    [
        pytest.param("x.store", ("keep",), marks=pytest.mark.cold),
        ("x.store", ("drop",)),
        ("x.h5", ("keep", "drop")),
        (None, ("keep", "drop")),
    ],
)
def test_the_result_is_that_of_threads(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, bads: tuple[str, ...]
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    for bad in bads:
        made = build(mixed, name and tmp_path / name, processes=True, bad=bad, overwrite=True)
        assert_equal(build(mixed, bad=bad), made)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} <= {"tmp", "mixed", name}


def test_large_jobs_and_large_results_cross_each_other() -> None:
    """Megabytes both ways at once fill every buffer: neither end may wait for the other."""
    arrays = images.noise(40 * 300, 500).reshape(40, 300, 500, 3)
    assert_equal(build(arrays, size=(300, 500)), build(arrays, size=(300, 500), processes=True))


def test_a_script_needs_no_guard_and_any_thread_may_build(photos: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import arraystore, sys, threading\n"
        "def build(name):\n"
        "    arraystore.build(sys.argv[1], name, size=16, processes=True, workers=1, progress=False)\n"
        "build('main.store')\n"
        "thread = threading.Thread(target=build, args=('thread.store',))\n"
        "thread.start(); thread.join()\n"
    )
    run = subprocess.run(
        [sys.executable, script, photos],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert contents(tmp_path / "main.store") == contents(tmp_path / "thread.store")


# --- workers that die or stop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "done", "name"),
    [
        (signal.SIGKILL, None, "x.store"),
        (signal.SIGKILL, 1, None),
        (signal.SIGKILL, 150, "x.h5"),
        (signal.SIGTERM, 100, None),
        (signal.SIGSTOP, None, None),
        (signal.SIGSTOP, 100, "x.store"),
    ],
)
def test_a_worker_that_is_hit_costs_nothing_but_time(
    first: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    done: int | None,
    name: str | None,
) -> None:
    """Whenever that is: with None for the slots that are done, one hits itself before it says that it has started."""
    source = data(300)
    hit: list[int] = []
    if done is None:
        began_s = time.monotonic()
        build(source[:2], processes=True)
        # One that stops while it starts is only replaced after this limit, in which the others have to start.
        monkeypatch.setattr(processes_module, "START_LIMIT_S", 5 + 4 * (time.monotonic() - began_s))
        first(
            "import os\n"
            "try:\n"
            "    os.write(os.open(FLAG, os.O_WRONLY | os.O_CREAT | os.O_EXCL), str(os.getpid()).encode())\n"
            f"    os.kill(os.getpid(), {int(number)})\n"
            "except FileExistsError:\n"
            "    pass\n"
        )

    def progress(now: Progress) -> None:
        if done is not None and now.done >= done and not hit:
            hit.append(workers()[-1])
            os.kill(hit[-1], number)

    store = build(source, name and tmp_path / name, processes=True, timeout_s=2, progress=progress)
    if done is None:
        hit.append(int((tmp_path / "flag").read_text()))
    assert len(hit) == 1
    assert_equal(build(source), store)


def test_many_deaths_are_survived(tmp_path: Path) -> None:
    source = data(400)
    killed: list[int] = []

    def strike(now: Progress) -> None:
        if now.done >= 60 * (len(killed) + 1):
            victim = workers()[0]
            killed.append(victim)
            os.kill(victim, signal.SIGKILL)

    try:
        store = build(source, tmp_path / "x", processes=True, workers=3, progress=strike)
    except BadImagesError as error:  # on a busy machine one slot may have been struck twice
        assert all("died twice" in bad.reason for bad in error.bad)
        store = build(source, tmp_path / "x", processes=True, workers=3)
    assert len(killed) >= 5
    assert_equal(build(source), store)


@pytest.mark.usefixtures("harmful")
@pytest.mark.parametrize(
    ("name", "marks"), [("x.store", {3: b"#kill", 4: b"#starve"}), (None, {39: b"#exit"})], ids=["npy", "ram"]
)
def test_an_image_that_kills_its_worker_is_a_bad_one(tmp_path: Path, name: str | None, marks: dict[int, bytes]) -> None:
    how = {b"#kill": KILLED, b"#starve": "killed by SIGSEGV", b"#exit": "it ended with exit status 7"}
    bad = {slot: f"the worker process that decoded it died twice ({how[mark]})" for slot, mark in marks.items()}
    check(data(40, marks), name and tmp_path / name, bad)


def test_a_later_call_tries_again_what_no_worker_could_fill(first: Callable[[str], None], tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.jpg" for i in range(9)]
    for path, content in zip(paths, data(9, {4: b"#crash"}), strict=True):
        path.write_bytes(content)
    first(HARM)
    with pytest.raises(BadImagesError) as caught:
        build(paths, tmp_path / "x", processes=True, workers=1)
    reason = "the worker process that decoded it died twice (killed by SIGSEGV)"
    assert caught.value.bad == (BadImage(4, str(paths[4]), reason),)
    first("")
    assert_equal(build(paths), build(paths, tmp_path / "x", processes=True, workers=1))


def test_a_later_call_tries_images_in_memory_again_too(first: Callable[[str], None], tmp_path: Path) -> None:
    source = [*data(9, {4: b"#crash"}), b""]
    first(HARM)
    with pytest.raises(BadImagesError) as caught:
        build(source, tmp_path / "x", processes=True, workers=1)
    assert [bad.slot for bad in caught.value.bad] == [4, 9]
    first("")
    with pytest.raises(BadImagesError) as caught:
        build(source, tmp_path / "x", processes=True, workers=1)
    assert [bad.slot for bad in caught.value.bad] == [9], "an empty file stays one"


@pytest.mark.usefixtures("harmful")
@pytest.mark.parametrize(("mark", "count"), [(b"#hang", 3), (b"#stop", 200)])
def test_an_image_that_takes_too_long_is_a_bad_one(tmp_path: Path, mark: bytes, count: int) -> None:
    slot = count // 2
    reason = "reading and decoding it took longer than 3 s (timeout_s), twice"
    check(data(count, {slot: mark}), tmp_path / "x", {slot: reason}, timeout_s=3)
    assert (tmp_path / "flag").read_bytes() == b"..", "it was not tried twice"


@pytest.mark.usefixtures("harmful")
@pytest.mark.parametrize(("mark", "count"), [(b"#die once", 200), (b"#hang once", 2)])
def test_what_goes_well_at_the_second_try_is_a_good_image(tmp_path: Path, mark: bytes, count: int) -> None:
    check(data(count, {1: mark}), tmp_path / "x", {}, timeout_s=3)
    assert (tmp_path / "flag").exists()


@pytest.mark.usefixtures("harmful")
def test_slow_images_are_not_late_together(tmp_path: Path) -> None:
    """A run of 8 takes longer than the limit, each of its images does not."""
    check(data(128, dict.fromkeys(range(12), b"#slower")), tmp_path / "x", {}, timeout_s=3)
    assert (tmp_path / "flag").read_bytes() == b"." * 12, "one was tried twice"


@pytest.mark.parametrize("last", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_a_message_that_is_half_sent_holds_nobody_up(first: Callable[[str], None], last: signal.Signals) -> None:
    first(
        "import os, arraystore._building.workers.worker as module\n"
        "def half(channel, message, original=module._send):\n"
        "    if message is not None:\n"
        "        try:\n"
        "            os.close(os.open(FLAG, os.O_CREAT | os.O_EXCL))\n"
        "        except FileExistsError:\n"
        "            return original(channel, message)\n"
        "        length, data = module.pack(message)\n"
        "        channel.sendall(length)\n"
        "        channel.sendall(data[: len(data) // 2])\n"
        f"        os.kill(os.getpid(), {int(last)})\n"
        "    return original(channel, message)\n"
        "module._send = half\n"
    )
    source = data(60)
    assert_equal(build(source, size=200), build(source, size=200, processes=True, timeout_s=2))


@pytest.mark.usefixtures("harmful")
def test_a_volume_that_fails_is_not_the_images_fault(tmp_path: Path) -> None:
    source = data(8, {5: b"#bus"})
    with pytest.raises(StoreError) as caught:
        build(source, tmp_path / "x", processes=True)
    file = tmp_path / "x.partial" / "images.npy"
    message = re.fullmatch(
        f"the volume of {re.escape(str(file))} failed or is full: a worker process was killed by SIGBUS when it wrote "
        r"slots (\d+) to (\d+)\. Mend it, or free some space; what was done is kept, and the same call continues from "
        "there",
        str(caught.value),
    )
    assert message is not None
    assert int(message[1]) <= 5 <= int(message[2])
    check(source, None, {5: "the worker process that decoded it died twice (killed by SIGBUS)"})


def build_slowly(target: Path, path: str, *, processes: bool) -> None:
    """Build, and say in a file how many slots are done."""
    os.environ["PYTHONPATH"] = path
    files = [file + b"#slow" for file in data(60)]

    def progress(now: Progress) -> None:
        (target.parent / "now").write_text(str(now.done))
        (target.parent / "now").rename(target.parent / "done")

    build(files, target, processes=processes, workers=2, timeout_s=2, progress=progress)


def wait_for(done: int, file: Path) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not file.exists() or int(file.read_text()) < done:
        assert time.monotonic() < deadline_s, f"{done} slots are not done after {LIMIT_S} s"
        time.sleep(0.02)


@pytest.mark.usefixtures("harmful")
def test_a_build_that_is_stopped_as_a_whole_blames_no_worker(nursery: Nursery, tmp_path: Path) -> None:
    parent = nursery.start(build_slowly, tmp_path / "x", os.environ["PYTHONPATH"], processes=True)
    wait_for(10, tmp_path / "done")
    before = workers(parent.pid)
    os.killpg(parent.pid, signal.SIGSTOP)
    time.sleep(3)  # longer than any image may take
    os.killpg(parent.pid, signal.SIGCONT)
    wait_for(40, tmp_path / "done")
    assert workers(parent.pid) == before
    assert len(before) == 2
    parent.result()
    assert (tmp_path / "flag").read_bytes() == b"." * 60, "one was tried twice"


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("harmful")
def test_no_error_of_one_image_ends_a_build(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "arraystore")
    bad = {3: "internal error: Sealed: surprise", 17: "internal error: ZeroDivisionError: surprise"}
    check(data(30, {3: b"#sealed", 17: b"#surprise"}), None, bad)
    assert "in decode_into" in caplog.text


BROKEN = """
import arraystore._building.fill as module

class Sealed(Exception):
    def __init__(self, message, more):
        super().__init__(message)

def fill(job, i, slot, row, filled):
    error = ERROR("surprise", 2)
    error.add_note("noted")
    raise error

module.fill_slot = fill
"""


def test_an_error_of_a_worker_itself_arrives_as_it_is(tmp_path: Path, first: Callable[[str], None]) -> None:
    first(BROKEN.replace("ERROR", "ZeroDivisionError"))
    with pytest.raises(ZeroDivisionError, match="surprise") as caught:
        build(data(30), tmp_path / "x", processes=True)
    assert caught.value.__notes__ == ["noted"]
    assert "in fill" in str(caught.value.__cause__)


def test_an_error_that_cannot_travel_is_told(tmp_path: Path, first: Callable[[str], None]) -> None:
    first(BROKEN.replace("ERROR", "Sealed"))
    with pytest.raises(StoreError) as caught:
        build(data(30), tmp_path / "x", processes=True)
    assert str(caught.value) == "a worker process met Sealed: surprise"
    assert caught.value.__notes__ == ["noted"]


def test_a_file_that_is_cut_short_is_told(tmp_path: Path) -> None:
    def cut(now: Progress) -> None:
        if not now.done:
            os.truncate(tmp_path / "x.partial" / "images.npy", 5000)

    with pytest.raises(arraystore.FormatError, match="the file was cut short"):
        build(data(30), tmp_path / "x", processes=True, progress=cut)


def test_sources_that_cannot_be_sent_are_told(tmp_path: Path) -> None:
    source = [np.array([[lambda: None]], object) for _ in range(4)]
    with pytest.raises(StoreError, match=r"the sources of slots 0 to 0 cannot be sent to a worker process: .*; build "):
        build(source, tmp_path / "x", processes=True)


def test_functions_that_workers_do_not_have_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as those of a notebook."""

    def decode(_: bytes) -> None:
        return None

    notebook = ModuleType("notebook_of_this_test")
    decode.__module__, decode.__qualname__ = notebook.__name__, "decode"
    monkeypatch.setattr(notebook, "decode", decode, raising=False)
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    with pytest.raises(StoreError) as caught:
        build(data(8), tmp_path / "x", processes=True, decoders={".dcm": decode})
    assert str(caught.value) == (
        "a worker process cannot read the job that it was given: No module named 'notebook_of_this_test'; use threads, "
        "or define functions and classes in a module, which worker processes import"
    )
    assert len(build(data(8), tmp_path / "x", decoders={".dcm": decode})) == 8


START = "what they printed, or build with threads. What was done is kept; the same call continues from there"


@pytest.mark.cold
@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("import os; os._exit(3)", "the last one: it ended with exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", f"the last one: {KILLED}"),
        ("import sys; sys.modules['arraystore._building.workers'] = None", "the last one: it ended with exit status 1"),
        ("import time; time.sleep(100)", "they were not ready in 0.5 s"),
    ],
    ids=["exits", "killed", "cannot import", "hangs"],
)
def test_workers_that_cannot_start_are_an_error(
    first: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    text: str,
    how: str,
) -> None:
    first(text)
    monkeypatch.setattr(processes_module, "START_LIMIT_S", 0.5 if "0.5" in how else 60)
    with pytest.raises(StoreError) as caught:
        build(data(30), tmp_path / "x", processes=True)
    expected = rf"worker processes cannot start, [34] ended before they began \({re.escape(how)}\); see {START}"
    assert re.fullmatch(expected, str(caught.value))
    assert ("ModuleNotFoundError" in capfd.readouterr().err) is ("sys.modules" in text)


def test_workers_that_work_go_on_alone_if_no_more_can_start(first: Callable[[str], None], tmp_path: Path) -> None:
    first("import os\ntry: os.close(os.open(FLAG, os.O_CREAT | os.O_EXCL))\nexcept OSError: os._exit(3)")
    source = data(30)
    assert_equal(build(source, tmp_path / "x", processes=True, workers=3), build(source))


@pytest.mark.cold
def test_a_program_that_is_no_interpreter_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(StoreError, match="worker processes need a Python interpreter, and this program is none"):
        build(data(3), tmp_path / "x", processes=True)


@pytest.mark.cold
def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "get_executable", lambda: str(tmp_path / "python"))
    with pytest.raises(StoreError, match="a worker process cannot be started: No such file or directory"):
        build(data(3), tmp_path / "x", processes=True)


# --- the end of the parent -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("harmful")
@pytest.mark.parametrize("error", [pytest.param(KeyboardInterrupt, marks=pytest.mark.cold), ValueError])
def test_an_interruption_ends_all_workers_at_once(tmp_path: Path, error: type[BaseException]) -> None:
    reported: list[int] = []

    def interrupt(now: Progress) -> None:
        reported.append(now.done)
        if now.done >= 20:
            assert len(workers()) == 2
            assert all(blocked(pid) >> signal.SIGINT - 1 & 1 for pid in workers())  # a Ctrl-C is this process's alone
            raise error

    source = data(200, {2: b"#hang"})
    with pytest.raises(error):
        build(source, tmp_path / "x", processes=True, progress=interrupt)
    assert reported[-1] < 200  # and the image that hangs, for 1,000 s, has held nobody up
    assert workers() == []


def blocked(pid: int) -> int:
    """The mask of the signals that a process blocks."""
    found = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1], 16)


PARENT = """
import os, sys, time
import arraystore
def progress(now):
    if now.done:
        if os.fork() == 0:
            time.sleep(60)  # a process that holds copies of the parent's sockets
            os._exit(0)
        print("ready", flush=True)
        time.sleep(60)
arraystore.build(sys.argv[1], sys.argv[2], size=16, processes=True, workers=2, progress=progress)
"""


def test_workers_end_with_a_parent_that_is_killed(photos: Path, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, photos, tmp_path / "x"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        started = workers(parent.pid)
        assert len(started) == 2
        parent.kill()
        parent.wait()
        deadline_s = time.monotonic() + 400
        while any(is_worker(pid) for pid in started):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


def is_worker(pid: int) -> bool:
    try:
        return b"arraystore._building.workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


# --- executors that stall --------------------------------------------------------------------------------------------

INSTEAD = (
    " A store on disk keeps what was done, and the next call continues from there; shut the executor down and pass "
    "processes=True in its place, which replaces workers that crash or hang"
)


def test_an_executor_that_stalls_is_an_error_and_its_processes_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_CLOSE_LIMIT_S", 0.1)
    source = data(300)
    stopped: list[int] = []

    def stop(now: Progress) -> None:
        if now.done >= 50 and not stopped:
            assert pool._processes is not None
            stopped.extend(pool._processes)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            monkeypatch.setattr(pool_module, "START_LIMIT_S", 0.5)  # only now, when nothing can be done in time

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            with pytest.raises(StoreError) as caught:
                build(source, tmp_path / "x", executor=pool, timeout_s=0.1, progress=stop)
            assert len(stopped) == 1
            assert all(Path(f"/proc/{pid}").exists() for pid in stopped)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert pool.submit(abs, -1).result() == 1  # it was not shut down
    assert str(caught.value) == (
        "the executor has finished no run in 2.1 s, which is timeout_s = 0.1 for each slot of a run, and time to "
        f"start: its workers hang.{INSTEAD}"
    )
    assert (caught.value.kind, caught.value.options) == (Kind.TOO_SLOW, (Option("processes"),))
    seen: list[int] = []
    store = build(source, tmp_path / "x", processes=True, progress=lambda now: seen.append(now.done))
    assert seen[0] >= 50
    assert_equal(build(source), store)


class Idle(Executor):
    """It takes everything and does nothing."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        del function, args, options
        return Future()


def test_an_executor_that_does_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "START_LIMIT_S", 0.5)
    with pytest.raises(StoreError, match=r"^the executor has finished no run in 0.9 s"):
        build(data(64), tmp_path / "x", executor=Idle(), timeout_s=0.1)
