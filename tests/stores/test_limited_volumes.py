"""Volumes that cannot lock, cannot map, or lose what is mapped: a C library stands before the system's calls."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.nursery import Nursery
from support.store_contract import build

import arraystore
from arraystore._format.slot_file import map_file

NAMES = ["x.store", "x.h5"]

# What the calls do for files whose path has the text of VOLUME in it: LOCKS is the error of locks, MAP that of
# mappings, or what is done to them.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/mman.h>
static int ours(int fd) {
    char name[40], path[4096];
    if (!getenv("VOLUME")) return 0;
    sprintf(name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, getenv("VOLUME")) != NULL;
}
int flock(int fd, int how) {
    static int (*real)(int, int);
    if (!real) real = dlsym(RTLD_NEXT, "flock");
    if (!getenv("LOCKS") || !ours(fd)) return real(fd, how);
    errno = atoi(getenv("LOCKS"));
    return -1;
}
void *mmap(void *at, size_t size, int rights, int flags, int fd, off_t offset) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "mmap");
    const char *map = getenv("MAP");
    if (map && fd >= 0 && ours(fd)) {
        int lost = !strcmp(map, "lost"), shared = flags & MAP_SHARED;
        if (lost && rights & PROT_WRITE) flags = (flags & ~MAP_SHARED) | MAP_PRIVATE;
        if (!lost && (shared || getenv("MAP_NOTHING"))) { errno = atoi(map); return MAP_FAILED; }
    }
    return real(at, size, rights, flags, fd, offset);
}
void *mmap64(void *at, size_t size, int rights, int flags, int fd, off_t offset) {
    return mmap(at, size, rights, flags, fd, offset);
}
"""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """A process that forks builds with the library before the system's calls."""
    folder = tmp_path_factory.mktemp("limited")
    (folder / "shim.c").write_text(SHIM)
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"]
    subprocess.run(command, check=True)
    nursery = Nursery("env", f"LD_PRELOAD={folder / 'shim.so'}")
    yield nursery
    nursery.close()


def build_and_read(photos: Path, volume: Path, limits: dict[str, Any], **options: Any) -> None:
    """Build stores of each medium on a volume with limits, and verify, update and read them."""
    os.environ |= {"VOLUME": str(volume)} | {name: str(value) for name, value in limits.items()}
    volume.mkdir()
    for name in NAMES:
        target = volume / name
        store = build(photos, target, bad="drop", **options)
        assert store.verify(progress=False).ok
        arraystore.update(target, progress=False)
        with arraystore.open(target) as opened:
            assert not opened.images.flags.writeable
            list(opened.loader(4, seed=0))


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


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_volume_without_locks_has_stores_of_each_medium(
    limited: Nursery, tmp_path: Path, photos: Path, number: int
) -> None:
    limited.run(build_and_read, photos, tmp_path / "volume", {"LOCKS": number})
    assert_stores_are_whole(tmp_path, photos)


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EINVAL])
@pytest.mark.parametrize("processes", [False, True])
def test_a_volume_that_shares_no_mappings_is_written_by_calls(
    limited: Nursery, tmp_path: Path, photos: Path, number: int, *, processes: bool
) -> None:
    limited.run(build_and_read, photos, tmp_path / "volume", {"MAP": number}, processes=processes, workers=1)
    assert_stores_are_whole(tmp_path, photos)


def test_a_volume_that_cannot_map_at_all_says_so(limited: Nursery, tmp_path: Path, photos: Path) -> None:
    text = "its volume cannot map files into memory, which arraystore needs: copy or build it on another"
    with pytest.raises(OSError, match=text):
        limited.run(build_and_read, photos, tmp_path / "volume", {"MAP": errno.ENODEV, "MAP_NOTHING": 1})
    assert list((tmp_path / "volume").iterdir()) == []


def test_mapped_writes_that_are_lost_end_the_build_before_a_claim(
    limited: Nursery, tmp_path: Path, photos: Path
) -> None:
    volume = tmp_path / "volume"
    text = f"the volume of {volume} loses what is written to mapped files: slot "
    with pytest.raises(arraystore.StoreError, match=re.escape(text)):
        limited.run(build_and_read, photos, volume, {"MAP": "lost"})
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
        except Exception as error:  # what it must not be
            told.append(repr(error))
    for descriptor in taken:
        os.close(descriptor)
    assert arraystore.verify(target, progress=False).ok
    return told


@pytest.mark.parametrize("name", NAMES)
def test_too_many_open_files_are_no_damage(nursery: Nursery, tmp_path: Path, photos: Path, name: str) -> None:
    build(photos, tmp_path / name, bad="drop")
    assert nursery.run(open_with_no_descriptor_left, tmp_path / name) == ["OSError 24", "OSError 24"]
