"""The sampler: what it reads of real processes, what it costs, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraystore import ProfileError, SpecError
from arraystore.memory import sampler
from arraystore.memory.trace import Watch

MB = 10**6
STATUS = b"""Name:\tpython
VmPeak:\t 9000 kB
VmHWM:\t  120 kB
VmRSS:\t  100 kB
RssAnon:\t   60 kB
RssFile:\t   30 kB
RssShmem:\t   10 kB
VmSwap:\t    4 kB
Threads:\t1
"""

# A process that says how far it is on its output, and goes on at each line of its input.
PUPPET = """
import mmap, multiprocessing, os, sys
held = []
def step(text):
    print(text, flush=True)
    sys.stdin.readline()
"""


class Puppet:
    """A process that runs a few lines of code, stopping at each ``step(...)``."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PUPPET + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.process.pid
        self.said = self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.said = self._line()
        return self.said

    def status(self) -> dict[str, int]:
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=400)


def latest(watch: Watch, *, kill: bool = False) -> dict[str, Any]:
    """End a sampler and return the last row by name, with all that it said."""
    read = watch.end(kill=kill)
    return {**read, **{name: values[-1] for name, values in read["columns"].items()}}


# --- text and numbers ------------------------------------------------------------------------------------------------


def test_sizes_are_found_by_their_whole_names() -> None:
    names = (b"VmHWM", b"VmRSS", b"RssAnon", b"VmSwap", b"Rss")
    assert sampler.parse_sizes(STATUS, names) == {
        b"VmHWM": 120 * 1024,
        b"VmRSS": 100 * 1024,
        b"RssAnon": 60 * 1024,
        b"VmSwap": 4 * 1024,
    }


def test_a_process_that_has_ended_has_no_sizes() -> None:
    assert sampler.parse_sizes(b"Name:\tpython\nState:\tZ (zombie)\nThreads:\t1\n", (b"VmRSS", b"RssAnon")) == {}


rows = st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), max_size=300)


@given(rows=rows, kept=st.integers(1, 20))
def test_thinning_out_loses_no_peak_and_keeps_few(rows: list[tuple[int, int]], kept: int) -> None:
    columns = sampler.Columns(kept)
    for i, row in enumerate(rows):
        columns.add((float(i), *row))
    thinned = columns.rows
    assert columns.count == len(rows)
    assert len(thinned) <= 2 * kept + 1
    assert len(thinned) >= min(kept, len(rows))
    assert [row[0] for row in thinned] == sorted({row[0] for row in thinned})
    for i in (1, 2):
        assert max((row[i] for row in thinned), default=0) == max((row[i - 1] for row in rows), default=0)
    if rows:
        assert thinned[-1][0] == len(rows) - 1


# --- what is read ----------------------------------------------------------------------------------------------------


def test_each_kind_of_memory_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 40 * MB)
    code = f"""
step("start")
held.append(bytearray(b"1") * 60_000_000)
step("anonymous")
with open({str(path)!r}, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(mapped[::4096])
step("file")
shared = mmap.mmap(-1, 20_000_000)
shared.write(b"2" * 20_000_000)
step("shmem")
"""
    with Puppet(code) as puppet:
        watches = [Watch(puppet.pid)]
        while puppet.said != "shmem":
            puppet.go_on()
            watches.append(Watch(puppet.pid))
        # All of them at once, from four beginnings: the last reading of each is that of now.
        first = [read["columns"] for read in (watch.end() for watch in watches)]
        start, anonymous, file, shmem = ({name: values[0] for name, values in columns.items()} for columns in first)
    assert anonymous["anonymous"] - start["anonymous"] == pytest.approx(60 * MB, abs=2 * MB)
    assert file["file"] - anonymous["file"] == pytest.approx(40 * MB, abs=2 * MB)
    assert shmem["shmem"] - file["shmem"] == pytest.approx(20 * MB, abs=2 * MB)
    assert file["anonymous"] == pytest.approx(anonymous["anonymous"], abs=2 * MB)
    assert max(first[0]["rss"]) >= sum(shmem[name] for name in ("anonymous", "file", "shmem"))


def test_the_peak_is_the_systems_own() -> None:
    code = """
step("start")
held = [bytearray(b"1") * 1_000_000 for _ in range(100)]
whole = b"".join(held)
step("end")
"""
    with Puppet(code) as puppet:
        watch = Watch(puppet.pid)
        puppet.go_on()
        kernel = puppet.status()["VmHWM"]
        read = watch.end()
    assert read["kernel_peak_bytes"] == kernel
    assert max(read["columns"]["rss"]) == pytest.approx(kernel, rel=0.03)
    assert read["processes"] == 1


