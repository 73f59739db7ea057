"""Memory traces of a block, and of functions in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from support import profiled

from arraystore import MemoryReport, MemoryTrace, ProfileError, SpecError, profile_memory
from arraystore.memory import mark

MB = 10**6


def children() -> list[psutil.Process]:
    """What this process has started and what still runs."""
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if each.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(each.cmdline())
    ]


@pytest.fixture(autouse=True)
def nothing_is_left() -> object:
    before = {each.pid for each in children()}
    yield
    end = time.monotonic() + 400
    while any(each.pid not in before for each in children()):
        assert time.monotonic() < end, children()
        time.sleep(0.01)


# --- a block ---------------------------------------------------------------------------------------------------------


BLOCK = """
import time
import numpy as np
from arraystore import MemoryReport, MemoryTrace
with MemoryTrace("ones", interval_s=0.005) as trace:
    trace.mark("make")
    ones = np.ones(100_000_000, np.uint8)
    time.sleep(0.5)
    trace.mark("let go")
    del ones
    time.sleep(0.1)
print(MemoryReport("", (trace.measurement,)).to_json())
"""


def test_a_trace_of_a_block() -> None:
    # In a process of its own: what tests before this one have left may be freed at any time.
    done = subprocess.run([sys.executable, "-c", BLOCK], capture_output=True, text=True, check=True, timeout=400)
    (measured,) = MemoryReport.from_json(done.stdout).measurements
    assert (measured.name, measured.outcome, measured.reason, measured.start) == ("ones", "finished", "", "here")
    assert measured.peak() - measured.start_bytes == pytest.approx(100 * MB, rel=0.03)
    assert measured.curve.anonymous[-1] - measured.start_bytes < 20 * MB
    assert [each.label for each in measured.marks] == ["make", "let go"]
    assert 0.6 <= measured.wall_s < 200
    assert measured.marks[0].seconds < measured.marks[1].seconds < measured.wall_s
    assert list(measured.curve.seconds) == sorted(measured.curve.seconds)
    assert measured.curve.seconds[0] >= 0
    assert measured.readings == len(measured.curve.seconds) > 5
    assert measured.kernel_peak_bytes is None  # of the whole life of this process, not of the block
    assert measured.disk_bytes is None
    assert "/proc" in measured.method


def test_a_busy_interpreter_does_not_slow_the_readings() -> None:
    def hold_the_lock() -> None:
        text = "a" * 200_000 + "b"
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            text.count("ab")

    threads = [threading.Thread(target=hold_the_lock) for _ in range(4)]
    ticks = 0  # of this thread, which must wait for the lock
    with MemoryTrace() as trace:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.01)
            ticks += 1
    assert trace.measurement.readings > ticks


def test_a_block_that_fails_keeps_its_error_and_its_curve() -> None:
    trace = MemoryTrace()
    with pytest.raises(ValueError, match="wrong"), trace:
        raise ValueError("this is wrong")
    assert trace.measurement.outcome == "failed"
    assert trace.measurement.reason == "ValueError: this is wrong"


def test_a_block_that_fails_keeps_its_error_even_without_a_sampler() -> None:
    trace = MemoryTrace()

    def block() -> None:
        with trace:
            assert trace._watch is not None
            trace._watch._process.kill()
            raise ValueError("this is wrong")

    with pytest.raises(ValueError, match="wrong"):
        block()
    with pytest.raises(ProfileError, match="has not ended"):
        _ = trace.measurement


def test_a_trace_is_for_one_block() -> None:
    trace = MemoryTrace("mine")
    with pytest.raises(ProfileError, match="the memory trace 'mine' has not ended: ask for it after the block"):
        _ = trace.measurement
    with trace:
        pass
    with pytest.raises(ProfileError, match="the memory trace 'mine' has begun already: one trace is for one block"):
        trace.__enter__()


# --- functions -------------------------------------------------------------------------------------------------------


def test_functions_are_compared(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 60 * MB)
    asked: list[str] = []
    report = profile_memory(
        {
            "hold": partial(profiled.hold, 100),
            "write": partial(profiled.write, str(tmp_path), 30),
            "read": partial(profiled.read_file, str(tmp_path / "large")),
            "burn": partial(profiled.burn, 0.3),
        },
        title="four ways",
        array_bytes=100 * MB,
        progress=asked.append,
    )
    assert asked == ["hold", "write", "read", "burn"]
    assert (report.title, report.array_bytes) == ("four ways", 100 * MB)
    assert {(each.outcome, each.reason, each.start) for each in report.measurements} == {("finished", "", "fresh")}
    hold, write, read, burn = report.measurements
    assert hold.peak() - hold.start_bytes == pytest.approx(100 * MB, rel=0.03)
    assert hold.apart_from_kernel is not None
    assert hold.apart_from_kernel <= 0.03
    assert hold.peak("rss") == max(*hold.curve.rss, hold.kernel_peak_bytes)
    assert [each.label for each in hold.marks] == ["fill", "rest"]
    assert write.disk_bytes == pytest.approx(30 * MB, rel=0.01)  # not the hole
    assert hold.disk_bytes is None
    assert read.peak("file") - read.curve.file[0] == pytest.approx(60 * MB, rel=0.1)
    assert read.peak() - read.start_bytes < 10 * MB
    assert burn.cpu_s == pytest.approx(0.3, abs=0.1)
    assert MemoryReport.from_json(report.to_json()) == report
    assert report["read"] is read
    with pytest.raises(KeyError, match="nothing was measured under the name 'none': there are 'hold', 'write', 'read'"):
        _ = report["none"]


def test_what_children_hold_counts() -> None:
    (measured,) = profile_memory({"child": partial(profiled.have_child, 60)}).measurements
    assert measured.processes == 2
    assert measured.curve.anonymous[-1] - measured.start_bytes == pytest.approx(65 * MB, abs=10 * MB)
    assert measured.kernel_peak_bytes is None


CLOSURE = """
import time
import numpy as np
from arraystore import profile_memory
from arraystore.memory import mark
mine = np.ones(50_000_000, np.uint8)
def more():
    mark("more")
    held = np.ones(30_000_000, np.uint8)
    time.sleep(1)
    return int(held[-1] + mine[-1])
