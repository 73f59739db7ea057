"""A power loss at any moment of a small build, in a model of a volume that keeps what it has synced, and no more."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.faults import check_store, contents, wrong_claims
from support.power_loss import Disk, record, states, write
from support.store_contract import NAMES, PIXELS, options_of
from support.store_contract import build as build_small

import arraystore
from arraystore import FormatError, Masks, Store, StoreExistsError
from arraystore._building.checkpoint import Checkpoints

MEMORY = Path("/dev/shm")  # noqa: S108 - folders of our own are made in it
# A slot is a page, so that each may be lost by itself.
SOURCE: list[Any] = [images.noise(64, 64, 1, seed=i) for i in range(8)]
SOURCE[2] = SOURCE[6] = np.zeros((4, 4), np.float32)  # cannot be stored


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a build with masks, each of which is a page too; one is missing."""
    folder = tmp_path_factory.mktemp("masks")
    for i in (0, 1, 2, 3, 5, 6, 7):
        (folder / f"{i}.png").write_bytes(images.png(images.noise(64, 64, 1, seed=100 + i)))
    return {"targets": {"mask": Masks([folder / f"{i}.png" for i in range(8)])}}


def build(target: Path | None, **options: Any) -> Store:
    return build_small(SOURCE, target, **({"size": 64, "color": "gray", "workers": 1} | options))


@dataclass
class Trace:
    """One recorded build."""

    name: str
    options: dict[str, Any]
    disks: list[Disk]
    old: dict[str, bytes]
    new: dict[str, bytes]
    ram: Store

    def violation(self, folder: Path) -> str | None:
        """What is wrong in a folder as the power loss left it, before any other call."""
        target = folder / self.name
        if wrong := wrong_claims(target, self.ram):
            return f"slots {wrong} are claimed, and their pixels are others"
        if not target.exists():
            return "the store that was there before is gone" if self.old else None
        found = {path: data for path, data in contents(folder).items() if path.startswith(self.name)}
        for store in (self.old, self.new):
            # The working files may not be removed yet.
            if store and all(found.get(path) == data for path, data in store.items()):
                check_store(arraystore.open(target))
                return None
        return "the target is neither the store that was there before nor the new one"

    def finish(self, folder: Path) -> str | None:
        """Make the same call again; what is wrong then."""
        target = folder / self.name
        try:
            build(target, **self.options)
        except StoreExistsError:
            if self.options["overwrite"]:
                raise
        found = contents(folder)
        wrong = sorted(path for path in found.keys() | self.new.keys() if found.get(path) != self.new.get(path))
        return f"after the next call {wrong} are not what an undisturbed build makes" if wrong else None


def trace_of(
    patch: pytest.MonkeyPatch,
    folder: Path,
    name: str,
    *,
    forgotten: Callable[[str, str], bool] = lambda _call, _name: False,
    **options: Any,
) -> Trace:
    """Record a build of eight slots with a claim for nearly each."""
    options = {"bad": "keep", "overwrite": False} | options
    for part in ("new", "recorded"):
        (folder / part).mkdir()
    build(folder / "new" / name, **(options | {"overwrite": False}))
    if options["overwrite"]:
        build(folder / "recorded" / name, size=32, bad="keep")
    old = contents(folder / "recorded")
    with patch.context() as during:
        # Each run is claimed by itself, however late the thread is that claims in the background.
        begin = Checkpoints.__init__
        during.setattr(
            Checkpoints, "__init__", lambda self, draft, slot_bytes, **_: begin(self, draft, slot_bytes, at_once=True)
        )
        recorder = record(during, folder / "recorded", forgotten=forgotten)
        build(folder / "recorded" / name, **options)
        recorder.look("end")
    new = contents(folder / "new")
    assert contents(folder / "recorded") == new
    ram = build(None, bad="keep", targets=options.get("targets"), **options_of(name))
    return Trace(name, options, recorder.disks, old, new, ram)