def test_what_a_forked_child_shares_is_counted_once() -> None:
    code = """
import time
held.append(bytearray(b"1") * 80_000_000)
step("start")
readers, writers = os.pipe(), os.pipe()
for _ in range(3):
    if os.fork() == 0:
        os.read(readers[0], 1)
        held.append(bytearray(b"2") * 10_000_000)  # its own
        os.write(writers[1], b".")
        time.sleep(60)
        os._exit(0)
step("shared")
os.write(readers[1], b"...")
for _ in range(3):
    os.read(writers[0], 1)
step("own")
"""
    with Puppet(code) as puppet:
        watch = Watch(puppet.pid)
        puppet.go_on()
        shared = latest(watch)
        watch = Watch(puppet.pid)
        puppet.go_on()
        own = latest(watch, kill=True)
    assert shared["processes"] == own["processes"] == 4
    assert shared["anonymous"] < 100 * MB
    assert shared["rss"] > 4 * 80 * MB
    assert own["anonymous"] - shared["anonymous"] == pytest.approx(30 * MB, rel=0.2)
    assert own["kernel_peak_bytes"] > 0


def test_a_search_that_a_busy_machine_delays_does_not_make_searches_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    for tree in (sampler.ProcTree(os.getpid()), sampler.PsutilTree(os.getpid())):
        monkeypatch.setattr(tree, "scan", lambda: time.sleep(0.02))
        tree.read()
        assert tree._next_scan < time.monotonic() + 1


def test_what_goes_between_two_readings_is_not_taken_for_shared() -> None:
    code = """
held.append(bytearray(b"1") * 80_000_000)
step("much")
held.clear()
step("little")
held.append(bytearray(b"1") * 80_000_000)
step("much again")
"""
    with Puppet(code) as puppet:
        process = sampler._Process(puppet.pid)
        try:
            for wanted in ("little", "much again"):
                # Between the walk through the pages and the status, which no system reads at one time.
                process.read = lambda: bool(puppet.go_on()) and sampler._Process.read(process)  # type: ignore[method-assign]
                assert process.read_shared()
                assert puppet.said == wanted
                assert process.own()[0] == process.held()[0]
        finally:
            process.close()


def test_processor_time_counts_children_that_have_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"""
import subprocess
step("start")
subprocess.run([sys.executable, "-c", {burn!r}], check=True)
step("end")
"""
    with Puppet(code) as puppet:
        watch = Watch(puppet.pid)
        puppet.go_on()
        read = watch.end()
    assert 0.28 <= read["cpu_s"] < 2


def test_a_process_that_becomes_another_program_is_still_read() -> None:
    grow = "held = bytearray(b'1') * 50_000_000; print('grown', flush=True); import sys; sys.stdin.readline()"
    code = f"""
step("start")
os.execv(sys.executable, [sys.executable, "-c", {grow!r}])
"""
    with Puppet(code) as puppet:
        watch = Watch(puppet.pid)
        assert puppet.go_on() == "grown"
        time.sleep(0.3)
        last = latest(watch)
    assert last["anonymous"] > 50 * MB
    assert last["pss"] >= last["anonymous"]


def test_psutil_tells_the_resident_set() -> None:
    code = """
step("start")
held.append(bytearray(b"1") * 60_000_000)
step("end")
"""
    with Puppet(code) as puppet:
        watch = Watch(puppet.pid, method="psutil")
        puppet.go_on()
        resident = psutil.Process(puppet.pid).memory_info().rss
        read = watch.end()
    rss = read["columns"]["rss"]
    assert rss[-1] == pytest.approx(resident, rel=0.01)
    assert rss[-1] - rss[0] == pytest.approx(60 * MB, abs=3 * MB)
    assert read["columns"]["anonymous"] == read["columns"]["pss"] == rss
    assert f"psutil {psutil.__version__}" in read["method"]


def test_psutil_is_asked_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, method in ((True, "/proc: "), (False, "psutil ")):
        with monkeypatch.context() as patch, Puppet('step("start")') as puppet:
            patch.setattr(Path, "exists", lambda _path, there=there: there)
            assert Watch(puppet.pid).end()["method"].startswith(method)


def test_psutil_reads_children_and_their_processor_time() -> None:
    code = """
import time
ready, burn = os.pipe(), os.pipe()
if os.fork() == 0:
    held.append(bytearray(b"1") * 30_000_000)
    os.write(ready[1], b".")
    os.read(burn[0], 1)
    while time.process_time() < 0.3:
        pass
    os.write(ready[1], b".")
    os.read(burn[0], 1)
    os._exit(0)
os.read(ready[0], 1)
step("start")
os.write(burn[1], b".")
os.read(ready[0], 1)
step("burnt")
"""
    with Puppet(code) as puppet:
        family = [psutil.Process(puppet.pid), *psutil.Process(puppet.pid).children()]
        watch = Watch(puppet.pid, method="psutil")
        assert puppet.go_on() == "burnt"
        resident = sum(each.memory_info().rss for each in family)
        read = latest(watch, kill=True)
    assert read["processes"] == len(family) == 2
    assert read["rss"] == pytest.approx(resident, rel=0.01)
    assert 0.2 <= read["cpu_s"] < 2


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_it_costs_less_than_a_hundredth_of_a_core() -> None:
    with Puppet('held.append(bytearray(b"1") * 200_000_000); step("large")') as puppet:
        watch = Watch(puppet.pid)
        time.sleep(3)
        read = watch.end()
    # A busy machine charges a few milliseconds of its own work to the sampler.
    assert read["sampler_cpu_s"] <= 0.01 * read["sampled_s"] + sampler._CPU_GRACE_S + 0.02
    assert read["readings"] > 30


