"""What a build writes: its target and the partial folder beside it, and nothing else anywhere."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.faults import contents
from support.nursery import Nursery
from support.store_contract import build, message_of

import arraystore
from arraystore import BadImagesError, Progress, SpecError, StoreError
from arraystore._stores.media import medium_of
from arraystore._stores.publishing import partial_of

# inotify's numbers, of linux/inotify.h: written, renamed, made, deleted, given other attributes, closed after writing.
EVENTS = {0x2: "modify", 0x4: "attrib", 0x8: "close", 0x40: "from", 0x80: "to", 0x100: "create", 0x200: "delete"}


pytestmark = pytest.mark.cold  # what a new interpreter writes counts too


def stop(now: Progress) -> None:
    if now.done >= 10:
        raise KeyboardInterrupt


def resume(source: Path, target: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(source, target, bad="keep", progress=stop)
    build(source, target, bad="keep")


def fail(source: Path, target: Path) -> None:
    with pytest.raises(BadImagesError):
        build(source, target)
    with pytest.raises(StoreError):
        build(source, target, size=7)
    with pytest.raises(SpecError):
        build(source, target, size=0)


def overwrite(source: Path, target: Path) -> None:
    build(np.zeros((3, 4, 4, 3), np.uint8), target, targets={"x": [1, 2, 3]})
    for bad in ("keep", "drop"):
        build(source, target, bad=bad, overwrite=True, fresh=True)


CASES: dict[str, Callable[[Path, Path], object]] = {
    "threads": lambda source, target: build(source, target, bad="keep"),
    "processes": lambda source, target: build(source, target, bad="keep", processes=True, workers=1),
    "drop": lambda source, target: build(source, target, bad="drop"),
    "resume": resume,
    "fail": fail,
    "overwrite": overwrite,
}


class Watch:
    """Notes every change to what lies in some folders."""

    def __init__(self, folders: list[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        mask = sum(EVENTS)
        self._folders = {
            self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), mask): folder for folder in folders
        }
        assert -1 not in self._folders

    def changes(self) -> Iterator[tuple[str, Path]]:
        try:
            while data := os.read(self._descriptor, 1 << 16):
                while data:
                    number, mask, _, length = struct.unpack_from("iIII", data)
                    name = os.fsdecode(data[16 : 16 + length].rstrip(b"\0"))
                    what = " ".join(text for bit, text in EVENTS.items() if mask & bit) or f"event {mask:#x}"
                    yield what, self._folders.get(number, Path("too many events")) / name
                    data = data[16 + length :]
        except BlockingIOError:
            return


def changes_outside(root: Path, case: str, source: Path, target: Path) -> list[tuple[str, Path]]:
    """Run a case, and return what it has changed anywhere but in its target."""
    folders = [path for path in [root, *root.rglob("*"), Path("/dev") / "shm"] if path.is_dir()]
    watch = Watch(folders)
    CASES[case](source, target)
    (root / "home" / "seen").write_text("seen")  # a watch that sees nothing would pass
    changes = [(what, path) for what, path in watch.changes() if path not in (target, partial_of(target))]
    assert ("close", root / "home" / "seen") in changes
    return [(what, path) for what, path in changes if path != root / "home" / "seen"]


def private(root: Path, *prefix: str) -> Nursery:
    """A nursery with its own /dev/shm, home, working folder and folder for temporary files, all below ``root``."""
    for name in ("home", "tmp", "here"):
        (root / name).mkdir()
    prepare = 'mount -t tmpfs none /dev/shm && cd "$0" && exec "$@"'
    return Nursery(
        *("unshare", "--map-root-user", "--mount", "sh", "-c", prepare, str(root / "here"), *prefix),
        HOME=str(root / "home"),
        TMPDIR=str(root / "tmp"),
    )


def world(folder: Path) -> Path:
    source = images.write_tree(folder / "source", {"a": 10, "b": 10})
    next(source.rglob("*.jpg")).write_bytes(b"bad")
    return source


def stamps(folder: Path) -> dict[Path, tuple[Any, ...]]:
    """All that the system tells of files but when they were read."""
    found = {path: path.stat() for path in folder.rglob("*")}
    return {
        path: (info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        for path, info in found.items()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def guarded(root: Path) -> Iterator[Nursery]:
    nursery = private(root)
    yield nursery
    nursery.close()


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
@pytest.mark.parametrize("case", CASES)
def test_a_build_changes_nothing_but_its_target(guarded: Nursery, root: Path, case: str, name: str) -> None:
    source = world(place := root / f"{case} {name}")
    (place / "work").mkdir()
    before, sources = stamps(source), contents(source)
    assert guarded.run(changes_outside, root, case, source, place / "work" / name) == []
    assert (stamps(source), contents(source)) == (before, sources)
    left = {name} if case != "fail" else {f"{name}.partial"}
    assert {path.name for path in (place / "work").iterdir()} == left


# --- a second look, at the system calls ------------------------------------------------------------------------------

WRITING = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")
NAMING = "mkdir mkdirat mknodat rename renameat renameat2 unlink unlinkat rmdir link linkat symlink symlinkat "
CHANGING = "creat truncate chmod fchmodat chown lchown fchownat utimensat setxattr lsetxattr removexattr"
CALLS = ["open", "openat", *NAMING.split(), *CHANGING.split()]


def written_paths(log: str) -> set[str]:
    """Every path that a system call in strace's log has changed, or opened to change it."""
    paths = set()
    for line in log.splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if call is None or " = -1 E" in line:
            continue
        if not call[1].startswith("open") or any(flag in call[2] for flag in WRITING):
            # What is deleted in an open folder is named after the folder, whose path strace -y shows.
            for folder, path in re.findall(r'(?:\d<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', call[2]):
                paths.add(os.path.join(folder, path))  # noqa: PTH118 - strings of a log
    return paths