def lose_power(trace: Trace, *, randoms: int, finishes: int, seed: int) -> Iterator[str]:
    """Every violation in any state after any event; ``finishes`` of the states are finished by another call, too.

    The states lie in memory, where that can be had: most of the time of these tests went to files of a disk.
    """
    rng = random.Random(seed)
    different: dict[int, tuple[str, Any]] = {}
    for at, disk in enumerate(trace.disks):
        for name, tree in states(disk, rng, randoms):
            different.setdefault(hash(frozenset(tree.items())), (f"event {at} ({disk.event}), {name}", tree))
    sys.stdout.write(f"{len(trace.disks)} events, {len(different)} states\n")
    to_finish = set(rng.sample(sorted(different), min(finishes, len(different))))
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        lost = Path(folder, "lost")
        for key, (name, tree) in different.items():
            write(tree, lost)
            violation = trace.violation(lost)
            if violation is None and key in to_finish:
                violation = trace.finish(lost)
            if violation is not None:
                yield f"{name}, seed {seed}: {violation}"
            shutil.rmtree(lost)


CASES: list[dict[str, Any]] = [{}, {"bad": "drop"}, {"overwrite": True}]


# Stores of JPEGs share most of the steps with stores of pixels in a folder.
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("x.store", each) for each in CASES),
        *((name, {"bad": "drop", "overwrite": True}) for name in ("x.h5", "x.jpegs")),
    ],
    ids=str,
)
def test_a_power_loss_loses_nothing_that_was_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    trace = trace_of(monkeypatch, tmp_path, name, **options)
    assert len(trace.disks) > 40
    assert list(lose_power(trace, randoms=3, finishes=16, seed=random.randrange(10**6))) == []


@pytest.mark.parametrize(("name", "bad"), [("x.store", "keep"), ("x.h5", "drop")])
def test_a_power_loss_loses_no_mask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, bad: str, masked: dict[str, Any]
) -> None:
    trace = trace_of(monkeypatch, tmp_path, name, bad=bad, **masked)
    assert list(lose_power(trace, randoms=3, finishes=16, seed=random.randrange(10**6))) == []


@pytest.mark.parametrize(
    ("bad", "call"), [("keep", "fdatasync"), pytest.param("drop", "fsync", marks=pytest.mark.long)]
)
def test_the_model_finds_masks_that_are_not_synced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: str, call: str, masked: dict[str, Any]
) -> None:
    """Before the rows that claim them, and where rows were dropped, before they are published."""
    trace = trace_of(
        monkeypatch,
        tmp_path,
        "x.store",
        bad=bad,
        forgotten=lambda done, file: done == call and file == "mask.npy",
        **masked,
    )
    assert next(lose_power(trace, randoms=6, finishes=0, seed=1), "")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", CASES, ids=str)
def test_a_power_loss_in_many_states(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    trace = trace_of(monkeypatch, tmp_path, name, **options)
    assert list(lose_power(trace, randoms=40, finishes=3000, seed=random.randrange(10**6))) == []


PLAN = ("plan.json.new",)
FORGOTTEN: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
    ({}, "fdatasync", tuple(PIXELS)),  # pixels before the rows that claim them
    ({"bad": "drop"}, "fdatasync", ("ledger.npy",)),  # what is withdrawn before it is written again
    (
        {"bad": "drop"},
        "fsync",
        (*PIXELS, "encoded.npy", "encoded.h5"),
    ),  # and what was moved into the holes before it is published
    ({}, "fsync", PLAN),
]


# In a log nothing is written again, so there a claim that was not withdrawn still holds.
@pytest.mark.parametrize(
    ("name", "options", "call", "files"),
    [
        pytest.param(name, *each, marks=[] if name == "x.store" or each[2][0] in PIXELS else [pytest.mark.long])
        for name in NAMES[:3]
        for each in FORGOTTEN
        if ".jpegs" not in name or each[2] != ("ledger.npy",)
    ],
    ids=str,
)
def test_the_model_finds_a_sync_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, options: dict[str, Any], call: str, files: Any
) -> None:
    trace = trace_of(
        monkeypatch, tmp_path, name, forgotten=lambda done, file: done == call and file in files, **options
    )
    finishes = 100 if files == PLAN else 0  # the others show in the states themselves
    try:
        violation = next(lose_power(trace, randoms=6, finishes=finishes, seed=1), "")
    except (FormatError, arraystore.StoreError) as error:  # a plan that cannot be read stops the next call
        violation = str(error)
    assert violation


@pytest.mark.parametrize("file", ["status.npy", "checksums.npy", "samples.parquet", "store.json"])
def test_the_model_finds_a_file_that_is_not_synced_before_it_is_published(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str
) -> None:
    trace = trace_of(monkeypatch, tmp_path, "x.store", forgotten=lambda _call, name: name == file)
    assert next(lose_power(trace, randoms=0, finishes=0, seed=1), "")