print(profile_memory({"closure": lambda: more()}).to_json())
"""


def test_functions_that_cannot_be_imported_are_forked() -> None:
    # In a process of its own: a fork of this one may free memory that it has inherited.
    done = subprocess.run([sys.executable, "-c", CLOSURE], capture_output=True, text=True, check=True, timeout=400)
    (measured,) = MemoryReport.from_json(done.stdout).measurements
    assert (measured.outcome, measured.start, measured.start_bytes) == ("finished", "forked", 0)
    assert measured.peak() == pytest.approx(30 * MB, abs=5 * MB)
    assert [each.label for each in measured.marks] == ["more"]


def test_what_goes_wrong_is_told_and_the_others_still_run() -> None:
    report = profile_memory(
        {"fail": profiled.fail, "leave": partial(profiled.leave, 3), "hold": partial(profiled.hold, 10)}
    )
    fail, left, hold = report.measurements
    assert (fail.outcome, fail.reason) == ("failed", 'ValueError: this is wrong, in "before"')
    assert left.outcome == "failed"
    assert re.fullmatch(r"the process ended with exit code 3 after \d+\.\d s", left.reason)
    assert hold.outcome == "finished"


def test_beyond_the_limit_it_is_killed_and_where_is_told() -> None:
    (measured,) = profile_memory({"grow": partial(profiled.grow, 2000)}, limit_bytes=150 * MB).measurements
    assert measured.outcome == "killed"
    held = measured.peak()
    assert 150 * MB < held < 1000 * MB
    assert measured.reason.startswith(f"killed at {held / 1e9:.2f} GB, beyond the limit of 0.15 GB, after ")
    assert measured.reason.endswith(' s, in "grow"')
    assert measured.wall_s == pytest.approx(measured.curve.seconds[-1], abs=0.05)


def test_what_takes_too_long_is_killed() -> None:
    (measured,) = profile_memory({"sleep": partial(profiled.sleep, 300)}, timeout_s=3).measurements
    assert (measured.outcome, measured.reason) == ("killed", 'killed: it took longer than 3 s, in "sleep"')
    assert 2 <= measured.wall_s < 300  # up to the last reading


def test_what_the_system_kills_is_told() -> None:
    (measured,) = profile_memory({"killed": profiled.be_killed}).measurements
    assert measured.outcome == "killed"
    assert measured.reason.startswith("killed by the system at 0.")
    assert measured.reason.endswith(": memory may have run out")


def test_a_mark_elsewhere_does_nothing() -> None:
    mark("nobody asks")


def test_options_that_cannot_be_are_refused_before_anything_runs() -> None:
    called: list[str] = []
    with pytest.raises(SpecError, match="a limit must be at least 1 byte"):
        profile_memory({"hold": partial(profiled.hold, 1)}, limit_bytes=0, progress=called.append)
    with pytest.raises(SpecError, match="interval_s"):
        profile_memory({"hold": partial(profiled.hold, 1)}, interval_s=-1, progress=called.append)
    assert called == []


UNGUARDED = """
import arraystore
def mine():
    pass
arraystore.profile_memory({"mine": mine})
"""
GUARDED = """
import time
import arraystore
def mine():
    arraystore.memory.mark("x")
    held = bytearray(b"1") * 50_000_000
    print("it runs", flush=True)
    time.sleep(SECONDS)
if __name__ == "__main__":
    print(arraystore.profile_memory({"mine": mine})["mine"].outcome)
"""


def run(script: Path, code: str) -> subprocess.Popen[str]:
    script.write_text(code)
    return subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    process = run(tmp_path / "script.py", UNGUARDED)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 1
    assert "ProfileError: the process for 'mine' ended before the call (exit code 1): in a script, " in said


def test_a_script_with_a_guard_runs(tmp_path: Path) -> None:
    out, said = run(tmp_path / "script.py", GUARDED.replace("SECONDS", "0.1")).communicate(timeout=400)
    assert (out, said) == ("it runs\nfinished\n", "")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_who_called(tmp_path: Path, signum: signal.Signals) -> None:
    process = run(tmp_path / "script.py", GUARDED.replace("SECONDS", "300"))
    assert process.stdout is not None
    assert process.stdout.readline() == "it runs\n"
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)  # as a terminal does, to all of them
    else:
        process.send_signal(signum)
    process.communicate(timeout=400)
    _, left = psutil.wait_procs(family, timeout=400)
    assert not left
