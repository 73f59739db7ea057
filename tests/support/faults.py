"""What the fault tests share: builds that start in milliseconds and may be killed, and a look at what they leave."""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

import arraystore
from arraystore import Store
from arraystore._building import checkpoint, fill
from arraystore._format import renaming
from arraystore._format.files import read_json
from arraystore._format.ledger import claimed_rows, read_ledger
from arraystore._format.specification import STORED
from arraystore._stores import publishing
from arraystore._stores.media import MEDIA, medium_of
from support.store_contract import build, plain

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0  # no wait is longer, however busy the machine
PIXELS = {medium.pixels: medium.head_bytes for medium in MEDIA}  # where the slots of each medium start


class KilledError(Exception):
    """The fork ended without a result."""


class Fork:
    """A process of its own session that runs one function."""

    def __init__(self, channel: socket.socket) -> None:
        channel.settimeout(LIMIT_S)
        self._messages = channel.makefile("rb")
        self._channel = channel
        self.pid: int = pickle.load(self._messages)

    def result(self) -> Any:
        """Wait for what the function returns, or raise what it raised."""
        try:
            returned, value = pickle.load(self._messages)
        except (EOFError, ConnectionResetError) as error:
            raise KilledError from error
        finally:
            self.close()
        if not returned:
            raise value
        return value

    def ended(self) -> bool:
        """Whether there is a result, or never will be one."""
        self._channel.setblocking(False)
        try:
            self._channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        finally:
            self._channel.settimeout(LIMIT_S)
        return True

    def kill(self, *, alone: bool = False) -> None:
        """Kill the whole group, as a closed terminal does or a batch system, or the process alone."""
        with suppress(ProcessLookupError):
            (os.kill if alone else os.killpg)(self.pid, signal.SIGKILL)

    def close(self) -> None:
        self._messages.close()
        self._channel.close()

    def gone(self, limit_s: float = LIMIT_S) -> None:
        """Wait until no process of the group is left."""
        deadline_s = time.monotonic() + limit_s
        with suppress(ProcessLookupError):
            while True:
                os.killpg(self.pid, 0)
                assert time.monotonic() < deadline_s, f"processes of {self.pid} are still there after {limit_s} s"
                time.sleep(0.001)