@pytest.mark.parametrize("method", ["proc", "psutil"])
def test_a_large_tree_is_read_more_seldom(method: Any) -> None:
    code = """
for _ in range(40):
    if os.fork() == 0:
        sys.stdin.close()
        os.read(0, 1)
        os._exit(0)
step("many")
"""
    with Puppet(code) as puppet:
        watch = Watch(puppet.pid, method=method)
        time.sleep(2)
        read = watch.end(kill=True)
    assert read["processes"] == 41
    # One reading of so many may be long, and is begun while there is something left to spend.
    # At full pace, readings would take half the time.
    assert read["sampler_cpu_s"] <= 0.01 * read["sampled_s"] + sampler._CPU_GRACE_S + 0.2
    assert read["readings"] >= 2


# --- how it ends -----------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Any, seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


FAMILY = """
child = os.fork()
if child == 0:
    grandchild = os.fork()
    if grandchild == 0:
        os.read(os.pipe()[0], 1)
    print(os.getpid(), grandchild, flush=True)
    os.read(os.pipe()[0], 1)
sys.stdin.readline()
held.append(bytearray(b"1") * 300_000_000)
step("beyond")
"""


@pytest.mark.parametrize("method", ["proc", "psutil"])
def test_beyond_the_limit_the_whole_tree_is_killed_and_nothing_else(method: Any) -> None:
    with Puppet(FAMILY) as puppet, Puppet('step("bystander")') as bystander:
        family = [puppet.pid, *map(int, puppet.said.split())]
        watch = Watch(puppet.pid, limit_bytes=100 * MB, method=method)
        assert all(map(alive, family))
        puppet.go_on()
        wait_until(lambda: not any(map(alive, family)))
        read = watch.end()
        assert alive(bystander.pid)
    assert read["killed_at"] == read["columns"]["seconds"][-1]
    assert 100 * MB < read["columns"]["anonymous"][-1] < 310 * MB


@pytest.mark.parametrize("method", ["proc", "psutil"])
def test_it_kills_when_it_is_told_to(method: Any) -> None:
    with Puppet(FAMILY) as puppet:
        family = [puppet.pid, *map(int, puppet.said.split())]
        read = Watch(puppet.pid, method=method).end(kill=True)
        wait_until(lambda: not any(map(alive, family)))
    assert read["killed_at"] is None


@pytest.mark.parametrize("method", ["proc", "psutil"])
def test_a_process_that_ends_leaves_its_curve(method: Any) -> None:
    with Puppet('step("start")\nos._exit(0)') as puppet:
        watch = Watch(puppet.pid, method=method)
        puppet.go_on()
        puppet.process.wait(400)
        time.sleep(0.05)
        read = watch.end()
    assert read["readings"] >= 1
    assert read["columns"]["anonymous"][0] > 0


def test_it_does_not_outlive_who_started_it() -> None:
    code = f"""
import json, os, sys
from arraystore.memory.trace import Watch
watch = Watch({os.getpid()})
print(watch._process.pid, flush=True)
sys.stdin.readline()
"""
    with Puppet(code) as starter:
        pid = int(starter.said)
        assert alive(pid)
        starter.process.send_signal(signal.SIGKILL)
        wait_until(lambda: not alive(pid))


def test_ctrl_c_does_not_end_it() -> None:
    with Puppet('step("start")') as puppet:
        watch = Watch(puppet.pid)
        watch._process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        assert watch.end()["readings"] > 1


def test_that_it_died_is_said() -> None:
    with Puppet('step("start")') as puppet:
        watch = Watch(puppet.pid)
        watch._process.kill()
        with pytest.raises(ProfileError, match=r"the sampler has died \(exit code -9\), and its readings are lost"):
            watch.end()


@pytest.fixture
def ended() -> int:
    with Puppet('step("start")') as puppet:
        return puppet.pid


@pytest.mark.parametrize("method", ["proc", "psutil"])
def test_a_process_that_is_not_there_is_said(ended: int, method: Any) -> None:
    with pytest.raises(ProfileError, match=f"the memory of process {ended} cannot be read: .*"):
        Watch(ended, method=method)


def test_options_that_cannot_be() -> None:
    with pytest.raises(SpecError, match=r"interval_s must lie between 0\.001 and 3600 seconds, not 0"):
        Watch(os.getpid(), interval_s=0)
    with pytest.raises(SpecError, match="a limit must be at least 1 byte, not 0"):
        Watch(os.getpid(), limit_bytes=0)


def test_it_imports_nothing_of_the_package_and_nothing_installed() -> None:
    code = f"import runpy, sys, json; runpy.run_path({sampler.__file__!r}); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=400
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded <= sys.stdlib_module_names | {"__main__"}