def test_no_system_call_writes_anywhere_else(tmp_path: Path) -> None:
    """Where strace is installed; the watch above must do elsewhere."""
    strace = [
        "strace",
        "-f",
        "-y",
        "-o",
        str(tmp_path / "log"),
        "-e",
        "trace=" + ",".join(f"?{name}" for name in CALLS),
    ]
    (tmp_path / "work").mkdir()
    source = world(tmp_path)
    nursery = private(tmp_path, *(strace if shutil.which("strace") else []))
    try:
        for name, case in (("1.h5", "processes"), ("2.h5", "overwrite"), ("3.store", "overwrite")):
            nursery.run(run_case, case, source, tmp_path / "work" / name)
    finally:
        nursery.close()
    if not shutil.which("strace"):
        return
    paths = written_paths((tmp_path / "log").read_text(errors="surrogateescape"))
    ours = re.compile(rf"{re.escape(str(tmp_path))}/work/\d\.(store|h5)(\.partial)?(/|$)")
    inside = set(filter(ours.match, paths))
    assert len(inside) > 20
    # numba makes sure that it may write where its caches are.
    caches = {str(path / "__pycache__") for path in Path(arraystore.__file__).parent.rglob("*") if path.is_dir()}
    assert paths - inside - caches <= {"/dev/null", "/dev/tty"}


def run_case(case: str, source: Path, target: Path) -> None:
    CASES[case](source, target)


# --- what is not ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_a_link_in_the_partial_folder_is_not_followed(photos: Path, tmp_path: Path, name: str) -> None:
    """Only where no build has begun: what is resumed has been ours."""
    medium = medium_of(name)
    names = sorted({medium.pixels, *medium.names, "ledger.npy", "reasons.jsonl", "plan.json.new"})
    (tmp_path / "mine").mkdir()
    partial_of(tmp_path / name).mkdir()
    for link in names:
        (tmp_path / "mine" / link).write_text(f"mine {link}")
        (partial_of(tmp_path / name) / link).symlink_to(tmp_path / "mine" / link)
    before = stamps(tmp_path / "mine"), contents(tmp_path / "mine")
    build(photos, tmp_path / name)
    assert (stamps(tmp_path / "mine"), contents(tmp_path / "mine")) == before
    (tmp_path / "undisturbed").mkdir()
    build(photos, tmp_path / "undisturbed" / name)
    found = {path: data for path, data in contents(tmp_path).items() if path.startswith(name)}
    assert found == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
@pytest.mark.parametrize("begun", [False, True])
def test_files_of_others_outlive_every_build(mixed: Path, tmp_path: Path, name: str, *, begun: bool) -> None:
    target = tmp_path / name
    if begun:
        with pytest.raises(BadImagesError):
            build(mixed, target)
    for file in ("notes.txt", "mine/images.npy", ".hidden", "store.json.bak"):
        (path := partial_of(target) / file).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    for options in ({"fresh": True}, {"overwrite": True}, {"overwrite": True, "size": 5}):
        message = message_of(StoreError, build, mixed, target, bad="keep", **options)
        assert not message or "files that are not arraystore's; it was left" in message
        for file in ("notes.txt", "mine/images.npy", ".hidden", "store.json.bak"):
            kept = [folder / file for folder in (target, partial_of(target)) if (folder / file).is_file()]
            assert [path.read_text() for path in kept] == [file]