class Nursery:
    """A process that has all loaded that a build needs, and forks: Python's start and numba's would take a second each.

    Args:
        prefix: a command that runs the process, such as unshare.
        environment: variables to set.
    """

    def __init__(self, *prefix: str, **environment: str) -> None:
        self._socket, theirs = socket.socketpair()
        path = f"{ROOT}:{ROOT / 'tests'}"
        with theirs:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-c", "from support import faults; faults.serve()"],
                env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"} | environment,
                stdin=theirs,
            )
        self._forks: list[Fork] = []

    def start(self, function: Callable[..., Any], *args: Any, **options: Any) -> Fork:
        """Run a function of a test module, or of a helper, in a new fork."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._socket, [b"!"], [theirs.fileno()])
        ours.sendall(pickle.dumps((function.__module__, function.__name__, args, options)))
        fork = Fork(ours)
        self._forks.append(fork)
        return fork

    def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self.start(function, *args, **options).result()

    def close(self) -> None:
        for fork in self._forks:
            fork.kill()
            fork.close()
        self._socket.close()
        self._process.wait(LIMIT_S)


def serve() -> None:
    """Fork for each descriptor that arrives; what the nursery runs."""
    for name in (
        "arraystore._decoding.decode",
        "arraystore._kernels.sums",
        "h5py",
        "pyarrow.parquet",
        "pytest",
        "support.images",
    ):
        importlib.import_module(name)
    become_subreaper = 36  # orphans of a fork come to this process, where nobody has to wait for them
    assert ctypes.CDLL(None).prctl(become_subreaper, 1, 0, 0, 0) == 0
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    requests = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
        except ConnectionResetError:
            return
        if not data:
            return
        if os.fork() == 0:
            requests.close()
            _run(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _run(channel: socket.socket) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with channel.makefile("rwb") as messages:
        module, name, args, options = pickle.load(messages)
        function = getattr(importlib.import_module(module), name)
        pickle.dump(os.getpid(), messages)
        messages.flush()
        try:
            answer: tuple[bool, Any] = True, function(*args, **options)
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            error.add_note(traceback.format_exc())
            answer = False, error
        pickle.dump(answer, messages)
    os._exit(0)


# --- builds ----------------------------------------------------------------------------------------------------------


def build_in_steps(source: Any, target: Path, *, die_at: int | None = None, **options: Any) -> int:
    """Build with a claim every few milliseconds, and return how many steps it took.

    A step is a call that makes, changes, syncs, renames or removes files of the target, or the start of a slot.

    Args:
        source: see `arraystore.build`.
        target: likewise.
        die_at: the step before which the whole group is killed.
        options: see `arraystore.build`.
    """
    return in_steps(lambda: build(source, target, **options), target, die_at=die_at)


def update_in_steps(target: Path, *, die_at: int | None = None, exchange: bool = True, **options: Any) -> int:
    """Update as `build_in_steps` builds; without ``exchange``, as on a volume that cannot exchange names."""
    if not exchange:
        renaming._renameat2 = lambda *_about: False
    return in_steps(lambda: arraystore.update(target, progress=False, **options), target, die_at=die_at)


def in_steps(
    call: Callable[[], Any],
    target: Path,
    *,
    die_at: int | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> int:
    """Do what `build_in_steps` says for any call that writes the target; ``on_step`` is called before each step."""
    checkpoint._CLAIM_EVERY_S = checkpoint._WAIT_LIMIT_S = 0.002
    taken = 0

    def step() -> None:
        nonlocal taken
        taken += 1
        on_step()
        if taken == die_at:
            os.killpg(0, signal.SIGKILL)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        named = args and isinstance(args[0], str | bytes | os.PathLike) and os.fsdecode(args[0])
        if named and event in ("os.remove", "os.rmdir") and args[1] != -1:
            named = str(path_of(args[1]) / named)
        if (writes or event in _AUDITED) and named and named.startswith(str(target)):
            step()

    def stepping(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*args: Any, **named: Any) -> Any:
            step()
            return original(*args, **named)

        setattr(module, name, call)

    for name in ("fsync", "fdatasync", "pwrite", "ftruncate", "posix_fallocate"):
        stepping(os, name)
    stepping(renaming, "_renameat2")
    stepping(fill, "_fill_slot")
    sys.addaudithook(audit)
    call()
    return taken


_AUDITED = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}


# --- what is left ----------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and every folder, whose bytes are those of its name."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.name.encode()
        for path in sorted(folder.rglob("*"))
    }


def path_of(descriptor: int) -> Path:
    """The file that is open."""
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def wrong_claims(target: Path, oracle: Store) -> list[int]:
    """The slots of an unfinished build that its ledger claims, and whose pixels are not those of a build in RAM."""
    folder = publishing.partial_of(target)
    try:
        plan = read_json(folder / "plan.json")
    except arraystore.FormatError:  # it has not begun, so what lies there counts as nothing
        return []
    medium = medium_of(target)
    if "finished" in plan and target.exists() and publishing.store_identity(medium, target) == plan["finished"]:
        return []  # it has been published, so what lies there is what it has replaced
    file = next((folder / name for name in PIXELS if (folder / name).is_file()), None)
    if file is None:
        return []
    assert plan["count"] == len(oracle)
    data, start, size = file.read_bytes(), PIXELS[file.name], oracle.spec.slot_bytes
    rows = read_ledger(folder / "ledger.npy", len(oracle), oracle.spec.channels)
    wrong = []
    for slot in np.flatnonzero(claimed_rows(rows)).tolist():
        found = data[start + slot * size : start + (slot + 1) * size]
        whole = xxhash.xxh3_64_intdigest(found) == rows["checksum"][slot] and found == oracle.images[slot].tobytes()
        # What lies behind the end of the file is known to be lost.
        if len(found) == size and not (whole and rows["status"][slot] == oracle.status[slot]):
            wrong.append(slot)
    return wrong


def check_store(store: Store) -> None:
    """Every slot has the pixels of its checksum."""
    for slot in np.flatnonzero(plain(store.status) == STORED).tolist():
        assert xxhash.xxh3_64_intdigest(store.images[slot].tobytes()) == store.checksums[slot], slot
