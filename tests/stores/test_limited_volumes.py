"""Volumes that cannot lock, cannot map, or lose what is mapped: a C library stands before the system's calls."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support import images
from support.store_contract import build

import arraystore
from arraystore._format.slot_file import map_file

if TYPE_CHECKING:
    from support.nursery import Nursery

NAMES = ["x.store", "x.h5"]

# What the calls do for files whose path has the text of VOLUME in it.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
static int ours(int fd) {
    char name[40], path[4096];
    sprintf(name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, getenv("VOLUME")) != NULL;
}
#ifdef LOCKS
int flock(int fd, int how) { if (!ours(fd)) return 0; errno = LOCKS; return -1; }
#endif
#ifdef MAP
static void *(*real)(void *, size_t, int, int, int, off_t);
void *mmap(void *at, size_t size, int rights, int flags, int fd, off_t offset) {
    if (!real) real = dlsym(RTLD_NEXT, "mmap");
    if (fd >= 0 && ours(fd)) { MAP }
    return real(at, size, rights, flags, fd, offset);
}
void *mmap64(void *at, size_t size, int rights, int flags, int fd, off_t offset) {
    return mmap(at, size, rights, flags, fd, offset);
}
#endif
"""
NO_SHARED = "if (flags & MAP_SHARED) { errno = NUMBER; return MAP_FAILED; }"
NO_MAPS = "errno = NUMBER; return MAP_FAILED;"
LOST = "if (rights & PROT_WRITE) flags = (flags & ~MAP_SHARED) | MAP_PRIVATE;"


def run(folder: Path, program: str, *defines: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program on a volume that is limited by macros of the library."""
    (folder / "shim.c").write_text(SHIM)
    library = folder / "shim.so"
    flags = [f"-D{define}" for define in defines]
    subprocess.run(["gcc", "-shared", "-fPIC", *flags, "-o", library, folder / "shim.c", "-ldl"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "VOLUME": str(folder / "volume")}
    (folder / "volume").mkdir(exist_ok=True)
    call = [sys.executable, "-c", program, str(folder / "photos"), str(folder / "volume")]
    return subprocess.run(call, env=environment, capture_output=True, text=True, check=False, timeout=300)


BUILD = """
import sys, arraystore, numpy as np
photos, volume = sys.argv[1:]
for name in ("x.store", "x.h5"):
    target = volume + "/" + name
    store = arraystore.build(photos, target, size=(16, 24), progress=False, bad="drop", processes=PROCESSES, workers=2)
    assert store.verify(progress=False).ok
    arraystore.update(target, progress=False)
    with arraystore.open(target) as opened:
        assert not opened.images.flags.writeable
        list(opened.loader(4, seed=0))
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = images.write_tree(tmp_path / "photos", {"ash": 5, "oak": 3})
    (folder / "ash" / "bad.jpg").write_bytes(b"bad")
    return folder


def assert_stores_are_whole(tmp_path: Path, photos: Path) -> None:
    oracle = build(photos, bad="drop")
    for name in NAMES:
        with arraystore.open(tmp_path / "volume" / name) as store:
            assert np.array_equal(store.images, oracle.images)
            assert store.verify(progress=False).ok


@pytest.mark.parametrize("number", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_a_volume_without_locks_has_stores_of_each_medium(tmp_path: Path, photos: Path, number: str) -> None:
    done = run(tmp_path, BUILD.replace("PROCESSES", "False"), f"LOCKS={number}")
    assert done.returncode == 0, done.stderr
    assert_stores_are_whole(tmp_path, photos)


@pytest.mark.parametrize("number", ["ENODEV", "EINVAL"])
@pytest.mark.parametrize("processes", [False, True])
def test_a_volume_that_shares_no_mappings_is_written_by_calls(
    tmp_path: Path, photos: Path, number: str, *, processes: bool
) -> None:
    done = run(tmp_path, BUILD.replace("PROCESSES", str(processes)), f"MAP={NO_SHARED}", f"NUMBER={number}")
    assert done.returncode == 0, done.stderr
    assert_stores_are_whole(tmp_path, photos)


@pytest.mark.usefixtures("photos")
def test_a_volume_that_cannot_map_at_all_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, BUILD.replace("PROCESSES", "False"), f"MAP={NO_MAPS}", "NUMBER=ENODEV")
    assert done.returncode == 1
    assert "its volume cannot map files into memory, which arraystore needs: copy or build it on another" in done.stderr
    assert list((tmp_path / "volume").iterdir()) == []


@pytest.mark.usefixtures("photos")
def test_mapped_writes_that_are_lost_end_the_build_before_a_claim(tmp_path: Path) -> None:
    done = run(tmp_path, BUILD.replace("PROCESSES", "False"), f"MAP={LOST}")
    assert done.returncode == 1
    volume = tmp_path / "volume"
    assert f"StoreError: the volume of {volume} loses what is written to mapped files: slot " in done.stderr
    with arraystore.open(volume / "x.store", partial=True) as begun:
        assert 1 not in np.asarray(begun.status)  # a bad image has zeros, which nothing can lose
    shutil.rmtree(volume / "x.store.partial")


def test_a_private_mapping_is_what_the_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(bytes(range(12)))
    shared = map_file(tmp_path / "x", np.dtype(np.uint8), 2, (2, 5))
    memmap = np.memmap

    def no_shared(path: Path, dtype: np.dtype[np.uint8], mode: str, *args: object) -> object:
        if mode != "c":
            raise OSError(19, "No such device")
        return memmap(path, dtype, mode, *args)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "memmap", no_shared)
    private = map_file(tmp_path / "x", np.dtype(np.uint8), 2, (2, 5))
    assert np.array_equal(private, shared)
    assert not private.flags.writeable
    with pytest.raises(OSError, match="No such device"):
        map_file(tmp_path / "x", np.dtype(np.uint8), 2, (2, 5), writable=True)


def open_with_no_descriptor_left(target: Path) -> list[str]:
    """What opening and verifying say when the process may open no more files."""
    with arraystore.open(target) as store:
        store.verify(progress=False)  # so that everything is imported
        _ = store.samples
    taken, told = [], []
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for call in (arraystore.open, lambda path: arraystore.verify(path, progress=False)):
        try:
            call(target)
        except OSError as error:
            told.append(f"{type(error).__name__} {error.errno}")
        except Exception as error:  # noqa: BLE001 - what it must not be
            told.append(repr(error))
    for descriptor in taken:
        os.close(descriptor)
    assert arraystore.verify(target, progress=False).ok
    return told


@pytest.mark.parametrize("name", NAMES)
def test_too_many_open_files_are_no_damage(nursery: Nursery, tmp_path: Path, photos: Path, name: str) -> None:
    build(photos, tmp_path / name, bad="drop")
    assert nursery.run(open_with_no_descriptor_left, tmp_path / name) == ["OSError 24", "OSError 24"]
